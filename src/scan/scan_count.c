/*
 * scan_count.c
 *	  The count node: SELECT count(*) of a whole queue table, from the ring.
 *
 * It stands for the aggregate and the scan below it.  Where the ring cannot tell
 * how many rows the statement's snapshot sees, the node counts them in the table.
 */
#include "common/compat.h"

#include "access/table.h"
#include "am/am.h"
#include "common/clock.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/tlist.h"
#include "scan/scan.h"
#include "storage/predicate.h"
#include "utils/fmgroids.h"

/* What it costs, in operators: about as many changes are looked at. */
#define OPERATORS_PER_COUNT 64

typedef struct CountState
{
	CustomScanState css;
	Relation	rel;
	bool		is_done;
	uint64		n_table_scans;	/* for EXPLAIN */
} CountState;

/* ---- planning ---- */

typedef struct Aggregates
{
	Aggref	   *count;			/* the first count(*) */
	bool		has_others;
} Aggregates;

static bool
collect_aggregates(Node *node, Aggregates *found)
{
	Aggref	   *aggref = (Aggref *) node;

	if (node == NULL)
		return false;
	if (!IsA(node, Aggref))
		return expression_tree_walker(node, collect_aggregates, found);
	if (aggref->aggfnoid != F_COUNT_ || aggref->aggfilter != NULL || aggref->agglevelsup > 0)
		found->has_others = true;
	else if (found->count == NULL)
		found->count = aggref;
	return false;
}

/* Is count(*) all that the query wants to know, and of one whole table? */
static Aggref *
find_count(PlannerInfo *root, RelOptInfo *input)
{
	Query	   *parse = root->parse;
	Aggregates	found = {0};

	if (parse->commandType != CMD_SELECT || !parse->hasAggs || parse->groupClause != NIL ||
		parse->groupingSets != NIL || parse->hasTargetSRFs || root->hasHavingQual ||
		parse->rowMarks != NIL || !IS_SIMPLE_REL(input) || input->baserestrictinfo != NIL ||
		input->reloptkind != RELOPT_BASEREL)
		return NULL;
	collect_aggregates((Node *) root->upper_targets[UPPERREL_GROUP_AGG]->exprs, &found);
	return found.has_others ? NULL : found.count;
}

static const CustomPathMethods path_methods;

/* Offer to count the table of the input relation, which is a queue's with a ring. */
void
pgmq_scan_add_count(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output, Oid relid)
{
	Aggref	   *count = find_count(root, input);
	CustomPath *path;

	if (count == NULL)
		return;
	path = makeNode(CustomPath);
	path->path.pathtype = T_CustomScan;
	path->path.parent = output;
	path->path.pathtarget = root->upper_targets[UPPERREL_GROUP_AGG];
	path->path.rows = 1;
	path->path.total_cost = cpu_tuple_cost + OPERATORS_PER_COUNT * cpu_operator_cost;
	path->flags = PGMQ_CUSTOM_SCAN_PROJECTS;
	path->custom_private = list_make2(count, list_make1_oid(relid));
	path->methods = &path_methods;
	add_path(output, &path->path);
}

static const CustomScanMethods scan_methods;

static Plan *
plan_count(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
		   List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	Aggref	   *count = linitial(path->custom_private);

	scan->scan.plan.targetlist = tlist;
	scan->flags = path->flags;
	scan->custom_scan_tlist = list_make1(makeTargetEntry((Expr *) copyObject(count), 1, NULL, false));
	scan->custom_private = lsecond(path->custom_private);
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

/* ---- execution ---- */

static const CustomExecMethods exec_methods;

static Node *
create_state(CustomScan *scan)
{
	CountState *state = (CountState *) newNode(sizeof(CountState), T_CustomScanState);

	state->css.methods = &exec_methods;
	return (Node *) state;
}

/* The planner has locked the table, or who executes a kept plan. */
static void
begin_count(CustomScanState *node, EState *estate, int eflags)
{
	CountState *state = (CountState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;

	state->rel = table_open(linitial_oid(plan->custom_private), NoLock);
}

static int64
count_table(CountState *state, Snapshot snapshot)
{
	TableScanDesc scan = table_beginscan(state->rel, snapshot, 0, NULL);
	TupleTableSlot *slot = table_slot_create(state->rel, NULL);
	int64		n = 0;

	state->n_table_scans++;
	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		CHECK_FOR_INTERRUPTS();
		n++;
	}
	ExecDropSingleTupleTableSlot(slot);
	table_endscan(scan);
	return n;
}

static int64
count_rows(CountState *state)
{
	Snapshot	snapshot = state->css.ss.ps.state->es_snapshot;
	XactQueue  *queue = pgmq_xact_queue(state->rel);
	int64		n;

	/* Serializable transactions have to know of rows that come */
	PredicateLockRelation(state->rel, snapshot);
	if (pgmq_xact_count_rows(queue, snapshot, &n) ||
		(pgmq_scan_build_ring(state->rel, queue) && pgmq_xact_count_rows(queue, snapshot, &n)))
		return n;
	return count_table(state, snapshot);
}

static TupleTableSlot *
next_row(ScanState *node)
{
	CountState *state = (CountState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	ExecClearTuple(slot);
	if (state->is_done)
		return slot;
	state->is_done = true;
	slot->tts_values[0] = Int64GetDatum(count_rows(state));
	slot->tts_isnull[0] = false;
	return ExecStoreVirtualTuple(slot);
}

static bool
recheck(ScanState *node, TupleTableSlot *slot)
{
	return true;
}

static TupleTableSlot *
execute_count(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck);
}

static void
end_count(CustomScanState *node)
{
	table_close(((CountState *) node)->rel, NoLock);
}

static void
rescan_count(CustomScanState *node)
{
	((CountState *) node)->is_done = false;
	ExecScanReScan(&node->ss);
}

static void
explain_count(CustomScanState *node, List *ancestors, ExplainState *es)
{
	CountState *state = (CountState *) node;

	ExplainPropertyText("Queue Table", RelationGetRelationName(state->rel), es);
	if (es->analyze)
		ExplainPropertyUInteger("Table Scans", NULL, state->n_table_scans, es);
}

static const CustomPathMethods path_methods = {
	.CustomName = "pgmq count",
	.PlanCustomPath = plan_count
};

static const CustomScanMethods scan_methods = {
	.CustomName = "pgmq count",
	.CreateCustomScanState = create_state
};

static const CustomExecMethods exec_methods = {
	.CustomName = "pgmq count",
	.BeginCustomScan = begin_count,
	.ExecCustomScan = execute_count,
	.EndCustomScan = end_count,
	.ReScanCustomScan = rescan_count,
	.ExplainCustomScan = explain_count
};

void
pgmq_scan_register_count(void)
{
	RegisterCustomScanMethods(&scan_methods);
}
