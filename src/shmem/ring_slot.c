/*
 * ring_slot.c
 *	  The moves of a ring slot through the state machine of ring.h.
 *
 * Every function here runs under the ring's L4, held exclusively unless it
 * takes a const Ring.  Nothing here can fail; what needs memory takes it from
 * a chain the caller reserved, and makes the message cold where there is none.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "shmem/ring_internal.h"
#include "utils/timestamp.h"

/* How often a sleeper looks again at rows whose transaction is undecided. */
#define LIMBO_LOOK_MS 100

static inline bool
is_at(const RingSlot *slot, const ItemPointerData *tid)
{
	return slot->block == ItemPointerGetBlockNumberNoCheck(tid) &&
		slot->offset == ItemPointerGetOffsetNumberNoCheck(tid);
}

/*
 * The slot of (msg_id, tid), or 0.  Several rows may share a msg_id; with tid
 * NULL the first of them is returned.
 */
uint32
pgmq_ring_lookup(const Ring *ring, int64 msg_id, const ItemPointerData *tid)
{
	uint32		slot = pgmq_tree_next(ring, TREE_BY_ID, msg_id, 0);

	while (slot != 0 && ring_slot(slot)->msg_id == msg_id)
	{
		if (tid == NULL || is_at(ring_slot(slot), tid))
			return slot;
		slot = pgmq_tree_next(ring, TREE_BY_ID, msg_id, slot);
	}
	return 0;
}

/* Copy a slot out, for use without the lock. */
void
pgmq_ring_ref(uint32 slot, RingRef *ref)
{
	RingSlot   *s = ring_slot(slot);

	ref->slot = slot;
	ref->msg_id = s->msg_id;
	ItemPointerSet(&ref->tid, s->block, s->offset);
	ref->visible_at = s->visible_at;
	ref->read_ct = s->read_ct;
	ref->owner = s->u.o.owner;
	ref->state = (SlotState) s->state;
	ref->limbo_insert = s->limbo_insert;
	ref->undo_last_read_at = s->u.undo_last_read_at;
	ref->group_hash = s->group != 0 ? pgmq_group_hash(s->group) : 0;
}

/* Take a slot out of its order tree, if it is in one. */
static inline void
leave_tree(Ring *ring, uint32 slot)
{
	if (ring_slot(slot)->tree != TREE_NONE)
		pgmq_tree_remove(ring, (SlotTree) ring_slot(slot)->tree, slot);
}

/* Put a slot that is in no order tree where its visible_at says. */
static inline void
place(Ring *ring, uint32 slot, TimestampTz now)
{
	bool		is_ready = ring_slot(slot)->visible_at <= now;

	if (is_ready)
		pgmq_ring_note_ready(ring, ring_slot(slot)->msg_id);

	ring_slot(slot)->state = is_ready ? SLOT_READY : SLOT_WAITING;
	pgmq_tree_insert(ring, is_ready ? TREE_READY : TREE_WAITING, slot);
	pgmq_group_update(ring, slot);
}

static void
leave_limbo(Ring *ring, uint32 slot)
{
	RingSlot   *s = ring_slot(slot);

	if (s->state == SLOT_LIMBO && s->limbo_insert)
		ring->n_limbo_inserts--;
	if (s->state == SLOT_UNDO)
	{
		pg_atomic_fetch_sub_u32(&ring->n_undo, 1);
		s->u.o.lease_seq = ++ring->lease_seq;
	}
	s->limbo_insert = false;
}

/* What the page says is known now, or does not matter any more. */
static inline void
clear_doubt(Ring *ring, RingSlot *s)
{
	ring->n_doubtful -= s->is_doubtful;
	s->is_doubtful = false;
}

/* A new slot for a row, in no order tree yet; 0 where the pool is empty. */
static uint32
new_slot(Ring *ring, uint32 *chain, int64 msg_id, const ItemPointerData *tid)
{
	uint32		slot = pgmq_pool_take(chain);

	if (slot == 0)
		return 0;
	pgmq_slot_init(ring, slot, msg_id, tid);
	pgmq_tree_insert(ring, TREE_BY_ID, slot);
	return slot;
}

