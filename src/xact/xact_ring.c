/*
 * xact_ring.c
 *	  A ring's life outside transactions: building it, settling undecided
 *	  slots, counting, copying it for check_queue, and work for the worker.
 *
 * What needs the table is done by am/ between calls of these functions; here
 * is only the part under the ring lock.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

/* Dead rows that make a vacuum worth while at once, and after a while. */
#define VACUUM_DEAD_ROWS 1000
#define VACUUM_DELAY_MS 5000

/* One row in so many is looked up singly: it takes ten times as long as in a run. */
#define MANY_ADDED_SINGLY 8

const ReadyCursor pgmq_ready_start = {PG_INT64_MIN, 0};

/* ---- building ---- */

/* Are there messages that the ring has no slot for, or may there be? */
bool
pgmq_xact_has_cold(XactQueue *queue)
{
	bool		has_cold;

	ring_lock(queue->ring, LW_SHARED);
	has_cold = queue->ring->has_cold || queue->ring->phase != RING_COMPLETE;
	ring_unlock(queue->ring);
	return has_cold;
}

/* May the message at this place be without a slot?  (For check_queue.) */
bool
pgmq_xact_is_noted_cold(XactQueue *queue, int64 msg_id, const ItemPointerData *tid,
						TimestampTz visible_at)
{
	bool		result;

	ring_lock(queue->ring, LW_SHARED);
	result = queue->ring->phase != RING_COMPLETE ||
		pgmq_cold_is_noted(queue->ring, msg_id, ItemPointerGetBlockNumberNoCheck(tid), visible_at);
	ring_unlock(queue->ring);
	return result;
}

/* Does the ring keep groups?  A stale answer is as good as an earlier one. */
bool
pgmq_xact_keeps_groups(XactQueue *queue)
{
	return queue->ring->is_grouped;
}

/*
 * Have the ring keep groups from now on.  Only rows know their groups, so the
 * table must be scanned once more; what the ring has stays.  A scan under way, of
 * whatever kind, has not asked the rows.
 */
