/*
 * am_lease.c
 *	  Writing leases to pages.
 *
 * A lease overwrites 20 bytes of a row in place (queue_row.h).  All leases
 * that fall on one page make one WAL record, of the server's own generic kind,
 * so that recovery, standbys and pg_rewind replay it without our library.
 * The record is put together by hand: per changed range its offset on the
 * page, its length and its bytes, as generic_redo() expects them
 * (generic_xlog.c, applyPageRedo); GenericXLogFinish() would copy and compare
 * the whole page instead.
 *
 * Called at PRE_COMMIT, for messages this transaction has claimed, so nobody
 * else leases, deletes or updates the row; a row lock somebody took and that
 * does not change the row is legal.
 */
#include "common/compat.h"

#include "access/generic_xlog.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "access/xloginsert.h"
#include "am/am.h"
#include "common/failpoint.h"
#include "storage/bufmgr.h"
#include "utils/inval.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* From read_ct to the end of vt: what one lease changes, padding included. */
#define LEASE_RANGES 2
#define READ_CT_SIZE sizeof(int32)
#define TIMES_SIZE (2 * sizeof(TimestampTz))
#define RANGE_HEADER_SIZE (2 * sizeof(OffsetNumber))
#define LEASE_RECORD_SIZE \
	(LEASE_RANGES * RANGE_HEADER_SIZE + READ_CT_SIZE + TIMES_SIZE)

StaticAssertDecl(offsetof(QueueRowHead, visible_at) ==
				 offsetof(QueueRowHead, last_read_at) + sizeof(TimestampTz),
				 "last_read_at and vt are one range");

/* The WAL image of the leases on one page. */
typedef struct PageRecord
{
	int			length;
	char		data[MaxHeapTuplesPerPage * LEASE_RECORD_SIZE];
} PageRecord;

static void
append_range(PageRecord *record, Page page, const void *start, Size length)
{
	OffsetNumber offset = (OffsetNumber) ((const char *) start - (const char *) page);
	OffsetNumber n_bytes = (OffsetNumber) length;
	char	   *at = record->data + record->length;

	Assert(record->length + RANGE_HEADER_SIZE + length <= sizeof(record->data));
	memcpy(at, &offset, sizeof(offset));
	memcpy(at + sizeof(offset), &n_bytes, sizeof(n_bytes));
	memcpy(at + RANGE_HEADER_SIZE, start, length);
	record->length += (int) (RANGE_HEADER_SIZE + length);
}

/* Aligned stores: a reader without the lock sees each field whole. */
static void
overwrite(Page page, QueueRowHead *head, const Lease *lease, PageRecord *record)
{
	*(volatile int32 *) &head->read_ct = lease->read_ct;
	*(volatile TimestampTz *) &head->last_read_at = lease->last_read_at;
	*(volatile TimestampTz *) &head->visible_at = lease->visible_at;
	append_range(record, page, &head->read_ct, READ_CT_SIZE);
	append_range(record, page, &head->last_read_at, TIMES_SIZE);
}

/* Log what was changed on the page; inside the critical section. */
static void
log_page(Relation rel, Buffer buffer, PageRecord *record)
{
	XLogRecPtr	lsn;

	if (!RelationNeedsWAL(rel))
		return;
	PGMQ_CRASHPOINT("lease-wal-before");
	XLogBeginInsert();
	XLogRegisterBuffer(0, buffer, REGBUF_STANDARD);
	XLogRegisterBufData(0, record->data, record->length);
	lsn = XLogInsert(RM_GENERIC_ID, 0);
	PGMQ_CRASHPOINT("lease-wal-after");
	PageSetLSN(BufferGetPage(buffer), lsn);
}

/* The row's head if the message is there and may be leased, else NULL. */
static QueueRowHead *
find_leasable(Relation rel, Buffer buffer, XactMessage *message)
{
	HeapTupleData tuple;
	QueueRowHead *head;

	if (!pgmq_am_find_on_page(rel, buffer, &message->tid, &tuple) ||
		!queue_row_has_head(tuple.t_data))
		return NULL;
	head = queue_row_head(tuple.t_data);
	if (head->msg_id != message->msg_id)
		return NULL;
	switch (HeapTupleSatisfiesUpdate(&tuple, GetCurrentCommandId(false), buffer))
	{
		case TM_Ok:
			return head;
		case TM_BeingModified:
			return pgmq_am_is_only_locked(tuple.t_data) ? head : NULL;
		default:
			return NULL;
	}
}

