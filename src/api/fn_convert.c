/*
 * fn_convert.c
 *	  pgmq.convert_queue: from heap to hot storage and back.
 *
 * The table keeps its identity: OID, sequence, privileges, policies, triggers,
 * publications and comments stay where they are, and both directions run under
 * ACCESS EXCLUSIVE, so that no message is lost or doubled, nor seen by a reader
 * that believes in the other storage.
 *
 * Heap to hot does not touch a row.  Hot tables are heap pages, and a row that
 * stores a real NULL for last_read_at is leased by an ordinary UPDATE the first
 * time (see queue_row.h): it is enough to drop the indexes and to name the
 * other access method in pg_class.  So the switch takes milliseconds, whatever
 * the backlog.  Only tables from before 1.10, whose last column is
 * last_read_at, are rewritten first, in the order of columns that leases need.
 *
 * Hot to heap rewrites the table, because heap rows must not say -infinity
 * where SQL is to see NULL, and builds the indexes.
 *
 * Statements run with search_path pg_catalog, so names are not qualified.
 */
#include "common/compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "api/api.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "commands/extension.h"
#include "commands/tablecmds.h"
#include "common/failpoint.h"
#include "common/settings.h"
#include "executor/spi.h"
#include "parser/scansup.h"
#include "storage/latch.h"
#include "storage/lmgr.h"
#include "storage/proc.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/resowner.h"
#include "utils/syscache.h"

/* How long senders may be kept waiting for a lock that we do not get at once */
#define FIRST_LOCK_WAIT_MS 100
#define MAX_LOCK_WAIT_MS 600000

/* In the order of their attribute numbers; all of a queue table's columns. */
static const char *const canonical_order[QUEUE_NATTS] = {
	"msg_id", "read_ct", "enqueued_at", "last_read_at", "vt", "message", "headers"
};
static const char *const old_order[QUEUE_NATTS] = {
	"msg_id", "read_ct", "enqueued_at", "vt", "message", "headers", "last_read_at"
};

/* ---- statements ---- */

/* Run a statement about a table ($1), as one of ours. */
static void
run_about(const char *sql, Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};
	int			code = SPI_execute_with_args(sql, 1, types, values, NULL, false, 0);

	if (code < 0)
		elog(ERROR, "\"%s\" failed: %s", sql, SPI_result_code_string(code));
}

/* The first column of a query about a table ($1), as strings. */
static List *
texts_about(const char *sql, Oid relid)
{
	MemoryContext caller = CurrentMemoryContext;
	List	   *texts = NIL;

	SPI_connect();
	run_about(sql, relid);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char	   *text = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);
		MemoryContext old = MemoryContextSwitchTo(caller);

		texts = lappend(texts, pstrdup(text));
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
	return texts;
}

static void
run_all(List *statements)
{
	ListCell   *cell;

	foreach(cell, statements)
		pgmq_sql_ddl("%s", (char *) lfirst(cell));
}

static const char *
qualified_table(Oid relid)
{
	return quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
									  get_rel_name(relid));
}

/* Returns the level to give to AtEOXact_GUC() afterwards. */
static int
use_safe_search_path(void)
{
	int			guc_level = NewGUCNestLevel();

	(void) set_config_option("search_path", "pg_catalog, pg_temp", PGC_USERSET,
							 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	return guc_level;
}

/* ---- what kind of table is it? ---- */

static bool
has_order(TupleDesc desc, const char *const *names)
{
	if (desc->natts < QUEUE_NATTS)
		return false;
	for (int i = 0; i < QUEUE_NATTS; i++)
		if (TupleDescAttr(desc, i)->attisdropped ||
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), names[i]) != 0)
			return false;
	return true;
}

static bool
is_canonical(TupleDesc desc)
{
	return has_order(desc, canonical_order) && descr_is_queue(desc);
}

/* As made before 1.10, with the column of 1.10 added at the end, and no other. */
static bool
is_old(TupleDesc desc)
{
	return desc->natts == QUEUE_NATTS && has_order(desc, old_order);
}

static void
refuse_other_kinds(Relation rel)
{
	if (rel->rd_rel->relkind == RELKIND_PARTITIONED_TABLE || rel->rd_rel->relispartition)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("queue table \"%s\" is partitioned", RelationGetRelationName(rel)),
				 errdetail("Partitioned queues are stored as heap tables.")));
	if (rel->rd_rel->relkind != RELKIND_RELATION)
		ereport(ERROR,
				(errcode(ERRCODE_WRONG_OBJECT_TYPE),
				 errmsg("\"%s\" is not a table", RelationGetRelationName(rel))));
}

