/*
 * sql_path.c
 *	  The SQL path: what the fast path does not serve, as plain SQL.
 *
 * Heap queues, queue tables with features the fast path does not honour,
 * serializable transactions, queues without a ring.  One statement per verb
 * and table, prepared once and kept; the server's plan cache notices changes
 * of the table.  All names are qualified, so the caller's search_path does not
 * matter.
 */
#include "common/compat.h"

#include "api/api.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#define ROW_COLUMNS "msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers"
#define M_COLUMNS \
	"m.msg_id, m.read_ct, m.enqueued_at, m.last_read_at, m.vt, m.message, m.headers"

/*
 * Ready by the clock of messages, not by clock_timestamp(), for which see
 * clock.h.  A function call rather than an operator: an index over vt cannot
 * serve it, and must not, for where most messages are ready it would sort them
 * all by msg_id to find the first.
 */
#define IS_READY(now) "pg_catalog.timestamptz_le(vt, " now ")"
#define M_IS_READY "pg_catalog.timestamptz_le(m.vt, $2)"

/* $1 LIMIT, $2 now, $3 the new vt, $4 for the condition, $5 for a msg_id */
#define READ_STATEMENT(condition) \
	"WITH cte AS (SELECT msg_id FROM %1$s WHERE " IS_READY("$2") condition \
	" ORDER BY msg_id ASC LIMIT $1 FOR UPDATE SKIP LOCKED), " \
	"leased AS (UPDATE %1$s m SET last_read_at = $2, vt = $3, " \
	"read_ct = read_ct OPERATOR(pg_catalog.+) 1 " \
	"FROM cte WHERE m.msg_id OPERATOR(pg_catalog.=) cte.msg_id RETURNING " M_COLUMNS ") " \
	"SELECT " ROW_COLUMNS " FROM leased ORDER BY msg_id"

/*
 * Grouped reads: $1 LIMIT, $2 now, $3 the new vt.  Each begins with one look at
 * the table for the groups; what it then locks is looked at again by the server's
 * rules.  Groups that may not be read stay, without a head: a condition in their place would
 * make the planner expect one group, and join 10,000 of them by nested loops.
 */
#define GROUP_KEY(row) \
	"COALESCE(" row "headers OPERATOR(pg_catalog.->>) 'x-pgmq-group', '_default_fifo_group')"
#define HEAD_IF_VISIBLE \
	"CASE WHEN pg_catalog.min(msg_id) OPERATOR(pg_catalog.=) " \
	"pg_catalog.min(msg_id) FILTER (WHERE " IS_READY("$2") ") " \
	"THEN pg_catalog.min(msg_id) END AS head"
#define LEASE_CHOSEN(returning, order_by) \
	"leased AS (UPDATE %1$s m SET last_read_at = $2, vt = $3, " \
	"read_ct = read_ct OPERATOR(pg_catalog.+) 1 " \
	"FROM chosen c WHERE m.msg_id OPERATOR(pg_catalog.=) c.msg_id RETURNING " returning M_COLUMNS ") " \
	"SELECT " ROW_COLUMNS " FROM leased ORDER BY " order_by
#define LOCKED_HEADS \
	"locked AS (SELECT msg_id FROM %1$s WHERE msg_id OPERATOR(pg_catalog.=) ANY (SELECT head FROM heads) " \
	"AND " IS_READY("$2") " FOR UPDATE SKIP LOCKED), "

typedef struct Statement
{
	const char *text;			/* %1$s the queue, %2$s the archive; by kind of
								 * queue: %3$s what holds a group in _rr.  Who
								 * uses one must use those before it. */
	int			n_args;
	Oid			types[SQL_MAX_ARGS];
} Statement;

