/*
 * fn_topic.c
 *	  Topics: bindings of patterns to queues, and sending to all queues whose
 *	  patterns match a routing key.
 *
 * Bindings are rows of pgmq.topic_bindings.  They are made and listed by
 * ordinary statements with the caller's rights; which queues a key goes to is
 * answered by topic_match.c, and each of them is sent to as by pgmq.send.
 */
#include "common/compat.h"

#include "api/api.h"
#include "api/topic.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

static text *
text_or_null(FunctionCallInfo fcinfo, int position)
{
	return PG_ARGISNULL(position) ? NULL : PG_GETARG_TEXT_PP(position);
}

static void
refuse_empty(text *value, const char *noun)
{
	if (value == NULL || VARSIZE_ANY_EXHDR(value) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("%s cannot be NULL or empty", noun)));
}

/* ---- bindings ---- */

/* meta's spelling counts, not the table's. */
static void
refuse_unknown_queue(text *queue_name)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {PointerGetDatum(queue_name)};

	if (!pgmq_sql_one("SELECT 1 FROM pgmq.meta WHERE queue_name OPERATOR(pg_catalog.=) $1",
					  1, types, values, NULL, false, NULL, NULL))
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("Queue \"%s\" does not exist. Create the queue first using pgmq.create()",
						text_to_cstring(queue_name))));
}

PG_FUNCTION_INFO_V1(pgmq_bind_topic);
PGDLLEXPORT Datum
pgmq_bind_topic(PG_FUNCTION_ARGS)
{
	text	   *pattern = text_or_null(fcinfo, 0);
	text	   *queue_name = text_or_null(fcinfo, 1);
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2] = {PointerGetDatum(pattern), PointerGetDatum(queue_name)};

	pgmq_check_topic_pattern(pattern);
	refuse_empty(queue_name, "queue_name");
	refuse_unknown_queue(queue_name);
	(void) pgmq_sql_one("INSERT INTO pgmq.topic_bindings (pattern, queue_name) VALUES ($1, $2) "
						"ON CONFLICT ON CONSTRAINT topic_bindings_unique_pattern_queue DO NOTHING",
						2, types, values, NULL, false, NULL, NULL);
	PG_RETURN_VOID();
}

/* Says whether there was such a binding. */
PG_FUNCTION_INFO_V1(pgmq_unbind_topic);
PGDLLEXPORT Datum
pgmq_unbind_topic(PG_FUNCTION_ARGS)
{
	text	   *pattern = text_or_null(fcinfo, 0);
	text	   *queue_name = text_or_null(fcinfo, 1);
	Oid			types[2] = {TEXTOID, TEXTOID};
	Datum		values[2] = {PointerGetDatum(pattern), PointerGetDatum(queue_name)};

	refuse_empty(pattern, "pattern");
	refuse_empty(queue_name, "queue_name");
	PG_RETURN_BOOL(pgmq_sql_one("DELETE FROM pgmq.topic_bindings "
								"WHERE pattern OPERATOR(pg_catalog.=) $1 "
								"AND queue_name OPERATOR(pg_catalog.=) $2 RETURNING true",
								2, types, values, NULL, false, NULL, NULL));
}

/* ---- looking; under the snapshot of the calling query, for they are STABLE ---- */

/* Rows of a query that takes the function's only argument, a text. */
static Datum
rows_by_text(FunctionCallInfo fcinfo, const char *sql)
{
	Oid			types[1] = {TEXTOID};
	Datum		values[1] = {PointerGetDatum(text_or_null(fcinfo, 0))};
	char		nulls[1] = {PG_ARGISNULL(0) ? 'n' : ' '};
	RowsOut		out;

	pgmq_rows_begin(fcinfo, &out);
	(void) pgmq_sql_rows_with(sql, 1, types, values, nulls, true, &out);
	return pgmq_rows_end(&out);
}

PG_FUNCTION_INFO_V1(pgmq_list_topic_bindings);
PGDLLEXPORT Datum
pgmq_list_topic_bindings(PG_FUNCTION_ARGS)
{
	RowsOut		out;

	pgmq_rows_begin(fcinfo, &out);
	(void) pgmq_sql_rows_with("SELECT pattern, queue_name, bound_at, compiled_regex "
							  "FROM pgmq.topic_bindings "
							  "ORDER BY bound_at DESC, pattern, queue_name",
							  0, NULL, NULL, NULL, true, &out);
	return pgmq_rows_end(&out);
}

