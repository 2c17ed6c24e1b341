/*-------------------------------------------------------------------------
 *
 * sampling.cu
 *		Texts in device memory, and the next id of each.
 *
 * Two launches a step.  The first looks in each text for the ids that its
 * rule bans (src/engine/sampling.h).  The second reads the logits once, in
 * parts of PICK_PART ids: every block leaves the largest value, the sum of
 * exponentials and the best allowed id of its part; the block that comes last
 * to a row puts the parts together in their order, so the sum does not depend
 * on which one that is, and appends the id to the text.
 *
 * The choice is written to pinned host memory as well, so that nothing has to
 * be copied behind the step.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#include <math.h>
#include <string.h>

#define BAN_THREADS 256
#define BAN_UNITS 4 /* places a thread looks at together */
#define PICK_THREADS 256
#define PICK_WARPS (PICK_THREADS / 32)
#define PICK_UNITS 32 /* logits a thread */
#define PICK_PART (PICK_THREADS * PICK_UNITS)

/* What is known of some logits of a row. */
typedef struct Part
{
	float top;	/* largest */
	float sum;	/* of exp(x - top) */
	float best; /* largest that is not banned */
	int32_t id; /* whose; -1: all are banned */
} Part;

/* ---- texts ---- */

static __global__ void
text_set_kernel(DsocrCudaTexts t, int slot, int n, int prompt_len, int size, int window)
{
	t.len[slot] = n;
	t.prompt_len[slot] = prompt_len;
	t.ngram_size[slot] = size;
	t.ngram_window[slot] = window;
}

/* ---- bans ---- */

static __device__ bool
ban_listed(const int32_t *ids, int n, int32_t id)
{
	for (int i = 0; i < n; i++)
		if (ids[i] == id)
			return true;
	return false;
}

/* Is ids[at .. at + n) the same as the n ids before end?  From behind: it differs sooner. */
static __device__ bool
ban_same_tail(const int32_t *ids, int at, int end, int n)
{
	for (int i = n - 1; i >= 0; i--)
		if (ids[at + i] != ids[end - n + i])
			return false;
	return true;
}

/* Ban the id behind an n-gram's other ids at `at` when they are the last ones of n. */
static __device__ void
ban_look(int32_t *to, int *found, const int32_t *ids, int at, int n, int size,
		 const int32_t *whitelist, int n_whitelist)
{
	int32_t id = ids[at + size - 1];

	if (ban_same_tail(ids, at, n, size - 1) &&
		!(whitelist != NULL && ban_listed(whitelist, n_whitelist, id)))
		to[atomicAdd(found, 1)] = id;
}

/*
 * banned[row][0 .. count[row]) = ids that would complete an n-gram again, in
 * no particular order.
 */
static __global__ void
__launch_bounds__(BAN_THREADS)
	ban_kernel(int32_t *banned, int32_t *count, DsocrCudaRows rows, DsocrCudaTexts t)
{
	__shared__ int found;
	int slot;
	int32_t *to = banned + (size_t) blockIdx.x * (size_t) t.max_ids;

	dsocr_grid_wait();
	dsocr_grid_release();
	slot = dsocr_row_slot(rows, (int) blockIdx.x);
	if (threadIdx.x == 0)
		found = 0;
	__syncthreads();
	if (slot >= 0 && t.ngram_size[slot] > 0)
	{
		const int32_t *ids = t.ids + (size_t) slot * (size_t) t.max_ids;
		int n = t.len[slot];
		int size = t.ngram_size[slot];
		int window = t.ngram_window[slot];
		int from = 0;

		if (window > 0)
		{
			from = t.prompt_len[slot];
			if (n - from > window)
				from = n - window;
		}
		for (int i = from + (int) threadIdx.x; i <= n - size; i += BAN_THREADS * BAN_UNITS)
		{
			bool same[BAN_UNITS];

			/* the id before the banned one first: many at a time, and few are the same */
#pragma unroll
			for (int j = 0; j < BAN_UNITS; j++)
			{
				int at = i + j * BAN_THREADS;

				same[j] = at <= n - size && (size == 1 || ids[at + size - 2] == ids[n - 1]);
			}
#pragma unroll
			for (int j = 0; j < BAN_UNITS; j++)
				if (same[j])
					ban_look(to, &found, ids, i + j * BAN_THREADS, n, size,
							 window > 0 ? t.whitelist : NULL, t.n_whitelist);
		}
	}
	__syncthreads();
	if (threadIdx.x == 0)
		count[blockIdx.x] = found;
}

