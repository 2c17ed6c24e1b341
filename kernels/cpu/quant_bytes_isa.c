/*-------------------------------------------------------------------------
 *
 * quant_bytes_isa.c
 *		Products with matrices in 8 or 4 bits by 8-bit dot products (VNNI).
 *
 * The integers of quant_isa.c in two planes of bytes; their sums are the same.
 * quant.h has the layout.
 *
 * Only the avx512 build has it.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "quant.h"
#include "vec.h"

#if DSOCR_VW == 16 && defined(__x86_64__)

#include <immintrin.h>

#define VNNI __attribute__((target("avx512vnni")))
#define VNNI_INLINE static inline __attribute__((always_inline, target("avx512vnni")))
#define QUANT_BYTE_ROWS 4

/* sums of columns 4i .. 4i + 3 in both planes for xb rows of X, planes low apart */
VNNI_INLINE void
quant_dot(__m512i high[QUANT_BYTE_ROWS], __m512i low[QUANT_BYTE_ROWS], __m512i w, const char *x,
		  size_t group, size_t apart, int xb)
{
#pragma GCC unroll 4
	for (int r = 0; r < xb; r++)
	{
		int32_t a;
		int32_t b;

		memcpy(&a, x + (size_t) r * group, sizeof(a));
		memcpy(&b, x + (size_t) r * group + apart, sizeof(b));
		high[r] = _mm512_dpbusd_epi32(high[r], w, _mm512_set1_epi32(a));
		low[r] = _mm512_dpbusd_epi32(low[r], w, _mm512_set1_epi32(b));
	}
}

/* Rows first .. first + xb - 1 of a block of rows. */
VNNI_INLINE void
quant_panel_bytes(float *const *ys, const QuantBlock *x, int first, const char *panel,
				  const DsocrQuantShape *s, int xb, int four, int prefetch)
{
	const uint8_t levels[16] = DSOCR_QUANT_LEVELS;
	const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) levels));
	const __m512i nibble = _mm512_set1_epi8(15);
	size_t group = four ? DSOCR_QUANT_GROUP_4 : DSOCR_QUANT_GROUP_8;
	size_t apart = (size_t) x->rows * group;
	const char *codes = panel + s->codes;
	__m512 acc[QUANT_BYTE_ROWS];

	for (int r = 0; r < xb; r++)
		acc[r] = _mm512_setzero_ps();
	for (size_t g = 0; g < s->groups; g++, codes += s->group_bytes)
	{
		const char *at = x->bytes + 2 * g * apart + (size_t) first * group;
		size_t of_group = g * (size_t) x->rows + (size_t) first;
		__m512 ws = _mm512_cvtph_ps(
			_mm256_loadu_si256((const __m256i *) (panel + g * DSOCR_QUANT_ROWS * 2)));
		__m512i high[QUANT_BYTE_ROWS];
		__m512i low[QUANT_BYTE_ROWS];

		if (prefetch)
			quant_prefetch(codes, s->group_bytes);
		for (int r = 0; r < xb; r++)
		{
			high[r] = _mm512_setzero_si512();
			low[r] = _mm512_set1_epi32(x->zeros[of_group + (size_t) r]);
		}
		if (four)
		{
#pragma GCC unroll 4
			for (int i = 0; i < 4; i++)
			{
				__m512i c = _mm512_loadu_si512(codes + i * 64);
				__m512i a = _mm512_shuffle_epi8(table, _mm512_and_si512(c, nibble));
				__m512i b =
					_mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(c, 4), nibble));

				quant_dot(high, low, a, at + i * 4, group, apart, xb);
				quant_dot(high, low, b, at + 16 + i * 4, group, apart, xb);
			}
		}
		else
		{
#pragma GCC unroll 4
			for (int i = 0; i < 16; i++)
				quant_dot(high, low, _mm512_loadu_si512(codes + i * 64), at + i * 4, group, apart,
						  xb);
		}
		for (int r = 0; r < xb; r++)
		{
			__m512 scale = _mm512_set1_ps(x->scales[of_group + (size_t) r]);
			__m512i total = _mm512_add_epi32(_mm512_slli_epi32(high[r], 7), low[r]);

			acc[r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(ws, scale), acc[r]);
		}
	}
	for (int r = 0; r < xb; r++)
		_mm512_storeu_ps(ys[r], acc[r]);
}

/* One block of rows against one panel. */
VNNI static void
quant_block_panel(float *const *ys, const QuantBlock *x, const char *panel,
				  const DsocrQuantShape *s, bool prefetch)
{
	bool four = s->group == DSOCR_QUANT_GROUP_4;
	int r = 0;

	for (; r + 4 <= x->rows; r += 4)
		if (four)
			quant_panel_bytes(ys + r, x, r, panel, s, 4, 1, prefetch && r == 0);
		else
			quant_panel_bytes(ys + r, x, r, panel, s, 4, 0, prefetch && r == 0);
	if (r + 2 <= x->rows)
	{
		if (four)
			quant_panel_bytes(ys + r, x, r, panel, s, 2, 1, prefetch && r == 0);
		else
			quant_panel_bytes(ys + r, x, r, panel, s, 2, 0, prefetch && r == 0);
		r += 2;
	}
	if (r < x->rows)
	{
		if (four)
			quant_panel_bytes(ys + r, x, r, panel, s, 1, 1, prefetch && r == 0);
		else
			quant_panel_bytes(ys + r, x, r, panel, s, 1, 0, prefetch && r == 0);
	}
}

VNNI static void
quant_bytes_panel(float *const *ys, const char *x, int m, const char *panel,
				  const DsocrQuantShape *s)
{
	for (int r = 0; r < m; r += QUANT_BLOCK_ROWS)
	{
		QuantBlock b = quant_block(x, r, m, s);

		quant_block_panel(ys + r, &b, panel, s, r == 0);
	}
}

static void
quant_pack_bytes(char *dst, const float *const *xs, int m, size_t k, const DsocrQuantShape *s)
{
	for (int i = 0; i < m; i++)
	{
		QuantBlock b = quant_block(dst, i / QUANT_BLOCK_ROWS * QUANT_BLOCK_ROWS, m, s);
		size_t r = (size_t) (i % QUANT_BLOCK_ROWS);
		size_t rows = (size_t) b.rows;

		for (size_t g = 0; g < s->groups; g++)
		{
			int8_t *high = (int8_t *) b.bytes + (2 * g * rows + r) * s->group;
			int8_t *low = high + rows * s->group;
			int32_t q[DSOCR_QUANT_GROUP_8];

			b.zeros[g * rows + r] = quant_group_of(q, &b.scales[g * rows + r], xs[i], g, k, s);
			for (size_t j = 0; j < s->group; j++)
			{
				int32_t h = (q[j] + 64) >> 7;

				high[j] = (int8_t) h;
				low[j] = (int8_t) (q[j] - h * 128);
			}
		}
	}
}

static void
quant_product_bytes(float *const *ys, const char *packed, int m, const void *w, size_t first,
					size_t n, const DsocrQuantShape *s)
{
	quant_panels(quant_bytes_panel, ys, packed, m, w, first, n, s);
}

const DsocrQuantOps dsocr_quant_vnni = {.pack = quant_pack_bytes, .product = quant_product_bytes};

#endif
