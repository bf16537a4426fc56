/*
 * am_row.c
 *	  Looking at one row of a queue: the page's answer to a ring slot's hint.
 *
 * The page is locked for the look only, share mode.  What it says stays true
 * afterwards as far as a claim, a row lock or a guard keeps others away.
 */
#include "common/compat.h"

#include "access/multixact.h"
#include "access/xact.h"
#include "am/am.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/snapmgr.h"

/*
 * Is xmax nothing but row locks?  Those of an aborted (sub)transaction's update or
 * delete do not lapse with it where others, or the rest of its own transaction,
 * locked the row too: it stays a member of their multixact.
 */
bool
pgmq_am_is_only_locked(HeapTupleHeader header)
{
	TransactionId xid;

	if (HEAP_XMAX_IS_LOCKED_ONLY(header->t_infomask))
		return true;
	if ((header->t_infomask & HEAP_XMAX_IS_MULTI) == 0)
		return false;
	xid = HeapTupleGetUpdateXid(header);
	return !TransactionIdIsInProgress(xid) && !TransactionIdDidCommit(xid);
}

/*
 * Does another transaction lock the row, or change it?  *only_key_share: if it
 * does, its lock is one that an update of other columns does not mind.
 */
static bool
is_held_by_others(HeapTuple tuple, bool *only_key_share)
{
	uint16		infomask = tuple->t_data->t_infomask;
	TransactionId xmax = HeapTupleHeaderGetRawXmax(tuple->t_data);
	MultiXactMember *members;
	int			n;
	bool		held = false;

	*only_key_share = pgmq_am_is_only_locked(tuple->t_data);
	if (!*only_key_share)
		return true;
	if ((infomask & HEAP_XMAX_IS_MULTI) == 0)
	{
		*only_key_share = HEAP_XMAX_IS_KEYSHR_LOCKED(infomask);
		return !TransactionIdIsCurrentTransactionId(xmax);
	}
	n = GetMultiXactIdMembers(xmax, &members, false, true);
	for (int i = 0; i < n; i++)
	{
		if (TransactionIdIsCurrentTransactionId(members[i].xid) ||
			!TransactionIdIsInProgress(members[i].xid))
			continue;
		held = true;
		*only_key_share &= members[i].status == MultiXactStatusForKeyShare;
	}
	if (n > 0)
		pfree(members);
	return held;
}

/* May this transaction's snapshot see a row that is committed by now? */
static bool
is_in_snapshot(HeapTuple tuple, Buffer buffer)
{
	if (!IsolationUsesXactSnapshot() ||
		TransactionIdIsCurrentTransactionId(HeapTupleHeaderGetXmin(tuple->t_data)))
		return true;
	return HeapTupleSatisfiesVisibility(tuple, GetTransactionSnapshot(), buffer);
}

/* Who deletes the row, or updates it; invalid if nobody does. */
static TransactionId
deleter_of(HeapTupleHeader header)
{
	if ((header->t_infomask & HEAP_XMAX_INVALID) || pgmq_am_is_only_locked(header))
		return InvalidTransactionId;
	return HeapTupleHeaderGetUpdateXid(header);
}

static RowState
judge(HeapTuple tuple, Buffer buffer, bool any_snapshot, Row *row)
{
	switch (HeapTupleSatisfiesUpdate(tuple, GetCurrentCommandId(false), buffer))
	{
		case TM_Ok:
			return any_snapshot || is_in_snapshot(tuple, buffer) ? ROW_LIVE : ROW_INVISIBLE;
		case TM_BeingModified:
			row->deleter = deleter_of(tuple->t_data);
			if (!any_snapshot && !is_in_snapshot(tuple, buffer))
				return ROW_INVISIBLE;
			return is_held_by_others(tuple, &row->is_key_shared) ? ROW_LOCKED : ROW_LIVE;
		case TM_Invisible:
		case TM_SelfModified:
			row->deleter = deleter_of(tuple->t_data);
			if (!TransactionIdIsCurrentTransactionId(row->deleter))
				row->deleter = InvalidTransactionId;
			return ROW_INVISIBLE;
		default:
			return ROW_GONE;
	}
}