/* ---- pick ---- */

/* The greater; the lower id on a tie. */
static __device__ __forceinline__ bool
pick_better(float value, int32_t id, float than, int32_t than_id)
{
	if (id < 0 || than_id < 0)
		return id >= 0;
	return value > than || (!(than > value) && id < than_id);
}

/* exp(x - top) where top may be -inf because everything is */
static __device__ __forceinline__ float
pick_exp(float x, float top)
{
	return top == -INFINITY ? 0.0f : expf(x - top);
}

/* Largest value and best id of the block's threads; every thread gets them. */
static __device__ void
pick_block_best(Part *p, Part *shared)
{
	int lane = (int) threadIdx.x % 32;
	int warp = (int) threadIdx.x / 32;

	for (int d = 16; d > 0; d /= 2)
	{
		float top = __shfl_xor_sync(0xffffffffu, p->top, d);
		float best = __shfl_xor_sync(0xffffffffu, p->best, d);
		int32_t id = __shfl_xor_sync(0xffffffffu, p->id, d);

		p->top = fmaxf(p->top, top);
		if (pick_better(best, id, p->best, p->id))
		{
			p->best = best;
			p->id = id;
		}
	}
	if (lane == 0)
		shared[warp] = *p;
	__syncthreads();
	*p = shared[0];
	for (int w = 1; w < PICK_WARPS; w++)
	{
		p->top = fmaxf(p->top, shared[w].top);
		if (pick_better(shared[w].best, shared[w].id, p->best, p->id))
		{
			p->best = shared[w].best;
			p->id = shared[w].id;
		}
	}
	__syncthreads();
}

/* Sum over the block in a fixed order; thread 0 gets it. */
static __device__ float
pick_block_sum(float v, float *shared)
{
	for (int d = 16; d > 0; d /= 2)
		v += __shfl_xor_sync(0xffffffffu, v, d);
	if (threadIdx.x % 32 == 0)
		shared[threadIdx.x / 32] = v;
	__syncthreads();
	v = shared[0];
	for (int w = 1; w < PICK_WARPS; w++)
		v += shared[w];
	return v;
}

/*
 * Logits of ids first + j of a thread, j = 0 .. 31; behind the vocabulary
 * -inf.  W of them lie together and are one access.
 */
template <int W>
static __device__ __forceinline__ int
pick_id(int part, int j)
{
	return part * PICK_PART + (j / W * PICK_THREADS + (int) threadIdx.x) * W + j % W;
}

template <int W>
static __device__ __forceinline__ void
pick_load(float x[PICK_UNITS], const float *row, int part, int vocab)
{
#pragma unroll
	for (int j = 0; j < PICK_UNITS; j += W)
	{
		int id = pick_id<W>(part, j);

		if (W == 4)
		{
			uint4 v = id < vocab ? dsocr_load_stream(row + id)
								 : make_uint4(0xff800000u, 0xff800000u, 0xff800000u, 0xff800000u);

			x[j] = __uint_as_float(v.x);
			x[j + 1] = __uint_as_float(v.y);
			x[j + 2] = __uint_as_float(v.z);
			x[j + 3] = __uint_as_float(v.w);
		}
		else
			x[j] = id < vocab ? row[id] : -INFINITY;
	}
}

