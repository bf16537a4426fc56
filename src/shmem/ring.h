/*
 * ring.h
 *	  The ring: per hot queue, an index in shared memory that answers one
 *	  question: which message should this consumer look at next?
 *
 * The page is the truth.  The ring is transient: it is built by scanning the
 * table and forgotten at shutdown or crash.  A slot is a hint until the page
 * confirms it; only the CLAIMED, DELETING, LIMBO and UNDO states say something
 * the page does not, and those slots are never evicted.  See README.md in this
 * folder for the state machine, the locks and the invariants.
 *
 * Terms: a *ring* is one queue's index, a *ring slot* one entry of it, the
 * *pool* the fixed array all slots come from, the *directory* the map from a
 * relation's file locator to its ring.
 *
 * Locks (numbers as in README.md): L3 the directory lock, L4 a ring's lock.
 * Under either there is no I/O, no palloc, no ereport(ERROR).
 */
#ifndef PGMQ_RING_H
#define PGMQ_RING_H

#include "common/compat.h"
#include "common/limits.h"

#include "access/htup_details.h"
#include "datatype/timestamp.h"
#include "shmem/claim_owner.h"
#include "shmem/scanned_row.h"
#include "storage/condition_variable.h"
#include "storage/itemptr.h"
#include "storage/lwlock.h"

/*
 *              publish
 *   (absent) ----------> READY <-------------------- mature -----+
 *                        |  ^                                    |
 *                  claim |  | release                            |
 *                        v  |            commit of a lease       |
 *                      CLAIMED -------------------------------> WAITING
 *                        |                                       |
 *      delete (own claim)|                                       | delete
 *                        +------------> DELETING <---------------+
 *                                        |   |
 *                           commit       |   | abort: back to READY or WAITING
 *               (absent) <---------------+   v
 *
 *   LIMBO: a prepared (or not yet finished, seen by a rebuild) transaction
 *          inserted or deleted the row; the page decides once it has ended.
 *   UNDO:  a lease was written to the page, then its transaction failed; the
 *          slot carries the values that must be put back first.
 */
typedef enum SlotState
{
	SLOT_FREE = 0,
	SLOT_READY,					/* may be claimed; in tree READY */
	SLOT_WAITING,				/* visible_at lies ahead; in tree WAITING */
	SLOT_CLAIMED,				/* owner's transaction has claimed it */
	SLOT_DELETING,				/* owner's transaction has deleted it */
	SLOT_LIMBO,					/* transaction `owner` decides; tree LIMBO */
	SLOT_UNDO,					/* page must be restored; tree UNDO */
	SLOT_GROUP					/* no message, but a group: see ring_group.c */
} SlotState;

/*
 * The order trees.  A message's slot is in BY_ID always, and in one of those up
 * to HELD.  CLAIMED and DELETING slots that were WAITING stay in its
 * tree, so that the count of invisible messages stays exact while they are
 * held.  HEADS, GROUPS and MEMBERS are for queues with grouped reads (ring_group.c).
 */
typedef enum SlotTree
{
	TREE_NONE = 0,
	TREE_READY,					/* ordered by msg_id */
	TREE_WAITING,				/* ordered by visible_at */
	TREE_LIMBO,					/* ordered by the transaction that decides */
	TREE_UNDO,					/* ordered by msg_id */
	TREE_HELD,					/* CLAIMED and DELETING slots that are not in
								 * WAITING, by msg_id: for queries */
	TREE_HEADS,					/* groups whose first message is READY, by its
								 * msg_id */
	TREE_BY_ID,					/* ordered by msg_id, holds every message */
	TREE_GROUPS,				/* all groups, by hash of their key */
	TREE_MEMBERS				/* one group's messages, by msg_id */
} SlotTree;

#define N_SLOT_TREES (TREE_GROUPS + 1)	/* MEMBERS has a root in each group */

/*
 * How far the owner of a CLAIMED slot has come.  LOOKING ends within moments,
 * whatever becomes of the transaction; the others last until it ends.  The
 * owner moves on from LOOKING without a lock: others read one byte, old or new.
 */
typedef enum SlotStage
{
	STAGE_LOOKING = 0,			/* the page is still to be asked */
	STAGE_LEASED,
	STAGE_EXTENDED,				/* by set_vt, so key share locks pass */
	STAGE_UNCLAIMED				/* DELETING only: without a claim, so that a
								 * savepoint's rollback frees the message */
} SlotStage;

