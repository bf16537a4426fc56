/*
 * xact_claim.c
 *	  Claims: the transaction's hold on messages it reads, pops, extends or
 *	  deletes.
 *
 * A claim is a row lock.  Two ways lead to a row, and each must see the other:
 *
 *	  fast path: publish the claim (slot CLAIMED, under L4), let go, then look
 *	  at the page; a row lock found there makes it give the claim back.
 *
 *	  plain SQL: raise the slot's count of lockers (under L4; refused while the
 *	  slot is CLAIMED by another), take the heap's row lock, lower the count.
 *	  While the count is up nobody can claim the slot; afterwards the page
 *	  shows the lock.  Where there is no slot to guard, the row lock is taken
 *	  first and claims are looked for after (am_lock.c).
 *
 * So at least one of the two sees the other, whatever the order.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

/*
 * The slot of a message as far as we still hold it, or 0.  A slot we claimed
 * but found unfit can be withdrawn by the transaction that deleted the row,
 * and its number be another message's by now.  And when a transaction (or
 * subtransaction) aborts, others see that before its callback runs, and one of
 * them may have deleted the row, and even committed, since.  Caller holds L4.
 */
static uint32
held_slot(const Ring *ring, const XactMessage *message)
{
	uint32		slot = pgmq_ring_lookup(ring, message->msg_id, &message->tid);

	if (slot == 0 || ring_slot(slot)->u.o.owner != PGMQ_MY_PROC_NUMBER ||
		(ring_slot(slot)->state != SLOT_CLAIMED &&
		 ring_slot(slot)->state != SLOT_DELETING))
		return 0;
	return slot;
}

/*
 * Has the slot of a row that we deleted no group yet, and should be in one?  It was a
 * LIMBO insert then.  Now that the delete is undone, the page will tell its group: to
 * whoever settles the slot when our (sub)transaction is over.
 */
static bool
must_join_group(const Ring *ring, const XactMessage *message, uint32 slot)
{
	return ring->is_grouped && !ring->must_rescan && ring_slot(slot)->group == 0 &&
		(message->flags & MSG_DELETED) != 0;
}

/*
 * Give back what a message holds in its ring, except what `keep` says it
 * still holds.  Adds consumers to wake.  Cannot fail.
 */
