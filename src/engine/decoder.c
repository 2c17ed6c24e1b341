/*-------------------------------------------------------------------------
 *
 * decoder.c
 *		The mixture-of-experts language model: embeddings to logits.
 *
 * A layer is x += attention(norm(x)); x += mlp(norm(x)), where the MLP of the
 * first layers is one SwiGLU and that of the others a router, the chosen
 * experts and one SwiGLU for all shared experts together.
 *
 *-------------------------------------------------------------------------
 */
#include "decoder.h"

#include "load.h"

#include <stdio.h>
#include <string.h>

typedef struct DecoderLayer
{
	DsocrVector *norm1;			  /* [hidden] */
	DsocrMatrix *qkv;			  /* [3 * heads * head_dim, hidden] */
	DsocrMatrix *o;				  /* [hidden, heads * head_dim] */
	DsocrVector *norm2;			  /* [hidden] */
	DsocrMatrix *gate_up;		  /* dense or shared experts: [2 * inter, hidden] */
	DsocrMatrix *down;			  /* [hidden, inter] */
	int inter;					  /* 0: no shared experts */
	DsocrMatrix *router;		  /* [experts, hidden]; NULL in a dense layer */
	DsocrMatrix **expert_gate_up; /* [experts] of [2 * expert_inter, hidden] */
	DsocrMatrix **expert_down;	  /* [experts] of [hidden, expert_inter] */
	DsocrExperts *experts;
} DecoderLayer;

struct DsocrDecoder
{
	DsocrBackend *be;
	const DsocrConfig *config;
	int max_rows;		/* of a chunk */
	int max_step;		/* rows of a step; all buffers hold both */
	DsocrMatrix *embed; /* [vocab, hidden] */
	DsocrMatrix *head;	/* [vocab, hidden] */
	DsocrVector *norm;	/* [hidden] */
	DecoderLayer *layers;

	void *x;	   /* [max_step, hidden] */
	void *n;	   /* [max_rows, hidden] */
	void *qkv;	   /* [max_rows, 3 * heads * head_dim] */
	void *att;	   /* [max_rows, heads * head_dim] */
	void *wide;	   /* [max_rows, 2 * widest inter] */
	void *mid;	   /* [max_rows, widest inter] */
	float *logits; /* raw memory [max_step, vocab] */

	int32_t *ids;		  /* raw memory [max_rows, experts_per_token] */
	float *weights;		  /* [max_rows, experts_per_token] */
	float *router_logits; /* [max_rows, experts], made for the first router tap */
};

/* One run: what would otherwise be arguments of every helper. */
typedef struct DecoderRun
{
	DsocrDecoder *d;
	void *x; /* [rows->n, hidden] */
	const DsocrRows *rows;
	int unit; /* DSOCR_MIXED, or all rows */
	DsocrKv *kv;
	const DsocrTap *tap;
	const DsocrRouterTap *router_tap;
	const DsocrPoll *poll;
	DsocrError *err;
} DecoderRun;

static void
load_swiglu(DsocrLoader *l, DecoderLayer *layer, const char *part, int inter, int hidden)
{
	char gate[DSOCR_NAME_MAX];
	char up[DSOCR_NAME_MAX];
	char down[DSOCR_NAME_MAX];
	const char *names[2] = {gate, up};

	snprintf(gate, sizeof(gate), "%sgate_proj.weight", part);
	snprintf(up, sizeof(up), "%sup_proj.weight", part);
	snprintf(down, sizeof(down), "%sdown_proj.weight", part);
	layer->inter = inter;
	layer->gate_up = dsocr_load_stack(l, names, 2, inter, hidden);
	layer->down = dsocr_load_matrix(l, down, hidden, inter);
}

