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

#define CPU_HUGE_PAGE ((size_t) 2 << 20)
#define CPU_HUGE_MINIMUM ((size_t) 4 << 20)

/* ---- memory ---- */

/*
 * Memory for activations, keys and values: rows far apart cost fewer page walks
 * in huge pages.
 */
void *
dsocr_cpu_memory(size_t count, size_t size, DsocrError *err)
{
	size_t bytes;
	size_t whole;
	void *p;

	if (!dsocr_mul(count, size, &bytes) || bytes < CPU_HUGE_MINIMUM ||
		!dsocr_add(bytes, CPU_HUGE_PAGE - 1, &whole))
		return dsocr_alloc(count, size, err);
	p = aligned_alloc(CPU_HUGE_PAGE, whole & ~(CPU_HUGE_PAGE - 1));
	if (p == NULL)
		dsocr_fail(err, DSOCR_E_MEMORY, "out of memory for %zu bytes", bytes);
	else
		madvise(p, bytes, MADV_HUGEPAGE); /* a wish; it may be refused */
	return p;
}

static void *
cpu_alloc(DsocrBackend *be, size_t n, DsocrError *err)
{
	return dsocr_cpu_memory(n, sizeof(float), err);
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

/* Memory of the machine is nobody's own: what is asked for decides. */
static size_t
cpu_limit(DsocrBackend *be)
{
	return SIZE_MAX;
}

static void *
cpu_raw_alloc(DsocrBackend *be, size_t bytes, DsocrError *err)
{
	return dsocr_cpu_memory(bytes, 1, err);
}

static void
cpu_raw_free(DsocrBackend *be, void *p)
{
	dsocr_free(p);
}

static void
cpu_raw_read(DsocrBackend *be, void *host, const void *p, size_t bytes)
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
		s->data[slot] = dsocr_cpu_memory(bytes, 1, NULL);
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

/* Operations take rows as they are given: nothing is recorded, nothing filled up. */
static bool
cpu_run_begin(DsocrBackend *be, const DsocrRows *rows, bool whole_step)
{
	return true;
}

static void
cpu_run_end(DsocrBackend *be)
{
}

static int
cpu_bucket(const DsocrBackend *be, int n)
{
	return n;
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
	dsocr_cpu_texts_close(cpu);
	dsocr_free(cpu->rope);
	dsocr_free(cpu);
}

static const DsocrBackendOps cpu_ops = {.name = "cpu",
										.close = cpu_close,
										.alloc = cpu_alloc,
										.free = cpu_free,
										.write = cpu_write,
										.read = cpu_read,
										.copy_rows = dsocr_cpu_copy_rows,
										.memory = cpu_limit,
										.raw_alloc = cpu_raw_alloc,
										.raw_free = cpu_raw_free,
										.raw_read = cpu_raw_read,
										.matrix = dsocr_cpu_matrix,
										.matrix_free = dsocr_cpu_matrix_free,
										.vector = dsocr_cpu_vector,
										.vector_free = dsocr_cpu_vector_free,
										.linear = dsocr_cpu_linear,
										.swiglu = dsocr_cpu_swiglu,
										.logits = dsocr_cpu_logits,
										.layer_norm = dsocr_cpu_layer_norm,
										.rms_norm = dsocr_cpu_rms_norm,
										.add = dsocr_cpu_add,
										.concat = dsocr_cpu_concat,
										.patches = dsocr_cpu_patches,
										.im2col3 = dsocr_cpu_im2col3,
										.grid_attention = dsocr_cpu_grid_attention,
										.attention = dsocr_cpu_attention,
										.embed = dsocr_cpu_embed,
										.embed_last = dsocr_cpu_embed_last,
										.texts_open = dsocr_cpu_texts_open,
										.text_start = dsocr_cpu_text_start,
										.run_begin = cpu_run_begin,
										.run_end = cpu_run_end,
										.bucket = cpu_bucket,
										.kv_open = dsocr_cpu_kv_open,
										.kv_close = dsocr_cpu_kv_close,
										.kv_bytes = dsocr_cpu_kv_bytes,
										.rope_store = dsocr_cpu_rope_store,
										.causal_attention = dsocr_cpu_causal_attention,
										.silu_mul = dsocr_cpu_silu_mul,
										.router = dsocr_cpu_router,
										.experts_open = dsocr_cpu_experts_open,
										.experts_close = dsocr_cpu_experts_close,
										.experts = dsocr_cpu_experts,
										.pick = dsocr_cpu_pick,
										.picked = dsocr_cpu_picked,
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
	be->weights = options->weights;
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
