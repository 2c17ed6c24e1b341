/*-------------------------------------------------------------------------
 *
 * backend.h
 *		The operations a device offers; the model is written in these alone.
 *
 * Activations are device memory, row-major and channel-last: [rows, channels];
 * a picture of h x w has rows y * w + x.  Weights become DsocrMatrix (a
 * product's right side) or DsocrVector (one fp32 value a channel) at load.
 *
 * Batch invariance.  A row's result must not depend on which other rows
 * stand beside it.  `unit` rows are one view or one chunk of one sequence,
 * and their number is a function of that view or sequence alone.  How a unit
 * is computed may depend on unit, never on how many units there are.  With
 * DSOCR_MIXED each row belongs to another sequence and is computed in an
 * order that depends neither on the number of rows nor on its place.
 *
 * Steps.  run_begin tells which rows the decoder runs next, so that no
 * operation carries host arrays.  What runs between it and run_end may be
 * recorded and replayed: its memory was allocated before and stays in place.
 *
 * Operations cannot fail: memory is allocated before, sizes are checked by
 * the model.  A device that breaks is reported by sync().
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_BACKEND_H
#define DSOCR_BACKEND_H

#include "weights.h"

typedef enum DsocrPrecision
{
	DSOCR_PRECISION_BF16, /* bf16 operands, fp32 accumulation */
	DSOCR_PRECISION_FP32  /* bf16 weights widened, fp32 arithmetic throughout: for parity */
} DsocrPrecision;

#define DSOCR_MIXED 0 /* unit of rows that belong to different sequences */

#define DSOCR_BACKEND_ABI 2 /* of this header, for backends that are loaded */

typedef enum DsocrActivation
{
	DSOCR_ACT_NONE,
	DSOCR_ACT_GELU,		 /* exact, erf */
	DSOCR_ACT_QUICK_GELU /* x * sigmoid(1.702 x) */
} DsocrActivation;

typedef struct DsocrBackend DsocrBackend;
typedef struct DsocrMatrix DsocrMatrix;	  /* W[N, K], private to the backend */
typedef struct DsocrVector DsocrVector;	  /* fp32 v[N], private to the backend */
typedef struct DsocrExperts DsocrExperts; /* the routed experts of a layer, private too */
typedef struct DsocrKv DsocrKv;			  /* paged key/value memory of all layers */

typedef struct DsocrKvShape
{
	int layers;
	int heads;
	int head_dim;
	int page_tokens; /* positions a page, for all layers */
	int pages;
} DsocrKvShape;

/*
 * A sequence's text lives in a numbered slot of the backend: its ids so far,
 * the key/value pages of its positions and the rule for its next id.
 */
typedef struct DsocrTextShape
{
	int slots;
	int ids;				  /* most ids a slot */
	int pages;				  /* most pages a slot */
	const int32_t *whitelist; /* ids that a windowed rule never bans */
	int n_whitelist;
} DsocrTextShape;

typedef struct DsocrText
{
	const int32_t *ids; /* [n] */
	int n;
	int prompt_len;		  /* ids before the output, for windowed rules */
	const int32_t *pages; /* [n_pages] */
	int n_pages;
	int ngram_size; /* 0: no rule; see sampling.h */
	int ngram_window;
} DsocrText;

/* Decoder rows of one run. */
typedef struct DsocrRows
{
	int n;
	const int32_t *slots; /* [1], or [n] when mixed; -1: a row that only fills the number up */
	int first;			  /* position of row 0; rows follow each other in one sequence */
	bool mixed;			  /* row i is the last id of the text of slots[i]; first is not used */
} DsocrRows;

typedef struct DsocrBackendOptions
{
	const char *device; /* "cpu", "cuda:0" */
	DsocrPrecision precision;
	DsocrDtype weights; /* DSOCR_INT8 or DSOCR_INT4: quantize the decoder; BF16: as they are */
	int threads;		/* 0 = all cores of the affinity mask */
	size_t memory;		/* most bytes of device memory; 0 = what is free */
	void (*log)(const char *message); /* a line for the administrator; may be NULL */
} DsocrBackendOptions;

