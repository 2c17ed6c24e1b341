/*-------------------------------------------------------------------------
 *
 * tile_attend_isa.c
 *		Attention of a block of queries in the matrix unit (AMX, bf16).
 *
 * Queries, keys, position tables, probabilities and values are rounded to
 * bf16, sums are fp32.  Packed keys are groups of 16 keys as tile.h packs
 * rows; packed values are groups of 16 channels, [n / 2][16][2], pairs of
 * keys side by side.  Both are padded to a multiple of 32 keys.
 *
 * Only the avx512 build has the unit; the other tables are empty.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "vec.h"

#if DSOCR_VW == 16 && defined(__x86_64__)

#include "tile.h"

#include <math.h>

/* Rows of scores lie a little apart from powers of two, where caches collide. */
static size_t
unit_stride(size_t n)
{
	return dsocr_tile_k(n) + 16;
}

static size_t
unit_keys_bytes(size_t n, size_t head_dim)
{
	return dsocr_tile_k(n) * dsocr_tile_k(head_dim) * sizeof(uint16_t);
}

/* Queries, scores (then probabilities) and results of a block, bias of both tables. */
static size_t
unit_scratch(size_t n, size_t head_dim, size_t side)
{
	size_t tables = side > 0 ? 2 * unit_stride(2 * side - 1) : 0;

	return DSOCR_ATTEND_ROWS *
		   (dsocr_tile_k(head_dim) / 2 + unit_stride(n) + dsocr_tile_k(head_dim) + tables);
}

/* Keys behind the last repeat it: their scores are never looked at. */
static void
unit_pack_keys(void *dst, const float *const *rows, size_t n, size_t head_dim)
{
	size_t k = dsocr_tile_k(head_dim);
	uint16_t *to = dst;

	for (size_t r = 0; r < dsocr_tile_k(n); r += 16, to += 16 * k)
	{
		const float *group[16];

		for (size_t i = 0; i < 16; i++)
			group[i] = rows[r + i < n ? r + i : n - 1];
		tile_pack_group(to, group, 16, head_dim, k);
	}
}

static void
unit_pack_values(void *dst, const float *const *rows, size_t n, size_t head_dim)
{
	size_t padded = dsocr_tile_k(n);

	for (size_t d = 0; d < dsocr_tile_k(head_dim); d += 16)
	{
		uint16_t *to = (uint16_t *) dst + d * padded;
		size_t left = head_dim > d ? head_dim - d : 0;
		__mmask16 mask = (__mmask16) (left >= 16 ? 0xffff : (1u << left) - 1);

		for (size_t r = 0; r < padded; r += 2, to += 32)
		{
			__m512 a = r < n ? _mm512_maskz_loadu_ps(mask, rows[r] + d) : _mm512_setzero_ps();
			__m512 b =
				r + 1 < n ? _mm512_maskz_loadu_ps(mask, rows[r + 1] + d) : _mm512_setzero_ps();
			VecHalf low = vec_to_bf16((Vec) a);
			VecHalf high = vec_to_bf16((Vec) b);

			*(VecMem *) to = (Vec) (__builtin_convertvector(low, VecBits) |
									(__builtin_convertvector(high, VecBits) << 16));
		}
	}
}

/*
 * out[32][stride] = L[32, k] @ R for groups pairs of groups of 16; left rows
 * are stride_left bytes apart, a group of R has group elements.
 */
TILE_TARGET static void
unit_product(float *out, size_t stride, const void *left, size_t stride_left, size_t k,
			 const uint16_t *right, size_t group, size_t pairs)
{
	const char *second_rows = (const char *) left + 16 * stride_left;

	for (size_t g = 0; g < pairs; g++, right += 2 * group, out += 32)
	{
		_tile_zero(0);
		_tile_zero(1);
		_tile_zero(2);
		_tile_zero(3);
		for (size_t kb = 0; kb < k; kb += TILE_K)
		{
			_tile_loadd(4, (const char *) left + kb * 2, stride_left);
			_tile_loadd(6, right + kb * 16, 64);
			_tile_dpbf16ps(0, 4, 6);
			_tile_loadd(7, right + group + kb * 16, 64);
			_tile_dpbf16ps(1, 4, 7);
			_tile_loadd(5, second_rows + kb * 2, stride_left);
			_tile_dpbf16ps(2, 5, 6);
			_tile_dpbf16ps(3, 5, 7);
		}
		_tile_stored(0, out, stride * 4);
		_tile_stored(1, out + 16, stride * 4);
		_tile_stored(2, out + 16 * stride, stride * 4);
		_tile_stored(3, out + 16 * stride + 16, stride * 4);
	}
}

