/*
 * queue_open.c
 *	  Opening a queue's table with the rights its caller has.
 *
 * Privileges are those that the SQL design's statements would need, checked
 * per call by the server's own executor checks, with column sets, so that
 * column grants and permission hooks work.  The schema's USAGE is checked by
 * the name lookup.
 */
#include "common/compat.h"

#include "access/relation.h"
#include "access/table.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "api/api.h"
#include "catalog/namespace.h"
#include "common/settings.h"
#include "nodes/bitmapset.h"
#include "nodes/makefuncs.h"
#include "parser/scansup.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

static const char *const all_columns[] = {
	"msg_id", "read_ct", "enqueued_at", "last_read_at", "vt", "message", "headers", NULL
};
static const char *const id_column[] = {"msg_id", NULL};
static const char *const sent_columns[] = {"vt", "message", "headers", NULL};
static const char *const leased_columns[] = {"vt", "read_ct", "last_read_at", NULL};
static const char *const extended_columns[] = {"vt", NULL};
static const char *const counted_columns[] = {"vt", "enqueued_at", NULL};

const NeededRights pgmq_rights_send = {
	ACL_INSERT | ACL_SELECT, id_column, sent_columns, NULL
};
const NeededRights pgmq_rights_read = {
	ACL_SELECT | ACL_UPDATE, all_columns, NULL, leased_columns
};
const NeededRights pgmq_rights_pop = {
	ACL_SELECT | ACL_DELETE, all_columns, NULL, NULL
};
const NeededRights pgmq_rights_delete = {
	ACL_SELECT | ACL_DELETE, id_column, NULL, NULL
};
const NeededRights pgmq_rights_take_all = {
	ACL_SELECT | ACL_DELETE, all_columns, NULL, NULL
};
const NeededRights pgmq_rights_archive = {
	ACL_SELECT | ACL_INSERT, id_column, all_columns, NULL
};
const NeededRights pgmq_rights_extend = {
	ACL_SELECT | ACL_UPDATE, all_columns, NULL, extended_columns
};
const NeededRights pgmq_rights_metrics = {
	ACL_SELECT, counted_columns, NULL, NULL
};

static Bitmapset *
column_set(Relation rel, const char *const *names)
{
	Bitmapset  *set = NULL;
	TupleDesc	desc = RelationGetDescr(rel);

	for (; names != NULL && *names != NULL; names++)
		for (int i = 0; i < desc->natts; i++)
			if (!TupleDescAttr(desc, i)->attisdropped &&
				strcmp(NameStr(TupleDescAttr(desc, i)->attname), *names) == 0)
				set = bms_add_member(set, i + 1 - FirstLowInvalidHeapAttributeNumber);
	return set;
}

/*
 * Raise 42501 unless the current user has these rights on a table, as a
 * statement with these columns would.
 */
void
pgmq_check_rights(Relation rel, LOCKMODE lockmode, const NeededRights *rights)
{
	RangeTblEntry *rte;
#if PGMQ_HAS_PERMINFO
	List	   *infos = NIL;
	RTEPermissionInfo *info;
#else
	RangeTblEntry *info;
#endif

	/* Who has them on the whole table needs no look at columns. */
	if (ExecutorCheckPerms_hook == NULL &&
		pg_class_aclmask(RelationGetRelid(rel), GetUserId(), rights->required,
						 ACLMASK_ALL) == rights->required)
		return;
	rte = makeNode(RangeTblEntry);
#if !PGMQ_HAS_PERMINFO
	info = rte;
#endif
	rte->rtekind = RTE_RELATION;
	rte->relid = RelationGetRelid(rel);
	rte->relkind = rel->rd_rel->relkind;
	rte->rellockmode = lockmode;
#if PGMQ_HAS_PERMINFO
	info = addRTEPermissionInfo(&infos, rte);
#endif
	info->requiredPerms = rights->required;
	info->selectedCols = column_set(rel, rights->selected);
	info->insertedCols = column_set(rel, rights->inserted);
	info->updatedCols = column_set(rel, rights->updated);
#if PGMQ_HAS_PERMINFO
	(void) ExecCheckPermissions(list_make1(rte), infos, true);
#else
	(void) ExecCheckRTPerms(list_make1(rte), true);
#endif
}

