/*-------------------------------------------------------------------------
 *
 * block_isa.c
 *		Products of many rows in the matrix unit (AMX, bf16), in blocks.
 *
 * Weights are put into the layout of a right operand, BLOCK_GROUPS groups of
 * 16 rows and BLOCK_STEPS steps of 32 columns at a time: transposed from bf16,
 * or widened from 8 or 4 bits.  Such a block stays in the second level cache
 * while all rows of X pass by it, and of these a piece of two groups in the
 * first.  Sums wait in y for the next columns.
 *
 * The unit adds the products of an element in the order of k, in fp32, and so
 * do blocks: results in bf16 are those of tile_isa.c to the last bit.
 *
 * Only the avx512 build has the unit; the other tables are empty.
 *
 *-------------------------------------------------------------------------
 */
#include "isa.h"
#include "vec.h"

#if DSOCR_VW == 16 && defined(__x86_64__)

#include "tile.h"

#define BLOCK_TILE 1024 /* bytes: 16 rows of 64 */

/* Where the sums of 16 columns wait. */
typedef struct BlockSums
{
	float *at;
	size_t stride;
} BlockSums;

/* One product. */
typedef struct Block
{
	const DsocrBlockWeights *w;
	const DsocrBlockRows *x;
	size_t x_first; /* group of 16 rows */
	size_t x_groups;
	size_t steps;  /* of 32 columns */
	size_t groups; /* of 16 rows of W */
	size_t skip;   /* rows of the first group's panel that are not asked for */
	float *y;
	size_t stride;
	char *room;
	float *head; /* sums of the first group when it is cut, of the last */
	float *tail;
	const char *ahead;	 /* the next line to be fetched ahead */
	size_t ahead_left;	 /* lines of this piece of memory */
	size_t ahead_pieces; /* with it */
	size_t ahead_lines;	 /* of a piece */
	size_t ahead_stride; /* from the end of one to the next */
} Block;

/* ---- rows of X ---- */

/* Where the tiles of group g begin, in the columns of steps from .. from + steps - 1. */
VEC_INLINE char *
block_place(const DsocrBlockRows *x, size_t g, size_t from, size_t steps)
{
	return (char *) x->data + ((x->rows + 15) / 16 * from + g * steps) * BLOCK_TILE;
}

TILE_BF16 static void
block_pack(const DsocrBlockRows *dst, size_t first, const float *const *xs, size_t m, bool far)
{
	size_t steps = dsocr_tile_k(dst->k) / 32;

	for (size_t r = 0; r < (m + 15) / 16 * 16; r++)
		for (size_t s = 0; s < steps; s++)
		{
			size_t from = s / DSOCR_BLOCK_STEPS * DSOCR_BLOCK_STEPS;
			size_t some = steps - from < DSOCR_BLOCK_STEPS ? steps - from : DSOCR_BLOCK_STEPS;
			char *to = block_place(dst, (first + r) / 16, from, some) + (s - from) * BLOCK_TILE +
					   r % 16 * 64;
			__m512i v =
				r < m ? tile_round(xs[r] + s * 32, dst->k - s * 32) : _mm512_setzero_si512();

			if (far)
				_mm512_stream_si512((__m512i *) to, v);
			else
				_mm512_store_si512(to, v);
		}
}

/* ---- weights ---- */

/* Rows of bf16, at most 16, and columns, at most 32, to [16 pairs][16 rows][2]. */
VEC_INLINE void
block_turn(char *to, const char *from, size_t stride, size_t rows, size_t cols)
{
	__mmask32 mask = cols >= 32 ? 0xffffffff : (__mmask32) ((1u << cols) - 1);
	__m512i r[16];

#pragma GCC unroll 16
	for (size_t i = 0; i < 16; i++)
		r[i] =
			i < rows ? _mm512_maskz_loadu_epi16(mask, from + i * stride) : _mm512_setzero_si512();
	tile_transpose(r);
#pragma GCC unroll 16
	for (int i = 0; i < 16; i++)
		_mm512_store_si512(to + i * 64, r[i]);
}

/* Two columns of 16 rows, rounded to bf16, side by side. */
VEC_INLINE __m512i
block_two(__m512 a, __m512 b)
{
	const __m512i half = _mm512_set1_epi32(0x8000);
	__m512i low = _mm512_srli_epi32(_mm512_add_epi32(_mm512_castps_si512(a), half), 16);
	__m512i high = _mm512_add_epi32(_mm512_castps_si512(b), half);

	return _mm512_ternarylogic_epi32(high, _mm512_set1_epi32((int) 0xffff0000), low, 0xea);
}

