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
#include "common/clock.h"
#include "utils/timestamp.h"

/* Room for rows under one msg_id; more than one row is rare. */
#define ROWS_PER_ID 4

/* As the executor says it. */
static void
refuse_snapshot_conflict(TM_Result result)
{
	ereport(ERROR,
			(errcode(ERRCODE_T_R_SERIALIZATION_FAILURE),
			 errmsg(result == TM_Deleted ?
					"could not serialize access due to concurrent delete" :
					"could not serialize access due to concurrent update")));
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

/* How it went with one row. */
typedef enum AckResult
{
	ACK_DONE,
	ACK_NONE,					/* there is no such row for us */
	ACK_AGAIN					/* it was replaced, or waited for: look the id
								 * up again */
} AckResult;

/*
 * The page says that the row of a slot is gone.  Its newer version, if it was
 * updated, has a slot of its own from its committer's COMMIT callback on; wait
 * for that, and tidy up a slot that nobody holds.
 */
static AckResult
resolve_gone(Relation rel, XactQueue *queue, const MessageRef *ref)
{
	ClaimOwner	owner;
	int			message;

	if (ref->slot == 0)
		return ACK_NONE;
	switch (pgmq_xact_claim_any(queue, ref, &message, &owner))
	{
		case CLAIM_FOREIGN:
			pgmq_am_wait_for(&owner);
			break;
		case CLAIM_TAKEN:
			pgmq_xact_forget_row(message);
			break;
		case CLAIM_UNDECIDED:
			pgmq_am_settle_row(rel, queue, ref->msg_id, &ref->tid);
			break;
		default:
			pgmq_am_pause();
			break;
	}
	CHECK_FOR_INTERRUPTS();
	return ACK_AGAIN;
}

/* Delete the row a reference leads to, waiting for whoever holds it. */
static AckResult
delete_ref(Relation rel, XactQueue *queue, const MessageRef *ref, RowSink sink,
		   void *sink_state)
{
	ItemPointerData tid = ref->tid;
	Row			row;
	Lease		lease;
	const Lease *own;
	TM_Result	result;

	switch (pgmq_am_look(rel, &tid, ref->msg_id, false, &row))
	{
		case ROW_GONE:
			return resolve_gone(rel, queue, ref);
		case ROW_INVISIBLE:
			return ACK_NONE;
		default:
			break;
	}
	row.tuple = NULL;
	own = sink != NULL ? own_lease(queue, &tid, &lease) : NULL;
	result = pgmq_am_delete_known(rel, &tid, ref->msg_id, sink ? &row : NULL);
	switch (result)
	{
		case TM_Ok:
			if (sink != NULL && row.tuple != NULL)
			{
				lease = shown_lease(rel, &row, own);
				sink(sink_state, row.tuple, &lease);
			}
			return ACK_DONE;
		case TM_Updated:
		case TM_Deleted:
			if (IsolationUsesXactSnapshot())
				refuse_snapshot_conflict(result);
			return ACK_AGAIN;
		default:
			return ACK_NONE;
	}
}

/* All rows known under a msg_id; palloc'd. */
static int
find_rows(XactQueue *queue, int64 msg_id, MessageRef **refs)
{
	int			max = ROWS_PER_ID;
	int			n;

	*refs = palloc(max * sizeof(MessageRef));
	while ((n = pgmq_xact_find_by_id(queue, msg_id, max, *refs)) == max)
	{
		max *= 2;
		*refs = repalloc(*refs, max * sizeof(MessageRef));
	}
	return n;
}

/*
 * No row, and it was not looked for again yet: wait for senders who have
 * committed and are about to publish.  True: look again.
 */
static bool
may_come_late(int n_done, bool *has_awaited)
{
	if (n_done > 0 || *has_awaited)
		return false;
	*has_awaited = true;
	return pgmq_xact_await_publishing(LONG_MAX) != AWAIT_NOBODY;
}

/*
 * No row does not always mean that there is none.  It may have become cold since
 * pgmq_am_ready_ids() looked; and under a transaction's snapshot it may have been
 * changed since, which is 40001.  Plain SQL must say then.
 */
static int
ack_count(XactQueue *queue, int64 msg_id, int n_done)
{
	if (n_done == 0 &&
		(IsolationUsesXactSnapshot() || pgmq_xact_may_be_cold(queue, msg_id)))
		return ACK_UNRESOLVED;
	return n_done;
}

/*
 * Delete every row with this msg_id; returns how many went, or ACK_UNRESOLVED.
 * The sink, if any, gets each row as it was.  The caller holds
 * RowExclusiveLock, has called pgmq_am_ready_ids(), and increments the command
 * counter afterwards.
 */
int
pgmq_am_delete_message(Relation rel, int64 msg_id, RowSink sink, void *sink_state)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	bool		again;
	int			deleted = 0;
	bool		has_awaited = false;

	do
	{
		MessageRef *refs;
		int			n = find_rows(queue, msg_id, &refs);

		again = false;
		for (int i = 0; i < n && !again; i++)
		{
			AckResult	result = delete_ref(rel, queue, &refs[i], sink, sink_state);

			deleted += result == ACK_DONE;
			again = result == ACK_AGAIN;
		}
		pfree(refs);
		CHECK_FOR_INTERRUPTS();
	} while (again || may_come_late(deleted, &has_awaited));
	pgmq_xact_trim();
	return ack_count(queue, msg_id, deleted);
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
		pgmq_xact_set_lease(message, &lease, true);
	else
		pgmq_am_lease_by_update(rel, &tid, &lease);
	sink(sink_state, row->tuple, &lease);
}

