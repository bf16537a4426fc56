/*
 * fn_ack.c
 *	  pgmq.delete, pgmq.archive and pgmq.set_vt: what is said about a message
 *	  by its id.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "api/api.h"
#include "catalog/pg_type.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "utils/array.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

/* The ids of a call: one, or the non-null elements of an array. */
typedef struct IdList
{
	int			n;
	int64	   *ids;
	int64		single;
} IdList;

static bool
get_one_id(FunctionCallInfo fcinfo, int position, IdList *list)
{
	list->ids = &list->single;
	list->n = PG_ARGISNULL(position) ? 0 : 1;
	if (list->n == 1)
		list->single = PG_GETARG_INT64(position);
	return true;
}

static void
get_ids(FunctionCallInfo fcinfo, int position, IdList *list)
{
	Datum	   *elements;
	bool	   *nulls;
	int			n;

	list->n = 0;
	list->ids = NULL;
	if (PG_ARGISNULL(position))
		return;
	deconstruct_array(PG_GETARG_ARRAYTYPE_P(position), INT8OID, sizeof(int64),
					  FLOAT8PASSBYVAL, TYPALIGN_DOUBLE, &elements, &nulls, &n);
	list->ids = palloc(Max(n, 1) * sizeof(int64));
	for (int i = 0; i < n; i++)
		if (!nulls[i])
			list->ids[list->n++] = DatumGetInt64(elements[i]);
}

static Datum
ids_as_array(const IdList *list)
{
	Datum	   *elements = palloc(Max(list->n, 1) * sizeof(Datum));

	for (int i = 0; i < list->n; i++)
		elements[i] = Int64GetDatum(list->ids[i]);
	return PointerGetDatum(construct_array(elements, list->n, INT8OID, sizeof(int64),
										   FLOAT8PASSBYVAL, TYPALIGN_DOUBLE));
}

/* An id that the fast path leaves to plain SQL joins the others of its kind. */
static void
leave_to_sql(IdList *rest, const IdList *list, int64 msg_id)
{
	if (rest->ids == NULL)
		rest->ids = palloc(list->n * sizeof(int64));
	rest->ids[rest->n++] = msg_id;
}

/* ---- delete ---- */

static int64
delete_fast(QueueTable *queue, const IdList *list, RowsOut *out, IdList *rest)
{
	int64		n_deleted = 0;

	for (int i = 0; i < list->n; i++)
	{
		int			n = pgmq_am_delete_message(queue->rel, list->ids[i], NULL, NULL);

		if (n == ACK_UNRESOLVED)
			leave_to_sql(rest, list, list->ids[i]);
		n_deleted += Max(n, 0);
		for (; n > 0 && out != NULL; n--)
			pgmq_rows_add_scalar(out, Int64GetDatum(list->ids[i]));
	}
	if (n_deleted > 0)
		CommandCounterIncrement();
	return n_deleted;
}

static void
delete_ids(FunctionCallInfo fcinfo, const IdList *list, RowsOut *out, int64 *n_deleted)
{
	QueueTable	queue;
	IdList		rest = *list;

	*n_deleted = 0;
	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, &pgmq_rights_delete, &queue);
	PreventCommandIfReadOnly("DELETE");
	if (queue.is_fast && queue.facts->can_ack && pgmq_am_ready_ids(queue.rel, list->ids, list->n))
	{
		rest.n = 0;
		rest.ids = NULL;
		pgmq_check_can_delete(&queue);
		*n_deleted = delete_fast(&queue, list, out, &rest);
	}
	if (rest.n > 0)
	{
		Datum		values[1] = {ids_as_array(&rest)};

		*n_deleted += pgmq_sql_run(SQL_DELETE, queue.rel, NULL, values, NULL, out);
	}
	pgmq_close_queue(&queue);
}

/* pgmq.delete(queue_name, msg_id) */
PG_FUNCTION_INFO_V1(pgmq_delete);
PGDLLEXPORT Datum
pgmq_delete(PG_FUNCTION_ARGS)
{
	IdList		list;
	int64		n;

	get_one_id(fcinfo, 1, &list);
	delete_ids(fcinfo, &list, NULL, &n);
	PG_RETURN_BOOL(n > 0);
}

/* pgmq.delete(queue_name, msg_ids) */
PG_FUNCTION_INFO_V1(pgmq_delete_batch);
PGDLLEXPORT Datum
pgmq_delete_batch(PG_FUNCTION_ARGS)
{
	IdList		list;
	RowsOut		out;
	int64		n;

	pgmq_rows_begin(fcinfo, &out);
	get_ids(fcinfo, 1, &list);
	delete_ids(fcinfo, &list, &out, &n);
	return pgmq_rows_end(&out);
}

/* ---- archive ---- */

