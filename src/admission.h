/*-------------------------------------------------------------------------
 *
 * admission.h
 *		How a request gets its slot: at once, standing in line, or by joining
 *		one that is equal.
 *
 * For queue.c only.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_ADMISSION_H
#define DSOCR_ADMISSION_H

#include "queue.h"
#include "shmem.h"

/* What waiting for a slot needs to know. */
typedef struct DsocrAdmission
{
	Size bytes; /* of the payload, and room for the answer */
	DsocrRequestKind kind;
	DsocrPriority priority;
	DsocrCacheKey key;	   /* model 0 = none */
	bool join;			   /* to an equal request in flight */
	DsocrHandle joined;	   /* the equal request */
	bool ahead;			   /* beyond what the backend needs to go on */
	bool of_document;	   /* one of the pages of a document that is being read */
	uint64 after;		   /* only when so many slots have been freed */
	bool no_memory;		   /* the wait is for memory, not for a slot */
	TimestampTz give_up;   /* dsocr.queue_timeout, 0 = none */
	TimestampTz deadline;  /* dsocr.timeout, 0 = none */
	TimestampTz submitted; /* now */
} DsocrAdmission;

/* Raises ERROR if it will never be admitted.  key may be NULL. */
extern DsocrAdmission dsocr_admit_init(const DsocrRequest *request, const DsocrCacheKey *key);

/* Bytes of prompt, its NUL and the image. */
extern Size dsocr_admit_payload(const DsocrRequest *r);

/* A slot, standing in line for it; NULL when the request was joined.  Raises ERROR. */
extern DsocrSlot *dsocr_admit_wait(DsocrAdmission *a);

/* The same at once or not at all. */
extern DsocrSlot *dsocr_admit_try(DsocrAdmission *a);

/* Would it be admitted now? */
extern bool dsocr_admit_has_room(DsocrRequestKind kind, DsocrPriority priority, Size bytes);

/* See dsocr_queue_stand and dsocr_queue_step_aside. */
extern bool dsocr_admit_stand(bool *limited);
extern void dsocr_admit_step_aside(void);

/* A time so many milliseconds on; 0 (never) for 0. */
extern TimestampTz dsocr_admit_later(TimestampTz from, int ms);

/* Milliseconds until the earlier of two times (0 = never), at most limit. */
extern long dsocr_admit_time_left(TimestampTz a, TimestampTz b, long limit);

extern void dsocr_admit_raise_timeout(void);

/* See dsocr_queue_on_wait. */
extern void (*dsocr_admit_collect)(void);

#endif /* DSOCR_ADMISSION_H */
