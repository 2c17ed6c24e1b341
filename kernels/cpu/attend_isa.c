/*-------------------------------------------------------------------------
 *
 * attend_isa.c
 *		Attention of a block of queries, and of one query over pages.
 *
 * A block holds its whole score matrix (at most 32 rows x keys, it stays in
 * the second-level cache): scores by columns of transposed keys, position
 * bias, softmax, product with the values.  All in fp32.
 *
 * Packed keys are [head_dim][n padded], packed values [n][head_dim padded].
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "vec.h"

#include <math.h>

#if DSOCR_VW == 16
#define ATTEND_R 8 /* query rows of the inner block, with two vectors of keys */
#else
#define ATTEND_R 4
#endif

#define ATTEND_PAD 32 /* keys and values are padded to a multiple */

static size_t
attend_pad(size_t n)
{
	return (n + ATTEND_PAD - 1) / ATTEND_PAD * ATTEND_PAD;
}

/* s[rows][stride] = scale * q @ kt, columns in pairs of vectors; rows is constant */
VEC_INLINE void
attend_scores_rows(float *s, size_t stride, const float *const *q, int rows, const float *kt_all,
				   size_t columns, int head_dim, float scale)
{
	for (size_t j = 0; j < columns; j += 2 * DSOCR_VW)
	{
		Vec acc[ATTEND_R][2] = {0};
		const float *kt = kt_all + j;

		for (int d = 0; d < head_dim; d++, kt += stride)
		{
			Vec k0 = vec_load(kt);
			Vec k1 = vec_load(kt + DSOCR_VW);

#pragma GCC unroll 8
			for (int r = 0; r < rows; r++)
			{
				acc[r][0] += q[r][d] * k0;
				acc[r][1] += q[r][d] * k1;
			}
		}
#pragma GCC unroll 8
		for (int r = 0; r < rows; r++)
		{
			vec_store(s + (size_t) r * stride + j, acc[r][0] * scale);
			vec_store(s + (size_t) r * stride + j + DSOCR_VW, acc[r][1] * scale);
		}
	}
}

static void
attend_scores(float *s, size_t stride, const DsocrAttend *a, const void *keys, size_t columns,
			  float scale)
{
	int r = 0;

	for (; r + ATTEND_R <= a->rows; r += ATTEND_R)
		attend_scores_rows(s + (size_t) r * stride, stride, a->q + r, ATTEND_R, keys, columns,
						   a->head_dim, scale);
	for (; r < a->rows; r++)
		attend_scores_rows(s + (size_t) r * stride, stride, a->q + r, 1, keys, columns, a->head_dim,
						   scale);
}

/* out[4 rows][2 vectors] += p[4][n] @ v[n][..]; rows is constant */
VEC_INLINE void
attend_values(float *out, size_t out_stride, const float *p, size_t p_stride, const float *v,
			  size_t v_stride, size_t n, int rows)
{
	Vec acc[ATTEND_R][2] = {0};

	for (size_t j = 0; j < n; j++, v += v_stride)
	{
		Vec v0 = vec_load(v);
		Vec v1 = vec_load(v + DSOCR_VW);

#pragma GCC unroll 8
		for (int r = 0; r < rows; r++)
		{
			float f = p[(size_t) r * p_stride + j];

			acc[r][0] += f * v0;
			acc[r][1] += f * v1;
		}
	}
#pragma GCC unroll 8
	for (int r = 0; r < rows; r++)
	{
		vec_store(out + (size_t) r * out_stride, acc[r][0]);
		vec_store(out + (size_t) r * out_stride + DSOCR_VW, acc[r][1]);
	}
}

/* Add the decomposed position bias of every row: products with both tables, then sums. */
static void
attend_bias(float *s, size_t stride, const DsocrAttend *a, float *table)
{
	int side = a->side;
	size_t width = attend_pad(2 * (size_t) side - 1);
	float *by_h = table;
	float *by_w = table + (size_t) a->rows * width;

	attend_scores(by_h, width, a, a->rel_h, width, 1);
	attend_scores(by_w, width, a, a->rel_w, width, 1);
	for (int r = 0; r < a->rows; r++)
	{
		const float *h = by_h + (size_t) r * width + (side - 1 - a->cells[r] / side);
		const float *w = by_w + (size_t) r * width + (side - 1 - a->cells[r] % side);
		float *row = s + (size_t) r * stride;

		for (int i = 0; i < side; i++)
			for (int j = 0; j < side; j++)
				row[i * side + j] += h[i] + w[j];
	}
}

