/*
 * scanned_row.h
 *	  What a scan of the table found, on its way into the ring.
 */
#ifndef PGMQ_SCANNED_ROW_H
#define PGMQ_SCANNED_ROW_H

#include "common/compat.h"

#include "datatype/timestamp.h"
#include "storage/itemptr.h"

typedef struct ScannedRow
{
	int64		msg_id;
	ItemPointerData tid;
	int32		read_ct;
	TimestampTz visible_at;
	uint64		group_hash;		/* where the ring keeps groups */
	TransactionId undecided;	/* inserter or deleter in progress, or invalid */
	bool		is_insert;		/* the inserter is */
} ScannedRow;

#endif							/* PGMQ_SCANNED_ROW_H */