/* Columns of an archive table, in the order of one made since 1.10 ... */
enum
{
	ARCHIVE_MSG_ID,
	ARCHIVE_READ_CT,
	ARCHIVE_ENQUEUED_AT,
	ARCHIVE_LAST_READ_AT,
	ARCHIVE_ARCHIVED_AT,
	ARCHIVE_VT,
	ARCHIVE_MESSAGE,
	ARCHIVE_HEADERS,
	ARCHIVE_NATTS
};

/* ... and where they are in one from before. */
static const int old_archive_position[ARCHIVE_NATTS] = {0, 1, 2, 7, 3, 4, 5, 6};

typedef struct ArchiveSink
{
	Relation	archive;
	TupleDesc	stored_desc;
	IndexWriter *writer;
	bool		is_old;
} ArchiveSink;

/* Move the values of an archive row to where an old table has their columns. */
static void
reorder_for_old_archive(Datum *values, bool *nulls)
{
	Datum		ordered_values[ARCHIVE_NATTS];
	bool		ordered_nulls[ARCHIVE_NATTS];

	memcpy(ordered_values, values, sizeof(ordered_values));
	memcpy(ordered_nulls, nulls, sizeof(ordered_nulls));
	for (int i = 0; i < ARCHIVE_NATTS; i++)
	{
		values[old_archive_position[i]] = ordered_values[i];
		nulls[old_archive_position[i]] = ordered_nulls[i];
	}
}

/* RowSink: put a deleted row into the archive. */
static void
archive_row(void *state, HeapTuple tuple, const Lease *lease)
{
	ArchiveSink *sink = state;
	Datum		row[QUEUE_NATTS];
	bool		row_nulls[QUEUE_NATTS];
	Datum		values[ARCHIVE_NATTS];
	bool		nulls[ARCHIVE_NATTS] = {0};
	HeapTuple	archived;

	heap_deform_tuple(tuple, sink->stored_desc, row, row_nulls);
	values[ARCHIVE_MSG_ID] = row[ATTNUM_MSG_ID - 1];
	values[ARCHIVE_READ_CT] = Int32GetDatum(lease->read_ct);
	values[ARCHIVE_ENQUEUED_AT] = row[ATTNUM_ENQUEUED_AT - 1];
	values[ARCHIVE_LAST_READ_AT] = TimestampTzGetDatum(lease->last_read_at);
	nulls[ARCHIVE_LAST_READ_AT] = TIMESTAMP_IS_NOBEGIN(lease->last_read_at);
	values[ARCHIVE_ARCHIVED_AT] = TimestampTzGetDatum(GetCurrentTransactionStartTimestamp());
	values[ARCHIVE_VT] = TimestampTzGetDatum(lease->visible_at);
	values[ARCHIVE_MESSAGE] = row[ATTNUM_MESSAGE - 1];
	nulls[ARCHIVE_MESSAGE] = row_nulls[ATTNUM_MESSAGE - 1];
	values[ARCHIVE_HEADERS] = row[ATTNUM_HEADERS - 1];
	nulls[ARCHIVE_HEADERS] = row_nulls[ATTNUM_HEADERS - 1];
	if (sink->is_old)
		reorder_for_old_archive(values, nulls);
	archived = heap_form_tuple(RelationGetDescr(sink->archive), values, nulls);
	archived->t_tableOid = RelationGetRelid(sink->archive);
	PGMQ_FAILPOINT("archive-heap-before");
	heap_insert(sink->archive, archived, GetCurrentCommandId(true), 0, NULL);
	PGMQ_FAILPOINT("archive-heap-after");
	if (sink->writer != NULL)
		pgmq_am_index_insert(sink->writer, archived, false);
	heap_freetuple(archived);
}

static int64
archive_fast(QueueTable *queue, QueueTable *archive, const IdList *list,
			 RowsOut *out, IdList *rest)
{
	ArchiveSink sink = {archive->rel, RelationGetDescr(queue->rel), NULL,
	archive->facts->is_old_archive};
	int64		n_archived = 0;

	if (archive->facts->has_indexes)
		sink.writer = pgmq_am_index_writer(archive->rel);
	for (int i = 0; i < list->n; i++)
	{
		int			n = pgmq_am_delete_message(queue->rel, list->ids[i], archive_row, &sink);

		if (n == ACK_UNRESOLVED)
			leave_to_sql(rest, list, list->ids[i]);
		n_archived += Max(n, 0);
		for (; n > 0 && out != NULL; n--)
			pgmq_rows_add_scalar(out, Int64GetDatum(list->ids[i]));
	}
	if (sink.writer != NULL)
		pgmq_am_index_close(sink.writer);
	if (n_archived > 0)
		CommandCounterIncrement();
	return n_archived;
}

