/*
 * ring_bulk.c
 *	  Many messages at a time enter a ring, or are leased.
 *
 * A scan of the table meets rows in the order in which they were written, which is mostly
 * that of their msg_id, and so does a batch that is sent: their slots belong to one place of
 * BY_ID, and of READY or WAITING, where nothing else is.  Such a run is found, and linked, as
 * one; and so are leases of one call, which end at the same time.  The result is the same,
 * slot by slot, as of one pgmq_ring_publish() or pgmq_ring_lease() after the other.
 *
 * Called under the ring's L4, exclusively.  What is not the usual case is left to the caller.
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "shmem/ring_internal.h"

/* The slots of a run, by the tree that they go to. */
typedef struct Run
{
	int			n;
	int			n_ready;
	int			n_waiting;
	uint32		slots[RING_BATCH_SLOTS];
	uint32		ready[RING_BATCH_SLOTS];
	uint32		waiting[RING_BATCH_SLOTS];
} Run;

#define ST_SORT sort_waiting
#define ST_ELEMENT_TYPE uint32
#define ST_COMPARE(a, b) compare_waiting(*(a), *(b))
#define ST_SCOPE static
#define ST_DECLARE
#define ST_DEFINE

/* The order of WAITING. */
static inline int
compare_waiting(uint32 a, uint32 b)
{
	TimestampTz at_a = ring_slot(a)->visible_at;
	TimestampTz at_b = ring_slot(b)->visible_at;

	if (at_a != at_b)
		return at_a < at_b ? -1 : 1;
	return a < b ? -1 : 1;
}

#include "lib/sort_template.h"

/*
 * How many of the rows, from the first on, make a run: they are committed, their ids ascend,
 * and the ring has no slot with an id among theirs.
 */
static int
run_length(const Ring *ring, const ScannedRow *rows, int n)
{
	uint32		next = pgmq_tree_next(ring, TREE_BY_ID, rows[0].msg_id, 0);
	int64		limit = next != 0 ? ring_slot(next)->msg_id : PG_INT64_MAX;
	int			i;

	for (i = 0; i < Min(n, RING_BATCH_SLOTS); i++)
		if (TransactionIdIsValid(rows[i].undecided) || rows[i].msg_id >= limit ||
			(i > 0 && rows[i].msg_id <= rows[i - 1].msg_id))
			break;
	return i;
}

/* A slot for a row, in no tree yet. */
static inline void
add_slot(Ring *ring, Run *run, uint32 slot, const ScannedRow *row, TimestampTz now)
{
	RingSlot   *s = ring_slot(slot);

	pgmq_slot_init(ring, slot, row->msg_id, &row->tid);
	s->read_ct = row->read_ct;
	s->visible_at = row->visible_at;
	run->slots[run->n++] = slot;
	if (row->visible_at <= now)
	{
		s->state = SLOT_READY;
		pgmq_ring_note_ready(ring, row->msg_id);
		run->ready[run->n_ready++] = slot;
	}
	else
	{
		s->state = SLOT_WAITING;
		run->waiting[run->n_waiting++] = slot;
	}
}

static void
link_run(Ring *ring, Run *run)
{
	pgmq_tree_insert_run(ring, TREE_BY_ID, run->slots, run->n);
	if (run->n_ready > 0)
		pgmq_tree_insert_run(ring, TREE_READY, run->ready, run->n_ready);
	if (run->n_waiting > 0)
	{
		sort_waiting(run->waiting, run->n_waiting);
		pgmq_tree_insert_run(ring, TREE_WAITING, run->waiting, run->n_waiting);
	}
	ring->ready_seq += run->n_ready;
}

/*
 * Publish rows from the first on, as far as they make a run and *chain has slots for them;
 * returns how many.  0: the first row needs a look of its own, or the ring keeps groups.
 */
int
pgmq_ring_publish_run(Ring *ring, uint32 *chain, const ScannedRow *rows, int n,
					  TimestampTz now)
{
	int			length = ring->is_grouped || *chain == 0 ? 0 : run_length(ring, rows, n);
	Run			run;

	if (length == 0)
		return 0;
	PGMQ_CRASHPOINT("ring-publish-run-begin");
	run.n = run.n_ready = run.n_waiting = 0;
	while (run.n < length && *chain != 0)
		add_slot(ring, &run, pgmq_pool_take(chain), &rows[run.n], now);
	link_run(ring, &run);
	if (rows[run.n - 1].msg_id > (int64) pg_atomic_read_u64(&ring->high_id))
		pg_atomic_write_u64(&ring->high_id, (uint64) rows[run.n - 1].msg_id);
	PGMQ_CRASHPOINT("ring-publish-run-end");
	return run.n;
}

/*
 * The owner's leases are committed: what pgmq_ring_lease() does with one after the other, at
 * most RING_BATCH_SLOTS; returns how many are ready.
 */
int
pgmq_ring_lease_run(Ring *ring, const SlotLease *leases, int n, TimestampTz now)
{
	uint32		waiting[RING_BATCH_SLOTS];
	int			n_waiting = 0;
	int			n_ready = 0;

	PGMQ_CRASHPOINT("ring-lease-run-begin");
	for (int i = 0; i < n; i++)
	{
		uint32		slot = leases[i].slot;

		if (leases[i].visible_at > now && ring_slot(slot)->group == 0)
		{
			pgmq_slot_lease(ring, slot, leases[i].read_ct, leases[i].visible_at);
			ring_slot(slot)->state = SLOT_WAITING;
			waiting[n_waiting++] = slot;
			continue;
		}
		pgmq_ring_lease(ring, slot, leases[i].read_ct, leases[i].visible_at, now);
		n_ready += ring_slot(slot)->state == SLOT_READY;
	}
	if (n_waiting > 0)
	{
		sort_waiting(waiting, n_waiting);
		pgmq_tree_insert_run(ring, TREE_WAITING, waiting, n_waiting);
	}
	PGMQ_CRASHPOINT("ring-lease-run-end");
	return n_ready;
}
