/*
 * simulated.h
 *	  What stands between src/shmem, src/xact and a server, played by one process.
 *
 * The compiler includes this file before each of their sources.  It defines names of
 * the server's anew: shared memory is this process's own, a backend is a SimSession,
 * transactions are those of model.c, the clock is a variable.  So one process drives
 * several sessions step by step, in any order a seed says, without a race.
 */
#ifndef SIMULATED_H
#define SIMULATED_H

#include "postgres.h"

#include "common/compat.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "common/limits.h"

#include "access/transam.h"
#include "access/xact.h"
#include "access/xlog.h"
#include "commands/async.h"
#include "common/hashfn.h"
#include "replication/syncrep.h"
#include "replication/walsender.h"
#include "storage/condition_variable.h"
#include "storage/ipc.h"
#include "storage/latch.h"
#include "storage/lwlock.h"
#include "storage/procarray.h"
#include "storage/shmem.h"
#include "storage/spin.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"

/* ---- processes ---- */

#define SIM_SESSIONS 5

extern int	sim_number;			/* of the session that runs now */
extern MemoryContext sim_context;	/* its transaction's memory */

#undef PGMQ_MY_PROC_NUMBER
#undef PGMQ_MY_VXID
#undef PGMQ_MAX_BACKENDS
#define PGMQ_MY_PROC_NUMBER sim_number
#define PGMQ_MY_VXID(result) \
	((result) = (VirtualTransactionId) {.localTransactionId = sim_local_xid()})
#define PGMQ_MAX_BACKENDS SIM_SESSIONS
#define TopTransactionContext sim_context

extern LocalTransactionId sim_local_xid(void);

typedef struct SimProcs
{
	struct
	{
		int			procLatch;
		TransactionId xid;
	}			allProcs[SIM_SESSIONS];
} SimProcs;

extern SimProcs sim_procs;

#define ProcGlobal (&sim_procs)
#define SetLatch(latch) (*(latch) = 1)

/* ---- transactions ---- */

extern int	sim_nest_level(void);
extern bool sim_is_mine(TransactionId xid);
extern TransactionId sim_top_xid(void);
extern TransactionId current_xid(void);
extern TransactionId sim_next_xid(void);
extern bool sim_did_commit(TransactionId xid);
extern void sim_register_xact(XactCallback callback, void *arg);
extern void sim_register_subxact(SubXactCallback callback, void *arg);

#define GetCurrentTransactionNestLevel sim_nest_level
#define TransactionIdIsCurrentTransactionId sim_is_mine
#define GetTopTransactionIdIfAny sim_top_xid
#define GetCurrentTransactionIdIfAny current_xid
#define GetCurrentTransactionId sim_top_xid
#define RegisterXactCallback sim_register_xact
#define RegisterSubXactCallback sim_register_subxact
#define GetCurrentSubTransactionId() ((SubTransactionId) sim_nest_level())
#define LockAcquire(tag, mode, is_session, dont_wait) ((void) (tag), LOCKACQUIRE_OK)
#define LockRelease(tag, mode, is_session) ((void) (tag), (void) true)
#define ReadNextFullTransactionId() FullTransactionIdFromU64(sim_next_xid())
#define TransactionIdDidCommit sim_did_commit
#define ForceSyncCommit() ((void) 0)
#define RecoveryInProgress() false
#define GetCurrentTimestamp() (pgmq_test_clock)
#define pgmq_clock_real_time(t) (t)

/* ---- others run ---- */

/*
 * Failpoints are where a process may be held up, under no lock: there other sessions
 * run, when the operation that this one is in the middle of allows it.
 */
extern void sim_pause(void);

#undef PGMQ_FAILPOINT
#undef PGMQ_WAITPOINT
#define PGMQ_FAILPOINT(name) sim_pause()
#define PGMQ_WAITPOINT(name) sim_pause()

/* ---- shared memory ---- */

extern void *sim_shmem_alloc(const char *name, Size size, bool *found);
extern HTAB *sim_shmem_hash(const char *name, long size, HASHCTL *ctl, int flags);
extern LWLockPadded *sim_named_locks(const char *name);

#define RequestAddinShmemSpace(size) ((void) (size))
#define RequestNamedLWLockTranche(name, n) ((void) 0)
#define GetNamedLWLockTranche sim_named_locks
#define LWLockNewTrancheId(...) LWTRANCHE_FIRST_USER_DEFINED
#define LWLockRegisterTranche(id, name) ((void) 0)
#define ShmemInitStruct sim_shmem_alloc
#define ShmemInitHash(name, init, max, ctl, flags) sim_shmem_hash(name, max, ctl, flags)

/* ---- bounds, small enough to be met ---- */

#undef XACT_MAX_MESSAGES
#define XACT_MAX_MESSAGES 40
#undef RING_BATCH_SLOTS
#define RING_BATCH_SLOTS 8

#endif							/* SIMULATED_H */