/* A hot queue without shared memory works, but not as it was meant to. */
static void
explain_slowness(Relation rel)
{
	static bool has_explained = false;

	if (has_explained || pgmq_xact_has_rings())
		return;
	has_explained = true;
	ereport(LOG,
			(errmsg("hot queue table \"%s\" is served by plain SQL because pgmq is not preloaded",
					RelationGetRelationName(rel)),
			 errhint("Add \"pgmq\" to shared_preload_libraries and restart the server.")));
}

/*
 * The table of this name in schema pgmq, InvalidOid if there is none.  A name
 * too long for a table names none: it is not cut, lest it finds another's.
 */
Oid
pgmq_table_oid(const char *table)
{
	Oid			schema = get_namespace_oid("pgmq", true);

	return OidIsValid(schema) ? get_relname_relid(table, schema) : InvalidOid;
}

/* Is the table of this name in schema pgmq stored by our access method? */
bool
pgmq_table_is_hot(const char *table)
{
	char	   *name = pstrdup(table);
	Relation	rel;
	bool		is_hot;

	truncate_identifier(name, strlen(name), false);
	rel = relation_openrv(makeRangeVar("pgmq", name, -1), AccessShareLock);
	is_hot = pgmq_am_is_ours(rel);
	relation_close(rel, NoLock);
	return is_hot;
}

/*
 * Open the table of a queue, locked, after checking the caller's rights; NULL
 * is a name that SQL did not know.  Errors: 22004 for NULL, P0001 for bad characters,
 * 42P01 where there is no such table, 42501.  is_fast says whether the caller
 * and the transaction allow the fast path; the table's own facts come on top.
 */
void
pgmq_open_queue_named(text *queue_name, char prefix, LOCKMODE lockmode,
					  const NeededRights *rights, QueueTable *queue)
{
	RangeVar   *name;
	char	   *table;

	if (queue_name == NULL)
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("null values cannot be formatted as an SQL identifier")));
	table = pgmq_table_name(queue_name, prefix);
	truncate_identifier(table, strlen(table), true);
	name = makeRangeVar("pgmq", table, -1);
	queue->rel = table_open(RangeVarGetRelid(name, lockmode, false), NoLock);
	pgmq_check_rights(queue->rel, lockmode, rights);
	if (XLogLogicalInfoActive())
		AcceptInvalidationMessages();	/* publishing locks nobody out */
	queue->facts = pgmq_am_facts(queue->rel);
	if (queue->facts->is_hot)
		explain_slowness(queue->rel);
	queue->is_fast = pgmq_fast_path && !IsolationIsSerializable() &&
		(!queue->rel->rd_rel->relrowsecurity ||
		 check_enable_rls(RelationGetRelid(queue->rel), InvalidOid, false) != RLS_ENABLED);
}

/* The same for the queue that an argument names. */
void
pgmq_open_queue(FunctionCallInfo fcinfo, int argument, char prefix,
				LOCKMODE lockmode, const NeededRights *rights, QueueTable *queue)
{
	pgmq_open_queue_named(PG_ARGISNULL(argument) ? NULL : PG_GETARG_TEXT_PP(argument),
						  prefix, lockmode, rights, queue);
}

/*
 * A delete that subscribers could not follow is refused, as the executor does;
 * the fast path has none.
 */
void
pgmq_check_can_delete(const QueueTable *queue)
{
	if (queue->facts->must_decode_leases)
		CheckCmdReplicaIdentity(queue->rel, CMD_DELETE);
}

/* Close; the lock stays until the transaction ends. */
void
pgmq_close_queue(QueueTable *queue)
{
	table_close(queue->rel, NoLock);
}
