/*
 * xact_group.c
 *	  Claims in the order of groups.
 *
 * Two moves make every grouped read: take the heads of groups that may be read,
 * and take further messages of a group whose head we hold.  While we hold it,
 * the group is not among those that may be read, so no other grouped read takes
 * part in it; whoever holds a group's messages by other means is passed over,
 * message by message.
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "xact/xact_internal.h"

/*
 * Does this transaction see the queue's groups as the ring does, but for what it
 * deleted?  Not what it sent, or leased for so short that it may read it again.
 */
bool
pgmq_xact_groups_are_exact(XactQueue *queue, TimestampTz now)
{
	for (int i = queue->first_message; i >= 0; i = pgmq_xact_message(i)->next)
	{
		XactMessage *message = pgmq_xact_message(i);

		if (message->flags & MSG_DELETED)
			continue;
		if ((message->flags & MSG_SENT) ||
			((message->flags & MSG_LEASED) && message->lease.visible_at <= now))
			return false;
	}
	return true;
}

/*
 * Before a read by group settles what is undecided: what anybody settles from
 * now on comes into the ring, or back, message by message, so it may be out of
 * order.
 */
void
pgmq_xact_watch_groups(XactQueue *queue)
{
	ring_lock(queue->ring, LW_SHARED);
	queue->seen_settle_epoch = queue->ring->settle_epoch;
	ring_unlock(queue->ring);
}

/*
 * Does the ring know every message of every group, and none of a transaction of
 * which it does not know all?  Caller holds L4.
 */
static bool
knows_groups(const XactQueue *queue)
{
	const Ring *ring = queue->ring;

	return ring->is_grouped && ring->phase == RING_COMPLETE && !ring->has_cold &&
		ring->n_partial == 0 && ring->settle_epoch == queue->seen_settle_epoch;
}

/* ---- heads ---- */

/*
 * The first message of a group as this transaction sees it, or 0: what it has
 * deleted itself stands before it no more.  Caller holds L4.
 */
static uint32
own_first_member(uint32 group)
{
	uint32		slot = pgmq_tree_first_member(group);

	while (slot != 0 && ring_slot(slot)->state == SLOT_DELETING &&
		   ring_slot(slot)->u.o.owner == PGMQ_MY_PROC_NUMBER)
		slot = pgmq_tree_next_member(group, ring_slot(slot)->msg_id, slot);
	return slot;
}

/*
 * The group of a message that we have deleted, as far as it is held; or 0.  If it had no
 * slot then, a scan may have made one since.  Caller holds L4.
 */
static uint32
group_of_deleted(Ring *ring, XactMessage *message)
{
	if (message->slot == 0)
		pgmq_xact_hold_to_delete(ring, message);
	if (message->slot == 0)
		return 0;
	Assert(pgmq_xact_holds_slot(ring, message));
	return ring_slot(message->slot)->group;
}

static int
compare_heads(const void *a, const void *b)
{
	int64		id_a = ((const GroupHead *) a)->msg_id;
	int64		id_b = ((const GroupHead *) b)->msg_id;

	return id_a < id_b ? -1 : id_a > id_b;
}

/*
 * The heads that this transaction's deletes uncover, which the others are not
 * offered yet; ascending, palloc'd, perhaps repeated.  One hold of L4 each.
 */
int
pgmq_xact_own_heads(XactQueue *queue, GroupHead **heads)
{
	Ring	   *ring = queue->ring;
	int			n = 0;

	*heads = NULL;
	pgmq_xact_publish_owner();
	for (int i = queue->first_message; i >= 0; i = pgmq_xact_message(i)->next)
	{
		uint32		group;
		uint32		first = 0;
		GroupHead	head;

		if ((pgmq_xact_message(i)->flags & (MSG_DELETED | MSG_SENT)) != MSG_DELETED)
			continue;
		PGMQ_FAILPOINT("own-heads-begin");
		ring_lock(ring, pgmq_xact_message(i)->slot == 0 ? LW_EXCLUSIVE : LW_SHARED);
		group = group_of_deleted(ring, pgmq_xact_message(i));
		if (group != 0)
			first = own_first_member(group);
		if (first != 0)
			head = (GroupHead) {ring_slot(first)->msg_id, pgmq_group_hash(group)};
		ring_unlock(ring);
		PGMQ_FAILPOINT("own-heads-end");
		if (first == 0)
			continue;
		if (*heads == NULL)
			*heads = palloc(queue->n_messages * sizeof(GroupHead));
		(*heads)[n++] = head;
	}
	if (n > 1)
		qsort(*heads, n, sizeof(GroupHead), compare_heads);
	return n;
}

