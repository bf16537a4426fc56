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

/* A value that is not a string: by its text; NULL for a JSON null. */
static text *
value_as_text(Datum headers)
{
	LOCAL_FCINFO(fcinfo, 2);
	Datum		result;

	InitFunctionCallInfoData(*fcinfo, NULL, 2, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = headers;
	fcinfo->args[0].isnull = false;
	fcinfo->args[1].value = CStringGetTextDatum(group_header);
	fcinfo->args[1].isnull = false;
	result = jsonb_object_field_text(fcinfo);
	return fcinfo->isnull ? NULL : DatumGetTextPP(result);
}

/* The hash of the group that these headers name. */
uint64
pgmq_am_group_hash(Datum headers, bool is_null)
{
	Jsonb	   *jsonb;
	JsonbValue	name;
	JsonbValue *value = NULL;
	text	   *key;

	if (is_null)
		return hash_key(DEFAULT_GROUP, strlen(DEFAULT_GROUP));
	jsonb = DatumGetJsonbP(headers);
	if (JB_ROOT_IS_OBJECT(jsonb))
	{
		name.type = jbvString;
		name.val.string.val = group_header;
		name.val.string.len = strlen(group_header);
		value = findJsonbValueFromContainer(&jsonb->root, JB_FOBJECT, &name);
	}
	if (value == NULL)
		return hash_key(DEFAULT_GROUP, strlen(DEFAULT_GROUP));
	if (value->type == jbvString)
		return hash_key(value->val.string.val, value->val.string.len);
	key = value_as_text(headers);
	return key == NULL ? hash_key(DEFAULT_GROUP, strlen(DEFAULT_GROUP)) :
		hash_key(VARDATA_ANY(key), VARSIZE_ANY_EXHDR(key));
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
