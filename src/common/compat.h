/*
 * compat.h
 *	  Everything that differs between the server versions we build for.
 *
 * This is the only file that tests PG_VERSION_NUM (`make lint` checks it).
 * Code elsewhere uses the names of the newest server; older servers get them
 * defined here.
 */
#ifndef PGMQ_COMPAT_H
#define PGMQ_COMPAT_H

#include "postgres.h"

#if PG_VERSION_NUM < 140000
#error "pgmq needs PostgreSQL 14 or newer"
#endif

#include "access/heapam.h"
#include "access/tableam.h"
#include "catalog/dependency.h"
#include "commands/vacuum.h"
#include "executor/executor.h"
#include "catalog/namespace.h"
#include "catalog/pg_namespace.h"
#include "miscadmin.h"
#include "nodes/extensible.h"
#include "nodes/makefuncs.h"
#include "pgstat.h"
#include "storage/lmgr.h"
#include "storage/lock.h"
#include "storage/proc.h"
#include "catalog/pg_publication.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/datetime.h"
#include "utils/guc.h"
#include "utils/rel.h"
#include "utils/relcache.h"
#if PG_VERSION_NUM >= 160000
#include "nodes/miscnodes.h"
#include "storage/relfilelocator.h"
#include "parser/parse_relation.h"
#else
#include "storage/relfilenode.h"
#endif
#if PG_VERSION_NUM < 150000
#include "postmaster/autovacuum.h"
#include "replication/walsender.h"
#endif
#if PG_VERSION_NUM >= 170000
#include "utils/injection_point.h"
#endif
#include "commands/explain.h"
#if PG_VERSION_NUM >= 180000
#include "commands/explain_format.h"
#include "commands/explain_state.h"
#endif

/* Relation file locators got their name in 16. */
#if PG_VERSION_NUM < 160000
typedef Oid RelFileNumber;
typedef RelFileNode RelFileLocator;
#define InvalidRelFileNumber InvalidOid
#define RelFileLocatorEquals(a, b) RelFileNodeEquals(a, b)
#define REL_LOCATOR(rel) ((rel)->rd_node)
#define LOCATOR_SPC(l) ((l).spcNode)
#define LOCATOR_DB(l) ((l).dbNode)
#define LOCATOR_REL(l) ((l).relNode)
#define relation_set_new_filelocator relation_set_new_filenode
#else
#define REL_LOCATOR(rel) ((rel)->rd_locator)
#define LOCATOR_SPC(l) ((l).spcOid)
#define LOCATOR_DB(l) ((l).dbOid)
#define LOCATOR_REL(l) ((l).relNumber)
#endif

/* Decode the fields of ParseDateTime(); 0 where they make sense. */
static inline int
pgmq_decode_datetime(char **fields, int *types, int n_fields, int *type,
					 struct pg_tm *tm, fsec_t *fraction, int *zone)
{
#if PG_VERSION_NUM >= 160000
	DateTimeErrorExtra extra;

	return DecodeDateTime(fields, types, n_fields, type, tm, fraction, zone, &extra);
#else
	return DecodeDateTime(fields, types, n_fields, type, tm, fraction, zone);
#endif
}

/* Put before a declaration since 18. */
#ifndef pg_noreturn
#define pg_noreturn pg_attribute_noreturn()
#endif

/*
 * Memory for what a check hook hands to its assign hook, which the server frees.
 * NULL if there is none.
 */
static inline void *
pgmq_setting_alloc(size_t size)
{
#if PG_VERSION_NUM >= 160000
	return guc_malloc(LOG, size);
#else
	return malloc(size);
#endif
}

static inline void
pgmq_setting_free(void *memory)
{
#if PG_VERSION_NUM >= 160000
	guc_free(memory);
#else
	free(memory);
#endif
}

/* Has a transaction released the lock on its own id? */
static inline bool
pgmq_xid_is_unlocked(TransactionId xid)
{
#if PG_VERSION_NUM >= 180000
	return ConditionalXactLockTableWait(xid, false);
#else
	return ConditionalXactLockTableWait(xid);
#endif
}

