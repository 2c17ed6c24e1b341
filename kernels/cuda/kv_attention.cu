/*-------------------------------------------------------------------------
 *
 * kv_attention.cu
 *		Key/value pages, rotary embedding, causal attention.
 *
 * The page of a position is found in the page list of its slot.  Entries that
 * no page was given for are -1: nothing is stored there.
 *
 * Angles are position * frequency in fp32 with frequencies computed on the
 * host as the CPU backend does it.  sincosf reduces them without loss (it is
 * not the fast intrinsic), so any position is as exact as the first.
 *
 * Attention of bf16 pages has fast forms for heads of 64 and 128 and pages of
 * 32 positions: kv_decode.cuh for mixed rows, kv_prefill.cuh for rows of one
 * sequence.  Everything else goes through kv_plain_kernel.
 *
 *-------------------------------------------------------------------------
 */
#include "kv_decode.cuh"
#include "kv_prefill.cuh"

#include <math.h>
#include <string.h>

#define LOG2E 1.44269504f
#define ROPE_THREADS 256
#define ROPE_MAX_HALF 256 /* frequencies are an argument of the kernel */
#define PLAIN_THREADS 128
#define PLAIN_WARPS (PLAIN_THREADS / 32)
#define PLAIN_DIMS (2 * ROPE_MAX_HALF / PLAIN_THREADS) /* of the output, a thread */

typedef struct RopeFrequencies
{
	float f[ROPE_MAX_HALF];
} RopeFrequencies;

/* Where keys and values of one layer lie; see DsocrKv. */
typedef struct KvPages
{
	size_t page_elements;
	int page_tokens;
	int heads;
	int head_dim;
} KvPages;

/* Element of a head's key at `position`; its value is kv_value_offset behind. */
static __device__ __forceinline__ size_t
kv_key_at(const KvPages &p, int page, int head, int position)
{
	return (size_t) page * p.page_elements +
		   ((size_t) head * (size_t) p.page_tokens + (size_t) (position % p.page_tokens)) *
			   (size_t) p.head_dim;
}

static __device__ __forceinline__ size_t
kv_value_offset(const KvPages &p)
{
	return p.page_elements / 2;
}

/* V elements as one access. */
template <typename T, int V> struct KvPack
{
	alignas(sizeof(T) * V) T v[V];
};

/* ---- rotary embedding ---- */

/* Rotate V pairs (x[0 .. V), x[half .. half + V)) to `to`. */
template <typename T, int V>
static __device__ __forceinline__ void
rope_rotate(T *to, const T *x, int half, const float *cosines, const float *sines)
{
	typedef KvPack<T, V> Pack;
	Pack a = *(const Pack *) x;
	Pack b = *(const Pack *) (x + half);

#pragma unroll
	for (int j = 0; j < V; j++)
	{
		float lo = dsocr_to_float(a.v[j]);
		float hi = dsocr_to_float(b.v[j]);

		a.v[j] = dsocr_from_float<T>(lo * cosines[j] - hi * sines[j]);
		b.v[j] = dsocr_from_float<T>(hi * cosines[j] + lo * sines[j]);
	}
	*(Pack *) to = a;
	*(Pack *) (to + half) = b;
}

/*
 * qkv[row][3 * heads * head_dim], one block a row: q in place, k and v into
 * the pages of the layer that starts at `layer`.  V divides head_dim / 2.
 */
