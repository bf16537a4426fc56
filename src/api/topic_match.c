/*
 * topic_match.c
 *	  Which queues does a routing key go to?
 *
 * The answer is always that of
 *
 *	  SELECT DISTINCT queue_name FROM pgmq.topic_bindings
 *	  WHERE routing_key ~ compiled_regex ORDER BY queue_name
 *
 * under the caller's snapshot and rights.  What costs in that query is the
 * executor and compiling regular expressions, of which the server keeps only a
 * few.  So the rows are kept while their pages stay as they are (topic_cache.c),
 * or scanned without an executor, and expressions of the form that the table's
 * generated column gives them are matched as they stand; any other goes to the
 * server's own matcher.
 *
 * Where reading the table takes more than a scan (row security, a view or
 * children in its place, other columns) the query above runs.
 */
#include "common/compat.h"

#include "access/table.h"
#include "access/xact.h"
#include "api/api.h"
#include "api/topic.h"
#include "catalog/pg_attribute.h"
#include "common/limits.h"
#include "executor/spi.h"
#include "lib/qunique.h"
#include "regex/regex.h"
#include "utils/builtins.h"
#include "utils/rls.h"
#include "utils/snapmgr.h"
#include "utils/varlena.h"

/* ---- matching without a regular expression engine ---- */

/*
 * A routing key, and the places in it that the expression's part read so far
 * can end at: is_reached[i] means after i characters.  Only low to high are
 * meaningful, nothing else is reached; low > high: no match any more.
 */
typedef struct KeyWalk
{
	const char *key;
	int			length;
	int			low;
	int			high;
	bool		is_reached[TOPIC_MAX_CHARS + 1];
} KeyWalk;

/* One character. */
static void
walk_literal(KeyWalk *walk, char c)
{
	int			last = Min(walk->high, walk->length - 1);

	if (walk->low > walk->high)
		return;
	for (int i = last; i >= walk->low; i--)
		walk->is_reached[i + 1] = walk->is_reached[i] && walk->key[i] == c;
	walk->low++;
	walk->high = last + 1;
	if (walk->low == walk->high && !walk->is_reached[walk->low])
		walk->high--;			/* the usual end: a first word that differs */
}

/* [^.]+ */
static void
walk_star(KeyWalk *walk)
{
	bool		from_old;
	bool		from_new = false;

	if (walk->low > walk->high)
		return;
	from_old = walk->is_reached[walk->low];
	for (int i = walk->low + 1; i <= walk->length; i++)
	{
		bool		was_reached = i <= walk->high && walk->is_reached[i];

		from_new = walk->key[i - 1] != '.' && (from_old || from_new);
		walk->is_reached[i] = from_new;
		from_old = was_reached;
	}
	walk->low++;
	walk->high = walk->length;
}

/* .* */
static void
walk_hash(KeyWalk *walk)
{
	while (walk->low <= walk->high && !walk->is_reached[walk->low])
		walk->low++;
	if (walk->low > walk->high)
		return;
	memset(&walk->is_reached[walk->low], true, walk->length - walk->low + 1);
	walk->high = walk->length;
}

/*
 * Read one part of an expression; returns how long it was, 0 if it is not of
 * the form that we know.
 */
static int
walk_part(KeyWalk *walk, const char *part, int left)
{
	if (pgmq_is_topic_character(part[0]))
	{
		walk_literal(walk, part[0]);
		return 1;
	}
	if (left >= 2 && part[0] == '\\' && memchr(".+?{}()|[]\\^$", part[1], 13) != NULL)
	{
		walk_literal(walk, part[1]);
		return 2;
	}
	if (left >= 2 && memcmp(part, ".*", 2) == 0)
	{
		walk_hash(walk);
		return 2;
	}
	if (left >= 5 && memcmp(part, "[^.]+", 5) == 0)
	{
		walk_star(walk);
		return 5;
	}
	return 0;
}

/*
 * Does the key match ^...$, made of the parts above?  False also where the
 * expression is another: then *is_known is false, too.  It is read to its end
 * even when there can be no match any more, as the server would.
 */
static bool
matches_simply(KeyWalk *walk, const char *regex, int length, bool *is_known)
{
	int			end = length - 1;	/* where the $ must be */
	int			at = 1;

	walk->low = walk->high = 0;
	walk->is_reached[0] = true;
	*is_known = length >= 2 && regex[0] == '^' && regex[end] == '$';
	while (*is_known && at < end)
	{
		int			taken = walk_part(walk, regex + at, end - at);

		at += taken;
		*is_known = taken > 0;
	}
	return *is_known && walk->low <= walk->length && walk->high == walk->length &&
		walk->is_reached[walk->length];
}

