/*-------------------------------------------------------------------------
 *
 * onednn.h
 *		Matrix products of the oneDNN library; nothing else knows its API.
 *
 * The library is used from one thread at a time per product: the caller
 * cuts a large product into tiles and gives each to a worker.  Its own
 * threads are never started.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CPU_ONEDNN_H
#define DSOCR_CPU_ONEDNN_H

#include "base.h"

typedef struct DsocrOnednn DsocrOnednn;

typedef struct DsocrGemm
{
	bool bf16; /* operands are bf16, else fp32; C is fp32 */
	int m;
	int n;
	int k;
	int64_t lda;
	int64_t ldb;
	int64_t ldc;
} DsocrGemm;

extern DsocrOnednn *dsocr_onednn_open(int workers, DsocrError *err);
extern void dsocr_onednn_close(DsocrOnednn *d);

/* Instruction set in use, for the description: "avx512_core_bf16". */
extern const char *dsocr_onednn_isa(void);

/*
 * Are bf16 products faster than fp32 ones?  The library refuses them below
 * AVX-512, and without instructions for bf16 it takes four times as long.
 */
extern bool dsocr_onednn_has_bf16(void);

/* C[m,n] = A[m,k] @ B[n,k]^T. false when the library fails. */
extern bool dsocr_onednn_gemm(DsocrOnednn *d, int worker, const DsocrGemm *g, const void *a,
							  const void *b, float *c);

#endif /* DSOCR_CPU_ONEDNN_H */
