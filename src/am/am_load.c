/*
 * am_load.c
 *	  Filling a ring from its table, and settling what it is undecided about.
 *
 * A scan of the table judges rows not by a snapshot but by what they are now:
 * committed and live goes in, what an unfinished transaction inserted or
 * deleted goes in as LIMBO, and everything that commits during the scan
 * reaches the ring by itself, because the ring exists before the scan starts.
 * See pgmq_xact_build_add() for rows deleted between the look and the insert.
 *
 * The same scan loads cold messages from a part of the table: it inserts what is
 * absent, as far as there is room, the lowest ids first; or, if they are asked for
 * by id, those.
 */
#include "common/compat.h"

#include "access/transam.h"
#include "am/am.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/limits.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Pause before looking again at a row that another backend restores. */
#define UNDO_PAUSE_US 1000

/* So many rows ahead of the one that is looked at memory is asked for. */
#define PREFETCH_ROWS 6

/* Rows found before they are added: what a run may have, and a page that goes past that. */
#define SCAN_MAX_ROWS (RING_BATCH_SLOTS + MaxHeapTuplesPerPage)

/* Pages looked at before their rows are added. */
#define SCAN_MAX_PAGES 16

/* Scans in one call, at most, to make the ring able to answer. */
#define MAX_LOADS (4 * RING_COLD_RANGES)

/* The ids a scan is for, in ascending order; n is 0 if it is for all. */
typedef struct WantedIds
{
	const int64 *ids;
	int			n;
} WantedIds;

/* One scan of a table. */
typedef struct TableScan
{
	Relation	rel;
	XactQueue  *queue;
	TimestampTz now;
	bool		wants_groups;
	WantedIds	wanted;
	TransactionId oldest_xmin;
	TransactionId committed;	/* inserted the last row that was live */
	BufferAccessStrategy strategy;
	MemoryContext per_page;		/* for headers */
	int			max_pages;		/* look at so many before their rows are added */
	int			n_pages;		/* looked at */
	ScannedRow *rows;			/* of these pages */
	Datum	   *headers;		/* of one page's, if groups are wanted; 0: none */
} TableScan;

/*
 * Is the row live by its header alone?  One that nobody has read or vacuumed yet does not
 * say that its inserter has committed, but the row before often has the same.  It is not
 * noted here, so that pages that were not changed need not be written again.
 */
static inline bool
is_plainly_live(const TableScan *scan, HeapTupleHeader header)
{
	uint16		infomask = header->t_infomask;

	if ((infomask & HEAP_XMAX_INVALID) == 0)
		return false;
	if (infomask & HEAP_XMIN_COMMITTED)
		return true;
	return (infomask & (HEAP_XMIN_INVALID | HEAP_MOVED)) == 0 &&
		HeapTupleHeaderGetRawXmin(header) == scan->committed;
}

