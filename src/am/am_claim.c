/*
 * am_claim.c
 *	  Reading and popping on the fast path, in the order of msg_id.
 *
 * Slots are taken under the ring lock and only then looked at on their pages:
 * the ring says what to look at next, the page whether that is true.  What the
 * page refuses is given back at once.  A cursor keeps a call from meeting it
 * again, and its rows in msg_id order: what becomes ready behind the cursor is
 * for the next call.
 *
 * Reads with a condition and by group have files of their own.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "am/am_claim.h"
#include "common/clock.h"
#include "common/int.h"
#include "storage/bufmgr.h"
#include "utils/timestamp.h"

/* Messages claimed, or peeked at, per hold of the ring lock. */
#define CLAIM_BATCH 128

/* Passes over a ring that brought nothing before a call gives up. */
#define MAX_EMPTY_PASSES 3

/* The lease columns as this transaction sees them before the claim. */
static Lease
current_lease(const XactMessage *message, const Row *row)
{
	Lease		lease = message->lease;

	if ((message->flags & (MSG_LEASED | MSG_SENT)) == 0)
	{
		lease.read_ct = row->head.read_ct;
		lease.last_read_at = row->head.last_read_at;
		lease.visible_at = row->head.visible_at;
	}
	return lease;
}

static Lease
next_lease(ClaimState *state, const Lease *current)
{
	Lease		next;

	if (pg_add_s32_overflow(current->read_ct, 1, &next.read_ct))
		ereport(ERROR,
				(errcode(ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE),
				 errmsg("integer out of range")));
	next.last_read_at = state->now;
	next.visible_at = state->now + (int64) state->request->vt_seconds * USECS_PER_SEC;
	return next;
}

static void
pop_row(ClaimState *state, int message, Row *row)
{
	XactMessage *m = pgmq_xact_message(message);
	ItemPointerData tid = m->tid;
	Lease		lease = current_lease(m, row);

	if (pgmq_am_delete_known(state->rel, &tid, m->msg_id, NULL) != TM_Ok)
		elog(ERROR, "could not delete a claimed message");
	state->request->sink(state->request->sink_state, row->tuple, &lease);
}

static void
lease_row(ClaimState *state, int message, Row *row)
{
	Lease		current = current_lease(pgmq_xact_message(message), row);
	Lease		lease = next_lease(state, &current);

	if (row->has_head)
		pgmq_xact_set_lease(message, &lease, false);
	else
	{
		ItemPointerData tid = pgmq_xact_message(message)->tid;

		pgmq_am_lease_by_update(state->rel, &tid, &lease);
	}
	state->request->sink(state->request->sink_state, row->tuple, &lease);
}

/* A row without a head: its lease columns by the long way. */
static void
fill_head(Relation rel, Row *row)
{
	Lease		lease;
	bool		has_msg_id;

	if (row->has_head)
		return;
	pgmq_am_row_values(row->tuple, RelationGetDescr(rel), &row->head.msg_id, &lease, &has_msg_id);
	row->head.read_ct = lease.read_ct;
	row->head.last_read_at = lease.last_read_at;
	row->head.visible_at = lease.visible_at;
}

/*
 * Look at a message we hold and lease or pop it, if it is to be had; returns
 * what the page said.
 */
RowState
pgmq_claim_try(ClaimState *state, int message)
{
	XactMessage *m = pgmq_xact_message(message);
	bool		is_own = (m->flags & (MSG_SENT | MSG_LEASED)) != 0;
	RowState	row_state;
	Row			row;

	state->n_looked++;
	row_state = pgmq_am_look_on(state->rel, &m->tid, m->msg_id, &state->pin, &row);
	if (row_state == ROW_LIVE)
	{
		fill_head(state->rel, &row);
		if (!is_own && row.head.visible_at > state->now)
		{
			pgmq_xact_correct(message, row.head.read_ct, row.head.visible_at);
			row_state = ROW_INVISIBLE;
		}
		else if (IsolationUsesXactSnapshot() && !is_own && pgmq_xact_is_newer(message))
			row_state = ROW_INVISIBLE;
	}
	switch (row_state)
	{
		case ROW_LIVE:
			if (state->request->is_pop)
				pop_row(state, message, &row);
			else
				lease_row(state, message, &row);
			state->n_done++;
			break;
		case ROW_LOCKED:
			state->request->met_locked = true;
			pgmq_xact_refuse(message);
			break;
		case ROW_INVISIBLE:
			pgmq_xact_refuse(message);
			break;
		case ROW_GONE:
			pgmq_xact_forget_row(message);
			break;
	}
	if (row.tuple != NULL)
		heap_freetuple(row.tuple);
	return row_state;
}

