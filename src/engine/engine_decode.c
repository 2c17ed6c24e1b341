/*-------------------------------------------------------------------------
 *
 * engine_decode.c
 *		The next token for all that write: at the end of a step, and between
 *		the layers of a view or prefill chunk that takes long.
 *
 * The encoder, prefill and decoding have buffers of their own, and a sequence
 * that writes is neither encoded nor prefilled, so a step between two layers
 * changes nothing of what these compute.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_step.h"

#include "fault.h"

#define PROGRESS_TOKENS 16 /* tokens between two reports of a request */
#define GAP_US 100000	   /* that a text waits for its next token while others are encoded */

/*
 * Run the decoder and choose a token for each of n rows from `first` on.  When
 * memory was short nothing has happened.
 */
static bool
choose_tokens(DsocrEngine *e, const DsocrEvents *events, int first, int n, DsocrError *err)
{
	DsocrStepPoll state = {.events = events};
	DsocrPoll poll = {.go_on = dsocr_engine_go_on, .arg = &state};
	DsocrWatch watch = {.poll = &poll};

	DSOCR_FAULT("decode");
	if (dsocr_sequences_decode(e->sequences + first, n, e->model, &watch, e->ids + first,
							   e->logprobs + first, err))
		return true;
	/* the device's texts may have got an id that is no result */
	for (int i = first; i < first + n && err->code == DSOCR_E_MEMORY; i++)
		dsocr_sequence_text(e->sequences[i], e->model);
	return false;
}

/* One more token, or none, for a job whose row was done in so many microseconds. */
static void
take_token(DsocrEngine *e, const DsocrEvents *events, int i, int64_t spent)
{
	DsocrJob *job = e->list[i];

	job->timings.decode += spent;
	dsocr_job_token(job, e->model, e->ids[i], e->logprobs[i]);
	if (job->cancelled)
		return;
	if (job->state == DSOCR_JOB_FINISHED)
		dsocr_engine_finish_job(e, events, job);
	else if ((job->sequence.n - job->sequence.prompt_len) % PROGRESS_TOKENS == 0)
		dsocr_engine_report(events, job);
}

/*
 * A token for each of n rows from `first` on.  Device memory that is short for
 * all of them may do for half; the last one gets a second chance, because what
 * failed may have been the recording of its step.
 */
static void
decode_rows(DsocrEngine *e, const DsocrEvents *events, int first, int n)
{
	int64_t start = dsocr_now_us();
	DsocrError err = {0};
	bool ok = choose_tokens(e, events, first, n, &err);
	int64_t spent;

	if (!ok && err.code == DSOCR_E_MEMORY && n > 1)
	{
		decode_rows(e, events, first, n / 2);
		if (!e->broken)
			decode_rows(e, events, first + n / 2, n - n / 2);
		return;
	}
	if (!ok && err.code == DSOCR_E_MEMORY)
		ok = choose_tokens(e, events, first, n, &err);
	spent = dsocr_now_us() - start;
	for (int i = first; i < first + n; i++)
	{
		if (ok)
			take_token(e, events, i, spent);
		else
			dsocr_engine_fail_job(e, events, e->list[i], &err);
	}
}

bool
dsocr_engine_decode(DsocrEngine *e, const DsocrEvents *events)
{
	int64_t start = dsocr_now_us();
	int n = dsocr_scheduler_decoding(&e->scheduler, e->list);

	for (int i = 0; i < n; i++)
		e->sequences[i] = &e->list[i]->sequence;
	if (n > 0)
		decode_rows(e, events, 0, n);
	e->decoded_at = dsocr_now_us();
	e->decode_us = e->decoded_at - start;
	return n > 0;
}

/* Does anybody wait for the next token who was not told to be patient? */
static bool
somebody_waits(const DsocrEngine *e)
{
	for (const DsocrJob *job = e->scheduler.admitted.first; job != NULL; job = job->next)
		if (job->state == DSOCR_JOB_DECODING && !job->cancelled &&
			job->request.priority == DSOCR_INTERACTIVE)
			return true;
	return false;
}

/*
 * Between two layers: time for a token?  Whoever is being encoded gets at
 * least half of the time.
 */
static bool
step_is_due(const DsocrEngine *e)
{
	int64_t gap = e->gap_us > 0 ? e->gap_us : e->decode_us > GAP_US ? e->decode_us : GAP_US;

	return e->work_us == 0 && dsocr_now_us() - e->decoded_at >= gap && somebody_waits(e);
}

bool
dsocr_engine_go_on(void *arg)
{
	DsocrStepPoll *p = arg;
	DsocrEngine *e = p->engine;

	if (p->events->poll != NULL)
		p->events->poll(p->events->arg);
	if (e != NULL && step_is_due(e))
	{
		int64_t start = dsocr_now_us();

		/* what has gone wrong so far is not the step's */
		if (!e->be->ops->sync(e->be, &p->trouble))
			return false;
		dsocr_engine_decode(e, p->events);
		p->decoded_us += dsocr_now_us() - start;
		if (e->broken)
			return dsocr_fail(&p->trouble, DSOCR_E_DEVICE, "device %s has failed", e->info.device);
	}
	for (int i = 0; i < p->n; i++)
		if (!p->jobs[i]->cancelled)
			return true;
	return p->n == 0;
}
