/*
 * scan_ordered.c
 *	  The ordered scan: rows in the order of msg_id, visible ones (vt <= bound) or all.
 *
 * A queue's own question, asked in SQL: WHERE vt <= now() ORDER BY msg_id LIMIT n, with
 * FOR UPDATE SKIP LOCKED or without.  No row is touched but those that are returned, and
 * those that could have been: held by others, removed under the snapshot's eyes.  The ring
 * is asked for a batch at a time, of a size that doubles; a batch is what it knows at one
 * instant about a range of ids.  Where it cannot tell (any more), the rest is collected
 * from the table and sorted.
 */
#include "common/compat.h"

#include "am/am.h"
#include "catalog/pg_operator.h"
#include "miscadmin.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "scan/scan.h"
#include "utils/lsyscache.h"

#define FIRST_BATCH 8
#define MAX_BATCH 256

/* custom_exprs of the plan: nothing, or the condition of vt and its bound */
enum
{
	EXPR_CONDITION,
	EXPR_BOUND
};

typedef struct OrderedState
{
	RingScan	scan;
	ExprState  *bound;			/* or NULL: all rows */
	LookScan	look;
	int			batch;
	bool		is_backward;
} OrderedState;

/* ---- planning ---- */

/*
 * What is read: the rows the ring calls visible, or all; their pages mostly one after
 * the other, since rows come to the table in the order of their ids.
 */
static void
cost_ordered(RelOptInfo *rel, Path *path, double n_rows)
{
	double		share = rel->tuples > 0 ? Min(n_rows / rel->tuples, 1) : 1;
	double		n_pages = clamp_row_est(share * rel->pages);

	path->rows = rel->rows;
	path->startup_cost = rel->baserestrictcost.startup + path->pathtarget->cost.startup;
	path->total_cost = path->startup_cost + random_page_cost + (n_pages - 1) * seq_page_cost +
		n_rows * (cpu_index_tuple_cost + cpu_tuple_cost + rel->baserestrictcost.per_tuple) +
		path->pathtarget->cost.per_tuple * path->rows;
}

static const CustomPathMethods path_methods;

static void
add_ordered(PlannerInfo *root, RelOptInfo *rel, double n_rows, RestrictInfo *bound,
			bool is_backward, List *pathkeys)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = get_baserel_parampathinfo(root, rel, rel->lateral_relids);
	path->path.pathkeys = pathkeys;
	path->flags = PGMQ_CUSTOM_SCAN_PROJECTS | CUSTOMPATH_SUPPORT_BACKWARD_SCAN;
	path->custom_private = list_make2(bound, makeInteger(is_backward));
	path->methods = &path_methods;
	cost_ordered(rel, &path->path, n_rows);
	add_path(rel, &path->path);
}

/* The order of msg_id as the query knows it, if it is of any use to it. */
static List *
pathkeys_of(PlannerInfo *root, RelOptInfo *rel, bool is_backward)
{
	Var		   *msg_id = makeVar(rel->relid, ATTNUM_MSG_ID, INT8OID, -1, InvalidOid, 0);
	Oid			operator = is_backward ? get_commutator(Int8LessOperator) : Int8LessOperator;

	return PGMQ_BUILD_EXPRESSION_PATHKEY(root, (Expr *) msg_id, operator, rel->relids);
}

/* The clause that says up to when rows are visible, or NULL. */
static RestrictInfo *
find_bound(PlannerInfo *root, RelOptInfo *rel)
{
	ListCell   *lc;

	foreach(lc, rel->baserestrictinfo)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);

		if (pgmq_scan_may_use(rinfo, rel) &&
			pgmq_scan_match_bound(root, (Node *) rinfo->clause, rel->relid) != NULL)
			return rinfo;
	}
	return NULL;
}

/*
 * Offer scans in the order of msg_id, either way; in no useful order only what is
 * visible, where that is bounded.  n_ready: messages the ring calls visible.
 */
void
pgmq_scan_add_ordered(PlannerInfo *root, RelOptInfo *rel, double n_ready)
{
	RestrictInfo *bound = find_bound(root, rel);
	double		n_rows = bound != NULL ? clamp_row_est(n_ready) : clamp_row_est(rel->tuples);
	List	   *ascending = pathkeys_of(root, rel, false);
	List	   *descending = pathkeys_of(root, rel, true);

	if (bound != NULL || ascending != NIL)
		add_ordered(root, rel, n_rows, bound, false, ascending);
	if (descending != NIL)
		add_ordered(root, rel, n_rows, bound, true, descending);
}

static const CustomScanMethods scan_methods;

