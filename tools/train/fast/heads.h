/*-------------------------------------------------------------------------
 *
 * heads.h
 *		One head of a tensor, and its rows in the forms that products want.
 *
 *-------------------------------------------------------------------------
 */
#pragma once
#include <torch/extension.h>

#include "gemm.h"

inline int
padded(long n)
{
	return (int) ((n + 31) / 32 * 32);
}

/* Aligned scratch memory that a thread keeps. */
template <typename T> struct Scratch
{
	T *p = nullptr;
	size_t cap = 0;

	T *
	get(size_t n)
	{
		if (n > cap)
		{
			free(p);
			p = (T *) aligned_alloc(64, (n * sizeof(T) + 63) / 64 * 64);
			TORCH_CHECK(p, "out of memory");
			cap = n;
		}
		return p;
	}
	~Scratch()
	{
		free(p);
	}
};

/* One head of a tensor [B, H, T, d]. */
struct Head
{
	bf16 *p;
	long step; /* between rows */
	int n, d;
};

inline Head
head(const at::Tensor &t, long i)
{
	long h = t.size(1);

	return {(bf16 *) t.data_ptr<at::BFloat16>() + i / h * t.stride(0) + i % h * t.stride(1),
			t.stride(2), (int) t.size(2), (int) t.size(3)};
}

/* Rows, padded: [N][D] */
inline void
copy_rows(const Head &x, bf16 *out, int N, int D)
{
	for (int i = 0; i < N; i++)
	{
		int n = i < x.n ? x.d : 0;

		if (n)
			memcpy(out + (long) i * D, x.p + i * x.step, n * 2);
		memset(out + (long) i * D + n, 0, (D - n) * 2);
	}
}

/* Padded rows in pairs: [N / 2][D][2] */
inline void
pair_rows(const bf16 *rows, bf16 *out, int N, int D)
{
	for (int i = 0; i < N; i += 2)
		for (int j = 0; j < D; j += 16)
		{
			__m512i a = _mm512_cvtepu16_epi32(
				_mm256_loadu_si256((const __m256i *) (rows + (long) i * D + j)));
			__m512i b = _mm512_cvtepu16_epi32(
				_mm256_loadu_si256((const __m256i *) (rows + (long) (i + 1) * D + j)));

			_mm512_storeu_si512(out + (long) i * D + 2 * j,
								_mm512_or_si512(a, _mm512_slli_epi32(b, 16)));
		}
}

/* 16 x 16 words of 32 bits, transposed */
inline void
turn_16(const uint32_t *in, long lin, uint32_t *out, long lout)
{
	__m512i r[16], t[16];

	for (int i = 0; i < 16; i++)
		r[i] = _mm512_loadu_si512(in + i * lin);
	for (int i = 0; i < 16; i += 2)
	{
		t[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
		t[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
	}
	for (int i = 0; i < 16; i += 4)
	{
		r[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
		r[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
		r[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
		r[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
	}
	for (int i = 0; i < 4; i++)
	{
		t[i] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0x88);
		t[i + 4] = _mm512_shuffle_i32x4(r[i], r[i + 4], 0xdd);
		t[i + 8] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0x88);
		t[i + 12] = _mm512_shuffle_i32x4(r[i + 8], r[i + 12], 0xdd);
	}
	for (int i = 0; i < 8; i++)
	{
		_mm512_storeu_si512(out + i * lout, _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88));
		_mm512_storeu_si512(out + (i + 8) * lout, _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd));
	}
}

/* Padded rows transposed, in pairs: [D / 2][N][2]; a pair of channels is a word */
inline void
pair_columns(const bf16 *rows, bf16 *out, int N, int D)
{
	for (int i = 0; i < N; i += 16)
		for (int j = 0; j < D / 2; j += 16)
			turn_16((const uint32_t *) rows + (long) i * (D / 2) + j, D / 2,
					(uint32_t *) out + (long) j * N + i, N);
}

/* Padded rows transposed: [D][N], by way of pairs of channels */
inline void
transpose(const bf16 *pairs, bf16 *out, int N, int D)
{
	for (int j = 0; j < D / 2; j++)
		for (int i = 0; i < N; i += 16)
		{
			__m512i w = _mm512_loadu_si512(pairs + 2 * ((long) j * N + i));

			_mm256_storeu_si256((__m256i *) (out + (long) 2 * j * N + i), _mm512_cvtepi32_epi16(w));
			_mm256_storeu_si256((__m256i *) (out + (long) (2 * j + 1) * N + i),
								_mm512_cvtepi32_epi16(_mm512_srli_epi32(w, 16)));
		}
}

inline void
put_rows(const float *in, long lin, const Head &x, int first, int count, const float *by)
{
	for (int i = 0; i < count && first + i < x.n; i++)
	{
		bf16 *out = x.p + (first + i) * x.step;
		__m512 f = _mm512_set1_ps(by ? by[i] : 1.0f);

		for (int j = 0; j < x.d; j += 16)
		{
			__mmask16 m = x.d - j >= 16 ? 0xffff : (1u << (x.d - j)) - 1;

			_mm256_mask_storeu_epi16(out + j, m,
									 narrow(_mm512_mul_ps(_mm512_loadu_ps(in + i * lin + j), f)));
		}
	}
}
