/*-------------------------------------------------------------------------
 *
 * slots.h
 *		Steps on request slots that backends and workers have in common.
 *
 * queue.c and dispatch.c, the two sides of the queue, are the only callers.
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

/*
 * The line for a free slot; the queue lock is held exclusively.  Who waits to
 * open a document while no more may be open lets the others go before.
 */
extern void dsocr_line_enter(int procno, int pid, bool document); /* again: keeps its place */
extern void dsocr_line_leave(int procno);
extern bool dsocr_line_first(int procno); /* nobody waits before this process; shared suffices */
extern void dsocr_line_wake(void);		  /* the first in line looks again */

#endif /* DSOCR_SLOTS_H */