/* routing_key ~ regex */
static bool
matches(KeyWalk *walk, text *regex, Oid collation)
{
	bool		is_known;
	bool		result = matches_simply(walk, VARDATA_ANY(regex),
										VARSIZE_ANY_EXHDR(regex), &is_known);

	if (is_known)
		return result;
	return RE_compile_and_execute(regex, unconstify(char *, walk->key), walk->length,
								  REG_ADVANCED, collation, 0, NULL);
}

/* ---- the table ---- */

/* The bindings, and where a scan finds the two columns that matter. */
typedef struct BindingsTable
{
	Relation	rel;
	Form_pg_attribute name;
	Form_pg_attribute regex;
} BindingsTable;

/* A binding matches; its queue's name is copied. */
static void
add_queue(TopicQueues *queues, Datum name, bool isnull)
{
	if (queues->n == queues->capacity)
	{
		queues->capacity = Max(16, queues->capacity * 2);
		queues->names = queues->names == NULL ?
			palloc(queues->capacity * sizeof(text *)) :
			repalloc_huge(queues->names, queues->capacity * sizeof(text *));
	}
	queues->names[queues->n++] = isnull ? NULL : DatumGetTextPCopy(name);
}

/* A text column, by name; NULL if there is none such. */
static Form_pg_attribute
text_column(TupleDesc desc, const char *name)
{
	for (int i = 0; i < desc->natts; i++)
	{
		Form_pg_attribute attribute = TupleDescAttr(desc, i);

		if (!attribute->attisdropped && attribute->atttypid == TEXTOID &&
			strcmp(NameStr(attribute->attname), name) == 0)
			return attribute;
	}
	return NULL;
}

static int
compare_names(const void *a, const void *b, void *collation)
{
	text	   *left = *(text *const *) a;
	text	   *right = *(text *const *) b;

	return varstr_cmp(VARDATA_ANY(left), VARSIZE_ANY_EXHDR(left),
					  VARDATA_ANY(right), VARSIZE_ANY_EXHDR(right), *(Oid *) collation);
}

static void
sort_queues(TopicQueues *queues, Oid collation)
{
	if (queues->n < 2)
		return;
	qsort_arg(queues->names, queues->n, sizeof(text *), compare_names, &collation);
	queues->n = qunique_arg(queues->names, queues->n, sizeof(text *), compare_names,
							&collation);
}

/* Scan the bindings under the active snapshot. */
static void
scan_bindings(const BindingsTable *table, KeyWalk *walk, TopicQueues *queues)
{
	TupleTableSlot *slot = table_slot_create(table->rel, NULL);
	TableScanDesc scan = table_beginscan(table->rel, GetActiveSnapshot(), 0, NULL);

	while (table_scan_getnextslot(scan, ForwardScanDirection, slot))
	{
		bool		isnull;
		Datum		value = slot_getattr(slot, table->regex->attnum, &isnull);
		text	   *expression;

		if (isnull)
			continue;
		expression = DatumGetTextPP(value);
		if (matches(walk, expression, table->regex->attcollation))
		{
			value = slot_getattr(slot, table->name->attnum, &isnull);
			add_queue(queues, value, isnull);
		}
	}
	table_endscan(scan);
	ExecDropSingleTupleTableSlot(slot);
}

/* ---- the query, where a scan is not enough ---- */

static SPIPlanPtr
bindings_plan(void)
{
	static SPIPlanPtr plan = NULL;
	Oid			types[1] = {TEXTOID};

	if (plan != NULL)
		return plan;
	plan = SPI_prepare("SELECT DISTINCT queue_name FROM pgmq.topic_bindings "
					   "WHERE $1 OPERATOR(pg_catalog.~) compiled_regex ORDER BY queue_name",
					   1, types);
	if (plan == NULL || SPI_keepplan(plan) != 0)
		elog(ERROR, "could not prepare the query of topic bindings: %s",
			 SPI_result_code_string(SPI_result));
	return plan;
}

