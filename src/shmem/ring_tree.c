/*
 * ring_tree.c
 *	  Ordered sets of ring slots: treaps linked by slot numbers.
 *
 * A treap (Seidel and Aragon, "Randomized search trees", 1996) is a binary
 * search tree by key and a heap by priority.  The priority is a hash of the
 * slot number, so it needs no memory; murmurhash32 is a bijection, so no two
 * slots share one.  Expected depth is O(log n) whatever the order of the
 * operations, which bounds every loop here; two links a node and no parent
 * pointer are what a slot has room for.  Ascending inserts and removals at the low
 * end, which is what queues do, touch only the outer spines.
 *
 * Callers hold the ring's L4 (exclusively, to change a tree).
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "common/hashfn.h"
#include "shmem/ring_internal.h"

static inline SlotLinks *
links(SlotTree tree, uint32 slot)
{
	switch (tree)
	{
		case TREE_BY_ID:
		case TREE_GROUPS:
			return &pgmq_slots[slot].by_id;
		case TREE_MEMBERS:
			return &pgmq_slots[slot].by_group;
		default:
			return &pgmq_slots[slot].by_order;
	}
}

/* Where a tree begins; of MEMBERS each group has its own, see ring_group.c. */
static inline uint32 *
root_of(Ring *ring, SlotTree tree, uint32 slot)
{
	return tree == TREE_MEMBERS ? &pgmq_slots[pgmq_slots[slot].group].by_group.left :
		&ring->roots[tree];
}

static inline uint32 *
count_of(Ring *ring, SlotTree tree, uint32 slot)
{
	return tree == TREE_MEMBERS ? &pgmq_slots[pgmq_slots[slot].group].by_group.right :
		&ring->counts[tree];
}

static inline int64
key(SlotTree tree, uint32 slot)
{
	switch (tree)
	{
		case TREE_WAITING:
		case TREE_HEADS:
			return pgmq_slots[slot].visible_at;
		case TREE_LIMBO:
			return pgmq_slots[slot].u.o.owner;
		default:
			return pgmq_slots[slot].msg_id;
	}
}

static inline bool
is_before(SlotTree tree, uint32 a, uint32 b)
{
	int64		key_a = key(tree, a);
	int64		key_b = key(tree, b);

	return key_a < key_b || (key_a == key_b && a < b);
}

static inline bool
is_above(uint32 a, uint32 b)
{
	return murmurhash32(a) > murmurhash32(b);
}

static inline void
set_tree(SlotTree tree, uint32 slot, SlotTree value)
{
	if (tree < TREE_BY_ID)
		pgmq_slots[slot].tree = value;
}

void
pgmq_tree_insert(Ring *ring, SlotTree tree, uint32 slot)
{
	uint32	   *link = root_of(ring, tree, slot);
	uint32	   *left = &links(tree, slot)->left;
	uint32	   *right = &links(tree, slot)->right;
	uint32		below;

	PGMQ_CRASHPOINT("tree-insert-begin");
	Assert(LWLockHeldByMeInMode(&ring->lock, LW_EXCLUSIVE));
	Assert(tree >= TREE_BY_ID || pgmq_slots[slot].tree == TREE_NONE);

	while (*link != 0 && is_above(*link, slot))
		link = is_before(tree, slot, *link) ? &links(tree, *link)->left :
			&links(tree, *link)->right;

	/* Split what was below into the two sides of the new node. */
	below = *link;
	*link = slot;
	while (below != 0)
	{
		if (is_before(tree, below, slot))
		{
			*left = below;
			left = &links(tree, below)->right;
			below = *left;
		}
		else
		{
			*right = below;
			right = &links(tree, below)->left;
			below = *right;
		}
	}
	*left = *right = 0;
	(*count_of(ring, tree, slot))++;
	set_tree(tree, slot, tree);
	PGMQ_CRASHPOINT("tree-insert-end");
}

void
pgmq_tree_remove(Ring *ring, SlotTree tree, uint32 slot)
{
	uint32	   *link = root_of(ring, tree, slot);
	uint32		left = links(tree, slot)->left;
	uint32		right = links(tree, slot)->right;

	PGMQ_CRASHPOINT("tree-remove-begin");
	Assert(LWLockHeldByMeInMode(&ring->lock, LW_EXCLUSIVE));
	Assert(tree >= TREE_BY_ID || pgmq_slots[slot].tree == tree);

	while (*link != slot)
	{
		Assert(*link != 0);
		link = is_before(tree, slot, *link) ? &links(tree, *link)->left :
			&links(tree, *link)->right;
	}

	/* Merge the two sides in its place. */
	while (left != 0 && right != 0)
	{
		if (is_above(left, right))
		{
			*link = left;
			link = &links(tree, left)->right;
			left = *link;
		}
		else
		{
			*link = right;
			link = &links(tree, right)->left;
			right = *link;
		}
	}
	*link = left != 0 ? left : right;
	(*count_of(ring, tree, slot))--;
	set_tree(tree, slot, TREE_NONE);
	PGMQ_CRASHPOINT("tree-remove-end");
}

uint32
pgmq_tree_first(const Ring *ring, SlotTree tree)
{
	uint32		slot = ring->roots[tree];

	while (slot != 0 && links(tree, slot)->left != 0)
		slot = links(tree, slot)->left;
	return slot;
}

uint32
pgmq_tree_last(const Ring *ring, SlotTree tree)
{
	uint32		slot = ring->roots[tree];

	while (slot != 0 && links(tree, slot)->right != 0)
		slot = links(tree, slot)->right;
	return slot;
}

static uint32
next_below(SlotTree tree, uint32 at, int64 after, uint32 slot)
{
	uint32		best = 0;

	while (at != 0)
	{
		int64		at_key = key(tree, at);

		if (at_key > after || (at_key == after && at > slot))
		{
			best = at;
			at = links(tree, at)->left;
		}
		else
			at = links(tree, at)->right;
	}
	return best;
}

/*
 * The first slot behind (after, slot) in a tree, `after` being a key of it;
 * with slot 0 that is the first with at least this key.
 */
uint32
pgmq_tree_next(const Ring *ring, SlotTree tree, int64 after, uint32 slot)
{
	return next_below(tree, ring->roots[tree], after, slot);
}

/* The same among the members of a group. */
uint32
pgmq_tree_next_member(uint32 group, int64 after, uint32 slot)
{
	return next_below(TREE_MEMBERS, pgmq_slots[group].by_group.left, after, slot);
}

uint32
pgmq_tree_first_member(uint32 group)
{
	return pgmq_tree_next_member(group, PG_INT64_MIN, 0);
}

/* The last slot before (before, slot) in a tree. */
uint32
pgmq_tree_prev(const Ring *ring, SlotTree tree, int64 before, uint32 slot)
{
	uint32		at = ring->roots[tree];
	uint32		best = 0;

	while (at != 0)
	{
		int64		at_key = key(tree, at);

		if (at_key < before || (at_key == before && at < slot))
		{
			best = at;
			at = links(tree, at)->right;
		}
		else
			at = links(tree, at)->left;
	}
	return best;
}
