/*-------------------------------------------------------------------------
 *
 * roles.h
 *		What roles use, and whose turn it is.
 *
 * A role is named by the number of its entry in dsocr_shared->roles, its
 * share.  All functions want the queue lock held exclusively, unless they say
 * other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ROLES_H
#define DSOCR_ROLES_H

#include "shmem.h"

/* The entry of a role, which is made when there is none. */
extern int dsocr_role_share(Oid role);

/* The smaller, the earlier a role gets its next slot; the lock may be held shared. */
extern double dsocr_role_turn(int share);

/* The smaller, the earlier a waiting request is given to an engine; the lock may be held shared. */
extern double dsocr_role_start(const DsocrSlot *slot);

/* A request has got its slot. */
extern void dsocr_role_admit(DsocrSlot *slot);

/* A device takes a request; it has no more to do with it, or never had. */
extern void dsocr_role_begin_work(DsocrSlot *slot);
extern void dsocr_role_end_work(DsocrSlot *slot);

/* Take the lock themselves. */
extern void dsocr_role_count(int share, const DsocrResult *result);
extern void dsocr_role_count_cached(Oid role);

/* An engine elsewhere worked for a role, whose turn here is not touched by it; result may be NULL. */
extern void dsocr_role_count_remote(Oid role, const DsocrResult *result, double device_us);
extern int dsocr_roles_read(DsocrRole copy[DSOCR_MAX_ROLES]);
extern void dsocr_roles_reset(void);

#endif /* DSOCR_ROLES_H */
