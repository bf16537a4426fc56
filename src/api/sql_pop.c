/*
 * sql_pop.c
 *	  pop on the SQL path, for callers who may select and delete but not update.
 *
 * The statement that pop is otherwise passes over what others are at by FOR
 * UPDATE SKIP LOCKED, which the server grants only to those who may update.
 * Deleting locks the same rows and needs no such right.  So for these callers
 * the rows are locked here, through their access method, and then deleted by
 * SQL, which looks at each again: what changed before it was locked and is not
 * ready any more stays.
 *
 * With row security in force the caller would lock rows that its policies do
 * not let it delete; then pop needs the right to update.
 */
#include "common/compat.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "api/api.h"
#include "common/failpoint.h"
#include "executor/spi.h"
#include "utils/acl.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"

#define ROWS_PER_FETCH 1000

typedef struct LockedIds
{
	int64		wanted;
	int64		n;
	int64		n_allocated;
	Datum	   *ids;
	MemoryContext context;
} LockedIds;

/* Does FOR UPDATE want a right that the caller lacks, and deleting does not? */
bool
pgmq_pop_locks_itself(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);

	return (rel->rd_rel->relkind == RELKIND_RELATION ||
			rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE) &&
		pg_class_aclcheck(relid, GetUserId(), ACL_UPDATE) != ACLCHECK_OK &&
		pg_attribute_aclcheck_all(relid, GetUserId(), ACL_UPDATE, ACLMASK_ANY) != ACLCHECK_OK &&
		check_enable_rls(relid, InvalidOid, true) != RLS_ENABLED;
}

static void
fail_to_serialize(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
}

/*
 * Lock a row as FOR UPDATE SKIP LOCKED would.  False if it is passed over.
 * Errors: 40001 from REPEATABLE READ up, if it changed since the snapshot.
 */
static bool
lock_row(Relation rel, ItemPointer tid)
{
	TupleTableSlot *slot = table_slot_create(rel, NULL);
	uint8		flags = TUPLE_LOCK_FLAG_LOCK_UPDATE_IN_PROGRESS;
	TM_FailureData failure;
	TM_Result	result;

	if (!IsolationUsesXactSnapshot())
		flags |= TUPLE_LOCK_FLAG_FIND_LAST_VERSION;
	PGMQ_FAILPOINT("sql-pop-lock-before");
	result = table_tuple_lock(rel, tid, GetActiveSnapshot(), slot,
							  GetCurrentCommandId(true), LockTupleExclusive,
							  LockWaitSkip, flags, &failure);
	PGMQ_FAILPOINT("sql-pop-lock-after");
	ExecDropSingleTupleTableSlot(slot);
	if ((result == TM_Updated || result == TM_Deleted) && IsolationUsesXactSnapshot())
		fail_to_serialize();
	return result == TM_Ok;
}

/* The queue's table, or the partition of it that a row is in. */
static Relation
open_row_table(Relation queue, Oid relid)
{
	Relation	rel = table_open(relid, RelationGetRelid(queue) == relid ?
								 NoLock : RowExclusiveLock);

	if (rel->rd_tableam == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot lock rows of \"%s\"", RelationGetRelationName(rel))));
	return rel;
}

static void
remember_id(LockedIds *locked, Datum msg_id)
{
	if (locked->n == locked->n_allocated)
	{
		locked->n_allocated = Max(locked->n_allocated * 2, 16);
		locked->ids = locked->ids ?
			repalloc(locked->ids, locked->n_allocated * sizeof(Datum)) :
			MemoryContextAlloc(locked->context, locked->n_allocated * sizeof(Datum));
	}
	locked->ids[locked->n++] = msg_id;
}

/* Lock rows of what was fetched, in its order, up to the number wanted. */
static void
lock_fetched(Relation queue, LockedIds *locked)
{
	TupleDesc	desc = SPI_tuptable->tupdesc;

	for (uint64 i = 0; i < SPI_processed && locked->n < locked->wanted; i++)
	{
		HeapTuple	row = SPI_tuptable->vals[i];
		bool		isnull;
		Oid			relid = DatumGetObjectId(SPI_getbinval(row, desc, 1, &isnull));
		Datum		tid = SPI_getbinval(row, desc, 2, &isnull);
		Relation	rel = open_row_table(queue, relid);

		CHECK_FOR_INTERRUPTS();
		if (lock_row(rel, (ItemPointer) DatumGetPointer(tid)))
			remember_id(locked, SPI_getbinval(row, desc, 3, &isnull));
		table_close(rel, NoLock);
	}
}

static int64
delete_locked(Relation queue, const LockedIds *locked, TimestampTz now, RowsOut *out)
{
	Datum		values[SQL_MAX_ARGS];

	if (locked->n == 0)
		return 0;
	values[0] = PointerGetDatum(construct_array(locked->ids, (int) locked->n, INT8OID,
												sizeof(int64), FLOAT8PASSBYVAL,
												TYPALIGN_DOUBLE));
	values[1] = TimestampTzGetDatum(now);
	return pgmq_sql_run(SQL_POP_THESE, queue, NULL, values, NULL, out);
}

/* What is ready, in the order of ids, and not by an index over vt; inside SPI. */
static Portal
open_ready(Relation queue, TimestampTz now)
{
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		values[1] = {TimestampTzGetDatum(now)};
	char	   *table = quote_qualified_identifier(get_namespace_name(RelationGetNamespace(queue)),
												   RelationGetRelationName(queue));

	return SPI_cursor_open_with_args(NULL,
									 psprintf("SELECT tableoid, ctid, msg_id FROM %s "
											  "WHERE pg_catalog.timestamptz_le(vt, $1) ORDER BY msg_id",
											  table),
									 1, types, values, NULL, false, CURSOR_OPT_NO_SCROLL);
}

/* Pop up to max_rows messages, in the order of their ids; returns how many. */
int64
pgmq_sql_pop(Relation queue, TimestampTz now, int64 max_rows, RowsOut *out)
{
	LockedIds	locked = {.context = CurrentMemoryContext};
	Portal		portal;
	int64		n = 0;

	SPI_connect();
	portal = open_ready(queue, now);
	while (n < max_rows)
	{
		MemoryContext old;

		SPI_cursor_fetch(portal, true, (long) Min(max_rows - n, ROWS_PER_FETCH));
		if (SPI_processed == 0)
			break;
		locked.wanted = max_rows - n;
		locked.n = 0;
		lock_fetched(queue, &locked);
		SPI_freetuptable(SPI_tuptable);
		/* rows for the caller must outlive our SPI connection */
		old = MemoryContextSwitchTo(locked.context);
		n += delete_locked(queue, &locked, now, out);
		MemoryContextSwitchTo(old);
	}
	SPI_cursor_close(portal);
	SPI_finish();
	return n;
}