/* With the stage: held by a savepoint that was open then, not by all of the
 * transaction. */
#define STAGE_BITS 0x03
#define STAGE_IN_SAVEPOINT 0x80

/* Where a new ring's lease_seq starts. */
#define RING_FIRST_SEQ 1

typedef struct SlotLinks
{
	uint32		left;
	uint32		right;
} SlotLinks;

/* At most so many sessions may be taking one row's lock at the same instant. */
#define MAX_LOCKERS 31

/*
 * One message.  64 bytes; every field is guarded by its ring's L4, except
 * in a free slot, where by_id.left chains the free list under the pool's
 * spinlock.
 *
 *	 0 msg_id   8 visible_at   16 block   20 offset, state, tree, limbo_insert,
 *	is_doubtful, lockers   23 stage   24 owner   28 lease_seq  (24 undo_last_read_at)
 *	32 read_ct 36 group   40 by_id   48 by_order   56 by_group
 */
typedef struct RingSlot
{
	int64		msg_id;
	TimestampTz visible_at;
	BlockNumber block;
	uint32		offset:11;
	uint32		state:3;		/* SlotState */
	uint32		tree:3;			/* SlotTree holding by_order */
	uint32		limbo_insert:1; /* LIMBO: the row itself is not committed */
	uint32		is_doubtful:1;	/* when let go, the page must be asked */
	uint32		lockers:5;		/* plain SQL now taking the row's lock */
	uint8		stage;			/* CLAIMED, DELETING: SlotStage, IN_SAVEPOINT */
	union
	{
		struct
		{
			uint32		owner;	/* CLAIMED, DELETING: proc number; LIMBO: xid */
			uint32		lease_seq;	/* ring's lease_seq at the last lease */
		}			o;
		TimestampTz undo_last_read_at;	/* UNDO only */
	}			u;
	int32		read_ct;
	uint32		group;			/* slot of its group; 0 where there is none */
	SlotLinks	by_id;
	SlotLinks	by_order;
	SlotLinks	by_group;
} RingSlot;

StaticAssertDecl(sizeof(RingSlot) == 64, "a ring slot is 64 bytes");
StaticAssertDecl(offsetof(RingSlot, stage) == 23, "the stage has a byte of its own");
StaticAssertDecl(MaxHeapTuplesPerPage < (1 << 11), "an offset number fits 11 bits");

typedef enum RingPhase
{
	RING_INCOMPLETE = 0,		/* must be built before it may answer */
	RING_BUILDING,				/* somebody scans the table for it */
	RING_COMPLETE				/* every message is here or known as cold */
} RingPhase;

/* A transaction that has changed how many messages there are. */
typedef struct CountChange
{
	TransactionId xid;
	int32		change;
} CountChange;

#define RING_COUNT_LOG 64

/* Transactions; well below what TransactionIdPrecedes can tell apart. */
#define RING_LOGS_MAX_AGE ((uint64) 1 << 30)

/* The logs of a ring at an instant, to see later whether they are the same. */
typedef struct RingLogs
{
	uint64		since;			/* Ring.logs_since */
	uint64		n_removed;
	uint64		n_count_changes;
	TransactionId removed_horizon;
	TransactionId count_horizon;
} RingLogs;

/*
 * What is known of the cold messages in a range of blocks.  They may be fewer than it
 * says, and later.
 */
typedef struct ColdRange
{
	int64		low_id;			/* lowest id that is visible */
	TimestampTz next_at;		/* earliest visible_at of the others */
	int64		min_id;			/* lowest and highest id of all */
	int64		max_id;
	uint64		seq;			/* ring's cold_seq when one was added */
} ColdRange;

/*
 * One queue.  `locator` and `in_use` change under L3 and L4 together (so
 * either suffices to read them); `index` is immutable after init; the rest is
 * guarded by L4, except where it says atomic.
 */
