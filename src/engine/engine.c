/*-------------------------------------------------------------------------
 *
 * engine.c
 *		The engine's public face: open, admit, step, cancel, close.
 *
 * Steps are in engine_step.c.
 *
 *-------------------------------------------------------------------------
 */
#include "engine.h"

#include "device.h"
#include "engine_step.h"

#include <sched.h>
#include <stdio.h>
#include <string.h>

#define DEFAULT_SEQUENCES 16
#define DEFAULT_SEQUENCES_GPU 256
#define DEFAULT_KV_BYTES ((size_t) 1 << 30)
#define MAX_EMBEDS 32 /* prompts between encoding and prefill, where memory is reserved */
#define MIN_IMAGE_THREADS 2
#define MAX_IMAGE_THREADS 8
#define FAST_WORK_US 30000 /* on a device that encodes several views at once */

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

/* Buffers for the views of every mode, as many together as there may be. */
static bool
reserve_views(DsocrEngine *e, DsocrError *err)
{
	for (int mode = DSOCR_MODE_TINY; mode < DSOCR_N_MODES; mode++)
	{
		DsocrViewSpec spec = dsocr_mode_spec((DsocrMode) mode);

		if (!dsocr_sequence_room(dsocr_engine_together(e, spec.base_size), spec.base_size, e->model,
								 err) ||
			!dsocr_sequence_room(dsocr_engine_together(e, spec.image_size), spec.image_size,
								 e->model, err))
			return false;
	}
	return true;
}

/*
 * On a device with memory of its own the pages take what is left, so all that
 * requests need comes first: buffers of the encoder, and embeddings of the
 * prompts between encoding and prefill.  Where that is too much, fewer views
 * are encoded together.
 */
static bool
reserve_memory(DsocrEngine *e, int max_sequences, DsocrError *err)
{
	DsocrError why = {0};

	if (e->be->ops->memory(e->be) == SIZE_MAX)
		return true;
	for (; !reserve_views(e, &why); e->view_pixels /= 2)
		if (e->view_pixels == 0 || why.code != DSOCR_E_MEMORY)
		{
			if (err != NULL)
				*err = why;
			return false;
		}
	return dsocr_model_reserve_embeds(e->model,
									  max_sequences < MAX_EMBEDS ? max_sequences : MAX_EMBEDS, err);
}

static bool
fill_info(DsocrEngine *e, const char *dir, DsocrError *err)
{
	const DsocrModel *m = e->model;
	DsocrModelInfo *info = &e->info;

	snprintf(info->name, sizeof(info->name), "%s", m->config.name);
	snprintf(info->device, sizeof(info->device), "%s", e->be->description);
	snprintf(info->weights, sizeof(info->weights), "%s",
			 e->be->precision == DSOCR_PRECISION_FP32
				 ? "fp32"
				 : dsocr_quant_name(dsocr_quantized_dtype(m->weights)));
	info->auto_mode = m->config.auto_mode;
	info->modes = m->config.modes;
	info->max_positions = m->config.max_positions;
	info->max_sequences = e->scheduler.max_active;
	for (int i = 0; i < dsocr_weights_count(m->weights); i++)
		info->parameters += dsocr_weights_at(m->weights, i)->count;
	info->weight_bytes = (int64_t) dsocr_weights_bytes(m->weights);
	info->kv_bytes =
		(int64_t) dsocr_kv_total(e->kv) * (int64_t) dsocr_kv_page_bytes(e->be, &m->config);
	return dsocr_model_fingerprint(m, dir, info->fingerprint, err);
}

/* All cores but one, which drives the model; two, so that small images overtake a large one. */
static int
image_threads(const DsocrBackendOptions *options)
{
	cpu_set_t set;
	int n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;

	if (options->threads > 0 && options->threads < n)
		n = options->threads;
	return n - 1 < MIN_IMAGE_THREADS   ? MIN_IMAGE_THREADS
		   : n - 1 > MAX_IMAGE_THREADS ? MAX_IMAGE_THREADS
									   : n - 1;
}

static void
log_quantized(const DsocrEngine *e, const DsocrEngineOptions *options)
{
	char line[200];

	if (e->model->quantized == NULL || options->backend.log == NULL)
		return;
	snprintf(
		line, sizeof(line),
		"weights were quantized to %s in %.1f s; a folder written by \"dsocr-engine quantize\" "
		"is ready at once and shared by workers",
		dsocr_quant_name(options->backend.weights), (double) e->model->quantize_us / 1e6);
	options->backend.log(line);
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
	log_quantized(e, options);
	if (options->keep_loops)
	{
		dsocr_free(e->model->kinds);
		e->model->kinds = NULL;
	}
	e->view_pixels = options->view_pixels > 0 ? options->view_pixels : e->be->view_pixels;
	e->work_us = e->view_pixels > 0 ? FAST_WORK_US : 0;
	e->gap_us = options->gap_us;
	if (!reserve_memory(e, (int) n, err))
		return false;
	pages = choose_pages(e, options->kv_bytes, (int) n);
	if (pages < 1)
		return dsocr_fail(err, DSOCR_E_MEMORY,
						  "%zu bytes of key/value memory do not hold one page of %zu",
						  options->kv_bytes != 0 ? options->kv_bytes : e->be->ops->memory(e->be),
						  dsocr_kv_page_bytes(e->be, &e->model->config));
	e->kv = dsocr_kv_cache_open(e->be, &e->model->config, pages, (int) n, err);
	if (e->kv == NULL)
		return false;
	e->images = dsocr_image_pool_open(image_threads(&options->backend), err);
	if (e->images == NULL)
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
	dsocr_image_pool_close(e->images);
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
