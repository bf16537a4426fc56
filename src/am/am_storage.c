/*
 * am_storage.c
 *	  Storage changes of a queue table, and what they mean for its ring.
 *
 * The ring's key is the relation file, so new storage selects a new ring by
 * itself; here the transaction learns which rings go at commit and which at
 * abort, and which must be rebuilt because rows were copied past us.
 */
#include "common/compat.h"

#include "am/am.h"
#include "am/am_callbacks.h"
#include "catalog/pg_am.h"
#include "common/failpoint.h"

static const TableAmRoutine *heap;

static void
relation_set_new_filelocator_cb(Relation rel, const RelFileLocator *locator,
								char persistence, TransactionId *freeze_xid,
								MultiXactId *min_multi)
{
	PGMQ_FAILPOINT("new-storage-before");
	heap->relation_set_new_filelocator(rel, locator, persistence, freeze_xid, min_multi);
	PGMQ_FAILPOINT("new-storage-after");
	pgmq_xact_note_new_storage(rel, locator);
	PGMQ_FAILPOINT("new-storage-noted");
}

static void
relation_nontransactional_truncate(Relation rel)
{
	PGMQ_FAILPOINT("truncate-before");
	heap->relation_nontransactional_truncate(rel);
	PGMQ_FAILPOINT("truncate-after");
	pgmq_xact_note_rebuild(rel);
}

/* SET TABLESPACE copies the file as it is; its new ring is built later. */
static void
relation_copy_data(Relation rel, const RelFileLocator *locator)
{
	pgmq_am_flush_leases(rel);
	pgmq_am_take_back_leases(rel);
	PGMQ_FAILPOINT("copy-data-before");
	heap->relation_copy_data(rel, locator);
	PGMQ_FAILPOINT("copy-data-after");
	pgmq_xact_note_moved_storage(rel, locator);
}

/*
 * CLUSTER and VACUUM FULL move rows as they are stored, so nothing may be
 * presented meanwhile.
 */
static void
relation_copy_for_cluster(Relation old_rel, Relation new_rel, Relation index,
						  bool use_sort, TransactionId oldest_xmin,
						  TransactionId *xid_cutoff, MultiXactId *multi_cutoff,
						  double *num_tuples, double *tups_vacuumed,
						  double *tups_recently_dead)
{
	pgmq_am_flush_leases(old_rel);
	pgmq_am_take_back_leases(old_rel);
	PGMQ_FAILPOINT("cluster-before");
	pgmq_am_is_raw = true;
	PG_TRY();
	{
		heap->relation_copy_for_cluster(old_rel, new_rel, index, use_sort,
										oldest_xmin, xid_cutoff, multi_cutoff,
										num_tuples, tups_vacuumed,
										tups_recently_dead);
	}
	PG_FINALLY();
	{
		pgmq_am_is_raw = false;
	}
	PG_END_TRY();
	PGMQ_FAILPOINT("cluster-after");
	pgmq_xact_note_copy(new_rel, RelationGetRelid(old_rel));
}

/* Whoever vacuums it, the queue's next turn begins; what is deleted meanwhile counts for that. */
static void
relation_vacuum(Relation rel, struct VacuumParams *params, BufferAccessStrategy strategy)
{
	XactQueue  *queue = pgmq_xact_queue(rel);

	if (queue != NULL && pgmq_xact_queue_is_usable(queue))
		pgmq_xact_note_vacuum(queue);
	PGMQ_FAILPOINT("vacuum-before");
	heap->relation_vacuum(rel, params, strategy);
	PGMQ_FAILPOINT("vacuum-after");
}

static Oid
relation_toast_am(Relation rel)
{
	return HEAP_TABLE_AM_OID;
}

void
pgmq_am_override_storage(TableAmRoutine *routine)
{
	heap = pgmq_heap_routine();
	routine->relation_set_new_filelocator = relation_set_new_filelocator_cb;
	routine->relation_nontransactional_truncate = relation_nontransactional_truncate;
	routine->relation_copy_data = relation_copy_data;
	routine->relation_copy_for_cluster = relation_copy_for_cluster;
	routine->relation_vacuum = relation_vacuum;
	routine->relation_toast_am = relation_toast_am;
}
