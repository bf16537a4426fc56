/*
 * xact_settle.c
 *	  Slots that are undecided: LIMBO, which a transaction decides, and UNDO, whose page
 *	  must be restored.
 *
 * What needs the table is done by am/am_load.c between calls of these functions; here is
 * only the part under the ring lock.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

static const char *
state_name(const RingRef *ref)
{
	static const char *const names[] = {
		"free", "ready", "waiting", "claimed", "deleting", "limbo", "undo"
	};

	return names[ref->state];
}

/* Caller holds L4. */
void
pgmq_xact_fill_copy(const Ring *ring, SlotCopy *copy, uint32 slot)
{
	RingRef		ref;

	pgmq_ring_ref(slot, &ref);
	copy->discard_seq = ring->discard_seq;
	copy->msg_id = ref.msg_id;
	copy->tid = ref.tid;
	copy->visible_at = ref.visible_at;
	copy->read_ct = ref.read_ct;
	copy->xid = ref.state == SLOT_LIMBO ? ref.owner : InvalidTransactionId;
	copy->state = state_name(&ref);
	copy->is_limbo_insert = ref.state == SLOT_LIMBO && ref.limbo_insert;
	copy->is_undo = ref.state == SLOT_UNDO;
	copy->is_deleting = ref.state == SLOT_DELETING;
	copy->is_held = copy->is_deleting || ref.state == SLOT_CLAIMED;
	copy->lease_seq = ring_slot(slot)->u.o.lease_seq;
	copy->last_read_at = ref.undo_last_read_at;
	copy->group_hash = ref.group_hash;
}

/* How many slots are LIMBO or UNDO; a stale count is as good as an earlier one. */
int
pgmq_xact_undecided(XactQueue *queue)
{
	return queue->ring->counts[TREE_LIMBO] + queue->ring->counts[TREE_UNDO];
}

/*
 * The next transaction that decides about LIMBO slots, numerically; start with
 * InvalidTransactionId, which also ends it.
 */
TransactionId
pgmq_xact_next_limbo_xid(XactQueue *queue, TransactionId after)
{
	TransactionId xid = InvalidTransactionId;
	uint32		slot;

	ring_lock(queue->ring, LW_SHARED);
	slot = pgmq_tree_next(queue->ring, TREE_LIMBO, after, PG_UINT32_MAX);
	if (slot != 0)
		xid = ring_slot(slot)->u.o.owner;
	ring_unlock(queue->ring);
	return xid;
}

/*
 * Up to max LIMBO slots that transaction xid decides about, behind *cursor
 * (start with 0), which moves there.
 */
int
pgmq_xact_list_limbo(XactQueue *queue, TransactionId xid, uint32 *cursor, int max,
					 SlotCopy *copies)
{
	int			n = 0;
	uint32		slot;

	ring_lock(queue->ring, LW_SHARED);
	slot = pgmq_tree_next(queue->ring, TREE_LIMBO, xid, *cursor);
	for (; slot != 0 && n < max && ring_slot(slot)->u.o.owner == xid; n++)
	{
		pgmq_xact_fill_copy(queue->ring, &copies[n], slot);
		*cursor = slot;
		slot = pgmq_tree_next(queue->ring, TREE_LIMBO, xid, slot);
	}
	ring_unlock(queue->ring);
	return n;
}

/* Up to max UNDO slots. */
int
pgmq_xact_list_undo(XactQueue *queue, int max, SlotCopy *copies)
{
	int			n = 0;
	uint32		slot;

	ring_lock(queue->ring, LW_SHARED);
	slot = pgmq_tree_first(queue->ring, TREE_UNDO);
	for (; slot != 0 && n < max; n++)
	{
		pgmq_xact_fill_copy(queue->ring, &copies[n], slot);
		slot = pgmq_tree_next(queue->ring, TREE_UNDO, copies[n].msg_id, slot);
	}
	ring_unlock(queue->ring);
	return n;
}

