/*
 * convert_sql.c
 *	  Statements of a conversion.
 *
 * They run with search_path pg_catalog, so names are not qualified.
 */
#include "common/compat.h"

#include "api/convert.h"
#include "executor/spi.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

/* Run a statement about a table ($1), as one of ours. */
static void
run_about(const char *sql, Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	int			code = SPI_execute_with_args(sql, 1, types, values, NULL, false, 0);

	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(code));
}

/* The first column of a query about a table ($1), as strings. */
List *
pgmq_texts_about(const char *sql, Oid relid)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *texts = NIL;

	SPI_connect();
	run_about(sql, relid);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(caller);

		texts = lappend(texts, pstrdup(text));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return texts;
}

void
pgmq_run_all(List *statements)
{
	ListCell   *cell;

	foreach(cell, statements)
		pgmq_sql_ddl("%s", (char *) lfirst(cell));
}

const char *
pgmq_qualified_table(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* Returns the level to give to AtEOXact_GUC() afterwards. */
int
pgmq_use_safe_search_path(void)
{
	int			guc_level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return guc_level;
}

