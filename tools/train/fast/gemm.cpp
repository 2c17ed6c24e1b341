/*-------------------------------------------------------------------------
 *
 * gemm.cpp
 *		Products of small bf16 matrices, on the tile unit (AMX) where there is
 *		one, else in the vector registers.
 *
 *-------------------------------------------------------------------------
 */
#include "gemm.h"

#include <sys/syscall.h>
#include <unistd.h>

#define ARCH_REQ_XCOMP_PERM 0x1023
#define XFEATURE_XTILEDATA 18

static bool tiles;

int
gemm_allowed(void)
{
	tiles = __builtin_cpu_supports("amx-bf16") && syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
	return __builtin_cpu_supports("avx512bf16");
}

/* A constant: compilers miss that _tile_loadconfig() reads all 64 bytes of it. */
alignas(64) static const struct
{
	uint8_t palette, rest[15];
	uint16_t bytes[16];
	uint8_t rows[16];
} shapes = {1, {}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16}};

void
tiles_begin(void)
{
	if (tiles)
		_tile_loadconfig(&shapes);
}

void
tiles_end(void)
{
	if (tiles)
		_tile_release();
}

/* 32 x 32 of C: tiles 0 to 3; A in 4 and 5, B in 6 and 7 */
static void
block_2x2(int K, const bf16 *A, long lda, const bf16 *B, long ldb, float *C, long ldc, int add)
{
	if (add)
	{
		_tile_loadd(0, C, ldc * 4);
		_tile_loadd(1, C + 16, ldc * 4);
		_tile_loadd(2, C + 16 * ldc, ldc * 4);
		_tile_loadd(3, C + 16 * ldc + 16, ldc * 4);
	}
	else
	{
		_tile_zero(0);
		_tile_zero(1);
		_tile_zero(2);
		_tile_zero(3);
	}
	for (int k = 0; k < K; k += 32)
	{
		const bf16 *b = B + (long) k / 2 * ldb * 2;

		_tile_loadd(6, b, ldb * 4);
		_tile_loadd(4, A + k, lda * 2);
		_tile_dpbf16ps(0, 4, 6);
		_tile_loadd(7, b + 32, ldb * 4);
		_tile_dpbf16ps(1, 4, 7);
		_tile_loadd(5, A + 16 * lda + k, lda * 2);
		_tile_dpbf16ps(2, 5, 6);
		_tile_dpbf16ps(3, 5, 7);
	}
	_tile_stored(0, C, ldc * 4);
	_tile_stored(1, C + 16, ldc * 4);
	_tile_stored(2, C + 16 * ldc, ldc * 4);
	_tile_stored(3, C + 16 * ldc + 16, ldc * 4);
}

static void
block_1x1(int K, const bf16 *A, long lda, const bf16 *B, long ldb, float *C, long ldc, int add)
{
	if (add)
		_tile_loadd(0, C, ldc * 4);
	else
		_tile_zero(0);
	for (int k = 0; k < K; k += 32)
	{
		_tile_loadd(4, A + k, lda * 2);
		_tile_loadd(6, B + (long) k / 2 * ldb * 2, ldb * 4);
		_tile_dpbf16ps(0, 4, 6);
	}
	_tile_stored(0, C, ldc * 4);
}

/* 8 rows of 32 or 16 columns of C, all in registers; a pair of A goes to all columns. */
template <int WIDE>
static void
block_vector(int K, const bf16 *A, long lda, const bf16 *B, long ldb, float *C, long ldc, int add)
{
	__m512 c[8][WIDE];

#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
#pragma GCC unroll 2
		for (int j = 0; j < WIDE; j++)
			c[i][j] = add ? _mm512_loadu_ps(C + i * ldc + 16 * j) : _mm512_setzero_ps();
	for (int k = 0; k < K; k += 2)
	{
		const bf16 *row = B + (long) k * ldb;
		__m512bh b[WIDE];

#pragma GCC unroll 2
		for (int j = 0; j < WIDE; j++)
			b[j] = (__m512bh) _mm512_loadu_si512(row + 32 * j);
#pragma GCC unroll 8
		for (int i = 0; i < 8; i++)
		{
			int pair;

			memcpy(&pair, A + i * lda + k, sizeof(pair));
#pragma GCC unroll 2
			for (int j = 0; j < WIDE; j++)
				c[i][j] = _mm512_dpbf16_ps(c[i][j], (__m512bh) _mm512_set1_epi32(pair), b[j]);
		}
	}
#pragma GCC unroll 8
	for (int i = 0; i < 8; i++)
#pragma GCC unroll 2
		for (int j = 0; j < WIDE; j++)
			_mm512_storeu_ps(C + i * ldc + 16 * j, c[i][j]);
}

static void
gemm_vector(int M, int N, int K, const bf16 *A, long lda, const bf16 *B, long ldb, float *C, long ldc, int add)
{
	for (int n = 0; n < N; n += 32)
		for (int m = 0; m < M; m += 8)
		{
			if (n + 32 <= N)
				block_vector<2>(K, A + m * lda, lda, B + 2 * n, ldb, C + m * ldc + n, ldc, add);
			else
				block_vector<1>(K, A + m * lda, lda, B + 2 * n, ldb, C + m * ldc + n, ldc, add);
		}
}

void
gemm(int M, int N, int K, const bf16 *A, long lda, const bf16 *B, long ldb, float *C, long ldc, int add)
{
	if (!tiles)
		return gemm_vector(M, N, K, A, lda, B, ldb, C, ldc, add);
	for (int n = 0; n < N; n += 32)
		for (int m = 0; m < M; m += 32)
		{
			const bf16 *a = A + m * lda, *b = B + 2 * n;
			float *c = C + m * ldc + n;

			if (m + 32 <= M && n + 32 <= N)
				block_2x2(K, a, lda, b, ldb, c, ldc, add);
			else
				for (int i = 0; i < 32 && m + i < M; i += 16)
					for (int j = 0; j < 32 && n + j < N; j += 16)
						block_1x1(K, a + i * lda, lda, b + 2 * j, ldb, c + i * ldc + j, ldc, add);
		}
}