/* Copy the slot of a row; false if there is none. */
bool
pgmq_xact_copy_slot(XactQueue *queue, int64 msg_id, const ItemPointerData *tid,
					SlotCopy *copy)
{
	uint32		slot;

	ring_lock(queue->ring, LW_SHARED);
	slot = pgmq_ring_lookup(queue->ring, msg_id, tid);
	if (slot != 0)
		pgmq_xact_fill_copy(queue->ring, copy, slot);
	ring_unlock(queue->ring);
	return slot != 0;
}

bool
pgmq_xact_find_undo(XactQueue *queue, int64 msg_id, const ItemPointerData *tid,
					SlotCopy *copy)
{
	return pgmq_xact_copy_slot(queue, msg_id, tid, copy) && copy->is_undo;
}

/*
 * A row is not there, which was seen once.  Whoever was to decide about a delete has done
 * it; in other cases it is not known who has.
 */
static void
note_gone(Ring *ring, const SlotCopy *copy, TransactionId newest_xid)
{
	if (!copy->is_limbo_insert && TransactionIdIsNormal(copy->xid))
		pgmq_ring_note_removed(ring, copy->msg_id, &copy->tid, copy->xid);
	else
		pgmq_ring_raise_horizon(ring, newest_xid);
}

/* Did anybody ever see the row of a LIMBO slot? */
static bool
was_seen(const SlotCopy *copy)
{
	return !copy->is_limbo_insert || !TransactionIdIsNormal(copy->xid) ||
		TransactionIdDidCommit(copy->xid);
}

/*
 * Is a slot LIMBO for the same reason as when it was copied?  Others may have settled it
 * since, and changed the message: what the page said before says nothing about that.  And
 * whoever changed rows without listing them has had the ring discarded, which leaves LIMBO
 * slots as they are: only what the page says since counts.  Caller holds L4.
 */
static bool
is_same_limbo(const Ring *ring, uint32 slot, const SlotCopy *copy)
{
	RingSlot   *s = ring_slot(slot);

	return ring->discard_seq == copy->discard_seq && s->state == SLOT_LIMBO && s->u.o.owner == copy->xid &&
		s->limbo_insert == copy->is_limbo_insert && s->u.o.lease_seq == copy->lease_seq;
}

/*
 * The transaction of a LIMBO slot, copied before, has ended: *row is what the page said
 * since, NULL that the row is gone.  With row->undecided that transaction is to decide.
 */
void
pgmq_xact_settle(XactQueue *queue, const SlotCopy *copy, const ScannedRow *row)
{
	Ring	   *ring = queue->ring;
	TimestampTz now = pgmq_clock_now();
	bool		must_note = row == NULL && was_seen(copy);
	TransactionId newest_xid = must_note ? pgmq_newest_xid() : InvalidTransactionId;
	uint32		chain = 0;
	int64		count;
	uint32		slot;
	WakeList	wake;

	wake.n = 0;
	PGMQ_FAILPOINT("settle-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	count = pgmq_ring_count(ring);
	slot = pgmq_ring_lookup(ring, copy->msg_id, &copy->tid);
	if (slot != 0 && is_same_limbo(ring, slot, copy))
	{
		ring->settle_epoch++;
		if (row == NULL)
		{
			if (must_note)
				note_gone(ring, copy, newest_xid);
			if (pgmq_ring_withdraw(ring, slot))
				pgmq_ring_wake(ring, 1, &wake);
			ring->n_dead++;
		}
		else
		{
			ring_slot(slot)->read_ct = row->read_ct;
			ring_slot(slot)->visible_at = row->visible_at;
			if (!pgmq_group_correct(ring, &chain, slot, row->group_hash))
				pgmq_cold_note_groupless(ring, slot, now);
			if (TransactionIdIsValid(row->undecided))
				pgmq_ring_to_limbo(ring, slot, row->undecided, row->is_insert);
			else
				pgmq_ring_settle(ring, slot, now);
			ring->ready_seq++;
			pgmq_ring_wake(ring, 1, &wake);
		}
		pgmq_ring_note_count(ring, copy->xid, count);
	}
	ring_unlock(ring);
	pgmq_wake_all(&wake);
	PGMQ_FAILPOINT("settle-end");
}
