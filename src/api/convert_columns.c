/*
 * convert_columns.c
 *	  Which columns has a queue table?  And tables from before 1.10, whose last
 *	  column is last_read_at: they are rewritten, once, in the order of columns
 *	  that leases need.
 */
#include "common/compat.h"

#include "api/convert.h"
#include "utils/lsyscache.h"

/* In the order of their attribute numbers; all of a queue table's columns. */
static const char *const canonical_order[QUEUE_NATTS] = {
	"msg_id", "read_ct", "enqueued_at", "last_read_at", "vt", "message", "headers"
};
static const char *const old_order[QUEUE_NATTS] = {
	"msg_id", "read_ct", "enqueued_at", "vt", "message", "headers", "last_read_at"
};

static bool
has_order(TupleDesc desc, const char *const *names)
{
	if (desc->natts < QUEUE_NATTS)
		return false;
	for (int i = 0; i < QUEUE_NATTS; i++)
		if (TupleDescAttr(desc, i)->attisdropped ||
			strcmp(NameStr(TupleDescAttr(desc, i)->attname), names[i]) != 0)
			return false;
	return true;
}

bool
pgmq_has_queue_columns(TupleDesc desc)
{
	return has_order(desc, canonical_order) && descr_is_queue(desc);
}

/* As made before 1.10, with the column of 1.10 added at the end, and no other. */
bool
pgmq_has_old_columns(TupleDesc desc)
{
	return desc->natts == QUEUE_NATTS && has_order(desc, old_order);
}

/*
 * What hangs on a column by its number and cannot follow the column's name.
 * Views, rules, policies, triggers with conditions and functions are refused by
 * ALTER TABLE itself, which names them.
 */
static const char *const find_obstacle =
"SELECT format('constraint \"%s\"', conname) FROM pg_constraint"
" WHERE conrelid = $1 AND contype NOT IN ('p', 'n', 't')"
" UNION ALL SELECT format('constraint \"%s\" of table %s', conname, conrelid::regclass)"
" FROM pg_constraint WHERE confrelid = $1"
" UNION ALL SELECT format('statistics object \"%s\"', stxname) FROM pg_statistic_ext"
" WHERE stxrelid = $1"
" UNION ALL SELECT format('default of column \"%s\"', attname) FROM pg_attribute"
" WHERE attrelid = $1 AND attnum > 3 AND (atthasdef OR attidentity <> '')"
" UNION ALL SELECT format('options of column \"%s\"', attname) FROM pg_attribute"
" WHERE attrelid = $1 AND attnum > 3 AND attoptions::text ~ 'n_distinct'"
" UNION ALL SELECT format('security label of column %s', objsubid) FROM pg_seclabel"
" WHERE classoid = 'pg_class'::regclass AND objoid = $1 AND objsubid > 3"
" UNION ALL SELECT format('column privileges granted by role \"%s\"', a.grantor::regrole)"
" FROM pg_attribute, aclexplode(attacl) a"
" WHERE attrelid = $1 AND attnum > 3"
" AND a.grantor <> (SELECT relowner FROM pg_class WHERE oid = $1)"
" UNION ALL SELECT format('publication \"%s\"', pubname)"
" FROM pg_publication_rel r JOIN pg_publication p ON p.oid = r.prpubid"
" WHERE r.prrelid = $1 AND (to_jsonb(r)->>'prattrs' IS NOT NULL OR to_jsonb(r)->>'prqual' IS NOT NULL)"
" UNION ALL SELECT format('tablespace of index \"%s\"', relname)"
" FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid"
" WHERE indrelid = $1 AND NOT indisprimary AND reltablespace <> 0"
" UNION ALL SELECT format('parent table %s', inhparent::regclass) FROM pg_inherits"
" WHERE inhrelid = $1"
" UNION ALL SELECT format('child table %s', inhrelid::regclass) FROM pg_inherits"
" WHERE inhparent = $1";

