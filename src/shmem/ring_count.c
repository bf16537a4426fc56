/*
 * ring_count.c
 *	  How many messages a ring has, for those who count the table's rows with a
 *	  snapshot that is older than now.
 *
 * The number is there at any time.  A snapshot may not see the transactions that
 * changed it last: the log has the last RING_COUNT_LOG of them, each with its
 * change.  Of those before, and of changes whose transaction is not known,
 * count_horizon is the newest transaction.
 *
 * Callers hold the ring's L4: exclusively to add, at least shared to look.
 */
#include "common/compat.h"

#include "access/transam.h"
#include "shmem/ring_internal.h"

/* Messages whose rows are committed, as far as the ring has been told. */
int64
pgmq_ring_count(const Ring *ring)
{
	return (int64) ring->counts[TREE_BY_ID] - ring->n_limbo_inserts;
}

/* Transactions up to xid may have changed the count, and the log does not say so. */
void
pgmq_ring_raise_count_horizon(Ring *ring, TransactionId xid)
{
	if (!TransactionIdIsValid(ring->count_horizon) ||
		TransactionIdFollows(xid, ring->count_horizon))
		ring->count_horizon = xid;
}

/* Transaction xid, committed, has changed the count, which was `before` until now. */
void
pgmq_ring_note_count(Ring *ring, TransactionId xid, int64 before)
{
	int32		change = (int32) (pgmq_ring_count(ring) - before);
	CountChange *entry;

	if (change == 0)
		return;
	if (!TransactionIdIsNormal(xid))
	{
		pgmq_ring_raise_count_horizon(ring, pgmq_newest_xid());
		return;
	}
	if (ring->n_count_changes > 0)
	{
		entry = &ring->count_log[(ring->n_count_changes - 1) % RING_COUNT_LOG];
		if (entry->xid == xid)
		{
			entry->change += change;
			return;
		}
	}
	entry = &ring->count_log[ring->n_count_changes % RING_COUNT_LOG];
	if (ring->n_count_changes >= RING_COUNT_LOG)
		pgmq_ring_raise_count_horizon(ring, entry->xid);
	entry->xid = xid;
	entry->change = change;
	ring->n_count_changes++;
}

/* Copy the log to changes, which has room for RING_COUNT_LOG; returns its length. */
int
pgmq_ring_count_changes(const Ring *ring, CountChange *changes)
{
	int			n = (int) Min(ring->n_count_changes, RING_COUNT_LOG);

	memcpy(changes, ring->count_log, n * sizeof(CountChange));
	return n;
}

/* ---- this log's age, and that of ring_removed.c's ---- */

/* Begin both logs, of transactions from next_xid on. */
void
pgmq_ring_begin_logs(Ring *ring, uint64 next_xid)
{
	ring->n_removed = 0;
	ring->n_count_changes = 0;
	ring->removed_horizon = ring->count_horizon = pgmq_xid_before(next_xid);
	ring->logs_since = next_xid;
}

RingLogs
pgmq_ring_logs(const Ring *ring)
{
	return (RingLogs) {
		ring->logs_since, ring->n_removed, ring->n_count_changes, ring->removed_horizon,
		ring->count_horizon
	};
}

/*
 * Could the logs' transactions be taken for future ones, now or soon?  Then nobody may count
 * by them; queries for rows are safe, but may take the horizon for one ahead of them and scan
 * the table.
 */
bool
pgmq_ring_logs_are_old(const Ring *ring, uint64 next_xid)
{
	return next_xid >= ring->logs_since + RING_LOGS_MAX_AGE;
}

/*
 * Begin logs anew that are so old, provided that they are as they were when the caller saw
 * them, before it asked for next_xid: so no transaction in them is newer than that.
 */
void
pgmq_ring_renew_logs(Ring *ring, const RingLogs *seen, uint64 next_xid)
{
	RingLogs	now = pgmq_ring_logs(ring);

	if (pgmq_ring_logs_are_old(ring, next_xid) && now.since == seen->since &&
		now.n_removed == seen->n_removed && now.n_count_changes == seen->n_count_changes &&
		now.removed_horizon == seen->removed_horizon && now.count_horizon == seen->count_horizon)
		pgmq_ring_begin_logs(ring, next_xid);
}
