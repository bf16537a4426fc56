/*
 * topic_cache.c
 *	  The rows of pgmq.topic_bindings, kept between calls.
 *
 * Users may change that table by plain SQL, roll that back, or look at it
 * through an older snapshot, so no message about a change would come in time:
 * the pages themselves are asked.  Rows are kept only while every row of every
 * page is either committed and visible, or deleted and gone; then nobody's
 * commit or rollback can change what they show, only a change of a page can,
 * and any change writes WAL and moves the page's LSN.  So what is kept is right
 * as long as the file is the same, all its pages have the LSNs that they had,
 * and the snapshot is newer than the transactions that made it so.  That is a
 * look at one page header for some fifty bindings.
 *
 * Not for tables without WAL, and not for SERIALIZABLE, which wants predicate
 * locks.  Per backend; dropped when the table has become too large.
 */
#include "common/compat.h"

#include "access/transam.h"
#include "access/xact.h"
#include "api/topic.h"
#include "catalog/pg_am.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"

/* A larger table is scanned. */
#define MAX_CACHED_PAGES 256

/* After a table was found in change, this many calls scan it. */
#define CALLS_BEFORE_RETRY 32

typedef struct TopicCache
{
	MemoryContext context;		/* holds the rest; NULL: nothing is kept */
	RelFileLocator locator;
	AttrNumber	regex;
	AttrNumber	name;
	TransactionId newest_xid;	/* that made or ended a row; invalid if none is known */
	BlockNumber n_pages;
	XLogRecPtr *lsns;			/* of each page */
	TopicBinding *bindings;
	int			n_bindings;
	int			capacity;
} TopicCache;

static TopicCache cache;
static int	calls_to_skip = 0;

static void
forget(void)
{
	if (cache.context != NULL)
		MemoryContextDelete(cache.context);
	memset(&cache, 0, sizeof(cache));
}

/* ---- is what we have still right? ---- */

static bool
is_same_table(Relation rel, AttrNumber regex, AttrNumber name)
{
	return cache.context != NULL && RelFileLocatorEquals(cache.locator, REL_LOCATOR(rel)) &&
		cache.regex == regex && cache.name == name;
}

static bool
has_same_pages(Relation rel)
{
	if (RelationGetNumberOfBlocks(rel) != cache.n_pages)
		return false;
	for (BlockNumber block = 0; block < cache.n_pages; block++)
	{
		Buffer		buffer = ReadBuffer(rel, block);
		XLogRecPtr	lsn = BufferGetLSNAtomic(buffer);

		ReleaseBuffer(buffer);
		if (lsn != cache.lsns[block])
			return false;
	}
	return true;
}

/* Not so a snapshot that was imported, or is held back by older transactions. */
static bool
is_new_enough(Snapshot snapshot)
{
	return !TransactionIdIsValid(cache.newest_xid) ||
		TransactionIdPrecedes(cache.newest_xid, snapshot->xmin);
}

/* ---- keep it anew ---- */

static void
note_xid(TransactionId xid)
{
	if (TransactionIdIsNormal(xid) && (!TransactionIdIsValid(cache.newest_xid) ||
									   TransactionIdFollows(xid, cache.newest_xid)))
		cache.newest_xid = xid;
}

static void
keep_row(HeapTuple tuple, TupleDesc desc)
{
	TopicBinding *binding;
	bool		isnull;
	Datum		value = heap_getattr(tuple, cache.regex, desc, &isnull);

	note_xid(HeapTupleHeaderGetXmin(tuple->t_data));
	if (isnull)
		return;					/* matches nothing */
	if (cache.n_bindings == cache.capacity)
	{
		cache.capacity *= 2;
		cache.bindings = repalloc(cache.bindings, cache.capacity * sizeof(TopicBinding));
	}
	binding = &cache.bindings[cache.n_bindings++];
	binding->regex = DatumGetTextPCopy(value);
	value = heap_getattr(tuple, cache.name, desc, &isnull);
	binding->name = isnull ? NULL : DatumGetTextPCopy(value);
}

/*
 * Copy the rows of a page that are live, with its LSN; false if any may look
 * otherwise to somebody, or later.  Rows may be toasted, so they are copied
 * before they are read, when the page is unlocked.
 */
