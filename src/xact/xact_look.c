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
 * are in no ring before the COMMIT callback: those are waited for, for a while.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"
#include "xact/xact_internal.h"

/* Rows under one msg_id that are worth looking up. */
#define LOOK_UP_ROWS 64

/* Transactions that a snapshot cannot know, looked at one by one at most. */
#define MAX_UNKNOWN_XIDS 64

/* How long who publishes is waited for, rather than the table scanned. */
#define LATE_PATIENCE_MS 20

/* Make an empty list in the current memory context. */
void
pgmq_places_init(PlaceList *list)
{
	list->n = 0;
	list->max = 16;
	list->places = palloc(list->max * sizeof(MessagePlace));
}

void
pgmq_places_add(PlaceList *list, int64 msg_id, const ItemPointerData *tid)
{
	if (list->n == list->max)
	{
		list->max *= 2;
		list->places = repalloc_huge(list->places, list->max * sizeof(MessagePlace));
	}
	list->places[list->n].msg_id = msg_id;
	list->places[list->n++].tid = *tid;
}

static bool
has_place(const PlaceList *list, int64 msg_id, const ItemPointerData *tid)
{
	for (int i = 0; i < list->n; i++)
		if (list->places[i].msg_id == msg_id &&
			ItemPointerEquals(&list->places[i].tid, unconstify(ItemPointerData *, tid)))
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

/*
 * Does the snapshot see all that a log has forgotten?  If not the log may be too old to say.
 */
static bool
sees_horizon(XactQueue *queue, Snapshot snapshot, TransactionId horizon)
{
	if (sees_forgotten(snapshot, horizon))
		return true;
	pgmq_xact_renew_logs(queue);
	return false;
}

/* May a scan by this snapshot ask the ring at all? */
static bool
can_ask(XactQueue *queue, Snapshot snapshot)
{
	return queue != NULL && pgmq_xact_queue_is_usable(queue) &&
		snapshot->snapshot_type == SNAPSHOT_MVCC && !snapshot->takenDuringRecovery;
}

/*
 * Is all in the rings that a snapshot taken by now may see?  Whoever takes longer to
 * publish is not waited for.
 */
static bool
is_all_published(void)
{
	return pgmq_xact_await_publishing(LATE_PATIENCE_MS) != AWAIT_TIMED_OUT;
}

/* Does the ring know every message?  Caller holds L4. */
static bool
knows_all(const Ring *ring)
{
	return ring->phase == RING_COMPLETE && !ring->has_cold;
}

/* Own rows with this id, deleted ones included: a cursor may be older. */
static void
add_own(XactQueue *queue, int64 msg_id, PlaceList *list)
{
	if (msg_id < queue->own_low_id || msg_id > queue->own_high_id)
		return;
	for (int i = queue->first_message; i >= 0; i = pgmq_xact_message(i)->next)
	{
		XactMessage *message = pgmq_xact_message(i);

		if (message->msg_id == msg_id && (message->flags & MSG_SENT) &&
			!has_place(list, msg_id, &message->tid))
			pgmq_places_add(list, msg_id, &message->tid);
	}
}

/*
 * Add the places of all rows with this msg_id that the snapshot may see, and
 * perhaps of others.  False: the ring cannot tell, the table must be scanned.
 * Takes L4 shared; may wait for senders about to publish.
 */
bool
pgmq_xact_look_up(XactQueue *queue, Snapshot snapshot, int64 msg_id, PlaceList *list)
{
	Ring	   *ring;
	RemovedRow	removed[RING_REMOVED_LOG];
	int			n_removed;
	TransactionId horizon;
	ItemPointerData tids[LOOK_UP_ROWS];
	int			n = 0;
	uint32		slot;
	bool		knows;

	if (!can_ask(queue, snapshot) || !is_all_published())
		return false;
	ring = queue->ring;
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
	if (!knows || n == LOOK_UP_ROWS || !sees_horizon(queue, snapshot, horizon))
		return false;

	for (int i = 0; i < n; i++)
		pgmq_places_add(list, msg_id, &tids[i]);
	for (int i = 0; i < n_removed; i++)
		if (XidInMVCCSnapshot(removed[i].xid, snapshot) &&
			!has_place(list, msg_id, &removed[i].tid))
			pgmq_places_add(list, msg_id, &removed[i].tid);
	add_own(queue, msg_id, list);
	return true;
}

/* ---- in the order of msg_id ---- */

/* Slots that are in no order of ids, or held, looked at per batch at most. */
#define MAX_STRAY_SLOTS 4096

/* One hold of the ring's lock. */
typedef struct Batch
{
	LookScan   *scan;
	MessagePlace *places;		/* room for max */
	int			n;
	int			max;
	bool		is_full;		/* there was no room for all */
	int64		end_id;			/* the batch ends with this id, included */
} Batch;

/* Is an id in the batch: behind what was scanned, up to its end? */
static bool
is_in_batch(const Batch *batch, int64 msg_id)
{
	return batch->scan->is_backward ?
		(msg_id < batch->scan->from || !batch->scan->has_from) && msg_id >= batch->end_id :
		(msg_id > batch->scan->from || !batch->scan->has_from) && msg_id <= batch->end_id;
}

static void
add_place(Batch *batch, int64 msg_id, const ItemPointerData *tid)
{
	batch->is_full = batch->n == batch->max;
	if (batch->is_full)
		return;
	batch->places[batch->n].msg_id = msg_id;
	batch->places[batch->n++].tid = *tid;
}

static void
add_slot(Batch *batch, uint32 slot)
{
	ItemPointerData tid;

	ItemPointerSet(&tid, ring_slot(slot)->block, ring_slot(slot)->offset);
	add_place(batch, ring_slot(slot)->msg_id, &tid);
}

static uint32
first_slot(const Ring *ring, SlotTree tree, const LookScan *scan)
{
	if (scan->is_backward)
		return scan->has_from ? pgmq_tree_prev(ring, tree, scan->from, 0) :
			pgmq_tree_last(ring, tree);
	return scan->has_from ? pgmq_tree_next(ring, tree, scan->from, PG_UINT32_MAX) :
		pgmq_tree_first(ring, tree);
}

static uint32
next_slot(const Ring *ring, SlotTree tree, const LookScan *scan, uint32 slot)
{
	return scan->is_backward ? pgmq_tree_prev(ring, tree, ring_slot(slot)->msg_id, slot) :
		pgmq_tree_next(ring, tree, ring_slot(slot)->msg_id, slot);
}

/*
 * The next slots of a tree that is ordered by ids, wanted of them; and all that
 * have the last one's id.  They say where the batch ends.
 */
static void
add_run(const Ring *ring, SlotTree tree, int wanted, Batch *batch)
{
	uint32		slot = first_slot(ring, tree, batch->scan);

	batch->end_id = batch->scan->is_backward ? PG_INT64_MIN : PG_INT64_MAX;
	while (slot != 0 && (batch->n < wanted ||
						 ring_slot(slot)->msg_id == batch->places[batch->n - 1].msg_id) &&
		   !batch->is_full)
	{
		add_slot(batch, slot);
		slot = next_slot(ring, tree, batch->scan, slot);
	}
	if (slot != 0 && batch->n > 0)
		batch->end_id = batch->places[batch->n - 1].msg_id;
}

/* What another tree that is ordered by ids has up to where the batch ends. */
static void
add_range(const Ring *ring, SlotTree tree, Batch *batch)
{
	uint32		slot = first_slot(ring, tree, batch->scan);

	for (; slot != 0 && is_in_batch(batch, ring_slot(slot)->msg_id) && !batch->is_full;
		 slot = next_slot(ring, tree, batch->scan, slot))
		add_slot(batch, slot);
}

/* The messages that another transaction decides about. */
static void
add_limbo(const Ring *ring, Batch *batch)
{
	uint32		slot = pgmq_tree_first(ring, TREE_LIMBO);

	for (; slot != 0 && !batch->is_full;
		 slot = pgmq_tree_next(ring, TREE_LIMBO, ring_slot(slot)->u.o.owner, slot))
		if (is_in_batch(batch, ring_slot(slot)->msg_id))
			add_slot(batch, slot);
}

/* Those that are not visible yet, but will be at the time asked for; false: too many. */
static bool
add_maturing(const Ring *ring, Batch *batch)
{
	uint32		slot = pgmq_tree_first(ring, TREE_WAITING);

	for (int i = 0; slot != 0 && ring_slot(slot)->visible_at <= batch->scan->visible_at; i++)
	{
		if (i == MAX_STRAY_SLOTS)
			return false;
		if (is_in_batch(batch, ring_slot(slot)->msg_id))
			add_slot(batch, slot);
		slot = pgmq_tree_next(ring, TREE_WAITING, ring_slot(slot)->visible_at, slot);
	}
	return true;
}

/* Fill the batch from the ring.  False: it cannot tell.  Caller holds L4. */
static bool
fill_batch(const Ring *ring, int wanted, Batch *batch)
{
	batch->n = 0;
	batch->is_full = false;
	if (!knows_all(ring) || ring->counts[TREE_LIMBO] > MAX_STRAY_SLOTS)
		return false;
	if (!batch->scan->is_bounded)
	{
		add_run(ring, TREE_BY_ID, wanted, batch);
		return true;
	}
	add_run(ring, TREE_READY, wanted, batch);
	add_range(ring, TREE_HELD, batch);
	add_range(ring, TREE_UNDO, batch);
	add_limbo(ring, batch);
	return add_maturing(ring, batch);
}

/* Removed rows that the snapshot still sees. */
static void
add_removed(const RemovedRow *removed, int n, Snapshot snapshot, Batch *batch)
{
	for (int i = 0; i < n; i++)
		if (is_in_batch(batch, removed[i].msg_id) &&
			XidInMVCCSnapshot(removed[i].xid, snapshot))
			add_place(batch, removed[i].msg_id, &removed[i].tid);
}

/* Whatever this transaction has done something to. */
static void
add_own_in_batch(XactQueue *queue, Batch *batch)
{
	for (int i = queue->first_message; i >= 0; i = pgmq_xact_message(i)->next)
	{
		XactMessage *message = pgmq_xact_message(i);

		if (message->flags != 0 && is_in_batch(batch, message->msg_id))
			add_place(batch, message->msg_id, &message->tid);
	}
}

static int
compare_places(const void *a, const void *b)
{
	const MessagePlace *place_a = a;
	const MessagePlace *place_b = b;

	if (place_a->msg_id != place_b->msg_id)
		return place_a->msg_id < place_b->msg_id ? -1 : 1;
	return ItemPointerCompare(unconstify(ItemPointerData *, &place_a->tid),
							  unconstify(ItemPointerData *, &place_b->tid));
}

/* Sort places and append them to the list, ascending or descending, each once. */
void
pgmq_places_append(MessagePlace *places, Size n, bool is_backward, PlaceList *list)
{
	qsort(places, n, sizeof(MessagePlace), compare_places);
	for (Size i = 0; i < n; i++)
	{
		Size		at = is_backward ? n - 1 - i : i;

		if (at == 0 || compare_places(&places[at], &places[at - 1]) != 0)
			pgmq_places_add(list, places[at].msg_id, &places[at].tid);
	}
}

/* Room for what a batch may hold, unless much changes meanwhile. */
static int
batch_room(XactQueue *queue, const LookScan *scan, int wanted)
{
	const Ring *ring = queue->ring; /* stale counts */
	int			n_stray = ring->counts[TREE_HELD] + ring->counts[TREE_UNDO] + ring->counts[TREE_LIMBO];
	int			n_maturing = scan->visible_at > pgmq_clock_now() ? MAX_STRAY_SLOTS : 0;

	return wanted + 2 * n_stray + n_maturing + RING_REMOVED_LOG + queue->n_messages + 256;
}

/*
 * Add the places of the next rows in the order of msg_id (about wanted of them, from
 * scan->from on) that the snapshot may see and that may be visible as scan says; moves
 * scan.  False: the ring cannot tell, the rest must be looked for in the table.  Takes
 * L4 shared; the first time it may wait for senders about to publish.
 */
bool
pgmq_xact_look_on(XactQueue *queue, Snapshot snapshot, LookScan *scan, int wanted,
				  PlaceList *list)
{
	RemovedRow	removed[RING_REMOVED_LOG];
	Batch		batch = {scan};
	TransactionId horizon;
	int			n_removed;
	bool		knows;

	if (!can_ask(queue, snapshot) || queue->n_messages > MAX_STRAY_SLOTS)
		return false;
	if (!scan->has_from)
	{
		if (!is_all_published())
			return false;
		pgmq_xact_mature(queue, pgmq_clock_now());
	}
	batch.max = batch_room(queue, scan, wanted);
	batch.places = palloc(batch.max * sizeof(MessagePlace));
	ring_lock(queue->ring, LW_SHARED);
	knows = fill_batch(queue->ring, wanted, &batch);
	n_removed = pgmq_ring_removed(queue->ring, PG_INT64_MIN, PG_INT64_MAX, removed);
	horizon = queue->ring->removed_horizon;
	ring_unlock(queue->ring);
	if (knows && sees_horizon(queue, snapshot, horizon))
	{
		add_removed(removed, n_removed, snapshot, &batch);
		add_own_in_batch(queue, &batch);
	}
	else
		knows = false;
	knows = knows && !batch.is_full;
	if (knows)
	{
		pgmq_places_append(batch.places, batch.n, scan->is_backward, list);
		scan->from = batch.end_id;
		scan->has_from = true;
		scan->is_over = batch.end_id == (scan->is_backward ? PG_INT64_MIN : PG_INT64_MAX);
	}
	pfree(batch.places);
	return knows;
}

/* ---- how many ---- */

/* Has this transaction inserted or deleted rows itself, or too much to look at? */
static bool
has_own_changes(XactQueue *queue)
{
	if (queue->n_messages > MAX_STRAY_SLOTS)
		return true;
	for (int i = queue->first_message; i >= 0; i = pgmq_xact_message(i)->next)
		if (pgmq_xact_message(i)->flags & (MSG_SENT | MSG_DELETED))
			return true;
	return false;
}

/*
 * How many rows the snapshot sees: *n.  False: the ring cannot tell.  Takes L4
 * shared; may wait for a moment for transactions about to tell the ring.
 */
bool
pgmq_xact_count_rows(XactQueue *queue, Snapshot snapshot, int64 *n)
{
	CountChange changes[RING_COUNT_LOG];
	TransactionId horizon;
	uint64		next_xid;
	int			n_changes;
	bool		knows;
	bool		is_old;

	if (!can_ask(queue, snapshot) || has_own_changes(queue) || !is_all_published())
		return false;
	next_xid = pgmq_next_full_xid();
	ring_lock(queue->ring, LW_SHARED);
	knows = knows_all(queue->ring) && queue->ring->counts[TREE_LIMBO] == 0 &&
		queue->ring->n_doubtful == 0;
	is_old = pgmq_ring_logs_are_old(queue->ring, next_xid);
	*n = pgmq_ring_count(queue->ring);
	n_changes = pgmq_ring_count_changes(queue->ring, changes);
	horizon = queue->ring->count_horizon;
	ring_unlock(queue->ring);
	if (is_old)
		pgmq_xact_renew_logs(queue);
	if (!knows || is_old || !sees_forgotten(snapshot, horizon))
		return false;
	for (int i = 0; i < n_changes; i++)
		if (XidInMVCCSnapshot(changes[i].xid, snapshot))
			*n -= changes[i].change;
	return true;
}

/* How many messages are visible, about; for the planner. */
double
pgmq_xact_count_ready(XactQueue *queue)
{
	const Ring *ring = queue->ring; /* stale counts are as good */

	return (double) ring->counts[TREE_READY] + ring->counts[TREE_HELD] +
		ring->counts[TREE_LIMBO] + ring->counts[TREE_UNDO];
}

/* ---- whether to ask ---- */

/* Does the ring know every message, or would it if it were built? */
static bool
has_all(XactQueue *queue, bool *is_unbuilt)
{
	bool		result;

	if (queue == NULL || !pgmq_xact_queue_is_usable(queue))
		return false;
	ring_lock(queue->ring, LW_SHARED);
	result = !queue->ring->has_cold;
	*is_unbuilt = queue->ring->phase == RING_INCOMPLETE;
	ring_unlock(queue->ring);
	return result;
}

/* For the planner: may the ring be asked, once it is built?  What is true then may change. */
bool
pgmq_xact_can_look(XactQueue *queue)
{
	bool		is_unbuilt;

	return has_all(queue, &is_unbuilt);
}

/* Can the ring not be asked because it is not built, and nobody builds it? */
bool
pgmq_xact_must_build(XactQueue *queue)
{
	bool		is_unbuilt;

	return has_all(queue, &is_unbuilt) && is_unbuilt;
}
