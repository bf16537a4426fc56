/*
 * worker_shared.c
 *	  Which database worker runs, and which databases must be left alone.
 *
 * DROP DATABASE and CREATE DATABASE ... TEMPLATE fail while anybody is
 * connected.  So whoever runs them first pauses the database: a worker in it
 * is terminated, none is started, until the statement has ended.  A worker
 * announces itself here before it connects, so a pause never misses one.
 *
 * All fields are guarded by the lock; nothing else is locked under it.
 */
#include "common/compat.h"

#include <signal.h>

#include "storage/ipc.h"
#include "storage/shmem.h"
#include "worker/worker.h"

/* Databases paused at the same time; further ones wait. */
#define MAX_PAUSED 16

/* How often a pauser looks whether the worker has gone. */
#define PAUSE_LOOK_US 10000

typedef struct WorkerShared
{
	LWLock	   *lock;
	pid_t		pid;			/* the database worker, or 0 */
	Oid			dbid;			/* where it is */
	Oid			paused[MAX_PAUSED];
} WorkerShared;

static WorkerShared *shared = NULL;

void
pgmq_worker_shmem_request(void)
{
	RequestAddinShmemSpace(sizeof(WorkerShared));
	RequestNamedLWLockTranche("PgmqWorker", 1);
}

/* Called from shmem_startup_hook. */
void
pgmq_worker_shmem_startup(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pgmq worker", sizeof(WorkerShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(WorkerShared));
		shared->lock = &(GetNamedLWLockTranche("PgmqWorker"))->lock;
	}
	LWLockRelease(AddinShmemInitLock);
}

/* Caller holds the lock. */
static bool
is_paused(Oid dbid)
{
	for (int i = 0; i < MAX_PAUSED; i++)
		if (shared->paused[i] == dbid)
			return true;
	return false;
}

bool
pgmq_worker_is_paused(Oid dbid)
{
	bool		result;

	LWLockAcquire(shared->lock, LW_SHARED);
	result = is_paused(dbid);
	LWLockRelease(shared->lock);
	return result;
}

static void
withdraw_announcement(int code, Datum arg)
{
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	if (shared->pid == MyProcPid)
		shared->pid = 0;
	LWLockRelease(shared->lock);
}

/* A database worker says that it is about to connect; false: it must not. */
bool
pgmq_worker_announce(Oid dbid)
{
	bool		allowed;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	allowed = !is_paused(dbid);
	if (allowed)
	{
		shared->pid = MyProcPid;
		shared->dbid = dbid;
	}
	LWLockRelease(shared->lock);
	if (allowed)
		on_shmem_exit(withdraw_announcement, (Datum) 0);
	return allowed;
}

/* Is a worker (still) in the database?  Tells it to go. */
static bool
is_worker_told_to_go(Oid dbid)
{
	pid_t		pid;

	LWLockAcquire(shared->lock, LW_SHARED);
	pid = shared->dbid == dbid ? shared->pid : 0;
	LWLockRelease(shared->lock);
	if (pid == 0)
		return false;
	(void) kill(pid, SIGTERM);
	return true;
}

static bool
add_paused(Oid dbid)
{
	bool		added = false;

	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_PAUSED && !added; i++)
		if (!OidIsValid(shared->paused[i]))
		{
			shared->paused[i] = dbid;
			added = true;
		}
	LWLockRelease(shared->lock);
	return added;
}

/*
 * Let no further worker into a database.  Every pause is ended by one
 * pgmq_worker_resume(), also where its session is terminated.
 */
void
pgmq_worker_pause(Oid dbid)
{
	if (shared == NULL)
		return;
	while (!add_paused(dbid))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(PAUSE_LOOK_US);
	}
}

/* After a pause: wait until no worker is in the database. */
void
pgmq_worker_evict(Oid dbid)
{
	while (shared != NULL && is_worker_told_to_go(dbid))
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(PAUSE_LOOK_US);
	}
}

void
pgmq_worker_resume(Oid dbid)
{
	if (shared == NULL)
		return;
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	for (int i = 0; i < MAX_PAUSED; i++)
		if (shared->paused[i] == dbid)
		{
			shared->paused[i] = InvalidOid;
			break;
		}
	LWLockRelease(shared->lock);
}
