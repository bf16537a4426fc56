/*
 * am_published.c
 *	  What publications do with a table's rows.
 *
 * The server looks for publications of a table and of its schema in catalog lists, which
 * before 17 it keeps in one chain for each catalog and searches from the start.  Where there
 * is no publication at all, that is not worth asking for each of a thousand queues.
 */
#include "common/compat.h"

#include "access/genam.h"
#include "access/table.h"
#include "am/am.h"
#include "catalog/pg_publication.h"
#include "utils/inval.h"
#include "utils/syscache.h"

/* Has this session's database any publication? */
static enum
{
	PUBLICATIONS_UNKNOWN,
	PUBLICATIONS_NONE,
	PUBLICATIONS_SOME
}			publications = PUBLICATIONS_UNKNOWN;
static uint64 n_changes = 0;	/* of publications, that were heard of */

static bool
finds_publication(void)
{
	Relation	catalog = table_open(PublicationRelationId, AccessShareLock);
	SysScanDesc scan = systable_beginscan(catalog, InvalidOid, false, NULL, 0, NULL);
	bool		found = HeapTupleIsValid(systable_getnext(scan));

	systable_endscan(scan);
	table_close(catalog, AccessShareLock);
	return found;
}

/* A change that is heard of during the search may concern what it has passed already. */
static bool
has_publications(void)
{
	if (publications == PUBLICATIONS_UNKNOWN)
	{
		uint64		changes_before = n_changes;
		bool		found = finds_publication();

		if (n_changes != changes_before)
			return true;
		publications = found ? PUBLICATIONS_SOME : PUBLICATIONS_NONE;
	}
	return publications == PUBLICATIONS_SOME;
}

/* What all publications of an open table do with its rows, taken together. */
PublicationActions
pgmq_am_published_actions(Relation rel)
{
	PublicationActions none = {0};

	return has_publications() ? pgmq_published_actions(rel) : none;
}

static void
publication_callback(Datum arg, int cache, uint32 hash)
{
	publications = PUBLICATIONS_UNKNOWN;
	n_changes++;
}

void
pgmq_am_published_init(void)
{
	CacheRegisterSyscacheCallback(PUBLICATIONOID, publication_callback, (Datum) 0);
}
