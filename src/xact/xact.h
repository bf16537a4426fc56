/*
 * xact.h
 *	  What one transaction did to hot queues, and the only way to a ring.
 *
 * A backend keeps, for its current transaction, a list of messages it sent,
 * claimed, leased or deleted (XactMessage), each with the queue it belongs to
 * (XactQueue).  Nothing of it is in shared memory but the state of the ring
 * slots it holds.  At COMMIT the list is applied to the rings; at ABORT, and
 * at the rollback of a savepoint, its slots are given back.  See README.md in
 * this folder for the order of things and the interleavings behind it.
 *
 * Locks: callers hold a relation lock on the queue (that keeps its ring where
 * it is).  Functions here take L3 and L4 and let go of them; none is held on
 * return.  None may be called with a buffer locked.
 */
#ifndef PGMQ_XACT_H
#define PGMQ_XACT_H

#include "common/compat.h"
#include "common/queue_row.h"
#include "shmem/claim_owner.h"
#include "shmem/scanned_row.h"
#include "shmem/throttle.h"
#include "storage/itemptr.h"

struct Ring;

/* What the transaction did to a message; a set. */
#define MSG_SENT 0x01			/* inserted the row */
#define MSG_CLAIMED 0x02		/* holds its ring slot as CLAIMED */
#define MSG_LEASED 0x04			/* a lease stands, to be written at commit
								 * unless the row is deleted */
#define MSG_DELETED 0x08		/* deleted the row */

typedef struct XactQueue
{
	RelFileLocator locator;
	Oid			relid;
	struct Ring *ring;			/* NULL if there is none (yet) */
	uint32		first_seq;		/* ring's lease_seq when first seen */
	int			first_message;	/* chain of its messages, -1 ends it */
	int			n_messages;
	int64		own_low_id;		/* lowest and highest msg_id sent by us */
	int64		own_high_id;
	uint64		seen_ready_seq; /* ring's ready_seq before the last read */
	uint64		seen_refused_seq;	/* and its refused_seq */
	uint64		own_refusals;	/* bumps of that that we caused since */
	uint32		scan_seq;		/* ring's before what we sent was visible */
	bool		has_scan_seq;	/* there was a ring then */
	uint64		searched_cold_seq;	/* ring's cold_seq before the last search by id */
	uint64		seen_settle_epoch;	/* ring's, before the last read by group */
	bool		is_collapsed;	/* stopped tracking: too many messages */
	bool		must_rebuild;	/* its ring must be rebuilt after commit */
	bool		drop_at_commit; /* storage goes away if we commit */
	bool		drop_at_abort;	/* storage goes away if we abort */
} XactQueue;

typedef struct XactMessage
{
	XactQueue  *queue;
	int			next;			/* chain of the queue's messages */
	ItemPointerData tid;
	uint8		flags;
	bool		is_written;		/* lease is on the page (after PRE_COMMIT) */
	int64		msg_id;
	uint32		slot;			/* ring slot held, or 0 */
	uint64		group_hash;		/* MSG_SENT: its group, by hash */
	Lease		lease;			/* values as this transaction sees them */
	Lease		before;			/* page's values before is_written */
} XactMessage;

/* How a slot found by id looks from outside. */
typedef struct MessageRef
{
	int64		msg_id;
	ItemPointerData tid;
	uint32		slot;			/* 0 for an own, unpublished message */
} MessageRef;

/* Where a call stands in the order of ready messages: behind this one. */
typedef struct ReadyCursor
{
	int64		msg_id;
	uint32		slot;
} ReadyCursor;

extern const ReadyCursor pgmq_ready_start;

/* A queue's row in pgmq.notify_insert_throttle. */
typedef struct ThrottleRow
{
	ItemPointerData tid;
	int32		interval_ms;
	ThrottleVersion version;
} ThrottleRow;

/* What the storage layer (am/) does for the transaction layer. */
typedef struct XactStorage
{
	/* Write the leases of n messages of one queue in place; may raise. */
	void		(*write_leases) (XactQueue *queue, int *messages, int n);
	/* The same as ordinary UPDATEs, before PREPARE TRANSACTION. */
	void		(*update_leases) (XactQueue *queue, int *messages, int n);
	/* The latest committed (or own) row of a queue; false if there is none. */
	bool		(*read_throttle) (Oid relid, const char *queue_name, ThrottleRow *row);
	/* Set its notified_at, unless somebody else holds the row. */
	void		(*stamp_throttle) (Oid relid, ThrottleRow *row, TimestampTz now);
} XactStorage;

