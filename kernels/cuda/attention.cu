/*-------------------------------------------------------------------------
 *
 * attention.cu
 *		Attention among the tokens of one picture.
 *
 * Both operations are one problem: a picture of height x side tokens is cut
 * into windows of rows x cols, the tokens of a window attend to each other,
 * and the parts of windows that reach over the picture's edge are padding.
 * Global attention has one window; attention without positions is a picture
 * of one row.
 *
 * bf16 goes through the kernels of flash.cuh where its rows are made of
 * 16-byte pieces.  The plain kernels here take any shape and do all
 * arithmetic in fp32; they find the position terms of each query in scratch
 * memory.
 *
 * Every query's keys come in an order that depends on the shape of the
 * picture alone, so views do not influence each other.
 *
 *-------------------------------------------------------------------------
 */
#include "flash.cuh"

#include <math.h>

#define PLAIN_WARPS 8
#define PLAIN_QUERIES 4							 /* of a warp */
#define PLAIN_TILE (PLAIN_WARPS * PLAIN_QUERIES) /* queries of a block */
#define PLAIN_KEYS 32							 /* keys at a time: one a lane */
#define PLAIN_SLICE 32							 /* dimensions of q and k at a time */
#define PLAIN_OUT 4								 /* output dimensions of a lane */
#define PLAIN_CHUNK (32 * PLAIN_OUT)			 /* output dimensions of a block */

/* Element `at` of a window's token: of q, k or v by its place in the row of 3 * dim. */
template <typename T>
static __device__ __forceinline__ float
plain_value(const AttentionShape &s, const T *view, int y, int x, const float *padding, int at)
{
	if (y < s.height && x < s.side)
		return dsocr_to_float(view[((size_t) y * s.side + x) * 3 * s.dim + at]);
	return dsocr_to_float(dsocr_from_float<T>(padding[at]));
}

/*
 * terms[height * side, heads, rows + cols] of one view: the position terms of
 * each token towards the rows and columns of its window.  A thread a term.
 */
template <typename T>
static __global__ void
attention_terms(float *terms, AttentionShape s, const T *view, const float *rel_h,
				const float *rel_w)
{
	size_t i = (size_t) blockIdx.x * blockDim.x + threadIdx.x;
	int each = s.rows + s.cols;
	size_t token = i / each / s.heads;
	int head = (int) (i / each % s.heads);
	int j = (int) (i % each);
	float sum = 0.0f;
	const T *q;
	const float *rel;

	if (token >= (size_t) s.height * s.side)
		return;
	q = view + token * 3 * s.dim + (size_t) head * s.head_dim;
	if (j < s.rows)
		rel = rel_h + ((int) (token / s.side % s.rows) - j + s.rows - 1) * (size_t) s.head_dim;
	else
		rel = rel_w +
			  ((int) (token % s.side % s.cols) - (j - s.rows) + s.cols - 1) * (size_t) s.head_dim;
	for (int d = 0; d < s.head_dim; d++)
		sum += dsocr_to_float(q[d]) * rel[d];
	terms[i] = sum;
}

/* Queries [PLAIN_TILE][PLAIN_SLICE] or keys of a slice of dimensions, with a column to spare. */
struct PlainTiles
{
	float q[PLAIN_TILE][PLAIN_SLICE + 1];
	float k[PLAIN_KEYS][PLAIN_SLICE + 1];
	float v[PLAIN_KEYS][PLAIN_CHUNK];
};

/* Where query i of a window stands in it; false when there is none. */
static __device__ __forceinline__ bool
plain_query(const AttentionShape &s, const AttentionWindow &w, int i, int *y, int *x)
{
	*y = i / w.real_cols;
	*x = i % w.real_cols;
	return *y < w.real_rows;
}

