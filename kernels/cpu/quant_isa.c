/*-------------------------------------------------------------------------
 *
 * quant_isa.c
 *		Products with matrices in 8 or 4 bits.
 *
 * Rows of X are cut into the groups of the matrix; each group gets a scale
 * and 15-bit integers.  The products of a group are summed in integers, where
 * no order matters, and the groups in fp32, one after the other: a result
 * depends on its two rows alone, by whatever instructions it is computed, and
 * rounding X costs less than bf16 would.
 *
 * quantize.h has the layout of W.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "quant.h"
#include "vec.h"

/* x[k] to a row of words */
VEC_INLINE void
quant_pack_row(char *dst, const float *x, size_t k, const DsocrQuantShape *s)
{
	size_t padded = s->groups * s->group;
	float *scales = (float *) (dst + 2 * padded);
	int32_t *zeros = (int32_t *) (scales + s->groups);

	for (size_t g = 0; g < s->groups; g++)
	{
		int32_t q[DSOCR_QUANT_GROUP_8];

		zeros[g] = quant_group_of(q, &scales[g], x, g, k, s);
		for (size_t i = 0; i < s->group; i++)
			((int16_t *) dst)[g * s->group + i] = (int16_t) q[i];
	}
}

static void
quant_pack_words(char *dst, const float *const *xs, int m, size_t k, const DsocrQuantShape *s)
{
	for (int r = 0; r < m; r++)
		quant_pack_row(dst + (size_t) r * dsocr_quant_row_bytes(s), xs[r], k, s);
}

/* ---- sums of one panel, words ---- */

#if DSOCR_VW >= 8

#include <immintrin.h>

#define QUANT_WORD_ROWS 2 /* rows of X side by side */

/* 16 codes of 4 rows and 4 columns, widened; part is the quarter of 64 bytes */
VEC_INLINE __m256i
quant_codes(const char *codes, int high, int four)
{
	__m128i c = _mm_loadu_si128((const __m128i *) codes);

	if (four)
	{
		const uint8_t levels[16] = DSOCR_QUANT_LEVELS;

		c = _mm_and_si128(high ? _mm_srli_epi16(c, 4) : c, _mm_set1_epi8(15));
		c = _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *) levels), c);
	}
	return _mm256_cvtepu8_epi16(c);
}

/* Sums of pairs: 4 accumulators of 4 rows x 2 to 16 rows in order. */
VEC_INLINE void
quant_rows_sum(__m256i out[2], const __m256i a[4])
{
	out[0] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(a[0], a[1]), 0xd8);
	out[1] = _mm256_permute4x64_epi64(_mm256_hadd_epi32(a[2], a[3]), 0xd8);
}

VEC_INLINE void
quant_panel_words(float *const *ys, const char *x, const char *panel, const DsocrQuantShape *s,
				  int xb, int four, int prefetch)
{
	size_t stride = dsocr_quant_row_bytes(s);
	size_t padded = s->groups * s->group;
	const char *codes = panel + s->codes;
	int quads = four ? DSOCR_QUANT_GROUP_4 / 4 : DSOCR_QUANT_GROUP_8 / 4;
	__m256 acc[QUANT_WORD_ROWS][2];

	for (int r = 0; r < xb; r++)
		acc[r][0] = acc[r][1] = _mm256_setzero_ps();
	for (size_t g = 0; g < s->groups; g++, codes += s->group_bytes)
	{
		const char *scales = panel + g * DSOCR_QUANT_ROWS * sizeof(uint16_t);
		__m256i sum[QUANT_WORD_ROWS][4];

		if (prefetch)
			quant_prefetch(codes, s->group_bytes);
		for (int r = 0; r < xb; r++)
			sum[r][0] = sum[r][1] = sum[r][2] = sum[r][3] = _mm256_setzero_si256();
		for (int i = 0; i < quads; i++)
		{
			int high = four && i >= quads / 2;
			const char *from = codes + (four ? i % (quads / 2) : i) * 64;
			__m256i b[QUANT_WORD_ROWS];

			for (int r = 0; r < xb; r++)
			{
				int64_t four_words;

				memcpy(&four_words,
					   x + (size_t) r * stride + (g * s->group + (size_t) i * 4) * sizeof(int16_t),
					   sizeof(four_words));
				b[r] = _mm256_set1_epi64x(four_words);
			}
#pragma GCC unroll 4
			for (int p = 0; p < 4; p++)
			{
				__m256i w = quant_codes(from + p * 16, high, four);

				for (int r = 0; r < xb; r++)
					sum[r][p] = _mm256_add_epi32(sum[r][p], _mm256_madd_epi16(w, b[r]));
			}
		}
		for (int r = 0; r < xb; r++)
		{
			const char *row = x + (size_t) r * stride + 2 * padded;
			__m256 scale = _mm256_set1_ps(quant_float(row, g));
			__m256i zero = _mm256_set1_epi32(quant_int(row + s->groups * sizeof(float), g));
			__m256i total[2];

			quant_rows_sum(total, sum[r]);
			for (int h = 0; h < 2; h++)
			{
				__m256 ws = _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) (scales + h * 16)));

				acc[r][h] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(_mm256_add_epi32(total[h], zero)),
											_mm256_mul_ps(ws, scale), acc[r][h]);
			}
		}
	}
	for (int r = 0; r < xb; r++)
	{
		_mm256_storeu_ps(ys[r], acc[r][0]);
		_mm256_storeu_ps(ys[r] + 8, acc[r][1]);
	}
}