/* xact_state.c */
extern bool pgmq_xact_has_rings(void);
extern XactQueue *pgmq_xact_queue(Relation rel);
extern bool pgmq_xact_queue_is_usable(XactQueue *queue);
extern XactMessage *pgmq_xact_message(int index);
extern int	pgmq_xact_find_message(XactQueue *queue, const ItemPointerData *tid);
extern void pgmq_xact_note_insert(XactQueue *queue, const ItemPointerData *tid,
								  int64 msg_id, const Lease *values,
								  uint64 group_hash);
extern void pgmq_xact_note_rebuild(Relation rel);
extern void pgmq_xact_note_copy(Relation rel, Oid relid);
extern void pgmq_xact_note_new_storage(Relation rel,
									   const RelFileLocator *locator);
extern void pgmq_xact_note_moved_storage(Relation rel,
										 const RelFileLocator *locator);
extern void pgmq_xact_trim(void);
extern bool pgmq_xact_may_have_id(XactQueue *queue, int64 msg_id);
extern void pgmq_xact_note_drop(const RelFileLocator *locator, Oid relid);
extern bool pgmq_xact_has_leases(void);
extern bool pgmq_xact_shown_lease(Relation rel, const ItemPointerData *tid,
								  int64 msg_id, Lease *lease);
extern void pgmq_xact_set_lease(int message, const Lease *lease, bool is_extend);

/* xact_claim.c */
extern int	pgmq_xact_own_candidates(XactQueue *queue, TimestampTz now,
									 int **messages);
extern int	pgmq_xact_take_ready(XactQueue *queue, ReadyCursor *cursor,
								 TimestampTz now, int max, int *messages);
extern int	pgmq_xact_peek_ready(XactQueue *queue, ReadyCursor *cursor,
								 TimestampTz now, int max, MessageRef *refs);
extern void pgmq_xact_mature(XactQueue *queue, TimestampTz now);
extern bool pgmq_xact_take_ref(XactQueue *queue, const MessageRef *ref,
							   int *message, bool *is_busy);
extern uint64 pgmq_xact_late_seq(XactQueue *queue);
extern int	pgmq_xact_late_arrivals(XactQueue *queue, uint64 *seq, int64 *ids);
extern void pgmq_xact_give_back(int message);
extern void pgmq_xact_refuse(int message);
extern void pgmq_xact_forget_row(int message);
extern int	pgmq_xact_find_by_id(XactQueue *queue, int64 msg_id, int max,
								 MessageRef *refs);

typedef enum ClaimResult
{
	CLAIM_TAKEN,				/* the slot is ours now, or was */
	CLAIM_GONE,					/* there is no such slot any more */
	CLAIM_FOREIGN,				/* another transaction holds it */
	CLAIM_BUSY,					/* another is looking at the row, or taking its
								 * lock: ask again in a moment */
	CLAIM_UNDECIDED				/* LIMBO or UNDO: settle it first */
} ClaimResult;

extern ClaimResult pgmq_xact_claim_any(XactQueue *queue, const MessageRef *ref,
									   int *message, ClaimOwner *owner);

/*
 * The guard around a heap operation that locks, deletes or updates one row:
 * while it stands nobody can claim the message.  At most one at a time; ended
 * by the (sub)transaction's abort where an error skips the end.
 */
typedef struct RowGuard
{
	bool		is_active;
	bool		has_slot;
	bool		is_published;	/* it has, and the row's inserter need not come
								 * to publish it any more */
	bool		is_own;			/* we inserted or claimed the row */
	bool		is_newer;		/* leased since we first saw the queue */
	XactQueue  *queue;
	int64		msg_id;
	ItemPointerData tid;
} RowGuard;

extern ClaimResult pgmq_xact_guard_begin(XactQueue *queue, int64 msg_id,
										 const ItemPointerData *tid,
										 LockTupleMode mode,
										 ClaimOwner *owner);
extern const RowGuard *pgmq_xact_guard(void);
extern void pgmq_xact_guard_end(bool is_deleted);

/* xact_owner.c */
extern void pgmq_xact_wait_for_owner(const ClaimOwner *owner);

/* xact_group.c */
extern void pgmq_xact_watch_groups(XactQueue *queue);
extern bool pgmq_xact_groups_are_exact(XactQueue *queue, TimestampTz now);

