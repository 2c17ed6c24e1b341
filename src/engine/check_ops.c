/*-------------------------------------------------------------------------
 *
 * check_ops.c
 *		Single operations of the device against reference data.
 *
 * ops.safetensors holds inputs, parameters and outputs in fp32, ops.json the
 * epsilon of each normalisation.  They run in fp32 precision whatever the
 * check's own precision is: small inputs tell one epsilon from another, which
 * no whole model shows.
 *
 *-------------------------------------------------------------------------
 */
#include "check.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "device.h"

#define TOLERANCE 2e-5 /* of the rms */
#define ROPE_TOLERANCE 1e-3
#define ROPE_CONTEXT 8192
#define ROPE_ROWS 64
#define ROPE_THETA 10000.0f
#define MAX_NAME 256
#define MAX_PATH 4096

typedef struct OpsRun
{
	DsocrCheck *check;
	DsocrBackend *be;
	DsocrWeights *data;
	DsocrError err; /* the first failure */
} OpsRun;

/* Tensor "prefix.suffix"; a missing one fails the check. */
static const DsocrTensor *
ops_tensor(OpsRun *o, const char *prefix, const char *suffix)
{
	char name[MAX_NAME];
	const DsocrTensor *t;

	snprintf(name, sizeof(name), "%.150s.%.100s", prefix, suffix);
	t = dsocr_weights_find(o->data, name);
	if (t == NULL)
		dsocr_check(o->check, false, name, "tensor missing");
	return t;
}

static float *
ops_values(OpsRun *o, const DsocrTensor *t)
{
	float *x = dsocr_alloc((size_t) t->count, sizeof(float), &o->err);

	for (int64_t i = 0; x != NULL && i < t->count; i++)
		x[i] = dsocr_tensor_get(t, i);
	return x;
}

static void *
ops_alloc(OpsRun *o, size_t n)
{
	return o->be->ops->alloc(o->be, n, &o->err);
}

static void *
ops_act(OpsRun *o, const DsocrTensor *t)
{
	float *x = ops_values(o, t);
	void *act = x == NULL ? NULL : ops_alloc(o, (size_t) t->count);

	if (act != NULL)
		o->be->ops->write(o->be, act, x, (size_t) t->count);
	dsocr_free(x);
	return act;
}

static DsocrVector *
ops_vector(OpsRun *o, const DsocrTensor *t)
{
	float *x = ops_values(o, t);
	DsocrVector *v = x == NULL ? NULL : o->be->ops->vector(o->be, x, (size_t) t->count, &o->err);

	dsocr_free(x);
	return v;
}

/* Compare act[n] with a tensor. */
static void
ops_compare(OpsRun *o, const char *name, const DsocrTensor *want, const void *act, double tolerance)
{
	size_t n = (size_t) want->count;
	float *got = dsocr_alloc(n, sizeof(float), &o->err);
	double square = 0;
	double worst = 0;

	if (got == NULL || !o->be->ops->sync(o->be, &o->err))
	{
		dsocr_check(o->check, false, name, "%s", o->err.message);
		dsocr_free(got);
		return;
	}
	o->be->ops->read(o->be, got, act, n);
	for (size_t i = 0; i < n; i++)
	{
		double w = dsocr_tensor_get(want, (int64_t) i);
		double d = fabs(got[i] - w);

		square += w * w;
		if (!(d <= worst)) /* NaN counts as the worst */
			worst = d;
	}
	square = sqrt(square / (double) n);
	dsocr_check(o->check, worst <= tolerance * square, name, "error %.3g of the rms, allowed %.3g",
				worst / square, tolerance);
	dsocr_free(got);
}

/* ---- normalisation ---- */

/* [1, C, H, W] to [H * W, C] */
static void
ops_channel_last(float *to, const float *from, size_t channels, size_t pixels)
{
	for (size_t p = 0; p < pixels; p++)
		for (size_t c = 0; c < channels; c++)
			to[p * channels + c] = from[c * pixels + p];
}

