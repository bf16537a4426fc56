/*
 * am_ack.c
 *	  Deleting and extending messages by id on the fast path.
 *
 * msg_id -> TID comes from the ring; nothing makes msg_id unique, so every row
 * that carries it is treated, as SQL would.  Rows that other transactions
 * hold are waited for.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "am/am.h"
#include "utils/timestamp.h"

/* Rows treated under one msg_id; more than one is rare. */
#define MAX_ROWS_PER_ID 16

/* Pause while another backend is in the middle of taking a row's lock. */
#define LOCKING_PAUSE_US 50

static void
refuse_snapshot_conflict(void)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg("could not serialize access due to concurrent update")));
}

/* Can this transaction find messages by id through the ring? */
bool
pgmq_am_can_find(Relation rel)
{
	XactQueue  *queue = pgmq_xact_queue(rel);

	return pgmq_xact_queue_is_usable(queue) &&
		pgmq_am_ready_ring(rel, queue, GetCurrentTimestamp());
}

/* What SQL would see of a deleted row's lease columns. */
static Lease
shown_lease(Relation rel, Row *row, const Lease *own)
{
	Lease		lease;
	int64		msg_id;
	bool		has_msg_id;

	if (own != NULL)
		return *own;
	pgmq_am_row_values(row->tuple, RelationGetDescr(rel), &msg_id, &lease, &has_msg_id);
	return lease;
}

/* This transaction's own standing lease of a row, or NULL. */
static const Lease *
own_lease(XactQueue *queue, const ItemPointerData *tid, Lease *lease)
{
	int			index = pgmq_xact_find_message(queue, tid);

	if (index < 0 || (pgmq_xact_message(index)->flags & MSG_LEASED) == 0)
		return NULL;
	*lease = pgmq_xact_message(index)->lease;
	return lease;
}

/*
 * Delete the row a reference leads to, waiting for whoever holds it.  False if
 * it is gone.
 */
static bool
delete_ref(Relation rel, XactQueue *queue, const MessageRef *ref, RowSink sink,
		   void *sink_state)
{
	ItemPointerData tid = ref->tid;
	Row			row;
	Lease		lease;
	const Lease *own;
	TM_FailureData tmfd;

	for (;;)
	{
		switch (pgmq_am_look(rel, &tid, ref->msg_id, false, &row))
		{
			case ROW_GONE:
			case ROW_INVISIBLE:
				return false;
			default:
				break;
		}
		row.tuple = NULL;
		own = own_lease(queue, &tid, &lease);
		switch (pgmq_am_delete_tid(rel, &tid, GetCurrentCommandId(true),
								   InvalidSnapshot, true, false, &tmfd, false,
								   sink ? &row : NULL))
		{
			case TM_Ok:
				if (sink != NULL && row.tuple != NULL)
				{
					lease = shown_lease(rel, &row, own);
					sink(sink_state, row.tuple, &lease);
				}
				return true;
			case TM_Updated:
				if (IsolationUsesXactSnapshot())
					refuse_snapshot_conflict();
				if (ItemPointerIndicatesMovedPartitions(&tmfd.ctid))
					return false;
				tid = tmfd.ctid;
				break;
			case TM_Deleted:
				if (IsolationUsesXactSnapshot())
					refuse_snapshot_conflict();
				return false;
			default:
				return false;
		}
	}
}

/*
 * Delete every row with this msg_id; returns how many went.  The sink, if any,
 * gets each row as it was.  The caller holds RowExclusiveLock, has checked
 * pgmq_am_can_find(), and increments the command counter afterwards.
 */
int
pgmq_am_delete_message(Relation rel, int64 msg_id, RowSink sink, void *sink_state)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	MessageRef	refs[MAX_ROWS_PER_ID];
	int			deleted = 0;
	int			n = pgmq_xact_find_by_id(queue, msg_id, MAX_ROWS_PER_ID, refs);

	for (int i = 0; i < n; i++)
		deleted += delete_ref(rel, queue, &refs[i], sink, sink_state);
	return deleted;
}

