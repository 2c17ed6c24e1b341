/*-------------------------------------------------------------------------
 *
 * quant_tile_isa.c
 *		Products with matrices in 8 or 4 bits in the matrix unit (AMX, bytes).
 *
 * For some rows of X and more.  A group of a panel is a right operand of the
 * unit as it lies in memory, a group of a block of rows a left one with both
 * planes.  Integers have no order of summation, and what follows is done as in
 * quant_isa.c: results are the same to the last bit, so that the number of
 * rows may decide who computes them.
 *
 * Only the avx512 build has it.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "quant.h"
#include "vec.h"

#if DSOCR_VW == 16 && defined(__x86_64__)

#include "tile.h"

#define BYTES_TARGET __attribute__((target("amx-tile,amx-int8")))
#define TILE_FEW 4 /* rows that are left to single instructions */
#define TILE_PANELS 2

/* Sums of a group: high bytes of all rows, then low ones. */
typedef struct QuantSums
{
	_Alignas(64) int32_t of[TILE_PANELS][2 * QUANT_BLOCK_ROWS][DSOCR_QUANT_ROWS];
} QuantSums;

/* Registers: 0 and 1 sums, 4 rows of X, 6 and 7 codes. */
BYTES_TARGET static void
quant_configure(int rows, size_t group)
{
	TileConfig c = {.palette = 1};

	for (int i = 0; i < 8; i++)
	{
		c.rows[i] = (uint8_t) (i < 6 ? 2 * rows : (int) group / 4);
		c.row_bytes[i] = (uint16_t) (i == 4 ? group : 64);
	}
	/* The compiler believes that only the first bytes are read. */
	__asm__ volatile("" : : "r"(&c) : "memory");
	_tile_loadconfig(&c);
}

/* Codes of 4 bits to signed bytes, their zero taken off: 8 rows of 64. */
VEC_INLINE void
quant_widen(char *to, const char *codes)
{
	const uint8_t levels[16] = DSOCR_QUANT_LEVELS;
	const __m512i table = _mm512_broadcast_i32x4(_mm_xor_si128(
		_mm_loadu_si128((const __m128i *) levels), _mm_set1_epi8((char) DSOCR_QUANT_ZERO)));
	const __m512i nibble = _mm512_set1_epi8(15);

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
	{
		__m512i c = _mm512_loadu_si512(codes + i * 64);

		_mm512_store_si512(to + i * 64, _mm512_shuffle_epi8(table, _mm512_and_si512(c, nibble)));
		_mm512_store_si512(
			to + (i + 4) * 64,
			_mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(c, 4), nibble)));
	}
}

/* Group g of all rows, scaled and added; rows and four are constants of the caller. */
VEC_INLINE void
quant_add_group(__m512 acc[TILE_PANELS][QUANT_BLOCK_ROWS], const QuantSums *sums,
				const QuantBlock *x, const char *const *panels, size_t g, int rows, bool four)
{
	const float *scales = x->scales + g * (size_t) rows;
	const int32_t *zeros = x->zeros + g * (size_t) rows;

#pragma GCC unroll 2
	for (int i = 0; i < TILE_PANELS; i++)
	{
		__m512 ws = _mm512_cvtph_ps(
			_mm256_loadu_si256((const __m256i *) (panels[i] + g * DSOCR_QUANT_ROWS * 2)));

#pragma GCC unroll 8
		for (int r = 0; r < rows; r++)
		{
			__m512i high = _mm512_load_si512(sums->of[i][r]);
			__m512i low = _mm512_load_si512(sums->of[i][rows + r]);
			__m512i total = _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);

			if (!four)
				total = _mm512_add_epi32(total, _mm512_set1_epi32(zeros[r]));

			acc[i][r] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(total),
										_mm512_mul_ps(ws, _mm512_set1_ps(scales[r])), acc[i][r]);
		}
	}
}

