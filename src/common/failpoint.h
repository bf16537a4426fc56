/*
 * failpoint.h
 *	  Named points of the code at which a test can make the process end, raise
 *	  an error or wait.
 *
 * Compiled to nothing unless PGMQ_FAILPOINTS is defined (make FAILPOINTS=1, as
 * scripts/test builds).  Then the setting pgmq.failpoint, superusers only, says
 * what happens at which points:
 *
 *	  pgmq.failpoint = 'point=action[:lock][@n], ...'
 *
 *	  error		raises an error (XX000)
 *	  crash		the process ends at once, as by kill -9
 *	  panic		PANIC: all processes end, the log says where
 *	  wait		waits until the advisory lock `lock` (a bigint, 0 if not
 *				given) is free: whoever holds it stops the race here, and
 *				sees in pg_locks (or, in an isolation test, by itself) that
 *				this session has come so far
 *	  log		writes the point's name to the server's log, once for each
 *
 * The action happens once, at the n-th time (first, if not given) that the
 * process reaches the point since the setting was made.  The point `*` is all of
 * them.  A SET outside a transaction block arms what comes
 * after it, not its own commit.
 *
 * What is possible depends on the place, and the macro says so:
 *
 *	  PGMQ_FAILPOINT	everything.  Checked by assertion: not in a critical
 *						section, under no LWLock, not in a callback that may
 *						not fail.
 *	  PGMQ_WAITPOINT	no error: end of transaction, or on the way to both
 *						kinds of place.  Under no LWLock.
 *	  PGMQ_CRASHPOINT	no error, no wait: under an LWLock or in a critical
 *						section.
 *
 * Names are string literals, each used once: scripts/failpoints lists them.  On
 * servers with injection points (17 and later, if so configured) the first two
 * kinds are injection points of the same name as well.
 */
#ifndef PGMQ_FAILPOINT_H
#define PGMQ_FAILPOINT_H

#include "common/compat.h"

#include "storage/ipc.h"

#ifdef PGMQ_FAILPOINTS

typedef enum FailpointPlace
{
	FAILPOINT_CRASH,			/* may only crash here */
	FAILPOINT_WAIT,				/* or wait */
	FAILPOINT_ERROR				/* or raise an error */
} FailpointPlace;

extern int	pgmq_failpoints_armed;	/* this process's; 0 nearly always */

extern void pgmq_failpoint_reached(const char *name, FailpointPlace place);
extern void pgmq_failpoint_define_setting(void);

static inline void
pgmq_failpoint(const char *name, FailpointPlace place)
{
	Assert(place == FAILPOINT_CRASH || CritSectionCount == 0);

	/* A process that exits removes its temporary tables, with interrupts off. */
	Assert(place != FAILPOINT_ERROR || InterruptHoldoffCount == 0 || proc_exit_inprogress);
	if (unlikely(pgmq_failpoints_armed > 0))
		pgmq_failpoint_reached(name, place);
}

#define PGMQ_FAILPOINT(name) \
	do { \
		pgmq_failpoint(name, FAILPOINT_ERROR); \
		PGMQ_INJECTION_POINT(name); \
	} while (0)
#define PGMQ_WAITPOINT(name) \
	do { \
		pgmq_failpoint(name, FAILPOINT_WAIT); \
		PGMQ_INJECTION_POINT(name); \
	} while (0)
#define PGMQ_CRASHPOINT(name)	pgmq_failpoint(name, FAILPOINT_CRASH)

#else

#define PGMQ_FAILPOINT(name)	((void) 0)
#define PGMQ_WAITPOINT(name)	((void) 0)
#define PGMQ_CRASHPOINT(name)	((void) 0)
#define pgmq_failpoint_define_setting()	((void) 0)

#endif							/* PGMQ_FAILPOINTS */

#endif							/* PGMQ_FAILPOINT_H */
