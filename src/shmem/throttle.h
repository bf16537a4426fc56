/*
 * throttle.h
 *	  Whose turn it is to notify the listeners of a queue.
 *
 * The row of a queue in pgmq.notify_insert_throttle says when its listeners
 * were notified last.  A sender writes it as it commits; until then others
 * neither see the new value nor may rely on it, since the commit can still
 * fail.  The turns here keep them from all notifying at once without waiting
 * for a row lock, and remember what could not be written because somebody else
 * holds that row.
 */
#ifndef PGMQ_THROTTLE_H
#define PGMQ_THROTTLE_H

#include "common/compat.h"

#include "datatype/timestamp.h"

typedef struct ThrottleKey
{
	uint64		name_hash;		/* of the queue's name as the row spells it */
	Oid			dbid;
} ThrottleKey;

/* Which state of a row one knows.  Whoever changes it makes another. */
typedef struct ThrottleVersion
{
	TransactionId xmin;
	TimestampTz notified_at;
} ThrottleVersion;

typedef enum TurnResult
{
	TURN_TAKEN,					/* ours until pgmq_throttle_end() or _give_back() */
	TURN_OVER,					/* a committed transaction has notified */
	TURN_WAITED,				/* another's turn may have ended: look again */
	TURN_NONE					/* no turns to be had: the row alone decides */
} TurnResult;

extern void pgmq_throttle_shmem_request(void);
extern void pgmq_throttle_shmem_startup(void);
extern TurnResult pgmq_throttle_take(const ThrottleKey *key,
									 const ThrottleVersion *version,
									 int64 interval_us, TimestampTz now,
									 bool may_wait, int *turn);
extern void pgmq_throttle_end(int turn, const ThrottleVersion *version,
							  TimestampTz notified_at);
extern void pgmq_throttle_give_back(int turn);

#endif							/* PGMQ_THROTTLE_H */
