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
#include "decoder_weights.h"

#include <stdio.h>
#include <string.h>

/*
 * Work memory of a run.  Steps have their own, so that one can be done between
 * two layers of a chunk.
 */
typedef struct DecoderBuffers
{
	void *n;	/* [rows, hidden] */
	void *qkv;	/* [rows, 3 * heads * head_dim] */
	void *att;	/* [rows, heads * head_dim] */
	void *wide; /* [rows, 2 * widest inter] */
	void *mid;	/* [rows, widest inter] */

	int32_t *ids;	/* raw memory [rows, experts_per_token] */
	float *weights; /* [rows, experts_per_token] */
} DecoderBuffers;

struct DsocrDecoder
{
	DsocrBackend *be;
	const DsocrConfig *config;
	int max_rows;		/* of a chunk */
	int max_step;		/* rows of a step */
	DsocrMatrix *embed; /* [vocab, hidden] */
	DsocrMatrix *head;	/* [vocab, hidden] */
	DsocrVector *norm;	/* [hidden] */
	DecoderLayer *layers;

	DecoderBuffers chunk;
	DecoderBuffers step;
	void *x;			  /* of a step: [max_step, hidden] */
	float *logits;		  /* raw memory [max_step, vocab] */
	float *router_logits; /* [most rows, experts], made for the first router tap */
};

/* One run: what would otherwise be arguments of every helper. */
typedef struct DecoderRun
{
	DsocrDecoder *d;
	const DecoderBuffers *b;
	void *x; /* [rows->n, hidden] */
	const DsocrRows *rows;
	int unit; /* DSOCR_MIXED, or all rows */
	DsocrKv *kv;
	const DsocrTap *tap;
	const DsocrRouterTap *router_tap;
	const DsocrPoll *poll;
	DsocrError *err;
} DecoderRun;

static bool
alloc_buffers(const DsocrDecoder *d, DecoderBuffers *b, int most, DsocrError *err)
{
	DsocrBackend *be = d->be;
	const DsocrConfig *c = d->config;
	size_t rows = (size_t) most;
	size_t choices = rows * (size_t) c->experts_per_token;
	size_t dim = (size_t) c->heads * (size_t) c->head_dim;
	size_t widest = 0;

	for (int i = 0; i < c->layers; i++)
		if ((size_t) d->layers[i].inter > widest)
			widest = (size_t) d->layers[i].inter;
	b->n = be->ops->alloc(be, rows * (size_t) c->hidden, err);
	b->qkv = b->n ? be->ops->alloc(be, rows * 3 * dim, err) : NULL;
	b->att = b->qkv ? be->ops->alloc(be, rows * dim, err) : NULL;
	b->wide = b->att ? be->ops->alloc(be, rows * 2 * widest, err) : NULL;
	b->mid = b->wide ? be->ops->alloc(be, rows * widest, err) : NULL;
	if (b->mid == NULL)
		return false;
	if (c->first_dense >= c->layers)
		return true;
	b->ids = be->ops->raw_alloc(be, choices * sizeof(int32_t), err);
	b->weights = b->ids ? be->ops->raw_alloc(be, choices * sizeof(float), err) : NULL;
	return b->weights != NULL;
}

static void
free_buffers(DsocrBackend *be, DecoderBuffers *b)
{
	void *acts[] = {b->n, b->qkv, b->att, b->wide, b->mid};

	for (int i = 0; i < 5; i++)
		if (acts[i])
			be->ops->free(be, acts[i]);
	if (b->ids)
		be->ops->raw_free(be, b->ids);
	if (b->weights)
		be->ops->raw_free(be, b->weights);
}

/* Work memory: all of it, since a recorded step uses it where it lies. */
static bool
alloc_work(DsocrDecoder *d, DsocrError *err)
{
	size_t steps = (size_t) d->max_step;
	size_t logits;

	if (!dsocr_mul(steps * sizeof(float), (size_t) d->config->vocab, &logits))
		return dsocr_fail(err, DSOCR_E_MEMORY, "%d rows of logits are too many", d->max_step);
	d->logits = d->be->ops->raw_alloc(d->be, logits, err);
	d->x = d->logits ? d->be->ops->alloc(d->be, steps * (size_t) d->config->hidden, err) : NULL;
	return d->x != NULL && alloc_buffers(d, &d->chunk, d->max_rows, err) &&
		   alloc_buffers(d, &d->step, d->max_step, err);
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
		dsocr_decoder_load_layer(&l, config, &d->layers[i], i);
	if (l.failed || !alloc_work(d, err))
	{
		dsocr_decoder_close(d);
		return NULL;
	}
	return d;
}

