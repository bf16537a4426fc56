/*
 * failpoint.c
 *	  What failpoint.h promises; empty in a release.
 *
 * What is armed belongs to the process: a setting of the session, or, by ALTER
 * SYSTEM or ALTER DATABASE, of the background worker.  Counts of hits start
 * anew whenever the setting gets a value, also by the end of SET LOCAL.
 */
#include "common/compat.h"

#include "common/failpoint.h"

#ifdef PGMQ_FAILPOINTS

#include <signal.h>
#include <unistd.h>

#include "access/parallel.h"
#include "access/xact.h"
#include "storage/lock.h"
#include "utils/guc.h"

#define MAX_ARMED 8
#define MAX_LOGGED 512
#define ALL_POINTS "*"

typedef enum FailpointAction
{
	ACTION_ERROR,
	ACTION_CRASH,
	ACTION_PANIC,
	ACTION_WAIT,
	ACTION_LOG
} FailpointAction;

static const char *const action_names[] = {"error", "crash", "panic", "wait", "log"};

typedef struct ArmedPoint
{
	char		name[NAMEDATALEN];
	FailpointAction action;
	int64		lock;			/* wait: key of the advisory lock */
	int			hits_left;		/* acts when it comes to 0; below: no more */
} ArmedPoint;

typedef struct ArmedPoints
{
	int			n;
	ArmedPoint	points[MAX_ARMED];
} ArmedPoints;

int			pgmq_failpoints_armed = 0;

static ArmedPoints armed;
static TimestampTz armed_by = 0;	/* start of the transaction that only armed them */
static const char *logged[MAX_LOGGED];	/* names in the log by now */
static int	n_logged = 0;
static char *setting;

/* ---- the setting ---- */

/* action[:lock][@n]; false if it is none. */
static bool
parse_action(const char *text, ArmedPoint *point)
{
	const char *rest = NULL;
	char	   *end;

	for (int i = 0; i < lengthof(action_names) && rest == NULL; i++)
		if (strncmp(text, action_names[i], strlen(action_names[i])) == 0)
		{
			point->action = (FailpointAction) i;
			rest = text + strlen(action_names[i]);
		}
	if (rest == NULL)
		return false;
	point->lock = 0;
	point->hits_left = 1;
	if (*rest == ':' && point->action == ACTION_WAIT)
	{
		point->lock = strtoll(rest + 1, &end, 10);
		rest = end;
	}
	if (*rest == '@')
	{
		point->hits_left = (int) strtol(rest + 1, &end, 10);
		rest = end;
	}
	return *rest == '\0' && point->hits_left > 0;
}

/* point=action...; false if it is none. */
static bool
parse_point(char *text, ArmedPoint *point)
{
	char	   *equals = strchr(text, '=');

	if (equals == NULL || equals - text >= NAMEDATALEN)
		return false;
	*equals = '\0';
	strlcpy(point->name, text, NAMEDATALEN);
	return parse_action(equals + 1, point);
}

/* The whole list; false with a detail set if it is none. */
static bool
parse_setting(char *text, ArmedPoints *result)
{
	char	   *position = NULL;

	result->n = 0;
	for (char *part = strtok_r(text, ", ", &position); part != NULL;
		 part = strtok_r(NULL, ", ", &position))
	{
		if (result->n == MAX_ARMED)
		{
			GUC_check_errdetail("At most %d points can be armed.", MAX_ARMED);
			return false;
		}
		if (!parse_point(part, &result->points[result->n++]))
		{
			GUC_check_errdetail("Write point=action[:lock][@n], with error, crash, panic, wait or log.");
			return false;
		}
	}
	return true;
}

static bool
check_setting(char **new_value, void **extra, GucSource source)
{
	ArmedPoints *points = pgmq_setting_alloc(sizeof(ArmedPoints));
	char	   *text = strdup(*new_value);
	bool		is_valid = points != NULL && text != NULL && parse_setting(text, points);

	free(text);
	if (!is_valid)
	{
		pgmq_setting_free(points);
		return false;
	}
	*extra = points;
	return true;
}

static void
assign_setting(const char *new_value, void *extra)
{
	armed = *(ArmedPoints *) extra;
	pgmq_failpoints_armed = armed.n;
	n_logged = 0;
	armed_by = IsTransactionState() && !IsTransactionBlock() && !IsParallelWorker() ?
		GetCurrentTransactionStartTimestamp() : 0;
}

void
pgmq_failpoint_define_setting(void)
{
	DefineCustomStringVariable("pgmq.failpoint",
							   "What happens at which named points of the code; for tests.",
							   "point=action[:lock][@n], ...; see failpoint.h.",
							   &setting, "", PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   check_setting, assign_setting, NULL);
}

/* ---- the actions ---- */

static void
crash(void)
{
	kill(getpid(), SIGKILL);
	for (;;)
		pause();
}

/*
 * Wait until nobody holds the advisory lock.  By a lock of the session, so that
 * it can be had at the end of a transaction, too; not kept.
 */
static void
wait_for_lock(int64 lock)
{
	LOCKTAG		tag;

	SET_LOCKTAG_ADVISORY(tag, MyDatabaseId, (uint32) (lock >> 32), (uint32) lock, 1);
	(void) LockAcquire(&tag, ShareLock, true, false);
	(void) LockRelease(&tag, ShareLock, true);
}

/* Names are literals, each at one place: their addresses tell them apart. */
static void
log_once(const char *name)
{
	for (int i = 0; i < n_logged; i++)
		if (logged[i] == name)
			return;
	if (n_logged < MAX_LOGGED)
		logged[n_logged++] = name;
	ereport(LOG,
			(errmsg_internal("reached point \"%s\"", name),
			 errhidestmt(true), errhidecontext(true)));
}

static void
act(const ArmedPoint *point, const char *name, FailpointPlace place)
{
	if ((point->action == ACTION_ERROR && place < FAILPOINT_ERROR) ||
		(point->action == ACTION_WAIT && place < FAILPOINT_WAIT))
		elog(PANIC, "action \"%s\" is not possible at point \"%s\"",
			 action_names[point->action], name);
	switch (point->action)
	{
		case ACTION_ERROR:
			elog(ERROR, "failure at point \"%s\"", name);
			break;
		case ACTION_CRASH:
			crash();
			break;
		case ACTION_PANIC:
			elog(PANIC, "panic at point \"%s\"", name);
			break;
		case ACTION_WAIT:
			wait_for_lock(point->lock);
			break;
		case ACTION_LOG:
			log_once(name);
			break;
	}
}

/* Something is armed, and the process has come to this point. */
void
pgmq_failpoint_reached(const char *name, FailpointPlace place)
{
	if (armed_by != 0 && armed_by == GetCurrentTransactionStartTimestamp())
		return;
	for (int i = 0; i < armed.n; i++)
	{
		ArmedPoint *point = &armed.points[i];

		if (strcmp(point->name, name) != 0 && strcmp(point->name, ALL_POINTS) != 0)
			continue;
		if (point->action == ACTION_LOG || --point->hits_left == 0)
			act(point, name, place);
	}
}

#endif							/* PGMQ_FAILPOINTS */
