/*-------------------------------------------------------------------------
 *
 * roles.h
 *		What roles use, and whose turn it is.
 *
 * All functions want the queue lock held exclusively, unless they say other.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ROLES_H
#define DSOCR_ROLES_H

#include "shmem.h"

/* The entry of a role, which is made when there is none. */
extern DsocrRole *dsocr_role_entry(Oid role);

/*
 * Which of two is to start first?  The virtual time at which a role may start:
 * the smaller one goes first.  The lock may be held shared.
 */
extern double dsocr_role_turn(Oid role);
extern double dsocr_role_line_turn(Oid role);

/* A request of the role was picked for an engine, or got a slot out of the line. */
extern void dsocr_role_picked(Oid role, int weight);
extern void dsocr_role_left_line(Oid role, int weight);

/* A device takes a request, and has no more to do with it. */
extern void dsocr_role_begin_work(DsocrSlot *slot);
extern void dsocr_role_end_work(DsocrSlot *slot);

/* Take the locks themselves. */
extern void dsocr_role_count(Oid role, const DsocrResult *result);
extern void dsocr_role_count_cached(Oid role);
extern int dsocr_roles_read(DsocrRole copy[DSOCR_MAX_ROLES]);
extern void dsocr_roles_reset(void);

#endif /* DSOCR_ROLES_H */
