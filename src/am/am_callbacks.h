/*
 * am_callbacks.h
 *	  Members of the TableAmRoutine, for am_handler.c to put together.
 */
#ifndef PGMQ_AM_CALLBACKS_H
#define PGMQ_AM_CALLBACKS_H

#include "am/am.h"

/* am_modify.c */
extern void pgmq_am_tuple_insert(Relation rel, TupleTableSlot *slot,
								 CommandId cid, int options,
								 BulkInsertState bistate);
extern void pgmq_am_tuple_insert_speculative(Relation rel, TupleTableSlot *slot,
											 CommandId cid, int options,
											 BulkInsertState bistate,
											 uint32 token);
extern void pgmq_am_tuple_complete_speculative(Relation rel,
											   TupleTableSlot *slot,
											   uint32 token, bool succeeded);
extern void pgmq_am_multi_insert(Relation rel, TupleTableSlot **slots,
								 int n_slots, CommandId cid, int options,
								 BulkInsertState bistate);
extern TM_Result pgmq_am_tuple_delete(Relation rel, ItemPointer tid,
									  CommandId cid, Snapshot snapshot,
									  Snapshot crosscheck, bool wait,
									  TM_FailureData *tmfd,
									  bool changing_partition);
extern TM_Result pgmq_am_tuple_update(Relation rel, ItemPointer otid,
									  TupleTableSlot *slot, CommandId cid,
									  Snapshot snapshot, Snapshot crosscheck,
									  bool wait, TM_FailureData *tmfd,
									  LockTupleMode *lockmode,
									  TU_UpdateIndexes *update_indexes);

/* am_scan.c */
extern void pgmq_am_override_scans(TableAmRoutine *routine);

/* am_storage.c */
extern void pgmq_am_override_storage(TableAmRoutine *routine);

#endif							/* PGMQ_AM_CALLBACKS_H */
