/*
 * fn_send.c
 *	  pgmq.send and pgmq.send_batch, all overloads.
 *
 * A delay is given as nothing (now), as seconds from now, or as an instant;
 * a NULL delay is refused by the table's NOT NULL, as 23502.
 */
#include "common/compat.h"

#include "api/api.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* Argument positions; -1 where an overload has no such argument. */
typedef struct SendArgs
{
	int			headers;
	int			delay;
	bool		delay_is_seconds;
} SendArgs;

/* The instant from which the message may be claimed; false for a NULL delay. */
static bool
get_visible_at(FunctionCallInfo fcinfo, const SendArgs *args, TimestampTz *visible_at)
{
	if (args->delay < 0)
		*visible_at = GetCurrentTimestamp();
	else if (PG_ARGISNULL(args->delay))
		return false;
	else if (args->delay_is_seconds)
		*visible_at = GetCurrentTimestamp() +
			(int64) PG_GETARG_INT32(args->delay) * USECS_PER_SEC;
	else
		*visible_at = PG_GETARG_TIMESTAMPTZ(args->delay);
	return true;
}

static Datum
argument_or_null(FunctionCallInfo fcinfo, int position, bool *isnull)
{
	*isnull = position < 0 || PG_ARGISNULL(position);
	return *isnull ? (Datum) 0 : PG_GETARG_DATUM(position);
}

/* What the queue's notification trigger does on the SQL path. */
static void
notify_sent(QueueTable *queue)
{
	if (pgmq_am_notifies(queue->facts))
		pgmq_notify_sent(queue->facts->notify_name);
}

static Datum
send_message(FunctionCallInfo fcinfo, const SendArgs *args)
{
	QueueTable	queue;
	TimestampTz visible_at = 0;
	bool		message_is_null;
	bool		headers_is_null;
	Datum		message = argument_or_null(fcinfo, 1, &message_is_null);
	Datum		headers = argument_or_null(fcinfo, args->headers, &headers_is_null);
	bool		has_visible_at = get_visible_at(fcinfo, args, &visible_at);
	RowsOut		out;

	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, &pgmq_rights_send, &queue);
	PreventCommandIfReadOnly("INSERT");
	if (queue.is_fast && queue.facts->can_send && has_visible_at)
	{
		int64		msg_id = pgmq_am_send(queue.rel, queue.facts, message,
										  message_is_null, headers,
										  headers_is_null, visible_at);

		notify_sent(&queue);
		pgmq_close_queue(&queue);
		PG_RETURN_INT64(msg_id);
	}
	else
	{
		Datum		values[3] = {TimestampTzGetDatum(visible_at), message, headers};
		char		nulls[3] = {has_visible_at ? ' ' : 'n',
			message_is_null ? 'n' : ' ', headers_is_null ? 'n' : ' '};

		pgmq_rows_begin(fcinfo, &out);
		(void) pgmq_sql_run(SQL_SEND, queue.rel, NULL, values, nulls, &out);
		pgmq_close_queue(&queue);
		return pgmq_rows_end(&out);
	}
}

/* ---- batches ---- */

/* The first dimension's length, as array_length(a, 1); 0 for none. */
static int
first_dimension(ArrayType *array)
{
	return ARR_NDIM(array) == 0 ? 0 : ARR_DIMS(array)[0];
}

static void
validate_batch(ArrayType *msgs, ArrayType *headers)
{
	if (msgs == NULL || first_dimension(msgs) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("msgs cannot be NULL or empty")));
	if (headers != NULL && first_dimension(headers) != first_dimension(msgs))
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("headers array length (%d) must match msgs array length (%d)",
						first_dimension(headers), first_dimension(msgs))));
}

static ArrayType *
array_or_null(FunctionCallInfo fcinfo, int position)
{
	return position < 0 || PG_ARGISNULL(position) ? NULL : PG_GETARG_ARRAYTYPE_P(position);
}

/* The elements of a jsonb array, padded with NULLs up to n. */
static void
get_elements(ArrayType *array, int n, Datum **elements, bool **nulls)
{
	int			found = 0;
	Datum	   *values = NULL;
	bool	   *is_null = NULL;

	if (array != NULL)
		deconstruct_array(array, JSONBOID, -1, false, TYPALIGN_INT, &values, &is_null, &found);
	*elements = palloc0(Max(n, 1) * sizeof(Datum));
	*nulls = palloc(Max(n, 1) * sizeof(bool));
	for (int i = 0; i < n; i++)
	{
		(*nulls)[i] = i >= found || is_null[i];
		if (!(*nulls)[i])
			(*elements)[i] = values[i];
	}
}