/* Judge one row; false if the ring need not know it. */
static bool
judge_row(TableScan *scan, HeapTuple tuple, Buffer buffer, ScannedRow *row)
{
	switch (HeapTupleSatisfiesVacuum(tuple, scan->oldest_xmin, buffer))
	{
		case HEAPTUPLE_LIVE:
			scan->committed = HeapTupleHeaderGetXmin(tuple->t_data);
			break;
		case HEAPTUPLE_INSERT_IN_PROGRESS:
			row->undecided = HeapTupleHeaderGetXmin(tuple->t_data);
			row->is_insert = true;
			if (TransactionIdIsCurrentTransactionId(row->undecided))
				return false;	/* on our list already */
			break;
		case HEAPTUPLE_DELETE_IN_PROGRESS:
			row->undecided = HeapTupleHeaderGetUpdateXid(tuple->t_data);
			if (TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
				return false;	/* our own insert and delete: on our list, too */
			break;
		default:
			return false;
	}
	return true;
}

/* What the ring wants to know of one row; false if that is nothing. */
static inline bool
scan_row(TableScan *scan, HeapTuple tuple, Buffer buffer, ScannedRow *row)
{
	Lease		lease;
	bool		has_msg_id;

	row->undecided = InvalidTransactionId;
	row->is_insert = false;
	if (!is_plainly_live(scan, tuple->t_data) && !judge_row(scan, tuple, buffer, row))
		return false;
	row->tid = tuple->t_self;
	if (queue_row_has_head(tuple->t_data))
	{
		const QueueRowHead *head = queue_row_head(tuple->t_data);

		row->msg_id = head->msg_id;
		row->read_ct = head->read_ct;
		row->visible_at = head->visible_at;
		return true;
	}
	pgmq_am_row_values(tuple, RelationGetDescr(scan->rel), &row->msg_id, &lease, &has_msg_id);
	row->read_ct = lease.read_ct;
	row->visible_at = lease.visible_at;
	return has_msg_id;
}

/* For qsort and bsearch of ids in ascending order. */
int
pgmq_am_compare_ids(const void *a, const void *b)
{
	int64		id_a = *(const int64 *) a;
	int64		id_b = *(const int64 *) b;

	return id_a < id_b ? -1 : (id_a > id_b ? 1 : 0);
}

static bool
is_wanted(const WantedIds *wanted, int64 msg_id)
{
	return wanted->n == 0 ||
		bsearch(&msg_id, wanted->ids, wanted->n, sizeof(int64), pgmq_am_compare_ids) != NULL;
}

/*
 * Find the groups of a page's rows, after the page was let go: headers may
 * have to be fetched from elsewhere.  Our snapshot keeps them from being
 * vacuumed away meanwhile, but for rows whose insert is undone; what is not
 * committed has no group yet, and its headers are not asked for.
 */
static void
hash_groups(TableScan *scan, ScannedRow *rows, int n)
{
	for (int i = 0; i < n; i++)
		rows[i].group_hash =
			pgmq_am_group_hash(scan->headers[i], scan->headers[i] == (Datum) 0);
}

/* Ask for what is_plainly_live() and scan_row() want of a row: two cache lines, mostly. */
static inline void
prefetch_row(Page page, OffsetNumber offset, OffsetNumber last)
{
	const char *header;

	if (offset > last)
		return;
	header = (char *) page + ItemIdGetOffset(PageGetItemId(page, offset));
	PGMQ_PREFETCH(header);
	PGMQ_PREFETCH(header + MAXALIGN(SizeofHeapTupleHeader) + offsetof(QueueRowHead, visible_at));
}

static int
scan_page(TableScan *scan, BlockNumber block, ScannedRow *rows)
{
	Relation	rel = scan->rel;
	Buffer		buffer = ReadBufferExtended(rel, MAIN_FORKNUM, block, RBM_NORMAL,
											scan->strategy);
	int			n = 0;
	Page		page;
	OffsetNumber last;
	HeapTupleData tuple;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	last = PageGetMaxOffsetNumber(page);
	tuple.t_tableOid = RelationGetRelid(rel);
	for (OffsetNumber offset = FirstOffsetNumber; offset <= last; offset++)
	{
		ItemId		item = PageGetItemId(page, offset);

		prefetch_row(page, offset + PREFETCH_ROWS, last);
		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		ItemPointerSet(&tuple.t_self, block, offset);
		if (!scan_row(scan, &tuple, buffer, &rows[n]) ||
			!is_wanted(&scan->wanted, rows[n].msg_id))
			continue;
		if (scan->wants_groups)
			scan->headers[n] = rows[n].is_insert ? (Datum) 0 :
				pgmq_am_copy_headers(&tuple, RelationGetDescr(rel));
		n++;
	}
	UnlockReleaseBuffer(buffer);
	if (scan->wants_groups)
		hash_groups(scan, rows, n);
	return n;
}

/* Look at as many pages as are worth one hold of the ring's lock. */
static int
scan_pages(TableScan *scan, BlockNumber first, BlockNumber end)
{
	int			last = 0;
	int			n = 0;

	scan->n_pages = 0;
	do
	{
		last = scan_page(scan, first + scan->n_pages, &scan->rows[n]);
		scan->n_pages++;
		n += last;
	} while (scan->n_pages < scan->max_pages && first + scan->n_pages < end &&
			 n + last <= RING_BATCH_SLOTS);
	return n;
}

/*
 * Add what was found; false if that is too old.  The more pages are looked at, the more
 * often that is so while others delete: then it is one page again.  So it is where rows
 * are added singly, which would hold the ring's lock for too long, and of a ring with
 * groups, whose rows' headers may take much memory.
 */
static bool
add_scanned(TableScan *scan, uint64 epoch, int n)
{
	BuildAdd	result = pgmq_xact_build_add(scan->queue, epoch, scan->rows, n, scan->now);

	scan->max_pages = result == BUILD_ADDED_QUICKLY && !scan->wants_groups ?
		Min(2 * scan->max_pages, SCAN_MAX_PAGES) : 1;
	return result != BUILD_TOO_OLD;
}

static void
begin_scan(TableScan *scan, Relation rel, XactQueue *queue, const WantedIds *wanted,
		   TimestampTz now)
{
	scan->rel = rel;
	scan->queue = queue;
	scan->now = now;
	scan->wanted = *wanted;
	scan->wants_groups = pgmq_xact_keeps_groups(queue);
	scan->oldest_xmin = GetOldestNonRemovableTransactionId(rel);
	scan->committed = InvalidTransactionId;
	scan->strategy = GetAccessStrategy(BAS_BULKREAD);
	scan->per_page = AllocSetContextCreate(CurrentMemoryContext, "pgmq scan",
										   ALLOCSET_DEFAULT_SIZES);
	scan->max_pages = 1;
	scan->rows = palloc0(SCAN_MAX_ROWS * sizeof(ScannedRow));
	scan->headers = palloc(MaxHeapTuplesPerPage * sizeof(Datum));
}

static void
end_scan(TableScan *scan)
{
	FreeAccessStrategy(scan->strategy);
	MemoryContextDelete(scan->per_page);
	pfree(scan->rows);
	pfree(scan->headers);
}

/* Scan these blocks into the ring; the build has begun. */
static void
scan_blocks(Relation rel, XactQueue *queue, const BlockRange *range,
			const WantedIds *wanted, TimestampTz now)
{
	TableScan	scan;
	BlockNumber end = Min(range->end, RelationGetNumberOfBlocks(rel));
	MemoryContext caller = CurrentMemoryContext;

	begin_scan(&scan, rel, queue, wanted, now);
	MemoryContextSwitchTo(scan.per_page);
	for (BlockNumber block = range->first; block < end; block += scan.n_pages)
	{
		uint64		epoch;
		int			n;

		do
		{
			CHECK_FOR_INTERRUPTS();
			MemoryContextReset(scan.per_page);
			epoch = pgmq_xact_build_epoch(queue);
			PGMQ_FAILPOINT("scan-page-before");
			n = scan_pages(&scan, block, end);
			PGMQ_FAILPOINT("scan-page-after");
		} while (!add_scanned(&scan, epoch, n));
	}
	MemoryContextSwitchTo(caller);
	end_scan(&scan);
}

/* An UNDO slot: put the page back, then the slot. */
static void
undo_row(Relation rel, XactQueue *queue, SlotCopy *copy)
{
	Lease		before;

	if (!pgmq_xact_undo_take(queue, copy))
	{
		pg_usleep(UNDO_PAUSE_US);
		return;
	}
	before.read_ct = copy->read_ct;
	before.last_read_at = copy->last_read_at;
	before.visible_at = copy->visible_at;
	PGMQ_FAILPOINT("restore-page-before");
	pgmq_am_restore_lease(rel, &copy->tid, copy->msg_id, &before);
	PGMQ_FAILPOINT("restore-page-after");
	pgmq_xact_undo_done();
}

/*
 * Has a transaction ended, its callbacks included?  Its lock on its own id is released
 * after those; until then it comes to settle its messages itself, and what became of
 * them in between it would not know.
 */
static bool
is_over(TransactionId xid)
{
	return !TransactionIdIsInProgress(xid) && pgmq_xid_is_unlocked(xid);
}

/*
 * Which transaction is to decide about a row that is there: whoever deleted it when it had
 * no slot, which a scan made since; or we, who inserted it where one was that had the same
 * msg_id.  None: the row is committed and live.
 */
static void
find_undecided(const Row *row, ScannedRow *scanned)
{
	TransactionId xmin = HeapTupleHeaderGetXmin(row->tuple->t_data);

	scanned->is_insert = TransactionIdIsCurrentTransactionId(xmin);
	scanned->undecided = scanned->is_insert ? xmin : row->deleter;
}

/* A LIMBO slot: if its transaction has ended, the page decides. */
static void
settle_limbo_row(Relation rel, XactQueue *queue, const SlotCopy *copy)
{
	ScannedRow	scanned = {0};
	Row			row;

	if (!is_over(copy->xid))
		return;
	PGMQ_FAILPOINT("settle-look-before");
	(void) pgmq_am_look_latest(rel, &copy->tid, copy->msg_id, true, &row);
	PGMQ_FAILPOINT("settle-look-after");
	if (row.tuple == NULL)
	{
		pgmq_xact_settle(queue, copy, NULL);
		return;
	}
	scanned.read_ct = row.has_head ? row.head.read_ct : copy->read_ct;
	scanned.visible_at = row.has_head ? row.head.visible_at : copy->visible_at;
	scanned.group_hash = pgmq_am_row_group(row.tuple, RelationGetDescr(rel));
	find_undecided(&row, &scanned);
	heap_freetuple(row.tuple);
	pgmq_xact_settle(queue, copy, &scanned);
}

/* Settle one message, if it is undecided; may leave it so. */
void
pgmq_am_settle_row(Relation rel, XactQueue *queue, int64 msg_id,
				   const ItemPointerData *tid)
{
	SlotCopy	copy;

	if (!pgmq_xact_copy_slot(queue, msg_id, tid, &copy))
		return;
	if (copy.is_undo)
		undo_row(rel, queue, &copy);
	else if (TransactionIdIsValid(copy.xid))
		settle_limbo_row(rel, queue, &copy);
}

/*
 * All that one ended transaction decides about, a batch at a time.  What it
 * inserted goes first: a new version of a row must be in its group before the
 * old one leaves it, or others could read past the message.
 */
static void
settle_limbo_of(Relation rel, XactQueue *queue, TransactionId xid, SlotCopy *copies)
{
	for (int is_insert = 1; is_insert >= 0; is_insert--)
	{
		uint32		cursor = 0;
		int			n;

		do
		{
			CHECK_FOR_INTERRUPTS();
			n = pgmq_xact_list_limbo(queue, xid, &cursor, RING_BATCH_SLOTS, copies);
			for (int i = 0; i < n; i++)
				if (copies[i].is_limbo_insert == is_insert)
					settle_limbo_row(rel, queue, &copies[i]);
		} while (n == RING_BATCH_SLOTS);
	}
}

/*
 * Settle what can be settled: every UNDO slot, and every LIMBO slot whose
 * transaction has ended.  The price of those that have not is a look at each
 * transaction, not at each message.
 */
void
pgmq_am_settle_all(Relation rel, XactQueue *queue)
{
	SlotCopy   *copies;
	TransactionId xid = InvalidTransactionId;
	int			n;

	if (pgmq_xact_undecided(queue) == 0)
		return;
	copies = palloc(RING_BATCH_SLOTS * sizeof(SlotCopy));
	do
	{
		CHECK_FOR_INTERRUPTS();
		n = pgmq_xact_list_undo(queue, RING_BATCH_SLOTS, copies);
		for (int i = 0; i < n; i++)
			undo_row(rel, queue, &copies[i]);
	} while (n == RING_BATCH_SLOTS);
	while (TransactionIdIsValid(xid = pgmq_xact_next_limbo_xid(queue, xid)))
		if (is_over(xid))
			settle_limbo_of(rel, queue, xid, copies);
	pfree(copies);
}

/*
 * Is a transaction that decides about LIMBO slots between its end for others and the end of
 * its callbacks?  It is to settle them itself, in a moment; what else it did may be in the
 * ring already.
 */
bool
pgmq_am_is_settling(XactQueue *queue)
{
	TransactionId xid = InvalidTransactionId;

	if (pgmq_xact_undecided(queue) == 0)
		return false;
	while (TransactionIdIsValid(xid = pgmq_xact_next_limbo_xid(queue, xid)))
		if (!TransactionIdIsInProgress(xid) && !pgmq_xid_is_unlocked(xid))
			return true;
	return false;
}

/*
 * Before the rows are copied or indexed as they are stored: put back what was
 * before leases that are to be taken back.  The caller's lock on the table
 * keeps others from making more.
 */
void
pgmq_am_take_back_leases(Relation rel)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	SlotCopy	copy;

	if (queue == NULL || !pgmq_xact_queue_is_usable(queue))
		return;
	while (pgmq_xact_list_undo(queue, 1, &copy) > 0)
	{
		CHECK_FOR_INTERRUPTS();
		undo_row(rel, queue, &copy);
	}
}

