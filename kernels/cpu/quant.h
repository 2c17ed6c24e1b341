/*-------------------------------------------------------------------------
 *
 * quant.h
 *		What the products with quantized matrices have in common.
 *
 * A packed row of X is its integers (words, or two planes of bytes: 128 * high
 * + low), then a scale and -128 times the sum of the integers for each group.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CPU_QUANT_H
#define DSOCR_CPU_QUANT_H

#include "isa.h"
#include "vec.h"

#define QUANT_TOP 16256.0f /* 127 * 128, the largest integer */
#define QUANT_AHEAD 2048   /* bytes that are prefetched */
#define QUANT_MOST 256	   /* rows of X in one product */
#define QUANT_BLOCK 32	   /* rows of X whose results lie on the stack at a panel's edge */

typedef void (*QuantPanel)(float *const *ys, const char *x, int m, const char *panel,
						   const DsocrQuantShape *s);

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