/* ys[r][at .. at + 31] of two panels; the unit works on a group while the last one is added. */
BYTES_TARGET static inline __attribute__((always_inline)) void
quant_pair(float *const *ys, size_t at, const QuantBlock *x, const char *const *panels,
		   const DsocrQuantShape *s, int rows, bool four, bool prefetch)
{
	size_t group = four ? DSOCR_QUANT_GROUP_4 : DSOCR_QUANT_GROUP_8;
	_Alignas(64) char wide[2][TILE_PANELS][DSOCR_QUANT_GROUP_4 * DSOCR_QUANT_ROWS];
	__m512 acc[TILE_PANELS][QUANT_BLOCK_ROWS];
	QuantSums sums[2];

	for (int i = 0; i < TILE_PANELS; i++)
		for (int r = 0; r < rows; r++)
			acc[i][r] = _mm512_setzero_ps();
	for (size_t g = 0; g < s->groups; g++)
	{
		const char *codes[TILE_PANELS];
		QuantSums *to = &sums[g % 2];

		for (int i = 0; i < TILE_PANELS; i++)
		{
			codes[i] = panels[i] + s->codes + g * s->group_bytes;
			if (prefetch)
				quant_prefetch(codes[i], s->group_bytes);
			if (four)
			{
				quant_widen(wide[g % 2][i], codes[i]);
				codes[i] = wide[g % 2][i];
			}
		}
		_tile_zero(0);
		_tile_zero(1);
		_tile_loadd(4, x->bytes + 2 * g * (size_t) rows * group, group);
		_tile_loadd(6, codes[0], 64);
		_tile_loadd(7, codes[1], 64);
		if (four)
		{
			_tile_dpbssd(0, 4, 6);
			_tile_dpbssd(1, 4, 7);
		}
		else
		{
			_tile_dpbsud(0, 4, 6);
			_tile_dpbsud(1, 4, 7);
		}
		if (g > 0)
			quant_add_group(acc, &sums[(g - 1) % 2], x, panels, g - 1, rows, four);
		_tile_stored(0, to->of[0], 64);
		_tile_stored(1, to->of[1], 64);
	}
	quant_add_group(acc, &sums[(s->groups - 1) % 2], x, panels, s->groups - 1, rows, four);
	for (int i = 0; i < TILE_PANELS; i++)
		for (int r = 0; r < rows; r++)
			_mm512_storeu_ps(ys[r] + at + i * DSOCR_QUANT_ROWS, acc[i][r]);
}

BYTES_TARGET static inline __attribute__((always_inline)) void
quant_pair_of(float *const *ys, size_t at, const QuantBlock *x, const char *const *panels,
			  const DsocrQuantShape *s, int rows, bool prefetch)
{
	if (s->group == DSOCR_QUANT_GROUP_4)
		quant_pair(ys, at, x, panels, s, rows, true, prefetch);
	else
		quant_pair(ys, at, x, panels, s, rows, false, prefetch);
}

/* One block of rows against two whole panels. */
BYTES_TARGET static void
quant_pair_block(float *const *ys, size_t at, const QuantBlock *x, const char *panel,
				 const DsocrQuantShape *s, bool prefetch)
{
	const char *panels[TILE_PANELS] = {panel, panel + s->panel_bytes};

	switch (x->rows)
	{
		case 8:
			quant_pair_of(ys, at, x, panels, s, 8, prefetch);
			break;
		case 7:
			quant_pair_of(ys, at, x, panels, s, 7, prefetch);
			break;
		case 6:
			quant_pair_of(ys, at, x, panels, s, 6, prefetch);
			break;
		case 5:
			quant_pair_of(ys, at, x, panels, s, 5, prefetch);
			break;
		case 4:
			quant_pair_of(ys, at, x, panels, s, 4, prefetch);
			break;
		case 3:
			quant_pair_of(ys, at, x, panels, s, 3, prefetch);
			break;
		case 2:
			quant_pair_of(ys, at, x, panels, s, 2, prefetch);
			break;
		default:
			quant_pair_of(ys, at, x, panels, s, 1, prefetch);
	}
}

static void
quant_pack_tiles(char *dst, const float *const *xs, int m, size_t k, const DsocrQuantShape *s)
{
	dsocr_quant_vnni.pack(dst, xs, m, k, s);
}

/* Rows of W up to a panel's beginning, pairs of panels, and the rest. */
BYTES_TARGET static void
quant_product_tiles(float *const *ys, const char *packed, int m, const void *w, size_t first,
					size_t n, const DsocrQuantShape *s)
{
	size_t head = (DSOCR_QUANT_ROWS - first % DSOCR_QUANT_ROWS) % DSOCR_QUANT_ROWS;
	size_t at = 0;
	int configured = 0;
	float *rest[QUANT_MOST];

	if (m < TILE_FEW || head >= n || m > QUANT_MOST)
	{
		dsocr_quant_vnni.product(ys, packed, m, w, first, n, s);
		return;
	}
	if (head > 0)
		dsocr_quant_vnni.product(ys, packed, m, w, first, head, s);
	for (at = head; at + TILE_PANELS * DSOCR_QUANT_ROWS <= n; at += TILE_PANELS * DSOCR_QUANT_ROWS)
		for (int r = 0; r < m; r += QUANT_BLOCK_ROWS)
		{
			QuantBlock x = quant_block(packed, r, m, s);

			if (configured != x.rows)
				quant_configure(configured = x.rows, s->group);
			quant_pair_block(ys + r, at, &x,
							 (const char *) w + (first + at) / DSOCR_QUANT_ROWS * s->panel_bytes, s,
							 r == 0);
		}
	if (configured != 0)
		_tile_release();
	if (at == n)
		return;
	for (int r = 0; r < m; r++)
		rest[r] = ys[r] + at;
	dsocr_quant_vnni.product(rest, packed, m, w, first + at, n - at, s);
}

const DsocrQuantOps dsocr_quant_amx = {.pack = quant_pack_tiles, .product = quant_product_tiles};

#endif
