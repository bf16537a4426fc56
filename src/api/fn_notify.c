/*
 * fn_notify.c
 *	  Notifications of sent messages: switched on and off per queue, throttled,
 *	  and raised by a trigger, or by what the fast path does in its place.
 *
 * Senders pass pgmq_notify_sent(), which checks their rights on the throttle
 * table and leaves the rest to the end of the transaction (xact_notify.c).
 * Where that would by-pass something, an UPDATE does it at once, as the
 * trigger of the SQL design would: under row security or with triggers, rules
 * or constraints on the throttle table, and in serializable transactions.
 * Such senders wait for each other's transactions.
 */
#include "common/compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "api/api.h"
#include "catalog/namespace.h"
#include "commands/trigger.h"
#include "parser/scansup.h"
#include "utils/builtins.h"
#include "utils/inval.h"
#include "utils/lsyscache.h"
#include "utils/rls.h"

#define TRIGGER_NAME "trigger_notify_queue_insert_listeners"

static const char *const throttle_columns[] = {
	"queue_name", "throttle_interval_ms", "last_notified_at", NULL
};
static const char *const stamp_column[] = {"last_notified_at", NULL};

static const NeededRights rights_notify = {
	ACL_SELECT | ACL_UPDATE, throttle_columns, NULL, stamp_column
};

/* ---- senders ---- */

/* The throttle table, until the relcache reports a change of it. */
static Oid	throttle_relid = InvalidOid;

static void
relcache_callback(Datum arg, Oid relid)
{
	if (!OidIsValid(relid) || relid == throttle_relid)
		throttle_relid = InvalidOid;
}

/* The throttle table, locked as an UPDATE locks it. */
static Relation
open_throttle(void)
{
	Oid			relid = throttle_relid;
	Relation	rel;

	if (!OidIsValid(relid))
		relid = get_relname_relid("notify_insert_throttle", get_namespace_oid("pgmq", false));
	if (!OidIsValid(relid))
		ereport(ERROR,
				(errcode(ERRCODE_UNDEFINED_TABLE),
				 errmsg("relation \"pgmq.notify_insert_throttle\" does not exist")));
	rel = table_open(relid, RowExclusiveLock);
	throttle_relid = relid;		/* now that opening it invalidates nothing */
	return rel;
}

static bool
is_subject_to_row_security(Relation rel)
{
	return rel->rd_rel->relrowsecurity &&
		check_enable_rls(RelationGetRelid(rel), InvalidOid, false) == RLS_ENABLED;
}

/* Stamp the row at once if it is time, and notify if that did anything. */
static void
notify_by_update(const char *queue_name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {CStringGetTextDatum(queue_name)};

	if (pgmq_sql_one("UPDATE pgmq.notify_insert_throttle t "
					 "SET last_notified_at = pg_catalog.clock_timestamp() "
					 "WHERE t.queue_name OPERATOR(pg_catalog.=) $1 AND ("
					 "t.throttle_interval_ms OPERATOR(pg_catalog.=) 0 OR "
					 "t.last_notified_at OPERATOR(pg_catalog.<=) (pg_catalog.clock_timestamp() "
					 "OPERATOR(pg_catalog.-) pg_catalog.make_interval("
					 "secs => t.throttle_interval_ms OPERATOR(pg_catalog./) 1000.0))) "
					 "RETURNING true",
					 1, types, values, NULL, false, NULL, NULL))
		pgmq_xact_send_notify(queue_name);
}

/*
 * A message was sent to the queue of this name, by the current user, who has
 * USAGE on the schema.  Errors: 42501 where the user may not read and stamp the throttle table.
 */
void
pgmq_notify_sent(const char *queue_name)
{
	Relation	throttle = open_throttle();

	pgmq_check_rights(throttle, RowExclusiveLock, &rights_notify);
	if (IsolationIsSerializable() || is_subject_to_row_security(throttle) ||
		!pgmq_am_throttle_is_plain(throttle))
		notify_by_update(queue_name);
	else
		pgmq_xact_note_notify(RelationGetRelid(throttle), queue_name);
	table_close(throttle, NoLock);
}