/*
 * One scan for what is due, or a wait for another's; false if there is nothing to be
 * gained by the next.
 */
static bool
scan_once(Relation rel, XactQueue *queue, const ReadyCursor *cursor, TimestampTz now)
{
	static const WantedIds all = {NULL, 0};
	BlockRange	range;

	switch (pgmq_xact_build_begin(queue, cursor, now, &range))
	{
		case BUILD_STARTED:
			scan_blocks(rel, queue, &range, &all, now);
			return pgmq_xact_build_end(queue, true);
		case BUILD_BY_ANOTHER:
			pgmq_xact_build_wait(queue);
			break;
		case BUILD_NOT_NEEDED:
			break;
	}
	return true;
}

/*
 * Make the ring able to answer: settle undecided messages, build it or
 * load cold messages where that is due.  False if it cannot answer even so
 * (no room in the pool): the caller takes the SQL path.  With a cursor only
 * what comes behind it matters.
 */
bool
pgmq_am_ready_ring(Relation rel, XactQueue *queue, const ReadyCursor *cursor,
				   TimestampTz now)
{
	int			n_scans = 0;

	if (cursor == NULL)
		cursor = &pgmq_ready_start;
	pgmq_am_settle_all(rel, queue);
	while (pgmq_xact_must_load(queue, cursor, now))
	{
		if (n_scans++ == MAX_LOADS || !scan_once(rel, queue, cursor, now))
			return !pgmq_xact_must_load(queue, cursor, now);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Build the ring if it is not; false if it was marked to be built anew meanwhile. */
bool
pgmq_am_build_ring(Relation rel, XactQueue *queue)
{
	pgmq_am_settle_all(rel, queue);
	while (pgmq_xact_is_unbuilt(queue))
	{
		if (!scan_once(rel, queue, NULL, pgmq_clock_now()))
			return !pgmq_xact_is_unbuilt(queue);
		CHECK_FOR_INTERRUPTS();
	}
	return true;
}

/* Load the cold messages with these ids, as far as there are any, and room for them. */
static void
load_ids(Relation rel, XactQueue *queue, const WantedIds *wanted)
{
	BlockRange	range = {0, 0};

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		switch (pgmq_xact_find_begin(queue, wanted->ids, wanted->n, &range))
		{
			case BUILD_STARTED:
				scan_blocks(rel, queue, &range, wanted, pgmq_clock_now());
				(void) pgmq_xact_build_end(queue, true);
				range.first = range.end;
				break;
			case BUILD_BY_ANOTHER:
				pgmq_xact_build_wait(queue);
				break;
			case BUILD_NOT_NEEDED:
				return;
		}
	}
}

/* Can this transaction find messages through the ring?  Builds it if it must. */
bool
pgmq_am_can_find(Relation rel)
{
	XactQueue  *queue = pgmq_xact_queue(rel);

	return pgmq_xact_queue_is_usable(queue) && pgmq_am_build_ring(rel, queue);
}

/*
 * Make the ring able to find messages with these ids: false if there is no ring, or it
 * could not be built.  What is cold of them is looked for, once for all of them; where
 * that cannot tell, pgmq_am_delete_message() and its kin answer ACK_UNRESOLVED.
 */
bool
pgmq_am_ready_ids(Relation rel, const int64 *ids, int n)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	WantedIds	wanted;
	int64	   *unknown;

	if (!pgmq_am_can_find(rel))
		return false;
	if (n == 0 || !pgmq_xact_has_cold(queue))
		return true;
	unknown = palloc(n * sizeof(int64));
	memcpy(unknown, ids, n * sizeof(int64));
	wanted.ids = unknown;
	wanted.n = pgmq_xact_unknown_ids(queue, unknown, n);
	qsort(unknown, wanted.n, sizeof(int64), pgmq_am_compare_ids);
	if (wanted.n > 0)
		load_ids(rel, queue, &wanted);
	pfree(unknown);
	return true;
}
