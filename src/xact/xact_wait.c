/*
 * xact_wait.c
 *	  A consumer's sleep in a blocking read.
 *
 * The interleaving to beware of: a consumer finds nothing, a commit publishes,
 * the consumer falls asleep.  So the ring counts what becomes ready
 * (ready_seq); the consumer notes the count before it looks and does not sleep
 * if it has moved.
 *
 * The other one: A claims a message to look at its row, B finds nothing, A
 * finds the row locked and gives the claim back, B falls asleep; nobody will
 * tell B when the lock is gone.  So give-backs are counted too (refused_seq).
 * Only who has met locked rows does not mind them: it looks again in a while.
 *
 * A waiter that was given a turn and leaves, with a message or without, by
 * return or by error, passes the turn on if anything is left.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "pgstat.h"
#include "storage/latch.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

/* Between two looks at a backend that is about to publish: at first, and at most. */
#define LATE_PAUSE_US 50
#define LATE_MAX_PAUSE_US 2000

/* A latch is waited for in milliseconds; what is left of the time is slept without. */
static void
sleep_until(TimestampTz until, uint32 wait_event)
{
	int64		us = 3600 * INT64CONST(1000000);

	if (!TIMESTAMP_IS_NOEND(until))
		us = Min(us, until - GetCurrentTimestamp());
	if (us >= 1000)
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 (long) (us / 1000), wait_event);
	else if (us > 0)
	{
		pgstat_report_wait_start(wait_event);
		pg_usleep((long) us);
		pgstat_report_wait_end();
	}
	ResetLatch(MyLatch);
}

/* Note where the ring stands, before a look that may end in a sleep. */
void
pgmq_xact_watch(XactQueue *queue)
{
	ring_lock(queue->ring, LW_SHARED);
	queue->seen_ready_seq = queue->ring->ready_seq;
	queue->seen_refused_seq = queue->ring->refused_seq;
	ring_unlock(queue->ring);
	queue->own_refusals = 0;
}

/* Join the waiters unless something became ready since the last watch. */
bool
pgmq_xact_begin_sleep(XactQueue *queue, bool met_locked)
{
	Ring	   *ring = queue->ring;
	bool		is_quiet;
	WakeList	wake;

	wake.n = 0;
	PGMQ_FAILPOINT("sleep-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	is_quiet = ring->phase == RING_COMPLETE &&
		ring->ready_seq == queue->seen_ready_seq &&
		(met_locked || ring->refused_seq == queue->seen_refused_seq + queue->own_refusals);
	if (is_quiet)
	{
		pgmq_ring_wait_begin(ring, queue->seen_ready_seq, met_locked);
		pgmq_ring_wake_unseen(ring, &wake);
	}
	ring_unlock(ring);
	pgmq_wake_all(&wake);
	if (is_quiet)
		pgmq_xact.waiting = queue;
	PGMQ_FAILPOINT("sleep-begun");
	return is_quiet;
}

/*
 * Is it time to look again?  Takes us off the waiters then.  *until is how
 * long to sleep otherwise: to the deadline, and for the first waiter at most
 * to the next moment a message becomes ready by itself.
 */
bool
pgmq_xact_sleep_is_over(XactQueue *queue, TimestampTz deadline, TimestampTz *until)
{
	Ring	   *ring = queue->ring;
	TimestampTz now = GetCurrentTimestamp();
	bool		is_over = now >= deadline;
	TimestampTz event;
	WakeList	wake;

	wake.n = 0;
	*until = deadline;
	PGMQ_FAILPOINT("sleep-look-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	if (pgmq_ring_watch_clock(ring, &event))
	{
		event = pgmq_clock_real_time(event);
		*until = Min(deadline, event);
		is_over |= event <= now || ring->phase != RING_COMPLETE;
	}
	if (is_over)
	{
		int			moved = pgmq_ring_mature(ring, pgmq_clock_now(), RING_BATCH_SLOTS);

		(void) pgmq_ring_wait_end(ring);
		if (moved > 1)
			pgmq_ring_wake(ring, moved - 1, &wake);
		else
			pgmq_ring_wake_first(ring, &wake);
	}
	else if (!pgmq_ring_is_waiting(ring))
		is_over = true;			/* given a turn */
	ring_unlock(ring);
	pgmq_wake_all(&wake);
	PGMQ_FAILPOINT("sleep-look-end");
	return is_over;
}

/*
 * Sleep until a message may be ready or the deadline has come.  Returns at
 * once if something became ready since the last watch.  met_locked: the caller
 * passed over locked rows, and looks again at the deadline.
 */
void
pgmq_xact_sleep(XactQueue *queue, TimestampTz deadline, bool met_locked,
				uint32 wait_event)
{
	TimestampTz until;

	if (!pgmq_xact_begin_sleep(queue, met_locked))
		return;
	while (!pgmq_xact_sleep_is_over(queue, deadline, &until))
	{
		sleep_until(until, wait_event);
		CHECK_FOR_INTERRUPTS();
	}
}

/* Leave for good: pass on what others could take. */
void
pgmq_xact_pass_turn(XactQueue *queue)
{
	Ring	   *ring = queue->ring;
	WakeList	wake;

	if (pgmq_xact.waiting != queue)
		return;
	wake.n = 0;
	PGMQ_WAITPOINT("pass-turn-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	(void) pgmq_ring_wait_end(ring);
	pgmq_ring_wake(ring, ring->counts[TREE_READY], &wake);
	ring_unlock(ring);
	pgmq_xact.waiting = NULL;
	pgmq_wake_all(&wake);
	PGMQ_WAITPOINT("pass-turn-end");
}

void
pgmq_xact_sleep_abort(void)
{
	if (pgmq_xact.waiting != NULL)
		pgmq_xact_pass_turn(pgmq_xact.waiting);
}

/*
 * Between the moment a transaction's rows become visible and its COMMIT
 * callback its messages are in no ring.  Wait for all who are there now, each at
 * most max_ms.  That is a matter of moments as a rule: they wait for nothing but
 * locks of rings, but may have millions of messages to tell.
 */
AwaitResult
pgmq_xact_await_publishing(long max_ms)
{
	AwaitResult result = AWAIT_NOBODY;

	for (int i = 0; i < pgmq_backend_limit(); i++)
	{
		int64		waited_us = 0;

		while (i != PGMQ_MY_PROC_NUMBER && pgmq_backend_is_late(i))
		{
			long		pause_us = Min(LATE_PAUSE_US + waited_us / 4, LATE_MAX_PAUSE_US);

			if (waited_us / 1000 >= max_ms)
				return AWAIT_TIMED_OUT;
			if (result == AWAIT_NOBODY)
				PGMQ_FAILPOINT("await-publishing");
			result = AWAIT_DONE;
			pgstat_report_wait_start(PG_WAIT_EXTENSION);
			pg_usleep(pause_us);
			pgstat_report_wait_end();
			waited_us += pause_us;
			CHECK_FOR_INTERRUPTS();
		}
	}
	return result;
}
