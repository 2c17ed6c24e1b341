/*-------------------------------------------------------------------------
 *
 * onednn.c
 *		Matrix products of the oneDNN library, version 2.6.
 *
 * Making a primitive costs milliseconds (it generates code), running one
 * microseconds: primitives are kept by shape.  The list only grows and is
 * read under a mutex; callers keep the number of shapes small by rounding.
 * Each worker has a stream and memory objects of its own.
 *
 *-------------------------------------------------------------------------
 */
#include "onednn.h"

#include <dnnl.h>
#include <omp.h>
#include <pthread.h>
#include <string.h>

typedef struct OnednnEntry
{
	struct OnednnEntry *next;
	DsocrGemm shape;
	dnnl_primitive_desc_t desc;
	dnnl_primitive_t primitive;
} OnednnEntry;

typedef struct OnednnWorker
{
	dnnl_stream_t stream;
	void *scratch;
	size_t scratch_size;
} OnednnWorker;

struct DsocrOnednn
{
	dnnl_engine_t engine;
	pthread_mutex_t lock; /* guards entries */
	OnednnEntry *entries;
	int n_workers;
	OnednnWorker *workers;
};

DsocrOnednn *
dsocr_onednn_open(int workers, DsocrError *err)
{
	DsocrOnednn *d = dsocr_zalloc(1, sizeof(*d), err);

	if (d == NULL)
		return NULL;
	pthread_mutex_init(&d->lock, NULL);
	d->workers = dsocr_zalloc((size_t) workers, sizeof(*d->workers), err);
	if (d->workers == NULL)
	{
		dsocr_onednn_close(d);
		return NULL;
	}
	d->n_workers = workers;
	omp_set_num_threads(1);
	if (dnnl_engine_create(&d->engine, dnnl_cpu, 0) != dnnl_success)
	{
		dsocr_onednn_close(d);
		dsocr_fail(err, DSOCR_E_DEVICE, "oneDNN has no CPU engine");
		return NULL;
	}
	for (int i = 0; i < workers; i++)
		if (dnnl_stream_create(&d->workers[i].stream, d->engine, dnnl_stream_in_order) !=
			dnnl_success)
		{
			dsocr_onednn_close(d);
			dsocr_fail(err, DSOCR_E_MEMORY, "oneDNN could not create a stream");
			return NULL;
		}
	return d;
}

void
dsocr_onednn_close(DsocrOnednn *d)
{
	if (d == NULL)
		return;
	while (d->entries != NULL)
	{
		OnednnEntry *e = d->entries;

		d->entries = e->next;
		if (e->primitive != NULL)
			dnnl_primitive_destroy(e->primitive);
		if (e->desc != NULL)
			dnnl_primitive_desc_destroy(e->desc);
		dsocr_free(e);
	}
	for (int i = 0; i < d->n_workers; i++)
	{
		if (d->workers[i].stream != NULL)
			dnnl_stream_destroy(d->workers[i].stream);
		dsocr_free(d->workers[i].scratch);
	}
	dsocr_free(d->workers);
	if (d->engine != NULL)
		dnnl_engine_destroy(d->engine);
	pthread_mutex_destroy(&d->lock);
	dsocr_free(d);
}

const char *
dsocr_onednn_isa(void)
{
	switch (dnnl_get_effective_cpu_isa())
	{
		case dnnl_cpu_isa_avx512_core_amx:
			return "amx_bf16";
		case dnnl_cpu_isa_avx512_core_bf16:
			return "avx512_bf16";
		case dnnl_cpu_isa_avx512_core_vnni:
		case dnnl_cpu_isa_avx512_core:
			return "avx512";
		case dnnl_cpu_isa_avx2:
		case dnnl_cpu_isa_avx2_vnni:
			return "avx2";
		default:
			return "sse";
	}
}

bool
dsocr_onednn_has_bf16(void)
{
	switch (dnnl_get_effective_cpu_isa())
	{
		case dnnl_cpu_isa_avx512_core_amx:
		case dnnl_cpu_isa_avx512_core_bf16:
			return true;
		default:
			return false;
	}
}

static bool
onednn_same(const DsocrGemm *a, const DsocrGemm *b)
{
	return a->bf16 == b->bf16 && a->m == b->m && a->n == b->n && a->k == b->k && a->lda == b->lda &&
		   a->ldb == b->ldb && a->ldc == b->ldc;
}

static bool
onednn_matrix_desc(dnnl_memory_desc_t *desc, dnnl_data_type_t type, int64_t rows, int64_t cols,
				   int64_t row_stride, int64_t col_stride)
{
	const dnnl_dims_t dims = {rows, cols};
	const dnnl_dims_t strides = {row_stride, col_stride};

	return dnnl_memory_desc_init_by_strides(desc, 2, dims, type, strides) == dnnl_success;
}