/* exp(s - top) over n scores, zeros behind them up to stride; returns the sum */
static float
attend_exp(float *s, size_t n, size_t stride)
{
	Vec top = vec_set(-INFINITY);
	Vec sum = {0};
	Vec max;
	size_t i;

	for (i = n; i < stride; i++)
		s[i] = -INFINITY;
	for (i = 0; i < stride; i += DSOCR_VW)
		top = vec_max(vec_load(s + i), top);
	max = vec_set(vec_top(top));
	for (i = 0; i < stride; i += DSOCR_VW)
	{
		Vec e = vec_exp(vec_load(s + i) - max);

		vec_store(s + i, e);
		sum += e;
	}
	return vec_sum(sum);
}

static void
attend_block(const DsocrAttend *a)
{
	size_t stride = attend_pad((size_t) a->n);
	size_t v_stride = attend_pad((size_t) a->head_dim);
	float *s = a->scratch;
	float *wide = s + (size_t) a->rows * stride; /* [rows][v_stride] */
	float scale[DSOCR_ATTEND_ROWS];
	size_t seen = (size_t) a->n;
	int r;

	if (a->causal > 0 && (size_t) (a->causal + a->rows - 1) < seen)
		seen = (size_t) (a->causal + a->rows - 1);
	attend_scores(s, stride, a, a->keys, attend_pad(seen), a->scale);
	if (a->side > 0)
		attend_bias(s, stride, a, wide + (size_t) a->rows * v_stride);
	for (r = 0; r < a->rows; r++)
	{
		size_t n = a->causal > 0 ? (size_t) (a->causal + r) : (size_t) a->n;

		scale[r] = 1.0f / attend_exp(s + (size_t) r * stride, n, attend_pad(seen));
	}
	for (size_t d = 0; d < v_stride; d += 2 * DSOCR_VW)
	{
		const float *v = (const float *) a->values + d;

		for (r = 0; r + ATTEND_R <= a->rows; r += ATTEND_R)
			attend_values(wide + (size_t) r * v_stride + d, v_stride, s + (size_t) r * stride,
						  stride, v, v_stride, seen, ATTEND_R);
		for (; r < a->rows; r++)
			attend_values(wide + (size_t) r * v_stride + d, v_stride, s + (size_t) r * stride,
						  stride, v, v_stride, seen, 1);
	}
	for (r = 0; r < a->rows; r++)
		for (int d = 0; d < a->head_dim; d++)
			a->out[r][d] = wide[(size_t) r * v_stride + (size_t) d] * scale[r];
}

static size_t
attend_keys_bytes(size_t n, size_t head_dim)
{
	return head_dim * attend_pad(n) * sizeof(float);
}

static size_t
attend_values_bytes(size_t n, size_t head_dim)
{
	return n * attend_pad(head_dim) * sizeof(float);
}

static size_t
attend_scratch(size_t n, size_t head_dim, size_t side)
{
	return DSOCR_ATTEND_ROWS *
		   (attend_pad(n) + attend_pad(head_dim) + (side > 0 ? 2 * attend_pad(2 * side - 1) : 0));
}

static void
attend_pack_keys(void *dst, const float *const *rows, size_t n, size_t head_dim)
{
	size_t stride = attend_pad(n);
	float *kt = dst;

	/* Blocks of 16 x 16 keep both sides in the first-level cache. */
	for (size_t r0 = 0; r0 < n; r0 += 16)
		for (size_t c0 = 0; c0 < head_dim; c0 += 16)
			for (size_t c = c0; c < head_dim && c < c0 + 16; c++)
				for (size_t r = r0; r < n && r < r0 + 16; r++)
					kt[c * stride + r] = rows[r][c];
	for (size_t c = 0; c < head_dim; c++)
		for (size_t r = n; r < stride; r++)
			kt[c * stride + r] = 0;
}

static void
attend_pack_values(void *dst, const float *const *rows, size_t n, size_t head_dim)
{
	size_t stride = attend_pad(head_dim);

	for (size_t r = 0; r < n; r++)
	{
		float *to = (float *) dst + r * stride;

		memcpy(to, rows[r], head_dim * sizeof(float));
		memset(to + head_dim, 0, (stride - head_dim) * sizeof(float));
	}
}

