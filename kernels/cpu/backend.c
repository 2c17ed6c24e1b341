/*-------------------------------------------------------------------------
 *
 * backend.c
 *		The CPU backend: its table, memory and opening.
 *
 *-------------------------------------------------------------------------
 */
#include "cpu.h"

#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define CPU_COPY_PIECE 262144 /* elements a task */
#define CPU_HUGE_PAGE ((size_t) 2 << 20)
#define CPU_HUGE_MINIMUM ((size_t) 4 << 20)

/* ---- memory ---- */

/*
 * Memory for activations: large ones in huge pages, where rows far apart cost
 * fewer page walks.  Freed by dsocr_free.
 */
static void *
cpu_memory(size_t count, size_t size, DsocrError *err)
{
	size_t bytes;
	size_t whole;
	void *p;

	if (!dsocr_mul(count, size, &bytes) || bytes < CPU_HUGE_MINIMUM ||
		!dsocr_add(bytes, CPU_HUGE_PAGE - 1, &whole))
		return dsocr_alloc(count, size, err);
	p = aligned_alloc(CPU_HUGE_PAGE, whole & ~(CPU_HUGE_PAGE - 1));
	if (p == NULL)
		dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for %zu bytes of activations", bytes);
	else
		madvise(p, bytes, MADV_HUGEPAGE); /* a wish; it may be refused */
	return p;
}

static void *
cpu_alloc(DsocrBackend *be, size_t n, DsocrError *err)
{
	return cpu_memory(n, sizeof(float), err);
}

static void
cpu_free(DsocrBackend *be, void *act)
{
	dsocr_free(act);
}

static void
cpu_write(DsocrBackend *be, void *act, const float *host, size_t n)
{
	memcpy(act, host, n * sizeof(float));
}

static void
cpu_read(DsocrBackend *be, float *host, const void *act, size_t n)
{
	memcpy(host, act, n * sizeof(float));
}

typedef struct CpuCopy
{
	float *dst;
	const float *src;
} CpuCopy;

static void
cpu_copy_range(DsocrCpu *cpu, void *arg, size_t from, size_t to)
{
	const CpuCopy *c = arg;

	memcpy(c->dst + from, c->src + from, (to - from) * sizeof(float));
}

static void
cpu_copy(DsocrBackend *be, void *dst, const void *src, size_t n)
{
	CpuCopy c = {dst, src};

	dsocr_cpu_ranges((DsocrCpu *) be, n, CPU_COPY_PIECE, cpu_copy_range, &c);
}

static void *
cpu_routing_alloc(DsocrBackend *be, size_t bytes, DsocrError *err)
{
	return dsocr_alloc(bytes, 1, err);
}

static void
cpu_routing_free(DsocrBackend *be, void *p)
{
	dsocr_free(p);
}

static void
cpu_routing_read(DsocrBackend *be, void *host, const void *p, size_t bytes)
{
	memcpy(host, p, bytes);
}

