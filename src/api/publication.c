/*
 * publication.c
 *	  What a hot table needs before it is published or subscribed to.
 *
 * Tables of the SQL-only pgmq have a primary key and store what SQL shows, so
 * they can be published as they are.  A hot table may lack
 *
 *	- the key.  Reads and deletes of a published table without one are errors,
 *	  and a subscriber without one cannot apply them;
 *	- real NULLs in rows from before: their last_read_at is -infinity.  Where
 *	  the table's replica identity is FULL, subscribers are sent that of an old
 *	  row, and find no such row to update or delete.
 *
 * So a statement that publishes or subscribes adds them, in its transaction,
 * to all hot tables that need them, whichever statement it is and whatever
 * wal_level says: that may be raised later.  Adding waits for transactions that
 * work on the table, and keeps others out until the statement's transaction
 * ends.
 */
#include "common/compat.h"

#include "access/table.h"
#include "access/tableam.h"
#include "access/xact.h"
#include "api/convert.h"
#include "catalog/pg_class.h"
#include "commands/defrem.h"
#include "storage/bufmgr.h"
#include "tcop/utility.h"
#include "utils/builtins.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/snapmgr.h"

static ProcessUtility_hook_type prev_process_utility = NULL;

/* ---- what a table lacks ---- */

static bool
is_hot_queue(Relation rel)
{
	TupleDesc	desc = RelationGetDescr(rel);

	return rel->rd_rel->relkind == RELKIND_RELATION && !rel->rd_rel->relispartition &&
		pgmq_am_is_ours(rel) && descr_is_queue(desc) &&
		strcmp(NameStr(TupleDescAttr(desc, ATTNUM_MSG_ID - 1)->attname), "msg_id") == 0;
}

static bool
exists_about(const char *sql, Oid relid)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(relid)};

	return pgmq_sql_one(sql, 1, types, values, NULL, false, NULL, NULL);
}

static bool
is_subscribed(Oid relid)
{
	return exists_about("SELECT FROM pg_catalog.pg_subscription_rel "
						"WHERE srrelid OPERATOR(pg_catalog.=) $1", relid);
}

/* Do the table's changes go to, or come from, another server? */
bool
pgmq_is_replicated(Relation rel)
{
	return pgmq_am_facts(rel)->publishes_changes || is_subscribed(RelationGetRelid(rel));
}

/* By REPLICA IDENTITY DEFAULT, and without a primary key */
static bool
lacks_key(Relation rel)
{
	return is_hot_queue(rel) && rel->rd_rel->relreplident == REPLICA_IDENTITY_DEFAULT &&
		!OidIsValid(RelationGetReplicaIndex(rel)) &&
		!exists_about("SELECT FROM pg_catalog.pg_constraint WHERE conrelid OPERATOR(pg_catalog.=) $1 "
					  "AND contype OPERATOR(pg_catalog.=) 'p'", RelationGetRelid(rel)) &&
		pgmq_is_replicated(rel);
}

static bool
may_lack_nulls(Relation rel)
{
	return is_hot_queue(rel) && rel->rd_rel->relreplident == REPLICA_IDENTITY_FULL &&
		pgmq_am_facts(rel)->publishes_changes;
}

/* ---- adding it ---- */

static void
add_key(Oid relid)
{
	char	   *schema = get_namespace_name(get_rel_namespace(relid));

	if (schema == NULL)
		return;					/* dropped meanwhile */
	if (pgmq_lock_to_convert(schema, get_rel_name(relid)) != relid)
		return;					/* and made again, by who sees the publication */
	pgmq_add_key(relid);
	ereport(NOTICE,
			(errmsg("primary key added to queue table \"%s\"", get_rel_name(relid)),
			 errdetail("Rows that are published or subscribed to need a replica identity.")));
}

/*
 * Replace rows that say -infinity for NULL.  The lock keeps everybody from
 * writing or leasing until they know of the publication, so one pass finds all.
 */
