/*
 * xact_events.c
 *	  What happens to the list at the end of a transaction or savepoint.
 *
 * The callbacks are registered once, by pgmq_xact_init().
 *
 *	  PRE_COMMIT  everything that can fail: leases are written to their pages,
 *				  ring slots reserved for what will be published, listeners'
 *				  notifications queued (xact_notify.c).
 *	  COMMIT	  memory only; an error here would be a PANIC.  The rows are
 *				  visible already, locks are still held.
 *	  ABORT		  memory only; what is held goes back.  A lease that was
 *				  written before the failure becomes UNDO.
 *	  PREPARE	  leases become ordinary updates before it, held and sent
 *				  messages LIMBO after it: MVCC decides.
 *
 * A crash between PRE_COMMIT's page writes and the commit record leaves leases
 * of a transaction that never was: those messages come late, by their lease.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/settings.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

/* Fewer messages are published or leased one by one: a run has its price, too. */
#define RUN_MIN 4

static const XactStorage *storage;

/* ---- before commit ---- */

static int
compare_for_writing(const void *a, const void *b)
{
	XactMessage *message_a = pgmq_xact_message(*(const int *) a);
	XactMessage *message_b = pgmq_xact_message(*(const int *) b);

	return ItemPointerCompare(&message_a->tid, &message_b->tid);
}

/* The leases of a queue still to be written, in page order; palloc'd. */
int
pgmq_xact_standing_leases(XactQueue *queue, int **messages)
{
	int			n = 0;

	*messages = NULL;
	if (queue->n_messages == 0)
		return 0;
	*messages = MemoryContextAlloc(TopTransactionContext,
								   queue->n_messages * sizeof(int));
	for (int m = queue->first_message; m >= 0; m = pgmq_xact.messages[m].next)
		if ((pgmq_xact.messages[m].flags & (MSG_LEASED | MSG_DELETED)) == MSG_LEASED)
			(*messages)[n++] = m;
	pgmq_xact_reverse(*messages, n);		/* as they were claimed they are nearly in order */
	if (n > 1)
		qsort(*messages, n, sizeof(int), compare_for_writing);
	return n;
}

/* Hand the standing leases of each queue to the storage. */
static void
write_leases(void (*write) (XactQueue *queue, int *messages, int n))
{
	for (int i = 0; i < pgmq_xact.n_queues; i++)
	{
		XactQueue  *queue = pgmq_xact.queues[i];
		int		   *messages;
		int			n = pgmq_xact_standing_leases(queue, &messages);

		if (n > 0)
			write(queue, messages, n);
	}
}

/*
 * Write what stands as UPDATEs, which a savepoint or the transaction may still
 * undo.  Raises errors as an UPDATE does.
 */
void
pgmq_xact_flush_leases(void)
{
	if (pgmq_xact.n_leased > 0)
		write_leases(storage->update_leases);
}

/*
 * A lease needs no transaction id, so without one nobody would flush it.
 * Where a standby must confirm commits, take one: only the ordinary commit
 * path waits for standbys.
 */
static void
make_leases_durable(void)
{
	if (!pgmq_synchronous_leases || synchronous_commit == SYNCHRONOUS_COMMIT_OFF)
		return;
	if (SyncRepRequested() && SyncRepStandbyNames != NULL && SyncRepStandbyNames[0] != '\0')
		(void) GetCurrentTransactionId();
	ForceSyncCommit();
}

static void
reserve_slots(void)
{
	uint32		n = 0;

	if (!pgmq_ring_available())
		return;
	for (int i = 0; i < pgmq_xact.n_messages; i++)
		n += (pgmq_xact.messages[i].flags & (MSG_SENT | MSG_DELETED)) == MSG_SENT;
	if (n == 0)
		return;
	(void) pgmq_pool_reserve(&pgmq_xact.reserved, n);
}

/*
 * From here on, and until it is done, others are told that this transaction has to tell
 * the rings something once it is committed.
 */
static void
announce(void)
{
	if (!pgmq_ring_available() || pgmq_xact.n_queues == 0 ||
		!TransactionIdIsValid(GetTopTransactionIdIfAny()))
		return;
	pgmq_xact.is_publishing = true;
	pgmq_backend_set_publishing(true);
}

