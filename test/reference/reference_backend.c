/*-------------------------------------------------------------------------
 *
 * reference_backend.c
 *		Every operation of backend.h written the obvious way.
 *
 * Single-threaded, activations in fp32, sums in double, rows independent of
 * each other.  Slow on purpose: the code is meant to be compared with the
 * formulas by eye, and the real backends are compared with it.
 *
 *-------------------------------------------------------------------------
 */
#include "reference.h"
#include "sampling.h"

#include <math.h>
#include <string.h>

static void
ref_texts_close(RefBackend *ref)
{
	for (int i = 0; ref->texts != NULL && i < ref->shape.slots; i++)
	{
		dsocr_free(ref->texts[i].ids);
		dsocr_free(ref->texts[i].pages);
	}
	dsocr_free(ref->texts);
	dsocr_free(ref->whitelist);
	ref->texts = NULL;
	ref->whitelist = NULL;
}

static void
ref_close(DsocrBackend *be)
{
	ref_texts_close((RefBackend *) be);
	dsocr_free(be);
}

static void *
ref_alloc(DsocrBackend *be, size_t n, DsocrError *err)
{
	return dsocr_alloc(n, sizeof(float), err);
}

static void
ref_free(DsocrBackend *be, void *act)
{
	dsocr_free(act);
}

static void
ref_write(DsocrBackend *be, void *act, const float *host, size_t n)
{
	memcpy(act, host, n * sizeof(float));
}

static void
ref_read(DsocrBackend *be, float *host, const void *act, size_t n)
{
	memcpy(host, act, n * sizeof(float));
}

static void
ref_copy_rows(DsocrBackend *be, void *dst, size_t dst_stride, const void *src, size_t src_stride,
			  size_t n, size_t rows)
{
	for (size_t i = 0; i < rows; i++)
		for (size_t j = 0; j < n; j++)
			((float *) dst)[i * dst_stride + j] = ((const float *) src)[i * src_stride + j];
}

static size_t
ref_memory(DsocrBackend *be)
{
	return SIZE_MAX;
}

static void *
ref_raw_alloc(DsocrBackend *be, size_t bytes, DsocrError *err)
{
	return dsocr_alloc(bytes, 1, err);
}

static void
ref_raw_free(DsocrBackend *be, void *p)
{
	dsocr_free(p);
}

static void
ref_raw_read(DsocrBackend *be, void *host, const void *p, size_t bytes)
{
	memcpy(host, p, bytes);
}

/* ---- weights ---- */

static bool
ref_matrix_size(const DsocrTensor *const *parts, int n_parts, size_t *rows, size_t *cols,
				DsocrError *err)
{
	*rows = 0;
	*cols = 0;
	for (int i = 0; i < n_parts; i++)
	{
		size_t k = 1;

		if (parts[i]->ndim != 2 && parts[i]->ndim != 4)
			return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" is no matrix", parts[i]->name);
		for (int d = 1; d < parts[i]->ndim; d++)
			k *= (size_t) parts[i]->shape[d];
		if (i > 0 && k != *cols)
			return dsocr_fail(err, DSOCR_E_MODEL, "tensor \"%s\" has another width than its group",
							  parts[i]->name);
		*cols = k;
		*rows += (size_t) parts[i]->shape[0];
	}
	return true;
}

static DsocrMatrix *
ref_matrix(DsocrBackend *be, const DsocrTensor *const *parts, int n_parts, bool channel_last,
		   DsocrError *err)
{
	size_t rows;
	size_t cols;
	size_t count;
	size_t at = 0;
	DsocrMatrix *m;

	if (!ref_matrix_size(parts, n_parts, &rows, &cols, err))
		return NULL;
	if (!dsocr_mul(rows, cols, &count) || (m = dsocr_alloc(1, sizeof(*m), err)) == NULL)
		return NULL;
	m->rows = rows;
	m->cols = cols;
	m->w = dsocr_alloc(count, sizeof(float), err);
	if (m->w == NULL)
	{
		dsocr_free(m);
		return NULL;
	}
	for (int i = 0; i < n_parts; i++)
	{
		const DsocrTensor *t = parts[i];
		size_t channels = channel_last && t->ndim == 4 ? (size_t) t->shape[1] : 1;
		size_t pixels = cols / channels;

		for (size_t n = 0; n < (size_t) t->shape[0]; n++)
			for (size_t c = 0; c < channels; c++)
				for (size_t p = 0; p < pixels; p++)
					m->w[at + n * cols + p * channels + c] =
						dsocr_tensor_get(t, (int64_t) ((n * channels + c) * pixels + p));
		at += (size_t) t->shape[0] * cols;
	}
	return m;
}