/* Lease a claimed row with a new visible_at and nothing else changed. */
static void
extend_row(Relation rel, int message, Row *row, TimestampTz visible_at,
		   RowSink sink, void *sink_state)
{
	XactMessage *m = pgmq_xact_message(message);
	Lease		lease = m->lease;
	ItemPointerData tid = m->tid;

	if ((m->flags & (MSG_LEASED | MSG_SENT)) == 0)
	{
		int64		msg_id;
		bool		has_msg_id;

		pgmq_am_row_values(row->tuple, RelationGetDescr(rel), &msg_id, &lease, &has_msg_id);
	}
	lease.visible_at = visible_at;
	if (row->has_head)
		pgmq_xact_set_lease(message, &lease);
	else
		pgmq_am_lease_by_update(rel, &tid, &lease);
	sink(sink_state, row->tuple, &lease);
}

/*
 * Extend the row a reference leads to, waiting for whoever holds it.  Returns
 * 1, or 0 if it is gone, or -1 to look its id up again.
 */
static int
extend_ref(Relation rel, XactQueue *queue, const MessageRef *ref,
		   TimestampTz visible_at, RowSink sink, void *sink_state)
{
	ItemPointerData tid = ref->tid;
	VirtualTransactionId owner;
	Row			row;
	int			message;

	switch (pgmq_xact_claim_any(queue, ref, &message, &owner))
	{
		case CLAIM_GONE:
			return 0;
		case CLAIM_FOREIGN:
			pgmq_am_wait_for(owner);
			return -1;
		case CLAIM_UNDECIDED:
			pgmq_am_settle_row(rel, queue, ref->msg_id, &ref->tid);
			switch (pgmq_am_look(rel, &tid, ref->msg_id, false, &row))
			{
				case ROW_LOCKED:
					pgmq_am_lock_row(rel, &tid, LockTupleNoKeyExclusive);
					return -1;
				case ROW_LIVE:
					return -1;
				default:
					return 0;
			}
		case CLAIM_LOCKING:
			pg_usleep(LOCKING_PAUSE_US);	/* it does not wait, so neither long */
			return -1;
		case CLAIM_TAKEN:
			break;
	}
	switch (pgmq_am_look(rel, &tid, ref->msg_id, true, &row))
	{
		case ROW_LIVE:
			if (IsolationUsesXactSnapshot() && pgmq_xact_is_newer(message))
				refuse_snapshot_conflict();
			extend_row(rel, message, &row, visible_at, sink, sink_state);
			return 1;
		case ROW_LOCKED:
			pgmq_xact_give_back(message);
			pgmq_am_lock_row(rel, &tid, LockTupleNoKeyExclusive);
			return -1;
		case ROW_GONE:
			pgmq_xact_forget_row(message);
			return 0;
		case ROW_INVISIBLE:
			pgmq_xact_give_back(message);
			return 0;
	}
	return 0;
}

/*
 * Move visible_at of every row with this msg_id; returns how many.  Conditions
 * as for pgmq_am_delete_message().
 */
int
pgmq_am_extend_message(Relation rel, int64 msg_id, TimestampTz visible_at,
					   RowSink sink, void *sink_state)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	MessageRef	refs[MAX_ROWS_PER_ID];
	int			extended = 0;
	int			n = pgmq_xact_find_by_id(queue, msg_id, MAX_ROWS_PER_ID, refs);
	int			i = 0;

	while (i < n)
	{
		int			result = extend_ref(rel, queue, &refs[i], visible_at, sink, sink_state);

		CHECK_FOR_INTERRUPTS();
		if (result >= 0)
		{
			extended += result;
			i++;
		}
		else if (extended == 0)
		{
			n = pgmq_xact_find_by_id(queue, msg_id, MAX_ROWS_PER_ID, refs);
			i = 0;
		}
	}
	return extended;
}
