/*
 * ring_internal.h
 *	  What only the files of shmem/ share.
 */
#ifndef PGMQ_RING_INTERNAL_H
#define PGMQ_RING_INTERNAL_H

#include "shmem/ring.h"
#include "storage/spin.h"

/* A ring on cache lines of its own. */
typedef union PaddedRing
{
	Ring		ring;
	char		pad[TYPEALIGN(PG_CACHE_LINE_SIZE, sizeof(Ring))];
} PaddedRing;

/*
 * One per backend.  `vxid` and `subid` are written by its backend before it
 * publishes a claim under L4 and read by others under the same L4; subid is also
 * written when savepoints end, without a lock, and readers tolerate an older
 * value: who waits for a savepoint that has ended looks again at once.  The
 * rest is guarded by the L4 of the ring waited for.
 */
typedef struct RingBackend
{
	VirtualTransactionId vxid;
	SubTransactionId subid;		/* innermost open savepoint that holds claims */
	pg_atomic_uint32 is_publishing; /* its transaction is ending, and has
									 * something to tell the rings; writer:
									 * itself; for readers see
									 * pgmq_backend_is_late() */
	int			waits_for;		/* index of the ring, or -1 */
	uint64		seen_ready_seq; /* ring's ready_seq when it last looked */
	TimestampTz watches;		/* until when it sleeps at most for what becomes
								 * ready by itself; infinity: it does not mind */
	bool		met_locked;		/* it knows of locked rows and looks again by
								 * itself */
	int			next_waiter;
	int			prev_waiter;
} RingBackend;

/* A RemovedRow in 20 bytes: there are RING_REMOVED_LOG of them for each queue. */
typedef struct RemovedEntry
{
	uint32		id_high;
	uint32		id_low;
	TransactionId xid;
	ItemPointerData tid;
} RemovedEntry;

/*
 * Where a ring's cold messages are; see ring_cold.c.  Guarded by the L4 of the ring
 * that has taken it.
 */
typedef struct ColdMap
{
	pg_atomic_uint32 is_taken;
	int			shift;			/* a range has 2^shift blocks */
	ColdRange	ranges[RING_COLD_RANGES];
} ColdMap;

typedef struct RingShared
{
	/* immutable after init */
	int			ring_tranche;
	uint32		n_slots;
	int			n_rings;
	int			n_backends;
	LWLock	   *directory_lock; /* L3 */
	PaddedRing *rings;
	RingBackend *backends;
	RemovedEntry *removed;		/* RING_REMOVED_LOG for each ring, guarded by its
								 * L4; not touched before it is used */

	ColdMap    *cold_maps;
	int			n_cold_maps;

	/* guarded by L3 */
	uint64		n_rings_made;
	int			n_rings_used;	/* readers without L3 tolerate a stale value: a
								 * queue takes the SQL path once more */

	/* guarded by free_mutex */
	slock_t		free_mutex;
	uint32		free_head;
	uint32		n_fresh;		/* lowest slot never used */
	uint32		n_free;
} RingShared;

extern RingShared *pgmq_shared;

/* A message becomes READY: in its turn, or later than others behind it. */
static inline void
pgmq_ring_note_ready(Ring *ring, int64 msg_id)
{
	if (msg_id > ring->highest_ready)
		ring->highest_ready = msg_id;
	else
		ring->late_ids[ring->late_seq++ % RING_LATE_LOG] = msg_id;
}

/* What was a free slot is one of a row, in no tree yet. */
static inline void
pgmq_slot_init(const Ring *ring, uint32 slot, int64 msg_id, const ItemPointerData *tid)
{
	RingSlot   *s = ring_slot(slot);

	memset(s, 0, sizeof(RingSlot));
	s->msg_id = msg_id;
	s->block = ItemPointerGetBlockNumberNoCheck(tid);
	s->offset = ItemPointerGetOffsetNumberNoCheck(tid);
	s->u.o.lease_seq = ring->lease_seq;
}

extern void pgmq_slot_lease(Ring *ring, uint32 slot, int32 read_ct, TimestampTz visible_at);

extern Size pgmq_ring_directory_size(void);
extern void pgmq_ring_directory_init(void);

#endif							/* PGMQ_RING_INTERNAL_H */