static void
load_experts(DsocrLoader *l, const DsocrConfig *c, DecoderLayer *layer, int index)
{
	static const char *const names[2] = {"gate_proj.weight", "up_proj.weight"};

	layer->router = dsocr_load_table(l, "mlp.gate.weight", c->experts, c->hidden);
	layer->expert_gate_up =
		dsocr_zalloc((size_t) c->experts, sizeof(*layer->expert_gate_up), l->err);
	layer->expert_down = dsocr_zalloc((size_t) c->experts, sizeof(*layer->expert_down), l->err);
	if (layer->expert_gate_up == NULL || layer->expert_down == NULL)
	{
		l->failed = true;
		return;
	}
	for (int i = 0; i < c->experts && !l->failed; i++)
	{
		dsocr_load_prefix(l, "model.layers.%d.mlp.experts.%d.", index, i);
		layer->expert_gate_up[i] = dsocr_load_stack(l, names, 2, c->expert_inter, c->hidden);
		layer->expert_down[i] =
			dsocr_load_matrix(l, "down_proj.weight", c->hidden, c->expert_inter);
	}
	if (l->failed)
		return;
	layer->experts = l->be->ops->experts_open(
		l->be, (const DsocrMatrix *const *) layer->expert_gate_up,
		(const DsocrMatrix *const *) layer->expert_down, c->experts, l->err);
	l->failed = layer->experts == NULL;
}

static void
load_layer(DsocrLoader *l, const DsocrConfig *c, DecoderLayer *layer, int index)
{
	static const char *const qkv[3] = {"self_attn.q_proj.weight", "self_attn.k_proj.weight",
									   "self_attn.v_proj.weight"};
	int dim = c->heads * c->head_dim;

	dsocr_load_prefix(l, "model.layers.%d.", index);
	layer->norm1 = dsocr_load_vector(l, "input_layernorm.weight", c->hidden);
	layer->norm2 = dsocr_load_vector(l, "post_attention_layernorm.weight", c->hidden);
	layer->qkv = dsocr_load_stack(l, qkv, 3, dim, c->hidden);
	layer->o = dsocr_load_matrix(l, "self_attn.o_proj.weight", c->hidden, dim);
	if (index < c->first_dense)
	{
		load_swiglu(l, layer, "mlp.", c->dense_inter, c->hidden);
		return;
	}
	if (c->shared_experts > 0)
		load_swiglu(l, layer, "mlp.shared_experts.", c->shared_experts * c->expert_inter,
					c->hidden);
	load_experts(l, c, layer, index);
}

/* Work memory: all of it, since a recorded step uses it where it lies. */
static bool
alloc_buffers(DsocrDecoder *d, DsocrError *err)
{
	DsocrBackend *be = d->be;
	const DsocrConfig *c = d->config;
	size_t rows = (size_t) (d->max_rows > d->max_step ? d->max_rows : d->max_step);
	size_t steps = (size_t) d->max_step;
	size_t logits;
	size_t dim = (size_t) c->heads * (size_t) c->head_dim;
	size_t widest = 0;

	for (int i = 0; i < c->layers; i++)
		if ((size_t) d->layers[i].inter > widest)
			widest = (size_t) d->layers[i].inter;

	if (!dsocr_mul(steps * sizeof(float), (size_t) c->vocab, &logits))
		return dsocr_fail(err, DSOCR_E_MEMORY, "%d rows of logits are too many", d->max_step);
	d->logits = be->ops->raw_alloc(be, logits, err);
	d->x = d->logits ? be->ops->alloc(be, steps * (size_t) c->hidden, err) : NULL;
	d->n = d->x ? be->ops->alloc(be, rows * (size_t) c->hidden, err) : NULL;
	d->qkv = d->n ? be->ops->alloc(be, rows * 3 * dim, err) : NULL;
	d->att = d->qkv ? be->ops->alloc(be, rows * dim, err) : NULL;
	d->wide = d->att ? be->ops->alloc(be, rows * 2 * widest, err) : NULL;
	d->mid = d->wide ? be->ops->alloc(be, rows * widest, err) : NULL;
	if (d->mid == NULL)
		return false;
	if (c->first_dense >= c->layers)
		return true;
	d->ids = be->ops->raw_alloc(be, rows * (size_t) c->experts_per_token * sizeof(int32_t), err);
	d->weights =
		d->ids ? be->ops->raw_alloc(be, rows * (size_t) c->experts_per_token * sizeof(float), err)
			   : NULL;
	return d->weights != NULL;
}