/* See comes_late(). */
static void
note_scans(void)
{
	for (int i = 0; i < pgmq_xact.n_queues; i++)
	{
		XactQueue  *queue = pgmq_xact.queues[i];

		if (queue->ring == NULL)
			continue;
		queue->scan_seq = pg_atomic_read_u32(&queue->ring->scan_seq);
		queue->has_scan_seq = true;
	}
}

static void
before_commit(void)
{
	bool		has_leases = pgmq_xact.n_leased > 0;

	PGMQ_FAILPOINT("pre-commit-begin");
	if (pgmq_xact.n_messages > 0)
	{
		if (has_leases)
		{
			write_leases(storage->write_leases);
			PGMQ_FAILPOINT("pre-commit-leased");
			make_leases_durable();
		}
		reserve_slots();
		note_scans();
		PGMQ_FAILPOINT("pre-commit-reserved");
	}
	announce();
	pgmq_xact_notify_before_commit();
	pgmq_xact.is_closed = true;
	PGMQ_FAILPOINT("pre-commit-end");
}

/* One that would notify fails, as after NOTIFY; that is the server's to say. */
static void
before_prepare(void)
{
	PGMQ_FAILPOINT("pre-prepare-begin");
	if (pgmq_xact.n_leased > 0)
		write_leases(storage->update_leases);
	PGMQ_FAILPOINT("pre-prepare-updated");
	reserve_slots();
	announce();
	pgmq_xact_notify_before_commit();
	pgmq_xact.is_closed = true;
	PGMQ_FAILPOINT("pre-prepare-end");
}

/* ---- commit ---- */

/* Rows changed that we did not list: the ring must be built anew. */
static void
mark_for_rebuild(Ring *ring)
{
	TransactionId xid = GetTopTransactionIdIfAny();
	WakeList	wake;

	wake.n = 0;
	PGMQ_WAITPOINT("mark-rebuild-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	if (TransactionIdIsValid(xid))
		pgmq_ring_raise_horizon(ring, xid);
	ring->must_discard = true;
	ring->discard_seq++;
	ring->must_rescan |= ring->phase == RING_BUILDING;
	if (ring->phase == RING_COMPLETE)
		ring->phase = RING_INCOMPLETE;
	ring->ready_seq++;
	pgmq_ring_wake(ring, RING_WAKE_BATCH, &wake);
	ring_unlock(ring);
	PGMQ_WAITPOINT("mark-rebuild-end");
	pgmq_wake_all(&wake);
}

/* Was a scan of the table under way since what we sent became visible?  Caller holds L4. */
static bool
meets_scan(const Ring *ring, const XactQueue *queue)
{
	return ring->builder >= 0 || !queue->has_scan_seq ||
		queue->scan_seq != pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &ring->scan_seq));
}

/*
 * May others have found a row that we sent, and deleted it, before we came to publish
 * it?  They find it by a scan of the table only.  Caller holds L4.
 */
static bool
comes_late(const Ring *ring, const XactMessage *message)
{
	return meets_scan(ring, message->queue) &&
		pgmq_ring_lookup(ring, message->msg_id, &message->tid) == 0;
}

/*
 * Publish a message; in doubt as LIMBO, so that the page decides, but as a member of its
 * group, which it keeps back like any first message.  Returns whether sleepers should look.
 */
static bool
publish_message(Ring *ring, XactMessage *message, TimestampTz now)
{
	bool		is_doubtful = comes_late(ring, message);
	uint32		slot = pgmq_ring_publish(ring, &pgmq_xact.reserved, message->msg_id,
										 &message->tid, message->lease.read_ct,
										 message->lease.visible_at, message->group_hash, now);

	if (slot != 0 && is_doubtful)
		pgmq_ring_to_limbo(ring, slot, FrozenTransactionId, false);
	if (slot == 0 || is_doubtful)
		return message->lease.visible_at <= now;	/* a reader loads or settles it */
	return ring_slot(slot)->state == SLOT_READY;
}

/*
 * Apply one message to its ring.  Caller holds L4; returns how many may be
 * claimed now that could not before, as far as sleepers are concerned.
 */