static int
element_count(ArrayType *array)
{
	return array == NULL ? 0 : ArrayGetNItems(ARR_NDIM(array), ARR_DIMS(array));
}

static void
send_batch_fast(QueueTable *queue, ArrayType *msgs, ArrayType *headers,
				TimestampTz visible_at, RowsOut *out)
{
	int			n = Max(element_count(msgs), element_count(headers));
	Datum	   *message_values;
	Datum	   *header_values;
	bool	   *message_nulls;
	bool	   *header_nulls;
	int64	   *ids = palloc(Max(n, 1) * sizeof(int64));

	get_elements(msgs, n, &message_values, &message_nulls);
	get_elements(headers, n, &header_values, &header_nulls);
	if (n > 0)
		pgmq_am_send_many(queue->rel, queue->facts, n, message_values, message_nulls,
						  header_values, header_nulls, visible_at, ids);
	for (int i = 0; i < n; i++)
		pgmq_rows_add_scalar(out, Int64GetDatum(ids[i]));
}

static Datum
send_batch(FunctionCallInfo fcinfo, const SendArgs *args, bool must_validate)
{
	ArrayType  *msgs = array_or_null(fcinfo, 1);
	ArrayType  *headers = array_or_null(fcinfo, args->headers);
	TimestampTz visible_at = 0;
	bool		has_visible_at = get_visible_at(fcinfo, args, &visible_at);
	QueueTable	queue;
	RowsOut		out;

	if (must_validate)
		validate_batch(msgs, headers);
	pgmq_rows_begin(fcinfo, &out);
	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, &pgmq_rights_send, &queue);
	PreventCommandIfReadOnly("INSERT");
	if (queue.is_fast && queue.facts->can_send && has_visible_at)
	{
		send_batch_fast(&queue, msgs, headers, visible_at, &out);
		if (out.n > 0)
			notify_sent(&queue);
	}
	else
	{
		Datum		values[3] = {TimestampTzGetDatum(visible_at),
		PointerGetDatum(msgs), PointerGetDatum(headers)};
		char		nulls[3] = {has_visible_at ? ' ' : 'n', msgs ? ' ' : 'n', headers ? ' ' : 'n'};

		(void) pgmq_sql_run(SQL_SEND_BATCH, queue.rel, NULL, values, nulls, &out);
	}
	pgmq_close_queue(&queue);
	return pgmq_rows_end(&out);
}

/* ---- the overloads ---- */

#define SEND_OVERLOAD(name, headers_at, delay_at, in_seconds) \
PG_FUNCTION_INFO_V1(name); \
PGDLLEXPORT Datum \
name(PG_FUNCTION_ARGS) \
{ \
	static const SendArgs args = {headers_at, delay_at, in_seconds}; \
\
	return send_message(fcinfo, &args); \
}

#define SEND_BATCH_OVERLOAD(name, headers_at, delay_at, in_seconds, validated) \
PG_FUNCTION_INFO_V1(name); \
PGDLLEXPORT Datum \
name(PG_FUNCTION_ARGS) \
{ \
	static const SendArgs args = {headers_at, delay_at, in_seconds}; \
\
	return send_batch(fcinfo, &args, validated); \
}

SEND_OVERLOAD(pgmq_send, -1, -1, false)
SEND_OVERLOAD(pgmq_send_headers, 2, -1, false)
SEND_OVERLOAD(pgmq_send_delay, -1, 2, true)
SEND_OVERLOAD(pgmq_send_at, -1, 2, false)
SEND_OVERLOAD(pgmq_send_headers_delay, 2, 3, true)
SEND_OVERLOAD(pgmq_send_headers_at, 2, 3, false)

SEND_BATCH_OVERLOAD(pgmq_send_batch, -1, -1, false, true)
SEND_BATCH_OVERLOAD(pgmq_send_batch_headers, 2, -1, false, true)
SEND_BATCH_OVERLOAD(pgmq_send_batch_delay, -1, 2, true, true)
SEND_BATCH_OVERLOAD(pgmq_send_batch_at, -1, 2, false, true)
SEND_BATCH_OVERLOAD(pgmq_send_batch_headers_delay, 2, 3, true, true)
SEND_BATCH_OVERLOAD(pgmq_send_batch_headers_at, 2, 3, false, true)
SEND_BATCH_OVERLOAD(pgmq_send_batch_unchecked, 2, 3, false, false)

PG_FUNCTION_INFO_V1(pgmq_validate_batch_params);
PGDLLEXPORT Datum
pgmq_validate_batch_params(PG_FUNCTION_ARGS)
{
	validate_batch(array_or_null(fcinfo, 0), array_or_null(fcinfo, 1));
	PG_RETURN_VOID();
}
