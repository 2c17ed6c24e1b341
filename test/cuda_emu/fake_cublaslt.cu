/*-------------------------------------------------------------------------
 *
 * fake_cublaslt.cu
 *		Stands in for cuBLASLt: one naive product, and algorithms that a
 *		careless caller would take.
 *
 * Matrices are in columns, as the library has them.  Of the algorithms that
 * it suggests only GOOD may be used: one splits the sum, one reduces, one
 * wants a large workspace and one refuses large numbers of columns.
 *
 *-------------------------------------------------------------------------
 */
#include "device.cuh"

#include "cublasLt.h"
#include "fake_cublaslt.h"

#define EXPORT extern "C" __attribute__((visibility("default")))

enum
{
	SPLITS,
	REDUCES,
	LARGE,
	REFUSES,
	GOOD,
	N_ALGOS
};

#define MOST_REFUSED 600 /* columns that REFUSES takes */

struct FakeOp
{
	cublasOperation_t transpose_a;
	cublasLtEpilogue_t epilogue;
	const void *bias;
};

struct FakeLayout
{
	cudaDataType_t type;
	int64_t rows;
	int64_t cols;
	int64_t ld;
};

FakeCounts fake_counts;

/* D[m, n] = A^T B + beta C + bias, A[k, m], B[k, n], all in columns */
static __global__ void
fake_product(__nv_bfloat16 *d, const __nv_bfloat16 *a, const __nv_bfloat16 *b,
			 const __nv_bfloat16 *c, const __nv_bfloat16 *bias, float beta, int m, int n, int k,
			 int lda, int ldb, int ldd)
{
	size_t i = (size_t) blockIdx.x * blockDim.x + threadIdx.x;
	size_t row = i % (size_t) m;
	size_t col = i / (size_t) m;
	float sum = 0;

	if (col >= (size_t) n)
		return;
	for (int j = 0; j < k; j++)
		sum += __bfloat162float(a[row * lda + j]) * __bfloat162float(b[col * ldb + j]);
	if (beta != 0)
		sum += beta * __bfloat162float(c[col * ldd + row]);
	if (bias != NULL)
		sum += __bfloat162float(bias[row]);
	d[col * ldd + row] = __float2bfloat16_rn(sum);
}

EXPORT cublasStatus_t
cublasLtCreate(cublasLtHandle_t *handle)
{
	*handle = (cublasLtHandle_t) malloc(1);
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtDestroy(cublasLtHandle_t handle)
{
	free(handle);
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT const char *
cublasLtGetStatusString(cublasStatus_t status)
{
	return status == CUBLAS_STATUS_SUCCESS ? "success" : "failure";
}

EXPORT cublasStatus_t
cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *op, cublasComputeType_t compute,
						 cudaDataType_t scale)
{
	if (compute != CUBLAS_COMPUTE_32F || scale != CUDA_R_32F)
		return CUBLAS_STATUS_NOT_SUPPORTED;
	*op = (cublasLtMatmulDesc_t) calloc(1, sizeof(**op));
	(*op)->epilogue = CUBLASLT_EPILOGUE_DEFAULT;
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t op)
{
	free(op);
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t op, cublasLtMatmulDescAttributes_t which,
							   const void *value, size_t size)
{
	void *to = which == CUBLASLT_MATMUL_DESC_TRANSA		? (void *) &op->transpose_a
			   : which == CUBLASLT_MATMUL_DESC_EPILOGUE ? (void *) &op->epilogue
														: (void *) &op->bias;

	if (size != (which == CUBLASLT_MATMUL_DESC_BIAS_POINTER ? sizeof(void *) : sizeof(int32_t)))
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(to, value, size);
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout, cudaDataType_t type, uint64_t rows,
						   uint64_t cols, int64_t ld)
{
	if (ld < (int64_t) rows)
		return CUBLAS_STATUS_INVALID_VALUE;
	*layout = (cublasLtMatrixLayout_t) malloc(sizeof(**layout));
	**layout = {type, (int64_t) rows, (int64_t) cols, ld};
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout)
{
	free(layout);
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
								 cublasLtMatrixLayoutAttribute_t which, const void *value,
								 size_t size)
{
	if (which != CUBLASLT_MATRIX_LAYOUT_COLS || size != sizeof(uint64_t))
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(&layout->cols, value, size);
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *wish)
{
	*wish = (cublasLtMatmulPreference_t) malloc(1);
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wish)
{
	free(wish);
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t,
									 cublasLtMatmulPreferenceAttributes_t, const void *, size_t)
{
	return CUBLAS_STATUS_SUCCESS;
}

/* Do the shapes fit, as the library would have them? */
static bool
fits(cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
	 cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d)
{
	return op->transpose_a == CUBLAS_OP_T && a->rows == b->rows && a->cols == d->rows &&
		   b->cols == d->cols && c->rows == d->rows && c->cols == d->cols && c->ld == d->ld &&
		   a->type == CUDA_R_16BF && b->type == CUDA_R_16BF && d->type == CUDA_R_16BF;
}

EXPORT cublasStatus_t
cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
							   cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
							   cublasLtMatrixLayout_t d, cublasLtMatmulPreference_t, int most,
							   cublasLtMatmulHeuristicResult_t *found, int *n)
{
	if (!fits(op, a, b, c, d))
		return CUBLAS_STATUS_INVALID_VALUE;
	fake_counts.asked++;
	for (*n = 0; *n < (fake_counts.none ? GOOD : N_ALGOS) && *n < most; (*n)++)
	{
		memset(&found[*n], 0, sizeof(*found));
		found[*n].algo.data[0] = (uint64_t) *n;
	}
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
									 cublasLtMatmulAlgoConfigAttributes_t which, void *value,
									 size_t size, size_t *written)
{
	int32_t answer = which == CUBLASLT_ALGO_CONFIG_SPLITK_NUM ? 1 : 0;

	if (which == CUBLASLT_ALGO_CONFIG_SPLITK_NUM && algo->data[0] == SPLITS)
		answer = 4;
	if (which == CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME && algo->data[0] == REDUCES)
		answer = 2;
	if (size != sizeof(answer))
		return CUBLAS_STATUS_INVALID_VALUE;
	memcpy(value, &answer, size);
	*written = size;
	return CUBLAS_STATUS_SUCCESS;
}

