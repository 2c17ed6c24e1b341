/*-------------------------------------------------------------------------
 *
 * blas.cu
 *		Products of many rows by cuBLASLt, which is loaded where it is there.
 *
 * Y[M,N] = X[M,K] @ W[N,K]^T in rows is Y^T = W X^T in the library's columns:
 * its A is W, transposed, its B is X, and M is only the number of columns of
 * B, C and D.  The bias runs along the columns of Y, which is what the
 * epilogue adds; a residual is C with beta = 1.
 *
 * Batch invariance.  The library chooses its algorithm by M if it is let.
 * Here it is asked once for each kind of product, with a number of rows that
 * follows from `unit` alone, and only algorithms in which one block adds up an
 * output over all of K are taken (no split of K, no reduction).  That
 * algorithm then does the product for every M.  An algorithm that refuses any
 * of the numbers of rows that can come is never taken.
 *
 *-------------------------------------------------------------------------
 */
#include "cuda.h"

#if __has_include(<cublasLt.h>)

#include <cublasLt.h>
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORKSPACE ((size_t) 32 << 20)
#define MIN_UNIT 32			  /* rows below which our own kernels are as good */
#define MAX_ROWS 65536		  /* of one call; more are several */
#define CANDIDATES 32		  /* algorithms asked for */
#define NOMINAL_SMALL 512	  /* views with fewer rows come several at a time: */
#define NOMINAL_VIEWS 4		  /* so many are assumed */
#define CLASS_WIDTH 64		  /* units up to NOMINAL_SMALL that share an algorithm */
#define ALIGNED ((size_t) 16) /* bytes, of all rows */

/* The functions of the library, found by name. */
typedef struct Api
{
	decltype(&cublasLtCreate) create;
	decltype(&cublasLtDestroy) destroy;
	decltype(&cublasLtGetStatusString) describe;
	decltype(&cublasLtMatmulDescCreate) op_create;
	decltype(&cublasLtMatmulDescDestroy) op_destroy;
	decltype(&cublasLtMatmulDescSetAttribute) op_set;
	decltype(&cublasLtMatrixLayoutCreate) layout_create;
	decltype(&cublasLtMatrixLayoutDestroy) layout_destroy;
	decltype(&cublasLtMatrixLayoutSetAttribute) layout_set;
	decltype(&cublasLtMatmulPreferenceCreate) wish_create;
	decltype(&cublasLtMatmulPreferenceDestroy) wish_destroy;
	decltype(&cublasLtMatmulPreferenceSetAttribute) wish_set;
	decltype(&cublasLtMatmulAlgoGetHeuristic) suggest;
	decltype(&cublasLtMatmulAlgoConfigGetAttribute) config_get;
	decltype(&cublasLtMatmulAlgoCheck) check;
	decltype(&cublasLtMatmul) matmul;
} Api;

/* What decides about an algorithm. */
typedef struct Key
{
	int unit; /* as classed */
	int n;
	int k;
	int ld; /* of W */
	bool bias;
	bool residual;
} Key;

typedef struct Product
{
	Key key;
	bool usable;
	cublasLtMatmulDesc_t op;
	cublasLtMatrixLayout_t w; /* K x N, leading dimension ld */
	cublasLtMatrixLayout_t x; /* K x M */
	cublasLtMatrixLayout_t y; /* N x M */
	cublasLtMatmulAlgo_t algo;
} Product;

struct DsocrCudaBlas
{
	void *library;
	Api api;
	cublasLtHandle_t handle;
	Product *products;
	int n;
	int max;
	bool told; /* of a product that the library does not do */
};

/* ---- the library ---- */

static void
say(const DsocrCuda *c, const char *what, const char *why)
{
	char line[320];

	if (c->log == NULL)
		return;
	snprintf(line, sizeof(line), "%s: %s: %s", c->base.description, what, why);
	c->log(line);
}

