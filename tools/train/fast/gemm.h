/*-------------------------------------------------------------------------
 *
 * gemm.h
 *		Products of small bf16 matrices, on the tile unit (AMX) where there is
 *		one, else in the vector registers.
 *
 * C[M, N] = A[M, K] B[K, N] in fp32. A is row by row. B is in pairs: rows 2i
 * and 2i + 1 interleaved, [K / 2][N][2], as both want it. M and N
 * are multiples of 16, K of 32: callers pad with zeros.
 *
 *-------------------------------------------------------------------------
 */
#pragma once
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

typedef uint16_t bf16;

/* Whether this CPU can; lets the process use the tile unit if there is one. */
int gemm_allowed(void);

/* All eight tiles 16 rows of 64 bytes; once a thread, undone by tiles_end(). */
void tiles_begin(void);
void tiles_end(void);

void gemm(int M, int N, int K, const bf16 *A, long lda, const bf16 *B, long ldb, float *C, long ldc,
		  int add);

static inline __m512
load16(const bf16 *p)
{
	return _mm512_castsi512_ps(
		_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const __m256i *) p)), 16));
}

static inline __m512
load16_masked(const bf16 *p, __mmask16 m)
{
	return _mm512_castsi512_ps(
		_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_maskz_loadu_epi16(m, p)), 16));
}

static inline __m256i
narrow(__m512 x)
{
	return (__m256i) _mm512_cvtneps_pbh(x);
}

/* e to the x for x <= 88, relative error 2e-7 */
static inline __m512
exp16(__m512 x)
{
	__m512 t =
		_mm512_mul_ps(_mm512_max_ps(x, _mm512_set1_ps(-100.0f)), _mm512_set1_ps(1.44269504f));
	__m512 n = _mm512_roundscale_ps(t, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
	__m512 f = _mm512_sub_ps(t, n);
	__m512 p = _mm512_set1_ps(1.3333558e-3f);

	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(9.6181291e-3f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(5.5504109e-2f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(2.4022651e-1f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(6.9314718e-1f));
	p = _mm512_fmadd_ps(p, f, _mm512_set1_ps(1.0f));
	return _mm512_scalef_ps(p, n);
}
