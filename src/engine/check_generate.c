/*-------------------------------------------------------------------------
 *
 * check_generate.c
 *		Greedy decoding of a case against the official token lists.
 *
 * The reference ids are fed at every step, by starting the text anew, so that
 * one step with two almost equal candidates does not hide what comes behind
 * it.  Ids must agree up to
 * the first step whose margin is too small to tell.  Logits must agree until
 * a router flip spoils the keys and values of a position; behind it, three
 * quarters of the steps still must.
 *
 *-------------------------------------------------------------------------
 */
#include "check_stages.h"
#include "sampling.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#define MAX_VARIANTS 16

/* Router gap below which a flip is possible, seen from our side of it. */
#define GAP_FP32 2e-4
#define GAP_BF16 0.1

typedef struct Variant
{
	const char *name; /* "hf20" */
	const json_t *json;
	int ngram;
	int window;
	int n; /* steps */

	/* picked from the prompt's last logits */
	int32_t first_id;
	float first_logprob;
} Variant;

/* What is found wrong in a variant: the first of each kind. */
typedef struct Findings
{
	char ids[160];
	char bans[160];
	double logprob; /* largest difference between pick's and the logits' own */
	double top;		/* largest difference of a stored logit where no flip excuses it */
	int top_step;
	bool flipped;  /* a flip has been seen */
	int top_steps; /* steps compared */
	int top_off;   /* steps over the limit, excused or not */
} Findings;

static double
margin_limit(const CheckRun *r)
{
	if (r->check->precision == DSOCR_PRECISION_FP32)
		return 1e-3;
	return r->real_size ? 1.0 : 0.4;
}

static bool
parse_variant(const char *name, const json_t *json, Variant *v)
{
	int end = 0;

	*v = (Variant){.name = name, .json = json};
	v->n = (int) json_array_size(json_object_get(json, "ids"));
	if (strcmp(name, "plain") == 0)
		return true;
	if (sscanf(name, "hf%d%n", &v->ngram, &end) == 1 && name[end] == '\0')
		return true;
	return sscanf(name, "vllm_%d_%d%n", &v->ngram, &v->window, &end) == 2 && name[end] == '\0';
}

/* Are the bans of this step the ones of the case?  Steps not listed have none. */
static bool
same_bans(const Variant *v, int step, const DsocrBanList *bans)
{
	const json_t *list = json_object_get(v->json, "banned");
	const json_t *expected = NULL;
	size_t i;
	const json_t *entry;

	if (list == NULL)
		return true;
	json_array_foreach (list, i, entry)
	{
		if (json_integer_value(json_array_get(entry, 0)) == step)
			expected = json_array_get(entry, 1);
	}
	if ((int) json_array_size(expected) != bans->n)
		return false;
	for (int j = 0; j < bans->n; j++)
	{
		bool in = false;

		for (int k = 0; k < bans->n; k++)
			in |= json_integer_value(json_array_get(expected, (size_t) k)) == bans->ids[j];
		if (!in)
			return false;
	}
	return true;
}

/* Most that a logit may differ. */
static double
logit_limit(const CheckRun *r)
{
	const json_t *stage = json_object_get(json_object_get(r->json, "stages"), "logits");
	double most;
	double spread;

	if (r->real_size && r->check->precision == DSOCR_PRECISION_BF16)
		return 2 * json_number_value(json_object_get(stage, "bf16_max_abs"));
	dsocr_stage_limits(r, "logits", &most, &spread);
	return most * json_number_value(json_object_get(stage, "rms"));
}

/* Did a stored position of the prompt choose other experts?  Its keys and values stay. */
static bool
prompt_flipped(const CheckRun *r)
{
	for (int i = 0; i < r->n_positions; i++)
		if (r->flipped[i] < r->model->config.layers)
			return true;
	return false;
}

