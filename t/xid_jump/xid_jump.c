/*
 * xid_jump.c
 *	  Test module: a running server goes through transaction ids as if it had
 *	  been busy for weeks.
 */
#include "postgres.h"

#include "access/transam.h"
#include "fmgr.h"
#include "storage/lwlock.h"

PG_MODULE_MAGIC;

#if PG_VERSION_NUM >= 170000
#define ShmemVariableCache TransamVariables
#endif

/* Ids for whose state the server makes room at once. */
#define IDS_PER_PAGE (BLCKSZ * 4)

PG_FUNCTION_INFO_V1(xid_jump);

/*
 * The next transaction id becomes the first one that is at least so many ahead,
 * and for which the server makes room when it is given out: nobody ever asks for
 * those before it.  Call it where nobody else is busy.
 */
Datum
xid_jump(PG_FUNCTION_ARGS)
{
	uint64		target = (uint64) PG_GETARG_INT64(0);

	LWLockAcquire(XidGenLock, LW_EXCLUSIVE);
	target += U64FromFullTransactionId(ShmemVariableCache->nextXid);
	target += IDS_PER_PAGE - target % IDS_PER_PAGE;
	/* The first page of an epoch begins with ids that are none */
	if ((TransactionId) target == 0)
		target += IDS_PER_PAGE;
	ShmemVariableCache->nextXid.value = target;
	LWLockRelease(XidGenLock);
	PG_RETURN_INT64((int64) target);
}