/* The tensor as fp32 rows of channels; 4-D tensors are turned. */
static float *
ops_rows(OpsRun *o, const DsocrTensor *t)
{
	float *x = ops_values(o, t);
	float *turned;

	if (x == NULL || t->ndim != 4)
		return x;
	turned = dsocr_alloc((size_t) t->count, sizeof(float), &o->err);
	if (turned != NULL)
		ops_channel_last(turned, x, (size_t) t->shape[1], (size_t) (t->count / t->shape[1]));
	dsocr_free(x);
	return turned;
}

static void
ops_norm(OpsRun *o, const char *name, float eps, bool layer)
{
	const DsocrTensor *in = ops_tensor(o, name, "in");
	const DsocrTensor *out = ops_tensor(o, name, "out");
	const DsocrTensor *w = ops_tensor(o, name, "weight");
	const DsocrTensor *b = layer ? ops_tensor(o, name, "bias") : NULL;
	DsocrTensor want;
	float *x;
	float *y;
	void *act;
	DsocrVector *weight;
	DsocrVector *bias;

	if (in == NULL || out == NULL || w == NULL || (layer && b == NULL))
		return;
	x = ops_rows(o, in);
	y = ops_rows(o, out);
	act = ops_alloc(o, (size_t) in->count);
	weight = ops_vector(o, w);
	bias = layer ? ops_vector(o, b) : NULL;
	if (x == NULL || y == NULL || act == NULL || weight == NULL || (layer && bias == NULL))
		dsocr_check(o->check, false, name, "%s", o->err.message);
	else
	{
		int dim = (int) w->count;
		int rows = (int) (in->count / w->count);

		o->be->ops->write(o->be, act, x, (size_t) in->count);
		if (layer)
			o->be->ops->layer_norm(o->be, act, act, rows, dim, weight, bias, eps);
		else
			o->be->ops->rms_norm(o->be, act, act, rows, dim, weight, eps);
		want = *out;
		want.dtype = DSOCR_F32;
		want.data = y;
		ops_compare(o, name, &want, act, TOLERANCE);
	}
	o->be->ops->free(o->be, act);
	o->be->ops->vector_free(o->be, weight);
	o->be->ops->vector_free(o->be, bias);
	dsocr_free(x);
	dsocr_free(y);
}

/* ---- activations ---- */

/* Through a product with the matrix [1]. */
static void
ops_activation(OpsRun *o, const DsocrTensor *in, const char *which, DsocrActivation activation)
{
	static const float one = 1;
	const DsocrTensor unit = {
		.name = "one", .dtype = DSOCR_F32, .ndim = 2, .shape = {1, 1}, .count = 1, .data = &one};
	const DsocrTensor *part = &unit;
	const DsocrTensor *want = ops_tensor(o, "act", which);
	DsocrMatrix *w = o->be->ops->matrix(o->be, &part, 1, false, &o->err);
	void *x = ops_act(o, in);
	void *y = ops_alloc(o, (size_t) in->count);

	if (w == NULL || x == NULL || y == NULL)
		dsocr_check(o->check, false, which, "%s", o->err.message);
	else if (want != NULL)
	{
		o->be->ops->linear(o->be, y, x, (int) in->count, w, NULL, activation, NULL,
						   (int) in->count);
		ops_compare(o, which, want, y, TOLERANCE);
	}
	o->be->ops->free(o->be, x);
	o->be->ops->free(o->be, y);
	o->be->ops->matrix_free(o->be, w);
}

/* silu(x) * 1 */
static void
ops_silu(OpsRun *o, const DsocrTensor *in)
{
	const DsocrTensor *want = ops_tensor(o, "act", "silu");
	size_t n = (size_t) in->count;
	float *pairs = dsocr_alloc(2 * n, sizeof(float), &o->err);
	void *x = ops_alloc(o, 2 * n);
	void *y = ops_alloc(o, n);

	if (pairs == NULL || x == NULL || y == NULL)
		dsocr_check(o->check, false, "silu", "%s", o->err.message);
	else if (want != NULL)
	{
		for (size_t i = 0; i < n; i++)
		{
			pairs[2 * i] = dsocr_tensor_get(in, (int64_t) i);
			pairs[2 * i + 1] = 1;
		}
		o->be->ops->write(o->be, x, pairs, 2 * n);
		o->be->ops->silu_mul(o->be, y, x, (int) n, 1);
		ops_compare(o, "silu", want, y, TOLERANCE);
	}
	o->be->ops->free(o->be, x);
	o->be->ops->free(o->be, y);
	dsocr_free(pairs);
}