/*
 * Does the table, which is locked, (still) have this block?  A place in the ring may be
 * that of a row that nobody sees any more, and whose page a vacuum has cut off.  What the
 * storage manager remembers is forgotten when a file is cut; other sessions may have
 * added blocks since, so only a yes counts.
 */
bool
pgmq_am_has_block(Relation rel, BlockNumber block)
{
	BlockNumber remembered = RelationGetSmgr(rel)->smgr_cached_nblocks[MAIN_FORKNUM];

	return (remembered != InvalidBlockNumber && block < remembered) ||
		block < RelationGetNumberOfBlocks(rel);
}

/* Point *tuple at the row at tid on a locked page; false if there is none. */
bool
pgmq_am_find_on_page(Relation rel, Buffer buffer, const ItemPointerData *tid, HeapTuple tuple)
{
	Page		page = BufferGetPage(buffer);
	OffsetNumber offset = ItemPointerGetOffsetNumberNoCheck(tid);
	ItemId		item;

	if (offset < FirstOffsetNumber || offset > PageGetMaxOffsetNumber(page))
		return false;
	item = PageGetItemId(page, offset);
	if (!ItemIdIsNormal(item))
		return false;
	tuple->t_data = (HeapTupleHeader) PageGetItem(page, item);
	tuple->t_len = ItemIdGetLength(item);
	tuple->t_tableOid = RelationGetRelid(rel);
	tuple->t_self = *tid;
	return true;
}

/*
 * Look at the row at tid, which should carry msg_id.  Fills *row; its tuple
 * only if wanted and there is a row.  With pin the page stays pinned, as below.  Newer versions of an updated row have
 * slots of their own, so a chain is never followed.
 */
static RowState
look(Relation rel, const ItemPointerData *tid, int64 msg_id, bool want_tuple,
	 bool any_snapshot, Buffer *pin, Row *row)
{
	HeapTupleData tuple;
	RowState	state = ROW_GONE;
	Buffer		buffer;
	Lease		lease;
	int64		found_id;
	bool		has_msg_id;

	row->tuple = NULL;
	row->has_head = false;
	row->is_key_shared = false;
	row->deleter = InvalidTransactionId;
	if (!pgmq_am_has_block(rel, ItemPointerGetBlockNumberNoCheck(tid)))
		return ROW_GONE;
	buffer = ReleaseAndReadBuffer(pin != NULL ? *pin : InvalidBuffer, rel,
								  ItemPointerGetBlockNumberNoCheck(tid));
	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	if (pgmq_am_find_on_page(rel, buffer, tid, &tuple))
	{
		pgmq_am_row_values(&tuple, RelationGetDescr(rel), &found_id, &lease, &has_msg_id);
		if (has_msg_id && found_id == msg_id)
			state = judge(&tuple, buffer, any_snapshot, row);
	}
	if (state == ROW_LIVE || state == ROW_LOCKED || TransactionIdIsValid(row->deleter))
	{
		row->has_head = queue_row_has_head(tuple.t_data);
		if (row->has_head)
			row->head = *queue_row_head(tuple.t_data);
		if (want_tuple)
			row->tuple = heap_copytuple(&tuple);
	}
	LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
	if (pin != NULL)
		*pin = buffer;
	else
		ReleaseBuffer(buffer);
	return state;
}

RowState
pgmq_am_look(Relation rel, const ItemPointerData *tid, int64 msg_id,
			 bool want_tuple, Row *row)
{
	return look(rel, tid, msg_id, want_tuple, false, NULL, row);
}

/*
 * The same for one row after the other, which are often on one page: its pin stays in *pin
 * (InvalidBuffer at first), for the caller to release.
 */
RowState
pgmq_am_look_on(Relation rel, const ItemPointerData *tid, int64 msg_id, Buffer *pin, Row *row)
{
	return look(rel, tid, msg_id, true, false, pin, row);
}

/* The same whatever this transaction's snapshot sees: for the ring's sake. */
RowState
pgmq_am_look_latest(Relation rel, const ItemPointerData *tid, int64 msg_id,
					bool want_tuple, Row *row)
{
	return look(rel, tid, msg_id, want_tuple, true, NULL, row);
}
