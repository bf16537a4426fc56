/*
 * xact_ring.c
 *	  A ring's life outside transactions: counting, copying it for check_queue, the logs
 *	  for snapshots, and work for the worker.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

/* Dead rows that are vacuumed at once, and how long fewer wait. */
#define VACUUM_DEAD_ROWS 1000
#define VACUUM_DELAY_MS 5000

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

/* The table is about to be vacuumed. */
void
pgmq_xact_note_vacuum(XactQueue *queue)
{
	PGMQ_FAILPOINT("note-vacuum-begin");
	ring_lock(queue->ring, LW_EXCLUSIVE);
	queue->ring->n_dead = 0;
	queue->ring->vacuumed_at = GetCurrentTimestamp();
	ring_unlock(queue->ring);
	PGMQ_FAILPOINT("note-vacuum-end");
}

/* Has the queue had few dead rows for long?  Where there are many queues, it is longer. */
static bool
may_vacuum(const Ring *ring, TimestampTz now)
{
	int			delay_ms = Max(VACUUM_DELAY_MS, pgmq_rings_used() * PGMQ_VACUUM_INTERVAL_MS);

	return ring->n_dead > 0 && TimestampDifferenceExceeds(ring->vacuumed_at, now, delay_ms);
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
	work->needs_vacuum = ring->n_dead >= VACUUM_DEAD_ROWS;
	work->may_vacuum = may_vacuum(ring, now);
	return work->needs_build || work->needs_settling || work->needs_vacuum || work->may_vacuum;
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
