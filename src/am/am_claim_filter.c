/*
 * am_claim_filter.c
 *	  Reads with a condition: look and filter first, claim what matches, look
 *	  again.  So a filter hides no message from others.
 *
 * A consumer asks the same question again and again, and mostly few messages
 * match.  A message never changes (an UPDATE makes another row of it), so what
 * did not match once need not be looked at again: per queue and condition a
 * backend remembers up to which message it has looked (FilterMemo).  What
 * becomes ready below that mark later, because it was delayed, leased, rolled
 * back, cold or committed late, is in the ring's log of late arrivals; when
 * more came than the log holds, the filter starts from the beginning.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "am/am_claim.h"
#include "common/limits.h"
#include "utils/builtins.h"
#include "utils/jsonb.h"
#include "utils/memutils.h"

/* Conditions remembered per backend, and the longest one worth it. */
#define MAX_MEMOS 16
#define MAX_MEMO_BYTES 1024

/* Messages peeked at per hold of the ring lock. */
#define PEEK_BATCH 128

/* Rows that share a msg_id and are looked at among late arrivals. */
#define ROWS_PER_ID 4

typedef struct FilterMemo
{
	RelFileLocator locator;
	Jsonb	   *condition;		/* NULL: a free entry */
	ReadyCursor looked;			/* nothing up to here matches ... */
	uint64		late_seq;		/* ... but for late arrivals since */
	uint64		used_at;
} FilterMemo;

static FilterMemo memos[MAX_MEMOS];
static uint64 memo_clock = 0;

/* One call's filter. */
typedef struct Filter
{
	MemoryContext per_row;
	ReadyCursor looked;			/* looked at without a gap up to here */
	uint64		late_seq;
	bool		has_gap;		/* a match was left: remember no more */
} Filter;

/* ---- what is remembered ---- */

static bool
is_memo_of(const FilterMemo *memo, const RelFileLocator *locator, const Jsonb *condition)
{
	return memo->condition != NULL &&
		RelFileLocatorEquals(memo->locator, *locator) &&
		VARSIZE(memo->condition) == VARSIZE(condition) &&
		memcmp(memo->condition, condition, VARSIZE(condition)) == 0;
}

/* The memo of a condition; made, in place of the oldest, if `make`. */
static FilterMemo *
find_memo(const RelFileLocator *locator, const Jsonb *condition, bool make)
{
	FilterMemo *oldest = &memos[0];

	for (int i = 0; i < MAX_MEMOS; i++)
	{
		if (is_memo_of(&memos[i], locator, condition))
			return &memos[i];
		if (memos[i].used_at < oldest->used_at)
			oldest = &memos[i];
	}
	if (!make)
		return NULL;
	if (oldest->condition != NULL)
		pfree(oldest->condition);
	oldest->condition = NULL;
	oldest->condition = MemoryContextAlloc(TopMemoryContext, VARSIZE(condition));
	memcpy(oldest->condition, condition, VARSIZE(condition));
	oldest->locator = *locator;
	return oldest;
}

/* Under a snapshot of the transaction's, what one read passes over others see. */
static bool
may_remember(const ClaimState *state)
{
	return !IsolationUsesXactSnapshot() &&
		VARSIZE(DatumGetJsonbP(state->request->conditional)) <= MAX_MEMO_BYTES;
}

static void
recall(ClaimState *state)
{
	FilterMemo *memo = NULL;

	if (may_remember(state))
		memo = find_memo(&state->queue->locator,
						 DatumGetJsonbP(state->request->conditional), false);
	if (memo == NULL)
		return;
	state->cursor = state->filter->looked = memo->looked;
	state->filter->late_seq = memo->late_seq;
}

static void
remember(ClaimState *state)
{
	FilterMemo *memo;

	if (!may_remember(state))
		return;
	memo = find_memo(&state->queue->locator,
					 DatumGetJsonbP(state->request->conditional), true);
	memo->looked = state->filter->looked;
	memo->late_seq = state->filter->late_seq;
	memo->used_at = ++memo_clock;
}

/* ---- one call ---- */

/* Does the message contain what the caller asks for? */
static bool
contains(ClaimState *state, HeapTuple tuple)
{
	MemoryContext caller = MemoryContextSwitchTo(state->filter->per_row);
	bool		isnull;
	Datum		message = heap_getattr(tuple, ATTNUM_MESSAGE,
									   RelationGetDescr(state->rel), &isnull);
	bool		result = !isnull &&
		DatumGetBool(DirectFunctionCall2(jsonb_contains, message,
										 state->request->conditional));

	MemoryContextSwitchTo(caller);
	MemoryContextReset(state->filter->per_row);
	return result;
}

