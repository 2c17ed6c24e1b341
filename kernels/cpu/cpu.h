/*-------------------------------------------------------------------------
 *
 * cpu.h
 *		What the files of the CPU backend share.
 *
 * Activations are fp32 in memory.  Weights stay where they are, bf16 in the
 * mapping, unless their type is another or their layout must change.
 *
 * Every result is a function of the operation's inputs: work is cut into
 * tasks by shape alone, never by the number of threads.
 *
 * Scratch memory grows on demand.  Operations cannot fail, so when it
 * cannot grow the operation leaves zeros and sync() reports it.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CPU_H
#define DSOCR_CPU_H

#include "backend.h"
#include "isa.h"
#include "onednn.h"
#include "pool.h"
#include "sampling.h"

#define DSOCR_CPU_MAX_THREADS 256

/* Shared scratch, one slot for each purpose inside an operation. */
typedef enum DsocrCpuSlot
{
	DSOCR_SLOT_INPUT,  /* rows converted for a product */
	DSOCR_SLOT_HIDDEN, /* expert activations */
	DSOCR_SLOT_PACKED, /* expert activations, converted */
	DSOCR_SLOT_PARTS,  /* expert outputs before their sum */
	DSOCR_SLOT_INDEX,  /* row lists */
	DSOCR_SLOT_KEYS,   /* keys of all heads, transposed */
	DSOCR_SLOT_VALUES, /* values of all heads */
	DSOCR_SLOT_TABLES, /* small tables */
	DSOCR_SLOT_W_TILE, /* of one worker: a widened weight tile */
	DSOCR_SLOT_Y_TILE, /* of one worker: a product's tile */
	DSOCR_SLOT_X_TILE, /* of one worker: gathered rows */
	DSOCR_SLOT_SCORES, /* of one worker: attention scores */
	DSOCR_SLOT_W_KEYS, /* of one worker: gathered keys and values */
	DSOCR_N_SLOTS
} DsocrCpuSlot;

typedef struct DsocrCpuScratch
{
	void *data[DSOCR_N_SLOTS];
	size_t size[DSOCR_N_SLOTS];
} DsocrCpuScratch;

/* A slot's text; its arrays are parts of those of DsocrCpuTexts. */
typedef struct DsocrCpuText
{
	int32_t *ids;
	int n;
	int prompt_len;
	int32_t *pages;
	int ngram_size;
	int ngram_window;
} DsocrCpuText;

typedef struct DsocrCpuTexts
{
	DsocrTextShape shape; /* whitelist is a copy */
	DsocrCpuText *list;	  /* [slots] */
	int32_t *ids;		  /* [slots, ids] */
	int32_t *pages;		  /* [slots, pages] */
	int32_t *whitelist;
	int n_bans;
	DsocrBanList *bans; /* [n_bans] one a worker, with room for all ids of a slot */
	int32_t *picked;	/* results of the last pick */
	float *logprobs;
} DsocrCpuTexts;

typedef struct DsocrCpu
{
	DsocrBackend be; /* must be first */
	const DsocrIsa *isa;
	DsocrPool *pool;
	DsocrOnednn *onednn;
	bool onednn_bf16;		  /* the library has bf16 products here */
	DsocrCpuScratch *scratch; /* [1 + threads]: shared, then one a worker */
	int broken;				  /* set (atomically) when scratch could not grow */
	float *rope;			  /* [rope_positions, head_dim]: cosines, then sines */
	int rope_positions;
	int rope_dim;
	float rope_theta;
	DsocrCpuTexts texts;
} DsocrCpu;

/* Part of a matrix that lies in one piece. */
typedef struct DsocrCpuPart
{
	const void *data; /* [rows, cols], not aligned */
	size_t first;	  /* row of the matrix */
	size_t rows;
} DsocrCpuPart;

struct DsocrMatrix
{
	size_t rows;		   /* N */
	size_t cols;		   /* K */
	bool fp32;			   /* elements are fp32, else bf16 */
	bool quant;			   /* or else panels of quantized rows, each part in panels of its own */
	DsocrDtype dtype;	   /* of those */
	DsocrQuantShape shape; /* of the first part; groups and panels are the same in all */
	int n_parts;
	DsocrCpuPart *parts;
	void *owned; /* converted elements, or NULL */
};

struct DsocrVector
{
	size_t n;
	float v[];
};

struct DsocrExperts
{
	int n;
	const DsocrMatrix **gate_up; /* [n] */
	const DsocrMatrix **down;
};

/* Large memory lies in huge pages, where the system has them; freed by dsocr_free. */
extern void *dsocr_cpu_memory(size_t count, size_t size, DsocrError *err);

/*
 * bytes of scratch, 64-byte aligned, contents undefined; the former contents
 * of the slot are lost.  worker is -1 for the shared slots.  NULL marks the
 * backend broken.
 */