/* ---- tables from before 1.10 ---- */

/*
 * What hangs on a column by its number and cannot follow the column's name.
 * Views, rules, policies, triggers with conditions and functions are refused by
 * ALTER TABLE itself, which names them.
 */
static const char *const find_obstacle =
"SELECT format('constraint \"%s\"', conname) FROM pg_constraint"
" WHERE conrelid = $1 AND contype NOT IN ('p', 'n', 't')"
" UNION ALL SELECT format('constraint \"%s\" of table %s', conname, conrelid::regclass)"
" FROM pg_constraint WHERE confrelid = $1"
" UNION ALL SELECT format('statistics object \"%s\"', stxname) FROM pg_statistic_ext"
" WHERE stxrelid = $1"
" UNION ALL SELECT format('default of column \"%s\"', attname) FROM pg_attribute"
" WHERE attrelid = $1 AND attnum > 3 AND (atthasdef OR attidentity <> '')"
" UNION ALL SELECT format('options of column \"%s\"', attname) FROM pg_attribute"
" WHERE attrelid = $1 AND attnum > 3 AND attoptions::text ~ 'n_distinct'"
" UNION ALL SELECT format('security label of column %s', objsubid) FROM pg_seclabel"
" WHERE classoid = 'pg_class'::regclass AND objoid = $1 AND objsubid > 3"
" UNION ALL SELECT format('column privileges granted by role \"%s\"', a.grantor::regrole)"
" FROM pg_attribute, aclexplode(attacl) a"
" WHERE attrelid = $1 AND attnum > 3"
" AND a.grantor <> (SELECT relowner FROM pg_class WHERE oid = $1)"
" UNION ALL SELECT format('publication \"%s\"', pubname)"
" FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid"
" WHERE r.prrelid = $1 AND (to_jsonb(r)->>'prattrs' IS NOT NULL OR to_jsonb(r)->>'prqual' IS NOT NULL)"
" UNION ALL SELECT format('tablespace of index \"%s\"', relname)"
" FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
" WHERE indrelid = $1 AND NOT indisprimary AND reltablespace <> 0"
" UNION ALL SELECT format('parent table %s', inhparent::regclass) FROM pg_inherits"
" WHERE inhrelid = $1"
" UNION ALL SELECT format('child table %s', inhrelid::regclass) FROM pg_inherits"
" WHERE inhparent = $1";

/* Undo what is by column number ... */
static const char *const find_removals =
"SELECT format('REVOKE ALL (%I) ON TABLE %s FROM %s CASCADE', attname, $1::regclass,"
" CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)"
" FROM pg_attribute, aclexplode(attacl) a WHERE attrelid = $1 AND attnum > 3"
" UNION SELECT format('COMMENT ON COLUMN %s.%I IS NULL', $1::regclass, attname)"
" FROM pg_description JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid"
" WHERE classoid = 'pg_class'::regclass AND objoid = $1 AND objsubid > 3"
" UNION ALL SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index"
" WHERE indrelid = $1 AND NOT indisprimary";

/* ... and do it again by name. */
static const char *const find_additions =
"SELECT format('GRANT %s (%I) ON TABLE %s TO %s%s', a.privilege_type, attname, $1::regclass,"
" CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,"
" CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
" FROM pg_attribute, aclexplode(attacl) a WHERE attrelid = $1 AND attnum > 3"
" UNION ALL SELECT format('COMMENT ON COLUMN %s.%I IS %L', $1::regclass, attname, description)"
" FROM pg_description JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid"
" WHERE classoid = 'pg_class'::regclass AND objoid = $1 AND objsubid > 3"
" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', $1::regclass, attname,"
" CASE attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)"
" FROM pg_attribute WHERE attrelid = $1 AND attname IN ('message', 'headers')"
" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', $1::regclass, attname,"
" CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE 'default' END)"
" FROM pg_attribute WHERE attrelid = $1 AND attname IN ('message', 'headers')"
" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', $1::regclass, attname,"
" coalesce(attstattarget, -1))"
" FROM pg_attribute WHERE attrelid = $1 AND attnum > 3"
" UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index"
" WHERE indrelid = $1 AND NOT indisprimary"
" UNION ALL SELECT format('COMMENT ON INDEX %s IS %L', indexrelid::regclass, description)"
" FROM pg_index JOIN pg_description ON objoid = indexrelid"
" WHERE indrelid = $1 AND NOT indisprimary AND classoid = 'pg_class'::regclass AND objsubid = 0";