/* ---- rotary embedding ---- */

/* A text of n ids in the one page. */
static void
ops_text(OpsRun *o, int slot, int n)
{
	static const int32_t ids[ROPE_CONTEXT];
	static const int32_t page;
	const DsocrText text = {.ids = ids, .n = n, .prompt_len = n, .pages = &page, .n_pages = 1};

	o->be->ops->text_start(o->be, slot, &text);
}

/* Rotate [1, heads, positions, head_dim] in the place of q. */
static void
ops_rotate(OpsRun *o, const char *name, const char *in_name, const char *out_name)
{
	const DsocrTensor *in = ops_tensor(o, name, in_name);
	const DsocrTensor *out = ops_tensor(o, name, out_name);
	const DsocrTensor *at = ops_tensor(o, name, "positions");
	DsocrKvShape shape = {.layers = 1, .page_tokens = ROPE_CONTEXT, .pages = 1};
	int32_t positions[ROPE_ROWS];
	int32_t slots[ROPE_ROWS];
	size_t dim;
	size_t n;
	float *x = NULL;
	float *y = NULL;
	void *act = NULL;
	DsocrKv *kv = NULL;

	if (in == NULL || out == NULL || at == NULL || in->ndim != 4 || at->count > ROPE_ROWS ||
		in->shape[2] != at->count || out->count != in->count)
	{
		dsocr_check(o->check, false, name, "unexpected shapes");
		return;
	}
	shape.heads = (int) in->shape[1];
	shape.head_dim = (int) in->shape[3];
	dim = (size_t) (in->shape[1] * in->shape[3]);
	n = (size_t) at->count;
	x = dsocr_zalloc(n * 3 * dim, sizeof(float), &o->err);
	y = dsocr_alloc(n * 3 * dim, sizeof(float), &o->err);
	act = ops_alloc(o, n * 3 * dim);
	kv = o->be->ops->kv_open(o->be, &shape, &o->err);
	if (x == NULL || y == NULL || act == NULL || kv == NULL)
		dsocr_check(o->check, false, name, "%s", o->err.message);
	else
	{
		const DsocrRows rows = {.n = (int) n, .slots = slots, .mixed = true};
		double square = 0;
		double worst = 0;

		for (size_t p = 0; p < n; p++)
		{
			positions[p] = (int32_t) dsocr_tensor_get(at, (int64_t) p);
			slots[p] = (int32_t) p;
			if (positions[p] < 0 || positions[p] >= ROPE_CONTEXT)
				positions[p] = 0;
			ops_text(o, (int) p, positions[p] + 1);
			for (size_t i = 0; i < dim; i++)
				x[p * 3 * dim + i] = dsocr_tensor_get(
					in, (int64_t) ((i / (size_t) shape.head_dim * n + p) * (size_t) shape.head_dim +
								   i % (size_t) shape.head_dim));
		}
		o->be->ops->write(o->be, act, x, n * 3 * dim);
		o->be->ops->run_begin(o->be, &rows, false);
		o->be->ops->rope_store(o->be, act, &rows, kv, 0, ROPE_THETA);
		o->be->ops->run_end(o->be);
		o->be->ops->read(o->be, y, act, n * 3 * dim);
		for (size_t p = 0; p < n; p++)
			for (size_t i = 0; i < dim; i++)
			{
				double w = dsocr_tensor_get(out, (int64_t) ((i / (size_t) shape.head_dim * n + p) *
																(size_t) shape.head_dim +
															i % (size_t) shape.head_dim));
				double d = fabs(y[p * 3 * dim + i] - w);

				square += w * w;
				if (!(d <= worst))
					worst = d;
			}
		square = sqrt(square / (double) (n * dim));
		dsocr_check(o->check, worst <= ROPE_TOLERANCE * square, name,
					"%s: error %.3g of the rms, allowed %.3g", in_name, worst / square,
					ROPE_TOLERANCE);
	}
	dsocr_free(x);
	dsocr_free(y);
	o->be->ops->free(o->be, act);
	o->be->ops->kv_close(o->be, kv);
}