static void
ref_matrix_free(DsocrBackend *be, DsocrMatrix *m)
{
	if (m != NULL)
		dsocr_free(m->w);
	dsocr_free(m);
}

static DsocrVector *
ref_vector(DsocrBackend *be, const float *values, size_t n, DsocrError *err)
{
	DsocrVector *v = dsocr_alloc(1, sizeof(*v), err);

	if (v == NULL)
		return NULL;
	v->n = n;
	v->v = dsocr_alloc(n, sizeof(float), err);
	if (v->v == NULL)
	{
		dsocr_free(v);
		return NULL;
	}
	memcpy(v->v, values, n * sizeof(float));
	return v;
}

static void
ref_vector_free(DsocrBackend *be, DsocrVector *v)
{
	if (v != NULL)
		dsocr_free(v->v);
	dsocr_free(v);
}

/* ---- dense operations ---- */

static double
ref_silu(double x)
{
	return x / (1 + exp(-x));
}

static void
ref_linear(DsocrBackend *be, void *y, const void *x, int rows, const DsocrMatrix *w,
		   const DsocrVector *bias, DsocrActivation act, const void *residual, int unit)
{
	for (size_t r = 0; r < (size_t) rows; r++)
		for (size_t n = 0; n < w->rows; n++)
		{
			double v = dsocr_ref_dot((const float *) x + r * w->cols, w->w + n * w->cols, w->cols);

			if (bias != NULL)
				v += bias->v[n];
			if (act == DSOCR_ACT_GELU)
				v = 0.5 * v * (1 + erf(v / sqrt(2.0)));
			else if (act == DSOCR_ACT_QUICK_GELU)
				v = v / (1 + exp(-1.702 * v));
			if (residual != NULL)
				v += ((const float *) residual)[r * w->rows + n];
			((float *) y)[r * w->rows + n] = (float) v;
		}
}

static void
ref_layer_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
			   const DsocrVector *weight, const DsocrVector *bias, float eps)
{
	for (size_t r = 0; r < (size_t) rows; r++)
	{
		const float *in = (const float *) x + r * (size_t) dim;
		float *out = (float *) y + r * (size_t) dim;
		double mean = 0;
		double var = 0;

		for (int i = 0; i < dim; i++)
			mean += in[i];
		mean /= dim;
		for (int i = 0; i < dim; i++)
			var += (in[i] - mean) * (in[i] - mean);
		var /= dim;
		for (int i = 0; i < dim; i++)
			out[i] = (float) ((in[i] - mean) / sqrt(var + eps) * weight->v[i] + bias->v[i]);
	}
}

static void
ref_rms_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim, const DsocrVector *weight,
			 float eps)
{
	for (size_t r = 0; r < (size_t) rows; r++)
	{
		const float *in = (const float *) x + r * (size_t) dim;
		float *out = (float *) y + r * (size_t) dim;
		double scale = 1 / sqrt(dsocr_ref_dot(in, in, (size_t) dim) / dim + eps);

		for (int i = 0; i < dim; i++)
			out[i] = (float) (in[i] * scale * weight->v[i]);
	}
}

static void
ref_add(DsocrBackend *be, void *x, const void *table, size_t n, int repeats)
{
	for (size_t i = 0; i < n * (size_t) repeats; i++)
		((float *) x)[i] += ((const float *) table)[i % n];
}

static void
ref_concat(DsocrBackend *be, void *out, const void *a, int dim_a, int skip, const void *b,
		   int dim_b, int views, int rows)
{
	float *o = out;

	for (size_t v = 0; v < (size_t) views; v++)
		for (size_t r = 0; r < (size_t) rows; r++)
		{
			size_t in_a = v * (size_t) (skip + rows) + (size_t) skip + r;
			size_t in_b = v * (size_t) rows + r;

			for (size_t i = 0; i < (size_t) dim_a; i++)
				*o++ = ((const float *) a)[in_a * (size_t) dim_a + i];
			for (size_t i = 0; i < (size_t) dim_b; i++)
				*o++ = ((const float *) b)[in_b * (size_t) dim_b + i];
		}
}

/* ---- pictures ---- */

static float *
ref_patch_view(float *o, const uint8_t *rgb, int size, int patch)
{
	int side = size / patch;

	for (int py = 0; py < side; py++)
		for (int px = 0; px < side; px++)
			for (int c = 0; c < 3; c++)
				for (int y = 0; y < patch; y++)
					for (int x = 0; x < patch; x++)
					{
						size_t at =
							((size_t) (py * patch + y) * size + (size_t) (px * patch + x)) * 3 + c;
						float v = ((float) rgb[at] / 255.0f - 0.5f) / 0.5f;

						*o++ = dsocr_bf16_to_f32(dsocr_f32_to_bf16(v));
					}
	return o;
}

