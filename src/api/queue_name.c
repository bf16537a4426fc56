/*
 * queue_name.c
 *	  Queue names and the table names made of them.
 */
#include "common/compat.h"

#include "api/api.h"
#include "catalog/pg_collation.h"
#include "common/limits.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

/* A name that lower() leaves as it is, whatever the locale. */
static bool
is_plain_lower(const char *name, int length)
{
	for (int i = 0; i < length; i++)
		if (!((name[i] >= 'a' && name[i] <= 'z') || (name[i] >= '0' && name[i] <= '9') ||
			  name[i] == '_'))
			return false;
	return true;
}

static void
refuse_bad_characters(const char *name, int length)
{
	for (int i = 0; i < length; i++)
		if (name[i] == '$' || name[i] == ';' || name[i] == '\'' ||
			(name[i] == '-' && i + 1 < length && name[i + 1] == '-'))
			ereport(ERROR,
					(errcode(ERRCODE_RAISE_EXCEPTION),
					 errmsg("queue name contains invalid characters: $, ;, --, or \\'")));
}

static char *
table_name(text *queue_name, const char *prefix)
{
	const char *name = VARDATA_ANY(queue_name);
	int			length = VARSIZE_ANY_EXHDR(queue_name);
	char	   *result;
	Datum		lowered;

	refuse_bad_characters(name, length);
	result = psprintf("%s_%.*s", prefix, length, name);
	if (is_plain_lower(result, strlen(result)))
		return result;
	lowered = DirectFunctionCall1Coll(lower, DEFAULT_COLLATION_OID,
									  CStringGetTextDatum(result));
	return TextDatumGetCString(lowered);
}

/* The name of a queue's table ('q') or archive ('a'); palloc'd. */
char *
pgmq_table_name(text *queue_name, char prefix)
{
	char		text_prefix[2] = {prefix, '\0'};

	return table_name(queue_name, text_prefix);
}

void
pgmq_check_name_length(text *queue_name)
{
	if (pg_mbstrlen_with_len(VARDATA_ANY(queue_name), VARSIZE_ANY_EXHDR(queue_name)) >
		QUEUE_NAME_MAX_CHARS)
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("queue name is too long, maximum length is %d characters",
						QUEUE_NAME_MAX_CHARS)));
}

PG_FUNCTION_INFO_V1(pgmq_format_table_name);
PGDLLEXPORT Datum
pgmq_format_table_name(PG_FUNCTION_ARGS)
{
	char	   *prefix;

	if (PG_ARGISNULL(0))
		PG_RETURN_NULL();
	refuse_bad_characters(VARDATA_ANY(PG_GETARG_TEXT_PP(0)),
						  VARSIZE_ANY_EXHDR(PG_GETARG_TEXT_PP(0)));
	if (PG_ARGISNULL(1))
		PG_RETURN_NULL();
	prefix = text_to_cstring(PG_GETARG_TEXT_PP(1));
	PG_RETURN_TEXT_P(cstring_to_text(table_name(PG_GETARG_TEXT_PP(0), prefix)));
}

PG_FUNCTION_INFO_V1(pgmq_validate_queue_name);
PGDLLEXPORT Datum
pgmq_validate_queue_name(PG_FUNCTION_ARGS)
{
	if (!PG_ARGISNULL(0))
		pgmq_check_name_length(PG_GETARG_TEXT_PP(0));
	PG_RETURN_VOID();
}
