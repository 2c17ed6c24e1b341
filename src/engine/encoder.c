/*-------------------------------------------------------------------------
 *
 * encoder.c
 *		DeepEncoder: a view to vision tokens.
 *
 * Three work buffers are enough: x is the residual stream, n what a norm or
 * an attention gives, w the wide rows (patches, qkv, hidden layer of the MLP,
 * neighbourhoods of a convolution).  The CLIP stage needs a fourth, y, since
 * the SAM features in x are used again by the projector.
 *
 * What depends on the size of the view (resized position tables) is kept for
 * the last few sizes.
 *
 *-------------------------------------------------------------------------
 */
#include "encoder.h"

#include "load.h"
#include "preprocess.h"

#include <stdio.h>
#include <string.h>

#define SAM_EPS 1e-6f
#define CLIP_EPS 1e-5f
#define MLP_RATIO 4
#define MAX_GRIDS 8	   /* view sizes whose tables are kept */
#define MAX_SIDE 16384 /* pixels; far beyond any mode, keeps products in range */

/* A transformer layer of either tower. */
typedef struct EncoderLayer
{
	DsocrVector *norm1_w, *norm1_b; /* [dim] */
	DsocrMatrix *qkv;				/* [3 * dim, dim] */
	DsocrVector *qkv_b;				/* [3 * dim] */
	DsocrMatrix *proj;				/* [dim, dim] */
	DsocrVector *proj_b;
	DsocrVector *norm2_w, *norm2_b;
	DsocrMatrix *fc1; /* [4 * dim, dim] */
	DsocrVector *fc1_b;
	DsocrMatrix *fc2; /* [dim, 4 * dim] */
	DsocrVector *fc2_b;
	const DsocrTensor *rel_h_table, *rel_w_table; /* SAM, global: [2 * grid - 1, head_dim] */
	DsocrVector *rel_h, *rel_w;					  /* SAM, windowed: [2 * window - 1, head_dim] */
} EncoderLayer;

/* Tables of one view size. */
typedef struct EncoderGrid
{
	int side;				 /* patches; 0 = unused */
	void *sam_pos;			 /* [side^2, sam_width] */
	void *clip_pos;			 /* [1 + n, clip_width] */
	DsocrVector **rel_h;	 /* [sam_layers] of global layers */
	DsocrVector **rel_w;	 /* [2 * side - 1, head_dim] each */
	unsigned long last_used; /* the oldest makes room */
} EncoderGrid;

struct DsocrEncoder
{
	DsocrBackend *be;
	const DsocrConfig *config;
	EncoderLayer *sam;	/* [sam_layers] */
	EncoderLayer *clip; /* [clip_layers] */

	DsocrMatrix *patch;
	DsocrVector *patch_b;
	const DsocrTensor *sam_pos_table;  /* [1, grid, grid, sam_width] */
	const DsocrTensor *clip_pos_table; /* [1 + clip_grid^2, clip_width] */
	DsocrMatrix *neck1, *neck2, *net2, *net3;
	DsocrVector *neck1_w, *neck1_b, *neck2_w, *neck2_b;
	void *class_row; /* [clip_width] */
	DsocrVector *pre_w, *pre_b;
	DsocrMatrix *projector;
	DsocrVector *projector_b;
	void *newline, *separator; /* [hidden] */

	EncoderGrid grids[MAX_GRIDS];
	unsigned long clock;

	void *x, *n, *w, *y;
	size_t x_cap, n_cap, w_cap, y_cap; /* elements */
};

/* One run: what would otherwise be arguments of every helper. */
typedef struct EncoderRun
{
	DsocrEncoder *e;
	const EncoderGrid *grid;
	const DsocrTap *tap;
	const DsocrPoll *poll;
	DsocrError *err;
	int side2, side3; /* after net_2 and net_3 */
} EncoderRun;

