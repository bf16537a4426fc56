/*
 * convert_online.c
 *	  A hot queue becomes a heap queue while it is used.
 *
 * What takes long is done before the switch, in transactions of its own, by a
 * background worker, while the function that was called waits for it:
 *
 *	  1. A unique index on msg_id, then an index on vt, as by CREATE INDEX
 *		 CONCURRENTLY.  With the second, leases become UPDATEs and rows store
 *		 real NULLs (am_facts.c); the build has waited for all transactions that
 *		 may not have known it.  The first is there by then, so that these reads
 *		 by SQL find their way.
 *	  2. Rows that still store -infinity for NULL are replaced, page by page
 *		 (am_null.c).  Consumers skip what is locked for these milliseconds.
 *	  3. Under ACCESS EXCLUSIVE, which is got without keeping others waiting
 *		 (convert_lock.c): pg_class names the other access method, the unique
 *		 index becomes the primary key.
 *
 * A crash, or the worker's end, before the last commit leaves a hot queue with
 * spare indexes: correct, slower, and the next conversion uses or drops them.
 * After an error the worker drops what it has made.
 *
 * The caller's snapshot is older than the indexes, and CREATE INDEX
 * CONCURRENTLY waits for such snapshots to go.  So the caller says of itself
 * what a session that builds an index concurrently says: that its snapshot will
 * not look into this table (PROC_IN_SAFE_IC).  The horizon keeps minding it.
 *
 * It is no way to convert a table that the caller's transaction has touched, or
 * in a transaction block, whose other statements it would not be part of; a
 * small table is rewritten faster than a worker starts.
 */
#include "common/compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "api/convert.h"
#include "catalog/pg_class.h"
#include "common/settings.h"
#include "postmaster/bgworker.h"
#include "storage/bufmgr.h"
#include "storage/dsm.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"
#include "tcop/tcopprot.h"
#include "tcop/utility.h"
#include "utils/guc.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/snapmgr.h"
#include "worker/worker.h"

/* A table of fewer pages is rewritten while its users wait. */
#define MIN_ONLINE_PAGES 256

/* Pages whose rows one transaction replaces: milliseconds. */
#define PAGES_PER_BATCH 8

typedef enum JobState
{
	JOB_RUNNING,
	JOB_DONE,
	JOB_FAILED,
	JOB_LEFT					/* the worker has ended without a word */
} JobState;

/* What the caller and the worker tell each other; a segment of shared memory. */
typedef struct Job
{
	/* immutable once the worker is started */
	Oid			dbid;
	Oid			relid;
	Oid			userid;			/* in whose name */
	int			lock_timeout_ms;
	PGPROC	   *caller;
	char		table[NAMEDATALEN]; /* in schema pgmq */

	/* written by the worker; pid first, the state last (JOB_LEFT: by the caller) */
	volatile pid_t pid;
	volatile JobState state;
	int			sqlstate;		/* of the error, with its texts */
	char		message[1024];
	char		detail[1024];
	char		hint[1024];

	/* written by the caller, who does not wait any more */
	volatile bool is_cancelled;
} Job;

/* ---- the caller ---- */

/* The segment is detached: at the end, or because the statement is cancelled. */
static void
leave_job(dsm_segment *segment, Datum arg)
{
	Job		   *job = dsm_segment_address(segment);

	job->is_cancelled = true;
	pg_memory_barrier();
	if (job->pid != 0 && job->state == JOB_RUNNING)
		(void) kill(job->pid, SIGINT);
}

static dsm_segment *
make_job(const char *table, Oid relid)
{
	dsm_segment *segment = dsm_create(sizeof(Job), 0);
	Job		   *job = dsm_segment_address(segment);

	memset(job, 0, sizeof(Job));
	job->dbid = MyDatabaseId;
	job->relid = relid;
	job->userid = GetUserId();
	job->lock_timeout_ms = LockTimeout;
	job->caller = MyProc;
	strlcpy(job->table, table, NAMEDATALEN);
	return segment;
}

