/*
 * am_send.c
 *	  Sending on the fast path: rows onto pages, without an executor.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "am/am.h"
#include "common/failpoint.h"
#include "commands/sequence.h"
#include "utils/timestamp.h"

/* Rows put onto pages by one heap_multi_insert. */
#define SEND_BATCH_ROWS 256

/*
 * msg_id is unique though a hot queue has no index for it: only an id that the
 * sequence hands out again (setval, a restore) can meet a row, and then the
 * primary key of a heap queue would have refused it.
 */
static void
refuse_duplicate(Relation rel, XactQueue *queue, int64 msg_id)
{
	MessageRef	ref;
	Row			row;

	if (queue == NULL || !pgmq_xact_may_have_id(queue, msg_id) ||
		!pgmq_xact_queue_is_usable(queue) ||
		pgmq_xact_find_by_id(queue, msg_id, 1, &ref) == 0 ||
		pgmq_am_look_latest(rel, &ref.tid, msg_id, false, &row) != ROW_LIVE)
		return;
	ereport(ERROR,
			(errcode(ERRCODE_UNIQUE_VIOLATION),
			 errmsg("duplicate key value violates unique constraint \"%s_pkey\"",
					RelationGetRelationName(rel)),
			 errdetail("Key (msg_id)=(%lld) already exists.", (long long) msg_id)));
}

/* A new row in stored form. */
static HeapTuple
form_row(Relation rel, const RelationFacts *facts, int64 msg_id, Datum message,
		 bool message_is_null, Datum headers, bool headers_is_null,
		 TimestampTz visible_at)
{
	Datum		values[QUEUE_NATTS];
	bool		nulls[QUEUE_NATTS] = {0};
	HeapTuple	tuple;

	values[ATTNUM_MSG_ID - 1] = Int64GetDatum(msg_id);
	values[ATTNUM_READ_CT - 1] = Int32GetDatum(0);
	values[ATTNUM_ENQUEUED_AT - 1] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[ATTNUM_LAST_READ_AT - 1] = TimestampTzGetDatum(DT_NOBEGIN);
	nulls[ATTNUM_LAST_READ_AT - 1] = facts_store_nulls(facts);
	values[ATTNUM_VT - 1] = TimestampTzGetDatum(visible_at);
	values[ATTNUM_MESSAGE - 1] = message;
	nulls[ATTNUM_MESSAGE - 1] = message_is_null;
	values[ATTNUM_HEADERS - 1] = headers;
	nulls[ATTNUM_HEADERS - 1] = headers_is_null;
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	tuple->t_tableOid = RelationGetRelid(rel);
	return tuple;
}

static void
note_sent(XactQueue *queue, IndexWriter *writer, HeapTuple tuple, int64 msg_id,
		  TimestampTz visible_at, Datum headers, bool headers_is_null)
{
	Lease		values = {0, DT_NOBEGIN, visible_at};

	if (queue != NULL)
		pgmq_xact_note_insert(queue, &tuple->t_self, msg_id, &values,
							  pgmq_am_group_hash(headers, headers_is_null));
	if (writer != NULL)
		pgmq_am_index_insert(writer, tuple, false);
}

/*
 * Send one message; returns its msg_id.  The caller holds RowExclusiveLock,
 * has checked privileges and that facts->can_send.
 */
int64
pgmq_am_send(Relation rel, RelationFacts *facts, Datum message,
			 bool message_is_null, Datum headers, bool headers_is_null,
			 TimestampTz visible_at)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	int64		msg_id = nextval_internal(facts->sequence, false);
	IndexWriter *writer = facts->has_indexes ? pgmq_am_index_writer(rel) : NULL;
	HeapTuple	tuple;

	refuse_duplicate(rel, queue, msg_id);
	tuple = form_row(rel, facts, msg_id, message, message_is_null, headers,
					 headers_is_null, visible_at);
	PGMQ_FAILPOINT("send-heap-before");
	heap_insert(rel, tuple, GetCurrentCommandId(true), 0, NULL);
	PGMQ_FAILPOINT("send-heap-after");
	note_sent(queue, writer, tuple, msg_id, visible_at, headers, headers_is_null);
	if (writer != NULL)
		pgmq_am_index_close(writer);
	heap_freetuple(tuple);
	CommandCounterIncrement();
	return msg_id;
}

static void
send_batch(Relation rel, RelationFacts *facts, XactQueue *queue,
		   IndexWriter *writer, TupleTableSlot **slots, BulkInsertState bistate, int n,
		   const Datum *messages, const bool *message_nulls,
		   const Datum *headers, const bool *header_nulls,
		   TimestampTz visible_at, int64 *msg_ids)
{
	pgmq_am_take_ids(facts->sequence, n, msg_ids);
	for (int i = 0; i < n; i++)
	{
		refuse_duplicate(rel, queue, msg_ids[i]);
		ExecStoreHeapTuple(form_row(rel, facts, msg_ids[i], messages[i],
									message_nulls[i], headers[i], header_nulls[i],
									visible_at),
						   slots[i], true);
	}
	PGMQ_FAILPOINT("send-batch-heap-before");
	heap_multi_insert(rel, slots, n, GetCurrentCommandId(true), 0, bistate);
	PGMQ_FAILPOINT("send-batch-heap-after");
	for (int i = 0; i < n; i++)
	{
		HeapTuple	tuple = ExecFetchSlotHeapTuple(slots[i], false, NULL);

		tuple->t_self = slots[i]->tts_tid;
		note_sent(queue, writer, tuple, msg_ids[i], visible_at, headers[i], header_nulls[i]);
		ExecClearTuple(slots[i]);
	}
}

/* Send n messages with one visible_at; fills msg_ids in order. */
void
pgmq_am_send_many(Relation rel, RelationFacts *facts, int n,
				  const Datum *messages, const bool *message_nulls,
				  const Datum *headers, const bool *header_nulls,
				  TimestampTz visible_at, int64 *msg_ids)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	int			n_slots = Min(n, SEND_BATCH_ROWS);
	TupleTableSlot **slots = palloc(n_slots * sizeof(TupleTableSlot *));
	BulkInsertState bistate = GetBulkInsertState();
	IndexWriter *writer = facts->has_indexes ? pgmq_am_index_writer(rel) : NULL;

	for (int i = 0; i < n_slots; i++)
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsHeapTuple);
	for (int done = 0; done < n; done += n_slots)
	{
		CHECK_FOR_INTERRUPTS();
		send_batch(rel, facts, queue, writer, slots, bistate, Min(n - done, n_slots),
				   messages + done, message_nulls + done, headers + done,
				   header_nulls + done, visible_at, msg_ids + done);
	}
	for (int i = 0; i < n_slots; i++)
		ExecDropSingleTupleTableSlot(slots[i]);
	FreeBulkInsertState(bistate);
	if (writer != NULL)
		pgmq_am_index_close(writer);
	pfree(slots);
	CommandCounterIncrement();
}