static void
ref_patches(DsocrBackend *be, void *out, const uint8_t *const *rgb, int views, int size, int patch)
{
	float *o = out;

	for (int v = 0; v < views; v++)
		o = ref_patch_view(o, rgb[v], size, patch);
}

static float *
ref_im2col3_view(float *o, const float *in, int h, int w, int channels, int stride)
{
	for (int oy = 0; oy < (h - 1) / stride + 1; oy++)
		for (int ox = 0; ox < (w - 1) / stride + 1; ox++)
			for (int ky = 0; ky < 3; ky++)
				for (int kx = 0; kx < 3; kx++)
					for (int c = 0; c < channels; c++)
					{
						int iy = oy * stride + ky - 1;
						int ix = ox * stride + kx - 1;
						bool inside = iy >= 0 && iy < h && ix >= 0 && ix < w;

						*o++ = inside ? in[((size_t) iy * w + ix) * channels + c] : 0;
					}
	return o;
}

static void
ref_im2col3(DsocrBackend *be, void *out, const void *x, int views, int h, int w, int channels,
			int stride)
{
	float *o = out;

	for (int v = 0; v < views; v++)
		o = ref_im2col3_view(o, (const float *) x + (size_t) v * h * w * channels, h, w, channels,
							 stride);
}

static void
ref_embed(DsocrBackend *be, void *out, const DsocrMatrix *table, const int32_t *ids, int n)
{
	for (size_t i = 0; i < (size_t) n; i++)
		memcpy((float *) out + i * table->cols, table->w + (size_t) ids[i] * table->cols,
			   table->cols * sizeof(float));
}

/* ---- texts ---- */

const RefText *
dsocr_ref_text(DsocrBackend *be, const DsocrRows *rows, int r)
{
	int slot = rows->slots[rows->mixed ? r : 0];

	return slot < 0 ? NULL : &((RefBackend *) be)->texts[slot];
}

int
dsocr_ref_position(const RefText *text, const DsocrRows *rows, int r)
{
	return rows->mixed ? text->n - 1 : rows->first + r;
}

static bool
ref_texts_open(DsocrBackend *be, const DsocrTextShape *shape, DsocrError *err)
{
	RefBackend *ref = (RefBackend *) be;
	bool ok;

	ref_texts_close(ref);
	ref->shape = *shape;
	ref->texts = dsocr_zalloc((size_t) shape->slots, sizeof(*ref->texts), err);
	ref->whitelist = dsocr_zalloc((size_t) shape->n_whitelist, sizeof(int32_t), err);
	ok = ref->texts != NULL && ref->whitelist != NULL;
	for (int i = 0; ok && i < shape->n_whitelist; i++)
		ref->whitelist[i] = shape->whitelist[i];
	for (int i = 0; ok && i < shape->slots; i++)
	{
		ref->texts[i].ids = dsocr_alloc((size_t) shape->ids, sizeof(int32_t), err);
		ref->texts[i].pages = dsocr_alloc((size_t) shape->pages, sizeof(int32_t), err);
		ok = ref->texts[i].ids != NULL && ref->texts[i].pages != NULL;
	}
	return ok;
}

static void
ref_text_start(DsocrBackend *be, int slot, const DsocrText *text)
{
	RefText *to = &((RefBackend *) be)->texts[slot];

	memcpy(to->ids, text->ids, sizeof(int32_t) * (size_t) text->n);
	if (text->n_pages > 0)
		memcpy(to->pages, text->pages, sizeof(int32_t) * (size_t) text->n_pages);
	to->n = text->n;
	to->prompt_len = text->prompt_len;
	to->ngram_size = text->ngram_size;
	to->ngram_window = text->ngram_window;
}

static bool
ref_run_begin(DsocrBackend *be, const DsocrRows *rows, bool whole_step)
{
	return true;
}

static void
ref_run_end(DsocrBackend *be)
{
}

static int
ref_bucket(const DsocrBackend *be, int n)
{
	return n;
}

static void
ref_embed_last(DsocrBackend *be, void *out, const DsocrMatrix *table, const DsocrRows *rows)
{
	for (int r = 0; r < rows->n; r++)
	{
		const RefText *text = dsocr_ref_text(be, rows, r);
		float *to = (float *) out + (size_t) r * table->cols;

		if (text != NULL)
			ref_embed(be, to, table, &text->ids[text->n - 1], 1);
		else
			memset(to, 0, table->cols * sizeof(float));
	}
}

