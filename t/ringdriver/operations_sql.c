/*
 * operations_sql.c
 *	  Plain SQL's deletes, updates and row locks (am_lock.c), new storage, savepoints
 *	  and the ends of transactions, each in the steps between which others can run.
 */
#include "model.h"

#include "catalog/pg_class.h"

/* A lock on the table; the transaction begins with its first. */
void
touch(SimQueue *queue)
{
	SimSession *s = me();

	if (s->phase == PHASE_IDLE)
	{
		s->phase = PHASE_ACTIVE;
		s->nest_level = 1;
		s->xids[1] = new_xid(InvalidTransactionId);
	}
	s->has_touched[queue - sim->queues] = true;
}

/* ---- changing rows ---- */

/* Raise the guard; false if another has the message, or must settle it first. */
static bool
begin_guard(SimQueue *queue, XactQueue *list, SimRow *row, LockTupleMode mode)
{
	ClaimOwner	owner;
	ItemPointerData tid;

	row_tid(queue->table, row, &tid);
	for (int i = 0; i < 3; i++)
		switch (pgmq_xact_guard_begin(list, row->msg_id, &tid, mode, &owner))
		{
			case CLAIM_TAKEN:
				if (pgmq_xact_guard()->has_slot && is_claimed_by_other(row))
					fail("a guard stands over message " INT64_FORMAT " of session %d",
						 row->msg_id, row->holder);
				return true;
			case CLAIM_UNDECIDED:
				settle_row(queue, list, row->msg_id, &tid);
				break;
			case CLAIM_FOREIGN:
				if (sim->sessions[owner.vxid.localTransactionId - 1].phase == PHASE_IDLE)
					fail("message " INT64_FORMAT " is held by session %d, which is idle",
						 row->msg_id, (int) owner.vxid.localTransactionId - 1);
				return false;
			default:
				return false;
		}
	return false;
}

static bool
delete_under_guard(SimRow *row)
{
	bool		is_done = look_at(row) == LOOK_LIVE;

	if (is_done)
	{
		if (is_claimed_by_other(row))
			fail("message " INT64_FORMAT " of session %d is deleted", row->msg_id, row->holder);
		row->xmax = current_xid();
	}
	pgmq_xact_guard_end(is_done);
	return is_done;
}

/* The ring does not know the row: wait for its inserter, if it can be had. */
static bool
must_wait_for_inserter(const SimRow *row)
{
	int			session = xid_session(row->xmin);

	return session != NOBODY && session != sim_number;
}

static void
settle_at(SimQueue *queue, XactQueue *list, const SimRow *row)
{
	ItemPointerData tid;

	row_tid(queue->table, row, &tid);
	settle_row(queue, list, row->msg_id, &tid);
}

/* Delete a row at once; false where that would wait or the row is not to be had. */
bool
delete_row(SimQueue *queue, XactQueue *list, SimRow *row)
{
	if (!begin_guard(queue, list, row, LockTupleExclusive))
		return false;
	if (!pgmq_xact_guard()->is_published && !pgmq_xact_guard()->is_own && list->ring != NULL)
	{
		pgmq_xact_guard_end(false);
		if (look_at(row) != LOOK_LIVE || must_wait_for_inserter(row))
			return false;
		settle_at(queue, list, row);
		if (!begin_guard(queue, list, row, LockTupleExclusive))
			return false;
	}
	return delete_under_guard(row);
}

static void
insert_new_version(SimQueue *queue, XactQueue *list, const SimRow *old)
{
	Lease		lease = old->holder == sim_number ? old->lease : *true_lease(old);
	uint64		group_hash = random_percent(20) ? 1 + random_below(sim->n_groups) : old->group_hash;
	ItemPointerData tid;
	SimRow	   *row;

	if (random_percent(30))
		lease.visible_at = sim_now() + random_below(100);
	row = new_row(queue->table, old->msg_id, &lease, group_hash);
	if (row == NULL)
		return;
	row_tid(queue->table, row, &tid);
	trace("new version of " INT64_FORMAT " at row %d", old->msg_id, (int) (row - queue->table->rows));
	pgmq_xact_note_insert(list, &tid, old->msg_id, &lease, group_hash);
}