extern void *dsocr_cpu_scratch(DsocrCpu *cpu, int worker, DsocrCpuSlot slot, size_t count,
							   size_t size);

/* Run fn over n elements in pieces of a fixed size. */
typedef void (*DsocrCpuRange)(DsocrCpu *cpu, void *arg, size_t from, size_t to);
extern void dsocr_cpu_ranges(DsocrCpu *cpu, size_t n, size_t piece, DsocrCpuRange fn, void *arg);

/* weights.c */
extern DsocrMatrix *dsocr_cpu_matrix(DsocrBackend *be, const DsocrTensor *const *parts, int n_parts,
									 bool channel_last, DsocrError *err);
extern void dsocr_cpu_matrix_free(DsocrBackend *be, DsocrMatrix *m);
extern DsocrVector *dsocr_cpu_vector(DsocrBackend *be, const float *values, size_t n,
									 DsocrError *err);
extern void dsocr_cpu_vector_free(DsocrBackend *be, DsocrVector *v);
extern void dsocr_cpu_embed(DsocrBackend *be, void *out, const DsocrMatrix *table,
							const int32_t *ids, int n);
extern void dsocr_cpu_embed_last(DsocrBackend *be, void *out, const DsocrMatrix *table,
								 const DsocrRows *rows);
extern DsocrExperts *dsocr_cpu_experts_open(DsocrBackend *be, const DsocrMatrix *const *gate_up,
											const DsocrMatrix *const *down, int n, DsocrError *err);
extern void dsocr_cpu_experts_close(DsocrBackend *be, DsocrExperts *experts);

/* The part that has row n. */
extern const DsocrCpuPart *dsocr_cpu_matrix_part(const DsocrMatrix *m, size_t n);

/* The elements of row n of a matrix that is not quantized, and how many rows follow it in the same piece (with it). */
extern const void *dsocr_cpu_matrix_row(const DsocrMatrix *m, size_t n, size_t *left);

/* matmul.c */
extern void dsocr_cpu_linear(DsocrBackend *be, void *y, const void *x, int rows,
							 const DsocrMatrix *w, const DsocrVector *bias, DsocrActivation act,
							 const void *residual, int unit);
extern void dsocr_cpu_swiglu(DsocrBackend *be, void *y, void *wide, const void *x, int rows,
							 const DsocrMatrix *w, int unit);
extern void dsocr_cpu_logits(DsocrBackend *be, float *logits, const void *x, int rows,
							 const DsocrMatrix *w);

/*
 * Rows converted for products with w and matrices like it: in groups of
 * integers; bf16 or fp32, in the layout of the matrix unit; or padded with
 * zero rows to a size that oneDNN has code for.  At most DSOCR_TILE_ROWS rows.
 */
#define DSOCR_TILE_ROWS 256
#define DSOCR_TILE_COLS 512
extern size_t dsocr_cpu_rows_bytes(const DsocrCpu *cpu, int m, const DsocrMatrix *w);
extern void dsocr_cpu_rows_convert(const DsocrCpu *cpu, void *dst, const float *const *xs, int m,
								   const DsocrMatrix *w);

/*
 * Y[m, n_to - n_from] = X[m, K] @ W[n_from .. n_to - 1, K]^T for converted
 * rows, by the calling worker alone.  y has room for dsocr_cpu_rows_room(m)
 * rows of y_stride elements.
 */
extern int dsocr_cpu_rows_room(int m);
extern bool dsocr_cpu_tile(DsocrCpu *cpu, int worker, float *y, size_t y_stride, const void *x,
						   int m, const DsocrMatrix *w, size_t n_from, size_t n_to);

/* Does the matrix unit do the products of this backend? */
extern bool dsocr_cpu_has_unit(const DsocrCpu *cpu);

/*
 * Do products with w take converted rows, each as if alone?  Those of the
 * unit and of quantized matrices do.
 */
extern bool dsocr_cpu_packs(const DsocrCpu *cpu, const DsocrMatrix *w);

/* The same products for rows of different sequences, where w packs, m <= DSOCR_TILE_ROWS. */
extern void dsocr_cpu_unit_product(const DsocrCpu *cpu, float *const *ys, const void *x, int m,
								   const DsocrMatrix *w, size_t n_from, size_t n_to);

/* ys[i][0 .. n_to - n_from - 1] of the rows xs[i], each as if alone. */
extern void dsocr_cpu_rows_product(DsocrCpu *cpu, float *const *ys, const float *const *xs, int m,
								   const DsocrMatrix *w, size_t n_from, size_t n_to);

/*
 * blocks.c: rows of one unit in the matrix unit, many of them or against
 * quantized weights.  Converted rows are dsocr_cpu_block_bytes; y has room for
 * dsocr_block_rows(m) rows.
 */
