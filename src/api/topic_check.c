/*
 * topic_check.c
 *	  What a routing key and a topic pattern may look like.
 *
 * Both are words between dots, of ASCII letters, digits, hyphens and
 * underscores; a pattern has wildcards as well: `*` stands for one or more
 * characters that are no dots, `#` for any text, also none.  The rules are
 * checked in the order of the contract, so the first one broken names the
 * error (P0001).
 */
#include "common/compat.h"

#include "api/api.h"
#include "api/topic.h"
#include "common/limits.h"
#include "mb/pg_wchar.h"
#include "utils/builtins.h"

/* The words by which the two kinds differ in their messages. */
typedef struct TopicKind
{
	const char *noun;
	const char *wildcards;		/* characters allowed beside those of a word */
	const char *allowed;		/* the same as a list */
} TopicKind;

static const TopicKind key_kind = {
	"routing_key", "", "alphanumeric, dots, hyphens, and underscores"
};
static const TopicKind pattern_kind = {
	"pattern", "*#", "alphanumeric, dots, hyphens, underscores, *, and #"
};

static void
refuse(const char *format, const char *noun, const char *value)
{
	ereport(ERROR,
			(errcode(ERRCODE_RAISE_EXCEPTION),
			 errmsg(format, noun, value)));
}

static void
check_length(const TopicKind *kind, text *value)
{
	int			length;

	if (value == NULL || VARSIZE_ANY_EXHDR(value) == 0)
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("%s cannot be NULL or empty", kind->noun)));
	length = pg_mbstrlen_with_len(VARDATA_ANY(value), VARSIZE_ANY_EXHDR(value));
	if (length > TOPIC_MAX_CHARS)
		ereport(ERROR,
				(errcode(ERRCODE_RAISE_EXCEPTION),
				 errmsg("%s length cannot exceed %d characters, got %d characters",
						kind->noun, TOPIC_MAX_CHARS, length)));
}

static void
check_characters(const TopicKind *kind, const char *value)
{
	for (const char *c = value; *c != '\0'; c++)
		if (*c != '.' && !pgmq_is_topic_character(*c) && strchr(kind->wildcards, *c) == NULL)
			ereport(ERROR,
					(errcode(ERRCODE_RAISE_EXCEPTION),
					 errmsg("%s contains invalid characters. Only %s are allowed. Got: %s",
							kind->noun, kind->allowed, value)));
}

static void
check_dots(const TopicKind *kind, const char *value)
{
	if (value[0] == '.')
		refuse("%s cannot start with a dot. Got: %s", kind->noun, value);
	if (value[strlen(value) - 1] == '.')
		refuse("%s cannot end with a dot. Got: %s", kind->noun, value);
	if (strstr(value, "..") != NULL)
		refuse("%s cannot contain consecutive dots. Got: %s", kind->noun, value);
}

/* What both kinds have in common; returns the text as a string. */
static char *
check_topic(const TopicKind *kind, text *value)
{
	char	   *string;

	check_length(kind, value);
	string = text_to_cstring(value);
	check_characters(kind, string);
	check_dots(kind, string);
	return string;
}

/* Refuse what is no routing key; NULL is SQL's. */
void
pgmq_check_routing_key(text *routing_key)
{
	pfree(check_topic(&key_kind, routing_key));
}

/* Refuse what is no pattern; NULL is SQL's. */
void
pgmq_check_topic_pattern(text *pattern)
{
	char	   *value = check_topic(&pattern_kind, pattern);

	if (strstr(value, "**") != NULL)
		refuse("%s cannot contain consecutive stars (**). Use # for multi-segment matching. Got: %s",
			   "pattern", value);
	if (strstr(value, "##") != NULL)
		refuse("%s cannot contain consecutive hashes (##). A single # already matches zero or more segments. Got: %s",
			   "pattern", value);
	if (strstr(value, "*#") != NULL || strstr(value, "#*") != NULL)
		refuse("%s cannot contain adjacent wildcards (*# or #*). Separate wildcards with dots. Got: %s",
			   "pattern", value);
	pfree(value);
}

PG_FUNCTION_INFO_V1(pgmq_validate_routing_key);
PGDLLEXPORT Datum
pgmq_validate_routing_key(PG_FUNCTION_ARGS)
{
	pgmq_check_routing_key(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	PG_RETURN_BOOL(true);
}

PG_FUNCTION_INFO_V1(pgmq_validate_topic_pattern);
PGDLLEXPORT Datum
pgmq_validate_topic_pattern(PG_FUNCTION_ARGS)
{
	pgmq_check_topic_pattern(PG_ARGISNULL(0) ? NULL : PG_GETARG_TEXT_PP(0));
	PG_RETURN_BOOL(true);
}
