/*
 * worker_utility.c
 *	  Keeps database workers out of the way of statements that want a database
 *	  to themselves, and forgets the rings of dropped databases.
 */
#include "common/compat.h"

#include "commands/dbcommands.h"
#include "nodes/parsenodes.h"
#include "storage/ipc.h"
#include "tcop/utility.h"
#include "worker/worker.h"
#include "xact/xact.h"

static ProcessUtility_hook_type prev_process_utility = NULL;

/* The template a CREATE DATABASE copies. */
static const char *
template_name(const CreatedbStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
	{
		DefElem    *option = lfirst(cell);

		if (strcmp(option->defname, "template") == 0 && option->arg != NULL &&
			IsA(option->arg, String))
			return strVal(option->arg);
	}
	return "template1";
}

static bool
moves_tablespace(const AlterDatabaseStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->options)
		if (strcmp(((DefElem *) lfirst(cell))->defname, "tablespace") == 0)
			return true;
	return false;
}

/*
 * The database a statement must have for itself, or NULL.  *loses_files: its
 * relation files, as they are named now, go away.
 */
static const char *
wanted_database(Node *statement, bool *loses_files)
{
	*loses_files = false;
	switch (nodeTag(statement))
	{
		case T_DropdbStmt:
			*loses_files = true;
			return ((DropdbStmt *) statement)->dbname;
		case T_CreatedbStmt:
			return template_name((CreatedbStmt *) statement);
		case T_AlterDatabaseStmt:
			if (!moves_tablespace((AlterDatabaseStmt *) statement))
				return NULL;
			*loses_files = true;
			return ((AlterDatabaseStmt *) statement)->dbname;
		case T_RenameStmt:
			return ((RenameStmt *) statement)->renameType == OBJECT_DATABASE ?
				((RenameStmt *) statement)->subname : NULL;
		default:
			return NULL;
	}
}

static void
run_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
			ProcessUtilityContext context, ParamListInfo params,
			QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_process_utility ?
		prev_process_utility : standard_ProcessUtility;

	next(pstmt, query, read_only_tree, context, params, environment, dest, qc);
}

/* For a session that is terminated meanwhile: no error handler runs then. */
static void
resume_at_exit(int code, Datum dbid)
{
	pgmq_worker_resume(DatumGetObjectId(dbid));
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	bool		loses_files;
	const char *name = wanted_database(pstmt->utilityStmt, &loses_files);
	Oid			dbid = name != NULL ? get_database_oid(name, true) : InvalidOid;

	if (!OidIsValid(dbid))
	{
		run_utility(pstmt, query, read_only_tree, context, params, environment, dest, qc);
		return;
	}
	pgmq_worker_pause(dbid);
	PG_ENSURE_ERROR_CLEANUP(resume_at_exit, ObjectIdGetDatum(dbid));
	{
		pgmq_worker_evict(dbid);
		run_utility(pstmt, query, read_only_tree, context, params, environment, dest, qc);
		if (loses_files)
			pgmq_xact_forget_database(dbid);
	}
	PG_END_ENSURE_ERROR_CLEANUP(resume_at_exit, ObjectIdGetDatum(dbid));
	pgmq_worker_resume(dbid);
}

void
pgmq_worker_utility_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