static void
load_layer(DsocrLoader *l, EncoderLayer *layer, int dim, const char *const *names)
{
	layer->norm1_w = dsocr_load_vector(l, names[0], dim);
	layer->norm1_b = dsocr_load_vector(l, names[1], dim);
	layer->qkv = dsocr_load_matrix(l, names[2], 3 * dim, dim);
	layer->qkv_b = dsocr_load_vector(l, names[3], 3 * dim);
	layer->proj = dsocr_load_matrix(l, names[4], dim, dim);
	layer->proj_b = dsocr_load_vector(l, names[5], dim);
	layer->norm2_w = dsocr_load_vector(l, names[6], dim);
	layer->norm2_b = dsocr_load_vector(l, names[7], dim);
	layer->fc1 = dsocr_load_matrix(l, names[8], MLP_RATIO * dim, dim);
	layer->fc1_b = dsocr_load_vector(l, names[9], MLP_RATIO * dim);
	layer->fc2 = dsocr_load_matrix(l, names[10], dim, MLP_RATIO * dim);
	layer->fc2_b = dsocr_load_vector(l, names[11], dim);
}

static const char *const sam_names[] = {"norm1.weight",	 "norm1.bias",		 "attn.qkv.weight",
										"attn.qkv.bias", "attn.proj.weight", "attn.proj.bias",
										"norm2.weight",	 "norm2.bias",		 "mlp.lin1.weight",
										"mlp.lin1.bias", "mlp.lin2.weight",	 "mlp.lin2.bias"};

static const char *const clip_names[] = {"layer_norm1.weight",
										 "layer_norm1.bias",
										 "self_attn.qkv_proj.weight",
										 "self_attn.qkv_proj.bias",
										 "self_attn.out_proj.weight",
										 "self_attn.out_proj.bias",
										 "layer_norm2.weight",
										 "layer_norm2.bias",
										 "mlp.fc1.weight",
										 "mlp.fc1.bias",
										 "mlp.fc2.weight",
										 "mlp.fc2.bias"};

/* The table as fp32 vector, resized to rows when it has another length. */
static DsocrVector *
relative_table(DsocrEncoder *e, const DsocrTensor *t, int rows, DsocrError *err)
{
	int length = (int) t->shape[0];
	int dim = (int) t->shape[1];
	float *in = dsocr_tensor_floats(t, err);
	float *out = in != NULL ? dsocr_alloc((size_t) rows * (size_t) dim, sizeof(float), err) : NULL;
	DsocrVector *v = NULL;

	if (out != NULL)
	{
		if (length == rows)
			memcpy(out, in, sizeof(float) * (size_t) rows * (size_t) dim);
		else
			dsocr_resize_relative(in, length, dim, rows, out);
		/* the official code casts a resized table back to the stored type */
		if (length != rows && t->dtype == DSOCR_BF16 && e->be->precision == DSOCR_PRECISION_BF16)
			for (int i = 0; i < rows * dim; i++)
				out[i] = dsocr_bf16_to_f32(dsocr_f32_to_bf16(out[i]));
		v = e->be->ops->vector(e->be, out, (size_t) rows * (size_t) dim, err);
	}
	dsocr_free(in);
	dsocr_free(out);
	return v;
}

static void
load_sam(DsocrEncoder *e, DsocrLoader *l)
{
	const DsocrConfig *c = e->config;
	int grid = c->image_size / c->patch;
	int head_dim = c->sam_width / c->sam_heads;
	int64_t pos_shape[4] = {1, grid, grid, c->sam_width};

	dsocr_load_prefix(l, "model.sam_model.");
	e->patch = dsocr_load_conv(l, "patch_embed.proj.weight", c->sam_width, 3, c->patch, false);
	e->patch_b = dsocr_load_vector(l, "patch_embed.proj.bias", c->sam_width);
	e->sam_pos_table = dsocr_load_tensor(l, "pos_embed", 4, pos_shape);
	e->neck1 = dsocr_load_conv(l, "neck.0.weight", c->neck_channels, c->sam_width, 1, true);
	e->neck1_w = dsocr_load_vector(l, "neck.1.weight", c->neck_channels);
	e->neck1_b = dsocr_load_vector(l, "neck.1.bias", c->neck_channels);
	e->neck2 = dsocr_load_conv(l, "neck.2.weight", c->neck_channels, c->neck_channels, 3, true);
	e->neck2_w = dsocr_load_vector(l, "neck.3.weight", c->neck_channels);
	e->neck2_b = dsocr_load_vector(l, "neck.3.bias", c->neck_channels);
	e->net2 = dsocr_load_conv(l, "net_2.weight", c->net2_channels, c->neck_channels, 3, true);
	e->net3 = dsocr_load_conv(l, "net_3.weight", c->net3_channels, c->net2_channels, 3, true);

	for (int i = 0; i < c->sam_layers; i++)
	{
		EncoderLayer *layer = &e->sam[i];
		int64_t shape[2] = {2 * (c->sam_global[i] ? grid : c->sam_window) - 1, head_dim};

		dsocr_load_prefix(l, "model.sam_model.blocks.%d.", i);
		load_layer(l, layer, c->sam_width, sam_names);
		layer->rel_h_table = dsocr_load_tensor(l, "attn.rel_pos_h", 2, shape);
		layer->rel_w_table = dsocr_load_tensor(l, "attn.rel_pos_w", 2, shape);
		if (l->failed || c->sam_global[i])
			continue;
		layer->rel_h = relative_table(e, layer->rel_h_table, (int) shape[0], l->err);
		layer->rel_w =
			layer->rel_h ? relative_table(e, layer->rel_w_table, (int) shape[0], l->err) : NULL;
		l->failed = layer->rel_w == NULL;
	}
}