static const Statement statements[] = {
	[SQL_SEND] = {
		"INSERT INTO %1$s (vt, message, headers) VALUES ($1, $2, $3) RETURNING msg_id",
		3, {TIMESTAMPTZOID, JSONBOID, JSONBOID}
	},
	[SQL_SEND_BATCH] = {
		"INSERT INTO %1$s (vt, message, headers) "
		"SELECT $1, u.message, u.headers "
		"FROM ROWS FROM (pg_catalog.unnest($2), pg_catalog.unnest($3)) AS u(message, headers) "
		"RETURNING msg_id",
		3, {TIMESTAMPTZOID, JSONBARRAYOID, JSONBARRAYOID}
	},
	[SQL_READ] = {
		READ_STATEMENT(""), 3, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[SQL_READ_IF] = {
		READ_STATEMENT(" AND message OPERATOR(pg_catalog.@>) $4"),
		4, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, JSONBOID}
	},
	[SQL_READ_REST] = {
		READ_STATEMENT(" AND msg_id OPERATOR(pg_catalog.>) $5"),
		5, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, JSONBOID, INT8OID}
	},
	[SQL_READ_IF_REST] = {
		READ_STATEMENT(" AND message OPERATOR(pg_catalog.@>) $4 AND msg_id OPERATOR(pg_catalog.>) $5"),
		5, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID, JSONBOID, INT8OID}
	},
	[SQL_READ_GROUPED] = {
		"WITH heads AS (SELECT " GROUP_KEY("") " AS grp, " HEAD_IF_VISIBLE " FROM %1$s GROUP BY 1), "
		LOCKED_HEADS
		"ranked AS (SELECT m.msg_id, pg_catalog.row_number() OVER (ORDER BY h.head, m.msg_id) AS place "
		"FROM %1$s m JOIN heads h ON " GROUP_KEY("m.") " OPERATOR(pg_catalog.=) h.grp "
		"WHERE " M_IS_READY " "
		"AND h.head OPERATOR(pg_catalog.=) ANY (SELECT msg_id FROM locked)), "
		"chosen AS (SELECT msg_id FROM %1$s WHERE msg_id OPERATOR(pg_catalog.=) ANY "
		"(SELECT msg_id FROM ranked WHERE place OPERATOR(pg_catalog.<=) $1) "
		"AND " IS_READY("$2") " FOR UPDATE SKIP LOCKED), "
		LEASE_CHOSEN("", "msg_id"),
		3, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[SQL_READ_GROUPED_RR] = {
		"WITH heads AS (SELECT " GROUP_KEY("") " AS grp, " HEAD_IF_VISIBLE " FROM %1$s GROUP BY 1), "
		LOCKED_HEADS
		"held AS MATERIALIZED (SELECT grp, head FROM heads WHERE %2$.0s%3$s), "
		"layered AS (SELECT m.msg_id, h.head, pg_catalog.row_number() OVER (PARTITION BY h.grp ORDER BY m.msg_id) AS layer "
		"FROM %1$s m JOIN held h ON " GROUP_KEY("m.") " OPERATOR(pg_catalog.=) h.grp "
		"WHERE " M_IS_READY "), "
		"ranked AS (SELECT msg_id, pg_catalog.row_number() OVER (ORDER BY layer, head) AS place FROM layered), "
		"chosen AS (SELECT m.msg_id, r.place FROM %1$s m JOIN ranked r "
		"ON m.msg_id OPERATOR(pg_catalog.=) r.msg_id WHERE r.place OPERATOR(pg_catalog.<=) $1 "
		"AND " M_IS_READY " FOR UPDATE OF m SKIP LOCKED), "
		LEASE_CHOSEN("c.place, ", "place"),
		3, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[SQL_READ_GROUPED_HEAD] = {
		"WITH heads AS (SELECT " HEAD_IF_VISIBLE " FROM %1$s GROUP BY " GROUP_KEY("") "), "
		"chosen AS (SELECT msg_id FROM %1$s WHERE msg_id OPERATOR(pg_catalog.=) ANY (SELECT head FROM heads) "
		"AND " IS_READY("$2") " ORDER BY msg_id LIMIT $1 FOR UPDATE SKIP LOCKED), "
		LEASE_CHOSEN("", "msg_id"),
		3, {INT4OID, TIMESTAMPTZOID, TIMESTAMPTZOID}
	},
	[SQL_POP] = {
		"WITH cte AS (SELECT msg_id FROM %1$s "
		"WHERE " IS_READY("$2") " "
		"ORDER BY msg_id ASC LIMIT $1 FOR UPDATE SKIP LOCKED), "
		"popped AS (DELETE FROM %1$s m "
		"WHERE m.msg_id OPERATOR(pg_catalog.=) ANY (SELECT msg_id FROM cte) "
		"RETURNING " M_COLUMNS ") SELECT " ROW_COLUMNS " FROM popped ORDER BY msg_id",
		2, {INT4OID, TIMESTAMPTZOID}
	},
	[SQL_POP_THESE] = {
		"WITH popped AS (DELETE FROM %1$s m "
		"WHERE m.msg_id OPERATOR(pg_catalog.=) ANY ($1) AND " IS_READY("$2") " "
		"RETURNING " M_COLUMNS ") SELECT " ROW_COLUMNS " FROM popped ORDER BY msg_id",
		2, {INT8ARRAYOID, TIMESTAMPTZOID}
	},
	[SQL_DELETE] = {
		"DELETE FROM %1$s WHERE msg_id OPERATOR(pg_catalog.=) ANY ($1) RETURNING msg_id",
		1, {INT8ARRAYOID}
	},
	[SQL_ARCHIVE] = {
		"WITH archived AS (DELETE FROM %1$s WHERE msg_id OPERATOR(pg_catalog.=) ANY ($1) "
		"RETURNING " ROW_COLUMNS ") "
		"INSERT INTO %2$s (" ROW_COLUMNS ") SELECT " ROW_COLUMNS " FROM archived RETURNING msg_id",
		1, {INT8ARRAYOID}
	},
	[SQL_SET_VT] = {
		"WITH extended AS (UPDATE %1$s m SET vt = $1 "
		"WHERE m.msg_id OPERATOR(pg_catalog.=) ANY ($2) RETURNING " M_COLUMNS ") "
		"SELECT " ROW_COLUMNS " FROM extended ORDER BY msg_id",
		2, {TIMESTAMPTZOID, INT8ARRAYOID}
	}
};

typedef struct PlanKey
{
	Oid			relid;
	uint32		verb;
} PlanKey;

typedef struct PlanEntry
{
	PlanKey		key;
	char		table[NAMEDATALEN]; /* a renamed table needs another text */
	char		archive[NAMEDATALEN];
	SPIPlanPtr	plan;
} PlanEntry;

static HTAB *plans = NULL;

/* Kept plans at which those of dropped tables are looked for. */
#define FIRST_SWEEP_PLANS 64

/*
 * Free the plans of tables that are gone: a session may see many queues come
 * and go.  None of them is running, because a table in use cannot be dropped.
 */
static void
sweep_plans(void)
{
	static long next_sweep = FIRST_SWEEP_PLANS;
	HASH_SEQ_STATUS status;
	PlanEntry  *entry;

	if (hash_get_num_entries(plans) < next_sweep)
		return;
	hash_seq_init(&status, plans);
	while ((entry = hash_seq_search(&status)) != NULL)
	{
		if (SearchSysCacheExists1(RELOID, ObjectIdGetDatum(entry->key.relid)))
			continue;
		if (entry->plan != NULL)
			SPI_freeplan(entry->plan);
		(void) hash_search(plans, &entry->key, HASH_REMOVE, NULL);
	}
	next_sweep = Max(FIRST_SWEEP_PLANS, 2 * hash_get_num_entries(plans));
}

static PlanEntry *
find_entry(SqlVerb verb, Oid relid)
{
	PlanKey		key = {relid, (uint32) verb};
	HASHCTL		ctl;
	PlanEntry  *entry;
	bool		found;

	if (plans == NULL)
	{
		ctl.keysize = sizeof(PlanKey);
		ctl.entrysize = sizeof(PlanEntry);
		ctl.hcxt = TopMemoryContext;
		plans = hash_create("pgmq plans", 64, &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	entry = hash_search(plans, &key, HASH_FIND, NULL);
	if (entry != NULL)
		return entry;
	sweep_plans();
	entry = hash_search(plans, &key, HASH_ENTER, &found);
	if (!found)
	{
		entry->plan = NULL;
		entry->table[0] = entry->archive[0] = '\0';
	}
	return entry;
}

static char *
qualified(Relation rel)
{
	return quote_qualified_identifier(get_namespace_name(RelationGetNamespace(rel)),
									  RelationGetRelationName(rel));
}

/*
 * What holds a group for read_grouped_rr.  On a heap queue it is an advisory
 * lock, whose key does not name the queue: clients may rely on that lock.  On
 * a hot queue it is the head, as on the fast path: no group is held but those
 * whose head is, and the server's lock table does not fill with groups.
 */
#define HEAP_GROUP_LOCK \
	"CASE WHEN head IS NOT NULL THEN " \
	"pg_catalog.pg_try_advisory_xact_lock(pg_catalog.hashtextextended(grp, 0)) END"
#define HOT_GROUP_LOCK "head OPERATOR(pg_catalog.=) ANY (SELECT msg_id FROM locked)"

/* The kept plan of a verb on a table; inside SPI. */
static SPIPlanPtr
get_plan(SqlVerb verb, Relation rel, const char *archive)
{
	const Statement *statement = &statements[verb];
	PlanEntry  *entry = find_entry(verb, RelationGetRelid(rel));
	char	   *text;
	Oid			types[SQL_MAX_ARGS];

	if (archive == NULL)
		archive = "";
	if (entry->plan != NULL && strcmp(entry->table, RelationGetRelationName(rel)) == 0 &&
		strcmp(entry->archive, archive) == 0 && SPI_plan_is_valid(entry->plan))
		return entry->plan;
	if (entry->plan != NULL)
		SPI_freeplan(entry->plan);
	entry->plan = NULL;
	text = psprintf(statement->text, qualified(rel),
					quote_qualified_identifier("pgmq", archive),
					pgmq_am_is_ours(rel) ? HOT_GROUP_LOCK : HEAP_GROUP_LOCK);
	memcpy(types, statement->types, sizeof(types));
	entry->plan = SPI_prepare(text, statement->n_args, types);
	if (entry->plan == NULL || SPI_keepplan(entry->plan) != 0)
		elog(ERROR, "could not prepare \"%s\": %s", text, SPI_result_code_string(SPI_result));
	strlcpy(entry->table, RelationGetRelationName(rel), NAMEDATALEN);
	strlcpy(entry->archive, archive, NAMEDATALEN);
	return entry->plan;
}

/* Copy SPI's rows out; called inside SPI, rows belong to the caller's memory. */
static void
copy_rows(RowsOut *out, MemoryContext caller)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;
	Datum	   *values = palloc(desc->natts * sizeof(Datum));
	bool	   *nulls = palloc(desc->natts * sizeof(bool));

	for (uint64 i = 0; i < SPI_processed; i++)
	{
		MemoryContext old;

		heap_deform_tuple(SPI_tuptable->vals[i], desc, values, nulls);
		old = MemoryContextSwitchTo(caller);
		if (out->is_composite && !out->has_leading)
			pgmq_rows_add_values(out, values, nulls);
		else
			pgmq_rows_add_scalar(out, values[0]);
		MemoryContextSwitchTo(old);
	}
}

/*
 * Run a verb's statement on a table; result rows go to *out, if not NULL.
 * Returns how many rows there were.
 */
int64
pgmq_sql_run(SqlVerb verb, Relation rel, const char *archive, Datum *values,
			 const char *nulls, RowsOut *out)
{
	MemoryContext caller = CurrentMemoryContext;
	int			result;
	int64		n;

	SPI_connect();
	result = SPI_execute_plan(get_plan(verb, rel, archive), values, nulls, false, 0);
	if (result < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
	n = (int64) SPI_processed;
	if (out != NULL)
		copy_rows(out, caller);
	SPI_finish();
	return n;
}

/* Run a DDL or DML statement that returns nothing. */
void
pgmq_sql_ddl(const char *format,...)
{
	StringInfoData sql;
	int			result;

	initStringInfo(&sql);
	for (;;)
	{
		va_list		args;
		int			needed;

		va_start(args, format);
		needed = appendStringInfoVA(&sql, format, args);
		va_end(args);
		if (needed == 0)
			break;
		enlargeStringInfo(&sql, needed);
	}
	SPI_connect();
	result = SPI_execute(sql.data, false, 0);
	if (result < 0)
		elog(ERROR, "\"%s\" failed: %s", sql.data, SPI_result_code_string(result));
	SPI_finish();
	pfree(sql.data);
}

/*
 * Run a statement and fetch the first column of its first row, which must be
 * passed by value or is copied.  False if there was no row.
 */
bool
pgmq_sql_one(const char *sql, int n_args, Oid *types, Datum *values,
			 const char *nulls, bool read_only, Datum *result, bool *isnull)
{
	int			code;
	bool		has_row;

	SPI_connect();
	code = SPI_execute_with_args(sql, n_args, types, values, nulls, read_only, 0);
	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(code));
	has_row = SPI_processed > 0 && SPI_tuptable != NULL;
	if (has_row && result != NULL)
	{
		Form_pg_attribute attribute = TupleDescAttr(SPI_tuptable->tupdesc, 0);

		*result = SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1, isnull);
		if (!*isnull)
			*result = SPI_datumTransfer(*result, attribute->attbyval, attribute->attlen);
	}
	SPI_finish();
	return has_row;
}

/* Run a query and hand all its rows out. */
int64
pgmq_sql_rows(const char *sql, RowsOut *out)
{
	return pgmq_sql_rows_with(sql, 0, NULL, NULL, NULL, false, out);
}

/*
 * The same with arguments; read_only is for functions that are STABLE: the
 * query then sees what the calling one does.
 */
int64
pgmq_sql_rows_with(const char *sql, int n_args, Oid *types, Datum *values,
				   const char *nulls, bool read_only, RowsOut *out)
{
	MemoryContext caller = CurrentMemoryContext;
	int			result;
	int64		n;

	SPI_connect();
	result = SPI_execute_with_args(sql, n_args, types, values, nulls, read_only, 0);
	if (result < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(result));
	n = (int64) SPI_processed;
	copy_rows(out, caller);
	SPI_finish();
	return n;
}
