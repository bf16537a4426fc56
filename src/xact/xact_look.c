/*
 * xact_look.c
 *	  The rows that a snapshot may see, as far as the ring can tell.
 *
 * The ring is what is there now; a snapshot is older, if only by a moment.  So
 * what a snapshot sees is among
 *
 *	  the ring's slots, in whatever state: rows inserted since, too;
 *	  rows removed since by transactions the snapshot takes for running, which
 *	  the ring remembers for a while (ring_removed.c);
 *	  rows that this transaction has sent itself;
 *
 * provided that the ring is complete and no row was removed that the snapshot
 * may see and the ring has forgotten.  The callers fetch each row under the
 * snapshot, so what is offered in excess does no harm.
 *
 * Rows of transactions that have ended, and are seen by a snapshot taken since,
 * are in no ring before the COMMIT callback: those are waited for.
 */
#include "common/compat.h"

#include "storage/procarray.h"
#include "utils/snapmgr.h"
#include "xact/xact_internal.h"

/* Rows under one msg_id that are worth looking up. */
#define LOOK_UP_ROWS 64

/* Transactions that a snapshot cannot know, looked at one by one at most. */
#define MAX_UNKNOWN_XIDS 64

void
pgmq_tids_add(TidList *list, const ItemPointerData *tid)
{
	if (list->n == list->max)
	{
		list->max *= 2;
		list->tids = repalloc_huge(list->tids, list->max * sizeof(ItemPointerData));
	}
	list->tids[list->n++] = *tid;
}

/* Make an empty list in the current memory context. */
void
pgmq_tids_init(TidList *list)
{
	list->n = 0;
	list->max = 16;
	list->tids = palloc(list->max * sizeof(ItemPointerData));
}

static bool
has_tid(const TidList *list, const ItemPointerData *tid)
{
	for (int i = 0; i < list->n; i++)
		if (ItemPointerEquals(&list->tids[i], unconstify(ItemPointerData *, tid)))
			return true;
	return false;
}

/*
 * Does the snapshot see all removals that are forgotten?  Those were made by
 * transactions up to horizon.  Of them it may not know the ones it takes for
 * running or for future; if such a one is in progress even now, it has removed
 * nothing yet.
 */
static bool
sees_forgotten(Snapshot snapshot, TransactionId horizon)
{
	TransactionId xid = snapshot->xmax;

	if (!TransactionIdIsValid(horizon) || TransactionIdPrecedes(horizon, snapshot->xmin))
		return true;
	for (uint32 i = 0; i < snapshot->xcnt; i++)
		if (TransactionIdPrecedesOrEquals(snapshot->xip[i], horizon) &&
			!TransactionIdIsInProgress(snapshot->xip[i]))
			return false;
	for (int i = 0; TransactionIdPrecedesOrEquals(xid, horizon); i++)
	{
		if (i == MAX_UNKNOWN_XIDS || !TransactionIdIsInProgress(xid))
			return false;
		TransactionIdAdvance(xid);
	}
	return true;
}

/* May a scan by this snapshot ask the ring at all? */
static bool
can_ask(XactQueue *queue, Snapshot snapshot)
{
	return queue != NULL && pgmq_xact_queue_is_usable(queue) &&
		snapshot->snapshot_type == SNAPSHOT_MVCC && !snapshot->takenDuringRecovery;
}

/* Does the ring know every message?  Caller holds L4. */
static bool
knows_all(const Ring *ring)
{
	return ring->phase == RING_COMPLETE && !ring->has_cold;
}

/* Own rows with this id, deleted ones included: a cursor may be older. */
static void
add_own(XactQueue *queue, int64 msg_id, TidList *list)
{
	if (msg_id < queue->own_low_id || msg_id > queue->own_high_id)
		return;
	for (int i = queue->first_message; i >= 0; i = pgmq_xact_message(i)->next)
	{
		XactMessage *message = pgmq_xact_message(i);

		if (message->msg_id == msg_id && (message->flags & MSG_SENT) &&
			!has_tid(list, &message->tid))
			pgmq_tids_add(list, &message->tid);
	}
}

/*
 * Add the places of all rows with this msg_id that the snapshot may see, and
 * perhaps of others.  False: the ring cannot tell, the table must be scanned.
 * Takes L4 shared; may wait for senders about to publish.
 */
bool
pgmq_xact_look_up(XactQueue *queue, Snapshot snapshot, int64 msg_id, TidList *list)
{
	Ring	   *ring;
	RemovedRow	removed[RING_REMOVED_LOG];
	int			n_removed;
	TransactionId horizon;
	ItemPointerData tids[LOOK_UP_ROWS];
	int			n = 0;
	uint32		slot;
	bool		knows;

	if (!can_ask(queue, snapshot))
		return false;
	ring = queue->ring;
	(void) pgmq_xact_await_publishing();
	ring_lock(ring, LW_SHARED);
	knows = knows_all(ring);
	slot = pgmq_tree_next(ring, TREE_BY_ID, msg_id, 0);
	for (; slot != 0 && n < LOOK_UP_ROWS && ring_slot(slot)->msg_id == msg_id; n++)
	{
		ItemPointerSet(&tids[n], ring_slot(slot)->block, ring_slot(slot)->offset);
		slot = pgmq_tree_next(ring, TREE_BY_ID, msg_id, slot);
	}
	n_removed = pgmq_ring_removed(ring, msg_id, msg_id, removed);
	horizon = ring->removed_horizon;
	ring_unlock(ring);
	if (!knows || n == LOOK_UP_ROWS || !sees_forgotten(snapshot, horizon))
		return false;

	for (int i = 0; i < n; i++)
		pgmq_tids_add(list, &tids[i]);
	for (int i = 0; i < n_removed; i++)
		if (XidInMVCCSnapshot(removed[i].xid, snapshot) && !has_tid(list, &removed[i].tid))
			pgmq_tids_add(list, &removed[i].tid);
	add_own(queue, msg_id, list);
	return true;
}

static bool
has_phase(XactQueue *queue, bool is_complete)
{
	bool		result;

	if (queue == NULL || !pgmq_xact_queue_is_usable(queue))
		return false;
	ring_lock(queue->ring, LW_SHARED);
	result = !queue->ring->has_cold && (queue->ring->phase == RING_COMPLETE) == is_complete;
	ring_unlock(queue->ring);
	return result;
}

/* For the planner: may the ring be asked, once it is built?  What is true then may change. */
bool
pgmq_xact_can_look(XactQueue *queue)
{
	return has_phase(queue, true) || has_phase(queue, false);
}

/* Can the ring not be asked because it is not built? */
bool
pgmq_xact_must_build(XactQueue *queue)
{
	return has_phase(queue, false);
}