/* Four columns of 16 rows in 8 bits: a byte at bit 8 of 2^15 adds itself, which the rest undoes. */
VEC_INLINE void
block_widen_8(char *to, __m512i codes, __m512 scale, __m512 zero)
{
	const __m512i mask = _mm512_set1_epi32(0xff00);
	const __m512i magic = _mm512_set1_epi32(0x47000000);
	__m512i c[4] = {_mm512_slli_epi32(codes, 8), codes, _mm512_srli_epi32(codes, 8),
					_mm512_srli_epi32(codes, 16)};
	__m512 v[4];

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		v[i] = _mm512_fmadd_ps(
			_mm512_castsi512_ps(_mm512_ternarylogic_epi32(c[i], mask, magic, 0xea)), scale, zero);
	_mm512_store_si512(to, block_two(v[0], v[1]));
	_mm512_store_si512(to + 64, block_two(v[2], v[3]));
}

/* Four columns in the low halves of bytes. */
VEC_INLINE void
block_widen_4(char *to, __m512i codes, __m512 scale, __m512 levels)
{
	__m512 v[4];

#pragma GCC unroll 4
	for (int i = 0; i < 4; i++)
		v[i] = _mm512_mul_ps(
			_mm512_permutexvar_ps(_mm512_srli_epi32(codes, (unsigned) (8 * i)), levels), scale);
	_mm512_store_si512(to, block_two(v[0], v[1]));
	_mm512_store_si512(to + 64, block_two(v[2], v[3]));
}

VEC_INLINE __m512
block_scales(const char *panel, size_t g)
{
	__m256i h = _mm256_loadu_si256((const __m256i *) (panel + g * DSOCR_QUANT_ROWS * 2));

	return _mm512_mul_ps(_mm512_cvtph_ps(h), _mm512_set1_ps(DSOCR_QUANT_SCALE));
}

/* Steps from .. to - 1 of one panel. */
static void
block_panel_8(char *dst, const char *panel, const DsocrQuantShape *s, size_t from, size_t to)
{
	for (size_t step = from; step < to; step++, dst += BLOCK_TILE)
	{
		const char *codes = panel + s->codes + step * DSOCR_QUANT_ROWS * 32;
		__m512 scale = block_scales(panel, step / 2);
		__m512 zero = _mm512_mul_ps(scale, _mm512_set1_ps(-32768.0f - DSOCR_QUANT_ZERO));

#pragma GCC unroll 8
		for (int i = 0; i < 8; i++)
			block_widen_8(dst + i * 128, _mm512_loadu_si512(codes + i * 64), scale, zero);
	}
}

static void
block_panel_4(char *dst, const char *panel, const DsocrQuantShape *s, size_t from, size_t to)
{
	const uint8_t levels[16] = DSOCR_QUANT_LEVELS;
	const __m512 table = _mm512_sub_ps(
		_mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *) levels))),
		_mm512_set1_ps(DSOCR_QUANT_ZERO));

	for (size_t step = from; step < to; step++, dst += BLOCK_TILE)
	{
		const char *codes = panel + s->codes + step * s->group_bytes;
		__m512 scale = block_scales(panel, step);

#pragma GCC unroll 4
		for (int i = 0; i < 4; i++)
		{
			__m512i c = _mm512_loadu_si512(codes + i * 64);

			block_widen_4(dst + i * 128, c, scale, table);
			block_widen_4(dst + (i + 4) * 128, _mm512_srli_epi32(c, 4), scale, table);
		}
	}
}

/* Group g of W, steps from .. to - 1, into tiles. */
static void
block_group(const Block *b, char *to, size_t g, size_t from, size_t end)
{
	const DsocrBlockWeights *w = b->w;
	const DsocrQuantShape *s = w->quant;

	if (s != NULL)
	{
		const char *panel =
			(const char *) w->data + (w->first / DSOCR_QUANT_ROWS + g) * s->panel_bytes;

		if (s->group == DSOCR_QUANT_GROUP_4)
			block_panel_4(to, panel, s, from, end);
		else
			block_panel_8(to, panel, s, from, end);
		return;
	}
	for (size_t step = from; step < end; step++, to += BLOCK_TILE)
	{
		const char *at = (const char *) w->data + (w->first + g * 16) * w->k * 2 + step * 64;

		if (g * 16 + 16 <= w->n && step * 32 + 32 <= w->k)
			block_turn(to, at, w->k * 2, 16, 32);
		else
			block_turn(to, at, w->k * 2, w->n - g * 16 < 16 ? w->n - g * 16 : 16, w->k - step * 32);
	}
}

