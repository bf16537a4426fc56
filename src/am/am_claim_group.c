/*
 * am_claim_group.c
 *	  Grouped reads on the fast path.
 *
 * A group may be read while its first message is ready.  A read takes that
 * message first: while it is held no other grouped read has part in the group,
 * so the group's messages go out in order whoever reads.
 *
 * What the ring does not know sends the call to the SQL path: cold messages,
 * this transaction's own sends, its snapshot under REPEATABLE READ.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "am/am_claim.h"
#include "common/limits.h"
#include "utils/timestamp.h"

/*
 * Looks at a ring that others bring up to date before the table is asked, and the
 * pause between two of them; the first ones come at once.
 */
#define MAX_LOOKS 100
#define MAX_HASTY_LOOKS 3
#define LOOK_PAUSE_US 1000

/* A group that a call reads from. */
typedef struct GroupRead
{
	uint64		hash;
	ReadyCursor cursor;			/* its last message we looked at */
	bool		is_over;
} GroupRead;

/* One call. */
typedef struct GroupCall
{
	ClaimState	claims;
	GroupHead  *own_heads;		/* uncovered by our own deletes */
	int			n_own_heads;
} GroupCall;

/* Rows kept back until they can go out in msg_id order. */
typedef struct KeptRow
{
	int64		msg_id;
	HeapTuple	tuple;
	Lease		lease;
} KeptRow;

typedef struct KeptRows
{
	KeptRow    *rows;
	int64		n;
	int64		max;
	TupleDesc	desc;
} KeptRows;

static void
keep_row(void *sink_state, HeapTuple tuple, const Lease *lease)
{
	KeptRows   *kept = sink_state;
	Lease		stored;
	bool		has_msg_id;

	if (kept->n == kept->max)
	{
		kept->max = Max(64, kept->max * 2);
		kept->rows = kept->rows == NULL ? palloc(kept->max * sizeof(KeptRow)) :
			repalloc_huge(kept->rows, kept->max * sizeof(KeptRow));
	}
	pgmq_am_row_values(tuple, kept->desc, &kept->rows[kept->n].msg_id, &stored, &has_msg_id);
	kept->rows[kept->n].tuple = heap_copytuple(tuple);
	kept->rows[kept->n++].lease = *lease;
}

static int
compare_kept(const void *a, const void *b)
{
	int64		id_a = ((const KeptRow *) a)->msg_id;
	int64		id_b = ((const KeptRow *) b)->msg_id;

	return id_a < id_b ? -1 : id_a > id_b;
}

/* Where a message that was just taken stands in its group. */
static ReadyCursor
cursor_at(int message)
{
	XactMessage *m = pgmq_xact_message(message);

	return (ReadyCursor) {m->msg_id, m->slot};
}

/*
 * Take the next heads, at most max, and try them; returns the groups begun, -1
 * if there were heads and none was to be had.
 */
static int
try_heads(GroupCall *call, int max, GroupRead *groups)
{
	ClaimState *state = &call->claims;
	int			messages[RING_HEADS_BATCH];
	uint64		hashes[RING_HEADS_BATCH];
	bool		is_exact;
	int			n_begun = 0;
	int			n;

	n = pgmq_xact_take_heads(state->queue, &state->cursor, call->own_heads,
							 call->n_own_heads, max, messages, hashes, &is_exact);
	state->request->needs_sql |= !is_exact;
	for (int i = 0; i < n; i++)
	{
		GroupRead	group = {hashes[i], cursor_at(messages[i]), false};

		if (pgmq_claim_try(state, messages[i]) == ROW_LIVE)
			groups[n_begun++] = group;
	}
	CHECK_FOR_INTERRUPTS();
	return n > 0 && n_begun == 0 ? -1 : n_begun;
}

/* Take what follows in a group, up to max messages. */
static void
try_members(ClaimState *state, GroupRead *group, int64 max)
{
	int			messages[RING_HEADS_BATCH];
	int64		enough = Min(state->n_done + max, state->request->max_rows);

	while (state->n_done < enough && !group->is_over)
	{
		int			n = pgmq_xact_take_members(state->queue, group->hash, &group->cursor,
											   (int) Min(enough - state->n_done, RING_HEADS_BATCH),
											   messages, &group->is_over);

		for (int i = 0; i < n; i++)
			(void) pgmq_claim_try(state, messages[i]);
		CHECK_FOR_INTERRUPTS();
	}
}

