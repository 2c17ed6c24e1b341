/*-------------------------------------------------------------------------
 *
 * isa.h
 *		Inner loops that exist once for each instruction set.
 *
 * The files *_isa.c are compiled with the flags of each set; dispatch.c
 * picks one table at run time.  No function here knows threads or memory
 * management.  Arrays need no alignment.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CPU_ISA_H
#define DSOCR_CPU_ISA_H

#include "backend.h"

/* Elementwise and row operations. */
typedef struct DsocrVecOps
{
	void (*to_bf16)(uint16_t *dst, const float *src, size_t n);
	void (*to_f32)(float *dst, const void *bf16, size_t n);
	void (*add)(float *x, const float *table, size_t n);
	/* y = act(x + bias) + residual over n elements; bias and residual may be NULL */
	void (*finish)(float *y, const float *x, const float *bias, const float *residual, size_t n,
				   DsocrActivation act);
	void (*silu_mul)(float *y, const float *gate, const float *up, size_t n);
	void (*layer_norm)(float *y, const float *x, size_t dim, const float *weight, const float *bias,
					   float eps);
	void (*rms_norm)(float *y, const float *x, size_t dim, const float *weight, float eps);
	/* x to softmax(x) */
	void (*softmax)(float *x, size_t n);
	float (*max)(const float *x, size_t n);
	/* sum of exp(x - top), in double */
	double (*sum_exp)(const float *x, size_t n, float top);
	/* y += weight * x */
	void (*axpy)(float *y, float weight, const float *x, size_t n);
} DsocrVecOps;

/*
 * Y[i][0 .. n - 1] = X[i] @ W[n, k]^T for m rows given by pointer.  The order
 * of operations of one element depends on k alone.
 */
typedef struct DsocrMatvecOps
{
	void (*bf16)(float *const *ys, const float *const *xs, int m, const void *w, size_t n,
				 size_t k);
	void (*f32)(float *const *ys, const float *const *xs, int m, const void *w, size_t n, size_t k);
} DsocrMatvecOps;

/*
 * Products in a matrix unit: the rows xs are packed once, rounded to bf16,
 * and multiplied with rows of W as they lie.  An element depends on its two
 * rows alone.
 */
typedef struct DsocrTileOps
{
	/* dst has dsocr_tile_k(k) * m elements */
	void (*pack)(uint16_t *dst, const float *const *xs, int m, size_t k);
	/* ys[i][0 .. n - 1] = X[i] @ W[n, k]^T for the m rows packed */
	void (*product)(float *const *ys, const uint16_t *packed, int m, const void *w, size_t n,
					size_t k);
} DsocrTileOps;

/* k rounded up as the packed rows are */
static inline size_t
dsocr_tile_k(size_t k)
{
	return (k + 31) / 32 * 32;
}

/* Some queries of one head against all its keys. */
typedef struct DsocrAttend
{
	const float *q; /* rows of head_dim elements */
	size_t q_stride;
	int rows;
	int head_dim;
	float scale;	 /* of q.k */
	const float *kt; /* keys transposed [head_dim][stride]: 0 behind n */
	size_t stride;	 /* n rounded up to DSOCR_ATTEND_PAD */
	const float *v;	 /* [n][v_stride]: 0 behind head_dim */
	size_t v_stride; /* head_dim rounded up to DSOCR_ATTEND_PAD */
	int n;
	int causal;			/* row r sees causal + r keys at most; 0: all see all n */
	int side;			/* of the grid when there is a position bias, else 0 */
	const float *rel_h; /* [2 * side - 1][head_dim] */
	const float *rel_w;
	const int *cells; /* [rows] place of each query on the grid */
	float *scores;	  /* scratch, dsocr_attend_scores() floats */
	float *out;
	size_t out_stride;
} DsocrAttend;

#define DSOCR_ATTEND_PAD 32
#define DSOCR_ATTEND_ROWS 32 /* most rows of one call */

static inline size_t
dsocr_attend_pad(size_t n)
{
	return (n + DSOCR_ATTEND_PAD - 1) / DSOCR_ATTEND_PAD * DSOCR_ATTEND_PAD;
}

static inline size_t
dsocr_attend_scores(size_t stride, size_t v_stride, int side)
{
	return DSOCR_ATTEND_ROWS * (stride + v_stride + 2 * (size_t) side);
}

/* Pages of one sequence for one query row: keys and values at [token][head_dim]. */
typedef struct DsocrPaged
{
	const char *layer; /* pages of the layer */
	size_t page_bytes;
	size_t value_offset; /* from a page's keys to its values, this head */
	size_t head_offset;	 /* of this head in a page */
	const int32_t *pages;
	int page_tokens;
	int n; /* keys to see */
	bool fp32;
	int head_dim;
} DsocrPaged;

typedef struct DsocrAttendOps
{
	void (*block)(const DsocrAttend *a);
	/* one query over paged keys; scores has room for n floats */
	void (*paged)(float *out, const float *q, const DsocrPaged *p, float *scores);
	/* dst[c][stride] = src[r][c] for rows x cols elements, columns up to stride zeroed */
	void (*transpose)(float *dst, size_t stride, const float *src, size_t src_stride, size_t rows,
					  size_t cols);
} DsocrAttendOps;

typedef struct DsocrIsa
{
	const char *name;
	const DsocrVecOps *vec;
	const DsocrMatvecOps *matvec;
	const DsocrAttendOps *attend;
	const DsocrTileOps *tile; /* NULL: no matrix unit */
} DsocrIsa;

#define DSOCR_ISA_TABLES(isa)                                                                      \
	extern const DsocrVecOps dsocr_vec_##isa;                                                      \
	extern const DsocrMatvecOps dsocr_matvec_##isa;                                                \
	extern const DsocrAttendOps dsocr_attend_##isa;                                                \
	extern const DsocrTileOps dsocr_tile_##isa;
DSOCR_ISA_TABLES(generic)
DSOCR_ISA_TABLES(avx2)
DSOCR_ISA_TABLES(avx512)

/* Name of a table in a file compiled for DSOCR_ISA. */
#define DSOCR_ISA_PASTE(prefix, isa) prefix##isa
#define DSOCR_ISA_JOIN(prefix, isa) DSOCR_ISA_PASTE(prefix, isa)
#define DSOCR_ISA_NAME(prefix) DSOCR_ISA_JOIN(prefix, DSOCR_ISA)

/*
 * The best set of this machine, or the one named by the environment variable
 * DSOCR_ISA (generic, avx2, avx512, amx) when the machine has it.
 */
extern const DsocrIsa *dsocr_isa_choose(void);

#endif /* DSOCR_CPU_ISA_H */
