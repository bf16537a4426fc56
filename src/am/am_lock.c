/*
 * am_lock.c
 *	  A claim is a row lock: deleting, updating and locking rows of a queue so
 *	  that plain SQL and the fast path see each other as two SQL transactions
 *	  would.
 *
 * Each of the three runs the heap's operation under a guard (xact_guard.c),
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
 *	  4. Where the row lock is another's, wait until it is not (am_line.c), and
 *		 start over.
 *
 * Waits are the server's own (virtual transaction locks, row locks), so the
 * deadlock detector sees them.
 */
#include "common/compat.h"

#include "access/multixact.h"
#include "access/xact.h"
#include "am/am.h"
#include "common/failpoint.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "utils/datum.h"
#include "utils/snapmgr.h"

/* Between two looks at a slot that another backend is busy with. */
#define BUSY_PAUSE_US 50

/* Wait for the end of the transaction, or savepoint, that holds a claim. */
void
pgmq_am_wait_for(const ClaimOwner *owner)
{
	Assert(!pgmq_xact_guard());
	pgmq_xact_wait_for_owner(owner);
	CHECK_FOR_INTERRUPTS();
}

/*
 * Wait out another backend that looks at a row, or takes its lock: it waits
 * for nothing but pages, so neither do we for long.
 */
void
pgmq_am_pause(void)
{
	pg_usleep(BUSY_PAUSE_US);
	CHECK_FOR_INTERRUPTS();
}

/*
 * msg_id of the row at tid; false if there is no row to speak of.  *is_ours: we have
 * locked it in a way that keeps it from being leased, which key share does not.
 */
