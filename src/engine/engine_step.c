/*-------------------------------------------------------------------------
 *
 * engine_step.c
 *		One step of the engine.
 *
 * A step is: drop what was cancelled, admit what fits, keep the image threads
 * busy, some work for requests that do not write yet (views, prefill chunks),
 * then one token for all that do (engine_decode.c).  On a slow device the work
 * is one view or chunk, and those who write get tokens between its layers.  On
 * a fast one it goes on for a few tens of milliseconds: there a step takes as
 * long with many sequences as with few, so the sooner all places write, the
 * better.
 *
 * Views of different requests are encoded together when they have one size;
 * what a view's tokens are does not depend on its company.
 *
 *-------------------------------------------------------------------------
 */
#include "engine_step.h"

#include "fault.h"

#define IDLE_US 4000 /* sleep when there is nothing but images to wait for */

/*
 * Pixels in memory, of images being decoded and of views that wait: one image
 * of the default limit and some pages beside it.
 */
#define MAX_PIXEL_BYTES ((size_t) 512 << 20)

/* ---- ends ---- */

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
answer_job(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job)
{
	DsocrResult result;
	DsocrError err = {0};

	dsocr_job_answer(job, &result);
	end_job(e, events, job, &result, &err);
	dsocr_result_free(&result);
}

/* A later reading that fails leaves the result of an earlier one. */
void
dsocr_engine_fail_job(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job,
					  const DsocrError *why)
{
	if (why->code == DSOCR_E_DEVICE)
		e->broken = true;
	if (job->has_best && why->code != DSOCR_E_DEVICE && why->code != DSOCR_E_CANCELLED)
		answer_job(e, events, job);
	else
		end_job(e, events, job, NULL, why);
}

/* Answer, or read the page again from the head of the queue, holding nothing meanwhile. */
void
dsocr_engine_finish_job(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job)
{
	DsocrError err = {0};

	if (!dsocr_job_keep(job, e->model, &err))
		dsocr_engine_fail_job(e, events, job, &err);
	else if (dsocr_job_again(job, e->model))
		dsocr_scheduler_again(&e->scheduler, job);
	else
		answer_job(e, events, job);
}

void
dsocr_engine_report(const DsocrEvents *events, const DsocrJob *job)
{
	DsocrProgress progress = dsocr_job_progress(job);

	if (events->progress != NULL)
		events->progress(events->arg, &progress);
}

/* ---- cancelling and admission ---- */

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
		dsocr_engine_fail_job(e, events, job, &err);
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
			dsocr_engine_fail_job(e, events, job, &err);
		else
			dsocr_engine_finish_job(e, events, job);
	}
	while ((job = dsocr_scheduler_next(&e->scheduler)) != NULL)
	{
		DsocrError err = {0};

		if (!dsocr_job_prepare(job, e->model, e->kv, &err))
			dsocr_engine_fail_job(e, events, job, &err);
		else if (dsocr_sequence_reserve(&job->sequence, e->model, e->kv))
		{
			job->timings.queued += dsocr_now_us() - job->arrived;
			dsocr_scheduler_admit(&e->scheduler, job);
		}
		else if (e->scheduler.active > 0)
			break;
		else
		{
			/* all pages are free and enough: there is no memory for their list */
			dsocr_fail(&err, DSOCR_E_MEMORY, "out of memory for the pages of a request");
			dsocr_engine_fail_job(e, events, job, &err);
		}
	}
}

/* ---- images ---- */

static size_t
pixel_bytes(const DsocrEngine *e)
{
	size_t sum = 0;

	for (const DsocrJob *job = e->scheduler.admitted.first; job != NULL; job = job->next)
		if (job->state == DSOCR_JOB_PIXELS || job->state == DSOCR_JOB_VIEWS)
			sum += dsocr_job_pixel_bytes(job);
	return sum;
}

/* Hand over images in their turns while threads and memory last. */
static void
submit_images(DsocrEngine *e, const DsocrEvents *events)
{
	DsocrJob *job;

	while ((job = dsocr_scheduler_image(&e->scheduler)) != NULL &&
		   !dsocr_image_pool_full(e->images))
	{
		size_t held = pixel_bytes(e);
		DsocrError err = {0};

		if (held > 0 && held + dsocr_job_pixel_bytes(job) > MAX_PIXEL_BYTES)
			return;
		dsocr_scheduler_image_taken(&e->scheduler, job);
		if (!dsocr_job_submit(job, e->images, &err))
			dsocr_engine_fail_job(e, events, job, &err);
	}
}

/* Go on with images that have become views; how many are still awaited. */
static int
collect_images(DsocrEngine *e, const DsocrEvents *events)
{
	DsocrJob *next;
	int awaited = 0;

	for (DsocrJob *job = e->scheduler.admitted.first; job != NULL; job = next)
	{
		DsocrError err = {0};

		next = job->next;
		if (job->state != DSOCR_JOB_PIXELS)
			continue;
		if (!dsocr_job_collect(job, e->model, &err))
			dsocr_engine_fail_job(e, events, job, &err);
		else if (job->state == DSOCR_JOB_VIEWS)
			dsocr_engine_report(events, job);
		else
			awaited++;
	}
	return awaited;
}

/* ---- views and prefill ---- */

typedef struct Batch
{
	DsocrSequenceView views[DSOCR_MAX_TOGETHER];
	int n;
	DsocrJob *jobs[DSOCR_MAX_TOGETHER];
	int counts[DSOCR_MAX_TOGETHER]; /* views of each job */
	int n_jobs;
} Batch;

