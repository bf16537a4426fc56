/*
 * am_ids.c
 *	  Message ids from a queue's identity sequence, many at a time.
 *
 * nextval() opens the sequence, looks at its definition and locks its page once for each
 * id.  A sequence that counts up by one and keeps nothing back for its sessions can be moved
 * on by many in one step: its page is a heap page with one row, and the server's generic WAL
 * records replay a change of it.
 *
 * The server logs a sequence ahead, and has in log_cnt how many values it may hand out before
 * it has to do so again.  A step that goes into them would need to know where the last
 * checkpoint began; one logged for itself leaves log_cnt at zero, so the next nextval() logs.
 *
 * Replay has on that page what was logged ahead, not what is here.  What a generic record says
 * by default is the difference to the page here, so a step is logged as a whole page: without
 * its hole that is about as little.
 */
#include "common/compat.h"

#include "access/generic_xlog.h"
#include "access/relation.h"
#include "access/xact.h"
#include "am/am.h"
#include "catalog/pg_sequence.h"
#include "commands/sequence.h"
#include "storage/bufmgr.h"
#include "utils/syscache.h"

/* From how many ids on the step is cheaper than as many calls of nextval() */
#define IDS_FOR_A_STEP 16

/* Does it count up by one, nothing kept back?  Then sets its last possible value. */
static bool
counts_by_one(Oid sequence, int64 *last_possible)
{
	HeapTuple	tuple = SearchSysCache1(SEQRELID, ObjectIdGetDatum(sequence));
	Form_pg_sequence form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_sequence) GETSTRUCT(tuple);
	*last_possible = form->seqmax;
	result = form->seqincrement == 1 && form->seqcache == 1 && !form->seqcycle;
	ReleaseSysCache(tuple);
	return result;
}

/* The one row of a sequence's page */
static Form_pg_sequence_data
sequence_data(Page page)
{
	HeapTupleHeader row = (HeapTupleHeader)
		PageGetItem(page, PageGetItemId(page, FirstOffsetNumber));

	return (Form_pg_sequence_data) ((char *) row + row->t_hoff);
}

/*
 * Move the sequence on by n, if it has as many values left; *first is the lowest of them.
 * One that is still below 1 is left to nextval().
 */
static bool
step(Relation rel, int n, int64 last_possible, int64 *first)
{
	Buffer		buffer = ReadBuffer(rel, 0);
	GenericXLogState *state;
	Form_pg_sequence_data data;
	int64		last;

	LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
	data = sequence_data(BufferGetPage(buffer));
	last = data->is_called ? data->last_value : data->last_value - 1;
	if (data->last_value < 1 || last > last_possible - n)
	{
		UnlockReleaseBuffer(buffer);
		return false;
	}
	state = GenericXLogStart(rel);
	data = sequence_data(GenericXLogRegisterBuffer(state, buffer, GENERIC_XLOG_FULL_IMAGE));
	data->last_value = last + n;
	data->is_called = true;
	data->log_cnt = 0;
	GenericXLogFinish(state);
	UnlockReleaseBuffer(buffer);
	*first = last + 1;
	return true;
}

/* n values in one step, where that is possible; sets them. */
static bool
take_in_a_step(Oid sequence, int n, int64 *ids)
{
	Relation	rel = relation_open(sequence, RowExclusiveLock);
	int64		last_possible;
	int64		first;
	bool		taken;

	/* what was handed out is not to be handed out again, so whoever commits flushes it */
	if (RelationNeedsWAL(rel))
		(void) GetTopTransactionId();
	taken = rel->rd_rel->relkind == RELKIND_SEQUENCE &&
		counts_by_one(sequence, &last_possible) && step(rel, n, last_possible, &first);
	relation_close(rel, NoLock);
	for (int i = 0; taken && i < n; i++)
		ids[i] = first + i;
	return taken;
}

/*
 * The next n ids, ascending; others may take some between the last and those before it.  The
 * last one comes from nextval(), which makes it this session's currval() and lastval(),
 * and which raises the error where the sequence has reached its end.
 */
void
pgmq_am_take_ids(Oid sequence, int n, int64 *ids)
{
	int			taken = 0;

	if (n >= IDS_FOR_A_STEP && take_in_a_step(sequence, n - 1, ids))
		taken = n - 1;
	for (; taken < n; taken++)
		ids[taken] = nextval_internal(sequence, false);
}