/* Compare the stored best logits of a step of the plain rule. */
static void
compare_top(const CheckRun *r, const float *logits, int step, Findings *f)
{
	bool five = dsocr_weights_find(r->ref, "gen.top5.ids") != NULL;
	const DsocrTensor *ids = dsocr_weights_find(r->ref, five ? "gen.top5.ids" : "gen.top50.ids");
	const DsocrTensor *values =
		dsocr_weights_find(r->ref, five ? "gen.top5.logits" : "gen.top50.logits");
	double gap = r->check->precision == DSOCR_PRECISION_FP32 ? GAP_FP32 : GAP_BF16;
	double worst = 0;
	int k;

	if (ids == NULL || values == NULL || ids->ndim != 2 || ids->count != values->count ||
		step >= ids->shape[0])
		return;
	k = (int) ids->shape[1];
	for (int j = 0; j < k; j++)
	{
		int64_t at = (int64_t) step * k + j;
		int32_t id = (int32_t) dsocr_tensor_get(ids, at);
		double d = INFINITY;

		if (id >= 0 && id < r->model->config.vocab)
			d = fabs(logits[id] - dsocr_tensor_get(values, at));
		if (!(d <= worst))
			worst = isnan(d) ? INFINITY : d;
	}
	f->top_steps++;
	if (worst <= logit_limit(r))
		return;
	f->top_off++;
	f->flipped |= r->gap < gap || prompt_flipped(r);
	if (!f->flipped && worst > f->top)
	{
		f->top = worst;
		f->top_step = step;
	}
}

static double
log_probability(const float *logits, int vocab, int32_t id)
{
	double most = logits[0];
	double sum = 0;

	for (int i = 1; i < vocab; i++)
		most = fmax(most, logits[i]);
	for (int i = 0; i < vocab; i++)
		sum += exp(logits[i] - most);
	return logits[id] - most - log(sum);
}

/* In fp32 the reference's choice must be one of our two best, however close they are. */
static bool
among_two_best(const float *logits, int vocab, int32_t id, const DsocrBanList *bans)
{
	int better = 0;

	for (int32_t i = 0; i < vocab; i++)
	{
		bool banned = false;

		for (int j = 0; j < bans->n; j++)
			banned |= bans->ids[j] == i;
		better += !banned && logits[i] > logits[id];
	}
	return better <= 1;
}

/* What the device picked at a step, from the logits in host. */
static bool
check_step(CheckRun *r, DsocrSequence *s, const Variant *v, int step, int32_t id, float logprob,
		   const float *host, bool *open, Findings *f, DsocrError *err)
{
	DsocrModel *m = r->model;
	DsocrBanList bans = {0};
	double margin =
		json_number_value(json_array_get(json_object_get(v->json, "margins"), (size_t) step));
	int32_t want = (int32_t) json_integer_value(
		json_array_get(json_object_get(v->json, "ids"), (size_t) step));

	if (want < 0 || want >= m->config.vocab)
		return dsocr_fail(err, DSOCR_E_IO, "id %d of %s is not in the vocabulary", want, v->name);
	if (!dsocr_ngram_bans(s->ids, s->n, s->prompt_len, v->ngram, v->window, m->whitelist,
						  m->n_whitelist, &bans, err))
	{
		dsocr_free(bans.ids);
		return false;
	}
	if (!same_bans(v, step, &bans) && f->bans[0] == '\0')
		snprintf(f->bans, sizeof(f->bans), "%d other ids are banned at step %d", bans.n, step);
	if (*open && id != want &&
		(margin >= margin_limit(r) || (r->check->precision == DSOCR_PRECISION_FP32 &&
									   !among_two_best(host, m->config.vocab, want, &bans))))
		snprintf(f->ids, sizeof(f->ids), "id %d at step %d, not %d, where the margin is %.3g", id,
				 step, want, margin);
	if (f->ids[0] != '\0' || margin < margin_limit(r))
		*open = false;
	f->logprob = fmax(f->logprob, fabs(logprob - log_probability(host, m->config.vocab, id)));
	dsocr_free(bans.ids);
	dsocr_sequence_push(s, want);
	return true;
}

static void
set_rule(DsocrSequence *s, const Variant *v)
{
	s->n = s->prompt_len;
	s->ngram_size = v->ngram;
	s->ngram_window = v->window;
}

static bool
run_variant(CheckRun *r, DsocrSequence *s, const Variant *v, const float *first, Findings *f,
			DsocrError *err)
{
	DsocrModel *m = r->model;
	DsocrRouterTap router_tap = dsocr_stages_router_tap(r);
	DsocrWatch watch = {.router_tap = &router_tap};
	size_t vocab = (size_t) m->config.vocab;
	float *host = dsocr_alloc(vocab, sizeof(float), err);
	int32_t id = v->first_id;
	float logprob = v->first_logprob;
	bool open = true;
	bool ok = host != NULL;

	if (ok)
		memcpy(host, first, vocab * sizeof(float));
	set_rule(s, v);
	for (int step = 0; ok && step < v->n; step++)
	{
		r->gap = INFINITY;
		if (step > 0)
		{
			r->base = s->n - 1;
			dsocr_sequence_text(s, m);
			ok = dsocr_sequences_decode(&s, 1, m, &watch, &id, &logprob, err);
			dsocr_decoder_logits(m->decoder, 0, host);
		}
		ok = ok && check_step(r, s, v, step, id, logprob, host, &open, f, err);
		if (ok && strcmp(v->name, "plain") == 0 && (step > 0 || r->n_routers == 0))
			compare_top(r, host, step, f);
	}
	dsocr_free(host);
	return ok;
}

