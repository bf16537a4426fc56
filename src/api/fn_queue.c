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
#include "catalog/namespace.h"
#include "catalog/pg_collation.h"
#include "common/settings.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"

/* Serialize creation and dropping of one queue, until the transaction ends. */
static void
lock_queue_name(text *queue_name)
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
		lock_queue_name(PG_GETARG_TEXT_PP(0));
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
 * because subscribers need a replica identity.
 */
static void
create_queue_table(const char *table, bool is_hot, bool is_unlogged)
{
	bool		has_key = !is_hot || XLogLogicalInfoActive();

	pgmq_sql_ddl("CREATE %s TABLE IF NOT EXISTS pgmq.%s ("
				 "msg_id BIGINT %s GENERATED ALWAYS AS IDENTITY, "
				 "read_ct INT DEFAULT 0 NOT NULL, "
				 "enqueued_at TIMESTAMP WITH TIME ZONE DEFAULT pg_catalog.now() NOT NULL, "
				 "last_read_at TIMESTAMP WITH TIME ZONE, "
				 "vt TIMESTAMP WITH TIME ZONE NOT NULL, "
				 "message pg_catalog.jsonb, headers pg_catalog.jsonb) USING %s",
				 is_unlogged ? "UNLOGGED" : "", quote_identifier(table),
				 has_key ? "PRIMARY KEY" : "NOT NULL", is_hot ? "pgmq" : "heap");
}

static void
create_archive_table(const char *table)
{
	pgmq_sql_ddl("CREATE TABLE IF NOT EXISTS pgmq.%s ("
				 "msg_id BIGINT PRIMARY KEY, "
				 "read_ct INT DEFAULT 0 NOT NULL, "
				 "enqueued_at TIMESTAMP WITH TIME ZONE DEFAULT pg_catalog.now() NOT NULL, "
				 "last_read_at TIMESTAMP WITH TIME ZONE, "
				 "archived_at TIMESTAMP WITH TIME ZONE DEFAULT pg_catalog.now() NOT NULL, "
				 "vt TIMESTAMP WITH TIME ZONE NOT NULL, "
				 "message pg_catalog.jsonb, headers pg_catalog.jsonb) USING heap",
				 quote_identifier(table));
}

static void
insert_meta(text *queue_name, bool is_unlogged)
{
	Oid			types[2] = {TEXTOID, BOOLOID};
	Datum		values[2] = {PointerGetDatum(queue_name), BoolGetDatum(is_unlogged)};

	(void) pgmq_sql_one("INSERT INTO pgmq.meta (queue_name, is_partitioned, is_unlogged) "
						"VALUES ($1, false, $2) ON CONFLICT DO NOTHING",
						2, types, values, NULL, false, NULL, NULL);
}

/* What monitoring needs for metrics, and no more. */
static void
grant_to_monitor(const char *table)
{
	pgmq_sql_ddl("GRANT SELECT (vt, enqueued_at) ON TABLE pgmq.%s TO pg_monitor",
				 quote_identifier(table));
	pgmq_sql_ddl("GRANT SELECT ON SEQUENCE pgmq.%s TO pg_monitor",
				 quote_identifier(psprintf("%s_msg_id_seq", table)));
}

static void
refuse_null_name(FunctionCallInfo fcinfo)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("null values cannot be formatted as an SQL identifier")));
}

static Datum
create_queue(FunctionCallInfo fcinfo, bool is_unlogged)
{
	text	   *queue_name;
	char	   *table;
	char	   *archive;
	bool		is_hot = wants_hot_storage();

	refuse_null_name(fcinfo);
	queue_name = PG_GETARG_TEXT_PP(0);
	table = pgmq_table_name(queue_name, 'q');
	archive = pgmq_table_name(queue_name, 'a');
	pgmq_check_name_length(queue_name);
	lock_queue_name(queue_name);

	create_queue_table(table, is_hot, is_unlogged);
	create_archive_table(archive);
	if (!is_hot)
		pgmq_sql_ddl("CREATE INDEX IF NOT EXISTS %s ON pgmq.%s (vt ASC)",
					 quote_identifier(psprintf("%s_vt_idx", table)),
					 quote_identifier(table));
	pgmq_sql_ddl("CREATE INDEX IF NOT EXISTS %s ON pgmq.%s (archived_at)",
				 quote_identifier(psprintf("archived_at_idx_%s", text_to_cstring(queue_name))),
				 quote_identifier(archive));
	insert_meta(queue_name, is_unlogged);
	grant_to_monitor(table);
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

static bool
table_exists(const char *table)
{
	char	   *name = pstrdup(table);
	Oid			schema = get_namespace_oid("pgmq", true);

	truncate_identifier(name, strlen(name), false);
	return OidIsValid(schema) && OidIsValid(get_relname_relid(name, schema));
}

/*
 * Clear the queue's row in meta, and those of other spellings of its name,
 * which are the same table.
 */
static void
delete_meta(text *queue_name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {PointerGetDatum(queue_name)};

	(void) pgmq_sql_one("DELETE FROM pgmq.meta WHERE "
						"pg_catalog.lower(queue_name) OPERATOR(pg_catalog.=) pg_catalog.lower($1)",
						1, types, values, NULL, false, NULL, NULL);
}

static bool
drop_queue(FunctionCallInfo fcinfo)
{
	text	   *queue_name;
	char	   *table;

	if (PG_ARGISNULL(0))
	{
		ereport(NOTICE, (errmsg("pgmq queue `%s` does not exist", "<NULL>")));
		return false;
	}
	queue_name = PG_GETARG_TEXT_PP(0);
	table = pgmq_table_name(queue_name, 'q');
	lock_queue_name(queue_name);
	if (!table_exists(table))
	{
		ereport(NOTICE,
				(errmsg("pgmq queue `%s` does not exist", text_to_cstring(queue_name))));
		return false;
	}
	pgmq_sql_ddl("DROP TABLE IF EXISTS pgmq.%s", quote_identifier(table));
	pgmq_sql_ddl("DROP TABLE IF EXISTS pgmq.%s",
				 quote_identifier(pgmq_table_name(queue_name, 'a')));
	delete_meta(queue_name);
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

/* ---- purge, list ---- */

PG_FUNCTION_INFO_V1(pgmq_purge_queue);
PGDLLEXPORT Datum
pgmq_purge_queue(PG_FUNCTION_ARGS)
{
	char	   *table;
	Datum		count;
	bool		isnull;

	refuse_null_name(fcinfo);
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
