/*-------------------------------------------------------------------------
 *
 * quant.h
 *		What the products with quantized matrices have in common.
 *
 * A packed row of X is its integers in words, then a scale and -128 times the
 * sum of the integers for each group.  For products in bytes rows are packed in
 * blocks of up to QUANT_BLOCK_ROWS: for each group the high bytes of all rows,
 * then the low ones (an integer is 128 * high + low), which is a left operand
 * of the matrix unit; behind the groups scales and sums, [groups][rows].
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CPU_QUANT_H
#define DSOCR_CPU_QUANT_H

#include "isa.h"
#include "vec.h"

#include <math.h>

#define QUANT_TOP 16256.0f /* 127 * 128, the largest integer */
#define QUANT_AHEAD 2048   /* bytes that are prefetched */
#define QUANT_MOST 256	   /* rows of X in one product */
#define QUANT_BLOCK 32	   /* rows of X whose results lie on the stack at a panel's edge */

typedef void (*QuantPanel)(float *const *ys, const char *x, int m, const char *panel,
						   const DsocrQuantShape *s);

#define QUANT_BLOCK_ROWS 8

typedef struct QuantBlock
{
	char *bytes;
	float *scales;
	int32_t *zeros;
	int rows;
} QuantBlock;

/* The block that begins at row r of m packed rows. */
VEC_INLINE QuantBlock
quant_block(const char *packed, int r, int m, const DsocrQuantShape *s)
{
	QuantBlock b = {.bytes = (char *) packed + (size_t) r * dsocr_quant_row_bytes(s),
					.rows = m - r < QUANT_BLOCK_ROWS ? m - r : QUANT_BLOCK_ROWS};
	size_t rows = (size_t) b.rows;

	b.scales = (float *) (b.bytes + 2 * rows * s->groups * s->group);
	b.zeros = (int32_t *) (b.scales + rows * s->groups);
	return b;
}

/* Element i of an array whose alignment nobody promises. */
VEC_INLINE float
quant_float(const char *array, size_t i)
{
	float f;

	memcpy(&f, array + i * sizeof(f), sizeof(f));
	return f;
}

VEC_INLINE int32_t
quant_int(const char *array, size_t i)
{
	int32_t n;

	memcpy(&n, array + i * sizeof(n), sizeof(n));
	return n;
}

/* Integers of one group, their sum and their scale; false when they are all 0. */
VEC_INLINE void
quant_group(int32_t *q, const float *x, size_t group, float *scale, int32_t *sum)
{
	const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to integer */
	uint32_t top = 0;
	float largest;
	float inverse;

	for (size_t i = 0; i < group; i++)
	{
		uint32_t u;

		memcpy(&u, x + i, sizeof(u));
		u &= 0x7fffffff;
		top = u > top ? u : top;
	}
	memcpy(&largest, &top, sizeof(largest));
	*sum = 0;
	if (!(largest >= 0x1p-90f && largest <= 0x1p120f))
	{
		/* nothing, or no number */
		*scale = largest < 0x1p-90f ? 0 : NAN;
		memset(q, 0, group * sizeof(*q));
		return;
	}
	*scale = largest / QUANT_TOP * DSOCR_QUANT_SCALE;
	inverse = QUANT_TOP / largest;
	for (size_t i = 0; i < group; i++)
	{
		float v = x[i] * inverse + magic;
		int32_t n;

		memcpy(&n, &v, sizeof(n));
		q[i] = n - 0x4b400000;
		*sum += q[i];
	}
}

/* Group g of x[k]: integers, their scale, and what takes their codes' zero off a sum. */
VEC_INLINE int32_t
quant_group_of(int32_t *q, float *scale, const float *x, size_t g, size_t k,
			   const DsocrQuantShape *s)
{
	float some[DSOCR_QUANT_GROUP_8] = {0};
	size_t at = g * s->group;
	const float *from = x + at;
	int32_t sum;

	if (at + s->group > k)
	{
		memcpy(some, from, (k - at) * sizeof(float));
		from = some;
	}
	quant_group(q, from, s->group, scale, &sum);
	return -DSOCR_QUANT_ZERO * sum;
}

VEC_INLINE void
quant_prefetch(const char *at, size_t bytes)
{
	for (size_t i = 0; i < bytes; i += 64)
		__builtin_prefetch(at + QUANT_AHEAD + i);
}

/* Rows r .. r + count - 1 of one panel, for at most QUANT_BLOCK rows of X. */
static inline void
quant_edge(QuantPanel run, float *const *ys, const char *x, int m, const char *panel, size_t r,
		   size_t count, const DsocrQuantShape *s)
{
	float whole[QUANT_BLOCK * DSOCR_QUANT_ROWS] = {0};
	float *to[QUANT_BLOCK];

	for (int i = 0; i < m; i++)
		to[i] = whole + i * DSOCR_QUANT_ROWS;
	run(to, x, m, panel, s);
	for (int i = 0; i < m; i++)
		memcpy(ys[i], to[i] + r, count * sizeof(float));
}

/* ys[i][0 .. n - 1] = X[i] @ W[first .. first + n - 1]^T, a panel at a time */
VEC_INLINE void
quant_panels(QuantPanel run, float *const *ys, const char *packed, int m, const void *w,
			 size_t first, size_t n, const DsocrQuantShape *s)
{
	for (size_t at = 0; at < n;)
	{
		size_t r = (first + at) % DSOCR_QUANT_ROWS;
		size_t count = n - at < DSOCR_QUANT_ROWS - r ? n - at : DSOCR_QUANT_ROWS - r;
		const char *panel = (const char *) w + (first + at) / DSOCR_QUANT_ROWS * s->panel_bytes;

		for (int i = 0; i < m; i += QUANT_BLOCK)
		{
			const char *x = packed + (size_t) i * dsocr_quant_row_bytes(s);
			int some = m - i < QUANT_BLOCK ? m - i : QUANT_BLOCK;
			float *to[QUANT_BLOCK];

			for (int j = 0; j < some; j++)
				to[j] = ys[i + j] + at;
			if (count == DSOCR_QUANT_ROWS)
				run(to, x, some, panel, s);
			else
				quant_edge(run, to, x, some, panel, r, count, s);
		}
		at += count;
	}
}

#endif /* DSOCR_CPU_QUANT_H */
