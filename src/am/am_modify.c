/*
 * am_modify.c
 *	  The writers of the table access method: plain SQL's INSERT, COPY, UPDATE
 *	  and DELETE.
 *
 * Each delegates to the heap with the row in its stored form and tells the
 * transaction's list what happened.  The executor's slot keeps showing the
 * row as SQL wrote it (last_read_at NULL), with the marks of the stored tuple
 * so that RETURNING xmin works.
 */
#include "common/compat.h"

#include "am/am.h"
#include "am/am_callbacks.h"
#include "common/failpoint.h"

/* Tell the list about a row that is on the page now. */
static void
note_insert(Relation rel, HeapTuple tuple)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	int64		msg_id;
	Lease		values;
	bool		has_msg_id;

	if (queue == NULL)
		return;
	pgmq_am_row_values(tuple, RelationGetDescr(rel), &msg_id, &values, &has_msg_id);
	if (has_msg_id)
		pgmq_xact_note_insert(queue, &tuple->t_self, msg_id, &values,
							  pgmq_am_row_group(tuple, RelationGetDescr(rel)));
}

/* The slot's own tuple gets the marks of the one that was stored. */
static void
copy_marks(HeapTuple from, HeapTuple to)
{
	to->t_self = from->t_self;
	to->t_tableOid = from->t_tableOid;
	if (from == to)
		return;
	to->t_data->t_choice = from->t_data->t_choice;
	to->t_data->t_ctid = from->t_data->t_ctid;
	to->t_data->t_infomask &= ~HEAP_XACT_MASK;
	to->t_data->t_infomask |= from->t_data->t_infomask & HEAP_XACT_MASK;
	to->t_data->t_infomask2 &= ~HEAP2_XACT_MASK;
	to->t_data->t_infomask2 |= from->t_data->t_infomask2 & HEAP2_XACT_MASK;
}

static void
insert_slot(Relation rel, TupleTableSlot *slot, CommandId cid, int options,
			BulkInsertState bistate, uint32 speculative_token)
{
	bool		should_free = true;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, true, &should_free);
	HeapTuple	stored = pgmq_am_stored_form(rel, tuple);

	slot->tts_tableOid = RelationGetRelid(rel);
	stored->t_tableOid = slot->tts_tableOid;
	if (options & HEAP_INSERT_SPECULATIVE)
		HeapTupleHeaderSetSpeculativeToken(stored->t_data, speculative_token);
	PGMQ_FAILPOINT("insert-heap-before");
	heap_insert(rel, stored, cid, options, bistate);
	PGMQ_FAILPOINT("insert-heap-after");
	slot->tts_tid = stored->t_self;
	copy_marks(stored, tuple);
	if ((options & HEAP_INSERT_SPECULATIVE) == 0)
		note_insert(rel, stored);
	if (stored != tuple)
		heap_freetuple(stored);
	if (should_free)
		heap_freetuple(tuple);
}

void
pgmq_am_tuple_insert(Relation rel, TupleTableSlot *slot, CommandId cid,
					 int options, BulkInsertState bistate)
{
	insert_slot(rel, slot, cid, options, bistate, 0);
}

void
pgmq_am_tuple_insert_speculative(Relation rel, TupleTableSlot *slot,
								 CommandId cid, int options,
								 BulkInsertState bistate, uint32 token)
{
	insert_slot(rel, slot, cid, options | HEAP_INSERT_SPECULATIVE, bistate, token);
}

/* A speculative row counts only once it has survived. */
void
pgmq_am_tuple_complete_speculative(Relation rel, TupleTableSlot *slot,
								   uint32 token, bool succeeded)
{
	bool		should_free = true;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, true, &should_free);

	tuple->t_self = slot->tts_tid;
	PGMQ_FAILPOINT("speculative-heap-before");
	if (succeeded)
	{
		heap_finish_speculative(rel, &slot->tts_tid);
		note_insert(rel, tuple);
	}
	else
		heap_abort_speculative(rel, &slot->tts_tid);
	PGMQ_FAILPOINT("speculative-heap-after");
	if (should_free)
		heap_freetuple(tuple);
}

/*
 * COPY: rows whose stored form differs go in through slots of our own, because
 * heap_multi_insert takes the tuples out of the slots by itself.
 */
void
pgmq_am_multi_insert(Relation rel, TupleTableSlot **slots, int n_slots,
					 CommandId cid, int options, BulkInsertState bistate)
{
	TupleTableSlot **stored_slots = palloc(n_slots * sizeof(TupleTableSlot *));
	HeapTuple  *tuples = palloc(n_slots * sizeof(HeapTuple));
	bool	   *should_free = palloc(n_slots * sizeof(bool));

	for (int i = 0; i < n_slots; i++)
	{
		HeapTuple	stored;

		tuples[i] = ExecFetchSlotHeapTuple(slots[i], true, &should_free[i]);
		stored = pgmq_am_stored_form(rel, tuples[i]);
		stored_slots[i] = slots[i];
		if (stored != tuples[i])
		{
			stored_slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(rel),
													   &TTSOpsHeapTuple);
			ExecStoreHeapTuple(stored, stored_slots[i], true);
		}
	}
	PGMQ_FAILPOINT("multi-insert-heap-before");
	heap_multi_insert(rel, stored_slots, n_slots, cid, options, bistate);
	PGMQ_FAILPOINT("multi-insert-heap-after");
	for (int i = 0; i < n_slots; i++)
	{
		bool		free_stored;
		HeapTuple	stored = ExecFetchSlotHeapTuple(stored_slots[i], true, &free_stored);

		stored->t_self = stored_slots[i]->tts_tid;
		note_insert(rel, stored);
		slots[i]->tts_tid = stored->t_self;
		slots[i]->tts_tableOid = RelationGetRelid(rel);
		copy_marks(stored, tuples[i]);
		if (free_stored && stored != tuples[i])
			heap_freetuple(stored);
		if (stored_slots[i] != slots[i])
			ExecDropSingleTupleTableSlot(stored_slots[i]);
		if (should_free[i])
			heap_freetuple(tuples[i]);
	}
	pfree(stored_slots);
	pfree(tuples);
	pfree(should_free);
}

TM_Result
pgmq_am_tuple_delete(Relation rel, ItemPointer tid, CommandId cid,
					 Snapshot snapshot, Snapshot crosscheck, bool wait,
					 TM_FailureData *tmfd, bool changing_partition)
{
	return pgmq_am_delete_tid(rel, tid, cid, crosscheck, wait, tmfd, changing_partition);
}

TM_Result
pgmq_am_tuple_update(Relation rel, ItemPointer otid, TupleTableSlot *slot,
					 CommandId cid, Snapshot snapshot, Snapshot crosscheck,
					 bool wait, TM_FailureData *tmfd, LockTupleMode *lockmode,
					 TU_UpdateIndexes *update_indexes)
{
	bool		should_free = true;
	HeapTuple	tuple = ExecFetchSlotHeapTuple(slot, true, &should_free);
	HeapTuple	stored = pgmq_am_stored_form(rel, tuple);
	TM_Result	result;

	slot->tts_tableOid = RelationGetRelid(rel);
	stored->t_tableOid = slot->tts_tableOid;
	result = pgmq_am_update_tid(rel, otid, stored, cid, crosscheck, wait, true,
								tmfd, lockmode, update_indexes);
	slot->tts_tid = stored->t_self;
	copy_marks(stored, tuple);
	if (stored != tuple)
		heap_freetuple(stored);
	if (should_free)
		heap_freetuple(tuple);
	return result;
}