/* NULL if there is no room for another worker. */
static BackgroundWorkerHandle *
start_worker(dsm_segment *segment, const char *table)
{
	BackgroundWorker worker;
	BackgroundWorkerHandle *handle;

	pgmq_worker_describe(&worker, "pgmq conversion", "pgmq_convert_main");
	snprintf(worker.bgw_name, BGW_MAXLEN, "pgmq conversion of %s", table);
	worker.bgw_main_arg = UInt32GetDatum(dsm_segment_handle(segment));
	return RegisterDynamicBackgroundWorker(&worker, &handle) ? handle : NULL;
}

/* Tell builders of indexes not to wait for our snapshot, or to wait again. */
static void
let_indexes_be_built(bool let)
{
	LWLockAcquire(ProcArrayLock, LW_EXCLUSIVE);
	if (let)
		MyProc->statusFlags |= PROC_IN_SAFE_IC;
	else
		MyProc->statusFlags &= ~PROC_IN_SAFE_IC;
	ProcGlobal->statusFlags[MyProc->pgxactoff] = MyProc->statusFlags;
	LWLockRelease(ProcArrayLock);
}

static void
await_worker(Job *job, BackgroundWorkerHandle *handle)
{
	pid_t		pid;

	while (job->state == JOB_RUNNING && GetBackgroundWorkerPid(handle, &pid) != BGWH_STOPPED)
	{
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_EXIT_ON_PM_DEATH, -1, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	if (job->state == JOB_RUNNING)
		job->state = JOB_LEFT;	/* its pid may be another's by now */
}

/* Raise what went wrong, if something did. */
static void
report_outcome(const Job *job)
{
	if (job->state == JOB_LEFT)
		ereport(ERROR,
				(errcode(ERRCODE_ADMIN_SHUTDOWN),
				 errmsg("the conversion of table \"%s\" was terminated", job->table),
				 errhint("Convert the queue again, to either storage.")));
	if (job->state == JOB_FAILED)
		ereport(ERROR,
				(errcode(job->sqlstate),
				 errmsg_internal("%s", job->message),
				 job->detail[0] != '\0' ? errdetail_internal("%s", job->detail) : 0,
				 job->hint[0] != '\0' ? errhint("%s", job->hint) : 0));
}

/* Is it a hot table that is worth a worker, and free of our own locks? */
static bool
can_convert_online(Oid relid)
{
	Relation	rel;
	bool		result;

#if !PGMQ_SAFE_IC_KEEPS_HORIZON
	return false;
#endif
	if (IsTransactionBlock() || TransactionIdIsValid(GetTopTransactionIdIfAny()) ||
		!pgmq_worker_enabled)
		return false;
	rel = RelationIdGetRelation(relid);
	if (rel == NULL)
		return false;
	result = !CheckRelationLockedByMe(rel, AccessShareLock, true);
	RelationClose(rel);
	if (!result)
		return false;
	rel = try_table_open(relid, AccessShareLock);
	if (rel == NULL)
		return false;
	result = pgmq_am_is_ours(rel) && pgmq_has_queue_columns(RelationGetDescr(rel)) &&
		rel->rd_rel->relkind == RELKIND_RELATION && !rel->rd_rel->relispartition &&
		!RelationUsesLocalBuffers(rel) &&
		RelationGetNumberOfBlocks(rel) >= MIN_ONLINE_PAGES;
	table_close(rel, AccessShareLock);
	return result;
}

/*
 * Convert a hot queue's table to heap storage, in transactions of its own.
 * False: it has to be done in the caller's.  Raises what the worker raised.
 */
bool
pgmq_convert_online(const char *table, Oid relid)
{
	dsm_segment *segment;
	BackgroundWorkerHandle *handle;

	if (!can_convert_online(relid))
		return false;
	segment = make_job(table, relid);
	handle = start_worker(segment, table);
	if (handle == NULL)
	{
		dsm_detach(segment);
		return false;
	}
	on_dsm_detach(segment, leave_job, (Datum) 0);
	let_indexes_be_built(true);
	PG_TRY();
	{
		await_worker(dsm_segment_address(segment), handle);
	}
	PG_FINALLY();
	{
		let_indexes_be_built(false);
	}
	PG_END_TRY();
	report_outcome(dsm_segment_address(segment));
	dsm_detach(segment);
	pfree(handle);
	AcceptInvalidationMessages();
	return true;
}

/* ---- the worker ---- */

/* What the worker has made, and has to drop if it fails. */
static bool has_made[2];

static void
begin_step(void)
{
	CHECK_FOR_INTERRUPTS();
	SetCurrentStatementStartTimestamp();
	StartTransactionCommand();
	PushActiveSnapshot(GetTransactionSnapshot());
}

static void
end_step(void)
{
	if (ActiveSnapshotSet())
		PopActiveSnapshot();	/* some statements have popped it */
	CommitTransactionCommand();
}

/* A statement as a client would give it, outside of a transaction block. */
static void
run_statement(const char *sql)
{
	MemoryContext context = AllocSetContextCreate(TopMemoryContext, "pgmq statement",
												  ALLOCSET_DEFAULT_SIZES);
	PlannedStmt *statement;

	pgstat_report_activity(STATE_RUNNING, sql);
	begin_step();
	MemoryContextSwitchTo(context);
	statement = makeNode(PlannedStmt);
	statement->commandType = CMD_UTILITY;
	statement->canSetTag = true;
	statement->utilityStmt = linitial_node(RawStmt, pg_parse_query(sql))->stmt;
	statement->stmt_len = (int) strlen(sql);
	PortalContext = context;
	ProcessUtility(statement, sql, false, PROCESS_UTILITY_TOPLEVEL, NULL, NULL,
				   None_Receiver, NULL);
	end_step();
	PortalContext = NULL;
	MemoryContextSwitchTo(TopMemoryContext);
	MemoryContextDelete(context);
}

/* The statement that makes an index, or drops it, NULL if it need not be run. */
static char *
index_statement(Job *job, HeapIndex which, bool drop)
{
	MemoryContext old;
	char	   *statement = NULL;
	Oid			index;
	const char *name;
	const char *qualified;

	begin_step();
	old = MemoryContextSwitchTo(TopMemoryContext);
	index = pgmq_heap_index(job->relid, which);
	name = pgmq_heap_index_name(job->relid, which);
	qualified = quote_qualified_identifier("pgmq", name);
	if (drop && OidIsValid(index))
		statement = psprintf("DROP INDEX CONCURRENTLY %s", qualified);
	else if (!drop && !OidIsValid(index) &&
			 (which == INDEX_VT || !pgmq_has_primary_key(job->relid)))
		statement = psprintf("CREATE %s INDEX CONCURRENTLY %s ON pgmq.%s (%s)",
							 which == INDEX_KEY ? "UNIQUE" : "",
							 quote_identifier(name), quote_identifier(job->table),
							 which == INDEX_KEY ? "msg_id" : "vt");
	MemoryContextSwitchTo(old);
	end_step();
	return statement;
}

static bool
index_is_valid(Job *job, HeapIndex which)
{
	Oid			index;
	bool		result;

	begin_step();
	index = pgmq_heap_index(job->relid, which);
	result = !OidIsValid(index) || get_index_isvalid(index);
	end_step();
	return result;
}

/* Have the index, unless a primary key of another name makes it needless. */
static void
make_index(Job *job, HeapIndex which)
{
	char	   *statement;

	if (!index_is_valid(job, which))
		run_statement(index_statement(job, which, true));
	statement = index_statement(job, which, false);
	if (statement == NULL)
		return;
	has_made[which] = true;
	run_statement(statement);
}

/* Run expressions of the table's indexes as its owner, and let them do no harm. */
static void
become_owner(Relation rel, Oid *saved_user, int *saved_context)
{
	GetUserIdAndSecContext(saved_user, saved_context);
	SetUserIdAndSecContext(rel->rd_rel->relowner,
						   *saved_context | SECURITY_RESTRICTED_OPERATION);
}

/*
 * A transaction over the pages from start on, or over one row that was locked.
 * Nobody waits for its commit to be durable: the switch's will be.
 */
static void
replace_rows(Job *job, BlockNumber start, BlockNumber end, const ItemPointerData *tid,
			 List **locked)
{
	List	   *found = NIL;
	ListCell   *cell;
	Relation	rel;
	Oid			user;
	int			context;

	begin_step();
	(void) set_config_option("synchronous_commit", "off", PGC_USERSET, PGC_S_SESSION,
							 GUC_ACTION_LOCAL, true, 0, false);
	rel = table_open(job->relid, RowExclusiveLock);
	become_owner(rel, &user, &context);
	if (tid != NULL)
		pgmq_am_store_null(rel, tid);
	else
		pgmq_am_store_nulls(rel, start, Min(end, RelationGetNumberOfBlocks(rel)), &found);
	SetUserIdAndSecContext(user, context);
	table_close(rel, NoLock);
	foreach(cell, found)
	{
		MemoryContext old = MemoryContextSwitchTo(TopMemoryContext);
		ItemPointer copy = palloc(sizeof(ItemPointerData));

		*copy = *(ItemPointer) lfirst(cell);
		*locked = lappend(*locked, copy);
		MemoryContextSwitchTo(old);
	}
	end_step();
}

/* Replace all rows that store -infinity for NULL. */
static void
replace_all_rows(Job *job)
{
	List	   *locked = NIL;
	ListCell   *cell;
	BlockNumber n_blocks;
	Relation	rel;

	begin_step();
	rel = table_open(job->relid, AccessShareLock);
	n_blocks = RelationGetNumberOfBlocks(rel);
	table_close(rel, AccessShareLock);
	end_step();

	pgstat_report_activity(STATE_RUNNING, psprintf("replacing rows of %s", job->table));
	for (BlockNumber block = 0; block < n_blocks; block += PAGES_PER_BATCH)
		replace_rows(job, block, Min(block + PAGES_PER_BATCH, n_blocks), NULL, &locked);
	foreach(cell, locked)
		replace_rows(job, 0, 0, lfirst(cell), NULL);
}

/*
 * The index on vt has been there, and valid, since before rows were replaced;
 * if it is another now, rows may have come to store -infinity again.
 */
static void
switch_to_heap(Job *job, Oid vt_index)
{
	Relation	rel;
	bool		is_hot;

	pgstat_report_activity(STATE_RUNNING, psprintf("switching %s to heap storage", job->table));
	begin_step();
	if (pgmq_lock_to_convert("pgmq", job->table) != job->relid)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("table \"%s\" was replaced by another while it was converted", job->table)));
	rel = table_open(job->relid, NoLock);
	is_hot = pgmq_am_is_ours(rel);
	table_close(rel, NoLock);
	if (is_hot && pgmq_heap_index(job->relid, INDEX_VT) == vt_index)
		pgmq_declare_heap(job->relid);
	else if (is_hot)
		pgmq_rewrite_as_heap(job->relid);
	(void) pgmq_add_heap_indexes(job->relid);
	end_step();
}

