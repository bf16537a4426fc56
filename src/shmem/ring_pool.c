/*
 * ring_pool.c
 *	  The shared memory of all rings: its size, its layout, and the free list
 *	  of ring slots.
 *
 * Everything is allocated at server start and never grows:
 *
 *	  RingShared   free list, counters
 *	  RingSlot[]   the pool; slot 0 is nil
 *	  Ring[]       pgmq.max_hot_queues of them
 *	  RingBackend[] one per backend (ring_waiters.c)
 *	  RemovedEntry[] a log for each ring (ring_removed.c)
 *	  ColdMap[]    for rings that do not fit the pool (ring_cold.c)
 *	  hash         the directory (ring_directory.c)
 *
 * The free list is guarded by a spinlock that is held for a handful of
 * instructions; backends take slots in chains, chained through by_id.left.
 * A crash forgets it all: the server starts with an empty pool.
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "common/settings.h"
#include "shmem/ring.h"
#include "shmem/ring_internal.h"
#include "storage/ipc.h"
#include "storage/shmem.h"

RingShared *pgmq_shared = NULL;
RingSlot   *pgmq_slots = NULL;

/* Slots moved per hold of the spinlock. */
#define POOL_CHAIN_BATCH 32

static uint32
pool_slots(void)
{
	return (uint32) Min(((uint64) pgmq_ring_memory_kb * 1024) / sizeof(RingSlot),
						(uint64) PG_UINT32_MAX / 2);
}

static int
cold_maps(void)
{
	return Min(pgmq_max_hot_queues,
			   Max(MIN_COLD_MAPS, pgmq_max_hot_queues / QUEUES_PER_COLD_MAP));
}

static Size
shared_size(void)
{
	Size		size = MAXALIGN(sizeof(RingShared));

	size = add_size(size, mul_size(pool_slots() + 1, sizeof(RingSlot)));
	size = add_size(size, mul_size(pgmq_max_hot_queues, sizeof(PaddedRing)));
	size = add_size(size, mul_size(PGMQ_MAX_BACKENDS, sizeof(RingBackend)));
	size = add_size(size, mul_size(pgmq_max_hot_queues, RING_REMOVED_LOG * sizeof(RemovedEntry)));
	size = add_size(size, mul_size(cold_maps(), sizeof(ColdMap)));
	return add_size(size, 4 * PG_CACHE_LINE_SIZE);
}

/* Ask for memory and locks; called while the library is preloaded. */
void
pgmq_ring_shmem_request(void)
{
	RequestAddinShmemSpace(shared_size());
	RequestAddinShmemSpace(pgmq_ring_directory_size());
	RequestNamedLWLockTranche("PgmqDirectory", 1);
}

static void
init_shared(void)
{
	pgmq_shared->ring_tranche = LWLockNewTrancheId();
	SpinLockInit(&pgmq_shared->free_mutex);
	pgmq_shared->free_head = 0;
	pgmq_shared->n_slots = pool_slots();
	pgmq_shared->n_fresh = 1;
	pgmq_shared->n_free = pgmq_shared->n_slots;
	pgmq_shared->n_rings = pgmq_max_hot_queues;
	pgmq_shared->n_rings_used = 0;
	pgmq_shared->n_backends = PGMQ_MAX_BACKENDS;
	pgmq_shared->directory_lock = &(GetNamedLWLockTranche("PgmqDirectory"))->lock;
	for (int i = 0; i < pgmq_shared->n_rings; i++)
	{
		Ring	   *ring = pgmq_ring_by_index(i);

		memset(ring, 0, sizeof(Ring));
		ring->index = i;
		LWLockInitialize(&ring->lock, pgmq_shared->ring_tranche);
		ConditionVariableInit(&ring->phase_changed);
		pg_atomic_init_u32(&ring->n_undo, 0);
		pg_atomic_init_u32(&ring->scan_seq, 0);
		pg_atomic_init_u64(&ring->high_id, 0);
	}
	pgmq_shared->n_cold_maps = cold_maps();
	for (int i = 0; i < pgmq_shared->n_cold_maps; i++)
		pg_atomic_init_u32(&pgmq_shared->cold_maps[i].is_taken, 0);
	for (int i = 0; i < pgmq_shared->n_backends; i++)
	{
		pgmq_shared->backends[i].waits_for = -1;
		pg_atomic_init_u32(&pgmq_shared->backends[i].is_publishing, 0);
	}
}

