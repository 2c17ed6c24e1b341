/*-------------------------------------------------------------------------
 *
 * check_stages.c
 *		Collects a case's intermediate values and compares them.
 *
 * Router flips: choosing the k best experts is not continuous.  Where the gap
 * between the last chosen and the first rejected expert is tiny, rounding may
 * choose another one, and that position's values behind the layer mean
 * nothing any more.  A flip is accepted only where the stored gap allows it.
 * The case stores few positions; behind a layer where bf16 flipped at another
 * one, which our own fp32 run tells, attention carries the difference on, and
 * the wide limits count that the official code shows with flips in the
 * sequence.
 *
 * In bf16 the limits of a layer grow where the official code itself, run in
 * bf16, is further from its fp32 values than the common limit.
 *
 *-------------------------------------------------------------------------
 */
#include "check_stages.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#define SAMPLES 4093 /* values of a "sub" tensor unless its name says otherwise */
#define GAP_FP32 1e-4
#define GAP_BF16 0.05
#define MOST_FLIPPED 0.8 /* max|d|/rms of decoder stages with flips in the sequence */
#define FLIPPED_FACTOR (MOST_FLIPPED / 0.15)

static bool
bf16(const CheckRun *r)
{
	return r->check->precision == DSOCR_PRECISION_BF16;
}

static bool
starts(const char *s, const char *with)
{
	return strncmp(s, with, strlen(with)) == 0;
}

/* Layer of a stage of the decoder, -1 for others. */
static int
layer_of(const CheckRun *r, const char *name)
{
	int layer;

	if (sscanf(name, "lm.attn.%d", &layer) == 1 || sscanf(name, "lm.layer.%d", &layer) == 1 ||
		sscanf(name, "lm.router.%d", &layer) == 1)
		return layer;
	return starts(name, "lm.") || starts(name, "logits") ? r->model->config.layers - 1 : -1;
}

/* Did a layer below this one choose other experts than in fp32, at any position? */
static bool
flips_below(const CheckRun *r, int layer)
{
	for (int i = 0; i < layer; i++)
		if (r->rerouted[i])
			return true;
	return false;
}

void
dsocr_stage_limits(const CheckRun *r, const char *name, double *most, double *spread)
{
	bool lm = starts(name, "lm.");
	bool logits = starts(name, "logits");
	const char *stage = strstr(name, "sam.");

	*spread = 0;
	if (!bf16(r))
	{
		*most = lm || logits ? 3e-4 : 1e-4;
		return;
	}
	if (lm)
	{
		*most = 0.15, *spread = 0.04;
		if (flips_below(r, layer_of(r, name)))
			*most *= FLIPPED_FACTOR, *spread *= FLIPPED_FACTOR;
	}
	else if (logits)
		*most = 0.30, *spread = 0.05;
	else if (stage != NULL && strcmp(stage, "sam.patch_embed") == 0)
		*most = 0.04, *spread = 0.003;
	else if (stage != NULL)
		*most = 0.10, *spread = 0.015;
	else
		*most = 0.10, *spread = 0.02;
}

/* How much the limits of a decoder layer grow; 1 unless bf16 is hard on this case. */
static double
widening(const CheckRun *r, int layer)
{
	static const char *const kinds[2] = {"lm.attn.%d", "lm.layer.%d"};
	double wide = 1;

	if (!bf16(r) || r->real_size || layer < 0)
		return 1;
	for (int kind = 0; kind < 2; kind++)
	{
		char name[64];
		double most;
		double spread;

		snprintf(name, sizeof(name), kinds[kind], layer);
		dsocr_stage_limits(r, name, &most, &spread);
		for (int i = 0; i < r->n_stages; i++)
			if (strcmp(r->stages[i].name, name) == 0)
				wide = fmax(wide, r->stages[i].bf16_max_abs_stored / (most * r->stages[i].rms));
	}
	return wide;
}

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
	if (!starts(stored, "sub") || (stored[3] != '\0' && sscanf(stored + 3, "%lld", &k) != 1))
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
	s->planes = s->ndim == 4 && (strstr(name, "sam.ne") != NULL || starts(name, "pixel."));
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

	if (starts(name, "lm."))
		snprintf(full, sizeof(full), "%s", name);
	else
		snprintf(full, sizeof(full), "%s.%s", r->tile ? "local" : "global", name);
	dsocr_stages_put(r, full, values, rows, dim);
}