/* The next uncovered head behind an id, if it can be claimed; moves *next. */
static uint32
next_own_head(Ring *ring, const GroupHead *own, int n_own, int64 after, int *next)
{
	while (*next < n_own && own[*next].msg_id <= after)
		(*next)++;
	for (; *next < n_own; (*next)++)
	{
		uint32		group = pgmq_group_find(ring, own[*next].group_hash);
		uint32		first = group == 0 ? 0 : own_first_member(group);

		if (first != 0 && ring_slot(first)->state == SLOT_READY &&
			ring_slot(first)->msg_id == own[*next].msg_id)
			return group;
	}
	return 0;
}

/* The next group that may be read, with the cursor moved to its head, or 0. */
static uint32
next_head(Ring *ring, ReadyCursor *cursor, const GroupHead *own, int n_own, int *next_own)
{
	uint32		group = pgmq_tree_next(ring, TREE_HEADS, cursor->msg_id, cursor->slot);
	uint32		own_group = next_own_head(ring, own, n_own, cursor->msg_id, next_own);

	if (own_group != 0 &&
		(group == 0 || own[*next_own].msg_id < pgmq_group_head_id(group)))
	{
		*cursor = (ReadyCursor) {own[*next_own].msg_id, own_group};
		return own_group;
	}
	if (group != 0)
		*cursor = (ReadyCursor) {pgmq_group_head_id(group), group};
	return group;
}

/*
 * Claim the heads of up to max groups behind the cursor, lowest first, among
 * them the n_own of pgmq_xact_own_heads(); fills messages[] and groups[] (their
 * hashes), moves the cursor and returns how many.  *is_exact false: the ring
 * does not know the groups (any more); SQL must look.
 */
int
pgmq_xact_take_heads(XactQueue *queue, ReadyCursor *cursor, const GroupHead *own,
					 int n_own, int max, int *messages, uint64 *groups, bool *is_exact)
{
	Ring	   *ring = queue->ring;
	RingRef		refs[RING_HEADS_BATCH];
	int			n = 0;
	int			next_own = 0;
	uint32		group;

	max = Min(max, RING_HEADS_BATCH);
	pgmq_xact_publish_owner();
	pgmq_xact_make_room(max);
	PGMQ_FAILPOINT("take-heads-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	*is_exact = knows_groups(queue);
	while (*is_exact && n < max &&
		   (group = next_head(ring, cursor, own, n_own, &next_own)) != 0)
	{
		uint32		head = own_first_member(group);

		if (ring_slot(head)->lockers > 0)
			continue;
		pgmq_xact_hold_to_look(ring, head);
		pgmq_ring_ref(head, &refs[n]);
		groups[n++] = pgmq_group_hash(group);
	}
	ring_unlock(ring);
	for (int i = 0; i < n; i++)
		messages[i] = pgmq_xact_message_of_slot(queue, &refs[i]);
	PGMQ_FAILPOINT("take-heads-end");
	return n;
}

/* ---- what follows ---- */

/*
 * Claim up to max further ready messages of a group, lowest first, behind
 * the cursor (a message of the group); moves it and returns how many.
 * *is_last: there are none behind it, or none to be had in order: the ring has
 * forgotten some, or the next was ready before a lease that is being undone.
 */
int
pgmq_xact_take_members(XactQueue *queue, uint64 group_hash, ReadyCursor *cursor,
					   int max, int *messages, bool *is_last)
{
	Ring	   *ring = queue->ring;
	RingRef		refs[RING_HEADS_BATCH];
	int			n = 0;
	uint32		group;

	max = Min(max, RING_HEADS_BATCH);
	pgmq_xact_make_room(max);
	PGMQ_FAILPOINT("take-members-begin");
	ring_lock(ring, LW_EXCLUSIVE);
	group = pgmq_group_find(ring, group_hash);
	*is_last = group == 0 || !knows_groups(queue);
	for (int i = 0; !*is_last && i < RING_BATCH_SLOTS && n < max; i++)
	{
		uint32		slot = pgmq_tree_next_member(group, cursor->msg_id, cursor->slot);

		*is_last = slot == 0 || ring_slot(slot)->state == SLOT_UNDO;
		if (*is_last)
			break;
		cursor->msg_id = ring_slot(slot)->msg_id;
		cursor->slot = slot;
		if (ring_slot(slot)->state != SLOT_READY || ring_slot(slot)->lockers > 0)
			continue;
		pgmq_xact_hold_to_look(ring, slot);
		pgmq_ring_ref(slot, &refs[n++]);
	}
	ring_unlock(ring);
	for (int i = 0; i < n; i++)
		messages[i] = pgmq_xact_message_of_slot(queue, &refs[i]);
	PGMQ_FAILPOINT("take-members-end");
	return n;
}