/* Does the next own candidate come no later than this msg_id? */
static bool
own_is_next(const ClaimState *state, int64 msg_id)
{
	return state->next_own < state->n_own &&
		pgmq_xact_message(state->own[state->next_own])->msg_id <= msg_id;
}

/* Try our own candidates up to this msg_id. */
void
pgmq_claim_own_up_to(ClaimState *state, int64 msg_id)
{
	while (!pgmq_claim_has_enough(state) && own_is_next(state, msg_id))
		(void) pgmq_claim_try(state, state->own[state->next_own++]);
}

static void
claim_in_order(ClaimState *state)
{
	int			taken[CLAIM_BATCH];
	int			wanted;
	int			n;

	do
	{
		wanted = (int) Min(state->request->max_rows - state->n_done, CLAIM_BATCH);
		n = pgmq_xact_take_ready(state->queue, &state->cursor, state->now, wanted, taken);
		for (int i = 0; i < n; i++)
		{
			pgmq_claim_own_up_to(state, pgmq_xact_message(taken[i])->msg_id);
			if (pgmq_claim_has_enough(state))
				pgmq_xact_give_back(taken[i]);
			else
				(void) pgmq_claim_try(state, taken[i]);
		}
		CHECK_FOR_INTERRUPTS();
	} while (n == wanted && !pgmq_claim_has_enough(state));
}

/*
 * Claim what the ring knows, load what is cold, and again, until there is
 * enough.  A pass may find nothing because another backend has begun to load;
 * MAX_EMPTY_PASSES in a row mean that nothing new comes.  What SQL must find
 * includes our own messages.
 */
static void
claim_with_loads(ClaimState *state)
{
	int			empty_passes = 0;

	do
	{
		int64		looked_before = state->n_looked;

		if (state->request->has_conditional)
			pgmq_claim_matching(state);
		else
			claim_in_order(state);
		empty_passes = state->n_looked > looked_before ? 0 : empty_passes + 1;
	} while (!pgmq_claim_has_enough(state) && empty_passes < MAX_EMPTY_PASSES &&
			 pgmq_xact_must_load(state->queue, &state->cursor, state->now) &&
			 pgmq_am_ready_ring(state->rel, state->queue, &state->cursor, state->now));
	state->request->needs_sql = !pgmq_claim_has_enough(state) &&
		pgmq_xact_must_load(state->queue, &state->cursor, state->now);
	if (!state->request->needs_sql)
		pgmq_claim_own_up_to(state, PG_INT64_MAX);
}

/*
 * Begin a call's claims; false if there is no ring to serve them, which
 * request->needs_sql then says.
 */
bool
pgmq_claim_begin(ClaimState *state, Relation rel, ClaimRequest *request)
{
	memset(state, 0, sizeof(ClaimState));
	state->rel = rel;
	state->queue = pgmq_xact_queue(rel);
	state->request = request;
	state->now = pgmq_clock_now();
	state->cursor = pgmq_ready_start;
	request->met_locked = false;
	request->after_msg_id = pgmq_ready_start.msg_id;
	request->needs_sql = !pgmq_xact_queue_is_usable(state->queue) ||
		!pgmq_am_ready_ring(rel, state->queue, NULL, state->now);
	return !request->needs_sql;
}

/* The call has made its claims. */
void
pgmq_claim_end(ClaimState *state)
{
	if (BufferIsValid(state->pin))
		ReleaseBuffer(state->pin);
	state->pin = InvalidBuffer;
}

/*
 * Claim up to request->max_rows messages, lowest msg_id first, and lease or
 * pop them; each is handed to the sink.  Returns how many.
 *
 * The caller holds RowExclusiveLock on rel, has checked privileges and the
 * relation's facts.  With needs_sql set on return there may be more than the
 * ring can hold (or there is no ring): the rest takes the SQL path.
 */
int64
pgmq_am_claim(Relation rel, ClaimRequest *request)
{
	ClaimState	state;

	if (!pgmq_claim_begin(&state, rel, request))
		return 0;
	state.n_own = pgmq_xact_own_candidates(state.queue, state.now, &state.own);
	if (request->has_conditional)
		pgmq_claim_begin_matching(&state);
	claim_with_loads(&state);
	if (request->has_conditional)
		pgmq_claim_end_matching(&state);
	pgmq_claim_end(&state);
	request->after_msg_id = state.cursor.msg_id;
	pgmq_xact_trim();
	if (request->is_pop && state.n_done > 0)
		CommandCounterIncrement();
	return state.n_done;
}