/* ---- fetching ahead ---- */

/* The block of weights that follows, to be fetched while this one is multiplied. */
static void
block_ahead(Block *b, size_t group, size_t count, size_t step, size_t steps)
{
	const DsocrBlockWeights *w = b->w;
	const DsocrQuantShape *s = w->quant;

	size_t stride = s != NULL ? s->panel_bytes : w->k * 2;
	size_t step_bytes = s != NULL ? s->group_bytes * 32 / s->group : 64;

	if (s != NULL)
		b->ahead = (const char *) w->data + (w->first / DSOCR_QUANT_ROWS + group) * stride +
				   s->codes + step * step_bytes;
	else
		b->ahead = (const char *) w->data + (w->first + group * 16) * stride + step * 64;
	b->ahead_pieces = s != NULL ? count : count * 16;
	b->ahead_lines = steps * step_bytes / 64;
	b->ahead_left = b->ahead_lines;
	b->ahead_stride = stride - b->ahead_lines * 64;
}

VEC_INLINE void
block_fetch(Block *b, size_t lines)
{
	for (size_t i = 0; i < lines && b->ahead_pieces > 0; i++)
	{
		_mm_prefetch(b->ahead, _MM_HINT_T1);
		b->ahead += 64;
		if (--b->ahead_left == 0)
		{
			b->ahead += b->ahead_stride;
			b->ahead_left = b->ahead_lines;
			b->ahead_pieces--;
		}
	}
}

/* ---- products ---- */

/* rows (1 or 2) groups of X against cols (1 or 2) of W; sums begin with zero when first. */
#define BLOCK_LOAD(reg, sums, row, first)                                                          \
	do                                                                                             \
	{                                                                                              \
		if (first)                                                                                 \
			_tile_zero(reg);                                                                       \
		else                                                                                       \
			_tile_loadd(reg, (sums).at + (row) * (sums).stride, (sums).stride * 4);                \
	} while (0)

#define BLOCK_STORE(reg, sums, row)                                                                \
	_tile_stored(reg, (sums).at + (row) * (sums).stride, (sums).stride * 4)

TILE_TARGET static inline __attribute__((always_inline)) void
block_multiply(const BlockSums *c, size_t row, const char *x, size_t x_group, const char *w,
			   size_t w_group, size_t steps, int rows, int cols, bool first)
{
	BLOCK_LOAD(0, c[0], row, first);
	if (cols == 2)
		BLOCK_LOAD(1, c[1], row, first);
	if (rows == 2)
		BLOCK_LOAD(2, c[0], row + 16, first);
	if (rows == 2 && cols == 2)
		BLOCK_LOAD(3, c[1], row + 16, first);
	for (size_t s = 0; s < steps; s++, x += BLOCK_TILE, w += BLOCK_TILE)
	{
		_tile_loadd(4, x, 64);
		_tile_loadd(6, w, 64);
		_tile_dpbf16ps(0, 4, 6);
		if (cols == 2)
		{
			_tile_loadd(7, w + w_group, 64);
			_tile_dpbf16ps(1, 4, 7);
		}
		if (rows == 2)
		{
			_tile_loadd(5, x + x_group, 64);
			_tile_dpbf16ps(2, 5, 6);
		}
		if (rows == 2 && cols == 2)
			_tile_dpbf16ps(3, 5, 7);
	}
	BLOCK_STORE(0, c[0], row);
	if (cols == 2)
		BLOCK_STORE(1, c[1], row);
	if (rows == 2)
		BLOCK_STORE(2, c[0], row + 16);
	if (rows == 2 && cols == 2)
		BLOCK_STORE(3, c[1], row + 16);
}

static BlockSums
block_sums(const Block *b, size_t g)
{
	size_t end = g * 16 + 16;

	if (g == 0 && b->skip > 0)
		return (BlockSums){b->head, 16};
	if (end > b->skip + b->w->n)
		return (BlockSums){b->tail, 16};
	return (BlockSums){b->y + g * 16 - b->skip, b->stride};
}

