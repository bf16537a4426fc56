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

#include "xact/xact_internal.h"

/*
 * Does this transaction see the queue's groups as the ring does?  Not what it
 * sent, deleted, or leased for so short that it may read it again.
 */
bool
pgmq_xact_groups_are_exact(XactQueue *queue, TimestampTz now)
{
	for (int i = queue->first_message; i >= 0; i = pgmq_xact_message(i)->next)
	{
		XactMessage *message = pgmq_xact_message(i);

		if (message->flags & MSG_DELETED)
		{
			if ((message->flags & MSG_SENT) == 0)
				return false;
		}
		else if ((message->flags & MSG_SENT) ||
				 ((message->flags & MSG_LEASED) && message->lease.visible_at <= now))
			return false;
	}
	return true;
}

/*
 * Claim the heads of up to max groups behind the cursor, lowest first; fills
 * messages[] and groups[] (their hashes), moves the cursor and returns how many.
 * *is_exact false: the ring does not know the groups (any more); SQL must look.
 */
int
pgmq_xact_take_heads(XactQueue *queue, ReadyCursor *cursor, int max,
					 int *messages, uint64 *groups, bool *is_exact)
{
	Ring	   *ring = queue->ring;
	RingRef		refs[RING_HEADS_BATCH];
	int			n = 0;
	uint32		group;

	max = Min(max, RING_HEADS_BATCH);
	pgmq_xact_publish_vxid();
	pgmq_xact_make_room(max);
	ring_lock(ring, LW_EXCLUSIVE);
	*is_exact = ring->is_grouped && ring->phase == RING_COMPLETE && !ring->has_cold;
	while (*is_exact && n < max &&
		   (group = pgmq_tree_next(ring, TREE_HEADS, cursor->msg_id, cursor->slot)) != 0)
	{
		uint32		head = pgmq_tree_first_member(group);

		cursor->msg_id = pgmq_group_head_id(group);
		cursor->slot = group;
		if (ring_slot(head)->lockers > 0)
			continue;
		pgmq_xact_hold_to_look(ring, head);
		pgmq_ring_ref(head, &refs[n]);
		groups[n++] = pgmq_group_hash(group);
	}
	ring_unlock(ring);
	for (int i = 0; i < n; i++)
		messages[i] = pgmq_xact_message_of_slot(queue, &refs[i]);
	return n;
}

/*
 * Claim up to max further ready messages of a group, lowest first, behind
 * the cursor (a message of the group); moves it and returns how many.
 * *is_last: there are none behind it.
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
	ring_lock(ring, LW_EXCLUSIVE);
	group = pgmq_group_find(ring, group_hash);
	*is_last = group == 0;
	for (int i = 0; !*is_last && i < RING_BATCH_SLOTS && n < max; i++)
	{
		uint32		slot = pgmq_tree_next_member(group, cursor->msg_id, cursor->slot);

		*is_last = slot == 0;
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
	return n;
}