static uint32
apply_message(Ring *ring, XactMessage *message, TimestampTz now)
{
	bool		is_sent = (message->flags & MSG_SENT) != 0;
	uint32		slot = message->slot;

	if (message->flags & MSG_DELETED)
	{
		ring->n_dead++;
		if (is_sent)
			return 0;
		if (slot == 0)
			slot = pgmq_ring_lookup(ring, message->msg_id, &message->tid);
		pgmq_ring_note_removed(ring, message->msg_id, &message->tid, GetTopTransactionIdIfAny());
		Assert(message->slot == 0 || pgmq_xact_holds_slot(ring, message));
		if (slot != 0)
			return pgmq_ring_withdraw(ring, slot);
		ring->withdraw_epoch++;
		return 0;
	}
	if (is_sent)
	{
		if (ring->phase == RING_INCOMPLETE)
			return 0;			/* the scan to come will see it */
		return publish_message(ring, message, now);
	}
	if ((message->flags & MSG_CLAIMED) == 0 || slot == 0)
		return 0;
	Assert(pgmq_xact_holds_slot(ring, message));
	if (message->flags & MSG_LEASED)
		pgmq_ring_lease(ring, slot, message->lease.read_ct,
						message->lease.visible_at, now);
	else
		pgmq_ring_settle(ring, slot, now);
	return ring_slot(slot)->state == SLOT_READY;
}

/* What a message that we sent is to the ring. */
static ScannedRow
as_row(const XactMessage *message)
{
	ScannedRow	row = {0};

	row.msg_id = message->msg_id;
	row.tid = message->tid;
	row.read_ct = message->lease.read_ct;
	row.visible_at = message->lease.visible_at;
	row.group_hash = message->group_hash;
	return row;
}

/*
 * Apply up to max messages from m of the chain on, as far as they were sent and not deleted:
 * as one run, where the ring takes them so, and the others one by one.  Returns how many;
 * adds to *n_ready what apply_message() returns.  Caller holds L4.
 */
static int
apply_sent(Ring *ring, int m, int max, TimestampTz now, uint32 *n_ready)
{
	int			messages[RING_BATCH_SLOTS];
	ScannedRow	rows[RING_BATCH_SLOTS];
	int			n = 0;
	int			run;

	if (ring->phase == RING_INCOMPLETE || meets_scan(ring, pgmq_xact.messages[m].queue))
		return 0;
	for (; m >= 0 && n < max; m = pgmq_xact.messages[m].next)
	{
		if ((pgmq_xact.messages[m].flags & (MSG_SENT | MSG_DELETED)) != MSG_SENT)
			break;
		messages[n++] = m;
	}
	if (n < RUN_MIN)
		return 0;

	/* Unless the chain was sorted */
	if (pgmq_xact.messages[messages[0]].msg_id > pgmq_xact.messages[messages[n - 1]].msg_id)
		pgmq_xact_reverse(messages, n);
	for (int i = 0; i < n; i++)
		rows[i] = as_row(&pgmq_xact.messages[messages[i]]);
	run = pgmq_ring_publish_run(ring, &pgmq_xact.reserved, rows, n, now);
	for (int i = 0; i < run; i++)
		*n_ready += rows[i].visible_at <= now;
	for (int i = run; i < n; i++)
		*n_ready += apply_message(ring, &pgmq_xact.messages[messages[i]], now);
	return n;
}

/* The same for messages that we have leased. */
static int
apply_leases(Ring *ring, int m, int max, TimestampTz now, uint32 *n_ready)
{
	SlotLease	leases[RING_BATCH_SLOTS];
	int			n = 0;

	for (; m >= 0 && n < max; m = pgmq_xact.messages[m].next)
	{
		XactMessage *message = &pgmq_xact.messages[m];

		if ((message->flags & (MSG_SENT | MSG_DELETED | MSG_CLAIMED | MSG_LEASED)) !=
			(MSG_CLAIMED | MSG_LEASED) || message->slot == 0)
			break;
		Assert(pgmq_xact_holds_slot(ring, message));
		leases[n++] = (SlotLease) {message->slot, message->lease.read_ct, message->lease.visible_at};
	}
	if (n < RUN_MIN)
		return 0;
	*n_ready += pgmq_ring_lease_run(ring, leases, n, now);
	return n;
}

/*
 * Where a queue's messages take more than one hold of the lock: what was sent
 * comes first, nobody reading by group until it is all there (Ring.n_partial);
 * then what was held, the highest msg_id first, so that the first message of a
 * group comes back, or goes, when the rest of it has.
 */