/* Write the leases of messages that lie on one page. */
static void
write_page(Relation rel, const int *messages, int n)
{
	static PageRecord record;
	QueueRowHead *heads[MaxHeapTuplesPerPage];
	Buffer		buffer;
	int			n_found = 0;

	Assert(n <= MaxHeapTuplesPerPage);
	buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(&pgmq_xact_message(messages[0])->tid));
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	for (int i = 0; i < n; i++)
	{
		heads[i] = find_leasable(rel, buffer, pgmq_xact_message(messages[i]));
		n_found += heads[i] != NULL;
	}
	if (n_found > 0)
	{
		record.length = 0;
		START_CRIT_SECTION();
		for (int i = 0; i < n; i++)
		{
			XactMessage *message = pgmq_xact_message(messages[i]);

			if (heads[i] == NULL)
				continue;
			message->before.read_ct = heads[i]->read_ct;
			message->before.last_read_at = heads[i]->last_read_at;
			message->before.visible_at = heads[i]->visible_at;
			message->is_written = true;
			overwrite(BufferGetPage(buffer), heads[i], &message->lease, &record);
		}
		MarkBufferDirty(buffer);
		log_page(rel, buffer, &record);
		END_CRIT_SECTION();
	}
	UnlockReleaseBuffer(buffer);
}

/*
 * Messages in TID order; one page record for each run on the same block.  A
 * transaction that emptied the file in place has none left behind its end.
 */
static void
write_pages(Relation rel, const int *messages, int n)
{
	int			start = 0;

	if (pgmq_xact_message(messages[0])->queue->must_rebuild)
	{
		BlockNumber n_blocks = RelationGetNumberOfBlocks(rel);

		while (n > 0 &&
			   ItemPointerGetBlockNumber(&pgmq_xact_message(messages[n - 1])->tid) >= n_blocks)
			n--;
		if (n == 0)
			return;
	}

	for (int i = 1; i <= n; i++)
	{
		BlockNumber block = ItemPointerGetBlockNumber(&pgmq_xact_message(messages[start])->tid);

		if (i < n && i - start < MaxHeapTuplesPerPage &&
			ItemPointerGetBlockNumber(&pgmq_xact_message(messages[i])->tid) == block)
			continue;
		PGMQ_FAILPOINT("lease-page-before");
		write_page(rel, messages + start, i - start);
		PGMQ_FAILPOINT("lease-page-after");
		start = i;
	}
}

/* Did the message go when this transaction emptied the file in place? */
static bool
went_with_file(Relation rel, const XactMessage *message)
{
	Row			row;
	RowState	state;

	if (!message->queue->must_rebuild)
		return false;
	state = pgmq_am_look_latest(rel, &message->tid, message->msg_id, false, &row);
	return state == ROW_GONE || state == ROW_INVISIBLE;
}

static void
update_rows(Relation rel, const int *messages, int n)
{
	if (XLogLogicalInfoActive())
		AcceptInvalidationMessages();	/* a publication: rows store NULLs */
	PushActiveSnapshot(GetTransactionSnapshot());
	for (int i = 0; i < n; i++)
	{
		ItemPointerData tid = pgmq_xact_message(messages[i])->tid;
		Lease		lease = pgmq_xact_message(messages[i])->lease;

		if (went_with_file(rel, pgmq_xact_message(messages[i])))
			continue;
		pgmq_am_lease_by_update(rel, &tid, &lease);
	}
	PopActiveSnapshot();
}

/*
 * May a lease be written in place, by the latest that is known?  A publication
 * needs no lock that we would notice, nor does who creates one wait for us.
 */
static bool
may_write_in_place(Relation rel)
{
	if (XLogLogicalInfoActive())
		AcceptInvalidationMessages();
	return pgmq_am_facts(rel)->can_read;
}

/*
 * In place, unless that is wrong since the claim: by an index of our own on a
 * lease column, which would keep the old values, or by anybody's publication,
 * whose subscribers would miss the lease.
 *
 * Looked at again afterwards: a publication that is unknown even then is
 * younger than what is on the page, so whoever copies the table for it copies
 * the lease.
 */
static void
write_rows(Relation rel, const int *messages, int n)
{
	if (may_write_in_place(rel))
	{
		write_pages(rel, messages, n);
		if (!XLogLogicalInfoActive() || may_write_in_place(rel))
			return;
	}
	update_rows(rel, messages, n);
}

