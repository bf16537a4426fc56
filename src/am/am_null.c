/*
 * am_null.c
 *	  Replaces rows that store -infinity for last_read_at by rows that store
 *	  the NULL it stands for, while others work on the table.
 *
 * It is what a hot table needs before it can be called a heap table.  The
 * caller has seen to it that nobody stores -infinity any more: the table has
 * an index on vt, and all transactions that may not have known it have ended.
 * So a row that stores -infinity was there before, no lease can be written to
 * it in place, and one pass over the table finds them all.
 *
 * A row is replaced as the executor's UPDATE would do it: lock, look, write.
 * Triggers do not fire: to SQL, nothing changes.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "am/am.h"
#include "storage/bufmgr.h"
#include "utils/snapmgr.h"

/* Rows of one page that seem to need it; what they are is seen under their locks. */
static int
list_page(Relation rel, BlockNumber block, ItemPointerData *tids)
{
	Buffer		buffer = ReadBuffer(rel, block);
	Page		page = BufferGetPage(buffer);
	int			n = 0;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	for (OffsetNumber offset = FirstOffsetNumber;
		 offset <= PageGetMaxOffsetNumber(page); offset++)
	{
		HeapTupleData tuple;

		ItemPointerSet(&tids[n], block, offset);
		if (pgmq_am_find_on_page(rel, buffer, &tids[n], &tuple) &&
			pgmq_am_stores_null(&tuple, RelationGetDescr(rel)))
			n++;
	}
	UnlockReleaseBuffer(buffer);
	return n;
}

/*
 * Replace one row, unless it is gone or no longer never read.  False: somebody
 * holds it, and wait_policy is to skip such rows.
 */
static bool
replace_row(Relation rel, ItemPointerData tid, LockWaitPolicy wait_policy, IndexWriter *writer)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	Snapshot	snapshot = GetActiveSnapshot();
	CommandId	cid = GetCurrentCommandId(true);
	TM_FailureData tmfd;
	LockTupleMode mode;
	TU_UpdateIndexes update_indexes;
	TM_Result	result;
	HeapTuple	tuple;

	result = table_tuple_lock(rel, &tid, snapshot, slot, cid, LockTupleNoKeyExclusive,
							  wait_policy, 0, &tmfd);
	if (result == TM_Ok && slot_attisnull(slot, ATTNUM_LAST_READ_AT))
	{
		if (table_tuple_update(rel, &tid, slot, cid, snapshot, InvalidSnapshot, true,
							   &tmfd, &mode, &update_indexes) != TM_Ok)
			ereport(ERROR,
					(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
					 errmsg("could not serialize access due to concurrent update")));
		tuple = ExecCopySlotHeapTuple(slot);
		tuple->t_self = slot->tts_tid;
		if (update_indexes != TU_None)
			pgmq_am_index_insert(writer, tuple, TU_IsSummarizing(update_indexes));
		heap_freetuple(tuple);
	}
	ExecDropSingleTupleTableSlot(slot);
	return result != TM_WouldBlock;
}

/*
 * Replace what needs it on some pages.  Rows that somebody holds are added to
 * *locked as ItemPointers, palloc'd: waiting for them with others locked would
 * be a deadlock to come.
 */
void
pgmq_am_store_nulls(Relation rel, BlockNumber start, BlockNumber end, List **locked)
{
	ItemPointerData tids[MaxHeapTuplesPerPage];
	IndexWriter *writer = pgmq_am_index_writer(rel);

	Assert(facts_store_nulls(pgmq_am_facts(rel)));
	for (BlockNumber block = start; block < end; block++)
	{
		int			n = list_page(rel, block, tids);

		for (int i = 0; i < n; i++)
			if (!replace_row(rel, tids[i], LockWaitSkip, writer))
			{
				ItemPointer tid = palloc(sizeof(ItemPointerData));

				*tid = tids[i];
				*locked = lappend(*locked, tid);
			}
		CHECK_FOR_INTERRUPTS();
	}
	pgmq_am_index_close(writer);
}

/* The same for one row, waiting for who holds it. */
void
pgmq_am_store_null(Relation rel, const ItemPointerData *tid)
{
	IndexWriter *writer = pgmq_am_index_writer(rel);

	(void) replace_row(rel, *tid, LockWaitBlock, writer);
	pgmq_am_index_close(writer);
}
