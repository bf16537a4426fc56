/*
 * convert.h
 *	  What converting a queue is made of.
 */
#ifndef PGMQ_CONVERT_H
#define PGMQ_CONVERT_H

#include "api/api.h"
#include "nodes/pg_list.h"

/* convert_sql.c */
extern List *pgmq_texts_about(const char *sql, Oid relid);
extern void pgmq_run_all(List *statements);
extern const char *pgmq_qualified_table(Oid relid);
extern int	pgmq_use_safe_search_path(void);

/* convert_columns.c */
extern bool pgmq_has_queue_columns(TupleDesc desc);
extern bool pgmq_has_old_columns(TupleDesc desc);
extern void pgmq_reorder_columns(Oid relid);

/* convert_index.c: the indexes of a heap queue */
typedef enum HeapIndex
{
	INDEX_KEY,					/* msg_id */
	INDEX_VT
} HeapIndex;

extern char *pgmq_heap_index_name(Oid relid, HeapIndex which);
extern Oid	pgmq_heap_index(Oid relid, HeapIndex which);
extern bool pgmq_has_primary_key(Oid relid);
extern bool pgmq_drop_spare_indexes(Oid relid);
extern void pgmq_drop_heap_indexes(Oid relid);
extern void pgmq_add_key(Oid relid);
extern bool pgmq_add_heap_indexes(Oid relid);

/* convert_storage.c: one access method or the other */
extern void pgmq_make_hot(Oid relid, bool is_old_order);
extern void pgmq_rewrite_as_heap(Oid relid);
extern void pgmq_declare_heap(Oid relid);

/* convert_lock.c */
extern Oid	pgmq_lock_to_convert(const char *schema, const char *table);

/* convert_online.c */
extern bool pgmq_convert_online(const char *table, Oid relid);

#endif							/* PGMQ_CONVERT_H */