DsocrDecoder *
dsocr_decoder_open(DsocrBackend *be, const DsocrConfig *config, const DsocrWeights *weights,
				   int max_rows, int max_step, DsocrError *err)
{
	DsocrLoader l = {.be = be, .weights = weights, .err = err};
	DsocrDecoder *d = dsocr_zalloc(1, sizeof(*d), err);

	if (d == NULL)
		return NULL;
	d->be = be;
	d->config = config;
	d->max_rows = max_rows;
	d->max_step = max_step;
	d->layers = dsocr_zalloc((size_t) config->layers, sizeof(*d->layers), err);
	l.failed = d->layers == NULL;

	d->embed = dsocr_load_table(&l, "model.embed_tokens.weight", config->vocab, config->hidden);
	d->head = dsocr_load_matrix(&l, "lm_head.weight", config->vocab, config->hidden);
	d->norm = dsocr_load_vector(&l, "model.norm.weight", config->hidden);
	for (int i = 0; i < config->layers && !l.failed; i++)
		load_layer(&l, config, &d->layers[i], i);
	if (l.failed || !alloc_buffers(d, err))
	{
		dsocr_decoder_close(d);
		return NULL;
	}
	return d;
}

static void
free_layer(DsocrDecoder *d, DecoderLayer *layer)
{
	DsocrBackend *be = d->be;
	DsocrMatrix *m[] = {layer->qkv, layer->o, layer->gate_up, layer->down, layer->router};

	for (int i = 0; i < 5; i++)
		if (m[i])
			be->ops->matrix_free(be, m[i]);
	if (layer->norm1)
		be->ops->vector_free(be, layer->norm1);
	if (layer->norm2)
		be->ops->vector_free(be, layer->norm2);
	for (int i = 0; i < d->config->experts; i++)
	{
		if (layer->expert_gate_up && layer->expert_gate_up[i])
			be->ops->matrix_free(be, layer->expert_gate_up[i]);
		if (layer->expert_down && layer->expert_down[i])
			be->ops->matrix_free(be, layer->expert_down[i]);
	}
	if (layer->experts)
		be->ops->experts_close(be, layer->experts);
	dsocr_free(layer->expert_gate_up);
	dsocr_free(layer->expert_down);
}

void
dsocr_decoder_close(DsocrDecoder *d)
{
	if (d == NULL)
		return;

	DsocrBackend *be = d->be;
	void *acts[] = {d->x, d->n, d->qkv, d->att, d->wide, d->mid};
	void *raw[] = {d->logits, d->ids, d->weights, d->router_logits};

	for (int i = 0; d->layers && i < d->config->layers; i++)
		free_layer(d, &d->layers[i]);
	dsocr_free(d->layers);
	for (int i = 0; i < 6; i++)
		if (acts[i])
			be->ops->free(be, acts[i]);
	for (int i = 0; i < 4; i++)
		if (raw[i])
			be->ops->raw_free(be, raw[i]);
	if (d->embed)
		be->ops->matrix_free(be, d->embed);
	if (d->head)
		be->ops->matrix_free(be, d->head);
	if (d->norm)
		be->ops->vector_free(be, d->norm);
	dsocr_free(d);
}

void
dsocr_decoder_embed(DsocrDecoder *d, void *out, const int32_t *ids, int n)
{
	d->be->ops->embed(d->be, out, d->embed, ids, n);
}

/* Rows that belong to a sequence; those behind only fill a step up. */
static int
own_rows(const DsocrRows *rows)
{
	int n = rows->n;

	while (rows->mixed && n > 0 && rows->slots[n - 1] < 0)
		n--;
	return n;
}

/* Show all rows of an activation to the tap. */
static bool
show(const DecoderRun *r, const void *act, const char *fmt, int i)
{
	int dim = r->d->config->hidden;
	int rows = own_rows(r->rows);
	size_t n = (size_t) rows * (size_t) dim;
	char name[64];
	float *host;

	if (r->tap == NULL)
		return true;
	host = dsocr_alloc(n, sizeof(float), r->err);
	if (host == NULL)
		return false;
	snprintf(name, sizeof(name), fmt, i);
	r->d->be->ops->read(r->d->be, host, act, n);
	r->tap->see(r->tap->arg, name, host, rows, dim);
	dsocr_free(host);
	return true;
}

