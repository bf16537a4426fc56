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

/* queue_name.c */
extern char *pgmq_table_name(text *queue_name, char prefix);
extern void pgmq_check_name_length(text *queue_name);

/* queue_open.c */
extern void pgmq_open_queue(FunctionCallInfo fcinfo, int argument, char prefix,
							LOCKMODE lockmode, const NeededRights *rights,
							QueueTable *queue);
extern void pgmq_close_queue(QueueTable *queue);
extern const NeededRights pgmq_rights_send;
extern const NeededRights pgmq_rights_read;
extern const NeededRights pgmq_rights_pop;
extern const NeededRights pgmq_rights_delete;
extern const NeededRights pgmq_rights_take_all;
extern const NeededRights pgmq_rights_archive;
extern const NeededRights pgmq_rights_extend;
extern const NeededRights pgmq_rights_metrics;

/* rows_out.c: rows of a set-returning function, one or many */
typedef struct RowsOut
{
	FunctionCallInfo fcinfo;
	ReturnSetInfo *rsinfo;
	TupleDesc	desc;			/* of pgmq.message_record, or of one column */
	Tuplestorestate *store;		/* made for the second row */
	HeapTuple	first;
	Datum		first_datum;
	int64		n;
	bool		is_composite;
} RowsOut;

extern void pgmq_rows_begin(FunctionCallInfo fcinfo, RowsOut *out);
extern void pgmq_rows_add_values(RowsOut *out, Datum *values, bool *nulls);
extern void pgmq_rows_add_scalar(RowsOut *out, Datum value);
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
