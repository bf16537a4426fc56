/*
 * xact_state.c
 *	  The list of what the current transaction did to hot queues.
 *
 * Called by the table access method for every row it inserts, deletes, updates
 * or leases.  Lists grow by doubling in TopTransactionContext; at the top
 * nesting level nothing is logged for undo, because there the whole list is
 * undone; below it each change saves what it overwrites (XactChange).
 *
 * Past XACT_MAX_MESSAGES a queue collapses: the list stops growing, the
 * queue's ring is rebuilt after commit, and this transaction's further calls
 * on it take the SQL path.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "access/xlog.h"
#include "common/clock.h"
#include "common/failpoint.h"
#include "utils/hsearch.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

XactState	pgmq_xact;

/* Messages looked through one by one before a hash table is made. */
#define LINEAR_LOOKUP_MESSAGES 8

typedef struct TidKey
{
	XactQueue  *queue;
	BlockNumber block;
	uint32		offset;
} TidKey;

typedef struct TidEntry
{
	TidKey		key;
	int			message;
} TidEntry;

bool
pgmq_xact_has_rings(void)
{
	return pgmq_ring_available();
}

/* Forget the list; the memory goes with TopTransactionContext. */
void
pgmq_xact_reset(void)
{
	Assert(pgmq_xact.reserved == 0);
	if (pgmq_xact.is_publishing)
		pgmq_backend_set_publishing(false);
	memset(&pgmq_xact, 0, sizeof(pgmq_xact));
}

/* An array of the list, longer; palloc'd in TopTransactionContext. */
void *
pgmq_xact_grow(void *array, int *max, int needed, Size element_size)
{
	int			wanted = Max(*max * 2, 16);

	while (wanted < needed)
		wanted *= 2;
	*max = wanted;
	if (array == NULL)
		return MemoryContextAlloc(TopTransactionContext, wanted * element_size);
	return repalloc_huge(array, wanted * element_size);
}

static void
refuse_after_pre_commit(void)
{
	if (pgmq_xact.is_closed)
		ereport(ERROR,
				(errcode(ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE),
				 errmsg("cannot change a hot queue while the transaction commits")));
}

/* ---- queues ---- */

/*
 * Where a ring's count of leases stood when we first saw the queue.  A ring
 * that comes later started at RING_FIRST_SEQ, before any lease we could miss.  Read
 * without the ring's lock: one that is counted at this instant is newer either way.
 */
static void
note_first_seq(XactQueue *queue)
{
	queue->first_seq = queue->ring == NULL ? RING_FIRST_SEQ :
		((const volatile Ring *) queue->ring)->lease_seq;
}

XactQueue *
pgmq_xact_queue_by_locator(const RelFileLocator *locator, Oid relid)
{
	XactQueue  *queue;

	for (int i = pgmq_xact.n_queues - 1; i >= 0; i--)
	{
		queue = pgmq_xact.queues[i];
		if (RelFileLocatorEquals(queue->locator, *locator))
		{
			if (queue->ring == NULL)
				queue->ring = pgmq_ring_find(locator);
			return queue;
		}
	}
	if (pgmq_xact.n_queues == pgmq_xact.max_queues)
		pgmq_xact.queues = pgmq_xact_grow(pgmq_xact.queues, &pgmq_xact.max_queues,
										  pgmq_xact.n_queues + 1, sizeof(XactQueue *));
	queue = MemoryContextAllocZero(TopTransactionContext, sizeof(XactQueue));
	queue->locator = *locator;
	queue->relid = relid;
	queue->first_message = -1;
	queue->own_low_id = PG_INT64_MAX;
	queue->own_high_id = PG_INT64_MIN;
	queue->ring = pgmq_ring_find(locator);
	note_first_seq(queue);
	pgmq_xact.queues[pgmq_xact.n_queues++] = queue;
	return queue;
}

static void
name_relation(XactQueue *queue, Oid relid)
{
	queue->relid = relid;
	if (queue->ring == NULL)
		return;
	PGMQ_FAILPOINT("name-relation-begin");
	ring_lock(queue->ring, LW_EXCLUSIVE);
	queue->ring->relid = relid;
	ring_unlock(queue->ring);
	PGMQ_FAILPOINT("name-relation-end");
}

