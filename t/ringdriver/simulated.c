/*
 * simulated.c
 *	  The parts of simulated.h that are no macros.
 */
#include "common/settings.h"
#include "model.h"

int			sim_number = 0;
MemoryContext sim_context = NULL;
MemoryContext sim_shared_context = NULL;
SimProcs	sim_procs;

/* What src/common/settings.c and clock.c have in the extension */
int			pgmq_ring_memory_kb = 1;
int			pgmq_max_hot_queues = 4;
bool		pgmq_synchronous_leases = true;
TimestampTz pgmq_test_clock = 1;

XactCallback sim_xact_callback = NULL;
SubXactCallback sim_subxact_callback = NULL;

LocalTransactionId
sim_local_xid(void)
{
	return sim_number + 1;
}

int
sim_nest_level(void)
{
	return me()->nest_level;
}

bool
sim_is_mine(TransactionId xid)
{
	return xid_is_running(xid) && xid_session(xid) == sim_number;
}

TransactionId
sim_top_xid(void)
{
	return me()->xids[1];
}

TransactionId
sim_next_xid(void)
{
	return sim->last_xid + 1;
}

bool
sim_did_commit(TransactionId xid)
{
	return xid_status(xid) == XID_COMMITTED;
}

void
sim_register_xact(XactCallback callback, void *arg)
{
	sim_xact_callback = callback;
}

void
sim_register_subxact(SubXactCallback callback, void *arg)
{
	sim_subxact_callback = callback;
}

void *
sim_shmem_alloc(const char *name, Size size, bool *found)
{
	*found = false;
	return MemoryContextAllocZero(sim_shared_context, size);
}

/* With the default one, a search that must not raise errors is not allowed */
static void *
allocate_for_hash(Size size)
{
	return MemoryContextAlloc(sim_shared_context, size);
}

HTAB *
sim_shmem_hash(const char *name, long size, HASHCTL *ctl, int flags)
{
	ctl->hcxt = sim_shared_context;
	ctl->alloc = allocate_for_hash;
	return hash_create(name, size, ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT | HASH_ALLOC);
}

LWLockPadded *
sim_named_locks(const char *name)
{
	LWLockPadded *lock = MemoryContextAllocZero(sim_shared_context, sizeof(LWLockPadded));

	LWLockInitialize(&lock->lock, LWTRANCHE_FIRST_USER_DEFINED);
	return lock;
}
