/*
 * xact_notify.c
 *	  Telling listeners that messages were sent.
 *
 * A send only notes the queue.  Whether its listeners are notified, or were so
 * recently that the throttle forbids it, is decided before commit, as late as
 * an error is still allowed: so nothing is held on behalf of the throttle while
 * a transaction runs, and one that is rolled back has neither notified nor
 * taken another's turn.
 *
 * The row in pgmq.notify_insert_throttle decides.  A committed row that says
 * "not yet" means that listeners were notified by a transaction that committed.
 * One that says "it is time" makes its reader the one who notifies, unless
 * another committing transaction is about to: for that one it waits a moment
 * (throttle.c), because a transaction that has notified may still fail, and
 * then somebody else has to.  Where the wait does not help, both notify: twice
 * is a nuisance, never is a bug.
 *
 * Without shared memory there are no turns: transactions that commit at the
 * same moment all notify.
 */
#include "common/compat.h"

#include "access/xact.h"
#include "commands/async.h"
#include "common/failpoint.h"
#include "common/hashfn.h"
#include "common/limits.h"
#include "utils/memutils.h"
#include "utils/timestamp.h"
#include "xact/xact_internal.h"

static const XactStorage *storage;

void
pgmq_xact_notify_init(const XactStorage *xact_storage)
{
	storage = xact_storage;
}

/* ---- the list ---- */

static XactNotify *
find_notify(const char *queue_name, uint64 name_hash)
{
	for (int i = pgmq_xact.n_notifies - 1; i >= 0; i--)
		if (pgmq_xact.notifies[i].name_hash == name_hash &&
			strcmp(pgmq_xact.notifies[i].queue_name, queue_name) == 0)
			return &pgmq_xact.notifies[i];
	return NULL;
}

static void
make_room(void)
{
	if (pgmq_xact.n_notifies < pgmq_xact.max_notifies)
		return;
	if (pgmq_xact.notifies == NULL)
	{
		pgmq_xact.max_notifies = 16;
		pgmq_xact.notifies = MemoryContextAlloc(TopTransactionContext,
												pgmq_xact.max_notifies * sizeof(XactNotify));
		return;
	}
	pgmq_xact.max_notifies *= 2;
	pgmq_xact.notifies = repalloc_huge(pgmq_xact.notifies,
									   pgmq_xact.max_notifies * sizeof(XactNotify));
}

static XactNotify *
add_notify(Oid relid, const char *queue_name, uint64 name_hash)
{
	XactNotify *notify;

	make_room();
	notify = &pgmq_xact.notifies[pgmq_xact.n_notifies];
	notify->queue_name = MemoryContextStrdup(TopTransactionContext, queue_name);
	notify->name_hash = name_hash;
	notify->relid = relid;
	notify->nest_level = GetCurrentTransactionNestLevel();
	notify->turn = -1;
	pgmq_xact.n_notifies++;
	return notify;
}

static void
give_turn_back(XactNotify *notify)
{
	if (notify->turn < 0)
		return;
	pgmq_throttle_give_back(notify->turn);
	notify->turn = -1;
	pgmq_xact.n_turns--;
}

/* RELEASE: what was noted at this level belongs to the one above. */
void
pgmq_xact_merge_notifies(int nest_level)
{
	for (int i = pgmq_xact.n_notifies - 1;
		 i >= 0 && pgmq_xact.notifies[i].nest_level >= nest_level; i--)
		pgmq_xact.notifies[i].nest_level = nest_level - 1;
}

/* ROLLBACK TO: nothing was sent.  Levels never decrease along the list. */
void
pgmq_xact_undo_notifies(int nest_level)
{
	while (pgmq_xact.n_notifies > 0 &&
		   pgmq_xact.notifies[pgmq_xact.n_notifies - 1].nest_level >= nest_level)
		give_turn_back(&pgmq_xact.notifies[--pgmq_xact.n_notifies]);
}

/* ---- before commit ---- */

static int64
interval_us(const ThrottleRow *row)
{
	return (int64) row->interval_ms * 1000;
}

/* As the SQL comparison says it: never after infinity, always after -infinity. */
static bool
is_time(const ThrottleRow *row, TimestampTz now)
{
	if (row->interval_ms <= 0 || row->version.notified_at == DT_NOBEGIN)
		return true;
	return row->version.notified_at != DT_NOEND &&
		now - row->version.notified_at >= interval_us(row);
}

