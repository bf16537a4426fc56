/*
 * scan.h
 *	  Custom scan nodes: queries on queue tables, by way of the ring.
 */
#ifndef PGMQ_SCAN_H
#define PGMQ_SCAN_H

#include "common/compat.h"

#include "nodes/extensible.h"
#include "nodes/pathnodes.h"

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
extern bool pgmq_scan_may_use(RestrictInfo *rinfo, RelOptInfo *rel);
extern List *pgmq_scan_order_quals(List *rinfos);

/* scan_lookup.c */
extern void pgmq_scan_add_lookups(PlannerInfo *root, RelOptInfo *rel);
extern void pgmq_scan_register_lookup(void);

/* scan_plan.c */
extern void pgmq_scan_init(void);

#endif							/* PGMQ_SCAN_H */