int
dsocr_engine_together(const DsocrEngine *e, int size)
{
	size_t view = (size_t) size * (size_t) size;
	size_t n = view > 0 ? e->view_pixels / view : 0;

	return n < 1 ? 1 : n > DSOCR_MAX_TOGETHER ? DSOCR_MAX_TOGETHER : (int) n;
}

static void
gather_from(Batch *b, DsocrJob *job, int size, int room)
{
	int n = dsocr_job_views(job, size, b->views + b->n, room - b->n);

	if (n == 0)
		return;
	b->n += n;
	b->jobs[b->n_jobs] = job;
	b->counts[b->n_jobs++] = n;
}

/* Views of one size: those of the job whose turn it is, then others', interactive ones first. */
static void
gather_views(const DsocrEngine *e, DsocrJob *leader, int room, Batch *b)
{
	int size = dsocr_job_view_size(leader);

	b->n = b->n_jobs = 0;
	gather_from(b, leader, size, room);
	for (int priority = DSOCR_INTERACTIVE; priority <= DSOCR_BULK; priority++)
		for (DsocrJob *job = e->scheduler.admitted.first; job != NULL && b->n < room;
			 job = job->next)
			if (job != leader && job->state == DSOCR_JOB_VIEWS && !job->cancelled &&
				(int) job->request.priority == priority)
				gather_from(b, job, size, room);
}

static void
encode_views(DsocrEngine *e, const DsocrEvents *events, DsocrJob *leader)
{
	int size = dsocr_job_view_size(leader);
	int room = dsocr_engine_together(e, size);
	int64_t start = dsocr_now_us();
	DsocrError err;
	Batch b;
	bool ok;

	DSOCR_FAULT("encode");
	do
	{
		DsocrStepPoll state = {.engine = e, .events = events, .jobs = b.jobs};
		DsocrPoll poll = {.go_on = dsocr_engine_go_on, .arg = &state};
		DsocrWatch watch = {.poll = &poll};

		err = (DsocrError){0};
		gather_views(e, leader, room, &b);
		state.n = b.n_jobs;
		ok = dsocr_sequence_views(b.views, b.n, size, e->model, &watch, &err);
		start += state.decoded_us;
		if (!ok && state.trouble.code != DSOCR_OK)
			err = state.trouble;
		room = b.n / 2; /* where memory is short, fewer together may do */
	} while (!ok && err.code == DSOCR_E_MEMORY && room > 0);
	for (int i = 0; i < b.n_jobs; i++)
	{
		if (!ok)
		{
			dsocr_engine_fail_job(e, events, b.jobs[i], &err);
			continue;
		}
		dsocr_job_views_done(b.jobs[i], b.counts[i], dsocr_now_us() - start);
		dsocr_engine_report(events, b.jobs[i]);
	}
}

static void
prefill(DsocrEngine *e, const DsocrEvents *events, DsocrJob *job)
{
	DsocrStepPoll state = {.engine = e, .events = events, .jobs = &job, .n = 1};
	DsocrPoll poll = {.go_on = dsocr_engine_go_on, .arg = &state};
	DsocrError err = {0};
	bool ok = dsocr_job_prefill(job, e->model, &poll, &err);

	job->timings.prefill -= ok ? state.decoded_us : 0;
	if (!ok)
		dsocr_engine_fail_job(e, events, job,
							  state.trouble.code != DSOCR_OK ? &state.trouble : &err);
	else if (job->state == DSOCR_JOB_FINISHED)
		dsocr_engine_finish_job(e, events, job);
	else
		dsocr_engine_report(events, job);
}

/* Views and chunks, as long as a step may; false when there was nothing to do. */
static bool
work(DsocrEngine *e, const DsocrEvents *events)
{
	int64_t start = dsocr_now_us();
	int done = 0;
	DsocrJob *job;

	while (!e->broken && (job = dsocr_scheduler_work(&e->scheduler)) != NULL)
	{
		if (job->state == DSOCR_JOB_VIEWS)
			encode_views(e, events, job);
		else
			prefill(e, events, job);
		done++;
		if (dsocr_now_us() - start >= e->work_us)
			break;
		collect_images(e, events);
	}
	return done > 0;
}

/* Nothing but images under way: let the threads work. */
static void
wait_images(DsocrEngine *e, const DsocrEvents *events)
{
	if (events->poll != NULL)
		events->poll(events->arg);
	/* what the poll has cancelled is waited for no longer */
	if (find_cancelled(e) == NULL)
		dsocr_image_pool_wait(e->images, IDLE_US);
}

bool
dsocr_engine_step(DsocrEngine *e, const DsocrEvents *events, DsocrError *err)
{
	bool busy = false;
	int awaited = 0;

	if (!e->broken)
	{
		drop_cancelled(e, events);
		admit_waiting(e, events);
		submit_images(e, events);
		awaited = collect_images(e, events);
		submit_images(e, events);
		busy = work(e, events);
	}
	if (!e->broken)
		busy |= dsocr_engine_decode(e, events);
	if (e->broken)
		return dsocr_fail(err, DSOCR_E_DEVICE, "device %s has failed", e->info.device);
	if (!busy && awaited > 0)
		wait_images(e, events);
	return dsocr_engine_pending(e) > 0;
}