static void
load_clip(DsocrEncoder *e, DsocrLoader *l)
{
	const DsocrConfig *c = e->config;
	int64_t pos_shape[2] = {1 + (int64_t) c->clip_grid * c->clip_grid, c->clip_width};

	dsocr_load_prefix(l, "model.vision_model.");
	e->class_row = dsocr_load_row(l, "embeddings.class_embedding", c->clip_width);
	e->clip_pos_table = dsocr_load_tensor(l, "embeddings.position_embedding.weight", 2, pos_shape);
	e->pre_w = dsocr_load_vector(l, "pre_layrnorm.weight", c->clip_width);
	e->pre_b = dsocr_load_vector(l, "pre_layrnorm.bias", c->clip_width);
	for (int i = 0; i < c->clip_layers; i++)
	{
		dsocr_load_prefix(l, "model.vision_model.transformer.layers.%d.", i);
		load_layer(l, &e->clip[i], c->clip_width, clip_names);
	}
}

DsocrEncoder *
dsocr_encoder_open(DsocrBackend *be, const DsocrConfig *config, const DsocrWeights *weights,
				   DsocrError *err)
{
	DsocrLoader l = {.be = be, .weights = weights, .err = err};
	DsocrEncoder *e = dsocr_zalloc(1, sizeof(*e), err);

	if (e == NULL)
		return NULL;
	e->be = be;
	e->config = config;
	e->sam = dsocr_zalloc((size_t) config->sam_layers, sizeof(*e->sam), err);
	e->clip = dsocr_zalloc((size_t) config->clip_layers, sizeof(*e->clip), err);
	l.failed = e->sam == NULL || e->clip == NULL;

	load_sam(e, &l);
	load_clip(e, &l);
	dsocr_load_prefix(&l, "model.");
	e->projector =
		dsocr_load_matrix(&l, "projector.layers.weight", config->hidden, config->projector_in);
	e->projector_b = dsocr_load_vector(&l, "projector.layers.bias", config->hidden);
	e->newline = dsocr_load_row(&l, "image_newline", config->hidden);
	e->separator = dsocr_load_row(&l, "view_seperator", config->hidden);
	if (l.failed)
	{
		dsocr_encoder_close(e);
		return NULL;
	}
	return e;
}

static void
grid_free(DsocrEncoder *e, EncoderGrid *g)
{
	const DsocrBackendOps *ops = e->be->ops;

	if (g->sam_pos)
		ops->free(e->be, g->sam_pos);
	if (g->clip_pos)
		ops->free(e->be, g->clip_pos);
	for (int i = 0; i < e->config->sam_layers; i++)
	{
		if (g->rel_h && g->rel_h[i])
			ops->vector_free(e->be, g->rel_h[i]);
		if (g->rel_w && g->rel_w[i])
			ops->vector_free(e->be, g->rel_w[i]);
	}
	dsocr_free(g->rel_h);
	dsocr_free(g->rel_w);
	memset(g, 0, sizeof(*g));
}