typedef struct Ring
{
	LWLock		lock;			/* L4 */
	int			index;
	bool		in_use;
	RelFileLocator locator;
	Oid			relid;			/* for the worker; a hint */

	RingPhase	phase;
	int			builder;		/* proc number of who scans, to build it or for
								 * cold messages, or -1 */
	bool		must_discard;	/* rebuild: forget READY and WAITING first */
	bool		must_rescan;	/* the scan under way does not count */
	bool		is_grouped;		/* has served grouped reads: keeps groups */
	pg_atomic_uint32 scan_seq;	/* bumped when a scan ends; writer: under L4;
								 * who compares it later tolerates an older
								 * value: it doubts what it need not */
	ConditionVariable phase_changed;

	uint32		roots[N_SLOT_TREES];
	uint32		counts[N_SLOT_TREES];
	uint32		n_limbo_inserts;	/* rows not committed yet */
	uint32		n_doubtful;		/* held slots whose rows may be gone */
	pg_atomic_uint32 n_undo;	/* writer: under L4; readers tolerate a stale
								 * value: a lease that failed after it was
								 * written is shown a moment longer */

	pg_atomic_uint64 high_id;	/* highest msg_id ever published; writer: under
								 * L4; readers tolerate a lower value: an id
								 * that is not published yet is not theirs */
	uint32		lease_seq;		/* bumped by every lease */
	uint32		forgotten_seq;	/* highest lease_seq of slots let go */
	uint32		discard_seq;	/* bumped with must_discard */
	uint64		withdraw_epoch; /* bumped when a message is withdrawn */
	uint64		ready_seq;		/* bumped when something becomes ready */
	uint64		refused_seq;	/* bumped when a claim is given back unused */

	/* What must not be read by group, because it would be out of order */
	uint32		n_partial;		/* commits of which only a part is here yet */
	uint64		settle_epoch;	/* bumped when a LIMBO slot is settled */

	/* What became ready out of order, for readers who know what came before */
	int64		highest_ready;	/* highest msg_id that was ever READY */
	uint64		late_seq;		/* messages READY below it since; never reset */
	int64		late_ids[RING_LATE_LOG];	/* the last of them */

	/* Cold messages: in the table, not here.  See ring_cold.c */
	bool		has_cold;
	int64		cold_low_id;	/* lowest id known to be cold and visible */
	TimestampTz cold_next_at;	/* earliest visible_at of the other cold ones */
	uint64		cold_seq;		/* bumped when a message becomes cold */
	int			cold_map;		/* which ColdMap says where they are; -1: none */
	BlockNumber load_first;		/* being scanned for them: from this block to
								 * the one before load_end */
	BlockNumber load_end;
	ColdRange	load_range;		/* what became cold there since that began */

	/* What was removed: see ring_removed.c */
	uint64		n_removed;		/* rows logged since the ring was made */
	TransactionId removed_horizon;	/* newest that removed a row that is not, or
									 * no longer, in the log */

	/* How many messages there were a moment ago: see ring_count.c */
	uint64		n_count_changes;
	CountChange count_log[RING_COUNT_LOG];
	TransactionId count_horizon;	/* newest whose change is not, or no longer, in
									 * the log */
	uint64		logs_since;		/* next transaction id, with its epoch, when
								 * both logs were begun: they and their
								 * horizons know of none much older */

	uint64		n_dead;			/* rows withdrawn since the last vacuum */
	TimestampTz vacuumed_at;

	int			first_waiter;	/* proc numbers, or -1 */
	int			last_waiter;
} Ring;

/* What a claim, a lookup or a copy of the ring hands out. */
typedef struct RingRef
{
	uint32		slot;
	int64		msg_id;
	ItemPointerData tid;
	TimestampTz visible_at;
	int32		read_ct;
	uint32		owner;
	SlotState	state;
	bool		limbo_insert;
	TimestampTz undo_last_read_at;
	uint64		group_hash;		/* 0 where there is no group */
} RingRef;

/* A row that is not in the ring any more. */
typedef struct RemovedRow
{
	int64		msg_id;
	ItemPointerData tid;
	TransactionId xid;			/* who removed it; top-level, committed */
} RemovedRow;

/* Consumers to wake once the ring lock is released. */
typedef struct WakeList
{
	int			n;
	int			procs[RING_WAKE_BATCH + 1];
} WakeList;

/* ring_count.c */
extern int64 pgmq_ring_count(const Ring *ring);
extern void pgmq_ring_raise_count_horizon(Ring *ring, TransactionId xid);
extern void pgmq_ring_note_count(Ring *ring, TransactionId xid, int64 before);
extern int	pgmq_ring_count_changes(const Ring *ring, CountChange *changes);
extern void pgmq_ring_begin_logs(Ring *ring, uint64 next_xid);
extern RingLogs pgmq_ring_logs(const Ring *ring);
extern bool pgmq_ring_logs_are_old(const Ring *ring, uint64 next_xid);
extern void pgmq_ring_renew_logs(Ring *ring, const RingLogs *seen, uint64 next_xid);

