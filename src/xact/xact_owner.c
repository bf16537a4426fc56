/*
 * xact_owner.c
 *	  Whom others wait for: the transaction that holds a claim, or the savepoint
 *	  of it.
 *
 * A row lock taken under a savepoint is gone with ROLLBACK TO, and who waits for
 * it goes on at once; a claim must not be worse.  Its owner's virtual transaction
 * lasts longer, and the savepoint has no transaction id that could be waited for,
 * because a lease needs none.  So a savepoint that holds claims takes a lock of its
 * own, which the server releases when it is rolled back.  At most one lock for each
 * open savepoint stands at a time.
 *
 *	  - The lock is taken before the first claim under the savepoint, and its subid
 *		then published as the backend's innermost.
 *	  - Slots claimed meanwhile are marked; who meets one waits for the innermost
 *		savepoint there is then, or for the transaction.  It may be too short a
 *		wait (the claim is an outer savepoint's), but whoever has waited looks again.
 *	  - RELEASE makes the claims the parent's and lets the lock go: they are waited
 *		for by the parent's lock from then on, if it has one, else by the virtual
 *		transaction (as the server waits for the end of all where a savepoint with
 *		row locks was released).
 *
 * The lock is the server's, so its deadlock detector, lock_timeout and
 * pg_blocking_pids() know it; pg_locks shows it as "userlock".
 */
#include "common/compat.h"

#include "access/xact.h"
#include "utils/resowner.h"
#include "xact/xact_internal.h"

static void
set_tag(LOCKTAG *tag, const VirtualTransactionId *vxid, SubTransactionId subid)
{
	tag->locktag_field1 = PGMQ_VXID_BACKEND(*vxid);
	tag->locktag_field2 = vxid->localTransactionId;
	tag->locktag_field3 = subid;
	tag->locktag_field4 = 0;
	tag->locktag_type = LOCKTAG_USERLOCK;
	tag->locktag_lockmethodid = DEFAULT_LOCKMETHOD;
}

/* The lock of a savepoint of ours, taken or released on behalf of its owner. */
static void
change_lock(SubTransactionId subid, ResourceOwner owner, bool take)
{
	ResourceOwner saved_owner = CurrentResourceOwner;
	VirtualTransactionId vxid;
	LOCKTAG		tag;

	PGMQ_MY_VXID(vxid);
	set_tag(&tag, &vxid, subid);
	CurrentResourceOwner = owner;
	if (take)
		(void) LockAcquire(&tag, ExclusiveLock, false, false);
	else
		(void) LockRelease(&tag, ExclusiveLock, false);
	CurrentResourceOwner = saved_owner;
}

/* The nest level of the innermost savepoint with a lock; 1 is the top. */
static int
locked_level(void)
{
	return pgmq_xact.n_savepoints == 0 ? 1 :
		pgmq_xact.savepoints[pgmq_xact.n_savepoints - 1].nest_level;
}

/*
 * Our claims name us; say who that is before the first of a transaction, and of
 * a savepoint.  May fail for want of lock table space.
 */
void
pgmq_xact_publish_owner(void)
{
	int			nest_level = GetCurrentTransactionNestLevel();
	SubTransactionId subid = GetCurrentSubTransactionId();

	if (!pgmq_xact.has_vxid)
	{
		pgmq_backend_set_vxid();
		pgmq_xact.has_vxid = true;
	}
	if (nest_level <= locked_level())
		return;
	if (pgmq_xact.n_savepoints == pgmq_xact.max_savepoints)
		pgmq_xact.savepoints = pgmq_xact_grow(pgmq_xact.savepoints, &pgmq_xact.max_savepoints,
											  pgmq_xact.n_savepoints + 1, sizeof(OpenSavepoint));
	change_lock(subid, CurTransactionResourceOwner, true);
	pgmq_xact.savepoints[pgmq_xact.n_savepoints++] = (OpenSavepoint) {nest_level, subid};
	pgmq_backend_set_savepoint(subid);
}

/*
 * A savepoint ends, and its claims are the parent's, or given back.  What is
 * published changes before the lock is released, so nobody finds it free twice.
 * On abort the server releases it.
 */
void
pgmq_xact_end_savepoint(bool is_commit)
{
	int			nest_level = GetCurrentTransactionNestLevel();
	int			n = pgmq_xact.n_savepoints;
	SubTransactionId subid;

	if (n == 0 || locked_level() < nest_level)
		return;
	subid = pgmq_xact.savepoints[n - 1].subid;
	pgmq_xact.n_savepoints = --n;
	pgmq_backend_set_savepoint(n == 0 ? InvalidSubTransactionId :
							   pgmq_xact.savepoints[n - 1].subid);
	if (is_commit)
		change_lock(subid, CurTransactionResourceOwner, false);
}

/*
 * Wait for the end of a transaction, or of a savepoint of it; the claim may be
 * held by another of its savepoints then.  Cancellable, known to the deadlock
 * detector.
 */
void
pgmq_xact_wait_for_owner(const ClaimOwner *owner)
{
	LOCKTAG		tag;

	if (owner->subid == InvalidSubTransactionId)
	{
		(void) VirtualXactLock(owner->vxid, true);
		return;
	}
	set_tag(&tag, &owner->vxid, owner->subid);
	(void) LockAcquire(&tag, ShareLock, false, false);
	LockRelease(&tag, ShareLock, false);
}
