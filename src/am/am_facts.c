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

#include "access/table.h"
#include "access/xlog.h"
#include "am/am.h"
#include "catalog/pg_am.h"
#include "catalog/pg_language.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_trigger.h"
#include "commands/trigger.h"
#include "nodes/bitmapset.h"
#include "rewrite/rewriteHandler.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/hsearch.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

static HTAB *facts_cache = NULL;
static RelationFacts *last_facts = NULL;	/* asked for last; entries stay where they are */

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

/* ---- triggers ---- */

/* The notification trigger's function, as fmgr knows it. */
static PGFunction notify_function = NULL;

void
pgmq_am_set_notify_function(PGFunction function)
{
	notify_function = function;
}

/*
 * Would calling this function run ours, and nothing else?  Asked by address:
 * settings or a definer that the function was given put a handler in between.
 */
static bool
is_notify_function(Oid function)
{
	HeapTuple	tuple = SearchSysCache1(PROCOID, ObjectIdGetDatum(function));
	bool		is_c;
	FmgrInfo	info;

	if (!HeapTupleIsValid(tuple))
		return false;
	is_c = ((Form_pg_proc) GETSTRUCT(tuple))->prolang == ClanguageId &&
		strcmp(NameStr(((Form_pg_proc) GETSTRUCT(tuple))->proname), "notify_queue_listeners") == 0;
	ReleaseSysCache(tuple);
	if (!is_c)
		return false;
	fmgr_info(function, &info);
	return info.fn_addr == notify_function;
}

/*
 * The name of the queue that a notification trigger is for: its argument, or
 * for want of one what follows q_ in the table's name.
 */
static const char *
notify_name(Relation rel, const Trigger *trigger)
{
	const char *name = RelationGetRelationName(rel);

	if (trigger->tgnargs > 0)
		return trigger->tgargs[0];
	return strncmp(name, "q_", 2) == 0 ? name + 2 : name;
}

/*
 * Is it a trigger that does for each inserted row what the fast path can do
 * natively?  Its name does not matter.
 */
static bool
is_notification(Relation rel, const Trigger *trigger)
{
	return TRIGGER_FOR_AFTER(trigger->tgtype) && TRIGGER_FOR_ROW(trigger->tgtype) &&
		trigger->tgqual == NULL && trigger->tgnewtable == NULL &&
		strlen(notify_name(rel, trigger)) < NAMEDATALEN &&
		is_notify_function(trigger->tgfoid);
}

static bool
is_active(const Trigger *trigger, int16 event)
{
	return (trigger->tgtype & event) != 0 && trigger->tgenabled != TRIGGER_DISABLED;
}

/* Any of these triggers that fires for this event, a notification of inserts aside? */
static bool
fires_for(Relation rel, const TriggerDesc *triggers, int16 event)
{
	int			n_notifications = 0;

	for (int i = 0; i < triggers->numtriggers; i++)
	{
		Trigger    *trigger = &triggers->triggers[i];

		if (!is_active(trigger, event))
			continue;
		if (event != TRIGGER_TYPE_INSERT || n_notifications > 0 ||
			!pgmq_am_is_ours(rel) || !is_notification(rel, trigger))
			return true;
		n_notifications++;
	}
	return false;
}

/*
 * Any trigger of the table?  Catalogs are read for that, and so messages of others; one that
 * tells of this relation has its entry rebuilt, and the triggers with it: they are copied.
 */
static bool
has_trigger(Relation rel, int16 event)
{
	TriggerDesc *triggers = CopyTriggerDesc(rel->trigdesc);
	bool		result;

	if (triggers == NULL)
		return false;
	result = fires_for(rel, triggers, event);
	FreeTriggerDesc(triggers);
	return result;
}

/* Remember the table's notification trigger, has_trigger() having found no other. */
static void
note_notification(Relation rel, RelationFacts *facts)
{
	for (int i = 0; rel->trigdesc != NULL && i < rel->trigdesc->numtriggers; i++)
	{
		Trigger    *trigger = &rel->trigdesc->triggers[i];

		if (!is_active(trigger, TRIGGER_TYPE_INSERT))
			continue;
		facts->notify_enabled = trigger->tgenabled;
		strlcpy(facts->notify_name, notify_name(rel, trigger), NAMEDATALEN);
	}
}

/* Does a send that takes the fast path notify, in this session's replication role? */
bool
pgmq_am_notifies(const RelationFacts *facts)
{
	switch (facts->notify_enabled)
	{
		case TRIGGER_FIRES_ALWAYS:
			return true;
		case TRIGGER_FIRES_ON_ORIGIN:
			return SessionReplicationRole != SESSION_REPLICATION_ROLE_REPLICA;
		case TRIGGER_FIRES_ON_REPLICA:
			return SessionReplicationRole == SESSION_REPLICATION_ROLE_REPLICA;
		default:
			return false;
	}
}