/* Distance between the k-th and the next logit. */
static double
router_gap(const float *logits, const int32_t *ids, int experts, int k)
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
		double gap = router_gap(logits + (size_t) row * (size_t) experts,
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

/* Is value j of the stage behind a router flip of its position? */
static bool
excluded(const CheckRun *r, const CheckStage *s, int64_t j)
{
	int layer = INT_MAX;
	int i = r->n_positions - 1;

	if (strcmp(s->name, "logits") == 0)
		return r->flipped[i] < INT_MAX;
	if (!s->by_position)
		return false;
	i = (int) (j / s->shape[s->ndim - 1]);
	if (sscanf(s->name, "lm.attn.%d", &layer) == 1)
		return r->flipped[i] < layer;
	if (sscanf(s->name, "lm.layer.%d", &layer) == 1)
		return r->flipped[i] <= layer;
	return r->flipped[i] < INT_MAX;
}

/* *worst = max(*worst, d), where NaN is the worst of all; did it change? */
static bool
widen(double *worst, double d)
{
	if (d <= *worst || isinf(*worst))
		return false;
	*worst = isnan(d) ? INFINITY : d;
	return true;
}

static void
compare_stage(CheckRun *r, const CheckStage *s)
{
	bool exact = starts(s->name, "pixel.");
	bool spread_counts;
	double most;
	double spread;
	double worst = 0;
	double sum = 0;
	int64_t at = 0;
	int64_t n = 0;

	if (s->seen != s->ref->count)
	{
		dsocr_check(r->check, false, r->name, "%s: %lld of %lld values were computed", s->name,
					(long long) s->seen, (long long) s->ref->count);
		return;
	}
	for (int64_t j = 0; j < s->ref->count; j++)
	{
		double d = fabs((double) s->mine[j] - dsocr_tensor_get(s->ref, j));

		if (excluded(r, s, j))
			continue;
		n++;
		sum += d * d;
		if (widen(&worst, d))
			at = j;
	}
	dsocr_stage_limits(r, s->name, &most, &spread);
	most *= s->rms;
	if (starts(s->name, "lm."))
		most *= widening(r, layer_of(r, s->name));
	most = exact ? 0 : most;
	spread_counts = spread > 0 && !exact;
	if (bf16(r) && r->real_size && !exact)
	{
		most = 2 * s->bf16_max_abs;
		spread_counts = false;
	}
	sum = n > 0 ? sqrt(sum / (double) n) : 0;
	dsocr_check(r->check, worst <= most && (!spread_counts || sum <= spread * s->rms), r->name,
				"%s: value %lld is %.7g, not %.7g (difference %.3g rms, at most %.3g; spread %.3g "
				"rms, at most %.3g)",
				s->name, (long long) at, s->mine[at], dsocr_tensor_get(s->ref, at),
				exact ? worst : worst / s->rms, exact ? 0 : most / s->rms, sum / s->rms,
				spread_counts ? spread : INFINITY);
}

static bool
same_experts(const CheckRouter *o, int i)
{
	for (int a = 0; a < o->k; a++)
	{
		bool in = false;

		for (int b = 0; b < o->k; b++)
			in |= o->my_ids[i * o->k + a] == (int32_t) dsocr_tensor_get(o->ids, i * o->k + b);
		if (!in)
			return false;
	}
	return true;
}

/* Gap of the reference at stored position i, from its logits when it is not stored. */
static double
stored_gap(const CheckRouter *o, int i)
{
	float logits[DSOCR_MAX_EXPERTS];
	int32_t ids[DSOCR_MAX_TOPK];

	if (o->gap != NULL)
		return dsocr_tensor_get(o->gap, i);
	for (int e = 0; e < o->experts; e++)
		logits[e] = dsocr_tensor_get(o->logits, i * o->experts + e);
	for (int a = 0; a < o->k; a++)
		ids[a] = (int32_t) dsocr_tensor_get(o->ids, i * o->k + a);
	return router_gap(logits, ids, o->experts, o->k);
}

/*
 * In bf16 other experts are no fault, however wide the gap, when our logits
 * are near those of the reference and the choice is right for our logits.
 */
static bool
follows_from_logits(const CheckRun *r, const CheckRouter *o, int i, double limit)
{
	const float *mine = o->my_logits + (size_t) i * (size_t) o->experts;

	for (int e = 0; e < o->experts; e++)
		if (!(fabs((double) mine[e] - dsocr_tensor_get(o->logits, i * o->experts + e)) <= limit))
			return false;
	return bf16(r) && router_gap(mine, o->my_ids + i * o->k, o->experts, o->k) >= 0;
}

/*
 * Experts first, since they say which values can be compared; then weights
 * and logits of the positions that agree so far.
 */
static void
compare_router(CheckRun *r, const CheckRouter *o)
{
	bool flips = flips_below(r, o->layer);
	double gap_limit = bf16(r) ? GAP_BF16 : GAP_FP32;
	double weight_limit = (bf16(r) ? 0.03 : 1e-5) * widening(r, o->layer);
	char name[64];
	double logit_limit;
	double spread;
	double worst_weight = 0;
	double worst_logit = 0;
	double rms = 0;
	int wrong = -1;

	if (flips)
	{
		gap_limit *= FLIPPED_FACTOR;
		weight_limit *= FLIPPED_FACTOR;
	}
	snprintf(name, sizeof(name), "lm.router.%d", o->layer);
	dsocr_stage_limits(r, name, &logit_limit, &spread);
	logit_limit *= widening(r, o->layer);
	for (int64_t j = 0; j < o->logits->count; j++)
		rms += pow(dsocr_tensor_get(o->logits, j), 2);
	rms = sqrt(rms / (double) o->logits->count);

	for (int i = 0; i < r->n_positions; i++)
	{
		if (r->flipped[i] < o->layer)
			continue;
		if (!same_experts(o, i))
		{
			r->flipped[i] = o->layer;
			if (stored_gap(o, i) >= gap_limit && wrong < 0 &&
				!follows_from_logits(r, o, i, logit_limit * rms))
				wrong = i;
			continue;
		}
		for (int a = 0; a < o->k; a++)
			widen(&worst_weight, fabs((double) o->my_weights[i * o->k + a] -
									  dsocr_tensor_get(o->weights, i * o->k + a)));
		for (int e = 0; e < o->experts; e++)
			widen(&worst_logit, fabs((double) o->my_logits[i * o->experts + e] -
									 dsocr_tensor_get(o->logits, i * o->experts + e)));
	}
	dsocr_check(r->check, o->seen == r->n_positions, r->name,
				"lm.router.%d: %lld of %d positions were computed", o->layer, (long long) o->seen,
				r->n_positions);
	dsocr_check(r->check, wrong < 0, r->name,
				"lm.router.%d.ids: other experts at position %d, where the gap is %.3g", o->layer,
				wrong < 0 ? 0 : r->positions[wrong], wrong < 0 ? 0 : stored_gap(o, wrong));
	dsocr_check(r->check, worst_weight <= weight_limit, r->name,
				"lm.router.%d.weights: difference %.3g, at most %.3g", o->layer, worst_weight,
				weight_limit);
	dsocr_check(r->check, worst_logit <= logit_limit * rms, r->name,
				"lm.router.%d.logits: difference %.3g rms, at most %.3g", o->layer,
				worst_logit / rms, logit_limit);
}

void
dsocr_stages_compare(CheckRun *r)
{
	/* ascending layers: flips of one decide what is compared in the next */
	for (int layer = 0; layer < r->model->config.layers; layer++)
		for (int i = 0; i < r->n_routers; i++)
			if (r->routers[i].layer == layer)
				compare_router(r, &r->routers[i]);
	for (int i = 0; i < r->n_stages; i++)
		compare_stage(r, &r->stages[i]);
}
