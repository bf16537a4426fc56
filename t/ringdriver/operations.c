/*
 * operations.c
 *	  What src/am does on the fast path, on the model's tables, and what the answers
 *	  are compared with.
 *
 * The functions follow am_claim.c, am_claim_group.c, am_load.c and am_ack.c.  Where those
 * would wait for another session, these give up: the driver lets others go on.
 */
#include "model.h"

#include "shmem/ring_internal.h"


#define MAX_QTY 12

/* ---- entering a queue ---- */

XactQueue *
list_queue(SimQueue *queue)
{
	touch(queue);
	return pgmq_xact_queue_by_locator(&queue->table->locator, queue->table->relid);
}

/* What one page looks like to a scan: scan_row() in am_load.c. */
static bool
scan_row(SimQueue *queue, SimRow *row, bool with_groups, ScannedRow *scanned)
{
	memset(scanned, 0, sizeof(ScannedRow));
	if (!row->is_used || xid_status(row->xmin) == XID_ABORTED)
		return false;
	if (xid_is_running(row->xmin))
	{
		if (sim_is_mine(row->xmin))
			return false;
		scanned->undecided = row->xmin;
		scanned->is_insert = true;
	}
	else if (is_committed(row->xmax))
		return false;
	else if (xid_is_running(row->xmax))
		scanned->undecided = row->xmax;
	scanned->msg_id = row->msg_id;
	row_tid(queue->table, row, &scanned->tid);
	scanned->read_ct = row->page.read_ct;
	scanned->visible_at = row->page.visible_at;
	if (with_groups && !scanned->is_insert)
		scanned->group_hash = row->group_hash;
	return true;
}

static int
scan_page(SimQueue *queue, int block, bool with_groups, ScannedRow *scanned)
{
	int			n = 0;

	for (int i = block * ROWS_PER_BLOCK;
		 i < Min((block + 1) * ROWS_PER_BLOCK, queue->table->n_rows); i++)
		n += scan_row(queue, &queue->table->rows[i], with_groups, &scanned[n]);
	return n;
}

/* scan_pages() in am_load.c: up to n_blocks of them, before end */
static int
scan_pages(SimQueue *queue, int block, int n_blocks, int end, bool with_groups,
		   ScannedRow *scanned)
{
	int			n = 0;

	for (int i = 0; i < n_blocks && block + i < end; i++)
		n += scan_page(queue, block + i, with_groups, &scanned[n]);
	return n;
}

static int
blocks_of(const SimQueue *queue)
{
	return (queue->table->n_rows + ROWS_PER_BLOCK - 1) / ROWS_PER_BLOCK;
}

/* Scan these blocks, for the row with one msg_id, or for all; nobody else runs meanwhile. */
static bool
scan_blocks(SimQueue *queue, XactQueue *list, const BlockRange *range, int64 wanted)
{
	bool		with_groups = pgmq_xact_keeps_groups(list);
	int			n_blocks = 1 + random_below(SCAN_BLOCKS);
	int			end = Min(range->end, blocks_of(queue));
	ScannedRow	scanned[SCAN_BLOCKS * ROWS_PER_BLOCK];

	for (int block = range->first; block < end; block += n_blocks)
	{
		uint64		epoch = pgmq_xact_build_epoch(list);
		int			n = scan_pages(queue, block, n_blocks, end, with_groups, scanned);
		int			n_wanted = 0;

		for (int i = 0; i < n; i++)
			if (wanted == 0 || scanned[i].msg_id == wanted)
				scanned[n_wanted++] = scanned[i];
		if (!pgmq_xact_build_add(list, epoch, scanned, n_wanted, sim_now()))
			fail("nobody else ran, and the page must be scanned again");
	}
	return pgmq_xact_build_end(list, true);
}

/* pgmq_am_ready_ring(); false where it would wait, too. */
bool
make_ready(SimQueue *queue, XactQueue *list, const ReadyCursor *cursor)
{
	int			n_loads = 0;
	BlockRange	range;
	uint64		n_pauses = sim->n_pauses;

	me()->may_pause = true;
	settle_all(queue, list);
	me()->may_pause = false;
	if (sim->n_pauses != n_pauses)
		settle_all(queue, list);	/* what others have left since */
	while (pgmq_xact_must_load(list, cursor, sim_now()))
	{
		if (pgmq_xact_build_begin(list, cursor, sim_now(), &range) != BUILD_STARTED)
			return false;
		if (n_loads++ == 4 * RING_COLD_RANGES)
			fail("the table is scanned again and again");
		if (!scan_blocks(queue, list, &range, 0))
			return !pgmq_xact_must_load(list, cursor, sim_now());
	}
	return true;
}

/* pgmq_am_ready_ids() for one id; false where it would wait. */
static bool
find_id(SimQueue *queue, XactQueue *list, int64 msg_id)
{
	BlockRange	range = {0, 0};

	if (pgmq_xact_unknown_ids(list, &msg_id, 1) == 0)
		return true;
	for (;;)
	{
		switch (pgmq_xact_find_begin(list, &msg_id, 1, &range))
		{
			case BUILD_STARTED:
				scan_blocks(queue, list, &range, msg_id);
				range.first = range.end;
				break;
			case BUILD_BY_ANOTHER:
				return false;
			case BUILD_NOT_NEEDED:
				return true;
		}
	}
}