/* The stored text has all ids, the end token too. */
static void
compare_text(CheckRun *r, const DsocrSequence *s, const Variant *v)
{
	const json_t *text = json_object_get(v->json, "text");
	DsocrBuffer raw = {0};
	DsocrBuffer utf8 = {0};
	size_t n = (size_t) (s->n - s->prompt_len);
	bool same;

	if (text == NULL)
		return;
	same =
		dsocr_tokenizer_decode(r->model->tokenizer, s->ids + s->prompt_len, n, false, &raw, NULL) &&
		dsocr_utf8_repair(raw.data, raw.len, &utf8, NULL, NULL) &&
		utf8.len == json_string_length(text) &&
		(utf8.len == 0 || memcmp(utf8.data, json_string_value(text), utf8.len) == 0);
	dsocr_check(r->check, same, r->name, "%s.text: \"%s\", not \"%s\"", v->name,
				utf8.data ? utf8.data : "", json_string_value(text));
	dsocr_buffer_free(&raw);
	dsocr_buffer_free(&utf8);
}

static void
check_variant(CheckRun *r, DsocrSequence *s, const Variant *v, const float *first)
{
	Findings f = {0};
	DsocrError err = {0};

	if (!run_variant(r, s, v, first, &f, &err))
	{
		dsocr_check(r->check, false, r->name, "%s: %s", v->name, err.message);
		return;
	}
	dsocr_check(r->check, f.ids[0] == '\0', r->name, "%s.ids: %s", v->name, f.ids);
	dsocr_check(r->check, f.bans[0] == '\0', r->name, "%s.banned: %s", v->name, f.bans);
	dsocr_check(r->check, f.logprob <= 2e-3, r->name,
				"%s: log-probability differs by %.3g from that of the logits", v->name, f.logprob);
	if (f.top_steps > 0)
	{
		dsocr_check(r->check, f.top == 0, r->name,
					"gen.top: a logit of step %d differs by %.3g, at most %.3g", f.top_step, f.top,
					logit_limit(r));
		dsocr_check(r->check, f.top_off <= f.top_steps / 4, r->name,
					"gen.top: the logits of %d of %d steps differ by more than %.3g", f.top_off,
					f.top_steps, logit_limit(r));
	}
	compare_text(r, s, v);
}

/* The variants of a case, and what each picks first: before others change the logits. */
static int
read_variants(CheckRun *r, DsocrSequence *s, Variant *list)
{
	DsocrModel *m = r->model;
	const DsocrRows rows = {.n = 1, .slots = &s->slot, .first = s->prompt_len - 1};
	const char *name;
	json_t *value;
	int n = 0;

	json_object_foreach (json_object_get(r->json, "generate"), name, value)
	{
		Variant *v = &list[n < MAX_VARIANTS ? n : 0];
		DsocrError err = {0};

		if (json_object_get(value, "margins") == NULL)
			continue; /* the official code's own bf16 run: for information */
		if (!dsocr_check(r->check, n < MAX_VARIANTS, r->name, "too many rules"))
			break;
		if (!dsocr_check(r->check, parse_variant(name, value, v), r->name,
						 "generate.%s is not a known rule", name))
			continue;
		set_rule(s, v);
		dsocr_sequence_text(s, m);
		if (!dsocr_check(r->check, dsocr_decoder_pick(m->decoder, &rows, &err), r->name, "%s: %s",
						 name, err.message))
			continue;
		m->be->ops->picked(m->be, &v->first_id, &v->first_logprob, 1);
		n++;
	}
	return n;
}

void
dsocr_check_generate(CheckRun *r, DsocrSequence *s)
{
	size_t vocab = (size_t) r->model->config.vocab;
	float *first = dsocr_alloc(vocab, sizeof(float), NULL);
	Variant variants[MAX_VARIANTS];
	int n;

	if (!dsocr_check(r->check, first != NULL, r->name, "no memory for %zu logits", vocab))
		return;
	dsocr_decoder_logits(r->model->decoder, 0, first);
	n = read_variants(r, s, variants);
	for (int i = 0; i < n; i++)
		check_variant(r, s, &variants[i], first);
	dsocr_free(first);
}