/*
 * Bring a table from before 1.10 into the canonical order: each column's values
 * move to the number where they belong, in one rewrite, then the names follow.
 */
static void
reorder_columns(Oid relid)
{
	const char *table = qualified_table(relid);
	List	   *obstacles = texts_about(find_obstacle, relid);
	List	   *removals;
	List	   *additions;

	if (obstacles != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot convert queue table \"%s\": it has %s",
						get_rel_name(relid), (char *) linitial(obstacles)),
				 errdetail("The table is from before pgmq 1.10, so its columns must be brought into another order."),
				 errhint("Remove it, convert the queue, and add it again.")));
	removals = texts_about(find_removals, relid);
	additions = texts_about(find_additions, relid);
	run_all(removals);
	pgmq_sql_ddl("ALTER TABLE %s ALTER COLUMN vt DROP NOT NULL, "
				 "ALTER COLUMN vt TYPE timestamptz USING last_read_at, "
				 "ALTER COLUMN message TYPE timestamptz USING vt, "
				 "ALTER COLUMN message SET NOT NULL, "
				 "ALTER COLUMN headers TYPE jsonb USING message, "
				 "ALTER COLUMN last_read_at TYPE jsonb USING headers", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN last_read_at TO pgmq_moving", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN vt TO last_read_at", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN message TO vt", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN headers TO message", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN pgmq_moving TO headers", table);
	run_all(additions);
}

/* ---- indexes ---- */

static char *
vt_index_name(Oid relid)
{
	char	   *name = psprintf("%s_vt_idx", get_rel_name(relid));

	truncate_identifier(name, strlen(name), false);
	return name;
}

static bool
has_vt_index(Oid relid)
{
	return OidIsValid(get_relname_relid(vt_index_name(relid), get_rel_namespace(relid)));
}

static List *
primary_keys(Oid relid)
{
	return texts_about("SELECT quote_ident(conname) FROM pg_constraint "
					   "WHERE conrelid = $1 AND contype = 'p'", relid);
}

/* Where changes are decoded, subscribers need the key (as in fn_queue.c). */
static bool
needs_key(Oid relid)
{
	return XLogLogicalInfoActive() ||
		texts_about("SELECT '' FROM pg_class WHERE oid = $1 AND relreplident = 'i'",
					relid) != NIL;
}

static void
drop_indexes(Oid relid)
{
	List	   *keys = primary_keys(relid);

	if (has_vt_index(relid))
		pgmq_sql_ddl("DROP INDEX %s",
					 quote_qualified_identifier("pgmq", vt_index_name(relid)));
	if (keys != NIL && !needs_key(relid))
		pgmq_sql_ddl("ALTER TABLE %s DROP CONSTRAINT %s",
					 qualified_table(relid), (char *) linitial(keys));
}

/* Add what a heap queue has; false if nothing was missing. */
static bool
add_indexes(Oid relid)
{
	bool		is_complete = true;

	if (primary_keys(relid) == NIL)
	{
		pgmq_sql_ddl("ALTER TABLE %s ADD PRIMARY KEY (msg_id)", qualified_table(relid));
		is_complete = false;
	}
	if (!has_vt_index(relid))
	{
		pgmq_sql_ddl("CREATE INDEX %s ON %s (vt)",
					 quote_identifier(vt_index_name(relid)), qualified_table(relid));
		is_complete = false;
	}
	return !is_complete;
}

/* ---- the switch ---- */

/*
 * Name another access method in pg_class; the file stays as it is.  Caller
 * holds ACCESS EXCLUSIVE on the table and has no reference to it.
 */
static void
switch_access_method(Oid relid, Oid am)
{
	Relation	pg_class = table_open(RelationRelationId, RowExclusiveLock);
	HeapTuple	tuple = SearchSysCacheCopy1(RELOID, ObjectIdGetDatum(relid));
	Form_pg_class form;
	Oid			old_am;

	if (!HeapTupleIsValid(tuple))
		elog(ERROR, "cache lookup failed for relation %u", relid);
	form = (Form_pg_class) GETSTRUCT(tuple);
	old_am = form->relam;
	form->relam = am;
	PGMQ_FAILPOINT("convert-catalog-before");
	CatalogTupleUpdate(pg_class, &tuple->t_self, tuple);
	PGMQ_FAILPOINT("convert-catalog-after");
	if (changeDependencyFor(RelationRelationId, relid, AccessMethodRelationId,
							old_am, am) != 1)
		elog(ERROR, "could not change access method dependency for relation \"%s\"",
			 NameStr(form->relname));
	InvokeObjectPostAlterHook(RelationRelationId, relid, 0);
	heap_freetuple(tuple);
	table_close(pg_class, RowExclusiveLock);
	CommandCounterIncrement();
}

