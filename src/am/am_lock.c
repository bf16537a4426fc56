/*
 * am_lock.c
 *	  A claim is a row lock: deleting, updating and locking rows of a queue so
 *	  that plain SQL and the fast path see each other as two SQL transactions
 *	  would.
 *
 * Each of the three runs the heap's operation under a guard (xact_claim.c),
 * which keeps the message from being claimed meanwhile:
 *
 *	  1. If another transaction has claimed the message, wait for its end (or
 *		 skip, or fail, as the caller asked) and start over.
 *	  2. If the message was leased since we first saw the queue, what the
 *		 caller knows of the row may be outdated: in-place leases leave no
 *		 trace in xmax.  Answer "updated, same TID" unless this transaction
 *		 already locks the row, so that the executor fetches, rechecks its
 *		 conditions and comes back.  From REPEATABLE READ up that answer is
 *		 what makes the executor fail with 40001.
 *	  3. Where the ring has no slot to guard, take the row lock first and look
 *		 for a claim afterwards.
 *
 * Waits are the server's own (virtual transaction locks, row locks), so the
 * deadlock detector sees them.
 */
#include "common/compat.h"

#include "access/multixact.h"
#include "access/xact.h"
#include "am/am.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/snapmgr.h"

/* Wait for the end of the transaction that holds a claim. */
void
pgmq_am_wait_for(VirtualTransactionId owner)
{
	Assert(!pgmq_xact_guard());
	(void) VirtualXactLock(owner, true);
	CHECK_FOR_INTERRUPTS();
}

/* msg_id of the row at tid; false if there is no row to speak of. */
static bool
fetch_msg_id(Relation rel, ItemPointer tid, int64 *msg_id, bool *is_ours)
{
	HeapTupleData tuple;
	Buffer		buffer;
	Lease		lease;
	bool		has_msg_id = false;

	*is_ours = false;
	tuple.t_self = *tid;
	if (!heap_fetch(rel, SnapshotAny, &tuple, &buffer, false))
		return false;
	pgmq_am_row_values(&tuple, RelationGetDescr(rel), msg_id, &lease, &has_msg_id);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if ((tuple.t_data->t_infomask & HEAP_XMAX_INVALID) == 0 &&
		HEAP_XMAX_IS_LOCKED_ONLY(tuple.t_data->t_infomask))
	{
		TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple.t_data);

		if ((tuple.t_data->t_infomask & HEAP_XMAX_IS_MULTI) == 0)
			*is_ours = TransactionIdIsCurrentTransactionId(xmax);
		else
		{
			MultiXactMember *members;
			int			n = GetMultiXactIdMembers(xmax, &members, false, true);

			for (int i = 0; i < n; i++)
				*is_ours |= TransactionIdIsCurrentTransactionId(members[i].xid);
			if (n > 0)
				pfree(members);
		}
	}
	UnlockReleaseBuffer(buffer);
	return has_msg_id;
}

static void
say_updated_in_place(ItemPointer tid, TM_FailureData *tmfd)
{
	tmfd->ctid = *tid;
	tmfd->xmax = InvalidTransactionId;
	tmfd->cmax = InvalidCommandId;
	tmfd->traversed = false;
}

/* Begin the guard, waiting for claims and settling what is undecided. */
static bool
guard_row(Relation rel, XactQueue *queue, ItemPointer tid, int64 msg_id,
		  LockWaitPolicy policy)
{
	VirtualTransactionId owner;

	for (;;)
	{
		switch (pgmq_xact_guard_begin(queue, msg_id, tid, &owner))
		{
			case CLAIM_TAKEN:
				return true;
			case CLAIM_UNDECIDED:
				pgmq_am_settle_row(rel, queue, msg_id, tid);
				CHECK_FOR_INTERRUPTS();
				break;
			default:
				if (policy == LockWaitSkip)
					return false;
				if (policy == LockWaitError)
					ereport(ERROR,
							(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
							 errmsg("could not obtain lock on row in relation \"%s\"",
									RelationGetRelationName(rel))));
				pgmq_am_wait_for(owner);
		}
	}
}

/*
 * The ring may come to know a row only now that we hold its lock: has somebody
 * claimed it in between?  Then wait for him; our lock is kept.
 */
static bool
wait_for_late_claim(Relation rel, XactQueue *queue, ItemPointer tid,
					int64 msg_id, LockWaitPolicy policy)
{
	if (!guard_row(rel, queue, tid, msg_id, policy))
		return false;
	pgmq_xact_guard_end(false);
	return true;
}

/* Take the row's exclusive lock, waiting; the caller goes on from there. */
void
pgmq_am_lock_row(Relation rel, ItemPointer tid)
{
	HeapTupleData tuple;
	Buffer		buffer;
	TM_FailureData tmfd;

	tuple.t_self = *tid;
	(void) heap_lock_tuple(rel, &tuple, GetCurrentCommandId(true),
						   LockTupleExclusive, LockWaitBlock, false, &buffer, &tmfd);
	ReleaseBuffer(buffer);
}

/*
 * Guard the row at tid for a delete or update.  TM_Ok: the guard stands (or
 * the row needs none: *guarded is false).
 */