static Plan *
plan_ordered(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
			 List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	RestrictInfo *bound = linitial(path->custom_private);

	if (bound != NULL)
	{
		clauses = list_delete_ptr(list_copy(clauses), bound);
		scan->custom_exprs = list_make2(copyObject(bound->clause),
										copyObject(pgmq_scan_match_bound(root, (Node *) bound->clause,
																		 rel->relid)));
	}
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = pgmq_scan_order_quals(clauses);
	scan->scan.scanrelid = rel->relid;
	scan->flags = path->flags;
	scan->custom_private = list_make1(lsecond(path->custom_private));
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

/* ---- execution ---- */

static const CustomExecMethods exec_methods;

static Node *
create_state(CustomScan *plan)
{
	OrderedState *state = (OrderedState *) newNode(sizeof(OrderedState), T_CustomScanState);

	state->scan.css.methods = &exec_methods;
	state->is_backward = intVal(linitial(plan->custom_private)) != 0;
	PGMQ_CUSTOM_SCAN_SET_SLOT_OPS(&state->scan.css);
	return (Node *) state;
}

/* Up to when rows are visible; false: at no time. */
static bool
evaluate_bound(OrderedState *state)
{
	bool		isnull = false;

	state->look.is_bounded = state->bound != NULL;
	if (state->bound == NULL)
		return true;
	state->look.visible_at =
		DatumGetTimestampTz(ExecEvalExprSwitchContext(state->bound,
													  state->scan.css.ss.ps.ps_ExprContext,
													  &isnull));
	return !isnull;
}

static void
begin_scan(RingScan *scan)
{
	OrderedState *state = (OrderedState *) scan;

	memset(&state->look, 0, sizeof(LookScan));
	state->look.is_backward = state->is_backward;
	state->batch = FIRST_BATCH;
	state->look.is_over = !evaluate_bound(state);
}

/* Is the row in the slot still to come? */
static bool
is_ahead(const LookScan *look, int64 msg_id)
{
	if (!look->has_from)
		return true;
	return look->is_backward ? msg_id < look->from : msg_id > look->from;
}

/* The rest of the rows, from the table; sorted, then fetched like any. */
static void
collect_from_table(OrderedState *state)
{
	RingScan   *scan = &state->scan;
	Relation	rel = scan->css.ss.ss_currentRelation;
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	MessagePlace *places = palloc(1024 * sizeof(MessagePlace));
	Size		n = 0;
	Size		max = 1024;

	pgmq_scan_begin_table(scan);
	while (table_scan_getnextslot(scan->table_scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		int64		msg_id = DatumGetInt64(slot_getattr(slot, ATTNUM_MSG_ID, &isnull));

		CHECK_FOR_INTERRUPTS();
		if (isnull || !is_ahead(&state->look, msg_id) || !pgmq_scan_recheck(&scan->css.ss, slot))
			continue;
		if (n == max)
		{
			max *= 2;
			places = repalloc_huge(places, max * sizeof(MessagePlace));
		}
		places[n].msg_id = msg_id;
		places[n++].tid = slot->tts_tid;
	}
	table_endscan(scan->table_scan);
	scan->table_scan = NULL;
	ExecDropSingleTupleTableSlot(slot);
	pgmq_places_append(places, n, state->look.is_backward, &scan->list);
	pfree(places);
	state->look.is_over = true;
}

static bool
extend(RingScan *scan)
{
	OrderedState *state = (OrderedState *) scan;
	Snapshot	snapshot = scan->css.ss.ps.state->es_snapshot;
	Relation	rel = scan->css.ss.ss_currentRelation;
	XactQueue  *queue = pgmq_xact_queue(rel);

	if (state->look.is_over)
		return false;
	if (!pgmq_xact_look_on(queue, snapshot, &state->look, state->batch, &scan->list) &&
		!(pgmq_scan_build_ring(rel, queue) &&
		  pgmq_xact_look_on(queue, snapshot, &state->look, state->batch, &scan->list)))
		collect_from_table(state);
	state->batch = Min(state->batch * 2, MAX_BATCH);
	return true;
}

static void
begin_ordered(CustomScanState *node, EState *estate, int eflags)
{
	OrderedState *state = (OrderedState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;
	bool		is_bounded = plan->custom_exprs != NIL;

	state->scan.begin = begin_scan;
	state->scan.extend = extend;
	pgmq_scan_begin_node(&state->scan, estate,
						 is_bounded ? list_nth(plan->custom_exprs, EXPR_CONDITION) : NULL);
	if (is_bounded)
		state->bound = ExecInitExpr(list_nth(plan->custom_exprs, EXPR_BOUND), &node->ss.ps);
}

static void
explain_ordered(CustomScanState *node, List *ancestors, ExplainState *es)
{
	OrderedState *state = (OrderedState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;

	ExplainPropertyText("Order", state->is_backward ? "msg_id DESC" : "msg_id", es);
	if (plan->custom_exprs != NIL)
		pgmq_scan_explain_condition(node, "Visible Cond",
									list_nth(plan->custom_exprs, EXPR_CONDITION), ancestors, es);
	pgmq_scan_explain_counts(&state->scan, es);
}

static const CustomPathMethods path_methods = {
	.CustomName = "pgmq ordered scan",
	.PlanCustomPath = plan_ordered
};

static const CustomScanMethods scan_methods = {
	.CustomName = "pgmq ordered scan",
	.CreateCustomScanState = create_state
};

static const CustomExecMethods exec_methods = {
	.CustomName = "pgmq ordered scan",
	.BeginCustomScan = begin_ordered,
	.ExecCustomScan = pgmq_scan_execute,
	.EndCustomScan = pgmq_scan_end_node,
	.ReScanCustomScan = pgmq_scan_rescan,
	.ExplainCustomScan = explain_ordered
};

void
pgmq_scan_register_ordered(void)
{
	RegisterCustomScanMethods(&scan_methods);
}
