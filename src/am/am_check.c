/*
 * am_check.c
 *	  pgmq.check_queue: does the ring say what the table says?
 *
 * Copies the ring, scans the table, and compares.  Both go on changing, and a
 * committed row is in no ring until its committer has run its callback; so a
 * disagreement is looked at again a number of times before it is reported.
 */
#include "common/compat.h"

#include "access/transam.h"
#include "am/am.h"
#include "common/clock.h"
#include "common/limits.h"
#include "storage/bufmgr.h"
#include "storage/procarray.h"
#include "utils/builtins.h"
#include "utils/hsearch.h"
#include "utils/timestamp.h"

typedef struct CheckEntry
{
	ItemPointerData tid;		/* key */
	SlotCopy	slot;
	bool		is_in_table;
} CheckEntry;

typedef struct CheckState
{
	Relation	rel;
	XactQueue  *queue;
	bool		has_cold;
	bool		keeps_groups;
	CheckSink	sink;
	void	   *sink_state;
} CheckState;

/*
 * What a slot says of its row's columns, against the row; NULL if they agree.
 * Where the pool has no slot for a group, its messages stay without.
 */
static const char *
compare_values(CheckState *state, const SlotCopy *slot, const Row *row)
{
	if (row->has_head && slot->visible_at != row->head.visible_at)
		return psprintf("visible_at is %s in the ring and %s in the table",
						pstrdup(timestamptz_to_str(slot->visible_at)),
						pstrdup(timestamptz_to_str(row->head.visible_at)));
	if (row->has_head && slot->read_ct != row->head.read_ct)
		return psprintf("read_ct is %d in the ring and %d in the table",
						slot->read_ct, row->head.read_ct);
	/* A full pool has no room for a group; its messages count as cold. */
	if (state->has_cold && slot->group_hash == 0)
		return NULL;
	if (state->keeps_groups && !slot->is_limbo_insert &&
		(slot->group_hash != 0 || !state->has_cold) &&
		slot->group_hash != pgmq_am_row_group(row->tuple, RelationGetDescr(state->rel)))
		return "message is in another group in the ring than in the table";
	return NULL;
}

/* Does the ring know that the message of a row has no slot? */
static bool
is_known_as_cold(CheckState *state, int64 msg_id, const ItemPointerData *tid, const Row *row)
{
	return !row->has_head ? state->has_cold :
		pgmq_xact_is_noted_cold(state->queue, msg_id, tid, row->head.visible_at);
}

/* Compare one row with one slot as they are now; NULL if they agree. */
static const char *
compare_once(CheckState *state, int64 msg_id, const ItemPointerData *tid)
{
	SlotCopy	slot;
	Row			row;
	bool		in_ring = pgmq_xact_copy_slot(state->queue, msg_id, tid, &slot);
	RowState	row_state = pgmq_am_look_latest(state->rel, tid, msg_id, state->keeps_groups, &row);
	bool		in_table = row_state == ROW_LIVE || row_state == ROW_LOCKED;

	if (!in_ring)
		return in_table && !is_known_as_cold(state, msg_id, tid, &row) ?
			"message is in the table but not in the ring" : NULL;
	if (slot.is_undo)
		return NULL;
	if (!in_table)
		return TransactionIdIsValid(slot.xid) || slot.is_deleting ? NULL : "message is in the ring but not in the table";
	return compare_values(state, &slot, &row);
}

/* Report a disagreement that stands for a while. */
static void
check_message(CheckState *state, int64 msg_id, const ItemPointerData *tid)
{
	const char *problem = compare_once(state, msg_id, tid);

	for (int i = 0; problem != NULL && i < CHECK_RETRIES; i++)
	{
		CHECK_FOR_INTERRUPTS();
		pg_usleep(CHECK_RETRY_MS * 1000L);
		problem = compare_once(state, msg_id, tid);
	}
	if (problem != NULL)
		state->sink(state->sink_state, msg_id, tid, problem);
}