static SimRow *
pick_row(SimQueue *queue)
{
	for (int i = 0; i < 20 && queue->table->n_rows > 0; i++)
	{
		SimRow	   *row = &queue->table->rows[random_below(queue->table->n_rows)];

		if (is_live_to_me(row))
			return row;
	}
	return NULL;
}

static const LockTupleMode work_modes[] = {
	LockTupleExclusive, LockTupleNoKeyExclusive, LockTupleExclusive
};

/* Begin to delete, update or lock some row. */
void
op_change(SimQueue *queue, RowWork work)
{
	SimSession *s = me();
	XactQueue  *list = list_queue(queue);
	SimRow	   *row = pick_row(queue);

	if (row == NULL || !begin_guard(queue, list, row, work_modes[work]))
		return;
	trace("guard " INT64_FORMAT " at row %d for %d", row->msg_id, (int) (row - queue->table->rows), work);
	s->step = STEP_GUARDED;
	s->queue = queue;
	s->row = row;
	s->work = work;
	s->has_waited = false;
	if (random_percent(60))
		finish_change();
}

/* lock_message(): under the guard, or else with a look for claims afterwards */
static void
lock_row(SimSession *s, XactQueue *list)
{
	bool		is_ours = xid_is_running(s->row->locker) && sim_is_mine(s->row->locker);
	bool		is_covered = pgmq_xact_guard()->has_slot || pgmq_xact_guard()->is_own || is_ours;
	bool		is_free = look_at(s->row) == LOOK_LIVE;

	if (is_free)
		s->row->locker = current_xid();
	pgmq_xact_guard_end(false);
	if (!is_free)
		return;
	if (!is_covered)
	{
		if (!begin_guard(s->queue, list, s->row, LockTupleExclusive))
			return;
		pgmq_xact_guard_end(false);
	}
	if (is_claimed_by_other(s->row))
		fail("message " INT64_FORMAT " of session %d is locked", s->row->msg_id, s->row->holder);
}

void
finish_change(void)
{
	SimSession *s = me();
	XactQueue  *list = list_queue(s->queue);

	trace("change " INT64_FORMAT " (%d)", s->row->msg_id, s->work);
	s->step = STEP_NONE;
	if (s->work == WORK_LOCK)
	{
		lock_row(s, list);
		return;
	}
	if (!pgmq_xact_guard()->is_published && !pgmq_xact_guard()->is_own && list->ring != NULL &&
		!s->has_waited)
	{
		pgmq_xact_guard_end(false);
		if (look_at(s->row) != LOOK_LIVE || must_wait_for_inserter(s->row))
			return;
		s->row->locker = current_xid();
		settle_at(s->queue, list, s->row);
		s->has_waited = true;
		if (begin_guard(s->queue, list, s->row, work_modes[s->work]))
			s->step = STEP_GUARDED;
		return;
	}
	if (delete_under_guard(s->row) && s->work == WORK_UPDATE)
		insert_new_version(s->queue, list, s->row);
}

/* ---- leases to their pages: XactStorage ---- */

static SimQueue *
queue_of(const XactQueue *list)
{
	for (int i = 0; i < sim->n_queues; i++)
		if (RelFileLocatorEquals(sim->queues[i].table->locator, list->locator))
			return &sim->queues[i];
	return NULL;
}

static SimRow *
row_to_lease(SimQueue *queue, const XactMessage *message)
{
	SimRow	   *row = row_at(queue->table, &message->tid, message->msg_id);

	if (row == NULL || row->holder != sim_number)
		fail("a lease of message " INT64_FORMAT " is written, which this session has not", message->msg_id);
	if (message->lease.read_ct != row->lease.read_ct ||
		message->lease.visible_at != row->lease.visible_at)
		fail("the lease of message " INT64_FORMAT " is not what it was", message->msg_id);
	return row;
}