/* Is there a row with this id that a delete by id must find? */
static void
compare_absence(const SimQueue *queue, XactQueue *list, int64 msg_id)
{
	if (pgmq_xact_may_be_cold(list, msg_id))
		return;
	for (int i = 0; i < queue->table->n_rows; i++)
	{
		const SimRow *row = &queue->table->rows[i];

		if (row->is_used && row->msg_id == msg_id && is_live_to_all(row) && is_live_to_me(row) &&
			phase_of(row->xmin) != PHASE_COMMITTED)
			fail("not found by its id is message " INT64_FORMAT ", %s", msg_id, describe_row(queue, row));
	}
}

/* ---- settling ---- */

static void
undo_row(SimQueue *queue, XactQueue *list, SlotCopy *copy)
{
	SimRow	   *row;

	if (!pgmq_xact_undo_take(list, copy))
		return;
	row = row_at(queue->table, &copy->tid, copy->msg_id);
	if (row == NULL || !row->is_failing)
		fail("slot of message " INT64_FORMAT " is UNDO, its row has no failed lease", copy->msg_id);
	if (copy->read_ct != row->before.read_ct || copy->visible_at != row->before.visible_at ||
		copy->last_read_at != row->before.last_read_at)
		fail("UNDO of message " INT64_FORMAT " has not the values from before", copy->msg_id);
	row->page = row->before;
	row->is_failing = false;
	sim->n_undone++;
	pgmq_xact_undo_done();
}

static void
settle_limbo_row(SimQueue *queue, XactQueue *list, const SlotCopy *copy)
{
	SimRow	   *row = row_at(queue->table, &copy->tid, copy->msg_id);
	SimLook		look;
	ScannedRow	scanned = {0};
	bool		is_being_deleted;

	if (!xid_is_over(copy->xid))
		return;
	look = look_at(row);
	is_being_deleted = row != NULL && (look == LOOK_INVISIBLE || look == LOOK_LOCKED) &&
		is_committed(row->xmin) && xid_is_running(row->xmax);
	scanned.is_insert = row != NULL && sim_is_mine(row->xmin);
	scanned.undecided = scanned.is_insert ? row->xmin :
		is_being_deleted ? row->xmax : InvalidTransactionId;
	if ((look == LOOK_GONE || look == LOOK_INVISIBLE) && !is_being_deleted)
	{
		pgmq_xact_settle(list, copy, NULL);
		return;
	}
	scanned.read_ct = row->page.read_ct;
	scanned.visible_at = row->page.visible_at;
	scanned.group_hash = row->group_hash;
	pgmq_xact_settle(list, copy, &scanned);
}

void
settle_row(SimQueue *queue, XactQueue *list, int64 msg_id, const ItemPointerData *tid)
{
	SlotCopy	copy;

	if (!pgmq_xact_copy_slot(list, msg_id, tid, &copy))
		return;
	if (copy.is_undo)
		undo_row(queue, list, &copy);
	else if (TransactionIdIsValid(copy.xid))
		settle_limbo_row(queue, list, &copy);
}

static void
settle_limbo_of(SimQueue *queue, XactQueue *list, TransactionId xid)
{
	SlotCopy	copies[RING_BATCH_SLOTS];

	for (int is_insert = 1; is_insert >= 0; is_insert--)
	{
		uint32		cursor = 0;
		int			n;

		do
		{
			n = pgmq_xact_list_limbo(list, xid, &cursor, RING_BATCH_SLOTS, copies);
			for (int i = 0; i < n; i++)
				if (copies[i].is_limbo_insert == is_insert)
					settle_limbo_row(queue, list, &copies[i]);
		} while (n == RING_BATCH_SLOTS);
	}
}

void
settle_all(SimQueue *queue, XactQueue *list)
{
	SlotCopy	copies[RING_BATCH_SLOTS];
	TransactionId xid = InvalidTransactionId;
	int			n;
	int			passes = 0;

	do
	{
		n = pgmq_xact_list_undo(list, RING_BATCH_SLOTS, copies);
		for (int i = 0; i < n; i++)
			undo_row(queue, list, &copies[i]);
	} while (n == RING_BATCH_SLOTS && passes++ < 100);
	while (TransactionIdIsValid(xid = pgmq_xact_next_limbo_xid(list, xid)))
		if (xid_is_over(xid))
			settle_limbo_of(queue, list, xid);
}

/* ---- what a read must answer ---- */

typedef enum Expectation
{
	EXPECT_NO, EXPECT_MAYBE, EXPECT_YES
} Expectation;

/* One call. */
typedef struct Call
{
	SimQueue   *queue;
	XactQueue  *list;
	int			qty;
	int			vt;
	bool		is_pop;
	bool		is_grouped;
	bool		met_locked;
	int			n_looked;
	int			n_done;
	int64		last_id;
	uint8		expected[SIM_MAX_ROWS];
	int8		let_go_by[SIM_MAX_ROWS];	/* before the call, or NOBODY */
	TransactionId was_live[SIM_MAX_ROWS];	/* its xmin, or invalid */
	bool		is_granted[SIM_MAX_ROWS];
} Call;

static Call calls[SIM_SESSIONS];

#define call (calls[sim_number])