/* scores[PLAIN_QUERIES] of the warp's queries and the lane's key, keys from .. from + 31 */
template <typename T>
static __device__ __forceinline__ void
plain_scores(float *scores, PlainTiles *t, const AttentionShape &s, const AttentionWindow &w,
			 const T *view, const float *padding, int head, int first, int from)
{
	int warp = threadIdx.x / 32;
	int lane = threadIdx.x % 32;
	int n = s.rows * s.cols;

	for (int i = 0; i < PLAIN_QUERIES; i++)
		scores[i] = 0.0f;
	for (int d = 0; d < s.head_dim; d += PLAIN_SLICE)
	{
		int at = head * s.head_dim + d + lane;
		bool there = d + lane < s.head_dim;

		__syncthreads(); /* the last slice has been used */
		for (int i = warp; i < PLAIN_TILE; i += PLAIN_WARPS)
		{
			int y, x;
			bool real = plain_query(s, w, first + i, &y, &x);

			t->q[i][lane] =
				real && there ? plain_value(s, view, w.top + y, w.left + x, padding, at) : 0.0f;
		}
		for (int i = warp; i < PLAIN_KEYS; i += PLAIN_WARPS)
		{
			int y = w.top + (from + i) / s.cols;
			int x = w.left + (from + i) % s.cols;

			t->k[i][lane] =
				from + i < n && there ? plain_value(s, view, y, x, padding, s.dim + at) : 0.0f;
		}
		__syncthreads();
#pragma unroll
		for (int j = 0; j < PLAIN_SLICE; j++)
		{
			float k = t->k[lane][j];

#pragma unroll
			for (int i = 0; i < PLAIN_QUERIES; i++)
				scores[i] += t->q[warp * PLAIN_QUERIES + i][j] * k;
		}
	}
}

/* One step of the softmax: scores become weights; out and sum are scaled to the new maximum. */
static __device__ __forceinline__ void
plain_softmax(float *score, float *top, float *sum, float out[PLAIN_OUT])
{
	float most = *score;
	float scale;

	for (int i = 16; i > 0; i >>= 1)
		most = fmaxf(most, __shfl_xor_sync(0xffffffffu, most, i));
	most = fmaxf(most, *top);
	scale = expf(*top - most);
	*score = expf(*score - most);
	*sum = *sum * scale + *score; /* the lane's own keys; scale is common */
	*top = most;
	for (int i = 0; i < PLAIN_OUT; i++)
		out[i] *= scale;
}

/*
 * out[views, height * side, dim].  A block takes PLAIN_TILE queries of a
 * window (blockIdx.x), one head and one chunk of output dimensions
 * (blockIdx.y).  terms NULL: without positions.
 */
template <typename T>
static __global__ void
__launch_bounds__(PLAIN_WARPS * 32)
	attention_plain(T *out, AttentionShape s, const T *qkv, const float *terms,
					const float *padding, float scale)
{
	__shared__ PlainTiles t;
	int warp = threadIdx.x / 32;
	int lane = threadIdx.x % 32;
	int chunks = (s.head_dim + PLAIN_CHUNK - 1) / PLAIN_CHUNK;
	int head = blockIdx.y / chunks;
	int chunk = blockIdx.y % chunks * PLAIN_CHUNK;
	int n = s.rows * s.cols;
	AttentionWindow w = attention_window(s, blockIdx.x / s.tiles);
	int first = blockIdx.x % s.tiles * PLAIN_TILE;
	const T *view = qkv + blockIdx.z * (size_t) s.height * s.side * 3 * s.dim;
	const float *term[PLAIN_QUERIES];
	float top[PLAIN_QUERIES];
	float sum[PLAIN_QUERIES];
	float o[PLAIN_QUERIES][PLAIN_OUT];

	if (first >= w.real_rows * w.real_cols)
		return;
	for (int i = 0; i < PLAIN_QUERIES; i++)
	{
		int y, x;

		term[i] = terms;
		if (plain_query(s, w, first + warp * PLAIN_QUERIES + i, &y, &x) && terms != NULL)
			term[i] += ((size_t) (w.top + y) * s.side + w.left + x) * s.heads * (s.rows + s.cols) +
					   (size_t) head * (s.rows + s.cols);
		top[i] = -INFINITY;
		sum[i] = 0.0f;
		for (int j = 0; j < PLAIN_OUT; j++)
			o[i][j] = 0.0f;
	}
	for (int from = 0; from < n; from += PLAIN_KEYS)
	{
		int key = from + lane;
		float score[PLAIN_QUERIES];

		plain_scores(score, &t, s, w, view, padding, head, first, from);
		for (int i = warp; i < PLAIN_KEYS; i += PLAIN_WARPS)
			for (int d = lane; d < PLAIN_CHUNK; d += 32)
				t.v[i][d] = from + i < n && chunk + d < s.head_dim
								? plain_value(s, view, w.top + (from + i) / s.cols,
											  w.left + (from + i) % s.cols, padding,
											  2 * s.dim + head * s.head_dim + chunk + d)
								: 0.0f;
		for (int i = 0; i < PLAIN_QUERIES; i++)
		{
			score[i] *= scale;
			if (key >= n)
				score[i] = -INFINITY;
			else if (terms != NULL)
				score[i] += term[i][key / s.cols] + term[i][s.rows + key % s.cols];
			plain_softmax(&score[i], &top[i], &sum[i], o[i]);
		}
		__syncthreads();
		for (int j = 0; j < PLAIN_KEYS; j++)
#pragma unroll
			for (int i = 0; i < PLAIN_QUERIES; i++)
			{
				float p = __shfl_sync(0xffffffffu, score[i], j);

#pragma unroll
				for (int d = 0; d < PLAIN_OUT; d++)
					o[i][d] += p * t.v[j][d * 32 + lane];
			}
	}
	for (int i = 0; i < PLAIN_QUERIES; i++)
	{
		int y, x;

		for (int j = 16; j > 0; j >>= 1)
			sum[i] += __shfl_xor_sync(0xffffffffu, sum[i], j);
		if (!plain_query(s, w, first + warp * PLAIN_QUERIES + i, &y, &x))
			continue;
		for (int d = 0; d < PLAIN_OUT; d++)
			if (chunk + d * 32 + lane < s.head_dim)
				out[((size_t) (blockIdx.z * (size_t) s.height + w.top + y) * s.side + w.left + x) *
						s.dim +
					head * s.head_dim + chunk + d * 32 + lane] =
					dsocr_from_float<T>(o[i][d] / sum[i]);
	}
}