typedef struct DsocrBackendOps
{
	const char *name; /* "cpu", "cuda", "reference" */

	void (*close)(DsocrBackend *be);

	/* Memory: n activation elements. NULL and DSOCR_E_MEMORY on failure. */
	void *(*alloc)(DsocrBackend *be, size_t n, DsocrError *err);
	void (*free)(DsocrBackend *be, void *act);
	void (*write)(DsocrBackend *be, void *act, const float *host, size_t n);
	void (*read)(DsocrBackend *be, float *host, const void *act, size_t n);

	/*
	 * dst[i * dst_stride + j] = src[i * src_stride + j] for i < rows, j < n;
	 * src_stride 0 repeats one row.  The two do not overlap.
	 */
	void (*copy_rows)(DsocrBackend *be, void *dst, size_t dst_stride, const void *src,
					  size_t src_stride, size_t n, size_t rows);

	/*
	 * Bytes that may still be allocated, for the key/value pages; SIZE_MAX
	 * when the device has no limit of its own.
	 */
	size_t (*memory)(DsocrBackend *be);

	/* Memory for anything else: router results, logits. */
	void *(*raw_alloc)(DsocrBackend *be, size_t bytes, DsocrError *err);
	void (*raw_free)(DsocrBackend *be, void *p);
	void (*raw_read)(DsocrBackend *be, void *host, const void *p, size_t bytes);

	/*
	 * Weights.  A matrix is the parts stacked by rows: W[sum of rows, K].
	 * Parts must be 2-D (or 4-D, taken as [shape[0], rest]) and are kept by
	 * reference where the backend can compute from the mapping.
	 * channel_last turns a convolution's [N, C, kh, kw] into [N, kh * kw * C].
	 * Quantized parts stay so where the backend computes with them, and are
	 * widened elsewhere.
	 */
	DsocrMatrix *(*matrix)(DsocrBackend *be, const DsocrTensor *const *parts, int n_parts,
						   bool channel_last, DsocrError *err);
	void (*matrix_free)(DsocrBackend *be, DsocrMatrix *m);
	DsocrVector *(*vector)(DsocrBackend *be, const float *values, size_t n, DsocrError *err);
	void (*vector_free)(DsocrBackend *be, DsocrVector *v);

	/*
	 * Y[M,N] = act(X[M,K] @ W[N,K]^T + bias[N]) + residual[M,N]; bias and
	 * residual may be NULL, residual may be y, x may not.
	 */
	void (*linear)(DsocrBackend *be, void *y, const void *x, int rows, const DsocrMatrix *w,
				   const DsocrVector *bias, DsocrActivation act, const void *residual, int unit);

	/* Y[rows, n] = silu(X @ G^T) * (X @ U^T) with W[2n, K] = [G, U]; wide[rows, 2n] is scratch */
	void (*swiglu)(DsocrBackend *be, void *y, void *wide, const void *x, int rows,
				   const DsocrMatrix *w, int unit);

	/* logits[rows, N] = X[rows, K] @ W[N, K]^T, fp32 elements in raw memory, rows mixed */
	void (*logits)(DsocrBackend *be, float *logits, const void *x, int rows, const DsocrMatrix *w);

	/* Y[M,N] = (X - mean) / sqrt(var + eps) * weight + bias, over each row; y may be x */
	void (*layer_norm)(DsocrBackend *be, void *y, const void *x, int rows, int dim,
					   const DsocrVector *weight, const DsocrVector *bias, float eps);

	/* Y[M,N] = X / sqrt(mean(X^2) + eps) * weight; y may be x */
	void (*rms_norm)(DsocrBackend *be, void *y, const void *x, int rows, int dim,
					 const DsocrVector *weight, float eps);

	/* X[repeats, n] += table[n] */
	void (*add)(DsocrBackend *be, void *x, const void *table, size_t n, int repeats);

	/*
	 * out[views, rows, a + b] = [A[views, skip + rows, a] without the first
	 * skip rows of each view, B[views, rows, b]]
	 */
	void (*concat)(DsocrBackend *be, void *out, const void *a, int dim_a, int skip, const void *b,
				   int dim_b, int views, int rows);

	/*
	 * Patches of 8-bit RGB pictures of size x size, host memory:
	 * out[views, (size/patch)^2, 3 * patch * patch], channel, y, x; value
	 * (p/255 - 0.5)/0.5 in fp32 rounded to bf16, in every precision.
	 */
	void (*patches)(DsocrBackend *be, void *out, const uint8_t *const *rgb, int views, int size,
					int patch);

	/*
	 * Neighbourhoods for a 3x3 convolution with padding 1:
	 * out[views, oh * ow, 9 * channels] in order ky, kx, channel, with
	 * oh = (h - 1) / stride + 1; outside the picture are zeros.
	 */
	void (*im2col3)(DsocrBackend *be, void *out, const void *x, int views, int h, int w,
					int channels, int stride);

	/*
	 * SAM attention on grids of side x side tokens, qkv[views, side^2, 3 * dim]
	 * as [3][heads][head_dim], out[views, side^2, dim].  Scores are
	 * q.k / sqrt(d) + q.rel_h[iy - jy + q - 1] + q.rel_w[ix - jx + q - 1]
	 * with rel_* [2q - 1, d] and q = window, or side when window is 0
	 * (global).  With a window the grid is padded at right and bottom to a
	 * multiple of it; padding tokens have qkv = qkv_bias[3 * dim] and take
	 * part unmasked.
	 */
	void (*grid_attention)(DsocrBackend *be, void *out, const void *qkv, int views, int side,
						   int heads, int head_dim, int window, const DsocrVector *rel_h,
						   const DsocrVector *rel_w, const DsocrVector *qkv_bias);

	/*
	 * Full attention over the n tokens of each view, qkv[views, n, 3 * dim] as
	 * above, out[views, n, dim], scale 1/sqrt(d).
	 */
	void (*attention)(DsocrBackend *be, void *out, const void *qkv, int views, int n, int heads,
					  int head_dim);

	/* out[n, dim] = table[ids[n], dim]; ids in host memory, checked by the caller */
	void (*embed)(DsocrBackend *be, void *out, const DsocrMatrix *table, const int32_t *ids, int n);

	/* The same for the last id of each of the mixed rows' texts; a row without slot is zeros. */
	void (*embed_last)(DsocrBackend *be, void *out, const DsocrMatrix *table,
					   const DsocrRows *rows);

	/* Slots for texts; once, before the first run.  ids and pages of a text are copied. */
	bool (*texts_open)(DsocrBackend *be, const DsocrTextShape *shape, DsocrError *err);
	void (*text_start)(DsocrBackend *be, int slot, const DsocrText *text);

	/*
	 * The rows of the run that follows.  Mixed rows should number what bucket
	 * gave.  With whole_step everything up to run_end depends on rows alone
	 * (embed_last, layers, logits, pick): false when the device has done it
	 * all by a recording, then nothing but run_end may follow.
	 */
	bool (*run_begin)(DsocrBackend *be, const DsocrRows *rows, bool whole_step);
	void (*run_end)(DsocrBackend *be);

	/* The number that n mixed rows should be filled up to with slots of -1. */
	int (*bucket)(const DsocrBackend *be, int n);

	/* Key/value pages; contents undefined. */
	DsocrKv *(*kv_open)(DsocrBackend *be, const DsocrKvShape *shape, DsocrError *err);
	void (*kv_close)(DsocrBackend *be, DsocrKv *kv);
	size_t (*kv_bytes)(const DsocrBackend *be, const DsocrKvShape *shape);

	/*
	 * qkv[n, 3 * heads * d]: rotate q and k by their position (half split,
	 * fp32 frequencies theta^(-2i/d)), q in place, and put k and v into the
	 * pages of layer; rows without slot are left out.
	 */
	void (*rope_store)(DsocrBackend *be, void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer,
					   float theta);

	/* out[n, heads * d]: each row attends to positions 0 .. its own; without slot: zeros. */
	void (*causal_attention)(DsocrBackend *be, void *out, const void *qkv, const DsocrRows *rows,
							 DsocrKv *kv, int layer);

	/* Y[rows, n] = silu(X[:, 0:n]) * X[:, n:2n], X[rows, 2n] */
	void (*silu_mul)(DsocrBackend *be, void *y, const void *x, int rows, int n);

	/*
	 * Router in fp32: logits[rows, E] (fp32 elements, may be NULL) =
	 * X @ gate^T, softmax over E, the k largest in descending order (lower
	 * id first on a tie), not renormalised.  ids and weights are
	 * [rows, k] in raw memory.  Mixed rows without slot get ids of -1.
	 */
	void (*router)(DsocrBackend *be, int32_t *ids, float *weights, float *logits, const void *x,
				   const DsocrRows *rows, const DsocrMatrix *gate, int k);

	/*
	 * n experts of one layer; the matrices stay the caller's and must live as
	 * long.  gate_up[e] is [2 * inter, H] (gate rows first), down[e] [H, inter].
	 */
	DsocrExperts *(*experts_open)(DsocrBackend *be, const DsocrMatrix *const *gate_up,
								  const DsocrMatrix *const *down, int n, DsocrError *err);
	void (*experts_close)(DsocrBackend *be, DsocrExperts *experts);

	/*
	 * Y[rows, H] = sum over the k choices, in their order, in fp32, of
	 * weight * down_e(silu(gate_e x) * up_e x) + residual.  An id of -1 is no
	 * choice.  residual may be y.
	 */
	void (*experts)(DsocrBackend *be, void *y, const void *x, int rows, const int32_t *ids,
					const float *weights, int k, const DsocrExperts *experts, const void *residual,
					int unit);

	/*
	 * For each mixed row of logits[n, vocab], or for the one row that ends a
	 * run of one sequence: the largest id that the rule of its text does not
	 * ban (lowest id on a tie) and its natural log-probability over all ids.
	 * The id is appended to the text.
	 */
	void (*pick)(DsocrBackend *be, const float *logits, const DsocrRows *rows, int vocab);

	/* What the last pick chose, after sync: n ids and log-probabilities. */
	void (*picked)(DsocrBackend *be, int32_t *ids, float *logprobs, int n);

	/*
	 * Wait for the device.  False when it is broken (DSOCR_E_DEVICE), or once
	 * when an operation since the last call ran out of memory
	 * (DSOCR_E_MEMORY): its results are void, later operations are not.
	 */
	bool (*sync)(DsocrBackend *be, DsocrError *err);
} DsocrBackendOps;