static void
add_nulls(Oid relid)
{
	Relation	rel = try_table_open(relid, ShareRowExclusiveLock);
	List	   *locked = NIL;
	ListCell   *cell;

	if (rel == NULL)
		return;
	if (may_lack_nulls(rel))
	{
		pgmq_am_flush_leases(rel);
		pgmq_am_take_back_leases(rel);
		PushActiveSnapshot(GetLatestSnapshot());
		pgmq_am_store_nulls(rel, 0, RelationGetNumberOfBlocks(rel), &locked);
		foreach(cell, locked)
			pgmq_am_store_null(rel, lfirst(cell));
		PopActiveSnapshot();
	}
	table_close(rel, NoLock);
}

/*
 * Have a table what it needs.  As its owner: whoever may change a publication
 * need not own the tables in it.
 */
void
pgmq_make_replicable(Oid relid)
{
	Relation	rel = try_table_open(relid, AccessShareLock);
	bool		needs_key;
	bool		needs_nulls;
	Oid			owner;
	Oid			user;
	int			context;
	int			guc_level;

	if (rel == NULL)
		return;
	needs_key = lacks_key(rel);
	needs_nulls = may_lack_nulls(rel);
	owner = rel->rd_rel->relowner;
	table_close(rel, AccessShareLock);
	if (!needs_key && !needs_nulls)
		return;
	GetUserIdAndSecContext(&user, &context);
	SetUserIdAndSecContext(owner, context | SECURITY_RESTRICTED_OPERATION);
	guc_level = pgmq_use_safe_search_path();
	if (needs_key)
		add_key(relid);
	if (needs_nulls)
		add_nulls(relid);
	AtEOXact_GUC(true, guc_level);
	SetUserIdAndSecContext(user, context);
}

/* In the order of their OIDs, which is that of locks. */
static void
make_all_replicable(void)
{
	Oid			types[1] = {OIDOID};
	Datum		values[1] = {ObjectIdGetDatum(get_table_am_oid("pgmq", true))};
	Datum		found;
	bool		isnull;
	ArrayType  *array;

	if (!OidIsValid(DatumGetObjectId(values[0])))
		return;
	CommandCounterIncrement();
	(void) pgmq_sql_one("SELECT pg_catalog.array_agg(oid ORDER BY oid) FROM pg_catalog.pg_class "
						"WHERE relam OPERATOR(pg_catalog.=) $1 AND relpersistence OPERATOR(pg_catalog.=) 'p'",
						1, types, values, NULL, false, &found, &isnull);
	if (isnull)
		return;
	array = DatumGetArrayTypeP(found);
	for (int i = 0; i < ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array)); i++)
		pgmq_make_replicable(((Oid *) ARR_DATA_PTR(array))[i]);
}

/* ---- when ---- */

/* ALTER TABLE may change the replica identity, or make a table one to be published */
static bool
changes_identity(AlterTableStmt *statement)
{
	ListCell   *cell;

	foreach(cell, statement->cmds)
	{
		AlterTableCmd *command = lfirst(cell);

		if (IsA(command, AlterTableCmd) &&
			(command->subtype == AT_ReplicaIdentity || command->subtype == AT_SetLogged))
			return true;
	}
	return false;
}

static bool
may_replicate(Node *statement)
{
	switch (nodeTag(statement))
	{
		case T_CreatePublicationStmt:
		case T_AlterPublicationStmt:
		case T_CreateSubscriptionStmt:
		case T_AlterSubscriptionStmt:
		case T_AlterObjectSchemaStmt:
			return true;
		case T_AlterTableStmt:
			return changes_identity((AlterTableStmt *) statement);
		default:
			return false;
	}
}

static void
process_utility(PlannedStmt *pstmt, const char *query, bool read_only_tree,
				ProcessUtilityContext context, ParamListInfo params,
				QueryEnvironment *environment, DestReceiver *dest, QueryCompletion *qc)
{
	ProcessUtility_hook_type next = prev_process_utility ?
		prev_process_utility : standard_ProcessUtility;

	next(pstmt, query, read_only_tree, context, params, environment, dest, qc);
	if (!IsBinaryUpgrade && IsTransactionState() && may_replicate(pstmt->utilityStmt))
		make_all_replicable();
}

void
pgmq_publication_init(void)
{
	prev_process_utility = ProcessUtility_hook;
	ProcessUtility_hook = process_utility;
}
