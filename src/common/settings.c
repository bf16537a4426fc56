/*
 * settings.c
 *	  Defines the pgmq.* settings.
 */
#include "common/compat.h"

#include "common/clock.h"
#include "common/failpoint.h"
#include "common/settings.h"
#include "utils/guc.h"

int			pgmq_ring_memory_kb = 65536;
int			pgmq_max_hot_queues = 4096;
int			pgmq_queue_storage = STORAGE_AUTO;
bool		pgmq_synchronous_leases = true;
bool		pgmq_fast_path = true;
bool		pgmq_scan_enabled = true;
bool		pgmq_worker_enabled = true;
int			pgmq_worker_naptime_ms = 1000;

static const struct config_enum_entry storage_options[] = {
	{"auto", STORAGE_AUTO, false},
	{"hot", STORAGE_HOT, false},
	{"heap", STORAGE_HEAP, false},
	{NULL, 0, false}
};

/*
 * What sizes shared memory.  Without preload there is none, and nothing but a
 * known name is wanted; postmaster settings cannot be defined any more then.
 */
static void
define_memory_settings(void)
{
	GucContext	context = process_shared_preload_libraries_in_progress ?
		PGC_POSTMASTER : PGC_SIGHUP;

	DefineCustomIntVariable("pgmq.ring_memory",
							"Shared memory for the pointers to messages of all hot queues.",
							"A message takes 64 bytes; messages beyond the pool stay in the table and are loaded when needed.",
							&pgmq_ring_memory_kb, 65536, 64, MAX_KILOBYTES,
							context, GUC_UNIT_KB, NULL, NULL, NULL);
	DefineCustomIntVariable("pgmq.max_hot_queues",
							"Number of hot queues that can have a ring at a time.",
							"A hot queue without a ring works through plain SQL.",
							&pgmq_max_hot_queues, 4096, 1, 1000000,
							context, 0, NULL, NULL, NULL);
}

void
pgmq_settings_define(void)
{
	define_memory_settings();
	DefineCustomEnumVariable("pgmq.queue_storage",
							 "Storage of queues made by pgmq.create().",
							 "auto makes hot queues where the library is preloaded, heap queues elsewhere.",
							 &pgmq_queue_storage, STORAGE_AUTO, storage_options,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgmq.synchronous_leases",
							 "Flush a lease to disk before a read reports success.",
							 "Off, a crash may forget recent leases: messages come early again, none is lost.",
							 &pgmq_synchronous_leases, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgmq.fast_path",
							 "Use the ring; off, every call runs as plain SQL.",
							 NULL, &pgmq_fast_path, true,
							 PGC_USERSET, 0, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgmq.enable_scan",
							 "Let queries on hot queue tables find their rows by the ring.",
							 NULL, &pgmq_scan_enabled, true,
							 PGC_USERSET, GUC_EXPLAIN, NULL, NULL, NULL);
	DefineCustomBoolVariable("pgmq.worker",
							 "Let a background worker build rings and vacuum hot queues.",
							 NULL, &pgmq_worker_enabled, true,
							 PGC_SIGHUP, 0, NULL, NULL, NULL);
	DefineCustomIntVariable("pgmq.worker_naptime",
							"Longest time between two looks of the launcher for work.",
							NULL, &pgmq_worker_naptime_ms, 1000, 10, 60000,
							PGC_SIGHUP, GUC_UNIT_MS, NULL, NULL, NULL);
	pgmq_clock_define_setting();
	pgmq_failpoint_define_setting();
	MarkGUCPrefixReserved("pgmq");
}
