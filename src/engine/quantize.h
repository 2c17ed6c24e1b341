/*-------------------------------------------------------------------------
 *
 * quantize.h
 *		Matrices in 8 or 4 bits: their layout, and how they are made.
 *
 * W[n, k] is cut into panels of 16 rows, a panel into groups of columns (64
 * of them in 8 bits, 32 in 4), and each row of a group has one scale:
 *
 *		w = scale * 2^-10 * (code - 128)         8 bits, code 1 .. 255
 *		w = scale * 2^-10 * codebook[code]       4 bits
 *
 * A panel is its scales, half precision [groups][16], zeros up to a multiple
 * of 64 bytes, then its groups.  A group is bytes [k / 4][16 rows][4 columns]:
 * 64 bytes that a processor multiplies with 4 activations.  In 4 bits the low
 * halves of its bytes are the first 16 columns and the high halves the last
 * 16.  Rows behind the last have scale 0; columns behind the last have any code.
 *
 * A panel is read from its first byte to its last.  docs/quantisation.md says
 * how files hold this and what it costs in exactness.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_QUANTIZE_H
#define DSOCR_QUANTIZE_H

#include "weights.h"

#define DSOCR_QUANT_KEY "dsocr.quantized" /* metadata of a file, its value: */
#define DSOCR_QUANT_VERSION "1"			  /* of this layout */
#define DSOCR_QUANT_ROWS 16
#define DSOCR_QUANT_SCALE 0x1p-10f
#define DSOCR_QUANT_ZERO 128 /* what is taken off a byte before it is multiplied */
#define DSOCR_QUANT_GROUP_8 64
#define DSOCR_QUANT_GROUP_4 32

typedef struct DsocrQuantShape
{
	size_t group; /* columns */
	size_t groups;
	size_t group_bytes; /* of 16 rows */
	size_t panels;
	size_t codes; /* from the panel's start to its groups */
	size_t panel_bytes;
	size_t bytes; /* of the matrix */
} DsocrQuantShape;

/*
 * codebook[code] + DSOCR_QUANT_ZERO: sixteen levels that lie where the values
 * of a group of a normal distribution do when its largest is at the end.
 */
#define DSOCR_QUANT_LEVELS                                                                         \
	{                                                                                              \
		1, 28, 49, 65, 79, 93, 106, 119, 131, 144, 157, 170, 184, 201, 221, 251                    \
	}

static inline bool
dsocr_is_quantized(DsocrDtype dtype)
{
	return dtype == DSOCR_INT8 || dtype == DSOCR_INT4;
}

/* false when the size does not fit */
static inline bool
dsocr_quant_shape(DsocrDtype dtype, size_t rows, size_t cols, DsocrQuantShape *s)
{
	size_t scales;
	size_t codes;

	s->group = dtype == DSOCR_INT8 ? DSOCR_QUANT_GROUP_8 : DSOCR_QUANT_GROUP_4;
	s->group_bytes = DSOCR_QUANT_ROWS * (dtype == DSOCR_INT8 ? s->group : s->group / 2);
	if (!dsocr_add(cols, s->group - 1, &s->groups) ||
		!dsocr_add(rows, DSOCR_QUANT_ROWS - 1, &s->panels))
		return false;
	s->groups /= s->group;
	s->panels /= DSOCR_QUANT_ROWS;
	if (!dsocr_mul(s->groups, DSOCR_QUANT_ROWS * sizeof(uint16_t), &scales) ||
		!dsocr_add(scales, 63, &s->codes) || !dsocr_mul(s->groups, s->group_bytes, &codes))
		return false;
	s->codes = s->codes / 64 * 64;
	return dsocr_add(s->codes, codes, &s->panel_bytes) &&
		   dsocr_mul(s->panels, s->panel_bytes, &s->bytes);
}

/* Byte of a group in which the code of row r < 16 and column k of the group lies. */
static inline size_t
dsocr_quant_place(const DsocrQuantShape *s, size_t r, size_t k)
{
	size_t quad = k / 4;

	if (s->group == DSOCR_QUANT_GROUP_4)
		quad %= DSOCR_QUANT_GROUP_4 / 8;
	return quad * 4 * DSOCR_QUANT_ROWS + r * 4 + k % 4;
}

/* "int8", "int4", else "bf16" */
extern const char *dsocr_quant_name(DsocrDtype dtype);

/* Is this a matrix that is quantized: a projection of the decoder, or lm_head? */
extern bool dsocr_quantize_wants(const DsocrTensor *t);

/*
 * The panels from .. to - 1 of a matrix; out has room for them.  The result
 * depends on the values alone.  Errors: DSOCR_E_MODEL for values that are not
 * finite or too large.
 */
extern bool dsocr_quantize_panels(const DsocrTensor *t, DsocrDtype dtype, size_t from, size_t to,
								  void *out, DsocrError *err);

/* All of it, by that many threads. */
extern bool dsocr_quantize_tensor(const DsocrTensor *t, DsocrDtype dtype, void *out, int threads,
								  DsocrError *err);

/*
 * Quantize what dsocr_quantize_wants of an open model, in memory.  Free the result behind the weights' last use.  NULL on failure.
 */
typedef struct DsocrQuantized DsocrQuantized;
extern DsocrQuantized *dsocr_quantize_weights(DsocrWeights *w, DsocrDtype dtype, int threads,
											  DsocrError *err);
extern void dsocr_quantized_free(DsocrQuantized *q);

/* The type of the quantized matrices of a model; DSOCR_BF16 when it has none. */
extern DsocrDtype dsocr_quantized_dtype(const DsocrWeights *w);

#endif /* DSOCR_QUANTIZE_H */
