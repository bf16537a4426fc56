/*-------------------------------------------------------------------------
 *
 * pgmq_floor.c
 *	  The floor of the benchmark: C functions that do what a queue cannot
 *	  avoid, and nothing else.
 *
 * Every figure of the harness is also given as a fraction of these, so that a
 * result says how far it is from what this server can do on this machine.
 *
 *	floor_empty()				call overhead alone
 *	floor_insert(rel, msg)		one nextval, one heap row, no index
 *	floor_multi_insert(rel, msgs)	the same for a batch in one heap_multi_insert
 *	floor_lease(rel, n)			overwrite the 20 lease bytes of n rows in place
 *	floor_delete(rel)			delete what this session last inserted
 *
 * The table has the columns of a queue in their order, msg_id an identity
 * column, and last_read_at stored as -infinity, never NULL, so that the lease
 * bytes sit at constant offsets after t_hoff:
 *
 *	 0	msg_id bigint
 *	 8	read_ct integer			lease
 *	12	(padding)
 *	16	enqueued_at timestamptz
 *	24	last_read_at timestamptz	lease
 *	32	vt timestamptz			lease
 *	40	message, headers jsonb
 *
 * There is no visibility check, no claim and no bookkeeping here: rows handed
 * to floor_lease must be committed and undisturbed.  State is per backend;
 * nothing survives the session and a crash loses nothing but the cursor.
 *
 *-------------------------------------------------------------------------
 */
#include "postgres.h"

#include <limits.h>

#include "access/heapam.h"
#include "access/rmgr.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xloginsert.h"
#include "catalog/dependency.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "executor/tuptable.h"
#include "fmgr.h"
#include "miscadmin.h"
#include "storage/bufmgr.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/rel.h"
#include "utils/timestamp.h"

PG_MODULE_MAGIC;

PG_FUNCTION_INFO_V1(floor_empty);
PG_FUNCTION_INFO_V1(floor_insert);
PG_FUNCTION_INFO_V1(floor_multi_insert);
PG_FUNCTION_INFO_V1(floor_lease);
PG_FUNCTION_INFO_V1(floor_delete);

#define FLOOR_NATTS 7
#define FLOOR_MAX_BATCH 1000

/* Offsets from the start of a row's data, see the file's comment. */
#define READ_CT_OFFSET 8
#define LAST_READ_AT_OFFSET 24
#define VT_OFFSET 32
#define LEASE_VT_SECONDS 3600

/* One changed stretch in a generic WAL record is { offset, length, bytes }. */
#define FRAGMENT_HEADER (2 * sizeof(OffsetNumber))
#define LEASE_DELTA_MAX \
	(MaxHeapTuplesPerPage * (2 * FRAGMENT_HEADER + sizeof(int32) + 2 * sizeof(TimestampTz)))

/* The sequence behind the table last written; a catalog scan each call would not be the floor. */
static Oid	sequence_relid = InvalidOid;
static Oid	sequence_oid = InvalidOid;

/* Rows the last insert of this session made, for floor_delete. */
static Oid	last_relid = InvalidOid;
static ItemPointerData last_tids[FLOOR_MAX_BATCH];
static int	last_ntids = 0;

/* Where this session's next lease begins. */
static Oid	cursor_relid = InvalidOid;
static BlockNumber cursor_nblocks = 0;
static BlockNumber cursor_block = 0;
static OffsetNumber cursor_offset = FirstOffsetNumber;

/* Next msg_id of the table. */
static int64
next_msg_id(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);

	if (sequence_relid != relid)
	{
#if PG_VERSION_NUM >= 170000
		sequence_oid = getIdentitySequence(rel, 1, false);
#else
		sequence_oid = getIdentitySequence(relid, 1, false);
#endif
		sequence_relid = relid;
	}
	return nextval_internal(sequence_oid, false);
}