/*
 * The ring of a table that has become hot is built when it is wanted; an abort
 * makes a heap table of it again, whose rows change without us.
 */
static void
begin_ring(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);

	pgmq_xact_note_moved_storage(rel, &REL_LOCATOR(rel));
	pgmq_xact_note_rebuild(rel);
	table_close(rel, NoLock);
}

/* Say so if the fast path will not serve all verbs. */
static void
explain_slow_tables(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	RelationFacts *facts = pgmq_am_facts(rel);

	if (!facts->can_send || !facts->can_read || !facts->can_ack)
		ereport(NOTICE,
				(errmsg("some calls on hot queue table \"%s\" will be served by plain SQL",
						RelationGetRelationName(rel)),
				 errdetail("It has triggers, rules, check constraints, further columns, a publication, or an index over read_ct, last_read_at or vt.")));
	table_close(rel, NoLock);
}

static void
convert_to_hot(Oid relid, bool is_old_order)
{
	Oid			am = get_table_am_oid("pgmq", false);

	drop_indexes(relid);
	if (is_old_order)
		reorder_columns(relid);
	switch_access_method(relid, am);
	begin_ring(relid);
	explain_slow_tables(relid);
}

/* Rewrite a hot table as a heap table. */
static void
rewrite_as_heap(Oid relid)
{
#if PGMQ_HAS_SET_ACCESS_METHOD
	pgmq_sql_ddl("ALTER TABLE %s SET ACCESS METHOD heap", qualified_table(relid));
#else
	Relation	rel = table_open(relid, NoLock);
	XactQueue  *queue = pgmq_xact_queue(rel);

	/* The stored rows must say all that the ring knows better. */
	pgmq_am_flush_leases(rel);
	if (pgmq_xact_queue_is_usable(queue))
		pgmq_am_settle_all(rel, queue);
	pgmq_xact_note_drop(&REL_LOCATOR(rel), relid);
	table_close(rel, NoLock);
	switch_access_method(relid, HEAP_TABLE_AM_OID);
	pgmq_sql_ddl("ALTER TABLE %s ALTER COLUMN last_read_at TYPE timestamptz "
				 "USING nullif(last_read_at, '-infinity')", qualified_table(relid));
#endif
}

static void
convert(Oid relid, bool to_hot, const char *queue_name)
{
	Relation	rel = table_open(relid, NoLock);
	bool		is_hot = pgmq_am_is_ours(rel);
	bool		is_old_order = is_old(RelationGetDescr(rel));
	bool		is_changed = true;

	refuse_other_kinds(rel);
	CheckTableNotInUse(rel, "convert");
	if (to_hot && !is_hot && !is_old_order && !is_canonical(RelationGetDescr(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" does not have the columns of a queue",
						RelationGetRelationName(rel)),
				 errdetail("The first columns must be msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers.")));
	table_close(rel, NoLock);
	if (to_hot)
	{
		if (!is_hot)
			convert_to_hot(relid, is_old_order);
		is_changed = !is_hot;
	}
	else
	{
		if (is_hot)
			rewrite_as_heap(relid);
		is_changed = add_indexes(relid) || is_hot;
	}
	if (!is_changed)
		ereport(NOTICE,
				(errmsg("queue \"%s\" is a %s queue already", queue_name,
						to_hot ? "hot" : "heap")));
}

/* ---- the extension is dropped ---- */

static bool
is_drop_of_ours(Node *statement)
{
	DropStmt   *drop = (DropStmt *) statement;
	ListCell   *cell;

	if (!IsA(statement, DropStmt) || drop->removeType != OBJECT_EXTENSION ||
		drop->behavior != DROP_CASCADE)
		return false;
	foreach(cell, drop->objects)
		if (strcmp(strVal(lfirst(cell)), "pgmq") == 0)
			return true;
	return false;
}

/*
 * Hot tables depend on the access method: CASCADE would drop them, where it
 * leaves the queues of the SQL-only pgmq.  They become heap tables before.
 */
