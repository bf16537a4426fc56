/*
 * fn_metrics.c
 *	  pgmq.metrics, pgmq.metrics_all and pgmq.check_queue.
 *
 * On a hot queue the counts come from the ring, exactly, at the same price for
 * any depth; the ages come from the rows with the lowest and highest msg_id.
 */
#include "common/compat.h"

#include <math.h>

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xact.h"
#include "api/api.h"
#include "catalog/namespace.h"
#include "catalog/pg_type.h"
#include "commands/sequence.h"
#include "common/clock.h"
#include "executor/spi.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/fmgrprotos.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"
#include "utils/timestamp.h"

/* Columns of pgmq.metrics_result. */
enum
{
	METRICS_QUEUE_NAME,
	METRICS_QUEUE_LENGTH,
	METRICS_NEWEST_AGE,
	METRICS_OLDEST_AGE,
	METRICS_TOTAL,
	METRICS_SCRAPE_TIME,
	METRICS_VISIBLE_LENGTH,
	METRICS_DEFAULT_PARTITION_LENGTH,
	METRICS_NATTS
};

typedef struct QueueMetrics
{
	int64		length;
	int64		visible_length;
	bool		has_rows;
	TimestampTz newest;
	TimestampTz oldest;
} QueueMetrics;

/* Rows of a converted heap queue have no head until they are read. */
static bool
row_enqueued_at(Relation rel, const Row *row, TimestampTz *enqueued_at)
{
	bool		isnull;
	Datum		value;

	if (row->has_head)
	{
		*enqueued_at = row->head.enqueued_at;
		return true;
	}
	value = heap_getattr(row->tuple, ATTNUM_ENQUEUED_AT, RelationGetDescr(rel), &isnull);
	*enqueued_at = DatumGetTimestampTz(value);
	return !isnull;
}

/* enqueued_at of the lowest or highest message; false if there is none. */
static bool
end_enqueued_at(Relation rel, XactQueue *queue, bool want_last, TimestampTz *enqueued_at)
{
	MessageRef	ref;
	MessageRef	beyond;
	bool		found = pgmq_xact_end_id(queue, want_last, NULL, &ref);

	while (found)
	{
		Row			row;
		RowState	state = pgmq_am_look(rel, &ref.tid, ref.msg_id, true, &row);

		if ((state == ROW_LIVE || state == ROW_LOCKED) &&
			row_enqueued_at(rel, &row, enqueued_at))
			return true;
		CHECK_FOR_INTERRUPTS();
		beyond = ref;
		found = pgmq_xact_end_id(queue, want_last, &beyond, &ref);
	}
	return false;
}

/* From the ring; false if it cannot answer exactly. */
static bool
metrics_from_ring(QueueTable *table, QueueMetrics *metrics)
{
	XactQueue  *queue;
	QueueCounts counts;

	if (!table->is_fast || !table->facts->is_hot || !table->facts->is_queue ||
		IsolationUsesXactSnapshot() || !pgmq_am_can_find(table->rel))
		return false;
	queue = pgmq_xact_queue(table->rel);
	pgmq_am_settle_all(table->rel, queue);
	pgmq_xact_counts(queue, pgmq_clock_now(), &counts);
	if (!counts.is_exact)
		return false;
	metrics->length = counts.length;
	metrics->visible_length = counts.visible_length;
	metrics->has_rows = end_enqueued_at(table->rel, queue, true, &metrics->newest) &&
		end_enqueued_at(table->rel, queue, false, &metrics->oldest);
	return true;
}