void
pgmq_xact_release_message(XactMessage *message, uint8 keep, TimestampTz now,
						  WakeList *wake)
{
	Ring	   *ring = message->queue->ring;
	uint32		slot;

	if (ring == NULL || message->slot == 0 ||
		(message->flags & (MSG_CLAIMED | MSG_DELETED)) == 0)
		return;
	PGMQ_WAITPOINT("release-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	slot = held_slot(ring, message);
	if (slot != 0 && (keep & MSG_DELETED))
		pgmq_ring_hold(ring, slot, SLOT_DELETING, PGMQ_MY_PROC_NUMBER);
	else if (slot != 0 && (keep & MSG_CLAIMED))
		pgmq_ring_hold(ring, slot, SLOT_CLAIMED, PGMQ_MY_PROC_NUMBER);
	else if (slot != 0)
	{
		if (message->is_written)
			pgmq_ring_to_undo(ring, slot, message->before.read_ct,
							  message->before.last_read_at,
							  message->before.visible_at);
		else if (must_join_group(ring, message, slot))
			pgmq_ring_to_limbo(ring, slot, GetCurrentTransactionIdIfAny(), true);
		else
			pgmq_ring_settle(ring, slot, now);
		ring->ready_seq++;
		pgmq_ring_wake(ring, 1, wake);
	}
	if ((keep & (MSG_CLAIMED | MSG_DELETED)) == 0)
		message->slot = 0;
	PGMQ_CRASHPOINT("release-done");
	ring_unlock(ring);
	PGMQ_WAITPOINT("release-end");
}

/* Do we hold what we think?  For assertions; caller holds L4. */
bool
pgmq_xact_holds_slot(const Ring *ring, const XactMessage *message)
{
	return held_slot(ring, message) == message->slot;
}

static int
compare_by_msg_id(const void *a, const void *b)
{
	int64		id_a = pgmq_xact_message(*(const int *) a)->msg_id;
	int64		id_b = pgmq_xact_message(*(const int *) b)->msg_id;

	return id_a < id_b ? -1 : (id_a > id_b ? 1 : 0);
}

/* The chain has the latest first; the other way round ids mostly ascend. */
static void
reverse(int *messages, int n)
{
	for (int i = 0; i < n / 2; i++)
	{
		int			other = messages[i];

		messages[i] = messages[n - 1 - i];
		messages[n - 1 - i] = other;
	}
}

/*
 * Messages this transaction has sent or claimed itself and may read (again):
 * those whose visible_at, as it sees it, has come.  Ascending msg_id; palloc'd.
 */
int
pgmq_xact_own_candidates(XactQueue *queue, TimestampTz now, int **messages)
{
	int			n = 0;

	*messages = NULL;
	if (queue->n_messages == 0)
		return 0;
	*messages = palloc(queue->n_messages * sizeof(int));
	for (int i = queue->first_message; i >= 0; i = pgmq_xact_message(i)->next)
	{
		XactMessage *message = pgmq_xact_message(i);

		if ((message->flags & (MSG_SENT | MSG_LEASED)) != 0 &&
			(message->flags & MSG_DELETED) == 0 &&
			message->lease.visible_at <= now)
			(*messages)[n++] = i;
	}
	reverse(*messages, n);
	qsort(*messages, n, sizeof(int), compare_by_msg_id);
	return n;
}

/*
 * Move all that has matured to READY, letting the lock go in between.  The caller may want
 * none of it, and whoever slept until then does not find it WAITING any more: so somebody is
 * woken for each message.
 */
void
pgmq_xact_mature(XactQueue *queue, TimestampTz now)
{
	Ring	   *ring = queue->ring;
	WakeList	wake;
	int			moved;

	do
	{
		wake.n = 0;
		PGMQ_FAILPOINT("mature-begin");
		ring_lock(ring, LW_EXCLUSIVE);
		moved = pgmq_ring_mature(ring, now, RING_BATCH_SLOTS);
		if (moved > 0)
			pgmq_ring_wake(ring, moved, &wake);
		ring_unlock(ring);
		PGMQ_WAITPOINT("mature-end");
		pgmq_wake_all(&wake);
	} while (moved == RING_BATCH_SLOTS);
}

/*
 * Does the ring know which message comes next?  Not while somebody scans the
 * table for it: lower ids may be on their way in.  Caller holds L4.
 */
static bool
hands_out(const Ring *ring)
{
	return ring->phase == RING_COMPLETE;
}

/*
 * A new entry for a slot we now hold; room must have been made.  An older
 * entry of the same row has nothing left in it, and look-ups find the newest.
 */
int
pgmq_xact_message_of_slot(XactQueue *queue, const RingRef *ref)
{
	int			index = pgmq_xact_add_message(queue, &ref->tid, ref->msg_id);
	XactMessage *message = pgmq_xact_message(index);

	pgmq_xact_log_message(index);
	message->slot = ref->slot;
	message->flags |= MSG_CLAIMED;
	message->lease.read_ct = ref->read_ct;
	message->lease.visible_at = ref->visible_at;
	return index;
}

/* The next slot a call may be given, with the cursor moved there, or 0. */
static uint32
next_in_order(const Ring *ring, ReadyCursor *cursor)
{
	uint32		slot = pgmq_ring_next_ready(ring, cursor->msg_id, cursor->slot);

	if (slot == 0 || !hands_out(ring) || pgmq_cold_is_first(ring, slot))
		return 0;
	cursor->msg_id = ring_slot(slot)->msg_id;
	cursor->slot = slot;
	return slot;
}

/*
 * A slot becomes ours, until its page has been looked at no longer than that
 * takes.  Caller holds L4.
 */
void
pgmq_xact_hold_to_look(Ring *ring, uint32 slot)
{
	pgmq_ring_hold(ring, slot, SLOT_CLAIMED, PGMQ_MY_PROC_NUMBER);
	set_slot_stage(slot, STAGE_LOOKING);
}

/*
 * Claim up to max ready messages behind the cursor, lowest msg_id first; fills
 * messages[] in that order, moves the cursor and returns how many.  None is
 * leased yet; the caller looks at the page and then leases, deletes, gives
 * back or forgets each, without waiting for anything.
 *
 * Takes L4 in batches; the list has room before the lock is taken, so that
 * nothing can fail while slots are held that are not on it.
 */
int
pgmq_xact_take_ready(XactQueue *queue, ReadyCursor *cursor, TimestampTz now,
					 int max, int *messages)
{
	Ring	   *ring = queue->ring;
	RingRef		refs[64];
	int			taken = 0;
	bool		is_mature = false;

	pgmq_xact_publish_owner();
	while (taken < max)
	{
		int			wanted = Min(max - taken, (int) lengthof(refs));
		int			n = 0;
		int			moved = 0;
		uint32		slot;
		WakeList	wake;

		wake.n = 0;
		pgmq_xact_make_room(wanted);
		PGMQ_FAILPOINT("take-ready-begin");
		ring_lock(ring, LW_EXCLUSIVE);
		if (!is_mature)
			moved = pgmq_ring_mature(ring, now, RING_BATCH_SLOTS);
		is_mature = moved < RING_BATCH_SLOTS;
		while (is_mature && n < wanted && (slot = next_in_order(ring, cursor)) != 0)
		{
			if (ring_slot(slot)->lockers > 0)
				continue;
			pgmq_xact_hold_to_look(ring, slot);
			pgmq_ring_ref(slot, &refs[n++]);
		}
		if (moved > n)
			pgmq_ring_wake(ring, moved - n, &wake); /* the others are not for us */
		PGMQ_CRASHPOINT("take-ready-held");
		ring_unlock(ring);
		for (int i = 0; i < n; i++)
			messages[taken++] = pgmq_xact_message_of_slot(queue, &refs[i]);
		pgmq_wake_all(&wake);
		PGMQ_FAILPOINT("take-ready-end");
		if (is_mature && n < wanted)
			break;
	}
	return taken;
}

uint64
pgmq_xact_late_seq(XactQueue *queue)
{
	uint64		seq;

	ring_lock(queue->ring, LW_SHARED);
	seq = queue->ring->late_seq;
	ring_unlock(queue->ring);
	return seq;
}

/*
 * The ids of messages that became ready out of order since *seq; moves it and
 * returns how many (ids has room for RING_LATE_LOG), or -1 if the log does not
 * reach back so far.
 */
int
pgmq_xact_late_arrivals(XactQueue *queue, uint64 *seq, int64 *ids)
{
	Ring	   *ring = queue->ring;
	int			n = -1;

	ring_lock(ring, LW_SHARED);
	if (ring->late_seq - *seq <= RING_LATE_LOG)
		for (n = 0; *seq < ring->late_seq; (*seq)++)
			ids[n++] = ring->late_ids[*seq % RING_LATE_LOG];
	*seq = ring->late_seq;
	ring_unlock(ring);
	return n;
}

/*
 * Look at up to max ready messages behind the cursor without claiming them;
 * moves the cursor and returns how many refs were filled.
 */
int
pgmq_xact_peek_ready(XactQueue *queue, ReadyCursor *cursor, TimestampTz now,
					 int max, MessageRef *refs)
{
	Ring	   *ring = queue->ring;
	int			n = 0;
	uint32		slot;

	if (cursor->slot == 0)
		pgmq_xact_mature(queue, now);
	ring_lock(ring, LW_SHARED);
	while (n < Min(max, RING_BATCH_SLOTS) && (slot = next_in_order(ring, cursor)) != 0)
	{
		refs[n].msg_id = ring_slot(slot)->msg_id;
		ItemPointerSet(&refs[n].tid, ring_slot(slot)->block, ring_slot(slot)->offset);
		refs[n++].slot = slot;
	}
	ring_unlock(ring);
	return n;
}

/* Is the slot still the message that the reference was taken from? */
static bool
ref_is_current(Ring *ring, const MessageRef *ref, RingRef *now)
{
	uint32		slot = pgmq_ring_lookup(ring, ref->msg_id, &ref->tid);

	if (slot == 0)
		return false;
	pgmq_ring_ref(slot, now);
	return true;
}

/*
 * Claim one ready message that was peeked at; false if it no longer is.
 * *is_busy: it still is, but plain SQL is taking its row's lock.
 */
bool
pgmq_xact_take_ref(XactQueue *queue, const MessageRef *ref, int *message, bool *is_busy)
{
	Ring	   *ring = queue->ring;
	RingRef		current;
	bool		taken;

	pgmq_xact_publish_owner();
	pgmq_xact_make_room(1);
	PGMQ_FAILPOINT("take-ref-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	taken = ref_is_current(ring, ref, &current) && current.state == SLOT_READY;
	*is_busy = taken && ring_slot(current.slot)->lockers > 0;
	taken &= !*is_busy;
	if (taken)
		pgmq_xact_hold_to_look(ring, current.slot);
	ring_unlock(ring);
	if (taken)
		*message = pgmq_xact_message_of_slot(queue, &current);
	PGMQ_FAILPOINT("take-ref-end");
	return taken;
}

/* Has another backend claimed the slot and not yet made up its mind?  Caller holds L4. */
bool
pgmq_xact_is_looked_at(uint32 slot)
{
	RingSlot   *s = ring_slot(slot);

	return s->state == SLOT_CLAIMED && slot_stage(slot) == STAGE_LOOKING &&
		s->u.o.owner != PGMQ_MY_PROC_NUMBER;
}

/*
 * Claim a message whatever its visible_at (for set_vt).  On CLAIM_FOREIGN,
 * *owner is whom to wait for.
 */
ClaimResult
pgmq_xact_claim_any(XactQueue *queue, const MessageRef *ref, int *message,
					ClaimOwner *owner)
{
	Ring	   *ring = queue->ring;
	RingRef		current;
	ClaimResult result;
	int			known = pgmq_xact_find_message(queue, &ref->tid);

	if (known >= 0 && (pgmq_xact_message(known)->flags & (MSG_SENT | MSG_CLAIMED)))
	{
		*message = known;
		return CLAIM_TAKEN;
	}
	pgmq_xact_publish_owner();
	pgmq_xact_make_room(1);
	PGMQ_FAILPOINT("claim-any-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	if (!ref_is_current(ring, ref, &current))
		result = CLAIM_GONE;
	else if (pgmq_xact_is_looked_at(current.slot))
		result = CLAIM_BUSY;
	else if (current.state == SLOT_CLAIMED || current.state == SLOT_DELETING)
	{
		result = CLAIM_FOREIGN;
		*owner = pgmq_ring_owner(current.slot);
	}
	else if (current.state == SLOT_LIMBO || current.state == SLOT_UNDO)
		result = CLAIM_UNDECIDED;
	else if (ring_slot(current.slot)->lockers > 0)
		result = CLAIM_BUSY;
	else
	{
		result = CLAIM_TAKEN;
		pgmq_xact_hold_to_look(ring, current.slot);
	}
	ring_unlock(ring);
	if (result == CLAIM_TAKEN)
		*message = pgmq_xact_message_of_slot(queue, &current);
	PGMQ_FAILPOINT("claim-any-end");
	return result;
}

/* Give a claim back as it was taken; a lease that stands stays. */
void
pgmq_xact_give_back(int index)
{
	XactMessage *message = pgmq_xact_message(index);
	WakeList	wake;

	if ((message->flags & (MSG_CLAIMED | MSG_LEASED | MSG_DELETED)) != MSG_CLAIMED)
		return;
	wake.n = 0;
	pgmq_xact_release_message(message, 0, pgmq_clock_now(), &wake);
	message->flags &= ~MSG_CLAIMED;
	pgmq_wake_all(&wake);
}

/*
 * Give back a claim whose row is not to be had now.  Nothing has become ready;
 * but who passed the message over because of our claim must not fall asleep
 * over it.
 */
void
pgmq_xact_refuse(int index)
{
	XactMessage *message = pgmq_xact_message(index);
	Ring	   *ring = message->queue->ring;
	WakeList	wake;
	uint32		slot;

	if ((message->flags & (MSG_CLAIMED | MSG_LEASED | MSG_DELETED)) != MSG_CLAIMED ||
		message->slot == 0)
		return;
	wake.n = 0;
	PGMQ_FAILPOINT("refuse-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	slot = held_slot(ring, message);
	if (slot != 0)
	{
		pgmq_ring_settle(ring, slot, pgmq_clock_now());
		ring->refused_seq++;
		message->queue->own_refusals++;
		pgmq_ring_wake_unaware(ring, &wake);
	}
	ring_unlock(ring);
	PGMQ_WAITPOINT("refuse-end");
	message->slot = 0;
	message->flags &= ~MSG_CLAIMED;
	pgmq_wake_all(&wake);
}

/* Was a message we have just claimed leased since we first saw its queue? */
bool
pgmq_xact_is_newer(int index)
{
	XactMessage *message = pgmq_xact_message(index);

	return message->slot != 0 &&
		seq_is_newer(ring_slot(message->slot)->u.o.lease_seq,
					 message->queue->first_seq);
}

/* The page disagrees with the slot we claimed; believe the page. */
void
pgmq_xact_correct(int index, int32 read_ct, TimestampTz visible_at)
{
	XactMessage *message = pgmq_xact_message(index);
	Ring	   *ring = message->queue->ring;

	uint32		slot;

	message->lease.read_ct = read_ct;
	message->lease.visible_at = visible_at;
	if (message->slot == 0)
		return;
	PGMQ_FAILPOINT("correct-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	slot = held_slot(ring, message);
	if (slot != 0 && ring_slot(slot)->tree != TREE_WAITING)
	{
		ring_slot(slot)->read_ct = read_ct;
		ring_slot(slot)->visible_at = visible_at;
	}
	ring_unlock(ring);
	PGMQ_FAILPOINT("correct-end");
}

/* The page says there is no such row (any more): take its slot away. */
void
pgmq_xact_forget_row(int index)
{
	XactMessage *message = pgmq_xact_message(index);
	Ring	   *ring = message->queue->ring;
	TransactionId newest_xid;
	WakeList	wake;
	uint32		slot;

	if (message->slot == 0 || (message->flags & MSG_CLAIMED) == 0)
		return;
	newest_xid = pgmq_newest_xid();	/* who has removed it is not known */
	wake.n = 0;
	PGMQ_FAILPOINT("forget-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	slot = held_slot(ring, message);
	if (slot != 0)
	{
		pgmq_ring_raise_horizon(ring, newest_xid);
		pgmq_ring_raise_count_horizon(ring, newest_xid);
		if (pgmq_ring_withdraw(ring, slot))
			pgmq_ring_wake(ring, 1, &wake);
	}
	ring_unlock(ring);
	PGMQ_WAITPOINT("forget-end");
	message->slot = 0;
	message->flags &= ~MSG_CLAIMED;
	pgmq_wake_all(&wake);
}

/*
 * The rows known under a msg_id: slots of the ring, then messages of our own
 * that are not published.  At most max.  Includes LIMBO: the page says whether
 * such a row is there.
 */
int
pgmq_xact_find_by_id(XactQueue *queue, int64 msg_id, int max, MessageRef *refs)
{
	Ring	   *ring = queue->ring;
	uint32		slot;
	int			n = 0;

	ring_lock(ring, LW_SHARED);
	slot = pgmq_tree_next(ring, TREE_BY_ID, msg_id, 0);
	for (; slot != 0 && n < max && ring_slot(slot)->msg_id == msg_id;
		 slot = pgmq_tree_next(ring, TREE_BY_ID, msg_id, slot))
	{
		RingSlot   *s = ring_slot(slot);

		/* What we deleted is gone; what we inserted follows below. */
		if ((s->state == SLOT_DELETING && s->u.o.owner == PGMQ_MY_PROC_NUMBER) ||
			(s->state == SLOT_LIMBO && TransactionIdIsCurrentTransactionId(s->u.o.owner)))
			continue;
		refs[n].msg_id = msg_id;
		ItemPointerSet(&refs[n].tid, s->block, s->offset);
		refs[n++].slot = slot;
	}
	ring_unlock(ring);

	if (msg_id < queue->own_low_id || msg_id > queue->own_high_id)
		return n;
	for (int i = queue->first_message; i >= 0 && n < max; i = pgmq_xact_message(i)->next)
	{
		XactMessage *message = pgmq_xact_message(i);

		if (message->msg_id != msg_id || (message->flags & MSG_SENT) == 0 ||
			(message->flags & MSG_DELETED))
			continue;
		refs[n].msg_id = msg_id;
		refs[n].tid = message->tid;
		refs[n++].slot = 0;
	}
	return n;
}

/* ---- the guard ---- */

/* The guard that stands, for what it learnt; NULL if none does. */
const RowGuard *
pgmq_xact_guard(void)
{
	return pgmq_xact.guard.is_active ? &pgmq_xact.guard : NULL;
}

/* Did this transaction insert or claim the row?  Then no other leased it. */
static bool
is_own_row(XactQueue *queue, const ItemPointerData *tid)
{
	int			index = pgmq_xact_find_message(queue, tid);

	return index >= 0 &&
		(pgmq_xact_message(index)->flags & (MSG_SENT | MSG_CLAIMED)) != 0;
}

/*
 * Is the slot claimed by another transaction, in a way that a lock of this
 * strength must wait for?  Also if it has deleted the row since: were that rolled
 * back to a savepoint, the row would be free and the claim still stand.  Caller
 * holds L4.
 */
static bool
is_claimed_by_other(uint32 slot, LockTupleMode mode)
{
	RingSlot   *s = ring_slot(slot);

	return (s->state == SLOT_CLAIMED ||
			(s->state == SLOT_DELETING && slot_stage(slot) != STAGE_UNCLAIMED)) &&
		s->u.o.owner != PGMQ_MY_PROC_NUMBER &&
		!(slot_stage(slot) == STAGE_EXTENDED && mode == LockTupleKeyShare);
}

/*
 * Before a heap operation on one row, which locks it in the given mode or
 * stronger: keep others from claiming it.  CLAIM_TAKEN: the guard stands (with or
 * without a slot); CLAIM_FOREIGN: wait for *owner first; CLAIM_BUSY: ask again
 * in a moment; CLAIM_UNDECIDED: the slot must be settled first.
 */
ClaimResult
pgmq_xact_guard_begin(XactQueue *queue, int64 msg_id, const ItemPointerData *tid,
					  LockTupleMode mode, ClaimOwner *owner)
{
	RowGuard   *guard = &pgmq_xact.guard;
	Ring	   *ring = queue->ring;
	ClaimResult result = CLAIM_TAKEN;
	uint32		slot;

	Assert(!guard->is_active);
	memset(guard, 0, sizeof(RowGuard));
	guard->queue = queue;
	guard->msg_id = msg_id;
	guard->tid = *tid;
	pgmq_xact_make_room(1);
	if (ring != NULL)
	{
		PGMQ_FAILPOINT("guard-begin");
		ring_lock(ring, LW_EXCLUSIVE);
		slot = pgmq_ring_lookup(ring, msg_id, tid);
		if (slot == 0)
			guard->is_newer = seq_is_newer(ring->forgotten_seq, queue->first_seq);
		else if (ring_slot(slot)->state == SLOT_UNDO)
			result = CLAIM_UNDECIDED;
		else if (pgmq_xact_is_looked_at(slot))
			result = CLAIM_BUSY;
		else if (is_claimed_by_other(slot, mode))
		{
			result = CLAIM_FOREIGN;
			*owner = pgmq_ring_owner(slot);
		}
		else if (ring_slot(slot)->lockers == MAX_LOCKERS)
			result = CLAIM_BUSY;
		else
		{
			guard->has_slot = true;
			guard->is_published = ring_slot(slot)->state != SLOT_LIMBO ||
				!ring_slot(slot)->limbo_insert;
			guard->is_newer = seq_is_newer(ring_slot(slot)->u.o.lease_seq,
										   queue->first_seq);
			ring_slot(slot)->lockers++;
		}
		ring_unlock(ring);
	}
	guard->is_active = result == CLAIM_TAKEN;
	if (guard->is_active && is_own_row(queue, tid))
	{
		guard->is_own = true;
		guard->is_newer = false;
	}
	PGMQ_FAILPOINT("guard-stands");
	return result;
}

/*
 * Hold the slot of a row we deleted.  One that a scan has made since the guard was raised
 * may have been claimed, too: whoever did so will find our row lock on the page, and leaves
 * the slot to whoever asks the page again.  Caller holds L4.
 */
void
pgmq_xact_hold_to_delete(Ring *ring, XactMessage *message)
{
	uint32		slot = pgmq_ring_lookup(ring, message->msg_id, &message->tid);

	message->slot = 0;
	if (slot == 0)
		return;
	if (pgmq_xact_is_looked_at(slot))
	{
		pgmq_ring_doubt(ring, slot);
		return;
	}
	message->slot = slot;
	pgmq_ring_hold(ring, slot, SLOT_DELETING, PGMQ_MY_PROC_NUMBER);
}

/*
 * Record that we deleted the guarded row.  Returns the message whose slot is to be held, if
 * there is one by now, or NULL.
 */
static XactMessage *
note_delete(const RowGuard *guard)
{
	XactQueue  *queue = guard->queue;
	XactMessage *message;
	int			index = pgmq_xact_find_message(queue, &guard->tid);

	/* Storage emptied in place gives its rows' places to others */
	if (index >= 0 && pgmq_xact_message(index)->msg_id != guard->msg_id)
		index = -1;
	if (index < 0)
	{
		if (queue->must_rebuild)
			return NULL;
		if (queue->is_collapsed || queue->n_messages >= XACT_MAX_MESSAGES)
		{
			queue->is_collapsed = true;
			return NULL;
		}
		index = pgmq_xact_add_message(queue, &guard->tid, guard->msg_id);
	}
	message = pgmq_xact_message(index);
	pgmq_xact_log_message(index);

	/*
	 * A lease that stands is not written any more, but remembered: RETURNING
	 * and triggers still fetch the row, and must see it as it was.
	 */
	message->flags |= MSG_DELETED;

	/* A load may have seen a row of our own coming: it stays LIMBO. */
	if (queue->ring == NULL || (message->flags & MSG_SENT) != 0)
		return NULL;
	pgmq_xact_publish_owner();
	return message;
}

/*
 * Lower the count of the guarded slot, if it is still there; 0 if that is not known.  Who
 * has passed over a ready message because of the guard must not fall asleep over it, as over
 * a claim that is refused: it looks again, and meets the row's lock, or none.  Caller holds
 * L4.
 */
static void
lower_lockers(Ring *ring, RowGuard *guard, uint32 slot, WakeList *wake)
{
	if (slot == 0)
		slot = pgmq_ring_lookup(ring, guard->msg_id, &guard->tid);
	if (slot != 0 && ring_slot(slot)->lockers > 0 && --ring_slot(slot)->lockers == 0 &&
		ring_slot(slot)->state == SLOT_READY)
	{
		ring->refused_seq++;
		pgmq_ring_wake_unaware(ring, wake);
	}
	guard->has_slot = false;
}

/* The guard falls; `deleted` is the guarded row's message if its slot is to be held, or NULL. */
static void
drop_guard(RowGuard *guard, XactMessage *deleted)
{
	Ring	   *ring = guard->queue->ring;
	WakeList	wake;

	wake.n = 0;
	if (ring != NULL && (deleted != NULL || guard->has_slot))
	{
		PGMQ_WAITPOINT("guard-lower-begin");
		ring_lock(ring, LW_EXCLUSIVE);
		if (deleted != NULL)
		{
			pgmq_xact_hold_to_delete(ring, deleted);
			PGMQ_CRASHPOINT("note-delete-held");
		}
		if (guard->has_slot)
			lower_lockers(ring, guard, deleted != NULL ? deleted->slot : 0, &wake);
		ring_unlock(ring);
		PGMQ_WAITPOINT("guard-lower-end");
	}
	guard->is_active = false;
	pgmq_wake_all(&wake);
}

/*
 * The heap operation is done.  If it deleted the row (or made it the old
 * version of an update), that is recorded before the guard falls.
 */
void
pgmq_xact_guard_end(bool is_deleted)
{
	RowGuard   *guard = &pgmq_xact.guard;
	XactMessage *deleted = NULL;

	Assert(guard->is_active);
	if (is_deleted)
	{
		deleted = note_delete(guard);
		PGMQ_FAILPOINT("note-delete-begin");
	}
	drop_guard(guard, deleted);
	PGMQ_FAILPOINT("guard-end");
}

/* An error left the guard standing; called from the abort callbacks. */
void
pgmq_xact_guard_abort(void)
{
	if (!pgmq_xact.guard.is_active)
		return;
	drop_guard(&pgmq_xact.guard, NULL);
}

/*
 * Guard an UNDO slot while its page is restored; false if somebody else does, or has done.
 * Since it was copied another lease of the message may have failed: *copy becomes what
 * there is to restore now.
 */
bool
pgmq_xact_undo_take(XactQueue *queue, SlotCopy *copy)
{
	RowGuard   *guard = &pgmq_xact.guard;
	Ring	   *ring = queue->ring;
	uint32		slot;

	Assert(!guard->is_active);
	PGMQ_FAILPOINT("undo-take-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	slot = pgmq_ring_lookup(ring, copy->msg_id, &copy->tid);
	if (slot != 0 && ring_slot(slot)->state == SLOT_UNDO &&
		ring_slot(slot)->lockers == 0)
	{
		ring_slot(slot)->lockers++;
		pgmq_xact_fill_copy(ring, copy, slot);
		guard->is_active = true;
	}
	ring_unlock(ring);
	guard->has_slot = true;
	guard->queue = queue;
	guard->msg_id = copy->msg_id;
	guard->tid = copy->tid;
	PGMQ_FAILPOINT("undo-take-end");
	return guard->is_active;
}

/* The page is restored: the message is what it was before the failed lease. */
void
pgmq_xact_undo_done(void)
{
	RowGuard   *guard = &pgmq_xact.guard;
	Ring	   *ring = guard->queue->ring;
	uint32		slot;
	WakeList	wake;

	Assert(guard->is_active);
	PGMQ_FAILPOINT("undo-done-begin");
	guard->is_active = false;
	wake.n = 0;
	ring_lock(ring, LW_EXCLUSIVE);
	slot = pgmq_ring_lookup(ring, guard->msg_id, &guard->tid);
	if (slot != 0 && ring_slot(slot)->state == SLOT_UNDO)
	{
		ring_slot(slot)->lockers--;
		pgmq_ring_settle(ring, slot, pgmq_clock_now());
		ring->ready_seq++;
		pgmq_ring_wake(ring, 1, &wake);
	}
	ring_unlock(ring);
	PGMQ_WAITPOINT("undo-done-end");
	pgmq_wake_all(&wake);
}
