/*
 * worker_launcher.c
 *	  The launcher: looks for rings that want something done, and starts one
 *	  database worker after the other.
 *
 * It is connected to no database, so it blocks no DROP DATABASE.  After a
 * start (or a promotion) it sends a worker through every database once, to
 * find the hot queues and build their rings; afterwards the rings themselves
 * say what they want.  A queue works without it, only that a caller has to
 * build its ring, and dead rows wait for autovacuum.
 */
#include "common/compat.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "catalog/pg_database.h"
#include "common/settings.h"
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "worker/worker.h"
#include "xact/xact.h"

/*
 * A process of ours, with a connection, started once, whose end we are told of;
 * the caller changes what is otherwise.
 */
void
pgmq_worker_describe(BackgroundWorker *worker, const char *type, const char *function)
{
	memset(worker, 0, sizeof(BackgroundWorker));
	strlcpy(worker->bgw_name, type, BGW_MAXLEN);
	strlcpy(worker->bgw_type, type, BGW_MAXLEN);
	strlcpy(worker->bgw_library_name, "pgmq", BGW_MAXLEN);
	strlcpy(worker->bgw_function_name, function, BGW_MAXLEN);
	worker->bgw_flags = BGWORKER_SHMEM_ACCESS | BGWORKER_BACKEND_DATABASE_CONNECTION;
	worker->bgw_start_time = BgWorkerStart_RecoveryFinished;
	worker->bgw_restart_time = BGW_NEVER_RESTART;
	worker->bgw_notify_pid = MyProcPid;
}

/* Run one database worker to its end; false if none could be started. */
static bool
run_worker(Oid dbid, bool must_find_queues)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;
	WorkerOrder order = {dbid, must_find_queues};

	if (pgmq_worker_is_paused(dbid))
		return true;
	pgmq_worker_describe(&worker, "pgmq worker", "pgmq_database_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "pgmq worker %u", dbid);
	memcpy(worker.bgw_extra, &order, sizeof(order));
	if (!RegisterDynamicBackgroundWorker(&worker, &handle))
		return false;
	(void) WaitForBackgroundWorkerShutdown(handle);
	pfree(handle);
	return true;
}

/* All databases that can be connected to; palloc'd in the caller's context. */
static List *
list_databases(void)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *databases = NIL;
	Relation	rel;
	TableScanDesc scan;
	HeapTuple	tuple;

	StartTransactionCommand();
	rel = table_open(DatabaseRelationId, AccessShareLock);
	scan = table_beginscan_catalog(rel, 0, NULL);
	while ((tuple = heap_getnext(scan, ForwardScanDirection)) != NULL)
	{
		Form_pg_database database = (Form_pg_database) GETSTRUCT(tuple);
		MemoryContext old;

		if (!database->datallowconn)
			continue;
		old = MemoryContextSwitchTo(caller);
		databases = lappend_oid(databases, database->oid);
		MemoryContextSwitchTo(old);
	}
	table_endscan(scan);
	table_close(rel, AccessShareLock);
	CommitTransactionCommand();
	MemoryContextSwitchTo(caller);
	return databases;
}

/*
 * After a start: have every database searched for hot queues.  False if no
 * worker could be started; until then callers build rings themselves.
 */
static bool
visit_databases(void)
{
	List	   *databases = list_databases();
	ListCell   *cell;
	bool		can_start = true;

	foreach(cell, databases)
	{
		CHECK_FOR_INTERRUPTS();
		can_start = run_worker(lfirst_oid(cell), true);
		if (!can_start)
			break;
	}
	list_free(databases);
	return can_start;
}

/* One look: a worker for each database whose rings want something. */
static void
serve_rings(void)
{
	List	   *served = NIL;
	int			cursor = 0;
	RingWork	work;

	while (pgmq_xact_next_work(InvalidOid, &cursor, &work))
	{
		CHECK_FOR_INTERRUPTS();
		if (list_member_oid(served, work.dbid))
			continue;
		if (!run_worker(work.dbid, false))
			break;
		served = lappend_oid(served, work.dbid);
	}
	list_free(served);
}

void
pgmq_launcher_main(Datum arg)
{
	bool		has_visited = false;

	pqsignal(SIGHUP, SignalHandlerForConfigReload);
	pqsignal(SIGTERM, die);
	BackgroundWorkerUnblockSignals();
	BackgroundWorkerInitializeConnection(NULL, NULL, 0);

	for (;;)
	{
		CHECK_FOR_INTERRUPTS();
		if (ConfigReloadPending)
		{
			ConfigReloadPending = false;
			ProcessConfigFile(PGC_SIGHUP);
		}
		if (pgmq_worker_enabled)
		{
			if (!has_visited)
				has_visited = visit_databases();
			serve_rings();
		}
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 pgmq_worker_naptime_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
	}
}

/* Called once, by _PG_init in the postmaster. */
void
pgmq_worker_init(void)
{
	BackgroundWorker worker;

	pgmq_worker_describe(&worker, "pgmq launcher", "pgmq_launcher_main");
	worker.bgw_notify_pid = 0;
	worker.bgw_restart_time = 5;
	RegisterBackgroundWorker(&worker);
	pgmq_worker_utility_init();
}