/* The parts of one row in their order; by one thread. */
static __device__ void
pick_finish(const Part *parts, int n_parts, const float *logits, int row, int slot,
			DsocrCudaTexts t, int32_t *picked_ids, float *picked_logprobs)
{
	Part all = parts[0];
	double sum = 0;
	float logprob;

	for (int i = 1; i < n_parts; i++)
	{
		all.top = fmaxf(all.top, parts[i].top);
		if (pick_better(parts[i].best, parts[i].id, all.best, all.id))
		{
			all.best = parts[i].best;
			all.id = parts[i].id;
		}
	}
	for (int i = 0; i < n_parts; i++)
		sum += (double) parts[i].sum * (double) pick_exp(parts[i].top, all.top);
	if (all.id < 0) /* everything is banned */
	{
		all.id = 0;
		all.best = logits[0];
	}
	logprob = (float) ((double) all.best - (double) all.top - log(sum));
	picked_ids[row] = t.host_ids[row] = all.id;
	picked_logprobs[row] = t.host_logprobs[row] = logprob;
	if (t.len[slot] < t.max_ids)
		t.ids[(size_t) slot * (size_t) t.max_ids + (size_t) t.len[slot]++] = all.id;
}

/*
 * Blocks by part and row.  banned and count are those of ban_kernel,
 * parts[rows][gridDim.x] is scratch.
 */
template <int W>
static __global__ void
__launch_bounds__(PICK_THREADS)
	pick_kernel(int32_t *picked_ids, float *picked_logprobs, Part *parts, const float *logits,
				int vocab, const int32_t *banned, const int32_t *count, DsocrCudaRows rows,
				DsocrCudaTexts t)
{
	__shared__ uint32_t bans[PICK_PART / 32];
	__shared__ Part warps[PICK_WARPS];
	__shared__ float sums[PICK_WARPS];
	int part = (int) blockIdx.x;
	int n_parts = (int) gridDim.x;
	int row = (int) blockIdx.y;
	int slot;
	int n_bans;
	float x[PICK_UNITS];
	Part p = {-INFINITY, 0, 0, -1};
	float sum = 0;

	dsocr_grid_wait();
	dsocr_grid_release();
	slot = dsocr_row_slot(rows, row);
	n_bans = count[row];
	if (slot < 0)
	{
		if (part == 0 && threadIdx.x == 0)
		{
			picked_ids[row] = t.host_ids[row] = -1;
			picked_logprobs[row] = t.host_logprobs[row] = 0;
		}
		return;
	}
	logits += (size_t) row * (size_t) vocab;
	pick_load<W>(x, logits, part, vocab);
	for (int i = (int) threadIdx.x; i < PICK_PART / 32; i += PICK_THREADS)
		bans[i] = 0;
	__syncthreads();
	for (int i = (int) threadIdx.x; i < n_bans; i += PICK_THREADS)
	{
		int32_t id = banned[(size_t) row * (size_t) t.max_ids + (size_t) i] - part * PICK_PART;

		if (id >= 0 && id < PICK_PART)
			atomicOr(&bans[id / 32], 1u << (id % 32));
	}
	__syncthreads();

#pragma unroll
	for (int j = 0; j < PICK_UNITS; j++)
	{
		int id = pick_id<W>(part, j);
		int at = id - part * PICK_PART;

		p.top = fmaxf(p.top, x[j]);
		if (id < vocab && (p.id < 0 || x[j] > p.best) && !(bans[at / 32] >> (at % 32) & 1))
		{
			p.best = x[j];
			p.id = id;
		}
	}
	pick_block_best(&p, warps);
#pragma unroll
	for (int j = 0; j < PICK_UNITS; j++)
		sum += pick_exp(x[j], p.top);
	p.sum = pick_block_sum(sum, sums);
	if (threadIdx.x != 0)
		return;

	parts += (size_t) row * (size_t) n_parts;
	parts[part] = p;
	__threadfence();
	if (atomicAdd(&t.counters[row], 1) != n_parts - 1)
		return;
	__threadfence();
	atomicExch(&t.counters[row], 0);
	pick_finish(parts, n_parts, logits, row, slot, t, picked_ids, picked_logprobs);
}

