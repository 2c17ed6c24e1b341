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
#include "quantize.h"

/* Elementwise and row operations. */
typedef struct DsocrVecOps
{
	void (*to_bf16)(uint16_t *dst, const float *src, size_t n);
	void (*to_f32)(float *dst, const void *bf16, size_t n);
	void (*add)(float *x, const float *table, size_t n);
	/* y = act(x + bias) + residual over n elements; bias and residual may be NULL */
	void (*finish)(float *y, const float *x, const float *bias, const float *residual, size_t n,
				   DsocrActivation act);
	/* the same for a y that the caches cannot keep */
	void (*finish_far)(float *y, const float *x, const float *bias, const float *residual, size_t n,
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

/*
 * Products with a quantized matrix.  An element depends on its two rows
 * alone.
 */
typedef struct DsocrQuantOps
{
	/* m rows of dsocr_quant_row_bytes each; those of one table are for its product */
	void (*pack)(char *dst, const float *const *xs, int m, size_t k, const DsocrQuantShape *s);
	/* ys[i][0 .. n - 1] = X[i] @ W[first .. first + n - 1]^T for the m rows packed */
	void (*product)(float *const *ys, const char *packed, int m, const void *w, size_t first,
					size_t n, const DsocrQuantShape *s);
} DsocrQuantOps;

/* A row of X: 16 bits for each column, a scale and a sum for each group. */
static inline size_t
dsocr_quant_row_bytes(const DsocrQuantShape *s)
{
	return (s->groups * (s->group * 2 + sizeof(float) + sizeof(int32_t)) + 63) / 64 * 64;
}

/* Rows first .. first + n - 1 of a matrix that lies in one piece. */
typedef struct DsocrBlockWeights
{
	const void *data; /* rows of bf16, or panels */
	size_t first;
	size_t n;
	size_t k;
	const DsocrQuantShape *quant; /* NULL: bf16 */
} DsocrBlockWeights;

/*
 * Products of many rows in a matrix unit, both operands in bf16: integers are
 * widened.  An element depends on its two rows alone.
 *
 * Packed rows are [k / (32 * DSOCR_BLOCK_STEPS)][rows / 16][32 columns each][16][32],
 * 64-byte aligned.
 */
typedef struct DsocrBlockRows
{
	uint16_t *data; /* dsocr_block_rows(rows) * dsocr_tile_k(k) elements */
	size_t rows;	/* in all */
	size_t k;
} DsocrBlockRows;

typedef struct DsocrBlockOps
{
	/* Rows first .. first + m - 1; first is a multiple of 16.  far: caches cannot keep all of dst. */
	void (*pack)(const DsocrBlockRows *dst, size_t first, const float *const *xs, size_t m,
				 bool far);
	/*
	 * y[i][0 .. w->n - 1] = X[first + i] @ W^T for m packed rows, stride
	 * floats apart; what is behind the last row, up to dsocr_block_rows(m),
	 * is overwritten.  room has dsocr_block_room(m) bytes.
	 */
	void (*product)(float *y, size_t stride, const DsocrBlockRows *x, size_t first, size_t m,
					const DsocrBlockWeights *w, void *room);
} DsocrBlockOps;

#define DSOCR_BLOCK_GROUPS 16 /* of 16 rows of W, and steps of 32 columns, that are used together */
#define DSOCR_BLOCK_STEPS 8

static inline size_t
dsocr_block_rows(size_t m)
{
	return (m + 15) / 16 * 16;
}

static inline size_t
dsocr_block_room(size_t m)
{
	return DSOCR_BLOCK_GROUPS * DSOCR_BLOCK_STEPS * 1024 +
		   2 * dsocr_block_rows(m) * 16 * sizeof(float);
}

/* Some queries of one head against all its keys. */
typedef struct DsocrAttend
{
	const float *const *q; /* [rows] head_dim elements each */
	float *const *out;	   /* [rows] head_dim elements each */
	int rows;			   /* at most DSOCR_ATTEND_ROWS */
	int head_dim;
	float scale;		/* of q.k */
	const void *keys;	/* as pack_keys leaves them */
	const void *values; /* as pack_values leaves them */
	int n;				/* keys */
	int causal;			/* row r sees its first causal + r keys; 0: all see all n */
	int side;			/* of the grid when there is a position bias, else 0 */
	const void *rel_h;	/* pack_keys of the 2 * side - 1 rows of the table, last row first */
	const void *rel_w;
	const int *cells; /* [rows] place of each query on the grid */
	float *scratch;	  /* scratch(n, head_dim, side) floats */
} DsocrAttend;

#define DSOCR_ATTEND_ROWS 32

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
	/* Bytes of packed keys and values, floats of scratch. */
	size_t (*keys_bytes)(size_t n, size_t head_dim);
	size_t (*values_bytes)(size_t n, size_t head_dim);
	size_t (*scratch)(size_t n, size_t head_dim, size_t side);
	/* Pack rows of head_dim elements given by pointer. */
	void (*pack_keys)(void *dst, const float *const *rows, size_t n, size_t head_dim);
	void (*pack_values)(void *dst, const float *const *rows, size_t n, size_t head_dim);
	void (*block)(const DsocrAttend *a);
} DsocrAttendOps;

/* out = one query's attention over paged keys; scores has room for n floats. */
typedef void (*DsocrPagedAttend)(float *out, const float *q, const DsocrPaged *p, float *scores);

typedef struct DsocrIsa
{
	const char *name;
	const DsocrVecOps *vec;
	const DsocrMatvecOps *matvec;
	const DsocrQuantOps *quant;
	const DsocrAttendOps *attend;
	DsocrPagedAttend paged;
	const DsocrTileOps *tile;		   /* NULL: no matrix unit */
	const DsocrBlockOps *block;		   /* with it */
	const DsocrAttendOps *tile_attend; /* in bf16, for the matrix unit */
} DsocrIsa;

#define DSOCR_ISA_TABLES(isa)                                                                      \
	extern const DsocrVecOps dsocr_vec_##isa;                                                      \
	extern const DsocrMatvecOps dsocr_matvec_##isa;                                                \
	extern const DsocrQuantOps dsocr_quant_##isa;                                                  \
	extern const DsocrAttendOps dsocr_attend_##isa;                                                \
	extern void dsocr_paged_##isa(float *out, const float *q, const DsocrPaged *p, float *scores); \
	extern const DsocrTileOps dsocr_tile_##isa;                                                    \
	extern const DsocrBlockOps dsocr_block_##isa;                                                  \
	extern const DsocrAttendOps dsocr_tile_attend_##isa;
DSOCR_ISA_TABLES(generic)
DSOCR_ISA_TABLES(avx2)
DSOCR_ISA_TABLES(avx512)
extern const DsocrQuantOps dsocr_quant_vnni;
extern const DsocrQuantOps dsocr_quant_amx;

/* Name of a table in a file compiled for DSOCR_ISA. */
#define DSOCR_ISA_PASTE(prefix, isa) prefix##isa
#define DSOCR_ISA_JOIN(prefix, isa) DSOCR_ISA_PASTE(prefix, isa)
#define DSOCR_ISA_NAME(prefix) DSOCR_ISA_JOIN(prefix, DSOCR_ISA)

/*
 * The best set of this machine, or the one named by the environment variable
 * DSOCR_ISA (generic, avx2, avx512, vnni, amx) when the machine has it.
 */
extern const DsocrIsa *dsocr_isa_choose(void);

#endif /* DSOCR_CPU_ISA_H */
