/*
 * fn_read.c
 *	  pgmq.read, pgmq.pop and the blocking pgmq.read_with_poll.
 */
#include "common/compat.h"

#include "api/api.h"
#include "common/clock.h"
#include "storage/latch.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/timestamp.h"
#include "utils/wait_event.h"

/* One call's wishes, from its arguments. */
typedef struct ReadArgs
{
	bool		vt_is_null;
	int32		vt_seconds;
	bool		qty_is_null;
	int32		qty;
	bool		has_conditional;
	Datum		conditional;
	bool		is_pop;
} ReadArgs;

/* LIMIT's own check. */
static void
check_limit(bool is_null, int32 qty)
{
	if (!is_null && qty < 0)
		ereport(ERROR,
				(errcode(ERRCODE_INVALID_ROW_COUNT_IN_LIMIT_CLAUSE),
				 errmsg("LIMIT must not be negative")));
}

/* '{}' and NULL mean no condition. */
static void
get_conditional(FunctionCallInfo fcinfo, int position, ReadArgs *args)
{
	Jsonb	   *jsonb;

	if (PG_ARGISNULL(position))
		return;
	jsonb = PG_GETARG_JSONB_P(position);
	args->has_conditional = !JB_ROOT_IS_OBJECT(jsonb) || JB_ROOT_COUNT(jsonb) > 0;
	args->conditional = JsonbPGetDatum(jsonb);
}

/* Its statement: for all messages, or for those beyond a msg_id. */
static SqlVerb
sql_verb(const ReadArgs *args, bool is_rest)
{
	if (args->is_pop)
		return SQL_POP;
	if (args->has_conditional)
		return is_rest ? SQL_READ_IF_REST : SQL_READ_IF;
	return is_rest ? SQL_READ_REST : SQL_READ;
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
	return read_by_sql(queue, &rest, sql_verb(args, n > 0), request->after_msg_id, out);
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
		return read_by_sql(queue, args, sql_verb(args, false), 0, out);
	request.max_rows = args->qty_is_null ? PG_INT64_MAX : args->qty;
	request.vt_seconds = args->vt_seconds;
	request.is_pop = args->is_pop;
	request.has_conditional = args->has_conditional;
	request.conditional = args->conditional;
	request.sink = pgmq_add_message;
	request.sink_state = &sink;
	n = pgmq_am_claim(queue->rel, &request);
	if (request.needs_sql)
		return n + read_rest_by_sql(queue, args, &request, n, out);
	*met_locked = request.met_locked;
	*by_ring = true;
	return n;
}

static void
get_read_args(FunctionCallInfo fcinfo, ReadArgs *args)
{
	memset(args, 0, sizeof(ReadArgs));
	args->vt_is_null = PG_ARGISNULL(1);
	args->vt_seconds = args->vt_is_null ? 0 : PG_GETARG_INT32(1);
	args->qty_is_null = PG_ARGISNULL(2);
	args->qty = args->qty_is_null ? 0 : PG_GETARG_INT32(2);
}

static Datum
read_and_return(FunctionCallInfo fcinfo, const ReadArgs *args, const NeededRights *rights)
{
	QueueTable	queue;
	RowsOut		out;
	bool		met_locked;
	bool		by_ring;

	pgmq_rows_begin(fcinfo, &out);
	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, rights, &queue);
	PreventCommandIfReadOnly(args->is_pop ? "DELETE" : "UPDATE");
	check_limit(args->qty_is_null, args->qty);
	(void) read_once(&queue, args, &out, &met_locked, &by_ring);
	pgmq_close_queue(&queue);
	return pgmq_rows_end(&out);
}

/* pgmq.read(queue_name, vt, qty, conditional) */
PG_FUNCTION_INFO_V1(pgmq_read);
PGDLLEXPORT Datum
pgmq_read(PG_FUNCTION_ARGS)
{
	ReadArgs	args;

	get_read_args(fcinfo, &args);
	get_conditional(fcinfo, 3, &args);
	return read_and_return(fcinfo, &args, &pgmq_rights_read);
}

/* pgmq.pop(queue_name, qty) */
PG_FUNCTION_INFO_V1(pgmq_pop);
PGDLLEXPORT Datum
pgmq_pop(PG_FUNCTION_ARGS)
{
	ReadArgs	args = {0};

	args.is_pop = true;
	args.qty_is_null = PG_ARGISNULL(1);
	args.qty = args.qty_is_null ? 0 : PG_GETARG_INT32(1);
	return read_and_return(fcinfo, &args, &pgmq_rights_pop);
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
 * pgmq.read_with_poll(queue_name, vt, qty, max_poll_seconds, poll_interval_ms,
 * conditional).  NULL max_poll_seconds waits for ever, 0 and less do not even
 * look.
 */
PG_FUNCTION_INFO_V1(pgmq_read_with_poll);
PGDLLEXPORT Datum
pgmq_read_with_poll(PG_FUNCTION_ARGS)
{
	ReadArgs	args;
	QueueTable	queue;
	RowsOut		out;
	TimestampTz stop = PG_ARGISNULL(3) ? DT_NOEND :
		GetCurrentTimestamp() + (int64) PG_GETARG_INT32(3) * USECS_PER_SEC;
	int64		interval_ms = PG_ARGISNULL(4) ? 1 : PG_GETARG_INT32(4);

	pgmq_rows_begin(fcinfo, &out);
	if (!PG_ARGISNULL(3) && PG_GETARG_INT32(3) <= 0)
		return pgmq_rows_end(&out);
	get_read_args(fcinfo, &args);
	get_conditional(fcinfo, 5, &args);
	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, &pgmq_rights_read, &queue);
	PreventCommandIfReadOnly("UPDATE");
	check_limit(args.qty_is_null, args.qty);
	poll_queue(&queue, &args, stop, interval_ms, &out);
	pgmq_close_queue(&queue);
	return pgmq_rows_end(&out);
}