/* The same; for a visible message that comes before all cold ones, delayed ones give way. */
static uint32
slot_for(Ring *ring, uint32 *chain, int64 msg_id, const ItemPointerData *tid,
		 TimestampTz visible_at, TimestampTz now)
{
	uint32		slot = new_slot(ring, chain, msg_id, tid);

	if (slot == 0 && visible_at <= now && pgmq_cold_evict_delayed(ring, msg_id, now))
		slot = new_slot(ring, chain, msg_id, tid);
	return slot;
}

/*
 * A committed message enters the ring.  A scan may have met the row first: then
 * a LIMBO insert is decided now, and any other slot is left as it is, because the
 * message may have been claimed since.  Slots come from *chain, then from the
 * pool; where there is none the message is noted as cold and 0 returned.  In a
 * ring that keeps groups it joins the one with group_hash.
 */
uint32
pgmq_ring_publish(Ring *ring, uint32 *chain, int64 msg_id,
				  const ItemPointerData *tid, int32 read_ct,
				  TimestampTz visible_at, uint64 group_hash, TimestampTz now)
{
	uint32		slot = pgmq_ring_lookup(ring, msg_id, tid);

	PGMQ_CRASHPOINT("ring-publish-begin");
	if (msg_id > (int64) pg_atomic_read_u64(&ring->high_id))
		pg_atomic_write_u64(&ring->high_id, (uint64) msg_id);
	if (slot == 0)
		slot = slot_for(ring, chain, msg_id, tid, visible_at, now);
	else if (ring_slot(slot)->state == SLOT_LIMBO && ring_slot(slot)->limbo_insert)
	{
		leave_tree(ring, slot);
		leave_limbo(ring, slot);
	}
	else
	{
		if (!pgmq_group_correct(ring, chain, slot, group_hash))
			pgmq_cold_note_groupless(ring, slot, now);
		PGMQ_CRASHPOINT("ring-publish-known");
		return slot;
	}
	if (slot != 0 && !pgmq_group_join(ring, chain, slot, group_hash))
	{
		/* Somebody may be taking the lock of a row that is known */
		if (ring_slot(slot)->lockers > 0)
			pgmq_cold_note_groupless(ring, slot, now);
		else
		{
			pgmq_ring_withdraw(ring, slot);
			slot = 0;
		}
	}
	if (slot == 0)
	{
		pgmq_cold_note(ring, msg_id, ItemPointerGetBlockNumberNoCheck(tid), visible_at, now);
		if (visible_at <= now)
			ring->ready_seq++;	/* who is about to sleep must look again */
		PGMQ_CRASHPOINT("ring-publish-cold");
		return 0;
	}
	ring_slot(slot)->read_ct = read_ct;
	ring_slot(slot)->visible_at = visible_at;
	place(ring, slot, now);
	if (ring_slot(slot)->state == SLOT_READY)
		ring->ready_seq++;
	PGMQ_CRASHPOINT("ring-publish-end");
	return slot;
}

/*
 * Take a slot out of the ring; its number may be reused at once.  True if the
 * message kept its group from being read, and there is something to wake for.
 */
bool
pgmq_ring_withdraw(Ring *ring, uint32 slot)
{
	RingSlot   *s = ring_slot(slot);
	bool		frees_group;

	PGMQ_CRASHPOINT("ring-withdraw-begin");
	leave_tree(ring, slot);
	leave_limbo(ring, slot);
	clear_doubt(ring, s);
	frees_group = pgmq_group_leave(ring, slot);
	ring->ready_seq += frees_group;
	pgmq_tree_remove(ring, TREE_BY_ID, slot);
	ring->withdraw_epoch++;
	if (s->u.o.lease_seq > ring->forgotten_seq)
		ring->forgotten_seq = s->u.o.lease_seq;
	pgmq_pool_free(slot);
	PGMQ_CRASHPOINT("ring-withdraw-end");
	return frees_group;
}

/*
 * CLAIMED, DELETING, LIMBO or UNDO, back to READY or WAITING; or to LIMBO, if the slot
 * outlived a rebuild and its row may not have.
 *
 * Plain SQL may have held a committed row while it was LIMBO, in no group yet
 * (a transaction had been prepared).  Only the row knows its group, so the table
 * is scanned once more.
 */