static bool
keep_page(Relation rel, BlockNumber block, TransactionId horizon, Snapshot snapshot)
{
	HeapTuple	rows[MaxHeapTuplesPerPage];
	Buffer		buffer = ReadBuffer(rel, block);
	Page		page = BufferGetPage(buffer);
	bool		is_settled = true;
	int			n = 0;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	cache.lsns[block] = BufferGetLSNAtomic(buffer);
	for (OffsetNumber offset = FirstOffsetNumber;
		 is_settled && offset <= PageGetMaxOffsetNumber(page); offset++)
	{
		ItemId		item = PageGetItemId(page, offset);
		HeapTupleData tuple;

		if (!ItemIdIsNormal(item))
			continue;
		tuple.t_data = (HeapTupleHeader) PageGetItem(page, item);
		tuple.t_len = ItemIdGetLength(item);
		tuple.t_tableOid = RelationGetRelid(rel);
		ItemPointerSet(&tuple.t_self, block, offset);
		switch (HeapTupleSatisfiesVacuum(&tuple, horizon, buffer))
		{
			case HEAPTUPLE_DEAD:
				break;
			case HEAPTUPLE_RECENTLY_DEAD:
				is_settled = !HeapTupleSatisfiesVisibility(&tuple, snapshot, buffer);
				note_xid(HeapTupleHeaderGetUpdateXid(tuple.t_data));
				break;
			case HEAPTUPLE_LIVE:
				is_settled = HeapTupleSatisfiesVisibility(&tuple, snapshot, buffer);
				rows[n++] = heap_copytuple(&tuple);
				break;
			default:
				is_settled = false;
		}
	}
	UnlockReleaseBuffer(buffer);
	for (int i = 0; i < n; i++)
	{
		keep_row(rows[i], RelationGetDescr(rel));
		heap_freetuple(rows[i]);
	}
	return is_settled;
}

/* True if the cache holds the table as it is. */
static bool
keep_table(Relation rel, AttrNumber regex, AttrNumber name, Snapshot snapshot)
{
	TransactionId horizon = GetOldestNonRemovableTransactionId(rel);
	MemoryContext context;
	MemoryContext old;
	bool		is_settled = true;

	forget();
	context = AllocSetContextCreate(CurrentMemoryContext, "pgmq topic bindings",
									ALLOCSET_DEFAULT_SIZES);
	old = MemoryContextSwitchTo(context);
	cache.locator = REL_LOCATOR(rel);
	cache.regex = regex;
	cache.name = name;
	cache.n_pages = RelationGetNumberOfBlocks(rel);
	cache.capacity = 64;
	cache.bindings = palloc(cache.capacity * sizeof(TopicBinding));
	cache.lsns = palloc(Max(cache.n_pages, 1) * sizeof(XLogRecPtr));
	if (cache.n_pages > MAX_CACHED_PAGES)
		is_settled = false;
	for (BlockNumber block = 0; is_settled && block < cache.n_pages; block++)
		is_settled = keep_page(rel, block, horizon, snapshot);
	MemoryContextSwitchTo(old);
	if (is_settled)
	{
		MemoryContextSetParent(context, TopMemoryContext);
		cache.context = context;
		return true;
	}
	MemoryContextDelete(context);
	forget();
	return false;
}

/*
 * The bindings of a table, as a scan under the snapshot would find them, but
 * for those whose expression is NULL.  False if they are not to be had from
 * here.  regex and name are the numbers of the columns compiled_regex and
 * queue_name, both of type text.  The result is good until the next call.
 */
bool
pgmq_cached_bindings(Relation rel, AttrNumber regex, AttrNumber name, Snapshot snapshot,
					 const TopicBinding **bindings, int *n)
{
	if (!RelationNeedsWAL(rel) || rel->rd_rel->relam != HEAP_TABLE_AM_OID ||
		IsolationIsSerializable())
		return false;
	if (!is_same_table(rel, regex, name) || !has_same_pages(rel))
	{
		if (calls_to_skip > 0)
		{
			calls_to_skip--;
			return false;
		}
		if (!keep_table(rel, regex, name, snapshot))
		{
			calls_to_skip = CALLS_BEFORE_RETRY;
			return false;
		}
	}
	if (!is_new_enough(snapshot))
		return false;
	*bindings = cache.bindings;
	*n = cache.n_bindings;
	return true;
}