/*
 * Custom scans: their slot has the table's kind, which 14 and 15 must be told after
 * they have made another; tuples that are presented have no system columns but those
 * of every slot.
 */
#if PG_VERSION_NUM >= 160000
#define PGMQ_CUSTOM_SCAN_SET_SLOT_OPS(css) ((css)->slotOps = &TTSOpsBufferHeapTuple)
#else
#define PGMQ_CUSTOM_SCAN_SET_SLOT_OPS(css) ((void) 0)
#endif

#ifdef CUSTOMPATH_SUPPORT_PROJECTION
#define PGMQ_CUSTOM_SCAN_PROJECTS CUSTOMPATH_SUPPORT_PROJECTION
#else
#define PGMQ_CUSTOM_SCAN_PROJECTS 0
#endif

static inline void
pgmq_custom_scan_init_slot(CustomScanState *css, EState *estate)
{
#if PG_VERSION_NUM < 160000
	css->ss.ps.subPlan = NIL;	/* made again with the expressions */
	ExecInitScanTupleSlot(estate, &css->ss, RelationGetDescr(css->ss.ss_currentRelation),
						  &TTSOpsBufferHeapTuple);
	ExecAssignScanProjectionInfoWithVarno(&css->ss, ((Scan *) css->ss.ps.plan)->scanrelid);
	css->ss.ps.qual = ExecInitQual(css->ss.ps.plan->qual, &css->ss.ps);
#endif
}

#if PG_VERSION_NUM >= 160000
#define PGMQ_BUILD_EXPRESSION_PATHKEY(root, expr, operator, relids) \
	build_expression_pathkey(root, expr, operator, relids, false)
#else
#define PGMQ_BUILD_EXPRESSION_PATHKEY(root, expr, operator, relids) \
	build_expression_pathkey(root, expr, NULL, operator, relids, false)
#endif

/* Expressions over a partition, made of those over its topmost parent. */
#if PG_VERSION_NUM >= 160000
#define PGMQ_ADJUST_FOR_CHILD(root, node, child) \
	adjust_appendrel_attrs_multilevel(root, node, child, (child)->top_parent)
#else
#define PGMQ_ADJUST_FOR_CHILD(root, node, child) \
	adjust_appendrel_attrs_multilevel(root, node, (child)->relids, (child)->top_parent_relids)
#endif

#if PG_VERSION_NUM >= 170000
#define PGMQ_ESTIMATE_ARRAY_LENGTH(root, array) estimate_array_length(root, array)
#else
#define PGMQ_ESTIMATE_ARRAY_LENGTH(root, array) estimate_array_length(array)
#endif

/* What tuple_update says about indexes. */
#if PG_VERSION_NUM < 160000
typedef bool TU_UpdateIndexes;
#define TU_None false
#define TU_All true
#define TU_IsSummarizing(update_indexes) false
#else
#define TU_IsSummarizing(update_indexes) ((update_indexes) == TU_Summarizing)
#endif

/* A backend's number: an index below MaxBackends, and its virtual xid. */
#if PG_VERSION_NUM >= 170000
#define PGMQ_MY_PROC_NUMBER ((int) MyProcNumber)
#define PGMQ_MY_VXID(result) GET_VXID_FROM_PGPROC(result, *MyProc)
#define PGMQ_VXID_BACKEND(vxid) ((uint32) (vxid).procNumber)
#else
#define PGMQ_MY_PROC_NUMBER (MyProc->pgprocno)
#define PGMQ_MY_VXID(result) GET_VXID_FROM_PGPROC(result, *MyProc)
#define PGMQ_VXID_BACKEND(vxid) ((uint32) (vxid).backendId)
#endif

/*
 * Never says "update": that is only a hint for the index, and its computation
 * needs the range table of a query.
 */
static inline List *
pgmq_insert_index_tuples(ResultRelInfo *rri, TupleTableSlot *slot,
						 EState *estate, bool only_summarizing)
{
#if PG_VERSION_NUM >= 160000
	return ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL,
								 only_summarizing);
#else
	return ExecInsertIndexTuples(rri, slot, estate, false, false, NULL, NIL);
#endif
}

