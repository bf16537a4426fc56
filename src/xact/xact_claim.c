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

/* A queue's chain has the latest message first; the other way round ids mostly ascend. */
void
pgmq_xact_reverse(int *messages, int n)
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
	pgmq_xact_reverse(*messages, n);
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
