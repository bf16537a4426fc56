/*
 * read_call.c
 *	  One call that reads: by the ring or by SQL, once or until there is a
 *	  message.
 */
#include "common/compat.h"

#include "api/api.h"
#include "common/clock.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/* LIMIT's own check; where a rank is compared instead, none is too low. */
static void
check_limit(const ReadArgs *args)
{
	if (!args->qty_is_null && args->qty < 0 && !args->null_is_none)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROW_COUNT_IN_LIMIT_CLAUSE),
				 errmsg("LIMIT must not be negative")));
}

/* The statement for what lies beyond a msg_id. */
static SqlVerb
rest_verb(SqlVerb verb)
{
	return verb == SQL_READ ? SQL_READ_REST : verb == SQL_READ_IF ? SQL_READ_IF_REST : verb;
}

static int64
read_by_sql(QueueTable *queue, const ReadArgs *args, SqlVerb verb, int64 after_msg_id,
			RowsOut *out)
{
	TimestampTz now = pgmq_clock_now();
	TimestampTz visible_at = now + (int64) args->vt_seconds * USECS_PER_SEC;
	Datum		values[SQL_MAX_ARGS] = {Int32GetDatum(args->qty),
		TimestampTzGetDatum(now), TimestampTzGetDatum(visible_at), args->conditional,
	Int64GetDatum(after_msg_id)};
	char		nulls[SQL_MAX_ARGS] = {args->qty_is_null ? 'n' : ' ', ' ',
		args->vt_is_null ? 'n' : ' ', args->has_conditional ? ' ' : 'n', ' '};

	if (args->is_pop && pgmq_pop_locks_itself(queue->rel))
		return pgmq_sql_pop(queue->rel, now, args->qty_is_null ? PG_INT64_MAX : args->qty, out);
	return pgmq_sql_run(verb, queue->rel, NULL, values, nulls, out);
}

/*
 * What is beyond the ring, after n messages came from it, all of them up to
 * request->after_msg_id: what is not had by then is for the next call.  So no
 * lease of no length is met again, and the rows stay in order.
 */
static int64
read_rest_by_sql(QueueTable *queue, const ReadArgs *args, const ClaimRequest *request,
				 int64 n, RowsOut *out)
{
	ReadArgs	rest = *args;

	if (!rest.qty_is_null)
		rest.qty -= (int32) n;
	return read_by_sql(queue, &rest, n > 0 ? rest_verb(args->verb) : args->verb,
					   request->after_msg_id, out);
}

/* May the fast path serve this call? */
static bool
is_fast(const QueueTable *queue, const ReadArgs *args)
{
	return queue->is_fast && !args->vt_is_null &&
		(args->is_pop ? queue->facts->can_ack : queue->facts->can_read);
}

/*
 * One attempt.  *met_locked: rows were passed over that others lock, whose
 * release wakes nobody.
 */
static int64
read_once(QueueTable *queue, const ReadArgs *args, RowsOut *out, bool *met_locked,
		  bool *by_ring)
{
	MessageSink sink = {out, RelationGetDescr(queue->rel)};
	ClaimRequest request = {0};
	int64		n;

	*met_locked = false;
	*by_ring = false;
	if (!is_fast(queue, args))
		return read_by_sql(queue, args, args->verb, 0, out);
	if (args->is_pop)
		pgmq_check_can_delete(queue);
	request.max_rows = !args->qty_is_null ? args->qty :
		(args->null_is_none ? 0 : PG_INT64_MAX);
	request.vt_seconds = args->vt_seconds;
	request.is_pop = args->is_pop;
	request.has_conditional = args->has_conditional;
	request.conditional = args->conditional;
	request.sink = pgmq_add_message;
	request.sink_state = &sink;
	request.group_order = args->group_order;
	n = args->is_grouped ? pgmq_am_claim_groups(queue->rel, &request) :
		pgmq_am_claim(queue->rel, &request);
	if (request.needs_sql)
		return n + read_rest_by_sql(queue, args, &request, n, out);
	*met_locked = request.met_locked;
	*by_ring = true;
	return n;
}