/*
 * Others that would convert it, vacuum it or build an index on it wait.  We
 * wait for them without a snapshot, which they may be waiting for.  Returns
 * whether the table is hot still.
 */
static bool
lock_for_session(const Job *job)
{
	LockRelId	lock = {job->relid, job->dbid};
	Relation	rel;
	bool		is_hot;

	StartTransactionCommand();
	LockRelationIdForSession(&lock, ShareUpdateExclusiveLock);
	CommitTransactionCommand();
	begin_step();
	rel = try_table_open(job->relid, AccessShareLock);
	if (rel == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"pgmq.%s\" does not exist", job->table)));
	is_hot = pgmq_am_is_ours(rel);
	table_close(rel, NoLock);
	end_step();
	return is_hot;
}

/* The server releases such locks at a transaction's failure, not at our exit. */
static void
unlock_at_exit(int code, Datum arg)
{
	AbortOutOfAnyTransaction();
	LockReleaseAll(DEFAULT_LOCKMETHOD, true);
}

static void
convert(Job *job)
{
	Oid			vt_index;

	if (lock_for_session(job))	/* nobody else has converted it meanwhile */
	{
		make_index(job, INDEX_KEY);
		make_index(job, INDEX_VT);
		begin_step();
		vt_index = pgmq_heap_index(job->relid, INDEX_VT);
		end_step();
		if (!OidIsValid(vt_index))
			ereport(ERROR,
					(errcode(ERRCODE_DUPLICATE_TABLE),
					 errmsg("relation \"%s\" is in the way of the index on vt",
							pgmq_heap_index_name(job->relid, INDEX_VT))));
		replace_all_rows(job);
		switch_to_heap(job, vt_index);
	}
}

