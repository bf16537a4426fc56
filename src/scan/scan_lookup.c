/*
 * scan_lookup.c
 *	  The message lookup: rows by msg_id, as an index on it would give them.
 *
 * The keys are constants, parameters or columns of an outer relation, one or an
 * array.  The ring is asked for the places of each key's rows as the scan
 * begins; where it cannot answer for the statement's snapshot, the node scans
 * the table itself.  Either way each row is fetched under the snapshot, and the
 * condition is checked on it.
 */
#include "common/compat.h"

#include "am/am.h"
#include "catalog/pg_type.h"
#include "common/clock.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "scan/scan.h"
#include "storage/predicate.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"
#include "utils/selfuncs.h"

/* What a key costs besides its rows, in operators. */
#define OPERATORS_PER_KEY 10

/* custom_exprs of the plan: the condition as it stands, and its key */
enum
{
	EXPR_CONDITION,
	EXPR_KEY
};

/* custom_private of the plan, OIDs: the key's type, and whether it is an array */
enum
{
	PRIVATE_KEY_TYPE,
	PRIVATE_IS_ARRAY
};

typedef struct LookupState
{
	CustomScanState css;
	ExprState  *condition;
	ExprState  *key;
	Oid			key_type;
	bool		is_array;
	MemoryContext context;		/* of one scan */

	bool		has_begun;
	TidList		list;			/* where rows may be */
	int			current;		/* place of the row fetched last, or beyond an end */
	TableScanDesc table_scan;	/* NULL unless the ring could not answer */

	uint64		n_keys;			/* for EXPLAIN: looked up in the ring */
	uint64		n_places;		/* and fetched from its word */
	uint64		n_table_scans;
} LookupState;

/* ---- planning ---- */

static void
cost_lookup(PlannerInfo *root, RelOptInfo *rel, Path *path, const KeyClause *clause)
{
	double		n_keys = clause->is_array ?
		PGMQ_ESTIMATE_ARRAY_LENGTH(root, (Node *) clause->key) : 1;
	double		n_fetches = Min(clamp_row_est(n_keys), clamp_row_est(rel->tuples));
	QualCost	qual = rel->baserestrictcost;

	path->rows = path->param_info ? path->param_info->ppi_rows : rel->rows;
	path->startup_cost = qual.startup + path->pathtarget->cost.startup;
	path->total_cost = path->startup_cost +
		n_keys * OPERATORS_PER_KEY * cpu_operator_cost +
		n_fetches * (random_page_cost + cpu_tuple_cost + qual.per_tuple) +
		path->pathtarget->cost.per_tuple * path->rows;
}

static const CustomPathMethods path_methods;

static void
add_lookup(PlannerInfo *root, RelOptInfo *rel, const KeyClause *clause, Relids required_outer)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = get_baserel_parampathinfo(root, rel, required_outer);
	path->flags = PGMQ_CUSTOM_SCAN_PROJECTS | CUSTOMPATH_SUPPORT_BACKWARD_SCAN;
	path->methods = &path_methods;
	cost_lookup(root, rel, &path->path, clause);
	add_path(rel, &path->path);
}

/* One path for each set of relations that a key may come from. */
static void
add_joined_lookup(PlannerInfo *root, RelOptInfo *rel, RestrictInfo *rinfo, List **seen)
{
	KeyClause	clause;
	Relids		outer;
	ListCell   *lc;

	if (!pgmq_scan_match_key(root, (Node *) rinfo->clause, rel->relid, &clause) ||
		!pgmq_scan_may_use(rinfo, rel) || !join_clause_is_movable_to(rinfo, rel))
		return;
	outer = bms_union(rinfo->clause_relids, rel->lateral_relids);
	outer = bms_del_member(outer, rel->relid);
	if (bms_is_empty(outer))
		return;
	foreach(lc, *seen)
		if (bms_equal(lfirst(lc), outer))
			return;
	*seen = lappend(*seen, outer);
	add_lookup(root, rel, &clause, outer);
}

static bool
is_msg_id_member(PlannerInfo *root, RelOptInfo *rel, EquivalenceClass *ec,
				 EquivalenceMember *em, void *arg)
{
	Var		   *var = (Var *) em->em_expr;

	return IsA(var, Var) && var->varno == rel->relid && var->varattno == ATTNUM_MSG_ID;
}

/* Offer lookups, by the relation's own conditions and by those of joins. */
void
pgmq_scan_add_lookups(PlannerInfo *root, RelOptInfo *rel)
{
	List	   *joined = list_copy(rel->joininfo);
	List	   *seen = NIL;
	KeyClause	clause;
	ListCell   *lc;

	foreach(lc, rel->baserestrictinfo)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);

		if (pgmq_scan_may_use(rinfo, rel) &&
			pgmq_scan_match_key(root, (Node *) rinfo->clause, rel->relid, &clause))
			add_lookup(root, rel, &clause, rel->lateral_relids);
	}
	if (rel->has_eclass_joins)
		joined = list_concat(joined,
							 generate_implied_equalities_for_column(root, rel, is_msg_id_member, NULL,
																	rel->lateral_referencers));
	foreach(lc, joined)
		add_joined_lookup(root, rel, lfirst_node(RestrictInfo, lc), &seen);
}

