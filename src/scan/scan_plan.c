/*
 * scan_plan.c
 *	  Offers the custom scan nodes to the planner.
 */
#include "common/compat.h"

#include "am/am.h"
#include "common/settings.h"
#include "optimizer/paths.h"
#include "parser/parsetree.h"
#include "scan/scan.h"

static set_rel_pathlist_hook_type prev_set_rel_pathlist = NULL;

/*
 * Where a table is updated or deleted from by WHERE CURRENT OF there is one way only.
 */
static bool
has_current_of(RelOptInfo *rel)
{
	ListCell   *lc;

	foreach(lc, rel->baserestrictinfo)
		if (IsA(lfirst_node(RestrictInfo, lc)->clause, CurrentOfExpr))
			return true;
	return false;
}

/* Is msg_id never null?  Rows without are in no ring. */
static bool
has_all_ids(Relation rel)
{
	return TupleDescAttr(RelationGetDescr(rel), ATTNUM_MSG_ID - 1)->attnotnull;
}

/* Is there a ring that may answer?  *n_ready: visible messages; -1: it knows not all rows. */
static bool
has_ring(Oid relid, double *n_ready)
{
	Relation	rel = table_open(relid, NoLock);
	XactQueue  *queue = pgmq_am_is_ours(rel) && pgmq_am_facts(rel)->is_queue ?
		pgmq_xact_queue(rel) : NULL;
	bool		result = pgmq_xact_can_look(queue);

	if (result)
		*n_ready = has_all_ids(rel) ? pgmq_xact_count_ready(queue) : -1;
	table_close(rel, NoLock);
	return result;
}

/* Of a table with children only the part that is its own, which the planner asks for, too. */
static void
set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	double		n_ready;

	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, rel, rti, rte);
	if (!pgmq_scan_enabled || !pgmq_xact_has_rings() || rte->rtekind != RTE_RELATION ||
		rte->relkind != RELKIND_RELATION || rte->inh || rte->tablesample != NULL ||
		IS_DUMMY_REL(rel) || has_current_of(rel) || !has_ring(rte->relid, &n_ready))
		return;
	pgmq_scan_add_lookups(root, rel);
	if (n_ready >= 0)
		pgmq_scan_add_ordered(root, rel, n_ready);
}

/* Called once, by _PG_init. */
void
pgmq_scan_init(void)
{
	pgmq_scan_register_lookup();
	pgmq_scan_register_ordered();
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = set_rel_pathlist;
}
