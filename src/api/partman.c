/*
 * partman.c
 *	  pg_partman, which makes and drops the partitions of partitioned queues.
 *
 * It is optional, may live in any schema, and comes in versions 4 and 5, which
 * differ in how they name range partitioning and in the order of arguments;
 * ours are passed by name.  All of it runs with the caller's rights.
 */
#include "common/compat.h"

#include "api/api.h"
#include "commands/extension.h"
#include "utils/builtins.h"
#include "utils/guc.h"

#define OF_PARTMAN \
	"FROM pg_catalog.pg_extension e JOIN pg_catalog.pg_namespace n " \
	"ON n.oid OPERATOR(pg_catalog.=) e.extnamespace " \
	"WHERE e.extname OPERATOR(pg_catalog.=) 'pg_partman'"

/* The schema it is installed in, not quoted; NULL if it is not installed. */
char *
pgmq_partman_schema(void)
{
	Datum		schema;
	bool		isnull;

	if (!pgmq_sql_one("SELECT n.nspname::pg_catalog.text " OF_PARTMAN,
					  0, NULL, NULL, NULL, false, &schema, &isnull))
		return NULL;
	return TextDatumGetCString(schema);
}

/* The number before the first dot of its version; false if not installed. */
static bool
partman_major_version(int32 *major)
{
	Datum		value;
	bool		isnull;

	if (!pgmq_sql_one("SELECT pg_catalog.split_part(e.extversion, '.', 1)::pg_catalog.int4 " OF_PARTMAN,
					  0, NULL, NULL, NULL, false, &value, &isnull) || isnull)
		return false;
	*major = DatumGetInt32(value);
	return true;
}

void
pgmq_require_partman(void)
{
	if (!OidIsValid(get_extension_oid("pg_partman", true)))
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("pg_partman is required for partitioned queues")));
}

/*
 * Its schema, quoted, for a statement that cannot do without; where it is not
 * installed, the error is that of a statement put together with a NULL.
 */
static const char *
quoted_schema(void)
{
	char	   *schema = pgmq_partman_schema();

	if (schema == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("null values cannot be formatted as an SQL identifier"),
				 errdetail("Extension pg_partman is not installed.")));
	return quote_identifier(schema);
}

/* The name under which it knows a table. */
static Datum
parent_name(const char *table)
{
	return CStringGetTextDatum(psprintf("pgmq.%s", table));
}

/*
 * Make a partitioned table's first partitions and put it under pg_partman's
 * care.  premake may be NULL: pg_partman's default.
 *
 * Partitions are heap tables: a ring belongs to a whole queue.
 */
void
pgmq_create_parent(const char *table, const char *column, text *interval,
				   const int32 *premake)
{
	const char *schema = quoted_schema();
	Oid			types[5] = {TEXTOID, TEXTOID, TEXTOID, TEXTOID, INT4OID};
	char		nulls[5] = {' ', ' ', interval ? ' ' : 'n', ' ', ' '};
	Datum		values[5];
	int32		major = 0;
	int			nest_level = NewGUCNestLevel();

	(void) partman_major_version(&major);
	values[0] = parent_name(table);
	values[1] = CStringGetTextDatum(column);
	values[2] = PointerGetDatum(interval);
	values[3] = CStringGetTextDatum(major >= 5 ? "range" : "native");
	values[4] = Int32GetDatum(premake ? *premake : 0);
	(void) set_config_option("default_table_access_method", "heap", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	(void) pgmq_sql_one(psprintf("SELECT %s.create_parent(p_parent_table => $1, "
								 "p_control => $2, p_interval => $3, p_type => $4%s)",
								 schema, premake ? ", p_premake => $5" : ""),
						premake ? 5 : 4, types, values, nulls, false, NULL, NULL);
	AtEOXact_GUC(true, nest_level);
}

/*
 * How long pg_partman keeps partitions; it drops them with what is in them.
 * settings are further assignments to columns of part_config.
 */
void
pgmq_set_retention(const char *table, text *retention, const char *settings)
{
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2] = {PointerGetDatum(retention), parent_name(table)};
	char		nulls[2] = {retention ? ' ' : 'n', ' '};

	(void) pgmq_sql_one(psprintf("UPDATE %s.part_config "
								 "SET retention = $1, retention_keep_table = false, %s "
								 "WHERE parent_table OPERATOR(pg_catalog.=) $2",
								 quoted_schema(), settings),
						2, types, values, nulls, false, NULL, NULL);
}

/* Take a dropped table out of pg_partman's care. */
void
pgmq_forget_partitions(const char *table)
{
	char	   *schema = pgmq_partman_schema();
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {parent_name(table)};

	if (schema != NULL)
		(void) pgmq_sql_one(psprintf("DELETE FROM %s.part_config "
									 "WHERE parent_table OPERATOR(pg_catalog.=) $1",
									 quote_identifier(schema)),
							1, types, values, NULL, false, NULL, NULL);
}

/*
 * What a queue is partitioned by: msg_id if the interval is a number, whatever
 * number, else the time.  No interval counts as a number.
 */
const char *
pgmq_partition_column(text *interval)
{
	return interval == NULL || pgmq_is_int32(text_to_cstring(interval)) ?
		"msg_id" : "enqueued_at";
}

/* ---- what of this the API offers ---- */

PG_FUNCTION_INFO_V1(pgmq_get_partition_col);
PGDLLEXPORT Datum
pgmq_get_partition_col(PG_FUNCTION_ARGS)
{
	PG_RETURN_TEXT_P(cstring_to_text(pgmq_partition_column(pgmq_text_or_null(fcinfo, 0))));
}

PG_FUNCTION_INFO_V1(pgmq_ensure_pg_partman_installed);
PGDLLEXPORT Datum
pgmq_ensure_pg_partman_installed(PG_FUNCTION_ARGS)
{
	pgmq_require_partman();
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(pgmq_get_pg_partman_schema);
PGDLLEXPORT Datum
pgmq_get_pg_partman_schema(PG_FUNCTION_ARGS)
{
	char	   *schema = pgmq_partman_schema();

	if (schema == NULL)
		PG_RETURN_NULL();
	PG_RETURN_TEXT_P(cstring_to_text(schema));
}

PG_FUNCTION_INFO_V1(pgmq_get_pg_partman_major_version);
PGDLLEXPORT Datum
pgmq_get_pg_partman_major_version(PG_FUNCTION_ARGS)
{
	int32		major;

	if (!partman_major_version(&major))
		PG_RETURN_NULL();
	PG_RETURN_INT32(major);
}

PG_FUNCTION_INFO_V1(pgmq_extension_exists);
PGDLLEXPORT Datum
pgmq_extension_exists(PG_FUNCTION_ARGS)
{
	PG_RETURN_BOOL(!PG_ARGISNULL(0) &&
				   OidIsValid(get_extension_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)), true)));
}

/* Is a table of schema pgmq a member of the extension? Queues are not. */
PG_FUNCTION_INFO_V1(pgmq_belongs_to_pgmq);
PGDLLEXPORT Datum
pgmq_belongs_to_pgmq(PG_FUNCTION_ARGS)
{
	Oid			relid = InvalidOid;
	Oid			extension = get_extension_oid("pgmq", true);

	if (!PG_ARGISNULL(0))
		relid = pgmq_table_oid(text_to_cstring(PG_GETARG_TEXT_PP(0)));
	PG_RETURN_BOOL(OidIsValid(relid) && OidIsValid(extension) &&
				   getExtensionOfObject(RelationRelationId, relid) == extension);
}