void *
dsocr_cpu_scratch(DsocrCpu *cpu, int worker, DsocrCpuSlot slot, size_t count, size_t size)
{
	DsocrCpuScratch *s = &cpu->scratch[worker + 1];
	size_t bytes;

	if (!dsocr_mul(count, size, &bytes))
	{
		__atomic_store_n(&cpu->broken, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	if (bytes > s->size[slot] || s->data[slot] == NULL)
	{
		dsocr_free(s->data[slot]);
		s->data[slot] = cpu_memory(bytes, 1, NULL);
		s->size[slot] = s->data[slot] == NULL ? 0 : bytes;
		if (s->data[slot] == NULL)
			__atomic_store_n(&cpu->broken, 1, __ATOMIC_RELAXED);
	}
	return s->data[slot];
}

static bool
cpu_sync(DsocrBackend *be, DsocrError *err)
{
	/* told once: what was computed since the last sync is lost, the rest can go on */
	if (__atomic_exchange_n(&((DsocrCpu *) be)->broken, 0, __ATOMIC_RELAXED))
		return dsocr_fail(err, DSOCR_E_MEMORY, "an operation ran out of scratch memory");
	return true;
}

/* ---- work ---- */

typedef struct CpuRanges
{
	DsocrCpu *cpu;
	size_t n;
	size_t piece;
	DsocrCpuRange fn;
	void *arg;
} CpuRanges;

static void
cpu_range_task(void *arg, int task, int worker)
{
	const CpuRanges *r = arg;
	size_t from = (size_t) task * r->piece;

	r->fn(r->cpu, r->arg, from, r->n - from < r->piece ? r->n : from + r->piece);
}

void
dsocr_cpu_ranges(DsocrCpu *cpu, size_t n, size_t piece, DsocrCpuRange fn, void *arg)
{
	CpuRanges r = {cpu, n, piece, fn, arg};

	dsocr_pool_run(cpu->pool, (int) ((n + piece - 1) / piece), cpu_range_task, &r);
}

/* ---- opening ---- */

static int
cpu_threads(int wish)
{
	cpu_set_t set;
	int n = wish;

	if (n <= 0)
		n = sched_getaffinity(0, sizeof(set), &set) == 0 ? CPU_COUNT(&set) : 1;
	return n > DSOCR_CPU_MAX_THREADS ? DSOCR_CPU_MAX_THREADS : n;
}

static void
cpu_close(DsocrBackend *be)
{
	DsocrCpu *cpu = (DsocrCpu *) be;

	if (cpu == NULL)
		return;
	dsocr_pool_close(cpu->pool);
	dsocr_onednn_close(cpu->onednn);
	for (int w = 0; cpu->scratch != NULL && w < be->threads + 1; w++)
		for (int s = 0; s < DSOCR_N_SLOTS; s++)
			dsocr_free(cpu->scratch[w].data[s]);
	dsocr_free(cpu->scratch);
	dsocr_free(cpu->rope);
	dsocr_free(cpu);
}

static const DsocrBackendOps cpu_ops = {.name = "cpu",
										.close = cpu_close,
										.alloc = cpu_alloc,
										.free = cpu_free,
										.write = cpu_write,
										.read = cpu_read,
										.copy = cpu_copy,
										.matrix = dsocr_cpu_matrix,
										.matrix_free = dsocr_cpu_matrix_free,
										.vector = dsocr_cpu_vector,
										.vector_free = dsocr_cpu_vector_free,
										.linear = dsocr_cpu_linear,
										.layer_norm = dsocr_cpu_layer_norm,
										.rms_norm = dsocr_cpu_rms_norm,
										.add = dsocr_cpu_add,
										.concat = dsocr_cpu_concat,
										.patches = dsocr_cpu_patches,
										.im2col3 = dsocr_cpu_im2col3,
										.grid_attention = dsocr_cpu_grid_attention,
										.attention = dsocr_cpu_attention,
										.embed = dsocr_cpu_embed,
										.kv_open = dsocr_cpu_kv_open,
										.kv_close = dsocr_cpu_kv_close,
										.kv_bytes = dsocr_cpu_kv_bytes,
										.rope_store = dsocr_cpu_rope_store,
										.causal_attention = dsocr_cpu_causal_attention,
										.silu_mul = dsocr_cpu_silu_mul,
										.router = dsocr_cpu_router,
										.routing_alloc = cpu_routing_alloc,
										.routing_free = cpu_routing_free,
										.routing_read = cpu_routing_read,
										.experts = dsocr_cpu_experts,
										.pick = dsocr_cpu_pick,
										.sync = cpu_sync};

DsocrBackend *
dsocr_cpu_open(const DsocrBackendOptions *options, DsocrError *err)
{
	DsocrCpu *cpu = dsocr_zalloc(1, sizeof(*cpu), err);
	DsocrBackend *be = (DsocrBackend *) cpu;

	if (cpu == NULL)
		return NULL;
	be->ops = &cpu_ops;
	be->precision = options->precision;
	be->act_size = sizeof(float);
	be->threads = cpu_threads(options->threads);
	cpu->isa = dsocr_isa_choose();
	cpu->scratch = dsocr_zalloc((size_t) be->threads + 1, sizeof(*cpu->scratch), err);
	if (cpu->scratch == NULL || (cpu->onednn = dsocr_onednn_open(be->threads, err)) == NULL ||
		(cpu->pool = dsocr_pool_open(be->threads, err)) == NULL)
	{
		cpu_close(be);
		return NULL;
	}
	cpu->onednn_bf16 = dsocr_onednn_has_bf16();
	snprintf(be->description, sizeof(be->description), "cpu (%s%s%s, %d thread%s)", cpu->isa->name,
			 dsocr_cpu_has_unit(cpu) ? "" : ", oneDNN ",
			 dsocr_cpu_has_unit(cpu) ? "" : dsocr_onednn_isa(), be->threads,
			 be->threads == 1 ? "" : "s");
	return be;
}