static const Lease *
my_lease(const SimRow *row)
{
	return row->holder == sim_number ? &row->lease : true_lease(row);
}

static bool
guards(const RowGuard *guard, const SimQueue *queue, int64 msg_id, ItemPointer tid)
{
	return guard->is_active && guard->has_slot && guard->msg_id == msg_id &&
		ItemPointerEquals(unconstify(ItemPointerData *, &guard->tid), tid) &&
		RelFileLocatorEquals(guard->queue->locator, queue->table->locator);
}

/* Is the row's slot held by this session, in this way? */
static bool
has_slot_of(const SimQueue *queue, const SimRow *row, SlotState state, int session)
{
	Ring	   *ring = pgmq_ring_find(&queue->table->locator);
	ItemPointerData tid;
	uint32		slot;

	row_tid(queue->table, row, &tid);
	slot = ring == NULL ? 0 : pgmq_ring_lookup(ring, row->msg_id, &tid);
	return slot != 0 && ring_slot(slot)->state == state && ring_slot(slot)->u.o.owner == (uint32) session;
}

/*
 * Is another session looking at the row, or taking its lock under a guard?  One that is
 * about to let go of it, or one that is not.
 */
static bool
is_busy(const SimQueue *queue, const SimRow *row, bool is_letting_go)
{
	ItemPointerData tid;

	row_tid(queue->table, row, &tid);
	for (int i = 0; i < SIM_SESSIONS; i++)
	{
		SimSession *other = &sim->sessions[i];

		if (i == sim_number || other->is_letting_go != is_letting_go)
			continue;
		if (guards(&other->xact.guard, queue, row->msg_id, &tid) ||
			(other->is_paused && has_slot_of(queue, row, SLOT_CLAIMED, i)))
			return true;
		for (int m = 0; other->step == STEP_LOOK && m < other->n_looking; m++)
		{
			XactMessage *message = &other->xact.messages[other->looking[m]];

			if (message->msg_id == row->msg_id && ItemPointerEquals(&message->tid, &tid) &&
				RelFileLocatorEquals(message->queue->locator, queue->table->locator))
				return true;
		}
	}
	return false;
}

/*
 * Has another's delete been taken back, which its callback is to tell the ring?  The row's
 * xmax may be someone else's by now.
 */
static bool
is_delete_undone(const SimQueue *queue, const SimRow *row)
{
	for (int i = 0; i < SIM_SESSIONS; i++)
		if ((sim->sessions[i].phase == PHASE_ABORTED || sim->sessions[i].phase == PHASE_SUBABORTED) &&
			has_slot_of(queue, row, SLOT_DELETING, i))
			return true;
	return false;
}

/* The transaction that decides about a row as the ring has it, or an invalid one. */
static TransactionId
decider(const SimQueue *queue, const SimRow *row)
{
	ItemPointerData tid;
	uint32		slot;

	row_tid(queue->table, row, &tid);
	slot = pgmq_ring_lookup(pgmq_ring_find(&queue->table->locator), row->msg_id, &tid);
	return slot != 0 && ring_slot(slot)->state == SLOT_LIMBO ? ring_slot(slot)->u.o.owner :
		InvalidTransactionId;
}

static bool
is_limbo(const SimQueue *queue, const SimRow *row)
{
	return TransactionIdIsValid(decider(queue, row));
}

/*
 * Does one decide whose callback is still to come?  The row may say nothing of it any more:
 * another has deleted it since, and taken that back.
 */
static bool
is_to_be_settled(const SimQueue *queue, const SimRow *row)
{
	TransactionId xid = decider(queue, row);

	return TransactionIdIsValid(xid) && !xid_is_over(xid);
}

/* Must a read of all there is return this row? */
static Expectation
expect(const SimQueue *queue, const SimRow *row)
{
	if (!is_live_to_me(row) || is_locked_by_other(row) || my_lease(row)->visible_at > sim_now())
		return EXPECT_NO;
	if (who_lets_go(row) != NOBODY || is_busy(queue, row, true))
		return EXPECT_MAYBE;
	if (is_claimed_by_other(row) || is_busy(queue, row, false))
		return EXPECT_NO;
	/* Between the end of a transaction for others and its callback */
	if (phase_of(row->xmin) == PHASE_COMMITTED || phase_of(row->xmax) == PHASE_ABORTED ||
		phase_of(row->xmax) == PHASE_SUBABORTED || is_delete_undone(queue, row) ||
		is_to_be_settled(queue, row))
		return EXPECT_MAYBE;
	return EXPECT_YES;
}

bool
is_to_be_had(const SimQueue *queue, const SimRow *row)
{
	return expect(queue, row) == EXPECT_YES;
}

static void
begin_call(SimQueue *queue, XactQueue *list, bool is_pop)
{
	memset(&call, 0, sizeof(call));
	call.queue = queue;
	call.list = list;
	call.qty = random_percent(20) ? MAX_QTY * 10 : 1 + random_below(MAX_QTY);
	call.vt = random_percent(25) ? 0 : random_below(sim->max_vt);
	call.is_pop = is_pop;
	call.last_id = PG_INT64_MIN;
}

/* Between the end of a transaction for others and its callback, or in that? */
static bool
is_vague(const SimRow *row)
{
	return phase_of(row->xmin) > PHASE_CLOSED || phase_of(row->xmax) > PHASE_CLOSED ||
		who_lets_go(row) != NOBODY;
}