/* A group, by hash, and the first of its messages. */
typedef struct GroupHead
{
	int64		msg_id;
	uint64		group_hash;
} GroupHead;

extern int	pgmq_xact_own_heads(XactQueue *queue, GroupHead **heads);
extern int	pgmq_xact_take_heads(XactQueue *queue, ReadyCursor *cursor,
								 const GroupHead *own, int n_own, int max,
								 int *messages, uint64 *groups, bool *is_exact);
extern int	pgmq_xact_take_members(XactQueue *queue, uint64 group_hash,
								   ReadyCursor *cursor, int max, int *messages,
								   bool *is_last);

/* xact_events.c */
extern int	pgmq_xact_standing_leases(XactQueue *queue, int **messages);
extern void pgmq_xact_flush_leases(void);
extern void pgmq_xact_init(const XactStorage *storage);

/* xact_notify.c */
extern void pgmq_xact_note_notify(Oid relid, const char *queue_name);
extern void pgmq_xact_send_notify(const char *queue_name);

/* xact_build.c, xact_settle.c, xact_ring.c, xact_wait.c */
typedef enum BuildStart
{
	BUILD_STARTED,				/* the caller must scan and then end it */
	BUILD_NOT_NEEDED,
	BUILD_BY_ANOTHER			/* somebody else scans */
} BuildStart;

/* What a table is scanned for. */
typedef enum ScanKind
{
	SCAN_BUILD,					/* to build its ring */
	SCAN_LOAD,					/* for the cold messages that are due */
	SCAN_FIND					/* for cold messages with certain ids */
} ScanKind;

/* From this block to the one before the other. */
typedef struct BlockRange
{
	BlockNumber first;
	BlockNumber end;
} BlockRange;

/* What became of the rows that a scan found. */
typedef enum BuildAdd
{
	BUILD_TOO_OLD = 0,			/* the pages must be looked at again */
	BUILD_ADDED,				/* more of them at a time would keep others waiting */
	BUILD_ADDED_QUICKLY			/* nearly all of them in runs */
} BuildAdd;

typedef struct QueueCounts
{
	int64		length;
	int64		visible_length;
	bool		is_exact;		/* false while there are cold messages */
} QueueCounts;

/* A copy of one slot, for check_queue and for settling. */
typedef struct SlotCopy
{
	int64		msg_id;
	ItemPointerData tid;
	TimestampTz visible_at;
	int32		read_ct;
	TransactionId xid;			/* LIMBO */
	const char *state;
	bool		is_limbo_insert;
	bool		is_undo;
	bool		is_deleting;
	bool		is_held;		/* CLAIMED or DELETING */
	uint32		lease_seq;		/* LIMBO: ring's at its last lease */
	uint32		discard_seq;	/* the ring's */
	TimestampTz last_read_at;	/* UNDO */
	uint64		group_hash;		/* 0 where it has no group */
} SlotCopy;

extern bool pgmq_xact_has_cold(XactQueue *queue);
extern bool pgmq_xact_is_noted_cold(XactQueue *queue, int64 msg_id, const ItemPointerData *tid,
									TimestampTz visible_at);
extern bool pgmq_xact_keeps_groups(XactQueue *queue);
extern void pgmq_xact_keep_groups(XactQueue *queue);
extern bool pgmq_xact_must_load(XactQueue *queue, const ReadyCursor *cursor,
								TimestampTz now);
extern bool pgmq_xact_is_unbuilt(XactQueue *queue);
extern BuildStart pgmq_xact_build_begin(XactQueue *queue, const ReadyCursor *cursor,
										TimestampTz now, BlockRange *range);
extern BuildStart pgmq_xact_find_begin(XactQueue *queue, const int64 *ids, int n,
									   BlockRange *range);
extern int	pgmq_xact_unknown_ids(XactQueue *queue, int64 *ids, int n);
extern bool pgmq_xact_may_be_cold(XactQueue *queue, int64 msg_id);
extern uint64 pgmq_xact_build_epoch(XactQueue *queue);
extern BuildAdd pgmq_xact_build_add(XactQueue *queue, uint64 epoch,
									const ScannedRow *rows, int n,
									TimestampTz now);
extern bool pgmq_xact_build_end(XactQueue *queue, bool is_complete);
extern void pgmq_xact_build_wait(XactQueue *queue);
extern int	pgmq_xact_undecided(XactQueue *queue);
extern TransactionId pgmq_xact_next_limbo_xid(XactQueue *queue,
											  TransactionId after);