static HTAB *
copy_ring(CheckState *state)
{
	HASHCTL		ctl;
	HTAB	   *table;
	SlotCopy   *copies;
	int			n = pgmq_xact_copy_slots(state->queue, &copies, &state->has_cold);

	ctl.keysize = sizeof(ItemPointerData);
	ctl.entrysize = sizeof(CheckEntry);
	ctl.hcxt = CurrentMemoryContext;
	table = hash_create("pgmq check", Max(n, 16), &ctl, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
	for (int i = 0; i < n; i++)
	{
		bool		found;
		CheckEntry *entry = hash_search(table, &copies[i].tid, HASH_ENTER, &found);

		if (found)
			state->sink(state->sink_state, copies[i].msg_id, &copies[i].tid,
						"message is in the ring twice");
		entry->slot = copies[i];
		entry->is_in_table = false;
	}
	pfree(copies);
	return table;
}

/* One stored row against the copy of the ring. */
static void
check_row(CheckState *state, HTAB *ring, HeapTuple tuple, TransactionId oldest_xmin,
		  Buffer buffer, int64 *msg_id, bool *must_check)
{
	CheckEntry *entry;
	Lease		values;
	bool		has_msg_id;

	*must_check = false;
	pgmq_am_row_values(tuple, RelationGetDescr(state->rel), msg_id, &values, &has_msg_id);
	if (!has_msg_id || HeapTupleSatisfiesVacuum(tuple, oldest_xmin, buffer) != HEAPTUPLE_LIVE)
		return;
	entry = hash_search(ring, &tuple->t_self, HASH_FIND, NULL);
	if (entry != NULL && entry->slot.msg_id == *msg_id)
		entry->is_in_table = true;
	*must_check = state->keeps_groups || entry == NULL || entry->slot.msg_id != *msg_id ||
		entry->slot.visible_at != values.visible_at ||
		entry->slot.read_ct != values.read_ct;
}

static void
check_page(CheckState *state, HTAB *ring, BlockNumber block, TransactionId oldest_xmin)
{
	Buffer		buffer = ReadBuffer(state->rel, block);
	ItemPointerData tids[MaxHeapTuplesPerPage];
	int64		ids[MaxHeapTuplesPerPage];
	int			n = 0;
	Page		page;

	LockBuffer(buffer, BUFFER_LOCK_SHARE);
	page = BufferGetPage(buffer);
	for (OffsetNumber offset = FirstOffsetNumber;
		 offset <= PageGetMaxOffsetNumber(page); offset++)
	{
		HeapTupleData tuple;
		bool		must_check;

		ItemPointerSet(&tids[n], block, offset);
		if (!pgmq_am_find_on_page(state->rel, buffer, &tids[n], &tuple))
			continue;
		check_row(state, ring, &tuple, oldest_xmin, buffer, &ids[n], &must_check);
		n += must_check;
	}
	UnlockReleaseBuffer(buffer);
	for (int i = 0; i < n; i++)
		check_message(state, ids[i], &tids[i]);
}

/* Every held message must be held by a transaction that runs (R5). */
static void
check_owners(CheckState *state, HTAB *ring)
{
	HASH_SEQ_STATUS status;
	CheckEntry *entry;

	hash_seq_init(&status, ring);
	while ((entry = hash_seq_search(&status)) != NULL)
		for (int i = 0; entry->slot.is_held &&
			 pgmq_xact_is_orphan(state->queue, entry->slot.msg_id, &entry->tid); i++)
		{
			if (i == CHECK_RETRIES)
			{
				state->sink(state->sink_state, entry->slot.msg_id, &entry->tid,
							"message is held by a transaction that has ended");
				break;
			}
			CHECK_FOR_INTERRUPTS();
			pg_usleep(CHECK_RETRY_MS * 1000L);
		}
}

/*
 * Report every disagreement between the ring and the table of a hot queue to
 * the sink.  The caller holds AccessShareLock.  Builds the ring if it must.
 */
void
pgmq_am_check(Relation rel, CheckSink sink, void *sink_state)
{
	CheckState	state = {rel, pgmq_xact_queue(rel), false, false, sink, sink_state};
	HASH_SEQ_STATUS status;
	CheckEntry *entry;
	HTAB	   *ring;
	TransactionId oldest_xmin;

	if (!pgmq_xact_queue_is_usable(state.queue) ||
		!pgmq_am_ready_ring(rel, state.queue, NULL, pgmq_clock_now()))
		return;
	pgmq_am_settle_all(rel, state.queue);
	state.keeps_groups = pgmq_xact_keeps_groups(state.queue);
	ring = copy_ring(&state);
	oldest_xmin = GetOldestNonRemovableTransactionId(rel);
	for (BlockNumber block = 0; block < RelationGetNumberOfBlocks(rel); block++)
	{
		CHECK_FOR_INTERRUPTS();
		check_page(&state, ring, block, oldest_xmin);
	}
	hash_seq_init(&status, ring);
	while ((entry = hash_seq_search(&status)) != NULL)
		if (!entry->is_in_table)
			check_message(&state, entry->slot.msg_id, &entry->slot.tid);
	check_owners(&state, ring);
	hash_destroy(ring);
}
