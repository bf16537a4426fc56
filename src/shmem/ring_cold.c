/*
 * ring_cold.c
 *	  Messages that are in the table and have no slot, because the pool is full:
 *	  what is known of them, what to load next, and what makes room for it.
 *
 * Of each stretch of blocks a ring knows the lowest cold id that is visible, the
 * earliest visible_at of the others, and between which ids all of them lie.  A
 * load scans the one stretch where the next message must be, so its price does
 * not depend on the backlog; neither does that of looking for a message by id.
 * Messages that are gone, or that have a slot by now, may still be counted, so
 * the former two are lower bounds until the stretch is scanned again.
 *
 * The ranges of a ring are in a ColdMap, which is taken when its first message
 * becomes cold and given back when none is left.  They are as narrow as
 * RING_COLD_RANGES of them allow: when a block beyond the last comes, pairs are
 * joined and the width doubles.  There are fewer maps than rings; one that gets
 * none knows the bounds of the whole table only, and loads by scanning it.
 *
 * While a range is scanned its old bounds hold, so that nothing behind them is
 * handed out; what becomes cold in it meanwhile is noted both there and in
 * load_range, which replaces them when the scan has ended.
 *
 * Callers hold the ring's L4: exclusively unless they pass a const Ring.  Maps
 * are taken and given back with atomic operations.
 */
#include "common/compat.h"

#include "common/failpoint.h"
#include "shmem/ring_internal.h"
#include "utils/timestamp.h"

/* How many slots of an order tree are looked at for one to evict, from its end on. */
#define EVICT_LOOK 8

/* After so long room is looked for again for a group that has no slot. */
#define GROUPLESS_LOOK_MS 1000

static const ColdRange empty_range = {
	.low_id = PG_INT64_MAX,
	.next_at = DT_NOEND,
	.min_id = PG_INT64_MAX,
	.max_id = PG_INT64_MIN,
};

/* ---- ranges and maps ---- */

static inline bool
is_empty(const ColdRange *range)
{
	return range->min_id > range->max_id;
}

static void
add_to_range(ColdRange *range, int64 msg_id, TimestampTz visible_at, uint64 seq,
			 TimestampTz now)
{
	if (visible_at <= now)
		range->low_id = Min(range->low_id, msg_id);
	else
		range->next_at = Min(range->next_at, visible_at);
	range->min_id = Min(range->min_id, msg_id);
	range->max_id = Max(range->max_id, msg_id);
	range->seq = seq;
}

static void
join_range(ColdRange *range, const ColdRange *other)
{
	range->low_id = Min(range->low_id, other->low_id);
	range->next_at = Min(range->next_at, other->next_at);
	range->min_id = Min(range->min_id, other->min_id);
	range->max_id = Max(range->max_id, other->max_id);
	range->seq = Max(range->seq, other->seq);
}

static inline ColdMap *
map_of(const Ring *ring)
{
	return ring->cold_map < 0 ? NULL : &pgmq_shared->cold_maps[ring->cold_map];
}

/* Is the whole table being scanned, for want of a map, or to fill one? */
static inline bool
loads_all(const Ring *ring)
{
	return ring->load_first == 0 && ring->load_end == InvalidBlockNumber;
}

/* The map, if it has all that is cold. */
static inline const ColdMap *
full_map(const Ring *ring)
{
	return loads_all(ring) ? NULL : map_of(ring);
}

/* Take a map, empty and as narrow as can be, unless all are taken. */
static void
take_map(Ring *ring)
{
	for (int i = 0; i < pgmq_shared->n_cold_maps; i++)
	{
		ColdMap    *map = &pgmq_shared->cold_maps[i];
		uint32		is_taken = 0;

		if (!pg_atomic_compare_exchange_u32(&map->is_taken, &is_taken, 1))
			continue;
		map->shift = 0;
		for (int r = 0; r < RING_COLD_RANGES; r++)
			map->ranges[r] = empty_range;
		ring->cold_map = i;
		return;
	}
}

static void
give_map_back(Ring *ring)
{
	if (ring->cold_map >= 0)
		pg_atomic_write_u32(&map_of(ring)->is_taken, 0);
	ring->cold_map = -1;
}

/* Join pairs of ranges until the block is in one. */
static ColdRange *
range_with(ColdMap *map, BlockNumber block)
{
	while ((block >> map->shift) >= RING_COLD_RANGES)
	{
		for (int r = 0; r < RING_COLD_RANGES / 2; r++)
		{
			map->ranges[r] = map->ranges[2 * r];
			join_range(&map->ranges[r], &map->ranges[2 * r + 1]);
		}
		for (int r = RING_COLD_RANGES / 2; r < RING_COLD_RANGES; r++)
			map->ranges[r] = empty_range;
		map->shift++;
	}
	return &map->ranges[block >> map->shift];
}

