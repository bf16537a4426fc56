/*
 * am_facts.c
 *	  What a relation allows: may the fast path serve it?
 *
 * The fast path is an optimization; any feature of the table that it does not
 * honour sends the call down the SQL path.  The answers are computed once per
 * relation and kept until the relcache reports a change, which also happens
 * for its triggers, rules, indexes, constraints, defaults and publications.
 * What depends on the caller (privileges, row security) is not here.
 */
#include "common/compat.h"

#include "access/xlog.h"
#include "am/am.h"
#include "catalog/pg_am.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/bitmapset.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/memutils.h"

static HTAB *facts_cache = NULL;

typedef struct ColumnShape
{
	const char *name;
	Oid			type;
	bool		is_not_null;
} ColumnShape;

static const ColumnShape queue_columns[] = {
	{"msg_id", INT8OID, true},
	{"read_ct", INT4OID, true},
	{"enqueued_at", TIMESTAMPTZOID, true},
	{"last_read_at", TIMESTAMPTZOID, false},
	{"vt", TIMESTAMPTZOID, true},
	{"message", JSONBOID, false},
	{"headers", JSONBOID, false}
};

static const ColumnShape archive_columns[] = {
	{"msg_id", INT8OID, true},
	{"read_ct", INT4OID, true},
	{"enqueued_at", TIMESTAMPTZOID, true},
	{"last_read_at", TIMESTAMPTZOID, false},
	{"archived_at", TIMESTAMPTZOID, true},
	{"vt", TIMESTAMPTZOID, true},
	{"message", JSONBOID, false},
	{"headers", JSONBOID, false}
};

/* Made before 1.10 and upgraded since */
static const ColumnShape old_archive_columns[] = {
	{"msg_id", INT8OID, true},
	{"read_ct", INT4OID, true},
	{"enqueued_at", TIMESTAMPTZOID, true},
	{"archived_at", TIMESTAMPTZOID, true},
	{"vt", TIMESTAMPTZOID, true},
	{"message", JSONBOID, false},
	{"headers", JSONBOID, false},
	{"last_read_at", TIMESTAMPTZOID, false}
};

static bool
has_columns(TupleDesc desc, const ColumnShape *columns, int n)
{
	if (desc->natts != n)
		return false;
	for (int i = 0; i < n; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (attribute->attisdropped || attribute->attgenerated ||
			attribute->atttypid != columns[i].type ||
			(attribute->attnotnull != columns[i].is_not_null) ||
			strcmp(NameStr(attribute->attname), columns[i].name) != 0)
			return false;
	}
	return true;
}

/* Is the default of a column now(), or the constant 0? */
static bool
default_is(Relation rel, AttrNumber attnum, bool is_now)
{
	Node	   *node = build_column_default(rel, attnum);

	if (node == NULL)
		return false;
	if (is_now)
		return IsA(node, FuncExpr) && ((FuncExpr *) node)->funcid == F_NOW;
	return IsA(node, Const) && !((Const *) node)->constisnull &&
		DatumGetInt32(((Const *) node)->constvalue) == 0;
}

static bool
has_default(Relation rel, AttrNumber attnum)
{
	return TupleDescAttr(RelationGetDescr(rel), attnum - 1)->atthasdef;
}

/* Any trigger that fires for this event, our own notification aside? */
static bool
has_trigger(Relation rel, int16 event)
{
	TriggerDesc *triggers = rel->trigdesc;

	if (triggers == NULL)
		return false;
	for (int i = 0; i < triggers->numtriggers; i++)
		if ((triggers->triggers[i].tgtype & event) != 0 &&
			triggers->triggers[i].tgenabled != TRIGGER_DISABLED)
			return true;
	return false;
}

/* A table like any other: no rules, checks, inheritance, partitions, temp. */
static bool
is_plain(Relation rel)
{
	TupleConstr *constraints = RelationGetDescr(rel)->constr;

	return rel->rd_rel->relkind == RELKIND_RELATION &&
		!rel->rd_rel->relispartition && !rel->rd_rel->relhassubclass &&
		!rel->rd_rel->relhasrules && !RelationUsesLocalBuffers(rel) &&
		(constraints == NULL || constraints->num_check == 0);
}

