/*-------------------------------------------------------------------------
 *
 * check_stages.c
 *		Collects a case's intermediate values.
 *
 *-------------------------------------------------------------------------
 */
#include "check_stages.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SAMPLES 4093 /* values of a "sub" tensor unless its name says otherwise */

static bool
read_shape(const json_t *list, CheckStage *s)
{
	size_t n = json_array_size(list);

	if (n < 1 || n > DSOCR_MAX_DIMS)
		return false;
	s->ndim = (int) n;
	s->numel = 1;
	for (size_t i = 0; i < n; i++)
	{
		json_int_t d = json_integer_value(json_array_get(list, i));

		if (d < 1 || d > INT_MAX || s->numel > INT64_MAX / SAMPLES / SAMPLES / d)
			return false;
		s->shape[i] = d;
		s->numel *= d;
	}
	return true;
}

/* Values the file must hold for a stage. */
static int64_t
stored_values(const CheckRun *r, const CheckStage *s, const char *stored)
{
	long long k = SAMPLES;

	if (strcmp(stored, "full") == 0)
		return s->numel;
	if (strcmp(stored, "positions") == 0)
		return r->n_positions * s->shape[s->ndim - 1];
	if (!dsocr_stage_starts(stored, "sub") ||
		(stored[3] != '\0' && sscanf(stored + 3, "%lld", &k) != 1))
		return -1;
	return k > 0 && k < s->numel ? k : s->numel;
}

static bool
open_stage(CheckRun *r, CheckStage *s, const char *name, const json_t *j, DsocrError *err)
{
	const char *stored = json_string_value(json_object_get(j, "stored"));

	s->name = name;
	s->rms = json_number_value(json_object_get(j, "rms"));
	s->bf16_max_abs = json_number_value(json_object_get(j, "bf16_max_abs"));
	s->bf16_max_abs_stored = json_number_value(json_object_get(j, "bf16_max_abs_stored"));
	s->ref = dsocr_weights_find(r->ref, name);
	if (stored == NULL || s->ref == NULL || !read_shape(json_object_get(j, "shape"), s))
		return dsocr_fail(err, DSOCR_E_IO, "stage %s has no values, shape or kind", name);
	s->by_position = strcmp(stored, "positions") == 0;
	s->planes =
		s->ndim == 4 && (strstr(name, "sam.ne") != NULL || dsocr_stage_starts(name, "pixel."));
	if (s->ref->count != stored_values(r, s, stored))
		return dsocr_fail(err, DSOCR_E_IO, "stage %s has %lld values, stored \"%s\"", name,
						  (long long) s->ref->count, stored);
	s->mine = dsocr_zalloc((size_t) s->ref->count, sizeof(float), err);
	return s->mine != NULL;
}

static const DsocrTensor *
router_tensor(const CheckRun *r, int layer, const char *what)
{
	char name[64];

	snprintf(name, sizeof(name), "lm.router.%d.%s", layer, what);
	return dsocr_weights_find(r->ref, name);
}

static bool
open_router(CheckRun *r, CheckRouter *o, const char *name, DsocrError *err)
{
	size_t n = (size_t) r->n_positions;

	if (sscanf(name, "lm.router.%d", &o->layer) != 1)
		return dsocr_fail(err, DSOCR_E_IO, "router \"%s\" has no number", name);
	o->ids = router_tensor(r, o->layer, "ids");
	o->weights = router_tensor(r, o->layer, "weights");
	o->logits = router_tensor(r, o->layer, "logits");
	o->gap = router_tensor(r, o->layer, "gap");
	if (o->ids == NULL || o->weights == NULL || o->logits == NULL || o->ids->ndim != 2 ||
		o->logits->ndim != 2 || o->ids->shape[0] != r->n_positions ||
		o->logits->shape[0] != r->n_positions || o->weights->count != o->ids->count)
		return dsocr_fail(err, DSOCR_E_IO, "values of %s are missing or of another shape", name);
	o->k = (int) o->ids->shape[1];
	o->experts = (int) o->logits->shape[1];
	if (o->k != r->model->config.experts_per_token || o->experts != r->model->config.experts)
		return dsocr_fail(err, DSOCR_E_IO, "%s has %d of %d experts", name, o->k, o->experts);
	o->my_ids = dsocr_zalloc(n * (size_t) o->k, sizeof(int32_t), err);
	o->my_weights = dsocr_zalloc(n * (size_t) o->k, sizeof(float), err);
	o->my_logits = dsocr_zalloc(n * (size_t) o->experts, sizeof(float), err);
	return o->my_ids != NULL && o->my_weights != NULL && o->my_logits != NULL;
}

bool
dsocr_stages_open(CheckRun *r, DsocrError *err)
{
	json_t *stages = json_object_get(r->json, "stages");
	json_t *routers = json_object_get(r->json, "router");
	const DsocrTensor *positions = dsocr_weights_find(r->ref, "positions");
	const char *name;
	json_t *value;

	if (positions == NULL || positions->count < 1 || positions->count > INT_MAX)
		return dsocr_fail(err, DSOCR_E_IO, "positions are missing");
	r->n_positions = (int) positions->count;
	r->positions = dsocr_alloc((size_t) r->n_positions, sizeof(int32_t), err);
	r->flipped = dsocr_alloc((size_t) r->n_positions, sizeof(int), err);
	r->stages = dsocr_zalloc(json_object_size(stages), sizeof(CheckStage), err);
	r->routers = dsocr_zalloc(json_object_size(routers), sizeof(CheckRouter), err);
	if (!r->positions || !r->flipped || !r->stages || !r->routers)
		return false;
	for (int i = 0; i < r->n_positions; i++)
	{
		r->positions[i] = (int32_t) dsocr_tensor_get(positions, i);
		r->flipped[i] = INT_MAX;
	}
	json_object_foreach (stages, name, value)
	{
		if (!open_stage(r, &r->stages[r->n_stages++], name, value, err))
			return false;
	}
	json_object_foreach (routers, name, value)
	{
		if (!open_router(r, &r->routers[r->n_routers++], name, err))
			return false;
	}
	return true;
}

