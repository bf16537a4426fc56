/*
 * am.h
 *	  The table access method `pgmq`: rows of hot queues on heap pages.
 *
 * Storage is the heap's; this layer adds three things to it: leases are
 * written in place (am_lease.c), rows are presented as SQL expects them
 * (am_present.c), and claims count as row locks (am_lock.c).  The verbs of the
 * API's fast path (am_claim.c, am_ack.c, am_send.c) live here too, because
 * they are about rows on pages.
 */
#ifndef PGMQ_AM_H
#define PGMQ_AM_H

#include "common/compat.h"
#include "common/queue_row.h"
#include "fmgr.h"
#include "storage/buf.h"
#include "storage/lmgr.h"
#include "xact/xact.h"

/* What a relation allows; cached per backend until the relcache says no. */
typedef struct RelationFacts
{
	Oid			relid;			/* key */
	uint64		n_changes;		/* that were heard of */
	Oid			last_sequence;	/* as in sequence, when it was last known */
	bool		is_valid;
	bool		is_hot;			/* stored by our access method */
	bool		is_queue;		/* has a queue table's columns, as created */
	bool		is_archive;		/* has an archive table's columns */
	bool		is_old_archive; /* with last_read_at as the last of them */
	bool		can_send;		/* fast path: insert */
	bool		can_read;		/* fast path: lease in place */
	bool		can_ack;		/* fast path: delete */
	bool		can_archive;	/* fast path: insert into the archive */
	bool		has_indexes;
	bool		is_published;	/* subscribers see rows as they are stored */
	bool		publishes_changes;	/* its updates or deletes are published */
	bool		must_decode_leases; /* and decoded: no leases in place */
	bool		indexes_leases; /* read_ct, last_read_at or vt: no leases in place */
	Oid			sequence;		/* of msg_id */
	char		notify_enabled; /* our notification trigger's tgenabled, or 0
								 * where there is none, or not just ours */
	char		notify_name[NAMEDATALEN];	/* the queue's name as it has it */
} RelationFacts;

/*
 * Subscribers are sent rows as they are stored, so those of published tables
 * store real NULLs for last_read_at.  So do rows whose leases are UPDATEs
 * anyway: a table that becomes a heap table needs no rewrite (am_null.c).
 */
static inline bool
facts_store_nulls(const RelationFacts *facts)
{
	return facts->is_published || facts->indexes_leases;
}

/* How a row looked when its page was locked. */
typedef enum RowState
{
	ROW_LIVE,					/* committed (or ours), and free for us */
	ROW_LOCKED,					/* another transaction locks or deletes it */
	ROW_GONE,					/* deleted, or never was */
	ROW_INVISIBLE				/* inserted by somebody not finished, or later
								 * than our snapshot; or deleted by us */
} RowState;

typedef struct Row
{
	HeapTuple	tuple;			/* copy, palloc'd; NULL unless live, locked or
								 * with a deleter */
	bool		has_head;
	QueueRowHead head;			/* copy, valid if has_head */
	bool		is_key_shared;	/* ROW_LOCKED: FOR KEY SHARE only */
	TransactionId deleter;		/* ROW_LOCKED, ROW_INVISIBLE: transaction in
								 * progress, perhaps ours, that deletes it */
} Row;

/* One row handed to the API: the stored tuple and the lease to show on it. */
typedef void (*RowSink) (void *state, HeapTuple tuple, const Lease *lease);

/* How a grouped read goes through the groups. */
typedef enum GroupOrder
{
	GROUPS_ONE_BY_ONE,			/* all it can of a group, then the next */
	GROUPS_IN_TURN,				/* one of each, then the second of each, ... */
	GROUPS_HEADS_ONLY			/* one of each */
} GroupOrder;

typedef struct ClaimRequest
{
	int64		max_rows;
	int32		vt_seconds;
	bool		is_pop;			/* delete instead of lease */
	GroupOrder	group_order;	/* for pgmq_am_claim_groups() */
	Datum		conditional;	/* jsonb the message must contain */
	bool		has_conditional;
	RowSink		sink;
	void	   *sink_state;
	bool		met_locked;		/* out: passed over rows others lock */
	bool		needs_sql;		/* out: the SQL path must look for the rest */
	int64		after_msg_id;	/* out, with needs_sql: which is beyond this id */
} ClaimRequest;

