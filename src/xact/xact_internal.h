/*
 * xact_internal.h
 *	  What only the files of xact/ share.
 */
#ifndef PGMQ_XACT_INTERNAL_H
#define PGMQ_XACT_INTERNAL_H

#include "shmem/ring.h"
#include "xact/xact.h"

/* A change made below the top level, to be undone by ROLLBACK TO. */
typedef struct XactChange
{
	int			nest_level;
	int			position;		/* in the log, while it is undone */
	int			message;		/* or -1: the queue's flags changed */
	XactQueue  *queue;
	uint8		flags;			/* the message's, before */
	Lease		lease;
	bool		must_rebuild;	/* the queue's, before */
	bool		drop_at_commit;
	bool		drop_at_abort;
} XactChange;

/* A queue that was sent to and whose listeners want to know. */
typedef struct XactNotify
{
	char	   *queue_name;
	uint64		name_hash;
	Oid			relid;			/* of the throttle table */
	int			nest_level;
	int			turn;			/* ours in shared memory, or -1 */
	TimestampTz notified_at;	/* if we have the turn: what to remember */
	ThrottleVersion version;
} XactNotify;

/* A savepoint that holds claims, and the lock that others wait for. */
typedef struct OpenSavepoint
{
	int			nest_level;
	SubTransactionId subid;
} OpenSavepoint;

/*
 * All of it lives in TopTransactionContext; reset by every end of a
 * transaction, in parallel workers too.
 */
typedef struct XactState
{
	XactQueue **queues;
	int			n_queues;
	int			max_queues;
	XactMessage *messages;
	int			n_messages;
	int			max_messages;
	XactChange *changes;
	int			n_changes;
	int			max_changes;
	HTAB	   *by_tid;			/* made when a look-up needs it */
	int			n_hashed;		/* messages that are in it */
	int			n_leased;		/* upper bound of messages with MSG_LEASED */
	XactNotify *notifies;
	int			n_notifies;
	int			max_notifies;
	int			n_turns;		/* notifies with a turn */
	uint32		reserved;		/* chain of free ring slots */
	bool		is_closed;		/* PRE_COMMIT has run: nothing may be added */
	bool		has_vxid;		/* our vxid is published */
	OpenSavepoint *savepoints;	/* those that hold claims, outermost first */
	int			n_savepoints;
	int			max_savepoints;
	bool		is_publishing;	/* we have said so in shared memory */
	RowGuard	guard;
	XactQueue  *building;		/* we scan the table for this ring */
	ScanKind	scan_kind;		/* and why */
	TimestampTz scan_time;		/* what is visible by then is due */
	XactQueue  *waiting;		/* we sleep on this ring, or have its turn */
} XactState;

extern XactState pgmq_xact;

extern void pgmq_xact_reset(void);
extern void *pgmq_xact_grow(void *array, int *max, int needed, Size element_size);
extern XactQueue *pgmq_xact_queue_by_locator(const RelFileLocator *locator,
											 Oid relid);
extern void pgmq_xact_reverse(int *messages, int n);
extern int	pgmq_xact_add_message(XactQueue *queue, const ItemPointerData *tid,
								  int64 msg_id);
extern void pgmq_xact_make_room(int n);
extern void pgmq_xact_log_message(int message);
extern void pgmq_xact_log_queue(XactQueue *queue);
extern void pgmq_xact_undo_changes(int nest_level);
extern void pgmq_xact_merge_changes(int nest_level);
extern void pgmq_xact_hold_to_look(Ring *ring, uint32 slot);
extern void pgmq_xact_hold_to_delete(Ring *ring, XactMessage *message);
extern int	pgmq_xact_message_of_slot(XactQueue *queue, const RingRef *ref);
extern void pgmq_xact_fill_copy(const Ring *ring, SlotCopy *copy, uint32 slot);
extern bool pgmq_xact_holds_slot(const Ring *ring, const XactMessage *message);
extern bool pgmq_xact_is_looked_at(uint32 slot);
extern void pgmq_xact_release_message(XactMessage *message, uint8 keep,
									  TimestampTz now, WakeList *wake);
extern void pgmq_xact_publish_owner(void);
extern void pgmq_xact_end_savepoint(bool is_commit);
extern void pgmq_xact_guard_abort(void);
extern void pgmq_xact_build_abort(void);
extern bool pgmq_xact_begin_sleep(XactQueue *queue, bool met_locked);
extern bool pgmq_xact_sleep_is_over(XactQueue *queue, TimestampTz deadline,
									TimestampTz *until);
extern void pgmq_xact_sleep_abort(void);
extern void pgmq_xact_notify_init(const XactStorage *xact_storage);
extern void pgmq_xact_merge_notifies(int nest_level);
extern void pgmq_xact_undo_notifies(int nest_level);
extern void pgmq_xact_notify_before_commit(void);
extern void pgmq_xact_end_turns(bool is_commit);

static inline bool
seq_is_newer(uint32 a, uint32 b)
{
	return (int32) (a - b) > 0;
}

#endif							/* PGMQ_XACT_INTERNAL_H */
