/*-------------------------------------------------------------------------
 *
 * memory.cu
 *		Device memory: one region with a free list, and pinned memory through
 *		which everything is copied.
 *
 * The region is taken once, so that nobody else's program can take memory
 * away from a running engine and no allocation waits for the device.  Blocks
 * cover it without gaps, in order of their addresses; free neighbours are
 * joined.  A block may be used again at once: all work is in one stream, so
 * the next user's kernels come behind the last one's.
 *
 * For tools that watch allocations each block can be a cudaMalloc of its own
 * (DSOCR_CUDA_SEPARATE=1, usual in the emulator); the list then holds only
 * blocks in use.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#include <stdlib.h>
#include <string.h>

#define ALIGNMENT ((size_t) 256)
#define RESERVE ((size_t) 768 << 20)	   /* left to the driver, graphs, libraries */
#define SCRATCH_SHARE ((size_t) 512 << 20) /* left by who asks how much there is */
#define PIECES 4						   /* of pinned memory for uploads */
#define PIECE ((size_t) 4 << 20)		   /* bytes of one */
#define LANDING ((size_t) 1 << 20)		   /* bytes of pinned memory for downloads */

#ifdef DSOCR_CUDA_EMU
#define SEPARATE true
#else
#define SEPARATE false
#endif

typedef struct Block
{
	char *at;
	size_t bytes;
	bool used;
	unsigned born; /* recordings that were there before it */
} Block;

struct DsocrCudaMemory
{
	bool separate;
	size_t limit; /* bytes of the region, or of all allocations together */
	size_t used;
	char *region; /* NULL when separate */
	Block *blocks;
	size_t n;
	size_t max;
	char *staging;			  /* pinned [PIECES][PIECE] */
	char *landing;			  /* pinned [LANDING] */
	cudaEvent_t sent[PIECES]; /* the device has read the piece */
	int events;				  /* of them that exist */
	int piece;				  /* being filled */
	size_t filled;			  /* bytes of it */
};

/* ---- the list of blocks ---- */