static void
note_expectations(void)
{
	for (int i = 0; i < call.queue->table->n_rows; i++)
	{
		SimRow	   *row = &call.queue->table->rows[i];

		call.expected[i] = expect(call.queue, row);
		call.let_go_by[i] = who_lets_go(row);
		call.was_live[i] = is_live_to_me(row) && phase_of(row->xmin) <= PHASE_CLOSED ?
			row->xmin : InvalidTransactionId;
	}
}

/*
 * Rows under one msg_id may come in any order; one that was cold is for the next call if
 * another has been handed out, or passed over because somebody has it.
 */
static bool
has_met_twin(const SimTable *table, const SimRow *row)
{
	for (int i = 0; i < table->n_rows; i++)
		if (table->rows[i].msg_id == row->msg_id && &table->rows[i] != row &&
			(call.is_granted[i] || (call.expected[i] == EXPECT_NO && is_live_to_me(&table->rows[i]))))
			return true;
	return false;
}

static TransactionId
top_xid(TransactionId xid)
{
	while (sim->xids[xid].parent != InvalidTransactionId)
		xid = sim->xids[xid].parent;
	return xid;
}

/*
 * Does the callback of the session bring in all it has sent?  Not what its list leaves out,
 * and not by itself if a scan was under way (comes_late()).
 */
static bool
brings_all(int session, const SimQueue *queue)
{
	const XactState *xact = session == sim_number ? &pgmq_xact : &sim->sessions[session].xact;

	for (int i = 0; i < xact->n_queues; i++)
	{
		const XactQueue *list = xact->queues[i];

		if (RelFileLocatorEquals(list->locator, queue->table->locator))
			return !list->is_collapsed && !list->must_rebuild && list->ring != NULL &&
				list->ring->builder < 0 && list->has_scan_seq &&
				list->scan_seq == pg_atomic_read_u32(&list->ring->scan_seq);
	}
	return false;
}

/* Is the row one that a transaction sent whose callback others interrupt, and free? */
static bool
is_halfway(const SimQueue *queue, const SimRow *row)
{
	return is_live_to_me(row) && phase_of(row->xmin) == PHASE_COMMITTED &&
		row->xmax == InvalidTransactionId && row->locker == InvalidTransactionId &&
		row->holder == NOBODY && row->page.visible_at <= sim_now() &&
		!is_busy(queue, row, true) && !is_busy(queue, row, false) &&
		brings_all(xid_session(row->xmin), queue);
}

/*
 * What a transaction has sent comes into the ring bit by bit, the lowest msg_id first; to
 * reads by group (that found all there is) all of it, or nothing.
 */
static void
compare_halfway(bool by_group)
{
	SimTable   *table = call.queue->table;

	for (int i = 0; i < table->n_rows; i++)
	{
		SimRow	   *row = &table->rows[i];

		if (call.is_granted[i] || !is_halfway(call.queue, row))
			continue;
		for (int j = 0; j < table->n_rows; j++)
			if (call.is_granted[j] && top_xid(table->rows[j].xmin) == top_xid(row->xmin) &&
				(by_group ? table->rows[j].group_hash == row->group_hash : table->rows[j].msg_id > row->msg_id))
				fail("message " INT64_FORMAT " is handed out, of the same transaction not %s",
					 table->rows[j].msg_id, describe_row(call.queue, row));
	}
}

/* Every row up to up_to_id (that one excluded) that had to come has come. */
static void
compare_call(int64 up_to_id)
{
	SimTable   *table = call.queue->table;

	for (int i = 0; i < table->n_rows; i++)
		if (call.expected[i] == EXPECT_YES && !call.is_granted[i] &&
			table->rows[i].msg_id < up_to_id && !has_met_twin(table, &table->rows[i]))
			fail("read passed over %s", describe_row(call.queue, &table->rows[i]));
	compare_halfway(false);
	sim->n_exact++;
}

/* ---- one row ---- */

/*
 * A group's first message has been there since the call began, or came with the one that
 * is handed out; whatever others do meanwhile, none is handed out before it.
 */
static void
check_head(const SimRow *row)
{
	SimTable   *table = call.queue->table;

	for (int i = 0; i < table->n_rows; i++)
		if (call.is_granted[i] && table->rows[i].group_hash == row->group_hash)
			return;
	for (int i = 0; i < table->n_rows; i++)
	{
		SimRow	   *first = &table->rows[i];

		if (first->group_hash == row->group_hash && first->msg_id < row->msg_id &&
			is_live_to_me(first) && !sim_is_mine(first->xmin) &&
			(call.was_live[i] == first->xmin || top_xid(first->xmin) == top_xid(row->xmin)))
			fail("message " INT64_FORMAT " is handed out before the first of its group, %s",
				 row->msg_id, describe_row(call.queue, first));
	}
}