/* Fill the columns of a fresh message. */
static void
fill_row(Relation rel, Datum message, TimestampTz visible_at,
		 Datum *values, bool *nulls)
{
	values[0] = Int64GetDatum(next_msg_id(rel));
	values[1] = Int32GetDatum(0);
	values[2] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[3] = TimestampTzGetDatum(DT_NOBEGIN);
	values[4] = TimestampTzGetDatum(visible_at);
	values[5] = message;
	values[6] = (Datum) 0;
	memset(nulls, false, FLOOR_NATTS * sizeof(bool));
	nulls[6] = true;
}

static Relation
open_floor_table(Oid relid)
{
	Relation	rel = table_open(relid, RowExclusiveLock);

	if (RelationGetNumberOfAttributes(rel) != FLOOR_NATTS ||
		rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a floor table", RelationGetRelationName(rel))));
	return rel;
}

Datum
floor_empty(PG_FUNCTION_ARGS)
{
	PG_RETURN_INT64(0);
}

Datum
floor_insert(PG_FUNCTION_ARGS)
{
	Relation	rel = open_floor_table(PG_GETARG_OID(0));
	Datum		values[FLOOR_NATTS];
	bool		nulls[FLOOR_NATTS];
	HeapTuple	tuple;

	fill_row(rel, PG_GETARG_DATUM(1), GetCurrentTimestamp(), values, nulls);
	tuple = heap_form_tuple(RelationGetDescr(rel), values, nulls);
	heap_insert(rel, tuple, GetCurrentCommandId(true), 0, NULL);
	last_relid = RelationGetRelid(rel);
	last_tids[0] = tuple->t_self;
	last_ntids = 1;
	table_close(rel, NoLock);
	PG_RETURN_DATUM(values[0]);
}

/* Returns the msg_id of the last row of the batch. */
Datum
floor_multi_insert(PG_FUNCTION_ARGS)
{
	Relation	rel = open_floor_table(PG_GETARG_OID(0));
	TimestampTz visible_at = GetCurrentTimestamp();
	TupleTableSlot **slots;
	Datum	   *messages;
	Datum		last_msg_id;
	int			nmessages;

	deconstruct_array(PG_GETARG_ARRAYTYPE_P(1), JSONBOID, -1, false,
					  TYPALIGN_INT, &messages, NULL, &nmessages);
	if (nmessages < 1 || nmessages > FLOOR_MAX_BATCH)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("a batch must hold 1 to %d messages", FLOOR_MAX_BATCH)));

	slots = palloc(nmessages * sizeof(TupleTableSlot *));
	for (int i = 0; i < nmessages; i++)
	{
		slots[i] = MakeSingleTupleTableSlot(RelationGetDescr(rel), &TTSOpsVirtual);
		fill_row(rel, messages[i], visible_at,
				 slots[i]->tts_values, slots[i]->tts_isnull);
		ExecStoreVirtualTuple(slots[i]);
	}
	heap_multi_insert(rel, slots, nmessages, GetCurrentCommandId(true), 0, NULL);

	last_msg_id = slots[nmessages - 1]->tts_values[0];

	last_relid = RelationGetRelid(rel);
	last_ntids = nmessages;
	for (int i = 0; i < nmessages; i++)
	{
		last_tids[i] = slots[i]->tts_tid;
		ExecDropSingleTupleTableSlot(slots[i]);
	}
	table_close(rel, NoLock);
	PG_RETURN_DATUM(last_msg_id);
}

/* Returns how many rows went. */
Datum
floor_delete(PG_FUNCTION_ARGS)
{
	Relation	rel = open_floor_table(PG_GETARG_OID(0));
	int			ndeleted = (last_relid == RelationGetRelid(rel)) ? last_ntids : 0;

	for (int i = 0; i < ndeleted; i++)
		simple_heap_delete(rel, &last_tids[i]);
	last_ntids = 0;
	table_close(rel, NoLock);
	PG_RETURN_INT32(ndeleted);
}

/* Append one changed stretch of the page to the record's delta. */
static int
append_fragment(char *delta, int used, Page page, OffsetNumber offset, OffsetNumber length)
{
	memcpy(delta + used, &offset, sizeof(offset));
	memcpy(delta + used + sizeof(offset), &length, sizeof(length));
	memcpy(delta + used + FRAGMENT_HEADER, (char *) page + offset, length);
	return used + FRAGMENT_HEADER + length;
}

