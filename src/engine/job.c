/*-------------------------------------------------------------------------
 *
 * job.c
 *		One request inside the engine, from its arrival to its result.
 *
 *-------------------------------------------------------------------------
 */
#include "job.h"

#include "fault.h"
#include "image_sniff.h"
#include "prompt.h"

#include <stdio.h>
#include <string.h>

/* Pixels of a side of a tile, in pages that stand for a shape: more than any tile has. */
#define SHAPE_UNIT 4096

DsocrJob *
dsocr_job_new(const DsocrRequest *request, DsocrModel *m, DsocrError *err)
{
	DsocrJob *job;

	if (!dsocr_job_check(request, m, err))
		return NULL;
	job = dsocr_zalloc(1, sizeof(*job), err);
	if (job == NULL)
		return NULL;
	job->request = *request;
	job->arrived = dsocr_now_us();
	if (request->prompt != NULL)
		job->prompt = dsocr_strdup(request->prompt, err);
	if (request->image != NULL)
		job->image = dsocr_alloc(request->image_len, 1, err);
	if ((request->prompt != NULL && job->prompt == NULL) ||
		(request->image != NULL && job->image == NULL))
	{
		dsocr_job_free(job, m);
		return NULL;
	}
	if (request->image != NULL && request->image_len > 0)
		memcpy(job->image, request->image, request->image_len);
	job->request.prompt = job->prompt;
	job->request.image = job->image;
	return job;
}

void
dsocr_job_free(DsocrJob *job, DsocrModel *m)
{
	if (job == NULL)
		return;
	if (job->task != NULL)
		dsocr_image_task_drop(job->task);
	dsocr_sequence_end(&job->sequence, m);
	dsocr_views_free(&job->views);
	dsocr_loop_free(job->loop);
	dsocr_free(job->logprobs);
	dsocr_result_free(&job->best);
	dsocr_free(job->prompt);
	dsocr_free(job->image);
	dsocr_free(job);
}

/* A request tells the page of its document; the image has more than one only as a TIFF. */
static int
page_of_image(const DsocrRequest *r)
{
	return dsocr_image_sniff(r->image, r->image_len) == DSOCR_FORMAT_TIFF ? r->page : 1;
}

/* Size of the image, views and token counts. */
static bool
make_plan(DsocrJob *job, const DsocrModel *m, DsocrError *err)
{
	const DsocrRequest *r = &job->request;
	DsocrViewSpec spec = r->spec;

	if (job->n_attempts == 0)
		job->mode = r->mode == DSOCR_MODE_AUTO ? m->config.auto_mode : r->mode;
	if (job->mode != DSOCR_MODE_CUSTOM)
		spec = dsocr_mode_spec(job->mode);
	if (r->kind == DSOCR_PROBE && r->image == NULL)
	{
		job->width = r->probe_width;
		job->height = r->probe_height;
		if (job->width < 1 || job->height < 1)
			return dsocr_fail(err, DSOCR_E_ARGUMENT, "image size %d x %d is not possible",
							  job->width, job->height);
	}
	else if (r->image == NULL || r->image_len == 0)
		return dsocr_fail(err, DSOCR_E_IMAGE, "image is empty");
	else if (!dsocr_image_probe_page(r->image, r->image_len, page_of_image(r), r->max_pixels,
									 &job->width, &job->height, err))
		return false;
	job->upright_width = job->width;
	job->upright_height = job->height;
	return dsocr_plan(job->width, job->height, &spec, &job->plan, err);
}

/* The task's prompt with the caller's words in the place of %s. */
static bool
write_prompt(const DsocrJob *job, const DsocrModel *m, DsocrBuffer *text, DsocrError *err)
{
	const char *form = m->config.prompts[job->request.task];
	const char *gap = strstr(form, "%s");
	const char *words = job->prompt != NULL ? job->prompt : "";

	if (gap == NULL ||
		(job->request.task != DSOCR_TASK_GENERATE && job->request.task != DSOCR_TASK_LOCATE))
		return dsocr_buffer_append(text, form, strlen(form), err);
	return dsocr_buffer_append(text, form, (size_t) (gap - form), err) &&
		   dsocr_buffer_append(text, words, strlen(words), err) &&
		   dsocr_buffer_append(text, gap + 2, strlen(gap + 2), err);
}

