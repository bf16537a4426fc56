/*
 * am_present.c
 *	  Rows as SQL sees them, and as the page stores them.
 *
 * The page stores last_read_at always, -infinity standing for NULL; SQL must
 * see NULL.  And a transaction's own leases are not on the page before it
 * commits; it must see them all the same.  So writers turn a row into its
 * stored form, and fetchers patch a copy of the row in the slot, but only
 * where there is something to patch.
 *
 * The slot's own descriptor decides, never the relation's: a rewrite reads
 * rows by the old one.
 */
#include "common/compat.h"

#include "am/am.h"
#include "utils/timestamp.h"

/* Set while raw rows are wanted (CLUSTER and VACUUM FULL copy them). */
bool		pgmq_am_is_raw = false;

/* heap_modify_tuple, keeping the transaction's marks on the row. */
static HeapTuple
modify_tuple(HeapTuple tuple, TupleDesc desc, const Datum *values,
			 const bool *isnull, const bool *replace)
{
	HeapTuple	result = heap_modify_tuple(tuple, desc, unconstify(Datum *, values),
										   unconstify(bool *, isnull),
										   unconstify(bool *, replace));

	result->t_data->t_choice = tuple->t_data->t_choice;
	result->t_data->t_infomask &= ~HEAP_XACT_MASK;
	result->t_data->t_infomask |= tuple->t_data->t_infomask & HEAP_XACT_MASK;
	result->t_data->t_infomask2 &= ~HEAP2_XACT_MASK;
	result->t_data->t_infomask2 |= tuple->t_data->t_infomask2 & HEAP2_XACT_MASK;
	result->t_data->t_ctid = tuple->t_data->t_ctid;
	return result;
}

/* A copy of the row with last_read_at replaced. */
static HeapTuple
replace_last_read_at(HeapTuple tuple, TupleDesc desc, Datum value, bool is_null)
{
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *isnull = palloc0(desc->natts * sizeof(bool));
	bool	   *replace = palloc0(desc->natts * sizeof(bool));
	HeapTuple	result;

	values[ATTNUM_LAST_READ_AT - 1] = value;
	isnull[ATTNUM_LAST_READ_AT - 1] = is_null;
	replace[ATTNUM_LAST_READ_AT - 1] = true;
	result = modify_tuple(tuple, desc, values, isnull, replace);
	pfree(values);
	pfree(isnull);
	pfree(replace);
	return result;
}

/*
 * A copy of the row that carries a lease; last_read_at = -infinity is shown
 * as NULL.  palloc'd.
 */
HeapTuple
pgmq_am_with_lease(TupleDesc desc, HeapTuple tuple, const Lease *lease)
{
	Datum	   *values = palloc0(desc->natts * sizeof(Datum));
	bool	   *isnull = palloc0(desc->natts * sizeof(bool));
	bool	   *replace = palloc0(desc->natts * sizeof(bool));

	values[ATTNUM_READ_CT - 1] = Int32GetDatum(lease->read_ct);
	replace[ATTNUM_READ_CT - 1] = true;
	values[ATTNUM_LAST_READ_AT - 1] = TimestampTzGetDatum(lease->last_read_at);
	isnull[ATTNUM_LAST_READ_AT - 1] = TIMESTAMP_IS_NOBEGIN(lease->last_read_at);
	replace[ATTNUM_LAST_READ_AT - 1] = true;
	values[ATTNUM_VT - 1] = TimestampTzGetDatum(lease->visible_at);
	replace[ATTNUM_VT - 1] = true;
	return modify_tuple(tuple, desc, values, isnull, replace);
}

/* Is last_read_at NULL to SQL, and stored as -infinity? */
bool
pgmq_am_stores_null(HeapTuple tuple, TupleDesc desc)
{
	bool		isnull;
	Datum		value = heap_getattr(tuple, ATTNUM_LAST_READ_AT, desc, &isnull);

	return !isnull && TIMESTAMP_IS_NOBEGIN(DatumGetTimestampTz(value));
}