/* Which blocks are in the range?  What comes behind the last is in it, too. */
static void
blocks_of(const ColdMap *map, int r, BlockNumber *first, BlockNumber *end)
{
	*first = (BlockNumber) r << map->shift;
	*end = r == RING_COLD_RANGES - 1 ? InvalidBlockNumber : *first + ((BlockNumber) 1 << map->shift);
}

/* Forget all cold messages: there are none, or a scan is to find them anew. */
void
pgmq_cold_reset(Ring *ring)
{
	PGMQ_CRASHPOINT("cold-reset-begin");
	give_map_back(ring);
	ring->has_cold = false;
	ring->cold_low_id = PG_INT64_MAX;
	ring->cold_next_at = DT_NOEND;
	ring->load_first = ring->load_end = 0;
	PGMQ_CRASHPOINT("cold-reset-end");
}

/* Note a message that is in the table but not in the ring. */
void
pgmq_cold_note(Ring *ring, int64 msg_id, BlockNumber block, TimestampTz visible_at,
			   TimestampTz now)
{
	PGMQ_CRASHPOINT("cold-note-begin");
	if (!ring->has_cold)
		take_map(ring);
	ring->has_cold = true;
	ring->cold_seq++;
	if (visible_at <= now)
		ring->cold_low_id = Min(ring->cold_low_id, msg_id);
	else
		ring->cold_next_at = Min(ring->cold_next_at, visible_at);
	if (map_of(ring) != NULL)
		add_to_range(range_with(map_of(ring), block), msg_id, visible_at, ring->cold_seq, now);
	if (block >= ring->load_first && block < ring->load_end)
		add_to_range(&ring->load_range, msg_id, visible_at, ring->cold_seq, now);
	PGMQ_CRASHPOINT("cold-note-end");
}

/*
 * Note a message that is in the ring, but not in its group, which has no slot.  Until it
 * is, nothing is read by group; what comes next otherwise does not depend on it.
 */
void
pgmq_cold_note_groupless(Ring *ring, uint32 slot, TimestampTz now)
{
	RingSlot   *s = ring_slot(slot);

	pgmq_cold_note(ring, s->msg_id, s->block,
				   TimestampTzPlusMilliseconds(now, GROUPLESS_LOOK_MS), now);
}

/* Was the message noted, if it has no slot?  (For checks.) */
bool
pgmq_cold_is_noted(const Ring *ring, int64 msg_id, BlockNumber block,
				   TimestampTz visible_at)
{
	const ColdMap *map = full_map(ring);
	const ColdRange *range;

	if (!ring->has_cold ||
		(ring->cold_low_id > msg_id && ring->cold_next_at > visible_at))
		return false;
	if (map == NULL)
		return true;
	if ((block >> map->shift) >= RING_COLD_RANGES)
		return false;
	range = &map->ranges[block >> map->shift];
	return range->min_id <= msg_id && range->max_id >= msg_id &&
		(range->low_id <= msg_id || range->next_at <= visible_at);
}

/* ---- what comes next ---- */

/* Does a cold message come before this one? */
bool
pgmq_cold_is_first(const Ring *ring, uint32 slot)
{
	return ring->has_cold && ring->cold_low_id < ring_slot(slot)->msg_id;
}

/*
 * Must cold messages be loaded before the ring can say which message comes next
 * behind (after_id, after_slot)?  True when one has matured, and when one comes
 * before all that can be claimed now.
 */
bool
pgmq_cold_is_due(const Ring *ring, int64 after_id, uint32 after_slot, TimestampTz now)
{
	uint32		next;

	if (!ring->has_cold)
		return false;
	if (ring->cold_next_at <= now)
		return true;
	if (ring->cold_low_id == PG_INT64_MAX)
		return false;
	do
	{
		next = pgmq_ring_next_ready(ring, after_id, after_slot);
		if (next == 0 || pgmq_cold_is_first(ring, next))
			return true;
		after_id = ring_slot(next)->msg_id;
		after_slot = next;
	} while (ring_slot(next)->lockers > 0);
	return false;
}

/* Where a message has matured, else where the lowest visible one is. */
static int
choose_range(const ColdMap *map, bool has_matured)
{
	int			best = 0;

	for (int r = 1; r < RING_COLD_RANGES; r++)
		if (has_matured ? map->ranges[r].next_at < map->ranges[best].next_at :
			map->ranges[r].low_id < map->ranges[best].low_id)
			best = r;
	return best;
}