/* Count elements from i on; whole says that count is never less than a vector. */
VEC_INLINE Vec
attend_load(const char *p, int i, int count, int fp32, int whole)
{
	if (whole || count >= DSOCR_VW)
		return fp32 ? vec_load(p + (size_t) i * 4) : vec_load_bf16(p + (size_t) i * 2);
	return fp32 ? vec_load_some(p + (size_t) i * 4, (size_t) count)
				: vec_load_some_bf16(p + (size_t) i * 2, (size_t) count);
}

/* Keys (or, at an offset, values) of the head in page i of the sequence. */
VEC_INLINE const char *
attend_page(const DsocrPaged *p, int i, size_t offset)
{
	return p->layer + (size_t) p->pages[i] * p->page_bytes + p->head_offset + offset;
}

/*
 * Where to prefetch while page i is read: the page after it, or at the end
 * what is read next.  Pages lie anywhere, so the hardware cannot know.
 */
VEC_INLINE const char *
attend_next_page(const DsocrPaged *p, int i, size_t offset, size_t then)
{
	return (i + 1) * p->page_tokens < p->n ? attend_page(p, i + 1, offset)
										   : attend_page(p, 0, then);
}

VEC_INLINE void
attend_prefetch(const char *next, size_t bytes)
{
	for (size_t b = 0; b < bytes; b += 64)
		__builtin_prefetch(next + b);
}

#if DSOCR_VW == 16
/* Sums of 16 vectors, each in the order of vec_sum. */
VEC_INLINE Vec
attend_sums(const Vec *v)
{
	__m512 two[8];
	__m512 four[4];
	__m512 eight[2];

	/* halves of vectors 4 apart, then quarters of 8 apart: a quarter of each of 4 */
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
	{
		__m512 a = (__m512) v[i % 4 + i / 4 * 8];
		__m512 b = (__m512) v[i % 4 + i / 4 * 8 + 4];

		two[i] = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		four[i] = _mm512_add_ps(_mm512_shuffle_f32x4(two[i], two[i + 4], 0x88),
								_mm512_shuffle_f32x4(two[i], two[i + 4], 0xdd));
#pragma GCC unroll 2
	for (int i = 0; i < 2; i++)
	{
		__m512d a = _mm512_castps_pd(four[2 * i]);
		__m512d b = _mm512_castps_pd(four[2 * i + 1]);

		eight[i] = _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(a, b)),
								 _mm512_castpd_ps(_mm512_unpackhi_pd(a, b)));
	}
	return (Vec) _mm512_add_ps(_mm512_shuffle_ps(eight[0], eight[1], 0x88),
							   _mm512_shuffle_ps(eight[0], eight[1], 0xdd));
}

/* Scores of up to 16 keys; those behind the last repeat it. */
VEC_INLINE void
attend_group_scores(float *s, const float *q, const char *k, int count, int head_dim, float scale,
					int fp32)
{
	size_t bytes = (size_t) head_dim * (fp32 ? 4 : 2);
	Vec sum[16] = {0};
	const char *at[16];

	for (int t = 0; t < 16; t++)
		at[t] = k + (size_t) (t < count ? t : count - 1) * bytes;
	for (int i = 0; i < head_dim; i += DSOCR_VW)
	{
		Vec part = vec_load(q + i);

#pragma GCC unroll 16
		for (int t = 0; t < 16; t++)
			sum[t] += part * attend_load(at[t], i, DSOCR_VW, fp32, 1);
	}
	_mm512_mask_storeu_ps(s, (__mmask16) ((1u << count) - 1), (__m512) (attend_sums(sum) * scale));
}
#endif

VEC_INLINE void
attend_paged_scores(float *s, const float *q, const DsocrPaged *p, float scale, int fp32, int whole)
{
	size_t bytes = (size_t) p->head_dim * (fp32 ? 4 : 2);

	for (int from = 0; from < p->n; from += p->page_tokens)
	{
		int page = from / p->page_tokens;
		const char *k = attend_page(p, page, 0);
		const char *next = attend_next_page(p, page, 0, p->value_offset);
		int count = p->n - from < p->page_tokens ? p->n - from : p->page_tokens;
		int t = 0;

#if DSOCR_VW == 16
		for (; whole && t < count; t += 16, next += 16 * bytes)
		{
			attend_prefetch(next, 16 * bytes);
			attend_group_scores(s + from + t, q, k + (size_t) t * bytes,
								count - t < 16 ? count - t : 16, p->head_dim, scale, fp32);
		}
#endif
		for (; t < count; t++, next += bytes)
		{
			Vec sum = {0};

			attend_prefetch(next, bytes);
			for (int i = 0; i < p->head_dim; i += DSOCR_VW)
				sum += attend_load((const char *) q, i, p->head_dim - i, 1, whole) *
					   attend_load(k + (size_t) t * bytes, i, p->head_dim - i, fp32, whole);
			s[from + t] = vec_sum(sum) * scale;
		}
	}
}

