/*
 * claim_owner.h
 *	  Whom to wait for where a slot is CLAIMED or DELETING.
 */
#ifndef PGMQ_CLAIM_OWNER_H
#define PGMQ_CLAIM_OWNER_H

#include "common/compat.h"

#include "storage/lock.h"

/* A transaction or, where subid is not invalid, a savepoint of it. */
typedef struct ClaimOwner
{
	VirtualTransactionId vxid;
	SubTransactionId subid;
} ClaimOwner;

#endif							/* PGMQ_CLAIM_OWNER_H */
