/*
 * fn_queue.c
 *	  The life cycle of queues: create, drop, purge, list.
 *
 * DDL goes through SPI with the caller's rights, so ownership, privileges,
 * event triggers and notices are the server's own.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "api/api.h"
#include "catalog/pg_collation.h"
#include "common/settings.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

/* Serialize creation and dropping of one queue, until the transaction ends. */
void
pgmq_lock_queue_name(text *queue_name)
{
	text	   *key = cstring_to_text(psprintf("pgmq.queue_%s", text_to_cstring(queue_name)));
	int32		hash = DatumGetInt32(DirectFunctionCall1Coll(hashtext, DEFAULT_COLLATION_OID,
															 PointerGetDatum(key)));

	(void) DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum((int64) hash));
}

PG_FUNCTION_INFO_V1(pgmq_acquire_queue_lock);
PGDLLEXPORT Datum
pgmq_acquire_queue_lock(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
		pgmq_lock_queue_name(PG_GETARG_TEXT_PP(0));
	PG_RETURN_VOID();
}

/* ---- create ---- */

static bool
wants_hot_storage(void)
{
	switch (pgmq_queue_storage)
	{
		case STORAGE_HOT:
			return true;
		case STORAGE_HEAP:
			return false;
		default:
			return pgmq_xact_has_rings();
	}
}

/*
 * A hot queue has no index: msg_id comes from its sequence, and the ring finds
 * rows by it.  Where changes are decoded logically it gets its primary key,
 * because subscribers need a replica identity (and see publication.c).
 */
static void
create_queue_table(const char *table, bool is_hot, bool is_unlogged)
{
	bool		has_key = !is_hot || XLogLogicalInfoActive();

	pgmq_sql_ddl("CREATE %s TABLE IF NOT EXISTS pgmq.%s ("
				 "msg_id BIGINT %s GENERATED ALWAYS AS IDENTITY, "
				 PGMQ_QUEUE_COLUMNS ") USING %s",
				 is_unlogged ? "UNLOGGED" : "", quote_identifier(table),
				 has_key ? "PRIMARY KEY" : "NOT NULL", is_hot ? "pgmq" : "heap");
}

static void
create_archive_table(const char *table)
{
	pgmq_sql_ddl("CREATE TABLE IF NOT EXISTS pgmq.%s ("
				 "msg_id BIGINT PRIMARY KEY, " PGMQ_ARCHIVE_COLUMNS ") USING heap",
				 quote_identifier(table));
}

/* List the queue; one that is listed keeps the flags it was made with. */
void
pgmq_insert_meta(text *queue_name, bool is_partitioned, bool is_unlogged)
{
	Oid			types[3] = {TEXTOID, BOOLOID, BOOLOID};
	Datum		values[3] = {PointerGetDatum(queue_name),
	BoolGetDatum(is_partitioned), BoolGetDatum(is_unlogged)};

	(void) pgmq_sql_one("INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged) "
						"VALUES ($1, $2, $3) ON CONFLICT DO NOTHING",
						3, types, values, NULL, false, NULL, NULL);
}

/* What monitoring needs for metrics, and no more. */
void
pgmq_grant_to_monitor(const char *table)
{
	pgmq_sql_ddl("GRANT SELECT (vt, enqueued_at) ON TABLE pgmq.%s TO pg_monitor",
				 quote_identifier(table));
	pgmq_sql_ddl("GRANT SELECT ON SEQUENCE pgmq.%s TO pg_monitor",
				 quote_identifier(psprintf("%s_msg_id_seq", table)));
}

void
pgmq_refuse_null_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("null values cannot be formatted as an SQL identifier")));
}

/* The index over archived_at; its name keeps the spelling of the queue's. */
void
pgmq_index_archive(text *queue_name, const char *archive)
{
	pgmq_sql_ddl("CREATE INDEX IF NOT EXISTS %s ON pgmq.%s (archived_at)",
				 quote_identifier(psprintf("archived_at_idx_%s", text_to_cstring(queue_name))),
				 quote_identifier(archive));
}

/*
 * The index over vt, unless the table is hot: what counts is the table that is
 * there, whatever the setting says now.  Creating a queue again is told in four
 * notices, of which a hot queue's are the same.
 */
static void
index_vt(const char *table, bool existed)
{
	char	   *index = psprintf("%s_vt_idx", table);

	if (!pgmq_table_is_hot(table))
		pgmq_sql_ddl("CREATE INDEX IF NOT EXISTS %s ON pgmq.%s (vt ASC)",
					 quote_identifier(index), quote_identifier(table));
	else if (existed)
		ereport(NOTICE,
				(errcode(ERRCODE_DUPLICATE_TABLE),
				 errmsg("relation \"%s\" already exists, skipping", index)));
}