/* ---- decoder ---- */

static void
ref_silu_mul(DsocrBackend *be, void *y, const void *x, int rows, int n)
{
	for (size_t r = 0; r < (size_t) rows; r++)
	{
		const float *in = (const float *) x + r * 2 * (size_t) n;

		for (int i = 0; i < n; i++)
			((float *) y)[r * (size_t) n + (size_t) i] = (float) (ref_silu(in[i]) * in[n + i]);
	}
}

static void
ref_swiglu(DsocrBackend *be, void *y, void *wide, const void *x, int rows, const DsocrMatrix *w,
		   int unit)
{
	ref_linear(be, wide, x, rows, w, NULL, DSOCR_ACT_NONE, NULL, unit);
	ref_silu_mul(be, y, wide, rows, (int) w->rows / 2);
}

static void
ref_logits(DsocrBackend *be, float *logits, const void *x, int rows, const DsocrMatrix *w)
{
	ref_linear(be, logits, x, rows, w, NULL, DSOCR_ACT_NONE, NULL, DSOCR_MIXED);
}

static void
ref_router(DsocrBackend *be, int32_t *ids, float *weights, float *logits, const void *x,
		   const DsocrRows *rows, const DsocrMatrix *gate, int k)
{
	int experts = (int) gate->rows;
	double *p = dsocr_alloc(gate->rows, sizeof(double), NULL);

	for (size_t r = 0; p != NULL && r < (size_t) rows->n; r++)
	{
		bool filler = rows->mixed && rows->slots[r] < 0;

		for (int e = 0; e < experts; e++)
		{
			p[e] = dsocr_ref_dot((const float *) x + r * gate->cols,
								 gate->w + (size_t) e * gate->cols, gate->cols);
			if (logits != NULL)
				logits[r * gate->rows + (size_t) e] = (float) p[e];
		}
		dsocr_ref_softmax(p, experts);
		for (int c = 0; c < k; c++)
		{
			int best = 0;

			for (int e = 1; e < experts; e++)
				if (p[e] > p[best])
					best = e;
			ids[r * (size_t) k + (size_t) c] = filler ? -1 : best;
			weights[r * (size_t) k + (size_t) c] = (float) p[best];
			p[best] = -1;
		}
	}
	dsocr_free(p);
}

static void
ref_experts_close(DsocrBackend *be, DsocrExperts *experts)
{
	if (experts == NULL)
		return;
	dsocr_free(experts->gate_up);
	dsocr_free(experts->down);
	dsocr_free(experts);
}

static DsocrExperts *
ref_experts_open(DsocrBackend *be, const DsocrMatrix *const *gate_up,
				 const DsocrMatrix *const *down, int n, DsocrError *err)
{
	DsocrExperts *e = dsocr_zalloc(1, sizeof(*e), err);

	if (e == NULL)
		return NULL;
	e->n = n;
	e->gate_up = dsocr_alloc((size_t) n, sizeof(*e->gate_up), err);
	e->down = dsocr_alloc((size_t) n, sizeof(*e->down), err);
	if (e->gate_up == NULL || e->down == NULL)
	{
		ref_experts_close(be, e);
		return NULL;
	}
	for (int i = 0; i < n; i++)
	{
		e->gate_up[i] = gate_up[i];
		e->down[i] = down[i];
	}
	return e;
}

static void
ref_experts(DsocrBackend *be, void *y, const void *x, int rows, const int32_t *ids,
			const float *weights, int k, const DsocrExperts *experts, const void *residual,
			int unit)
{
	const DsocrMatrix **gate_up = experts->gate_up;
	const DsocrMatrix **down = experts->down;
	size_t hidden = down[0]->rows;
	size_t inter = down[0]->cols;
	float *mid = dsocr_alloc(3 * inter + hidden, sizeof(float), NULL);
	double *sum = dsocr_alloc(hidden, sizeof(double), NULL);

	for (size_t r = 0; mid != NULL && sum != NULL && r < (size_t) rows; r++)
	{
		for (size_t i = 0; i < hidden; i++)
			sum[i] = 0;
		for (int c = 0; c < k; c++)
		{
			int e = ids[r * (size_t) k + (size_t) c];
			float *act = mid + 2 * inter;
			float *part = act + inter;

			if (e < 0)
				continue;
			ref_linear(be, mid, (const float *) x + r * hidden, 1, gate_up[e], NULL, DSOCR_ACT_NONE,
					   NULL, unit);
			ref_silu_mul(be, act, mid, 1, (int) inter);
			ref_linear(be, part, act, 1, down[e], NULL, DSOCR_ACT_NONE, NULL, unit);
			for (size_t i = 0; i < hidden; i++)
				sum[i] += (double) weights[r * (size_t) k + (size_t) c] * part[i];
		}
		for (size_t i = 0; i < hidden; i++)
			((float *) y)[r * hidden + i] =
				(float) (sum[i] +
						 (residual != NULL ? ((const float *) residual)[r * hidden + i] : 0));
	}
	dsocr_free(mid);
	dsocr_free(sum);
}

