/*
 * scan_clause.c
 *	  Conditions that a ring can answer.
 */
#include "common/compat.h"

#include "catalog/pg_type.h"
#include "common/queue_row.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/optimizer.h"
#include "optimizer/restrictinfo.h"
#include "scan/scan.h"
#include "utils/fmgroids.h"
#include "utils/lsyscache.h"

/* Is this expression the column itself? */
static bool
is_column(Node *node, Index relid, AttrNumber attnum)
{
	Var		   *var = (Var *) node;

	if (node != NULL && IsA(node, RelabelType))
		var = (Var *) ((RelabelType *) node)->arg;
	return var != NULL && IsA(var, Var) && var->varno == relid && var->varattno == attnum &&
		var->varlevelsup == 0;
}

/* Does the expression stay the same for a whole scan of the relation? */
static bool
is_fixed(PlannerInfo *root, Node *node, Index relid)
{
	return !bms_is_member(relid, pull_varnos(root, node)) &&
		!contain_volatile_functions(node);
}

/* Equality of msg_id, on the left, with an integer. */
static bool
is_key_equality(Oid opno, Oid *key_type)
{
	switch (get_opcode(opno))
	{
		case F_INT8EQ:
			*key_type = INT8OID;
			return true;
		case F_INT84EQ:
			*key_type = INT4OID;
			return true;
		case F_INT82EQ:
			*key_type = INT2OID;
			return true;
		default:
			return false;
	}
}

static bool
match_operator(PlannerInfo *root, OpExpr *op, Index relid, KeyClause *result)
{
	Node	   *left;
	Node	   *right;
	Oid			opno = op->opno;

	if (list_length(op->args) != 2)
		return false;
	left = linitial(op->args);
	right = lsecond(op->args);
	if (!is_column(left, relid, ATTNUM_MSG_ID))
	{
		left = right;
		right = linitial(op->args);
		opno = get_commutator(opno);
	}
	if (!OidIsValid(opno) || !is_column(left, relid, ATTNUM_MSG_ID) ||
		!is_key_equality(opno, &result->key_type) || !is_fixed(root, right, relid))
		return false;
	result->key = (Expr *) right;
	result->is_array = false;
	return true;
}

static bool
match_array(PlannerInfo *root, ScalarArrayOpExpr *op, Index relid, KeyClause *result)
{
	Node	   *array = lsecond(op->args);

	if (!op->useOr || !is_column(linitial(op->args), relid, ATTNUM_MSG_ID) ||
		!is_key_equality(op->opno, &result->key_type) || !is_fixed(root, array, relid) ||
		get_element_type(exprType(array)) != result->key_type)
		return false;
	result->key = (Expr *) array;
	result->is_array = true;
	return true;
}

/* Is the clause a condition of msg_id on relation relid, by keys?  Fills *result. */
bool
pgmq_scan_match_key(PlannerInfo *root, Node *clause, Index relid, KeyClause *result)
{
	if (IsA(clause, OpExpr))
		return match_operator(root, (OpExpr *) clause, relid, result);
	if (IsA(clause, ScalarArrayOpExpr))
		return match_array(root, (ScalarArrayOpExpr *) clause, relid, result);
	return false;
}

/* The time by the clock may be asked once for a whole scan, which asks later than that. */
static bool
is_clock(Node *node)
{
	return IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_CLOCK_TIMESTAMP;
}

/*
 * Does the clause hold only for rows with a vt up to some time?  Returns that, or NULL.
 * As an operator or as the function behind it.
 */
Expr *
pgmq_scan_match_bound(PlannerInfo *root, Node *clause, Index relid)
{
	Oid			function;
	List	   *args;
	Node	   *bound;

	if (IsA(clause, OpExpr))
	{
		function = get_opcode(((OpExpr *) clause)->opno);
		args = ((OpExpr *) clause)->args;
	}
	else if (IsA(clause, FuncExpr))
	{
		function = ((FuncExpr *) clause)->funcid;
		args = ((FuncExpr *) clause)->args;
	}
	else
		return NULL;
	if (function == F_TIMESTAMPTZ_GE || function == F_TIMESTAMPTZ_GT)
		args = list_make2(lsecond(args), linitial(args));
	else if (function != F_TIMESTAMPTZ_LE && function != F_TIMESTAMPTZ_LT)
		return NULL;
	bound = lsecond(args);
	if (!is_column(linitial(args), relid, ATTNUM_VT) ||
		(!is_clock(bound) && !is_fixed(root, bound, relid)))
		return NULL;
	return (Expr *) bound;
}

/*
 * May the clause be tried before others?  Not one that could tell somebody what row
 * security or a security barrier hides from him.
 */
bool
pgmq_scan_may_use(RestrictInfo *rinfo, RelOptInfo *rel)
{
	return !rinfo->pseudoconstant && restriction_is_securely_promotable(rinfo, rel);
}

static int
compare_security(const ListCell *a, const ListCell *b)
{
	Index		level_a = lfirst_node(RestrictInfo, a)->security_level;
	Index		level_b = lfirst_node(RestrictInfo, b)->security_level;

	return level_a < level_b ? -1 : level_a > level_b;
}

/* The clauses in an order that keeps security barriers, as expressions. */
List *
pgmq_scan_order_quals(List *rinfos)
{
	List	   *sorted = list_copy(rinfos);

	list_sort(sorted, compare_security);
	return extract_actual_clauses(sorted, false);
}