extern int	pgmq_xact_list_limbo(XactQueue *queue, TransactionId xid, uint32 *cursor,
								 int max, SlotCopy *copies);
extern int	pgmq_xact_list_undo(XactQueue *queue, int max, SlotCopy *copies);
extern bool pgmq_xact_find_undo(XactQueue *queue, int64 msg_id,
								const ItemPointerData *tid, SlotCopy *copy);
extern void pgmq_xact_settle(XactQueue *queue, const SlotCopy *copy,
							 const ScannedRow *row);
extern bool pgmq_xact_is_newer(int message);
extern void pgmq_xact_correct(int message, int32 read_ct,
							  TimestampTz visible_at);
extern bool pgmq_xact_undo_take(XactQueue *queue, SlotCopy *copy);
extern void pgmq_xact_undo_done(void);
extern void pgmq_xact_counts(XactQueue *queue, TimestampTz now,
							 QueueCounts *counts);
extern bool pgmq_xact_end_id(XactQueue *queue, bool want_last,
							 const MessageRef *beyond, MessageRef *ref);
extern int	pgmq_xact_copy_slots(XactQueue *queue, SlotCopy **copies,
								 bool *has_cold);
extern bool pgmq_xact_copy_slot(XactQueue *queue, int64 msg_id,
								const ItemPointerData *tid, SlotCopy *copy);
extern bool pgmq_xact_is_orphan(XactQueue *queue, int64 msg_id,
								const ItemPointerData *tid);
extern void pgmq_xact_watch(XactQueue *queue);
extern void pgmq_xact_sleep(XactQueue *queue, TimestampTz deadline,
							bool met_locked, uint32 wait_event);
extern void pgmq_xact_pass_turn(XactQueue *queue);

/* xact_look.c */

/* Where a message's row may be: by now another's may be there. */
typedef struct MessagePlace
{
	int64		msg_id;
	ItemPointerData tid;
} MessagePlace;

typedef struct PlaceList
{
	MessagePlace *places;		/* palloc'd */
	int			n;
	int			max;
} PlaceList;

extern void pgmq_places_init(PlaceList *list);
extern void pgmq_places_add(PlaceList *list, int64 msg_id, const ItemPointerData *tid);
extern bool pgmq_xact_look_up(XactQueue *queue, Snapshot snapshot, int64 msg_id,
							  PlaceList *list);

/* A scan in the order of msg_id. */
typedef struct LookScan
{
	bool		is_backward;
	bool		is_bounded;		/* only what is visible at visible_at */
	TimestampTz visible_at;
	bool		has_from;		/* rows up to from, that one included, are done */
	int64		from;
	bool		is_over;
} LookScan;

extern void pgmq_places_append(MessagePlace *places, Size n, bool is_backward,
							   PlaceList *list);
extern bool pgmq_xact_look_on(XactQueue *queue, Snapshot snapshot, LookScan *scan,
							  int wanted, PlaceList *list);
extern void pgmq_xact_renew_logs(XactQueue *queue);
extern bool pgmq_xact_count_rows(XactQueue *queue, Snapshot snapshot, int64 *n);
extern double pgmq_xact_count_ready(XactQueue *queue);
extern bool pgmq_xact_can_look(XactQueue *queue);
extern bool pgmq_xact_must_build(XactQueue *queue);

/* Has anybody been about to publish? */
typedef enum AwaitResult
{
	AWAIT_NOBODY,
	AWAIT_DONE,					/* and is done by now */
	AWAIT_TIMED_OUT				/* and still is */
} AwaitResult;

extern AwaitResult pgmq_xact_await_publishing(long max_ms);
extern void pgmq_xact_note_vacuum(XactQueue *queue);

/*
 * Vacuums of queues that have few dead rows come no faster than this, on the average: after each of
 * them all sessions read what the catalogs say of the table anew.
 */
#define PGMQ_VACUUM_INTERVAL_MS 100

/* Work for the background worker, database by database. */
typedef struct RingWork
{
	RelFileLocator locator;
	Oid			dbid;
	Oid			relid;
	bool		needs_build;
	bool		needs_vacuum;
	bool		may_vacuum;		/* in its turn: few rows are dead, since long */
	bool		needs_settling;
} RingWork;

extern bool pgmq_xact_next_work(Oid dbid, int *cursor, RingWork *work);
extern void pgmq_xact_forget_name(const RingWork *work);
extern void pgmq_xact_forget_database(Oid dbid);

#endif							/* PGMQ_XACT_H */