/*
 * This transaction's entry for a queue table, made at its first access; NULL
 * where there is no shared memory (library not preloaded) or the table cannot
 * have a ring.  The caller holds a lock on rel.
 */
XactQueue *
pgmq_xact_queue(Relation rel)
{
	XactQueue  *queue;

	if (!pgmq_ring_available() || RelationUsesLocalBuffers(rel) ||
		!descr_is_queue(RelationGetDescr(rel)))
		return NULL;
	queue = pgmq_xact_queue_by_locator(&REL_LOCATOR(rel), RelationGetRelid(rel));

	/* A rewrite hands the file of a transient relation to the real one. */
	if (queue->relid != RelationGetRelid(rel) ||
		(queue->ring != NULL && queue->ring->relid != queue->relid))
		name_relation(queue, RelationGetRelid(rel));
	return queue;
}

/* May the fast path use this queue's ring in this transaction? */
bool
pgmq_xact_queue_is_usable(XactQueue *queue)
{
	if (queue == NULL || queue->is_collapsed || queue->must_rebuild ||
		RecoveryInProgress())
		return false;			/* replay would not keep a ring current */
	if (queue->ring == NULL)
		queue->ring = pgmq_ring_find_or_create(&queue->locator, queue->relid,
											   RING_INCOMPLETE);
	return queue->ring != NULL;
}

/* ---- messages ---- */

XactMessage *
pgmq_xact_message(int index)
{
	Assert(index >= 0 && index < pgmq_xact.n_messages);
	return &pgmq_xact.messages[index];
}

/* Make room for n more messages and their log, so that adding cannot fail. */
void
pgmq_xact_make_room(int n)
{
	refuse_after_pre_commit();
	if (pgmq_xact.n_messages + n > pgmq_xact.max_messages)
		pgmq_xact.messages = pgmq_xact_grow(pgmq_xact.messages, &pgmq_xact.max_messages,
										   pgmq_xact.n_messages + n, sizeof(XactMessage));
	if (pgmq_xact.n_changes + n > pgmq_xact.max_changes)
		pgmq_xact.changes = pgmq_xact_grow(pgmq_xact.changes, &pgmq_xact.max_changes,
										   pgmq_xact.n_changes + n, sizeof(XactChange));
}

static void
make_key(TidKey *key, XactQueue *queue, const ItemPointerData *tid)
{
	memset(key, 0, sizeof(TidKey));
	key->queue = queue;
	key->block = ItemPointerGetBlockNumberNoCheck(tid);
	key->offset = ItemPointerGetOffsetNumberNoCheck(tid);
}