/* am_handler.c */
extern const TableAmRoutine *pgmq_am_routine(void);
extern bool pgmq_am_is_ours(Relation rel);
extern const TableAmRoutine *pgmq_heap_routine(void);
extern void pgmq_am_init(void);

/* am_facts.c */
extern RelationFacts *pgmq_am_facts(Relation rel);
extern bool pgmq_am_notifies(const RelationFacts *facts);
extern void pgmq_am_set_notify_function(PGFunction function);
extern void pgmq_am_facts_init(void);

/* am_published.c */
extern PublicationActions pgmq_am_published_actions(Relation rel);
extern void pgmq_am_published_init(void);

/* am_ids.c */
extern void pgmq_am_take_ids(Oid sequence, int n, int64 *ids);

/* am_notify.c */
extern bool pgmq_am_read_throttle(Oid relid, const char *queue_name,
								  ThrottleRow *row);
extern void pgmq_am_stamp_throttle(Oid relid, ThrottleRow *row, TimestampTz now);
extern bool pgmq_am_throttle_is_plain(Relation rel);

/* am_present.c */
extern void pgmq_am_present(Relation rel, TupleTableSlot *slot);
extern HeapTuple pgmq_am_stored_form(Relation rel, HeapTuple tuple);
extern HeapTuple pgmq_am_with_lease(TupleDesc desc, HeapTuple tuple,
									const Lease *lease);
extern void pgmq_am_row_values(HeapTuple tuple, TupleDesc desc, int64 *msg_id,
							   Lease *lease, bool *has_msg_id);
extern bool pgmq_am_stores_null(HeapTuple tuple, TupleDesc desc);
extern bool pgmq_am_is_raw;

/* am_null.c */
extern void pgmq_am_store_nulls(Relation rel, BlockNumber start, BlockNumber end,
								List **locked);
extern void pgmq_am_store_null(Relation rel, const ItemPointerData *tid);

/* am_row.c */
extern bool pgmq_am_is_only_locked(HeapTupleHeader header);
extern RowState pgmq_am_look_on(Relation rel, const ItemPointerData *tid, int64 msg_id,
								Buffer *pin, Row *row);
extern RowState pgmq_am_look(Relation rel, const ItemPointerData *tid,
							 int64 msg_id, bool want_tuple, Row *row);
extern RowState pgmq_am_look_latest(Relation rel, const ItemPointerData *tid,
									int64 msg_id, bool want_tuple, Row *row);
extern bool pgmq_am_has_block(Relation rel, BlockNumber block);
extern bool pgmq_am_find_on_page(Relation rel, Buffer buffer,
								 const ItemPointerData *tid, HeapTuple tuple);

/* am_line.c */

/* A place in the server's line for a row; all zero: none. */
typedef struct RowLine
{
	Relation	rel;
	ItemPointerData tid;
	LockTupleMode mode;
	bool		is_held;
} RowLine;

extern void pgmq_am_wait_in_line(RowLine *line, Relation rel, ItemPointer tid,
								 LockTupleMode mode, XLTW_Oper operation);
extern void pgmq_am_leave_line(RowLine *line);

/* am_lock.c */
extern void pgmq_am_wait_for(const ClaimOwner *owner);
extern void pgmq_am_pause(void);
extern TM_Result pgmq_am_delete_tid(Relation rel, ItemPointer tid, CommandId cid,
									Snapshot crosscheck, bool wait,
									TM_FailureData *tmfd, bool changing_partition);
extern TM_Result pgmq_am_delete_known(Relation rel, ItemPointer tid, int64 msg_id, Row *row);
extern TM_Result pgmq_am_update_tid(Relation rel, ItemPointer otid,
									HeapTuple tuple, CommandId cid,
									Snapshot crosscheck, bool wait,
									bool must_recheck, TM_FailureData *tmfd,
									LockTupleMode *lockmode,
									TU_UpdateIndexes *update_indexes);
extern TM_Result pgmq_am_tuple_lock(Relation rel, ItemPointer tid,
									Snapshot snapshot, TupleTableSlot *slot,
									CommandId cid, LockTupleMode mode,
									LockWaitPolicy wait_policy, uint8 flags,
									TM_FailureData *tmfd);

