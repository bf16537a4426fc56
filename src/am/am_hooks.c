/*
 * am_hooks.c
 *	  What the table access method API does not tell us.
 *
 *	- that a table is dropped or altered (object access hook);
 *	- that an index is about to be built while leases of this transaction are
 *	  not on their pages yet: it would keep what is there (utility hook);
 *	- that a parallel plan starts while leases of this transaction are not on
 *	  their pages yet: workers could not see them, so such a plan runs without
 *	  workers (executor hook).
 */
#include "common/compat.h"

#include "am/am.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_class.h"
#include "executor/executor.h"
#include "tcop/utility.h"

static object_access_hook_type prev_object_access = NULL;
static ExecutorRun_hook_type prev_executor_run = NULL;
static ProcessUtility_hook_type prev_process_utility = NULL;

static void
note_drop_or_alter(ObjectAccessType access, Oid relid)
{
	Relation	rel = RelationIdGetRelation(relid);

	if (rel == NULL)
		return;
	if (pgmq_am_is_ours(rel))
	{
		if (access == OAT_DROP)
			pgmq_xact_note_drop(&REL_LOCATOR(rel), relid);
		else
			pgmq_xact_note_rebuild(rel);
	}
	RelationClose(rel);
}

/*
 * Dropping a table drops its ring at commit.  Altering one may change what we
 * can track of its rows (a column's type), so its ring is rebuilt; DDL is
 * rare, and a rebuild is a scan.
 */
static void
object_access(ObjectAccessType access, Oid class_id, Oid object_id, int sub_id,
			  void *arg)
{
	if (prev_object_access)
		prev_object_access(access, class_id, object_id, sub_id, arg);
	if (class_id != RelationRelationId)
		return;
	if ((access == OAT_DROP && sub_id == 0) || access == OAT_POST_ALTER)
		note_drop_or_alter(access, object_id);
}

static void
executor_run(PGMQ_EXECUTOR_RUN_ARGS)
{
	if (queryDesc->plannedstmt->parallelModeNeeded && pgmq_xact_has_leases())
		PGMQ_FORBID_PARALLEL();
	if (prev_executor_run)
		prev_executor_run(PGMQ_EXECUTOR_RUN_PASS);
	else
		standard_ExecutorRun(PGMQ_EXECUTOR_RUN_PASS);
}

static bool
may_build_index(Node *statement)
{
	return IsA(statement, IndexStmt) || IsA(statement, ReindexStmt) ||
		IsA(statement, AlterTableStmt) || IsA(statement, ClusterStmt);
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_process_utility ?
		prev_process_utility : standard_ProcessUtility;

	if (may_build_index(pstmt->utilityStmt))
		pgmq_xact_flush_leases();
	next(pstmt, query, read_only_tree, context, params, environment, dest, qc);
}

void
pgmq_am_hooks_init(void)
{
	prev_object_access = object_access_hook;
	object_access_hook = object_access;
	prev_executor_run = ExecutorRun_hook;
	ExecutorRun_hook = executor_run;
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
