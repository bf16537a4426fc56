/*
 * ring_waiters.c
 *	  Consumers asleep in a blocking read, and who wakes them.
 *
 * The waiters of a ring form a queue through RingBackend, guarded by its L4.
 * A commit that publishes n messages takes the first n off the queue and sets
 * their latches after it let go of the lock; being off the queue is the
 * message "it is your turn".  Whoever leaves without taking a message passes
 * the turn on (pgmq_ring_wait_end says whether there is one to pass), and so
 * does who finds that the message is not for him, by condition or by group.
 *
 * Only the first waiter watches the clock, for delays that mature and leases
 * that lapse, so that one sleeper wakes for them and not all; whoever makes
 * another the first, or brings an earlier moment, pokes the first one if it
 * sleeps too long for that.
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "shmem/ring_internal.h"
#include "storage/latch.h"

static void
append_to_wake(WakeList *wake, int proc_number)
{
	Assert(wake->n < lengthof(wake->procs));
	wake->procs[wake->n++] = proc_number;
}

static void
unlink_waiter(Ring *ring, int proc_number)
{
	RingBackend *me = &pgmq_shared->backends[proc_number];

	PGMQ_CRASHPOINT("unlink-waiter-begin");
	if (me->prev_waiter >= 0)
		pgmq_shared->backends[me->prev_waiter].next_waiter = me->next_waiter;
	else
		ring->first_waiter = me->next_waiter;
	if (me->next_waiter >= 0)
		pgmq_shared->backends[me->next_waiter].prev_waiter = me->prev_waiter;
	else
		ring->last_waiter = me->prev_waiter;
	me->waits_for = -1;
	PGMQ_CRASHPOINT("unlink-waiter-end");
}

/* Off the waiters, and its latch to be set: it is its turn. */
static void
give_turn(Ring *ring, int proc_number, WakeList *wake)
{
	unlink_waiter(ring, proc_number);
	append_to_wake(wake, proc_number);
}

/*
 * Join the ring's waiters, having looked at all that was ready by
 * seen_ready_seq; met_locked: see pgmq_ring_wake_unaware().  Caller holds L4
 * exclusively.
 */
void
pgmq_ring_wait_begin(Ring *ring, uint64 seen_ready_seq, bool met_locked)
{
	RingBackend *me = &pgmq_shared->backends[PGMQ_MY_PROC_NUMBER];

	Assert(me->waits_for == -1);
	PGMQ_CRASHPOINT("link-waiter-begin");
	me->waits_for = ring->index;
	me->seen_ready_seq = seen_ready_seq;
	me->met_locked = met_locked;
	me->watches = DT_NOEND;
	me->next_waiter = -1;
	me->prev_waiter = ring->last_waiter;
	if (ring->last_waiter >= 0)
		pgmq_shared->backends[ring->last_waiter].next_waiter = PGMQ_MY_PROC_NUMBER;
	else
		ring->first_waiter = PGMQ_MY_PROC_NUMBER;
	ring->last_waiter = PGMQ_MY_PROC_NUMBER;
	PGMQ_CRASHPOINT("link-waiter-end");
}

/*
 * Leave the waiters.  True if we had been given a turn.  Caller holds L4
 * exclusively and wakes the first waiter afterwards, which now has the clock.
 */
bool
pgmq_ring_wait_end(Ring *ring)
{
	RingBackend *me = &pgmq_shared->backends[PGMQ_MY_PROC_NUMBER];

	if (me->waits_for != ring->index)
		return true;
	unlink_waiter(ring, PGMQ_MY_PROC_NUMBER);
	return false;
}

/*
 * Are we the first waiter, who watches the clock?  Then *event is when to look again; what was
 * said before stands, for what is undecided would be put off each time.  Caller holds L4
 * exclusively.
 */
bool
pgmq_ring_watch_clock(const Ring *ring, TimestampTz *event)
{
	RingBackend *me = &pgmq_shared->backends[PGMQ_MY_PROC_NUMBER];

	if (ring->first_waiter != PGMQ_MY_PROC_NUMBER)
		return false;
	me->watches = Min(me->watches, pgmq_ring_next_event(ring));
	*event = me->watches;
	return true;
}

/* Are we still among the waiters, i.e. not given a turn?  Caller holds L4. */
bool
pgmq_ring_is_waiting(const Ring *ring)
{
	return pgmq_shared->backends[PGMQ_MY_PROC_NUMBER].waits_for == ring->index;
}

/*
 * Have the first waiter look at the clock again, unless it sleeps no longer than it may.
 * Caller holds L4.
 */
