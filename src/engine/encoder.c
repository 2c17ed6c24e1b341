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
 *-------------------------------------------------------------------------
 */
#include "encoder_weights.h"

#include <stdio.h>
#include <string.h>

#define SAM_EPS 1e-6f
#define CLIP_EPS 1e-5f
#define MAX_SIDE 16384 /* pixels; far beyond any mode, keeps products in range */

/* One run: what would otherwise be arguments of every helper. */
typedef struct EncoderRun
{
	DsocrEncoder *e;
	const EncoderGrid *grid;
	const DsocrTap *tap;
	const DsocrPoll *poll;
	DsocrError *err;
	int views;
	int side, side2, side3; /* patches; after net_2 and net_3 */
} EncoderRun;

/* *most = max(*most, views * rows * dim) */
static bool
need(size_t *most, const EncoderRun *r, int rows, int dim)
{
	size_t n;

	if (!dsocr_mul((size_t) rows, (size_t) dim, &n) || !dsocr_mul(n, (size_t) r->views, &n) ||
		(int64_t) rows * r->views > INT32_MAX)
		return dsocr_fail(r->err, DSOCR_E_MEMORY, "%d views of %d rows are too large", r->views,
						  rows);
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
make_room(const EncoderRun *r)
{
	DsocrEncoder *e = r->e;
	const DsocrConfig *c = e->config;
	int p = r->side * r->side;
	int p2 = r->side2 * r->side2;
	int p3 = r->side3 * r->side3;
	int both = c->clip_width + c->net3_channels;
	size_t x = 0;
	size_t n = 0;
	size_t w = 0;
	size_t y = 0;

	return need(&x, r, p, c->sam_width) && need(&x, r, p, c->neck_channels) &&
		   need(&x, r, p3, c->net3_channels) && need(&n, r, p, c->sam_width) &&
		   need(&n, r, p, c->neck_channels) && need(&n, r, p2, c->net2_channels) &&
		   need(&n, r, p3 + 1, both) && need(&w, r, p, 3 * c->patch * c->patch) &&
		   need(&w, r, p, DSOCR_MLP_RATIO * c->sam_width) && need(&w, r, p, 9 * c->neck_channels) &&
		   need(&w, r, p3, 9 * c->net2_channels) &&
		   need(&w, r, p3 + 1, DSOCR_MLP_RATIO * c->clip_width) &&
		   need(&y, r, p3 + 1, c->clip_width) && grow(e, &e->x, &e->x_cap, x, r->err) &&
		   grow(e, &e->n, &e->n_cap, n, r->err) && grow(e, &e->w, &e->w_cap, w, r->err) &&
		   grow(e, &e->y, &e->y_cap, y, r->err);
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

/* x[views, unit, dim] through one pre-norm layer; n and w are scratch. */
static void
run_layer(const EncoderRun *r, void *x, int unit, int dim, const EncoderLayer *layer, int index)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = e->config;
	bool sam = layer->rel_h_table != NULL;
	float eps = sam ? SAM_EPS : CLIP_EPS;
	int rows = r->views * unit;

	ops->layer_norm(be, e->n, x, rows, dim, layer->norm1_w, layer->norm1_b, eps);
	ops->linear(be, e->w, e->n, rows, layer->qkv, layer->qkv_b, DSOCR_ACT_NONE, NULL, unit);
	if (!sam)
		ops->attention(be, e->n, e->w, r->views, unit, c->clip_heads, dim / c->clip_heads);
	else if (c->sam_global[index])
		ops->grid_attention(be, e->n, e->w, r->views, r->side, c->sam_heads, dim / c->sam_heads, 0,
							r->grid->rel_h[index], r->grid->rel_w[index], layer->qkv_b);
	else
		ops->grid_attention(be, e->n, e->w, r->views, r->side, c->sam_heads, dim / c->sam_heads,
							c->sam_window, layer->rel_h, layer->rel_w, layer->qkv_b);
	ops->linear(be, x, e->n, rows, layer->proj, layer->proj_b, DSOCR_ACT_NONE, x, unit);

	ops->layer_norm(be, e->n, x, rows, dim, layer->norm2_w, layer->norm2_b, eps);
	ops->linear(be, e->w, e->n, rows, layer->fc1, layer->fc1_b,
				sam ? DSOCR_ACT_GELU : DSOCR_ACT_QUICK_GELU, NULL, unit);
	ops->linear(be, x, e->w, rows, layer->fc2, layer->fc2_b, DSOCR_ACT_NONE, x, unit);
}

/* Pixels to the SAM features x[views, side^2, sam_width]. */
static bool
run_sam(const EncoderRun *r, const uint8_t *const *rgb)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrConfig *c = e->config;
	int unit = r->side * r->side;
	int rows = r->views * unit;

	be->ops->patches(be, e->w, rgb, r->views, r->side * c->patch, c->patch);
	be->ops->linear(be, e->x, e->w, rows, e->patch, e->patch_b, DSOCR_ACT_NONE, NULL, unit);
	if (!show(r, e->x, rows, c->sam_width, "sam.patch_embed", 0))
		return false;
	be->ops->add(be, e->x, r->grid->sam_pos, (size_t) unit * (size_t) c->sam_width, r->views);
	for (int i = 0; i < c->sam_layers; i++)
	{
		if (!go_on(r))
			return false;
		run_layer(r, e->x, unit, c->sam_width, &e->sam[i], i);
		if (!show(r, e->x, rows, c->sam_width, "sam.block.%d", i))
			return false;
	}
	return go_on(r);
}

