/*
 * am_handler.c
 *	  The routine table of access method `pgmq`: the heap's, with members
 *	  replaced.
 */
#include "common/compat.h"

#include "am/am.h"
#include "am/am_callbacks.h"

static TableAmRoutine routine;

const TableAmRoutine *
pgmq_heap_routine(void)
{
	return GetHeapamTableAmRoutine();
}

bool
pgmq_am_is_ours(Relation rel)
{
	return rel->rd_tableam == &routine;
}

PGDLLEXPORT Datum pgmq_tableam_handler(PG_FUNCTION_ARGS);

PG_FUNCTION_INFO_V1(pgmq_tableam_handler);
Datum
pgmq_tableam_handler(PG_FUNCTION_ARGS)
{
	PG_RETURN_POINTER(&routine);
}

static const XactStorage xact_storage = {
	.write_leases = pgmq_am_write_leases,
	.update_leases = pgmq_am_update_leases,
	.read_throttle = pgmq_am_read_throttle,
	.stamp_throttle = pgmq_am_stamp_throttle
};

/* Called once, by _PG_init. */
void
pgmq_am_init(void)
{
	routine = *GetHeapamTableAmRoutine();
	pgmq_am_override_scans(&routine);
	pgmq_am_override_storage(&routine);
	routine.tuple_insert = pgmq_am_tuple_insert;
	routine.tuple_insert_speculative = pgmq_am_tuple_insert_speculative;
	routine.tuple_complete_speculative = pgmq_am_tuple_complete_speculative;
	routine.multi_insert = pgmq_am_multi_insert;
	routine.tuple_delete = pgmq_am_tuple_delete;
	routine.tuple_update = pgmq_am_tuple_update;
	routine.tuple_lock = pgmq_am_tuple_lock;
	routine.index_build_range_scan = pgmq_am_index_build_range_scan;
	routine.index_validate_scan = pgmq_am_index_validate_scan;

	pgmq_xact_init(&xact_storage);
	pgmq_am_facts_init();
	pgmq_am_published_init();
	pgmq_am_hooks_init();
}