void
sim_write_leases(XactQueue *list, int *messages, int n)
{
	SimQueue   *queue = queue_of(list);

	for (int i = 0; queue != NULL && i < n; i++)
	{
		XactMessage *message = pgmq_xact_message(messages[i]);
		SimRow	   *row = row_to_lease(queue, message);

		if (look_at(row) != LOOK_LIVE && look_at(row) != LOOK_LOCKED)
			continue;
		message->before = row->page;
		message->is_written = true;
		row->before = row->page;
		row->is_failing = true;
		row->page = message->lease;
	}
}

void
sim_update_leases(XactQueue *list, int *messages, int n)
{
	SimQueue   *queue = queue_of(list);

	for (int i = 0; queue != NULL && i < n; i++)
	{
		SimRow	   *row = row_to_lease(queue, pgmq_xact_message(messages[i]));
		Lease		lease = row->lease;
		ItemPointerData tid;
		SimRow	   *updated;

		if (!delete_row(queue, list, row))
			fail("a claim cannot be updated: %s", describe_row(queue, row));
		updated = new_row(queue->table, row->msg_id, &lease, row->group_hash);
		if (updated == NULL)
			fail("table is full");
		row_tid(queue->table, updated, &tid);
		pgmq_xact_note_insert(list, &tid, row->msg_id, &lease, row->group_hash);
	}
}

/* ---- storage ---- */

static bool
is_mine_alone(SimQueue *queue)
{
	int			q = (int) (queue - sim->queues);

	for (int i = 0; i < SIM_SESSIONS; i++)
		if (i != sim_number && sim->sessions[i].has_touched[q])
			return false;
	return queue->n_prepared == 0;
}

static void
note_storage(SimQueue *queue, const RelFileLocator *locator)
{
	RelationData rel;
	FormData_pg_class form;

	memset(&rel, 0, sizeof(rel));
	memset(&form, 0, sizeof(form));
	form.relpersistence = RELPERSISTENCE_PERMANENT;
	rel.rd_rel = &form;
	rel.rd_id = queue->table->relid;
	rel.rd_att = CreateTemplateTupleDesc(5);
	TupleDescInitEntry(rel.rd_att, 1, "msg_id", INT8OID, -1, 0);
	TupleDescInitEntry(rel.rd_att, 2, "read_ct", INT4OID, -1, 0);
	for (int i = 3; i <= 5; i++)
		TupleDescInitEntry(rel.rd_att, i, "t", TIMESTAMPTZOID, -1, 0);
	REL_LOCATOR(&rel) = queue->table->locator;
	if (locator != NULL)
		pgmq_xact_note_new_storage(&rel, locator);
	else
		pgmq_xact_note_rebuild(&rel);
	FreeTupleDesc(rel.rd_att);
}

/* TRUNCATE; or rows changed that nobody is told of. */
void
op_truncate(SimQueue *queue)
{
	SimTable   *table;

	if (random_percent(70))
	{
		(void) list_queue(queue);
		trace("rebuild queue %d", (int) (queue - sim->queues));
		note_storage(queue, NULL);
		return;
	}
	if (!is_mine_alone(queue) || sim->n_tables == SIM_MAX_TABLES)
		return;
	(void) list_queue(queue);
	trace("truncate queue %d", (int) (queue - sim->queues));
	queue->owner = sim_number;
	table = new_table((int) (queue - sim->queues));
	note_storage(queue, &table->locator);
	log_storage(queue);
	queue->table = table;
}

/* ---- savepoints ---- */

void
op_savepoint(void)
{
	SimSession *s = me();

	if (s->nest_level >= SIM_MAX_NEST)
		return;
	trace("savepoint %d", s->nest_level + 1);
	s->nest_level++;
	s->xids[s->nest_level] = new_xid(s->xids[s->nest_level - 1]);
	sim_subxact_callback(SUBXACT_EVENT_START_SUB, 0, 0, NULL);
}

void
op_release(void)
{
	SimSession *s = me();

	trace("release %d", s->nest_level);
	sim_subxact_callback(SUBXACT_EVENT_PRE_COMMIT_SUB, 0, 0, NULL);
	sim->xids[s->xids[s->nest_level]].status = XID_SUBCOMMITTED;
	sim_subxact_callback(SUBXACT_EVENT_COMMIT_SUB, 0, 0, NULL);
	undo_to(s->nest_level, false);
	s->nest_level--;
}