/* The input ids of the plan, of which image tokens begin at *at. */
static bool
make_ids(const DsocrJob *job, const DsocrModel *m, int32_t **ids, size_t *n, size_t *at,
		 DsocrError *err)
{
	DsocrBuffer text = {0};
	int limit = m->config.max_positions;
	bool ok =
		write_prompt(job, m, &text, err) &&
		dsocr_prompt_build(m->tokenizer, text.data, !job->plan.spec.vllm, job->plan.image_tokens,
						   m->image_id, m->config.bos_id, ids, n, at, err);

	dsocr_buffer_free(&text);
	if (!ok || *n < (size_t) limit)
		return ok;
	dsocr_free(*ids);
	*ids = NULL;
	dsocr_fail(err, DSOCR_E_TOO_LONG, "prompt and image take %zu tokens, the model holds %d", *n,
			   limit);
	return dsocr_hint(err, "%s",
					  job->plan.image_tokens < limit / 2
						  ? "Use a shorter prompt."
						  : "Use a mode with fewer image tokens, for example small.");
}

/* Most image tokens that a mode can take for the page, whichever way up it is. */
static int
most_tokens(const DsocrJob *job, const DsocrViewSpec *spec)
{
	int most = 0;
	DsocrPlan plan;

	if (dsocr_plan(job->width, job->height, spec, &plan, NULL))
		most = plan.image_tokens;
	if (!job->request.auto_rotate)
		return most;
	for (int columns = 1; columns <= spec->max_tiles; columns++)
		for (int rows = 1; columns * rows <= spec->max_tiles; rows++)
			if (dsocr_plan(columns * SHAPE_UNIT, rows * SHAPE_UNIT, spec, &plan, NULL) &&
				plan.image_tokens > most)
				most = plan.image_tokens;
	return most;
}

/*
 * Modes to choose from when the page has been looked at.  What would fill the
 * context with the image is not chosen.
 */
static uint32_t
choices_of(const DsocrJob *job, const DsocrModel *m)
{
	uint32_t modes = m->config.modes;

	if (job->request.mode != DSOCR_MODE_AUTO || job->n_attempts > 0 ||
		job->request.kind != DSOCR_READ)
		return 0;
	for (int mode = DSOCR_MODE_TINY; mode < DSOCR_N_MODES; mode++)
	{
		DsocrViewSpec spec = dsocr_mode_spec((DsocrMode) mode);

		if (mode != (int) job->mode && most_tokens(job, &spec) > m->config.max_positions / 2)
			modes &= ~(1U << mode);
	}
	return (modes & (modes - 1)) != 0 ? modes : 0;
}

/*
 * Image tokens by which another plan may exceed this one, once the page has
 * been turned and straightened and a mode been chosen.
 */
static int
spare_tokens(const DsocrJob *job)
{
	int most = most_tokens(job, &job->plan.spec);

	for (int mode = DSOCR_MODE_TINY; mode < DSOCR_N_MODES; mode++)
		if (job->choices >> mode & 1)
		{
			DsocrViewSpec spec = dsocr_mode_spec((DsocrMode) mode);
			int tokens = most_tokens(job, &spec);

			most = tokens > most ? tokens : most;
		}
	return most > job->plan.image_tokens ? most - job->plan.image_tokens : 0;
}

/* Tokens that may be written behind a prompt of n. */
static int
most_output(const DsocrJob *job, const DsocrModel *m, size_t n)
{
	int left = m->config.max_positions - (int) n;
	int wanted = job->request.max_tokens;

	return wanted > 0 && wanted < left ? wanted : left;
}

