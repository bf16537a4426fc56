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
#include "nodes/nodeFuncs.h"
#include "optimizer/appendinfo.h"
#include "optimizer/cost.h"
#include "optimizer/optimizer.h"
#include "optimizer/pathnode.h"
#include "optimizer/paths.h"
#include "optimizer/restrictinfo.h"
#include "scan/scan.h"
#include "utils/array.h"
#include "utils/lsyscache.h"
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
	RingScan	scan;
	ExprState  *key;
	Oid			key_type;
	bool		is_array;
	uint64		n_keys;			/* for EXPLAIN: looked up in the ring */
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

/* rinfo: whose condition *clause is. */
static void
add_lookup(PlannerInfo *root, RelOptInfo *rel, RestrictInfo *rinfo, const KeyClause *clause,
		   Relids required_outer)
{
	CustomPath *path = makeNode(CustomPath);

	path->path.pathtype = T_CustomScan;
	path->path.parent = rel;
	path->path.pathtarget = rel->reltarget;
	path->path.param_info = get_baserel_parampathinfo(root, rel, required_outer);
	path->flags = PGMQ_CUSTOM_SCAN_PROJECTS | CUSTOMPATH_SUPPORT_BACKWARD_SCAN;
	path->custom_private = list_make1(rinfo);
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
	add_lookup(root, rel, rinfo, &clause, outer);
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
			add_lookup(root, rel, rinfo, &clause, rel->lateral_relids);
	}
	if (rel->has_eclass_joins)
		joined = list_concat(joined,
							 generate_implied_equalities_for_column(root, rel, is_msg_id_member, NULL,
																	rel->lateral_referencers));
	foreach(lc, joined)
		add_joined_lookup(root, rel, lfirst_node(RestrictInfo, lc), &seen);
}

/*
 * What the lookup does not check itself.  Clauses of a join may be others than the one we
 * have, of the same equivalence class: then they follow from it.
 */
static List *
other_clauses(List *clauses, RestrictInfo *lookup)
{
	List	   *others = NIL;
	ListCell   *lc;

	foreach(lc, clauses)
	{
		RestrictInfo *rinfo = lfirst_node(RestrictInfo, lc);

		if (rinfo != lookup &&
			(rinfo->parent_ec == NULL || rinfo->parent_ec != lookup->parent_ec))
			others = lappend(others, rinfo);
	}
	return others;
}

static const CustomScanMethods scan_methods;

static Plan *
plan_lookup(PlannerInfo *root, RelOptInfo *rel, CustomPath *path, List *tlist,
			List *clauses, List *custom_plans)
{
	CustomScan *scan = makeNode(CustomScan);
	RestrictInfo *lookup = linitial(path->custom_private);
	KeyClause	key;

	if (!pgmq_scan_match_key(root, (Node *) lookup->clause, rel->relid, &key))
		elog(ERROR, "a message lookup has lost its key");
	scan->scan.plan.targetlist = tlist;
	scan->scan.plan.qual = pgmq_scan_order_quals(other_clauses(clauses, lookup));
	scan->scan.scanrelid = rel->relid;
	scan->flags = path->flags;
	scan->custom_exprs = list_make2(copyObject(lookup->clause), copyObject(key.key));
	scan->custom_private = list_make2_oid(key.key_type, key.is_array);
	scan->methods = &scan_methods;
	return &scan->scan.plan;
}

/* The outer relation is a partition's, rather than its parent's. */
static List *
reparameterize(PlannerInfo *root, List *custom_private, RelOptInfo *child)
{
	return (List *) PGMQ_ADJUST_FOR_CHILD(root, (Node *) custom_private, child);
}

/* ---- execution ---- */

static const CustomExecMethods exec_methods;

static Node *
create_state(CustomScan *scan)
{
	LookupState *state = (LookupState *) newNode(sizeof(LookupState), T_CustomScanState);

	state->scan.css.methods = &exec_methods;
	state->key_type = list_nth_oid(scan->custom_private, PRIVATE_KEY_TYPE);
	state->is_array = list_nth_oid(scan->custom_private, PRIVATE_IS_ARRAY) != 0;
	PGMQ_CUSTOM_SCAN_SET_SLOT_OPS(&state->scan.css);
	return (Node *) state;
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
	Datum		value = ExecEvalExprSwitchContext(state->key,
												  state->scan.css.ss.ps.ps_ExprContext, &isnull);

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
	Snapshot	snapshot = state->scan.css.ss.ps.state->es_snapshot;

	state->scan.list.n = 0;
	for (int i = 0; i < n_keys; i++)
		if (!pgmq_xact_look_up(queue, snapshot, keys[i], &state->scan.list))
			return false;
	state->n_keys += n_keys;
	return true;
}

/* All places at once; or the table, unless there are no keys. */
static void
begin_scan(RingScan *scan)
{
	LookupState *state = (LookupState *) scan;
	Relation	rel = scan->css.ss.ss_currentRelation;
	XactQueue  *queue = pgmq_xact_queue(rel);
	int64	   *keys = NULL;
	int			n_keys = evaluate_keys(state, &keys);

	if (n_keys == 0 || look_up_all(state, queue, keys, n_keys) ||
		(pgmq_scan_build_ring(rel, queue) && look_up_all(state, queue, keys, n_keys)))
		return;
	scan->list.n = 0;
	pgmq_scan_begin_table(scan);
}

static void
begin_lookup(CustomScanState *node, EState *estate, int eflags)
{
	LookupState *state = (LookupState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;

	state->scan.begin = begin_scan;
	pgmq_scan_begin_node(&state->scan, estate, list_nth(plan->custom_exprs, EXPR_CONDITION));
	state->key = ExecInitExpr(list_nth(plan->custom_exprs, EXPR_KEY), &node->ss.ps);
}

static void
explain_lookup(CustomScanState *node, List *ancestors, ExplainState *es)
{
	LookupState *state = (LookupState *) node;
	CustomScan *plan = (CustomScan *) node->ss.ps.plan;

	pgmq_scan_explain_condition(node, "Lookup Cond", list_nth(plan->custom_exprs, EXPR_CONDITION),
								ancestors, es);
	if (es->analyze)
		ExplainPropertyUInteger("Keys from Ring", NULL, state->n_keys, es);
	pgmq_scan_explain_counts(&state->scan, es);
}

static const CustomPathMethods path_methods = {
	.CustomName = "pgmq message lookup",
	.PlanCustomPath = plan_lookup,
	.ReparameterizeCustomPathByChild = reparameterize
};

static const CustomScanMethods scan_methods = {
	.CustomName = "pgmq message lookup",
	.CreateCustomScanState = create_state
};

static const CustomExecMethods exec_methods = {
	.CustomName = "pgmq message lookup",
	.BeginCustomScan = begin_lookup,
	.ExecCustomScan = pgmq_scan_execute,
	.EndCustomScan = pgmq_scan_end_node,
	.ReScanCustomScan = pgmq_scan_rescan,
	.ExplainCustomScan = explain_lookup
};

void
pgmq_scan_register_lookup(void)
{
	RegisterCustomScanMethods(&scan_methods);
}
