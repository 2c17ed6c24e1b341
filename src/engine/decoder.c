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
} DecoderLayer;

struct DsocrDecoder
{
	DsocrBackend *be;
	const DsocrConfig *config;
	int max_rows;
	DsocrMatrix *embed; /* [vocab, hidden] */
	DsocrMatrix *head;	/* [vocab, hidden] */
	DsocrVector *norm;	/* [hidden] */
	DecoderLayer *layers;

	void *n;	/* [max_rows, hidden] */
	void *qkv;	/* [max_rows, 3 * heads * head_dim] */
	void *att;	/* [max_rows, heads * head_dim] */
	void *wide; /* [max_rows, 2 * widest inter] */
	void *mid;	/* [max_rows, widest inter] */
	void *logits;
	int logits_cap; /* rows */

	int32_t *ids;		  /* routing memory [max_rows, experts_per_token] */
	float *weights;		  /* [max_rows, experts_per_token] */
	float *router_logits; /* [max_rows, experts], made for the first router tap */
};

/* One run: what would otherwise be arguments of every helper. */
typedef struct DecoderRun
{
	DsocrDecoder *d;
	void *x; /* [rows->n, hidden] */
	const DsocrRows *rows;
	DsocrKv *kv;
	const DsocrTap *tap;
	const DsocrRouterTap *router_tap;
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

	layer->router = dsocr_load_matrix(l, "mlp.gate.weight", c->experts, c->hidden);
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

/* Work memory for max_rows rows. */
static bool
alloc_buffers(DsocrDecoder *d, DsocrError *err)
{
	DsocrBackend *be = d->be;
	const DsocrConfig *c = d->config;
	size_t rows = (size_t) d->max_rows;
	size_t dim = (size_t) c->heads * (size_t) c->head_dim;
	size_t widest = 0;

	for (int i = 0; i < c->layers; i++)
		if ((size_t) d->layers[i].inter > widest)
			widest = (size_t) d->layers[i].inter;

	d->n = be->ops->alloc(be, rows * (size_t) c->hidden, err);
	d->qkv = d->n ? be->ops->alloc(be, rows * 3 * dim, err) : NULL;
	d->att = d->qkv ? be->ops->alloc(be, rows * dim, err) : NULL;
	d->wide = d->att ? be->ops->alloc(be, rows * 2 * widest, err) : NULL;
	d->mid = d->wide ? be->ops->alloc(be, rows * widest, err) : NULL;
	if (d->mid == NULL)
		return false;
	if (c->first_dense >= c->layers)
		return true;
	d->ids =
		be->ops->routing_alloc(be, rows * (size_t) c->experts_per_token * sizeof(int32_t), err);
	d->weights =
		d->ids
			? be->ops->routing_alloc(be, rows * (size_t) c->experts_per_token * sizeof(float), err)
			: NULL;
	return d->weights != NULL;
}

DsocrDecoder *
dsocr_decoder_open(DsocrBackend *be, const DsocrConfig *config, const DsocrWeights *weights,
				   int max_rows, DsocrError *err)
{
	DsocrLoader l = {.be = be, .weights = weights, .err = err};
	DsocrDecoder *d = dsocr_zalloc(1, sizeof(*d), err);

	if (d == NULL)
		return NULL;
	d->be = be;
	d->config = config;
	d->max_rows = max_rows;
	d->layers = dsocr_zalloc((size_t) config->layers, sizeof(*d->layers), err);
	l.failed = d->layers == NULL;

	d->embed = dsocr_load_matrix(&l, "model.embed_tokens.weight", config->vocab, config->hidden);
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
	dsocr_free(layer->expert_gate_up);
	dsocr_free(layer->expert_down);
}

void
dsocr_decoder_close(DsocrDecoder *d)
{
	if (d == NULL)
		return;

	DsocrBackend *be = d->be;
	void *acts[] = {d->n, d->qkv, d->att, d->wide, d->mid, d->logits};
	void *routing[] = {d->ids, d->weights, d->router_logits};

	for (int i = 0; d->layers && i < d->config->layers; i++)
		free_layer(d, &d->layers[i]);
	dsocr_free(d->layers);
	for (int i = 0; i < 6; i++)
		if (acts[i])
			be->ops->free(be, acts[i]);
	for (int i = 0; i < 3; i++)
		if (routing[i])
			be->ops->routing_free(be, routing[i]);
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

/* Show all rows of an activation to the tap. */
static bool
show(const DecoderRun *r, const void *act, const char *fmt, int i)
{
	int dim = r->d->config->hidden;
	size_t n = (size_t) r->rows->n * (size_t) dim;
	char name[64];
	float *host;

	if (r->tap == NULL)
		return true;
	host = dsocr_alloc(n, sizeof(float), r->err);
	if (host == NULL)
		return false;
	snprintf(name, sizeof(name), fmt, i);
	r->d->be->ops->read(r->d->be, host, act, n);
	r->tap->see(r->tap->arg, name, host, r->rows->n, dim);
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
	size_t rows = (size_t) r->rows->n;
	float *logits = dsocr_alloc(rows * (size_t) e, sizeof(float), r->err);
	float *weights = dsocr_alloc(rows * (size_t) k, sizeof(float), r->err);
	int32_t *ids = dsocr_alloc(rows * (size_t) k, sizeof(int32_t), r->err);
	bool ok = logits != NULL && weights != NULL && ids != NULL;

	if (ok)
	{
		be->ops->routing_read(be, logits, d->router_logits, rows * (size_t) e * sizeof(float));
		be->ops->routing_read(be, weights, d->weights, rows * (size_t) k * sizeof(float));
		be->ops->routing_read(be, ids, d->ids, rows * (size_t) k * sizeof(int32_t));
		r->router_tap->see(r->router_tap->arg, layer, logits, ids, weights, r->rows->n, e, k);
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
	DsocrRowKind kind = r->rows->kind;

	ops->rms_norm(be, d->n, r->x, n, c->hidden, layer->norm1, c->rms_eps);
	ops->linear(be, d->qkv, d->n, n, layer->qkv, NULL, DSOCR_ACT_NONE, NULL, kind);
	ops->rope_store(be, d->qkv, r->rows, r->kv, index, c->rope_theta);
	ops->causal_attention(be, d->att, d->qkv, r->rows, r->kv, index);
	if (r->tap == NULL)
	{
		ops->linear(be, r->x, d->att, n, layer->o, NULL, DSOCR_ACT_NONE, r->x, kind);
		return true;
	}
	ops->linear(be, d->n, d->att, n, layer->o, NULL, DSOCR_ACT_NONE, NULL, kind);
	ops->add(be, r->x, d->n, (size_t) n * (size_t) c->hidden);
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
	DsocrRowKind kind = r->rows->kind;

	ops->rms_norm(be, d->n, r->x, n, c->hidden, layer->norm2, c->rms_eps);
	if (layer->inter > 0)
	{
		ops->linear(be, d->wide, d->n, n, layer->gate_up, NULL, DSOCR_ACT_NONE, NULL, kind);
		ops->silu_mul(be, d->mid, d->wide, n, layer->inter);
		ops->linear(be, r->x, d->mid, n, layer->down, NULL, DSOCR_ACT_NONE, r->x, kind);
	}
	if (layer->router == NULL)
		return true;
	ops->router(be, d->ids, d->weights, r->router_tap ? d->router_logits : NULL, d->n, n,
				layer->router, c->experts_per_token);
	ops->experts(be, r->x, d->n, n, d->ids, d->weights, c->experts_per_token, c->experts,
				 (const DsocrMatrix *const *) layer->expert_gate_up,
				 (const DsocrMatrix *const *) layer->expert_down, r->x, kind);
	return r->router_tap == NULL || show_router(r, index);
}

static bool
logits_room(DsocrDecoder *d, int n, DsocrError *err)
{
	DsocrBackend *be = d->be;
	size_t count;

	if (n <= d->logits_cap)
		return true;
	if (!dsocr_mul((size_t) n, (size_t) d->config->vocab, &count))
		return dsocr_fail(err, DSOCR_E_MEMORY, "%d rows of logits are too many", n);
	if (d->logits)
		be->ops->free(be, d->logits);
	d->logits_cap = 0;
	d->logits = be->ops->alloc(be, count, err);
	if (d->logits == NULL)
		return false;
	d->logits_cap = n;
	return true;
}

/* Final norm and logits of the rows that need them. */
static bool
run_head(const DecoderRun *r, const int32_t *logit_rows, int n_logits)
{
	DsocrDecoder *d = r->d;
	DsocrBackend *be = d->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = d->config;
	size_t hidden = (size_t) c->hidden;

	if (r->tap != NULL)
	{
		ops->rms_norm(be, d->n, r->x, r->rows->n, c->hidden, d->norm, c->rms_eps);
		if (!show(r, d->n, "lm.norm", 0))
			return false;
	}
	if (n_logits == 0)
		return true;
	for (int i = 0; i < n_logits; i++)
		ops->copy(be, dsocr_act(be, d->n, (size_t) i * hidden),
				  dsocr_act(be, r->x, (size_t) logit_rows[i] * hidden), hidden);
	ops->rms_norm(be, d->n, d->n, n_logits, c->hidden, d->norm, c->rms_eps);
	ops->linear(be, d->logits, d->n, n_logits, d->head, NULL, DSOCR_ACT_NONE, NULL,
				DSOCR_ROWS_MIXED);
	return true;
}

static bool
run_layers(const DecoderRun *r, const DsocrPoll *poll)
{
	DsocrDecoder *d = r->d;

	for (int i = 0; i < d->config->layers; i++)
	{
		if (poll != NULL && !poll->go_on(poll->arg))
			return dsocr_fail(r->err, DSOCR_E_CANCELLED, "request was cancelled");
		if (!run_attention(r, &d->layers[i], i) || !run_mlp(r, &d->layers[i], i) ||
			!show(r, r->x, "lm.layer.%d", i))
			return false;
	}
	return true;
}

bool
dsocr_decoder_run(DsocrDecoder *d, void *x, const DsocrRows *rows, DsocrKv *kv,
				  const int32_t *logit_rows, int n_logits, const DsocrTap *tap,
				  const DsocrRouterTap *router_tap, const DsocrPoll *poll, DsocrError *err)
{
	DecoderRun r = {
		.d = d, .x = x, .rows = rows, .kv = kv, .tap = tap, .router_tap = router_tap, .err = err};
	const DsocrConfig *c = d->config;

	if (rows->n < 1 || rows->n > d->max_rows || n_logits > rows->n)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "%d decoder rows, at most %d are possible",
						  rows->n, d->max_rows);
	if (!logits_room(d, n_logits, err))
		return false;
	if (router_tap != NULL && d->router_logits == NULL && d->ids != NULL)
	{
		d->router_logits = d->be->ops->routing_alloc(
			d->be, (size_t) d->max_rows * (size_t) c->experts * sizeof(float), err);
		if (d->router_logits == NULL)
			return false;
	}
	if (run_layers(&r, poll) && run_head(&r, logit_rows, n_logits))
		return d->be->ops->sync(d->be, err);
	d->be->ops->sync(d->be, NULL); /* trouble of this run is not the next one's */
	return false;
}

const void *
dsocr_decoder_logits(const DsocrDecoder *d)
{
	return d->logits;
}
