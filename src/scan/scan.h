/*
 * scan.h
 *	  Custom scan nodes: queries on queue tables, by way of the ring.
 */
#ifndef PGMQ_SCAN_H
#define PGMQ_SCAN_H

#include "common/compat.h"

#include "nodes/extensible.h"
#include "nodes/pathnodes.h"
#include "xact/xact.h"

/* scan_fetch.c */

/* The state of a node, at the beginning of its own. */
typedef struct RingScan
{
	CustomScanState css;

	/* Set by the node: what to do as a scan begins, and when places run out */
	void		(*begin) (struct RingScan *scan);
	bool		(*extend) (struct RingScan *scan);	/* or NULL */

	ExprState  *condition;		/* that rows must meet, or NULL */
	MemoryContext context;		/* of one scan */
	bool		has_begun;
	PlaceList	list;			/* where rows may be */
	int			current;		/* place of the row fetched last, or beyond an end */
	TableScanDesc table_scan;	/* NULL unless the rows come from the table */

	uint64		n_places;		/* for EXPLAIN: fetched from */
	uint64		n_table_scans;
} RingScan;

extern void pgmq_scan_begin_node(RingScan *scan, EState *estate, Expr *condition);
extern bool pgmq_scan_build_ring(Relation rel, XactQueue *queue);
extern void pgmq_scan_begin_table(RingScan *scan);
extern bool pgmq_scan_recheck(ScanState *node, TupleTableSlot *slot);
extern TupleTableSlot *pgmq_scan_execute(CustomScanState *node);
extern void pgmq_scan_end_node(CustomScanState *node);
extern void pgmq_scan_rescan(CustomScanState *node);
extern void pgmq_scan_explain_condition(CustomScanState *node, const char *label,
										Expr *condition, List *ancestors, ExplainState *es);
extern void pgmq_scan_explain_counts(RingScan *scan, ExplainState *es);

/* scan_clause.c */

/* A condition msg_id = key, or msg_id = ANY (keys). */
typedef struct KeyClause
{
	Expr	   *key;			/* of type int2, int4, int8, or an array of one */
	Oid			key_type;		/* the element's, for an array */
	bool		is_array;
} KeyClause;

extern bool pgmq_scan_match_key(PlannerInfo *root, Node *clause, Index relid,
								KeyClause *result);
extern Expr *pgmq_scan_match_bound(PlannerInfo *root, Node *clause, Index relid);
extern bool pgmq_scan_may_use(RestrictInfo *rinfo, RelOptInfo *rel);
extern List *pgmq_scan_order_quals(List *rinfos);

/* scan_lookup.c */
extern void pgmq_scan_add_lookups(PlannerInfo *root, RelOptInfo *rel);
extern void pgmq_scan_register_lookup(void);

/* scan_ordered.c */
extern void pgmq_scan_add_ordered(PlannerInfo *root, RelOptInfo *rel, double n_ready);
extern void pgmq_scan_register_ordered(void);

/* scan_count.c */
extern void pgmq_scan_add_count(PlannerInfo *root, RelOptInfo *input, RelOptInfo *output,
								Oid relid);
extern void pgmq_scan_register_count(void);

/* scan_plan.c */
extern void pgmq_scan_init(void);

#endif							/* PGMQ_SCAN_H */
