/*
 * throttle.c
 *	  Whose turn it is to notify the listeners of a queue.
 *
 * A fixed array, used as a hash table: a key may be in any of PROBES places in
 * a row.  An entry is a turn (owner, until its transaction ends) and what the
 * last one achieved.  An entry that is evicted loses nothing but precision: the
 * row in the table says the same, unless it was locked at the time.
 *
 * All fields are guarded by one lock, PgmqThrottle, taken a few times per queue
 * and interval; not by senders that see in the row that it is not time yet.
 * Nothing else is locked under it.  No error is raised by what runs at COMMIT
 * and ABORT.  A crash forgets everything, as it does the (unlogged) table.
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "common/limits.h"
#include "shmem/throttle.h"
#include "storage/condition_variable.h"
#include "storage/lwlock.h"
#include "storage/shmem.h"

/* Places a key may be in. */
#define PROBES 8

typedef struct Throttle
{
	ThrottleKey key;			/* dbid invalid: never used */
	int			owner;			/* proc number + 1 of whose turn it is, or 0 */
	ThrottleVersion version;	/* the row when listeners were notified last */
	TimestampTz notified_at;	/* when that was */
	ConditionVariable ended;	/* broadcast at the end of a turn */
} Throttle;

typedef struct ThrottleShared
{
	LWLock	   *lock;			/* immutable after init */
	Throttle	entries[THROTTLE_ENTRIES];
} ThrottleShared;

static ThrottleShared *shared = NULL;

void
pgmq_throttle_shmem_request(void)
{
	RequestAddinShmemSpace(sizeof(ThrottleShared));
	RequestNamedLWLockTranche("PgmqThrottle", 1);
}

/* Called from shmem_startup_hook. */
void
pgmq_throttle_shmem_startup(void)
{
	bool		found;

	LWLockAcquire(AddinShmemInitLock, LW_EXCLUSIVE);
	shared = ShmemInitStruct("pgmq throttles", sizeof(ThrottleShared), &found);
	if (!found)
	{
		memset(shared, 0, sizeof(ThrottleShared));
		shared->lock = &(GetNamedLWLockTranche("PgmqThrottle"))->lock;
		for (int i = 0; i < THROTTLE_ENTRIES; i++)
			ConditionVariableInit(&shared->entries[i].ended);
	}
	LWLockRelease(AddinShmemInitLock);
}

static bool
has_key(const Throttle *entry, const ThrottleKey *key)
{
	return entry->key.dbid == key->dbid && entry->key.name_hash == key->name_hash;
}

/* Would evicting a rather than b lose less?  b may be NULL. */
static bool
is_better_victim(const Throttle *a, const Throttle *b)
{
	return a->owner == 0 && (b == NULL || a->notified_at < b->notified_at);
}

/*
 * The key's entry, made if need be; NULL if all its places have an owner.
 * Caller holds the lock exclusively.
 */
static Throttle *
find_or_make(const ThrottleKey *key)
{
	Throttle   *victim = NULL;

	for (int i = 0; i < PROBES; i++)
	{
		Throttle   *entry = &shared->entries[(key->name_hash + key->dbid + i) % THROTTLE_ENTRIES];

		if (has_key(entry, key))
			return entry;
		if (is_better_victim(entry, victim))
			victim = entry;
	}
	if (victim != NULL)
	{
		victim->key = *key;
		victim->version.xmin = InvalidTransactionId;
		victim->notified_at = DT_NOBEGIN;
	}
	return victim;
}

/*
 * Was the row as the caller knows it when listeners were notified last, and
 * that less than an interval ago?  The row itself may not say so, if it was
 * locked.  Caller holds the lock.
 */
static bool
is_over(const Throttle *entry, const ThrottleVersion *version, int64 interval_us,
		TimestampTz now)
{
	return TransactionIdIsValid(entry->version.xmin) &&
		entry->version.xmin == version->xmin &&
		entry->version.notified_at == version->notified_at &&
		now - entry->notified_at < interval_us;
}

/* Sleep until the entry's turn ends, or for a moment. */
static void
wait_for_end(Throttle *entry, int owner)
{
	uint32		wait_event = pgmq_notify_wait_event();
	bool		goes_on;

	ConditionVariablePrepareToSleep(&entry->ended);
	LWLockAcquire(shared->lock, LW_SHARED);
	goes_on = entry->owner == owner;
	LWLockRelease(shared->lock);
	if (goes_on)
		(void) ConditionVariableTimedSleep(&entry->ended, THROTTLE_WAIT_MS, wait_event);
	ConditionVariableCancelSleep();
}

/*
 * Ask for the turn to notify.  The caller has read a row that says that it is
 * time; if it gets the turn it reads it again, because whoever had the turn
 * until now may have written it since.  may_wait: where another transaction has
 * the turn, wait a moment; it is about to commit.
 */
TurnResult
pgmq_throttle_take(const ThrottleKey *key, const ThrottleVersion *version,
				   int64 interval_us, TimestampTz now, bool may_wait, int *turn)
{
	int			me = PGMQ_MY_PROC_NUMBER + 1;
	int			owner = 0;
	TurnResult	result = TURN_NONE;
	Throttle   *entry;

	if (shared == NULL)
		return TURN_NONE;
	PGMQ_FAILPOINT("take-turn-begin");
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	entry = find_or_make(key);
	if (entry != NULL)
	{
		owner = entry->owner;
		if (owner == 0 && is_over(entry, version, interval_us, now))
			result = TURN_OVER;
		else if (owner == 0)
		{
			entry->owner = me;
			*turn = entry - shared->entries;
			result = TURN_TAKEN;
		}
	}
	LWLockRelease(shared->lock);
	PGMQ_WAITPOINT("take-turn-end");
	if (owner == 0 || owner == me || !may_wait)
		return result;
	wait_for_end(entry, owner);
	return TURN_WAITED;
}

static void
end_turn(int turn, const ThrottleVersion *version, TimestampTz notified_at)
{
	Throttle   *entry = &shared->entries[turn];

	PGMQ_WAITPOINT("end-turn-begin");
	LWLockAcquire(shared->lock, LW_EXCLUSIVE);
	Assert(entry->owner == PGMQ_MY_PROC_NUMBER + 1);
	entry->owner = 0;
	if (version != NULL)
	{
		entry->version = *version;
		entry->notified_at = notified_at;
	}
	LWLockRelease(shared->lock);
	PGMQ_WAITPOINT("end-turn-end");
	ConditionVariableBroadcast(&entry->ended);
}

/* We have committed, having notified; the row is now this version. */
void
pgmq_throttle_end(int turn, const ThrottleVersion *version, TimestampTz notified_at)
{
	end_turn(turn, version, notified_at);
}

/* We have not notified after all: the next one does. */
void
pgmq_throttle_give_back(int turn)
{
	end_turn(turn, NULL, 0);
}