/* All of the first group, then all of the next, ... */
static void
claim_one_by_one(GroupCall *call)
{
	ClaimState *state = &call->claims;
	GroupRead	group;
	int			n;

	while (!pgmq_claim_has_enough(state) && (n = try_heads(call, 1, &group)) != 0)
		if (n > 0)
			try_members(state, &group, PG_INT32_MAX);
}

/* One message of each group; then, if wanted, the second of each, ... */
static void
claim_in_turn(GroupCall *call, bool heads_only)
{
	ClaimState *state = &call->claims;
	GroupRead  *groups = NULL;
	int64		n_groups = 0;
	int64		max_groups = 0;
	bool		is_over = heads_only;
	int			n = 1;

	while (n != 0 && !pgmq_claim_has_enough(state))
	{
		if (n_groups + RING_HEADS_BATCH > max_groups)
		{
			max_groups = Max(2 * max_groups, RING_HEADS_BATCH);
			groups = groups == NULL ? palloc(max_groups * sizeof(GroupRead)) :
				repalloc_huge(groups, max_groups * sizeof(GroupRead));
		}
		n = try_heads(call, (int) Min(state->request->max_rows - state->n_done, RING_HEADS_BATCH),
					  groups + n_groups);
		n_groups += Max(n, 0);
	}
	while (!is_over && !pgmq_claim_has_enough(state))
	{
		is_over = true;
		for (int64 i = 0; i < n_groups && !pgmq_claim_has_enough(state); i++)
		{
			try_members(state, &groups[i], 1);
			is_over &= groups[i].is_over;
		}
	}
	if (groups != NULL)
		pfree(groups);
}

/* Group after group, with the rows in msg_id order. */
static void
claim_sorted(GroupCall *call)
{
	ClaimState *state = &call->claims;
	RowSink		sink = state->request->sink;
	void	   *sink_state = state->request->sink_state;
	KeptRows	kept = {NULL, 0, 0, RelationGetDescr(state->rel)};

	state->request->sink = keep_row;
	state->request->sink_state = &kept;
	claim_one_by_one(call);
	if (kept.n > 1)
		qsort(kept.rows, kept.n, sizeof(KeptRow), compare_kept);
	for (int64 i = 0; i < kept.n; i++)
	{
		sink(sink_state, kept.rows[i].tuple, &kept.rows[i].lease);
		heap_freetuple(kept.rows[i].tuple);
	}
	state->request->sink = sink;
	state->request->sink_state = sink_state;
}

/*
 * One look at the ring.  request->needs_sql: it could not answer; *is_passing: it may
 * in a moment, when what others (or this look) have begun to settle or publish is done.
 */
static void
claim_groups_once(GroupCall *call, XactQueue *queue, Relation rel, ClaimRequest *request,
				  bool *is_passing)
{
	ClaimState *state = &call->claims;

	*is_passing = false;
	pgmq_xact_watch_groups(queue);
	if (!pgmq_claim_begin(state, rel, request))
		return;
	request->needs_sql = pgmq_xact_has_cold(queue) ||
		!pgmq_xact_groups_are_exact(queue, state->now);
	if (request->needs_sql)
		return;
	*is_passing = request->needs_sql = pgmq_am_is_settling(queue);
	if (*is_passing)
		return;
	pgmq_xact_mature(queue, state->now);
	call->n_own_heads = pgmq_xact_own_heads(queue, &call->own_heads);
	if (request->group_order == GROUPS_ONE_BY_ONE)
		claim_sorted(call);
	else
		claim_in_turn(call, request->group_order == GROUPS_HEADS_ONLY);
	if (state->n_done > 0)
		request->needs_sql = false; /* the next call sees to the rest */
	*is_passing = request->needs_sql;
}

/*
 * Claim and lease up to request->max_rows messages in the order of groups that
 * request->group_order says; each is handed to the sink.  Returns how many.
 * Conditions as for pgmq_am_claim(); with needs_sql set nothing was claimed.
 */
int64
pgmq_am_claim_groups(Relation rel, ClaimRequest *request)
{
	GroupCall	call = {0};
	XactQueue  *queue = pgmq_xact_queue(rel);
	bool		is_passing = true;

	request->needs_sql = IsolationUsesXactSnapshot() || !pgmq_xact_queue_is_usable(queue);
	if (request->needs_sql)
		return 0;
	pgmq_xact_keep_groups(queue);
	for (int look = 0; is_passing && look < MAX_LOOKS; look++)
	{
		if (look >= MAX_HASTY_LOOKS)
			pg_usleep(LOOK_PAUSE_US);
		claim_groups_once(&call, queue, rel, request, &is_passing);
		pgmq_claim_end(&call.claims);
	}
	pgmq_xact_trim();
	return call.claims.n_done;
}
