/*
 * check.c
 *	  The invariants of src/shmem/README.md, looked at slot by slot after every step.
 *
 * First the structure, without the model: trees are ordered, count what they hold, and
 * hold what its state says; every slot of the pool is in one place.  Then R3 to R5
 * against the model's rows.
 */
#include "model.h"

#include "shmem/ring_internal.h"

#define MAX_POOL 1100

static uint8 met[MAX_POOL];		/* times a slot was met in BY_ID or GROUPS */

static uint32
priority(uint32 slot)
{
	return murmurhash32(slot);
}

/* ---- trees ---- */

typedef struct Walk
{
	SlotTree	tree;
	uint32		n;
	bool		has_last;
	int64		last_key;
	uint32		last_slot;
	uint32		group;
} Walk;

static SlotLinks *
links_of(SlotTree tree, uint32 slot)
{
	if (tree == TREE_BY_ID || tree == TREE_GROUPS)
		return &ring_slot(slot)->by_id;
	return tree == TREE_MEMBERS ? &ring_slot(slot)->by_group : &ring_slot(slot)->by_order;
}

static int64
key_of(SlotTree tree, uint32 slot)
{
	if (tree == TREE_WAITING || tree == TREE_HEADS)
		return ring_slot(slot)->visible_at;
	return tree == TREE_LIMBO ? ring_slot(slot)->u.o.owner : ring_slot(slot)->msg_id;
}

static bool
state_fits(const Walk *walk, const RingSlot *s, uint32 slot)
{
	bool		is_held = s->state == SLOT_CLAIMED || s->state == SLOT_DELETING;

	switch (walk->tree)
	{
		case TREE_READY:
			return s->state == SLOT_READY && s->tree == TREE_READY;
		case TREE_WAITING:
			return (s->state == SLOT_WAITING || is_held) && s->tree == TREE_WAITING;
		case TREE_LIMBO:
			return s->state == SLOT_LIMBO && s->tree == TREE_LIMBO;
		case TREE_HELD:
			return is_held && s->tree == TREE_HELD;
		case TREE_UNDO:
			return s->state == SLOT_UNDO && s->tree == TREE_UNDO;
		case TREE_HEADS:
			return s->state == SLOT_GROUP && s->tree == TREE_HEADS;
		case TREE_GROUPS:
			return s->state == SLOT_GROUP;
		case TREE_MEMBERS:
			return s->group == walk->group;
		default:
			return (is_held && (s->tree == TREE_HELD || s->tree == TREE_WAITING)) || s->tree == (s->state == SLOT_READY ? TREE_READY :
										  s->state == SLOT_WAITING ? TREE_WAITING :
										  s->state == SLOT_LIMBO ? TREE_LIMBO : TREE_UNDO);
	}
}

static void
walk_tree(Walk *walk, uint32 slot, uint32 above)
{
	int64		key;

	if (slot == 0)
		return;
	if (slot > pgmq_pool_size() || walk->n > pgmq_pool_size())
		fail("tree %d does not end", walk->tree);
	if (above != 0 && priority(slot) > priority(above))
		fail("tree %d is not a heap by priority", walk->tree);
	walk_tree(walk, links_of(walk->tree, slot)->left, slot);
	key = key_of(walk->tree, slot);
	if (walk->has_last && (walk->last_key > key || (walk->last_key == key && walk->last_slot >= slot)))
		fail("tree %d is not in order", walk->tree);
	if (!state_fits(walk, ring_slot(slot), slot))
		fail("slot of message " INT64_FORMAT " in state %d and tree %d is in tree %d",
			 ring_slot(slot)->msg_id, ring_slot(slot)->state, ring_slot(slot)->tree, walk->tree);
	if (walk->tree == TREE_BY_ID || walk->tree == TREE_GROUPS)
		met[slot]++;
	walk->has_last = true;
	walk->last_key = key;
	walk->last_slot = slot;
	walk->n++;
	walk_tree(walk, links_of(walk->tree, slot)->right, slot);
}

static void
check_group(const Ring *ring, uint32 group)
{
	const RingSlot *g = ring_slot(group);
	Walk		walk = {.tree = TREE_MEMBERS,.group = group};
	uint32		first = pgmq_tree_first_member(group);
	bool		is_ready = first != 0 && ring_slot(first)->state == SLOT_READY;

	walk_tree(&walk, g->by_group.left, 0);
	if (walk.n == 0 || walk.n != g->by_group.right)
		fail("a group has %u members and counts %u", walk.n, g->by_group.right);
	if (is_ready != (g->tree == TREE_HEADS))
		fail("a group's first message is %sready, the group is %soffered",
			 is_ready ? "" : "not ", g->tree == TREE_HEADS ? "" : "not ");
	if (is_ready && g->visible_at != ring_slot(first)->msg_id)
		fail("a group is offered under the wrong message");
}

