/*-------------------------------------------------------------------------
 *
 * own_slots.h
 *		The slots of this backend, and how they end with it.
 *
 * For the callers' side of the queue only: queue.c and admission.c.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_OWN_SLOTS_H
#define DSOCR_OWN_SLOTS_H

#include "shmem.h"

#include "access/xact.h"

typedef struct DsocrOwnSlot
{
	uint64 generation;		 /* 0 = not ours */
	SubTransactionId subxid; /* Invalid = outlives transactions */
	bool document;			 /* holds an open document */
	bool told;				 /* dsocr_queue_progress has told that it is open */
} DsocrOwnSlot;

extern DsocrOwnSlot *dsocr_own_slots; /* [n_slots], NULL before the first request */
extern int dsocr_own_count;
extern int dsocr_own_documents; /* among them */
extern bool dsocr_own_in_line;	/* this backend waits for a free slot */
extern bool dsocr_own_joined;	/* it is shown to wait for the request of another */
extern bool dsocr_own_stands;	/* it stands in line, but does not wait: dsocr_queue_stand */

/* Before the first request of this backend. */
extern void dsocr_own_prepare(void);

/* A slot that was taken; its state is FILLING. */
extern void dsocr_own_add(int index);

/* Give up a request in any state. */
extern void dsocr_own_give_up(int index);

extern void dsocr_own_leave_line(void);
extern void dsocr_own_leave_joined(void);

#endif /* DSOCR_OWN_SLOTS_H */