/* X4, R2: nobody else has the message, and its time has come. */
static void
check_grant(SimRow *row, const XactMessage *message)
{
	Expectation e = expect(call.queue, row);

	trace("grant %s", describe_row(call.queue, row));
	if (e == EXPECT_NO)
		fail("message " INT64_FORMAT " is handed out and must not be (holder %d, visible at "
			 INT64_FORMAT ", now " INT64_FORMAT ")", row->msg_id, row->holder,
			 my_lease(row)->visible_at, sim_now());
	if (call.is_granted[row - call.queue->table->rows])
		fail("message " INT64_FORMAT " is handed out twice by one call", row->msg_id);
	if (call.is_grouped)
		check_head(row);
	else if (row->msg_id < call.last_id)
		fail("message " INT64_FORMAT " comes after " INT64_FORMAT, row->msg_id, call.last_id);
	if (row->holder == sim_number && (message->lease.read_ct != row->lease.read_ct ||
									  message->lease.visible_at != row->lease.visible_at))
		fail("own lease of message " INT64_FORMAT " is not what it was", row->msg_id);
	call.last_id = row->msg_id;
	call.is_granted[row - call.queue->table->rows] = true;
	sim->n_granted++;
}

static void
lease_row(SimRow *row, int message)
{
	Lease		lease = *my_lease(row);

	lease.read_ct++;
	lease.last_read_at = sim_now();
	lease.visible_at = sim_now() + call.vt;
	pgmq_xact_set_lease(message, &lease, false);
	log_lease(row);
	row->holder = sim_number;
	row->lease = lease;
}

/* pgmq_claim_try(): look at a message we hold, and lease or pop it. */
static SimLook
try_claim(int index)
{
	XactMessage *message = pgmq_xact_message(index);
	bool		is_own = (message->flags & (MSG_SENT | MSG_LEASED)) != 0;
	SimRow	   *row = row_at(call.queue->table, &message->tid, message->msg_id);
	SimLook		look = look_at(row);

	call.n_looked++;
	if (look == LOOK_LIVE && !is_own && row->page.visible_at > sim_now())
	{
		pgmq_xact_correct(index, row->page.read_ct, row->page.visible_at);
		look = LOOK_INVISIBLE;
	}
	if (look != LOOK_LIVE)
		trace("refuse " INT64_FORMAT " (%d)", message->msg_id, look);
	switch (look)
	{
		case LOOK_LIVE:
			check_grant(row, message);
			if (!call.is_pop)
				lease_row(row, index);
			else if (!delete_row(call.queue, call.list, row))
				fail("claimed message " INT64_FORMAT " cannot be deleted", row->msg_id);
			call.n_done++;
			break;
		case LOOK_LOCKED:
			call.met_locked = true;
			pgmq_xact_refuse(index);
			break;
		case LOOK_INVISIBLE:
			pgmq_xact_refuse(index);
			break;
		case LOOK_GONE:
			pgmq_xact_forget_row(index);
			break;
	}
	return look;
}

/* ---- reads in the order of msg_id ---- */

static bool
has_enough(void)
{
	return call.n_done >= call.qty;
}

static void
own_up_to(const int *own, int n_own, int *next_own, int64 msg_id)
{
	while (!has_enough() && *next_own < n_own &&
		   pgmq_xact_message(own[*next_own])->msg_id <= msg_id)
		(void) try_claim(own[(*next_own)++]);
}

static void
claim_in_order(ReadyCursor *cursor, const int *own, int n_own, int *next_own)
{
	int			taken[MAX_QTY];
	int			wanted;
	int			n;

	do
	{
		wanted = Min(call.qty - call.n_done, MAX_QTY);
		n = pgmq_xact_take_ready(call.list, cursor, sim_now(), wanted, taken);
		for (int i = 0; i < n; i++)
		{
			own_up_to(own, n_own, next_own, pgmq_xact_message(taken[i])->msg_id);
			if (has_enough())
				pgmq_xact_give_back(taken[i]);
			else
				(void) try_claim(taken[i]);
		}
	} while (n == wanted && !has_enough());
}

/* pgmq_am_claim() */
ReadEnd
op_read(SimQueue *queue, bool is_pop)
{
	XactQueue  *list = list_queue(queue);
	ReadyCursor cursor = pgmq_ready_start;
	int			empty_passes = 0;
	int			next_own = 0;
	bool		needs_sql;
	uint64		n_pauses;
	int		   *own;
	int			n_own;

	if (!pgmq_xact_queue_is_usable(list))
		return (ReadEnd) {0};
	begin_call(queue, list, is_pop);
	trace("%s %d", is_pop ? "pop" : "read", call.qty);
	if (!make_ready(queue, list, &pgmq_ready_start))
		return (ReadEnd) {0};
	note_expectations();
	n_pauses = sim->n_pauses;
	n_own = pgmq_xact_own_candidates(list, sim_now(), &own);
	do
	{
		int			looked_before = call.n_looked;

		claim_in_order(&cursor, own, n_own, &next_own);
		empty_passes = call.n_looked > looked_before ? 0 : empty_passes + 1;
	} while (!has_enough() && empty_passes < 3 &&
			 pgmq_xact_must_load(list, &cursor, sim_now()) && make_ready(queue, list, &cursor));
	needs_sql = !has_enough() && pgmq_xact_must_load(list, &cursor, sim_now());
	if (!needs_sql)
		own_up_to(own, n_own, &next_own, PG_INT64_MAX);
	sim->n_cold += needs_sql;
	/*
	 * What SQL is asked for lies behind the cursor, our own messages apart.  Others that ran
	 * before a load may have taken what was expected.
	 */
	if (sim->n_pauses == n_pauses)
		compare_call(has_enough() || needs_sql ? call.last_id : PG_INT64_MAX);
	return (ReadEnd) {call.n_done, !needs_sql, call.met_locked};
}

