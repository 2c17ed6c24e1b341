/*-------------------------------------------------------------------------
 *
 * encoder_weights.c
 *		Tensors of the encoder and its position tables.
 *
 * Position tables are stored for one size; for other views they are resized
 * and kept for the last few sizes.
 *
 *-------------------------------------------------------------------------
 */
#include "encoder_weights.h"

#include "load.h"
#include "preprocess.h"

#include <string.h>

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
	layer->fc1 = dsocr_load_matrix(l, names[8], DSOCR_MLP_RATIO * dim, dim);
	layer->fc1_b = dsocr_load_vector(l, names[9], DSOCR_MLP_RATIO * dim);
	layer->fc2 = dsocr_load_matrix(l, names[10], dim, DSOCR_MLP_RATIO * dim);
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
	if (e->sam == NULL || e->clip == NULL)
	{
		dsocr_encoder_close(e);
		return NULL;
	}

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

	for (int i = 0; i < DSOCR_MAX_GRIDS; i++)
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

const EncoderGrid *
dsocr_encoder_grid(DsocrEncoder *e, int side, int side3, DsocrError *err)
{
	EncoderGrid *g = &e->grids[0];

	for (int i = 0; i < DSOCR_MAX_GRIDS; i++)
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
