/*
 * fn_fifo.c
 *	  Indexes for grouped reads.
 *
 * On a heap queue they are what the contract says.  A hot queue finds its
 * groups in the ring, and an index over headers would only cost its senders:
 * there these functions check the name and the caller's rights, and that is all.
 */
#include "common/compat.h"

#include "api/api.h"
#include "utils/acl.h"
#include "utils/builtins.h"

/* What CREATE INDEX would have checked. */
static void
check_owner(const char *table)
{
	Oid			relid = pgmq_table_oid(table);

	if (!pgmq_owns_table(relid, GetUserId()))
		aclcheck_error(ACLCHECK_NOT_OWNER, OBJECT_TABLE, table);
}

static void
create_fifo_index(text *queue_name)
{
	char	   *table = pgmq_table_name(queue_name, 'q');

	if (pgmq_table_is_hot(table))
		check_owner(table);
	else
		pgmq_sql_ddl("CREATE INDEX IF NOT EXISTS %s ON pgmq.%s USING gin (headers)",
					 quote_identifier(psprintf("%s_fifo_idx", table)),
					 quote_identifier(table));
}

/* pgmq.create_fifo_index(queue_name), pgmq._create_fifo_index_if_not_exists(queue_name) */
PG_FUNCTION_INFO_V1(pgmq_create_fifo_index);
PGDLLEXPORT Datum
pgmq_create_fifo_index(PG_FUNCTION_ARGS)
{
	pgmq_refuse_null_name(fcinfo);
	create_fifo_index(PG_GETARG_TEXT_PP(0));
	PG_RETURN_VOID();
}

/* pgmq.create_fifo_indexes_all() */
PG_FUNCTION_INFO_V1(pgmq_create_fifo_indexes_all);
PGDLLEXPORT Datum
pgmq_create_fifo_indexes_all(PG_FUNCTION_ARGS)
{
	Datum	   *names;
	int			n = pgmq_queue_names(&names);

	for (int i = 0; i < n; i++)
		create_fifo_index(DatumGetTextPP(names[i]));
	PG_RETURN_VOID();
}
