/*
 * convert_storage.c
 *	  A queue's table is stored by one access method or by the other.
 *
 * Hot tables are heap pages, and a row that stores a real NULL for
 * last_read_at is leased by an ordinary UPDATE the first time (queue_row.h).
 * So heap to hot does not touch a row: the indexes go, and pg_class names the
 * other access method, in milliseconds, whatever the backlog.
 *
 * Hot to heap has to replace the rows that store -infinity where SQL is to see
 * NULL.  Here that is a rewrite under ACCESS EXCLUSIVE; convert_online.c has
 * done it before, and only declares the table a heap table.
 */
#include "common/compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "api/convert.h"
#include "catalog/indexing.h"
#include "catalog/objectaccess.h"
#include "catalog/pg_am.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "common/failpoint.h"
#include "storage/lmgr.h"
#include "utils/syscache.h"

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

void
pgmq_make_hot(Oid relid, bool is_old_order)
{
	Oid			am = get_table_am_oid("pgmq", false);

	pgmq_drop_heap_indexes(relid);
	if (is_old_order)
		pgmq_reorder_columns(relid);
	switch_access_method(relid, am);
	begin_ring(relid);
	explain_slow_tables(relid);
}

/*
 * Call a hot table a heap table, its file being one: no row stores -infinity
 * for NULL.  Caller holds ACCESS EXCLUSIVE.
 */
void
pgmq_declare_heap(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	XactQueue  *queue = pgmq_xact_queue(rel);

	/* The stored rows must say all that the ring knows better. */
	pgmq_am_flush_leases(rel);
	if (pgmq_xact_queue_is_usable(queue))
		pgmq_am_settle_all(rel, queue);
	pgmq_xact_note_drop(&REL_LOCATOR(rel), relid);
	table_close(rel, NoLock);
	switch_access_method(relid, HEAP_TABLE_AM_OID);
}

/* Rewrite a hot table as a heap table. */
void
pgmq_rewrite_as_heap(Oid relid)
{
#if PGMQ_HAS_SET_ACCESS_METHOD
	pgmq_sql_ddl("ALTER TABLE %s SET ACCESS METHOD heap", pgmq_qualified_table(relid));
#else
	pgmq_declare_heap(relid);
	pgmq_sql_ddl("ALTER TABLE %s ALTER COLUMN last_read_at TYPE timestamptz "
				 "USING nullif(last_read_at, '-infinity')", pgmq_qualified_table(relid));
#endif
}
