/*-------------------------------------------------------------------------
 *
 * tile.h
 *		The processor's matrix unit (AMX): configuration and packing.
 *
 * Shared by the *_isa.c files that use it; they include it only in the
 * avx512 build.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CPU_TILE_H
#define DSOCR_CPU_TILE_H

#include "isa.h"
#include "vec.h"

#include <immintrin.h>

#define TILE_TARGET __attribute__((target("amx-tile,amx-bf16")))
#define TILE_BF16 __attribute__((target("avx512bf16"))) /* which the unit comes with */
#define TILE_K 32										/* bf16 elements of a tile row */

/* The unit's configuration, 64 bytes. */
typedef struct TileConfig
{
	uint8_t palette;
	uint8_t start_row;
	uint8_t reserved[14];
	uint16_t row_bytes[16];
	uint8_t rows[16];
} TileConfig;

/* Registers: 0 to 3 results, 4 and 5 left, 6 and 7 right. */
TILE_TARGET static inline void
tile_configure(int cols)
{
	TileConfig c = {.palette = 1};

	for (int i = 0; i < 8; i++)
	{
		c.rows[i] = 16;
		c.row_bytes[i] = (uint16_t) (i == 4 || i == 5 ? 64 : 4 * cols);
	}
	/* The compiler believes that only the first bytes are read. */
	__asm__ volatile("" : : "r"(&c) : "memory");
	_tile_loadconfig(&c);
}

/* Transpose 16 x 16 elements of 32 bits: rows of r to columns. */
VEC_INLINE void
tile_transpose(__m512i r[16])
{
	__m512i t[16];

#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
	{
		t[2 * i] = _mm512_unpacklo_epi32(r[2 * i], r[2 * i + 1]);
		t[2 * i + 1] = _mm512_unpackhi_epi32(r[2 * i], r[2 * i + 1]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
	{
		r[4 * i] = _mm512_unpacklo_epi64(t[4 * i], t[4 * i + 2]);
		r[4 * i + 1] = _mm512_unpackhi_epi64(t[4 * i], t[4 * i + 2]);
		r[4 * i + 2] = _mm512_unpacklo_epi64(t[4 * i + 1], t[4 * i + 3]);
		r[4 * i + 3] = _mm512_unpackhi_epi64(t[4 * i + 1], t[4 * i + 3]);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
	{
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
	}
#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
	{
		r[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
		r[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
		r[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
		r[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
	}
}

/*
 * 32 elements of a row, or fewer and zeros, to bf16.  The processor's own
 * rounding makes zeros of denormal numbers, as which the unit reads them.
 */
TILE_BF16 VEC_INLINE __m512i
tile_round(const float *x, size_t left)
{
	__mmask16 low = left >= 16 ? 0xffff : (__mmask16) ((1u << left) - 1);
	__mmask16 high = left >= 32 ? 0xffff : left <= 16 ? 0 : (__mmask16) ((1u << (left - 16)) - 1);

	return (__m512i) _mm512_cvtne2ps_pbh(_mm512_maskz_loadu_ps(high, x + 16),
										 _mm512_maskz_loadu_ps(low, x));
}

/* One group of cols <= 16 rows; k is padded with zeros to a multiple of 32. */
TILE_BF16 static inline void
tile_pack_group(uint16_t *dst, const float *const *xs, int cols, size_t k, size_t padded)
{
	__mmask16 mask = (__mmask16) ((1u << cols) - 1);

	for (size_t i = 0; i < padded; i += 32, dst += 32 * cols)
	{
		size_t left = k > i ? k - i : 0;
		__m512i r[16];

		if (cols == 1)
		{
			_mm512_storeu_si512(dst, tile_round(xs[0] + i, left));
			continue;
		}
#pragma GCC unroll 16
		for (int c = 0; c < 16; c++)
			r[c] = tile_round(xs[c < cols ? c : 0] + i, left);
		tile_transpose(r);
#pragma GCC unroll 16
		for (int p = 0; p < 16; p++)
			_mm512_mask_storeu_epi32(dst + p * cols * 2, mask, r[p]);
	}
}

TILE_BF16 static inline void
tile_pack(uint16_t *dst, const float *const *xs, int m, size_t k)
{
	size_t padded = dsocr_tile_k(k);

	for (int c = 0; c < m; c += 16)
	{
		int cols = m - c < 16 ? m - c : 16;

		tile_pack_group(dst, xs + c, cols, k, padded);
		dst += padded * (size_t) cols;
	}
}

#endif /* DSOCR_CPU_TILE_H */
