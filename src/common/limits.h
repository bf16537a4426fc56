/*
 * limits.h
 *	  Bounds of the whole extension, in one place.
 */
#ifndef PGMQ_LIMITS_H
#define PGMQ_LIMITS_H

/* Longest queue name, in characters (API contract). */
#define QUEUE_NAME_MAX_CHARS 47

/* Longest routing key and topic pattern, in characters (API contract). */
#define TOPIC_MAX_CHARS 255

/* Ring slots handled while a ring lock is held before it is let go once. */
#define RING_BATCH_SLOTS 256

/* Waiters woken by one pass over a ring (more are woken by the woken). */
#define RING_WAKE_BATCH 64

/* Messages a transaction tracks one by one; past it the ring is rebuilt. */
#define XACT_MAX_MESSAGES (1 << 19)

/* Queues whose turn to notify is known at a time; the table knows all. */
#define THROTTLE_ENTRIES 1024

/*
 * How long a sender that commits waits at most, per wait and in all, for
 * another one that is about to notify the same listeners.
 */
#define THROTTLE_WAIT_MS 20
#define THROTTLE_MAX_WAIT_MS 100

/* Retries before check_queue believes a disagreement, and their distance. */
#define CHECK_RETRIES 40
#define CHECK_RETRY_MS 25

/* Messages that became ready out of order, remembered per ring for filters. */
#define RING_LATE_LOG 64

/* Claims by group per hold of a ring's lock. */
#define RING_HEADS_BATCH 64

/* Rows that a ring remembers after they were removed. */
#define RING_REMOVED_LOG 128

/*
 * Stretches of a table told apart where it has messages without a slot; and for how
 * many queues there is one memory of them.
 */
#define RING_COLD_RANGES 64
#define QUEUES_PER_COLD_MAP 32
#define MIN_COLD_MAPS 8

/* Leased messages that stay in a full pool for one that may be read. */
#define RING_LEASED_PER_READY 8

#endif							/* PGMQ_LIMITS_H */
