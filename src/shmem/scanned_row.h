/*
 * scanned_row.h
 *	  A row on its way into the ring: what a scan of the table found, or a batch has sent.
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