template <typename T, int V>
static __global__ void
__launch_bounds__(ROPE_THREADS)
	rope_store_kernel(T *qkv, DsocrCudaRows rows, T *layer, KvPages p, RopeFrequencies frequencies)
{
	__shared__ __align__(16) float cosines[ROPE_MAX_HALF];
	__shared__ __align__(16) float sines[ROPE_MAX_HALF];
	int row = (int) blockIdx.x;
	int slot;
	int position;
	int half = p.head_dim / 2;
	int dim = p.heads * p.head_dim;
	T *q = qkv + (size_t) row * 3 * (size_t) dim;
	int index;
	int page;

	dsocr_grid_wait();
	dsocr_grid_release();
	slot = dsocr_row_slot(rows, row);
	position = slot < 0 ? -1 : dsocr_row_position(rows, row, slot);
	if (position < 0)
		return;
	index = position / p.page_tokens;
	page =
		index < rows.max_pages ? rows.pages[(size_t) slot * (size_t) rows.max_pages + index] : -1;
	for (int i = (int) threadIdx.x; i < half; i += ROPE_THREADS)
	{
		float sine;
		float cosine;

		sincosf((float) position * frequencies.f[i], &sine, &cosine);
		sines[i] = sine;
		cosines[i] = cosine;
	}
	__syncthreads();

	for (int i = (int) threadIdx.x; i < 2 * p.heads * (half / V); i += ROPE_THREADS)
	{
		int part = i / (p.heads * (half / V)); /* q, k */
		int head = i / (half / V) % p.heads;
		int at = i % (half / V) * V;
		T *x = q + part * dim + head * p.head_dim + at;
		T *to = part == 0 ? x : layer + kv_key_at(p, page, head, position) + at;

		if (part == 0 || page >= 0)
			rope_rotate<T, V>(to, x, half, cosines + at, sines + at);
	}
	if (page < 0)
		return;
	for (int i = (int) threadIdx.x; i < dim / V; i += ROPE_THREADS)
	{
		int head = i * V / p.head_dim;
		T *to =
			layer + kv_key_at(p, page, head, position) + kv_value_offset(p) + i * V % p.head_dim;

		*(KvPack<T, V> *) to = *(const KvPack<T, V> *) (q + 2 * dim + i * V);
	}
	/* an odd last element has no partner */
	for (int head = (int) threadIdx.x; p.head_dim % 2 != 0 && head < p.heads; head += ROPE_THREADS)
		layer[kv_key_at(p, page, head, position) + (size_t) (p.head_dim - 1)] =
			q[dim + (head + 1) * p.head_dim - 1];
}

/* ---- plain attention ---- */

/* Sum or largest over the block; every thread gets it.  shared[PLAIN_WARPS] */
static __device__ float
plain_reduce(float v, bool largest, float *shared)
{
	for (int d = 16; d > 0; d /= 2)
	{
		float other = __shfl_xor_sync(0xffffffffu, v, d);

		v = largest ? fmaxf(v, other) : v + other;
	}
	__syncthreads();
	if (threadIdx.x % 32 == 0)
		shared[threadIdx.x / 32] = v;
	__syncthreads();
	v = shared[0];
	for (int w = 1; w < PLAIN_WARPS; w++)
		v = largest ? fmaxf(v, shared[w]) : v + shared[w];
	return v;
}

/*
 * One row and head a block: PLAIN_THREADS positions at a time, a score each
 * thread, then an element of the output each thread; fp32, any shape.
 */