static void
tell_caller(Job *job, JobState state)
{
	pg_write_barrier();
	job->state = state;
	SetLatch(&job->caller->procLatch);
}

static void
note_error(Job *job, const ErrorData *error)
{
	job->sqlstate = error->sqlerrcode;
	strlcpy(job->message, error->message, sizeof(job->message));
	if (error->detail != NULL)
		strlcpy(job->detail, error->detail, sizeof(job->detail));
	if (error->hint != NULL)
		strlcpy(job->hint, error->hint, sizeof(job->hint));
}

/* After an error: the queue stays hot, without what has been made for it. */
static void
clean_up(Job *job)
{
	SetConfigOption("lock_timeout", "0", PGC_USERSET, PGC_S_OVERRIDE);
	for (int which = INDEX_VT; which >= INDEX_KEY; which--)
	{
		char	   *statement = has_made[which] ? index_statement(job, which, true) : NULL;

		if (statement != NULL)
			run_statement(statement);
	}
}

/* Settings of the database or of roles that are not meant for this. */
static void
use_safe_settings(const Job *job)
{
	static const char *const settings[][2] = {
		{"search_path", "pg_catalog, pg_temp"},
		{"default_transaction_isolation", "read committed"},
		{"default_transaction_read_only", "off"},
		{"default_transaction_deferrable", "off"},
	};
	char		lock_timeout[32];

	for (int i = 0; i < lengthof(settings); i++)
		SetConfigOption(settings[i][0], settings[i][1], PGC_SUSET, PGC_S_OVERRIDE);
	snprintf(lock_timeout, sizeof(lock_timeout), "%d", job->lock_timeout_ms);
	SetConfigOption("lock_timeout", lock_timeout, PGC_SUSET, PGC_S_OVERRIDE);
}