/* Show what the router of a layer has just decided. */
static bool
show_router(const DecoderRun *r, int layer)
{
	DsocrDecoder *d = r->d;
	DsocrBackend *be = d->be;
	int e = d->config->experts;
	int k = d->config->experts_per_token;
	size_t rows = (size_t) own_rows(r->rows);
	float *logits = dsocr_alloc(rows * (size_t) e, sizeof(float), r->err);
	float *weights = dsocr_alloc(rows * (size_t) k, sizeof(float), r->err);
	int32_t *ids = dsocr_alloc(rows * (size_t) k, sizeof(int32_t), r->err);
	bool ok = logits != NULL && weights != NULL && ids != NULL;

	if (ok)
	{
		be->ops->raw_read(be, logits, d->router_logits, rows * (size_t) e * sizeof(float));
		be->ops->raw_read(be, weights, d->weights, rows * (size_t) k * sizeof(float));
		be->ops->raw_read(be, ids, d->ids, rows * (size_t) k * sizeof(int32_t));
		r->router_tap->see(r->router_tap->arg, layer, logits, ids, weights, (int) rows, e, k);
	}
	dsocr_free(logits);
	dsocr_free(weights);
	dsocr_free(ids);
	return ok;
}

/* x += o_proj(attention(norm(x))) */
static bool
run_attention(const DecoderRun *r, const DecoderLayer *layer, int index)
{
	DsocrDecoder *d = r->d;
	DsocrBackend *be = d->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = d->config;
	int n = r->rows->n;

	ops->rms_norm(be, d->n, r->x, n, c->hidden, layer->norm1, c->rms_eps);
	ops->linear(be, d->qkv, d->n, n, layer->qkv, NULL, DSOCR_ACT_NONE, NULL, r->unit);
	ops->rope_store(be, d->qkv, r->rows, r->kv, index, c->rope_theta);
	ops->causal_attention(be, d->att, d->qkv, r->rows, r->kv, index);
	if (r->tap == NULL)
	{
		ops->linear(be, r->x, d->att, n, layer->o, NULL, DSOCR_ACT_NONE, r->x, r->unit);
		return true;
	}
	ops->linear(be, d->n, d->att, n, layer->o, NULL, DSOCR_ACT_NONE, NULL, r->unit);
	ops->add(be, r->x, d->n, (size_t) n * (size_t) c->hidden, 1);
	return show(r, d->n, "lm.attn.%d", index);
}

/* x += mlp(norm(x)) */
static bool
run_mlp(const DecoderRun *r, const DecoderLayer *layer, int index)
{
	DsocrDecoder *d = r->d;
	DsocrBackend *be = d->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = d->config;
	int n = r->rows->n;

	ops->rms_norm(be, d->n, r->x, n, c->hidden, layer->norm2, c->rms_eps);
	if (layer->inter > 0)
	{
		ops->swiglu(be, d->mid, d->wide, d->n, n, layer->gate_up, r->unit);
		ops->linear(be, r->x, d->mid, n, layer->down, NULL, DSOCR_ACT_NONE, r->x, r->unit);
	}
	if (layer->router == NULL)
		return true;
	ops->router(be, d->ids, d->weights, r->router_tap ? d->router_logits : NULL, d->n, r->rows,
				layer->router, c->experts_per_token);
	ops->experts(be, r->x, d->n, n, d->ids, d->weights, c->experts_per_token, layer->experts, r->x,
				 r->unit);
	return r->router_tap == NULL || show_router(r, index);
}

/* All layers; the poll can stop a chunk, but not a step, which may be in recording. */
static bool
run_layers(const DecoderRun *r)
{
	DsocrDecoder *d = r->d;

	for (int i = 0; i < d->config->layers; i++)
	{
		if (r->poll != NULL && !r->poll->go_on(r->poll->arg) && r->unit != DSOCR_MIXED)
			return dsocr_fail(r->err, DSOCR_E_CANCELLED, "request was cancelled");
		if (!run_attention(r, &d->layers[i], i) || !run_mlp(r, &d->layers[i], i) ||
			!show(r, r->x, "lm.layer.%d", i))
			return false;
	}
	return true;
}