/* ring_pool.c */
extern void pgmq_ring_shmem_request(void);
extern void pgmq_ring_shmem_startup(void);
extern bool pgmq_ring_available(void);
extern RingSlot *pgmq_slots;
extern uint32 pgmq_pool_size(void);
extern uint32 pgmq_pool_reserve(uint32 *chain, uint32 n);
extern uint32 pgmq_pool_take(uint32 *chain);
extern void pgmq_pool_free(uint32 slot);
extern void pgmq_pool_free_chain(uint32 *chain);

/* ring_directory.c */
extern Ring *pgmq_ring_find(const RelFileLocator *locator);
extern Ring *pgmq_ring_find_or_create(const RelFileLocator *locator, Oid relid,
									  RingPhase phase);
extern void pgmq_ring_remove(const RelFileLocator *locator);
extern void pgmq_ring_remove_database(Oid dbid);
extern int	pgmq_ring_limit(void);
extern int	pgmq_rings_used(void);
extern Ring *pgmq_ring_by_index(int index);

/* ring_tree.c */
extern void pgmq_tree_insert(Ring *ring, SlotTree tree, uint32 slot);
extern void pgmq_tree_insert_run(Ring *ring, SlotTree tree, const uint32 *slots, int n);
extern void pgmq_tree_remove(Ring *ring, SlotTree tree, uint32 slot);
extern uint32 pgmq_tree_first(const Ring *ring, SlotTree tree);
extern uint32 pgmq_tree_last(const Ring *ring, SlotTree tree);
extern uint32 pgmq_tree_next(const Ring *ring, SlotTree tree, int64 after,
							 uint32 slot);
extern uint32 pgmq_tree_prev(const Ring *ring, SlotTree tree, int64 before,
							 uint32 slot);
extern uint32 pgmq_tree_first_member(uint32 group);
extern uint32 pgmq_tree_next_member(uint32 group, int64 after, uint32 slot);

/* ring_group.c */
extern bool pgmq_group_join(Ring *ring, uint32 *chain, uint32 slot, uint64 hash);
extern bool pgmq_group_leave(Ring *ring, uint32 slot);
extern bool pgmq_group_correct(Ring *ring, uint32 *chain, uint32 slot, uint64 hash);
extern void pgmq_group_update(Ring *ring, uint32 slot);
extern uint32 pgmq_group_find(const Ring *ring, uint64 hash);
extern uint64 pgmq_group_hash(uint32 group);
extern int64 pgmq_group_head_id(uint32 group);

/* ring_slot.c */
extern uint32 pgmq_ring_lookup(const Ring *ring, int64 msg_id,
							   const ItemPointerData *tid);
extern void pgmq_ring_ref(uint32 slot, RingRef *ref);
extern uint32 pgmq_ring_publish(Ring *ring, uint32 *chain, int64 msg_id,
								const ItemPointerData *tid, int32 read_ct,
								TimestampTz visible_at, uint64 group_hash,
								TimestampTz now);
extern bool pgmq_ring_withdraw(Ring *ring, uint32 slot);
extern void pgmq_ring_settle(Ring *ring, uint32 slot, TimestampTz now);
extern void pgmq_ring_lease(Ring *ring, uint32 slot, int32 read_ct,
							TimestampTz visible_at, TimestampTz now);
extern void pgmq_ring_hold(Ring *ring, uint32 slot, SlotState state,
						   uint32 owner);
extern void pgmq_ring_to_limbo(Ring *ring, uint32 slot, TransactionId xid,
							   bool is_insert);
extern void pgmq_ring_to_undo(Ring *ring, uint32 slot, int32 read_ct,
							  TimestampTz last_read_at, TimestampTz visible_at);
extern int	pgmq_ring_mature(Ring *ring, TimestampTz now, int max);
extern uint32 pgmq_ring_next_ready(const Ring *ring, int64 after_id,
								   uint32 after_slot);
extern bool pgmq_ring_discard(Ring *ring, int64 *after_id, uint32 *after_slot, int max);
extern void pgmq_ring_doubt(Ring *ring, uint32 slot);
extern TimestampTz pgmq_ring_next_event(const Ring *ring);

/* ring_bulk.c */
typedef struct SlotLease
{
	uint32		slot;
	int32		read_ct;
	TimestampTz visible_at;
} SlotLease;
extern int	pgmq_ring_publish_run(Ring *ring, uint32 *chain, const ScannedRow *rows,
								  int n, TimestampTz now);