/* ---- launchers ---- */

/* Zeroed device memory for slots * n values. */
static int32_t *
texts_array(DsocrCuda *c, size_t n, size_t times, DsocrError *err)
{
	size_t bytes;
	void *zeros;
	void *p;

	if (!dsocr_mul(n, times, &bytes) || !dsocr_mul(bytes, sizeof(int32_t), &bytes))
	{
		dsocr_fail(err, DSOCR_E_MEMORY, "the texts' memory has an impossible size");
		return NULL;
	}
	if (bytes == 0)
		bytes = sizeof(int32_t);
	zeros = dsocr_zalloc(bytes, 1, err);
	if (zeros == NULL)
		return NULL;
	p = dsocr_cuda_alloc(c, bytes, err);
	if (p != NULL)
		dsocr_cuda_upload(c, p, zeros, bytes);
	dsocr_free(zeros);
	return (int32_t *) p;
}

static bool
texts_pinned(void **p, DsocrError *err)
{
	cudaError_t rc = cudaMallocHost(p, DSOCR_CUDA_MAX_ROWS * sizeof(int32_t));

	if (rc == cudaSuccess)
		return true;
	*p = NULL;
	return dsocr_fail(err, DSOCR_E_MEMORY, "no pinned memory for the results: %s",
					  cudaGetErrorString(rc));
}

bool
dsocr_cuda_texts_open(DsocrBackend *be, const DsocrTextShape *shape, DsocrError *err)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrCudaTexts *t = &c->texts;
	size_t slots = (size_t) shape->slots;

	if (shape->slots <= 0 || shape->ids <= 0 || shape->pages < 0 || shape->n_whitelist < 0)
		return dsocr_fail(err, DSOCR_E_INTERNAL, "%d texts of %d ids are impossible", shape->slots,
						  shape->ids);
	dsocr_cuda_texts_close(c);
	t->slots = shape->slots;
	t->max_ids = shape->ids;
	t->max_pages = shape->pages;
	t->n_whitelist = shape->n_whitelist;
	if ((t->ids = texts_array(c, slots, (size_t) shape->ids, err)) == NULL ||
		(t->len = texts_array(c, slots, 1, err)) == NULL ||
		(t->prompt_len = texts_array(c, slots, 1, err)) == NULL ||
		(t->pages = texts_array(c, slots, (size_t) shape->pages, err)) == NULL ||
		(t->ngram_size = texts_array(c, slots, 1, err)) == NULL ||
		(t->ngram_window = texts_array(c, slots, 1, err)) == NULL ||
		(t->whitelist = texts_array(c, (size_t) shape->n_whitelist, 1, err)) == NULL ||
		(t->counters = texts_array(c, DSOCR_CUDA_MAX_ROWS, 1, err)) == NULL ||
		!texts_pinned((void **) &t->host_ids, err) ||
		!texts_pinned((void **) &t->host_logprobs, err))
	{
		dsocr_cuda_texts_close(c);
		return false;
	}
	if (shape->n_whitelist > 0)
		dsocr_cuda_upload(c, t->whitelist, shape->whitelist,
						  (size_t) shape->n_whitelist * sizeof(int32_t));
	return true;
}

void
dsocr_cuda_texts_close(DsocrCuda *c)
{
	DsocrCudaTexts *t = &c->texts;

	dsocr_cuda_free(c, t->ids);
	dsocr_cuda_free(c, t->len);
	dsocr_cuda_free(c, t->prompt_len);
	dsocr_cuda_free(c, t->pages);
	dsocr_cuda_free(c, t->ngram_size);
	dsocr_cuda_free(c, t->ngram_window);
	dsocr_cuda_free(c, t->whitelist);
	dsocr_cuda_free(c, t->counters);
	if (t->host_ids != NULL)
		dsocr_cuda_check(c, cudaFreeHost(t->host_ids), "cudaFreeHost");
	if (t->host_logprobs != NULL)
		dsocr_cuda_check(c, cudaFreeHost(t->host_logprobs), "cudaFreeHost");
	memset(t, 0, sizeof(*t));
}