/* am_index.c */
extern double pgmq_am_index_build_range_scan(Relation rel, Relation index,
											 struct IndexInfo *info,
											 bool allow_sync, bool anyvisible,
											 bool progress,
											 BlockNumber start_block,
											 BlockNumber n_blocks,
											 IndexBuildCallback callback,
											 void *callback_state,
											 TableScanDesc scan);
extern void pgmq_am_index_validate_scan(Relation rel, Relation index,
										struct IndexInfo *info,
										Snapshot snapshot,
										struct ValidateIndexState *state);
typedef struct IndexWriter
{
	Relation	rel;
	EState	   *estate;
	ResultRelInfo *rri;
	TupleTableSlot *slot;
} IndexWriter;

extern IndexWriter *pgmq_am_index_writer(Relation rel);
extern void pgmq_am_index_insert(IndexWriter *writer, HeapTuple tuple,
								 bool only_summarizing);
extern void pgmq_am_index_close(IndexWriter *writer);
extern void pgmq_am_insert_index_entries(Relation rel, HeapTuple tuple,
										 bool only_summarizing);

/* am_lease.c */
extern void pgmq_am_write_leases(XactQueue *queue, int *messages, int n);
extern void pgmq_am_update_leases(XactQueue *queue, int *messages, int n);
extern void pgmq_am_flush_leases(Relation rel);
extern void pgmq_am_lease_by_update(Relation rel, const ItemPointerData *tid,
									const Lease *lease);
extern void pgmq_am_restore_lease(Relation rel, const ItemPointerData *tid,
								  int64 msg_id, const Lease *before);

/* am_load.c */
extern bool pgmq_am_ready_ring(Relation rel, XactQueue *queue,
							   const ReadyCursor *cursor, TimestampTz now);
extern bool pgmq_am_build_ring(Relation rel, XactQueue *queue);
extern int	pgmq_am_compare_ids(const void *a, const void *b);
extern bool pgmq_am_ready_ids(Relation rel, const int64 *ids, int n);
extern void pgmq_am_take_back_leases(Relation rel);
extern void pgmq_am_settle_all(Relation rel, XactQueue *queue);
extern bool pgmq_am_is_settling(XactQueue *queue);
extern void pgmq_am_settle_row(Relation rel, XactQueue *queue, int64 msg_id,
							   const ItemPointerData *tid);

/* am_send.c */
extern int64 pgmq_am_send(Relation rel, RelationFacts *facts, Datum message,
						  bool message_is_null, Datum headers,
						  bool headers_is_null, TimestampTz visible_at);
extern void pgmq_am_send_many(Relation rel, RelationFacts *facts, int n,
							  const Datum *messages, const bool *message_nulls,
							  const Datum *headers, const bool *header_nulls,
							  TimestampTz visible_at, int64 *msg_ids);

/* am_group.c */
extern uint64 pgmq_am_group_hash(Datum headers, bool is_null);
extern uint64 pgmq_am_row_group(HeapTuple tuple, TupleDesc desc);
extern Datum pgmq_am_copy_headers(HeapTuple tuple, TupleDesc desc);

/* am_claim.c */
extern int64 pgmq_am_claim(Relation rel, ClaimRequest *request);

/* am_claim_group.c */
extern int64 pgmq_am_claim_groups(Relation rel, ClaimRequest *request);

/* am_ack.c */
#define ACK_UNRESOLVED (-1)		/* the SQL path must say what is with the id */

extern bool pgmq_am_can_find(Relation rel);
extern int	pgmq_am_delete_message(Relation rel, int64 msg_id, RowSink sink,
								   void *sink_state);
extern int	pgmq_am_extend_message(Relation rel, int64 msg_id,
								   TimestampTz visible_at, RowSink sink,
								   void *sink_state);

/* am_check.c */
typedef void (*CheckSink) (void *state, int64 msg_id, const ItemPointerData *tid,
						   const char *problem);
extern void pgmq_am_check(Relation rel, CheckSink sink, void *sink_state);

/* am_hooks.c */
extern void pgmq_am_hooks_init(void);

#endif							/* PGMQ_AM_H */
