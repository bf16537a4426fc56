/*
 * ring_removed.c
 *	  The rows that were removed from a ring last, for those who look at the
 *	  table with a snapshot that still sees them.
 *
 * A ring says what is there now.  Who looks by a snapshot must also find rows
 * that were deleted (or replaced by an update) by transactions which that
 * snapshot takes for running.  The log has the last RING_REMOVED_LOG of them,
 * with the transaction of each; of those before, removed_horizon is the newest
 * transaction.  A row that nobody sees any more may have been vacuumed and its
 * place taken by another: an entry is a hint, as a slot is.
 *
 * Callers hold the ring's L4: exclusively to add, at least shared to look.
 */
#include "common/compat.h"

#include "access/transam.h"
#include "shmem/ring_internal.h"

/* The i-th removal since the ring was made; one of the last RING_REMOVED_LOG. */
static RemovedEntry *
entry_of(const Ring *ring, uint64 i)
{
	return &pgmq_shared->removed[(uint64) ring->index * RING_REMOVED_LOG + i % RING_REMOVED_LOG];
}

/* The id that the next transaction will have, with its epoch. */
uint64
pgmq_next_full_xid(void)
{
	return U64FromFullTransactionId(ReadNextFullTransactionId());
}

/* The transaction id before one with its epoch. */
TransactionId
pgmq_xid_before(uint64 full_xid)
{
	TransactionId xid = (TransactionId) full_xid;

	TransactionIdRetreat(xid);
	return xid;
}

/* No transaction that has ended by now is newer. */
TransactionId
pgmq_newest_xid(void)
{
	return pgmq_xid_before(pgmq_next_full_xid());
}

/*
 * Transactions up to xid may have removed rows that the log does not have.
 */
void
pgmq_ring_raise_horizon(Ring *ring, TransactionId xid)
{
	if (!TransactionIdIsValid(ring->removed_horizon) ||
		TransactionIdFollows(xid, ring->removed_horizon))
		ring->removed_horizon = xid;
}

/* A committed transaction has removed the row at tid. */
void
pgmq_ring_note_removed(Ring *ring, int64 msg_id, const ItemPointerData *tid,
					   TransactionId xid)
{
	RemovedEntry *entry = entry_of(ring, ring->n_removed);

	if (ring->n_removed >= RING_REMOVED_LOG)
		pgmq_ring_raise_horizon(ring, entry->xid);
	entry->id_high = (uint32) ((uint64) msg_id >> 32);
	entry->id_low = (uint32) msg_id;
	entry->tid = *tid;
	entry->xid = xid;
	ring->n_removed++;
}

/*
 * Copy the logged rows with a msg_id from low_id to high_id to rows, which has
 * room for RING_REMOVED_LOG; returns how many.
 */
int
pgmq_ring_removed(const Ring *ring, int64 low_id, int64 high_id, RemovedRow *rows)
{
	uint64		first = ring->n_removed > RING_REMOVED_LOG ? ring->n_removed - RING_REMOVED_LOG : 0;
	int			n = 0;

	for (uint64 i = first; i < ring->n_removed; i++)
	{
		const RemovedEntry *entry = entry_of(ring, i);
		int64		msg_id = (int64) ((uint64) entry->id_high << 32 | entry->id_low);

		if (msg_id >= low_id && msg_id <= high_id)
			rows[n++] = (RemovedRow) {msg_id, entry->tid, entry->xid};
	}
	return n;
}