static void
free_vectors(DsocrEncoder *e, DsocrVector **list, int n)
{
	for (int i = 0; i < n; i++)
		if (list[i])
			e->be->ops->vector_free(e->be, list[i]);
}

static void
free_matrices(DsocrEncoder *e, DsocrMatrix **list, int n)
{
	for (int i = 0; i < n; i++)
		if (list[i])
			e->be->ops->matrix_free(e->be, list[i]);
}

static void
free_layers(DsocrEncoder *e, EncoderLayer *layers, int n)
{
	for (int i = 0; layers && i < n; i++)
	{
		EncoderLayer *y = &layers[i];
		DsocrVector *v[] = {y->norm1_w, y->norm1_b, y->qkv_b, y->proj_b, y->norm2_w,
							y->norm2_b, y->fc1_b,	y->fc2_b, y->rel_h,	 y->rel_w};
		DsocrMatrix *m[] = {y->qkv, y->proj, y->fc1, y->fc2};

		free_vectors(e, v, 10);
		free_matrices(e, m, 4);
	}
	dsocr_free(layers);
}

void
dsocr_encoder_close(DsocrEncoder *e)
{
	if (e == NULL)
		return;

	DsocrVector *v[] = {e->patch_b, e->neck1_w, e->neck1_b, e->neck2_w,
						e->neck2_b, e->pre_w,	e->pre_b,	e->projector_b};
	DsocrMatrix *m[] = {e->patch, e->neck1, e->neck2, e->net2, e->net3, e->projector};
	void *acts[] = {e->class_row, e->newline, e->separator, e->x, e->n, e->w, e->y};

	for (int i = 0; i < MAX_GRIDS; i++)
		grid_free(e, &e->grids[i]);
	free_layers(e, e->sam, e->config->sam_layers);
	free_layers(e, e->clip, e->config->clip_layers);
	free_vectors(e, v, 8);
	free_matrices(e, m, 6);
	for (int i = 0; i < 7; i++)
		if (acts[i])
			e->be->ops->free(e->be, acts[i]);
	dsocr_free(e);
}

/*
 * A square position table [1 + side^2 or side^2, dim] for new_side, as
 * activations.  The first prefix rows (the class token) stay as they are.
 */
static void *
position_table(DsocrEncoder *e, const DsocrTensor *t, int prefix, int side, int dim, int new_side,
			   DsocrError *err)
{
	size_t head = (size_t) prefix * (size_t) dim;
	size_t n = head + (size_t) new_side * (size_t) new_side * (size_t) dim;
	float *in = dsocr_tensor_floats(t, err);
	float *out = in != NULL ? dsocr_alloc(n, sizeof(float), err) : NULL;
	void *act = NULL;

	if (out != NULL && side == new_side)
		memcpy(out, in, n * sizeof(float));
	else if (out != NULL)
	{
		memcpy(out, in, head * sizeof(float));
		if (!dsocr_resize_positions(in + head, side, dim, new_side, out + head, err))
			goto done;
		if (t->dtype == DSOCR_BF16 && e->be->precision == DSOCR_PRECISION_BF16)
			for (size_t i = head; i < n; i++)
				out[i] = dsocr_bf16_to_f32(dsocr_f32_to_bf16(out[i]));
	}
	act = out != NULL ? e->be->ops->alloc(e->be, n, err) : NULL;
	if (act != NULL)
		e->be->ops->write(e->be, act, out, n);
done:
	dsocr_free(in);
	dsocr_free(out);
	return act;
}

static bool
grid_make(DsocrEncoder *e, EncoderGrid *g, int side, int side3, DsocrError *err)
{
	const DsocrConfig *c = e->config;

	g->rel_h = dsocr_zalloc((size_t) c->sam_layers, sizeof(*g->rel_h), err);
	g->rel_w = dsocr_zalloc((size_t) c->sam_layers, sizeof(*g->rel_w), err);
	if (g->rel_h == NULL || g->rel_w == NULL)
		return false;
	g->sam_pos =
		position_table(e, e->sam_pos_table, 0, c->image_size / c->patch, c->sam_width, side, err);
	if (g->sam_pos == NULL)
		return false;
	g->clip_pos = position_table(e, e->clip_pos_table, 1, c->clip_grid, c->clip_width, side3, err);
	if (g->clip_pos == NULL)
		return false;
	for (int i = 0; i < c->sam_layers; i++)
	{
		if (!c->sam_global[i])
			continue;
		g->rel_h[i] = relative_table(e, e->sam[i].rel_h_table, 2 * side - 1, err);
		g->rel_w[i] =
			g->rel_h[i] ? relative_table(e, e->sam[i].rel_w_table, 2 * side - 1, err) : NULL;
		if (g->rel_w[i] == NULL)
			return false;
	}
	g->side = side;
	return true;
}

