/*
 * drop_extension.c
 *	  DROP EXTENSION pgmq leaves the queues, as heap queues.
 *
 * Hot tables depend on the access method: it would fail because of them, or
 * with CASCADE drop them, where the SQL-only pgmq leaves its queues.  So they
 * become heap tables before.  An event trigger calls us, which works without
 * the library preloaded, too.
 */
#include "common/compat.h"

#include "api/convert.h"
#include "catalog/namespace.h"
#include "commands/defrem.h"
#include "commands/event_trigger.h"
#include "nodes/parsenodes.h"
#include "storage/lmgr.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"

static bool
drops_pgmq(Node *statement)
{
	DropStmt   *drop = (DropStmt *) statement;
	ListCell   *cell;

	if (!IsA(statement, DropStmt) || drop->removeType != OBJECT_EXTENSION)
		return false;
	foreach(cell, drop->objects)
		if (strcmp(strVal(lfirst(cell)), "pgmq") == 0)
			return true;
	return false;
}

static void
make_all_heap(Oid am)
{
	int			guc_level = pgmq_use_safe_search_path();
	List	   *tables;
	ListCell   *cell;

	tables = pgmq_texts_about("SELECT oid FROM pg_class WHERE relam = $1 AND relkind = 'r' "
							  "ORDER BY oid", am);
	foreach(cell, tables)
	{
		Oid			relid = atooid((char *) lfirst(cell));

		LockRelationOid(relid, AccessExclusiveLock);
		pgmq_rewrite_as_heap(relid);
		if (get_rel_namespace(relid) == get_namespace_oid("pgmq", true))
			(void) pgmq_add_heap_indexes(relid);
	}
	AtEOXact_GUC(true, guc_level);
}

/* pgmq._before_drop_extension(), of event trigger pgmq_before_drop_extension */
PG_FUNCTION_INFO_V1(pgmq_before_drop_extension);
PGDLLEXPORT Datum
pgmq_before_drop_extension(PG_FUNCTION_ARGS)
{
	Oid			am = get_table_am_oid("pgmq", true);

	if (!CALLED_AS_EVENT_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_E_R_I_E_EVENT_TRIGGER_PROTOCOL_VIOLATED),
				 errmsg("not called by event trigger manager")));
	if (OidIsValid(am) &&
		drops_pgmq(((EventTriggerData *) fcinfo->context)->parsetree))
		make_all_heap(am);
	PG_RETURN_NULL();
}