extern PGDLLEXPORT void pgmq_convert_main(Datum arg);

void
pgmq_convert_main(Datum arg)
{
	dsm_segment *segment;
	Job		   *job;

	pqsignal(SIGTERM, die);
	pqsignal(SIGINT, StatementCancelHandler);	/* by the caller; or lock_timeout */
	BackgroundWorkerUnblockSignals();
	segment = dsm_attach(DatumGetUInt32(arg));
	if (segment == NULL)
		proc_exit(0);			/* the caller has gone */
	job = dsm_segment_address(segment);
	dsm_pin_mapping(segment);
	job->pid = MyProcPid;
	pg_memory_barrier();
	if (job->is_cancelled)
		proc_exit(0);
	BackgroundWorkerInitializeConnectionByOid(job->dbid, InvalidOid, 0);
	before_shmem_exit(unlock_at_exit, (Datum) 0);
	use_safe_settings(job);
	SetUserIdAndSecContext(job->userid, 0);

	PG_TRY();
	{
		convert(job);
		tell_caller(job, JOB_DONE);
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(TopMemoryContext);
		error = CopyErrorData();
		FlushErrorState();
		HOLD_INTERRUPTS();
		AbortCurrentTransaction();
		RESUME_INTERRUPTS();
		note_error(job, error);
		tell_caller(job, JOB_FAILED);
		clean_up(job);
	}
	PG_END_TRY();
	proc_exit(0);
}