static Datum
create_queue(FunctionCallInfo fcinfo, bool is_unlogged)
{
	text	   *queue_name;
	char	   *table;
	char	   *archive;
	bool		existed;

	pgmq_refuse_null_name(fcinfo);
	queue_name = PG_GETARG_TEXT_PP(0);
	table = pgmq_table_name(queue_name, 'q');
	archive = pgmq_table_name(queue_name, 'a');
	pgmq_check_name_length(queue_name);
	pgmq_lock_queue_name(queue_name);

	existed = OidIsValid(pgmq_table_oid(table));
	create_queue_table(table, wants_hot_storage(), is_unlogged);
	create_archive_table(archive);
	if (!existed && pgmq_table_is_hot(table))
		pgmq_make_replicable(pgmq_table_oid(table));
	index_vt(table, existed);
	pgmq_index_archive(queue_name, archive);
	pgmq_insert_meta(queue_name, false, is_unlogged);
	pgmq_grant_to_monitor(table);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(pgmq_create_non_partitioned);
PGDLLEXPORT Datum
pgmq_create_non_partitioned(PG_FUNCTION_ARGS)
{
	return create_queue(fcinfo, false);
}

PG_FUNCTION_INFO_V1(pgmq_create_unlogged);
PGDLLEXPORT Datum
pgmq_create_unlogged(PG_FUNCTION_ARGS)
{
	return create_queue(fcinfo, true);
}

/* ---- drop ---- */

/*
 * Clear the queue's row in meta, and those of other spellings of its name,
 * which are the same table.  True if one of them said partitioned.
 */
static bool
delete_meta(const char *table)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(table)};
	Datum		was_partitioned;
	bool		isnull = true;

	(void) pgmq_sql_one("WITH gone AS (DELETE FROM pgmq.meta WHERE "
						"pg_catalog.lower('q_' OPERATOR(pg_catalog.||) queue_name::pg_catalog.text) "
						"OPERATOR(pg_catalog.=) $1 RETURNING is_partitioned) "
						"SELECT pg_catalog.bool_or(is_partitioned) FROM gone",
						1, types, values, NULL, false, &was_partitioned, &isnull);
	return !isnull && DatumGetBool(was_partitioned);
}

/* Is there such a table?  An index or a sequence of that name is no queue. */
static bool
is_table(const char *name)
{
	Oid			relid = pgmq_table_oid(name);

	return OidIsValid(relid) && strchr("rpvf", get_rel_relkind(relid)) != NULL;
}

static bool
drop_queue(FunctionCallInfo fcinfo)
{
	text	   *queue_name;
	char	   *table;
	char	   *archive;

	if (PG_ARGISNULL(0))
	{
		ereport(NOTICE, (errmsg("pgmq queue `%s` does not exist", "<NULL>")));
		return false;
	}
	queue_name = PG_GETARG_TEXT_PP(0);
	table = pgmq_table_name(queue_name, 'q');
	archive = pgmq_table_name(queue_name, 'a');
	pgmq_lock_queue_name(queue_name);
	if (!is_table(table))
	{
		ereport(NOTICE,
				(errmsg("pgmq queue `%s` does not exist", text_to_cstring(queue_name))));
		return false;
	}
	pgmq_sql_ddl("DROP TABLE IF EXISTS pgmq.%s", quote_identifier(table));
	pgmq_sql_ddl("DROP TABLE IF EXISTS pgmq.%s", quote_identifier(archive));
	if (delete_meta(table))
	{
		pgmq_forget_partitions(table);
		pgmq_forget_partitions(archive);
	}
	return true;
}

PG_FUNCTION_INFO_V1(pgmq_drop_queue);
PGDLLEXPORT Datum
pgmq_drop_queue(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(drop_queue(fcinfo));
}

PG_FUNCTION_INFO_V1(pgmq_drop_queue_partitioned);
PGDLLEXPORT Datum
pgmq_drop_queue_partitioned(PG_FUNCTION_ARGS)
{
	ereport(WARNING,
			(errmsg("drop_queue(queue_name, partitioned) is deprecated and will be removed in PGMQ v2.0. Use drop_queue(queue_name) instead")));
	(void) drop_queue(fcinfo);
	PG_RETURN_BOOL(true);
}

/* Archives are no members of the extension any more: nothing to detach. */
PG_FUNCTION_INFO_V1(pgmq_detach_archive);
PGDLLEXPORT Datum
pgmq_detach_archive(PG_FUNCTION_ARGS)
{
	ereport(WARNING,
			(errmsg("detach_archive(queue_name) is deprecated and is a no-op. It will be removed in PGMQ v2.0. Archive tables are no longer member objects.")));
	PG_RETURN_VOID();
}

/* ---- purge, list ---- */

PG_FUNCTION_INFO_V1(pgmq_purge_queue);
PGDLLEXPORT Datum
pgmq_purge_queue(PG_FUNCTION_ARGS)
{
	char	   *table;
	Datum		count;
	bool		isnull;

	pgmq_refuse_null_name(fcinfo);
	table = pgmq_table_name(PG_GETARG_TEXT_PP(0), 'q');
	/* At once, so that two purges do not both count and then wait. */
	pgmq_sql_ddl("LOCK TABLE pgmq.%s IN ACCESS EXCLUSIVE MODE", quote_identifier(table));
	(void) pgmq_sql_one(psprintf("SELECT pg_catalog.count(*) FROM pgmq.%s",
								 quote_identifier(table)),
						0, NULL, NULL, NULL, false, &count, &isnull);
	if (DatumGetInt64(count) > PG_INT32_MAX)
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("integer out of range")));
	pgmq_sql_ddl("TRUNCATE TABLE pgmq.%s", quote_identifier(table));
	PG_RETURN_DATUM(count);
}

PG_FUNCTION_INFO_V1(pgmq_list_queues);
PGDLLEXPORT Datum
pgmq_list_queues(PG_FUNCTION_ARGS)
{
	RowsOut		out;

	pgmq_rows_begin(fcinfo, &out);
	(void) pgmq_sql_rows("SELECT queue_name, is_partitioned, is_unlogged, created_at FROM pgmq.meta",
						 &out);
	return pgmq_rows_end(&out);
}