/* Input ids and how far the sequence may grow. */
static bool
make_sequence(DsocrJob *job, const DsocrModel *m, DsocrError *err)
{
	int32_t *ids = NULL;
	size_t n = 0;
	size_t at = 0;
	int limit = m->config.max_positions;
	bool ok = make_ids(job, m, &ids, &n, &at, err);

	if (ok)
	{
		int cap;

		job->max_output = most_output(job, m, n);
		cap = (int) n + job->max_output + spare_tokens(job);
		ok = dsocr_sequence_start(&job->sequence, m, ids, (int) n, cap < limit ? cap : limit,
								  (int) at, &job->plan, err);
		job->sequence.ngram_size = job->request.ngram_size;
		job->sequence.ngram_window = job->request.ngram_window;
		job->logprobs = dsocr_alloc((size_t) limit, sizeof(*job->logprobs), err);
		if (m->kinds != NULL)
			job->loop = dsocr_loop_new(m->kinds, m->config.vocab, err);
		ok = ok && job->logprobs != NULL && (m->kinds == NULL || job->loop != NULL);
	}
	dsocr_free(ids);
	return ok;
}

bool
dsocr_job_prepare(DsocrJob *job, const DsocrModel *m, const DsocrKvCache *kv, DsocrError *err)
{
	int need;

	if (job->prepared)
		return true;
	if (!make_plan(job, m, err))
		return false;
	job->prepared = true;
	if (job->request.kind == DSOCR_PROBE)
		return true;
	job->choices = choices_of(job, m);
	if (!make_sequence(job, m, err))
		return false;
	need = dsocr_kv_pages(job->sequence.cap);
	if (need > dsocr_kv_total(kv))
	{
		dsocr_fail(err, DSOCR_E_MEMORY,
				   "request may grow to %d tokens, the key/value memory holds %d",
				   job->sequence.cap, dsocr_kv_total(kv) * DSOCR_PAGE_TOKENS);
		return dsocr_hint(err, "Lower max_tokens or give the engine more key/value memory.");
	}
	return true;
}

size_t
dsocr_job_pixel_bytes(const DsocrJob *job)
{
	const DsocrPlan *p = &job->plan;
	size_t global = (size_t) p->global_size * (size_t) p->global_size * 3;
	size_t tile = (size_t) p->tile_size * (size_t) p->tile_size * 3;
	size_t views = global + (size_t) (p->views - 1) * tile;

	if (job->state == DSOCR_JOB_IMAGE || job->task != NULL)
		views += (size_t) job->width * (size_t) job->height * 3;
	return job->state > DSOCR_JOB_VIEWS ? 0 : views;
}

/* The encoded image for another reading; NULL when there will be none, or no memory for it. */
static uint8_t *
copy_for_later(const DsocrJob *job)
{
	size_t len = job->request.image_len;
	uint8_t *copy;

	if (!job->request.ladder || job->n_attempts + 1 >= DSOCR_MAX_ATTEMPTS)
		return NULL;
	copy = dsocr_alloc(len, 1, NULL);
	if (copy != NULL)
		memcpy(copy, job->image, len);
	return copy;
}

bool
dsocr_job_submit(DsocrJob *job, DsocrImagePool *pool, DsocrError *err)
{
	const DsocrImageWork work = {.max_pixels = job->request.max_pixels,
								 .page = page_of_image(&job->request),
								 .width = job->width,
								 .height = job->height,
								 .orient = job->request.auto_rotate,
								 .modes = job->choices,
								 .mode = job->mode,
								 .plan = job->plan};
	uint8_t *copy = copy_for_later(job);

	job->task = dsocr_image_pool_submit(pool, job->image, job->request.image_len, &work, err);
	if (job->task == NULL)
	{
		dsocr_free(copy);
		return false;
	}
	job->image = copy;
	job->request.image = copy;
	job->state = DSOCR_JOB_PIXELS;
	return true;
}

/* The page has another shape or mode than was planned for: another prompt in the same pages. */
static bool
plan_again(DsocrJob *job, DsocrModel *m, DsocrMode mode, const DsocrPlan *plan, DsocrError *err)
{
	DsocrSequence *s = &job->sequence;
	int32_t *ids = NULL;
	size_t n = 0;
	size_t at = 0;
	int left;
	bool ok;

	job->mode = mode;
	job->plan = *plan;
	if (!make_ids(job, m, &ids, &n, &at, err))
		return false;
	left = s->cap - (int) n;
	ok = left >= 1 ||
		 dsocr_fail(err, DSOCR_E_INTERNAL, "%d tokens reserved, prompt takes %zu", s->cap, n);
	job->max_output = most_output(job, m, n);
	if (left < job->max_output)
		job->max_output = left;
	ok = ok && dsocr_sequence_restart(s, m, ids, (int) n, (int) at, plan, err);
	dsocr_free(ids);
	return ok;
}

