/*
 * sleepers.c
 *	  Blocking reads: who sleeps, and whether somebody should have been woken.
 *
 * What src/xact/xact_wait.c and src/shmem/ring_waiters.c promise: no consumer sleeps on
 * while there is a message that it could have, unless
 *
 *	  another consumer of the ring was given a turn and has not looked yet: whoever was
 *	  given one looks, and passes it on when it leaves or falls asleep again;
 *	  it met locked rows, so that it looks again after the poll interval;
 *	  the ring cannot say (it is not complete, or has cold messages): the first sleeper
 *	  sees to that when it looks at the clock, and was poked to do so;
 *	  the message is READY only when somebody notices that its time has come: the first
 *	  sleeper's clock rings then.
 *
 * The functions follow poll_queue() in read_call.c and pgmq_xact_sleep().
 */
#include "model.h"

#include "shmem/ring_internal.h"

/* Longest blocking read, and the poll interval, by the driver's clock. */
#define MAX_POLL 300
#define POLL_INTERVAL 20

static void
end_poll(XactQueue *list)
{
	me()->step = STEP_NONE;
	me()->is_asleep = false;
	if (list->ring != NULL)
		pgmq_xact_pass_turn(list);
}

/* Look; where there is nothing, fall asleep, unless something has become ready since. */
static void
look_or_sleep(void)
{
	SimSession *s = me();
	XactQueue  *list = list_queue(s->queue);
	ReadEnd		end = {0};

	s->step = STEP_NONE;
	s->is_asleep = false;
	if (sim_now() < s->deadline && pgmq_xact_queue_is_usable(list))
	{
		pgmq_xact_watch(list);
		end = op_read(s->queue, false);
	}
	/* A read that goes on by SQL is not woken by anybody: it ends here */
	if (end.n_done > 0 || !end.by_ring)
	{
		end_poll(list);
		return;
	}
	s->step = STEP_POLL;
	s->met_locked = end.met_locked;
	s->sleep_deadline = end.met_locked ? Min(s->deadline, sim_now() + POLL_INTERVAL) : s->deadline;
	s->until = DT_NOBEGIN;
	s->is_asleep = pgmq_xact_begin_sleep(list, end.met_locked);
	sim->n_slept += s->is_asleep;
	trace(s->is_asleep ? "sleeps" : "looks again");
}

/* read_with_poll() */
void
op_poll(SimQueue *queue)
{
	me()->queue = queue;
	me()->deadline = sim_now() + 1 + random_below(MAX_POLL);
	look_or_sleep();
}

/* A sleeper's process runs: it may have been woken. */
void
poll_step(void)
{
	SimSession *s = me();
	int		   *latch = &sim_procs.allProcs[sim_number].procLatch;

	if (s->is_asleep)
	{
		if (*latch == 0 && sim_now() < s->until)
			return;
		*latch = 0;
		if (!pgmq_xact_sleep_is_over(list_queue(s->queue), s->sleep_deadline, &s->until))
			return;
	}
	look_or_sleep();
}

/* ---- the promise ---- */

static bool
is_waiter(const Ring *ring, int session)
{
	return pgmq_shared->backends[session].waits_for == ring->index;
}

/* Is a session on its way to look at the ring, or to pass its turn on? */
static bool
is_turn_pending(const SimQueue *queue, const Ring *ring)
{
	for (int i = 0; i < SIM_SESSIONS; i++)
	{
		const SimSession *s = &sim->sessions[i];
		const XactState *xact = i == sim_number ? &pgmq_xact : &s->xact;

		if (!is_waiter(ring, i) &&
			((s->step == STEP_POLL && s->queue == queue) ||
			 (xact->waiting != NULL && xact->waiting->ring == ring)))
			return true;
	}
	return false;
}

/* A READY message of the ring that this session could have; NULL if there is none. */
static const SimRow *
find_missed(const SimQueue *queue, const Ring *ring)
{
	uint32		slot = pgmq_tree_first(ring, TREE_READY);

	for (; slot != 0; slot = pgmq_tree_next(ring, TREE_READY, ring_slot(slot)->msg_id, slot))
	{
		const SimRow *row;
		ItemPointerData tid;

		ItemPointerSet(&tid, ring_slot(slot)->block, ring_slot(slot)->offset);
		row = row_at(queue->table, &tid, ring_slot(slot)->msg_id);
		if (row != NULL && ring_slot(slot)->lockers == 0 && is_to_be_had(queue, row))
			return row;
	}
	return NULL;
}

static void
check_ring_sleepers(const SimQueue *queue, const Ring *ring)
{
	int			runs = sim_number;

	for (int i = 0; i < SIM_SESSIONS; i++)
	{
		SimSession *s = &sim->sessions[i];
		const SimRow *row;

		if (!is_waiter(ring, i) || s->phase != PHASE_ACTIVE || s->met_locked)
			continue;
		switch_to(i);
		row = find_missed(queue, ring);
		switch_to(runs);
		if (row != NULL)
			fail("session %d sleeps, and nobody was woken for %s", i, describe_row(queue, row));
	}
}

/* When does something become ready by itself?  Not what somebody holds. */
static TimestampTz
next_moment(const Ring *ring)
{
	uint32		slot = pgmq_tree_first(ring, TREE_WAITING);

	while (slot != 0 && ring_slot(slot)->state != SLOT_WAITING)
		slot = pgmq_tree_next(ring, TREE_WAITING, ring_slot(slot)->visible_at, slot);
	return Min(slot != 0 ? ring_slot(slot)->visible_at : DT_NOEND,
			   ring->has_cold ? ring->cold_next_at : DT_NOEND);
}

/* Does the first sleeper wake up by then? */
static void
check_clock(const SimQueue *queue, const Ring *ring)
{
	int			first = ring->first_waiter;
	const SimSession *s = &sim->sessions[first];

	if (s->is_asleep && sim_procs.allProcs[first].procLatch == 0 &&
		s->until > Max(next_moment(ring), sim_now()))
		fail("session %d sleeps until " INT64_FORMAT ", and at " INT64_FORMAT " something becomes ready in queue %d",
			 first, s->until, next_moment(ring), (int) (queue - sim->queues));
}

void
check_sleepers(void)
{
	for (int q = 0; q < sim->n_queues; q++)
	{
		SimQueue   *queue = &sim->queues[q];
		Ring	   *ring = pgmq_ring_find(&queue->table->locator);

		if (ring != NULL && ring->first_waiter >= 0 && ring->counts[TREE_READY] > 0 &&
			ring->phase == RING_COMPLETE && !ring->has_cold && !is_turn_pending(queue, ring))
			check_ring_sleepers(queue, ring);
		if (ring != NULL && ring->first_waiter >= 0 && ring->phase == RING_COMPLETE &&
			sim->n_paused == 0 && !is_turn_pending(queue, ring))
			check_clock(queue, ring);
	}
}
