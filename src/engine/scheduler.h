/*-------------------------------------------------------------------------
 *
 * scheduler.h
 *		Which request gets the next piece of work.
 *
 * Order of arrival, with interactive requests before bulk ones: after
 * DSOCR_TURN interactive turns in a row while a bulk request stood waiting,
 * one bulk request has its turn.  The rule holds three times: for admission,
 * for the images and for the work before decoding (views, prefill).  A request that is next
 * for admission and does not fit waits; nobody overtakes it, so large
 * requests do not starve either.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_SCHEDULER_H
#define DSOCR_SCHEDULER_H

#include "job.h"

#define DSOCR_TURN 4

typedef struct DsocrQueue
{
	DsocrJob *first;
	DsocrJob **last;
} DsocrQueue;

typedef struct DsocrScheduler
{
	int max_active;
	int active;			  /* admitted jobs */
	int waiting;		  /* jobs in both queues */
	DsocrQueue queues[2]; /* waiting, by DsocrPriority */
	DsocrQueue admitted;  /* in the order of admission */
	int admission_turns;  /* interactive admissions in a row while bulk waited */
	int image_turns;	  /* the same for images */
	int work_turns;		  /* and for work */
} DsocrScheduler;

extern void dsocr_scheduler_init(DsocrScheduler *s, int max_active);

/* Put a new job at the end of its queue. */
extern void dsocr_scheduler_add(DsocrScheduler *s, DsocrJob *job);

/* Waiting or admitted job by request id, or NULL. */
extern DsocrJob *dsocr_scheduler_find(const DsocrScheduler *s, uint64_t id);

/* First waiting probe, which needs neither place nor turn, or NULL. */
extern DsocrJob *dsocr_scheduler_probe(const DsocrScheduler *s);

/* Take a job out, wherever it is. */
extern void dsocr_scheduler_remove(DsocrScheduler *s, DsocrJob *job);

/* Who is admitted next; NULL when nobody waits or all places are taken. */
extern DsocrJob *dsocr_scheduler_next(const DsocrScheduler *s);

/* Admit the job that dsocr_scheduler_next gave. */
extern void dsocr_scheduler_admit(DsocrScheduler *s, DsocrJob *job);

/* An admitted job waits again, before all others of its priority. */
extern void dsocr_scheduler_again(DsocrScheduler *s, DsocrJob *job);

/* Whose image is next, NULL if none; it is that job's turn when taken is called. */
extern DsocrJob *dsocr_scheduler_image(const DsocrScheduler *s);
extern void dsocr_scheduler_image_taken(DsocrScheduler *s, const DsocrJob *job);

/* Whose view or prefill chunk is next; counts as that job's turn. NULL if none. */
extern DsocrJob *dsocr_scheduler_work(DsocrScheduler *s);

/* All jobs that decode, in the order of admission; list has max_active places. */
extern int dsocr_scheduler_decoding(const DsocrScheduler *s, DsocrJob **list);

#endif /* DSOCR_SCHEDULER_H */