#ifdef DSOCR_CUDA_EMU

/* Only what a test program brings along: a library of NVIDIA's needs a device. */
static void *
load_library(const DsocrCuda *)
{
	void *self = dlopen(NULL, RTLD_NOW);

	return self != NULL && dlsym(self, "cublasLtCreate") != NULL ? self : NULL;
}

#else

/* Load the library; NULL and a line in the log when there is none. */
static void *
load_library(const DsocrCuda *c)
{
	static const char *const names[] = {"libcublasLt.so.13", "libcublasLt.so.12",
										"/usr/local/cuda/lib64/libcublasLt.so.13",
										"/usr/local/cuda/lib64/libcublasLt.so.12"};
	const char *named = getenv("DSOCR_CUBLASLT");
	void *library = NULL;

	if (named != NULL && named[0] != '\0')
		library = dlopen(named, RTLD_NOW | RTLD_LOCAL);
	else
		for (size_t i = 0; library == NULL && i < sizeof(names) / sizeof(names[0]); i++)
			library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
	if (library == NULL)
		say(c, "cuBLASLt could not be loaded, products take longer", dlerror());
	return library;
}

#endif

template <typename F>
static bool
find(void *library, const char *name, F *function)
{
	void *symbol = dlsym(library, name);

	memcpy(function, &symbol, sizeof(symbol));
	return symbol != NULL;
}

static bool
find_all(void *library, Api *a)
{
	return find(library, "cublasLtCreate", &a->create) &&
		   find(library, "cublasLtDestroy", &a->destroy) &&
		   find(library, "cublasLtGetStatusString", &a->describe) &&
		   find(library, "cublasLtMatmulDescCreate", &a->op_create) &&
		   find(library, "cublasLtMatmulDescDestroy", &a->op_destroy) &&
		   find(library, "cublasLtMatmulDescSetAttribute", &a->op_set) &&
		   find(library, "cublasLtMatrixLayoutCreate", &a->layout_create) &&
		   find(library, "cublasLtMatrixLayoutDestroy", &a->layout_destroy) &&
		   find(library, "cublasLtMatrixLayoutSetAttribute", &a->layout_set) &&
		   find(library, "cublasLtMatmulPreferenceCreate", &a->wish_create) &&
		   find(library, "cublasLtMatmulPreferenceDestroy", &a->wish_destroy) &&
		   find(library, "cublasLtMatmulPreferenceSetAttribute", &a->wish_set) &&
		   find(library, "cublasLtMatmulAlgoGetHeuristic", &a->suggest) &&
		   find(library, "cublasLtMatmulAlgoConfigGetAttribute", &a->config_get) &&
		   find(library, "cublasLtMatmulAlgoCheck", &a->check) &&
		   find(library, "cublasLtMatmul", &a->matmul);
}

DsocrCudaBlas *
dsocr_cuda_blas_open(DsocrCuda *c, DsocrError *err)
{
	DsocrCudaBlas *b;
	void *library = load_library(c);
	cublasStatus_t rc;

	if (library == NULL)
		return NULL;
	b = (DsocrCudaBlas *) dsocr_zalloc(1, sizeof(*b), err);
	if (b == NULL)
	{
		dlclose(library);
		return NULL;
	}
	b->library = library;
	if (!find_all(library, &b->api))
	{
		say(c, "cuBLASLt is not used", "it lacks a function");
		dsocr_cuda_blas_close(b);
		return NULL;
	}
	rc = b->api.create(&b->handle);
	if (rc != CUBLAS_STATUS_SUCCESS)
	{
		say(c, "cuBLASLt is not used", b->api.describe(rc));
		b->handle = NULL;
		dsocr_cuda_blas_close(b);
		return NULL;
	}
	return b;
}