/* Overwrite one row's lease bytes and describe the change in the delta. */
static int
lease_row(Page page, ItemId lp, TimestampTz read_at, char *delta, int used)
{
	char	   *row = (char *) PageGetItem(page, lp);
	char	   *data = row + ((HeapTupleHeader) row)->t_hoff;
	OffsetNumber data_offset = (OffsetNumber) (data - (char *) page);

	*(int32 *) (data + READ_CT_OFFSET) += 1;
	*(TimestampTz *) (data + LAST_READ_AT_OFFSET) = read_at;
	*(TimestampTz *) (data + VT_OFFSET) = read_at + LEASE_VT_SECONDS * USECS_PER_SEC;

	used = append_fragment(delta, used, page, data_offset + READ_CT_OFFSET, sizeof(int32));
	return append_fragment(delta, used, page, data_offset + LAST_READ_AT_OFFSET,
						   2 * sizeof(TimestampTz));
}

/*
 * Lease up to n rows of the cursor's page with one record, and move the cursor
 * behind them.  The record is of the server's generic kind, put together by
 * hand; generic_redo replays it.
 */
static int
lease_page(Relation rel, int n, TimestampTz read_at)
{
	static char delta[LEASE_DELTA_MAX];
	Buffer		buffer = ReadBuffer(rel, cursor_block);
	Page		page;
	OffsetNumber max_offset;
	int			used = 0;
	int			nleased = 0;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	page = BufferGetPage(buffer);
	max_offset = PageGetMaxOffsetNumber(page);

	START_CRIT_SECTION();
	for (; cursor_offset <= max_offset && nleased < n; cursor_offset++)
	{
		ItemId		lp = PageGetItemId(page, cursor_offset);

		if (!ItemIdIsNormal(lp))
			continue;
		used = lease_row(page, lp, read_at, delta, used);
		nleased++;
	}
	if (nleased > 0)
	{
		XLogRecPtr	lsn;

		MarkBufferDirty(buffer);
		XLogBeginInsert();
		XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
		XLogRegisterBufData(0, delta, used);
		lsn = XLogInsert(RM_GENERIC_ID, 0);
		PageSetLSN(page, lsn);
	}
	END_CRIT_SECTION();
	UnlockReleaseBuffer(buffer);

	if (cursor_offset > max_offset)
	{
		cursor_block = (cursor_block + 1) % cursor_nblocks;
		cursor_offset = FirstOffsetNumber;
	}
	return nleased;
}

/* Start somewhere of our own: sessions should not queue for one page's lock. */
static void
reset_cursor(Relation rel)
{
	cursor_relid = RelationGetRelid(rel);
	cursor_nblocks = RelationGetNumberOfBlocks(rel);
	cursor_block = cursor_nblocks ? ((uint32) MyProcPid * 2654435761u) % cursor_nblocks : 0;
	cursor_offset = FirstOffsetNumber;
}

/*
 * Lease n rows, going round the table.  Takes no transaction id; with
 * synchronous_commit on the records are flushed before success all the same.
 */
Datum
floor_lease(PG_FUNCTION_ARGS)
{
	Relation	rel = open_floor_table(PG_GETARG_OID(0));
	int			wanted = PG_GETARG_INT32(1);
	TimestampTz read_at = GetCurrentTimestamp();
	int			nleased = 0;

	if (cursor_relid != RelationGetRelid(rel) || cursor_nblocks == 0)
		reset_cursor(rel);

	/* Bounded: one round of the table, however many rows it turns out to have. */
	for (BlockNumber visited = 0;
		 nleased < wanted && visited <= cursor_nblocks && cursor_nblocks > 0;
		 visited++)
		nleased += lease_page(rel, wanted - nleased, read_at);

	if (nleased > 0 && synchronous_commit > SYNCHRONOUS_COMMIT_OFF)
		ForceSyncCommit();
	table_close(rel, NoLock);
	PG_RETURN_INT32(nleased);
}