static const EncoderGrid *
grid_get(DsocrEncoder *e, int side, int side3, DsocrError *err)
{
	EncoderGrid *g = &e->grids[0];

	for (int i = 0; i < MAX_GRIDS; i++)
	{
		if (e->grids[i].side == side)
		{
			e->grids[i].last_used = ++e->clock;
			return &e->grids[i];
		}
		if (e->grids[i].last_used < g->last_used)
			g = &e->grids[i];
	}
	grid_free(e, g);
	if (!grid_make(e, g, side, side3, err))
	{
		grid_free(e, g);
		return NULL;
	}
	g->last_used = ++e->clock;
	return g;
}

/* *most = max(*most, rows * dim) */
static bool
need(size_t *most, int rows, int dim, DsocrError *err)
{
	size_t n;

	if (!dsocr_mul((size_t) rows, (size_t) dim, &n))
		return dsocr_fail(err, DSOCR_E_MEMORY, "view of %d rows is too large", rows);
	if (n > *most)
		*most = n;
	return true;
}

static bool
grow(DsocrEncoder *e, void **buf, size_t *cap, size_t n, DsocrError *err)
{
	if (n <= *cap)
		return true;
	if (*buf)
		e->be->ops->free(e->be, *buf);
	*cap = 0;
	*buf = e->be->ops->alloc(e->be, n, err);
	if (*buf == NULL)
		return false;
	*cap = n;
	return true;
}

static bool
make_room(DsocrEncoder *e, int side, int side2, int side3, DsocrError *err)
{
	const DsocrConfig *c = e->config;
	int p = side * side;
	int p2 = side2 * side2;
	int p3 = side3 * side3;
	int both = c->clip_width + c->net3_channels;
	size_t x = 0;
	size_t n = 0;
	size_t w = 0;
	size_t y = 0;

	return need(&x, p, c->sam_width, err) && need(&x, p, c->neck_channels, err) &&
		   need(&x, p3, c->net3_channels, err) && need(&n, p, c->sam_width, err) &&
		   need(&n, p, c->neck_channels, err) && need(&n, p2, c->net2_channels, err) &&
		   need(&n, p3 + 1, both, err) && need(&w, p, 3 * c->patch * c->patch, err) &&
		   need(&w, p, MLP_RATIO * c->sam_width, err) && need(&w, p, 9 * c->neck_channels, err) &&
		   need(&w, p3, 9 * c->net2_channels, err) &&
		   need(&w, p3 + 1, MLP_RATIO * c->clip_width, err) &&
		   need(&y, p3 + 1, c->clip_width, err) && grow(e, &e->x, &e->x_cap, x, err) &&
		   grow(e, &e->n, &e->n_cap, n, err) && grow(e, &e->w, &e->w_cap, w, err) &&
		   grow(e, &e->y, &e->y_cap, y, err);
}

/* Show rows x dim values to the tap. */
static bool
show(const EncoderRun *r, const void *act, int rows, int dim, const char *fmt, int i)
{
	size_t n = (size_t) rows * (size_t) dim;
	char name[64];
	float *host;

	if (r->tap == NULL)
		return true;
	host = dsocr_alloc(n, sizeof(float), r->err);
	if (host == NULL)
		return false;
	snprintf(name, sizeof(name), fmt, i);
	r->e->be->ops->read(r->e->be, host, act, n);
	r->tap->see(r->tap->arg, name, host, rows, dim);
	dsocr_free(host);
	return true;
}

static bool
go_on(const EncoderRun *r)
{
	if (r->poll == NULL || r->poll->go_on(r->poll->arg))
		return true;
	return dsocr_fail(r->err, DSOCR_E_CANCELLED, "request was cancelled");
}