/* ---- everything else ---- */

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
has_indexes(Relation rel)
{
	List	   *indexes = rel->rd_rel->relhasindex ? RelationGetIndexList(rel) : NIL;
	bool		result = indexes != NIL;

	list_free(indexes);
	return result;
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

/*
 * The sequence of an identity column goes with its being one, so one found before is still
 * the one as long as it is there; finding it takes two searches of pg_depend.
 */
static Oid
msg_id_sequence(Relation rel, Oid last)
{
	if (TupleDescAttr(RelationGetDescr(rel), ATTNUM_MSG_ID - 1)->attidentity == '\0')
		return InvalidOid;
	if (OidIsValid(last) && get_rel_relkind(last) == RELKIND_SEQUENCE)
		return last;
	return pgmq_identity_sequence(rel, ATTNUM_MSG_ID);
}

static void
compute_queue(Relation rel, RelationFacts *facts)
{
	bool		plain = facts->is_queue && facts->is_hot && is_plain(rel);

	facts->sequence = facts->is_queue ? msg_id_sequence(rel, facts->last_sequence) : InvalidOid;
	if (OidIsValid(facts->sequence))
		facts->last_sequence = facts->sequence;
	facts->can_send = plain && OidIsValid(facts->sequence) &&
		!has_trigger(rel, TRIGGER_TYPE_INSERT) &&
		default_is(rel, ATTNUM_READ_CT, false) &&
		default_is(rel, ATTNUM_ENQUEUED_AT, true) &&
		!has_default(rel, ATTNUM_LAST_READ_AT);
	if (facts->can_send)
		note_notification(rel, facts);
	facts->can_read = plain && !facts->must_decode_leases &&
		!has_trigger(rel, TRIGGER_TYPE_UPDATE) && !facts->indexes_leases;
	facts->can_ack = plain && !has_trigger(rel, TRIGGER_TYPE_DELETE);
}

/*
 * How rows are stored and leased.  A table that ALTER TABLE fills with the rows
 * of another is what that one is.  wal_level may be raised later: what rows
 * store must be right by then, how they are leased is for now.
 */
static void
compute_storage(Relation rel, RelationFacts *facts)
{
	Relation	original = rel;
	PublicationActions actions;

	if (OidIsValid(rel->rd_rel->relrewrite))
		original = table_open(rel->rd_rel->relrewrite, NoLock);
	actions = pgmq_am_published_actions(original);
	facts->publishes_changes = actions.pubupdate || actions.pubdelete;
	facts->is_published = facts->publishes_changes || actions.pubinsert;
	facts->must_decode_leases = facts->publishes_changes && XLogLogicalInfoActive();
	facts->indexes_leases = facts->is_hot && indexes_a_lease_column(original);
	if (original != rel)
		table_close(original, NoLock);
}

static void
compute(Relation rel, RelationFacts *facts)
{
	TupleDesc	desc = RelationGetDescr(rel);

	memset(&facts->is_valid, 0, sizeof(RelationFacts) - offsetof(RelationFacts, is_valid));
	facts->is_hot = pgmq_am_is_ours(rel);
	facts->is_queue = has_columns(desc, queue_columns, lengthof(queue_columns));
	facts->is_old_archive = has_columns(desc, old_archive_columns, lengthof(old_archive_columns));
	facts->is_archive = facts->is_old_archive ||
		has_columns(desc, archive_columns, lengthof(archive_columns));
	if (rel->rd_rel->relkind == RELKIND_RELATION)
	{
		facts->has_indexes = has_indexes(rel);
		compute_storage(rel, facts);
	}
	compute_queue(rel, facts);
	facts->can_archive = facts->is_archive && is_plain(rel) &&
		rel->rd_rel->relam == HEAP_TABLE_AM_OID &&
		!has_trigger(rel, TRIGGER_TYPE_INSERT) &&
		default_is(rel, facts->is_old_archive ? 4 : 5, true);
}

/*
 * The facts of an open relation; valid until the next relcache change.  One that is heard
 * of while they are computed may concern what was looked at before it, so the next caller
 * has them computed again.
 */
RelationFacts *
pgmq_am_facts(Relation rel)
{
	Oid			relid = RelationGetRelid(rel);
	RelationFacts *facts;
	bool		found;

	if (last_facts != NULL && last_facts->relid == relid && last_facts->is_valid)
		return last_facts;
	facts = hash_search(facts_cache, &relid, HASH_ENTER, &found);
	last_facts = facts;
	if (!found)
	{
		facts->is_valid = false;
		facts->n_changes = 0;
		facts->last_sequence = InvalidOid;
	}
	if (!facts->is_valid)
	{
		uint64		n_changes = facts->n_changes;

		compute(rel, facts);
		facts->is_valid = facts->n_changes == n_changes;
	}
	return facts;
}

static void
note_change(RelationFacts *facts)
{
	facts->is_valid = false;
	facts->n_changes++;
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
			note_change(facts);
		return;
	}
	hash_seq_init(&status, facts_cache);
	while ((facts = hash_seq_search(&status)) != NULL)
		note_change(facts);
}

/* A function changed: perhaps what the notification trigger calls. */
static void
function_callback(Datum arg, int cache, uint32 hash)
{
	relcache_callback(arg, InvalidOid);
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
	CacheRegisterSyscacheCallback(PROCOID, function_callback, (Datum) 0);
}
