/*
 * model.c
 *	  Tables, transactions and leases as plain arrays.
 */
#include "model.h"

#include <stdarg.h>


Sim		   *sim = NULL;

/* ---- randomness and trace ---- */

/* splitmix64 (Steele, Lea, Flood 2014): the same numbers on every platform. */
uint64
random_bits(void)
{
	uint64		z = (sim->random += UINT64CONST(0x9E3779B97F4A7C15));

	z = (z ^ (z >> 30)) * UINT64CONST(0xBF58476D1CE4E5B9);
	z = (z ^ (z >> 27)) * UINT64CONST(0x94D049BB133111EB);
	return z ^ (z >> 31);
}

int
random_below(int n)
{
	return (int) (random_bits() % (uint64) n);
}

bool
random_percent(int percent)
{
	return random_below(100) < percent;
}

#define TRACE_LINES 300

static char trace_lines[TRACE_LINES][200];
static uint64 n_traced = 0;

void
trace(const char *format,...)
{
	char	   *line = trace_lines[n_traced++ % TRACE_LINES];
	int			n = snprintf(line, sizeof(trace_lines[0]), "s%d ", sim_number);
	va_list		args;

	va_start(args, format);
	vsnprintf(line + n, sizeof(trace_lines[0]) - n, format, args);
	va_end(args);
}

void
fail(const char *format,...)
{
	char		what[400];
	StringInfoData lines;
	va_list		args;

	va_start(args, format);
	vsnprintf(what, sizeof(what), format, args);
	va_end(args);
	initStringInfo(&lines);
	for (uint64 i = n_traced > TRACE_LINES ? n_traced - TRACE_LINES : 0; i < n_traced; i++)
		appendStringInfo(&lines, "%s\n", trace_lines[i % TRACE_LINES]);
	LWLockReleaseAll();
	ereport(ERROR,
			(errmsg("ring and model differ: %s", what),
			 errdetail("Last steps:\n%s", lines.data)));
}

/* ---- sessions and transactions ---- */

void
switch_to(int session)
{
	me()->xact = pgmq_xact;
	sim_number = session;
	pgmq_xact = me()->xact;
	sim_context = me()->context;
}

/*
 * A process is held up where PGMQ_FAILPOINT or PGMQ_WAITPOINT stands, and others run
 * meanwhile, one whole operation after the other; they may be held up themselves.
 */
void
sim_pause(void)
{
	int			session = sim_number;

	if (!me()->may_pause || sim->n_paused == SIM_MAX_PAUSED || !random_percent(sim->pause_percent))
		return;
	trace("is held up");
	me()->is_paused = true;
	sim->n_paused++;
	sim->n_pauses++;
	for (int n = 1 + random_below(5); n > 0; n--)
	{
		one_operation();
		check_everything();
	}
	switch_to(session);
	sim->n_paused--;
	me()->is_paused = false;
	trace("goes on");
}

SimXidStatus
xid_status(TransactionId xid)
{
	while (sim->xids[xid].status == XID_SUBCOMMITTED)
		xid = sim->xids[xid].parent;
	return sim->xids[xid].status;
}

bool
xid_is_running(TransactionId xid)
{
	return xid != InvalidTransactionId && xid_status(xid) == XID_RUNNING;
}

/* Whose transaction it is; NOBODY if it is prepared. */
int
xid_session(TransactionId xid)
{
	while (sim->xids[xid].parent != InvalidTransactionId)
		xid = sim->xids[xid].parent;
	return sim->xids[xid].session;
}

/* Ended, its callback included */
bool
xid_is_over(TransactionId xid)
{
	while (sim->xids[xid].status == XID_SUBCOMMITTED)
		xid = sim->xids[xid].parent;
	return sim->xids[xid].status != XID_RUNNING && !sim->xids[xid].is_locked;
}

bool
is_committed(TransactionId xid)
{
	return xid != InvalidTransactionId && xid_status(xid) == XID_COMMITTED;
}

TransactionId
current_xid(void)
{
	return me()->xids[me()->nest_level];
}

TransactionId
new_xid(TransactionId parent)
{
	TransactionId xid = ++sim->last_xid;

	Assert(xid < SIM_MAX_XIDS);
	sim->xids[xid] = (SimXid) {XID_RUNNING, parent, sim_number, true};
	return xid;
}

/* ---- rows ---- */

