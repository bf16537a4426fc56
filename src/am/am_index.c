/*
 * am_index.c
 *	  Building indexes over a queue table, and keeping the extra ones.
 *
 * heapam's build scans refuse a relation whose routine is not the heap's
 * (heap_getnext), so they run on a shadow: a copy of the relcache entry that
 * carries the heap's routine.  The shadow lives in TopTransactionContext,
 * because on error the resource owner still looks at it, and its smgr pointer
 * is its own, closed whatever happens.
 *
 * The scans see stored rows.  A lease that is to be taken back (an UNDO slot)
 * is, before they start: an index entry would keep it.  No other can come up
 * meanwhile, because those who lease in place have ended, or know the index.
 * An index that uses last_read_at must be built
 * from what SQL sees, so its IndexInfo is copied with the column wrapped in
 * NULLIF(last_read_at, '-infinity').
 */
#include "common/compat.h"

#include "access/genam.h"
#include "am/am.h"
#include "catalog/index.h"
#include "common/failpoint.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "utils/fmgroids.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

#define TIMESTAMPTZ_EQ_OPERATOR 1320

static Relation
open_shadow(Relation rel)
{
	Relation	shadow;

	/* Counting must be set up on the real entry, or the copy links itself in. */
	(void) pgstat_should_count_relation(rel);
	shadow = MemoryContextAlloc(TopTransactionContext, sizeof(RelationData));
	memcpy(shadow, rel, sizeof(RelationData));
	shadow->rd_tableam = pgmq_heap_routine();
	shadow->rd_smgr = NULL;
	return shadow;
}

static Node *
wrap_last_read_at(Node *node, void *context)
{
	if (node == NULL)
		return NULL;
	if (IsA(node, Var) && ((Var *) node)->varattno == ATTNUM_LAST_READ_AT)
	{
		NullIfExpr *nullif = makeNode(NullIfExpr);

		nullif->opno = TIMESTAMPTZ_EQ_OPERATOR;
		nullif->opfuncid = F_TIMESTAMPTZ_EQ;
		nullif->opresulttype = TIMESTAMPTZOID;
		nullif->args = list_make2(copyObject(node),
								  makeConst(TIMESTAMPTZOID, -1, InvalidOid,
											sizeof(TimestampTz),
											TimestampTzGetDatum(DT_NOBEGIN),
											false, FLOAT8PASSBYVAL));
		return (Node *) nullif;
	}
	return expression_tree_mutator(node, wrap_last_read_at, context);
}

/* The key column last_read_at itself becomes an expression. */
static void
wrap_key_columns(struct IndexInfo *info)
{
	List	   *expressions = NIL;
	ListCell   *next = list_head(info->ii_Expressions);

	for (int i = 0; i < info->ii_NumIndexAttrs; i++)
	{
		if (info->ii_IndexAttrNumbers[i] == 0)
		{
			expressions = lappend(expressions, lfirst(next));
			next = lnext(info->ii_Expressions, next);
		}
		else if (info->ii_IndexAttrNumbers[i] == ATTNUM_LAST_READ_AT)
		{
			Var		   *column = makeVar(1, ATTNUM_LAST_READ_AT, TIMESTAMPTZOID,
										 -1, InvalidOid, 0);

			expressions = lappend(expressions, wrap_last_read_at((Node *) column, NULL));
			info->ii_IndexAttrNumbers[i] = 0;
		}
	}
	info->ii_Expressions = expressions;
	info->ii_ExpressionsState = NIL;
}

/* A copy of the IndexInfo that indexes presented rows. */
static struct IndexInfo *
info_over_presented(Relation rel, struct IndexInfo *info)
{
	struct IndexInfo *copy;

	if (!descr_stores_last_read_at(RelationGetDescr(rel)))
		return info;
	copy = makeNode(IndexInfo);
	memcpy(copy, info, sizeof(IndexInfo));
	copy->ii_Predicate = (List *) wrap_last_read_at((Node *) info->ii_Predicate, NULL);
	copy->ii_PredicateState = NULL;
	copy->ii_Expressions = (List *) wrap_last_read_at((Node *) info->ii_Expressions, NULL);
	wrap_key_columns(copy);
	return copy;
}