void
dsocr_cuda_text_start(DsocrBackend *be, int slot, const DsocrText *text)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrCudaTexts *t = &c->texts;
	int n = text->n < t->max_ids ? text->n : t->max_ids;
	int n_pages = text->n_pages < t->max_pages ? text->n_pages : t->max_pages;

	if (slot < 0 || slot >= t->slots)
		return;
	if (n > 0)
		dsocr_cuda_upload(c, t->ids + (size_t) slot * (size_t) t->max_ids, text->ids,
						  (size_t) n * sizeof(int32_t));
	if (n_pages > 0)
		dsocr_cuda_upload(c, t->pages + (size_t) slot * (size_t) t->max_pages, text->pages,
						  (size_t) n_pages * sizeof(int32_t));
	dsocr_cuda_check(c,
					 dsocr_launch(text_set_kernel, dim3(1), dim3(1), 0, c->stream, *t, slot, n,
								  text->prompt_len, text->ngram_size, text->ngram_window),
					 "text_start");
}

template <int W>
static void
pick_as(DsocrCuda *c, const float *logits, const DsocrCudaRows &r, int n, int n_parts, int vocab,
		void *scratch)
{
	const DsocrCudaTexts *t = &c->texts;
	Part *parts = (Part *) scratch;
	int32_t *count = (int32_t *) (parts + (size_t) n * (size_t) n_parts);
	int32_t *banned = count + n;

	if (!dsocr_cuda_check(c,
						  dsocr_launch_early(c->early, ban_kernel, dim3((unsigned int) n),
											 dim3(BAN_THREADS), 0, c->stream, banned, count, r, *t),
						  "bans"))
		return;
	dsocr_cuda_check(c,
					 dsocr_launch_early(
						 c->early, pick_kernel<W>, dim3((unsigned int) n_parts, (unsigned int) n),
						 dim3(PICK_THREADS), 0, c->stream, c->picked_ids, c->picked_logprobs, parts,
						 logits, vocab, (const int32_t *) banned, (const int32_t *) count, r, *t),
					 "pick");
}

void
dsocr_cuda_pick(DsocrBackend *be, const float *logits, const DsocrRows *rows, int vocab)
{
	DsocrCuda *c = (DsocrCuda *) be;
	DsocrCudaRows r = dsocr_cuda_rows(c, rows);
	int n = rows->mixed ? rows->n : 1;
	int n_parts = vocab / PICK_PART + (vocab % PICK_PART != 0);
	size_t row_bytes =
		(size_t) n_parts * sizeof(Part) + (1 + (size_t) c->texts.max_ids) * sizeof(int32_t);
	void *scratch;

	if (rows->n <= 0 || vocab <= 0)
		return;
	scratch = dsocr_cuda_scratch(c, DSOCR_SCRATCH_PICK, (size_t) n * row_bytes);
	if (scratch == NULL)
		return;
	if (vocab % 4 == 0 && (size_t) logits % 16 == 0)
		pick_as<4>(c, logits, r, n, n_parts, vocab, scratch);
	else
		pick_as<1>(c, logits, r, n, n_parts, vocab, scratch);
}

void
dsocr_cuda_picked(DsocrBackend *be, int32_t *ids, float *logprobs, int n)
{
	const DsocrCuda *c = (const DsocrCuda *) be;

	if (n > DSOCR_CUDA_MAX_ROWS)
		n = DSOCR_CUDA_MAX_ROWS;
	if (n <= 0 || c->texts.host_ids == NULL)
		return;
	memcpy(ids, c->texts.host_ids, (size_t) n * sizeof(*ids));
	memcpy(logprobs, c->texts.host_logprobs, (size_t) n * sizeof(*logprobs));
}
