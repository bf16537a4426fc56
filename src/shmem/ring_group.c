/*
 * ring_group.c
 *	  Groups: the messages of a queue that must be taken in order.
 *
 * Only a queue that has been read by group keeps them (Ring.is_grouped).  A
 * group is known by a 64-bit hash of its key; two keys with one hash would be
 * taken for one group, which keeps the order of both.  It is a slot of the pool
 * like a message, with other uses of the fields:
 *
 *	  msg_id          hash of the key; key of tree GROUPS (by_id)
 *	  visible_at      msg_id of its first message; key of tree HEADS (by_order)
 *	  by_group.left   root of its tree MEMBERS
 *	  by_group.right  number of its members
 *
 * Every message of the ring is a member of its group but those whose row is
 * not committed (LIMBO inserts).  The question of a grouped read, "which groups
 * may be read, the one with the lowest message first", is answered by HEADS: a
 * group is there while its first message, in whatever state others are, is
 * READY.  A first message that is delayed, leased or held keeps its group out.
 *
 * Callers hold the ring's L4 exclusively, to find something at least shared.
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "shmem/ring_internal.h"

uint64
pgmq_group_hash(uint32 group)
{
	return (uint64) ring_slot(group)->msg_id;
}

/* msg_id of the first message of a group in HEADS. */
int64
pgmq_group_head_id(uint32 group)
{
	return ring_slot(group)->visible_at;
}

/* The group with this hash, or 0. */
uint32
pgmq_group_find(const Ring *ring, uint64 hash)
{
	uint32		group = pgmq_tree_next(ring, TREE_GROUPS, (int64) hash, 0);

	return group != 0 && pgmq_group_hash(group) == hash ? group : 0;
}

static uint32
new_group(Ring *ring, uint32 *chain, uint64 hash)
{
	uint32		group = pgmq_pool_take(chain);

	if (group == 0)
		return 0;
	memset(ring_slot(group), 0, sizeof(RingSlot));
	ring_slot(group)->msg_id = (int64) hash;
	ring_slot(group)->state = SLOT_GROUP;
	pgmq_tree_insert(ring, TREE_GROUPS, group);
	return group;
}

static void
leave_heads(Ring *ring, uint32 group)
{
	if (ring_slot(group)->tree == TREE_HEADS)
		pgmq_tree_remove(ring, TREE_HEADS, group);
}

/* Put a group into HEADS, under its first message, or take it out. */
static void
update_head(Ring *ring, uint32 group)
{
	RingSlot   *g = ring_slot(group);
	uint32		first = pgmq_tree_first_member(group);
	bool		is_ready = first != 0 && ring_slot(first)->state == SLOT_READY;

	Assert(g->state == SLOT_GROUP);
	if (is_ready && g->tree == TREE_HEADS && g->visible_at == ring_slot(first)->msg_id)
		return;
	leave_heads(ring, group);
	if (is_ready)
	{
		g->visible_at = ring_slot(first)->msg_id;
		pgmq_tree_insert(ring, TREE_HEADS, group);
	}
}

static void
free_group(Ring *ring, uint32 group)
{
	leave_heads(ring, group);
	pgmq_tree_remove(ring, TREE_GROUPS, group);
	pgmq_pool_free(group);
}

/* A message's state has changed. */
void
pgmq_group_update(Ring *ring, uint32 slot)
{
	if (ring_slot(slot)->group != 0)
		update_head(ring, ring_slot(slot)->group);
}

/*
 * A committed message enters its group, which may have to be made; false if
 * there is no slot for that.  Without effect where it is a member already, or
 * the ring keeps no groups.  While a scan is under way that began before the
 * ring kept groups, nobody joins: that scan does not know them, and the next
 * one meets every message.
 */
bool
pgmq_group_join(Ring *ring, uint32 *chain, uint32 slot, uint64 hash)
{
	uint32		group;

	if (!ring->is_grouped || ring->must_rescan || ring_slot(slot)->group != 0)
		return true;
	group = pgmq_group_find(ring, hash);
	if (group == 0)
		group = new_group(ring, chain, hash);
	if (group == 0)
		return false;
	PGMQ_CRASHPOINT("group-join-begin");
	ring_slot(slot)->group = group;
	pgmq_tree_insert(ring, TREE_MEMBERS, slot);
	if (ring_slot(group)->tree != TREE_HEADS || pgmq_group_head_id(group) >= ring_slot(slot)->msg_id)
		update_head(ring, group);	/* else it is behind the first one */
	PGMQ_CRASHPOINT("group-join-end");
	return true;
}

/*
 * A message leaves its group, if it is in one; the last one ends it.  True if
 * the group may be read now and could not before: the message was in the way.
 */
bool
pgmq_group_leave(Ring *ring, uint32 slot)
{
	uint32		group = ring_slot(slot)->group;
	uint32		n_heads = ring->counts[TREE_HEADS];

	if (group == 0)
		return false;
	PGMQ_CRASHPOINT("group-leave-begin");
	pgmq_tree_remove(ring, TREE_MEMBERS, slot);
	ring_slot(slot)->group = 0;
	if (ring_slot(group)->by_group.left == 0)
		free_group(ring, group);
	else
		update_head(ring, group);
	PGMQ_CRASHPOINT("group-leave-end");
	return ring->counts[TREE_HEADS] > n_heads;
}

/*
 * pgmq_group_join() for one whose row is known just now: its slot may be that of an earlier
 * row with this msg_id and TID, which was not settled yet, and in that one's group.
 */
bool
pgmq_group_correct(Ring *ring, uint32 *chain, uint32 slot, uint64 hash)
{
	uint32		group = ring_slot(slot)->group;

	if (group != 0 && pgmq_group_hash(group) != hash)
		(void) pgmq_group_leave(ring, slot);
	return pgmq_group_join(ring, chain, slot, hash);
}