/* Index of the first block at or behind this address. */
static size_t
find_block(const DsocrCudaMemory *m, const char *at)
{
	size_t low = 0;
	size_t high = m->n;

	while (low < high)
	{
		size_t middle = low + (high - low) / 2;

		if (m->blocks[middle].at < at)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static bool
insert_block(DsocrCudaMemory *m, size_t i, Block block, DsocrError *err)
{
	if (m->n == m->max)
	{
		size_t max = m->max == 0 ? 256 : 2 * m->max;
		Block *larger = (Block *) dsocr_alloc(max, sizeof(Block), err);

		if (larger == NULL)
			return false;
		if (m->n > 0)
			memcpy(larger, m->blocks, m->n * sizeof(Block));
		dsocr_free(m->blocks);
		m->blocks = larger;
		m->max = max;
	}
	memmove(m->blocks + i + 1, m->blocks + i, (m->n - i) * sizeof(Block));
	m->blocks[i] = block;
	m->n++;
	return true;
}

static void
remove_block(DsocrCudaMemory *m, size_t i)
{
	m->n--;
	memmove(m->blocks + i, m->blocks + i + 1, (m->n - i) * sizeof(Block));
}

/* The smallest free block that is large enough, or n. */
static size_t
best_fit(const DsocrCudaMemory *m, size_t bytes)
{
	size_t best = m->n;

	for (size_t i = 0; i < m->n; i++)
		if (!m->blocks[i].used && m->blocks[i].bytes >= bytes &&
			(best == m->n || m->blocks[i].bytes < m->blocks[best].bytes))
			best = i;
	return best;
}

static void *
cut_block(DsocrCuda *c, size_t bytes, DsocrError *err)
{
	DsocrCudaMemory *m = c->memory;
	size_t i = best_fit(m, bytes);
	Block *b;

	if (i == m->n)
	{
		dsocr_fail(err, DSOCR_E_MEMORY, "out of device memory: %zu bytes wanted, %zu of %zu in use",
				   bytes, m->used, m->limit);
		return NULL;
	}
	if (m->blocks[i].bytes > bytes)
	{
		Block rest = {m->blocks[i].at + bytes, m->blocks[i].bytes - bytes, false, 0};

		if (!insert_block(m, i + 1, rest, err))
			return NULL;
	}
	b = &m->blocks[i];
	b->bytes = bytes;
	b->used = true;
	b->born = c->recordings;
	m->used += bytes;
	return b->at;
}

static void *
separate_block(DsocrCuda *c, size_t bytes, DsocrError *err)
{
	DsocrCudaMemory *m = c->memory;
	void *p = NULL;
	cudaError_t rc = cudaErrorMemoryAllocation;
	Block b;

	if (c->trouble == cudaSuccess && bytes <= m->limit - m->used)
		rc = cudaMalloc(&p, bytes);
	if (rc != cudaSuccess)
	{
		(void) cudaGetLastError();
		dsocr_fail(err, DSOCR_E_MEMORY, "out of device memory: %zu bytes wanted, %zu of %zu in use",
				   bytes, m->used, m->limit);
		return NULL;
	}
	b.at = (char *) p;
	b.bytes = bytes;
	b.used = true;
	b.born = c->recordings;
	if (!insert_block(m, find_block(m, b.at), b, err))
	{
		(void) cudaFree(p);
		return NULL;
	}
	m->used += bytes;
	return p;
}

/* Join block i with a free neighbour behind it. */
static void
join_block(DsocrCudaMemory *m, size_t i)
{
	if (i + 1 >= m->n || m->blocks[i].used || m->blocks[i + 1].used)
		return;
	m->blocks[i].bytes += m->blocks[i + 1].bytes;
	remove_block(m, i + 1);
}

/* ---- allocation ---- */

void *
dsocr_cuda_alloc(DsocrCuda *c, size_t bytes, DsocrError *err)
{
	size_t whole;

	if (!dsocr_add(bytes == 0 ? 1 : bytes, ALIGNMENT - 1, &whole))
	{
		dsocr_fail(err, DSOCR_E_MEMORY, "%zu bytes of device memory are too many", bytes);
		return NULL;
	}
	/* sanitizers see the exact end of what stands alone */
	if (c->memory->separate)
		return separate_block(c, bytes == 0 ? 1 : bytes, err);
	return cut_block(c, whole / ALIGNMENT * ALIGNMENT, err);
}

void
dsocr_cuda_free(DsocrCuda *c, void *p)
{
	DsocrCudaMemory *m = c->memory;
	size_t i;

	if (p == NULL)
		return;
	i = find_block(m, (char *) p);
	if (i == m->n || m->blocks[i].at != p || !m->blocks[i].used)
	{
		(void) dsocr_cuda_check(c, cudaErrorInvalidValue, "memory that was freed");
		return;
	}
	/* a recording may hold its address */
	if (m->blocks[i].born < c->recordings)
		dsocr_cuda_graphs_drop(c);
	m->used -= m->blocks[i].bytes;
	if (m->separate)
	{
		remove_block(m, i);
		if (c->trouble == cudaSuccess)
			(void) dsocr_cuda_check(c, cudaFree(p), "freeing memory");
		return;
	}
	m->blocks[i].used = false;
	join_block(m, i);
	if (i > 0)
		join_block(m, i - 1);
}

size_t
dsocr_cuda_memory_limit(const DsocrCuda *c)
{
	return c->memory->limit;
}

size_t
dsocr_cuda_memory_left(const DsocrCuda *c)
{
	const DsocrCudaMemory *m = c->memory;
	size_t largest = m->separate ? m->limit - m->used : 0;

	for (size_t i = 0; !m->separate && i < m->n; i++)
		if (!m->blocks[i].used && m->blocks[i].bytes > largest)
			largest = m->blocks[i].bytes;
	return largest - (largest / 8 < SCRATCH_SHARE ? largest / 8 : SCRATCH_SHARE);
}

void *
dsocr_cuda_scratch(DsocrCuda *c, DsocrCudaSlot slot, size_t bytes)
{
	if (bytes <= c->scratch_bytes[slot] && c->scratch[slot] != NULL)
		return c->scratch[slot];
	if (c->recording)
	{
		/* the step before had the same sizes; whoever asks for more cannot be recorded */
		c->spoiled = true;
		return NULL;
	}
	dsocr_cuda_graphs_drop(c);
	dsocr_cuda_free(c, c->scratch[slot]);
	c->scratch[slot] = dsocr_cuda_alloc(c, bytes, NULL);
	c->scratch_bytes[slot] = c->scratch[slot] == NULL ? 0 : bytes;
	if (c->scratch[slot] == NULL)
		c->out_of_memory = true;
	return c->scratch[slot];
}

/* ---- copies ---- */

/* The next piece, once the device has read what was in it. */
static bool
next_piece(DsocrCuda *c)
{
	DsocrCudaMemory *m = c->memory;

	if (!dsocr_cuda_check(c, cudaEventRecord(m->sent[m->piece], c->stream), "an upload"))
		return false;
	m->piece = (m->piece + 1) % PIECES;
	m->filled = 0;
	return dsocr_cuda_wait(c, m->sent[m->piece], "an upload");
}

void
dsocr_cuda_upload(DsocrCuda *c, void *device, const void *src, size_t bytes)
{
	DsocrCudaMemory *m = c->memory;
	const char *from = (const char *) src;
	char *to = (char *) device;

	if (c->recording)
	{
		/* it would be replayed from pinned memory that holds something else by then */
		c->spoiled = true;
		return;
	}
	while (bytes > 0 && c->trouble == cudaSuccess)
	{
		size_t n;
		char *pinned;

		if (m->filled == PIECE && !next_piece(c))
			return;
		n = PIECE - m->filled < bytes ? PIECE - m->filled : bytes;
		pinned = m->staging + (size_t) m->piece * PIECE + m->filled;
		memcpy(pinned, from, n);
		if (!dsocr_cuda_check(c, cudaMemcpyAsync(to, pinned, n, cudaMemcpyHostToDevice, c->stream),
							  "an upload"))
			return;
		m->filled += n;
		from += n;
		to += n;
		bytes -= n;
	}
}

void
dsocr_cuda_download(DsocrCuda *c, void *dst, const void *device, size_t bytes)
{
	DsocrCudaMemory *m = c->memory;
	const char *from = (const char *) device;
	char *to = (char *) dst;

	if (c->recording)
		c->spoiled = true;
	while (bytes > 0)
	{
		size_t n = bytes < LANDING ? bytes : LANDING;

		if (c->recording || c->trouble != cudaSuccess ||
			!dsocr_cuda_check(
				c, cudaMemcpyAsync(m->landing, from, n, cudaMemcpyDeviceToHost, c->stream),
				"a download") ||
			!dsocr_cuda_check(c, cudaEventRecord(c->arrived, c->stream), "a download") ||
			!dsocr_cuda_wait(c, c->arrived, "a download"))
		{
			/* nobody may take old bytes for results */
			memset(to, 0, bytes);
			return;
		}
		memcpy(to, m->landing, n);
		from += n;
		to += n;
		bytes -= n;
	}
}

/* ---- opening ---- */

static bool
open_region(DsocrCudaMemory *m, size_t limit, DsocrError *err)
{
	size_t available = 0;
	size_t total = 0;
	cudaError_t rc = cudaMemGetInfo(&available, &total);
	Block all;

	if (rc != cudaSuccess)
		return dsocr_fail(err, DSOCR_E_DEVICE, "could not ask the device for its memory: %s",
						  cudaGetErrorString(rc));
	m->limit = limit;
	if (limit == 0)
		m->limit = available - (available / 4 < RESERVE ? available / 4 : RESERVE);
	m->limit = m->limit / ALIGNMENT * ALIGNMENT;
	if (m->limit < 16 * ALIGNMENT || m->limit > available)
	{
		dsocr_fail(err, DSOCR_E_MEMORY, "the device has %zu MB of free memory, %zu MB are wanted",
				   available >> 20, m->limit >> 20);
		return dsocr_hint(err, "Lower dsocr.gpu_memory, or end other programs on the device.");
	}
	if (m->separate)
		return true;
	/* free memory is not always to be had in one piece */
	for (int i = 0; i < 8; i++)
	{
		rc = cudaMalloc((void **) &m->region, m->limit);
		if (rc == cudaSuccess || limit != 0)
			break;
		(void) cudaGetLastError();
		m->limit = (m->limit - m->limit / 16) / ALIGNMENT * ALIGNMENT;
	}
	if (rc != cudaSuccess)
	{
		(void) cudaGetLastError();
		m->region = NULL;
		return dsocr_fail(err, DSOCR_E_MEMORY, "could not get %zu MB of device memory: %s",
						  m->limit >> 20, cudaGetErrorString(rc));
	}
	all.at = m->region;
	all.bytes = m->limit;
	all.used = false;
	all.born = 0;
	return insert_block(m, 0, all, err);
}

static bool
open_pinned(DsocrCudaMemory *m, DsocrError *err)
{
	cudaError_t rc = cudaMallocHost((void **) &m->staging, PIECES * PIECE);

	if (rc == cudaSuccess)
		rc = cudaMallocHost((void **) &m->landing, LANDING);
	while (rc == cudaSuccess && m->events < PIECES)
	{
		rc = cudaEventCreateWithFlags(&m->sent[m->events], cudaEventDisableTiming);
		if (rc == cudaSuccess)
			m->events++;
	}
	if (rc == cudaSuccess)
		return true;
	return dsocr_fail(err, rc == cudaErrorMemoryAllocation ? DSOCR_E_MEMORY : DSOCR_E_DEVICE,
					  "could not get pinned memory: %s", cudaGetErrorString(rc));
}

DsocrCudaMemory *
dsocr_cuda_memory_open(DsocrCuda *c, size_t limit, DsocrError *err)
{
	const char *separate = getenv("DSOCR_CUDA_SEPARATE");
	DsocrCudaMemory *m = (DsocrCudaMemory *) dsocr_zalloc(1, sizeof(*m), err);

	if (m == NULL)
		return NULL;
	m->separate = separate != NULL ? separate[0] == '1' : SEPARATE;
	if (open_pinned(m, err) && open_region(m, limit, err))
		return m;
	dsocr_cuda_memory_close(c, m);
	return NULL;
}

void
dsocr_cuda_memory_close(DsocrCuda *c, DsocrCudaMemory *m)
{
	if (m == NULL)
		return;
	/* a device that hangs is left to the end of the process */
	if (c->trouble == cudaSuccess)
	{
		for (size_t i = 0; m->separate && i < m->n; i++)
			(void) cudaFree(m->blocks[i].at);
		(void) cudaFree(m->region);
		for (int i = 0; i < m->events; i++)
			(void) cudaEventDestroy(m->sent[i]);
		(void) cudaFreeHost(m->staging);
		(void) cudaFreeHost(m->landing);
	}
	dsocr_free(m->blocks);
	dsocr_free(m);
}