static void
rescue_hot_tables(void)
{
	Oid			am = get_table_am_oid("pgmq", true);
	int			guc_level = use_safe_search_path();
	List	   *tables;
	ListCell   *cell;

	tables = texts_about("SELECT oid FROM pg_class WHERE relam = $1 AND relkind = 'r' "
						 "ORDER BY oid", am);
	foreach(cell, tables)
	{
		Oid			relid = atooid((char *) lfirst(cell));

		LockRelationOid(relid, AccessExclusiveLock);
		rewrite_as_heap(relid);
		if (get_rel_namespace(relid) == get_namespace_oid("pgmq", true))
			(void) add_indexes(relid);
	}
	AtEOXact_GUC(true, guc_level);
}

static ProcessUtility_hook_type prev_process_utility = NULL;

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_process_utility ?
		prev_process_utility : standard_ProcessUtility;

	if (is_drop_of_ours(pstmt->utilityStmt) && OidIsValid(get_extension_oid("pgmq", true)))
		rescue_hot_tables();
	next(pstmt, query, read_only_tree, context, params, environment, dest, qc);
}

void
pgmq_convert_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}

/* ---- the function ---- */

/* 22023 for anything but hot and heap. */
static bool
wants_hot(text *storage)
{
	const char *name = text_to_cstring(storage);

	if (strcmp(name, "hot") != 0 && strcmp(name, "heap") != 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_PARAMETER_VALUE),
				 errmsg("unknown storage \"%s\"", name),
				 errhint("Storage is \"hot\" or \"heap\".")));
	return name[1] == 'o';
}

/* Find the table and lock it, after checking that the caller owns it. */
static Oid
lock_table(const char *table)
{
	return RangeVarGetRelidExtended(makeRangeVar("pgmq", pstrdup(table), -1),
									AccessExclusiveLock, 0,
									RangeVarCallbackOwnsRelation, NULL);
}

/* The same, waiting for at most so long: then InvalidOid, and nothing is held. */
static Oid
lock_table_within(const char *table, int wait_ms)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile Oid relid = InvalidOid;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		int			guc_level = NewGUCNestLevel();

		(void) set_config_option("lock_timeout", psprintf("%d", wait_ms), PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		relid = lock_table(table);
		AtEOXact_GUC(true, guc_level);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		{
			CurrentResourceOwner = owner;
			ReThrowError(error);
		}
		FreeErrorData(error);
		relid = InvalidOid;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return relid;
}

/*
 * Whoever asks for the table while we wait for its lock waits behind us, and
 * we wait for the longest transaction that works on it.  So we give up and try
 * again, waiting twice as long each time, lest a busy queue keeps us out for
 * ever.  A caller with a lock_timeout has decided for himself.
 */
static Oid
lock_queue_table(text *queue_name)
{
	char	   *table = pgmq_table_name(queue_name, 'q');
	Oid			relid = InvalidOid;

	truncate_identifier(table, strlen(table), true);
	if (LockTimeout > 0)
		return lock_table(table);
	for (int wait_ms = FIRST_LOCK_WAIT_MS; !OidIsValid(relid);
		 wait_ms = Min(wait_ms * 2, MAX_LOCK_WAIT_MS))
	{
		relid = lock_table_within(table, wait_ms);
		if (OidIsValid(relid))
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 wait_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return relid;
}

/*
 * pgmq.convert_queue(queue_name, storage)
 *
 * Nothing but a NOTICE if the queue has that storage already; a heap queue
 * without its indexes gets them.  Errors: 22004, 22023, 42P01, 42501, 0A000
 * for partitioned queues and for tables that cannot be carried over.
 */
PG_FUNCTION_INFO_V1(pgmq_convert_queue);
PGDLLEXPORT Datum
pgmq_convert_queue(PG_FUNCTION_ARGS)
{
	int			guc_level;
	bool		to_hot;
	Oid			relid;

	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("null values cannot be formatted as an SQL identifier")));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("storage must not be null")));
	PreventCommandIfReadOnly("pgmq.convert_queue");
	PreventCommandDuringRecovery("pgmq.convert_queue");
	to_hot = wants_hot(PG_GETARG_TEXT_PP(1));
	relid = lock_queue_table(PG_GETARG_TEXT_PP(0));

	guc_level = use_safe_search_path();
	convert(relid, to_hot, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	AtEOXact_GUC(true, guc_level);
	PG_RETURN_VOID();
}