static TM_Result
begin_change(Relation rel, XactQueue *queue, ItemPointer tid, bool wait,
			 bool must_recheck, TM_FailureData *tmfd, bool *guarded)
{
	int64		msg_id;
	bool		is_ours;

	*guarded = false;
	if (queue == NULL || !fetch_msg_id(rel, tid, &msg_id, &is_ours))
		return TM_Ok;
	if (!guard_row(rel, queue, tid, msg_id, wait ? LockWaitBlock : LockWaitSkip))
		return TM_BeingModified;
	if (pgmq_xact_guard()->is_newer && !is_ours &&
		(must_recheck || IsolationUsesXactSnapshot()))
	{
		pgmq_xact_guard_end(false);
		say_updated_in_place(tid, tmfd);
		return TM_Updated;
	}
	if (!pgmq_xact_guard()->has_slot && !pgmq_xact_guard()->is_own && !is_ours &&
		queue->ring != NULL && wait)
	{
		pgmq_xact_guard_end(false);
		pgmq_am_lock_row(rel, tid);
		if (!guard_row(rel, queue, tid, msg_id, LockWaitBlock))
			return TM_BeingModified;
	}
	*guarded = true;
	return TM_Ok;
}

/*
 * Delete the row at tid; see table_tuple_delete.  With row not NULL, also
 * copies it, as it is once nobody can claim it any more.
 */
TM_Result
pgmq_am_delete_tid(Relation rel, ItemPointer tid, CommandId cid,
				   Snapshot crosscheck, bool wait, bool must_recheck,
				   TM_FailureData *tmfd, bool changing_partition, Row *row)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	bool		guarded;
	TM_Result	result = begin_change(rel, queue, tid, wait, must_recheck, tmfd, &guarded);

	if (result != TM_Ok)
		return result;
	if (row != NULL && guarded)
		(void) pgmq_am_look(rel, tid, pgmq_xact_guard()->msg_id, true, row);
	result = heap_delete(rel, tid, cid, crosscheck, wait, tmfd, changing_partition);
	if (guarded)
		pgmq_xact_guard_end(result == TM_Ok);
	return result;
}

/*
 * Replace the row at otid by a tuple in stored form; see table_tuple_update.
 */
TM_Result
pgmq_am_update_tid(Relation rel, ItemPointer otid, HeapTuple tuple,
				   CommandId cid, Snapshot crosscheck, bool wait,
				   bool must_recheck, TM_FailureData *tmfd,
				   LockTupleMode *lockmode, TU_UpdateIndexes *update_indexes)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	bool		guarded;
	bool		has_msg_id;
	int64		msg_id;
	Lease		values;
	TM_Result	result = begin_change(rel, queue, otid, wait, must_recheck, tmfd, &guarded);

	*update_indexes = TU_None;
	if (result != TM_Ok)
	{
		*lockmode = LockTupleExclusive;
		return result;
	}
	result = pgmq_heap_update(rel, otid, tuple, cid, crosscheck, wait, tmfd,
							  lockmode, update_indexes);
	if (guarded)
		pgmq_xact_guard_end(result == TM_Ok);
	if (result == TM_Ok && queue != NULL)
	{
		pgmq_am_row_values(tuple, RelationGetDescr(rel), &msg_id, &values, &has_msg_id);
		if (has_msg_id)
			pgmq_xact_note_insert(queue, &tuple->t_self, msg_id, &values);
	}
	return result;
}

/* The heap's tuple_lock under a guard. */
static TM_Result
lock_guarded(Relation rel, XactQueue *queue, ItemPointer tid, int64 msg_id,
			 bool is_ours, Snapshot snapshot, TupleTableSlot *slot,
			 CommandId cid, LockTupleMode mode, LockWaitPolicy wait_policy,
			 uint8 flags, TM_FailureData *tmfd)
{
	ItemPointerData asked = *tid;
	bool		is_newer;
	bool		is_guarded;
	TM_Result	result;

	if (!guard_row(rel, queue, tid, msg_id, wait_policy))
		return TM_WouldBlock;
	is_newer = pgmq_xact_guard()->is_newer && !is_ours;
	is_guarded = pgmq_xact_guard()->has_slot || pgmq_xact_guard()->is_own;
	if (is_newer && IsolationUsesXactSnapshot())
	{
		pgmq_xact_guard_end(false);
		say_updated_in_place(tid, tmfd);
		return TM_Updated;
	}
	result = pgmq_heap_routine()->tuple_lock(rel, tid, snapshot, slot, cid, mode,
											 wait_policy, flags, tmfd);
	pgmq_xact_guard_end(false);
	if (result == TM_Ok && queue->ring != NULL &&
		((!is_guarded && !is_ours) || !ItemPointerEquals(&asked, &slot->tts_tid)))
	{
		/*
		 * The guard did not cover what we locked: a newer version, or a row
		 * the ring did not know and may know now.  Has somebody claimed it?
		 */
		if (!wait_for_late_claim(rel, queue, &slot->tts_tid, msg_id, wait_policy))
			return TM_WouldBlock;
		is_newer = true;
	}
	if (result == TM_Ok && is_newer)
		tmfd->traversed = true;
	return result;
}

/* TableAmRoutine.tuple_lock */
TM_Result
pgmq_am_tuple_lock(Relation rel, ItemPointer tid, Snapshot snapshot,
				   TupleTableSlot *slot, CommandId cid, LockTupleMode mode,
				   LockWaitPolicy wait_policy, uint8 flags, TM_FailureData *tmfd)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	TM_Result	result;
	int64		msg_id;
	bool		is_ours;

	if (queue == NULL || !fetch_msg_id(rel, tid, &msg_id, &is_ours))
		result = pgmq_heap_routine()->tuple_lock(rel, tid, snapshot, slot, cid,
												 mode, wait_policy, flags, tmfd);
	else
		result = lock_guarded(rel, queue, tid, msg_id, is_ours, snapshot, slot, cid,
							  mode, wait_policy, flags, tmfd);
	if (result == TM_Ok)
		pgmq_am_present(rel, slot);
	return result;
}
