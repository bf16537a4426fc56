/*
 * convert_index.c
 *	  The indexes that a heap queue has and a hot queue has not: the primary key
 *	  on msg_id, and q_x_vt_idx.
 *
 * A conversion that goes on beside the queue's users (convert_online.c) makes
 * them before the table is a heap table, the key as a plain unique index.  One
 * that was broken off leaves them behind: such indexes are *spare*, and the
 * next conversion uses or drops them.
 */
#include "common/compat.h"

#include "access/htup_details.h"
#include "access/table.h"
#include "access/xlog.h"
#include "api/convert.h"
#include "catalog/index.h"
#include "catalog/pg_index.h"
#include "commands/defrem.h"
#include "parser/scansup.h"
#include "utils/lsyscache.h"
#include "utils/syscache.h"

/* As the server, and create(), would name it. */
char *
pgmq_heap_index_name(Oid relid, HeapIndex which)
{
	char	   *name;

	if (which == INDEX_KEY)
		return makeObjectName(get_rel_name(relid), NULL, "pkey");
	name = psprintf("%s_vt_idx", get_rel_name(relid));
	truncate_identifier(name, strlen(name), false);
	return name;
}

/* Is this an index on that one column of the table, over all of its rows? */
static bool
is_plain_index(Oid index, Oid relid, HeapIndex which)
{
	HeapTuple	tuple = SearchSysCache1(INDEXRELID, ObjectIdGetDatum(index));
	Form_pg_index form;
	bool		result;

	if (!HeapTupleIsValid(tuple))
		return false;
	form = (Form_pg_index) GETSTRUCT(tuple);
	result = form->indrelid == relid && form->indnatts == 1 &&
		form->indkey.values[0] == (which == INDEX_KEY ? ATTNUM_MSG_ID : ATTNUM_VT) &&
		form->indisunique == (which == INDEX_KEY) && form->indimmediate &&
		heap_attisnull(tuple, Anum_pg_index_indpred, NULL);
	ReleaseSysCache(tuple);
	return result;
}

/* The index of that name if it is on the right column, valid or not; else InvalidOid. */
Oid
pgmq_heap_index(Oid relid, HeapIndex which)
{
	Oid			index = get_relname_relid(pgmq_heap_index_name(relid, which),
										  get_rel_namespace(relid));

	return OidIsValid(index) && is_plain_index(index, relid, which) ? index : InvalidOid;
}

static List *
primary_keys(Oid relid)
{
	return pgmq_texts_about("SELECT quote_ident(conname) FROM pg_constraint "
							"WHERE conrelid = $1 AND contype = 'p'", relid);
}

bool
pgmq_has_primary_key(Oid relid)
{
	return primary_keys(relid) != NIL;
}

/* Where changes are decoded, or applied, the key is needed (as in fn_queue.c). */
static bool
needs_key(Oid relid)
{
	Relation	rel = table_open(relid, NoLock);
	bool		is_needed = XLogLogicalInfoActive() || pgmq_is_replicated(rel) ||
		rel->rd_rel->relreplident == REPLICA_IDENTITY_INDEX;

	table_close(rel, NoLock);
	return is_needed;
}

static void
drop_index(Oid relid, HeapIndex which)
{
	pgmq_sql_ddl("DROP INDEX %s", quote_qualified_identifier(get_namespace_name(get_rel_namespace(relid)),
															 pgmq_heap_index_name(relid, which)));
}

/* True if there was one. */
bool
pgmq_drop_spare_indexes(Oid relid)
{
	Oid			key = pgmq_heap_index(relid, INDEX_KEY);
	bool		has_spare_key = OidIsValid(key) && !OidIsValid(get_index_constraint(key));
	bool		has_vt = OidIsValid(pgmq_heap_index(relid, INDEX_VT));

	if (has_spare_key)
		drop_index(relid, INDEX_KEY);
	if (has_vt)
		drop_index(relid, INDEX_VT);
	return has_spare_key || has_vt;
}

void
pgmq_drop_heap_indexes(Oid relid)
{
	List	   *keys = primary_keys(relid);

	(void) pgmq_drop_spare_indexes(relid);
	if (keys != NIL && !needs_key(relid))
		pgmq_sql_ddl("ALTER TABLE %s DROP CONSTRAINT %s",
					 pgmq_qualified_table(relid), (char *) linitial(keys));
}

/*
 * Add the primary key, of a spare index where there is one.  The caller holds
 * ACCESS EXCLUSIVE.
 */
void
pgmq_add_key(Oid relid)
{
	Oid			spare = pgmq_heap_index(relid, INDEX_KEY);
	const char *name = quote_identifier(pgmq_heap_index_name(relid, INDEX_KEY));

	if (OidIsValid(spare) && get_index_isvalid(spare))
		pgmq_sql_ddl("ALTER TABLE %s ADD CONSTRAINT %s PRIMARY KEY USING INDEX %s",
					 pgmq_qualified_table(relid), name, name);
	else
	{
		if (OidIsValid(spare))
			drop_index(relid, INDEX_KEY);
		pgmq_sql_ddl("ALTER TABLE %s ADD PRIMARY KEY (msg_id)", pgmq_qualified_table(relid));
	}
}

/* The caller holds ACCESS EXCLUSIVE.  False if nothing was missing. */
bool
pgmq_add_heap_indexes(Oid relid)
{
	Oid			vt = pgmq_heap_index(relid, INDEX_VT);
	const char *vt_name = pgmq_heap_index_name(relid, INDEX_VT);
	bool		is_complete = true;

	if (!pgmq_has_primary_key(relid))
	{
		pgmq_add_key(relid);
		is_complete = false;
	}
	if (OidIsValid(vt) && !get_index_isvalid(vt))
		drop_index(relid, INDEX_VT);
	if (!OidIsValid(get_relname_relid(vt_name, get_rel_namespace(relid))))
	{
		pgmq_sql_ddl("CREATE INDEX %s ON %s (vt)", quote_identifier(vt_name),
					 pgmq_qualified_table(relid));
		is_complete = false;
	}
	return !is_complete;
}