/* x[rows, dim] through one pre-norm layer; n and w are scratch. */
static void
run_layer(const EncoderRun *r, void *x, int rows, int dim, const EncoderLayer *layer, int index)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = e->config;
	bool sam = layer->rel_h_table != NULL;
	float eps = sam ? SAM_EPS : CLIP_EPS;

	ops->layer_norm(be, e->n, x, rows, dim, layer->norm1_w, layer->norm1_b, eps);
	ops->linear(be, e->w, e->n, rows, layer->qkv, layer->qkv_b, DSOCR_ACT_NONE, NULL,
				DSOCR_ROWS_ONE);
	if (!sam)
		ops->attention(be, e->n, e->w, rows, c->clip_heads, dim / c->clip_heads);
	else if (c->sam_global[index])
		ops->grid_attention(be, e->n, e->w, r->grid->side, c->sam_heads, dim / c->sam_heads, 0,
							r->grid->rel_h[index], r->grid->rel_w[index], layer->qkv_b);
	else
		ops->grid_attention(be, e->n, e->w, r->grid->side, c->sam_heads, dim / c->sam_heads,
							c->sam_window, layer->rel_h, layer->rel_w, layer->qkv_b);
	ops->linear(be, x, e->n, rows, layer->proj, layer->proj_b, DSOCR_ACT_NONE, x, DSOCR_ROWS_ONE);

	ops->layer_norm(be, e->n, x, rows, dim, layer->norm2_w, layer->norm2_b, eps);
	ops->linear(be, e->w, e->n, rows, layer->fc1, layer->fc1_b,
				sam ? DSOCR_ACT_GELU : DSOCR_ACT_QUICK_GELU, NULL, DSOCR_ROWS_ONE);
	ops->linear(be, x, e->w, rows, layer->fc2, layer->fc2_b, DSOCR_ACT_NONE, x, DSOCR_ROWS_ONE);
}

/* Pixels to the SAM features x[side^2, sam_width]. */
static bool
run_sam(const EncoderRun *r, const uint8_t *rgb, int size)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrConfig *c = e->config;
	int rows = r->grid->side * r->grid->side;

	be->ops->patches(be, e->w, rgb, size, c->patch);
	be->ops->linear(be, e->x, e->w, rows, e->patch, e->patch_b, DSOCR_ACT_NONE, NULL,
					DSOCR_ROWS_ONE);
	if (!show(r, e->x, rows, c->sam_width, "sam.patch_embed", 0))
		return false;
	be->ops->add(be, e->x, r->grid->sam_pos, (size_t) rows * (size_t) c->sam_width);
	for (int i = 0; i < c->sam_layers; i++)
	{
		if (!go_on(r))
			return false;
		run_layer(r, e->x, rows, c->sam_width, &e->sam[i], i);
		if (!show(r, e->x, rows, c->sam_width, "sam.block.%d", i))
			return false;
	}
	return go_on(r);
}

/* Neck and compressor: x[side^2, sam_width] to x[side3^2, net3_channels]. */
static bool
run_compressor(const EncoderRun *r)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = e->config;
	int side = r->grid->side;
	int rows = side * side;

	ops->linear(be, e->n, e->x, rows, e->neck1, NULL, DSOCR_ACT_NONE, NULL, DSOCR_ROWS_ONE);
	ops->layer_norm(be, e->n, e->n, rows, c->neck_channels, e->neck1_w, e->neck1_b, SAM_EPS);
	ops->im2col3(be, e->w, e->n, side, side, c->neck_channels, 1);
	ops->linear(be, e->x, e->w, rows, e->neck2, NULL, DSOCR_ACT_NONE, NULL, DSOCR_ROWS_ONE);
	ops->layer_norm(be, e->x, e->x, rows, c->neck_channels, e->neck2_w, e->neck2_b, SAM_EPS);
	if (!show(r, e->x, rows, c->neck_channels, "sam.neck", 0))
		return false;

	rows = r->side2 * r->side2;
	ops->im2col3(be, e->w, e->x, side, side, c->neck_channels, 2);
	ops->linear(be, e->n, e->w, rows, e->net2, NULL, DSOCR_ACT_NONE, NULL, DSOCR_ROWS_ONE);
	if (!show(r, e->n, rows, c->net2_channels, "sam.net_2", 0))
		return false;

	rows = r->side3 * r->side3;
	ops->im2col3(be, e->w, e->n, r->side2, r->side2, c->net2_channels, 2);
	ops->linear(be, e->x, e->w, rows, e->net3, NULL, DSOCR_ACT_NONE, NULL, DSOCR_ROWS_ONE);
	return show(r, e->x, rows, c->net3_channels, "sam.net_3", 0) && go_on(r);
}

