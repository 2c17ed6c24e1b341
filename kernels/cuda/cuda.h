/*-------------------------------------------------------------------------
 *
 * cuda.h
 *		Inside the CUDA backend: its state and what its files give each other.
 *
 * One stream, one host thread.  Activations are bf16 in precision BF16 and
 * float in FP32, and so are the weights; every kernel that touches them is a
 * template over the element or has a form for each.  For bf16 with rows of a
 * multiple of 8 elements there are fast kernels; everything else goes through
 * plain ones, which take any shape.
 *
 * Errors: operations cannot fail, so launchers hand every return code to
 * dsocr_cuda_check, which keeps the first; sync reports it.
 *
 * Recording: between run_begin and run_end of a whole step the stream may be
 * in capture.  Then nothing may be allocated, nothing may synchronise, and
 * kernel arguments must not depend on anything but the bucket.  Scratch
 * memory therefore only grows outside of recordings, and its growth drops all
 * recordings.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CUDA_H
#define DSOCR_CUDA_H

#include "device.cuh"

extern "C"
{
#include "backend.h"
}

/* Scratch memory of operations: the content lives until the operation ends. */
typedef enum DsocrCudaSlot
{
	DSOCR_SCRATCH_BLAS,		 /* cuBLASLt workspace */
	DSOCR_SCRATCH_ATTENTION, /* relative position terms, parts of split contexts */
	DSOCR_SCRATCH_ROUTES,	 /* rows sorted by expert */
	DSOCR_SCRATCH_EXPERTS,	 /* hidden rows of the experts */
	DSOCR_SCRATCH_OUTPUTS,	 /* output rows of the experts, before they are summed */
	DSOCR_SCRATCH_PICK,		 /* banned ids, parts of the maximum */
	DSOCR_SCRATCH_PIXELS,	 /* uint8 views */
	DSOCR_SCRATCH_IDS,		 /* ids of embed */
	DSOCR_SCRATCH_SLOTS
} DsocrCudaSlot;

typedef struct DsocrCudaMemory DsocrCudaMemory; /* one region and its free list */
typedef struct DsocrCudaBlas DsocrCudaBlas;		/* cuBLASLt handle and pinned algorithms */
typedef struct DsocrCudaGraphs DsocrCudaGraphs; /* recordings by bucket */

struct DsocrMatrix
{
	void *data; /* device [n, ld], element as activations; columns k .. ld - 1 are zeros */
	int n;
	int k;
	int ld; /* k rounded up to a multiple of 8 */
};

struct DsocrVector
{
	float *data;	/* device [n] */
	uint16_t *bf16; /* the same, rounded; NULL where rounding changes a value */
	int n;
};

struct DsocrExperts
{
	int n;
	int inter;
	int hidden;
	const void **gate_up; /* device [n]: addresses of [2 * inter, ld_hidden] */
	const void **down;	  /* device [n]: addresses of [hidden, ld_inter] */
	int ld_hidden;
	int ld_inter;
};

/* Element types and order as stored: [layer][page][k, v][head][page_tokens][head_dim]. */
struct DsocrKv
{
	DsocrKvShape shape;
	void *data;
	size_t page_elements;  /* of one page of one layer: 2 * heads * page_tokens * head_dim */
	size_t layer_elements; /* pages * page_elements */
	float theta;		   /* of frequencies; 0: not computed yet */
	float *frequencies;	   /* host [head_dim / 2], radians a position */
	int32_t *counters;	   /* device, zeros between operations; see kv_attention.cu */
};

/* Texts on the device; all arrays are [slots] or [slots, x]. */
typedef struct DsocrCudaTexts
{
	int slots;
	int max_ids;
	int max_pages;
	int n_whitelist;
	int32_t *ids; /* [slots, max_ids] */
	int32_t *len; /* ids in use */
	int32_t *prompt_len;
	int32_t *pages; /* [slots, max_pages] */
	int32_t *ngram_size;
	int32_t *ngram_window;
	int32_t *whitelist; /* [n_whitelist] */
	int32_t *counters;	/* [DSOCR_CUDA_MAX_ROWS] for pick, zeros between operations */
	int32_t *host_ids;	/* pinned [DSOCR_CUDA_MAX_ROWS]: what pick chose */
	float *host_logprobs;
} DsocrCudaTexts;

/* The rows of the run under way, an argument of kernels by value. */
typedef struct DsocrCudaRows
{
	int n;
	int first; /* position of row 0 when not mixed */
	int mixed;
	const int32_t *slots; /* device [n] or [1] */
	const int32_t *len;	  /* of DsocrCudaTexts */
	const int32_t *pages;
	int max_pages;
} DsocrCudaRows;

