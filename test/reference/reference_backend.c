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

#include <math.h>
#include <string.h>

static void
ref_close(DsocrBackend *be)
{
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
ref_copy(DsocrBackend *be, void *dst, const void *src, size_t n)
{
	memmove(dst, src, n * sizeof(float));
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
		   const DsocrVector *bias, DsocrActivation act, const void *residual, DsocrRowKind kind)
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
ref_add(DsocrBackend *be, void *x, const void *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		((float *) x)[i] += ((const float *) table)[i];
}

static void
ref_concat(DsocrBackend *be, void *out, const void *a, int dim_a, const void *b, int dim_b,
		   int rows)
{
	size_t width = (size_t) dim_a + (size_t) dim_b;

	for (size_t r = 0; r < (size_t) rows; r++)
	{
		for (size_t i = 0; i < (size_t) dim_a; i++)
			((float *) out)[r * width + i] = ((const float *) a)[r * (size_t) dim_a + i];
		for (size_t i = 0; i < (size_t) dim_b; i++)
			((float *) out)[r * width + (size_t) dim_a + i] =
				((const float *) b)[r * (size_t) dim_b + i];
	}
}

/* ---- pictures ---- */

static void
ref_patches(DsocrBackend *be, void *out, const uint8_t *rgb, int size, int patch)
{
	int side = size / patch;
	float *o = out;

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
}

static void
ref_im2col3(DsocrBackend *be, void *out, const void *x, int h, int w, int channels, int stride)
{
	const float *in = x;
	float *o = out;

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
}

static void
ref_embed(DsocrBackend *be, void *out, const DsocrMatrix *table, const int32_t *ids, int n)
{
	for (size_t i = 0; i < (size_t) n; i++)
		memcpy((float *) out + i * table->cols, table->w + (size_t) ids[i] * table->cols,
			   table->cols * sizeof(float));
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
ref_router(DsocrBackend *be, int32_t *ids, float *weights, float *logits, const void *x, int rows,
		   const DsocrMatrix *gate, int k)
{
	int experts = (int) gate->rows;
	double *p = dsocr_alloc(gate->rows, sizeof(double), NULL);

	for (size_t r = 0; p != NULL && r < (size_t) rows; r++)
	{
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
			ids[r * (size_t) k + (size_t) c] = best;
			weights[r * (size_t) k + (size_t) c] = (float) p[best];
			p[best] = -1;
		}
	}
	dsocr_free(p);
}

static void *
ref_routing_alloc(DsocrBackend *be, size_t bytes, DsocrError *err)
{
	return dsocr_alloc(bytes, 1, err);
}

static void
ref_routing_free(DsocrBackend *be, void *p)
{
	dsocr_free(p);
}

static void
ref_routing_read(DsocrBackend *be, void *host, const void *p, size_t bytes)
{
	memcpy(host, p, bytes);
}

static void
ref_experts(DsocrBackend *be, void *y, const void *x, int rows, const int32_t *ids,
			const float *weights, int k, int n_experts, const DsocrMatrix *const *gate_up,
			const DsocrMatrix *const *down, const void *residual, DsocrRowKind kind)
{
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

			ref_linear(be, mid, (const float *) x + r * hidden, 1, gate_up[e], NULL, DSOCR_ACT_NONE,
					   NULL, kind);
			ref_silu_mul(be, act, mid, 1, (int) inter);
			ref_linear(be, part, act, 1, down[e], NULL, DSOCR_ACT_NONE, NULL, kind);
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

static void
ref_pick(DsocrBackend *be, int32_t *ids, float *logprobs, const void *logits, int n, int vocab,
		 const DsocrBans *bans)
{
	for (size_t r = 0; r < (size_t) n; r++)
	{
		const float *row = (const float *) logits + r * (size_t) vocab;
		double top = -INFINITY;
		double sum = 0;
		int best = -1;

		for (int i = 0; i < vocab; i++)
		{
			bool banned = false;

			for (int b = bans != NULL ? bans->start[r] : 0; bans != NULL && b < bans->start[r + 1];
				 b++)
				banned |= bans->ids[b] == i;
			if (!banned && (best < 0 || row[i] > row[best]))
				best = i;
			top = fmax(top, row[i]);
		}
		for (int i = 0; i < vocab; i++)
			sum += exp(row[i] - top);
		ids[r] = best < 0 ? 0 : best;
		logprobs[r] = (float) (row[ids[r]] - top - log(sum));
	}
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
										.copy = ref_copy,
										.matrix = ref_matrix,
										.matrix_free = ref_matrix_free,
										.vector = ref_vector,
										.vector_free = ref_vector_free,
										.linear = ref_linear,
										.layer_norm = ref_layer_norm,
										.rms_norm = ref_rms_norm,
										.add = ref_add,
										.concat = ref_concat,
										.patches = ref_patches,
										.im2col3 = ref_im2col3,
										.grid_attention = dsocr_ref_grid_attention,
										.attention = dsocr_ref_attention,
										.embed = ref_embed,
										.kv_open = dsocr_ref_kv_open,
										.kv_close = dsocr_ref_kv_close,
										.kv_bytes = dsocr_ref_kv_bytes,
										.rope_store = dsocr_ref_rope_store,
										.causal_attention = dsocr_ref_causal_attention,
										.silu_mul = ref_silu_mul,
										.router = ref_router,
										.routing_alloc = ref_routing_alloc,
										.routing_free = ref_routing_free,
										.routing_read = ref_routing_read,
										.experts = ref_experts,
										.pick = ref_pick,
										.sync = ref_sync};

DsocrBackend *
dsocr_reference_open(const DsocrBackendOptions *options, DsocrError *err)
{
	DsocrBackend *be = dsocr_zalloc(1, sizeof(*be), err);

	if (be == NULL)
		return NULL;
	be->ops = &ref_ops;
	be->precision = options->precision;
	be->act_size = sizeof(float);
	be->threads = 1;
	strcpy(be->description, "reference");
	return be;
}