static void
hash_new_messages(void)
{
	HASHCTL		ctl;
	TidKey		key;

	if (pgmq_xact.by_tid == NULL)
	{
		ctl.keysize = sizeof(TidKey);
		ctl.entrysize = sizeof(TidEntry);
		ctl.hcxt = TopTransactionContext;
		pgmq_xact.by_tid = hash_create("pgmq messages of the transaction", 256, &ctl,
									   HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	}
	for (; pgmq_xact.n_hashed < pgmq_xact.n_messages; pgmq_xact.n_hashed++)
	{
		XactMessage *message = &pgmq_xact.messages[pgmq_xact.n_hashed];
		TidEntry   *entry;

		make_key(&key, message->queue, &message->tid);
		entry = hash_search(pgmq_xact.by_tid, &key, HASH_ENTER, NULL);
		entry->message = pgmq_xact.n_hashed;
	}
}

/* The entry of the row at tid, or -1.  Allocates. */
int
pgmq_xact_find_message(XactQueue *queue, const ItemPointerData *tid)
{
	TidKey		key;
	TidEntry   *entry;

	if (queue->n_messages == 0)
		return -1;
	if (pgmq_xact.n_messages <= LINEAR_LOOKUP_MESSAGES)
	{
		for (int i = pgmq_xact.n_messages - 1; i >= 0; i--)
			if (pgmq_xact.messages[i].queue == queue &&
				ItemPointerEquals(&pgmq_xact.messages[i].tid, unconstify(ItemPointerData *, tid)))
				return i;
		return -1;
	}
	hash_new_messages();
	make_key(&key, queue, tid);
	entry = hash_search(pgmq_xact.by_tid, &key, HASH_FIND, NULL);
	return entry ? entry->message : -1;
}

/* Append an entry without flags; room must have been made. */
int
pgmq_xact_add_message(XactQueue *queue, const ItemPointerData *tid, int64 msg_id)
{
	int			index = pgmq_xact.n_messages++;
	XactMessage *message = &pgmq_xact.messages[index];

	Assert(index < pgmq_xact.max_messages);
	memset(message, 0, sizeof(XactMessage));
	message->queue = queue;
	message->tid = *tid;
	message->msg_id = msg_id;
	message->next = queue->first_message;
	queue->first_message = index;
	queue->n_messages++;
	return index;
}

static void
unhash_message(int index)
{
	TidKey		key;
	TidEntry   *entry;

	make_key(&key, pgmq_xact.messages[index].queue, &pgmq_xact.messages[index].tid);
	entry = hash_search(pgmq_xact.by_tid, &key, HASH_FIND, NULL);
	if (entry != NULL && entry->message == index)
		(void) hash_search(pgmq_xact.by_tid, &key, HASH_REMOVE, NULL);
	pgmq_xact.n_hashed = index;
}

/*
 * Forget the entries at the end of the list that have nothing left in them,
 * claims that were given back: a transaction that looks at the same locked
 * messages again and again must not grow.  The log mentions such an entry once,
 * when it was made.  Called at the end of a call, when nobody knows indexes.
 */
void
pgmq_xact_trim(void)
{
	while (pgmq_xact.n_messages > 0)
	{
		int			index = pgmq_xact.n_messages - 1;
		XactMessage *message = &pgmq_xact.messages[index];

		if (message->flags != 0 || message->slot != 0 ||
			message->queue->first_message != index)
			return;
		if (pgmq_xact.n_changes > 0)
		{
			if (pgmq_xact.changes[pgmq_xact.n_changes - 1].message != index)
				return;
			pgmq_xact.n_changes--;
		}
		if (pgmq_xact.n_hashed > index)
			unhash_message(index);
		message->queue->first_message = message->next;
		message->queue->n_messages--;
		pgmq_xact.n_messages--;
	}
}

/* A row was inserted at tid with these lease columns, into this group. */
void
pgmq_xact_note_insert(XactQueue *queue, const ItemPointerData *tid,
					  int64 msg_id, const Lease *values, uint64 group_hash)
{
	int			index;

	refuse_after_pre_commit();
	if (queue->is_collapsed || queue->must_rebuild)
		return;
	if (queue->n_messages >= XACT_MAX_MESSAGES)
	{
		queue->is_collapsed = true;
		return;
	}
	pgmq_xact_make_room(1);
	index = pgmq_xact_add_message(queue, tid, msg_id);
	pgmq_xact_log_message(index);
	pgmq_xact.messages[index].flags = MSG_SENT;
	queue->own_low_id = Min(queue->own_low_id, msg_id);
	queue->own_high_id = Max(queue->own_high_id, msg_id);
	pgmq_xact.messages[index].lease = *values;
	pgmq_xact.messages[index].group_hash = group_hash;
}

/*
 * Could a row with this msg_id be there already?  False for ids above all that
 * were ever seen, which is what a sequence hands out.
 */
bool
pgmq_xact_may_have_id(XactQueue *queue, int64 msg_id)
{
	if (msg_id <= queue->own_high_id)
		return true;
	return queue->ring != NULL &&
		msg_id <= (int64) pg_atomic_read_u64(&queue->ring->high_id);
}

/* ---- leases ---- */

bool
pgmq_xact_has_leases(void)
{
	return pgmq_xact.n_leased > 0;
}

/*
 * A claimed (or own) message is leased with these values; is_extend: only its
 * visible_at changes.
 */
void
pgmq_xact_set_lease(int index, const Lease *lease, bool is_extend)
{
	XactMessage *message = pgmq_xact_message(index);

	pgmq_xact_make_room(1);
	message = pgmq_xact_message(index);
	pgmq_xact_log_message(index);
	if ((message->flags & MSG_LEASED) == 0)
		pgmq_xact.n_leased++;
	message->flags |= MSG_LEASED;
	message->lease = *lease;

	/* Our own slot, one byte: see SlotStage.  A read after set_vt is a read. */
	if (message->slot != 0 && !is_extend)
		set_slot_stage(message->slot, STAGE_LEASED);
	else if (message->slot != 0 && slot_stage(message->slot) == STAGE_LOOKING)
		set_slot_stage(message->slot, STAGE_EXTENDED);
}

/*
 * Lease columns to show instead of the page's: this transaction's own lease,
 * or what a failed lease left to be restored.  False: the page is right.
 */
bool
pgmq_xact_shown_lease(Relation rel, const ItemPointerData *tid, int64 msg_id,
					  Lease *lease)
{
	XactQueue  *queue = pgmq_xact_queue(rel);
	SlotCopy	copy;
	int			index;

	if (queue == NULL)
		return false;
	if (pgmq_xact.n_leased > 0)
	{
		index = pgmq_xact_find_message(queue, tid);
		if (index >= 0 && (pgmq_xact.messages[index].flags & MSG_LEASED) &&
			pgmq_xact.messages[index].msg_id == msg_id)
		{
			*lease = pgmq_xact.messages[index].lease;
			return true;
		}
	}
	if (queue->ring == NULL || pg_atomic_read_u32(&queue->ring->n_undo) == 0 ||
		!pgmq_xact_find_undo(queue, msg_id, tid, &copy))
		return false;
	lease->read_ct = copy.read_ct;
	lease->last_read_at = copy.last_read_at;
	lease->visible_at = copy.visible_at;
	return true;
}

/* ---- storage ---- */

/* Rows of this file changed behind the list's back: rebuild after commit. */
void
pgmq_xact_note_rebuild(Relation rel)
{
	XactQueue  *queue = pgmq_xact_queue(rel);

	if (queue == NULL)
		return;
	pgmq_xact_log_queue(queue);
	queue->must_rebuild = true;
}

/*
 * Rows were copied past the list into rel, whose storage will be that of the
 * relation relid: nobody else may open that and say so before the worker looks.
 */
void
pgmq_xact_note_copy(Relation rel, Oid relid)
{
	XactQueue  *queue = pgmq_xact_queue(rel);

	if (queue == NULL)
		return;
	pgmq_xact_note_rebuild(rel);
	name_relation(queue, relid);
}

/*
 * The relation gets new storage: the old one's ring goes at commit, the new
 * one's at abort.  A ring that is there already is of storage long gone.
 */
static XactQueue *
switch_storage(Relation rel, const RelFileLocator *locator)
{
	XactQueue  *old = pgmq_xact_queue(rel);
	XactQueue  *queue;

	if (old == NULL)
		return NULL;
	if (!RelFileLocatorEquals(old->locator, *locator))
	{
		pgmq_xact_log_queue(old);
		old->drop_at_commit = true;
		if (pgmq_ring_find(locator) != NULL)
			pgmq_ring_remove(locator);
	}
	queue = pgmq_xact_queue_by_locator(locator, RelationGetRelid(rel));
	pgmq_xact_log_queue(queue);
	queue->drop_at_abort = true;
	return queue;
}

/* The new storage is empty, so its ring is complete from the start. */
void
pgmq_xact_note_new_storage(Relation rel, const RelFileLocator *locator)
{
	XactQueue  *queue = switch_storage(rel, locator);

	if (queue == NULL)
		return;
	if (queue->ring != NULL)
		pgmq_ring_remove(locator);
	queue->ring = pgmq_ring_find_or_create(locator, queue->relid, RING_COMPLETE);
}

/* The new storage is a copy of the old: its ring is built when it is wanted. */
void
pgmq_xact_note_moved_storage(Relation rel, const RelFileLocator *locator)
{
	(void) switch_storage(rel, locator);
}

/* The relation with this storage is dropped. */
void
pgmq_xact_note_drop(const RelFileLocator *locator, Oid relid)
{
	XactQueue  *queue;

	if (!pgmq_ring_available())
		return;
	queue = pgmq_xact_queue_by_locator(locator, relid);
	pgmq_xact_log_queue(queue);
	queue->drop_at_commit = true;
}

/* ---- savepoints ---- */

static XactChange *
new_change(void)
{
	if (GetCurrentTransactionNestLevel() <= 1)
		return NULL;
	if (pgmq_xact.n_changes == pgmq_xact.max_changes)
		pgmq_xact.changes = pgmq_xact_grow(pgmq_xact.changes, &pgmq_xact.max_changes,
										   pgmq_xact.n_changes + 1, sizeof(XactChange));
	pgmq_xact.changes[pgmq_xact.n_changes].nest_level = GetCurrentTransactionNestLevel();
	return &pgmq_xact.changes[pgmq_xact.n_changes++];
}

/* Remember a message's state before it changes. */
void
pgmq_xact_log_message(int index)
{
	XactMessage *message = pgmq_xact_message(index);
	XactChange *change = new_change();

	if (change == NULL)
		return;
	change->message = index;
	change->queue = message->queue;
	change->flags = message->flags;
	change->lease = message->lease;
}

/* Remember a queue's flags before they change. */
void
pgmq_xact_log_queue(XactQueue *queue)
{
	XactChange *change = new_change();

	if (change == NULL)
		return;
	change->message = -1;
	change->queue = queue;
	change->must_rebuild = queue->must_rebuild;
	change->drop_at_commit = queue->drop_at_commit;
	change->drop_at_abort = queue->drop_at_abort;
}

static void
undo_message(XactChange *change, TimestampTz now, WakeList *wake)
{
	XactMessage *message = pgmq_xact_message(change->message);

	if ((message->flags & MSG_LEASED) && !(change->flags & MSG_LEASED))
		pgmq_xact.n_leased--;
	if (!(message->flags & MSG_LEASED) && (change->flags & MSG_LEASED))
		pgmq_xact.n_leased++;
	pgmq_xact_release_message(message, change->flags, now, wake);
	message->flags = change->flags;
	message->lease = change->lease;
}

static void
undo_queue(XactChange *change)
{
	XactQueue  *queue = change->queue;

	/* Storage made below this level is gone; so is its ring. */
	if (queue->drop_at_abort && !change->drop_at_abort)
	{
		pgmq_ring_remove(&queue->locator);
		queue->ring = NULL;
		queue->first_message = -1;
		queue->n_messages = 0;
	}
	queue->must_rebuild = change->must_rebuild;
	queue->drop_at_commit = change->drop_at_commit;
	queue->drop_at_abort = change->drop_at_abort;
}

/*
 * What is undone first: of one message, the latest change; of several, those of
 * the highest msg_id, so that the first message of a group is given back when
 * the rest of it is free.
 */
static int
compare_for_undo(const void *a, const void *b)
{
	const XactChange *change_a = a;
	const XactChange *change_b = b;

	if (change_a->message >= 0 && change_b->message >= 0)
	{
		int64		id_a = pgmq_xact_message(change_a->message)->msg_id;
		int64		id_b = pgmq_xact_message(change_b->message)->msg_id;

		if (id_a != id_b)
			return id_a > id_b ? -1 : 1;
	}
	else if (change_a->message >= 0 || change_b->message >= 0)
		return change_a->message >= 0 ? -1 : 1;
	return change_b->position - change_a->position;
}

/* The log's end, in the order it is to be undone; in place, so it cannot fail. */
static void
sort_for_undo(int start)
{
	int			n = pgmq_xact.n_changes - start;

	for (int i = start; i < pgmq_xact.n_changes; i++)
		pgmq_xact.changes[i].position = i;
	if (n > 1)
		qsort(&pgmq_xact.changes[start], n, sizeof(XactChange), compare_for_undo);
}

/* ROLLBACK TO: take back what was done at this nesting level or below it. */
void
pgmq_xact_undo_changes(int nest_level)
{
	TimestampTz now = pgmq_clock_now();
	int			start = pgmq_xact.n_changes;
	WakeList	wake;

	while (start > 0 && pgmq_xact.changes[start - 1].nest_level >= nest_level)
		start--;
	sort_for_undo(start);
	for (int i = start; i < pgmq_xact.n_changes; i++)
	{
		XactChange *change = &pgmq_xact.changes[i];

		wake.n = 0;
		if (change->message >= 0)
			undo_message(change, now, &wake);
		else
			undo_queue(change);
		pgmq_wake_all(&wake);
	}
	pgmq_xact.n_changes = start;
}

/* RELEASE: what was done at this level belongs to the one above. */
void
pgmq_xact_merge_changes(int nest_level)
{
	int			i = pgmq_xact.n_changes;

	while (i > 0 && pgmq_xact.changes[i - 1].nest_level >= nest_level)
		pgmq_xact.changes[--i].nest_level = nest_level - 1;
	if (nest_level <= 2)
		pgmq_xact.n_changes = 0;
}