/* What the session was in the middle of has ended with an error. */
static void
forget_step(void)
{
	me()->step = STEP_NONE;
	me()->n_looking = 0;
}

/* A callback that others see piece by piece */
static void
begin_letting_go(void)
{
	for (int q = 0; q < sim->n_queues; q++)
	{
		Ring	   *ring = pgmq_ring_find(&sim->queues[q].table->locator);

		/* What it holds without a slot may be let go before what has one */
		me()->keeps_groups[q] = ring != NULL && ring->is_grouped &&
			ring->phase == RING_COMPLETE && !ring->has_cold;
	}
	me()->is_letting_go = true;
	me()->may_pause = true;
}

static void
end_letting_go(void)
{
	me()->is_letting_go = false;
	me()->may_pause = false;
}

static void
finish_rollback_to(void)
{
	SimSession *s = me();

	trace("callback of rollback to %d", s->nest_level);
	begin_letting_go();
	sim_subxact_callback(SUBXACT_EVENT_ABORT_SUB, 0, 0, NULL);
	end_letting_go();
	undo_to(s->nest_level, true);
	forget_step();
	sim->xids[current_xid()].is_locked = false;
	s->nest_level--;
	s->phase = PHASE_ACTIVE;
}

void
op_rollback_to(void)
{
	trace("rollback to %d", me()->nest_level);
	sim->xids[current_xid()].status = XID_ABORTED;
	me()->phase = PHASE_SUBABORTED;
	if (random_percent(70))
		finish_rollback_to();
}

/* ---- ends of transactions ---- */

static void
forget_transaction(bool is_abort)
{
	SimSession *s = me();

	if (is_abort)
		undo_to(1, true);
	for (int i = 0; i < s->n_undo; i++)
		if (s->undo[i].row != NULL && s->undo[i].row->holder == sim_number)
			s->undo[i].row->holder = NOBODY;
	for (int q = 0; q < sim->n_queues; q++)
	{
		if (sim->queues[q].owner == sim_number)
			sim->queues[q].owner = NOBODY;
		s->has_touched[q] = false;
	}
	s->n_undo = 0;
	s->nest_level = 0;
	s->phase = PHASE_IDLE;
	forget_step();
	MemoryContextReset(s->context);
}

/* A lease that was written and did not commit matters on rows that are there. */
static void
settle_failing(bool is_abort)
{
	SimSession *s = me();

	for (int i = 0; i < s->n_undo; i++)
	{
		SimRow	   *row = s->undo[i].row;

		if (row != NULL && row->is_failing && (!is_abort || !is_live_to_all(row)))
			row->is_failing = false;
	}
}

static void
finish_commit(void)
{
	trace("callback of commit");
	begin_letting_go();
	sim_xact_callback(XACT_EVENT_COMMIT, NULL);
	end_letting_go();
	sim->xids[me()->xids[1]].session = NOBODY;
	sim->xids[me()->xids[1]].is_locked = false;
	forget_transaction(false);
}

static void
finish_abort(void)
{
	trace("callback of abort");
	begin_letting_go();
	sim_xact_callback(XACT_EVENT_ABORT, NULL);
	end_letting_go();
	sim->xids[me()->xids[1]].session = NOBODY;
	sim->xids[me()->xids[1]].is_locked = false;
	settle_failing(true);
	forget_transaction(true);
}

/* Every lease that stands is on its page. */
static void
check_written(void)
{
	for (int q = 0; q < sim->n_queues; q++)
		for (int i = 0; i < sim->queues[q].table->n_rows; i++)
		{
			SimRow	   *row = &sim->queues[q].table->rows[i];

			if (row->holder == sim_number && is_live_to_me(row) && !row->is_failing)
				fail("the lease of message " INT64_FORMAT " is not written", row->msg_id);
		}
}