static void
archive_ids(FunctionCallInfo fcinfo, const IdList *list, RowsOut *out, int64 *n_archived)
{
	QueueTable	queue;
	QueueTable	archive;
	IdList		rest = *list;

	*n_archived = 0;
	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, &pgmq_rights_take_all, &queue);
	pgmq_open_queue(fcinfo, 0, 'a', RowExclusiveLock, &pgmq_rights_archive, &archive);
	PreventCommandIfReadOnly("INSERT");
	if (queue.is_fast && queue.facts->can_ack && archive.is_fast &&
		archive.facts->can_archive && pgmq_am_ready_ids(queue.rel, list->ids, list->n))
	{
		rest.n = 0;
		rest.ids = NULL;
		pgmq_check_can_delete(&queue);
		*n_archived = archive_fast(&queue, &archive, list, out, &rest);
	}
	if (rest.n > 0)
	{
		Datum		values[1] = {ids_as_array(&rest)};

		*n_archived += pgmq_sql_run(SQL_ARCHIVE, queue.rel,
									RelationGetRelationName(archive.rel),
									values, NULL, out);
	}
	pgmq_close_queue(&archive);
	pgmq_close_queue(&queue);
}

/* pgmq.archive(queue_name, msg_id) */
PG_FUNCTION_INFO_V1(pgmq_archive);
PGDLLEXPORT Datum
pgmq_archive(PG_FUNCTION_ARGS)
{
	IdList		list;
	int64		n;

	get_one_id(fcinfo, 1, &list);
	archive_ids(fcinfo, &list, NULL, &n);
	PG_RETURN_BOOL(n > 0);
}

/* pgmq.archive(queue_name, msg_ids) */
PG_FUNCTION_INFO_V1(pgmq_archive_batch);
PGDLLEXPORT Datum
pgmq_archive_batch(PG_FUNCTION_ARGS)
{
	IdList		list;
	RowsOut		out;
	int64		n;

	pgmq_rows_begin(fcinfo, &out);
	get_ids(fcinfo, 1, &list);
	archive_ids(fcinfo, &list, &out, &n);
	return pgmq_rows_end(&out);
}

/* ---- set_vt ---- */

/* Each id once, ascending: an UPDATE touches a row once. */
static void
sort_unique(IdList *list)
{
	int			n = 0;

	if (list->n < 2)
		return;
	qsort(list->ids, list->n, sizeof(int64), pgmq_am_compare_ids);
	for (int i = 0; i < list->n; i++)
		if (i == 0 || list->ids[i] != list->ids[n - 1])
			list->ids[n++] = list->ids[i];
	list->n = n;
}

static Datum
extend_ids(FunctionCallInfo fcinfo, IdList *list, bool has_visible_at,
		   TimestampTz visible_at)
{
	QueueTable	queue;
	IdList		rest;
	RowsOut		out;
	MessageSink sink;

	pgmq_rows_begin(fcinfo, &out);
	pgmq_open_queue(fcinfo, 0, 'q', RowExclusiveLock, &pgmq_rights_extend, &queue);
	PreventCommandIfReadOnly("UPDATE");
	sort_unique(list);
	sink.out = &out;
	sink.stored_desc = RelationGetDescr(queue.rel);
	if (queue.is_fast && queue.facts->can_read && has_visible_at &&
		pgmq_am_ready_ids(queue.rel, list->ids, list->n))
	{
		rest.n = 0;
		rest.ids = NULL;
		for (int i = 0; i < list->n; i++)
			if (pgmq_am_extend_message(queue.rel, list->ids[i], visible_at,
									   pgmq_add_message, &sink) == ACK_UNRESOLVED)
				leave_to_sql(&rest, list, list->ids[i]);
	}
	else
		rest = *list;
	if (rest.n > 0)
	{
		Datum		values[2] = {TimestampTzGetDatum(visible_at), ids_as_array(&rest)};
		char		nulls[2] = {has_visible_at ? ' ' : 'n', ' '};

		(void) pgmq_sql_run(SQL_SET_VT, queue.rel, NULL, values, nulls, &out);
	}
	pgmq_close_queue(&queue);
	return pgmq_rows_end(&out);
}

/* vt as seconds from now (argument 2). */
static TimestampTz
seconds_from_now(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(2) ? 0 :
		pgmq_clock_now() + (int64) PG_GETARG_INT32(2) * USECS_PER_SEC;
}

static TimestampTz
instant(FunctionCallInfo fcinfo)
{
	return PG_ARGISNULL(2) ? 0 : PG_GETARG_TIMESTAMPTZ(2);
}

#define SET_VT_OVERLOAD(name, get_list, get_instant) \
PG_FUNCTION_INFO_V1(name); \
PGDLLEXPORT Datum \
name(PG_FUNCTION_ARGS) \
{ \
	IdList		list; \
\
	get_list(fcinfo, 1, &list); \
	return extend_ids(fcinfo, &list, !PG_ARGISNULL(2), get_instant(fcinfo)); \
}

SET_VT_OVERLOAD(pgmq_set_vt, get_one_id, seconds_from_now)
SET_VT_OVERLOAD(pgmq_set_vt_at, get_one_id, instant)
SET_VT_OVERLOAD(pgmq_set_vt_batch, get_ids, seconds_from_now)
SET_VT_OVERLOAD(pgmq_set_vt_batch_at, get_ids, instant)