/* The same with a pause between taking and looking. */
void
op_read_in_steps(SimQueue *queue)
{
	XactQueue  *list = list_queue(queue);
	ReadyCursor cursor = pgmq_ready_start;

	if (!pgmq_xact_queue_is_usable(list) || !make_ready(queue, list, &pgmq_ready_start))
		return;
	me()->n_looking = pgmq_xact_take_ready(list, &cursor, sim_now(), 1 + random_below(MAX_QTY), me()->looking);
	trace("take %d", me()->n_looking);
	if (me()->n_looking > 0)
	{
		me()->step = STEP_LOOK;
		me()->queue = queue;
	}
}

static void
look_at_taken(void)
{
	SimSession *s = me();
	int			n = s->n_looking;

	begin_call(s->queue, list_queue(s->queue), random_percent(20));
	trace("look %d", n);
	s->step = STEP_NONE;
	s->n_looking = 0;
	for (int i = 0; i < n; i++)
	{
		if (random_percent(10))
			pgmq_xact_give_back(s->looking[i]);
		else
			(void) try_claim(s->looking[i]);
	}
}

/* ---- reads by group ---- */

/*
 * The first row of a group as this session sees it, by the array.  *is_unique: no other
 * has its msg_id; of two such either may be the first.
 */
static SimRow *
first_of_group(SimTable *table, uint64 hash, bool *is_unique)
{
	SimRow	   *first = NULL;

	*is_unique = true;
	for (int i = 0; i < table->n_rows; i++)
	{
		SimRow	   *row = &table->rows[i];

		if (row->group_hash != hash || !is_live_to_me(row) ||
			(first != NULL && row->msg_id > first->msg_id))
			continue;
		first = row;
	}
	*is_unique = true;
	for (int i = 0; first != NULL && i < table->n_rows; i++)
		if (&table->rows[i] != first && table->rows[i].msg_id == first->msg_id &&
			is_live_to_me(&table->rows[i]))
			*is_unique = false; /* in whatever group */
	return first;
}

/* Are all transactions on the queue either running or quite at their end? */
static bool
is_between_callbacks(void)
{
	for (int i = 0; i < SIM_SESSIONS; i++)
		if (sim->sessions[i].phase > PHASE_CLOSED)
			return true;
	return false;
}

static bool
is_group_vague(const SimTable *table, uint64 hash)
{
	for (int i = 0; i < table->n_rows; i++)
		if (table->rows[i].is_used && table->rows[i].group_hash == hash && is_vague(&table->rows[i]))
			return true;
	return false;
}

/* Was a message passed over that is between two others of its group which were read? */
static bool
is_passed_over(const SimTable *table, const SimRow *row)
{
	const SimRow *first = NULL;
	bool		has_later = false;

	for (int i = 0; i < table->n_rows; i++)
		if (call.is_granted[i] && table->rows[i].group_hash == row->group_hash)
		{
			if (first == NULL || table->rows[i].msg_id < first->msg_id)
				first = &table->rows[i];
			has_later |= table->rows[i].msg_id > row->msg_id;
		}
	return has_later && first->msg_id < row->msg_id &&
		call.let_go_by[first - table->rows] == call.let_go_by[row - table->rows];
}

/* Who gives back a group's messages does not leave the first free while the next is held. */
static void
compare_let_go(void)
{
	SimTable   *table = call.queue->table;

	for (int i = 0; i < table->n_rows; i++)
	{
		SimRow	   *row = &table->rows[i];
		SimSession *holder = call.let_go_by[i] == NOBODY ? NULL : &sim->sessions[call.let_go_by[i]];

		if (holder != NULL && !call.is_granted[i] && holder->keeps_groups[call.queue - sim->queues] &&
			is_live_to_me(row) && !is_locked_by_other(row) && true_lease(row)->visible_at <= sim_now() &&
			is_passed_over(table, row) && !is_limbo(call.queue, row) && !is_busy(call.queue, row, false) &&
			!is_delete_undone(call.queue, row) &&
			(row->holder != call.let_go_by[i] || !outlasts_savepoint(holder, row)))
			fail("session %d has given back the first of a group, and not yet %s", call.let_go_by[i],
				 describe_row(call.queue, row));
	}
}

/* No group may be read whose first message is not among what was handed out. */
static void
compare_groups(bool heads_only)
{
	SimTable   *table = call.queue->table;

	for (int g = 1; g <= sim->n_groups; g++)
	{
		bool		is_unique;
		SimRow	   *first = first_of_group(table, g, &is_unique);
		int64		first_id = first ? first->msg_id : 0;
		Expectation e = first ? call.expected[first - table->rows] : EXPECT_NO;
		bool		is_known = !is_group_vague(table, g);

		for (int i = 0; i < table->n_rows; i++)
		{
			SimRow	   *row = &table->rows[i];

			if (row->group_hash != g || !is_unique || !call.is_granted[i])
				continue;
			if (e == EXPECT_NO && !is_vague(first))
				fail("message " INT64_FORMAT " of group %d is read, and the first is not to be had: %s",
					 row->msg_id, g, describe_row(call.queue, first));
			if (heads_only && row->msg_id != first_id && is_known)
				fail("message " INT64_FORMAT " is not the first of group %d", row->msg_id, g);
		}
		if (e == EXPECT_YES && is_unique && is_known && !call.is_granted[first - table->rows] && !has_enough())
			fail("of group %d was passed over %s", g, describe_row(call.queue, first));
	}
}