/* What the trigger hands back, for those who make it a BEFORE trigger. */
static HeapTuple
row_of(const TriggerData *trigger)
{
	if (!TRIGGER_FIRED_FOR_ROW(trigger->tg_event))
		return NULL;
	return TRIGGER_FIRED_BY_UPDATE(trigger->tg_event) ?
		trigger->tg_newtuple : trigger->tg_trigtuple;
}

PG_FUNCTION_INFO_V1(pgmq_notify_queue_listeners);
PGDLLEXPORT Datum
pgmq_notify_queue_listeners(PG_FUNCTION_ARGS)
{
	TriggerData *trigger = (TriggerData *) fcinfo->context;
	const char *table;

	if (!CALLED_AS_TRIGGER(fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("trigger functions can only be called as triggers")));
	(void) LookupExplicitNamespace("pgmq", false);	/* 42501 without USAGE */
	table = RelationGetRelationName(trigger->tg_relation);
	if (trigger->tg_trigger->tgnargs > 0)
		pgmq_notify_sent(trigger->tg_trigger->tgargs[0]);
	else
		pgmq_notify_sent(strncmp(table, "q_", 2) == 0 ? table + 2 : table);
	return PointerGetDatum(row_of(trigger));
}

/* Called once, by _PG_init. */
void
pgmq_notify_init(void)
{
	pgmq_am_set_notify_function(pgmq_notify_queue_listeners);
	CacheRegisterRelcacheCallback(relcache_callback, (Datum) 0);
}

/* ---- switching on and off ---- */

static bool
is_table(const char *name)
{
	char	   *table = pstrdup(name);
	Oid			schema = get_namespace_oid("pgmq", true);
	Oid			relid;
	char		kind;

	truncate_identifier(table, strlen(table), false);
	relid = OidIsValid(schema) ? get_relname_relid(table, schema) : InvalidOid;
	kind = OidIsValid(relid) ? get_rel_relkind(relid) : '\0';
	return kind == RELKIND_RELATION || kind == RELKIND_PARTITIONED_TABLE;
}

static void
check_interval(FunctionCallInfo fcinfo, bool tell_value)
{
	int32		interval_ms = PG_ARGISNULL(1) ? 0 : PG_GETARG_INT32(1);

	if (interval_ms >= 0)
		return;
	if (tell_value)
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("throttle_interval_ms must be non-negative, got: %d", interval_ms)));
	ereport(ERROR,
			(errcode(ERRCODE_RAISE_EXCEPTION),
			 errmsg("throttle_interval_ms must be non-negative")));
}

/*
 * Under the lock of the queue's name: two DROP TRIGGER at the same time would
 * deadlock, each holding what the other wants.
 */
static void
disable(text *queue_name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {PointerGetDatum(queue_name)};

	(void) pgmq_sql_one("SELECT pgmq.acquire_queue_lock($1)", 1, types, values, NULL, false,
						NULL, NULL);
	pgmq_sql_ddl("DROP TRIGGER IF EXISTS " TRIGGER_NAME " ON pgmq.%s",
				 quote_identifier(pgmq_table_name(queue_name, 'q')));
	(void) pgmq_sql_one("DELETE FROM pgmq.notify_insert_throttle "
						"WHERE queue_name OPERATOR(pg_catalog.=) $1",
						1, types, values, NULL, false, NULL, NULL);
}

static void
upsert_throttle(FunctionCallInfo fcinfo)
{
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	char		nulls[2] = {' ', PG_ARGISNULL(1) ? 'n' : ' '};

	(void) pgmq_sql_one("INSERT INTO pgmq.notify_insert_throttle AS t "
						"(queue_name, throttle_interval_ms) VALUES ($1, $2) "
						"ON CONFLICT ON CONSTRAINT notify_insert_throttle_queue_name_key "
						"DO UPDATE SET throttle_interval_ms = EXCLUDED.throttle_interval_ms, "
						"last_notified_at = pg_catalog.to_timestamp(0)",
						2, types, values, nulls, false, NULL, NULL);
}