/* Create or attach; called from shmem_startup_hook. */
void
pgmq_ring_shmem_startup(void)
{
	bool		found;
	char	   *area;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	area = ShmemInitStruct("pgmq rings", shared_size(), &found);
	pgmq_shared = (RingShared *) area;
	area += MAXALIGN(sizeof(RingShared));
	pgmq_slots = (RingSlot *) CACHELINEALIGN(area);
	area = (char *) (pgmq_slots + pool_slots() + 1);
	if (!found)
	{
		pgmq_shared->rings = (PaddedRing *) CACHELINEALIGN(area);
		pgmq_shared->backends = (RingBackend *) (pgmq_shared->rings + pgmq_max_hot_queues);
		pgmq_shared->removed = (RemovedEntry *)
			CACHELINEALIGN(pgmq_shared->backends + PGMQ_MAX_BACKENDS);
		pgmq_shared->cold_maps = (ColdMap *)
			CACHELINEALIGN(pgmq_shared->removed + (Size) pgmq_max_hot_queues * RING_REMOVED_LOG);
		init_shared();
	}
	pgmq_ring_directory_init();
	LWLockRelease(AddinShmemInitLock);
	LWLockRegisterTranche(pgmq_shared->ring_tranche, "PgmqRing");
}

/* Is there a pool, i.e. was the library preloaded? */
bool
pgmq_ring_available(void)
{
	return pgmq_shared != NULL;
}

uint32
pgmq_pool_size(void)
{
	return pgmq_shared->n_slots;
}

/* Unlink one slot from the free list, or 0.  Caller holds the spinlock. */
static uint32
pop_free(void)
{
	uint32		slot = pgmq_shared->free_head;

	if (slot != 0)
		pgmq_shared->free_head = pgmq_slots[slot].by_id.left;
	else if (pgmq_shared->n_fresh <= pgmq_shared->n_slots)
		slot = pgmq_shared->n_fresh++;
	else
		return 0;
	pgmq_shared->n_free--;
	return slot;
}

/*
 * Put up to n free slots in front of *chain; returns how many there were.  They come in
 * the order in which they are taken off: ascending, where they are fresh.
 * Takes no lock but the pool's spinlock; may be called under L4.
 */
uint32
pgmq_pool_reserve(uint32 *chain, uint32 n)
{
	uint32		rest = *chain;
	uint32	   *end = chain;
	uint32		got = 0;

	while (got < n)
	{
		uint32		batch_end = Min(n, got + POOL_CHAIN_BATCH);
		uint32		slot = 0;

		PGMQ_CRASHPOINT("pool-reserve-begin");
		SpinLockAcquire(&pgmq_shared->free_mutex);
		for (; got < batch_end; got++)
		{
			slot = pop_free();
			if (slot == 0)
				break;
			*end = slot;
			end = &pgmq_slots[slot].by_id.left;
		}
		SpinLockRelease(&pgmq_shared->free_mutex);
		PGMQ_CRASHPOINT("pool-reserve-end");
		if (slot == 0)
			break;
	}
	*end = rest;
	return got;
}

/* Take one slot off a reserved chain, else off the pool; 0 where none is left. */
uint32
pgmq_pool_take(uint32 *chain)
{
	uint32		slot;

	if (*chain == 0 && pgmq_pool_reserve(chain, 1) == 0)
		return 0;
	slot = *chain;
	*chain = pgmq_slots[slot].by_id.left;
	return slot;
}

void
pgmq_pool_free(uint32 slot)
{
	PGMQ_CRASHPOINT("pool-free-begin");
	pgmq_slots[slot].state = SLOT_FREE;
	SpinLockAcquire(&pgmq_shared->free_mutex);
	pgmq_slots[slot].by_id.left = pgmq_shared->free_head;
	pgmq_shared->free_head = slot;
	pgmq_shared->n_free++;
	SpinLockRelease(&pgmq_shared->free_mutex);
	PGMQ_CRASHPOINT("pool-free-end");
}

/* Give back what is left of a reserved chain. */
void
pgmq_pool_free_chain(uint32 *chain)
{
	while (*chain != 0)
	{
		uint32		slot = *chain;

		*chain = pgmq_slots[slot].by_id.left;
		pgmq_pool_free(slot);
	}
}
