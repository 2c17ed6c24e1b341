/*-------------------------------------------------------------------------
 *
 * tile_attend_isa.c
 *		Attention of a block of queries in the matrix unit (AMX, bf16).
 *
 * Queries, keys, position tables, probabilities and values are rounded to
 * bf16, sums are fp32.  Keys are taken in blocks whose scores stay in the
 * first level cache; sums are relative to the largest score so far.  Packed keys are groups of 16 keys as tile.h packs
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

#define UNIT_KEYS 256
#define LOG2E 1.44269504088896341f

/* Rows of scores lie a little apart from powers of two, where caches collide. */
static size_t
unit_stride(size_t n)
{
	return dsocr_tile_k(n) + 16;
}

/*
 * Keys whose scores stand in the first level cache together: whole rows of
 * the grid where there is one, a multiple of 32.
 */
static size_t
unit_block_keys(size_t n, size_t side)
{
	size_t keys = UNIT_KEYS;

	for (size_t rows = 1; side > 0 && rows <= side; rows++)
	{
		keys = rows * side;
		if (keys % 32 == 0 && keys >= UNIT_KEYS)
			break;
	}
	return keys < n ? keys : dsocr_tile_k(n);
}

static size_t
unit_keys_bytes(size_t n, size_t head_dim)
{
	return dsocr_tile_k(n) * dsocr_tile_k(head_dim) * sizeof(uint16_t);
}

/* Queries, scores (then probabilities) and sums of a block, bias of both tables. */
static size_t
unit_scratch(size_t n, size_t head_dim, size_t side)
{
	size_t tables = side > 0 ? 2 * unit_stride(2 * side - 1) : 0;

	return DSOCR_ATTEND_ROWS * (dsocr_tile_k(head_dim) / 2 + unit_stride(unit_block_keys(n, side)) +
								dsocr_tile_k(head_dim) + tables);
}

/* Keys behind the last repeat it: their scores are never looked at. */
TILE_BF16 static void
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
 * out[32][stride] = L[32, k] @ R, or += when added, for groups pairs of groups
 * of 16; left rows are stride_left bytes apart, a group of R has group elements.
 */
TILE_TARGET static void
unit_product(float *out, size_t stride, const void *left, size_t stride_left, size_t k,
			 const uint16_t *right, size_t group, size_t pairs, bool added)
{
	const char *second_rows = (const char *) left + 16 * stride_left;

	for (size_t g = 0; g < pairs; g++, right += 2 * group, out += 32)
	{
		if (added)
		{
			_tile_loadd(0, out, stride * 4);
			_tile_loadd(1, out + 16, stride * 4);
			_tile_loadd(2, out + 16 * stride, stride * 4);
			_tile_loadd(3, out + 16 * stride + 16, stride * 4);
		}
		else
		{
			_tile_zero(0);
			_tile_zero(1);
			_tile_zero(2);
			_tile_zero(3);
		}
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

VEC_INLINE __mmask16
unit_mask(size_t n)
{
	return (__mmask16) (n >= 16 ? 0xffff : (1u << n) - 1);
}

/*
 * s = s * scale + (by_h + by_w) * bias over rows of the grid, returns the
 * largest; whole: side is a multiple of 16.
 */
VEC_INLINE float
unit_bias_columns(float *s, int side, int rows, float scale, float bias, const float *by_h,
				  const float *by_w, bool whole)
{
	__m512 top = _mm512_set1_ps(-INFINITY);
	__m512 factor = _mm512_set1_ps(scale);
	__m512 bias_factor = _mm512_set1_ps(bias);

	for (int j = 0; j < side; j += 16)
	{
		__mmask16 mask = whole ? 0xffff : unit_mask((size_t) (side - j));
		__m512 w = _mm512_mul_ps(_mm512_maskz_loadu_ps(mask, by_w + j), bias_factor);
		__m512 next = _mm512_maskz_loadu_ps(mask, s + j);

		for (int i = 0; i < rows; i++)
		{
			float *at = s + i * side + j;
			__m512 v = _mm512_fmadd_ps(_mm512_set1_ps(by_h[i]), bias_factor, w);

			v = _mm512_fmadd_ps(next, factor, v);
			/* a load behind a masked store that it touches would wait for it */
			next = _mm512_maskz_loadu_ps(i + 1 < rows ? mask : 0, at + side);
			top = _mm512_mask_max_ps(top, mask, top, v);
			_mm512_mask_storeu_ps(at, mask, v);
		}
	}
	return _mm512_reduce_max_ps(top);
}

static float
unit_bias(float *s, int side, int rows, float scale, float bias, const float *by_h,
		  const float *by_w)
{
	if (side % 16 == 0)
		return unit_bias_columns(s, side, rows, scale, bias, by_h, by_w, true);
	return unit_bias_columns(s, side, rows, scale, bias, by_h, by_w, false);
}

static float
unit_top(const float *s, size_t n)
{
	__m512 top = _mm512_set1_ps(-INFINITY);

	for (size_t i = 0; i < n; i += 16)
	{
		__mmask16 mask = unit_mask(n - i);

		top = _mm512_mask_max_ps(top, mask, top, _mm512_maskz_loadu_ps(mask, s + i));
	}
	return _mm512_reduce_max_ps(top);
}

/*
 * 2^t to 2e-4, enough for what is rounded to bf16 next.  Below the normal
 * numbers it is 0, as it would be in bf16: a vector with one such result takes
 * the processor longer than a hundred without.
 */
VEC_INLINE __m512
unit_exp2(__m512 t)
{
	__mmask16 normal = _mm512_cmp_ps_mask(t, _mm512_set1_ps(-126.0f), _CMP_NLT_UQ);
	__m512 f = _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
	__m512 p = _mm512_set1_ps(7.80245251e-02f);

	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.26067181e-01f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.95833515e-01f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.99925223e-01f));
	return _mm512_maskz_scalef_ps(normal, p, t);
}