typedef struct DsocrLinear
{
	float *y;		/* [rows, w->rows] */
	const float *x; /* [rows, w->cols] */
	size_t rows;
	const DsocrMatrix *w;
	const float *bias;	   /* or NULL */
	const float *residual; /* [rows, w->rows] or NULL */
	DsocrActivation act;
} DsocrLinear;

extern bool dsocr_cpu_blocks(const DsocrCpu *cpu, const DsocrMatrix *w, size_t m);
extern size_t dsocr_cpu_block_bytes(size_t m, const DsocrMatrix *w);
extern bool dsocr_cpu_block_product(DsocrCpu *cpu, int worker, float *y, size_t y_stride,
									const DsocrBlockRows *x, size_t first, size_t m,
									const DsocrMatrix *w, size_t n_from, size_t n_to);
extern void dsocr_cpu_block_linear(DsocrCpu *cpu, const DsocrLinear *l);

/* norm.c */
extern void dsocr_cpu_layer_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
								 const DsocrVector *weight, const DsocrVector *bias, float eps);
extern void dsocr_cpu_rms_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
							   const DsocrVector *weight, float eps);

/* activation.c */
extern void dsocr_cpu_copy_rows(DsocrBackend *be, void *dst, size_t dst_stride, const void *src,
								size_t src_stride, size_t n, size_t rows);
extern void dsocr_cpu_add(DsocrBackend *be, void *x, const void *table, size_t n, int repeats);
extern void dsocr_cpu_concat(DsocrBackend *be, void *out, const void *a, int dim_a, int skip,
							 const void *b, int dim_b, int views, int rows);
extern void dsocr_cpu_silu_mul(DsocrBackend *be, void *y, const void *x, int rows, int n);

/* image.c */
extern void dsocr_cpu_patches(DsocrBackend *be, void *out, const uint8_t *const *rgb, int views,
							  int size, int patch);
extern void dsocr_cpu_im2col3(DsocrBackend *be, void *out, const void *x, int views, int h, int w,
							  int channels, int stride);

/* attention.c */
extern const DsocrAttendOps *dsocr_cpu_attend(const DsocrCpu *cpu);
extern void dsocr_cpu_grid_attention(DsocrBackend *be, void *out, const void *qkv, int views,
									 int side, int heads, int head_dim, int window,
									 const DsocrVector *rel_h, const DsocrVector *rel_w,
									 const DsocrVector *qkv_bias);
extern void dsocr_cpu_attention(DsocrBackend *be, void *out, const void *qkv, int views, int n,
								int heads, int head_dim);

/* kv_attention.c */
extern DsocrKv *dsocr_cpu_kv_open(DsocrBackend *be, const DsocrKvShape *shape, DsocrError *err);
extern void dsocr_cpu_kv_close(DsocrBackend *be, DsocrKv *kv);
extern size_t dsocr_cpu_kv_bytes(const DsocrBackend *be, const DsocrKvShape *shape);
extern void dsocr_cpu_rope_store(DsocrBackend *be, void *qkv, const DsocrRows *rows, DsocrKv *kv,
								 int layer, float theta);
extern void dsocr_cpu_causal_attention(DsocrBackend *be, void *out, const void *qkv,
									   const DsocrRows *rows, DsocrKv *kv, int layer);

/* moe.c */
extern void dsocr_cpu_router(DsocrBackend *be, int32_t *ids, float *weights, float *logits,
							 const void *x, const DsocrRows *rows, const DsocrMatrix *gate, int k);
extern void dsocr_cpu_experts(DsocrBackend *be, void *y, const void *x, int rows,
							  const int32_t *ids, const float *weights, int k,
							  const DsocrExperts *experts, const void *residual, int unit);

/* sampling.c */
extern bool dsocr_cpu_texts_open(DsocrBackend *be, const DsocrTextShape *shape, DsocrError *err);
extern void dsocr_cpu_texts_close(DsocrCpu *cpu);
extern void dsocr_cpu_text_start(DsocrBackend *be, int slot, const DsocrText *text);
extern void dsocr_cpu_pick(DsocrBackend *be, const float *logits, const DsocrRows *rows, int vocab);
extern void dsocr_cpu_picked(DsocrBackend *be, int32_t *ids, float *logprobs, int n);

/* The text of row r, NULL for a row without slot, and the row's position in it. */
static inline const DsocrCpuText *
dsocr_cpu_row_text(const DsocrCpu *cpu, const DsocrRows *rows, int r)
{
	int slot = rows->slots[rows->mixed ? r : 0];

	return slot < 0 ? NULL : &cpu->texts.list[slot];
}

static inline int
dsocr_cpu_row_position(const DsocrCpuText *text, const DsocrRows *rows, int r)
{
	return rows->mixed ? text->n - 1 : rows->first + r;
}

#endif /* DSOCR_CPU_H */
