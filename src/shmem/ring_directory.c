/*
 * ring_directory.c
 *	  Which ring belongs to which relation file.
 *
 * Keyed by the full relation file locator, so that TRUNCATE, VACUUM FULL,
 * CLUSTER, SET ACCESS METHOD and their rollbacks select the right ring by
 * themselves.  The directory is a dynahash in shared memory under L3, held
 * for a probe; a ring that is found stays valid as long as the caller holds a
 * lock on the relation, because removing it takes an exclusive one.
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "common/settings.h"
#include "shmem/ring_internal.h"
#include "storage/shmem.h"
#include "utils/hsearch.h"

typedef struct DirectoryEntry
{
	RelFileLocator locator;		/* key */
	int			index;
} DirectoryEntry;

static HTAB *directory = NULL;
static int	free_hint = 0;		/* where this backend looks for a free ring */

Size
pgmq_ring_directory_size(void)
{
	return hash_estimate_size(pgmq_max_hot_queues, sizeof(DirectoryEntry));
}

void
pgmq_ring_directory_init(void)
{
	HASHCTL		ctl;

	ctl.keysize = sizeof(RelFileLocator);
	ctl.entrysize = sizeof(DirectoryEntry);
	directory = ShmemInitHash("pgmq ring directory",
							  pgmq_max_hot_queues, pgmq_max_hot_queues,
							  &ctl, HASH_ELEM | HASH_BLOBS | HASH_FIXED_SIZE);
}

int
pgmq_ring_limit(void)
{
	return pgmq_shared->n_rings;
}

/* How many rings belong to a file; may change at any time. */
int
pgmq_rings_used(void)
{
	return pgmq_shared->n_rings_used;
}

Ring *
pgmq_ring_by_index(int index)
{
	return &pgmq_shared->rings[index].ring;
}

static Ring *
probe(const RelFileLocator *locator)
{
	DirectoryEntry *entry = hash_search(directory, locator, HASH_FIND, NULL);

	return entry ? pgmq_ring_by_index(entry->index) : NULL;
}

/* The ring of a relation file, or NULL.  Takes L3 shared. */
Ring *
pgmq_ring_find(const RelFileLocator *locator)
{
	Ring	   *ring;

	if (pgmq_shared == NULL)
		return NULL;
	LWLockAcquire(pgmq_shared->directory_lock, LW_SHARED);
	ring = probe(locator);
	LWLockRelease(pgmq_shared->directory_lock);
	return ring;
}

/* A ring nobody uses, or NULL.  Caller holds L3 exclusively. */
static Ring *
find_free_ring(void)
{
	for (int i = 0; i < pgmq_shared->n_rings; i++)
	{
		int			index = (free_hint + i) % pgmq_shared->n_rings;

		if (!pgmq_ring_by_index(index)->in_use)
		{
			free_hint = index + 1;
			return pgmq_ring_by_index(index);
		}
	}
	return NULL;
}

