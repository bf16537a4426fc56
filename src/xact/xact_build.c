/*
 * xact_build.c
 *	  Scans of the table for a ring: to build it, for the cold messages that are due, for
 *	  cold messages with certain ids.
 *
 * What needs the table is done by am/am_load.c between calls of these functions; here is
 * only the part under the ring lock.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

/* One row in so many is looked up singly: it takes ten times as long as in a run. */
#define MANY_ADDED_SINGLY 8

const ReadyCursor pgmq_ready_start = {PG_INT64_MIN, 0};

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