static bool
comes_before(const XactMessage *a, const XactMessage *b)
{
	bool		a_is_sent = (a->flags & MSG_SENT) != 0;
	bool		b_is_sent = (b->flags & MSG_SENT) != 0;

	if (a_is_sent != b_is_sent)
		return a_is_sent;
	return a_is_sent ? a->msg_id < b->msg_id : a->msg_id > b->msg_id;
}

static int
merge_chains(int a, int b)
{
	int			first = -1;
	int		   *link = &first;

	while (a >= 0 && b >= 0)
	{
		int		   *from = comes_before(&pgmq_xact.messages[b], &pgmq_xact.messages[a]) ? &b : &a;

		*link = *from;
		link = &pgmq_xact.messages[*from].next;
		*from = *link;
	}
	*link = a >= 0 ? a : b;
	return first;
}

/* Sort a queue's chain of messages by merging; in place, so it cannot fail. */
static void
sort_chain(XactQueue *queue)
{
	int			runs[32];		/* sorted chains of 1, 2, 4, ... messages */
	int			m = queue->first_message;

	memset(runs, -1, sizeof(runs));
	while (m >= 0)
	{
		int			next = pgmq_xact.messages[m].next;
		int			i = 0;

		pgmq_xact.messages[m].next = -1;
		for (; runs[i] >= 0; i++)
		{
			m = merge_chains(runs[i], m);
			runs[i] = -1;
		}
		runs[i] = m;
		m = next;
	}
	queue->first_message = -1;
	for (int i = 0; i < lengthof(runs); i++)
		queue->first_message = merge_chains(runs[i], queue->first_message);
}

/* All messages of a queue, a batch per hold of the lock. */
static void
apply_queue(XactQueue *queue, TimestampTz now)
{
	Ring	   *ring = queue->ring;
	TransactionId xid = GetTopTransactionIdIfAny();
	bool		in_parts = queue->n_messages > RING_BATCH_SLOTS;
	bool		is_first = true;
	WakeList	wake;
	int			m;

	if (in_parts)
		sort_chain(queue);
	m = queue->first_message;
	while (m >= 0)
	{
		uint32		n_ready = 0;
		int64		count;

		wake.n = 0;
		PGMQ_WAITPOINT("commit-apply-begin");
		ring_lock(ring, LW_EXCLUSIVE);
		count = pgmq_ring_count(ring);
		ring->n_partial += in_parts && is_first;
		is_first = false;
		for (int i = 0; i < RING_BATCH_SLOTS && m >= 0;)
		{
			int			n = apply_sent(ring, m, RING_BATCH_SLOTS - i, now, &n_ready);

			if (n == 0)
				n = apply_leases(ring, m, RING_BATCH_SLOTS - i, now, &n_ready);
			if (n == 0)
			{
				n_ready += apply_message(ring, &pgmq_xact.messages[m], now);
				n = 1;
			}
			for (i += n; n > 0; n--)
				m = pgmq_xact.messages[m].next;
		}
		pgmq_ring_note_count(ring, xid, count);
		ring->n_partial -= in_parts && m < 0;
		pgmq_ring_wake(ring, n_ready, &wake);
		PGMQ_CRASHPOINT("commit-applied");
		ring_unlock(ring);
		PGMQ_WAITPOINT("commit-apply-end");
		pgmq_wake_all(&wake);
	}
}

static void
at_commit(void)
{
	TimestampTz now;

	PGMQ_WAITPOINT("commit-begin");
	pgmq_xact_end_turns(true);
	if (pgmq_xact.n_queues == 0)
		return;
	now = pgmq_clock_now();
	for (int i = 0; i < pgmq_xact.n_queues; i++)
	{
		XactQueue  *queue = pgmq_xact.queues[i];

		if (queue->n_messages == 0 && !queue->drop_at_commit &&
			!queue->is_collapsed && !queue->must_rebuild)
			continue;
		if (queue->ring == NULL)
			queue->ring = pgmq_ring_find(&queue->locator);
		if (queue->ring == NULL)
			continue;
		apply_queue(queue, now);
		if (queue->drop_at_commit)
			pgmq_ring_remove(&queue->locator);
		else if (queue->is_collapsed || queue->must_rebuild)
			mark_for_rebuild(queue->ring);
	}
	pgmq_pool_free_chain(&pgmq_xact.reserved);
}