/*
 * heap_update() of a whole tuple; says through *update_indexes which index
 * entries the new version needs.
 */
static inline TM_Result
pgmq_heap_update(Relation rel, ItemPointer otid, HeapTuple tuple,
				 CommandId cid, Snapshot crosscheck, bool wait,
				 TM_FailureData *tmfd, LockTupleMode *lockmode,
				 TU_UpdateIndexes *update_indexes)
{
#if PG_VERSION_NUM >= 160000
	return heap_update(rel, otid, tuple, cid, crosscheck, wait, tmfd, lockmode,
					   update_indexes);
#else
	TM_Result	result = heap_update(rel, otid, tuple, cid, crosscheck, wait,
									 tmfd, lockmode);

	*update_indexes = result == TM_Ok && !HeapTupleIsHeapOnly(tuple);
	return result;
#endif
}

/* A plain vacuum that steps aside where a lock is held. */
static inline void
pgmq_vacuum_params(VacuumParams *params)
{
	memset(params, 0, sizeof(VacuumParams));
	params->options = VACOPT_VACUUM | VACOPT_SKIP_LOCKED | VACOPT_PROCESS_TOAST;
#if PG_VERSION_NUM >= 160000
	params->options |= VACOPT_PROCESS_MAIN | VACOPT_SKIP_DATABASE_STATS;
#endif
#if PG_VERSION_NUM >= 180000
	params->max_eager_freeze_failure_rate = vacuum_max_eager_freeze_failure_rate;
#endif
	params->freeze_min_age = params->freeze_table_age = -1;
	params->multixact_freeze_min_age = params->multixact_freeze_table_age = -1;
	params->log_min_duration = -1;
	params->nworkers = -1;
}

static inline void
pgmq_vacuum_relation(Oid relid, VacuumParams *params,
					 BufferAccessStrategy strategy, MemoryContext context)
{
	VacuumRelation *target = makeVacuumRelation(NULL, relid, NIL);

#if PG_VERSION_NUM >= 160000
	vacuum(list_make1(target), params, strategy, context, true);
#else
	vacuum(list_make1(target), params, strategy, true);
#endif
}

/* What pg_stat_activity shows of a consumer asleep; named from 17 on. */
static inline uint32
pgmq_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("PgmqRead");
	return wait_event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* The same for a sender that waits for its turn to notify. */
static inline uint32
pgmq_notify_wait_event(void)
{
#if PG_VERSION_NUM >= 170000
	static uint32 wait_event = 0;

	if (wait_event == 0)
		wait_event = WaitEventExtensionNew("PgmqNotify");
	return wait_event;
#else
	return PG_WAIT_EXTENSION;
#endif
}

/* What publications do with the table's rows, all of them together. */
static inline PublicationActions
pgmq_published_actions(Relation rel)
{
#if PG_VERSION_NUM >= 150000
	PublicationDesc desc;

	RelationBuildPublicationDesc(rel, &desc);
	return desc.pubactions;
#else
	return *GetRelationPublicationActions(rel);
#endif
}

/* Columns that any index of the table uses, expressions and predicates too. */
static inline Bitmapset *
pgmq_indexed_columns(Relation rel)
{
#if PG_VERSION_NUM >= 160000
	return bms_add_members(RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_HOT_BLOCKING),
						   RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_SUMMARIZED));
#else
	return RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_ALL);
#endif
}

static inline Oid
pgmq_identity_sequence(Relation rel, AttrNumber attnum)
{
#if PG_VERSION_NUM >= 170000
	return getIdentitySequence(rel, attnum, true);
#else
	return getIdentitySequence(RelationGetRelid(rel), attnum, true);
#endif
}

static inline bool
pgmq_owns_table(Oid relid, Oid role)
{
#if PG_VERSION_NUM >= 160000
	return object_ownercheck(RelationRelationId, relid, role);
#else
	return pg_class_ownercheck(relid, role);
#endif
}

/*
 * Would this text cast to integer?  Older servers tell only by an error, which
 * needs no subtransaction: number parsing leaves nothing to undo.
 */