template <typename T>
static __global__ void
__launch_bounds__(PLAIN_THREADS) kv_plain_kernel(T *out, const T *qkv, DsocrCudaRows rows,
												 const T *layer, KvPages p, float scale)
{
	__shared__ float q[2 * ROPE_MAX_HALF];
	__shared__ float weights[PLAIN_THREADS];
	__shared__ size_t values[PLAIN_THREADS]; /* where each position's value lies */
	__shared__ float reduced[PLAIN_WARPS];
	int tid = (int) threadIdx.x;
	int row = (int) blockIdx.x;
	int head = (int) blockIdx.y;
	int slot;
	int n;
	size_t dim = (size_t) p.heads * (size_t) p.head_dim;
	size_t at = (size_t) head * (size_t) p.head_dim;
	float o[PLAIN_DIMS] = {};
	float top = -INFINITY;
	float sum = 0;

	dsocr_grid_wait();
	dsocr_grid_release();
	slot = dsocr_row_slot(rows, row);
	n = slot < 0 ? 0 : dsocr_row_position(rows, row, slot) + 1;
	if (n > rows.max_pages * p.page_tokens)
		n = rows.max_pages * p.page_tokens;
	for (int d = tid; d < p.head_dim; d += PLAIN_THREADS)
		q[d] = dsocr_to_float(qkv[(size_t) row * 3 * dim + at + (size_t) d]) * scale;
	__syncthreads();
	for (int from = 0; from < n; from += PLAIN_THREADS)
	{
		int count = n - from < PLAIN_THREADS ? n - from : PLAIN_THREADS;
		float score = -INFINITY;
		float old = top;

		if (tid < count)
		{
			int position = from + tid;
			int page = rows.pages[(size_t) slot * (size_t) rows.max_pages +
								  (size_t) (position / p.page_tokens)];
			size_t key = kv_key_at(p, page < 0 ? 0 : page, head, position);

			score = 0;
			for (int d = 0; d < p.head_dim; d++)
				score += q[d] * dsocr_to_float(layer[key + (size_t) d]);
			values[tid] = key + kv_value_offset(p);
		}
		top = fmaxf(top, plain_reduce(score, true, reduced));
		weights[tid] = tid < count ? expf(score - top) : 0.0f;
		sum = sum * expf(old - top) + plain_reduce(weights[tid], false, reduced);
#pragma unroll
		for (int i = 0; i < PLAIN_DIMS; i++)
		{
			int d = tid + i * PLAIN_THREADS;

			if (d >= p.head_dim)
				break;
			o[i] *= expf(old - top);
			for (int j = 0; j < count; j++)
				o[i] += weights[j] * dsocr_to_float(layer[values[j] + (size_t) d]);
		}
		__syncthreads();
	}
#pragma unroll
	for (int i = 0; i < PLAIN_DIMS; i++)
	{
		int d = tid + i * PLAIN_THREADS;

		if (d < p.head_dim)
			out[(size_t) row * dim + at + (size_t) d] =
				dsocr_from_float<T>(n > 0 ? o[i] / sum : 0.0f);
	}
}

/* ---- pages ---- */

static bool
kv_size(const DsocrBackend *be, const DsocrKvShape *s, size_t *page, size_t *layer, size_t *bytes)
{
	if (s->layers <= 0 || s->heads <= 0 || s->head_dim <= 0 || s->page_tokens <= 0 || s->pages <= 0)
		return false;
	return dsocr_mul(2 * (size_t) s->heads, (size_t) s->page_tokens, page) &&
		   dsocr_mul(*page, (size_t) s->head_dim, page) &&
		   dsocr_mul(*page, (size_t) s->pages, layer) &&
		   dsocr_mul(*layer, (size_t) s->layers, bytes) && dsocr_mul(*bytes, be->act_size, bytes);
}

size_t
dsocr_cuda_kv_bytes(const DsocrBackend *be, const DsocrKvShape *shape)
{
	size_t page;
	size_t layer;
	size_t bytes;

	return kv_size(be, shape, &page, &layer, &bytes) ? bytes : 0;
}

/* Counters of the decode kernel: two for its list of work, one for each row and head. */
static bool
kv_counters(DsocrCuda *c, DsocrKv *kv, DsocrError *err)
{
	size_t bytes = (2 + (size_t) DSOCR_CUDA_MAX_ROWS * (size_t) kv->shape.heads) * sizeof(int32_t);
	void *zeros = dsocr_zalloc(bytes, 1, err);

	if (zeros == NULL)
		return false;
	kv->counters = (int32_t *) dsocr_cuda_alloc(c, bytes, err);
	if (kv->counters != NULL)
		dsocr_cuda_upload(c, kv->counters, zeros, bytes);
	dsocr_free(zeros);
	return kv->counters != NULL;
}