/*
 * A scan for the messages that are due begins; it is to look at the blocks from
 * load_first to the one before load_end.
 */
void
pgmq_cold_load_begin(Ring *ring, TimestampTz now)
{
	const ColdMap *map = map_of(ring);

	PGMQ_CRASHPOINT("cold-load-begin");
	ring->load_range = empty_range;
	if (map != NULL)
		blocks_of(map, choose_range(map, ring->cold_next_at <= now),
				  &ring->load_first, &ring->load_end);
	else
	{
		ring->load_first = 0;
		ring->load_end = InvalidBlockNumber;
		take_map(ring);
	}
	PGMQ_CRASHPOINT("cold-load-begun");
}

/* The bounds of all cold messages, from those of the ranges. */
static void
sum_up(Ring *ring, const ColdMap *map)
{
	ColdRange	all = empty_range;

	for (int r = 0; r < RING_COLD_RANGES; r++)
		join_range(&all, &map->ranges[r]);
	ring->cold_low_id = all.low_id;
	ring->cold_next_at = all.next_at;
	ring->has_cold = !is_empty(&all);
}

/* What a scan of these blocks found replaces what was known of them. */
static void
replace_range(Ring *ring)
{
	ColdMap    *map = map_of(ring);
	BlockNumber first;
	BlockNumber end;

	if (map == NULL)
	{
		ring->cold_low_id = ring->load_range.low_id;
		ring->cold_next_at = ring->load_range.next_at;
		ring->has_cold = !is_empty(&ring->load_range);
		return;
	}
	if (!loads_all(ring))
	{
		blocks_of(map, ring->load_first >> map->shift, &first, &end);
		if (first == ring->load_first && end == ring->load_end)
			map->ranges[first >> map->shift] = ring->load_range;
	}
	sum_up(ring, map);
}

/*
 * The scan that began at `now` is over, or was given up; false if what was due is no
 * nearer.  Ranges that were joined meanwhile keep their bounds, and are scanned again.
 */
bool
pgmq_cold_load_end(Ring *ring, bool is_done, TimestampTz now)
{
	int64		low_id = ring->cold_low_id;
	bool		had_matured = ring->cold_next_at <= now;

	PGMQ_CRASHPOINT("cold-load-ending");
	if (is_done)
		replace_range(ring);
	else if (loads_all(ring))
		give_map_back(ring);
	ring->load_first = ring->load_end = 0;
	if (!ring->has_cold)
		pgmq_cold_reset(ring);
	PGMQ_CRASHPOINT("cold-load-end");
	return is_done && (had_matured || ring->cold_low_id > low_id);
}

/* ---- by id ---- */

/* Is one of these ids, which are in order, among the range's? */
static bool
holds_any(const ColdRange *range, const int64 *ids, int n)
{
	int			low = 0;
	int			end = n;

	while (low < end)
	{
		int			middle = low + (end - low) / 2;

		if (ids[middle] < range->min_id)
			low = middle + 1;
		else
			end = middle;
	}
	return low < n && ids[low] <= range->max_id;
}

/*
 * The first blocks from *first on where messages with these ids, in ascending
 * order, may be cold; false if there are none.  n is at least 1.
 */
bool
pgmq_cold_find(const Ring *ring, const int64 *ids, int n, BlockNumber *first,
			   BlockNumber *end)
{
	const ColdMap *map = full_map(ring);

	if (!ring->has_cold || *first == InvalidBlockNumber)
		return false;
	if (map == NULL)
	{
		*end = InvalidBlockNumber;
		return true;
	}
	for (uint32 r = *first >> map->shift; r < RING_COLD_RANGES; r++)
		if (holds_any(&map->ranges[r], ids, n))
		{
			blocks_of(map, r, first, end);
			return true;
		}
	return false;
}

/* May a message with this id have become cold since the ring's cold_seq was since_seq? */
bool
pgmq_cold_may_hold(const Ring *ring, int64 msg_id, uint64 since_seq)
{
	const ColdMap *map = full_map(ring);

	if (!ring->has_cold || ring->cold_seq <= since_seq)
		return false;
	if (map == NULL)
		return true;
	for (int r = 0; r < RING_COLD_RANGES; r++)
		if (map->ranges[r].seq > since_seq && map->ranges[r].min_id <= msg_id &&
			map->ranges[r].max_id >= msg_id)
			return true;
	return false;
}

/* ---- making room ---- */

