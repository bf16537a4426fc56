/*
 * pgmq.c
 *	  Wires the extension together; owns nothing.
 *
 * Preloaded, the library gets its shared memory and the background worker.
 * Loaded into a single backend it still serves hot tables, through the SQL
 * path, because there is no ring then.
 */
#include "common/compat.h"

#include "am/am.h"
#include "api/api.h"
#include "common/settings.h"
#include "fmgr.h"
#include "scan/scan.h"
#include "shmem/ring.h"
#include "shmem/throttle.h"
#include "storage/ipc.h"
#include "worker/worker.h"

PG_MODULE_MAGIC;

#if PGMQ_HAS_SHMEM_REQUEST_HOOK
static shmem_request_hook_type prev_shmem_request = NULL;
#endif
static shmem_startup_hook_type prev_shmem_startup = NULL;

#if PGMQ_HAS_SHMEM_REQUEST_HOOK
static void
shmem_request(void)
{
	if (prev_shmem_request)
		prev_shmem_request();
	pgmq_ring_shmem_request();
	pgmq_throttle_shmem_request();
	pgmq_worker_shmem_request();
}
#endif

static void
shmem_startup(void)
{
	if (prev_shmem_startup)
		prev_shmem_startup();
	pgmq_ring_shmem_startup();
	pgmq_throttle_shmem_startup();
	pgmq_worker_shmem_startup();
}

static void
install_shmem_hooks(void)
{
#if PGMQ_HAS_SHMEM_REQUEST_HOOK
	prev_shmem_request = shmem_request_hook;
	shmem_request_hook = shmem_request;
#else
	pgmq_ring_shmem_request();
	pgmq_throttle_shmem_request();
	pgmq_worker_shmem_request();
#endif
	prev_shmem_startup = shmem_startup_hook;
	shmem_startup_hook = shmem_startup;
}

PGDLLEXPORT void _PG_init(void);

void
_PG_init(void)
{
	pgmq_settings_define();
	pgmq_am_init();
	pgmq_scan_init();
	pgmq_publication_init();
	pgmq_notify_init();
	if (!process_shared_preload_libraries_in_progress)
		return;
	install_shmem_hooks();
	pgmq_worker_init();
}
