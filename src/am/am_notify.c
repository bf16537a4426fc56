/*
 * am_notify.c
 *	  Rows of pgmq.notify_insert_throttle, read and stamped by committing
 *	  senders (xact_notify.c) without an executor.
 *
 * Nearly every send finds that it is not time to notify.  So what a backend has
 * found once it looks up again by its place: a row with the same inserter, not
 * deleted and not updated, is the latest one.  Anything else is searched for
 * with a snapshot taken then, whatever the isolation level: what counts is who
 * has notified by now.
 *
 * A row with an interval is stamped by an ordinary update, once per interval.
 * One without is stamped by every sender; that is done in place, so that it
 * neither leaves dead rows nor keeps senders waiting for each other.  The table
 * is unlogged, and rows without an interval are in no index over the stamp, so
 * eight aligned bytes on the page are all there is to change.
 */
#include "common/compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/relation.h"
#include "access/stratnum.h"
#include "access/xact.h"
#include "am/am.h"
#include "catalog/pg_am.h"
#include "catalog/pg_opfamily.h"
#include "common/failpoint.h"
#include "storage/bufmgr.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

#define ATTNUM_QUEUE_NAME 1
#define ATTNUM_INTERVAL 2
#define ATTNUM_NOTIFIED_AT 3
#define THROTTLE_NATTS 3

/* The index of the contract; partial, so that it holds rows with an interval only. */
#define ACTIVE_INDEX "idx_notify_throttle_active"

/* Where this backend last found a queue's row. */
typedef struct KnownRow
{
	char		queue_name[NAMEDATALEN];
	Oid			relid;
	ItemPointerData tid;
	TransactionId xmin;
} KnownRow;

static HTAB *known_rows = NULL;

static KnownRow *
known_row(const char *queue_name, HASHACTION action)
{
	HASHCTL		ctl;
	KnownRow   *known;
	bool		found;

	if (strlen(queue_name) >= NAMEDATALEN)
		return NULL;			/* no channel could have such a name */
	if (known_rows == NULL)
	{
		ctl.keysize = NAMEDATALEN;
		ctl.entrysize = sizeof(KnownRow);
		ctl.hcxt = TopMemoryContext;
		known_rows = hash_create("pgmq throttle rows", 64, &ctl,
								 HASH_ELEM | HASH_STRINGS | HASH_CONTEXT);
	}
	known = hash_search(known_rows, queue_name, action, &found);
	if (action == HASH_ENTER && !found)
		known->relid = InvalidOid;
	return known;
}

/*
 * The columns of a stored row.  None of them is ever null, so all but the name
 * lie where alignment puts them behind it.
 */
static char *
name_of(HeapTuple tuple)
{
	return (char *) tuple->t_data + tuple->t_data->t_hoff;
}

static int32 *
interval_of(HeapTuple tuple)
{
	char	   *name = name_of(tuple);

	return (int32 *) (name + INTALIGN(VARSIZE_ANY(name)));
}

static TimestampTz *
stamp_of(HeapTuple tuple)
{
	char	   *data = name_of(tuple);

	return (TimestampTz *) (data + DOUBLEALIGN((char *) (interval_of(tuple) + 1) - data));
}

/* Does the row carry this name, byte for byte? */
static bool
has_name(HeapTuple tuple, const char *queue_name)
{
	char	   *name = name_of(tuple);
	int			length = strlen(queue_name);

	return VARSIZE_ANY_EXHDR(name) == length &&
		memcmp(VARDATA_ANY(name), queue_name, length) == 0;
}

static void
get_values(HeapTuple tuple, ThrottleRow *row)
{
	row->tid = tuple->t_self;
	row->interval_ms = *interval_of(tuple);
	row->version.xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	row->version.notified_at = *stamp_of(tuple);
}

/* Is this the latest version of a row, committed and at most locked? */
static bool
is_latest(HeapTupleHeader header)
{
	return HeapTupleHeaderXminCommitted(header) &&
		((header->t_infomask & HEAP_XMAX_INVALID) ||
		 HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask));
}

/* Is the row still where we found it last, and as it was? */
static bool
read_known(Relation rel, const char *queue_name, ThrottleRow *row)
{
	KnownRow   *known = known_row(queue_name, HASH_FIND);
	HeapTupleData tuple;
	Buffer		buffer;
	bool		found;

	if (known == NULL || known->relid != RelationGetRelid(rel) ||
		ItemPointerGetBlockNumber(&known->tid) >= RelationGetNumberOfBlocks(rel))
		return false;
	buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(&known->tid));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	found = pgmq_am_find_on_page(rel, buffer, &known->tid, &tuple) &&
		HeapTupleHeaderGetRawXmin(tuple.t_data) == known->xmin &&
		is_latest(tuple.t_data) &&
		has_name(&tuple, queue_name);
	if (found)
		get_values(&tuple, row);
	UnlockReleaseBuffer(buffer);
	return found;
}

