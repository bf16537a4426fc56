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

/*
 * Could the log's transactions soon be taken for future ones?  Not where its horizon is
 * newer by a little than newest_xid, which was read before.
 */
bool
pgmq_ring_count_log_is_old(const Ring *ring, TransactionId newest_xid)
{
	uint32		age = newest_xid - ring->count_horizon;

	return age >= COUNT_LOG_MAX_AGE && age <= PG_UINT32_MAX - COUNT_LOG_MAX_AGE;
}

/*
 * Forget a log that is so old that its transactions could soon be taken for future
 * ones; for whoever vacuums.  Until then nobody counts by it.
 */
void
pgmq_ring_age_count_log(Ring *ring, TransactionId newest_xid)
{
	if (!pgmq_ring_count_log_is_old(ring, newest_xid))
		return;
	ring->count_horizon = newest_xid;
	ring->n_count_changes = 0;
}