/* out[vectors from d] = sum over keys of s * value; vectors <= 8 is constant */
VEC_INLINE void
attend_paged_values(float *out, const float *s, const DsocrPaged *p, float scale, int d,
					int vectors, int fp32, int whole)
{
	size_t bytes = (size_t) p->head_dim * (fp32 ? 4 : 2);
	Vec acc[8] = {0};

	for (int from = 0; from < p->n; from += p->page_tokens)
	{
		int page = from / p->page_tokens;
		const char *v = attend_page(p, page, p->value_offset);
		const char *next = attend_next_page(p, page, p->value_offset, p->value_offset);
		int count = p->n - from < p->page_tokens ? p->n - from : p->page_tokens;

		for (int t = 0; t < count; t++, v += bytes, next += bytes)
		{
			if (d == 0)
				attend_prefetch(next, bytes);
#pragma GCC unroll 8
			for (int i = 0; i < vectors; i++)
				acc[i] += s[from + t] * attend_load(v, d + i * DSOCR_VW,
													p->head_dim - d - i * DSOCR_VW, fp32, whole);
		}
	}
	for (int i = 0; i < vectors; i++)
	{
		int left = p->head_dim - d - i * DSOCR_VW;

		vec_store_some(out + d + i * DSOCR_VW, acc[i] * scale,
					   (size_t) (left < DSOCR_VW ? left : DSOCR_VW));
	}
}

/* s to exp(s - top); returns the sum */
VEC_INLINE float
attend_paged_exp(float *s, int n)
{
	Vec top = vec_set(-INFINITY);
	Vec sum = {0};
	float max;
	int i = 0;

	for (; i + DSOCR_VW <= n; i += DSOCR_VW)
		top = vec_max(top, vec_load(s + i));
	max = vec_top(top);
	for (; i < n; i++)
		max = s[i] > max ? s[i] : max;
	for (i = 0; i + DSOCR_VW <= n; i += DSOCR_VW)
	{
		Vec e = vec_exp(vec_load(s + i) - max);

		vec_store(s + i, e);
		sum += e;
	}
	if (i < n)
	{
		size_t left = (size_t) (n - i);
		Vec kept = {0};
		Vec e = vec_exp(vec_load_some(s + i, left) - max);

		memcpy(&kept, &e, left * sizeof(float));
		vec_store_some(s + i, e, left);
		sum += kept;
	}
	return vec_sum(sum);
}

VEC_INLINE void
attend_paged_any(float *out, const float *q, const DsocrPaged *p, float *s, int fp32, int whole)
{
	float scale;
	int d = 0;

	attend_paged_scores(s, q, p, 1.0f / sqrtf((float) p->head_dim), fp32, whole);
	scale = 1.0f / attend_paged_exp(s, p->n);
	for (; d + 8 * DSOCR_VW <= p->head_dim; d += 8 * DSOCR_VW)
		attend_paged_values(out, s, p, scale, d, 8, fp32, 1);
	for (; d + 4 * DSOCR_VW <= p->head_dim; d += 4 * DSOCR_VW)
		attend_paged_values(out, s, p, scale, d, 4, fp32, 1);
	for (; d + 2 * DSOCR_VW <= p->head_dim; d += 2 * DSOCR_VW)
		attend_paged_values(out, s, p, scale, d, 2, fp32, 1);
	for (; d < p->head_dim; d += DSOCR_VW)
		attend_paged_values(out, s, p, scale, d, 1, fp32, whole);
}

void
DSOCR_ISA_NAME(dsocr_paged_)(float *out, const float *q, const DsocrPaged *p, float *scores)
{
	if (p->fp32)
		attend_paged_any(out, q, p, scores, 1, 0);
	else if (p->head_dim % DSOCR_VW == 0)
		attend_paged_any(out, q, p, scores, 0, 1);
	else
		attend_paged_any(out, q, p, scores, 0, 0);
}

const DsocrAttendOps DSOCR_ISA_NAME(dsocr_attend_) = {.keys_bytes = attend_keys_bytes,
													  .values_bytes = attend_values_bytes,
													  .scratch = attend_scratch,
													  .pack_keys = attend_pack_keys,
													  .pack_values = attend_pack_values,
													  .block = attend_block};
