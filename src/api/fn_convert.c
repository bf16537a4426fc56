/*
 * fn_convert.c
 *	  pgmq.convert_queue: from heap to hot storage and back.
 *
 * The table keeps its identity: OID, sequence, privileges, policies, triggers,
 * publications and comments stay where they are.  The switch itself is made
 * under ACCESS EXCLUSIVE, so that no message is lost or doubled, nor seen by a
 * reader that believes in the other storage; what takes long goes on before it,
 * beside the queue's users, where it can (convert_online.c).
 */
#include "common/compat.h"

#include "access/table.h"
#include "api/convert.h"
#include "catalog/pg_class.h"
#include "catalog/namespace.h"
#include "commands/tablecmds.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/guc.h"

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

/* The table is locked. */
static void
convert(Oid relid, bool to_hot, const char *queue_name)
{
	Relation	rel = table_open(relid, NoLock);
	bool		is_hot = pgmq_am_is_ours(rel);
	bool		is_old_order = pgmq_has_old_columns(RelationGetDescr(rel));
	bool		is_changed = true;

	refuse_other_kinds(rel);
	CheckTableNotInUse(rel, "convert");
	if (to_hot && !is_hot && !is_old_order && !pgmq_has_queue_columns(RelationGetDescr(rel)))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("table \"%s\" does not have the columns of a queue",
						RelationGetRelationName(rel)),
				 errdetail("The first columns must be msg_id, read_ct, enqueued_at, last_read_at, vt, message, headers.")));
	table_close(rel, NoLock);
	if (to_hot)
	{
		if (is_hot)
			is_changed = pgmq_drop_spare_indexes(relid);
		else
			pgmq_make_hot(relid, is_old_order);
	}
	else
	{
		if (is_hot)
			pgmq_rewrite_as_heap(relid);
		is_changed = pgmq_add_heap_indexes(relid) || is_hot;
	}
	if (!is_changed)
		ereport(NOTICE,
				(errmsg("queue \"%s\" is a %s queue already", queue_name,
						to_hot ? "hot" : "heap")));
}

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

/* 42P01, 42501; locks nothing */
static Oid
find_own_table(const char *table)
{
	return RangeVarGetRelidExtended(makeRangeVar("pgmq", pstrdup(table), -1), NoLock, 0,
									RangeVarCallbackOwnsRelation, NULL);
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
	char	   *table;
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
	table = pgmq_table_name(PG_GETARG_TEXT_PP(0), 'q');
	truncate_identifier(table, strlen(table), true);
	relid = find_own_table(table);

	if (!to_hot && pgmq_convert_online(table, relid))
		PG_RETURN_VOID();
	relid = pgmq_lock_to_convert("pgmq", table);

	guc_level = pgmq_use_safe_search_path();
	convert(relid, to_hot, text_to_cstring(PG_GETARG_TEXT_PP(0)));
	AtEOXact_GUC(true, guc_level);
	PG_RETURN_VOID();
}
