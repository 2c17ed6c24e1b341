/*-------------------------------------------------------------------------
 *
 * check_compare.c
 *		Compares the intermediate values that check_stages.c has collected.
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

#define GAP_FP32 1e-4
#define GAP_BF16 0.05
#define MOST_FLIPPED 0.8 /* max|d|/rms of decoder stages with flips in the sequence */
#define FLIPPED_FACTOR (MOST_FLIPPED / 0.15)

static bool
bf16(const CheckRun *r)
{
	return r->check->precision == DSOCR_PRECISION_BF16;
}

/* Layer of a stage of the decoder, -1 for others. */
static int
layer_of(const CheckRun *r, const char *name)
{
	int layer;

	if (sscanf(name, "lm.attn.%d", &layer) == 1 || sscanf(name, "lm.layer.%d", &layer) == 1 ||
		sscanf(name, "lm.router.%d", &layer) == 1)
		return layer;
	return dsocr_stage_starts(name, "lm.") || dsocr_stage_starts(name, "logits")
			   ? r->model->config.layers - 1
			   : -1;
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
	bool lm = dsocr_stage_starts(name, "lm.");
	bool logits = dsocr_stage_starts(name, "logits");
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
	bool exact = dsocr_stage_starts(s->name, "pixel.");
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
	if (dsocr_stage_starts(s->name, "lm."))
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
	return dsocr_router_gap(logits, ids, o->experts, o->k);
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
	return bf16(r) && dsocr_router_gap(mine, o->my_ids + i * o->k, o->experts, o->k) >= 0;
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