SimTable *
new_table(int queue_number)
{
	SimTable   *table = MemoryContextAllocZero(sim_shared_context, sizeof(SimTable));

	Assert(sim->n_tables < SIM_MAX_TABLES);
	LOCATOR_SPC(table->locator) = 1;
	LOCATOR_DB(table->locator) = 2;
	LOCATOR_REL(table->locator) = 1000 + sim->n_tables;
	table->relid = 100 + queue_number;
	sim->tables[sim->n_tables++] = table;
	return table;
}

/* May vacuum have made room where this row was?  Not while a snapshot sees it that changes it. */
static bool
is_reusable(const SimRow *row)
{
	if (!row->is_used)
		return true;
	for (int i = 0; i < SIM_SESSIONS; i++)
		if (sim->sessions[i].step == STEP_GUARDED && sim->sessions[i].row == row)
			return false;
	if (row->holder != NOBODY || row->is_failing)
		return false;
	if (xid_status(row->xmin) == XID_ABORTED)
		return xid_session(row->xmin) == NOBODY;
	return is_committed(row->xmax) && xid_session(row->xmax) == NOBODY &&
		xid_session(row->xmin) == NOBODY;
}

/* Somewhere free, sometimes where another row was; NULL when the table is full. */
SimRow *
new_row(SimTable *table, int64 msg_id, const Lease *lease, uint64 group_hash)
{
	SimRow	   *row = NULL;

	if (table->n_rows > 0 && random_percent(60))
	{
		SimRow	   *candidate = &table->rows[random_below(table->n_rows)];

		if (is_reusable(candidate))
			row = candidate;
	}
	if (row == NULL)
	{
		if (table->n_rows == SIM_MAX_ROWS)
			return NULL;
		row = &table->rows[table->n_rows++];
	}
	memset(row, 0, sizeof(SimRow));
	row->is_used = true;
	row->msg_id = msg_id;
	row->page = *lease;
	row->group_hash = group_hash;
	row->xmin = current_xid();
	row->holder = NOBODY;
	return row;
}

void
row_tid(const SimTable *table, const SimRow *row, ItemPointerData *tid)
{
	int			i = (int) (row - table->rows);

	ItemPointerSet(tid, i / ROWS_PER_BLOCK, i % ROWS_PER_BLOCK + 1);
}

SimRow *
row_at(SimTable *table, const ItemPointerData *tid, int64 msg_id)
{
	int			i = ItemPointerGetBlockNumberNoCheck(tid) * ROWS_PER_BLOCK +
		ItemPointerGetOffsetNumberNoCheck(tid) - 1;

	if (i < 0 || i >= table->n_rows || !table->rows[i].is_used ||
		table->rows[i].msg_id != msg_id)
		return NULL;
	return &table->rows[i];
}

/* For messages; one at a time. */
const char *
describe_row(const SimQueue *queue, const SimRow *row)
{
	static char text[250];
	Ring	   *ring = pgmq_ring_find(&queue->table->locator);
	ItemPointerData tid;
	uint32		slot;

	row_tid(queue->table, row, &tid);
	slot = ring ? pgmq_ring_lookup(ring, row->msg_id, &tid) : 0;
	snprintf(text, sizeof(text), "message " INT64_FORMAT " at row %d (queue %d, xmin %u, xmax %u, locker %u, holder %d, slot %u in state %d of %u%s, lockers %d, group %u)",
			 row->msg_id, (int) (row - queue->table->rows), (int) (queue - sim->queues),
			 row->xmin, row->xmax, row->locker, row->holder, slot,
			 slot ? ring_slot(slot)->state : 0, slot ? ring_slot(slot)->u.o.owner : 0,
			 slot && ring_slot(slot)->limbo_insert ? ", insert" : "", slot ? ring_slot(slot)->lockers : 0,
			 slot ? ring_slot(slot)->group : 0);
	return text;
}

bool
is_live_to_me(const SimRow *row)
{
	return row->is_used &&
		(is_committed(row->xmin) || sim_is_mine(row->xmin)) &&
		!is_committed(row->xmax) &&
		!(row->xmax != InvalidTransactionId && sim_is_mine(row->xmax));
}

bool
is_live_to_all(const SimRow *row)
{
	return row->is_used && is_committed(row->xmin) && !is_committed(row->xmax);
}