/* Undo what is by column number ... */
static const char *const find_removals =
"SELECT format('REVOKE ALL (%I) ON TABLE %s FROM %s CASCADE', attname, $1::regclass,"
" CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END)"
" FROM pg_attribute, aclexplode(attacl) a WHERE attrelid = $1 AND attnum > 3"
" UNION SELECT format('COMMENT ON COLUMN %s.%I IS NULL', $1::regclass, attname)"
" FROM pg_description JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid"
" WHERE classoid = 'pg_class'::regclass AND objoid = $1 AND objsubid > 3"
" UNION ALL SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index"
" WHERE indrelid = $1 AND NOT indisprimary";

/* ... and do it again by name. */
static const char *const find_additions =
"SELECT format('GRANT %s (%I) ON TABLE %s TO %s%s', a.privilege_type, attname, $1::regclass,"
" CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE a.grantee::regrole::text END,"
" CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)"
" FROM pg_attribute, aclexplode(attacl) a WHERE attrelid = $1 AND attnum > 3"
" UNION ALL SELECT format('COMMENT ON COLUMN %s.%I IS %L', $1::regclass, attname, description)"
" FROM pg_description JOIN pg_attribute ON attrelid = objoid AND attnum = objsubid"
" WHERE classoid = 'pg_class'::regclass AND objoid = $1 AND objsubid > 3"
" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', $1::regclass, attname,"
" CASE attstorage WHEN 'p' THEN 'PLAIN' WHEN 'e' THEN 'EXTERNAL' WHEN 'm' THEN 'MAIN' ELSE 'EXTENDED' END)"
" FROM pg_attribute WHERE attrelid = $1 AND attname IN ('message', 'headers')"
" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET COMPRESSION %s', $1::regclass, attname,"
" CASE attcompression WHEN 'p' THEN 'pglz' WHEN 'l' THEN 'lz4' ELSE 'default' END)"
" FROM pg_attribute WHERE attrelid = $1 AND attname IN ('message', 'headers')"
" UNION ALL SELECT format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', $1::regclass, attname,"
" coalesce(attstattarget, -1))"
" FROM pg_attribute WHERE attrelid = $1 AND attnum > 3"
" UNION ALL SELECT pg_get_indexdef(indexrelid) FROM pg_index"
" WHERE indrelid = $1 AND NOT indisprimary"
" UNION ALL SELECT format('COMMENT ON INDEX %s IS %L', indexrelid::regclass, description)"
" FROM pg_index JOIN pg_description ON objoid = indexrelid"
" WHERE indrelid = $1 AND NOT indisprimary AND classoid = 'pg_class'::regclass AND objsubid = 0";

/*
 * Bring a table from before 1.10 into the canonical order: each column's values
 * move to the number where they belong, in one rewrite, then the names follow.
 */
void
pgmq_reorder_columns(Oid relid)
{
	const char *table = pgmq_qualified_table(relid);
	List	   *obstacles = pgmq_texts_about(find_obstacle, relid);
	List	   *removals;
	List	   *additions;

	if (obstacles != NIL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
				 errmsg("cannot convert queue table \"%s\": it has %s",
						get_rel_name(relid), (char *) linitial(obstacles)),
				 errdetail("The table is from before pgmq 1.10, so its columns must be brought into another order."),
				 errhint("Remove it, convert the queue, and add it again.")));
	removals = pgmq_texts_about(find_removals, relid);
	additions = pgmq_texts_about(find_additions, relid);
	pgmq_run_all(removals);
	pgmq_sql_ddl("ALTER TABLE %s ALTER COLUMN vt DROP NOT NULL, "
				 "ALTER COLUMN vt TYPE timestamptz USING last_read_at, "
				 "ALTER COLUMN message TYPE timestamptz USING vt, "
				 "ALTER COLUMN message SET NOT NULL, "
				 "ALTER COLUMN headers TYPE jsonb USING message, "
				 "ALTER COLUMN last_read_at TYPE jsonb USING headers", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN last_read_at TO pgmq_moving", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN vt TO last_read_at", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN message TO vt", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN headers TO message", table);
	pgmq_sql_ddl("ALTER TABLE %s RENAME COLUMN pgmq_moving TO headers", table);
	pgmq_run_all(additions);
}