/*
 * Scores to probabilities in bf16, in place: 2^(s * scale - top) over n
 * scores, zeros up to padded, a multiple of 32; returns their sum.
 */
TILE_BF16 static float
unit_softmax(float *s, size_t n, size_t padded, float scale, float top)
{
	uint16_t *out = (uint16_t *) s; /* behind the scores still to be read */
	__m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
	__m512 factor = _mm512_set1_ps(scale);
	__m512 high = _mm512_set1_ps(top);
	size_t i = 0;

	for (; i + 32 <= n; i += 32)
	{
		__m512 a = unit_exp2(_mm512_fmsub_ps(_mm512_loadu_ps(s + i), factor, high));
		__m512 b = unit_exp2(_mm512_fmsub_ps(_mm512_loadu_ps(s + i + 16), factor, high));

		sum[0] = _mm512_add_ps(sum[0], a);
		sum[1] = _mm512_add_ps(sum[1], b);
		_mm512_storeu_si512(out + i, (__m512i) _mm512_cvtne2ps_pbh(b, a));
	}
	if (i < n)
	{
		__m512 v[2];

		for (size_t h = 0; h < 2; h++)
		{
			__mmask16 mask = i + 16 * h < n ? unit_mask(n - i - 16 * h) : 0;

			v[h] = _mm512_maskz_loadu_ps(mask, s + i + 16 * h);
			v[h] = unit_exp2(_mm512_fmsub_ps(v[h], factor, high));
			v[h] = _mm512_maskz_mov_ps(mask, v[h]);
			sum[h] = _mm512_add_ps(sum[h], v[h]);
		}
		_mm512_storeu_si512(out + i, (__m512i) _mm512_cvtne2ps_pbh(v[1], v[0]));
		i += 32;
	}
	memset(out + i, 0, (padded - i) * sizeof(*out));
	return _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
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

/* One block of queries; its sums and what they are relative to grow with every block of keys. */
typedef struct UnitBlock
{
	const DsocrAttend *a;
	size_t k; /* of head_dim, rounded up */
	size_t n_padded;
	size_t stride; /* of scores */
	size_t table;  /* of by_h and by_w */
	uint16_t *q;
	float *s;
	float *wide; /* [32][k] sums of values */
	float *by_h;
	float *by_w;
	const float *row_h[DSOCR_ATTEND_ROWS]; /* where the bias of each row begins */
	const float *row_w[DSOCR_ATTEND_ROWS];
	float tops[DSOCR_ATTEND_ROWS];
	float sums[DSOCR_ATTEND_ROWS];
} UnitBlock;

/* Keys of a block that row r sees. */
static size_t
unit_seen(const DsocrAttend *a, int r, size_t from, size_t n)
{
	size_t seen = (size_t) (a->causal + r);

	if (a->causal <= 0)
		return n;
	return seen <= from ? 0 : seen - from < n ? seen - from : n;
}

/* Finish the scores of keys from .. from + n - 1, those rows of the grid; the largest of row r. */
static float
unit_row_top(const UnitBlock *u, int r, size_t from, size_t n, int skip, int grid_rows)
{
	const DsocrAttend *a = u->a;
	float *row = u->s + (size_t) r * u->stride;

	if (a->side == 0)
		return unit_top(row, unit_seen(a, r, from, n)) * (a->scale * LOG2E);
	return unit_bias(row, a->side, grid_rows, a->scale * LOG2E, LOG2E, u->row_h[r] + skip,
					 u->row_w[r]);
}

/* Take over new tops, and make what was summed relative to them. */
static void
unit_raise(UnitBlock *u, const float *tops)
{
	float shrink[DSOCR_ATTEND_ROWS];

	for (int r = 0; r < DSOCR_ATTEND_ROWS; r += 16)
	{
		__m512 old = _mm512_loadu_ps(u->tops + r);
		__m512 new = _mm512_max_ps(old, _mm512_loadu_ps(tops + r));
		__mmask16 higher = _mm512_cmp_ps_mask(new, old, _CMP_GT_OQ);
		__m512 by =
			_mm512_mask_mov_ps(_mm512_set1_ps(1.0f), higher, unit_exp2(_mm512_sub_ps(old, new)));

		_mm512_storeu_ps(u->tops + r, new);
		_mm512_storeu_ps(u->sums + r, _mm512_mul_ps(_mm512_loadu_ps(u->sums + r), by));
		_mm512_storeu_ps(shrink + r, by);
	}
	for (int r = 0; r < u->a->rows; r++)
	{
		float *wide = u->wide + (size_t) r * u->k;
		__m512 by = _mm512_set1_ps(shrink[r]);

		if (shrink[r] != 1.0f)
			for (size_t d = 0; d < u->k; d += 16)
				_mm512_storeu_ps(wide + d, _mm512_mul_ps(_mm512_loadu_ps(wide + d), by));
	}
}

/* Scores of keys from .. from + n - 1 to probabilities, all rows a step at a time. */
static void
unit_rows(UnitBlock *u, size_t from, size_t n, size_t padded)
{
	const DsocrAttend *a = u->a;
	float scale = a->side > 0 ? 1.0f : a->scale * LOG2E;
	float tops[DSOCR_ATTEND_ROWS] = {0};
	int skip = a->side > 0 ? (int) from / a->side : 0;
	int grid_rows = a->side > 0 ? (int) n / a->side : 0;

	for (int r = 0; r < a->rows; r++)
		tops[r] = unit_row_top(u, r, from, n, skip, grid_rows);
	if (from == 0)
		memcpy(u->tops, tops, sizeof(tops));
	else
		unit_raise(u, tops);
	for (int r = 0; r < a->rows; r++)
	{
		float *row = u->s + (size_t) r * u->stride;
		size_t seen = unit_seen(a, r, from, n);

		if (seen == 0)
			memset(row, 0, padded * sizeof(uint16_t));
		else
			u->sums[r] += unit_softmax(row, seen, padded, scale, u->tops[r]);
	}
	/* Rows that do not exist: finite numbers, as the unit multiplies them too. */
	for (int r = a->rows; r < DSOCR_ATTEND_ROWS; r++)
		memset(u->s + (size_t) r * u->stride, 0, padded * sizeof(uint16_t));
}

/* Keys from .. from + n - 1. */
TILE_TARGET static void
unit_keys(UnitBlock *u, size_t from, size_t n)
{
	const DsocrAttend *a = u->a;
	size_t padded = dsocr_tile_k(n);

	unit_product(u->s, u->stride, u->q, u->k * 2, u->k, (const uint16_t *) a->keys + from * u->k,
				 16 * u->k, padded / 32, false);
	unit_rows(u, from, n, padded);
	unit_product(u->wide, u->k, u->s, u->stride * 4, padded,
				 (const uint16_t *) a->values + from * 16, 16 * u->n_padded, u->k / 32, from > 0);
}

static void
unit_out(float *to, const float *wide, size_t n, float sum)
{
	__m512 factor = _mm512_set1_ps(1.0f / sum);

	for (size_t d = 0; d < n; d += 16)
		_mm512_mask_storeu_ps(
			to + d, unit_mask(n - d),
			_mm512_mul_ps(_mm512_maskz_loadu_ps(unit_mask(n - d), wide + d), factor));
}

TILE_TARGET static void
unit_block(const DsocrAttend *a)
{
	size_t n = (size_t) a->n;
	size_t keys = unit_block_keys(n, (size_t) a->side);
	UnitBlock u = {.a = a,
				   .k = dsocr_tile_k((size_t) a->head_dim),
				   .n_padded = dsocr_tile_k(n),
				   .stride = unit_stride(keys),
				   .table = a->side > 0 ? unit_stride(2 * (size_t) a->side - 1) : 0,
				   .q = (uint16_t *) a->scratch};

	u.s = a->scratch + DSOCR_ATTEND_ROWS * u.k / 2;
	u.wide = u.s + DSOCR_ATTEND_ROWS * u.stride;
	u.by_h = u.wide + DSOCR_ATTEND_ROWS * u.k;
	u.by_w = u.by_h + DSOCR_ATTEND_ROWS * u.table;
	if (a->causal > 0 && (size_t) (a->causal + a->rows - 1) < n)
		n = (size_t) (a->causal + a->rows - 1);
	unit_queries(u.q, a, u.k);
	tile_configure(16);
	if (a->side > 0)
	{
		size_t pairs = dsocr_tile_k(2 * (size_t) a->side - 1) / 32;

		unit_product(u.by_h, u.table, u.q, u.k * 2, u.k, a->rel_h, 16 * u.k, pairs, false);
		unit_product(u.by_w, u.table, u.q, u.k * 2, u.k, a->rel_w, 16 * u.k, pairs, false);
		for (int r = 0; r < a->rows; r++)
		{
			size_t at = (size_t) r * u.table + (size_t) (a->side - 1);

			u.row_h[r] = u.by_h + at - a->cells[r] / a->side;
			u.row_w[r] = u.by_w + at - a->cells[r] % a->side;
		}
	}
	for (size_t from = 0; from < n; from += keys)
		unit_keys(&u, from, n - from < keys ? n - from : keys);
	_tile_release();
	for (int r = 0; r < a->rows; r++)
		unit_out(a->out[r], u.wide + (size_t) r * u.k, (size_t) a->head_dim, u.sums[r]);
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