#else

#define QUANT_WORD_ROWS 1

static inline float
quant_half(uint16_t h)
{
	int exponent = h >> 10 & 31;
	float magnitude;
	uint32_t u;

	if (exponent == 0)
		magnitude = (float) (h & 1023) * 0x1p-24f;
	else
	{
		u = exponent == 31 ? 0x7f800000 | (uint32_t) (h & 1023) << 13
						   : (uint32_t) (exponent + 112) << 23 | (uint32_t) (h & 1023) << 13;
		memcpy(&magnitude, &u, sizeof(u));
	}
	return h & 0x8000 ? -magnitude : magnitude;
}

VEC_INLINE void
quant_panel_words(float *const *ys, const char *x, const char *panel, const DsocrQuantShape *s,
				  int xb, int four, int prefetch)
{
	static const uint8_t levels[16] = DSOCR_QUANT_LEVELS;
	const uint8_t *codes = (const uint8_t *) panel + s->codes;
	size_t quads = s->group / 4;
	const char *scales = x + 2 * s->groups * s->group;
	float acc[DSOCR_QUANT_ROWS] = {0};

	for (size_t g = 0; g < s->groups; g++, codes += s->group_bytes)
	{
		int32_t sum[DSOCR_QUANT_ROWS];
		int32_t zero = quant_int(scales + s->groups * sizeof(float), g);
		float scale = quant_float(scales, g);

		for (size_t r = 0; r < DSOCR_QUANT_ROWS; r++)
			sum[r] = zero;
		for (size_t i = 0; i < quads; i++)
		{
			const uint8_t *c = codes + (four ? i % (quads / 2) : i) * 64;
			int16_t q[4];

			memcpy(q, x + (g * s->group + i * 4) * sizeof(int16_t), sizeof(q));
			for (size_t r = 0; r < DSOCR_QUANT_ROWS; r++)
				for (size_t k = 0; k < 4; k++)
				{
					int code = c[r * 4 + k];

					if (four)
						code = levels[i < quads / 2 ? code & 15 : code >> 4];
					sum[r] += code * q[k];
				}
		}
		for (size_t r = 0; r < DSOCR_QUANT_ROWS; r++)
		{
			uint16_t h;

			memcpy(&h, panel + (g * DSOCR_QUANT_ROWS + r) * sizeof(h), sizeof(h));
			acc[r] += (float) sum[r] * (quant_half(h) * scale);
		}
	}
	memcpy(ys[0], acc, sizeof(acc));
}

#endif

/* Some rows of X, at most QUANT_WORD_ROWS. */
VEC_INLINE void
quant_words_some(float *const *ys, const char *x, int n, const char *panel,
				 const DsocrQuantShape *s, int prefetch)
{
	int four = s->group == DSOCR_QUANT_GROUP_4;

#if QUANT_WORD_ROWS > 1
	if (n == 2 && four)
		quant_panel_words(ys, x, panel, s, 2, 1, prefetch);
	else if (n == 2)
		quant_panel_words(ys, x, panel, s, 2, 0, prefetch);
	else
#endif
		if (four)
		quant_panel_words(ys, x, panel, s, 1, 1, prefetch);
	else
		quant_panel_words(ys, x, panel, s, 1, 0, prefetch);
}

static void
quant_words_panel(float *const *ys, const char *x, int m, const char *panel,
				  const DsocrQuantShape *s)
{
	for (int r = 0; r < m; r += QUANT_WORD_ROWS)
	{
		int n = m - r < QUANT_WORD_ROWS ? m - r : QUANT_WORD_ROWS;

		quant_words_some(ys + r, x + (size_t) r * dsocr_quant_row_bytes(s), n, panel, s, r == 0);
	}
}

static void
quant_product_words(float *const *ys, const char *packed, int m, const void *w, size_t first,
					size_t n, const DsocrQuantShape *s)
{
	quant_panels(quant_words_panel, ys, packed, m, w, first, n, s);
}

const DsocrQuantOps DSOCR_ISA_NAME(dsocr_quant_) = {.pack = quant_pack_words,
													.product = quant_product_words};