/*
 * Read once from the queue that argument 0 names, and return the rows.  Raises
 * what plain SQL would: 42P01, 42501, 25006, 2201W.
 */
Datum
pgmq_read_call(FunctionCallInfo fcinfo, const ReadArgs *args, const NeededRights *rights)
{
	QueueTable	queue;
	RowsOut		out;
	bool		met_locked;
	bool		by_ring;

	pgmq_rows_begin(fcinfo, &out);
	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, rights, &queue);
	PreventCommandIfReadOnly(args->is_pop ? "DELETE" : "UPDATE");
	check_limit(args);
	(void) read_once(&queue, args, &out, &met_locked, &by_ring);
	pgmq_close_queue(&queue);
	return pgmq_rows_end(&out);
}

/* ---- the blocking read ---- */

/* A pause on the SQL path, where nobody wakes us. */
static void
pause_ms(int64 ms)
{
	(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
					 (long) Min(Max(ms, 1), 3600 * 1000), PG_WAIT_EXTENSION);
	ResetLatch(MyLatch);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Sleep until it is worth another look.  Rows locked by plain SQL are looked
 * at every poll interval, because letting go of a row lock wakes nobody.
 */
static void
wait_for_message(XactQueue *ring_queue, TimestampTz stop, int64 interval_ms,
				 bool met_locked, bool by_ring)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz until = stop;

	if (!by_ring)
	{
		int64		left = TIMESTAMP_IS_NOEND(stop) ? interval_ms : (stop - now) / 1000 + 1;

		pause_ms(Min(interval_ms, left));
		return;
	}
	if (met_locked)
		until = Min(stop, now + Max(interval_ms, 1) * 1000);
	pgmq_xact_sleep(ring_queue, until, met_locked, pgmq_wait_event());
}

static void
poll_queue(QueueTable *queue, const ReadArgs *args, TimestampTz stop,
		   int64 interval_ms, RowsOut *out)
{
	for (;;)
	{
		XactQueue  *ring_queue = is_fast(queue, args) ? pgmq_xact_queue(queue->rel) : NULL;
		bool		met_locked;
		bool		by_ring;

		if (GetCurrentTimestamp() >= stop)
			break;
		if (pgmq_xact_queue_is_usable(ring_queue))
			pgmq_xact_watch(ring_queue);
		if (read_once(queue, args, out, &met_locked, &by_ring) > 0)
			break;
		wait_for_message(ring_queue, stop, interval_ms, met_locked, by_ring);
	}
	if (is_fast(queue, args))
	{
		XactQueue  *ring_queue = pgmq_xact_queue(queue->rel);

		if (ring_queue != NULL && ring_queue->ring != NULL)
			pgmq_xact_pass_turn(ring_queue);
	}
}

/*
 * Read until there is a message, or max_poll_seconds have passed.  NULL
 * max_poll_seconds (argument `position`) waits for ever, 0 and less do not even
 * look.  poll_interval_ms follows; it counts only where nobody wakes us.
 */
Datum
pgmq_poll_call(FunctionCallInfo fcinfo, const ReadArgs *args, int position)
{
	QueueTable	queue;
	RowsOut		out;
	TimestampTz stop = PG_ARGISNULL(position) ? DT_NOEND :
		GetCurrentTimestamp() + (int64) PG_GETARG_INT32(position) * USECS_PER_SEC;
	int64		interval_ms = PG_ARGISNULL(position + 1) ? 1 : PG_GETARG_INT32(position + 1);

	pgmq_rows_begin(fcinfo, &out);
	if (!PG_ARGISNULL(position) && PG_GETARG_INT32(position) <= 0)
		return pgmq_rows_end(&out);
	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, &pgmq_rights_read, &queue);
	PreventCommandIfReadOnly("UPDATE");
	check_limit(args);
	poll_queue(&queue, args, stop, interval_ms, &out);
	pgmq_close_queue(&queue);
	return pgmq_rows_end(&out);
}