DsocrKv *
dsocr_cuda_kv_open(DsocrBackend *be, const DsocrKvShape *shape, DsocrError *err)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrKv *kv;
	size_t bytes;

	if (shape->head_dim / 2 > ROPE_MAX_HALF)
	{
		dsocr_fail(err, DSOCR_E_MODEL,
				   "attention heads of %d are too wide, at most %d are possible", shape->head_dim,
				   2 * ROPE_MAX_HALF);
		return NULL;
	}
	kv = (DsocrKv *) dsocr_zalloc(1, sizeof(*kv), err);
	if (kv == NULL)
		return NULL;
	kv->shape = *shape;
	if (!kv_size(be, shape, &kv->page_elements, &kv->layer_elements, &bytes))
		dsocr_fail(err, DSOCR_E_MEMORY, "the key/value memory has an impossible size");
	else
	{
		kv->frequencies = (float *) dsocr_alloc(ROPE_MAX_HALF, sizeof(float), err);
		if (kv->frequencies != NULL && kv_counters(c, kv, err))
			kv->data = dsocr_cuda_alloc(c, bytes, err);
	}
	if (kv->data != NULL)
		return kv;
	dsocr_cuda_kv_close(be, kv);
	return NULL;
}

void
dsocr_cuda_kv_close(DsocrBackend *be, DsocrKv *kv)
{
	DsocrCuda *c = (DsocrCuda *) be;

	if (kv == NULL)
		return;
	dsocr_cuda_free(c, kv->data);
	dsocr_cuda_free(c, kv->counters);
	dsocr_free(kv->frequencies);
	dsocr_free(kv);
}

static KvPages
kv_pages(const DsocrKv *kv)
{
	KvPages p = {kv->page_elements, kv->shape.page_tokens, kv->shape.heads, kv->shape.head_dim};

	return p;
}

static void *
kv_layer(const DsocrCuda *c, const DsocrKv *kv, int layer)
{
	return (char *) kv->data + (size_t) layer * kv->layer_elements * c->base.act_size;
}

/* ---- launchers ---- */

template <typename T, int V>
static void
rope_store_as(DsocrCuda *c, void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer)
{
	RopeFrequencies f = {};

	memcpy(f.f, kv->frequencies, (size_t) (kv->shape.head_dim / 2) * sizeof(float));
	dsocr_cuda_check(c,
					 dsocr_launch_early(c->early, rope_store_kernel<T, V>,
										dim3((unsigned int) rows->n), dim3(ROPE_THREADS), 0,
										c->stream, (T *) qkv, dsocr_cuda_rows(c, rows),
										(T *) kv_layer(c, kv, layer), kv_pages(kv), f),
					 "rope_store");
}

void
dsocr_cuda_rope_store(DsocrBackend *be, void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer,
					  float theta)
{
	DsocrCuda *c = (DsocrCuda *) be;
	int half = kv->shape.head_dim / 2;

	if (rows->n <= 0)
		return;
	if (kv->theta != theta)
	{
		for (int i = 0; i < half; i++)
			kv->frequencies[i] = 1.0f / powf(theta, 2.0f * (float) i / (float) kv->shape.head_dim);
		kv->theta = theta;
	}
	if (dsocr_cuda_bf16(c))
	{
		if (kv->shape.head_dim % 16 == 0)
			rope_store_as<__nv_bfloat16, 8>(c, qkv, rows, kv, layer);
		else
			rope_store_as<__nv_bfloat16, 1>(c, qkv, rows, kv, layer);
	}
	else if (kv->shape.head_dim % 8 == 0)
		rope_store_as<float, 4>(c, qkv, rows, kv, layer);
	else
		rope_store_as<float, 1>(c, qkv, rows, kv, layer);
}

template <typename T>
static void
kv_plain(DsocrCuda *c, void *out, const void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer)
{
	dim3 grid((unsigned int) rows->n, (unsigned int) kv->shape.heads);

	dsocr_cuda_check(c,
					 dsocr_launch_early(c->early, kv_plain_kernel<T>, grid, dim3(PLAIN_THREADS), 0,
										c->stream, (T *) out, (const T *) qkv,
										dsocr_cuda_rows(c, rows),
										(const T *) kv_layer(c, kv, layer), kv_pages(kv),
										1.0f / sqrtf((float) kv->shape.head_dim)),
					 "causal_attention");
}

