/*-------------------------------------------------------------------------
 *
 * slots.h
 *		Steps on request slots that backends and workers have in common.
 *
 * queue.c and dispatch*.c, the two sides of the queue, are the only callers.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SLOTS_H
#define DSOCR_SLOTS_H

#include "shmem.h"

/* Ended, and waiting to be fetched. */
static inline bool
dsocr_slot_ended(const DsocrSlot *slot)
{
	return slot->state == DSOCR_SLOT_DONE || slot->state == DSOCR_SLOT_FAILED;
}

/*
 * Give back a slot and its memory.  The queue lock is held exclusively on
 * entry and released on return.  The slot must not be FREE or FREEING.
 */
extern void dsocr_slot_release(DsocrSlot *slot);

/* Set the latch of a process, by its number; queue lock held or not. */
extern void dsocr_slot_wake(int procno);

/* The request ends or is given up: wake those who wait for it beside its owner; queue lock held. */
extern void dsocr_slot_wake_joined(DsocrSlot *slot);

/* Wake every worker; queue lock held. */
extern void dsocr_slot_wake_workers(void);

/* Has a device been without a worker for so long that none will come?  Queue lock held. */
extern bool dsocr_slot_abandoned(const DsocrDevice *d, TimestampTz since);

/* Is the process with this number and pid still there? */
extern bool dsocr_slot_alive(int procno, int pid);

/* So many documents may be open at once; the other slots are for pages and images. */
extern int dsocr_slot_documents_max(void);

/*
 * Has a role reached dsocr.max_requests_per_role?  Queue lock held.  Open
 * documents are counted by themselves, so that a limit of 1 lets it read one.
 */
extern bool dsocr_slot_role_is_full(Oid role, DsocrRequestKind kind);

/* A document is opened only where a slot for its pages is left. */
#define DSOCR_SLOTS_TO_OPEN 2

/* Of so many slots that are taken out of the line, one goes by turn whatever the class. */
#define DSOCR_LINE_ANY_CLASS 4

/*
 * The line for a free slot; the queue lock is held exclusively.  Interactive
 * requests go first, but for each fourth slot; among them the role whose turn
 * it is, and of one role who has waited longest.  Who enters again keeps the
 * place.  wants: to open a document; holds: one is open, so that others may
 * wait for this process.
 */
extern void dsocr_line_enter(int procno, Oid role, DsocrPriority priority, bool wants, bool holds);
extern void dsocr_line_leave(int procno);

/* A process has got a slot; if it stood in line, before it leaves. */
extern void dsocr_line_served(int procno);

/* Keep the place, but let others go first until it enters again. */
extern void dsocr_line_step_aside(int procno);

/* May nobody who waits go before this process?  The lock may be held shared. */
extern bool dsocr_line_first(int procno, bool holds);
extern void dsocr_line_wake(void); /* the first in line looks again */

#endif /* DSOCR_SLOTS_H */
