/*
 * clock.c
 *	  The setting pgmq.test_clock, which replaces the real time in tests.
 */
#include "common/compat.h"

#include <ctype.h>

#include "common/clock.h"
#include "utils/guc.h"

TimestampTz pgmq_test_clock = 0;

static char *test_clock = NULL; /* as it was set */

/*
 * A timestamp as text; false where it is none, not finite or not fixed ("now").
 * Nothing here raises errors, because the postmaster reads settings, too.
 */
static bool
parse_instant(const char *text, TimestampTz *result)
{
	char		buffer[MAXDATELEN + MAXDATEFIELDS];
	char	   *fields[MAXDATEFIELDS];
	int			types[MAXDATEFIELDS];
	int			n_fields;
	int			type;
	int			zone;
	fsec_t		fraction;
	struct pg_tm tm;

	return isdigit((unsigned char) text[0]) &&
		ParseDateTime(text, buffer, sizeof(buffer), fields, types,
					  MAXDATEFIELDS, &n_fields) == 0 &&
		pgmq_decode_datetime(fields, types, n_fields, &type, &tm, &fraction, &zone) == 0 &&
		type == DTK_DATE &&
		tm2timestamp(&tm, fraction, &zone, result) == 0 &&
		*result != 0;
}

static bool
check_test_clock(char **newval, void **extra, GucSource source)
{
	TimestampTz instant;

	return *newval == NULL || **newval == '\0' || parse_instant(*newval, &instant);
}

static void
assign_test_clock(const char *newval, void *extra)
{
	if (newval == NULL || *newval == '\0' || !parse_instant(newval, &pgmq_test_clock))
		pgmq_test_clock = 0;
}

/* Called once, when the library is loaded. */
void
pgmq_clock_define_setting(void)
{
	DefineCustomStringVariable("pgmq.test_clock",
							   "For tests: the time that stands for the present, until it is set again.",
							   "Empty uses the real time.",
							   &test_clock, "", PGC_SUSET, GUC_NOT_IN_SAMPLE,
							   check_test_clock, assign_test_clock, NULL);
}