static void
evict(Ring *ring, uint32 slot, TimestampTz now)
{
	RingSlot   *s = ring_slot(slot);

	PGMQ_CRASHPOINT("cold-evict-begin");
	pgmq_cold_note(ring, s->msg_id, s->block, s->visible_at, now);
	pgmq_ring_withdraw(ring, slot);
	PGMQ_CRASHPOINT("cold-evict-end");
}

/*
 * What a scan is about to bring in: this row, and those behind it up to the last that were
 * looked at with it.
 */
typedef struct Incoming
{
	const ScannedRow *row;
	const ScannedRow *last;
} Incoming;

/*
 * May this slot go?  Not one of the rows behind the incoming one: they were looked at
 * before, so what comes of them may be older than what the slot says, and would take its
 * place.
 */
static inline bool
may_evict(const RingSlot *s, SlotState state, const Incoming *incoming)
{
	ItemPointerData tid;

	if (s->state != state || s->lockers > 0)
		return false;
	if (incoming == NULL)
		return true;
	ItemPointerSet(&tid, s->block, s->offset);
	return ItemPointerCompare(&tid, unconstify(ItemPointerData *, &incoming->row->tid)) < 0 ||
		ItemPointerCompare(&tid, unconstify(ItemPointerData *, &incoming->last->tid)) > 0;
}

/*
 * Make the message cold that becomes visible last, later than `after`; of those
 * that were read already only if may_be_leased, for they are about to be deleted
 * by id.
 */
static bool
evict_waiting(Ring *ring, TimestampTz after, bool may_be_leased,
			  const Incoming *incoming, TimestampTz now)
{
	uint32		slot = pgmq_tree_last(ring, TREE_WAITING);

	for (int i = 0; i < EVICT_LOOK && slot != 0; i++)
	{
		RingSlot   *s = ring_slot(slot);

		if (s->visible_at <= Max(after, now))
			return false;
		if (may_evict(s, SLOT_WAITING, incoming) && (may_be_leased || s->read_ct == 0))
		{
			evict(ring, slot, now);
			return true;
		}
		slot = pgmq_tree_prev(ring, TREE_WAITING, s->visible_at, slot);
	}
	return false;
}

/* Make the highest ready message cold, if it lies above the given id. */
static bool
evict_last_ready(Ring *ring, int64 above_id, const Incoming *incoming, TimestampTz now)
{
	uint32		slot = pgmq_tree_last(ring, TREE_READY);

	for (int i = 0; i < EVICT_LOOK && slot != 0 && ring_slot(slot)->msg_id > above_id; i++)
	{
		if (may_evict(ring_slot(slot), SLOT_READY, incoming))
		{
			evict(ring, slot, now);
			return true;
		}
		slot = pgmq_tree_prev(ring, TREE_READY, ring_slot(slot)->msg_id, slot);
	}
	return false;
}

/*
 * Is little ready, beside what is leased?  Then leases make room: readers must get
 * on, and a load must be worth its scan, but most leases are to be found by id.
 */
static bool
is_little_ready(const Ring *ring)
{
	return ring->counts[TREE_READY] <
		Max(RING_BATCH_SLOTS, ring->counts[TREE_WAITING] / RING_LEASED_PER_READY);
}

/*
 * Make room for the message of a scanned row by making one cold that comes later; false if
 * there is none.  `last` is the last row that was looked at with it.
 */
bool
pgmq_cold_evict_for(Ring *ring, const ScannedRow *row, const ScannedRow *last,
					TimestampTz now)
{
	Incoming	incoming = {row, last};

	if (row->visible_at > now)
		return evict_waiting(ring, row->visible_at, false, &incoming, now);
	return evict_waiting(ring, now, false, &incoming, now) ||
		evict_last_ready(ring, row->msg_id, &incoming, now) ||
		(is_little_ready(ring) && evict_waiting(ring, now, true, &incoming, now));
}

/* The same for a message that somebody asks for by id: any other may go. */
bool
pgmq_cold_evict_any(Ring *ring, const ScannedRow *row, const ScannedRow *last,
					TimestampTz now)
{
	Incoming	incoming = {row, last};

	return evict_last_ready(ring, PG_INT64_MIN, &incoming, now) ||
		evict_waiting(ring, now, false, &incoming, now) ||
		evict_waiting(ring, now, true, &incoming, now);
}

/* Make room for a visible message that is sent, and comes next of the cold ones. */
bool
pgmq_cold_evict_delayed(Ring *ring, int64 msg_id, TimestampTz now)
{
	return ring->cold_low_id > msg_id &&
		evict_waiting(ring, now, false, NULL, now);
}
