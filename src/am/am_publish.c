/*
 * am_publish.c
 *	  Rows for subscribers.
 *
 * A subscriber is sent rows as they are stored.  New versions of a published
 * table's rows store real NULLs (pgmq_am_stored_form).  Rows from before store
 * -infinity for a last_read_at that SQL, and so the subscriber's copy, has as
 * NULL.  That matters where old rows are sent whole (REPLICA IDENTITY FULL):
 * the subscriber would find no such row to update or delete.
 */
#include "common/compat.h"

#include "access/tableam.h"
#include "access/xact.h"
#include "am/am.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"

/* Replace a row by one that stores NULL for last_read_at. */
static void
store_null(Relation rel, HeapTuple tuple)
{
	Lease		lease;
	int64		msg_id;
	bool		has_msg_id;

	pgmq_am_row_values(tuple, RelationGetDescr(rel), &msg_id, &lease, &has_msg_id);
	pgmq_am_lease_by_update(rel, &tuple->t_self, &lease);
}

/* Is it stored as -infinity? */
static bool
stores_no_null(HeapTuple tuple)
{
	return queue_row_has_head(tuple->t_data) &&
		TIMESTAMP_IS_NOBEGIN(queue_row_head(tuple->t_data)->last_read_at);
}

/*
 * Have all rows that SQL sees store what SQL sees; returns how many did not.
 * The caller holds ShareRowExclusiveLock, so nobody else writes or leases, and
 * the table is published.
 */
int64
pgmq_am_store_nulls(Relation rel)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	TupleTableSlot *slot = MakeSingleTupleTableSlot(RelationGetDescr(rel),
													&TTSOpsBufferHeapTuple);
	TableScanDesc scan;
	int64		n = 0;

	Assert(pgmq_am_facts(rel)->is_published);
	pgmq_am_flush_leases(rel);
	if (pgmq_xact_queue_is_usable(queue))
		pgmq_am_settle_all(rel, queue);
	PushActiveSnapshot(GetLatestSnapshot());
	scan = table_beginscan(rel, GetActiveSnapshot(), 0, NULL);
	/* The heap's own: rows as they are stored */
	while (pgmq_heap_routine()->scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		HeapTuple	tuple = ((BufferHeapTupleTableSlot *) slot)->base.tuple;

		if (!stores_no_null(tuple))
			continue;
		store_null(rel, tuple);
		n++;
		CHECK_FOR_INTERRUPTS();
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
	PopActiveSnapshot();
	return n;
}