/* Neck and compressor: x[views, side^2, sam_width] to x[views, side3^2, net3_channels]. */
static bool
run_compressor(const EncoderRun *r)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = e->config;
	int side = r->side;
	int unit = side * side;
	int rows = r->views * unit;

	ops->linear(be, e->n, e->x, rows, e->neck1, NULL, DSOCR_ACT_NONE, NULL, unit);
	ops->layer_norm(be, e->n, e->n, rows, c->neck_channels, e->neck1_w, e->neck1_b, SAM_EPS);
	ops->im2col3(be, e->w, e->n, r->views, side, side, c->neck_channels, 1);
	ops->linear(be, e->x, e->w, rows, e->neck2, NULL, DSOCR_ACT_NONE, NULL, unit);
	ops->layer_norm(be, e->x, e->x, rows, c->neck_channels, e->neck2_w, e->neck2_b, SAM_EPS);
	if (!show(r, e->x, rows, c->neck_channels, "sam.neck", 0))
		return false;

	unit = r->side2 * r->side2;
	rows = r->views * unit;
	ops->im2col3(be, e->w, e->x, r->views, side, side, c->neck_channels, 2);
	ops->linear(be, e->n, e->w, rows, e->net2, NULL, DSOCR_ACT_NONE, NULL, unit);
	if (!show(r, e->n, rows, c->net2_channels, "sam.net_2", 0))
		return false;

	unit = r->side3 * r->side3;
	rows = r->views * unit;
	ops->im2col3(be, e->w, e->n, r->views, r->side2, r->side2, c->net2_channels, 2);
	ops->linear(be, e->x, e->w, rows, e->net3, NULL, DSOCR_ACT_NONE, NULL, unit);
	return show(r, e->x, rows, c->net3_channels, "sam.net_3", 0) && go_on(r);
}

/* x[views, side3^2, net3_channels] to y[views, 1 + side3^2, clip_width]. */
static bool
run_clip(const EncoderRun *r)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrBackendOps *ops = be->ops;
	const DsocrConfig *c = e->config;
	int dim = c->clip_width;
	int unit = r->side3 * r->side3 + 1;
	int rows = r->views * unit;
	size_t all = (size_t) unit * (size_t) dim;
	size_t tokens = all - (size_t) dim;

	ops->copy_rows(be, e->y, all, e->class_row, 0, (size_t) dim, (size_t) r->views);
	ops->copy_rows(be, dsocr_act(be, e->y, (size_t) dim), all, e->x, tokens, tokens,
				   (size_t) r->views);
	ops->add(be, e->y, r->grid->clip_pos, all, r->views);
	if (!show(r, e->y, rows, dim, "clip.embeddings", 0))
		return false;
	ops->layer_norm(be, e->y, e->y, rows, dim, e->pre_w, e->pre_b, CLIP_EPS);
	if (!show(r, e->y, rows, dim, "clip.pre_layrnorm", 0))
		return false;
	for (int i = 0; i < c->clip_layers; i++)
	{
		if (!go_on(r))
			return false;
		run_layer(r, e->y, unit, dim, &e->clip[i], i);
		if (!show(r, e->y, rows, dim, "clip.layer.%d", i))
			return false;
	}
	return true;
}

