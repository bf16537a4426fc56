/*
 * am_claim.h
 *	  What the kinds of claiming share: by msg_id (am_claim.c), those that match
 *	  a condition (am_claim_filter.c), by group (am_claim_group.c).
 */
#ifndef PGMQ_AM_CLAIM_H
#define PGMQ_AM_CLAIM_H

#include "am/am.h"
#include "storage/buf.h"

typedef struct ClaimState
{
	Relation	rel;
	XactQueue  *queue;
	ClaimRequest *request;
	TimestampTz now;
	ReadyCursor cursor;
	Buffer		pin;			/* page looked at last, or invalid */
	int64		n_done;
	int64		n_looked;		/* messages looked at, had or not */
	int		   *own;			/* own candidates, in msg_id order */
	int			n_own;
	int			next_own;
	struct Filter *filter;		/* am_claim_filter.c */
} ClaimState;

extern bool pgmq_claim_begin(ClaimState *state, Relation rel, ClaimRequest *request);
extern void pgmq_claim_end(ClaimState *state);
extern RowState pgmq_claim_try(ClaimState *state, int message);
extern void pgmq_claim_own_up_to(ClaimState *state, int64 msg_id);

extern void pgmq_claim_begin_matching(ClaimState *state);
extern void pgmq_claim_matching(ClaimState *state);
extern void pgmq_claim_end_matching(ClaimState *state);

static inline bool
pgmq_claim_has_enough(const ClaimState *state)
{
	return state->n_done >= state->request->max_rows;
}

#endif							/* PGMQ_AM_CLAIM_H */
