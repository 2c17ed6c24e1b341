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
	int side2, side3; /* after net_2 and net_3 */
} EncoderRun;

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
		   need(&w, p, DSOCR_MLP_RATIO * c->sam_width, err) &&
		   need(&w, p, 9 * c->neck_channels, err) && need(&w, p3, 9 * c->net2_channels, err) &&
		   need(&w, p3 + 1, DSOCR_MLP_RATIO * c->clip_width, err) &&
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
	r.grid = dsocr_encoder_grid(e, side, r.side3, err);
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
	if (!ok)
		e->be->ops->sync(e->be, NULL); /* trouble of this view is not the next one's */
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
