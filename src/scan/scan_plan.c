/*
 * scan_plan.c
 *	  Offers the custom scan nodes to the planner.
 */
#include "common/compat.h"

#include "access/parallel.h"
#include "am/am.h"
#include "common/settings.h"
#include "optimizer/paths.h"
#include "optimizer/planner.h"
#include "parser/parsetree.h"
#include "scan/scan.h"

static set_rel_pathlist_hook_type prev_set_rel_pathlist = NULL;
static create_upper_paths_hook_type prev_create_upper_paths = NULL;

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

/*
 * May anything be offered for the relation?  Of a table with children only for the part that
 * is its own, which the planner asks for, too; not to a parallel worker, which does not know
 * what its leader has sent and deleted.  *n_ready as above.
 */
static bool
is_served(RelOptInfo *rel, RangeTblEntry *rte, double *n_ready)
{
	return pgmq_scan_enabled && pgmq_xact_has_rings() && !IsParallelWorker() && rte->rtekind == RTE_RELATION &&
		rte->relkind == RELKIND_RELATION && !rte->inh && rte->tablesample == NULL &&
		!IS_DUMMY_REL(rel) && has_ring(rte->relid, n_ready);
}

static void
set_rel_pathlist(PlannerInfo *root, RelOptInfo *rel, Index rti, RangeTblEntry *rte)
{
	double		n_ready;

	if (prev_set_rel_pathlist)
		prev_set_rel_pathlist(root, rel, rti, rte);
	if (!is_served(rel, rte, &n_ready) || has_current_of(rel))
		return;
	pgmq_scan_add_lookups(root, rel);
	if (n_ready >= 0)
		pgmq_scan_add_ordered(root, rel, n_ready);
}

static void
create_upper_paths(PlannerInfo *root, UpperRelationKind stage, RelOptInfo *input,
				   RelOptInfo *output, void *extra)
{
	double		n_ready;

	if (prev_create_upper_paths)
		prev_create_upper_paths(root, stage, input, output, extra);
	if (stage == UPPERREL_GROUP_AGG && IS_SIMPLE_REL(input) &&
		is_served(input, planner_rt_fetch(input->relid, root), &n_ready) && n_ready >= 0)
		pgmq_scan_add_count(root, input, output, planner_rt_fetch(input->relid, root)->relid);
}

/* Called once, by _PG_init. */
void
pgmq_scan_init(void)
{
	pgmq_scan_register_lookup();
	pgmq_scan_register_ordered();
	pgmq_scan_register_count();
	prev_set_rel_pathlist = set_rel_pathlist_hook;
	set_rel_pathlist_hook = set_rel_pathlist;
	prev_create_upper_paths = create_upper_paths_hook;
	create_upper_paths_hook = create_upper_paths;
}
