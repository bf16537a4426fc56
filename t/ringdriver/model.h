/*
 * model.h
 *	  The naive model: tables, transactions and leases as plain arrays, and what a
 *	  transaction must find in them.
 *
 * Nothing here is clever: every question is answered by looking through all rows.  The
 * sessions of the driver act on these tables as src/am acts on pages, and the answers
 * of src/xact and src/shmem are compared with what the arrays say.
 */
#ifndef MODEL_H
#define MODEL_H

#include "postgres.h"

#include "xact/xact_internal.h"

#define SIM_QUEUES 3
#define SIM_MAX_ROWS 3000
#define SIM_MAX_TABLES 200
#define SIM_MAX_XIDS 60000
#define SIM_MAX_NEST 5
#define ROWS_PER_BLOCK 6
#define SCAN_BLOCKS 4			/* looked at, at most, before their rows are added */
#define NOBODY (-1)

typedef enum SimXidStatus
{
	XID_RUNNING,				/* prepared ones, too */
	XID_SUBCOMMITTED,			/* its parent decides */
	XID_COMMITTED,
	XID_ABORTED
} SimXidStatus;

typedef struct SimXid
{
	SimXidStatus	status;
	TransactionId parent;
	int			session;		/* NOBODY: prepared */
	bool		is_locked;		/* until its callback has run */
} SimXid;

/* A row version on its page, and what is known about its lease. */
typedef struct SimRow
{
	bool		is_used;
	int64		msg_id;
	uint64		group_hash;
	TransactionId xmin;
	TransactionId xmax;			/* deleted by it, or invalid */
	TransactionId locker;		/* locked by it, or invalid */
	Lease		page;
	int			holder;			/* session with a lease that stands, or NOBODY */
	Lease		lease;			/* that lease */
	bool		is_failing;		/* page has a lease that did not, or may not, commit */
	Lease		before;			/* what the page had before that */
} SimRow;

/* A relation file. */
typedef struct SimTable
{
	RelFileLocator locator;
	Oid			relid;
	TransactionId made_by;		/* storage of this (sub)transaction, or invalid */
	int			n_rows;
	SimRow		rows[SIM_MAX_ROWS];
} SimTable;

typedef struct SimQueue
{
	SimTable   *table;
	int64		last_id;
	int			owner;			/* session with an exclusive lock, or NOBODY */
	int			n_prepared;		/* prepared transactions with a lock */
	bool		may_be_stale;	/* rows changed behind the list's back */
} SimQueue;

/* A change that ROLLBACK TO takes back. */
typedef struct SimUndo
{
	int			nest_level;
	SimRow	   *row;			/* a lease was taken; or NULL: storage changed */
	int			holder;
	Lease		lease;
	SimQueue   *queue;
	SimTable   *table;
} SimUndo;

/* How far a session's transaction has come. */
typedef enum SimPhase
{
	PHASE_IDLE,
	PHASE_ACTIVE,
	PHASE_CLOSED,				/* PRE_COMMIT has run */
	PHASE_COMMITTED,			/* visible; COMMIT callback to come */
	PHASE_ABORTED,				/* the same for ABORT */
	PHASE_SUBABORTED			/* the same for a savepoint */
} SimPhase;

/* What an active session is in the middle of. */
typedef enum SimStep
{
	STEP_NONE,
	STEP_LOOK,					/* has claimed, is to look at the pages */
	STEP_GUARDED,				/* stands guard over a row */
	STEP_SCAN,					/* scans a table into a ring */
	STEP_SCANNED,				/* has looked at a page of it */
	STEP_POLL					/* waits for a message, asleep or about to look */
} SimStep;

typedef enum RowWork
{
	WORK_DELETE,
	WORK_UPDATE,
	WORK_LOCK
} RowWork;

typedef struct SimSession
{
	XactState	xact;			/* pgmq_xact while another runs */
	MemoryContext context;
	SimPhase	phase;
	int			nest_level;		/* 0 when idle, 1 at the top */
	TransactionId xids[SIM_MAX_NEST + 2];	/* by nest level */
	bool		has_touched[SIM_QUEUES];	/* holds a lock on its table */
	SimUndo		undo[4 * SIM_MAX_ROWS];
	int			n_undo;

	bool		may_pause;		/* others may run at failpoints */
	bool		is_paused;		/* they do: it cannot go on before they are done */
	bool		is_letting_go;	/* in the callback that ends its transaction */
	bool		keeps_groups[SIM_QUEUES];	/* the rings did when that began */

	SimStep		step;
	SimQueue   *queue;			/* that step's */
	int			n_looking;
	int			looking[64];
	TimestampTz looked_at;
	SimRow	   *row;
	RowWork		work;
	bool		has_waited;
	int			block;
	int			n_blocks;
	int			n_looked_at;	/* blocks whose rows are to be added */
	uint64		epoch;
	bool		with_groups;
	int			n_scanned;
	ScannedRow	scanned[SCAN_BLOCKS * ROWS_PER_BLOCK];

	/* a blocking read, in STEP_POLL */
	TimestampTz deadline;
	bool		is_asleep;
	bool		met_locked;		/* and so looks again by itself */
	TimestampTz until;			/* sleeps until then, or its latch is set */
	TimestampTz sleep_deadline;
} SimSession;

typedef struct SimPrepared
{
	TransactionId xid;			/* invalid: free */
	bool		has_touched[SIM_QUEUES];
} SimPrepared;

/* What a session may do next. */
typedef enum Operation
{
	OP_SEND, OP_READ, OP_EXTEND, OP_CHANGE, OP_COUNT, OP_TRUNCATE, OP_SAVEPOINT, OP_POLL, N_OPERATIONS
} Operation;

#define SIM_PREPARED 4
#define SIM_MAX_PAUSED 3

