/*-------------------------------------------------------------------------
 *
 * engine.c
 *		The engine's public face: open, admit, step, cancel, close.
 *
 * A step is: drop what was cancelled, admit what fits, one piece of work for
 * one request that does not write yet (its image, a view, a prefill chunk),
 * then one token for all that do.  So nobody who writes waits longer than one
 * view or chunk for the next token.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "device.h"
#include "fault.h"
#include "scheduler.h"

#include <stdio.h>
#include <string.h>

#define DEFAULT_SEQUENCES 16
#define DEFAULT_SEQUENCES_GPU 256
#define DEFAULT_KV_BYTES ((size_t) 1 << 30)
#define PROGRESS_TOKENS 16 /* tokens between two reports of a request */

struct DsocrEngine
{
	DsocrBackend *be;
	DsocrModel *model;
	DsocrKvCache *kv;
	DsocrScheduler scheduler;
	DsocrModelInfo info;

	/* work memory of a decode step, max_sequences of each */
	DsocrJob **list;
	DsocrSequence **sequences;
	int32_t *ids;
	float *logprobs;

	bool broken; /* the device failed */
};

/* What the model's polls need while a step runs. */
typedef struct StepPoll
{
	const DsocrEvents *events;
	const DsocrJob *job; /* stop when it is cancelled; NULL: never */
} StepPoll;

static bool
step_go_on(void *arg)
{
	StepPoll *p = arg;

	if (p->events->poll != NULL)
		p->events->poll(p->events->arg);
	return p->job == NULL || !p->job->cancelled;
}

/*
 * Pages for the memory asked for.  Without a wish all that a device with
 * memory of its own has left, elsewhere 1 GiB, but at least one sequence of
 * full length.  Never more than all sequences can fill.
 */
static int
choose_pages(const DsocrEngine *e, size_t bytes, int max_sequences)
{
	const DsocrConfig *c = &e->model->config;
	size_t page = dsocr_kv_page_bytes(e->be, c);
	size_t longest = (size_t) dsocr_kv_pages(c->max_positions);
	size_t left = e->be->ops->memory(e->be);
	size_t pages = bytes / page;

	if (bytes == 0)
		pages = (left < SIZE_MAX ? left : DEFAULT_KV_BYTES) / page;
	if (bytes == 0 && left == SIZE_MAX && pages < longest)
		pages = longest;
	if (pages > longest * (size_t) max_sequences)
		pages = longest * (size_t) max_sequences;
	return pages > INT32_MAX ? INT32_MAX : (int) pages;
}

static bool
fill_info(DsocrEngine *e, const char *dir, DsocrError *err)
{
	const DsocrModel *m = e->model;
	DsocrModelInfo *info = &e->info;

	snprintf(info->name, sizeof(info->name), "%s", m->config.name);
	snprintf(info->device, sizeof(info->device), "%s", e->be->description);
	snprintf(info->weights, sizeof(info->weights), "%s",
			 e->be->precision == DSOCR_PRECISION_FP32 ? "fp32" : "bf16");
	info->auto_mode = m->config.auto_mode;
	info->max_positions = m->config.max_positions;
	info->max_sequences = e->scheduler.max_active;
	for (int i = 0; i < dsocr_weights_count(m->weights); i++)
		info->parameters += dsocr_weights_at(m->weights, i)->count;
	info->weight_bytes = (int64_t) dsocr_weights_bytes(m->weights);
	info->kv_bytes =
		(int64_t) dsocr_kv_total(e->kv) * (int64_t) dsocr_kv_page_bytes(e->be, &m->config);
	return dsocr_model_fingerprint(m, dir, info->fingerprint, err);
}