EXPORT cublasStatus_t
cublasLtMatmulAlgoCheck(cublasLtHandle_t, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
						cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c,
						cublasLtMatrixLayout_t d, const cublasLtMatmulAlgo_t *algo,
						cublasLtMatmulHeuristicResult_t *result)
{
	memset(result, 0, sizeof(*result));
	result->algo = *algo;
	result->workspaceSize = algo->data[0] == LARGE ? (size_t) 1 << 30 : 1 << 10;
	if (!fits(op, a, b, c, d))
		result->state = CUBLAS_STATUS_INVALID_VALUE;
	if (algo->data[0] == REFUSES && b->cols > MOST_REFUSED)
		result->state = CUBLAS_STATUS_NOT_SUPPORTED;
	return result->state;
}

EXPORT cublasStatus_t
cublasLtMatmul(cublasLtHandle_t, cublasLtMatmulDesc_t op, const void *alpha, const void *a,
			   cublasLtMatrixLayout_t la, const void *b, cublasLtMatrixLayout_t lb,
			   const void *beta, const void *c, cublasLtMatrixLayout_t lc, void *d,
			   cublasLtMatrixLayout_t ld, const cublasLtMatmulAlgo_t *algo, void *workspace,
			   size_t workspace_size, cudaStream_t stream)
{
	bool bias = op->epilogue == CUBLASLT_EPILOGUE_BIAS;
	size_t outputs = (size_t) ld->rows * (size_t) ld->cols;

	if (algo->data[0] != GOOD || !fits(op, la, lb, lc, ld) || *(const float *) alpha != 1 ||
		workspace == NULL || workspace_size < 1 << 10 || (bias && op->bias == NULL))
		return CUBLAS_STATUS_INVALID_VALUE;
	fake_counts.products++;
	if (fake_counts.most_rows < ld->cols)
		fake_counts.most_rows = (int) ld->cols;
	if (dsocr_launch(fake_product, dim3((unsigned) ((outputs + 127) / 128)), dim3(128), 0, stream,
					 (__nv_bfloat16 *) d, (const __nv_bfloat16 *) a, (const __nv_bfloat16 *) b,
					 (const __nv_bfloat16 *) c, bias ? (const __nv_bfloat16 *) op->bias : NULL,
					 *(const float *) beta, (int) ld->rows, (int) ld->cols, (int) la->rows,
					 (int) la->ld, (int) lb->ld, (int) ld->ld) != cudaSuccess)
		return CUBLAS_STATUS_ALLOC_FAILED;
	return CUBLAS_STATUS_SUCCESS;
}