typedef struct Sim
{
	SimSession	sessions[SIM_SESSIONS];
	SimQueue	queues[SIM_QUEUES];
	int			n_queues;
	SimTable   *tables[SIM_MAX_TABLES];
	int			n_tables;
	SimXid		xids[SIM_MAX_XIDS];
	TransactionId last_xid;
	SimPrepared prepared[SIM_PREPARED];
	uint64		random;
	int			delay_percent;	/* of sends with a delay */
	int			group_percent;	/* of reads by group */
	int			n_groups;
	int			pause_percent;	/* of failpoints at which others run */
	int			mix[N_OPERATIONS];	/* how often each kind is done, by weight */
	int			max_sends;		/* by one operation */
	int			end_percent;	/* of operations that a transaction ends before */
	int			prepare_percent;	/* of transactions that are prepared */
	int			query_percent;	/* of operations, after a query of the table */
	int			max_vt;
	int			scan_percent;	/* of operations before which a scan in steps may begin */
	int			linger_percent; /* of steps that a session in the middle of something leaves out */
	int			decide_percent; /* of operations before which a prepared one ends */
	int			n_paused;
	int			n_operations;
	uint64		n_pauses;
	uint64		n_granted;
	uint64		n_exact;		/* reads whose answer was known beforehand */
	uint64		n_cold;
	uint64		n_undone;
	uint64		n_slept;
} Sim;

extern Sim *sim;
extern MemoryContext sim_shared_context;
extern XactCallback sim_xact_callback;
extern SubXactCallback sim_subxact_callback;

/* model.c: randomness, time, trace */
extern uint64 random_bits(void);
extern int	random_below(int n);
extern bool random_percent(int percent);
extern void trace(const char *format,...) pg_attribute_printf(1, 2);
pg_noreturn extern void fail(const char *format,...) pg_attribute_printf(1, 2);

static inline TimestampTz
sim_now(void)
{
	return pgmq_test_clock;
}

/* ringdriver.c: one operation of some session that is not paused */
extern void one_operation(void);

/* model.c: transactions and rows */
static inline SimSession *
me(void)
{
	return &sim->sessions[sim_number];
}

extern void switch_to(int session);
extern bool outlasts_savepoint(const SimSession *s, const SimRow *row);
extern int	who_lets_go(const SimRow *row);
extern SimXidStatus xid_status(TransactionId xid);
extern bool xid_is_running(TransactionId xid);
extern int	xid_session(TransactionId xid);
extern bool xid_is_over(TransactionId xid);
extern bool is_committed(TransactionId xid);
extern TransactionId current_xid(void);
extern TransactionId new_xid(TransactionId parent);
extern SimTable *new_table(int queue_number);
extern SimRow *new_row(SimTable *table, int64 msg_id, const Lease *lease, uint64 group_hash);
extern const char *describe_row(const SimQueue *queue, const SimRow *row);
extern void row_tid(const SimTable *table, const SimRow *row, ItemPointerData *tid);
extern SimRow *row_at(SimTable *table, const ItemPointerData *tid, int64 msg_id);
extern bool is_live_to_me(const SimRow *row);
extern bool is_live_to_all(const SimRow *row);
extern const Lease *true_lease(const SimRow *row);
extern bool is_locked_by_other(const SimRow *row);
extern bool is_claimed_by_other(const SimRow *row);
extern SimPhase phase_of(TransactionId xid);
extern void log_lease(SimRow *row);
extern void log_storage(SimQueue *queue);
extern void undo_to(int nest_level, bool is_rollback);

/* A row as a session sees it: see am_row.c. */
typedef enum SimLook
{
	LOOK_LIVE, LOOK_LOCKED, LOOK_GONE, LOOK_INVISIBLE
} SimLook;

extern SimLook look_at(const SimRow *row);

/* operations.c: reads, sends, and what they are compared with */
extern XactQueue *list_queue(SimQueue *queue);
extern bool make_ready(SimQueue *queue, XactQueue *list, const ReadyCursor *cursor);
extern void settle_all(SimQueue *queue, XactQueue *list);
extern void settle_row(SimQueue *queue, XactQueue *list, int64 msg_id, const ItemPointerData *tid);
extern void op_send(SimQueue *queue);
/* How a read ended. */
typedef struct ReadEnd
{
	int			n_done;
	bool		by_ring;		/* without the table */
	bool		met_locked;
} ReadEnd;

extern bool is_to_be_had(const SimQueue *queue, const SimRow *row);
extern ReadEnd op_read(SimQueue *queue, bool is_pop);
extern void op_read_grouped(SimQueue *queue);
extern void op_read_in_steps(SimQueue *queue);
extern void op_extend(SimQueue *queue);
extern void op_scan(SimQueue *queue);
extern void op_count(SimQueue *queue);
extern void op_query(SimQueue *queue);
extern void next_step(void);
extern bool delete_row(SimQueue *queue, XactQueue *list, SimRow *row);

/* operations_sql.c: plain SQL, storage, ends of transactions */
extern void op_change(SimQueue *queue, RowWork work);
extern void finish_change(void);
extern void op_truncate(SimQueue *queue);
extern void op_savepoint(void);
extern void op_release(void);
extern void op_rollback_to(void);
extern void op_commit(void);
extern void op_abort(void);
extern void op_prepare(void);
extern void op_finish_prepared(void);
extern void end_step(void);
extern void touch(SimQueue *queue);
extern void sim_write_leases(XactQueue *list, int *messages, int n);
extern void sim_update_leases(XactQueue *list, int *messages, int n);

/* sleepers.c: blocking reads */
extern void op_poll(SimQueue *queue);
extern void poll_step(void);
extern void check_sleepers(void);

/* check.c */
extern void check_everything(void);

#endif							/* MODEL_H */
