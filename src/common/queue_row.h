/*
 * queue_row.h
 *	  The fixed-width head of a stored queue row, and what a lease changes.
 *
 * A queue table's columns are msg_id, read_ct, enqueued_at, last_read_at, vt,
 * message, headers.  Where the first five are not null on the page, they lie
 * at constant offsets behind the tuple header:
 *
 *	  0  msg_id        int8
 *	  8  read_ct       int4        \
 *	 12  (padding)                  |  the 20 lease bytes:
 *	 16  enqueued_at   timestamptz  |  8..11, 24..31, 32..39
 *	 24  last_read_at  timestamptz  |
 *	 32  vt            timestamptz /
 *	 40  message, headers, ...
 *
 * last_read_at is nullable in SQL; our writers store -infinity for NULL, and
 * our fetchers present it as NULL, so that the offsets hold for every row.
 */
#ifndef PGMQ_QUEUE_ROW_H
#define PGMQ_QUEUE_ROW_H

#include "postgres.h"

#include "access/htup_details.h"
#include "access/tupdesc.h"
#include "catalog/pg_type.h"
#include "datatype/timestamp.h"

#define ATTNUM_MSG_ID 1
#define ATTNUM_READ_CT 2
#define ATTNUM_ENQUEUED_AT 3
#define ATTNUM_LAST_READ_AT 4
#define ATTNUM_VT 5
#define ATTNUM_MESSAGE 6
#define ATTNUM_HEADERS 7
#define QUEUE_NATTS 7

typedef struct QueueRowHead
{
	int64		msg_id;
	int32		read_ct;
	int32		padding;
	TimestampTz enqueued_at;
	TimestampTz last_read_at;	/* -infinity stands for NULL */
	TimestampTz visible_at;		/* SQL column vt */
} QueueRowHead;

StaticAssertDecl(sizeof(QueueRowHead) == 40, "queue row head has holes");
StaticAssertDecl(offsetof(QueueRowHead, last_read_at) == 24,
				 "last_read_at is not where rows store it");

/* What a read or an extend writes. */
typedef struct Lease
{
	int32		read_ct;
	TimestampTz last_read_at;
	TimestampTz visible_at;
} Lease;

/* The head of a row whose first five columns are stored (see below). */
static inline QueueRowHead *
queue_row_head(HeapTupleHeader tuple)
{
	return (QueueRowHead *) ((char *) tuple + tuple->t_hoff);
}

/* Does this row store its first five columns, so that it has a head? */
static inline bool
queue_row_has_head(HeapTupleHeader tuple)
{
	if (HeapTupleHeaderGetNatts(tuple) < ATTNUM_VT)
		return false;
	return (tuple->t_infomask & HEAP_HASNULL) == 0 ||
		(tuple->t_bits[0] & 0x1f) == 0x1f;
}

/* Is attribute 4 a timestamptz, whose NULL our AM stores as -infinity? */
static inline bool
descr_stores_last_read_at(TupleDesc desc)
{
	return desc->natts >= ATTNUM_LAST_READ_AT &&
		TupleDescAttr(desc, ATTNUM_LAST_READ_AT - 1)->atttypid == TIMESTAMPTZOID;
}

/* Do the first five columns have the types of a queue table's? */
static inline bool
descr_is_queue(TupleDesc desc)
{
	return desc->natts >= ATTNUM_VT &&
		TupleDescAttr(desc, ATTNUM_MSG_ID - 1)->atttypid == INT8OID &&
		TupleDescAttr(desc, ATTNUM_READ_CT - 1)->atttypid == INT4OID &&
		TupleDescAttr(desc, ATTNUM_ENQUEUED_AT - 1)->atttypid == TIMESTAMPTZOID &&
		TupleDescAttr(desc, ATTNUM_LAST_READ_AT - 1)->atttypid == TIMESTAMPTZOID &&
		TupleDescAttr(desc, ATTNUM_VT - 1)->atttypid == TIMESTAMPTZOID;
}

#endif							/* PGMQ_QUEUE_ROW_H */
