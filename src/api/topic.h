/*
 * topic.h
 *	  Routing keys, patterns, and the queues they lead to.
 */
#ifndef PGMQ_TOPIC_H
#define PGMQ_TOPIC_H

#include "common/compat.h"

/* Queues found, each once, in the order that SQL gives their names. */
typedef struct TopicQueues
{
	text	  **names;			/* NULL where the binding's is */
	int			n;
	int			capacity;
} TopicQueues;

/* A row of pgmq.topic_bindings; name is NULL where the row's is. */
typedef struct TopicBinding
{
	text	   *regex;
	text	   *name;
} TopicBinding;

/* What words of keys and patterns are made of: ASCII, whatever the locale. */
static inline bool
pgmq_is_topic_character(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
		(c >= '0' && c <= '9') || c == '-' || c == '_';
}

/* topic_check.c */
extern void pgmq_check_routing_key(text *routing_key);
extern void pgmq_check_topic_pattern(text *pattern);

/* topic_cache.c */
extern bool pgmq_cached_bindings(Relation rel, AttrNumber regex, AttrNumber name,
								 Snapshot snapshot, const TopicBinding **bindings, int *n);

/* topic_match.c */
extern void pgmq_find_topic_queues(text *routing_key, TopicQueues *queues);

#endif							/* PGMQ_TOPIC_H */