typedef struct DsocrCuda
{
	DsocrBackend base;
	int device;
	int capability; /* 90 for 9.0 */
	int sms;
	size_t shared_max; /* bytes of dynamic shared memory a block may ask for */
	bool early;		   /* kernels may start before those in front of them have ended */
	cudaStream_t stream;
	cudaEvent_t arrived;			  /* what sync waits for */
	int64_t patience_us;			  /* a device that is silent for longer hangs */
	cudaError_t trouble;			  /* first failure; the device is broken */
	const char *where;				  /* what failed */
	bool out_of_memory;				  /* an operation found no scratch memory since the last sync */
	bool recording;					  /* the stream is in capture */
	bool spoiled;					  /* what was done in this capture makes it useless */
	unsigned recordings;			  /* captures so far */
	void (*log)(const char *message); /* or NULL */
	DsocrCudaMemory *memory;
	void *scratch[DSOCR_SCRATCH_SLOTS];
	size_t scratch_bytes[DSOCR_SCRATCH_SLOTS];
	DsocrCudaTexts texts;
	int32_t *row_slots;	 /* device [DSOCR_CUDA_MAX_ROWS]: slots of the run under way */
	int32_t *picked_ids; /* device [DSOCR_CUDA_MAX_ROWS] */
	float *picked_logprobs;
	DsocrCudaBlas *blas; /* NULL: own products only */
	DsocrCudaGraphs *graphs;
} DsocrCuda;

#define DSOCR_CUDA_MAX_ROWS 512 /* rows of a decoder run */

/* ---- backend.cu, memory.cu ---- */

/* Remember a failure; true when rc is cudaSuccess. */
extern bool dsocr_cuda_check(DsocrCuda *c, cudaError_t rc, const char *what);

/*
 * Wait for an event.  A device that does not reach it in time counts as broken:
 * nothing is asked of it again, since even freeing its memory could hang.
 */
extern bool dsocr_cuda_wait(DsocrCuda *c, cudaEvent_t event, const char *what);

/*
 * limit: bytes of the region, 0 = what is free less a reserve.  The region is
 * one allocation, or for tools that watch allocations one for each.
 */
extern DsocrCudaMemory *dsocr_cuda_memory_open(DsocrCuda *c, size_t limit, DsocrError *err);
extern void dsocr_cuda_memory_close(DsocrCuda *c, DsocrCudaMemory *m);
extern size_t dsocr_cuda_memory_limit(const DsocrCuda *c);

/* The largest piece that can be had and leaves something for scratch. */
extern size_t dsocr_cuda_memory_left(const DsocrCuda *c);

/* Device memory from the region, aligned to 256 bytes; NULL when there is none. */
extern void *dsocr_cuda_alloc(DsocrCuda *c, size_t bytes, DsocrError *err);
extern void dsocr_cuda_free(DsocrCuda *c, void *p);

/* Scratch of at least so many bytes; NULL (and out_of_memory) when there is none. */
extern void *dsocr_cuda_scratch(DsocrCuda *c, DsocrCudaSlot slot, size_t bytes);

/* Copy through pinned memory in stream order; returns when src may be reused. */
extern void dsocr_cuda_upload(DsocrCuda *c, void *device, const void *src, size_t bytes);

/* Copy back; waits for the stream. */
extern void dsocr_cuda_download(DsocrCuda *c, void *dst, const void *device, size_t bytes);

/* Kernel argument for a run's rows; slots must have been uploaded by run_begin. */
extern DsocrCudaRows dsocr_cuda_rows(const DsocrCuda *c, const DsocrRows *rows);

static inline bool
dsocr_cuda_bf16(const DsocrCuda *c)
{
	return c->base.act_size == 2;
}

/* Slot of row i, or -1. */
static __device__ __forceinline__ int
dsocr_row_slot(const DsocrCudaRows &r, int i)
{
	return r.slots[r.mixed ? i : 0];
}

/* Position of row i of slot `slot` in its sequence. */
static __device__ __forceinline__ int
dsocr_row_position(const DsocrCudaRows &r, int i, int slot)
{
	return r.mixed ? r.len[slot] - 1 : r.first + i;
}

/* ---- the operations, by file; prototypes as in DsocrBackendOps ---- */

/* weights.cu */
extern DsocrMatrix *dsocr_cuda_matrix(DsocrBackend *be, const DsocrTensor *const *parts,
									  int n_parts, bool channel_last, DsocrError *err);
extern void dsocr_cuda_matrix_free(DsocrBackend *be, DsocrMatrix *m);
extern DsocrVector *dsocr_cuda_vector(DsocrBackend *be, const float *values, size_t n,
									  DsocrError *err);
extern void dsocr_cuda_vector_free(DsocrBackend *be, DsocrVector *v);
extern DsocrExperts *dsocr_cuda_experts_open(DsocrBackend *be, const DsocrMatrix *const *gate_up,
											 const DsocrMatrix *const *down, int n,
											 DsocrError *err);
extern void dsocr_cuda_experts_close(DsocrBackend *be, DsocrExperts *experts);

/* copy.cu */
extern void dsocr_cuda_write(DsocrBackend *be, void *act, const float *host, size_t n);
extern void dsocr_cuda_read(DsocrBackend *be, float *host, const void *act, size_t n);
extern void dsocr_cuda_copy_rows(DsocrBackend *be, void *dst, size_t dst_stride, const void *src,
								 size_t src_stride, size_t n, size_t rows);
extern void dsocr_cuda_add(DsocrBackend *be, void *x, const void *table, size_t n, int repeats);
extern void dsocr_cuda_concat(DsocrBackend *be, void *out, const void *a, int dim_a, int skip,
							  const void *b, int dim_b, int views, int rows);
