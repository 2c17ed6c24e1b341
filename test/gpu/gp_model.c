/*-------------------------------------------------------------------------
 *
 * gp_model.c
 *		A model on a device and sequences of any length in it.
 *
 *-------------------------------------------------------------------------
 */
#include "gp_model.h"

#include <stdio.h>

#include "device.h"
#include "gp_trace.h"

static void
log_line(const char *message)
{
	fprintf(stderr, "%s\n", message);
}

void
gp_model_open(GpModel *g, const GpOptions *o, int sequences)
{
	DsocrBackendOptions options = o->backend;
	int64_t start = dsocr_now_us();
	DsocrError err = {0};

	options.log = log_line;
	g->be = gp_need(dsocr_device_open(&options, &err), &err);
	g->tools = gp_tools_load(o->tools);
	gp_trace_table(g->be, g->tools);
	g->m = gp_need(dsocr_model_open(g->be, o->model, NULL, sequences, &err), &err);
	if (!g->be->ops->sync(g->be, &err))
		gp_die("%s", err.message);
	g->seconds = (double) (dsocr_now_us() - start) / 1e6;
	g->kv = NULL;
	g->noise = NULL;
}

void
gp_model_close(GpModel *g)
{
	if (g->noise != NULL)
		g->be->ops->free(g->be, g->noise);
	dsocr_kv_cache_close(g->kv);
	dsocr_model_close(g->m);
	g->be->ops->close(g->be);
}

bool
gp_model_room(GpModel *g, int n, int positions, DsocrError *err)
{
	dsocr_kv_cache_close(g->kv);
	g->kv = dsocr_kv_cache_open(g->be, &g->m->config, n * dsocr_kv_pages(positions), n, err);
	return g->kv != NULL;
}

static bool
make_noise(GpModel *g, size_t n, DsocrError *err)
{
	float *host = dsocr_alloc(n, sizeof(*host), err);
	uint64_t seed = 21;

	g->noise = host != NULL ? g->be->ops->alloc(g->be, 2 * n, err) : NULL;
	for (size_t i = 0; g->noise != NULL && i < n; i++)
		host[i] = (float) (gp_next(&seed) >> 40) / (float) (1 << 23) - 0.999f;
	if (g->noise != NULL)
		g->be->ops->write(g->be, g->noise, host, n);
	dsocr_free(host);
	return g->noise != NULL;
}

/* Put random keys and values into positions 0 .. n - 1. */
static bool
fill(GpModel *g, const DsocrSequence *s, int n, uint64_t seed, DsocrError *err)
{
	const DsocrBackendOps *ops = g->be->ops;
	size_t dim = 3 * (size_t) g->m->config.heads * (size_t) g->m->config.head_dim;
	int most = DSOCR_CHUNK - (int) (seed % 8); /* rows differ between sequences */

	if (g->noise == NULL && !make_noise(g, DSOCR_CHUNK * dim, err))
		return false;
	for (int first = 0; first < n; first += most)
	{
		DsocrRows run = {
			.n = n - first < most ? n - first : most, .slots = &s->slot, .first = first};
		void *qkv = dsocr_act(g->be, g->noise, DSOCR_CHUNK * dim);

		/* a device may rotate where it lies: every sequence starts from the same */
		dsocr_act_copy(g->be, qkv, dsocr_act(g->be, g->noise, (seed % 8) * dim),
					   (size_t) run.n * dim);
		ops->run_begin(g->be, &run, false);
		for (int layer = 0; layer < g->m->config.layers; layer++)
			ops->rope_store(g->be, qkv, &run, dsocr_kv_memory(s->kv), layer, 10000.0f);
		ops->run_end(g->be);
	}
	return ops->sync(g->be, err);
}

bool
gp_model_start(GpModel *g, DsocrSequence *s, int n, int cap, bool filled, uint64_t seed,
			   DsocrError *err)
{
	const DsocrPlan no_image = {.views = 0};
	int32_t *ids = dsocr_alloc((size_t) n, sizeof(*ids), err);
	bool ok = ids != NULL;

	for (int i = 0; ok && i < n; i++)
		ids[i] = gp_between(&seed, 0, g->m->config.vocab - 1);
	ok = ok && dsocr_sequence_start(s, g->m, ids, n, cap, -1, &no_image, err);
	dsocr_free(ids);
	if (!ok)
		return false;
	s->ngram_size = 30;
	s->ngram_window = 90;
	if (!dsocr_sequence_reserve(s, g->m, g->kv))
		return dsocr_fail(err, DSOCR_E_MEMORY, "no pages for %d positions", cap);
	if (!filled)
		return dsocr_sequence_embed(s, g->m, err);
	s->filled = n - 1;
	return n == 1 || fill(g, s, n - 1, seed, err);
}