/* The clause to look up by: one key rather than an array of them. */
static RestrictInfo *
choose_clause(PlannerInfo *root, RelOptInfo *rel, List *clauses, KeyClause *chosen)
{
	RestrictInfo *best = NULL;
	KeyClause	clause;
	ListCell   *lc;

	foreach(lc, clauses)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);

		if (!pgmq_scan_may_use(rinfo, rel) ||
			!pgmq_scan_match_key(root, (Node *) rinfo->clause, rel->relid, &clause) ||
			(best != NULL && (clause.is_array || !chosen->is_array)))
			continue;
		best = rinfo;
		*chosen = clause;
	}
	return best;
}

static const CustomScanMethods scan_methods;

static Plan *
plan_lookup(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
			List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	KeyClause	key;
	RestrictInfo *chosen = choose_clause(root, rel, clauses, &key);

	if (chosen == NULL)
		elog(ERROR, "no key for a message lookup");
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = pgmq_scan_order_quals(list_delete_ptr(list_copy(clauses), chosen));
	scan->scan.scanrelid = rel->relid;
	scan->flags = path->flags;
	scan->custom_exprs = list_make2(copyObject(chosen->clause), copyObject(key.key));
	scan->custom_private = list_make2_oid(key.key_type, key.is_array);
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

/* ---- execution ---- */

static const CustomExecMethods exec_methods;

static Node *
create_state(CustomScan *scan)
{
	LookupState *state = (LookupState *) newNode(sizeof(LookupState), T_CustomScanState);

	state->css.methods = &exec_methods;
	state->key_type = list_nth_oid(scan->custom_private, PRIVATE_KEY_TYPE);
	state->is_array = list_nth_oid(scan->custom_private, PRIVATE_IS_ARRAY) != 0;
	PGMQ_CUSTOM_SCAN_SET_SLOT_OPS(&state->css);
	return (Node *) state;
}

static void
begin_lookup(CustomScanState *node, EState *estate, int eflags)
{
	LookupState *state = (LookupState *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;

	pgmq_custom_scan_init_slot(node, estate);
	state->condition = ExecInitQual(list_make1(list_nth(scan->custom_exprs, EXPR_CONDITION)),
									&node->ss.ps);
	state->key = ExecInitExpr(list_nth(scan->custom_exprs, EXPR_KEY), &node->ss.ps);
	state->context = AllocSetContextCreate(CurrentMemoryContext, "pgmq message lookup",
										   ALLOCSET_SMALL_SIZES);
}

static int64
key_value(const LookupState *state, Datum value)
{
	return state->key_type == INT8OID ? DatumGetInt64(value) :
		state->key_type == INT4OID ? DatumGetInt32(value) : DatumGetInt16(value);
}

static int
compare_keys(const void *a, const void *b)
{
	int64		key_a = *(const int64 *) a;
	int64		key_b = *(const int64 *) b;

	return key_a < key_b ? -1 : key_a > key_b;
}

/* The keys in ascending order, each once; palloc'd.  Returns how many. */
static int
array_keys(const LookupState *state, Datum array, int64 **keys)
{
	int16		typlen;
	bool		typbyval;
	char		typalign;
	Datum	   *values;
	bool	   *nulls;
	int			n_values;
	int			n = 0;
	int			n_distinct = 0;

	get_typlenbyvalalign(state->key_type, &typlen, &typbyval, &typalign);
	deconstruct_array(DatumGetArrayTypeP(array), state->key_type, typlen, typbyval, typalign,
					  &values, &nulls, &n_values);
	*keys = palloc(Max(n_values, 1) * sizeof(int64));
	for (int i = 0; i < n_values; i++)
		if (!nulls[i])
			(*keys)[n++] = key_value(state, values[i]);
	qsort(*keys, n, sizeof(int64), compare_keys);
	for (int i = 0; i < n; i++)
		if (i == 0 || (*keys)[i] != (*keys)[i - 1])
			(*keys)[n_distinct++] = (*keys)[i];
	return n_distinct;
}

/* Evaluate the keys, in the scan's memory; returns how many there are. */
static int
evaluate_keys(LookupState *state, int64 **keys)
{
	bool		isnull;
	Datum		value = ExecEvalExprSwitchContext(state->key, state->css.ss.ps.ps_ExprContext,
												  &isnull);

	if (isnull)
		return 0;
	if (state->is_array)
		return array_keys(state, value, keys);
	*keys = palloc(sizeof(int64));
	**keys = key_value(state, value);
	return 1;
}

static bool
look_up_all(LookupState *state, XactQueue *queue, const int64 *keys, int n_keys)
{
	Snapshot	snapshot = state->css.ss.ps.state->es_snapshot;

	pgmq_tids_init(&state->list);
	for (int i = 0; i < n_keys; i++)
		if (!pgmq_xact_look_up(queue, snapshot, keys[i], &state->list))
			return false;
	state->n_keys += n_keys;
	return true;
}

/*
 * Ask the ring; if it was not built yet, build it, which takes no longer than the scan of
 * the table that it saves us.
 */
static bool
ask_ring(LookupState *state, Relation rel, const int64 *keys, int n_keys)
{
	XactQueue  *queue = pgmq_xact_queue(rel);

	if (look_up_all(state, queue, keys, n_keys))
		return true;
	return pgmq_xact_must_build(queue) &&
		pgmq_am_ready_ring(rel, queue, NULL, pgmq_clock_now()) &&
		look_up_all(state, queue, keys, n_keys);
}

static void
begin_scan(LookupState *state)
{
	Relation	rel = state->css.ss.ss_currentRelation;
	Snapshot	snapshot = state->css.ss.ps.state->es_snapshot;
	MemoryContext caller = MemoryContextSwitchTo(state->context);
	int64	   *keys = NULL;
	int			n_keys = evaluate_keys(state, &keys);

	/* What is not there, and may come, must be locked for serializable transactions, too */
	PredicateLockRelation(rel, snapshot);
	state->list.n = 0;
	state->current = -1;
	if (n_keys > 0 && !ask_ring(state, rel, keys, n_keys))
	{
		state->table_scan = table_beginscan(rel, snapshot, 0, NULL);
		state->n_table_scans++;
	}
	MemoryContextSwitchTo(caller);
	state->has_begun = true;
}

/* One place on, or back; false beyond the end. */
static bool
move(LookupState *state, bool is_forward)
{
	state->current = is_forward ? Min(state->current + 1, state->list.n) :
		Max(state->current - 1, -1);
	return state->current >= 0 && state->current < state->list.n;
}

/* The next row that is there, whether its condition holds or not. */
static bool
fetch_next(LookupState *state, TupleTableSlot *slot)
{
	EState	   *estate = state->css.ss.ps.state;
	Relation	rel = state->css.ss.ss_currentRelation;

	if (state->table_scan != NULL)
		return table_scan_getnextslot(state->table_scan, estate->es_direction, slot);
	while (move(state, !ScanDirectionIsBackward(estate->es_direction)))
	{
		state->n_places++;
		if (table_tuple_fetch_row_version(rel, &state->list.tids[state->current],
										  estate->es_snapshot, slot))
		{
			pgstat_count_heap_fetch(rel);
			return true;
		}
	}
	return false;
}

static bool
recheck(ScanState *node, TupleTableSlot *slot)
{
	ExprContext *econtext = node->ps.ps_ExprContext;

	econtext->ecxt_scantuple = slot;
	return ExecQualAndReset(((LookupState *) node)->condition, econtext);
}

static TupleTableSlot *
next_row(ScanState *node)
{
	LookupState *state = (LookupState *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	if (!state->has_begun)
		begin_scan(state);
	while (fetch_next(state, slot))
	{
		if (recheck(node, slot))
			return slot;
		CHECK_FOR_INTERRUPTS();
	}
	return ExecClearTuple(slot);
}

static TupleTableSlot *
execute_lookup(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, recheck);
}

static void
forget_scan(LookupState *state)
{
	if (state->table_scan != NULL)
		table_endscan(state->table_scan);
	state->table_scan = NULL;
	state->has_begun = false;
	MemoryContextReset(state->context);
}

static void
end_lookup(CustomScanState *node)
{
	forget_scan((LookupState *) node);
}

static void
rescan_lookup(CustomScanState *node)
{
	forget_scan((LookupState *) node);
	ExecScanReScan(&node->ss);
}

static void
explain_lookup(CustomScanState *node, List *ancestors, ExplainState *es)
{
	LookupState *state = (LookupState *) node;
	CustomScan *scan = (CustomScan *) node->ss.ps.plan;
	List	   *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);
	bool		with_prefix = list_length(es->rtable) > 1 || es->verbose;

	ExplainPropertyText("Lookup Cond",
						deparse_expression(list_nth(scan->custom_exprs, EXPR_CONDITION), context,
										   with_prefix, false), es);
	if (!es->analyze)
		return;
	ExplainPropertyUInteger("Keys from Ring", NULL, state->n_keys, es);
	ExplainPropertyUInteger("Rows Fetched", NULL, state->n_places, es);
	ExplainPropertyUInteger("Table Scans", NULL, state->n_table_scans, es);
}

static const CustomPathMethods path_methods = {
	.CustomName = "pgmq message lookup",
	.PlanCustomPath = plan_lookup
};

static const CustomScanMethods scan_methods = {
	.CustomName = "pgmq message lookup",
	.CreateCustomScanState = create_state
};

static const CustomExecMethods exec_methods = {
	.CustomName = "pgmq message lookup",
	.BeginCustomScan = begin_lookup,
	.ExecCustomScan = execute_lookup,
	.EndCustomScan = end_lookup,
	.ReScanCustomScan = rescan_lookup,
	.ExplainCustomScan = explain_lookup
};

void
pgmq_scan_register_lookup(void)
{
	RegisterCustomScanMethods(&scan_methods);
}