/* The views and what is known about the page now. */
static bool
take_image(DsocrJob *job, DsocrModel *m, DsocrImageTask *task, DsocrError *err)
{
	DsocrImageOutcome image;

	if (!dsocr_image_task_take(task, &image, err))
		return false;
	job->views = image.views;
	job->timings.preprocess += image.spent;
	job->orientation = image.orientation;
	job->upright_width = image.width;
	job->upright_height = image.height;
	if (image.mode == job->mode && image.plan.columns == job->plan.columns &&
		image.plan.rows == job->plan.rows)
	{
		job->plan = image.plan;
		return true;
	}
	return plan_again(job, m, image.mode, &image.plan, err);
}

bool
dsocr_job_collect(DsocrJob *job, DsocrModel *m, DsocrError *err)
{
	if (job->task != NULL)
	{
		DsocrImageTask *task = job->task;

		if (!dsocr_image_task_done(task))
			return true;
		job->task = NULL;
		if (!take_image(job, m, task, err))
			return false;
	}
	if (!dsocr_model_embeds_left(m))
		return true;
	job->state = DSOCR_JOB_VIEWS;
	return dsocr_sequence_embed(&job->sequence, m, err);
}

int
dsocr_job_view_size(const DsocrJob *job)
{
	return job->views.size[job->views_done];
}

int
dsocr_job_views(DsocrJob *job, int size, DsocrSequenceView *list, int room)
{
	int n = 0;

	for (int v = job->views_done; v < job->views.n && n < room && job->views.size[v] == size; v++)
		list[n++] = (DsocrSequenceView){&job->sequence, v, job->views.rgb[v]};
	return n;
}

void
dsocr_job_views_done(DsocrJob *job, int n, int64_t spent)
{
	job->timings.encode += spent;
	job->views_done += n;
	if (job->views_done < job->views.n)
		return;
	dsocr_views_free(&job->views);
	job->state = DSOCR_JOB_PREFILL;
}

bool
dsocr_job_prefill(DsocrJob *job, DsocrModel *m, const DsocrPoll *poll, DsocrError *err)
{
	DsocrWatch watch = {.poll = poll};
	DsocrSequence *s = &job->sequence;
	int64_t start = dsocr_now_us();
	int32_t id;
	float logprob;

	DSOCR_FAULT("prefill");
	if (!dsocr_sequence_prefill(s, m, &watch, err))
		return false;
	job->timings.prefill += dsocr_now_us() - start;
	if (s->filled < s->prompt_len)
		return true;
	m->be->ops->picked(m->be, &id, &logprob, 1);
	job->state = DSOCR_JOB_DECODING;
	dsocr_job_token(job, m, id, logprob);
	return true;
}

static void
finish(DsocrJob *job, DsocrFinish how)
{
	job->finish = how;
	job->state = DSOCR_JOB_FINISHED;
}

void
dsocr_job_token(DsocrJob *job, const DsocrModel *m, int32_t id, float logprob)
{
	DsocrSequence *s = &job->sequence;
	int keep;

	if (id == m->config.eos_id)
	{
		finish(job, DSOCR_FINISH_STOP);
		return;
	}
	job->logprobs[s->n - s->prompt_len] = logprob;
	dsocr_sequence_push(s, id);
	job->written++;
	keep = job->loop != NULL ? dsocr_loop_push(job->loop, id) : -1;
	if (keep >= 0)
	{
		s->n = s->prompt_len + keep;
		finish(job, DSOCR_FINISH_LOOP);
	}
	else if (s->n - s->prompt_len >= job->max_output)
		finish(job, DSOCR_FINISH_LENGTH);
}

/* Views and tokens of earlier readings count, so that no number goes back. */
DsocrProgress
dsocr_job_progress(const DsocrJob *job)
{
	return (DsocrProgress){.id = job->request.id,
						   .views_done = job->views_before + job->views_done,
						   .views = job->views_before + job->plan.views,
						   .image_tokens = job->plan.image_tokens,
						   .text_tokens = job->written};
}