/* ---- a SAM block ---- */

typedef struct OpsLinear
{
	DsocrMatrix *w;
	DsocrVector *b;
} OpsLinear;

static bool
ops_linear_open(OpsRun *o, OpsLinear *l, const char *block, const char *name)
{
	char prefix[MAX_NAME];
	const DsocrTensor *w;
	const DsocrTensor *b;

	snprintf(prefix, sizeof(prefix), "%.60s.%.60s", block, name);
	w = ops_tensor(o, prefix, "weight");
	b = ops_tensor(o, prefix, "bias");
	if (w == NULL || b == NULL)
		return false;
	l->w = o->be->ops->matrix(o->be, &w, 1, false, &o->err);
	l->b = ops_vector(o, b);
	return l->w != NULL && l->b != NULL;
}

static void
ops_linear_close(OpsRun *o, OpsLinear *l)
{
	o->be->ops->matrix_free(o->be, l->w);
	o->be->ops->vector_free(o->be, l->b);
}

typedef struct OpsBlock
{
	OpsLinear qkv;
	OpsLinear proj;
	OpsLinear lin1;
	OpsLinear lin2;
	DsocrVector *norms[4]; /* weight and bias of norm1 and norm2 */
	DsocrVector *rel[2];
	void *x;
	void *normed;
	void *wide; /* [n, 4 * dim]: qkv, then the hidden layer */
} OpsBlock;

static bool
ops_block_open(OpsRun *o, OpsBlock *b, const char *name, const DsocrTensor *in)
{
	static const char *const vectors[6] = {"norm1.weight", "norm1.bias",	 "norm2.weight",
										   "norm2.bias",   "attn.rel_pos_h", "attn.rel_pos_w"};
	size_t n = (size_t) in->count;
	bool ok = ops_linear_open(o, &b->qkv, name, "attn.qkv") &&
			  ops_linear_open(o, &b->proj, name, "attn.proj") &&
			  ops_linear_open(o, &b->lin1, name, "mlp.lin1") &&
			  ops_linear_open(o, &b->lin2, name, "mlp.lin2");

	for (int i = 0; ok && i < 6; i++)
	{
		const DsocrTensor *t = ops_tensor(o, name, vectors[i]);
		DsocrVector **v = i < 4 ? &b->norms[i] : &b->rel[i - 4];

		ok = t != NULL && (*v = ops_vector(o, t)) != NULL;
	}
	return ok && (b->x = ops_act(o, in)) != NULL && (b->normed = ops_alloc(o, n)) != NULL &&
		   (b->wide = ops_alloc(o, 4 * n)) != NULL;
}

static void
ops_block_close(OpsRun *o, OpsBlock *b)
{
	ops_linear_close(o, &b->qkv);
	ops_linear_close(o, &b->proj);
	ops_linear_close(o, &b->lin1);
	ops_linear_close(o, &b->lin2);
	for (int i = 0; i < 4; i++)
		o->be->ops->vector_free(o->be, b->norms[i]);
	for (int i = 0; i < 2; i++)
		o->be->ops->vector_free(o->be, b->rel[i]);
	o->be->ops->free(o->be, b->x);
	o->be->ops->free(o->be, b->normed);
	o->be->ops->free(o->be, b->wide);
}

