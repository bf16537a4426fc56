/*
 * settings.h
 *	  The extension's settings (all named pgmq.*).
 */
#ifndef PGMQ_SETTINGS_H
#define PGMQ_SETTINGS_H

#include "postgres.h"

typedef enum QueueStorage
{
	STORAGE_AUTO,				/* hot where the ring exists, else heap */
	STORAGE_HOT,
	STORAGE_HEAP
} QueueStorage;

extern int	pgmq_ring_memory_kb;	/* postmaster: size of the slot pool */
extern int	pgmq_max_hot_queues;	/* postmaster: rings that can exist */
extern int	pgmq_queue_storage; /* user: what pgmq.create() makes */
extern bool pgmq_synchronous_leases;	/* user: flush a lease before success */
extern bool pgmq_scan_enabled;	/* custom scan nodes */
extern bool pgmq_fast_path;		/* user: off sends every call down SQL */
extern bool pgmq_worker_enabled;	/* sighup: run database workers */
extern int	pgmq_worker_naptime_ms; /* sighup: launcher's longest nap */

extern void pgmq_settings_define(void);

#endif							/* PGMQ_SETTINGS_H */