static void
close_product(const Api *a, Product *p)
{
	if (p->op != NULL)
		(void) a->op_destroy(p->op);
	if (p->w != NULL)
		(void) a->layout_destroy(p->w);
	if (p->x != NULL)
		(void) a->layout_destroy(p->x);
	if (p->y != NULL)
		(void) a->layout_destroy(p->y);
	p->op = NULL;
	p->w = p->x = p->y = NULL;
}

void
dsocr_cuda_blas_close(DsocrCudaBlas *b)
{
	if (b == NULL)
		return;
	for (int i = 0; i < b->n; i++)
		close_product(&b->api, &b->products[i]);
	dsocr_free(b->products);
	/* the library stays mapped: its threads and handlers may outlive the handle */
	if (b->handle != NULL)
		(void) b->api.destroy(b->handle);
	dsocr_free(b);
}

/* ---- choosing an algorithm ---- */

/* Units that are computed alike.  A function of unit alone. */
static int
class_of(int unit)
{
	return unit > NOMINAL_SMALL ? unit : (unit + CLASS_WIDTH - 1) / CLASS_WIDTH * CLASS_WIDTH;
}

static bool
set_rows(const Api *a, const Product *p, int rows)
{
	uint64_t columns = (uint64_t) rows;

	return a->layout_set(p->x, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof(columns)) ==
			   CUBLAS_STATUS_SUCCESS &&
		   a->layout_set(p->y, CUBLASLT_MATRIX_LAYOUT_COLS, &columns, sizeof(columns)) ==
			   CUBLAS_STATUS_SUCCESS;
}

static bool
describe_product(const Api *a, Product *p, int rows)
{
	const Key *key = &p->key;
	cublasOperation_t transposed = CUBLAS_OP_T;
	cublasLtEpilogue_t epilogue = CUBLASLT_EPILOGUE_BIAS;

	return a->op_create(&p->op, CUBLAS_COMPUTE_32F, CUDA_R_32F) == CUBLAS_STATUS_SUCCESS &&
		   a->op_set(p->op, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)) ==
			   CUBLAS_STATUS_SUCCESS &&
		   (!key->bias || a->op_set(p->op, CUBLASLT_MATMUL_DESC_EPILOGUE, &epilogue,
									sizeof(epilogue)) == CUBLAS_STATUS_SUCCESS) &&
		   a->layout_create(&p->w, CUDA_R_16BF, (uint64_t) key->k, (uint64_t) key->n, key->ld) ==
			   CUBLAS_STATUS_SUCCESS &&
		   a->layout_create(&p->x, CUDA_R_16BF, (uint64_t) key->k, (uint64_t) rows, key->k) ==
			   CUBLAS_STATUS_SUCCESS &&
		   a->layout_create(&p->y, CUDA_R_16BF, (uint64_t) key->n, (uint64_t) rows, key->n) ==
			   CUBLAS_STATUS_SUCCESS;
}

/* Ask for algorithms, best first; their number. */
static int
suggestions(DsocrCudaBlas *b, Product *p, cublasLtMatmulHeuristicResult_t *found)
{
	const Api *a = &b->api;
	cublasLtMatmulPreference_t wish = NULL;
	uint64_t workspace = WORKSPACE;
	uint32_t scheme = CUBLASLT_REDUCTION_SCHEME_NONE;
	uint32_t aligned = ALIGNED;
	int n = 0;

	if (a->wish_create(&wish) != CUBLAS_STATUS_SUCCESS)
		return 0;
	if (a->wish_set(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &workspace,
					sizeof(workspace)) != CUBLAS_STATUS_SUCCESS ||
		a->wish_set(wish, CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, &scheme, sizeof(scheme)) !=
			CUBLAS_STATUS_SUCCESS ||
		a->wish_set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, &aligned, sizeof(aligned)) !=
			CUBLAS_STATUS_SUCCESS ||
		a->wish_set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, &aligned, sizeof(aligned)) !=
			CUBLAS_STATUS_SUCCESS ||
		a->wish_set(wish, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, &aligned, sizeof(aligned)) !=
			CUBLAS_STATUS_SUCCESS ||
		a->suggest(b->handle, p->op, p->w, p->x, p->y, p->y, wish, CANDIDATES, found, &n) !=
			CUBLAS_STATUS_SUCCESS)
		n = 0;
	(void) a->wish_destroy(wish);
	return n;
}