/* What the scan learns about the index belongs to the caller's info. */
static void
hand_back(struct IndexInfo *info, const struct IndexInfo *copy)
{
	info->ii_BrokenHotChain = copy->ii_BrokenHotChain;
}

/* TableAmRoutine.index_build_range_scan */
double
pgmq_am_index_build_range_scan(Relation rel, Relation index,
							   struct IndexInfo *info, bool allow_sync,
							   bool anyvisible, bool progress,
							   BlockNumber start_block, BlockNumber n_blocks,
							   IndexBuildCallback callback, void *callback_state,
							   TableScanDesc scan)
{
	Relation	shadow = open_shadow(rel);
	struct IndexInfo *copy = info_over_presented(rel, info);
	double		n_tuples;

	pgmq_am_take_back_leases(rel); /* in each backend of a parallel build */
	PG_TRY();
	{
		if (scan != NULL)
		{
			/* A parallel build hands in a scan of the real entry. */
			RelationIncrementReferenceCount(shadow);
			scan->rs_rd = shadow;
			RelationDecrementReferenceCount(rel);
		}
		n_tuples = pgmq_heap_routine()->index_build_range_scan(shadow, index, copy,
															   allow_sync, anyvisible,
															   progress, start_block,
															   n_blocks, callback,
															   callback_state, scan);
	}
	PG_FINALLY();
	{
		RelationCloseSmgr(shadow);
	}
	PG_END_TRY();
	hand_back(info, copy);
	return n_tuples;
}

/* TableAmRoutine.index_validate_scan */
void
pgmq_am_index_validate_scan(Relation rel, Relation index, struct IndexInfo *info,
							Snapshot snapshot, struct ValidateIndexState *state)
{
	Relation	shadow = open_shadow(rel);
	struct IndexInfo *copy = info_over_presented(rel, info);

	pgmq_am_take_back_leases(rel);
	PG_TRY();
	{
		pgmq_heap_routine()->index_validate_scan(shadow, index, copy, snapshot, state);
	}
	PG_FINALLY();
	{
		RelationCloseSmgr(shadow);
	}
	PG_END_TRY();
	hand_back(info, copy);
}

/* ---- entries of rows that the fast path puts on pages ---- */

/*
 * Open the indexes of a table for a number of rows.  palloc'd in the current
 * context, which must outlive the writer.
 */
IndexWriter *
pgmq_am_index_writer(Relation rel)
{
	IndexWriter *writer = palloc0(sizeof(IndexWriter));

	writer->rel = rel;
	writer->estate = CreateExecutorState();
	writer->rri = makeNode(ResultRelInfo);
	writer->slot = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsBufferHeapTuple);
	InitResultRelInfo(writer->rri, rel, 1, NULL, 0);
	ExecOpenIndices(writer->rri, false);
	return writer;
}

/*
 * Insert a row's index entries; unique and exclusion constraints raise as for
 * plain SQL.  The tuple is in stored form and knows its TID.
 */
void
pgmq_am_index_insert(IndexWriter *writer, HeapTuple tuple,
					 bool only_summarizing)
{
	ExecForceStoreHeapTuple(tuple, writer->slot, false);
	writer->slot->tts_tid = tuple->t_self;
	writer->slot->tts_tableOid = RelationGetRelid(writer->rel);
	if (pgmq_am_is_ours(writer->rel))
		pgmq_am_present(writer->rel, writer->slot);
	PGMQ_FAILPOINT("index-insert-before");
	list_free(pgmq_insert_index_tuples(writer->rri, writer->slot, writer->estate,
									   only_summarizing));
	PGMQ_FAILPOINT("index-insert-after");
	ResetPerTupleExprContext(writer->estate);
}

void
pgmq_am_index_close(IndexWriter *writer)
{
	ExecCloseIndices(writer->rri);
	ExecDropSingleTupleTableSlot(writer->slot);
	FreeExecutorState(writer->estate);
	pfree(writer);
}

/* The entries of a single row. */
void
pgmq_am_insert_index_entries(Relation rel, HeapTuple tuple,
							 bool only_summarizing)
{
	IndexWriter *writer = pgmq_am_index_writer(rel);

	pgmq_am_index_insert(writer, tuple, only_summarizing);
	pgmq_am_index_close(writer);
}
