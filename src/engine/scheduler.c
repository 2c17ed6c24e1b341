/*-------------------------------------------------------------------------
 *
 * scheduler.c
 *		Which request gets the next piece of work.
 *
 *-------------------------------------------------------------------------
 */
#include "scheduler.h"

#include <string.h>

static void
queue_init(DsocrQueue *q)
{
	q->first = NULL;
	q->last = &q->first;
}

static void
queue_push(DsocrQueue *q, DsocrJob *job)
{
	job->next = NULL;
	*q->last = job;
	q->last = &job->next;
}

static bool
queue_remove(DsocrQueue *q, DsocrJob *job)
{
	for (DsocrJob **at = &q->first; *at != NULL; at = &(*at)->next)
	{
		if (*at != job)
			continue;
		*at = job->next;
		if (q->last == &job->next)
			q->last = at;
		job->next = NULL;
		return true;
	}
	return false;
}

static DsocrJob *
queue_find(const DsocrQueue *q, uint64_t id)
{
	for (DsocrJob *job = q->first; job != NULL; job = job->next)
		if (job->request.id == id)
			return job;
	return NULL;
}

/* The better of the two heads after so many interactive turns in a row. */
static DsocrJob *
whose_turn(DsocrJob *interactive, DsocrJob *bulk, int turns)
{
	if (interactive == NULL || (bulk != NULL && turns >= DSOCR_TURN))
		return bulk;
	return interactive;
}

/* Turns in a row after this one. */
static int
count_turn(int turns, const DsocrJob *job, bool bulk_waits)
{
	if (job->request.priority == DSOCR_BULK || !bulk_waits)
		return 0;
	return turns + 1;
}

void
dsocr_scheduler_init(DsocrScheduler *s, int max_active)
{
	memset(s, 0, sizeof(*s));
	s->max_active = max_active;
	queue_init(&s->queues[DSOCR_INTERACTIVE]);
	queue_init(&s->queues[DSOCR_BULK]);
	queue_init(&s->admitted);
}

void
dsocr_scheduler_add(DsocrScheduler *s, DsocrJob *job)
{
	queue_push(&s->queues[job->request.priority], job);
	s->waiting++;
}

DsocrJob *
dsocr_scheduler_find(const DsocrScheduler *s, uint64_t id)
{
	DsocrJob *job = queue_find(&s->admitted, id);

	if (job == NULL)
		job = queue_find(&s->queues[DSOCR_INTERACTIVE], id);
	if (job == NULL)
		job = queue_find(&s->queues[DSOCR_BULK], id);
	return job;
}

DsocrJob *
dsocr_scheduler_probe(const DsocrScheduler *s)
{
	for (int i = DSOCR_INTERACTIVE; i <= DSOCR_BULK; i++)
		for (DsocrJob *job = s->queues[i].first; job != NULL; job = job->next)
			if (job->request.kind == DSOCR_PROBE)
				return job;
	return NULL;
}

void
dsocr_scheduler_remove(DsocrScheduler *s, DsocrJob *job)
{
	if (queue_remove(&s->admitted, job))
		s->active--;
	else if (queue_remove(&s->queues[job->request.priority], job))
		s->waiting--;
}

DsocrJob *
dsocr_scheduler_next(const DsocrScheduler *s)
{
	if (s->active >= s->max_active)
		return NULL;
	return whose_turn(s->queues[DSOCR_INTERACTIVE].first, s->queues[DSOCR_BULK].first,
					  s->admission_turns);
}

void
dsocr_scheduler_admit(DsocrScheduler *s, DsocrJob *job)
{
	dsocr_scheduler_remove(s, job);
	s->admission_turns = count_turn(s->admission_turns, job, s->queues[DSOCR_BULK].first != NULL);
	job->state = DSOCR_JOB_IMAGE;
	queue_push(&s->admitted, job);
	s->active++;
}

void
dsocr_scheduler_again(DsocrScheduler *s, DsocrJob *job)
{
	DsocrQueue *q = &s->queues[job->request.priority];

	dsocr_scheduler_remove(s, job);
	job->next = q->first;
	if (q->first == NULL)
		q->last = &job->next;
	q->first = job;
	s->waiting++;
}

/* The oldest admitted job of each priority in these states. */
static void
first_in(const DsocrScheduler *s, DsocrJobState from, DsocrJobState to, DsocrJob *first[2])
{
	first[DSOCR_INTERACTIVE] = first[DSOCR_BULK] = NULL;
	for (DsocrJob *job = s->admitted.first; job != NULL; job = job->next)
		if (job->state >= from && job->state <= to && first[job->request.priority] == NULL)
			first[job->request.priority] = job;
}

DsocrJob *
dsocr_scheduler_image(const DsocrScheduler *s)
{
	DsocrJob *first[2];

	first_in(s, DSOCR_JOB_IMAGE, DSOCR_JOB_IMAGE, first);
	return whose_turn(first[DSOCR_INTERACTIVE], first[DSOCR_BULK], s->image_turns);
}

void
dsocr_scheduler_image_taken(DsocrScheduler *s, const DsocrJob *job)
{
	DsocrJob *first[2];

	first_in(s, DSOCR_JOB_IMAGE, DSOCR_JOB_IMAGE, first);
	s->image_turns = count_turn(s->image_turns, job, first[DSOCR_BULK] != NULL);
}

DsocrJob *
dsocr_scheduler_work(DsocrScheduler *s)
{
	DsocrJob *first[2];
	DsocrJob *job;

	first_in(s, DSOCR_JOB_VIEWS, DSOCR_JOB_PREFILL, first);
	job = whose_turn(first[DSOCR_INTERACTIVE], first[DSOCR_BULK], s->work_turns);
	if (job != NULL)
		s->work_turns = count_turn(s->work_turns, job, first[DSOCR_BULK] != NULL);
	return job;
}

int
dsocr_scheduler_decoding(const DsocrScheduler *s, DsocrJob **list)
{
	int n = 0;

	for (DsocrJob *job = s->admitted.first; job != NULL; job = job->next)
		if (job->state == DSOCR_JOB_DECODING)
			list[n++] = job;
	return n;
}
