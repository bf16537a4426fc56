/*
 * api.h
 *	  What the SQL functions share: opening a queue as its caller may, the SQL
 *	  path, and handing rows back.
 */
#ifndef PGMQ_API_H
#define PGMQ_API_H

#include "common/compat.h"

#include "am/am.h"
#include "fmgr.h"
#include "funcapi.h"
#include "utils/array.h"

/* An open queue table (or archive). */
typedef struct QueueTable
{
	Relation	rel;
	RelationFacts *facts;
	bool		is_fast;		/* nothing about this call forbids the fast path */
} QueueTable;

/* Columns a caller needs rights on; a set of attribute numbers by name. */
typedef struct NeededRights
{
	AclMode		required;		/* ACL_SELECT | ACL_INSERT | ... */
	const char *const *selected;	/* NULL-terminated column names, or NULL */
	const char *const *inserted;
	const char *const *updated;
} NeededRights;

/* An argument of type text; NULL for NULL. */
static inline text *
pgmq_text_or_null(FunctionCallInfo fcinfo, int position)
{
	return PG_ARGISNULL(position) ? NULL : PG_GETARG_TEXT_PP(position);
}

/* publication.c */
extern void pgmq_publication_init(void);
extern bool pgmq_is_replicated(Relation rel);
extern void pgmq_make_replicable(Oid relid);

/* queue_name.c */
extern char *pgmq_table_name(text *queue_name, char prefix);
extern void pgmq_check_name_length(text *queue_name);

/* queue_open.c */
extern Oid	pgmq_table_oid(const char *table);
extern bool pgmq_table_is_hot(const char *table);
extern void pgmq_open_queue(FunctionCallInfo fcinfo, int argument, char prefix,
							LOCKMODE lockmode, const NeededRights *rights,
							QueueTable *queue);
extern void pgmq_open_queue_named(text *queue_name, char prefix, LOCKMODE lockmode,
								  const NeededRights *rights, QueueTable *queue);
extern void pgmq_close_queue(QueueTable *queue);
extern void pgmq_check_can_delete(const QueueTable *queue);
extern void pgmq_check_rights(Relation rel, LOCKMODE lockmode,
							  const NeededRights *rights);
extern const NeededRights pgmq_rights_send;
extern const NeededRights pgmq_rights_read;
extern const NeededRights pgmq_rights_pop;
extern const NeededRights pgmq_rights_delete;
extern const NeededRights pgmq_rights_take_all;
extern const NeededRights pgmq_rights_archive;
extern const NeededRights pgmq_rights_extend;
extern const NeededRights pgmq_rights_metrics;

/*
 * fn_queue.c: what the kinds of queues have in common.  Columns come behind
 * msg_id, whose definition is each kind's own.
 */
#define PGMQ_COLUMNS_OF_BOTH(between) \
	"read_ct INT DEFAULT 0 NOT NULL, " \
	"enqueued_at TIMESTAMP WITH TIME ZONE DEFAULT pg_catalog.now() NOT NULL, " \
	"last_read_at TIMESTAMP WITH TIME ZONE, " between \
	"vt TIMESTAMP WITH TIME ZONE NOT NULL, " \
	"message pg_catalog.jsonb, headers pg_catalog.jsonb"
#define PGMQ_QUEUE_COLUMNS PGMQ_COLUMNS_OF_BOTH("")
#define PGMQ_ARCHIVE_COLUMNS \
	PGMQ_COLUMNS_OF_BOTH("archived_at TIMESTAMP WITH TIME ZONE DEFAULT pg_catalog.now() NOT NULL, ")

extern void pgmq_lock_queue_name(text *queue_name);
extern void pgmq_refuse_null_name(FunctionCallInfo fcinfo);
extern void pgmq_insert_meta(text *queue_name, bool is_partitioned, bool is_unlogged);
extern void pgmq_grant_to_monitor(const char *table);
extern void pgmq_index_archive(text *queue_name, const char *archive);

/* fn_metrics.c */
extern int	pgmq_queue_names(Datum **names);

/* partman.c: pg_partman, wherever it is installed */
extern char *pgmq_partman_schema(void);
extern void pgmq_require_partman(void);
extern const char *pgmq_partition_column(text *interval);
extern void pgmq_create_parent(const char *table, const char *column, text *interval,
							   const int32 *premake);
extern void pgmq_set_retention(const char *table, text *retention, const char *settings);
extern void pgmq_forget_partitions(const char *table);

/* fn_notify.c */
extern void pgmq_notify_init(void);
extern void pgmq_notify_sent(const char *queue_name);