PG_FUNCTION_INFO_V1(pgmq_enable_notify_insert);
PGDLLEXPORT Datum
pgmq_enable_notify_insert(PG_FUNCTION_ARGS)
{
	text	   *queue_name = PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
	char	   *name = queue_name ? text_to_cstring(queue_name) : "<NULL>";
	char	   *table = queue_name ? pgmq_table_name(queue_name, 'q') : NULL;

	check_interval(fcinfo, false);
	if (table == NULL || !is_table(table))
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("Queue \"%s\" does not exist. Create it first using pgmq.create()", name)));
	disable(queue_name);
	upsert_throttle(fcinfo);
	pgmq_sql_ddl("CREATE CONSTRAINT TRIGGER " TRIGGER_NAME " AFTER INSERT ON pgmq.%s "
				 "DEFERRABLE INITIALLY IMMEDIATE FOR EACH ROW "
				 "EXECUTE FUNCTION pgmq.notify_queue_listeners(%s)",
				 quote_identifier(table), quote_literal_cstr(name));
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(pgmq_disable_notify_insert);
PGDLLEXPORT Datum
pgmq_disable_notify_insert(PG_FUNCTION_ARGS)
{
	if (PG_ARGISNULL(0))
		ereport(ERROR,
				(errcode(ERRCODE_NULL_VALUE_NOT_ALLOWED),
				 errmsg("null values cannot be formatted as an SQL identifier")));
	disable(PG_GETARG_TEXT_PP(0));
	PG_RETURN_VOID();
}

/* Is there a row with this queue's name, spelled like this? */
static bool
has_row(const char *query, FunctionCallInfo fcinfo)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {PG_GETARG_DATUM(0)};

	return !PG_ARGISNULL(0) &&
		pgmq_sql_one(query, 1, types, values, NULL, false, NULL, NULL);
}

PG_FUNCTION_INFO_V1(pgmq_update_notify_insert);
PGDLLEXPORT Datum
pgmq_update_notify_insert(PG_FUNCTION_ARGS)
{
	const char *name = PG_ARGISNULL(0) ? "<NULL>" : text_to_cstring(PG_GETARG_TEXT_PP(0));
	Oid			types[2] = {TEXTOID, INT4OID};
	Datum		values[2] = {PG_GETARG_DATUM(0), PG_GETARG_DATUM(1)};
	char		nulls[2] = {' ', PG_ARGISNULL(1) ? 'n' : ' '};

	check_interval(fcinfo, true);
	if (!has_row("SELECT true FROM pgmq.meta WHERE queue_name OPERATOR(pg_catalog.=) $1", fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("Queue \"%s\" does not exist. Create the queue first using pgmq.create()", name)));
	/* The table is unlogged: on a standby not even a look at it is possible. */
	PreventCommandDuringRecovery("UPDATE");
	if (!has_row("SELECT true FROM pgmq.notify_insert_throttle "
				 "WHERE queue_name OPERATOR(pg_catalog.=) $1", fcinfo))
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("Queue \"%s\" does not have notify_insert enabled. Enable it first using pgmq.enable_notify_insert()", name)));
	(void) pgmq_sql_one("UPDATE pgmq.notify_insert_throttle SET throttle_interval_ms = $2, "
						"last_notified_at = pg_catalog.to_timestamp(0) "
						"WHERE queue_name OPERATOR(pg_catalog.=) $1",
						2, types, values, nulls, false, NULL, NULL);
	PG_RETURN_VOID();
}

PG_FUNCTION_INFO_V1(pgmq_list_notify_insert_throttles);
PGDLLEXPORT Datum
pgmq_list_notify_insert_throttles(PG_FUNCTION_ARGS)
{
	RowsOut		out;

	pgmq_rows_begin(fcinfo, &out);
	(void) pgmq_sql_rows("SELECT t.queue_name::pg_catalog.text, t.throttle_interval_ms, t.last_notified_at "
						 "FROM pgmq.notify_insert_throttle t ORDER BY t.queue_name USING OPERATOR(pg_catalog.<)",
						 &out);
	return pgmq_rows_end(&out);
}