/*
 * Make the row in a slot that was just fetched look as SQL expects.  A patched
 * slot holds its own copy and no buffer.
 */
void
pgmq_am_present(Relation rel, TupleTableSlot *slot)
{
	TupleDesc	desc = slot->tts_tupleDescriptor;
	HeapTuple	tuple;
	HeapTuple	shown = NULL;
	Lease		lease;
	int64		msg_id;
	bool		has_msg_id;

	if (pgmq_am_is_raw || !descr_stores_last_read_at(desc) ||
		!TTS_IS_BUFFERTUPLE(slot))
		return;
	tuple = ((BufferHeapTupleTableSlot *) slot)->base.tuple;
	if (tuple == NULL)
		return;					/* a bitmap scan that only counts rows, up to 17.4 */
	if (descr_is_queue(desc))
	{
		pgmq_am_row_values(tuple, desc, &msg_id, &lease, &has_msg_id);
		if (has_msg_id && pgmq_xact_shown_lease(rel, &tuple->t_self, msg_id, &lease))
			shown = pgmq_am_with_lease(desc, tuple, &lease);
	}
	if (shown == NULL && pgmq_am_stores_null(tuple, desc))
		shown = replace_last_read_at(tuple, desc, (Datum) 0, true);
	if (shown != NULL)
	{
		ItemPointerData tid = tuple->t_self;
		Oid			table_oid = slot->tts_tableOid;

		shown->t_self = tid;
		shown->t_tableOid = table_oid;
		ExecForceStoreHeapTuple(shown, slot, true);
		slot->tts_tid = tid;
		slot->tts_tableOid = table_oid;
	}
}

/*
 * The form in which a row is stored: last_read_at never null, unless the table
 * is published or this table's leases are UPDATEs anyway.  Returns the tuple
 * itself where nothing changes, else a palloc'd copy.
 */
HeapTuple
pgmq_am_stored_form(Relation rel, HeapTuple tuple)
{
	TupleDesc	desc = RelationGetDescr(rel);

	if (!descr_stores_last_read_at(desc) ||
		!heap_attisnull(tuple, ATTNUM_LAST_READ_AT, desc) ||
		facts_store_nulls(pgmq_am_facts(rel)))
		return tuple;
	return replace_last_read_at(tuple, desc, TimestampTzGetDatum(DT_NOBEGIN), false);
}

/*
 * msg_id and lease columns of a stored row.  A NULL read_ct counts as 0, a
 * NULL vt as never visible; without msg_id the ring cannot know the row.
 */
void
pgmq_am_row_values(HeapTuple tuple, TupleDesc desc, int64 *msg_id, Lease *lease,
				   bool *has_msg_id)
{
	bool		isnull;
	Datum		value;

	if (queue_row_has_head(tuple->t_data))
	{
		QueueRowHead *head = queue_row_head(tuple->t_data);

		*msg_id = head->msg_id;
		lease->read_ct = head->read_ct;
		lease->last_read_at = head->last_read_at;
		lease->visible_at = head->visible_at;
		*has_msg_id = true;
		return;
	}
	value = heap_getattr(tuple, ATTNUM_MSG_ID, desc, &isnull);
	*msg_id = isnull ? 0 : DatumGetInt64(value);
	*has_msg_id = !isnull;
	value = heap_getattr(tuple, ATTNUM_READ_CT, desc, &isnull);
	lease->read_ct = isnull ? 0 : DatumGetInt32(value);
	value = heap_getattr(tuple, ATTNUM_LAST_READ_AT, desc, &isnull);
	lease->last_read_at = isnull ? DT_NOBEGIN : DatumGetTimestampTz(value);
	value = heap_getattr(tuple, ATTNUM_VT, desc, &isnull);
	lease->visible_at = isnull ? DT_NOEND : DatumGetTimestampTz(value);
}