static inline bool
pgmq_is_int32(char *value)
{
#if PG_VERSION_NUM >= 160000
	ErrorSaveContext context = {T_ErrorSaveContext};

	(void) pg_strtoint32_safe(value, (Node *) &context);
	return !context.error_occurred;
#else
	MemoryContext caller = CurrentMemoryContext;
	volatile bool is_number = true;

	PG_TRY();
	{
		(void) pg_strtoint32(value);
	}
	PG_CATCH();
	{
		MemoryContextSwitchTo(caller);
		FlushErrorState();
		is_number = false;
	}
	PG_END_TRY();
	return is_number;
#endif
}

/* Privileges moved from the range table entry to a node of their own in 16. */
#define PGMQ_HAS_PERMINFO (PG_VERSION_NUM >= 160000)


/*
 * A plan that runs once more runs without workers.  Whether it does is told by
 * queryDesc->already_executed since 18 and the minor releases of that time,
 * which ignore execute_once; before, by execute_once alone.
 */
#if PG_VERSION_NUM >= 180000
#define PGMQ_EXECUTOR_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count
#define PGMQ_EXECUTOR_RUN_PASS queryDesc, direction, count
#define PGMQ_FORBID_PARALLEL() (queryDesc->already_executed = true)
#else
#define PGMQ_EXECUTOR_RUN_ARGS \
	QueryDesc *queryDesc, ScanDirection direction, uint64 count, bool execute_once
#define PGMQ_EXECUTOR_RUN_PASS queryDesc, direction, count, execute_once
#define PGMQ_FORBID_PARALLEL() (execute_once = false, queryDesc->already_executed = true)
#endif

/* ALTER TABLE ... SET ACCESS METHOD */
#define PGMQ_HAS_SET_ACCESS_METHOD (PG_VERSION_NUM >= 150000)

/*
 * The row at tuple->t_self, its buffer pinned; where there is none, or the
 * snapshot does not see it, false and no buffer.
 */
static inline bool
pgmq_heap_fetch(Relation rel, Snapshot snapshot, HeapTuple tuple, Buffer *buffer)
{
#if PG_VERSION_NUM >= 150000
	return heap_fetch(rel, snapshot, tuple, buffer, false);
#else
	return heap_fetch(rel, snapshot, tuple, buffer);
#endif
}

/* 14 prepares a relation for counting when it opens it. */
#if PG_VERSION_NUM < 150000
#define pgstat_should_count_relation(rel) ((rel)->pgstat_info != NULL)
#endif

#if PG_VERSION_NUM < 150000
#define MarkGUCPrefixReserved(prefix) EmitWarningsOnPlaceholders(prefix)
#define PGMQ_HAS_SHMEM_REQUEST_HOOK 0
#define PGMQ_MAX_BACKENDS \
	(MaxConnections + autovacuum_max_workers + 1 + max_worker_processes + \
	 max_wal_senders)
#else
#define PGMQ_HAS_SHMEM_REQUEST_HOOK 1
#define PGMQ_MAX_BACKENDS MaxBackends
#endif

/*
 * Whether a snapshot taken by a session that says PROC_IN_SAFE_IC holds back
 * the horizon; not in the first releases of 14.
 */
#define PGMQ_SAFE_IC_KEEPS_HORIZON (PG_VERSION_NUM >= 140004)

/* A named point that the server's own tests can attach to (failpoint.h). */
#if PG_VERSION_NUM >= 180000
#define PGMQ_INJECTION_POINT(name) INJECTION_POINT(name, NULL)
#elif PG_VERSION_NUM >= 170000
#define PGMQ_INJECTION_POINT(name) INJECTION_POINT(name)
#else
#define PGMQ_INJECTION_POINT(name) ((void) 0)
#endif

/* Whether bitmap scans still come in blocks (up to 17). */
#define PGMQ_BITMAP_NEXT_BLOCK (PG_VERSION_NUM < 180000)

/* Memory that will be read soon. */
#if defined(__GNUC__)
#define PGMQ_PREFETCH(address) __builtin_prefetch(address)
#else
#define PGMQ_PREFETCH(address) ((void) (address))
#endif

#endif							/* PGMQ_COMPAT_H */
