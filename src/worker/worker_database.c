/*
 * worker_database.c
 *	  A worker in one database: builds rings, settles what is undecided,
 *	  vacuums.  It ends as soon as there is nothing (more) to do.
 *
 * Each queue is served in a transaction of its own.  An error ends the worker;
 * what it was about stays wanted, and the launcher starts another.
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
#include "postmaster/bgworker.h"
#include "postmaster/interrupt.h"
#include "storage/bufmgr.h"
#include "storage/ipc.h"
#include "storage/lmgr.h"
#include "tcop/tcopprot.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "utils/timestamp.h"
#include "worker/worker.h"

/* Rings served by one worker. */
#define MAX_WORK 64

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

/* Open a hot queue's table if that needs no waiting; else NULL. */
static Relation
try_open(Oid relid)
{
	Relation	rel;

	if (!ConditionalLockRelationOid(relid, AccessShareLock))
		return NULL;
	rel = try_table_open(relid, NoLock);
	if (rel == NULL || !pgmq_am_is_ours(rel) || pgmq_xact_queue(rel) == NULL)
	{
		if (rel != NULL)
			table_close(rel, NoLock);
		return NULL;
	}
	return rel;
}

/* Build the ring if it is not, and settle what is undecided. */
static void
serve_ring(Oid relid)
{
	Relation	rel;

	begin_work();
	rel = try_open(relid);
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

/* The same for the transaction that follows a vacuum. */
static void
note_vacuum(Oid relid)
{
	Relation	rel;

	begin_work();
	rel = try_open(relid);
	if (rel != NULL)
	{
		XactQueue  *queue = pgmq_xact_queue(rel);

		if (pgmq_xact_queue_is_usable(queue))
			pgmq_xact_note_vacuum(queue);
		table_close(rel, NoLock);
	}
	end_work();
}

/* Reclaim the pages of messages that are gone. */
static void
vacuum_queue(Oid relid)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "pgmq vacuum",
												  ALLOCSET_DEFAULT_SIZES);
	VacuumParams params;

	note_vacuum(relid);
	PGMQ_FAILPOINT("worker-vacuum-before");
	pgmq_vacuum_params(&params);
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PortalContext = context;
	MemoryContextSwitchTo(context);
	pgmq_vacuum_relation(relid, &params, GetAccessStrategy(BAS_VACUUM), context);
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

static void
build_all(void)
{
	List	   *queues = find_queues();
	ListCell   *cell;

	foreach(cell, queues)
	{
		CHECK_FOR_INTERRUPTS();
		serve_ring(lfirst_oid(cell));
	}
	list_free(queues);
}

static void
serve_wanted(void)
{
	RingWork	work[MAX_WORK];
	int			n = pgmq_xact_list_work(MyDatabaseId, work, MAX_WORK);

	for (int i = 0; i < n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (work[i].needs_build || work[i].needs_settling)
			serve_ring(work[i].relid);
		if (work[i].needs_vacuum)
			vacuum_queue(work[i].relid);
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