/* Of what was removed from the file before next_xid, with its epoch, it knows nothing. */
static void
reset_ring(Ring *ring, const RelFileLocator *locator, Oid relid, RingPhase phase,
		   uint64 next_xid)
{
	PGMQ_CRASHPOINT("ring-reset-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	ring->locator = *locator;
	ring->relid = relid;
	ring->phase = phase;
	ring->builder = -1;
	ring->must_discard = false;
	ring->must_rescan = false;
	ring->is_grouped = false;
	memset(ring->roots, 0, sizeof(ring->roots));
	memset(ring->counts, 0, sizeof(ring->counts));
	ring->n_limbo_inserts = 0;
	ring->n_doubtful = 0;
	pg_atomic_write_u32(&ring->n_undo, 0);
	pg_atomic_write_u64(&ring->high_id, (uint64) PG_INT64_MIN);
	ring->lease_seq = ring->forgotten_seq = RING_FIRST_SEQ;
	ring->highest_ready = PG_INT64_MIN;
	ring->late_seq = ++pgmq_shared->n_rings_made << 32; /* never seen before */
	ring->cold_map = -1;
	ring->cold_seq = 0;
	pgmq_cold_reset(ring);
	ring->n_partial = 0;
	pgmq_ring_begin_logs(ring, next_xid);
	ring->n_dead = 0;
	ring->vacuumed_at = 0;
	ring->first_waiter = ring->last_waiter = -1;
	ring->in_use = true;
	ring_unlock(ring);
	PGMQ_CRASHPOINT("ring-reset-end");
}

/*
 * The ring of a relation file, made in the given phase where there is none.
 * NULL if pgmq.max_hot_queues are in use.  Takes L3, then L4.
 */
Ring *
pgmq_ring_find_or_create(const RelFileLocator *locator, Oid relid,
						 RingPhase phase)
{
	Ring	   *ring = pgmq_ring_find(locator);
	uint64		next_xid;
	bool		found;
	DirectoryEntry *entry;

	if (ring != NULL || pgmq_shared == NULL)
		return ring;
	if (pgmq_shared->n_rings_used == pgmq_shared->n_rings)
		return NULL;			/* stale: the next call sees that one is free */
	next_xid = pgmq_next_full_xid();
	PGMQ_WAITPOINT("ring-create-begin");
	LWLockAcquire(pgmq_shared->directory_lock, LW_EXCLUSIVE);
	ring = probe(locator);
	if (ring == NULL && (ring = find_free_ring()) != NULL)
	{
		entry = hash_search(directory, locator, HASH_ENTER_NULL, &found);
		if (entry == NULL)
			ring = NULL;
		else
		{
			entry->index = ring->index;
			pgmq_shared->n_rings_used++;
			reset_ring(ring, locator, relid, phase, next_xid);
		}
	}
	LWLockRelease(pgmq_shared->directory_lock);
	PGMQ_WAITPOINT("ring-create-end");
	return ring;
}

/*
 * Take every slot of a ring away, in the order of msg_id: from the root down,
 * slots would become free in the order of their priorities, and a tree made of
 * them anew would be a list.  Caller holds L3 and nobody else uses the ring.
 */
static void
empty_ring(Ring *ring)
{
	WakeList	wake;
	uint32		slot;

	do
	{
		wake.n = 0;
		PGMQ_CRASHPOINT("ring-empty-begin");
		ring_lock(ring, LW_EXCLUSIVE);
		for (int i = 0; i < RING_BATCH_SLOTS &&
			 (slot = pgmq_tree_first(ring, TREE_BY_ID)) != 0; i++)
		{
			if (ring_slot(slot)->tree != TREE_NONE)
				pgmq_tree_remove(ring, ring_slot(slot)->tree, slot);
			pgmq_group_leave(ring, slot);
			pgmq_tree_remove(ring, TREE_BY_ID, slot);
			pgmq_pool_free(slot);
		}
		slot = ring->roots[TREE_BY_ID];
		pgmq_cold_reset(ring);
		pgmq_ring_wake(ring, RING_WAKE_BATCH, &wake);
		if (slot == 0 && ring->first_waiter == -1)
			ring->in_use = false;
		ring_unlock(ring);
		PGMQ_CRASHPOINT("ring-empty-end");
		pgmq_wake_all(&wake);
	} while (ring->in_use);
}

static void
remove_entry(const RelFileLocator *locator)
{
	Ring	   *ring = probe(locator);

	if (ring == NULL)
		return;
	hash_search(directory, locator, HASH_REMOVE, NULL);
	empty_ring(ring);
	pgmq_shared->n_rings_used--;
}

/*
 * Forget a relation file, its storage being dropped.  Memory only, so it may
 * run in the COMMIT and ABORT callbacks.  Takes L3, then L4.
 */
void
pgmq_ring_remove(const RelFileLocator *locator)
{
	PGMQ_WAITPOINT("ring-remove-begin");
	LWLockAcquire(pgmq_shared->directory_lock, LW_EXCLUSIVE);
	remove_entry(locator);
	LWLockRelease(pgmq_shared->directory_lock);
	PGMQ_WAITPOINT("ring-remove-end");
}

/* Forget all relation files of a dropped database. */
void
pgmq_ring_remove_database(Oid dbid)
{
	PGMQ_WAITPOINT("ring-remove-database-begin");
	LWLockAcquire(pgmq_shared->directory_lock, LW_EXCLUSIVE);
	for (int i = 0; i < pgmq_shared->n_rings; i++)
	{
		Ring	   *ring = pgmq_ring_by_index(i);
		RelFileLocator locator = ring->locator;

		if (ring->in_use && LOCATOR_DB(locator) == dbid)
			remove_entry(&locator);
	}
	LWLockRelease(pgmq_shared->directory_lock);
	PGMQ_WAITPOINT("ring-remove-database-end");
}
