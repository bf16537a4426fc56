/*
 * scan_fetch.c
 *	  What the nodes have in common: rows by their places.
 *
 * A node asks the ring for places, as a scan begins and perhaps for more as it goes
 * on.  Each row is fetched under the statement's snapshot and shown as any fetch
 * shows it; the node's condition is checked on it, and again when the row was
 * waited for and has changed (EvalPlanQual).  The places are kept, so cursors can go
 * back.
 */
#include "common/compat.h"

#include "am/am.h"
#include "scan/scan.h"
#include "storage/predicate.h"
#include "utils/memutils.h"
#include "utils/ruleutils.h"

/* For BeginCustomScan; the state is zeroed but for what the node has set. */
void
pgmq_scan_begin_node(RingScan *scan, EState *estate, Expr *condition)
{
	pgmq_custom_scan_init_slot(&scan->css, estate);
	if (condition != NULL)
		scan->condition = ExecInitQual(list_make1(condition), &scan->css.ss.ps);
	scan->context = AllocSetContextCreate(CurrentMemoryContext, "pgmq scan",
										  ALLOCSET_DEFAULT_SIZES);
}

/*
 * The ring could not tell.  If that is because it is not built, build it, which takes
 * about as long as a scan of the table; true: ask again.
 */
bool
pgmq_scan_build_ring(Relation rel, XactQueue *queue)
{
	return pgmq_xact_must_build(queue) && pgmq_am_build_ring(rel, queue);
}

/* The rows are to come from the table, in its order. */
void
pgmq_scan_begin_table(RingScan *scan)
{
	scan->table_scan = table_beginscan(scan->css.ss.ss_currentRelation,
									   scan->css.ss.ps.state->es_snapshot, 0, NULL);
	scan->n_table_scans++;
}

static void
begin_scan(RingScan *scan)
{
	MemoryContext caller = MemoryContextSwitchTo(scan->context);

	/* What is not there, and may come, must be locked for serializable transactions, too */
	PredicateLockRelation(scan->css.ss.ss_currentRelation, scan->css.ss.ps.state->es_snapshot);
	pgmq_places_init(&scan->list);
	scan->current = -1;
	scan->begin(scan);
	scan->has_begun = true;
	MemoryContextSwitchTo(caller);
}

/* Ask for more places; false if there are none. */
static bool
extend(RingScan *scan)
{
	MemoryContext caller;
	bool		result;

	if (scan->extend == NULL)
		return false;
	caller = MemoryContextSwitchTo(scan->context);
	result = scan->extend(scan);
	MemoryContextSwitchTo(caller);
	return result;
}

/* One place on, or back; false beyond the end. */
static bool
move(RingScan *scan, bool is_forward)
{
	if (!is_forward)
		scan->current = Max(scan->current - 1, -1);
	else if (scan->current < scan->list.n)
		scan->current++;
	while (scan->current == scan->list.n && is_forward)
		if (!extend(scan))
			break;
	return scan->current >= 0 && scan->current < scan->list.n;
}

/*
 * Fetch the row at the current place, if it is there and the snapshot sees it; not another's
 * that has come there since, which has a place of its own.
 */
static bool
fetch_current(RingScan *scan, TupleTableSlot *slot)
{
	Relation	rel = scan->css.ss.ss_currentRelation;
	MessagePlace *place = &scan->list.places[scan->current];
	bool		isnull;

	scan->n_places++;
	if (!pgmq_am_has_block(rel, ItemPointerGetBlockNumber(&place->tid)) ||
		!table_tuple_fetch_row_version(rel, &place->tid, scan->css.ss.ps.state->es_snapshot,
									   slot))
		return false;
	pgstat_count_heap_fetch(rel);
	return DatumGetInt64(slot_getattr(slot, ATTNUM_MSG_ID, &isnull)) == place->msg_id && !isnull;
}

/* The next row that is there, whether its condition holds or not. */
static bool
fetch_next(RingScan *scan, TupleTableSlot *slot)
{
	ScanDirection direction = scan->css.ss.ps.state->es_direction;

	if (scan->table_scan != NULL)
		return table_scan_getnextslot(scan->table_scan, direction, slot);
	while (move(scan, !ScanDirectionIsBackward(direction)))
	{
		CHECK_FOR_INTERRUPTS();
		if (fetch_current(scan, slot))
			return true;
	}
	return false;
}

/* Does the node's condition hold for the row in the slot? */
bool
pgmq_scan_recheck(ScanState *node, TupleTableSlot *slot)
{
	RingScan   *scan = (RingScan *) node;
	ExprContext *econtext = node->ps.ps_ExprContext;

	if (scan->condition == NULL)
		return true;
	econtext->ecxt_scantuple = slot;
	return ExecQualAndReset(scan->condition, econtext);
}

static TupleTableSlot *
next_row(ScanState *node)
{
	RingScan   *scan = (RingScan *) node;
	TupleTableSlot *slot = node->ss_ScanTupleSlot;

	if (!scan->has_begun)
		begin_scan(scan);
	while (fetch_next(scan, slot))
	{
		if (pgmq_scan_recheck(node, slot))
			return slot;
		CHECK_FOR_INTERRUPTS();
	}
	return ExecClearTuple(slot);
}

TupleTableSlot *
pgmq_scan_execute(CustomScanState *node)
{
	return ExecScan(&node->ss, next_row, pgmq_scan_recheck);
}

static void
forget_scan(RingScan *scan)
{
	if (scan->table_scan != NULL)
		table_endscan(scan->table_scan);
	scan->table_scan = NULL;
	scan->has_begun = false;
	MemoryContextReset(scan->context);
}

void
pgmq_scan_end_node(CustomScanState *node)
{
	forget_scan((RingScan *) node);
}

void
pgmq_scan_rescan(CustomScanState *node)
{
	forget_scan((RingScan *) node);
	ExecScanReScan(&node->ss);
}

/* ---- EXPLAIN ---- */

void
pgmq_scan_explain_condition(CustomScanState *node, const char *label, Expr *condition,
							List *ancestors, ExplainState *es)
{
	List	   *context = set_deparse_context_plan(es->deparse_cxt, node->ss.ps.plan, ancestors);
	bool		with_prefix = list_length(es->rtable) > 1 || es->verbose;

	ExplainPropertyText(label, deparse_expression((Node *) condition, context, with_prefix, false),
						es);
}

void
pgmq_scan_explain_counts(RingScan *scan, ExplainState *es)
{
	if (!es->analyze)
		return;
	ExplainPropertyUInteger("Rows Fetched", NULL, scan->n_places, es);
	ExplainPropertyUInteger("Table Scans", NULL, scan->n_table_scans, es);
}