/* x[side3^2, net3_channels] to y[1 + side3^2, clip_width]. */
static bool
run_clip(const EncoderRun *r)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrConfig *c = e->config;
	int dim = c->clip_width;
	int rows = r->side3 * r->side3 + 1;

	be->ops->copy(be, e->y, e->class_row, (size_t) dim);
	be->ops->copy(be, dsocr_act(be, e->y, (size_t) dim), e->x, (size_t) (rows - 1) * (size_t) dim);
	be->ops->add(be, e->y, r->grid->clip_pos, (size_t) rows * (size_t) dim);
	if (!show(r, e->y, rows, dim, "clip.embeddings", 0))
		return false;
	be->ops->layer_norm(be, e->y, e->y, rows, dim, e->pre_w, e->pre_b, CLIP_EPS);
	if (!show(r, e->y, rows, dim, "clip.pre_layrnorm", 0))
		return false;
	for (int i = 0; i < c->clip_layers; i++)
	{
		if (!go_on(r))
			return false;
		run_layer(r, e->y, rows, dim, &e->clip[i], i);
		if (!show(r, e->y, rows, dim, "clip.layer.%d", i))
			return false;
	}
	return true;
}

static bool
run_view(const EncoderRun *r, const uint8_t *rgb, int size, void *tokens)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrConfig *c = e->config;
	int n = r->side3 * r->side3;

	if (!run_sam(r, rgb, size) || !run_compressor(r) || !run_clip(r))
		return false;
	be->ops->concat(be, e->n, dsocr_act(be, e->y, (size_t) c->clip_width), c->clip_width, e->x,
					c->net3_channels, n);
	if (!show(r, e->n, n, c->projector_in, "concat", 0))
		return false;
	be->ops->linear(be, tokens, e->n, n, e->projector, e->projector_b, DSOCR_ACT_NONE, NULL,
					DSOCR_ROWS_ONE);
	return show(r, tokens, n, c->hidden, "projector", 0) && be->ops->sync(be, r->err);
}

bool
dsocr_encoder_run(DsocrEncoder *e, const uint8_t *rgb, int size, void *tokens, const DsocrTap *tap,
				  const DsocrPoll *poll, DsocrError *err)
{
	EncoderRun r = {.e = e, .tap = tap, .poll = poll, .err = err};
	int side = size / e->config->patch;
	int whole = side * e->config->patch;
	uint8_t *cut = NULL;
	bool ok;

	if (side < 1 || size > MAX_SIDE)
		return dsocr_fail(err, DSOCR_E_ARGUMENT, "view of %d pixels is not possible", size);
	r.side2 = (side - 1) / 2 + 1;
	r.side3 = (r.side2 - 1) / 2 + 1;
	if (!make_room(e, side, r.side2, r.side3, err))
		return false;
	r.grid = grid_get(e, side, r.side3, err);
	if (r.grid == NULL)
		return false;

	/* a convolution with stride drops what does not fill a patch */
	if (whole != size)
	{
		cut = dsocr_alloc((size_t) whole * (size_t) whole, 3, err);
		if (cut == NULL)
			return false;
		for (int y = 0; y < whole; y++)
			memcpy(cut + (size_t) y * (size_t) whole * 3, rgb + (size_t) y * (size_t) size * 3,
				   (size_t) whole * 3);
		rgb = cut;
	}
	ok = run_view(&r, rgb, whole, tokens);
	dsocr_free(cut);
	return ok;
}

const void *
dsocr_encoder_newline(const DsocrEncoder *e)
{
	return e->newline;
}

const void *
dsocr_encoder_separator(const DsocrEncoder *e)
{
	return e->separator;
}