extern void dsocr_cuda_embed(DsocrBackend *be, void *out, const DsocrMatrix *table,
							 const int32_t *ids, int n);
extern void dsocr_cuda_embed_last(DsocrBackend *be, void *out, const DsocrMatrix *table,
								  const DsocrRows *rows);

/* matmul.cu: linear sends units of many rows to blas.cu where it can */
extern void dsocr_cuda_linear(DsocrBackend *be, void *y, const void *x, int rows,
							  const DsocrMatrix *w, const DsocrVector *bias, DsocrActivation act,
							  const void *residual, int unit);
extern void dsocr_cuda_swiglu(DsocrBackend *be, void *y, void *wide, const void *x, int rows,
							  const DsocrMatrix *w, int unit);
extern void dsocr_cuda_logits(DsocrBackend *be, float *logits, const void *x, int rows,
							  const DsocrMatrix *w);

/* blas.cu: false when cuBLASLt cannot take this product; then nothing was done */
extern DsocrCudaBlas *dsocr_cuda_blas_open(DsocrCuda *c, DsocrError *err);
extern void dsocr_cuda_blas_close(DsocrCudaBlas *blas);
extern bool dsocr_cuda_blas_linear(DsocrCuda *c, void *y, const void *x, int rows,
								   const DsocrMatrix *w, const DsocrVector *bias,
								   const void *residual, int unit);

/* norm.cu */
extern void dsocr_cuda_layer_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
								  const DsocrVector *weight, const DsocrVector *bias, float eps);
extern void dsocr_cuda_rms_norm(DsocrBackend *be, void *y, const void *x, int rows, int dim,
								const DsocrVector *weight, float eps);

/* activation.cu */
extern void dsocr_cuda_silu_mul(DsocrBackend *be, void *y, const void *x, int rows, int n);

/* Y = act(Y), in place, behind a product of cuBLASLt. */
extern void dsocr_cuda_activate(DsocrCuda *c, void *y, size_t n, DsocrActivation act);

/* image.cu */
extern void dsocr_cuda_patches(DsocrBackend *be, void *out, const uint8_t *const *rgb, int views,
							   int size, int patch);
extern void dsocr_cuda_im2col3(DsocrBackend *be, void *out, const void *x, int views, int h, int w,
							   int channels, int stride);

/* attention.cu */
extern void dsocr_cuda_grid_attention(DsocrBackend *be, void *out, const void *qkv, int views,
									  int side, int heads, int head_dim, int window,
									  const DsocrVector *rel_h, const DsocrVector *rel_w,
									  const DsocrVector *qkv_bias);
extern void dsocr_cuda_attention(DsocrBackend *be, void *out, const void *qkv, int views, int n,
								 int heads, int head_dim);

/* kv_attention.cu */
extern DsocrKv *dsocr_cuda_kv_open(DsocrBackend *be, const DsocrKvShape *shape, DsocrError *err);
extern void dsocr_cuda_kv_close(DsocrBackend *be, DsocrKv *kv);
extern size_t dsocr_cuda_kv_bytes(const DsocrBackend *be, const DsocrKvShape *shape);
extern void dsocr_cuda_rope_store(DsocrBackend *be, void *qkv, const DsocrRows *rows, DsocrKv *kv,
								  int layer, float theta);
extern void dsocr_cuda_causal_attention(DsocrBackend *be, void *out, const void *qkv,
										const DsocrRows *rows, DsocrKv *kv, int layer);

/* moe.cu */
extern void dsocr_cuda_router(DsocrBackend *be, int32_t *ids, float *weights, float *logits,
							  const void *x, const DsocrRows *rows, const DsocrMatrix *gate, int k);
extern void dsocr_cuda_experts(DsocrBackend *be, void *y, const void *x, int rows,
							   const int32_t *ids, const float *weights, int k,
							   const DsocrExperts *experts, const void *residual, int unit);

/* sampling.cu */
extern bool dsocr_cuda_texts_open(DsocrBackend *be, const DsocrTextShape *shape, DsocrError *err);
extern void dsocr_cuda_text_start(DsocrBackend *be, int slot, const DsocrText *text);
extern void dsocr_cuda_texts_close(DsocrCuda *c);
extern void dsocr_cuda_pick(DsocrBackend *be, const float *logits, const DsocrRows *rows,
							int vocab);
extern void dsocr_cuda_picked(DsocrBackend *be, int32_t *ids, float *logprobs, int n);

/* graph.cu */
extern bool dsocr_cuda_graphs_open(DsocrCuda *c, DsocrError *err);
extern void dsocr_cuda_graphs_close(DsocrCuda *c);
extern void dsocr_cuda_graphs_drop(DsocrCuda *c);
extern bool dsocr_cuda_run_begin(DsocrBackend *be, const DsocrRows *rows, bool whole_step);
extern void dsocr_cuda_run_end(DsocrBackend *be);
extern int dsocr_cuda_bucket(const DsocrBackend *be, int n);

#endif /* DSOCR_CUDA_H */
