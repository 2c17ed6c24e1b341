/*-------------------------------------------------------------------------
 *
 * quant_tile_isa.c
 *		Products with matrices in 8 or 4 bits in the matrix unit (AMX, bytes).
 *
 * For many rows of X.  A group of a panel is a right operand of the unit as
 * it lies in memory, the two planes of a packed row are rows of two left
 * ones.  Integers have no order of summation, and what follows is done as in
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
#define TILE_ROWS 16
#define TILE_FEW 8 /* rows that are left to single instructions */

/* Sums of 16 rows and two panels: planes of the first, then the second panel's. */
typedef struct QuantSums
{
	_Alignas(64) int32_t high[2][TILE_ROWS][DSOCR_QUANT_ROWS];
	_Alignas(64) int32_t low[2][TILE_ROWS][DSOCR_QUANT_ROWS];
} QuantSums;

typedef struct QuantPair
{
	float *const *ys;
	const char *x; /* packed */
	int rows;	   /* at most TILE_ROWS */
	const char *panels[2];
	const DsocrQuantShape *s;
	size_t stride; /* of x */
	size_t padded; /* columns */
} QuantPair;

/* Registers: 0 to 3 sums, 4 and 5 planes of X, 6 and 7 codes. */
BYTES_TARGET static void
quant_configure(int rows, size_t group)
{
	TileConfig c = {.palette = 1};

	for (int i = 0; i < 8; i++)
	{
		c.rows[i] = (uint8_t) (i < 6 ? rows : (int) group / 4);
		c.row_bytes[i] = (uint16_t) (i == 4 || i == 5 ? group : 64);
	}
	/* The compiler believes that only the first bytes are read. */
	__asm__ volatile("" : : "r"(&c) : "memory");
	_tile_loadconfig(&c);
}

/* Codes of 4 bits to bytes: 8 rows of 64. */
VEC_INLINE void
quant_widen(char *to, const char *codes)
{
	const uint8_t levels[16] = DSOCR_QUANT_LEVELS;
	const __m512i table = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *) levels));
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

/* Group g of all rows, scaled and added. */
VEC_INLINE void
quant_add_group(float acc[2][TILE_ROWS][DSOCR_QUANT_ROWS], const QuantSums *sums,
				const QuantPair *p, size_t g)
{
	__m512 ws[2];

	for (int i = 0; i < 2; i++)
		ws[i] = _mm512_cvtph_ps(
			_mm256_loadu_si256((const __m256i *) (p->panels[i] + g * DSOCR_QUANT_ROWS * 2)));
	for (int r = 0; r < p->rows; r++)
	{
		const char *row = p->x + (size_t) r * p->stride + 2 * p->padded;
		__m512 scale = _mm512_set1_ps(quant_float(row, g));
		__m512i zero = _mm512_set1_epi32(quant_int(row + p->s->groups * sizeof(float), g));

#pragma GCC unroll 2
		for (int i = 0; i < 2; i++)
		{
			__m512i high = _mm512_load_si512(sums->high[i][r]);
			__m512i low = _mm512_add_epi32(_mm512_load_si512(sums->low[i][r]), zero);
			__m512i total = _mm512_add_epi32(_mm512_slli_epi32(high, 7), low);

			_mm512_store_ps(acc[i][r],
							_mm512_fmadd_ps(_mm512_cvtepi32_ps(total), _mm512_mul_ps(ws[i], scale),
											_mm512_load_ps(acc[i][r])));
		}
	}
}

/* ys[r][0 .. 31] of two panels; the unit works on a group while the last one is added. */
BYTES_TARGET static void
quant_pair(const QuantPair *p, bool four)
{
	_Alignas(64) float acc[2][TILE_ROWS][DSOCR_QUANT_ROWS];
	_Alignas(64) char wide[2][2][DSOCR_QUANT_GROUP_4 * DSOCR_QUANT_ROWS];
	QuantSums sums[2];

	memset(acc, 0, sizeof(acc));
	for (size_t g = 0; g < p->s->groups; g++)
	{
		const char *codes[2];
		const char *x = p->x + g * p->s->group;
		QuantSums *to = &sums[g % 2];

		for (int i = 0; i < 2; i++)
		{
			codes[i] = p->panels[i] + p->s->codes + g * p->s->group_bytes;
			if (four)
			{
				quant_widen(wide[g % 2][i], codes[i]);
				codes[i] = wide[g % 2][i];
			}
		}
		_tile_zero(0);
		_tile_zero(1);
		_tile_zero(2);
		_tile_zero(3);
		_tile_loadd(6, codes[0], 64);
		_tile_loadd(7, codes[1], 64);
		_tile_loadd(4, x, p->stride);
		_tile_dpbsud(0, 4, 6);
		_tile_dpbsud(1, 4, 7);
		_tile_loadd(5, x + p->padded, p->stride);
		_tile_dpbsud(2, 5, 6);
		_tile_dpbsud(3, 5, 7);
		if (g > 0)
			quant_add_group(acc, &sums[(g - 1) % 2], p, g - 1);
		_tile_stored(0, to->high[0], 64);
		_tile_stored(1, to->high[1], 64);
		_tile_stored(2, to->low[0], 64);
		_tile_stored(3, to->low[1], 64);
	}
	quant_add_group(acc, &sums[(p->s->groups - 1) % 2], p, p->s->groups - 1);
	for (int r = 0; r < p->rows; r++)
	{
		_mm512_storeu_ps(p->ys[r], _mm512_load_ps(acc[0][r]));
		_mm512_storeu_ps(p->ys[r] + DSOCR_QUANT_ROWS, _mm512_load_ps(acc[1][r]));
	}
}

/* Two whole panels for all rows of X. */
BYTES_TARGET static void
quant_pair_rows(float *const *ys, size_t at, const char *packed, int m, const char *panel,
				const DsocrQuantShape *s, int *configured)
{
	QuantPair p = {.panels = {panel, panel + s->panel_bytes},
				   .s = s,
				   .stride = dsocr_quant_row_bytes(s),
				   .padded = s->groups * s->group};
	bool four = s->group == DSOCR_QUANT_GROUP_4;

	for (int i = 0; i < m; i += TILE_ROWS)
	{
		float *to[TILE_ROWS];

		p.rows = m - i < TILE_ROWS ? m - i : TILE_ROWS;
		p.x = packed + (size_t) i * p.stride;
		p.ys = to;
		for (int r = 0; r < p.rows; r++)
			to[r] = ys[i + r] + at;
		if (*configured != p.rows)
			quant_configure(*configured = p.rows, s->group);
		if (four)
			quant_pair(&p, true);
		else
			quant_pair(&p, false);
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
	for (at = head; at + 2 * DSOCR_QUANT_ROWS <= n; at += 2 * DSOCR_QUANT_ROWS)
		quant_pair_rows(ys, at, packed, m,
						(const char *) w + (first + at) / DSOCR_QUANT_ROWS * s->panel_bytes, s,
						&configured);
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