/* ---- abort ---- */

static void
count_dead_sends(XactQueue *queue)
{
	uint64		n = 0;

	for (int m = queue->first_message; m >= 0; m = pgmq_xact.messages[m].next)
		n += (pgmq_xact.messages[m].flags & MSG_SENT) != 0;
	if (n == 0 || queue->ring == NULL)
		return;
	PGMQ_WAITPOINT("abort-count-begin");
	ring_lock(queue->ring, LW_EXCLUSIVE);
	queue->ring->n_dead += n;
	ring_unlock(queue->ring);
	PGMQ_WAITPOINT("abort-count-end");
}

/*
 * Give back what is held, of each queue the highest msg_id first: whoever takes the first
 * message of a group finds all that follow it, whatever becomes of those before it meanwhile.
 */
static void
release_all(TimestampTz now)
{
	for (int i = 0; i < pgmq_xact.n_queues; i++)
	{
		sort_chain(pgmq_xact.queues[i]);
		for (int m = pgmq_xact.queues[i]->first_message; m >= 0; m = pgmq_xact.messages[m].next)
		{
			WakeList	wake;

			wake.n = 0;
			pgmq_xact_release_message(&pgmq_xact.messages[m], 0, now, &wake);
			pgmq_wake_all(&wake);
		}
	}
}

static void
at_abort(void)
{
	TimestampTz now;

	PGMQ_WAITPOINT("abort-begin");
	pgmq_xact_guard_abort();
	pgmq_xact_build_abort();
	pgmq_xact_sleep_abort();
	pgmq_xact_end_turns(false);
	if (pgmq_xact.n_queues == 0)
		return;
	now = pgmq_clock_now();
	release_all(now);
	PGMQ_WAITPOINT("abort-released");
	for (int i = 0; i < pgmq_xact.n_queues; i++)
	{
		count_dead_sends(pgmq_xact.queues[i]);
		if (pgmq_xact.queues[i]->drop_at_abort)
			pgmq_ring_remove(&pgmq_xact.queues[i]->locator);
		else if (pgmq_xact.queues[i]->is_collapsed && pgmq_xact.queues[i]->ring != NULL)
			mark_for_rebuild(pgmq_xact.queues[i]->ring);
	}
	if (pgmq_xact.reserved != 0)
		pgmq_pool_free_chain(&pgmq_xact.reserved);
}

/* ---- prepare ---- */

/*
 * The prepared transaction decides about a message.  Nobody tells sleepers of that, so the
 * first of them looks at the clock from now on.  Caller holds L4.
 */
static void
prepare_message(Ring *ring, XactMessage *message, TransactionId xid,
				TimestampTz now, WakeList *wake)
{
	uint32		slot = message->slot;

	if ((message->flags & (MSG_SENT | MSG_DELETED)) == MSG_SENT)
	{
		if (ring->phase != RING_INCOMPLETE)
		{
			slot = pgmq_ring_publish(ring, &pgmq_xact.reserved, message->msg_id,
									 &message->tid, message->lease.read_ct,
									 message->lease.visible_at, message->group_hash, now);
			if (slot != 0)
				pgmq_ring_to_limbo(ring, slot, xid, true);
		}
	}
	else if (message->flags & MSG_SENT)
		return;
	else if (message->flags & MSG_DELETED)
	{
		if (slot == 0)
			slot = pgmq_ring_lookup(ring, message->msg_id, &message->tid);
		if (slot == 0)
			ring->withdraw_epoch++; /* a scan may have seen the row undeleted */
		else if (pgmq_xact_is_looked_at(slot))
			pgmq_ring_doubt(ring, slot);
		else
			pgmq_ring_to_limbo(ring, slot, xid, false);
	}
	else if ((message->flags & MSG_CLAIMED) && slot != 0)
	{
		pgmq_ring_settle(ring, slot, now);
		ring->ready_seq++;
		pgmq_ring_wake(ring, 1, wake);
	}
	pgmq_ring_wake_first(ring, wake);
}

