/*
 * fn_send.c
 *	  pgmq.send and pgmq.send_batch, all overloads.
 *
 * A delay is given as nothing (now), as seconds from now, or as an instant;
 * a NULL delay is refused by the table's NOT NULL, as 23502.
 */
#include "common/compat.h"

#include "api/api.h"
#include "common/clock.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The instant from which the message may be claimed; false for a NULL delay. */
bool
pgmq_get_visible_at(FunctionCallInfo fcinfo, const SendArgs *args, TimestampTz *visible_at)
{
	if (args->delay < 0)
		*visible_at = pgmq_clock_now();
	else if (PG_ARGISNULL(args->delay))
		return false;
	else if (args->delay_is_seconds)
		*visible_at = pgmq_clock_now() +
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

/* The message that a call sends; argument 1 is its body. */
void
pgmq_get_outgoing(FunctionCallInfo fcinfo, const SendArgs *args, Outgoing *outgoing)
{
	outgoing->message = argument_or_null(fcinfo, 1, &outgoing->message_is_null);
	outgoing->headers = argument_or_null(fcinfo, args->headers, &outgoing->headers_is_null);
	outgoing->visible_at = 0;
	outgoing->has_visible_at = pgmq_get_visible_at(fcinfo, args, &outgoing->visible_at);
}

/* Open the queue to send to; says whether the fast path serves it. */
static bool
open_for_sending(text *queue_name, bool has_visible_at, QueueTable *queue)
{
	pgmq_open_queue_named(queue_name, 'q', RowExclusiveLock, &pgmq_rights_send, queue);
	PreventCommandIfReadOnly("INSERT");
	return queue->is_fast && queue->facts->can_send && has_visible_at;
}

/* What the queue's notification trigger does on the SQL path. */
static void
notify_sent(QueueTable *queue)
{
	if (pgmq_am_notifies(queue->facts))
		pgmq_notify_sent(queue->facts->notify_name);
}

static int64
send_fast(QueueTable *queue, const Outgoing *outgoing)
{
	int64		msg_id = pgmq_am_send(queue->rel, queue->facts, outgoing->message,
									  outgoing->message_is_null, outgoing->headers,
									  outgoing->headers_is_null, outgoing->visible_at);

	notify_sent(queue);
	return msg_id;
}

static void
send_by_sql(QueueTable *queue, const Outgoing *outgoing, RowsOut *out)
{
	Datum		values[3] = {TimestampTzGetDatum(outgoing->visible_at),
	outgoing->message, outgoing->headers};
	char		nulls[3] = {outgoing->has_visible_at ? ' ' : 'n',
		outgoing->message_is_null ? 'n' : ' ', outgoing->headers_is_null ? 'n' : ' '};

	(void) pgmq_sql_run(SQL_SEND, queue->rel, NULL, values, nulls, out);
}

/* Send a message to a queue; nobody wants to know its id. */
void
pgmq_send_to(text *queue_name, const Outgoing *outgoing)
{
	QueueTable	queue;

	if (open_for_sending(queue_name, outgoing->has_visible_at, &queue))
		(void) send_fast(&queue, outgoing);
	else
		send_by_sql(&queue, outgoing, NULL);
	pgmq_close_queue(&queue);
}

static text *
queue_name_argument(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0);
}

static Datum
send_message(FunctionCallInfo fcinfo, const SendArgs *args)
{
	Outgoing	outgoing;
	QueueTable	queue;
	RowsOut		out;

	pgmq_get_outgoing(fcinfo, args, &outgoing);
	if (open_for_sending(queue_name_argument(fcinfo), outgoing.has_visible_at, &queue))
	{
		int64		msg_id = send_fast(&queue, &outgoing);

		pgmq_close_queue(&queue);
		PG_RETURN_INT64(msg_id);
	}
	pgmq_rows_begin(fcinfo, &out);
	send_by_sql(&queue, &outgoing, &out);
	pgmq_close_queue(&queue);
	return pgmq_rows_end(&out);
}

/* ---- batches ---- */

/* The first dimension's length, as array_length(a, 1); 0 for none. */
static int
first_dimension(ArrayType *array)
{
	return ARR_NDIM(array) == 0 ? 0 : ARR_DIMS(array)[0];
}

void
pgmq_validate_batch(ArrayType *msgs, ArrayType *headers)
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

void
pgmq_get_outgoing_batch(FunctionCallInfo fcinfo, const SendArgs *args, OutgoingBatch *batch)
{
	batch->msgs = array_or_null(fcinfo, 1);
	batch->headers = array_or_null(fcinfo, args->headers);
	batch->visible_at = 0;
	batch->has_visible_at = pgmq_get_visible_at(fcinfo, args, &batch->visible_at);
}

static void
send_batch_fast(QueueTable *queue, const OutgoingBatch *batch, RowsOut *out)
{
	int			n = Max(element_count(batch->msgs), element_count(batch->headers));
	Datum	   *message_values;
	Datum	   *header_values;
	bool	   *message_nulls;
	bool	   *header_nulls;
	int64	   *ids = palloc(Max(n, 1) * sizeof(int64));

	get_elements(batch->msgs, n, &message_values, &message_nulls);
	get_elements(batch->headers, n, &header_values, &header_nulls);
	if (n > 0)
		pgmq_am_send_many(queue->rel, queue->facts, n, message_values, message_nulls,
						  header_values, header_nulls, batch->visible_at, ids);
	if (n > 0)
		notify_sent(queue);
	for (int i = 0; i < n; i++)
		pgmq_rows_add_scalar(out, Int64GetDatum(ids[i]));
}

static void
send_batch_by_sql(QueueTable *queue, const OutgoingBatch *batch, RowsOut *out)
{
	Datum		values[3] = {TimestampTzGetDatum(batch->visible_at),
	PointerGetDatum(batch->msgs), PointerGetDatum(batch->headers)};
	char		nulls[3] = {batch->has_visible_at ? ' ' : 'n', batch->msgs ? ' ' : 'n',
	batch->headers ? ' ' : 'n'};

	(void) pgmq_sql_run(SQL_SEND_BATCH, queue->rel, NULL, values, nulls, out);
}

/* Send messages to a queue; a row for each goes to *out. */
void
pgmq_send_batch_to(text *queue_name, const OutgoingBatch *batch, RowsOut *out)
{
	QueueTable	queue;

	if (open_for_sending(queue_name, batch->has_visible_at, &queue))
		send_batch_fast(&queue, batch, out);
	else
		send_batch_by_sql(&queue, batch, out);
	pgmq_close_queue(&queue);
}

static Datum
send_batch(FunctionCallInfo fcinfo, const SendArgs *args, bool must_validate)
{
	OutgoingBatch batch;
	RowsOut		out;

	pgmq_get_outgoing_batch(fcinfo, args, &batch);
	if (must_validate)
		pgmq_validate_batch(batch.msgs, batch.headers);
	pgmq_rows_begin(fcinfo, &out);
	pgmq_send_batch_to(queue_name_argument(fcinfo), &batch, &out);
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
	pgmq_validate_batch(array_or_null(fcinfo, 0), array_or_null(fcinfo, 1));
	PG_RETURN_VOID();
}