/* Does one block add up each output, in one go over K? */
static bool
sums_in_order(const Api *a, const cublasLtMatmulAlgo_t *algo)
{
	int32_t splits = 0;
	uint32_t scheme = 0;
	size_t written;

	return a->config_get(algo, CUBLASLT_ALGO_CONFIG_SPLITK_NUM, &splits, sizeof(splits),
						 &written) == CUBLAS_STATUS_SUCCESS &&
		   splits >= 0 && splits <= 1 &&
		   a->config_get(algo, CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME, &scheme, sizeof(scheme),
						 &written) == CUBLAS_STATUS_SUCCESS &&
		   scheme == CUBLASLT_REDUCTION_SCHEME_NONE;
}

static bool
takes_rows(DsocrCudaBlas *b, const Product *p, const cublasLtMatmulAlgo_t *algo, int rows)
{
	cublasLtMatmulHeuristicResult_t result;

	return set_rows(&b->api, p, rows) &&
		   b->api.check(b->handle, p->op, p->w, p->x, p->y, p->y, algo, &result) ==
			   CUBLAS_STATUS_SUCCESS &&
		   result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= WORKSPACE;
}

/* Does it do one view, two, ... as many as a call can have, and odd numbers of rows? */
static bool
takes_all(DsocrCudaBlas *b, const Product *p, const cublasLtMatmulAlgo_t *algo)
{
	int most = MAX_ROWS / p->key.unit;

	for (int i = 1; i <= most; i = i < 8 ? i + 1 : 2 * i)
		if (!takes_rows(b, p, algo, i * p->key.unit) ||
			!takes_rows(b, p, algo, i * p->key.unit - 1))
			return false;
	return takes_rows(b, p, algo, MAX_ROWS);
}

static void
choose(DsocrCudaBlas *b, Product *p)
{
	cublasLtMatmulHeuristicResult_t found[CANDIDATES];
	int unit = p->key.unit;
	int n;

	if (!describe_product(&b->api, p, unit < NOMINAL_SMALL ? unit * NOMINAL_VIEWS : unit))
		return;
	n = suggestions(b, p, found);
	for (int i = 0; i < n && !p->usable; i++)
	{
		if (found[i].state != CUBLAS_STATUS_SUCCESS || !sums_in_order(&b->api, &found[i].algo) ||
			!takes_all(b, p, &found[i].algo))
			continue;
		p->algo = found[i].algo;
		p->usable = true;
	}
}

/* The product of this key, prepared; NULL when there is no memory for it. */
static Product *
find_product(const DsocrCuda *c, const Key *key)
{
	DsocrCudaBlas *b = c->blas;
	Product *p;

	for (int i = 0; i < b->n; i++)
	{
		const Key *k = &b->products[i].key;

		if (k->unit == key->unit && k->n == key->n && k->k == key->k && k->ld == key->ld &&
			k->bias == key->bias && k->residual == key->residual)
			return &b->products[i];
	}
	if (b->n == b->max)
	{
		int max = b->max == 0 ? 64 : 2 * b->max;
		Product *larger = (Product *) dsocr_zalloc((size_t) max, sizeof(Product), NULL);

		if (larger == NULL)
			return NULL;
		if (b->n > 0)
			memcpy(larger, b->products, (size_t) b->n * sizeof(Product));
		dsocr_free(b->products);
		b->products = larger;
		b->max = max;
	}
	p = &b->products[b->n++];
	p->key = *key;
	choose(b, p);
	if (!p->usable && !b->told)
	{
		char what[96];

		/* one is enough to know where time goes */
		snprintf(what, sizeof(what), "cuBLASLt does not do products of %d x %d for units of %d",
				 key->n, key->k, key->unit);
		say(c, what, "no algorithm is the same for all numbers of rows");
		b->told = true;
	}
	return p;
}