static bool
open_parts(DsocrEngine *e, const DsocrEngineOptions *options, DsocrError *err)
{
	size_t n = (size_t) options->max_sequences;
	int pages;

	e->be = dsocr_device_open(&options->backend, err);
	if (e->be == NULL)
		return false;
	if (options->max_sequences <= 0)
		n = e->be->ops->memory(e->be) < SIZE_MAX ? DEFAULT_SEQUENCES_GPU : DEFAULT_SEQUENCES;
	if (n > DSOCR_CHUNK)
		n = DSOCR_CHUNK;
	dsocr_scheduler_init(&e->scheduler, (int) n);
	e->model = dsocr_model_open(e->be, options->model, NULL, (int) n, err);
	if (e->model == NULL)
		return false;
	pages = choose_pages(e, options->kv_bytes, (int) n);
	if (pages < 1)
		return dsocr_fail(err, DSOCR_E_MEMORY,
						  "%zu bytes of key/value memory do not hold one page of %zu",
						  options->kv_bytes, dsocr_kv_page_bytes(e->be, &e->model->config));
	e->kv = dsocr_kv_cache_open(e->be, &e->model->config, pages, (int) n, err);
	if (e->kv == NULL)
		return false;
	e->list = dsocr_alloc(n, sizeof(*e->list), err);
	e->sequences = dsocr_alloc(n, sizeof(*e->sequences), err);
	e->ids = dsocr_alloc(n, sizeof(*e->ids), err);
	e->logprobs = dsocr_alloc(n, sizeof(*e->logprobs), err);
	if (!e->list || !e->sequences || !e->ids || !e->logprobs)
		return false;
	return fill_info(e, options->model, err);
}

DsocrEngine *
dsocr_engine_open(const DsocrEngineOptions *options, DsocrError *err)
{
	DsocrEngine *e = dsocr_zalloc(1, sizeof(*e), err);

	if (e == NULL)
		return NULL;
	if (!open_parts(e, options, err))
	{
		dsocr_engine_close(e);
		return NULL;
	}
	return e;
}

static void
drop_all(DsocrEngine *e, DsocrJob *first)
{
	while (first != NULL)
	{
		DsocrJob *job = first;

		first = job->next;
		dsocr_job_free(job, e->model);
	}
}

void
dsocr_engine_close(DsocrEngine *e)
{
	if (e == NULL)
		return;
	drop_all(e, e->scheduler.queues[DSOCR_INTERACTIVE].first);
	drop_all(e, e->scheduler.queues[DSOCR_BULK].first);
	drop_all(e, e->scheduler.admitted.first);
	dsocr_free(e->list);
	dsocr_free(e->sequences);
	dsocr_free(e->ids);
	dsocr_free(e->logprobs);
	dsocr_kv_cache_close(e->kv);
	dsocr_model_close(e->model);
	if (e->be != NULL)
		e->be->ops->close(e->be);
	dsocr_free(e);
}

const DsocrModelInfo *
dsocr_engine_info(const DsocrEngine *e)
{
	return &e->info;
}

int
dsocr_engine_pending(const DsocrEngine *e)
{
	return e->scheduler.waiting + e->scheduler.active;
}

int
dsocr_engine_free_pages(const DsocrEngine *e, int *total)
{
	*total = dsocr_kv_total(e->kv);
	return dsocr_kv_free(e->kv);
}

bool
dsocr_engine_admit(DsocrEngine *e, const DsocrRequest *request, DsocrError *err)
{
	DsocrJob *job = dsocr_job_new(request, e->model, err);

	if (job == NULL)
		return false;
	dsocr_scheduler_add(&e->scheduler, job);
	return true;
}

void
dsocr_engine_cancel(DsocrEngine *e, uint64_t id)
{
	DsocrJob *job = dsocr_scheduler_find(&e->scheduler, id);

	if (job != NULL)
		job->cancelled = true;
}

/* Take a job out, free what it holds, and only then tell the driver. */
static void
end_job(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job, const DsocrResult *result,
		const DsocrError *error)
{
	uint64_t id = job->request.id;

	dsocr_scheduler_remove(&e->scheduler, job);
	dsocr_job_free(job, e->model);
	events->done(events->arg, id, result, error);
}

static void
fail_job(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job, const DsocrError *why)
{
	if (why->code == DSOCR_E_DEVICE)
		e->broken = true;
	end_job(e, events, job, NULL, why);
}

static void
finish_job(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job)
{
	DsocrResult result;
	DsocrError err = {0};

	if (!dsocr_job_result(job, e->model, &result, &err))
	{
		fail_job(e, events, job, &err);
		return;
	}
	end_job(e, events, job, &result, &err);
	dsocr_result_free(&result);
}

static void
report(const DsocrEvents *events, const DsocrJob *job)
{
	DsocrProgress progress = dsocr_job_progress(job);

	if (events->progress != NULL)
		events->progress(events->arg, &progress);
}

static DsocrJob *
find_cancelled(const DsocrEngine *e)
{
	const DsocrQueue *queues[] = {&e->scheduler.queues[DSOCR_INTERACTIVE],
								  &e->scheduler.queues[DSOCR_BULK], &e->scheduler.admitted};

	for (int i = 0; i < 3; i++)
		for (DsocrJob *job = queues[i]->first; job != NULL; job = job->next)
			if (job->cancelled)
				return job;
	return NULL;
}

