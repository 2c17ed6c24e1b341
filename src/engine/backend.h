/*-------------------------------------------------------------------------
 *
 * backend.h
 *		The operations a device offers; the model is written in these alone.
 *
 * Activations are device memory: opaque pointers whose elements are
 * act_size bytes (4 on the CPU).  Their layout is always row-major and
 * channel-last: [rows, channels]; a picture of h x w has rows y * w + x.
 * Weights become DsocrMatrix (a product's right side) or DsocrVector (one
 * fp32 value a channel) once, at load time.
 *
 * Batch invariance.  A row's result must not depend on which other rows
 * stand beside it.  With DSOCR_ROWS_ONE all rows belong to one image or one
 * sequence and their number is a function of that image or sequence alone,
 * so any deterministic library product will do.  With DSOCR_ROWS_MIXED the
 * rows belong to different sequences: each row must be computed in an order
 * of operations that does not depend on the number of rows or its place.
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

typedef enum DsocrRowKind
{
	DSOCR_ROWS_ONE,
	DSOCR_ROWS_MIXED
} DsocrRowKind;

typedef enum DsocrActivation
{
	DSOCR_ACT_NONE,
	DSOCR_ACT_GELU,		 /* exact, erf */
	DSOCR_ACT_QUICK_GELU /* x * sigmoid(1.702 x) */
} DsocrActivation;

typedef struct DsocrBackend DsocrBackend;
typedef struct DsocrMatrix DsocrMatrix; /* W[N, K], private to the backend */
typedef struct DsocrVector DsocrVector; /* fp32 v[N], private to the backend */
typedef struct DsocrKv DsocrKv;			/* paged key/value memory of all layers */

typedef struct DsocrKvShape
{
	int layers;
	int heads;
	int head_dim;
	int page_tokens; /* positions a page, for all layers */
	int pages;
} DsocrKvShape;

/* Decoder rows of one launch. */
typedef struct DsocrRows
{
	DsocrRowKind kind; /* ONE: consecutive positions of one sequence (prefill) */
	int n;
	const int32_t *positions;	 /* [n] position of each row in its sequence */
	const int32_t *const *pages; /* [n] page numbers of each row's sequence */
} DsocrRows;

/* Ids that row r must not choose: ids[start[r]] .. ids[start[r + 1] - 1]. */
typedef struct DsocrBans
{
	const int32_t *ids;
	const int32_t *start; /* [n + 1] */
} DsocrBans;