/* ---- products ---- */

static bool
aligned(const void *p)
{
	return (uintptr_t) p % ALIGNED == 0;
}

/* One call for at most MAX_ROWS rows. */
static void
multiply(DsocrCuda *c, const Product *p, void *y, const void *x, int rows, const DsocrMatrix *w,
		 const DsocrVector *bias, const void *residual, void *workspace)
{
	const Api *a = &c->blas->api;
	const void *added = bias != NULL ? bias->bf16 : NULL;
	float one = 1.0f;
	float beta = residual != NULL ? 1.0f : 0.0f;
	cublasStatus_t rc = CUBLAS_STATUS_SUCCESS;

	if (bias != NULL)
		rc = a->op_set(p->op, CUBLASLT_MATMUL_DESC_BIAS_POINTER, &added, sizeof(added));
	if (rc == CUBLAS_STATUS_SUCCESS && !set_rows(a, p, rows))
		rc = CUBLAS_STATUS_INVALID_VALUE;
	if (rc == CUBLAS_STATUS_SUCCESS)
		rc = a->matmul(c->blas->handle, p->op, &one, w->data, p->w, x, p->x, &beta,
					   residual != NULL ? residual : y, p->y, y, p->y, &p->algo, workspace,
					   WORKSPACE, c->stream);
	/* an algorithm that took all numbers of rows does not refuse one: the device is broken */
	if (rc == CUBLAS_STATUS_ALLOC_FAILED)
		(void) dsocr_cuda_check(c, cudaErrorMemoryAllocation, "a product");
	else if (rc != CUBLAS_STATUS_SUCCESS)
		(void) dsocr_cuda_check(c, cudaErrorLaunchFailure, a->describe(rc));
}

bool
dsocr_cuda_blas_linear(DsocrCuda *c, void *y, const void *x, int rows, const DsocrMatrix *w,
					   const DsocrVector *bias, const void *residual, int unit)
{
	Key key = {class_of(unit), w->n, w->k, w->ld, bias != NULL, residual != NULL};
	const Product *p;
	void *workspace;
	int step;

	/* whatever is asked here must be the same for all views of a kind */
	if (unit < MIN_UNIT || unit > MAX_ROWS || w->n % 8 != 0 || w->k % 8 != 0 || !aligned(x) ||
		!aligned(y) || !aligned(residual) || (bias != NULL && bias->bf16 == NULL))
		return false;
	p = find_product(c, &key);
	if (p == NULL || !p->usable)
		return false;
	workspace = dsocr_cuda_scratch(c, DSOCR_SCRATCH_BLAS, WORKSPACE);
	if (workspace == NULL)
		return true; /* the results are void, which sync will say */
	step = MAX_ROWS / unit * unit;
	for (int first = 0; first < rows; first += step)
	{
		int n = rows - first < step ? rows - first : step;
		size_t in = (size_t) first * (size_t) w->k * 2;
		size_t out = (size_t) first * (size_t) w->n * 2;

		multiply(c, p, (char *) y + out, (const char *) x + in, n, w, bias,
				 residual != NULL ? (const char *) residual + out : NULL, workspace);
	}
	return true;
}

#else /* no cuBLASLt */

DsocrCudaBlas *
dsocr_cuda_blas_open(DsocrCuda *, DsocrError *)
{
	return NULL;
}

void
dsocr_cuda_blas_close(DsocrCudaBlas *)
{
}

bool
dsocr_cuda_blas_linear(DsocrCuda *, void *, const void *, int, const DsocrMatrix *,
					   const DsocrVector *, const void *, int)
{
	return false;
}

#endif
