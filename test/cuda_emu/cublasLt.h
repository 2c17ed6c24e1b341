/*-------------------------------------------------------------------------
 *
 * cublasLt.h
 *		The part of cuBLASLt's interface that kernels/cuda/blas.cu uses, for
 *		a stand-in that tests bring along (fake_cublaslt.cu).
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_EMU_CUBLASLT_H
#define DSOCR_EMU_CUBLASLT_H

#include "emu_runtime.h"

typedef enum cublasStatus_t
{
	CUBLAS_STATUS_SUCCESS = 0,
	CUBLAS_STATUS_ALLOC_FAILED = 3,
	CUBLAS_STATUS_INVALID_VALUE = 7,
	CUBLAS_STATUS_NOT_SUPPORTED = 15
} cublasStatus_t;

typedef enum cublasOperation_t
{
	CUBLAS_OP_N,
	CUBLAS_OP_T
} cublasOperation_t;

typedef enum cublasComputeType_t
{
	CUBLAS_COMPUTE_32F = 68
} cublasComputeType_t;

typedef enum cudaDataType_t
{
	CUDA_R_32F = 0,
	CUDA_R_16BF = 14
} cudaDataType_t;

typedef enum cublasLtEpilogue_t
{
	CUBLASLT_EPILOGUE_DEFAULT = 1,
	CUBLASLT_EPILOGUE_BIAS = 4
} cublasLtEpilogue_t;

typedef enum cublasLtMatmulDescAttributes_t
{
	CUBLASLT_MATMUL_DESC_TRANSA = 3,
	CUBLASLT_MATMUL_DESC_EPILOGUE = 7,
	CUBLASLT_MATMUL_DESC_BIAS_POINTER = 8
} cublasLtMatmulDescAttributes_t;

typedef enum cublasLtMatrixLayoutAttribute_t
{
	CUBLASLT_MATRIX_LAYOUT_COLS = 3
} cublasLtMatrixLayoutAttribute_t;

typedef enum cublasLtMatmulPreferenceAttributes_t
{
	CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES = 1,
	CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK = 3,
	CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES = 6,
	CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES = 7,
	CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES = 8
} cublasLtMatmulPreferenceAttributes_t;

typedef enum cublasLtMatmulAlgoConfigAttributes_t
{
	CUBLASLT_ALGO_CONFIG_SPLITK_NUM = 2,
	CUBLASLT_ALGO_CONFIG_REDUCTION_SCHEME = 3
} cublasLtMatmulAlgoConfigAttributes_t;

#define CUBLASLT_REDUCTION_SCHEME_NONE 0

typedef struct FakeHandle *cublasLtHandle_t;
typedef struct FakeOp *cublasLtMatmulDesc_t;
typedef struct FakeLayout *cublasLtMatrixLayout_t;
typedef struct FakeWish *cublasLtMatmulPreference_t;

typedef struct cublasLtMatmulAlgo_t
{
	uint64_t data[8];
} cublasLtMatmulAlgo_t;

typedef struct cublasLtMatmulHeuristicResult_t
{
	cublasLtMatmulAlgo_t algo;
	size_t workspaceSize;
	cublasStatus_t state;
	float wavesCount;
	int reserved[4];
} cublasLtMatmulHeuristicResult_t;

extern "C"
{
	extern cublasStatus_t cublasLtCreate(cublasLtHandle_t *handle);
	extern cublasStatus_t cublasLtDestroy(cublasLtHandle_t handle);
	extern const char *cublasLtGetStatusString(cublasStatus_t status);
	extern cublasStatus_t cublasLtMatmulDescCreate(cublasLtMatmulDesc_t *op,
												   cublasComputeType_t compute,
												   cudaDataType_t scale);
	extern cublasStatus_t cublasLtMatmulDescDestroy(cublasLtMatmulDesc_t op);
	extern cublasStatus_t cublasLtMatmulDescSetAttribute(cublasLtMatmulDesc_t op,
														 cublasLtMatmulDescAttributes_t which,
														 const void *value, size_t size);
	extern cublasStatus_t cublasLtMatrixLayoutCreate(cublasLtMatrixLayout_t *layout,
													 cudaDataType_t type, uint64_t rows,
													 uint64_t cols, int64_t ld);
	extern cublasStatus_t cublasLtMatrixLayoutDestroy(cublasLtMatrixLayout_t layout);
	extern cublasStatus_t cublasLtMatrixLayoutSetAttribute(cublasLtMatrixLayout_t layout,
														   cublasLtMatrixLayoutAttribute_t which,
														   const void *value, size_t size);
	extern cublasStatus_t cublasLtMatmulPreferenceCreate(cublasLtMatmulPreference_t *wish);
	extern cublasStatus_t cublasLtMatmulPreferenceDestroy(cublasLtMatmulPreference_t wish);
	extern cublasStatus_t
	cublasLtMatmulPreferenceSetAttribute(cublasLtMatmulPreference_t wish,
										 cublasLtMatmulPreferenceAttributes_t which,
										 const void *value, size_t size);
	extern cublasStatus_t cublasLtMatmulAlgoGetHeuristic(
		cublasLtHandle_t handle, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
		cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
		cublasLtMatmulPreference_t wish, int most, cublasLtMatmulHeuristicResult_t *found, int *n);
	extern cublasStatus_t
	cublasLtMatmulAlgoConfigGetAttribute(const cublasLtMatmulAlgo_t *algo,
										 cublasLtMatmulAlgoConfigAttributes_t which, void *value,
										 size_t size, size_t *written);
	extern cublasStatus_t cublasLtMatmulAlgoCheck(
		cublasLtHandle_t handle, cublasLtMatmulDesc_t op, cublasLtMatrixLayout_t a,
		cublasLtMatrixLayout_t b, cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
		const cublasLtMatmulAlgo_t *algo, cublasLtMatmulHeuristicResult_t *result);
	extern cublasStatus_t cublasLtMatmul(cublasLtHandle_t handle, cublasLtMatmulDesc_t op,
										 const void *alpha, const void *a,
										 cublasLtMatrixLayout_t a_layout, const void *b,
										 cublasLtMatrixLayout_t b_layout, const void *beta,
										 const void *c, cublasLtMatrixLayout_t c_layout, void *d,
										 cublasLtMatrixLayout_t d_layout,
										 const cublasLtMatmulAlgo_t *algo, void *workspace,
										 size_t workspace_size, cudaStream_t stream);
}

#endif /* DSOCR_EMU_CUBLASLT_H */