/* All rows of X against cols groups of W, steps from .. from + steps - 1. */
TILE_TARGET static inline __attribute__((always_inline)) void
block_rows(Block *b, size_t g, const char *w, size_t from, size_t steps, int cols, size_t fetch)
{
	BlockSums c[2] = {block_sums(b, g), cols == 2 ? block_sums(b, g + 1) : (BlockSums){0}};
	size_t x_group = steps * BLOCK_TILE;
	const char *x = block_place(b->x, b->x_first, from, steps);
	size_t i = 0;

	for (; i + 2 <= b->x_groups; i += 2)
	{
		if (from == 0)
			block_multiply(c, i * 16, x + i * x_group, x_group, w, steps * BLOCK_TILE, steps, 2,
						   cols, true);
		else
			block_multiply(c, i * 16, x + i * x_group, x_group, w, steps * BLOCK_TILE, steps, 2,
						   cols, false);
		block_fetch(b, fetch);
	}
	if (i < b->x_groups)
	{
		if (from == 0)
			block_multiply(c, i * 16, x + i * x_group, x_group, w, steps * BLOCK_TILE, steps, 1,
						   cols, true);
		else
			block_multiply(c, i * 16, x + i * x_group, x_group, w, steps * BLOCK_TILE, steps, 1,
						   cols, false);
		block_fetch(b, fetch);
	}
}

static size_t
block_min(size_t a, size_t b)
{
	return a < b ? a : b;
}

/* Groups g .. g + count - 1 of W, columns in their order. */
TILE_TARGET static void
block_columns(Block *b, size_t g, size_t count)
{
	for (size_t from = 0; from < b->steps; from += DSOCR_BLOCK_STEPS)
	{
		size_t steps = block_min(b->steps - from, DSOCR_BLOCK_STEPS);
		size_t next = from + steps;
		size_t calls = (count + 1) / 2 * ((b->x_groups + 1) / 2);
		size_t fetch;

		for (size_t i = 0; i < count; i++)
			block_group(b, b->room + i * steps * BLOCK_TILE, g + i, from, next);
		if (next < b->steps)
			block_ahead(b, g, count, next, block_min(b->steps - next, DSOCR_BLOCK_STEPS));
		else
			block_ahead(b, g + count, DSOCR_BLOCK_GROUPS, 0,
						block_min(b->steps, DSOCR_BLOCK_STEPS));
		fetch = (b->ahead_pieces * b->ahead_lines + calls - 1) / calls;
		for (size_t i = 0; i < count; i += 2)
			if (i + 2 <= count)
				block_rows(b, g + i, b->room + i * steps * BLOCK_TILE, from, steps, 2, fetch);
			else
				block_rows(b, g + i, b->room + i * steps * BLOCK_TILE, from, steps, 1, fetch);
	}
}

/* Columns from .. to - 1 of a cut group's sums, to where they belong. */
static void
block_copy(const Block *b, const float *sums, size_t from, size_t to, size_t at)
{
	for (size_t r = 0; r < b->x_groups * 16; r++)
		memcpy(b->y + r * b->stride + at, sums + r * 16 + from, (to - from) * sizeof(float));
}

TILE_TARGET static void
block_product(float *y, size_t stride, const DsocrBlockRows *x, size_t first, size_t m,
			  const DsocrBlockWeights *w, void *room)
{
	Block b = {.w = w,
			   .x = x,
			   .x_first = first / 16,
			   .x_groups = (m + 15) / 16,
			   .steps = dsocr_tile_k(w->k) / 32,
			   .skip = w->quant != NULL ? w->first % DSOCR_QUANT_ROWS : 0,
			   .y = y,
			   .stride = stride,
			   .room = room};
	size_t end = b.skip + w->n;

	b.groups = (end + 15) / 16;
	b.head = (float *) ((char *) room + DSOCR_BLOCK_GROUPS * DSOCR_BLOCK_STEPS * BLOCK_TILE);
	b.tail = b.head + b.x_groups * 16 * 16;
	tile_configure(16);
	for (size_t g = 0; g < b.groups; g += DSOCR_BLOCK_GROUPS)
		block_columns(&b, g, block_min(b.groups - g, DSOCR_BLOCK_GROUPS));
	_tile_release();
	if (b.skip > 0)
		block_copy(&b, b.head, b.skip, block_min(end, 16), 0);
	if (end % 16 != 0 && (b.groups > 1 || b.skip == 0))
		block_copy(&b, b.tail, 0, end % 16, end / 16 * 16 - b.skip);
}

const DsocrBlockOps DSOCR_ISA_NAME(dsocr_block_) = {.pack = block_pack, .product = block_product};

#else

const DsocrBlockOps DSOCR_ISA_NAME(dsocr_block_) = {0};

#endif
