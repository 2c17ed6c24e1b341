/*-------------------------------------------------------------------------
 *
 * vec_isa.c
 *		Elementwise and row operations, once for each instruction set.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "vec.h"

#include <math.h>
#if DSOCR_VW > 4
#include <immintrin.h>
#endif

static void
vec_op_to_bf16(uint16_t *dst, const float *src, size_t n)
{
	size_t i = 0;

	for (; i + DSOCR_VW <= n; i += DSOCR_VW)
		*(VecHalfMem *) (dst + i) = vec_to_bf16(vec_load(src + i));
	if (i < n)
	{
		VecHalf h = vec_to_bf16(vec_load_some(src + i, n - i));

		memcpy(dst + i, &h, (n - i) * sizeof(uint16_t));
	}
}

static void
vec_op_to_f32(float *dst, const void *bf16, size_t n)
{
	const char *src = bf16;
	size_t i = 0;

	for (; i + DSOCR_VW <= n; i += DSOCR_VW)
		vec_store(dst + i, vec_load_bf16(src + i * sizeof(uint16_t)));
	if (i < n)
		vec_store_some(dst + i, vec_load_some_bf16(src + i * sizeof(uint16_t), n - i), n - i);
}

static void
vec_op_add(float *x, const float *table, size_t n)
{
	for (size_t i = 0; i < n; i++)
		x[i] += table[i];
}

VEC_INLINE Vec
vec_act(Vec v, DsocrActivation act)
{
	if (act == DSOCR_ACT_GELU)
		return vec_gelu(v);
	if (act == DSOCR_ACT_QUICK_GELU)
		return v * vec_sigmoid(1.702f * v);
	return v;
}

/* far: past the caches, where a line that is written would first be read. */
VEC_INLINE void
vec_put(float *y, Vec v, int far)
{
#if DSOCR_VW == 16
	if (far)
		_mm512_stream_ps(y, v);
	else
#elif DSOCR_VW == 8
	if (far)
		_mm256_stream_ps(y, v);
	else
#endif
		vec_store(y, v);
}

VEC_INLINE void
vec_finish(float *y, const float *x, const float *bias, const float *residual, size_t n,
		   DsocrActivation act, int far)
{
	size_t i = 0;

	for (; i + DSOCR_VW <= n; i += DSOCR_VW)
	{
		Vec v = vec_load(x + i);

		if (bias != NULL)
			v += vec_load(bias + i);
		v = vec_act(v, act);
		if (residual != NULL)
			v += vec_load(residual + i);
		vec_put(y + i, v, far);
	}
	if (i < n)
	{
		Vec v = vec_load_some(x + i, n - i);

		if (bias != NULL)
			v += vec_load_some(bias + i, n - i);
		v = vec_act(v, act);
		if (residual != NULL)
			v += vec_load_some(residual + i, n - i);
		vec_store_some(y + i, v, n - i);
	}
}

static void
vec_op_finish(float *y, const float *x, const float *bias, const float *residual, size_t n,
			  DsocrActivation act)
{
	if (act == DSOCR_ACT_GELU)
		vec_finish(y, x, bias, residual, n, DSOCR_ACT_GELU, 0);
	else if (act == DSOCR_ACT_QUICK_GELU)
		vec_finish(y, x, bias, residual, n, DSOCR_ACT_QUICK_GELU, 0);
	else
		vec_finish(y, x, bias, residual, n, DSOCR_ACT_NONE, 0);
}

static void
vec_op_finish_far(float *y, const float *x, const float *bias, const float *residual, size_t n,
				  DsocrActivation act)
{
	if ((uintptr_t) y % sizeof(Vec) != 0)
		vec_op_finish(y, x, bias, residual, n, act);
	else if (act == DSOCR_ACT_GELU)
		vec_finish(y, x, bias, residual, n, DSOCR_ACT_GELU, 1);
	else if (act == DSOCR_ACT_QUICK_GELU)
		vec_finish(y, x, bias, residual, n, DSOCR_ACT_QUICK_GELU, 1);
	else
		vec_finish(y, x, bias, residual, n, DSOCR_ACT_NONE, 1);
}

static void
vec_op_silu_mul(float *y, const float *gate, const float *up, size_t n)
{
	size_t i = 0;

	for (; i + DSOCR_VW <= n; i += DSOCR_VW)
	{
		Vec g = vec_load(gate + i);

		vec_store(y + i, g * vec_sigmoid(g) * vec_load(up + i));
	}
	if (i < n)
	{
		Vec g = vec_load_some(gate + i, n - i);

		vec_store_some(y + i, g * vec_sigmoid(g) * vec_load_some(up + i, n - i), n - i);
	}
}