/* Every slot with a state is in that state's tree, once in a ring. */
static void
check_structure(const Ring *ring)
{
	uint32		n_messages;
	uint32		n_in_state[SLOT_GROUP + 1] = {0};
	uint32		n_limbo_inserts = 0;
	uint32		n_doubtful = 0;
	uint32		slot;

	for (SlotTree tree = TREE_READY; tree < N_SLOT_TREES; tree++)
	{
		Walk		walk = {.tree = tree};

		walk_tree(&walk, ring->roots[tree], 0);
		if (walk.n != ring->counts[tree])
			fail("tree %d holds %u slots and counts %u", tree, walk.n, ring->counts[tree]);
	}
	slot = pgmq_tree_first(ring, TREE_BY_ID);
	for (n_messages = 0; slot != 0; n_messages++)
	{
		n_in_state[ring_slot(slot)->state]++;
		n_limbo_inserts += ring_slot(slot)->state == SLOT_LIMBO && ring_slot(slot)->limbo_insert;
		n_doubtful += ring_slot(slot)->is_doubtful;
		slot = pgmq_tree_next(ring, TREE_BY_ID, ring_slot(slot)->msg_id, slot);
	}
	if (n_messages != ring->counts[TREE_BY_ID] || n_in_state[SLOT_FREE] + n_in_state[SLOT_GROUP] > 0 ||
		n_in_state[SLOT_READY] != ring->counts[TREE_READY] ||
		n_in_state[SLOT_LIMBO] != ring->counts[TREE_LIMBO] ||
		n_in_state[SLOT_UNDO] != ring->counts[TREE_UNDO])
		fail("states and trees do not add up");
	if (n_doubtful != ring->n_doubtful)
		fail("%u doubtful slots are counted as %u", n_doubtful, ring->n_doubtful);
	if (n_limbo_inserts != ring->n_limbo_inserts ||
		n_in_state[SLOT_UNDO] != pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &ring->n_undo)))
		fail("%u inserts in limbo are counted as %u, %u UNDO as %u", n_limbo_inserts,
			 ring->n_limbo_inserts, n_in_state[SLOT_UNDO],
			 pg_atomic_read_u32(unconstify(pg_atomic_uint32 *, &ring->n_undo)));
	for (slot = pgmq_tree_first(ring, TREE_GROUPS); slot != 0;
		 slot = pgmq_tree_next(ring, TREE_GROUPS, ring_slot(slot)->msg_id, slot))
		check_group(ring, slot);
}

/* ---- the pool ---- */

static uint32
count_chain(uint32 slot)
{
	uint32		n = 0;

	for (; slot != 0; slot = ring_slot(slot)->by_id.left)
		if (met[slot]++ > 0 || ++n > pgmq_pool_size())
			fail("slot %u is free and in use", slot);
	return n;
}

/* Each slot is in a ring, reserved by a session, or free. */
static void
check_pool(void)
{
	uint32		n_free = count_chain(pgmq_shared->free_head);

	n_free += pgmq_pool_size() - (pgmq_shared->n_fresh - 1);
	if (n_free != pgmq_shared->n_free)
		fail("%u free slots are counted as %u", n_free, pgmq_shared->n_free);
	for (int i = 0; i < SIM_SESSIONS; i++)
		(void) count_chain(i == sim_number ? pgmq_xact.reserved : sim->sessions[i].xact.reserved);
	for (uint32 slot = 1; slot < pgmq_shared->n_fresh; slot++)
		if (met[slot] != 1)
			fail("slot %u is in %d places", slot, met[slot]);
}

/* ---- against the model ---- */

static bool
is_looking_at(int session, const XactQueue *list, int64 msg_id)
{
	SimSession *s = &sim->sessions[session];
	XactMessage *messages = session == sim_number ? pgmq_xact.messages : s->xact.messages;

	for (int i = 0; s->step == STEP_LOOK && i < s->n_looking; i++)
		if (messages[s->looking[i]].msg_id == msg_id)
			return true;
	return false;
}

/* R5, and what else a held or undecided slot says. */
static void
check_held(const SimQueue *queue, const RingSlot *s, const SimRow *row)
{
	SimPhase	phase = s->state == SLOT_CLAIMED || s->state == SLOT_DELETING ?
		sim->sessions[s->u.o.owner].phase : PHASE_IDLE;

	switch (s->state)
	{
		case SLOT_CLAIMED:
			if (phase == PHASE_IDLE)
				fail("message " INT64_FORMAT " is claimed by an idle session", s->msg_id);
			/* A pop that is taken back is a claim again for a moment */
			if (row != NULL && row->holder != (int) s->u.o.owner &&
				!sim->sessions[s->u.o.owner].is_letting_go &&
				!sim->sessions[s->u.o.owner].is_paused &&
				!is_looking_at(s->u.o.owner, NULL, s->msg_id))
				fail("session %u claims, and has no lease of, %s", s->u.o.owner, describe_row(queue, row));
			break;
		case SLOT_DELETING:
			if (phase == PHASE_IDLE)
				fail("message " INT64_FORMAT " is being deleted by an idle session", s->msg_id);
			/* Undone, and not told yet: another may delete it, and rebuild the ring */
			if (phase != PHASE_ABORTED && phase != PHASE_SUBABORTED &&
				(row == NULL || row->xmax == InvalidTransactionId ||
				 xid_session(row->xmax) != (int) s->u.o.owner))
				fail("message " INT64_FORMAT " is being deleted by session %u and is not",
					 s->msg_id, s->u.o.owner);
			break;
		case SLOT_UNDO:
			/* Or whoever restores the page has just done so */
			if ((row == NULL || !row->is_failing) && s->lockers == 0)
				fail("message " INT64_FORMAT " is UNDO without a failed lease", s->msg_id);
			break;
		default:
			break;
	}
}

