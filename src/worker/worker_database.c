/*
 * worker_database.c
 *	  A worker in one database: builds rings, settles what is undecided,
 *	  vacuums.  It ends as soon as there is nothing (more) to do.
 *
 * Each queue is served in a transaction of its own.  An error ends that, and the
 * next queue has its turn; what it was about stays wanted.
 */
#include "common/compat.h"

#include "access/genam.h"
#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "am/am.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/settings.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/builtins.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

static void
begin_work(void)
{
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_work(void)
{
	PopActiveSnapshot();
	CommitTransactionCommand();
}

/* Is this the table whose ring was meant?  A ring may know another's name. */
static bool
is_meant(Relation rel, const RingWork *work)
{
	return pgmq_am_is_ours(rel) && pgmq_xact_queue(rel) != NULL &&
		(!OidIsValid(work->dbid) || RelFileLocatorEquals(REL_LOCATOR(rel), work->locator));
}

/* Open a hot queue's table if that needs no waiting; else NULL. */
static Relation
try_open(const RingWork *work)
{
	Relation	rel;

	if (!ConditionalLockRelationOid(work->relid, AccessShareLock))
		return NULL;
	rel = try_table_open(work->relid, NoLock);
	if (rel != NULL && is_meant(rel, work))
		return rel;
	if (rel != NULL)
		table_close(rel, NoLock);
	pgmq_xact_forget_name(work);
	return NULL;
}

/* Build the ring if it is not, and settle what is undecided. */
static void
serve_ring(const RingWork *work)
{
	Relation	rel;

	begin_work();
	rel = try_open(work);
	if (rel != NULL)
	{
		XactQueue  *queue = pgmq_xact_queue(rel);

		if (pgmq_xact_queue_is_usable(queue))
		{
			PGMQ_FAILPOINT("worker-ready-before");
			(void) pgmq_am_ready_ring(rel, queue, NULL, pgmq_clock_now());
			pgmq_am_settle_all(rel, queue);
			PGMQ_FAILPOINT("worker-ready-after");
		}
		table_close(rel, NoLock);
	}
	end_work();
}

/*
 * A table that is no longer than this is not cut after a few messages: that needs an exclusive
 * lock and a look at all shared buffers, and the next messages want the pages again.
 */
#define SMALL_TABLE_BYTES (16 * BLCKSZ)

/* Before a vacuum: false if it is not to be.  *is_small: after it the table is not to be cut. */
static bool
look_before_vacuum(const RingWork *work, bool *is_small)
{
	Relation	rel;

	begin_work();
	rel = try_open(work);
	if (rel != NULL)
	{
		XactQueue  *queue = pgmq_xact_queue(rel);

		if (pgmq_xact_queue_is_usable(queue))
			pgmq_xact_renew_logs(queue);
		*is_small = !work->needs_vacuum &&
			DatumGetInt64(DirectFunctionCall1(pg_table_size, ObjectIdGetDatum(work->relid))) <= SMALL_TABLE_BYTES;
		table_close(rel, NoLock);
	}
	end_work();
	return rel != NULL;
}

/* Reclaim the pages of messages that are gone. */
static void
vacuum_queue(const RingWork *work)
{
	MemoryContext context;
	VacuumParams params;
	bool		is_small;

	if (!look_before_vacuum(work, &is_small))
		return;
	context = AllocSetContextCreate(TopMemoryContext, "pgmq vacuum", ALLOCSET_DEFAULT_SIZES);
	PGMQ_FAILPOINT("worker-vacuum-before");
	pgmq_vacuum_params(&params);
	if (is_small)
		params.truncate = VACOPTVALUE_DISABLED;
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PortalContext = context;
	MemoryContextSwitchTo(context);
	pgmq_vacuum_relation(work->relid, &params, GetAccessStrategy(BAS_VACUUM), context);
	CommitTransactionCommand();
	PortalContext = NULL;
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(context);
	PGMQ_FAILPOINT("worker-vacuum-after");
}

/* All hot queue tables of this database; allocated in TopMemoryContext. */
static List *
find_queues(void)
{
	List	   *queues = NIL;
	Oid			am;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	begin_work();
	am = get_table_am_oid("pgmq", true);
	if (OidIsValid(am))
	{
		rel = table_open(RelationRelationId, AccessShareLock);
		scan = table_beginscan_catalog(rel, 0, NULL);
		while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
		{
			Form_pg_class class = (Form_pg_class) GETSTRUCT(tuple);
			MemoryContext old;

			if (class->relam != am || class->relkind != RELKIND_RELATION ||
				class->relpersistence == RELPERSISTENCE_TEMP)
				continue;
			old = MemoryContextSwitchTo(TopMemoryContext);
			queues = lappend_oid(queues, class->oid);
			MemoryContextSwitchTo(old);
		}
		table_endscan(scan);
		table_close(rel, AccessShareLock);
	}
	end_work();
	return queues;
}

/* Serve one ring; an error is logged, and the next ring has its turn. */
static void
serve(void (*how) (const RingWork *work), const RingWork *work)
{
	CHECK_FOR_INTERRUPTS();
	PG_TRY();
	{
		how(work);
	}
	PG_CATCH();
	{
		HOLD_INTERRUPTS();
		EmitErrorReport();
		AbortOutOfAnyTransaction();
		PortalContext = NULL;
		MemoryContextSwitchTo(TopMemoryContext);
		FlushErrorState();
		RESUME_INTERRUPTS();
	}
	PG_END_TRY();
}

static void
build_all(void)
{
	List	   *queues = find_queues();
	ListCell   *cell;

	foreach(cell, queues)
	{
		RingWork	work = {0};

		work.relid = lfirst_oid(cell);
		serve(serve_ring, &work);
	}
	list_free(queues);
}

/*
 * One round through the rings of this database that want something.  Not all whose turn
 * has come are vacuumed, lest they come together again: twice as many as have their turn
 * between two rounds.
 */
static void
serve_wanted(void)
{
	RingWork	work;
	int			cursor = 0;
	int			n_turns = 1 + 2 * pgmq_worker_naptime_ms / PGMQ_VACUUM_INTERVAL_MS;

	while (pgmq_xact_next_work(MyDatabaseId, &cursor, &work))
	{
		if (work.needs_build || work.needs_settling)
			serve(serve_ring, &work);
		if (work.needs_vacuum || (work.may_vacuum && n_turns-- > 0))
			serve(vacuum_queue, &work);
	}
}

void
pgmq_database_main(Datum arg)
{
	WorkerOrder order;

	memcpy(&order, MyBgworkerEntry->bgw_extra, sizeof(order));
	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	if (!pgmq_worker_announce(order.dbid))
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(order.dbid, InvalidOid, 0);
	if (order.must_find_queues)
		build_all();
	serve_wanted();
	proc_exit(0);
}