static void
ops_sam_block(OpsRun *o, const char *name, int window)
{
	const DsocrTensor *in = ops_tensor(o, name, "in");
	const DsocrTensor *out = ops_tensor(o, name, "out");
	const DsocrBackendOps *ops = o->be->ops;
	const int heads = 4;
	const float eps = 1e-6f;
	OpsBlock b = {0};

	if (in == NULL || out == NULL || in->ndim != 4 || in->shape[1] != in->shape[2] ||
		in->shape[3] % heads != 0)
		dsocr_check(o->check, false, name, "unexpected shape");
	else if (!ops_block_open(o, &b, name, in))
		dsocr_check(o->check, false, name, "%s", o->err.message);
	else
	{
		int side = (int) in->shape[1];
		int rows = side * side;
		int dim = (int) in->shape[3];

		ops->layer_norm(o->be, b.normed, b.x, rows, dim, b.norms[0], b.norms[1], eps);
		ops->linear(o->be, b.wide, b.normed, rows, b.qkv.w, b.qkv.b, DSOCR_ACT_NONE, NULL, rows);
		ops->grid_attention(o->be, b.normed, b.wide, 1, side, heads, dim / heads, window, b.rel[0],
							b.rel[1], b.qkv.b);
		ops->linear(o->be, b.x, b.normed, rows, b.proj.w, b.proj.b, DSOCR_ACT_NONE, b.x, rows);
		ops->layer_norm(o->be, b.normed, b.x, rows, dim, b.norms[2], b.norms[3], eps);
		ops->linear(o->be, b.wide, b.normed, rows, b.lin1.w, b.lin1.b, DSOCR_ACT_GELU, NULL, rows);
		ops->linear(o->be, b.x, b.wide, rows, b.lin2.w, b.lin2.b, DSOCR_ACT_NONE, b.x, rows);
		ops_compare(o, name, out, b.x, TOLERANCE);
	}
	ops_block_close(o, &b);
}

/* ---- the folder ---- */

static void
ops_run(OpsRun *o, const json_t *entry)
{
	const char *name = json_string_value(json_object_get(entry, "name"));
	float eps = (float) json_number_value(json_object_get(entry, "eps"));

	if (name == NULL)
		dsocr_check(o->check, false, "ops.json", "an entry without name");
	else if (strncmp(name, "ln", 2) == 0)
		ops_norm(o, name, eps, true);
	else if (strncmp(name, "rms", 3) == 0)
		ops_norm(o, name, eps, false);
	else if (strncmp(name, "rope", 4) == 0)
	{
		ops_rotate(o, name, "q", "q_out");
		ops_rotate(o, name, "k", "k_out");
	}
	else if (strncmp(name, "samblock", 8) == 0)
		ops_sam_block(o, name, (int) json_integer_value(json_object_get(entry, "window")));
	else if (strcmp(name, "act") == 0)
	{
		const DsocrTensor *in = ops_tensor(o, name, "in");

		if (in == NULL)
			return;
		ops_activation(o, in, "gelu_erf", DSOCR_ACT_GELU);
		ops_activation(o, in, "quick_gelu", DSOCR_ACT_QUICK_GELU);
		ops_silu(o, in);
	}
	else
		dsocr_check(o->check, false, name, "unknown operation");
}

void
dsocr_check_ops(DsocrCheck *c, const char *dir)
{
	DsocrBackendOptions options = {
		.device = c->device, .precision = DSOCR_PRECISION_FP32, .threads = c->threads};
	const DsocrTextShape texts = {.slots = ROPE_ROWS, .ids = ROPE_CONTEXT, .pages = 1};
	OpsRun o = {.check = c};
	char path[MAX_PATH];
	json_error_t error;
	json_t *list;
	json_t *entry;
	size_t i;

	snprintf(path, sizeof(path), "%s/ops.json", dir);
	list = json_load_file(path, 0, &error);
	if (!json_is_array(list) || json_array_size(list) == 0)
	{
		dsocr_check(c, false, path, "%s", list == NULL ? error.text : "no list of operations");
		json_decref(list);
		return;
	}
	snprintf(path, sizeof(path), "%s/ops.safetensors", dir);
	o.data = dsocr_weights_open_file(path, &o.err);
	if (o.data != NULL)
		o.be = dsocr_device_open(&options, &o.err);
	if (o.be == NULL || !o.be->ops->texts_open(o.be, &texts, &o.err))
		dsocr_check(c, false, path, "%s", o.err.message);
	else
		json_array_foreach (list, i, entry)
			ops_run(&o, entry);
	if (o.be != NULL)
		o.be->ops->close(o.be);
	dsocr_weights_close(o.data);
	json_decref(list);
}