/* What the row's lease columns are, a lease apart that did not commit (yet). */
const Lease *
true_lease(const SimRow *row)
{
	return row->is_failing ? &row->before : &row->page;
}

bool
is_locked_by_other(const SimRow *row)
{
	return (xid_is_running(row->locker) && !sim_is_mine(row->locker)) ||
		(xid_is_running(row->xmax) && !sim_is_mine(row->xmax));
}

/* Does the lease outlast the savepoint that its holder rolls back to just now? */
bool
outlasts_savepoint(const SimSession *s, const SimRow *row)
{
	if (s->phase != PHASE_SUBABORTED)
		return false;
	for (int i = 0; i < s->n_undo; i++)
		if (s->undo[i].row == row && s->undo[i].nest_level >= s->nest_level)
			return s->undo[i].holder == row->holder;
	return true;
}

/*
 * The session that gives the row back just now, in the callback at its transaction's or
 * savepoint's end, message by message; NOBODY if none does.
 */
int
who_lets_go(const SimRow *row)
{
	int			session = row->holder;

	if (session != NOBODY && sim->sessions[session].is_letting_go &&
		!outlasts_savepoint(&sim->sessions[session], row))
		return session;
	if (session != NOBODY && row->xmax != InvalidTransactionId && session != xid_session(row->xmax))
		return NOBODY;			/* whose delete is known to be undone */
	session = row->xmax == InvalidTransactionId || xid_is_running(row->xmax) ||
		xid_is_over(row->xmax) ? NOBODY : xid_session(row->xmax);
	return session != NOBODY && sim->sessions[session].is_letting_go ? session : NOBODY;
}

/* How far the transaction has come; PHASE_IDLE where it is quite over, or prepared. */
SimPhase
phase_of(TransactionId xid)
{
	int			session = xid == InvalidTransactionId ? NOBODY : xid_session(xid);

	return session == NOBODY ? PHASE_IDLE : sim->sessions[session].phase;
}

/*
 * Does another session's lease stand?  Not of a row it has deleted since; and what it sent
 * itself has no claim, but is not seen by others before the lease is on the page.
 */
bool
is_claimed_by_other(const SimRow *row)
{
	return row->holder != NOBODY && row->holder != sim_number && who_lets_go(row) == NOBODY &&
		!xid_is_running(row->xmax) && phase_of(row->xmin) != PHASE_COMMITTED;
}

SimLook
look_at(const SimRow *row)
{
	if (row == NULL || !row->is_used)
		return LOOK_GONE;
	if ((!is_committed(row->xmin) && !sim_is_mine(row->xmin)) ||
		(row->xmax != InvalidTransactionId && sim_is_mine(row->xmax)))
		return LOOK_INVISIBLE;
	if (is_committed(row->xmax))
		return LOOK_GONE;
	return is_locked_by_other(row) ? LOOK_LOCKED : LOOK_LIVE;
}

/* ---- what is taken back ---- */

static SimUndo *
new_undo(void)
{
	SimUndo    *undo = &me()->undo[me()->n_undo++];

	Assert(me()->n_undo <= lengthof(me()->undo));
	memset(undo, 0, sizeof(SimUndo));
	undo->nest_level = me()->nest_level;
	return undo;
}

/*
 * Before a lease is noted on a row.  Another's, which has committed, is on the page: he
 * has sent the row himself, and has not published it yet.
 */
void
log_lease(SimRow *row)
{
	SimUndo    *undo = new_undo();

	undo->row = row;
	undo->holder = row->holder == sim_number ? sim_number : NOBODY;
	undo->lease = row->lease;
}

/* Before a queue gets new storage. */
void
log_storage(SimQueue *queue)
{
	SimUndo    *undo = new_undo();

	undo->queue = queue;
	undo->table = queue->table;
}

/* The changes at this level and below are taken back, or become the level above's. */
void
undo_to(int nest_level, bool is_rollback)
{
	int			i = me()->n_undo;

	while (i > 0 && me()->undo[i - 1].nest_level >= nest_level)
	{
		SimUndo    *undo = &me()->undo[--i];

		if (!is_rollback)
			undo->nest_level = nest_level - 1;
		else if (undo->row != NULL && undo->row->holder == sim_number)
		{
			undo->row->holder = undo->holder;
			undo->row->lease = undo->lease;
		}
		else if (undo->row == NULL)
			undo->queue->table = undo->table;
	}
	if (is_rollback)
		me()->n_undo = i;
}