/* Final norm of n rows of x, their logits and the next ids. */
static bool
run_head(const DecoderRun *r, const void *x, int n)
{
	DsocrDecoder *d = r->d;
	DsocrBackend *be = d->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = d->config;

	if (r->tap != NULL)
	{
		ops->rms_norm(be, d->n, r->x, r->rows->n, c->hidden, d->norm, c->rms_eps);
		if (!show(r, d->n, "lm.norm", 0))
			return false;
	}
	if (n == 0)
		return true;
	ops->rms_norm(be, d->n, x, n, c->hidden, d->norm, c->rms_eps);
	ops->logits(be, d->logits, d->n, n, d->head);
	ops->pick(be, d->logits, r->rows, c->vocab);
	return true;
}

static bool
router_room(DsocrDecoder *d, const DsocrRouterTap *tap, DsocrError *err)
{
	int rows = d->max_rows > d->max_step ? d->max_rows : d->max_step;

	if (tap == NULL || d->router_logits != NULL || d->ids == NULL)
		return true;
	d->router_logits = d->be->ops->raw_alloc(
		d->be, (size_t) rows * (size_t) d->config->experts * sizeof(float), err);
	return d->router_logits != NULL;
}

static bool
end_run(DsocrDecoder *d, bool ok, DsocrError *err)
{
	d->be->ops->run_end(d->be);
	if (ok)
		return d->be->ops->sync(d->be, err);
	d->be->ops->sync(d->be, NULL); /* trouble of this run is not the next one's */
	return false;
}

bool
dsocr_decoder_chunk(DsocrDecoder *d, void *x, const DsocrRows *rows, DsocrKv *kv, bool last,
					const DsocrWatch *watch, DsocrError *err)
{
	DecoderRun r = {.d = d,
					.x = x,
					.rows = rows,
					.unit = rows->n,
					.kv = kv,
					.tap = watch->tap,
					.router_tap = watch->router_tap,
					.poll = watch->poll,
					.err = err};
	const void *end = dsocr_act(d->be, x, (size_t) (rows->n - 1) * (size_t) d->config->hidden);

	if (rows->n < 1 || rows->n > d->max_rows)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "%d decoder rows, at most %d are possible",
						  rows->n, d->max_rows);
	if (!router_room(d, watch->router_tap, err))
		return false;
	d->be->ops->run_begin(d->be, rows, false);
	return end_run(d, run_layers(&r) && run_head(&r, end, last ? 1 : 0), err);
}

bool
dsocr_decoder_step(DsocrDecoder *d, const DsocrRows *rows, DsocrKv *kv, const DsocrWatch *watch,
				   DsocrError *err)
{
	DecoderRun r = {.d = d,
					.x = d->x,
					.rows = rows,
					.unit = DSOCR_MIXED,
					.kv = kv,
					.tap = watch->tap,
					.router_tap = watch->router_tap,
					.poll = watch->poll,
					.err = err};
	bool watched = watch->tap != NULL || watch->router_tap != NULL;
	bool ok = true;

	if (rows->n < 1 || rows->n > d->max_step)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "%d rows of a step, at most %d are possible",
						  rows->n, d->max_step);
	if (!router_room(d, watch->router_tap, err))
		return false;
	/* what stands here may be recorded and not run again: it depends on rows alone */
	if (d->be->ops->run_begin(d->be, rows, !watched))
	{
		d->be->ops->embed_last(d->be, d->x, d->embed, rows);
		ok = run_layers(&r) && run_head(&r, d->x, rows->n);
	}
	return end_run(d, ok, err);
}

bool
dsocr_decoder_pick(DsocrDecoder *d, const DsocrRows *rows, DsocrError *err)
{
	d->be->ops->run_begin(d->be, rows, false);
	d->be->ops->pick(d->be, d->logits, rows, d->config->vocab);
	return end_run(d, true, err);
}

void
dsocr_decoder_logits(const DsocrDecoder *d, int n, float *host)
{
	size_t vocab = (size_t) d->config->vocab;

	d->be->ops->raw_read(d->be, host, d->logits + (size_t) n * vocab, vocab * sizeof(float));
}