struct DsocrBackend
{
	const DsocrBackendOps *ops;
	DsocrPrecision precision;
	DsocrDtype weights; /* what options asked for */
	size_t act_size;	/* bytes of an activation element */
	int threads;
	size_t view_pixels;	  /* views are encoded together up to so many pixels; 0: one by one */
	char description[64]; /* "cpu (avx512_bf16, 2 threads)" */
						  /* the backend's own state follows */
};

/* Opens a backend.  Errors: DSOCR_E_MEMORY, DSOCR_E_DEVICE. */
typedef DsocrBackend *DsocrBackendOpen(const DsocrBackendOptions *options, DsocrError *err);

/* Element i of an activation. */
static inline void *
dsocr_act(const DsocrBackend *be, const void *act, size_t i)
{
	return (char *) act + i * be->act_size;
}

/* dst[n] = src[n] */
static inline void
dsocr_act_copy(DsocrBackend *be, void *dst, const void *src, size_t n)
{
	be->ops->copy_rows(be, dst, n, src, n, n, 1);
}

/* kernels/cpu */
extern DsocrBackendOpen dsocr_cpu_open;

/*
 * kernels/cuda, in dsocr_cuda.so, which is loaded on demand: dsocr_cuda_abi
 * must equal DSOCR_BACKEND_ABI.
 */
extern const int dsocr_cuda_abi;
extern DsocrBackendOpen dsocr_cuda_open;

/*
 * The number of devices, and one line about device i of them; -1 and
 * DSOCR_E_DEVICE when they cannot be used.
 */
typedef int DsocrBackendList(int i, char *line, size_t size, DsocrError *err);
extern DsocrBackendList dsocr_cuda_list;

/* test/reference: naive, single-threaded, fp32; used by tests only. */
extern DsocrBackendOpen dsocr_reference_open;

#endif /* DSOCR_BACKEND_H */
