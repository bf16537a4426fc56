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

/*
 * Split a subtree into what comes before a slot, below *left, and what comes after it,
 * below *right.  The slot is not in it.
 */
static pg_attribute_always_inline void
split(SlotTree tree, uint32 below, uint32 slot, uint32 *left, uint32 *right)
{
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
}

void
pgmq_tree_insert(Ring *ring, SlotTree tree, uint32 slot)
{
	uint32	   *link = root_of(ring, tree, slot);
	uint32		below;

	PGMQ_CRASHPOINT("tree-insert-begin");
	Assert(LWLockHeldByMeInMode(&ring->lock, LW_EXCLUSIVE));
	Assert(tree >= TREE_BY_ID || pgmq_slots[slot].tree == TREE_NONE);

	while (*link != 0 && is_above(*link, slot))
		link = is_before(tree, slot, *link) ? &links(tree, *link)->left :
			&links(tree, *link)->right;

	/* What was below becomes the two sides of the new node. */
	below = *link;
	*link = slot;
	split(tree, below, slot, &links(tree, slot)->left, &links(tree, slot)->right);
	(*count_of(ring, tree, slot))++;
	set_tree(tree, slot, tree);
	PGMQ_CRASHPOINT("tree-insert-end");
}

/* ---- runs ---- */

/*
 * A run is an array of slots in ascending order of a tree's key.  A part of it, from first
 * to before end, is a treap of its own, to be united with what is below a link.
 */
typedef struct RunPart
{
	uint32	   *link;
	uint32		top;			/* of the part's treap */
	int			first;
	int			end;
} RunPart;

/*
 * Make a treap of a run, in linear time (Vuillemin, "A unifying look at data structures",
 * 1980); returns its root.
 */
static pg_attribute_always_inline uint32
build_run(SlotTree tree, const uint32 *slots, int n)
{
	uint32		spine[RING_BATCH_SLOTS];	/* right one, from the root down */
	uint32		priority[RING_BATCH_SLOTS];	/* theirs */
	int			depth = 0;

	for (int i = 0; i < n; i++)
	{
		uint32		own = murmurhash32(slots[i]);
		uint32		below = 0;

		while (depth > 0 && own > priority[depth - 1])
			below = spine[--depth];
		links(tree, slots[i])->left = below;
		links(tree, slots[i])->right = 0;
		if (depth > 0)
			links(tree, spine[depth - 1])->right = slots[i];
		priority[depth] = own;
		spine[depth++] = slots[i];
		set_tree(tree, slots[i], tree);
	}
	return spine[0];
}

/* Where the slots of a part that come before another slot end. */
static pg_attribute_always_inline int
end_before(SlotTree tree, const uint32 *slots, const RunPart *part, uint32 slot)
{
	int			first = part->first;
	int			end = part->end;

	/* A part is behind all that is there, as a rule */
	if (is_before(tree, slot, slots[first]))
		return first;
	while (first < end)
	{
		int			middle = (first + end) / 2;

		if (is_before(tree, slots[middle], slot))
			first = middle + 1;
		else
			end = middle;
	}
	return first;
}

/*
 * The parts still to be united, first in first out: while a part's place in the tree is
 * fetched from memory, the others have their turn.  No two share a slot.
 */
typedef struct RunQueue
{
	int			first;
	int			n;
	RunPart		parts[RING_BATCH_SLOTS];
} RunQueue;

static pg_attribute_always_inline void
push_part(RunQueue *queue, uint32 *link, uint32 top, int first, int end)
{
	Assert(queue->n < RING_BATCH_SLOTS && first < end);
	PGMQ_PREFETCH(&pgmq_slots[*link]);
	queue->parts[(queue->first + queue->n++) % RING_BATCH_SLOTS] =
		(RunPart) {link, top, first, end};
}

/* What is below the link stays on top, and the part goes to its sides. */
static pg_attribute_always_inline void
sink_part(SlotTree tree, const uint32 *slots, const RunPart *part, RunQueue *queue)
{
	uint32		at = *part->link;
	int			middle = end_before(tree, slots, part, at);
	uint32		left = part->top;
	uint32		right = part->top;

	if (part->first < middle && middle < part->end)
		split(tree, part->top, at, &left, &right);
	if (part->first < middle)
		push_part(queue, &links(tree, at)->left, left, part->first, middle);
	if (middle < part->end)
		push_part(queue, &links(tree, at)->right, right, middle, part->end);
}

/* The part's top goes on top, and the rest of the part to its sides. */
static pg_attribute_always_inline void
raise_part(SlotTree tree, const uint32 *slots, const RunPart *part, RunQueue *queue)
{
	uint32		top = part->top;
	SlotLinks  *sides = links(tree, top);
	SlotLinks	own = *sides;
	uint32		below = *part->link;
	int			middle = end_before(tree, slots, part, top);

	Assert(slots[middle] == top);
	*part->link = top;
	split(tree, below, top, &sides->left, &sides->right);
	if (own.left != 0)
		push_part(queue, &sides->left, own.left, part->first, middle);
	if (own.right != 0)
		push_part(queue, &sides->right, own.right, middle + 1, part->end);
}

static pg_attribute_always_inline void
insert_run(Ring *ring, SlotTree tree, const uint32 *slots, int n)
{
	RunQueue	queue;

	queue.first = queue.n = 0;
	push_part(&queue, &ring->roots[tree], build_run(tree, slots, n), 0, n);
	while (queue.n > 0)
	{
		RunPart		part = queue.parts[queue.first];

		queue.first = (queue.first + 1) % RING_BATCH_SLOTS;
		queue.n--;
		if (*part.link == 0)
			*part.link = part.top;
		else if (is_above(*part.link, part.top))
			sink_part(tree, slots, &part, &queue);
		else
			raise_part(tree, slots, &part, &queue);
	}
	ring->counts[tree] += n;
}

/*
 * Insert a run of n slots, at most RING_BATCH_SLOTS, into BY_ID, READY or WAITING.  Slots
 * that have no others between them share the way to where they belong: expected
 * O(n log(m/n)) in a tree of m (Blelloch and Reid-Miller, "Fast set operations using
 * treaps", 1998).
 */
void
pgmq_tree_insert_run(Ring *ring, SlotTree tree, const uint32 *slots, int n)
{
	PGMQ_CRASHPOINT("tree-insert-run-begin");
	Assert(LWLockHeldByMeInMode(&ring->lock, LW_EXCLUSIVE));
	Assert(n > 0 && n <= RING_BATCH_SLOTS);

	/* Each with code of its own: this is most of what a rebuild does */
	if (tree == TREE_BY_ID)
		insert_run(ring, TREE_BY_ID, slots, n);
	else if (tree == TREE_READY)
		insert_run(ring, TREE_READY, slots, n);
	else if (tree == TREE_WAITING)
		insert_run(ring, TREE_WAITING, slots, n);
	else
		Assert(false);
	PGMQ_CRASHPOINT("tree-insert-run-end");
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
