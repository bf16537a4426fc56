/*
 * xact_guard.c
 *	  The guard: what keeps a message from being claimed while a heap operation deletes,
 *	  updates or locks its row, or while its page is restored.
 *
 * It is the way of plain SQL to a row; xact_claim.c says how the two see each other.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "xact/xact_internal.h"

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