static void
metrics_by_sql(Relation rel, QueueMetrics *metrics)
{
	char	   *table = quote_qualified_identifier("pgmq", RelationGetRelationName(rel));
	Oid			types[1] = {TIMESTAMPTZOID};
	Datum		values[1] = {TimestampTzGetDatum(pgmq_clock_transaction_start())};
	bool		isnull;

	SPI_connect();
	if (SPI_execute_with_args(psprintf("SELECT pg_catalog.count(*), "
									   "pg_catalog.count(*) FILTER (WHERE vt OPERATOR(pg_catalog.<=) $1), "
									   "pg_catalog.max(enqueued_at), pg_catalog.min(enqueued_at) FROM %s", table),
							  1, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not count the messages of %s", table);
#define COLUMN(n) SPI_getbinval(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, n, &isnull)
	metrics->length = DatumGetInt64(COLUMN(1));
	metrics->visible_length = DatumGetInt64(COLUMN(2));
	metrics->newest = DatumGetTimestampTz(COLUMN(3));
	metrics->oldest = DatumGetTimestampTz(COLUMN(4));
	metrics->has_rows = !isnull;
#undef COLUMN
	SPI_finish();
}

/* Messages ever sent: where the sequence stands, 0 before its first value. */
static int64
total_messages(const RelationFacts *facts, Relation rel)
{
	Oid			sequence = OidIsValid(facts->sequence) ? facts->sequence :
		pgmq_identity_sequence(rel, ATTNUM_MSG_ID);
	LOCAL_FCINFO(call, 1);
	Datum		value;

	if (!OidIsValid(sequence))
		return 0;
	if (pg_class_aclcheck(sequence, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
		aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_SEQUENCE, get_rel_name(sequence));
	InitFunctionCallInfoData(*call, NULL, 1, InvalidOid, NULL, NULL);
	call->args[0].value = ObjectIdGetDatum(sequence);
	call->args[0].isnull = false;
	value = pg_sequence_last_value(call);
	return call->isnull ? 0 : DatumGetInt64(value);
}

/* The planner's estimate for a table, by name; adds to *sum. */
static bool
add_reltuples(Oid schema, const char *name, int64 *sum)
{
	Oid			relid = get_relname_relid(name, schema);
	HeapTuple	tuple;

	if (!OidIsValid(relid))
		return false;
	tuple = SearchSysCache1(RELOID, ObjectIdGetDatum(relid));
	if (!HeapTupleIsValid(tuple))
		return false;
	*sum += (int64) Max(((Form_pg_class) GETSTRUCT(tuple))->reltuples, 0);
	ReleaseSysCache(tuple);
	return true;
}

/* Rows in the default partitions, as the contract counts them. */
static bool
default_partition_length(Relation rel, int64 *length)
{
	char	   *table = RelationGetRelationName(rel);
	Oid			schema = RelationGetNamespace(rel);

	*length = 0;
	if (!add_reltuples(schema, psprintf("%s_default", table), length))
		return false;
	(void) add_reltuples(schema, psprintf("a%s_default", table + 1), length);
	return true;
}

static Datum
age_in_seconds(TimestampTz now, TimestampTz then)
{
	return Int32GetDatum((int32) rint((double) (now - then) / USECS_PER_SEC));
}

static void
fill_metrics(QueueTable *table, Datum queue_name, Datum *values, bool *nulls)
{
	QueueMetrics metrics;
	TimestampTz now = GetCurrentTransactionStartTimestamp();
	int64		partition_length;

	if (!metrics_from_ring(table, &metrics))
		metrics_by_sql(table->rel, &metrics);
	memset(nulls, 0, METRICS_NATTS * sizeof(bool));
	values[METRICS_QUEUE_NAME] = queue_name;
	values[METRICS_QUEUE_LENGTH] = Int64GetDatum(metrics.length);
	nulls[METRICS_NEWEST_AGE] = nulls[METRICS_OLDEST_AGE] = !metrics.has_rows;
	if (metrics.has_rows)
	{
		values[METRICS_NEWEST_AGE] = age_in_seconds(now, metrics.newest);
		values[METRICS_OLDEST_AGE] = age_in_seconds(now, metrics.oldest);
	}
	values[METRICS_TOTAL] = Int64GetDatum(total_messages(table->facts, table->rel));
	values[METRICS_SCRAPE_TIME] = TimestampTzGetDatum(now);
	values[METRICS_VISIBLE_LENGTH] = Int64GetDatum(metrics.visible_length);
	nulls[METRICS_DEFAULT_PARTITION_LENGTH] =
		!default_partition_length(table->rel, &partition_length);
	values[METRICS_DEFAULT_PARTITION_LENGTH] = Int64GetDatum(partition_length);
}

/* pgmq.metrics(queue_name) */
PG_FUNCTION_INFO_V1(pgmq_metrics);
PGDLLEXPORT Datum
pgmq_metrics(PG_FUNCTION_ARGS)
{
	QueueTable	table;
	TupleDesc	desc;
	Datum		values[METRICS_NATTS];
	bool		nulls[METRICS_NATTS];

	if (get_call_result_type(fcinfo, NULL, &desc) != TYPEFUNC_COMPOSITE)
		elog(ERROR, "return type must be a row type");
	pgmq_open_queue(fcinfo, 0, 'q', AccessShareLock, &pgmq_rights_metrics, &table);
	fill_metrics(&table, PG_GETARG_DATUM(0), values, nulls);
	pgmq_close_queue(&table);
	PG_RETURN_DATUM(HeapTupleGetDatum(heap_form_tuple(BlessTupleDesc(desc), values, nulls)));
}

/* The names in meta, in heap order; palloc'd texts. */
int
pgmq_queue_names(Datum **names)
{
	MemoryContext caller = CurrentMemoryContext;
	int			n;

	SPI_connect();
	if (SPI_execute("SELECT queue_name::pg_catalog.text FROM pgmq.meta", false, 0) != SPI_OK_SELECT)
		elog(ERROR, "could not list the queues");
	n = (int) SPI_processed;
	*names = MemoryContextAlloc(caller, Max(n, 1) * sizeof(Datum));
	for (int i = 0; i < n; i++)
	{
		bool		isnull;
		Datum		name = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1, &isnull);

		(*names)[i] = SPI_datumTransfer(name, false, -1);
	}
	SPI_finish();
	return n;
}

/* pgmq.metrics_all() */
PG_FUNCTION_INFO_V1(pgmq_metrics_all);
PGDLLEXPORT Datum
pgmq_metrics_all(PG_FUNCTION_ARGS)
{
	RowsOut		out;
	Datum	   *names;
	int			n = pgmq_queue_names(&names);

	pgmq_rows_begin(fcinfo, &out);
	for (int i = 0; i < n; i++)
	{
		LOCAL_FCINFO(call, 1);
		QueueTable	table;
		Datum		values[METRICS_NATTS];
		bool		nulls[METRICS_NATTS];

		InitFunctionCallInfoData(*call, NULL, 1, InvalidOid, NULL, NULL);
		call->args[0].value = names[i];
		call->args[0].isnull = false;
		pgmq_open_queue(call, 0, 'q', AccessShareLock, &pgmq_rights_metrics, &table);
		fill_metrics(&table, names[i], values, nulls);
		pgmq_rows_add_values(&out, values, nulls);
		pgmq_close_queue(&table);
	}
	return pgmq_rows_end(&out);
}

static void
add_problem(void *state, int64 msg_id, const ItemPointerData *tid, const char *problem)
{
	ItemPointer copy = palloc(sizeof(ItemPointerData));
	Datum		values[3];
	bool		nulls[3] = {0};

	*copy = *tid;
	values[0] = Int64GetDatum(msg_id);
	values[1] = PointerGetDatum(copy);
	values[2] = CStringGetTextDatum(problem);
	pgmq_rows_add_values(state, values, nulls);
}

/*
 * pgmq.check_queue(queue_name): every disagreement between the table and the
 * ring of a hot queue; no row means that they agree.
 */
PG_FUNCTION_INFO_V1(pgmq_check_queue);
PGDLLEXPORT Datum
pgmq_check_queue(PG_FUNCTION_ARGS)
{
	QueueTable	table;
	RowsOut		out;

	pgmq_rows_begin(fcinfo, &out);
	pgmq_open_queue(fcinfo, 0, 'q', AccessShareLock, &pgmq_rights_metrics, &table);
	if (table.facts->is_hot)
		pgmq_am_check(table.rel, add_problem, &out);
	pgmq_close_queue(&table);
	return pgmq_rows_end(&out);
}