PG_FUNCTION_INFO_V1(pgmq_list_topic_bindings_of);
PGDLLEXPORT Datum
pgmq_list_topic_bindings_of(PG_FUNCTION_ARGS)
{
	return rows_by_text(fcinfo,
						"SELECT pattern, queue_name, bound_at, compiled_regex "
						"FROM pgmq.topic_bindings WHERE queue_name OPERATOR(pg_catalog.=) $1 "
						"ORDER BY bound_at DESC, pattern");
}

/* A key against every binding, by the server's own matcher. */
PG_FUNCTION_INFO_V1(pgmq_test_routing);
PGDLLEXPORT Datum
pgmq_test_routing(PG_FUNCTION_ARGS)
{
	pgmq_check_routing_key(text_or_null(fcinfo, 0));
	return rows_by_text(fcinfo,
						"SELECT pattern, queue_name, compiled_regex "
						"FROM pgmq.topic_bindings WHERE $1 OPERATOR(pg_catalog.~) compiled_regex "
						"ORDER BY pattern");
}

/* ---- sending one message ---- */

static void
check_topic_message(FunctionCallInfo fcinfo, const SendArgs *args)
{
	pgmq_check_routing_key(text_or_null(fcinfo, 0));
	if (PG_ARGISNULL(1))
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("msg cannot be NULL")));
	if (args->delay >= 0 && !PG_ARGISNULL(args->delay) && PG_GETARG_INT32(args->delay) < 0)
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("delay cannot be negative, got: %d", PG_GETARG_INT32(args->delay))));
}

/* Sends to queues in the order of their names; returns how many there were. */
static Datum
send_topic(FunctionCallInfo fcinfo, const SendArgs *args)
{
	Outgoing	outgoing;
	TopicQueues queues;

	check_topic_message(fcinfo, args);
	pgmq_get_outgoing(fcinfo, args, &outgoing);
	pgmq_find_topic_queues(PG_GETARG_TEXT_PP(0), &queues);
	for (int i = 0; i < queues.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		if (i > 0)				/* each send looks at the clock */
			(void) pgmq_get_visible_at(fcinfo, args, &outgoing.visible_at);
		pgmq_send_to(queues.names[i], &outgoing);
	}
	PG_RETURN_INT32(queues.n);
}

/* ---- sending several messages ---- */

/* Sends as above; a row for each message in each queue, one visible_at for all. */
static Datum
send_batch_topic(FunctionCallInfo fcinfo, const SendArgs *args)
{
	OutgoingBatch batch;
	TopicQueues queues;
	RowsOut		out;

	pgmq_check_routing_key(text_or_null(fcinfo, 0));
	pgmq_get_outgoing_batch(fcinfo, args, &batch);
	pgmq_validate_batch(batch.msgs, batch.headers);
	pgmq_rows_begin(fcinfo, &out);
	pgmq_find_topic_queues(PG_GETARG_TEXT_PP(0), &queues);
	for (int i = 0; i < queues.n; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pgmq_rows_lead(&out, PointerGetDatum(queues.names[i]));
		pgmq_send_batch_to(queues.names[i], &batch, &out);
	}
	return pgmq_rows_end(&out);
}

/* ---- the overloads ---- */

#define SEND_TOPIC_OVERLOAD(name, verb, headers_at, delay_at, in_seconds) \
PG_FUNCTION_INFO_V1(name); \
PGDLLEXPORT Datum \
name(PG_FUNCTION_ARGS) \
{ \
	static const SendArgs args = {headers_at, delay_at, in_seconds}; \
\
	return verb(fcinfo, &args); \
}

SEND_TOPIC_OVERLOAD(pgmq_send_topic, send_topic, -1, -1, false)
SEND_TOPIC_OVERLOAD(pgmq_send_topic_delay, send_topic, -1, 2, true)
SEND_TOPIC_OVERLOAD(pgmq_send_topic_headers_delay, send_topic, 2, 3, true)

SEND_TOPIC_OVERLOAD(pgmq_send_batch_topic, send_batch_topic, -1, -1, false)
SEND_TOPIC_OVERLOAD(pgmq_send_batch_topic_headers, send_batch_topic, 2, -1, false)
SEND_TOPIC_OVERLOAD(pgmq_send_batch_topic_delay, send_batch_topic, -1, 2, true)
SEND_TOPIC_OVERLOAD(pgmq_send_batch_topic_at, send_batch_topic, -1, 2, false)
SEND_TOPIC_OVERLOAD(pgmq_send_batch_topic_headers_delay, send_batch_topic, 2, 3, true)
SEND_TOPIC_OVERLOAD(pgmq_send_batch_topic_headers_at, send_batch_topic, 2, 3, false)