/* From CLOSED on: the commit, or an error of somebody else's. */
static void
after_close(void)
{
	if (random_percent(12))
	{
		trace("fails late");
		sim->xids[me()->xids[1]].status = XID_ABORTED;
		me()->phase = PHASE_ABORTED;
		return;
	}
	trace("is committed");
	sim->xids[me()->xids[1]].status = XID_COMMITTED;
	me()->phase = PHASE_COMMITTED;
	settle_failing(false);
}

void
op_commit(void)
{
	while (me()->nest_level > 1)
		op_release();
	trace("commit");
	sim_xact_callback(XACT_EVENT_PRE_COMMIT, NULL);
	check_written();
	me()->phase = PHASE_CLOSED;
	while (me()->phase != PHASE_IDLE && random_percent(75))
		end_step();
}

/* One step towards the end of a transaction or savepoint that has begun. */
void
end_step(void)
{
	switch (me()->phase)
	{
		case PHASE_CLOSED:
			after_close();
			break;
		case PHASE_COMMITTED:
			finish_commit();
			break;
		case PHASE_ABORTED:
			finish_abort();
			break;
		case PHASE_SUBABORTED:
			finish_rollback_to();
			break;
		default:
			break;
	}
}

void
op_abort(void)
{
	while (me()->nest_level > 1)
	{
		sim->xids[current_xid()].status = XID_ABORTED;
		me()->phase = PHASE_SUBABORTED;
		finish_rollback_to();
	}
	trace("abort");
	sim->xids[me()->xids[1]].status = XID_ABORTED;
	me()->phase = PHASE_ABORTED;
	if (random_percent(70))
		end_step();
}

/* ---- prepared transactions ---- */

static bool
has_new_storage(void)
{
	for (int q = 0; q < sim->n_queues; q++)
		if (sim->queues[q].owner == sim_number)
			return true;
	return false;
}

/*
 * Is a row that we have leased locked by another, who took the lock where the ring had no
 * slot and now waits for us?  To update it we would wait for him: a deadlock.
 */
static bool
has_locked_lease(void)
{
	for (int i = 0; i < me()->n_undo; i++)
	{
		SimRow	   *row = me()->undo[i].row;

		if (row != NULL && row->holder == sim_number && is_locked_by_other(row))
			return true;
	}
	return false;
}

/* Is there a place for the new version of every row that we may have leased? */
static bool
has_room_for_leases(void)
{
	for (int q = 0; q < sim->n_queues; q++)
		if (me()->has_touched[q] && sim->queues[q].table->n_rows + me()->n_undo > SIM_MAX_ROWS)
			return false;
	return true;
}

void
op_prepare(void)
{
	SimPrepared *prepared = &sim->prepared[random_below(SIM_PREPARED)];
	SimSession *s = me();

	if (prepared->xid != InvalidTransactionId || has_new_storage() || has_locked_lease() ||
		!has_room_for_leases())
		return;
	while (s->nest_level > 1)
		op_release();
	trace("prepare %u", s->xids[1]);
	sim_xact_callback(XACT_EVENT_PRE_PREPARE, NULL);
	s->may_pause = true;
	sim_xact_callback(XACT_EVENT_PREPARE, NULL);
	s->may_pause = false;
	prepared->xid = s->xids[1];
	memcpy(prepared->has_touched, s->has_touched, sizeof(s->has_touched));
	for (int q = 0; q < sim->n_queues; q++)
		sim->queues[q].n_prepared += s->has_touched[q];
	sim->xids[s->xids[1]].session = NOBODY;
	forget_transaction(false);
}

/* COMMIT PREPARED or ROLLBACK PREPARED: no callback of ours runs. */
void
op_finish_prepared(void)
{
	SimPrepared *prepared = &sim->prepared[random_below(SIM_PREPARED)];
	bool		is_commit = random_percent(60);

	if (prepared->xid == InvalidTransactionId)
		return;
	trace("%s prepared %u", is_commit ? "commit" : "rollback", prepared->xid);
	sim->xids[prepared->xid].status = is_commit ? XID_COMMITTED : XID_ABORTED;
	sim->xids[prepared->xid].is_locked = false;
	prepared->xid = InvalidTransactionId;
	for (int q = 0; q < sim->n_queues; q++)
		sim->queues[q].n_prepared -= prepared->has_touched[q];
}