/* A READY or WAITING slot says what its row says. */
static void
check_hint(const SimQueue *queue, const Ring *ring, const RingSlot *s, const SimRow *row)
{
	const Lease *lease;

	if (s->state != SLOT_READY && s->state != SLOT_WAITING)
		return;
	if (s->state == SLOT_READY && s->visible_at > sim_now())
		fail("message " INT64_FORMAT " is READY before its time", s->msg_id);
	if (ring->phase != RING_COMPLETE || ring->must_discard)
		return;
	if (row == NULL || !is_live_to_all(row))
	{
		if (row != NULL && phase_of(row->xmax) == PHASE_COMMITTED)
			return;				/* its callback will tell */
		fail("in the ring and not in the table is message " INT64_FORMAT ", %s", s->msg_id,
			 row == NULL ? "of a row that is no more" : describe_row(queue, row));
	}
	lease = true_lease(row);
	/* Who sent it himself needs no slot for a lease; a scan may come before his callback */
	if (row->holder != NOBODY && phase_of(row->xmin) != PHASE_COMMITTED && who_lets_go(row) == NOBODY)
		fail("message " INT64_FORMAT " of session %d is in state %d", s->msg_id, row->holder, s->state);
	if (s->visible_at != lease->visible_at || s->read_ct != lease->read_ct)
		fail("message " INT64_FORMAT " is visible at " INT64_FORMAT " in the ring, " INT64_FORMAT " in the table",
			 s->msg_id, s->visible_at, lease->visible_at);
	if (ring->is_grouped && !ring->must_rescan && !ring->has_cold &&
		(s->group == 0 || pgmq_group_hash(s->group) != row->group_hash))
		fail("in the wrong group (" UINT64_FORMAT ", not " UINT64_FORMAT ") is message " INT64_FORMAT ", %s", s->group ? pgmq_group_hash(s->group) : 0, row->group_hash, s->msg_id, describe_row(queue, row));
}

/* R3, and that no (msg_id, TID) is there twice. */
static void
check_rows(const SimQueue *queue, const Ring *ring)
{
	for (int i = 0; i < queue->table->n_rows; i++)
	{
		const SimRow *row = &queue->table->rows[i];
		ItemPointerData tid;
		uint32		slot;

		row_tid(queue->table, row, &tid);
		if (!row->is_used)
			continue;
		slot = pgmq_ring_lookup(ring, row->msg_id, &tid);
		if (slot == 0)
		{
			if (ring->phase == RING_COMPLETE && is_live_to_all(row) &&
				phase_of(row->xmin) != PHASE_COMMITTED && 
				!pgmq_cold_is_noted(ring, row->msg_id, ItemPointerGetBlockNumber(&tid), true_lease(row)->visible_at))
				fail("message " INT64_FORMAT " at row %d is neither in the ring nor known as cold", row->msg_id, i);
			continue;
		}
		for (uint32 next = slot; (next = pgmq_tree_next(ring, TREE_BY_ID, row->msg_id, next)) != 0 &&
			 ring_slot(next)->msg_id == row->msg_id;)
			if (ring_slot(next)->block == ring_slot(slot)->block &&
				ring_slot(next)->offset == ring_slot(slot)->offset)
				fail("message " INT64_FORMAT " at row %d is in the ring twice", row->msg_id, i);
	}
}

static void
check_queue(const SimQueue *queue, const Ring *ring)
{
	uint32		slot = pgmq_tree_first(ring, TREE_BY_ID);

	for (; slot != 0; slot = pgmq_tree_next(ring, TREE_BY_ID, ring_slot(slot)->msg_id, slot))
	{
		const RingSlot *s = ring_slot(slot);
		ItemPointerData tid;
		SimRow	   *row;

		ItemPointerSet(&tid, s->block, s->offset);
		row = row_at(queue->table, &tid, s->msg_id);
		check_hint(queue, ring, s, row);
		check_held(queue, s, row);
		if (s->msg_id > (int64) pg_atomic_read_u64(unconstify(pg_atomic_uint64 *, &ring->high_id)))
			fail("message " INT64_FORMAT " is above the highest", s->msg_id);
	}
	check_rows(queue, ring);
}

/* The driver's last word on every step. */
void
check_everything(void)
{
	memset(met, 0, sizeof(met));
	for (int i = 0; i < pgmq_ring_limit(); i++)
		if (pgmq_ring_by_index(i)->in_use)
			check_structure(pgmq_ring_by_index(i));
	check_pool();
	for (int q = 0; q < sim->n_queues; q++)
	{
		Ring	   *ring = pgmq_ring_find(&sim->queues[q].table->locator);

		if (ring != NULL)
			check_queue(&sim->queues[q], ring);
	}
	check_sleepers();
}