/* The unique index over the name alone, or none. */
static Oid
find_name_index(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	Oid			result = InvalidOid;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);

		if (index->rd_index->indisunique && index->rd_index->indisvalid &&
			index->rd_index->indnkeyatts == 1 &&
			index->rd_index->indkey.values[0] == ATTNUM_QUEUE_NAME &&
			index->rd_opfamily[0] == TEXT_BTREE_FAM_OID &&
			RelationGetIndexPredicate(index) == NIL)
			result = lfirst_oid(cell);
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return result;
}

/* Search for a queue's row as the latest snapshot has it. */
static bool
search(Relation rel, const char *queue_name, ThrottleRow *row)
{
	Datum		name = CStringGetTextDatum(queue_name);
	Oid			index = find_name_index(rel);
	ScanKeyData key;
	SysScanDesc scan;
	HeapTuple	tuple;
	KnownRow   *known;

	ScanKeyEntryInitialize(&key, 0, ATTNUM_QUEUE_NAME, BTEqualStrategyNumber, InvalidOid,
						   TupleDescAttr(RelationGetDescr(rel), ATTNUM_QUEUE_NAME - 1)->attcollation,
						   F_TEXTEQ, name);
	PushActiveSnapshot(GetLatestSnapshot());
	scan = systable_beginscan(rel, index, OidIsValid(index), GetActiveSnapshot(), 1, &key);
	tuple = systable_getnext(scan);
	if (tuple != NULL)
	{
		get_values(tuple, row);
		known = known_row(queue_name, HASH_ENTER);
		if (known != NULL)
		{
			known->relid = RelationGetRelid(rel);
			known->tid = row->tid;
			known->xmin = row->version.xmin;
		}
	}
	systable_endscan(scan);
	PopActiveSnapshot();
	pfree(DatumGetPointer(name));
	return tuple != NULL;
}

/*
 * The row of a queue: the latest committed one, or this transaction's own.
 * False if there is none: notifications are off.  The caller's transaction
 * holds RowExclusiveLock on the table.
 */
bool
pgmq_am_read_throttle(Oid relid, const char *queue_name, ThrottleRow *row)
{
	Relation	rel = try_relation_open(relid, NoLock);
	bool		found;

	if (rel == NULL)
		return false;			/* dropped by this very transaction */
	if (pgmq_am_throttle_is_plain(rel))
		found = read_known(rel, queue_name, row) || search(rel, queue_name, row);
	else
	{
		/* Altered by it since it sent: better to notify. */
		row->interval_ms = 0;
		found = true;
	}
	relation_close(rel, NoLock);
	return found;
}

/* ---- stamping ---- */

/* A copy of the row, if it is still the version we know. */
static HeapTuple
copy_row(Relation rel, const ThrottleRow *row)
{
	Buffer		buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(&row->tid));
	HeapTupleData tuple;
	HeapTuple	copy = NULL;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (pgmq_am_find_on_page(rel, buffer, &row->tid, &tuple) &&
		HeapTupleHeaderGetRawXmin(tuple.t_data) == row->version.xmin)
		copy = heap_copytuple(&tuple);
	UnlockReleaseBuffer(buffer);
	return copy;
}

/* Lock the row unless somebody else has, or has changed it. */
static bool
lock_row(Relation rel, HeapTuple old)
{
	HeapTupleData locked = *old;
	Buffer		buffer;
	TM_FailureData tmfd;
	TM_Result	result;

	PGMQ_FAILPOINT("stamp-lock-before");
	result = heap_lock_tuple(rel, &locked, GetCurrentCommandId(true),
							 LockTupleNoKeyExclusive, LockWaitSkip, false,
							 &buffer, &tmfd);
	ReleaseBuffer(buffer);
	PGMQ_FAILPOINT("stamp-lock-after");
	return result == TM_Ok;
}

static void
stamp_by_update(Relation rel, ThrottleRow *row, TimestampTz now)
{
	HeapTuple	old = copy_row(rel, row);
	Datum		values[THROTTLE_NATTS] = {0};
	bool		nulls[THROTTLE_NATTS] = {0};
	bool		replaces[THROTTLE_NATTS] = {[ATTNUM_NOTIFIED_AT - 1] = true};
	TU_UpdateIndexes update_indexes;
	LockTupleMode lockmode;
	TM_FailureData tmfd;
	HeapTuple	tuple;

	if (old == NULL || !lock_row(rel, old))
		return;
	values[ATTNUM_NOTIFIED_AT - 1] = TimestampTzGetDatum(now);
	tuple = heap_modify_tuple(old, RelationGetDescr(rel), values, nulls, replaces);
	PGMQ_FAILPOINT("stamp-update-before");
	if (pgmq_heap_update(rel, &row->tid, tuple, GetCurrentCommandId(true), InvalidSnapshot,
						 true, &tmfd, &lockmode, &update_indexes) != TM_Ok)
		elog(ERROR, "throttle row of \"%s\" changed while it was locked",
			 RelationGetRelationName(rel));
	if (update_indexes != TU_None)
		pgmq_am_insert_index_entries(rel, tuple, TU_IsSummarizing(update_indexes));
	row->tid = tuple->t_self;
	row->version.xmin = HeapTupleHeaderGetRawXmin(tuple->t_data);
	row->version.notified_at = now;
	CommandCounterIncrement();
	PGMQ_FAILPOINT("stamp-update-after");
}