/* ---- launchers ---- */

/* One view after the other: position terms of all views at once might not fit. */
template <typename T>
static cudaError_t
attention_launch_plain(DsocrCuda *c, void *out, const void *qkv, int views, AttentionShape s,
					   const float *rel_h, const float *rel_w, const float *padding)
{
	size_t tokens = (size_t) s.height * s.side;
	size_t n_terms = tokens * s.heads * (s.rows + s.cols);
	int chunks = (s.head_dim + PLAIN_CHUNK - 1) / PLAIN_CHUNK;
	int step = rel_h != NULL ? 1 : views;
	float scale = 1.0f / sqrtf((float) s.head_dim);
	float *terms = NULL;
	cudaError_t rc = cudaSuccess;

	s.tiles = (s.rows * s.cols + PLAIN_TILE - 1) / PLAIN_TILE;
	if (rel_h != NULL)
	{
		terms = (float *) dsocr_cuda_scratch(c, DSOCR_SCRATCH_ATTENTION, n_terms * sizeof(float));
		if (terms == NULL)
			return cudaSuccess; /* reported by sync */
	}
	for (int i = 0; i < views && rc == cudaSuccess; i += step)
	{
		const T *view = (const T *) qkv + i * tokens * 3 * s.dim;
		T *to = (T *) out + i * tokens * s.dim;

		if (terms != NULL)
			rc = dsocr_launch(attention_terms<T>, dim3((unsigned) ((n_terms + 255) / 256)),
							  dim3(256), 0, c->stream, terms, s, view, rel_h, rel_w);
		if (rc == cudaSuccess)
			rc = dsocr_launch(attention_plain<T>,
							  dim3((unsigned) (s.windows * s.windows * s.tiles),
								   (unsigned) (s.heads * chunks), (unsigned) step),
							  dim3(PLAIN_WARPS * 32), 0, c->stream, to, s, view,
							  (const float *) terms, padding, scale);
	}
	return rc;
}

/* Kernels of flash.cuh for a problem; false when its terms do not fit into shared memory. */
template <int HD, int MT, int C>
static bool
attention_launch_flash(DsocrCuda *c, int views, FlashTask task, int blocks, cudaError_t *rc)
{
	AttentionShape *s = &task.shape;
	const int width = C > 0 ? C : FLASH_KEYS;
	const int height = FLASH_KEYS / width;
	const int queries = FLASH_WARPS * 16 * MT;
	size_t shared = 4 * FLASH_KEYS * HD * sizeof(__nv_bfloat16);
	dim3 grid;

	s->tiles = (s->rows * s->cols + queries - 1) / queries;
	task.steps = (s->rows + height - 1) / height;
	if (C > 0)
	{
		task.row_pitch = (s->rows + 7) / 8 * 8;
		if (task.row_pitch % 32 == 0)
			task.row_pitch += 4; /* or a column of terms would lie in one bank */
		task.col_pitch = (s->cols + width - 1) / width * width;
		shared += (size_t) queries * (size_t) (task.row_pitch + task.col_pitch) * sizeof(float);
	}
	/* each block takes a kilobyte beside its own; a multiprocessor has one more than shared_max */
	if (shared + queries * sizeof(int) + 1024 > (c->shared_max + 1024) / (size_t) blocks)
		return false;
	grid = dim3((unsigned) (s->windows * s->windows * s->tiles), (unsigned) s->heads,
				(unsigned) views);
	*rc = dsocr_launch_early(c->early, flash_attention<HD, MT, C, (MT == 1 && C > 0)>, grid,
							 dim3(FLASH_THREADS), shared, c->stream, task);
	return true;
}