static void
drop_cancelled(DsocrEngine *e, const DsocrEvents *events)
{
	DsocrJob *job;

	while ((job = find_cancelled(e)) != NULL)
	{
		DsocrError err = {0};

		dsocr_fail(&err, DSOCR_E_CANCELLED, "request was cancelled");
		fail_job(e, events, job, &err);
	}
}

/* Answer probes and move waiting jobs in while places and pages last. */
static void
admit_waiting(DsocrEngine *e, const DsocrEvents *events)
{
	DsocrJob *job;

	while ((job = dsocr_scheduler_probe(&e->scheduler)) != NULL)
	{
		DsocrError err = {0};

		if (!dsocr_job_prepare(job, e->model, e->kv, &err))
			fail_job(e, events, job, &err);
		else
			finish_job(e, events, job);
	}
	while ((job = dsocr_scheduler_next(&e->scheduler)) != NULL)
	{
		DsocrError err = {0};

		if (!dsocr_job_prepare(job, e->model, e->kv, &err))
			fail_job(e, events, job, &err);
		else if (dsocr_sequence_reserve(&job->sequence, e->model, e->kv))
		{
			job->timings.queued = dsocr_now_us() - job->arrived;
			dsocr_scheduler_admit(&e->scheduler, job);
		}
		else if (e->scheduler.active > 0)
			break;
		else
		{
			/* all pages are free and enough: there is no memory for their list */
			dsocr_fail(&err, DSOCR_E_MEMORY, "out of memory for the pages of a request");
			fail_job(e, events, job, &err);
		}
	}
}

static void
work_once(DsocrEngine *e, const DsocrEvents *events)
{
	DsocrJob *job = dsocr_scheduler_work(&e->scheduler);
	StepPoll state = {.events = events, .job = job};
	DsocrPoll poll = {.go_on = step_go_on, .arg = &state};
	DsocrError err = {0};

	if (job == NULL)
		return;
	if (!dsocr_job_work(job, e->model, &poll, &err))
		fail_job(e, events, job, &err);
	else if (job->state == DSOCR_JOB_FINISHED)
		finish_job(e, events, job);
	else
		report(events, job);
}

/* Run the decoder, which chooses a token for each of n sequences. */
static bool
choose_tokens(DsocrEngine *e, const DsocrEvents *events, int n, DsocrError *err)
{
	StepPoll state = {.events = events};
	DsocrPoll poll = {.go_on = step_go_on, .arg = &state};
	DsocrWatch watch = {.poll = &poll};

	DSOCR_FAULT("decode");
	return dsocr_sequences_decode(e->sequences, n, e->model, &watch, e->ids, e->logprobs, err);
}

static void
decode_once(DsocrEngine *e, const DsocrEvents *events)
{
	int n = dsocr_scheduler_decoding(&e->scheduler, e->list);
	int64_t start = dsocr_now_us();
	int64_t spent;
	DsocrError err = {0};
	bool ok;

	if (n == 0)
		return;
	for (int i = 0; i < n; i++)
		e->sequences[i] = &e->list[i]->sequence;
	ok = choose_tokens(e, events, n, &err);
	spent = dsocr_now_us() - start;

	for (int i = 0; i < n; i++)
	{
		DsocrJob *job = e->list[i];

		job->timings.decode += spent;
		if (!ok)
		{
			fail_job(e, events, job, &err);
			continue;
		}
		dsocr_job_token(job, e->model, e->ids[i], e->logprobs[i]);
		if (job->cancelled)
			continue;
		if (job->state == DSOCR_JOB_FINISHED)
			finish_job(e, events, job);
		else if ((job->sequence.n - job->sequence.prompt_len) % PROGRESS_TOKENS == 0)
			report(events, job);
	}
}

bool
dsocr_engine_step(DsocrEngine *e, const DsocrEvents *events, DsocrError *err)
{
	if (!e->broken)
	{
		drop_cancelled(e, events);
		admit_waiting(e, events);
		work_once(e, events);
	}
	if (!e->broken)
		decode_once(e, events);
	if (e->broken)
		return dsocr_fail(err, DSOCR_E_DEVICE, "device %s has failed", e->info.device);
	return dsocr_engine_pending(e) > 0;
}