extern int	pgmq_ring_lease_run(Ring *ring, const SlotLease *leases, int n, TimestampTz now);

/* ring_cold.c */
extern void pgmq_cold_reset(Ring *ring);
extern void pgmq_cold_note(Ring *ring, int64 msg_id, BlockNumber block,
						   TimestampTz visible_at, TimestampTz now);
extern void pgmq_cold_note_groupless(Ring *ring, uint32 slot, TimestampTz now);
extern bool pgmq_cold_is_first(const Ring *ring, uint32 slot);
extern bool pgmq_cold_is_due(const Ring *ring, int64 after_id, uint32 after_slot,
							 TimestampTz now);
extern void pgmq_cold_load_begin(Ring *ring, TimestampTz now);
extern bool pgmq_cold_load_end(Ring *ring, bool is_done, TimestampTz now);
extern bool pgmq_cold_find(const Ring *ring, const int64 *ids, int n, BlockNumber *first,
						   BlockNumber *end);
extern bool pgmq_cold_may_hold(const Ring *ring, int64 msg_id, uint64 since_seq);
extern bool pgmq_cold_is_noted(const Ring *ring, int64 msg_id, BlockNumber block,
							   TimestampTz visible_at);
extern bool pgmq_cold_evict_for(Ring *ring, const ScannedRow *row,
								const ScannedRow *last, TimestampTz now);
extern bool pgmq_cold_evict_any(Ring *ring, const ScannedRow *row,
								const ScannedRow *last, TimestampTz now);
extern bool pgmq_cold_evict_delayed(Ring *ring, int64 msg_id, TimestampTz now);

/* ring_removed.c */
extern uint64 pgmq_next_full_xid(void);
extern TransactionId pgmq_xid_before(uint64 full_xid);
extern TransactionId pgmq_newest_xid(void);
extern void pgmq_ring_raise_horizon(Ring *ring, TransactionId xid);
extern void pgmq_ring_note_removed(Ring *ring, int64 msg_id,
								   const ItemPointerData *tid, TransactionId xid);
extern int	pgmq_ring_removed(const Ring *ring, int64 low_id, int64 high_id,
							  RemovedRow *rows);

/* ring_waiters.c */
extern void pgmq_ring_wait_begin(Ring *ring, uint64 seen_ready_seq, bool met_locked);
extern bool pgmq_ring_wait_end(Ring *ring);
extern bool pgmq_ring_is_waiting(const Ring *ring);
extern bool pgmq_ring_watch_clock(const Ring *ring, TimestampTz *event);
extern void pgmq_ring_wake(Ring *ring, uint32 n_messages, WakeList *wake);
extern void pgmq_ring_wake_unseen(Ring *ring, WakeList *wake);
extern void pgmq_ring_wake_unaware(Ring *ring, WakeList *wake);
extern void pgmq_ring_wake_first(const Ring *ring, WakeList *wake);
extern void pgmq_wake_all(WakeList *wake);

/* Per backend: whom to wait for when its claim is in the way. */
extern void pgmq_backend_set_vxid(void);
extern void pgmq_backend_set_savepoint(SubTransactionId subid);
extern bool pgmq_backend_in_savepoint(uint32 proc_number);
extern ClaimOwner pgmq_ring_owner(uint32 slot);
extern void pgmq_backend_set_publishing(bool is_publishing);
extern bool pgmq_backend_is_late(int proc_number);
extern int	pgmq_backend_limit(void);

static inline RingSlot *
ring_slot(uint32 slot)
{
	Assert(slot != 0);
	return &pgmq_slots[slot];
}

static inline SlotStage
slot_stage(uint32 slot)
{
	return (SlotStage) (ring_slot(slot)->stage & STAGE_BITS);
}

/* The stage alone; whether the slot is held by a savepoint stays. */
static inline void
set_slot_stage(uint32 slot, SlotStage stage)
{
	ring_slot(slot)->stage = (uint8) ((ring_slot(slot)->stage & ~STAGE_BITS) | stage);
}

static inline void
ring_lock(Ring *ring, LWLockMode mode)
{
	LWLockAcquire(&ring->lock, mode);
}

static inline void
ring_unlock(Ring *ring)
{
	LWLockRelease(&ring->lock);
}

#endif							/* PGMQ_RING_H */