static void
at_prepare(void)
{
	TransactionId xid = GetTopTransactionIdIfAny();
	TimestampTz now = pgmq_clock_now();
	WakeList	wake;

	PGMQ_WAITPOINT("prepare-begin");
	Assert(pgmq_xact.n_turns == 0); /* it would have failed */
	for (int i = 0; i < pgmq_xact.n_queues; i++)
	{
		XactQueue  *queue = pgmq_xact.queues[i];

		if (queue->ring == NULL)
			queue->ring = pgmq_ring_find(&queue->locator);
		if (queue->ring == NULL)
			continue;

		/*
		 * Storage that is replaced: nobody tells us which of the two stays.
		 * Nobody else is at them either, so forget both rings; who comes after
		 * the decision has the right one built.
		 */
		if (queue->drop_at_commit || queue->drop_at_abort)
		{
			pgmq_ring_remove(&queue->locator);
			continue;
		}
		for (int m = queue->first_message; m >= 0; m = pgmq_xact.messages[m].next)
		{
			wake.n = 0;
			PGMQ_WAITPOINT("prepare-message-begin");
			ring_lock(queue->ring, LW_EXCLUSIVE);
			prepare_message(queue->ring, &pgmq_xact.messages[m], xid, now, &wake);
			PGMQ_CRASHPOINT("prepare-message-done");
			ring_unlock(queue->ring);
			pgmq_wake_all(&wake);
			PGMQ_WAITPOINT("prepare-message-end");
		}
		/* Whatever happens to the storage, nobody tells us: rebuild. */
		if (queue->is_collapsed || queue->must_rebuild)
			mark_for_rebuild(queue->ring);
	}
	pgmq_pool_free_chain(&pgmq_xact.reserved);
}

/* ---- callbacks ---- */

static void
xact_callback(XactEvent event, void *arg)
{
	switch (event)
	{
		case XACT_EVENT_PRE_COMMIT:
			before_commit();
			return;
		case XACT_EVENT_PRE_PREPARE:
			before_prepare();
			return;
		case XACT_EVENT_PARALLEL_PRE_COMMIT:
			PGMQ_FAILPOINT("parallel-pre-commit");
			return;
		case XACT_EVENT_COMMIT:
			at_commit();
			PGMQ_WAITPOINT("commit-end");
			break;
		case XACT_EVENT_PREPARE:
			at_prepare();
			PGMQ_WAITPOINT("prepare-end");
			break;
		case XACT_EVENT_ABORT:
			at_abort();
			PGMQ_WAITPOINT("abort-end");
			break;
		case XACT_EVENT_PARALLEL_COMMIT:
			PGMQ_WAITPOINT("parallel-commit");
			break;
		case XACT_EVENT_PARALLEL_ABORT:
			PGMQ_WAITPOINT("parallel-abort");
			break;
	}
	pgmq_xact_reset();
}

static void
subxact_callback(SubXactEvent event, SubTransactionId my_subid,
				 SubTransactionId parent_subid, void *arg)
{
	switch (event)
	{
		case SUBXACT_EVENT_START_SUB:
			PGMQ_FAILPOINT("savepoint-start");
			break;
		case SUBXACT_EVENT_PRE_COMMIT_SUB:
			PGMQ_FAILPOINT("savepoint-pre-commit");
			break;
		case SUBXACT_EVENT_COMMIT_SUB:
			PGMQ_WAITPOINT("savepoint-commit-begin");
			pgmq_xact_end_savepoint(true);
			pgmq_xact_merge_changes(GetCurrentTransactionNestLevel());
			pgmq_xact_merge_notifies(GetCurrentTransactionNestLevel());
			PGMQ_WAITPOINT("savepoint-commit-end");
			break;
		case SUBXACT_EVENT_ABORT_SUB:
			PGMQ_WAITPOINT("savepoint-abort-begin");
			pgmq_xact_guard_abort();
			pgmq_xact_build_abort();
			pgmq_xact_sleep_abort();
			pgmq_xact_undo_changes(GetCurrentTransactionNestLevel());
			pgmq_xact_undo_notifies(GetCurrentTransactionNestLevel());
			pgmq_xact_end_savepoint(false);
			PGMQ_WAITPOINT("savepoint-abort-end");
			break;
	}
}

/* Called once, by _PG_init. */
void
pgmq_xact_init(const XactStorage *xact_storage)
{
	storage = xact_storage;
	pgmq_xact_notify_init(xact_storage);
	RegisterXactCallback(xact_callback, NULL);
	RegisterSubXactCallback(subxact_callback, NULL);
}