static void
read_groups(bool heads_only, GroupHead *own_heads, int n_own_heads, bool *is_exact)
{
	ReadyCursor cursor = pgmq_ready_start;
	int			n;

	do
	{
		int			messages[RING_HEADS_BATCH];
		uint64		hashes[RING_HEADS_BATCH];

		n = pgmq_xact_take_heads(call.list, &cursor, own_heads, n_own_heads,
								 Min(call.qty - call.n_done, heads_only ? 3 : 1),
								 messages, hashes, is_exact);
		for (int i = 0; i < n; i++)
		{
			XactMessage *head = pgmq_xact_message(messages[i]);
			ReadyCursor member = {head->msg_id, head->slot};
			bool		is_last = heads_only;

			if (try_claim(messages[i]) != LOOK_LIVE)
				continue;
			while (!is_last && !has_enough())
			{
				int			members[RING_HEADS_BATCH];
				int			n_members = pgmq_xact_take_members(call.list, hashes[i], &member, call.qty - call.n_done,
															   members, &is_last);

				for (int m = 0; m < n_members; m++)
					(void) try_claim(members[m]);
			}
		}
	} while (n > 0 && !has_enough());
}

/* pgmq_am_is_settling() */
static bool
is_settling(XactQueue *list)
{
	TransactionId xid = InvalidTransactionId;

	while (TransactionIdIsValid(xid = pgmq_xact_next_limbo_xid(list, xid)))
		if (!xid_is_running(xid) && !xid_is_over(xid))
			return true;
	return false;
}

/* pgmq_am_claim_groups(), group after group or only their first messages */
void
op_read_grouped(SimQueue *queue)
{
	XactQueue  *list = list_queue(queue);
	bool		heads_only = random_percent(50);
	bool		is_exact = true;
	uint64		n_pauses;
	GroupHead  *own_heads;
	int			n_own_heads;

	if (!pgmq_xact_queue_is_usable(list))
		return;
	pgmq_xact_keep_groups(list);
	pgmq_xact_watch_groups(list);
	begin_call(queue, list, false);
	call.is_grouped = true;
	trace("read grouped %d", call.qty);
	if (!make_ready(queue, list, &pgmq_ready_start) || pgmq_xact_has_cold(list) ||
		!pgmq_xact_groups_are_exact(list, sim_now()) || is_settling(list))
		return;
	note_expectations();
	n_pauses = sim->n_pauses;
	me()->may_pause = true;
	pgmq_xact_mature(list, sim_now());
	n_own_heads = pgmq_xact_own_heads(list, &own_heads);
	read_groups(heads_only, own_heads, n_own_heads, &is_exact);
	me()->may_pause = false;
	if (!is_exact || sim->n_pauses != n_pauses)
		return;					/* SQL looks: something was settled on the way */
	compare_groups(heads_only);
	compare_let_go();
	if (!heads_only && !has_enough() && list->ring->counts[TREE_UNDO] == 0)
		compare_halfway(true);
	sim->n_exact++;
}

/* ---- sends, extensions, counts ---- */

void
op_send(SimQueue *queue)
{
	XactQueue  *list = list_queue(queue);
	Lease		lease = {0, DT_NOBEGIN, sim_now()};
	int64		msg_id = ++queue->last_id;
	ItemPointerData tid;
	SimRow	   *row;

	if (random_percent(sim->delay_percent))
		lease.visible_at += 1 + random_below(200);
	if (random_percent(3))
		lease.visible_at = sim_now() + 100000;
	if (random_percent(3))		/* COPY, OVERRIDING, setval */
		msg_id = 1 + random_below((int) queue->last_id);
	row = new_row(queue->table, msg_id, &lease, 1 + random_below(sim->n_groups));
	if (row == NULL)
		return;
	trace("send " INT64_FORMAT " at row %d, visible at " INT64_FORMAT, msg_id,
		  (int) (row - queue->table->rows), lease.visible_at);
	row_tid(queue->table, row, &tid);
	pgmq_xact_note_insert(list, &tid, msg_id, &lease, row->group_hash);
}

