/*
 * rows_out.c
 *	  Handing rows back from set-returning functions.
 *
 * No row or one row is returned value-per-call, which needs no memory beyond
 * the call; a second row, or one with values out of line, starts a tuplestore.
 * Either works in FROM, in the select list, under LIMIT, LATERAL and in plpgsql.
 *
 * A row's datum must hold its values in line, but a tuplestore's row need not:
 * who selects only msg_id never fetches a large message.  What the pointers
 * lead to outlives the query, even if the row was popped by it: the query's
 * snapshot keeps vacuum away.  Whoever keeps rows for longer than their query (a
 * held cursor, a table, a plpgsql variable) fetches the values first, as with
 * rows straight from a table.
 */
#include "common/compat.h"

#include "api/api.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "utils/tuplestore.h"
#include "utils/typcache.h"

/* Begin to return rows; call once per function call. */
void
pgmq_rows_begin(FunctionCallInfo fcinfo, RowsOut *out)
{
	Oid			type = get_func_rettype(fcinfo->flinfo->fn_oid);

	memset(out, 0, sizeof(RowsOut));
	out->fcinfo = fcinfo;
	out->rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;
	if (out->rsinfo == NULL || !IsA(out->rsinfo, ReturnSetInfo))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("set-valued function called in context that cannot accept a set")));
	if (type == RECORDOID)
	{
		(void) get_call_result_type(fcinfo, NULL, &out->desc);
		out->desc = BlessTupleDesc(out->desc);
		out->is_composite = true;
	}
	else if (get_typtype(type) == TYPTYPE_COMPOSITE)
	{
		out->desc = lookup_rowtype_tupdesc_copy(type, -1);
		out->is_composite = true;
		for (int i = 0; i < out->desc->natts; i++)
			out->has_dropped |= TupleDescAttr(out->desc, i)->attisdropped;
	}
	else
	{
		out->desc = CreateTemplateTupleDesc(1);
		TupleDescInitEntry(out->desc, 1, "value", type, -1, 0);
	}
}

static bool
may_store(const RowsOut *out)
{
	return (out->rsinfo->allowedModes & SFRM_Materialize) != 0;
}

/* Move to a tuplestore, the first row first, if there is one. */
static void
start_store(RowsOut *out)
{
	MemoryContext old;

	if (!may_store(out))
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("materialize mode required, but it is not allowed in this context")));
	old = MemoryContextSwitchTo(out->rsinfo->econtext->ecxt_per_query_memory);
	out->store = tuplestore_begin_heap((out->rsinfo->allowedModes & SFRM_Materialize_Random) != 0,
									   false, work_mem);
	out->rsinfo->returnMode = SFRM_Materialize;
	out->rsinfo->setResult = out->store;
	out->rsinfo->setDesc = CreateTupleDescCopy(out->desc);
	MemoryContextSwitchTo(old);
	if (out->first != NULL)
	{
		tuplestore_puttuple(out->store, out->first);
		heap_freetuple(out->first);
	}
}

/* A row of a type that an upgrade has dropped columns from. */
static HeapTuple
form_row_with_dropped(TupleDesc desc, const Datum *values, const bool *nulls)
{
	Datum	   *all_values = palloc0(desc->natts * sizeof(Datum));
	bool	   *all_nulls = palloc(desc->natts * sizeof(bool));
	int			next = 0;

	for (int i = 0; i < desc->natts; i++)
	{
		all_nulls[i] = TupleDescAttr(desc, i)->attisdropped || nulls[next];
		if (!TupleDescAttr(desc, i)->attisdropped)
			all_values[i] = values[next++];
	}
	return heap_form_tuple(desc, all_values, all_nulls);
}

static bool
has_external(TupleDesc desc, const Datum *values, const bool *nulls)
{
	for (int i = 0; i < desc->natts; i++)
		if (!nulls[i] && TupleDescAttr(desc, i)->attlen == -1 &&
			VARATT_IS_EXTERNAL(DatumGetPointer(values[i])))
			return true;
	return false;
}

/* Add a row of the composite type; values are those of columns not dropped. */
void
pgmq_rows_add_values(RowsOut *out, Datum *values, bool *nulls)
{
	HeapTuple	tuple = NULL;

	if (out->has_dropped)
		tuple = form_row_with_dropped(out->desc, values, nulls);
	if (out->store == NULL &&
		(out->n > 0 || (may_store(out) &&
						(tuple ? HeapTupleHasExternal(tuple) : has_external(out->desc, values, nulls)))))
		start_store(out);
	out->n++;
	if (out->store == NULL)
		out->first = tuple != NULL ? tuple : heap_form_tuple(out->desc, values, nulls);
	else if (tuple != NULL)
	{
		tuplestore_puttuple(out->store, tuple);
		heap_freetuple(tuple);
	}
	else
		tuplestore_putvalues(out->store, out->desc, values, nulls);
}

/*
 * From here on a scalar is the second column of a row whose first is this
 * value, which must live as long as rows are added.
 */
void
pgmq_rows_lead(RowsOut *out, Datum value)
{
	Assert(out->is_composite && out->desc->natts == 2);
	out->has_leading = true;
	out->leading = value;
}

/* Add a row of one column, or of the leading one and this. */
void
pgmq_rows_add_scalar(RowsOut *out, Datum value)
{
	bool		isnull = false;

	if (out->has_leading)
	{
		Datum		values[2] = {out->leading, value};
		bool		nulls[2] = {false, false};

		pgmq_rows_add_values(out, values, nulls);
		return;
	}
	if (out->n == 0)
	{
		out->first_datum = value;
		out->n++;
		return;
	}
	if (out->n++ == 1)
	{
		out->first = heap_form_tuple(out->desc, &out->first_datum, &isnull);
		start_store(out);
	}
	tuplestore_putvalues(out->store, out->desc, &value, &isnull);
}

/*
 * What the function returns; a row that is not in a tuplestore is made a datum
 * here, in line.
 */
Datum
pgmq_rows_end(RowsOut *out)
{
	if (out->n == 1 && out->store == NULL)
		return out->is_composite ? HeapTupleGetDatum(out->first) : out->first_datum;
	out->fcinfo->isnull = true;
	if (out->n == 0)
		out->rsinfo->isDone = ExprEndResult;
	return (Datum) 0;
}

/* RowSink: a stored row with the lease to show on it. */
void
pgmq_add_message(void *state, HeapTuple tuple, const Lease *lease)
{
	MessageSink *sink = state;
	Datum		values[QUEUE_NATTS];
	bool		nulls[QUEUE_NATTS];

	heap_deform_tuple(tuple, sink->stored_desc, values, nulls);
	values[ATTNUM_READ_CT - 1] = Int32GetDatum(lease->read_ct);
	values[ATTNUM_LAST_READ_AT - 1] = TimestampTzGetDatum(lease->last_read_at);
	nulls[ATTNUM_LAST_READ_AT - 1] = TIMESTAMP_IS_NOBEGIN(lease->last_read_at);
	values[ATTNUM_VT - 1] = TimestampTzGetDatum(lease->visible_at);
	pgmq_rows_add_values(sink->out, values, nulls);
}