static bool
onednn_make(DsocrOnednn *d, OnednnEntry *e)
{
	const DsocrGemm *g = &e->shape;
	dnnl_data_type_t type = g->bf16 ? dnnl_bf16 : dnnl_f32;
	dnnl_memory_desc_t a;
	dnnl_memory_desc_t b;
	dnnl_memory_desc_t c;
	dnnl_matmul_desc_t matmul;
	dnnl_primitive_attr_t attr;
	bool ok;

	if (!onednn_matrix_desc(&a, type, g->m, g->k, g->lda, 1) ||
		!onednn_matrix_desc(&b, type, g->k, g->n, 1, g->ldb) ||
		!onednn_matrix_desc(&c, dnnl_f32, g->m, g->n, g->ldc, 1))
		return false;
	if (dnnl_primitive_attr_create(&attr) != dnnl_success)
		return false;
	omp_set_num_threads(1);
	ok = dnnl_primitive_attr_set_scratchpad_mode(attr, dnnl_scratchpad_mode_user) == dnnl_success &&
		 dnnl_matmul_desc_init(&matmul, &a, &b, NULL, &c) == dnnl_success &&
		 dnnl_primitive_desc_create(&e->desc, &matmul, attr, d->engine, NULL) == dnnl_success &&
		 dnnl_primitive_create(&e->primitive, e->desc) == dnnl_success;
	dnnl_primitive_attr_destroy(attr);
	return ok;
}

/* The primitive of a shape, made when there is none; NULL when that fails. */
static OnednnEntry *
onednn_find(DsocrOnednn *d, const DsocrGemm *g)
{
	OnednnEntry *e;

	pthread_mutex_lock(&d->lock);
	for (e = d->entries; e != NULL; e = e->next)
		if (onednn_same(&e->shape, g))
			break;
	if (e == NULL && (e = dsocr_zalloc(1, sizeof(*e), NULL)) != NULL)
	{
		e->shape = *g;
		if (onednn_make(d, e))
		{
			e->next = d->entries;
			d->entries = e;
		}
		else
		{
			if (e->desc != NULL)
				dnnl_primitive_desc_destroy(e->desc);
			dsocr_free(e);
			e = NULL;
		}
	}
	pthread_mutex_unlock(&d->lock);
	return e;
}

static const dnnl_memory_desc_t *
onednn_md(const OnednnEntry *e, dnnl_query_t what)
{
	return dnnl_primitive_desc_query_md(e->desc, what, 0);
}

static bool
onednn_scratch(OnednnWorker *w, size_t size)
{
	if (size <= w->scratch_size)
		return true;
	dsocr_free(w->scratch);
	w->scratch = dsocr_alloc(size, 1, NULL);
	w->scratch_size = w->scratch == NULL ? 0 : size;
	return w->scratch != NULL;
}

bool
dsocr_onednn_gemm(DsocrOnednn *d, int worker, const DsocrGemm *g, const void *a, const void *b,
				  float *c)
{
	OnednnEntry *e = onednn_find(d, g);
	OnednnWorker *w = &d->workers[worker];
	static const int which[4] = {DNNL_ARG_SRC, DNNL_ARG_WEIGHTS, DNNL_ARG_DST, DNNL_ARG_SCRATCHPAD};
	static const dnnl_query_t query[4] = {dnnl_query_src_md, dnnl_query_weights_md,
										  dnnl_query_dst_md, dnnl_query_scratchpad_md};
	void *data[4] = {(void *) a, (void *) b, c, NULL};
	dnnl_exec_arg_t args[4];
	int made = 0;
	bool ok = false;

	if (e == NULL ||
		!onednn_scratch(w, dnnl_memory_desc_get_size(onednn_md(e, dnnl_query_scratchpad_md))))
		return false;
	data[3] = w->scratch;
	for (; made < 4; made++)
	{
		args[made].arg = which[made];
		if (dnnl_memory_create(&args[made].memory, onednn_md(e, query[made]), d->engine,
							   data[made]) != dnnl_success)
			break;
	}
	if (made == 4)
	{
		omp_set_num_threads(1);
		ok = dnnl_primitive_execute(e->primitive, w->stream, 4, args) == dnnl_success &&
			 dnnl_stream_wait(w->stream) == dnnl_success;
	}
	for (int i = 0; i < made; i++)
		dnnl_memory_destroy(args[i].memory);
	return ok;
}