/* Could an index hold the stamp of a row without an interval? */
static bool
is_stamp_indexed(Relation rel)
{
	List	   *indexes = RelationGetIndexList(rel);
	bool		result = false;
	ListCell   *cell;

	foreach(cell, indexes)
	{
		Relation	index = index_open(lfirst_oid(cell), AccessShareLock);
		bool		has_predicate = RelationGetIndexPredicate(index) != NIL;

		if (!has_predicate || strcmp(RelationGetRelationName(index), ACTIVE_INDEX) != 0)
		{
			result |= has_predicate || RelationGetIndexExpressions(index) != NIL;
			for (int i = 0; i < index->rd_index->indnatts; i++)
				result |= index->rd_index->indkey.values[i] == ATTNUM_NOTIFIED_AT;
		}
		index_close(index, AccessShareLock);
	}
	list_free(indexes);
	return result;
}

static void
stamp_in_place(Relation rel, ThrottleRow *row, TimestampTz now)
{
	Buffer		buffer = ReadBuffer(rel, ItemPointerGetBlockNumber(&row->tid));
	HeapTupleData tuple;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	if (pgmq_am_find_on_page(rel, buffer, &row->tid, &tuple) &&
		HeapTupleHeaderGetRawXmin(tuple.t_data) == row->version.xmin &&
		HeapTupleSatisfiesUpdate(&tuple, GetCurrentCommandId(false), buffer) == TM_Ok)
	{
		*stamp_of(&tuple) = now;
		PGMQ_CRASHPOINT("stamp-in-place");
		MarkBufferDirty(buffer);
	}
	UnlockReleaseBuffer(buffer);
	PGMQ_FAILPOINT("stamp-in-place-after");
}

/*
 * Set a row's notified_at, unless somebody else holds or has changed it.  Fills
 * *row with what it is then.  Raises errors as an update does.
 */
void
pgmq_am_stamp_throttle(Oid relid, ThrottleRow *row, TimestampTz now)
{
	Relation	rel = relation_open(relid, NoLock);

	if (!pgmq_am_throttle_is_plain(rel))
		;						/* see above */
	else if (row->interval_ms <= 0 && !RelationNeedsWAL(rel) && !is_stamp_indexed(rel))
		stamp_in_place(rel, row, now);
	else
	{
		PushActiveSnapshot(GetLatestSnapshot());	/* as index entries may want */
		stamp_by_update(rel, row, now);
		PopActiveSnapshot();
	}
	relation_close(rel, NoLock);
}

/* ---- what is asked of the table ---- */

static bool
has_column(TupleDesc desc, AttrNumber attnum, const char *name, Oid type)
{
	Form_pg_attribute attribute = TupleDescAttr(desc, attnum - 1);

	return !attribute->attisdropped && !attribute->attgenerated && attribute->attnotnull &&
		attribute->atttypid == type && strcmp(NameStr(attribute->attname), name) == 0;
}

/* Triggers of users; those of foreign keys do not look at a stamp. */
static bool
has_user_trigger(Relation rel)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
		if (!rel->trigdesc->triggers[i].tgisinternal)
			return true;
	return false;
}

/*
 * Is the throttle table as it was created, so that nothing is by-passed where
 * its rows are changed without an executor?  Row security, which depends on the
 * user, is not looked at.
 */
bool
pgmq_am_throttle_is_plain(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	return rel->rd_rel->relkind == RELKIND_RELATION &&
		rel->rd_rel->relam == HEAP_TABLE_AM_OID &&
		!rel->rd_rel->relispartition && !rel->rd_rel->relhassubclass &&
		!rel->rd_rel->relhasrules && !has_user_trigger(rel) &&
		desc->natts == THROTTLE_NATTS &&
		(desc->constr == NULL || desc->constr->num_check == 0) &&
		has_column(desc, ATTNUM_QUEUE_NAME, "queue_name", VARCHAROID) &&
		has_column(desc, ATTNUM_INTERVAL, "throttle_interval_ms", INT4OID) &&
		has_column(desc, ATTNUM_NOTIFIED_AT, "last_notified_at", TIMESTAMPTZOID);
}