static bool
row_matches(ClaimState *state, const ItemPointerData *tid, int64 msg_id)
{
	Row			row;
	bool		result;

	(void) pgmq_am_look(state->rel, tid, msg_id, true, &row);
	if (row.tuple == NULL)
		return true;			/* gone or invisible: claiming it tidies up */
	result = contains(state, row.tuple);
	heap_freetuple(row.tuple);
	return result;
}

/* Claim and try a ready message if it matches. */
static void
try_ref(ClaimState *state, const MessageRef *ref)
{
	int			message;
	bool		is_busy;

	if (!row_matches(state, &ref->tid, ref->msg_id))
		return;
	if (pgmq_xact_take_ref(state->queue, ref, &message, &is_busy))
		(void) pgmq_claim_try(state, message);
	else
		state->filter->has_gap |= is_busy;
}

/* Keep only the own candidates that match. */
static void
filter_own(ClaimState *state)
{
	int			kept = 0;

	for (int i = 0; i < state->n_own; i++)
	{
		XactMessage *message = pgmq_xact_message(state->own[i]);

		if (row_matches(state, &message->tid, message->msg_id))
			state->own[kept++] = state->own[i];
	}
	state->n_own = kept;
}

/* Begin a call: go on where the last one with this condition ended. */
void
pgmq_claim_begin_matching(ClaimState *state)
{
	state->filter = palloc0(sizeof(Filter));
	state->filter->per_row = AllocSetContextCreate(CurrentMemoryContext, "pgmq filter",
												   ALLOCSET_DEFAULT_SIZES);
	state->filter->looked = pgmq_ready_start;
	state->filter->late_seq = pgmq_xact_late_seq(state->queue);
	recall(state);
	filter_own(state);
}

static void
try_id(ClaimState *state, int64 msg_id)
{
	MessageRef	refs[ROWS_PER_ID];
	int			n = pgmq_xact_find_by_id(state->queue, msg_id, ROWS_PER_ID, refs);

	state->filter->has_gap |= n == ROWS_PER_ID;
	for (int i = 0; i < n && !pgmq_claim_has_enough(state); i++)
		if (refs[i].slot != 0)
			try_ref(state, &refs[i]);
}

/* Look at what has become ready behind the cursor's back. */
static void
try_late_arrivals(ClaimState *state)
{
	Filter	   *filter = state->filter;
	int64		ids[RING_LATE_LOG];
	uint64		seq = filter->late_seq;
	int			n = pgmq_xact_late_arrivals(state->queue, &seq, ids);

	if (n < 0)
		state->cursor = filter->looked = pgmq_ready_start;
	else
		qsort(ids, n, sizeof(int64), pgmq_am_compare_ids);
	for (int i = 0; i < n; i++)
	{
		if (ids[i] > filter->looked.msg_id || (i > 0 && ids[i] == ids[i - 1]))
			continue;
		if (pgmq_claim_has_enough(state))
			return;				/* the next call starts with them */
		CHECK_FOR_INTERRUPTS();
		pgmq_claim_own_up_to(state, ids[i]);
		try_id(state, ids[i]);
	}
	filter->late_seq = seq;
}

/* Claim what matches among what the ring has now. */
void
pgmq_claim_matching(ClaimState *state)
{
	Filter	   *filter = state->filter;
	MessageRef	refs[PEEK_BATCH];
	int			n;

	/* What matures is a late arrival, wherever the cursor is. */
	pgmq_xact_mature(state->queue, state->now);
	try_late_arrivals(state);
	do
	{
		n = pgmq_xact_peek_ready(state->queue, &state->cursor, state->now, PEEK_BATCH, refs);
		for (int i = 0; i < n; i++)
		{
			CHECK_FOR_INTERRUPTS();
			pgmq_claim_own_up_to(state, refs[i].msg_id);
			if (pgmq_claim_has_enough(state))
				return;
			try_ref(state, &refs[i]);
			if (!filter->has_gap)
				filter->looked = (ReadyCursor) {refs[i].msg_id, refs[i].slot};
		}
	} while (n > 0 && !pgmq_claim_has_enough(state));
}

void
pgmq_claim_end_matching(ClaimState *state)
{
	if (!state->filter->has_gap)
		remember(state);
	MemoryContextDelete(state->filter->per_row);
}
