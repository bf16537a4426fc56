/*
 * ringdriver.c
 *	  SQL function ring_model(seed, operations, check_interval): random operations of
 *	  several sessions on rings that share a small pool, compared with a naive model.
 *
 * The rings' invariants are looked at after every check_interval operations; what reads
 * return is compared always.  An episode is a new pool of a random size and queues of a random kind.  Everything
 * follows from the seed; an error names the operation at which ring and model differ.
 */
#include "model.h"

#include "common/settings.h"
#include "fmgr.h"
#include "shmem/ring_internal.h"
#include "utils/builtins.h"

PG_MODULE_MAGIC;

#define EPISODE_OPERATIONS 1500

static const XactStorage storage = {sim_write_leases, sim_update_leases, NULL, NULL};

static void
make_sessions(void)
{
	for (int i = 0; i < SIM_SESSIONS; i++)
		sim->sessions[i].context = AllocSetContextCreate(sim_shared_context, "session", ALLOCSET_DEFAULT_SIZES);
	sim_number = 0;
	sim_context = sim->sessions[0].context;
	memset(&pgmq_xact, 0, sizeof(pgmq_xact));
}

/*
 * How often what is done: one mix for half of the episodes, any in the others, where
 * states are met that need the same thing several times in a row.
 */
static void
choose_mix(void)
{
	static const int usual[N_OPERATIONS] = {34, 18, 8, 22, 4, 1, 13, 10};
	bool		is_usual = random_percent(50);

	sim->query_percent = 3;
	for (int i = 0; i < N_OPERATIONS; i++)
		sim->mix[i] = is_usual ? usual[i] : 1 + random_below(2 * usual[i]);
	if (random_percent(30))
	{
		/* Little to read, and many who wait for it */
		sim->mix[OP_SEND] = 1 + random_below(6);
		sim->mix[OP_POLL] = 10 + random_below(40);
		sim->query_percent = random_below(60);
	}
	/* Half of the time: what a scan looked at is old when it tells the ring */
	sim->scan_percent = random_percent(50) ? 20 : random_below(80);
	sim->linger_percent = random_percent(50) ? 0 : random_below(90);
	sim->max_vt = random_percent(50) ? 60 : 1 + random_below(1000);
	sim->max_sends = is_usual ? 4 : 1 + random_below(20);
	sim->end_percent = is_usual ? 30 : 5 + random_below(50);
	sim->prepare_percent = is_usual ? 8 : random_below(50);
	sim->decide_percent = is_usual ? 4 : 1 + random_below(20);
}

static Operation
choose_operation(void)
{
	int			sum = 0;
	int			at;
	int			i;

	for (i = 0; i < N_OPERATIONS; i++)
		sum += sim->mix[i];
	at = random_below(sum);
	for (i = 0; at >= sim->mix[i]; i++)
		at -= sim->mix[i];
	return (Operation) i;
}

static void
begin_episode(uint64 seed)
{
	MemoryContextReset(sim_shared_context);
	sim = MemoryContextAllocHuge(sim_shared_context, sizeof(Sim));
	memset(sim, 0, sizeof(Sim));
	sim->random = seed;
	sim->last_xid = FrozenTransactionId;
	sim->xids[FrozenTransactionId] = (SimXid) {XID_COMMITTED, InvalidTransactionId, NOBODY, false};
	make_sessions();
	memset(&sim_procs, 0, sizeof(sim_procs));
	pgmq_test_clock = 1000;
	pgmq_ring_memory_kb = random_percent(50) ? 1 + random_below(3) : 1 + random_below(60);
	pgmq_max_hot_queues = 1 + random_below(4);
	sim->pause_percent = random_percent(50) ? 0 : random_below(40);
	choose_mix();
	sim->n_queues = 1 + random_below(SIM_QUEUES);
	sim->n_groups = 1 + random_below(8);
	sim->delay_percent = random_below(70);
	sim->group_percent = random_percent(50) ? 0 : random_below(100);
	pgmq_ring_shmem_startup();
	for (int q = 0; q < sim->n_queues; q++)
	{
		sim->queues[q].owner = NOBODY;
		sim->queues[q].table = new_table(q);
	}
}

/* A queue that no other session has locked exclusively, or NULL. */
static SimQueue *
some_queue(void)
{
	SimQueue   *queue = &sim->queues[random_below(sim->n_queues)];

	return queue->owner == NOBODY || queue->owner == sim_number ? queue : NULL;
}

static void
read_somehow(SimQueue *queue)
{
	if (random_percent(sim->group_percent))
		op_read_grouped(queue);
	else if (random_percent(25))
		op_read_in_steps(queue);
	else
		op_read(queue, random_percent(30));
}

