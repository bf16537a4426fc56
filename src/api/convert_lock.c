/*
 * convert_lock.c
 *	  ACCESS EXCLUSIVE on a queue's table, without keeping its users waiting.
 *
 * Whoever asks for the table while we wait for its lock waits behind us, and
 * we wait for the longest transaction that works on it.  So we give up and try
 * again, waiting twice as long each time, lest a busy queue keeps us out for
 * ever.  A caller with a lock_timeout has decided for himself.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "api/convert.h"
#include "catalog/namespace.h"
#include "commands/tablecmds.h"
#include "storage/latch.h"
#include "storage/proc.h"
#include "utils/guc.h"
#include "utils/resowner.h"

/* How long senders may be kept waiting for a lock that we do not get at once */
#define FIRST_LOCK_WAIT_MS 100
#define MAX_LOCK_WAIT_MS 600000

/* Find the table and lock it, after checking that the caller owns it. */
static Oid
lock_table(const char *schema, const char *table)
{
	return RangeVarGetRelidExtended(makeRangeVar(pstrdup(schema), pstrdup(table), -1),
									AccessExclusiveLock, 0,
									RangeVarCallbackOwnsRelation, NULL);
}

/* The same, waiting for at most so long: then InvalidOid, and nothing is held. */
static Oid
lock_table_within(const char *schema, const char *table, int wait_ms)
{
	MemoryContext context = CurrentMemoryContext;
	ResourceOwner owner = CurrentResourceOwner;
	volatile Oid relid = InvalidOid;

	BeginInternalSubTransaction(NULL);
	MemoryContextSwitchTo(context);
	PG_TRY();
	{
		int			guc_level = NewGUCNestLevel();

		(void) set_config_option("lock_timeout", psprintf("%d", wait_ms), PGC_USERSET,
								 PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
		relid = lock_table(schema, table);
		AtEOXact_GUC(true, guc_level);
		ReleaseCurrentSubTransaction();
	}
	PG_CATCH();
	{
		ErrorData  *error;

		MemoryContextSwitchTo(context);
		error = CopyErrorData();
		FlushErrorState();
		RollbackAndReleaseCurrentSubTransaction();
		if (error->sqlerrcode != ERRCODE_LOCK_NOT_AVAILABLE)
		{
			CurrentResourceOwner = owner;
			ReThrowError(error);
		}
		FreeErrorData(error);
		relid = InvalidOid;
	}
	PG_END_TRY();
	MemoryContextSwitchTo(context);
	CurrentResourceOwner = owner;
	return relid;
}

/*
 * Lock a table, after checking that the caller owns it.  Errors: 42P01, 42501,
 * 55P03.
 */
Oid
pgmq_lock_to_convert(const char *schema, const char *table)
{
	Oid			relid = InvalidOid;

	if (LockTimeout > 0)
		return lock_table(schema, table);
	for (int wait_ms = FIRST_LOCK_WAIT_MS; !OidIsValid(relid);
		 wait_ms = Min(wait_ms * 2, MAX_LOCK_WAIT_MS))
	{
		relid = lock_table_within(schema, table, wait_ms);
		if (OidIsValid(relid))
			break;
		(void) WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_EXIT_ON_PM_DEATH,
						 wait_ms, PG_WAIT_EXTENSION);
		ResetLatch(MyLatch);
		CHECK_FOR_INTERRUPTS();
	}
	return relid;
}