static bool
fetch_msg_id(Relation rel, ItemPointer tid, int64 *msg_id, bool *is_ours)
{
	HeapTupleData tuple;
	Buffer		buffer;
	Lease		lease;
	bool		has_msg_id = false;

	*is_ours = false;
	tuple.t_self = *tid;
	if (!pgmq_heap_fetch(rel, SnapshotAny, &tuple, &buffer))
		return false;
	pgmq_am_row_values(&tuple, RelationGetDescr(rel), msg_id, &lease, &has_msg_id);
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if ((tuple.t_data->t_infomask & HEAP_XMAX_INVALID) == 0 &&
		pgmq_am_is_only_locked(tuple.t_data))
	{
		TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple.t_data);

		if ((tuple.t_data->t_infomask & HEAP_XMAX_IS_MULTI) == 0)
			*is_ours = !HEAP_XMAX_IS_KEYSHR_LOCKED(tuple.t_data->t_infomask) &&
				TransactionIdIsCurrentTransactionId(xmax);
		else
		{
			MultiXactMember *members;
			int			n = GetMultiXactIdMembers(xmax, &members, false, true);

			for (int i = 0; i < n; i++)
				*is_ours |= members[i].status != MultiXactStatusForKeyShare &&
					TransactionIdIsCurrentTransactionId(members[i].xid);
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

static void
refuse_lock(Relation rel)
{
	ereport(ERROR,
			(errcode(ERRCODE_LOCK_NOT_AVAILABLE),
			 errmsg("could not obtain lock on row in relation \"%s\"",
					RelationGetRelationName(rel))));
}

/* Begin the guard, waiting for claims and settling what is undecided. */
static bool
guard_row(Relation rel, XactQueue *queue, ItemPointer tid, int64 msg_id,
		  LockTupleMode mode, LockWaitPolicy policy, RowLine *line)
{
	ClaimOwner	owner;

	for (;;)
	{
		switch (pgmq_xact_guard_begin(queue, msg_id, tid, mode, &owner))
		{
			case CLAIM_TAKEN:
				return true;
			case CLAIM_UNDECIDED:
				pgmq_am_settle_row(rel, queue, msg_id, tid);
				CHECK_FOR_INTERRUPTS();
				break;
			case CLAIM_BUSY:
				pgmq_am_pause();
				break;
			default:
				if (policy == LockWaitSkip)
					return false;
				if (policy == LockWaitError)
					refuse_lock(rel);
				pgmq_am_leave_line(line);
				pgmq_am_wait_for(&owner);
		}
	}
}

/*
 * We hold the row's lock now; has somebody claimed it before we got it?  Then
 * wait for him, keeping the lock.  *is_newer: it was leased, now or before.
 */
static bool
wait_for_late_claim(Relation rel, XactQueue *queue, ItemPointer tid,
					int64 msg_id, LockTupleMode mode, LockWaitPolicy policy,
					bool *is_newer)
{
	RowLine		line = {0};

	if (!guard_row(rel, queue, tid, msg_id, mode, policy, &line))
		return false;
	*is_newer |= pgmq_xact_guard()->is_newer;
	pgmq_xact_guard_end(false);
	return true;
}

/* Take the row's lock, if need be waiting for it.  Do we have it? */
static bool
lock_row(Relation rel, ItemPointer tid, LockTupleMode mode, LockWaitPolicy policy)
{
	HeapTupleData tuple;
	Buffer		buffer;
	TM_FailureData tmfd;
	TM_Result	result;

	Assert(policy == LockWaitSkip || !pgmq_xact_guard());
	tuple.t_self = *tid;
	PGMQ_FAILPOINT("lock-row-before");
	result = heap_lock_tuple(rel, &tuple, GetCurrentCommandId(true),
							 mode, policy, false, &buffer, &tmfd);
	ReleaseBuffer(buffer);
	PGMQ_FAILPOINT("lock-row-after");
	return result == TM_Ok;
}

/*
 * The ring does not know a row that is there, or only as LIMBO.  Its inserter may
 * have committed and not yet run its COMMIT callback; if we went on, our change could
 * reach the ring before the row itself does.  A transaction's lock on its own id is
 * released after its callbacks, so wait for that.
 */
static void
wait_for_inserter(Relation rel, ItemPointer tid)
{
	HeapTupleData tuple;
	Buffer		buffer;
	TransactionId xmin;

	tuple.t_self = *tid;
	if (!pgmq_heap_fetch(rel, SnapshotAny, &tuple, &buffer))
		return;
	xmin = HeapTupleHeaderGetXmin(tuple.t_data);
	ReleaseBuffer(buffer);
	if (TransactionIdIsNormal(xmin) && !TransactionIdIsCurrentTransactionId(xmin))
		XactLockTableWait(xmin, rel, tid, XLTW_Update);
}

/* A delete or update of one row, as far as guarding it goes. */
typedef struct RowChange
{
	Relation	rel;
	XactQueue  *queue;
	ItemPointer tid;
	LockTupleMode mode;			/* the row lock to wait for */
	bool		wait;
	bool		must_recheck;
	bool		was_ours;		/* we held the row's lock before */
	bool		is_locked;		/* we have taken it, before the change */
	bool		has_waited;		/* for the row's inserter */
	bool		is_guarded;		/* out */
	bool		is_known;		/* msg_id, by the caller */
	int64		msg_id;
	RowLine		line;
} RowChange;

/* Learn from the row itself; false if there is none to speak of. */
static bool
ask_row(RowChange *change)
{
	bool		is_ours;

	if (!fetch_msg_id(change->rel, change->tid, &change->msg_id, &is_ours))
		return false;
	if (!change->is_locked)
		change->was_ours = is_ours;
	return true;
}

/*
 * Guard the row of a change.  TM_Ok: the guard stands, or the row needs none.
 */
static TM_Result
begin_change(RowChange *change, TM_FailureData *tmfd)
{
	bool		is_outdated;
	bool		may_come_late;

	change->is_guarded = false;
	if (change->queue == NULL || (!change->is_known && !ask_row(change)))
		return TM_Ok;
	if (!guard_row(change->rel, change->queue, change->tid, change->msg_id,
				   change->mode, change->wait ? LockWaitBlock : LockWaitSkip, &change->line))
		return TM_BeingModified;
	is_outdated = pgmq_xact_guard()->is_newer &&
		(change->must_recheck || IsolationUsesXactSnapshot());
	may_come_late = !pgmq_xact_guard()->is_published && !pgmq_xact_guard()->is_own &&
		change->queue->ring != NULL && !change->has_waited;
	if (change->is_known && (is_outdated || may_come_late))
		(void) ask_row(change);
	if (is_outdated && !change->was_ours)
	{
		pgmq_xact_guard_end(false);
		say_updated_in_place(change->tid, tmfd);
		return TM_Updated;
	}
	if (may_come_late)
	{
		pgmq_xact_guard_end(false);
		if (change->wait && !change->was_ours && !change->is_locked)
		{
			(void) lock_row(change->rel, change->tid, change->mode, LockWaitBlock);
			change->is_locked = true;
		}
		wait_for_inserter(change->rel, change->tid);
		/* Into its group, where it keeps others back until our change commits */
		pgmq_am_settle_row(change->rel, change->queue, change->msg_id, change->tid);
		change->has_waited = true;
		return begin_change(change, tmfd);
	}
	change->is_guarded = true;
	return TM_Ok;
}

/*
 * Unless it may wait, heap_delete() refuses rows with any lock at all, be it our own
 * or one that is in nobody's way.  So take the lock first, where that needs no
 * waiting; true: try again, with leave to wait.
 */
static bool
lock_to_delete(RowChange *change, TM_Result result)
{
	if (result != TM_BeingModified || !change->wait || !change->is_guarded ||
		change->is_locked)
		return false;
	change->is_locked = lock_row(change->rel, change->tid, LockTupleExclusive, LockWaitSkip);
	return change->is_locked;
}

/*
 * The guarded operation would have to wait for a row lock of this mode.  A guard
 * never waits: it would keep the message from the very transaction it waits for.
 * So wait for the row without it; true: try again.
 */
static bool
wait_for_row(RowChange *change, TM_Result result, LockTupleMode mode, XLTW_Oper operation)
{
	if (result != TM_BeingModified || !change->wait || !change->is_guarded)
		return false;
	pgmq_am_wait_in_line(&change->line, change->rel, change->tid, mode, operation);
	return true;
}

/*
 * Delete the row of a change.  With row not NULL, also copies it, as it is once nobody can
 * claim it any more.
 */
static TM_Result
delete_row(RowChange *change, CommandId cid, Snapshot crosscheck, bool changing_partition,
		   TM_FailureData *tmfd, Row *row)
{
	TM_Result	result;

	do
	{
		result = begin_change(change, tmfd);
		if (result != TM_Ok)
			break;
		if (row != NULL && change->is_guarded)
			(void) pgmq_am_look(change->rel, change->tid, change->msg_id, true, row);
		do
		{
			PGMQ_FAILPOINT("delete-heap-before");
			result = heap_delete(change->rel, change->tid, cid, crosscheck,
								 change->wait && (!change->is_guarded || change->is_locked),
								 tmfd, changing_partition);
			PGMQ_FAILPOINT("delete-heap-after");
		} while (lock_to_delete(change, result));
		if (change->is_guarded)
			pgmq_xact_guard_end(result == TM_Ok);
	} while (wait_for_row(change, result, LockTupleExclusive, XLTW_Delete));
	pgmq_am_leave_line(&change->line);
	return result;
}

/* Delete the row at tid; see table_tuple_delete. */
TM_Result
pgmq_am_delete_tid(Relation rel, ItemPointer tid, CommandId cid, Snapshot crosscheck,
				   bool wait, TM_FailureData *tmfd, bool changing_partition)
{
	RowChange	change = {rel, pgmq_xact_queue(rel), tid, LockTupleExclusive, wait,
	.must_recheck = true};

	return delete_row(&change, cid, crosscheck, changing_partition, tmfd, NULL);
}

/*
 * Delete the row of a message, which this transaction has seen live, waiting for whoever
 * holds it; with row not NULL, also copies it.
 */
TM_Result
pgmq_am_delete_known(Relation rel, ItemPointer tid, int64 msg_id, Row *row)
{
	RowChange	change = {rel, pgmq_xact_queue(rel), tid, LockTupleExclusive,
	.wait = true,.is_known = true,.msg_id = msg_id};
	TM_FailureData tmfd;

	return delete_row(&change, GetCurrentCommandId(true), InvalidSnapshot, false, &tmfd, row);
}

/* Is a column the same in both rows?  By its bytes, as the heap compares. */
static bool
is_same_value(TupleDesc desc, AttrNumber attnum, HeapTuple a, HeapTuple b)
{
	Form_pg_attribute attribute = TupleDescAttr(desc, attnum - 1);
	bool		a_is_null;
	bool		b_is_null;
	Datum		a_value = heap_getattr(a, attnum, desc, &a_is_null);
	Datum		b_value = heap_getattr(b, attnum, desc, &b_is_null);

	if (a_is_null || b_is_null)
		return a_is_null && b_is_null;
	return datumIsEqual(a_value, b_value, attribute->attbyval, attribute->attlen);
}

/* The row lock that an update implies: a stronger one if it changes a key. */
static LockTupleMode
mode_of_update(Relation rel, ItemPointer otid, HeapTuple tuple)
{
	Bitmapset  *keys = RelationGetIndexAttrBitmap(rel, INDEX_ATTR_BITMAP_KEY);
	LockTupleMode mode = LockTupleNoKeyExclusive;
	HeapTupleData old;
	Buffer		buffer;
	int			key = -1;

	old.t_self = *otid;
	if (bms_is_empty(keys) || !pgmq_heap_fetch(rel, SnapshotAny, &old, &buffer))
		return mode;
	while ((key = bms_next_member(keys, key)) >= 0)
		if (!is_same_value(RelationGetDescr(rel), key + FirstLowInvalidHeapAttributeNumber,
						   &old, tuple))
			mode = LockTupleExclusive;
	ReleaseBuffer(buffer);
	bms_free(keys);
	return mode;
}

/* Does anybody lock the row, we ourselves included? */
static bool
is_locked(Relation rel, ItemPointer tid, CommandId cid)
{
	HeapTupleData tuple;
	Buffer		buffer;
	bool		locked;

	tuple.t_self = *tid;
	if (!pgmq_heap_fetch(rel, SnapshotAny, &tuple, &buffer))
		return false;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	locked = HeapTupleSatisfiesUpdate(&tuple, cid, buffer) == TM_BeingModified;
	UnlockReleaseBuffer(buffer);
	return locked;
}

/*
 * heap_update() asserts that it may wait where the row is locked, were it by ourselves,
 * and a guard never waits.  So take the lock first where there is one already; it is to
 * be had at once, or the update has to wait for it without the guard.  TM_Ok: the update
 * will not wait.
 */
static TM_Result
lock_to_update(RowChange *change, CommandId cid, TM_FailureData *tmfd)
{
	HeapTupleData tuple;
	Buffer		buffer;
	TM_Result	result;

	tuple.t_self = *change->tid;
	PGMQ_FAILPOINT("lock-to-update-before");
	result = heap_lock_tuple(change->rel, &tuple, cid, change->mode, LockWaitSkip,
							 false, &buffer, tmfd);
	PGMQ_FAILPOINT("lock-to-update-after");
	ReleaseBuffer(buffer);
	change->is_locked = result == TM_Ok;
	return result == TM_WouldBlock ? TM_BeingModified : result;
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
	RowChange	change = {rel, pgmq_xact_queue(rel), otid, LockTupleNoKeyExclusive, wait, must_recheck};
	bool		has_msg_id;
	int64		msg_id;
	Lease		values;
	TM_Result	result;

	*update_indexes = TU_None;
	*lockmode = LockTupleExclusive;
	if (change.queue != NULL)
		change.mode = mode_of_update(rel, otid, tuple);
	do
	{
		result = begin_change(&change, tmfd);
		if (result != TM_Ok)
			break;
		if (change.is_guarded && !change.is_locked && is_locked(rel, otid, cid))
			result = lock_to_update(&change, cid, tmfd);
		PGMQ_FAILPOINT("update-heap-before");
		if (result == TM_Ok)
			result = pgmq_heap_update(rel, otid, tuple, cid, crosscheck,
									  change.is_locked || (wait && !change.is_guarded),
									  tmfd, lockmode, update_indexes);
		PGMQ_FAILPOINT("update-heap-after");
		if (change.is_guarded)
			pgmq_xact_guard_end(result == TM_Ok);
	} while (wait_for_row(&change, result, change.mode, XLTW_Update));
	pgmq_am_leave_line(&change.line);
	if (result == TM_Ok && change.queue != NULL)
	{
		pgmq_am_row_values(tuple, RelationGetDescr(rel), &msg_id, &values, &has_msg_id);
		if (has_msg_id)
			pgmq_xact_note_insert(change.queue, &tuple->t_self, msg_id, &values,
								  pgmq_am_row_group(tuple, RelationGetDescr(rel)));
	}
	return result;
}

/* What TableAmRoutine.tuple_lock was asked for. */
typedef struct RowLock
{
	Relation	rel;
	Snapshot	snapshot;
	TupleTableSlot *slot;
	CommandId	cid;
	LockTupleMode mode;
	LockWaitPolicy wait_policy;
	uint8		flags;
	TM_FailureData *tmfd;
} RowLock;

static TM_Result
lock_by_heap(RowLock *lock, ItemPointer tid, LockWaitPolicy wait_policy)
{
	TM_Result	result;

	PGMQ_FAILPOINT("tuple-lock-before");
	result = pgmq_heap_routine()->tuple_lock(lock->rel, tid, lock->snapshot, lock->slot,
											 lock->cid, lock->mode, wait_policy,
											 lock->flags, lock->tmfd);
	PGMQ_FAILPOINT("tuple-lock-after");
	return result;
}

/*
 * The guard did not cover what we locked: this is a newer version, or the ring
 * may know the row only now.
 */
static TM_Result
look_for_claim(RowLock *lock, XactQueue *queue, ItemPointer tid, int64 msg_id,
			   bool is_ours, bool *is_newer)
{
	if (!wait_for_late_claim(lock->rel, queue, &lock->slot->tts_tid, msg_id,
							 lock->mode, lock->wait_policy, is_newer))
		return TM_WouldBlock;
	if (!*is_newer || is_ours || !IsolationUsesXactSnapshot())
		return TM_Ok;
	say_updated_in_place(tid, lock->tmfd);
	return TM_Updated;
}

/*
 * Lock a row that is a message.  Under the guard the heap may not wait; where it
 * would, the row is waited for without, and then tried again.
 */
static TM_Result
lock_message(RowLock *lock, XactQueue *queue, ItemPointer tid, int64 msg_id, bool is_ours)
{
	ItemPointerData asked = *tid;
	RowLine		line = {0};
	bool		is_newer;
	bool		is_covered;		/* no claim can have come before our lock */
	TM_Result	result;

	for (;;)
	{
		if (!guard_row(lock->rel, queue, tid, msg_id, lock->mode, lock->wait_policy, &line))
			return TM_WouldBlock;
		is_newer = pgmq_xact_guard()->is_newer;
		is_covered = pgmq_xact_guard()->has_slot || pgmq_xact_guard()->is_own || is_ours;
		if (is_newer && !is_ours && IsolationUsesXactSnapshot())
		{
			pgmq_xact_guard_end(false);
			pgmq_am_leave_line(&line);
			say_updated_in_place(tid, lock->tmfd);
			return TM_Updated;
		}
		result = lock_by_heap(lock, tid, LockWaitSkip);
		pgmq_xact_guard_end(false);
		if (result != TM_WouldBlock || lock->wait_policy == LockWaitSkip)
			break;
		if (lock->wait_policy == LockWaitError)
			refuse_lock(lock->rel);
		/* tid may be a newer version's by now */
		pgmq_am_wait_in_line(&line, lock->rel, tid, lock->mode, XLTW_Lock);
		*tid = asked;
	}
	pgmq_am_leave_line(&line);
	if (result != TM_Ok)
		return result;
	is_covered &= ItemPointerEquals(&asked, &lock->slot->tts_tid);
	if (!is_covered && queue->ring != NULL)
		result = look_for_claim(lock, queue, tid, msg_id, is_ours, &is_newer);
	if (result == TM_Ok && is_newer)
		lock->tmfd->traversed = true;
	return result;
}

/* TableAmRoutine.tuple_lock */
TM_Result
pgmq_am_tuple_lock(Relation rel, ItemPointer tid, Snapshot snapshot,
				   TupleTableSlot *slot, CommandId cid, LockTupleMode mode,
				   LockWaitPolicy wait_policy, uint8 flags, TM_FailureData *tmfd)
{
	RowLock		lock = {rel, snapshot, slot, cid, mode, wait_policy, flags, tmfd};
	XactQueue  *queue = pgmq_xact_queue(rel);
	TM_Result	result;
	int64		msg_id;
	bool		is_ours;

	if (queue == NULL || !fetch_msg_id(rel, tid, &msg_id, &is_ours))
		result = lock_by_heap(&lock, tid, wait_policy);
	else
		result = lock_message(&lock, queue, tid, msg_id, is_ours);
	if (result == TM_Ok)
		pgmq_am_present(rel, slot);
	return result;
}
