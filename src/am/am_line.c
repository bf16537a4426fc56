/*
 * am_line.c
 *	  Waiting until a row may be locked, without locking it.
 *
 * The heap's own functions wait for a row's lock and then have it.  That is no use
 * where a claim must be looked for, too: between the end of the transaction that was
 * waited for and our lock another may claim the message, which sees no lock on the
 * page.  Who then holds the row and waits for that claim keeps its owner from
 * deleting what it has read: a deadlock that the SQL-only pgmq does not know.  So
 * wait here for the transactions that stand in the way, and then try once more
 * under a guard (am_lock.c), which gets the row or nothing.
 *
 * As in the heap, who waits stands in the server's line for the row, a heavyweight
 * lock on its TID, so that rows go to waiters in the order in which they came; and who
 * has some lock on the row already does not, for he would wait for those who wait for
 * him.  For a claim nobody waits while in line: its owner may come to stand there.
 */
#include "common/compat.h"

#include "access/multixact.h"
#include "access/xact.h"
#include "am/am.h"
#include "storage/bufmgr.h"
#include "storage/lmgr.h"
#include "storage/procarray.h"

/* Lock modes of the line, by LockTupleMode; as in the heap. */
static const LOCKMODE line_modes[] = {
	AccessShareLock, RowShareLock, ExclusiveLock, AccessExclusiveLock
};

/* Who stands in the way of a lock; palloc'd. */
typedef struct RowHolders
{
	int			n;
	TransactionId *xids;
	bool		is_member;		/* we are among those who lock the row */
} RowHolders;

/* Row locks, and updates and deletes, by the lock they need: LockTupleMode */
static LockTupleMode
mode_of_status(MultiXactStatus status)
{
	return (LockTupleMode) (status > MultiXactStatusForUpdate ? status - 2 : status);
}

static LockTupleMode
mode_of_header(uint16 infomask, uint16 infomask2)
{
	if (HEAP_XMAX_IS_LOCKED_ONLY(infomask))
	{
		if (HEAP_XMAX_IS_KEYSHR_LOCKED(infomask))
			return LockTupleKeyShare;
		if (HEAP_XMAX_IS_SHR_LOCKED(infomask))
			return LockTupleShare;
	}
	return (infomask2 & HEAP_KEYS_UPDATED) ? LockTupleExclusive : LockTupleNoKeyExclusive;
}

/* The table of row locks in the documentation comes down to this. */
static bool
do_conflict(LockTupleMode a, LockTupleMode b)
{
	StaticAssertStmt(LockTupleKeyShare == 0 && LockTupleShare == 1 &&
					 LockTupleNoKeyExclusive == 2 && LockTupleExclusive == 3,
					 "row locks are numbered by their strength");
	return a + b >= 3;
}

static void
note_holder(RowHolders *holders, TransactionId xid, LockTupleMode held, LockTupleMode wanted)
{
	if (TransactionIdIsCurrentTransactionId(xid))
		holders->is_member = true;
	else if (do_conflict(held, wanted) && TransactionIdIsInProgress(xid))
		holders->xids[holders->n++] = xid;
}

static void
list_holders(Relation rel, ItemPointer tid, LockTupleMode wanted, RowHolders *holders)
{
	HeapTupleData tuple;
	HeapTupleHeaderData header;
	Buffer		buffer;
	TransactionId xmax;
	MultiXactMember *members = NULL;
	int			n = 0;

	memset(holders, 0, sizeof(RowHolders));
	tuple.t_self = *tid;
	if (!pgmq_heap_fetch(rel, SnapshotAny, &tuple, &buffer))
		return;
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	memcpy(&header, tuple.t_data, SizeofHeapTupleHeader);
	xmax = HeapTupleHeaderGetRawXmax(&header);
	/* Under the lock: vacuum may not forget a multixact before its page does */
	if ((header.t_infomask & HEAP_XMAX_INVALID) == 0 &&
		(header.t_infomask & HEAP_XMAX_IS_MULTI) != 0)
		n = GetMultiXactIdMembers(xmax, &members, false,
								  HEAP_XMAX_IS_LOCKED_ONLY(header.t_infomask));
	UnlockReleaseBuffer(buffer);
	if (header.t_infomask & HEAP_XMAX_INVALID)
		return;
	if ((header.t_infomask & HEAP_XMAX_IS_MULTI) == 0)
	{
		holders->xids = palloc(sizeof(TransactionId));
		note_holder(holders, xmax, mode_of_header(header.t_infomask, header.t_infomask2), wanted);
		return;
	}
	holders->xids = palloc(Max(n, 1) * sizeof(TransactionId));
	for (int i = 0; i < n; i++)
		note_holder(holders, members[i].xid, mode_of_status(members[i].status), wanted);
	if (n > 0)
		pfree(members);
}

/* Leave the line, if we stand in it. */
void
pgmq_am_leave_line(RowLine *line)
{
	if (line->is_held)
		UnlockTuple(line->rel, &line->tid, line_modes[line->mode]);
	line->is_held = false;
}

static void
join_line(RowLine *line, Relation rel, ItemPointer tid, LockTupleMode mode)
{
	if (line->is_held && line->mode == mode && ItemPointerEquals(&line->tid, tid))
		return;
	pgmq_am_leave_line(line);
	LockTuple(rel, tid, line_modes[mode]);
	line->rel = rel;
	line->tid = *tid;
	line->mode = mode;
	line->is_held = true;
}

/*
 * Wait for those who now keep others from locking the row at tid in this mode.  It
 * may be taken by another by the time we return; the caller tries, and comes back.
 * An error, as by cancellation or a deadlock, leaves the line, too.
 */
void
pgmq_am_wait_in_line(RowLine *line, Relation rel, ItemPointer tid, LockTupleMode mode,
					 XLTW_Oper operation)
{
	RowHolders	holders;

	Assert(!pgmq_xact_guard());
	list_holders(rel, tid, mode, &holders);
	if (holders.n > 0 && !holders.is_member)
	{
		join_line(line, rel, tid, mode);
		list_holders(rel, tid, mode, &holders);
	}
	for (int i = 0; i < holders.n; i++)
		XactLockTableWait(holders.xids[i], rel, tid, operation);
	if (holders.n == 0)
		pgmq_am_pause();		/* it has gone just now */
	CHECK_FOR_INTERRUPTS();
}
