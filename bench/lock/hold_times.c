/*
 * hold_times.c
 *	  How long the rings' locks are held, in a build made for that (bench/lock/run).
 *
 * The linker puts these functions in the place of the server's, for the library's own calls
 * (ld's --wrap).  A lock is known as a ring's by its tranche's name.  Each backend adds up its
 * times and logs them when it ends: holds, nanoseconds held, longest, nanoseconds waited.
 */
#include "postgres.h"

#include "portability/instr_time.h"
#include "storage/ipc.h"
#include "storage/lwlock.h"
#include "utils/wait_event.h"

extern bool __real_LWLockAcquire(LWLock *lock, LWLockMode mode);
extern void __real_LWLockRelease(LWLock *lock);
extern bool __wrap_LWLockAcquire(LWLock *lock, LWLockMode mode);
extern void __wrap_LWLockRelease(LWLock *lock);

static uint64 n_holds = 0;
static uint64 held_ns = 0;
static uint64 longest_ns = 0;
static uint64 waited_ns = 0;
static instr_time held_since;
static LWLock *held = NULL;

static void
log_times(int code, Datum arg)
{
	if (n_holds > 0)
		ereport(LOG,
				(errmsg("ring lock: " UINT64_FORMAT " " UINT64_FORMAT " " UINT64_FORMAT " " UINT64_FORMAT,
						n_holds, held_ns, longest_ns, waited_ns)));
}

static bool
is_ring_lock(const LWLock *lock)
{
	static int	ring_tranche = -1;

	if (ring_tranche < 0 && strcmp(GetLWLockIdentifier(PG_WAIT_LWLOCK, lock->tranche), "PgmqRing") == 0)
	{
		ring_tranche = lock->tranche;
		before_shmem_exit(log_times, (Datum) 0);
	}
	return lock->tranche == ring_tranche;
}

static uint64
ns_since(instr_time start)
{
	instr_time	now;

	INSTR_TIME_SET_CURRENT(now);
	INSTR_TIME_SUBTRACT(now, start);
	return (uint64) (INSTR_TIME_GET_DOUBLE(now) * 1e9);
}

bool
__wrap_LWLockAcquire(LWLock *lock, LWLockMode mode)
{
	instr_time	start;
	bool		result;

	if (!is_ring_lock(lock))
		return __real_LWLockAcquire(lock, mode);
	INSTR_TIME_SET_CURRENT(start);
	result = __real_LWLockAcquire(lock, mode);
	waited_ns += ns_since(start);
	held = lock;
	INSTR_TIME_SET_CURRENT(held_since);
	return result;
}

void
__wrap_LWLockRelease(LWLock *lock)
{
	if (lock == held)
	{
		uint64		ns = ns_since(held_since);

		n_holds++;
		held_ns += ns;
		longest_ns = Max(longest_ns, ns);
		held = NULL;
	}
	__real_LWLockRelease(lock);
}