static void
query_bindings(text *routing_key, TopicQueues *queues)
{
	MemoryContext caller = CurrentMemoryContext;
	Datum		values[1] = {PointerGetDatum(routing_key)};
	int			result;

	SPI_connect();
	result = SPI_execute_plan(bindings_plan(), values, NULL, false, 0);
	if (result < 0)
		elog(ERROR, "SPI_execute_plan failed: %s", SPI_result_code_string(result));
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		bool		isnull;
		Datum		name = SPI_getbinval(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1,
										 &isnull);
		MemoryContext old = MemoryContextSwitchTo(caller);

		add_queue(queues, name, isnull);
		MemoryContextSwitchTo(old);
	}
	SPI_finish();
}

/* ---- both ---- */

/* Does a scan show the caller what a query would? */
static bool
can_scan(const BindingsTable *table)
{
	Relation	rel = table->rel;

	return rel->rd_rel->relkind == RELKIND_RELATION && !rel->rd_rel->relhassubclass &&
		table->name != NULL && table->name->attgenerated == '\0' && table->name->attnotnull &&
		table->regex != NULL && table->regex->attgenerated == ATTRIBUTE_GENERATED_STORED &&
		(!rel->rd_rel->relrowsecurity ||
		 check_enable_rls(RelationGetRelid(rel), InvalidOid, false) != RLS_ENABLED);
}

/* The same from what was kept of it; false: it must be scanned. */
static bool
use_cached_bindings(const BindingsTable *table, KeyWalk *walk, TopicQueues *queues)
{
	const TopicBinding *bindings;
	int			n;

	if (!pgmq_cached_bindings(table->rel, table->regex->attnum, table->name->attnum,
							  GetActiveSnapshot(), &bindings, &n))
		return false;
	for (int i = 0; i < n; i++)
		if (matches(walk, bindings[i].regex, table->regex->attcollation))
			add_queue(queues, PointerGetDatum(bindings[i].name), bindings[i].name == NULL);
	return true;
}

/* In builds with assertions: what was kept is what a scan finds. */
static void
assert_as_scanned(const BindingsTable *table, KeyWalk *walk, TopicQueues *queues)
{
#ifdef USE_ASSERT_CHECKING
	Oid			collation = table->name->attcollation;
	TopicQueues scanned = {NULL, 0, 0};

	scan_bindings(table, walk, &scanned);
	sort_queues(&scanned, collation);
	sort_queues(queues, collation);
	Assert(scanned.n == queues->n);
	for (int i = 0; i < scanned.n; i++)
		Assert(compare_names(&scanned.names[i], &queues->names[i], &collation) == 0);
#endif
}

static void
find_with_new_snapshot(const BindingsTable *table, text *routing_key, TopicQueues *queues)
{
	static const char *const columns[] = {"queue_name", "compiled_regex", NULL};
	static const NeededRights rights = {ACL_SELECT, columns, NULL, NULL};
	KeyWalk		walk;

	pgmq_check_rights(table->rel, AccessShareLock, &rights);
	walk.key = VARDATA_ANY(routing_key);
	walk.length = VARSIZE_ANY_EXHDR(routing_key);
	Assert(walk.length <= TOPIC_MAX_CHARS);
	/* As any statement of a volatile function: see all that came before. */
	CommandCounterIncrement();
	PushActiveSnapshot(GetTransactionSnapshot());
	if (use_cached_bindings(table, &walk, queues))
		assert_as_scanned(table, &walk, queues);
	else
		scan_bindings(table, &walk, queues);
	PopActiveSnapshot();
	sort_queues(queues, table->name->attcollation);
}

/*
 * The queues that a valid routing key goes to, each once, in the order of
 * their names.  Sees what the transaction's earlier commands did.  Errors:
 * 42P01 and 42501 as the query's.  The table stays locked (AccessShareLock)
 * until the transaction ends.
 */
void
pgmq_find_topic_queues(text *routing_key, TopicQueues *queues)
{
	RangeVar   *range = makeRangeVar("pgmq", "topic_bindings", -1);
	BindingsTable table;

	table.rel = table_open(RangeVarGetRelid(range, AccessShareLock, false), NoLock);
	table.name = text_column(RelationGetDescr(table.rel), "queue_name");
	table.regex = text_column(RelationGetDescr(table.rel), "compiled_regex");
	memset(queues, 0, sizeof(TopicQueues));
	if (can_scan(&table))
		find_with_new_snapshot(&table, routing_key, queues);
	else
		query_bindings(routing_key, queues);
	table_close(table.rel, NoLock);
}