void
pgmq_ring_settle(Ring *ring, uint32 slot, TimestampTz now)
{
	RingSlot   *s = ring_slot(slot);

	Assert(s->state != SLOT_FREE);
	if (s->is_doubtful)
	{
		pgmq_ring_to_limbo(ring, slot, FrozenTransactionId, false);
		return;
	}
	PGMQ_CRASHPOINT("ring-settle-begin");
	if (s->tree == TREE_WAITING)
	{
		s->state = SLOT_WAITING;
		pgmq_group_update(ring, slot);
		PGMQ_CRASHPOINT("ring-settle-waiting");
		return;
	}
	leave_tree(ring, slot);
	leave_limbo(ring, slot);
	place(ring, slot, now);
	if (ring->is_grouped && s->group == 0 && !ring->has_cold &&
		ring->phase == RING_COMPLETE)
		ring->phase = RING_INCOMPLETE;
	PGMQ_CRASHPOINT("ring-settle-end");
}

/* The values of a lease, for a slot that is in no tree from now on. */
void
pgmq_slot_lease(Ring *ring, uint32 slot, int32 read_ct, TimestampTz visible_at)
{
	RingSlot   *s = ring_slot(slot);

	leave_tree(ring, slot);
	leave_limbo(ring, slot);
	s->read_ct = read_ct;
	s->visible_at = visible_at;
	s->u.o.lease_seq = ++ring->lease_seq;
	clear_doubt(ring, s);
}

/* The owner's lease is committed: CLAIMED becomes WAITING (or READY). */
void
pgmq_ring_lease(Ring *ring, uint32 slot, int32 read_ct, TimestampTz visible_at,
				TimestampTz now)
{
	RingSlot   *s = ring_slot(slot);

	PGMQ_CRASHPOINT("ring-lease-begin");
	pgmq_slot_lease(ring, slot, read_ct, visible_at);
	place(ring, slot, now);
	if (s->state == SLOT_READY)
		ring->ready_seq++;
	PGMQ_CRASHPOINT("ring-lease-end");
}

/* READY, WAITING or an own CLAIMED slot becomes CLAIMED or DELETING. */
void
pgmq_ring_hold(Ring *ring, uint32 slot, SlotState state, uint32 owner)
{
	RingSlot   *s = ring_slot(slot);
	TransactionId decider = s->u.o.owner;	/* of a LIMBO slot */
	int64		count = pgmq_ring_count(ring);

	Assert(state == SLOT_CLAIMED || state == SLOT_DELETING);
	PGMQ_CRASHPOINT("ring-hold-begin");
	if (s->tree != TREE_WAITING && s->tree != TREE_HELD)
	{
		leave_tree(ring, slot);
		/* What was LIMBO may be delayed, for metrics() */
		pgmq_tree_insert(ring, s->state == SLOT_LIMBO ? TREE_WAITING : TREE_HELD, slot);
	}
	leave_limbo(ring, slot);
	pgmq_ring_note_count(ring, decider, count);
	if (state == SLOT_CLAIMED || s->state == SLOT_CLAIMED)
		s->stage = STAGE_LEASED;
	else if (s->state != SLOT_DELETING)
		s->stage = STAGE_UNCLAIMED;
	s->state = state;
	s->stage = (s->stage & STAGE_BITS) |
		(pgmq_backend_in_savepoint(owner) ? STAGE_IN_SAVEPOINT : 0);
	s->u.o.owner = owner;
	pgmq_group_update(ring, slot);
	PGMQ_CRASHPOINT("ring-hold-end");
}

/* Transaction xid will decide about the row; FrozenTransactionId: has decided. */
void
pgmq_ring_to_limbo(Ring *ring, uint32 slot, TransactionId xid, bool is_insert)
{
	RingSlot   *s = ring_slot(slot);

	PGMQ_CRASHPOINT("ring-limbo-begin");
	leave_tree(ring, slot);
	leave_limbo(ring, slot);
	s->state = SLOT_LIMBO;
	clear_doubt(ring, s);
	s->u.o.owner = xid;
	s->limbo_insert = is_insert;
	if (is_insert)
	{
		ring->n_limbo_inserts++;
		pgmq_group_leave(ring, slot);
	}
	pgmq_tree_insert(ring, TREE_LIMBO, slot);
	pgmq_group_update(ring, slot);
	PGMQ_CRASHPOINT("ring-limbo-end");
}