/*
 * The fast kernels, where they apply.  The large tiles are worth their
 * registers on whole pictures and as long as two blocks share a
 * multiprocessor.
 */
static bool
attention_flash(DsocrCuda *c, void *out, const void *qkv, int views, const AttentionShape &s,
				const float *rel_h, const float *rel_w, const float *padding, cudaError_t *rc)
{
	FlashTask task = {};
	bool large = s.windows == 1 && s.rows * (size_t) s.cols >= 1024;

	if (!dsocr_cuda_bf16(c) || s.head_dim % 8 != 0 || s.head_dim > 128 || views > 65535 ||
		s.heads > 65535 || (size_t) views * s.height * s.side > INT32_MAX ||
		((uintptr_t) out | (uintptr_t) qkv) % 16 != 0)
		return false;
	task.shape = s;
	task.out = (__nv_bfloat16 *) out;
	task.qkv = (const __nv_bfloat16 *) qkv;
	task.rel_h = rel_h;
	task.rel_w = rel_w;
	task.padding = padding;
	task.root = sqrtf((float) s.head_dim);
	task.scale = FLASH_LOG2E / task.root;
	if (rel_h == NULL && s.head_dim <= 32)
		return attention_launch_flash<32, 1, 0>(c, views, task, 1, rc);
	if (rel_h == NULL && s.head_dim <= 64)
		return attention_launch_flash<64, 1, 0>(c, views, task, 1, rc);
	if (rel_h == NULL)
		return attention_launch_flash<128, 1, 0>(c, views, task, 1, rc);
	if (s.head_dim <= 32)
		return attention_launch_flash<32, 1, 16>(c, views, task, 1, rc);
	if (s.head_dim > 64)
		return attention_launch_flash<128, 1, 16>(c, views, task, 1, rc);
	if (large && (s.cols + 7) / 8 % 2 == 0 &&
		attention_launch_flash<64, 2, 16>(c, views, task, 2, rc))
		return true;
	if (large && attention_launch_flash<64, 2, 8>(c, views, task, 2, rc))
		return true;
	return attention_launch_flash<64, 1, 16>(c, views, task, 1, rc);
}

static void
attention_run(DsocrBackend *be, void *out, const void *qkv, int views, const AttentionShape &s,
			  const float *rel_h, const float *rel_w, const float *padding, const char *name)
{
	DsocrCuda *c = (DsocrCuda *) be;
	cudaError_t rc;

	if (views <= 0 || s.side <= 0)
		return;
	if (attention_flash(c, out, qkv, views, s, rel_h, rel_w, padding, &rc))
		;
	else if (dsocr_cuda_bf16(c))
		rc = attention_launch_plain<__nv_bfloat16>(c, out, qkv, views, s, rel_h, rel_w, padding);
	else
		rc = attention_launch_plain<float>(c, out, qkv, views, s, rel_h, rel_w, padding);
	dsocr_cuda_check(c, rc, name);
}

void
dsocr_cuda_grid_attention(DsocrBackend *be, void *out, const void *qkv, int views, int side,
						  int heads, int head_dim, int window, const DsocrVector *rel_h,
						  const DsocrVector *rel_w, const DsocrVector *qkv_bias)
{
	AttentionShape s = {};

	s.height = s.side = side;
	s.rows = s.cols = window > 0 ? window : side;
	s.windows = window > 0 ? (side + window - 1) / window : 1;
	s.heads = heads;
	s.head_dim = head_dim;
	s.dim = heads * head_dim;
	attention_run(be, out, qkv, views, s, rel_h->data, rel_w->data, qkv_bias->data,
				  "grid_attention");
}

void
dsocr_cuda_attention(DsocrBackend *be, void *out, const void *qkv, int views, int n, int heads,
					 int head_dim)
{
	AttentionShape s = {};

	s.height = s.rows = s.windows = 1;
	s.side = s.cols = n;
	s.heads = heads;
	s.head_dim = head_dim;
	s.dim = heads * head_dim;
	attention_run(be, out, qkv, views, s, NULL, NULL, NULL, "attention");
}
