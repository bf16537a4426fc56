/*
 * clock.h
 *	  What time it is, for messages.
 *
 * Everything that decides whether a message may be claimed, or says when it
 * was or will be, asks pgmq_clock_now(): delays, leases, maturing, counts of
 * what is ready.  What only measures waiting does not: deadlines of blocking
 * reads, pauses, the worker's naps.
 *
 * Tests set the clock by pgmq.test_clock (superusers only).  It stands still
 * until it is set again.  A process that does not have the setting uses the
 * real time, so the setting must either reach all of them, the background
 * worker too (ALTER SYSTEM), or be ahead of the real time: others then put a
 * message among the waiting that a test finds ready, and that is sorted out
 * whenever somebody looks.  A clock set back leaves messages among the ready
 * that are not; reads look at the row before they believe it, but metrics()
 * counts them.
 *
 * No locks, no shared memory; safe at commit and abort.
 */
#ifndef PGMQ_CLOCK_H
#define PGMQ_CLOCK_H

#include "postgres.h"

#include "access/xact.h"
#include "utils/timestamp.h"

/* What pgmq.test_clock says; 0 where it is empty. */
extern TimestampTz pgmq_test_clock;

extern void pgmq_clock_define_setting(void);

/* The present, for messages. */
static inline TimestampTz
pgmq_clock_now(void)
{
	return likely(pgmq_test_clock == 0) ? GetCurrentTimestamp() : pgmq_test_clock;
}

/* The start of the transaction, as now() in SQL. */
static inline TimestampTz
pgmq_clock_transaction_start(void)
{
	return likely(pgmq_test_clock == 0) ? GetCurrentTransactionStartTimestamp() :
		pgmq_test_clock;
}

/*
 * The real instant at which pgmq_clock_now() will have come to t, for sleeping
 * until then: never, if a test's clock stands before it.
 */
static inline TimestampTz
pgmq_clock_real_time(TimestampTz t)
{
	if (likely(pgmq_test_clock == 0))
		return t;
	return t <= pgmq_test_clock ? DT_NOBEGIN : DT_NOEND;
}

#endif							/* PGMQ_CLOCK_H */