static bool
run_views(const EncoderRun *r, const uint8_t *const *rgb, void *tokens)
{
	DsocrEncoder *e = r->e;
	DsocrBackend *be = e->be;
	const DsocrConfig *c = e->config;
	int unit = r->side3 * r->side3;
	int rows = r->views * unit;

	if (!run_sam(r, rgb) || !run_compressor(r) || !run_clip(r))
		return false;
	be->ops->concat(be, e->n, e->y, c->clip_width, 1, e->x, c->net3_channels, r->views, unit);
	if (!show(r, e->n, rows, c->projector_in, "concat", 0))
		return false;
	be->ops->linear(be, tokens, e->n, rows, e->projector, e->projector_b, DSOCR_ACT_NONE, NULL,
					unit);
	return show(r, tokens, rows, c->hidden, "projector", 0) && be->ops->sync(be, r->err);
}

/* Sides of the grids of a view, buffers and tables. */
static bool
prepare(EncoderRun *r, int size)
{
	r->side = size / r->e->config->patch;
	if (r->side < 1 || size > MAX_SIDE || r->views < 1)
		return dsocr_fail(r->err, DSOCR_E_ARGUMENT, "view of %d pixels is not possible", size);
	r->side2 = (r->side - 1) / 2 + 1;
	r->side3 = (r->side2 - 1) / 2 + 1;
	if (!make_room(r))
		return false;
	r->grid = dsocr_encoder_grid(r->e, r->side, r->side3, r->err);
	return r->grid != NULL;
}

bool
dsocr_encoder_reserve(DsocrEncoder *e, int views, int size, DsocrError *err)
{
	EncoderRun r = {.e = e, .err = err, .views = views};

	return prepare(&r, size);
}

/* The upper left whole x whole pixels of each view, in one piece; list[views] points to them. */
static uint8_t *
cut_views(const uint8_t *const *rgb, int views, int size, int whole, const uint8_t **list,
		  DsocrError *err)
{
	size_t view = (size_t) whole * (size_t) whole * 3;
	uint8_t *cut = dsocr_alloc((size_t) views, view, err);

	for (int v = 0; cut != NULL && v < views; v++)
	{
		uint8_t *to = cut + (size_t) v * view;

		list[v] = to;
		for (size_t y = 0; y < (size_t) whole; y++)
			memcpy(to + y * (size_t) whole * 3, rgb[v] + y * (size_t) size * 3, (size_t) whole * 3);
	}
	return cut;
}

bool
dsocr_encoder_run(DsocrEncoder *e, const uint8_t *const *rgb, int views, int size, void *tokens,
				  const DsocrTap *tap, const DsocrPoll *poll, DsocrError *err)
{
	EncoderRun r = {.e = e, .tap = tap, .poll = poll, .err = err, .views = views};
	const uint8_t **list = NULL;
	uint8_t *cut = NULL;
	int whole;
	bool ok;

	if (!prepare(&r, size))
		return false;
	/* a convolution with stride drops what does not fill a patch */
	whole = r.side * e->config->patch;
	if (whole != size)
	{
		list = dsocr_alloc((size_t) views, sizeof(*list), err);
		cut = list != NULL ? cut_views(rgb, views, size, whole, list, err) : NULL;
		rgb = list;
	}
	ok = (whole == size || cut != NULL) && run_views(&r, rgb, tokens);
	if (!ok)
		e->be->ops->sync(e->be, NULL); /* trouble of these views is not the next ones' */
	dsocr_free(list);
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