/* Ask for the turn; true if there is nothing to wait for any more. */
static bool
take_turn(XactNotify *notify, const ThrottleRow *row, TimestampTz now,
		  TimestampTz deadline, TurnResult *result)
{
	ThrottleKey key = {notify->name_hash, MyDatabaseId};

	/* Who has a turn does not wait for another's: no deadlock. */
	*result = pgmq_throttle_take(&key, &row->version, interval_us(row), now,
								 pgmq_xact.n_turns == 0 && now < deadline,
								 &notify->turn);
	if (*result == TURN_TAKEN)
		pgmq_xact.n_turns++;
	return *result != TURN_WAITED;
}

/* Shall we notify?  Fills *row, and takes the turn where there is one. */
static bool
decide(XactNotify *notify, ThrottleRow *row)
{
	TimestampTz now = GetCurrentTimestamp();
	TimestampTz deadline = now + THROTTLE_MAX_WAIT_MS * 1000;
	TurnResult	result = TURN_NONE;

	do
	{
		if (result == TURN_WAITED)
			now = GetCurrentTimestamp();
		if (!storage->read_throttle(notify->relid, notify->queue_name, row) ||
			!is_time(row, now))
			return false;
		if (row->interval_ms <= 0)
			return true;
	} while (!take_turn(notify, row, now, deadline, &result));
	if (result == TURN_OVER)
		return false;

	/* What we know of the row is from before we had the turn. */
	if (result == TURN_TAKEN &&
		(!storage->read_throttle(notify->relid, notify->queue_name, row) ||
		 !is_time(row, now)))
	{
		give_turn_back(notify);
		return false;
	}
	return true;
}

static void
notify_listeners(XactNotify *notify)
{
	ThrottleRow row;

	if (!decide(notify, &row))
		return;
	notify->notified_at = GetCurrentTimestamp();
	storage->stamp_throttle(notify->relid, &row, notify->notified_at);
	notify->version = row.version;
	pgmq_xact_send_notify(notify->queue_name);
}

/* Decide for all queues noted; may raise errors. */
void
pgmq_xact_notify_before_commit(void)
{
	if (pgmq_xact.n_notifies == 0)
		return;
	CommandCounterIncrement();	/* our own changes of the rows count */
	for (int i = 0; i < pgmq_xact.n_notifies; i++)
		notify_listeners(&pgmq_xact.notifies[i]);
}

/* ---- the end ---- */

/* Memory only: runs at COMMIT and ABORT. */
void
pgmq_xact_end_turns(bool is_commit)
{
	for (int i = 0; i < pgmq_xact.n_notifies && pgmq_xact.n_turns > 0; i++)
	{
		XactNotify *notify = &pgmq_xact.notifies[i];

		if (notify->turn < 0)
			continue;
		if (is_commit)
			pgmq_throttle_end(notify->turn, &notify->version, notify->notified_at);
		else
			pgmq_throttle_give_back(notify->turn);
		notify->turn = -1;
		pgmq_xact.n_turns--;
	}
}

/* ---- what the API calls ---- */

/*
 * A message was sent to a queue whose row in the throttle table, relid, is
 * under this name.  The caller holds RowExclusiveLock on that table, which stays
 * until the transaction ends, and has checked the sender's rights on it.
 */
void
pgmq_xact_note_notify(Oid relid, const char *queue_name)
{
	uint64		name_hash = hash_bytes_extended((const unsigned char *) queue_name,
												strlen(queue_name), 0);
	XactNotify *notify;

	if (find_notify(queue_name, name_hash) != NULL)
		return;
	notify = add_notify(relid, queue_name, name_hash);
	if (pgmq_xact.is_closed)
	{
		/* Sent by somebody's PRE_COMMIT callback, after ours. */
		CommandCounterIncrement();
		notify_listeners(notify);
	}
}

/* Have the listeners of a queue notified when this transaction commits. */
void
pgmq_xact_send_notify(const char *queue_name)
{
	char	   *channel = psprintf("pgmq.q_%s.INSERT", queue_name);

	PGMQ_FAILPOINT("notify-begin");
	Async_Notify(channel, NULL);
	PGMQ_FAILPOINT("notify-end");
	pfree(channel);
}