/* pgmq_am_extend_message(), for the first row with this id */
void
op_extend(SimQueue *queue)
{
	XactQueue  *list = list_queue(queue);
	MessageRef	refs[4];
	ClaimOwner	owner;
	SimRow	   *row;
	Lease		lease;
	int			message;
	int64		msg_id;

	if (queue->last_id == 0 || !pgmq_xact_queue_is_usable(list) ||
		!make_ready(queue, list, NULL))
		return;
	msg_id = 1 + random_below((int) queue->last_id);
	if (!find_id(queue, list, msg_id))
		return;
	if (pgmq_xact_find_by_id(list, msg_id, lengthof(refs), refs) == 0)
	{
		compare_absence(queue, list, msg_id);
		return;
	}
	if (pgmq_xact_claim_any(list, &refs[0], &message, &owner) != CLAIM_TAKEN)
		return;
	row = row_at(queue->table, &refs[0].tid, refs[0].msg_id);
	trace("extend " INT64_FORMAT, refs[0].msg_id);
	switch (look_at(row))
	{
		case LOOK_LIVE:
			if (is_claimed_by_other(row))
				fail("message " INT64_FORMAT " of session %d is extended", row->msg_id, row->holder);
			if (is_busy(queue, row, false))
				fail("message " INT64_FORMAT " is extended while another takes its lock", row->msg_id);
			lease = *my_lease(row);
			lease.visible_at = sim_now() + (random_percent(30) ? 0 : random_below(2 * sim->max_vt));
			pgmq_xact_set_lease(message, &lease, true);
			log_lease(row);
			row->holder = sim_number;
			row->lease = lease;
			break;
		case LOOK_GONE:
			pgmq_xact_forget_row(message);
			break;
		default:
			pgmq_xact_give_back(message);
			break;
	}
}

/* For messages: the first row that the ring and this session's eyes disagree about. */
static const char *
describe_difference(const SimQueue *queue)
{
	for (int i = 0; i < queue->table->n_rows; i++)
	{
		SimRow	   *row = &queue->table->rows[i];
		RingRef		ref = {0};
		ItemPointerData tid;
		uint32		slot;

		row_tid(queue->table, row, &tid);
		slot = pgmq_ring_lookup(pgmq_ring_find(&queue->table->locator), row->msg_id, &tid);
		if (slot != 0)
			pgmq_ring_ref(slot, &ref);
		if (ref.state == SLOT_DELETING && ref.owner == (uint32) sim_number)
			continue;
		if (is_live_to_me(row) != (slot != 0 && !ref.limbo_insert))
			return describe_row(queue, row);
	}
	return "none";
}

/* A query of the table, by an ordered scan: it takes nothing, but moves what has matured. */
void
op_query(SimQueue *queue)
{
	XactQueue  *list = list_queue(queue);

	if (pgmq_xact_queue_is_usable(list) && make_ready(queue, list, &pgmq_ready_start))
		pgmq_xact_mature(list, sim_now());
	trace("query");
}

void
op_count(SimQueue *queue)
{
	XactQueue  *list = list_queue(queue);
	QueueCounts counts;
	int			length = 0;
	int			visible_length = 0;

	if (!pgmq_xact_queue_is_usable(list) || !make_ready(queue, list, &pgmq_ready_start))
		return;
	pgmq_xact_counts(list, sim_now(), &counts);
	/* Whatever is doubtful counts until it is let go */
	if (!counts.is_exact || is_between_callbacks() || list->ring->n_doubtful > 0)
		return;
	for (int i = 0; i < queue->table->n_rows; i++)
		if (is_live_to_me(&queue->table->rows[i]))
		{
			length++;
			visible_length += my_lease(&queue->table->rows[i])->visible_at <= sim_now();
		}
	trace("count");
	if (counts.length != length || counts.visible_length != visible_length)
		fail("%d messages, %d of them visible, are counted as " INT64_FORMAT " and " INT64_FORMAT "; the first difference is %s",
			 length, visible_length, counts.length, counts.visible_length, describe_difference(queue));
}

/* ---- a scan in steps ---- */

/* Another reason for one: a backend that changed rows behind the list's back. */
void
op_scan(SimQueue *queue)
{
	SimSession *s = me();
	XactQueue  *list = list_queue(queue);
	BlockRange	range;

	if (!pgmq_xact_queue_is_usable(list) ||
		pgmq_xact_build_begin(list, &pgmq_ready_start, sim_now(), &range) != BUILD_STARTED)
		return;
	trace("scan begins");
	s->step = STEP_SCAN;
	s->queue = queue;
	s->block = range.first;
	s->n_blocks = Min(range.end, blocks_of(queue));
	s->with_groups = pgmq_xact_keeps_groups(list);
}

static void
scan_step(void)
{
	SimSession *s = me();
	XactQueue  *list = pgmq_xact.building;

	if (s->block >= s->n_blocks)
	{
		trace("scan ends");
		s->step = STEP_NONE;
		pgmq_xact_build_end(list, true);
		return;
	}
	s->epoch = pgmq_xact_build_epoch(list);
	s->n_looked_at = 1 + random_below(SCAN_BLOCKS);
	s->n_scanned = scan_pages(s->queue, s->block, s->n_looked_at, s->n_blocks, s->with_groups,
							   s->scanned);
	s->step = STEP_SCANNED;
}

static void
add_step(void)
{
	SimSession *s = me();

	trace("add block %d", s->block);
	s->step = STEP_SCAN;
	if (pgmq_xact_build_add(pgmq_xact.building, s->epoch, s->scanned, s->n_scanned, sim_now()))
		s->block += s->n_looked_at;
}

/* Go on with what the session is in the middle of. */
void
next_step(void)
{
	switch (me()->step)
	{
		case STEP_LOOK:
			look_at_taken();
			break;
		case STEP_GUARDED:
			finish_change();
			break;
		case STEP_SCAN:
			scan_step();
			break;
		case STEP_SCANNED:
			add_step();
			break;
		case STEP_POLL:
			poll_step();
			break;
		case STEP_NONE:
			break;
	}
}