void
dsocr_stages_close(CheckRun *r)
{
	for (int i = 0; i < r->n_stages; i++)
		dsocr_free(r->stages[i].mine);
	for (int i = 0; i < r->n_routers; i++)
	{
		dsocr_free(r->routers[i].my_ids);
		dsocr_free(r->routers[i].my_weights);
		dsocr_free(r->routers[i].my_logits);
	}
	dsocr_free(r->stages);
	dsocr_free(r->routers);
	dsocr_free(r->positions);
	dsocr_free(r->flipped);
}

static CheckStage *
find_stage(CheckRun *r, const char *name)
{
	for (int i = 0; i < r->n_stages; i++)
		if (strcmp(r->stages[i].name, name) == 0)
			return &r->stages[i];
	return NULL;
}

/* Rows of the decoder: keep those of the stored positions. */
static void
put_positions(CheckRun *r, CheckStage *s, const float *values, int rows, int dim)
{
	for (int i = 0; i < r->n_positions; i++)
	{
		int row = r->positions[i] - r->base;

		if (row < 0 || row >= rows)
			continue;
		memcpy(s->mine + (size_t) i * (size_t) dim, values + (size_t) row * (size_t) dim,
			   sizeof(float) * (size_t) dim);
		s->seen += dim;
	}
}

/* The first of three or more dimensions counts pictures; rows alone are one. */
static int64_t
pictures_of(const CheckStage *s)
{
	return s->ndim > 2 ? s->shape[0] : 1;
}

/* One of P pictures: keep the samples that lie in it. */
static void
put_samples(CheckRun *r, CheckStage *s, const float *values, int rows, int dim)
{
	int64_t pictures = pictures_of(s);
	int64_t part = s->numel / pictures;
	int64_t k = s->ref->count;

	for (int64_t j = 0; j < k; j++)
	{
		int64_t at = k == s->numel ? j : j * s->numel / k;
		int64_t rest = at % part;

		if (at / part != r->view)
			continue;
		if (s->planes)
			rest = rest % rows * dim + rest / rows;
		s->mine[j] = values[rest];
		s->seen++;
	}
}

void
dsocr_stages_put(CheckRun *r, const char *name, const float *values, int rows, int dim)
{
	CheckStage *s = find_stage(r, name);
	int64_t pictures;

	if (s == NULL)
		return;
	pictures = pictures_of(s);
	if (s->by_position ? dim != s->shape[s->ndim - 1]
					   : (int64_t) rows * dim != s->numel / pictures || r->view >= pictures)
	{
		dsocr_check(r->check, false, r->name, "%s: %d rows of %d values do not fit its shape", name,
					rows, dim);
		return;
	}
	if (s->by_position)
		put_positions(r, s, values, rows, dim);
	else
		put_samples(r, s, values, rows, dim);
}

static void
see_stage(void *arg, const char *name, const float *values, int rows, int dim)
{
	CheckRun *r = arg;
	char full[96];

	if (dsocr_stage_starts(name, "lm."))
		snprintf(full, sizeof(full), "%s", name);
	else
		snprintf(full, sizeof(full), "%s.%s", r->tile ? "local" : "global", name);
	dsocr_stages_put(r, full, values, rows, dim);
}

double
dsocr_router_gap(const float *logits, const int32_t *ids, int experts, int k)
{
	double chosen = INFINITY;
	double other = -INFINITY;

	for (int e = 0; e < experts; e++)
	{
		bool in = false;

		for (int i = 0; i < k; i++)
			in |= ids[i] == e;
		if (in && logits[e] < chosen)
			chosen = logits[e];
		if (!in && logits[e] > other)
			other = logits[e];
	}
	return chosen - other;
}

static void
see_router(void *arg, int layer, const float *logits, const int32_t *ids, const float *weights,
		   int rows, int experts, int k)
{
	CheckRun *r = arg;

	for (int row = 0; row < rows; row++)
	{
		double gap = dsocr_router_gap(logits + (size_t) row * (size_t) experts,
									  ids + (size_t) row * (size_t) k, experts, k);

		if (gap < r->gap)
			r->gap = gap;
		if (r->routes.ids != NULL && r->base + row < r->routes.positions &&
			dsocr_routes_differ(&r->routes, layer, r->base + row, ids + (size_t) row * (size_t) k))
			r->rerouted[layer] = true;
	}
	for (int o = 0; o < r->n_routers; o++)
	{
		CheckRouter *router = &r->routers[o];

		if (router->layer != layer)
			continue;
		for (int i = 0; i < r->n_positions; i++)
		{
			int row = r->positions[i] - r->base;

			if (row < 0 || row >= rows)
				continue;
			memcpy(router->my_ids + i * k, ids + (size_t) row * (size_t) k,
				   sizeof(int32_t) * (size_t) k);
			memcpy(router->my_weights + i * k, weights + (size_t) row * (size_t) k,
				   sizeof(float) * (size_t) k);
			memcpy(router->my_logits + i * experts, logits + (size_t) row * (size_t) experts,
				   sizeof(float) * (size_t) experts);
			router->seen++;
		}
	}
}

DsocrTap
dsocr_stages_tap(CheckRun *r)
{
	return (DsocrTap){.see = see_stage, .arg = r};
}

DsocrRouterTap
dsocr_stages_router_tap(CheckRun *r)
{
	return (DsocrRouterTap){.see = see_router, .arg = r};
}