void
pgmq_ring_wake_first(const Ring *ring, WakeList *wake)
{
	if (ring->first_waiter >= 0 && wake->n < lengthof(wake->procs) &&
		(ring->phase != RING_COMPLETE ||
		 pgmq_ring_next_event(ring) < pgmq_shared->backends[ring->first_waiter].watches))
		append_to_wake(wake, ring->first_waiter);
}

/*
 * Give a turn to as many waiters as there are new ready messages.  Caller
 * holds L4 exclusively; at most RING_WAKE_BATCH, the woken wake the others.
 */
void
pgmq_ring_wake(Ring *ring, uint32 n_messages, WakeList *wake)
{
	while (n_messages-- > 0 && ring->first_waiter >= 0 &&
		   wake->n < RING_WAKE_BATCH)
		give_turn(ring, ring->first_waiter, wake);
	pgmq_ring_wake_first(ring, wake);
}

/*
 * What is ready is not for us, who just looked: give a turn to the first
 * waiter that has not looked at it yet.  Each looks once at whatever became
 * ready, so this ends.  Caller holds L4 exclusively.
 */
void
pgmq_ring_wake_unseen(Ring *ring, WakeList *wake)
{
	int			proc_number = ring->first_waiter;

	if (ring->counts[TREE_READY] == 0)
		return;
	while (proc_number >= 0 &&
		   pgmq_shared->backends[proc_number].seen_ready_seq == ring->ready_seq)
		proc_number = pgmq_shared->backends[proc_number].next_waiter;
	if (proc_number < 0)
		return;
	give_turn(ring, proc_number, wake);
	pgmq_ring_wake_first(ring, wake);
}

/*
 * Give a turn to the first waiter that has not met locked rows itself: a claim
 * that kept it from a message was given back.  One that has looks again in a
 * while anyway; two of them would keep each other awake for as long as the row
 * is locked.  Caller holds L4 exclusively.
 */
void
pgmq_ring_wake_unaware(Ring *ring, WakeList *wake)
{
	int			proc_number = ring->first_waiter;

	while (proc_number >= 0 && pgmq_shared->backends[proc_number].met_locked)
		proc_number = pgmq_shared->backends[proc_number].next_waiter;
	if (proc_number < 0)
		return;
	give_turn(ring, proc_number, wake);
	pgmq_ring_wake_first(ring, wake);
}

/* Set the latches; no lock is held. */
void
pgmq_wake_all(WakeList *wake)
{
	for (int i = 0; i < wake->n; i++)
		SetLatch(&ProcGlobal->allProcs[wake->procs[i]].procLatch);
	wake->n = 0;
}

/* Say who we are, before a claim of ours becomes visible to others. */
void
pgmq_backend_set_vxid(void)
{
	PGMQ_MY_VXID(pgmq_shared->backends[PGMQ_MY_PROC_NUMBER].vxid);
	pgmq_backend_set_savepoint(InvalidSubTransactionId);
}

void
pgmq_backend_set_savepoint(SubTransactionId subid)
{
	pgmq_shared->backends[PGMQ_MY_PROC_NUMBER].subid = subid;
}

/* Does a savepoint of the backend hold claims? */
bool
pgmq_backend_in_savepoint(uint32 proc_number)
{
	return pgmq_shared->backends[proc_number].subid != InvalidSubTransactionId;
}

/*
 * Who holds a CLAIMED or DELETING slot.  Caller holds the L4 under which it
 * read the slot.
 */
ClaimOwner
pgmq_ring_owner(uint32 slot)
{
	RingBackend *backend = &pgmq_shared->backends[ring_slot(slot)->u.o.owner];
	ClaimOwner	owner = {backend->vxid, InvalidSubTransactionId};

	if (ring_slot(slot)->stage & STAGE_IN_SAVEPOINT)
		owner.subid = *(volatile SubTransactionId *) &backend->subid;
	return owner;
}

/* We are about to commit what we have sent, or are done with it.  Cannot fail. */
void
pgmq_backend_set_publishing(bool is_publishing)
{
	pg_atomic_write_u32(&pgmq_shared->backends[PGMQ_MY_PROC_NUMBER].is_publishing,
						is_publishing);
}

/*
 * Has this backend committed changes which a ring has perhaps not been told yet?  It has
 * set its mark before its transaction id went from the server's list of running
 * ones, under a lock of the server's that whoever sees its rows has taken since;
 * and it clears the mark when the rings know.
 */
bool
pgmq_backend_is_late(int proc_number)
{
	return pg_atomic_read_u32(&pgmq_shared->backends[proc_number].is_publishing) != 0 &&
		!TransactionIdIsValid(*(volatile TransactionId *) &ProcGlobal->allProcs[proc_number].xid);
}

int
pgmq_backend_limit(void)
{
	return pgmq_shared->n_backends;
}
