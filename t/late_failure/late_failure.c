/*
 * late_failure.c
 *	  Test module: fails a transaction after the others' PRE_COMMIT callbacks.
 *
 * Callbacks run in the reverse order of their registration, so a library that
 * is preloaded before pgmq is called after it.
 */
#include "postgres.h"

#include "access/xact.h"
#include "fmgr.h"
#include "utils/guc.h"

PG_MODULE_MAGIC;

static bool fail_at_commit = false;

static void
xact_callback(XactEvent event, void *arg)
{
	if (event == XACT_EVENT_PRE_COMMIT && fail_at_commit)
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
	RegisterXactCallback(xact_callback, NULL);
}