void
pgmq_xact_keep_groups(XactQueue *queue)
{
	Ring	   *ring = queue->ring;

	if (pgmq_xact_keeps_groups(queue))
		return;
	PGMQ_FAILPOINT("keep-groups-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	if (!ring->is_grouped)
	{
		ring->is_grouped = true;
		ring->must_rescan = ring->builder >= 0;
		if (ring->phase == RING_COMPLETE)
			ring->phase = RING_INCOMPLETE;
	}
	ring_unlock(ring);
	PGMQ_FAILPOINT("keep-groups-end");
}

/* Without a cursor only the building is asked for.  Caller holds L4. */
static bool
is_due(const Ring *ring, const ReadyCursor *cursor, TimestampTz now)
{
	return ring->phase != RING_COMPLETE ||
		(cursor != NULL && pgmq_cold_is_due(ring, cursor->msg_id, cursor->slot, now));
}

/*
 * Must the table be scanned before the ring's next message is known?  A ring that has
 * everything is asked without its lock: with it the answer would be as old by the time it
 * is used.
 */
bool
pgmq_xact_must_load(XactQueue *queue, const ReadyCursor *cursor, TimestampTz now)
{
	const volatile Ring *seen = queue->ring;
	bool		must;

	if (seen->phase == RING_COMPLETE && !seen->has_cold)
		return false;

	ring_lock(queue->ring, LW_SHARED);
	must = is_due(queue->ring, cursor, now);
	ring_unlock(queue->ring);
	return must;
}

/* Must the table be scanned before the ring knows anything? */
bool
pgmq_xact_is_unbuilt(XactQueue *queue)
{
	const volatile Ring *seen = queue->ring;

	return seen->phase != RING_COMPLETE;
}

/*
 * Forget what a rebuild must not believe, letting the lock go in between.  If the ring is
 * marked anew meanwhile, the scan to come does not count, and the mark stays.
 */
static void
discard_all(Ring *ring)
{
	ReadyCursor at = pgmq_ready_start;
	bool		is_over;

	do
	{
		PGMQ_FAILPOINT("discard-begin");
		ring_lock(ring, LW_EXCLUSIVE);
		is_over = pgmq_ring_discard(ring, &at.msg_id, &at.slot, RING_BATCH_SLOTS);
		if (is_over)
			ring->must_discard = ring->must_rescan;
		ring_unlock(ring);
		PGMQ_FAILPOINT("discard-end");
	} while (!is_over);
}

/* We are to scan, for what `kind` says.  Caller holds L4. */
static void
become_builder(XactQueue *queue, ScanKind kind, TimestampTz now)
{
	queue->ring->builder = PGMQ_MY_PROC_NUMBER;
	pgmq_xact.building = queue;
	pgmq_xact.scan_kind = kind;
	pgmq_xact.scan_time = now;
}

/*
 * Begin to scan the table for a ring that is incomplete, or, if there is a cursor, has
 * cold messages due; *range says which part of it.  The ring exists before the scan
 * starts, so whatever commits meanwhile reaches it.
 */
BuildStart
pgmq_xact_build_begin(XactQueue *queue, const ReadyCursor *cursor, TimestampTz now,
					  BlockRange *range)
{
	Ring	   *ring = queue->ring;
	BuildStart	start = BUILD_STARTED;
	bool		must_discard = false;

	Assert(pgmq_xact.building == NULL);
	PGMQ_FAILPOINT("build-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	if (ring->builder >= 0)
		start = BUILD_BY_ANOTHER;
	else if (!is_due(ring, cursor, now))
		start = BUILD_NOT_NEEDED;
	else if (ring->phase == RING_COMPLETE)
	{
		become_builder(queue, SCAN_LOAD, now);
		pgmq_cold_load_begin(ring, now);
		range->first = ring->load_first;
		range->end = ring->load_end;
	}
	else
	{
		become_builder(queue, SCAN_BUILD, now);
		ring->phase = RING_BUILDING;
		ring->must_rescan = false;
		pgmq_cold_reset(ring);
		must_discard = ring->must_discard;
		range->first = 0;
		range->end = InvalidBlockNumber;
	}
	ring_unlock(ring);
	PGMQ_FAILPOINT("build-begun");
	if (must_discard)
		discard_all(ring);
	return start;
}

/*
 * Begin to scan for cold messages with these ids, in ascending order; *range is where
 * the first of them may be, not before the block that it says.
 */
BuildStart
pgmq_xact_find_begin(XactQueue *queue, const int64 *ids, int n, BlockRange *range)
{
	Ring	   *ring = queue->ring;
	BuildStart	start = BUILD_NOT_NEEDED;

	Assert(pgmq_xact.building == NULL);
	PGMQ_FAILPOINT("find-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	if (ring->builder >= 0)
		start = BUILD_BY_ANOTHER;
	else if (ring->phase == RING_COMPLETE &&
			 pgmq_cold_find(ring, ids, n, &range->first, &range->end))
	{
		become_builder(queue, SCAN_FIND, 0);
		start = BUILD_STARTED;
	}
	ring_unlock(ring);
	PGMQ_FAILPOINT("find-begun");
	return start;
}

/*
 * Has this id a slot of a row that stays?  One that is being deleted may have a successor
 * with its id, and that be cold.
 */
static bool
is_at_hand(const Ring *ring, int64 msg_id)
{
	uint32		slot = pgmq_tree_next(ring, TREE_BY_ID, msg_id, 0);

	while (slot != 0 && ring_slot(slot)->msg_id == msg_id)
	{
		SlotState	state = (SlotState) ring_slot(slot)->state;

		if (state != SLOT_DELETING && state != SLOT_LIMBO)
			return true;
		slot = pgmq_tree_next(ring, TREE_BY_ID, msg_id, slot);
	}
	return false;
}

/*
 * Which of these ids are not at hand, while there are cold messages?  Those are moved to the
 * front; returns how many.  What becomes cold from now on, pgmq_xact_may_be_cold() tells.
 */
int
pgmq_xact_unknown_ids(XactQueue *queue, int64 *ids, int n)
{
	Ring	   *ring = queue->ring;
	int			n_unknown = 0;

	for (int done = 0; done < n;)
	{
		int			batch_end = Min(n, done + RING_BATCH_SLOTS);

		ring_lock(ring, LW_SHARED);
		if (done == 0)
			queue->searched_cold_seq = ring->cold_seq;
		if (!ring->has_cold)
			batch_end = done = n;
		for (; done < batch_end; done++)
			if (!is_at_hand(ring, ids[done]))
				ids[n_unknown++] = ids[done];
		ring_unlock(ring);
	}
	return n_unknown;
}

/* May there be a message with this id that the search before this did not meet? */
bool
pgmq_xact_may_be_cold(XactQueue *queue, int64 msg_id)
{
	bool		result;

	ring_lock(queue->ring, LW_SHARED);
	result = queue->ring->phase != RING_COMPLETE ||
		pgmq_cold_may_hold(queue->ring, msg_id, queue->searched_cold_seq);
	ring_unlock(queue->ring);
	return result;
}

/* Read before a page is looked at; see pgmq_xact_build_add. */
uint64
pgmq_xact_build_epoch(XactQueue *queue)
{
	uint64		epoch;

	ring_lock(queue->ring, LW_SHARED);
	epoch = queue->ring->withdraw_epoch;
	ring_unlock(queue->ring);
	return epoch;
}

/* Make room for a row by making another one cold; false if none. */
static bool
evict_for(Ring *ring, const ScannedRow *row, const ScannedRow *last, TimestampTz now)
{
	return pgmq_xact.scan_kind == SCAN_FIND ? pgmq_cold_evict_any(ring, row, last, now) :
		pgmq_cold_evict_for(ring, row, last, now);
}

static inline void
note_cold(Ring *ring, const ScannedRow *row, TimestampTz now)
{
	pgmq_cold_note(ring, row->msg_id, ItemPointerGetBlockNumberNoCheck(&row->tid),
				   row->visible_at, now);
}

/*
 * Have a slot for a row on the chain, and one for its group if that is new, where needed
 * by making others cold; false if there is no room.
 */
static bool
make_room(Ring *ring, const ScannedRow *row, const ScannedRow *last, uint32 *chain,
		  TimestampTz now)
{
	bool		is_new_group = ring->is_grouped && !row->is_insert &&
		pgmq_group_find(ring, row->group_hash) == 0;
	uint32		missing = is_new_group ? 2 : 1;

	for (uint32 slot = *chain; slot != 0 && missing > 0; slot = ring_slot(slot)->by_id.left)
		missing--;
	missing -= pgmq_pool_reserve(chain, missing);
	for (int i = 0; i < 2 && missing > 0 && evict_for(ring, row, last, now); i++)
		missing -= pgmq_pool_reserve(chain, 1);
	return missing == 0;
}

static void
add_row(Ring *ring, const ScannedRow *row, const ScannedRow *last, uint32 *chain,
		TimestampTz now)
{
	uint32		slot = pgmq_ring_lookup(ring, row->msg_id, &row->tid);

	if (slot != 0)
	{
		/* It was there before the ring kept groups. */
		if (!(ring_slot(slot)->state == SLOT_LIMBO && ring_slot(slot)->limbo_insert) &&
			!pgmq_group_join(ring, chain, slot, row->group_hash))
			pgmq_cold_note_groupless(ring, slot, now);
		return;
	}
	if (!make_room(ring, row, last, chain, now))
	{
		note_cold(ring, row, now);
		return;
	}
	slot = pgmq_ring_publish(ring, chain, row->msg_id, &row->tid, row->read_ct,
							 row->visible_at, row->group_hash, now);
	if (slot != 0 && TransactionIdIsValid(row->undecided))
		pgmq_ring_to_limbo(ring, slot, row->undecided, row->is_insert);
}

/*
 * Add rows in their order, a run of them at a time where that is possible; returns how
 * many were added singly.
 */
static int
add_rows(Ring *ring, const ScannedRow *rows, int n, uint32 *chain, TimestampTz now)
{
	int			n_single = 0;
	int			i = 0;

	while (i < n)
	{
		int			run = pgmq_ring_publish_run(ring, chain, &rows[i], n - i, now);

		if (run == 0)
		{
			add_row(ring, &rows[i], &rows[n - 1], chain, now);
			i++;
			n_single++;
		}
		i += run;
	}
	return n_single;
}

/*
 * Add what one or more pages hold, as far as it is not in the ring.  BUILD_TOO_OLD if a
 * message was withdrawn since `epoch` was read, before the first of the pages was looked
 * at: all of them must be looked at again, or a row deleted in between would come back.
 */
BuildAdd
pgmq_xact_build_add(XactQueue *queue, uint64 epoch, const ScannedRow *rows,
					int n, TimestampTz now)
{
	Ring	   *ring = queue->ring;
	uint32		chain = 0;
	BuildAdd	result = BUILD_TOO_OLD;

	PGMQ_FAILPOINT("build-add-begin");
	(void) pgmq_pool_reserve(&chain, n);
	ring_lock(ring, LW_EXCLUSIVE);
	if (ring->withdraw_epoch == epoch)
		result = add_rows(ring, rows, n, &chain, now) > n / MANY_ADDED_SINGLY ?
			BUILD_ADDED : BUILD_ADDED_QUICKLY;
	ring_unlock(ring);
	pgmq_pool_free_chain(&chain);
	PGMQ_FAILPOINT("build-add-end");
	return result;
}

/* The scan is over.  Returns whether it may be worth while to begin another. */
static bool
end_scan(Ring *ring, bool is_complete)
{
	switch (pgmq_xact.scan_kind)
	{
		case SCAN_BUILD:
			Assert(ring->phase == RING_BUILDING);
			ring->phase = is_complete && !ring->must_discard && !ring->must_rescan ?
				RING_COMPLETE : RING_INCOMPLETE;
			return ring->phase == RING_COMPLETE;
		case SCAN_LOAD:
			/* Not if the ring was marked to be built anew meanwhile */
			return pgmq_cold_load_end(ring, is_complete && ring->phase == RING_COMPLETE,
									  pgmq_xact.scan_time);
		case SCAN_FIND:
			break;
	}
	return true;
}

/*
 * The scan is over, or has failed: then the ring is as incomplete as before.  False if
 * another scan would find as little room for what is due.
 */
bool
pgmq_xact_build_end(XactQueue *queue, bool is_complete)
{
	Ring	   *ring = queue->ring;
	TransactionId newest_xid;
	bool		may_go_on;
	WakeList	wake;

	wake.n = 0;
	newest_xid = pgmq_newest_xid();
	PGMQ_WAITPOINT("build-end-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	Assert(ring->builder == PGMQ_MY_PROC_NUMBER);
	pgmq_ring_raise_count_horizon(ring, newest_xid);
	may_go_on = end_scan(ring, is_complete);
	ring->builder = -1;
	pg_atomic_fetch_add_u32(&ring->scan_seq, 1);
	ring->settle_epoch++;		/* what the scan met came in one by one */
	ring->ready_seq++;
	pgmq_ring_wake(ring, RING_WAKE_BATCH, &wake);
	ring_unlock(ring);
	pgmq_xact.building = NULL;
	ConditionVariableBroadcast(&ring->phase_changed);
	pgmq_wake_all(&wake);
	PGMQ_WAITPOINT("build-end");
	return may_go_on;
}

void
pgmq_xact_build_abort(void)
{
	if (pgmq_xact.building != NULL)
		(void) pgmq_xact_build_end(pgmq_xact.building, false);
}

/*
 * Wait until whoever scans has ended.  The scanner waits for nobody but page
 * locks, so this cannot deadlock; cancel and terminate are heard.
 */
void
pgmq_xact_build_wait(XactQueue *queue)
{
	Ring	   *ring = queue->ring;

	ConditionVariablePrepareToSleep(&ring->phase_changed);
	for (;;)
	{
		bool		is_scanned;

		ring_lock(ring, LW_SHARED);
		is_scanned = ring->builder >= 0;
		ring_unlock(ring);
		if (!is_scanned)
			break;
		ConditionVariableSleep(&ring->phase_changed, PG_WAIT_EXTENSION);
	}
	ConditionVariableCancelSleep();
}

/* ---- LIMBO and UNDO ---- */

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

/* ---- counting and copying ---- */

/*
 * The slot of an own message.  A row that was deleted while it had none may have been
 * brought in by a scan since, as LIMBO.
 */
static uint32
own_slot(const Ring *ring, const XactMessage *message)
{
	if (message->slot == 0 && (message->flags & (MSG_SENT | MSG_DELETED)) == MSG_DELETED)
		return pgmq_ring_lookup(ring, message->msg_id, &message->tid);
	return message->slot;
}

/* Is the slot among those that pgmq_xact_counts() takes for visible? */
static bool
counts_as_visible(uint32 slot, TimestampTz now)
{
	return ring_slot(slot)->state == SLOT_LIMBO ? ring_slot(slot)->visible_at <= now :
		ring_slot(slot)->tree != TREE_WAITING;
}

/* What this transaction's own changes add to the ring's counts. */
static void
add_own(const Ring *ring, XactQueue *queue, TimestampTz now, QueueCounts *counts)
{
	for (int i = queue->first_message; i >= 0; i = pgmq_xact.messages[i].next)
	{
		XactMessage *message = &pgmq_xact.messages[i];
		uint32		slot = own_slot(ring, message);
		bool		in_ring = slot != 0;
		bool		was_visible = in_ring && counts_as_visible(slot, now);
		bool		is_live = (message->flags & MSG_DELETED) == 0;
		bool		is_visible = message->lease.visible_at <= now;

		if (message->flags & MSG_SENT)
		{
			counts->length += is_live;
			counts->visible_length += is_live && is_visible;
		}
		else if (!is_live && in_ring)
		{
			counts->length--;
			counts->visible_length -= was_visible;
		}
		else if (message->flags & MSG_LEASED)
			counts->visible_length += (int) is_visible - (int) was_visible;
	}
}

/*
 * How many messages that another transaction decides about, or whose failed lease is still
 * to be taken back, are not visible yet; negative where there are too many to look at
 * under L4.
 */
static int
undecided_waiting(const Ring *ring, TimestampTz now)
{
	uint32		slot = pgmq_tree_first(ring, TREE_LIMBO);
	int			n = 0;

	if (ring->counts[TREE_LIMBO] + ring->counts[TREE_UNDO] > RING_BATCH_SLOTS)
		return -1;
	for (; slot != 0;
		 slot = pgmq_tree_next(ring, TREE_LIMBO, ring_slot(slot)->u.o.owner, slot))
		n += !ring_slot(slot)->limbo_insert && ring_slot(slot)->visible_at > now;
	slot = pgmq_tree_first(ring, TREE_UNDO);
	for (; slot != 0; slot = pgmq_tree_next(ring, TREE_UNDO, ring_slot(slot)->msg_id, slot))
		n += ring_slot(slot)->visible_at > now;
	return n;
}

/* The queue's length as this transaction sees it.  O(1) but for its own. */
void
pgmq_xact_counts(XactQueue *queue, TimestampTz now, QueueCounts *counts)
{
	Ring	   *ring = queue->ring;
	WakeList	wake;
	int			moved;
	int			undecided;

	do
	{
		wake.n = 0;
		PGMQ_FAILPOINT("counts-begin");
		ring_lock(ring, LW_EXCLUSIVE);
		moved = pgmq_ring_mature(ring, now, RING_BATCH_SLOTS);
		if (moved > 0)
			pgmq_ring_wake(ring, moved, &wake);
		undecided = undecided_waiting(ring, now);
		counts->length = pgmq_ring_count(ring);
		counts->visible_length = counts->length - ring->counts[TREE_WAITING] - undecided;
		counts->is_exact = ring->phase == RING_COMPLETE && !ring->has_cold &&
			undecided >= 0 && !queue->is_collapsed && !queue->must_rebuild;
		add_own(ring, queue, now, counts);
		ring_unlock(ring);
		pgmq_wake_all(&wake);
		PGMQ_FAILPOINT("counts-end");
	} while (moved == RING_BATCH_SLOTS);
}

/*
 * Own messages stand in for a slot behind all slots of their msg_id: an updated
 * row has both, the slot for what it was before.
 */
static uint32
own_rank(bool want_last)
{
	return want_last ? 0 : PG_UINT32_MAX;
}

static bool
own_is_beyond(int64 msg_id, bool want_last, const MessageRef *beyond)
{
	if (beyond == NULL)
		return true;
	if (msg_id == beyond->msg_id)
		return beyond->slot != own_rank(want_last);
	return want_last ? msg_id < beyond->msg_id : msg_id > beyond->msg_id;
}

/* The own, live, unpublished message with the lowest or highest id. */
static bool
own_end_id(XactQueue *queue, bool want_last, const MessageRef *beyond,
		   MessageRef *ref)
{
	bool		found = false;

	for (int i = queue->first_message; i >= 0; i = pgmq_xact.messages[i].next)
	{
		XactMessage *message = &pgmq_xact.messages[i];
		int64		id = message->msg_id;

		if ((message->flags & MSG_SENT) == 0 || (message->flags & MSG_DELETED) ||
			!own_is_beyond(id, want_last, beyond))
			continue;
		if (found && (want_last ? id <= ref->msg_id : id >= ref->msg_id))
			continue;
		found = true;
		ref->msg_id = id;
		ref->tid = message->tid;
		ref->slot = own_rank(want_last);
	}
	return found;
}

/*
 * The message with the lowest (or highest) id, or the next one beyond *beyond;
 * false if there is none.  A hint: the caller looks at the page.
 */
bool
pgmq_xact_end_id(XactQueue *queue, bool want_last, const MessageRef *beyond,
				 MessageRef *ref)
{
	Ring	   *ring = queue->ring;
	MessageRef	own;
	uint32		slot;

	ring_lock(ring, LW_SHARED);
	if (want_last)
		slot = beyond == NULL ? pgmq_tree_last(ring, TREE_BY_ID) :
			pgmq_tree_prev(ring, TREE_BY_ID, beyond->msg_id, beyond->slot);
	else
		slot = beyond == NULL ? pgmq_tree_first(ring, TREE_BY_ID) :
			pgmq_tree_next(ring, TREE_BY_ID, beyond->msg_id, beyond->slot);
	if (slot != 0)
	{
		ref->msg_id = ring_slot(slot)->msg_id;
		ItemPointerSet(&ref->tid, ring_slot(slot)->block, ring_slot(slot)->offset);
		ref->slot = slot;
	}
	ring_unlock(ring);
	if (!own_end_id(queue, want_last, beyond, &own))
		return slot != 0;
	if (slot == 0 || (want_last ? own.msg_id > ref->msg_id : own.msg_id < ref->msg_id))
		*ref = own;
	return true;
}

/* Copy the whole ring; palloc'd array, in msg_id order. */
int
pgmq_xact_copy_slots(XactQueue *queue, SlotCopy **copies, bool *has_cold)
{
	Ring	   *ring = queue->ring;
	int			max = 1024;
	int			n = 0;
	int			batch;
	int64		last_id = PG_INT64_MIN;
	uint32		last_slot = 0;

	*copies = palloc(max * sizeof(SlotCopy));
	do
	{
		uint32		slot;

		if (n + RING_BATCH_SLOTS > max)
		{
			max *= 2;
			*copies = repalloc_huge(*copies, (Size) max * sizeof(SlotCopy));
		}
		ring_lock(ring, LW_SHARED);
		*has_cold = ring->has_cold;
		slot = pgmq_tree_next(ring, TREE_BY_ID, last_id, last_slot);
		for (batch = 0; batch < RING_BATCH_SLOTS && slot != 0; batch++)
		{
			pgmq_xact_fill_copy(ring, &(*copies)[n], slot);
			last_id = (*copies)[n++].msg_id;
			last_slot = slot;
			slot = pgmq_tree_next(ring, TREE_BY_ID, last_id, last_slot);
		}
		ring_unlock(ring);
	} while (batch == RING_BATCH_SLOTS);
	return n;
}

/* Is the message held by a transaction that does not run (any more)? */
bool
pgmq_xact_is_orphan(XactQueue *queue, int64 msg_id, const ItemPointerData *tid)
{
	ClaimOwner	owner;
	uint32		slot;
	bool		is_held;

	ring_lock(queue->ring, LW_SHARED);
	slot = pgmq_ring_lookup(queue->ring, msg_id, tid);
	is_held = slot != 0 && (ring_slot(slot)->state == SLOT_CLAIMED ||
							ring_slot(slot)->state == SLOT_DELETING) &&
		ring_slot(slot)->u.o.owner != PGMQ_MY_PROC_NUMBER;
	if (is_held)
		owner = pgmq_ring_owner(slot);
	ring_unlock(queue->ring);
	return is_held && VirtualXactLock(owner.vxid, false);
}

/* ---- logs for snapshots ---- */

/*
 * Begin the ring's logs anew if they are so old that their transactions could be taken for
 * future ones.  Snapshots of before scan the table then, once in a thousand million
 * transactions.
 */
void
pgmq_xact_renew_logs(XactQueue *queue)
{
	Ring	   *ring = queue->ring;
	RingLogs	seen;
	uint64		next_xid;

	ring_lock(ring, LW_SHARED);
	seen = pgmq_ring_logs(ring);
	ring_unlock(ring);
	next_xid = pgmq_next_full_xid();
	if (!pgmq_ring_logs_are_old(ring, next_xid))	/* stale: the next call sees it */
		return;
	PGMQ_FAILPOINT("renew-logs-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	pgmq_ring_renew_logs(ring, &seen, next_xid);
	ring_unlock(ring);
	PGMQ_FAILPOINT("renew-logs-end");
}

/* ---- the worker ---- */

/* The table has just been vacuumed. */
void
pgmq_xact_note_vacuum(XactQueue *queue)
{
	pgmq_xact_renew_logs(queue);
	PGMQ_FAILPOINT("note-vacuum-begin");
	ring_lock(queue->ring, LW_EXCLUSIVE);
	queue->ring->n_dead = 0;
	queue->ring->vacuumed_at = GetCurrentTimestamp();
	ring_unlock(queue->ring);
	PGMQ_FAILPOINT("note-vacuum-end");
}

static bool
describe_work(Ring *ring, RingWork *work, TimestampTz now)
{
	if (!OidIsValid(ring->relid))
		return false;
	work->locator = ring->locator;
	work->dbid = LOCATOR_DB(ring->locator);
	work->relid = ring->relid;
	work->needs_build = ring->phase == RING_INCOMPLETE;
	work->needs_settling = ring->counts[TREE_LIMBO] > 0 || ring->counts[TREE_UNDO] > 0;
	work->needs_vacuum = ring->n_dead >= VACUUM_DEAD_ROWS ||
		(ring->n_dead > 0 &&
		 TimestampDifferenceExceeds(ring->vacuumed_at, now, VACUUM_DELAY_MS));
	return work->needs_build || work->needs_settling || work->needs_vacuum;
}

/*
 * The next ring of a database (or of any: InvalidOid) that wants something
 * done, from *cursor on, which moves behind it; false if there is none.  Start
 * with 0.  A round ends, so rings that cannot be served keep no others waiting.
 */
bool
pgmq_xact_next_work(Oid dbid, int *cursor, RingWork *work)
{
	TimestampTz now = GetCurrentTimestamp();
	bool		found = false;

	while (!found && *cursor < pgmq_ring_limit())
	{
		Ring	   *ring = pgmq_ring_by_index((*cursor)++);

		if (!ring->in_use)		/* stale: seen at the next look */
			continue;
		ring_lock(ring, LW_SHARED);
		found = ring->in_use &&
			(!OidIsValid(dbid) || LOCATOR_DB(ring->locator) == dbid) &&
			describe_work(ring, work, now);
		ring_unlock(ring);
	}
	return found;
}

/*
 * There is no queue of the name by which a ring is known to the worker: it was
 * given other columns, say.  Whoever opens one with this ring names it anew.
 */
void
pgmq_xact_forget_name(const RingWork *work)
{
	Ring	   *ring = pgmq_ring_find(&work->locator);

	if (ring == NULL)
		return;
	PGMQ_FAILPOINT("forget-name-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	if (RelFileLocatorEquals(ring->locator, work->locator) && ring->relid == work->relid)
		ring->relid = InvalidOid;
	ring_unlock(ring);
	PGMQ_FAILPOINT("forget-name-end");
}

/* A database was dropped. */
void
pgmq_xact_forget_database(Oid dbid)
{
	if (pgmq_ring_available())
		pgmq_ring_remove_database(dbid);
}