/* One operation of a session that may do what it wants. */
static void
work(SimQueue *queue)
{
	/* Before a call scans the table at one go, if it must be */
	if (random_percent(sim->scan_percent))
		op_scan(queue);
	if (me()->step != STEP_NONE)
		return;
	if (random_percent(sim->query_percent))
		op_query(queue);
	switch (choose_operation())
	{
		case OP_SEND:
			for (int n = 1 + random_below(sim->max_sends); n > 0; n--)
				op_send(queue);
			break;
		case OP_READ:
			read_somehow(queue);
			break;
		case OP_EXTEND:
			op_extend(queue);
			break;
		case OP_CHANGE:
			op_change(queue, (RowWork) random_below(3));
			break;
		case OP_COUNT:
			op_count(queue);
			break;
		case OP_TRUNCATE:
			op_truncate(queue);
			break;
		case OP_POLL:
			op_poll(queue);
			break;
		default:
			op_savepoint();
			break;
	}
}

static void
maybe_end(void)
{
	SimSession *s = me();
	int			kind = random_below(100);

	if (s->nest_level > 1 && kind < 35)
	{
		if (random_percent(50))
			op_release();
		else
			op_rollback_to();
	}
	else if (random_percent(sim->prepare_percent))
		op_prepare();
	else if (kind < 75)
		op_commit();
	else
		op_abort();
}

void
one_operation(void)
{
	SimSession *s;
	SimQueue   *queue;

	do
		switch_to(random_below(SIM_SESSIONS));
	while (me()->is_paused);
	s = me();
	sim->n_operations++;
	if (random_percent(15))
		pgmq_test_clock += 1 + random_below(40);
	if (random_percent(sim->decide_percent))
		op_finish_prepared();
	if (s->phase > PHASE_ACTIVE)
		end_step();
	else if (s->step != STEP_NONE)
	{
		if (random_percent(sim->linger_percent))
			return;
		if (!random_percent(6))
			next_step();
		else if (s->nest_level > 1)
			op_rollback_to();
		else
			op_abort();
	}
	else if (s->phase == PHASE_ACTIVE && random_percent(sim->end_percent))
		maybe_end();
	else if ((queue = some_queue()) != NULL)
	{
		touch(queue);
		work(queue);
	}
}

/* All transactions end; then every message that is live can be read. */
static void
end_episode(void)
{
	for (int i = 0; i < SIM_PREPARED; i++)
		while (sim->prepared[i].xid != InvalidTransactionId)
			op_finish_prepared();
	for (int i = 0; i < SIM_SESSIONS; i++)
	{
		switch_to(i);
		while (me()->phase != PHASE_IDLE)
		{
			if (me()->phase == PHASE_ACTIVE)
				op_abort();		/* also after a savepoint's rollback */
			else
				end_step();
		}
		check_everything();
	}
	for (int q = 0; q < sim->n_queues; q++)
	{
		op_read(&sim->queues[q], true);
		check_everything();
	}
	op_commit();
	while (me()->phase != PHASE_IDLE)
		end_step();
	check_everything();
	for (int q = 0; q < sim->n_queues; q++)
		pgmq_ring_remove(&sim->queues[q].table->locator);
	check_everything();
	if (pgmq_shared->n_free != pgmq_shared->n_slots)
		fail("%u slots of %u are free when all rings are gone",
			 pgmq_shared->n_free, pgmq_shared->n_slots);
}

static uint64 totals[5];

static void
add_totals(void)
{
	totals[0] += sim->n_granted;
	totals[1] += sim->n_exact;
	totals[2] += sim->n_cold;
	totals[3] += sim->n_undone;
	totals[4] += sim->n_slept;
}

static void
run_episode(uint64 seed, int n_operations, int check_interval)
{
	begin_episode(seed);
	for (int i = 0; sim->n_operations < n_operations && sim->last_xid < SIM_MAX_XIDS - 100; i++)
	{
		CHECK_FOR_INTERRUPTS();
		one_operation();
		if (i % check_interval == 0)
			check_everything();
	}
	sim->pause_percent = 0;
	end_episode();
	add_totals();
}

static void
say_seed(void *arg)
{
	errcontext("episode with seed " UINT64_FORMAT, *(uint64 *) arg);
}

PG_FUNCTION_INFO_V1(ring_model);

Datum
ring_model(PG_FUNCTION_ARGS)
{
	uint64		seed = (uint64) PG_GETARG_INT64(0);
	int64		n_operations = PG_GETARG_INT64(1);
	int			check_interval = Max(PG_GETARG_INT32(2), 1);
	ErrorContextCallback context = {error_context_stack, say_seed, &seed};

	sim_shared_context = AllocSetContextCreate(TopMemoryContext, "ring model", ALLOCSET_DEFAULT_SIZES);
	memset(totals, 0, sizeof(totals));
	pgmq_xact_init(&storage);
	error_context_stack = &context;
	for (int64 done = 0; done < n_operations; done += EPISODE_OPERATIONS)
	{
		run_episode(seed, (int) Min(n_operations - done, EPISODE_OPERATIONS), check_interval);
		seed++;
	}
	error_context_stack = context.previous;
	MemoryContextDelete(sim_shared_context);
	PG_RETURN_TEXT_P(cstring_to_text(psprintf("granted " UINT64_FORMAT ", compared calls " UINT64_FORMAT
											  ", pool too small " UINT64_FORMAT ", undone " UINT64_FORMAT ", slept " UINT64_FORMAT,
											  totals[0], totals[1], totals[2], totals[3], totals[4])));
}