void
dsocr_decoder_close(DsocrDecoder *d)
{
	if (d == NULL)
		return;

	DsocrBackend *be = d->be;

	for (int i = 0; d->layers && i < d->config->layers; i++)
		dsocr_decoder_free_layer(d->be, d->config, &d->layers[i]);
	dsocr_free(d->layers);
	free_buffers(be, &d->chunk);
	free_buffers(be, &d->step);
	if (d->x)
		be->ops->free(be, d->x);
	if (d->logits)
		be->ops->raw_free(be, d->logits);
	if (d->router_logits)
		be->ops->raw_free(be, d->router_logits);
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
	const DecoderBuffers *b = r->b;
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
		be->ops->raw_read(be, weights, b->weights, rows * (size_t) k * sizeof(float));
		be->ops->raw_read(be, ids, b->ids, rows * (size_t) k * sizeof(int32_t));
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
	const DecoderBuffers *b = r->b;
	DsocrBackend *be = d->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = d->config;
	int n = r->rows->n;

	ops->rms_norm(be, b->n, r->x, n, c->hidden, layer->norm1, c->rms_eps);
	ops->linear(be, b->qkv, b->n, n, layer->qkv, NULL, DSOCR_ACT_NONE, NULL, r->unit);
	ops->rope_store(be, b->qkv, r->rows, r->kv, index, c->rope_theta);
	ops->causal_attention(be, b->att, b->qkv, r->rows, r->kv, index);
	if (r->tap == NULL)
	{
		ops->linear(be, r->x, b->att, n, layer->o, NULL, DSOCR_ACT_NONE, r->x, r->unit);
		return true;
	}
	ops->linear(be, b->n, b->att, n, layer->o, NULL, DSOCR_ACT_NONE, NULL, r->unit);
	ops->add(be, r->x, b->n, (size_t) n * (size_t) c->hidden, 1);
	return show(r, b->n, "lm.attn.%d", index);
}

/* x += mlp(norm(x)) */
static bool
run_mlp(const DecoderRun *r, const DecoderLayer *layer, int index)
{
	DsocrDecoder *d = r->d;
	const DecoderBuffers *b = r->b;
	DsocrBackend *be = d->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = d->config;
	int n = r->rows->n;

	ops->rms_norm(be, b->n, r->x, n, c->hidden, layer->norm2, c->rms_eps);
	if (layer->inter > 0)
	{
		ops->swiglu(be, b->mid, b->wide, b->n, n, layer->gate_up, r->unit);
		ops->linear(be, r->x, b->mid, n, layer->down, NULL, DSOCR_ACT_NONE, r->x, r->unit);
	}
	if (layer->router == NULL)
		return true;
	ops->router(be, b->ids, b->weights, r->router_tap ? d->router_logits : NULL, b->n, r->rows,
				layer->router, c->experts_per_token);
	ops->experts(be, r->x, b->n, n, b->ids, b->weights, c->experts_per_token, layer->experts, r->x,
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
	const DecoderBuffers *b = r->b;
	DsocrBackend *be = d->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = d->config;

	if (r->tap != NULL)
	{
		ops->rms_norm(be, b->n, r->x, r->rows->n, c->hidden, d->norm, c->rms_eps);
		if (!show(r, b->n, "lm.norm", 0))
			return false;
	}
	if (n == 0)
		return true;
	ops->rms_norm(be, b->n, x, n, c->hidden, d->norm, c->rms_eps);
	ops->logits(be, d->logits, b->n, n, d->head);
	ops->pick(be, d->logits, r->rows, c->vocab);
	return true;
}

static bool
router_room(DsocrDecoder *d, const DsocrRouterTap *tap, DsocrError *err)
{
	int rows = d->max_rows > d->max_step ? d->max_rows : d->max_step;

	if (tap == NULL || d->router_logits != NULL || d->chunk.ids == NULL)
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
					.b = &d->chunk,
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
					.b = &d->step,
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