/* The page carries a lease that must be taken back to these values. */
void
pgmq_ring_to_undo(Ring *ring, uint32 slot, int32 read_ct,
				  TimestampTz last_read_at, TimestampTz visible_at)
{
	RingSlot   *s = ring_slot(slot);

	PGMQ_CRASHPOINT("ring-undo-begin");
	leave_tree(ring, slot);
	leave_limbo(ring, slot);
	s->state = SLOT_UNDO;
	s->read_ct = read_ct;
	s->visible_at = visible_at;
	s->u.undo_last_read_at = last_read_at;
	pg_atomic_fetch_add_u32(&ring->n_undo, 1);
	pgmq_tree_insert(ring, TREE_UNDO, slot);
	pgmq_group_update(ring, slot);
	PGMQ_CRASHPOINT("ring-undo-end");
}

/*
 * Move what has matured from WAITING to READY, at most max slots; returns how
 * many left the tree (max means: call again).  Held slots stay held.
 */
int
pgmq_ring_mature(Ring *ring, TimestampTz now, int max)
{
	int			n = 0;
	uint32		slot;

	while (n < max && (slot = pgmq_tree_first(ring, TREE_WAITING)) != 0 &&
		   ring_slot(slot)->visible_at <= now)
	{
		PGMQ_CRASHPOINT("ring-mature-begin");
		pgmq_tree_remove(ring, TREE_WAITING, slot);
		if (ring_slot(slot)->state == SLOT_WAITING)
			place(ring, slot, now);
		else
			pgmq_tree_insert(ring, TREE_HELD, slot);
		n++;
		PGMQ_CRASHPOINT("ring-mature-end");
	}
	if (n > 0)
		ring->ready_seq++;
	return n;
}

/* The next READY slot behind (after_id, after_slot), or 0. */
uint32
pgmq_ring_next_ready(const Ring *ring, int64 after_id, uint32 after_slot)
{
	return pgmq_tree_next(ring, TREE_READY, after_id, after_slot);
}

/* When a held slot is let go, its page must be asked. */
void
pgmq_ring_doubt(Ring *ring, uint32 slot)
{
	Assert(ring_slot(slot)->state == SLOT_CLAIMED || ring_slot(slot)->state == SLOT_DELETING);
	ring->n_doubtful += !ring_slot(slot)->is_doubtful;
	ring_slot(slot)->is_doubtful = true;
}

/*
 * Forget READY and WAITING slots, for a rebuild, as far as they are among the max slots
 * behind (*after_id, *after_slot), which moves there; true when there are no more.
 * Undecided ones stay.  So do those that are held or being locked, but they may be of
 * rows deleted behind the ring's back: they are for whoever asks the page, the latter
 * at once, the former when they are let go (a delete may be undone, and the next not
 * listed).
 */
bool
pgmq_ring_discard(Ring *ring, int64 *after_id, uint32 *after_slot, int max)
{
	uint32		slot = pgmq_tree_next(ring, TREE_BY_ID, *after_id, *after_slot);

	for (int n = 0; slot != 0 && n < max; n++)
	{
		RingSlot   *s = ring_slot(slot);
		uint32		next = pgmq_tree_next(ring, TREE_BY_ID, s->msg_id, slot);

		*after_id = s->msg_id;
		*after_slot = slot;
		if (s->state == SLOT_CLAIMED || s->state == SLOT_DELETING)
			pgmq_ring_doubt(ring, slot);
		else if (s->state == SLOT_READY || s->state == SLOT_WAITING)
		{
			if (s->lockers == 0)
				pgmq_ring_withdraw(ring, slot);
			else
				pgmq_ring_to_limbo(ring, slot, FrozenTransactionId, false);
		}
		slot = next;
	}
	return slot == 0;
}

/* When something may become ready without a commit: an upper bound to sleep. */
TimestampTz
pgmq_ring_next_event(const Ring *ring)
{
	TimestampTz event = DT_NOEND;
	uint32		slot = pgmq_tree_first(ring, TREE_WAITING);

	if (slot != 0)
		event = ring_slot(slot)->visible_at;
	if (ring->has_cold)
		event = Min(event, ring->cold_next_at);
	if (ring->counts[TREE_LIMBO] > 0)
		event = Min(event, TimestampTzPlusMilliseconds(pgmq_clock_now(),
													   LIMBO_LOOK_MS));
	return event;
}