/* The best of a row that its text does not ban. */
static void
ref_pick_row(RefBackend *ref, int row, int slot, const float *logits, int vocab)
{
	RefText *text = &ref->texts[slot];
	DsocrBanList bans = {0};
	double top = -INFINITY;
	double sum = 0;
	int best = -1;

	dsocr_ngram_bans(text->ids, text->n, text->prompt_len, text->ngram_size, text->ngram_window,
					 ref->whitelist, ref->shape.n_whitelist, &bans, NULL);
	for (int i = 0; i < vocab; i++)
	{
		bool banned = false;

		for (int b = 0; b < bans.n; b++)
			banned |= bans.ids[b] == i;
		if (!banned && (best < 0 || logits[i] > logits[best]))
			best = i;
		top = fmax(top, logits[i]);
	}
	for (int i = 0; i < vocab; i++)
		sum += exp(logits[i] - top);
	best = best < 0 ? 0 : best;
	ref->picked[row] = best;
	ref->logprobs[row] = (float) (logits[best] - top - log(sum));
	if (text->n < ref->shape.ids)
		text->ids[text->n++] = best;
	dsocr_free(bans.ids);
}

static void
ref_pick(DsocrBackend *be, const float *logits, const DsocrRows *rows, int vocab)
{
	for (int r = 0; r < (rows->mixed ? rows->n : 1); r++)
		if (rows->slots[r] >= 0)
			ref_pick_row((RefBackend *) be, r, rows->slots[r], logits + (size_t) r * vocab, vocab);
}

static void
ref_picked(DsocrBackend *be, int32_t *ids, float *logprobs, int n)
{
	const RefBackend *ref = (RefBackend *) be;

	memcpy(ids, ref->picked, sizeof(*ids) * (size_t) n);
	memcpy(logprobs, ref->logprobs, sizeof(*logprobs) * (size_t) n);
}

static bool
ref_sync(DsocrBackend *be, DsocrError *err)
{
	return true;
}

static const DsocrBackendOps ref_ops = {.name = "reference",
										.close = ref_close,
										.alloc = ref_alloc,
										.free = ref_free,
										.write = ref_write,
										.read = ref_read,
										.copy_rows = ref_copy_rows,
										.memory = ref_memory,
										.raw_alloc = ref_raw_alloc,
										.raw_free = ref_raw_free,
										.raw_read = ref_raw_read,
										.matrix = ref_matrix,
										.matrix_free = ref_matrix_free,
										.vector = ref_vector,
										.vector_free = ref_vector_free,
										.linear = ref_linear,
										.swiglu = ref_swiglu,
										.logits = ref_logits,
										.layer_norm = ref_layer_norm,
										.rms_norm = ref_rms_norm,
										.add = ref_add,
										.concat = ref_concat,
										.patches = ref_patches,
										.im2col3 = ref_im2col3,
										.grid_attention = dsocr_ref_grid_attention,
										.attention = dsocr_ref_attention,
										.embed = ref_embed,
										.embed_last = ref_embed_last,
										.texts_open = ref_texts_open,
										.text_start = ref_text_start,
										.run_begin = ref_run_begin,
										.run_end = ref_run_end,
										.bucket = ref_bucket,
										.kv_open = dsocr_ref_kv_open,
										.kv_close = dsocr_ref_kv_close,
										.kv_bytes = dsocr_ref_kv_bytes,
										.rope_store = dsocr_ref_rope_store,
										.causal_attention = dsocr_ref_causal_attention,
										.silu_mul = ref_silu_mul,
										.router = ref_router,
										.experts_open = ref_experts_open,
										.experts_close = ref_experts_close,
										.experts = ref_experts,
										.pick = ref_pick,
										.picked = ref_picked,
										.sync = ref_sync};

DsocrBackend *
dsocr_reference_open(const DsocrBackendOptions *options, DsocrError *err)
{
	DsocrBackend *be = dsocr_zalloc(1, sizeof(RefBackend), err);

	if (be == NULL)
		return NULL;
	be->ops = &ref_ops;
	be->precision = options->precision;
	be->act_size = sizeof(float);
	be->threads = 1;
	strcpy(be->description, "reference");
	return be;
}
