/*-------------------------------------------------------------------------
 *
 * job_result.c
 *		What a job's readings have given, and whether there is another.
 *
 *-------------------------------------------------------------------------
 */
#include "job.h"

#include "page_look.h"
#include "transcript.h"

#include <string.h>

/* What this reading has given; for a probe only what is known without the model. */
static bool
make_result(const DsocrJob *job, const DsocrModel *m, DsocrResult *result, DsocrError *err)
{
	const DsocrSequence *s = &job->sequence;
	const DsocrTranscript transcript = {.ids = s->ids != NULL ? s->ids + s->prompt_len : NULL,
										.logprobs = job->logprobs,
										.n = s->n - s->prompt_len,
										.loop = job->finish == DSOCR_FINISH_LOOP,
										.width = job->upright_width,
										.height = job->upright_height};

	memset(result, 0, sizeof(*result));
	if (!dsocr_transcript_fill(m->tokenizer, &transcript, result, err))
		return false;
	for (int i = 0; i < result->n_blocks; i++)
		for (int k = 0; k < result->blocks[i].n_boxes; k++)
			dsocr_orient_unmap_box(&job->orientation, job->width, job->height,
								   result->blocks[i].boxes[k]);
	result->rotation = job->orientation.rotation;
	result->skew = job->orientation.skew;
	result->finish = job->finish;
	result->mode = job->mode;
	result->width = job->width;
	result->height = job->height;
	result->grid_columns = job->plan.columns;
	result->grid_rows = job->plan.rows;
	result->views = job->plan.views;
	result->image_tokens = job->plan.image_tokens;
	result->valid_image_tokens = job->plan.valid_image_tokens;
	result->prompt_tokens = s->prompt_len;
	result->pages = 1;
	return true;
}

static bool
is_better(const DsocrResult *a, const DsocrResult *b)
{
	bool a_stopped = a->finish == DSOCR_FINISH_STOP;
	bool b_stopped = b->finish == DSOCR_FINISH_STOP;

	if (a_stopped != b_stopped)
		return a_stopped;
	return strlen(a->raw) >= strlen(b->raw);
}

bool
dsocr_job_keep(DsocrJob *job, const DsocrModel *m, DsocrError *err)
{
	DsocrResult result;

	if (!make_result(job, m, &result, err))
		return false;
	if (job->request.kind == DSOCR_READ)
		job->attempts[job->n_attempts++] =
			(DsocrAttempt){job->mode, job->finish, result.text_tokens};
	if (!job->has_best || is_better(&result, &job->best))
	{
		dsocr_result_free(&job->best);
		job->best = result;
	}
	else
		dsocr_result_free(&result);
	job->has_best = true;
	return true;
}

/* The next mode up that shows the model something else; DSOCR_MODE_AUTO if there is none. */
static DsocrMode
next_mode(const DsocrJob *job, const DsocrModel *m)
{
	DsocrMode mode = job->mode;

	if (mode == DSOCR_MODE_CUSTOM)
		return DSOCR_MODE_AUTO;
	while ((mode = dsocr_mode_above(mode, m->config.modes)) != DSOCR_MODE_AUTO)
	{
		DsocrViewSpec spec = dsocr_mode_spec(mode);
		DsocrPlan plan;

		if (dsocr_plan(job->upright_width, job->upright_height, &spec, &plan, NULL) &&
			(plan.views != job->plan.views || plan.global_size != job->plan.global_size ||
			 plan.tile_size != job->plan.tile_size))
			break;
	}
	return mode;
}

bool
dsocr_job_again(DsocrJob *job, DsocrModel *m)
{
	DsocrMode mode;

	if (!job->request.ladder || job->finish == DSOCR_FINISH_STOP || job->image == NULL ||
		job->n_attempts >= DSOCR_MAX_ATTEMPTS)
		return false;
	mode = next_mode(job, m);
	if (mode == DSOCR_MODE_AUTO)
		return false;
	dsocr_sequence_end(&job->sequence, m);
	dsocr_loop_free(job->loop);
	dsocr_free(job->logprobs);
	job->loop = NULL;
	job->logprobs = NULL;
	job->views_before += job->plan.views;
	job->views_done = 0;
	job->mode = mode;
	job->choices = 0;
	job->orientation = (DsocrOrientation){0};
	job->prepared = false;
	job->state = DSOCR_JOB_WAITING;
	job->arrived = dsocr_now_us();
	return true;
}

void
dsocr_job_answer(DsocrJob *job, DsocrResult *result)
{
	*result = job->best;
	memset(&job->best, 0, sizeof(job->best));
	job->has_best = false;
	result->n_attempts = job->n_attempts;
	memcpy(result->attempts, job->attempts, sizeof(result->attempts));
	result->timings = job->timings;
}
