/*
 * am_group.c
 *	  The group of a message: headers->>'x-pgmq-group', by hash.
 *
 * A message without that header, or with a JSON null there, belongs to the
 * default group, like one that names it.  Any other JSON value counts by its
 * text.
 */
#include "common/compat.h"

#include "am/am.h"
#include "common/hashfn.h"
#include "utils/builtins.h"
#include "utils/datum.h"
#include "utils/fmgrprotos.h"
#include "utils/jsonb.h"

#define DEFAULT_GROUP "_default_fifo_group"

static char group_header[] = "x-pgmq-group";

static uint64
hash_key(const char *key, int length)
{
	return hash_bytes_extended((const unsigned char *) key, length, 0);
}

static uint64
hash_default(void)
{
	static uint64 hash = 0;

	if (hash == 0)
		hash = hash_key(DEFAULT_GROUP, strlen(DEFAULT_GROUP));
	return hash;
}

/* A value that is not a string counts by its text; a JSON null has none. */
static uint64
hash_text_of_value(Jsonb *headers)
{
	LOCAL_FCINFO(fcinfo, 2);
	text	   *key;
	uint64		hash;

	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = JsonbPGetDatum(headers);
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = CStringGetTextDatum(group_header);
	fcinfo->args[1].isnull = false;
	key = (text *) DatumGetPointer(jsonb_object_field_text(fcinfo));
	pfree(DatumGetPointer(fcinfo->args[1].value));
	if (fcinfo->isnull)
		return hash_default();
	hash = hash_key(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
	pfree(key);
	return hash;
}

static uint64
hash_of_object(Jsonb *headers)
{
	JsonbValue	name;
	JsonbValue *value;
	uint64		hash;

	name.type = jbvString;
	name.val.string.val = group_header;
	name.val.string.len = strlen(group_header);
	value = findJsonbValueFromContainer(&headers->root, JB_FOBJECT, &name);
	if (value == NULL)
		return hash_default();
	hash = value->type == jbvString ?
		hash_key(value->val.string.val, value->val.string.len) :
		hash_text_of_value(headers);
	pfree(value);
	return hash;
}

/*
 * The hash of the group that these headers name.  Leaves nothing behind: a
 * statement that writes many rows calls it for each.
 */
uint64
pgmq_am_group_hash(Datum headers, bool is_null)
{
	Jsonb	   *jsonb;
	uint64		hash;

	if (is_null)
		return hash_default();
	jsonb = DatumGetJsonbP(headers);
	hash = JB_ROOT_IS_OBJECT(jsonb) ? hash_of_object(jsonb) : hash_default();
	if ((Pointer) jsonb != DatumGetPointer(headers))
		pfree(jsonb);
	return hash;
}

static bool
has_headers(TupleDesc desc)
{
	return desc->natts >= ATTNUM_HEADERS &&
		TupleDescAttr(desc, ATTNUM_HEADERS - 1)->atttypid == JSONBOID;
}

/* The group of a row; may fetch its headers from the TOAST table. */
uint64
pgmq_am_row_group(HeapTuple tuple, TupleDesc desc)
{
	Datum		headers = (Datum) 0;
	bool		is_null = true;

	if (has_headers(desc))
		headers = heap_getattr(tuple, ATTNUM_HEADERS, desc, &is_null);
	return pgmq_am_group_hash(headers, is_null);
}

/* A row's headers as stored, palloc'd, or 0; for use when its page is let go. */
Datum
pgmq_am_copy_headers(HeapTuple tuple, TupleDesc desc)
{
	Datum		headers = (Datum) 0;
	bool		is_null = true;

	if (has_headers(desc))
		headers = heap_getattr(tuple, ATTNUM_HEADERS, desc, &is_null);
	return is_null ? (Datum) 0 : datumCopy(headers, false, -1);
}
