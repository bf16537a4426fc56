/*
 * worker.h
 *	  The background worker: a launcher and short-lived database workers.
 */
#ifndef PGMQ_WORKER_H
#define PGMQ_WORKER_H

#include "postgres.h"

#include "postmaster/bgworker.h"

/* worker_shared.c */
extern void pgmq_worker_shmem_request(void);
extern void pgmq_worker_shmem_startup(void);
extern bool pgmq_worker_is_paused(Oid dbid);
extern bool pgmq_worker_announce(Oid dbid);
extern void pgmq_worker_pause(Oid dbid);
extern void pgmq_worker_evict(Oid dbid);
extern void pgmq_worker_resume(Oid dbid);

/* worker_launcher.c */
extern void pgmq_worker_describe(BackgroundWorker *worker, const char *type,
								 const char *function);
extern void pgmq_worker_init(void);
extern PGDLLEXPORT void pgmq_launcher_main(Datum arg);

/* worker_database.c */
extern PGDLLEXPORT void pgmq_database_main(Datum arg);

/* worker_utility.c */
extern void pgmq_worker_utility_init(void);

/* What a database worker is started for (in bgw_extra, after the flag). */
typedef struct WorkerOrder
{
	Oid			dbid;
	bool		must_find_queues;	/* after start: look for all hot queues */
} WorkerOrder;

#endif							/* PGMQ_WORKER_H */