/* s = s * scale + bias over the grid, returns the largest */
static float
unit_bias(float *s, int side, float scale, float bias_scale, const float *by_h, const float *by_w)
{
	__m512 top = _mm512_set1_ps(-INFINITY);
	__m512 factor = _mm512_set1_ps(scale);
	__m512 bias_factor = _mm512_set1_ps(bias_scale);

	for (int i = 0; i < side; i++, s += side)
	{
		__m512 h = _mm512_set1_ps(by_h[i]);

		for (int j = 0; j < side; j += 16)
		{
			__mmask16 mask = (__mmask16) (side - j >= 16 ? 0xffff : (1u << (side - j)) - 1);
			__m512 bias = _mm512_add_ps(h, _mm512_maskz_loadu_ps(mask, by_w + j));
			__m512 v = _mm512_maskz_loadu_ps(mask, s + j);

			v = _mm512_fmadd_ps(v, factor, _mm512_mul_ps(bias, bias_factor));
			top = _mm512_mask_max_ps(top, mask, top, v);
			_mm512_mask_storeu_ps(s + j, mask, v);
		}
	}
	return _mm512_reduce_max_ps(top);
}

static float
unit_top(const float *s, size_t n)
{
	__m512 top = _mm512_set1_ps(-INFINITY);
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
		top = _mm512_max_ps(top, _mm512_loadu_ps(s + i));
	if (i < n)
	{
		__mmask16 mask = (__mmask16) ((1u << (n - i)) - 1);

		top = _mm512_mask_max_ps(top, mask, top, _mm512_maskz_loadu_ps(mask, s + i));
	}
	return _mm512_reduce_max_ps(top);
}

/* 2^t to 5e-5, enough for what is rounded to bf16 next */
VEC_INLINE __m512
unit_exp2(__m512 t)
{
	__m512 whole;
	__m512 f;
	__m512 p;

	t = _mm512_max_ps(t, _mm512_set1_ps(-150.0f));
	whole = _mm512_roundscale_ps(t, 0);
	f = _mm512_sub_ps(t, whole);
	p = _mm512_set1_ps(9.6181291e-3f);
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
	return _mm512_scalef_ps(p, whole);
}

/*
 * Scores to probabilities in bf16, in place: 2^(s * scale - top) over n
 * scores, zeros up to padded; returns their sum.
 */