/* rows_out.c: rows of a set-returning function, one or many */
typedef struct RowsOut
{
	FunctionCallInfo fcinfo;
	ReturnSetInfo *rsinfo;
	TupleDesc	desc;			/* of pgmq.message_record, or of one column */
	Tuplestorestate *store;		/* made for the second row, or one out of line */
	HeapTuple	first;
	Datum		first_datum;
	int64		n;
	bool		is_composite;
	bool		has_leading;	/* scalars get a column in front */
	Datum		leading;
	bool		has_dropped;	/* columns of desc */
} RowsOut;

extern void pgmq_rows_begin(FunctionCallInfo fcinfo, RowsOut *out);
extern void pgmq_rows_add_values(RowsOut *out, Datum *values, bool *nulls);
extern void pgmq_rows_add_scalar(RowsOut *out, Datum value);
extern void pgmq_rows_lead(RowsOut *out, Datum value);
extern Datum pgmq_rows_end(RowsOut *out);

/* A RowSink that turns stored queue rows into message_records. */
typedef struct MessageSink
{
	RowsOut    *out;
	TupleDesc	stored_desc;
} MessageSink;

extern void pgmq_add_message(void *state, HeapTuple tuple, const Lease *lease);

/* sql_path.c */
typedef enum SqlVerb
{
	SQL_SEND,
	SQL_SEND_BATCH,
	SQL_READ,
	SQL_READ_IF,
	SQL_READ_GROUPED,
	SQL_READ_GROUPED_RR,
	SQL_READ_GROUPED_HEAD,
	SQL_READ_REST,				/* beyond a msg_id */
	SQL_READ_IF_REST,
	SQL_POP,
	SQL_POP_THESE,
	SQL_DELETE,
	SQL_ARCHIVE,
	SQL_SET_VT
} SqlVerb;

#define SQL_MAX_ARGS 5

extern int64 pgmq_sql_run(SqlVerb verb, Relation rel, const char *archive,
						  Datum *values, const char *nulls, RowsOut *out);
extern void pgmq_sql_ddl(const char *format,...) pg_attribute_printf(1, 2);
extern bool pgmq_sql_one(const char *sql, int n_args, Oid *types, Datum *values,
						 const char *nulls, bool read_only, Datum *result,
						 bool *isnull);
extern int64 pgmq_sql_rows(const char *sql, RowsOut *out);
extern int64 pgmq_sql_rows_with(const char *sql, int n_args, Oid *types,
								Datum *values, const char *nulls,
								bool read_only, RowsOut *out);

/* fn_send.c */

/* Argument positions; -1 where an overload has no such argument. */
typedef struct SendArgs
{
	int			headers;
	int			delay;
	bool		delay_is_seconds;
} SendArgs;

/* A message on its way into a queue. */
typedef struct Outgoing
{
	Datum		message;
	Datum		headers;
	bool		message_is_null;
	bool		headers_is_null;
	bool		has_visible_at; /* false: the delay was NULL */
	TimestampTz visible_at;
} Outgoing;

/* Several messages on their way into a queue; either array may be NULL. */
typedef struct OutgoingBatch
{
	ArrayType  *msgs;
	ArrayType  *headers;
	bool		has_visible_at;
	TimestampTz visible_at;
} OutgoingBatch;

extern bool pgmq_get_visible_at(FunctionCallInfo fcinfo, const SendArgs *args,
								TimestampTz *visible_at);
extern void pgmq_get_outgoing(FunctionCallInfo fcinfo, const SendArgs *args,
							  Outgoing *outgoing);
extern void pgmq_get_outgoing_batch(FunctionCallInfo fcinfo, const SendArgs *args,
									OutgoingBatch *batch);
extern void pgmq_validate_batch(ArrayType *msgs, ArrayType *headers);
extern void pgmq_send_to(text *queue_name, const Outgoing *outgoing);
extern void pgmq_send_batch_to(text *queue_name, const OutgoingBatch *batch,
							   RowsOut *out);

/* sql_pop.c */
extern bool pgmq_pop_locks_itself(Relation rel);
extern int64 pgmq_sql_pop(Relation queue, TimestampTz now, int64 max_rows, RowsOut *out);

/* read_call.c: what a function that reads is asked for */
typedef struct ReadArgs
{
	SqlVerb		verb;			/* its statement on the SQL path */
	bool		vt_is_null;
	int32		vt_seconds;
	bool		qty_is_null;
	int32		qty;
	bool		null_is_none;	/* qty NULL means no rows, not all */
	bool		has_conditional;
	Datum		conditional;
	bool		is_pop;
	bool		is_grouped;
	GroupOrder	group_order;
} ReadArgs;

extern Datum pgmq_read_call(FunctionCallInfo fcinfo, const ReadArgs *args,
							const NeededRights *rights);
extern Datum pgmq_poll_call(FunctionCallInfo fcinfo, const ReadArgs *args, int position);

#endif							/* PGMQ_API_H */