typedef struct DsocrBackendOptions
{
	const char *device; /* "cpu", "cuda:0" */
	DsocrPrecision precision;
	int threads; /* 0 = all cores of the affinity mask */
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

	/* dst[n] = src[n] */
	void (*copy)(DsocrBackend *be, void *dst, const void *src, size_t n);

	/*
	 * Weights.  A matrix is the parts stacked by rows: W[sum of rows, K].
	 * Parts must be 2-D (or 4-D, taken as [shape[0], rest]) and are kept by
	 * reference where the backend can compute from the mapping.
	 * channel_last turns a convolution's [N, C, kh, kw] into [N, kh * kw * C].
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
				   const DsocrVector *bias, DsocrActivation act, const void *residual,
				   DsocrRowKind kind);

	/* Y[M,N] = (X - mean) / sqrt(var + eps) * weight + bias, over each row; y may be x */
	void (*layer_norm)(DsocrBackend *be, void *y, const void *x, int rows, int dim,
					   const DsocrVector *weight, const DsocrVector *bias, float eps);

	/* Y[M,N] = X / sqrt(mean(X^2) + eps) * weight; y may be x */
	void (*rms_norm)(DsocrBackend *be, void *y, const void *x, int rows, int dim,
					 const DsocrVector *weight, float eps);

	/* X[rows, dim] += table[rows, dim] */
	void (*add)(DsocrBackend *be, void *x, const void *table, size_t n);

	/* out[rows, a + b] = [A[rows, a], B[rows, b]] */
	void (*concat)(DsocrBackend *be, void *out, const void *a, int dim_a, const void *b, int dim_b,
				   int rows);

	/*
	 * Patches of an 8-bit RGB picture of size x size, host memory:
	 * out[(size/patch)^2, 3 * patch * patch], channel, y, x; value
	 * (p/255 - 0.5)/0.5 in fp32 rounded to bf16, in every precision.
	 */
	void (*patches)(DsocrBackend *be, void *out, const uint8_t *rgb, int size, int patch);

	/*
	 * Neighbourhoods for a 3x3 convolution with padding 1:
	 * out[oh * ow, 9 * channels] in order ky, kx, channel, with
	 * oh = (h - 1) / stride + 1; outside the picture are zeros.
	 */
	void (*im2col3)(DsocrBackend *be, void *out, const void *x, int h, int w, int channels,
					int stride);

	/*
	 * SAM attention on a grid of side x side tokens, qkv[side^2, 3 * dim] as
	 * [3][heads][head_dim], out[side^2, dim].  Scores are
	 * q.k / sqrt(d) + q.rel_h[iy - jy + q - 1] + q.rel_w[ix - jx + q - 1]
	 * with rel_* [2q - 1, d] and q = window, or side when window is 0
	 * (global).  With a window the grid is padded at right and bottom to a
	 * multiple of it; padding tokens have qkv = qkv_bias[3 * dim] and take
	 * part unmasked.
	 */
	void (*grid_attention)(DsocrBackend *be, void *out, const void *qkv, int side, int heads,
						   int head_dim, int window, const DsocrVector *rel_h,
						   const DsocrVector *rel_w, const DsocrVector *qkv_bias);

	/* Full attention over n tokens, qkv[n, 3 * dim] as above, out[n, dim], scale 1/sqrt(d). */
	void (*attention)(DsocrBackend *be, void *out, const void *qkv, int n, int heads, int head_dim);

	/* out[n, dim] = table[ids[n], dim]; ids in host memory, checked by the caller */
	void (*embed)(DsocrBackend *be, void *out, const DsocrMatrix *table, const int32_t *ids, int n);

	/* Key/value pages; contents undefined. */
	DsocrKv *(*kv_open)(DsocrBackend *be, const DsocrKvShape *shape, DsocrError *err);
	void (*kv_close)(DsocrBackend *be, DsocrKv *kv);
	size_t (*kv_bytes)(const DsocrBackend *be, const DsocrKvShape *shape);

	/*
	 * qkv[n, 3 * heads * d]: rotate q and k by their position (half split,
	 * fp32 frequencies theta^(-2i/d)), q in place, and put k and v into the
	 * pages of layer.
	 */
	void (*rope_store)(DsocrBackend *be, void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer,
					   float theta);

	/* out[n, heads * d]: each row attends to positions 0 .. its own of its pages. */
	void (*causal_attention)(DsocrBackend *be, void *out, const void *qkv, const DsocrRows *rows,
							 DsocrKv *kv, int layer);

	/* Y[rows, n] = silu(X[:, 0:n]) * X[:, n:2n], X[rows, 2n] */
	void (*silu_mul)(DsocrBackend *be, void *y, const void *x, int rows, int n);

	/*
	 * Router in fp32: logits[rows, E] (fp32 elements, may be NULL) =
	 * X @ gate^T, softmax over E, the k largest in descending order (lower
	 * id first on a tie), not renormalised.  ids and weights are
	 * rows * k elements of routing memory.
	 */
	void (*router)(DsocrBackend *be, int32_t *ids, float *weights, float *logits, const void *x,
				   int rows, const DsocrMatrix *gate, int k);
	void *(*routing_alloc)(DsocrBackend *be, size_t bytes, DsocrError *err);
	void (*routing_free)(DsocrBackend *be, void *p);
	void (*routing_read)(DsocrBackend *be, void *host, const void *p, size_t bytes);

	/*
	 * Y[rows, H] = sum over the k choices, in their order, in fp32, of
	 * weight * down_e(silu(gate_e x) * up_e x) + residual.
	 * gate_up[e] is [2 * inter, H] (gate rows first), down[e] is [H, inter].
	 */
	void (*experts)(DsocrBackend *be, void *y, const void *x, int rows, const int32_t *ids,
					const float *weights, int k, int n_experts, const DsocrMatrix *const *gate_up,
					const DsocrMatrix *const *down, const void *residual, DsocrRowKind kind);

	/*
	 * For each row of logits[n, vocab]: the largest that is not banned
	 * (lowest id on a tie) and its natural log-probability over all ids.
	 * Results in host memory.
	 */
	void (*pick)(DsocrBackend *be, int32_t *ids, float *logprobs, const void *logits, int n,
				 int vocab, const DsocrBans *bans);

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
	size_t act_size; /* bytes of an activation element */
	int threads;
	char description[64]; /* "cpu (avx512_bf16, 2 threads)" */
						  /* the backend's own state follows */
};

/* Element i of an activation. */
static inline void *
dsocr_act(const DsocrBackend *be, const void *act, size_t i)
{
	return (char *) act + i * be->act_size;
}

/* kernels/cpu.  Errors: DSOCR_E_MEMORY, DSOCR_E_DEVICE. */
extern DsocrBackend *dsocr_cpu_open(const DsocrBackendOptions *options, DsocrError *err);

/* test/reference: naive, single-threaded, fp32; used by tests only. */
extern DsocrBackend *dsocr_reference_open(const DsocrBackendOptions *options, DsocrError *err);

#endif /* DSOCR_BACKEND_H */