static float
unit_softmax(float *s, size_t n, size_t padded, float scale, float top)
{
	uint16_t *out = (uint16_t *) s; /* behind the scores still to be read */
	__m512 sum = _mm512_setzero_ps();
	__m512 factor = _mm512_set1_ps(scale);
	__m512 high = _mm512_set1_ps(top);
	size_t i = 0;

	for (; i + 16 <= n; i += 16)
	{
		__m512 e = unit_exp2(_mm512_fmsub_ps(_mm512_loadu_ps(s + i), factor, high));
		__m512i bits = _mm512_castps_si512(e);

		sum = _mm512_add_ps(sum, e);
		bits = _mm512_add_epi32(bits, _mm512_set1_epi32(0x8000));
		_mm256_storeu_si256((__m256i *) (out + i),
							_mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
	}
	if (i < n)
	{
		__mmask16 mask = (__mmask16) ((1u << (n - i)) - 1);
		__m512 e = _mm512_maskz_mov_ps(
			mask, unit_exp2(_mm512_fmsub_ps(_mm512_maskz_loadu_ps(mask, s + i), factor, high)));
		__m512i bits = _mm512_add_epi32(_mm512_castps_si512(e), _mm512_set1_epi32(0x8000));

		sum = _mm512_add_ps(sum, e);
		_mm256_storeu_si256((__m256i *) (out + i),
							_mm512_cvtepi32_epi16(_mm512_srli_epi32(bits, 16)));
		i += 16;
	}
	memset(out + i, 0, (padded - i) * sizeof(*out));
	return _mm512_reduce_add_ps(sum);
}

/* Queries in bf16, zeros behind them. */
static void
unit_queries(uint16_t *to, const DsocrAttend *a, size_t k)
{
	memset(to, 0, DSOCR_ATTEND_ROWS * k * sizeof(*to));
	for (int r = 0; r < a->rows; r++)
		for (int d = 0; d < a->head_dim; d += 16)
		{
			size_t left = (size_t) (a->head_dim - d);
			VecHalf h =
				vec_to_bf16(left >= 16 ? vec_load(a->q[r] + d) : vec_load_some(a->q[r] + d, left));

			memcpy(to + (size_t) r * k + (size_t) d, &h, sizeof(h));
		}
}

TILE_TARGET static void
unit_block(const DsocrAttend *a)
{
	const float log2e = 1.44269504088896341f;
	size_t k = dsocr_tile_k((size_t) a->head_dim);
	size_t n = (size_t) a->n;
	size_t stride = unit_stride(n);
	size_t table = a->side > 0 ? unit_stride(2 * (size_t) a->side - 1) : 0;
	uint16_t *q = (uint16_t *) a->scratch;
	float *s = a->scratch + DSOCR_ATTEND_ROWS * k / 2;
	float *wide = s + DSOCR_ATTEND_ROWS * stride;
	float *by_h = wide + DSOCR_ATTEND_ROWS * k;
	float *by_w = by_h + DSOCR_ATTEND_ROWS * table;
	size_t seen = n;
	size_t padded;
	float sums[DSOCR_ATTEND_ROWS];

	if (a->causal > 0 && (size_t) (a->causal + a->rows - 1) < seen)
		seen = (size_t) (a->causal + a->rows - 1);
	padded = dsocr_tile_k(seen);
	unit_queries(q, a, k);
	tile_configure(16);
	unit_product(s, stride, q, k * 2, k, a->keys, 16 * k, padded / 32);
	if (a->side > 0)
	{
		size_t pairs = dsocr_tile_k(2 * (size_t) a->side - 1) / 32;

		unit_product(by_h, table, q, k * 2, k, a->rel_h, 16 * k, pairs);
		unit_product(by_w, table, q, k * 2, k, a->rel_w, 16 * k, pairs);
	}
	for (int r = 0; r < a->rows; r++)
	{
		float *row = s + (size_t) r * stride;
		size_t keys = a->causal > 0 ? (size_t) (a->causal + r) : n;
		int cell = a->side > 0 ? a->cells[r] : 0;

		if (a->side > 0)
		{
			float top = unit_bias(row, a->side, a->scale * log2e, log2e,
								  by_h + (size_t) r * table + (a->side - 1 - cell / a->side),
								  by_w + (size_t) r * table + (a->side - 1 - cell % a->side));

			sums[r] = unit_softmax(row, keys, padded, 1.0f, top);
		}
		else
			sums[r] = unit_softmax(row, keys, padded, a->scale * log2e,
								   unit_top(row, keys) * (a->scale * log2e));
	}
	/* Rows that do not exist: finite numbers, as the unit multiplies them too. */
	for (int r = a->rows; r < DSOCR_ATTEND_ROWS; r++)
		memset(s + (size_t) r * stride, 0, padded * sizeof(uint16_t));
	unit_product(wide, k, s, stride * 4, padded, a->values, 16 * dsocr_tile_k(n), k / 32);
	_tile_release();
	for (int r = 0; r < a->rows; r++)
		for (int d = 0; d < a->head_dim; d++)
			a->out[r][d] = wide[(size_t) r * k + (size_t) d] / sums[r];
}

const DsocrAttendOps DSOCR_ISA_NAME(dsocr_tile_attend_) = {.keys_bytes = unit_keys_bytes,
														   .values_bytes = unit_keys_bytes,
														   .scratch = unit_scratch,
														   .pack_keys = unit_pack_keys,
														   .pack_values = unit_pack_values,
														   .block = unit_block};

#else

const DsocrAttendOps DSOCR_ISA_NAME(dsocr_tile_attend_) = {0};

#endif