/* Has the table our lease columns still, and in our storage? */
static bool
can_lease_in_place(Relation rel)
{
	return pgmq_am_is_ours(rel) && descr_is_queue(RelationGetDescr(rel));
}

/*
 * XactStorage.write_leases.  Nothing is left to do where this transaction has
 * dropped or emptied the queue, or rewritten its table: ALTER TABLE copied the
 * rows with their leases, and before the others pgmq_am_flush_leases ran.
 */
void
pgmq_am_write_leases(XactQueue *queue, int *messages, int n)
{
	Relation	rel = try_table_open(queue->relid, NoLock);

	if (rel == NULL)
		return;
	if (can_lease_in_place(rel) &&
		RelFileLocatorEquals(REL_LOCATOR(rel), queue->locator))
		write_rows(rel, messages, n);
	table_close(rel, NoLock);
}

/*
 * Before the rows of a table are copied as they are stored: write what this
 * transaction holds, as UPDATEs, which it may still roll back.
 */
void
pgmq_am_flush_leases(Relation rel)
{
	XactQueue  *queue;
	int		   *messages;
	int			n;

	if (!pgmq_xact_has_leases())
		return;
	queue = pgmq_xact_queue(rel);
	n = queue ? pgmq_xact_standing_leases(queue, &messages) : 0;
	if (n > 0)
		update_rows(rel, messages, n);
}

/*
 * Lease a row by an ordinary UPDATE, where it cannot be done in place: the row
 * stores a NULL, or its transaction is about to be prepared.  The caller has
 * claimed the row; raises 40001 if it is not there as claimed.
 */
void
pgmq_am_lease_by_update(Relation rel, const ItemPointerData *tid, const Lease *lease)
{
	HeapTupleData current;
	HeapTuple	leased;
	HeapTuple	stored;
	Buffer		buffer;
	TM_FailureData tmfd;
	LockTupleMode mode;
	TU_UpdateIndexes update_indexes;

	current.t_self = *tid;
	if (!pgmq_heap_fetch(rel, SnapshotSelf, &current, &buffer))
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update")));
	leased = pgmq_am_with_lease(RelationGetDescr(rel), &current, lease);
	stored = pgmq_am_stored_form(rel, leased);
	ReleaseBuffer(buffer);
	stored->t_tableOid = RelationGetRelid(rel);
	if (pgmq_am_update_tid(rel, unconstify(ItemPointerData *, tid), stored,
						   GetCurrentCommandId(true), InvalidSnapshot, true, false,
						   &tmfd, &mode, &update_indexes) != TM_Ok)
		ereport(ERROR,
				(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
				 errmsg("could not serialize access due to concurrent update")));
	if (update_indexes != TU_None)
		pgmq_am_insert_index_entries(rel, stored, TU_IsSummarizing(update_indexes));
	CommandCounterIncrement();
}

/* XactStorage.update_leases; as above, but decided by MVCC */
void
pgmq_am_update_leases(XactQueue *queue, int *messages, int n)
{
	Relation	rel = try_table_open(queue->relid, NoLock);

	if (rel == NULL)
		return;
	if (can_lease_in_place(rel) &&
		RelFileLocatorEquals(REL_LOCATOR(rel), queue->locator))
		update_rows(rel, messages, n);
	table_close(rel, NoLock);
}

/*
 * Put back what a row was before a lease whose transaction failed, if the row is
 * there.  The table is locked.
 */
void
pgmq_am_restore_lease(Relation rel, const ItemPointerData *tid, int64 msg_id,
					  const Lease *before)
{
	static PageRecord record;
	HeapTupleData tuple;
	Buffer		buffer;

	if (!pgmq_am_has_block(rel, ItemPointerGetBlockNumberNoCheck(tid)))
		return;
	buffer = ReadBuffer(rel, ItemPointerGetBlockNumberNoCheck(tid));
	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (pgmq_am_find_on_page(rel, buffer, tid, &tuple) &&
		queue_row_has_head(tuple.t_data) &&
		queue_row_head(tuple.t_data)->msg_id == msg_id)
	{
		record.length = 0;
		START_CRIT_SECTION();
		overwrite(BufferGetPage(buffer), queue_row_head(tuple.t_data), before, &record);
		MarkBufferDirty(buffer);
		log_page(rel, buffer, &record);
		END_CRIT_SECTION();
	}
	UnlockReleaseBuffer(buffer);
}