/* sum of (x - mean)^2, or of x when !square */
VEC_INLINE float
vec_moment(const float *x, size_t n, float mean, int square)
{
	Vec a = {0};
	Vec b = {0};
	size_t i = 0;

	for (; i + 2 * DSOCR_VW <= n; i += 2 * DSOCR_VW)
	{
		Vec v = vec_load(x + i) - mean;
		Vec w = vec_load(x + i + DSOCR_VW) - mean;

		a += square ? v * v : v;
		b += square ? w * w : w;
	}
	for (; i < n; i += DSOCR_VW)
	{
		size_t left = n - i < DSOCR_VW ? n - i : DSOCR_VW;
		float means[DSOCR_VW] = {0};
		Vec v;

		for (size_t j = 0; j < left; j++)
			means[j] = mean;
		v = vec_load_some(x + i, left) - vec_load(means);
		a += square ? v * v : v;
	}
	return vec_sum(a + b);
}

static void
vec_op_layer_norm(float *y, const float *x, size_t dim, const float *weight, const float *bias,
				  float eps)
{
	float mean = vec_moment(x, dim, 0, 0) / (float) dim;
	float var = vec_moment(x, dim, mean, 1) / (float) dim;
	float scale = 1.0f / sqrtf(var + eps);
	size_t i = 0;

	for (; i + DSOCR_VW <= dim; i += DSOCR_VW)
		vec_store(y + i,
				  (vec_load(x + i) - mean) * scale * vec_load(weight + i) + vec_load(bias + i));
	for (; i < dim; i++)
		y[i] = (x[i] - mean) * scale * weight[i] + bias[i];
}

static void
vec_op_rms_norm(float *y, const float *x, size_t dim, const float *weight, float eps)
{
	float scale = 1.0f / sqrtf(vec_moment(x, dim, 0, 1) / (float) dim + eps);
	size_t i = 0;

	for (; i + DSOCR_VW <= dim; i += DSOCR_VW)
		vec_store(y + i, vec_load(x + i) * scale * vec_load(weight + i));
	for (; i < dim; i++)
		y[i] = x[i] * scale * weight[i];
}

static float
vec_op_max(const float *x, size_t n)
{
	Vec top = vec_set(-INFINITY);
	float best;
	size_t i = 0;

	for (; i + DSOCR_VW <= n; i += DSOCR_VW)
		top = vec_max(top, vec_load(x + i));
	best = vec_top(top);
	for (; i < n; i++)
		best = x[i] > best ? x[i] : best;
	return best;
}

static void
vec_op_softmax(float *x, size_t n)
{
	float top = vec_op_max(x, n);
	Vec sum = {0};
	float scale;
	size_t i = 0;

	for (; i + DSOCR_VW <= n; i += DSOCR_VW)
	{
		Vec e = vec_exp(vec_load(x + i) - top);

		vec_store(x + i, e);
		sum += e;
	}
	if (i < n)
	{
		Vec e = vec_exp(vec_load_some(x + i, n - i) - top);
		Vec kept = {0};

		vec_store_some(x + i, e, n - i);
		memcpy(&kept, x + i, (n - i) * sizeof(float));
		sum += kept;
	}
	scale = 1.0f / vec_sum(sum);
	for (i = 0; i < n; i++)
		x[i] *= scale;
}

static double
vec_op_sum_exp(const float *x, size_t n, float top)
{
	double sum = 0;
	size_t i = 0;

	while (i + DSOCR_VW <= n)
	{
		Vec part = {0};

		/* Short fp32 sums, added in double: exact enough for any vocabulary. */
		for (int j = 0; j < 16 && i + DSOCR_VW <= n; j++, i += DSOCR_VW)
			part += vec_exp(vec_load(x + i) - top);
		sum += vec_sum(part);
	}
	for (; i < n; i++)
		sum += exp((double) x[i] - top);
	return sum;
}

static void
vec_op_axpy(float *y, float weight, const float *x, size_t n)
{
	for (size_t i = 0; i < n; i++)
		y[i] += weight * x[i];
}

const DsocrVecOps DSOCR_ISA_NAME(dsocr_vec_) = {.to_bf16 = vec_op_to_bf16,
												.to_f32 = vec_op_to_f32,
												.add = vec_op_add,
												.finish = vec_op_finish,
												.finish_far = vec_op_finish_far,
												.silu_mul = vec_op_silu_mul,
												.layer_norm = vec_op_layer_norm,
												.rms_norm = vec_op_rms_norm,
												.softmax = vec_op_softmax,
												.max = vec_op_max,
												.sum_exp = vec_op_sum_exp,
												.axpy = vec_op_axpy};
