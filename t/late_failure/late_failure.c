/*
 * late_failure.c
 *	  Test module: stops or fails a transaction after the others' PRE_COMMIT
 *	  callbacks.
 *
 * Callbacks run in the reverse order of their registration, so a library that
 * is preloaded before pgmq is called after it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/fmgrprotos.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

static bool fail_at_commit = false;
static int	lock_at_commit = 0;

static void
xact_callback(XactEvent event, void *arg)
{
	if (event != XACT_EVENT_PRE_COMMIT)
		return;
	if (lock_at_commit != 0)
		DirectFunctionCall1(pg_advisory_xact_lock_int8, Int64GetDatum(lock_at_commit));
	if (fail_at_commit)
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("late failure")));
}

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	DefineCustomBoolVariable("late_failure.fail", "Fail the next commit.", NULL,
							 &fail_at_commit, false, PGC_USERSET, 0,
							 NULL, NULL, NULL);
	DefineCustomIntVariable("late_failure.lock",
							"Advisory lock that commits must get first.", NULL,
							&lock_at_commit, 0, 0, 1000, PGC_USERSET, 0,
							NULL, NULL, NULL);
	RegisterXactCallback(xact_callback, NULL);
}
