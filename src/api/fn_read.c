/*
 * fn_read.c
 *	  pgmq.read, pgmq.pop, the grouped reads, and the polling form of each.
 */
#include "common/compat.h"

#include "api/api.h"
#include "utils/jsonb.h"

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
	if (args->has_conditional)
		args->verb = SQL_READ_IF;
}

/* Arguments 1 and 2: vt and qty. */
static void
get_read_args(FunctionCallInfo fcinfo, SqlVerb verb, ReadArgs *args)
{
	memset(args, 0, sizeof(ReadArgs));
	args->verb = verb;
	args->vt_is_null = PG_ARGISNULL(1);
	args->vt_seconds = args->vt_is_null ? 0 : PG_GETARG_INT32(1);
	args->qty_is_null = PG_ARGISNULL(2);
	args->qty = args->qty_is_null ? 0 : PG_GETARG_INT32(2);
}

static void
get_grouped_args(FunctionCallInfo fcinfo, SqlVerb verb, GroupOrder order, ReadArgs *args)
{
	get_read_args(fcinfo, verb, args);
	args->is_grouped = true;
	args->group_order = order;
	args->null_is_none = order != GROUPS_HEADS_ONLY;
}

/* pgmq.read(queue_name, vt, qty, conditional) */
PG_FUNCTION_INFO_V1(pgmq_read);
PGDLLEXPORT Datum
pgmq_read(PG_FUNCTION_ARGS)
{
	ReadArgs	args;

	get_read_args(fcinfo, SQL_READ, &args);
	get_conditional(fcinfo, 3, &args);
	return pgmq_read_call(fcinfo, &args, &pgmq_rights_read);
}

/* pgmq.read_with_poll(queue_name, vt, qty, max_poll_seconds, poll_interval_ms, conditional) */
PG_FUNCTION_INFO_V1(pgmq_read_with_poll);
PGDLLEXPORT Datum
pgmq_read_with_poll(PG_FUNCTION_ARGS)
{
	ReadArgs	args;

	get_read_args(fcinfo, SQL_READ, &args);
	get_conditional(fcinfo, 5, &args);
	return pgmq_poll_call(fcinfo, &args, 3);
}

/* pgmq.pop(queue_name, qty) */
PG_FUNCTION_INFO_V1(pgmq_pop);
PGDLLEXPORT Datum
pgmq_pop(PG_FUNCTION_ARGS)
{
	ReadArgs	args = {0};

	args.verb = SQL_POP;
	args.is_pop = true;
	args.qty_is_null = PG_ARGISNULL(1);
	args.qty = args.qty_is_null ? 0 : PG_GETARG_INT32(1);
	return pgmq_read_call(fcinfo, &args, &pgmq_rights_pop);
}

/* ---- grouped: (queue_name, vt, qty [, max_poll_seconds, poll_interval_ms]) ---- */

#define GROUPED_READ(name, verb, order) \
PG_FUNCTION_INFO_V1(name); \
PGDLLEXPORT Datum \
name(PG_FUNCTION_ARGS) \
{ \
	ReadArgs	args; \
\
	get_grouped_args(fcinfo, verb, order, &args); \
	return pgmq_read_call(fcinfo, &args, &pgmq_rights_read); \
} \
PG_FUNCTION_INFO_V1(name##_with_poll); \
PGDLLEXPORT Datum \
name##_with_poll(PG_FUNCTION_ARGS) \
{ \
	ReadArgs	args; \
\
	get_grouped_args(fcinfo, verb, order, &args); \
	return pgmq_poll_call(fcinfo, &args, 3); \
}

GROUPED_READ(pgmq_read_grouped, SQL_READ_GROUPED, GROUPS_ONE_BY_ONE)
GROUPED_READ(pgmq_read_grouped_rr, SQL_READ_GROUPED_RR, GROUPS_IN_TURN)
GROUPED_READ(pgmq_read_grouped_head, SQL_READ_GROUPED_HEAD, GROUPS_HEADS_ONLY)