/* Are there fast forms for these pages? */
static bool
kv_fast(const DsocrCuda *c, const DsocrKv *kv)
{
	return dsocr_cuda_bf16(c) && kv->shape.page_tokens == DECODE_PAGE &&
		   (kv->shape.head_dim == 64 || kv->shape.head_dim == 128);
}

template <int D>
static void
kv_decode(DsocrCuda *c, void *out, const void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer)
{
	size_t heads = (size_t) rows->n * (size_t) kv->shape.heads;
	size_t items = heads * DECODE_PARTS;
	size_t blocks = (size_t) c->sms * DECODE_BLOCKS;
	Decode a = {};

	a.parts = (float *) dsocr_cuda_scratch(c, DSOCR_SCRATCH_ATTENTION,
										   items * (D * sizeof(float) + sizeof(float2)));
	if (a.parts == NULL)
		return;
	a.sums = (float2 *) (a.parts + items * D);
	a.out = (__nv_bfloat16 *) out;
	a.qkv = (const __nv_bfloat16 *) qkv;
	a.layer = (const __nv_bfloat16 *) kv_layer(c, kv, layer);
	a.page_elements = kv->page_elements;
	a.counters = kv->counters;
	a.heads = kv->shape.heads;
	a.scale = LOG2E / sqrtf((float) D);
	dsocr_cuda_check(c,
					 dsocr_launch_early(c->early, kv_decode_kernel<D>,
										dim3((unsigned int) (items < blocks ? items : blocks)),
										dim3(DECODE_THREADS), 0, c->stream, a,
										dsocr_cuda_rows(c, rows)),
					 "causal_attention");
}

template <int D>
static void
kv_prefill(DsocrCuda *c, void *out, const void *qkv, const DsocrRows *rows, DsocrKv *kv, int layer)
{
	unsigned int tiles = (unsigned int) ((rows->n + PREFILL_ROWS - 1) / PREFILL_ROWS);
	Prefill a = {};

	a.out = (__nv_bfloat16 *) out;
	a.qkv = (const __nv_bfloat16 *) qkv;
	a.layer = (const __nv_bfloat16 *) kv_layer(c, kv, layer);
	a.page_elements = kv->page_elements;
	a.heads = kv->shape.heads;
	a.scale = LOG2E / sqrtf((float) D);
	dsocr_cuda_check(c,
					 dsocr_launch_early(c->early, kv_prefill_kernel<D>,
										dim3(tiles, (unsigned int) kv->shape.heads),
										dim3(PREFILL_THREADS), PREFILL_STAGES * prefill_stage<D>(),
										c->stream, a, dsocr_cuda_rows(c, rows)),
					 "causal_attention");
}

void
dsocr_cuda_causal_attention(DsocrBackend *be, void *out, const void *qkv, const DsocrRows *rows,
							DsocrKv *kv, int layer)
{
	DsocrCuda *c = (DsocrCuda *) be;

	if (rows->n <= 0)
		return;
	if (kv_fast(c, kv) && rows->mixed && rows->n <= DSOCR_CUDA_MAX_ROWS)
	{
		if (kv->shape.head_dim == 64)
			kv_decode<64>(c, out, qkv, rows, kv, layer);
		else
			kv_decode<128>(c, out, qkv, rows, kv, layer);
	}
	else if (kv_fast(c, kv) && !rows->mixed &&
			 c->shared_max >= (size_t) PREFILL_STAGES * prefill_stage<128>())
	{
		if (kv->shape.head_dim == 64)
			kv_prefill<64>(c, out, qkv, rows, kv, layer);
		else
			kv_prefill<128>(c, out, qkv, rows, kv, layer);
	}
	else if (dsocr_cuda_bf16(c))
		kv_plain<__nv_bfloat16>(c, out, qkv, rows, kv, layer);
	else
		kv_plain<float>(c, out, qkv, rows, kv, layer);
}