static bool
indexes_a_lease_column(Relation rel)
{
	static const AttrNumber lease_columns[] = {
		ATTNUM_READ_CT, ATTNUM_LAST_READ_AT, ATTNUM_VT
	};
	Bitmapset  *columns = pgmq_indexed_columns(rel);

	for (int i = 0; i < lengthof(lease_columns); i++)
		if (bms_is_member(lease_columns[i] - FirstLowInvalidHeapAttributeNumber, columns))
			return true;
	return bms_is_member(0 - FirstLowInvalidHeapAttributeNumber, columns);
}

static void
compute_queue(Relation rel, RelationFacts *facts)
{
	bool		plain = facts->is_queue && facts->is_hot && is_plain(rel);

	facts->sequence = facts->is_queue ?
		pgmq_identity_sequence(rel, ATTNUM_MSG_ID) : InvalidOid;
	facts->can_send = plain && OidIsValid(facts->sequence) &&
		!has_trigger(rel, TRIGGER_TYPE_INSERT) &&
		default_is(rel, ATTNUM_READ_CT, false) &&
		default_is(rel, ATTNUM_ENQUEUED_AT, true) &&
		!has_default(rel, ATTNUM_LAST_READ_AT);
	facts->can_read = plain && !facts->is_published &&
		!has_trigger(rel, TRIGGER_TYPE_UPDATE) && !indexes_a_lease_column(rel);
	facts->can_ack = plain && !has_trigger(rel, TRIGGER_TYPE_DELETE);
}

static void
compute(Relation rel, RelationFacts *facts)
{
	TupleDesc	desc = RelationGetDescr(rel);
	List	   *indexes;

	memset(&facts->is_valid, 0, sizeof(RelationFacts) - offsetof(RelationFacts, is_valid));
	facts->is_hot = pgmq_am_is_ours(rel);
	facts->is_queue = has_columns(desc, queue_columns, lengthof(queue_columns));
	facts->is_old_archive = has_columns(desc, old_archive_columns, lengthof(old_archive_columns));
	facts->is_archive = facts->is_old_archive ||
		has_columns(desc, archive_columns, lengthof(archive_columns));
	if (rel->rd_rel->relkind == RELKIND_RELATION)
	{
		indexes = RelationGetIndexList(rel);
		facts->has_indexes = indexes != NIL;
		list_free(indexes);
		facts->is_published = XLogLogicalInfoActive() && pgmq_publishes_changes(rel);
	}
	compute_queue(rel, facts);
	facts->can_archive = facts->is_archive && is_plain(rel) &&
		rel->rd_rel->relam == HEAP_TABLE_AM_OID &&
		!has_trigger(rel, TRIGGER_TYPE_INSERT) &&
		default_is(rel, facts->is_old_archive ? 4 : 5, true);
	facts->is_valid = true;
}

/* The facts of an open relation; valid until the next relcache change. */
RelationFacts *
pgmq_am_facts(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	RelationFacts *facts;
	bool		found;

	facts = hash_search(facts_cache, &relid, HASH_ENTER, &found);
	if (!found)
		facts->is_valid = false;
	while (!facts->is_valid)
		compute(rel, facts);
	return facts;
}

static void
relcache_callback(Datum arg, Oid relid)
{
	HASH_SEQ_STATUS status;
	RelationFacts *facts;

	if (OidIsValid(relid))
	{
		facts = hash_search(facts_cache, &relid, HASH_FIND, NULL);
		if (facts != NULL)
			facts->is_valid = false;
		return;
	}
	hash_seq_init(&status, facts_cache);
	while ((facts = hash_seq_search(&status)) != NULL)
		facts->is_valid = false;
}

void
pgmq_am_facts_init(void)
{
	HASHCTL		ctl;

	ctl.keysize = sizeof(Oid);
	ctl.entrysize = sizeof(RelationFacts);
	ctl.hcxt = TopMemoryContext;
	facts_cache = hash_create("pgmq relation facts", 64, &ctl,
							  HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
}
