/*
 * am_scan.c
 *	  The fetchers of the table access method: delegate, then present the row.
 *
 * Beginning a scan also notes the queue in the transaction's list, because
 * from then on a lease of another transaction counts as a concurrent change.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "am/am.h"
#include "am/am_callbacks.h"
#include "storage/bufmgr.h"
#include "utils/snapmgr.h"

static const TableAmRoutine *heap;

static TableScanDesc
scan_begin(Relation rel, Snapshot snapshot, int nkeys, struct ScanKeyData *key,
		   ParallelTableScanDesc pscan, uint32 flags)
{
	(void) pgmq_xact_queue(rel);
	return heap->scan_begin(rel, snapshot, nkeys, key, pscan, flags);
}

static bool
scan_getnextslot(TableScanDesc scan, ScanDirection direction, TupleTableSlot *slot)
{
	if (!heap->scan_getnextslot(scan, direction, slot))
		return false;
	pgmq_am_present(scan->rs_rd, slot);
	return true;
}

static bool
scan_getnextslot_tidrange(TableScanDesc scan, ScanDirection direction,
						  TupleTableSlot *slot)
{
	if (!heap->scan_getnextslot_tidrange(scan, direction, slot))
		return false;
	pgmq_am_present(scan->rs_rd, slot);
	return true;
}

static struct IndexFetchTableData *
index_fetch_begin(Relation rel)
{
	(void) pgmq_xact_queue(rel);
	return heap->index_fetch_begin(rel);
}

/*
 * The heap fetches into a slot that has a buffer; a presented one has none, so
 * a slot that is asked for the next member of a HOT chain starts clean.
 */
static bool
index_fetch_tuple(struct IndexFetchTableData *scan, ItemPointer tid,
				  Snapshot snapshot, TupleTableSlot *slot, bool *call_again,
				  bool *all_dead)
{
	if (!heap->index_fetch_tuple(scan, tid, snapshot, slot, call_again, all_dead))
		return false;
	pgmq_am_present(scan->rel, slot);
	return true;
}

static bool
tuple_fetch_row_version(Relation rel, ItemPointer tid, Snapshot snapshot,
						TupleTableSlot *slot)
{
	if (!heap->tuple_fetch_row_version(rel, tid, snapshot, slot))
		return false;
	pgmq_am_present(rel, slot);
	return true;
}

/* A presented slot has no buffer: look at the row itself, by its TID. */
static bool
tuple_satisfies_snapshot(Relation rel, TupleTableSlot *slot, Snapshot snapshot)
{
	HeapTupleData tuple;
	Buffer		buffer;

	if (BufferIsValid(((BufferHeapTupleTableSlot *) slot)->buffer))
		return heap->tuple_satisfies_snapshot(rel, slot, snapshot);
	tuple.t_self = slot->tts_tid;
	if (!pgmq_heap_fetch(rel, snapshot, &tuple, &buffer))
		return false;
	ReleaseBuffer(buffer);
	return true;
}

#if PGMQ_BITMAP_NEXT_BLOCK
static bool
scan_bitmap_next_tuple(TableScanDesc scan, struct TBMIterateResult *tbmres,
					   TupleTableSlot *slot)
{
	if (!heap->scan_bitmap_next_tuple(scan, tbmres, slot))
		return false;
	pgmq_am_present(scan->rs_rd, slot);
	return true;
}
#else
static bool
scan_bitmap_next_tuple(TableScanDesc scan, TupleTableSlot *slot, bool *recheck,
					   uint64 *lossy_pages, uint64 *exact_pages)
{
	if (!heap->scan_bitmap_next_tuple(scan, slot, recheck, lossy_pages, exact_pages))
		return false;
	pgmq_am_present(scan->rs_rd, slot);
	return true;
}
#endif

static bool
scan_sample_next_tuple(TableScanDesc scan, struct SampleScanState *state,
					   TupleTableSlot *slot)
{
	if (!heap->scan_sample_next_tuple(scan, state, slot))
		return false;
	pgmq_am_present(scan->rs_rd, slot);
	return true;
}

static bool
scan_analyze_next_tuple(TableScanDesc scan, TransactionId oldest_xmin,
						double *live_rows, double *dead_rows, TupleTableSlot *slot)
{
	if (!heap->scan_analyze_next_tuple(scan, oldest_xmin, live_rows, dead_rows, slot))
		return false;
	pgmq_am_present(scan->rs_rd, slot);
	return true;
}

void
pgmq_am_override_scans(TableAmRoutine *routine)
{
	heap = pgmq_heap_routine();
	routine->scan_begin = scan_begin;
	routine->scan_getnextslot = scan_getnextslot;
	routine->scan_getnextslot_tidrange = scan_getnextslot_tidrange;
	routine->index_fetch_begin = index_fetch_begin;
	routine->index_fetch_tuple = index_fetch_tuple;
	routine->tuple_fetch_row_version = tuple_fetch_row_version;
	routine->tuple_satisfies_snapshot = tuple_satisfies_snapshot;
	routine->scan_bitmap_next_tuple = scan_bitmap_next_tuple;
	routine->scan_sample_next_tuple = scan_sample_next_tuple;
	routine->scan_analyze_next_tuple = scan_analyze_next_tuple;
}