/* A row that another transaction locks: wait for it, then look again. */
static AckResult
wait_for_lock(Relation rel, ItemPointer tid)
{
	RowLine		line = {0};

	pgmq_am_wait_in_line(&line, rel, tid, LockTupleNoKeyExclusive, XLTW_Update);
	pgmq_am_leave_line(&line);
	return ACK_AGAIN;
}

/* Extend the row of a message we hold. */
static AckResult
extend_claimed(Relation rel, const MessageRef *ref, int message,
			   TimestampTz visible_at, RowSink sink, void *sink_state)
{
	ItemPointerData tid = ref->tid;
	Row			row;
	RowState	state = pgmq_am_look(rel, &tid, ref->msg_id, true, &row);

	/* An UPDATE of vt does not mind a key share lock either. */
	if (state == ROW_LOCKED && row.is_key_shared)
		state = ROW_LIVE;
	switch (state)
	{
		case ROW_LIVE:
			if (IsolationUsesXactSnapshot() && pgmq_xact_is_newer(message))
				refuse_snapshot_conflict(TM_Updated);
			extend_row(rel, message, &row, visible_at, sink, sink_state);
			return ACK_DONE;
		case ROW_LOCKED:
			pgmq_xact_give_back(message);
			return wait_for_lock(rel, &tid);
		case ROW_GONE:
			pgmq_xact_forget_row(message);
			return ACK_AGAIN;
		default:
			pgmq_xact_give_back(message);
			return ACK_NONE;
	}
}

/* Extend the row a reference leads to, waiting for whoever holds it. */
static AckResult
extend_ref(Relation rel, XactQueue *queue, const MessageRef *ref,
		   TimestampTz visible_at, RowSink sink, void *sink_state)
{
	ItemPointerData tid = ref->tid;
	ClaimOwner	owner;
	Row			row;
	int			message;

	switch (pgmq_xact_claim_any(queue, ref, &message, &owner))
	{
		case CLAIM_TAKEN:
			return extend_claimed(rel, ref, message, visible_at, sink, sink_state);
		case CLAIM_GONE:
			return ACK_AGAIN;
		case CLAIM_FOREIGN:
			pgmq_am_wait_for(&owner);
			return ACK_AGAIN;
		case CLAIM_BUSY:
			pgmq_am_pause();
			return ACK_AGAIN;
		case CLAIM_UNDECIDED:
			break;
	}
	pgmq_am_settle_row(rel, queue, ref->msg_id, &ref->tid);
	switch (pgmq_am_look(rel, &tid, ref->msg_id, false, &row))
	{
		case ROW_LOCKED:
			return wait_for_lock(rel, &tid);
		case ROW_LIVE:
			return ACK_AGAIN;
		default:
			return ACK_NONE;
	}
}

/*
 * Move visible_at of every row with this msg_id; returns how many, or
 * ACK_UNRESOLVED.  Conditions as for pgmq_am_delete_message().
 */
int
pgmq_am_extend_message(Relation rel, int64 msg_id, TimestampTz visible_at,
					   RowSink sink, void *sink_state)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	int			n_done = 0;		/* rows before this one are extended */
	bool		has_awaited = false;
	bool		again;

	do
	{
		MessageRef *refs;
		int			n = find_rows(queue, msg_id, &refs);

		again = false;
		for (int i = n_done; i < n && !again; i++)
		{
			AckResult	result = extend_ref(rel, queue, &refs[i], visible_at, sink, sink_state);

			n_done += result == ACK_DONE;
			again = result == ACK_AGAIN;
		}
		pfree(refs);
		CHECK_FOR_INTERRUPTS();
	} while (again || may_come_late(n_done, &has_awaited));
	pgmq_xact_trim();
	return ack_count(queue, msg_id, n_done);
}
