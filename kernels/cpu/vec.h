/*-------------------------------------------------------------------------
 *
 * vec.h
 *		Vectors of the instruction set a *_isa.c file is compiled for.
 *
 * GCC vector extensions; a vector has DSOCR_VW floats.  Sums run in a fixed
 * order: accumulators by position, then a fixed tree over the lanes.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_CPU_VEC_H
#define DSOCR_CPU_VEC_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define DSOCR_VW 16
#elif defined(__AVX2__)
#define DSOCR_VW 8
#else
#define DSOCR_VW 4
#endif

#if DSOCR_VW == 16
#include <immintrin.h>
#endif

typedef float Vec __attribute__((vector_size(DSOCR_VW * 4)));
typedef int32_t VecInt __attribute__((vector_size(DSOCR_VW * 4)));
typedef uint32_t VecBits __attribute__((vector_size(DSOCR_VW * 4)));
typedef uint16_t VecHalf __attribute__((vector_size(DSOCR_VW * 2)));

/* The same in memory, where nothing is aligned. */
typedef float VecMem __attribute__((vector_size(DSOCR_VW * 4), aligned(1), may_alias));
typedef uint16_t VecHalfMem __attribute__((vector_size(DSOCR_VW * 2), aligned(1), may_alias));

#define VEC_INLINE static inline __attribute__((always_inline, unused))

VEC_INLINE Vec
vec_load(const void *p)
{
	return *(const VecMem *) p;
}

VEC_INLINE void
vec_store(void *p, Vec v)
{
	*(VecMem *) p = v;
}

VEC_INLINE Vec
vec_set(float f)
{
	return (Vec){0} + f;
}

VEC_INLINE Vec
vec_bf16(VecHalf h)
{
#if DSOCR_VW == 16
	/* gcc 12 widens a vector of this size in halves */
	return (Vec) _mm512_slli_epi32(_mm512_cvtepu16_epi32((__m256i) h), 16);
#else
	return (Vec) (__builtin_convertvector(h, VecBits) << 16);
#endif
}

VEC_INLINE Vec
vec_load_bf16(const void *p)
{
	return vec_bf16(*(const VecHalfMem *) p);
}

/* The first n < DSOCR_VW elements, zeros behind them. */
VEC_INLINE Vec
vec_load_some(const void *p, size_t n)
{
	Vec v = {0};

	memcpy(&v, p, n * sizeof(float));
	return v;
}

VEC_INLINE Vec
vec_load_some_bf16(const void *p, size_t n)
{
	VecHalf h = {0};

	memcpy(&h, p, n * sizeof(uint16_t));
	return vec_bf16(h);
}

VEC_INLINE void
vec_store_some(void *p, Vec v, size_t n)
{
	memcpy(p, &v, n * sizeof(float));
}

VEC_INLINE VecHalf
vec_to_bf16(Vec v)
{
	VecBits u = (VecBits) v;
	VecBits rounded = (u + 0x7fff + ((u >> 16) & 1)) >> 16;
	VecBits quiet = (u >> 16) | 0x40;
	VecBits nan = (VecBits) ((u & 0x7fffffff) > 0x7f800000);

	return __builtin_convertvector((rounded & ~nan) | (quiet & nan), VecHalf);
}

/* a < b ? yes : no; in vectors of 16, compilers make a mask of the comparison and bits of the mask */
VEC_INLINE Vec
vec_if_less(Vec a, Vec b, Vec yes, Vec no)
{
#if DSOCR_VW == 16
	return (Vec) _mm512_mask_blend_ps(_mm512_cmp_ps_mask((__m512) a, (__m512) b, _CMP_LT_OS),
									  (__m512) no, (__m512) yes);
#else
	VecInt mask = a < b;

	return (Vec) (((VecInt) yes & mask) | ((VecInt) no & ~mask));
#endif
}

VEC_INLINE Vec
vec_max(Vec a, Vec b)
{
#if DSOCR_VW == 16
	return (Vec) _mm512_max_ps((__m512) a, (__m512) b);
#else
	return vec_if_less(b, a, a, b);
#endif
}

VEC_INLINE Vec
vec_min(Vec a, Vec b)
{
#if DSOCR_VW == 16
	return (Vec) _mm512_min_ps((__m512) a, (__m512) b);
#else
	return vec_if_less(a, b, a, b);
#endif
}

/* Halves added until four lanes are left. */
VEC_INLINE float
vec_sum(Vec v)
{
#if DSOCR_VW == 16
	typedef float Eight __attribute__((vector_size(32)));
	Eight e = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
			  __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
#elif DSOCR_VW == 8
	Vec e = v;
#endif
	typedef float Four __attribute__((vector_size(16)));
#if DSOCR_VW >= 8
	Four f = __builtin_shufflevector(e, e, 0, 1, 2, 3) + __builtin_shufflevector(e, e, 4, 5, 6, 7);
#else
	Four f = v;
#endif

	return (f[0] + f[2]) + (f[1] + f[3]);
}

VEC_INLINE float
vec_top(Vec v)
{
	float f[DSOCR_VW];

	memcpy(f, &v, sizeof(f));
	for (int i = 1; i < DSOCR_VW; i++)
		f[0] = f[i] > f[0] ? f[i] : f[0];
	return f[0];
}

/* exp(x) to about 1 ulp for |x| < 87; 0 below, at most 2^127 above */
VEC_INLINE Vec
vec_exp(Vec x)
{
	const Vec magic = vec_set(12582912.0f); /* 1.5 * 2^23: adding it rounds to integer */
	Vec in = vec_max(vec_min(x, vec_set(88.0f)), vec_set(-87.0f));
	Vec t = in * 1.44269504088896341f + magic;
	VecInt n = (VecInt) t - (VecInt) magic;
	Vec nf = t - magic;
	Vec r = in - nf * 0.693145751953125f - nf * 1.428606765330187e-6f;
	Vec p = vec_set(1.9875691500e-4f);
	Vec e;

	p = p * r + 1.3981999507e-3f;
	p = p * r + 8.3334519073e-3f;
	p = p * r + 4.1665795894e-2f;
	p = p * r + 1.6666665459e-1f;
	p = p * r + 5.0000001201e-1f;
	p = p * (r * r) + r + 1.0f;
	e = (Vec) ((VecInt) p + (n << 23));
	return vec_if_less(x, vec_set(-87.0f), vec_set(0.0f), e);
}

/* 1 / x to about 1 ulp for x from 2^-126 to 2^126, without a division, which takes as long as the rest of its callers */
VEC_INLINE Vec
vec_reciprocal(Vec x)
{
#if DSOCR_VW == 16
	__m512 r = _mm512_rcp14_ps((__m512) x);
	__m512 error = _mm512_fnmadd_ps((__m512) x, r, _mm512_set1_ps(1.0f));

	return (Vec) _mm512_fmadd_ps(r, error, r);
#else
	return 1.0f / x;
#endif
}

/* 1 / (1 + exp(-x)) */
VEC_INLINE Vec
vec_sigmoid(Vec x)
{
	return vec_reciprocal(1.0f + vec_exp(-x));
}

/*
 * x * Phi(x) with the rational approximation of erfc of Abramowitz and
 * Stegun, 7.1.26: absolute error of Phi below 1e-7.
 */
VEC_INLINE Vec
vec_gelu(Vec x)
{
	Vec z = (Vec) ((VecInt) x & 0x7fffffff) * 0.70710678118654752f;
	Vec t = vec_reciprocal(1.0f + 0.3275911f * z);
	Vec p = vec_set(1.061405429f);
	Vec half;

	p = p * t - 1.453152027f;
	p = p * t + 1.421413741f;
	p = p * t - 0.284496736f;
	p = p * t + 0.254829592f;
	half = 0.5f * p * t * vec_exp(-(z * z));
	return x * vec_if_less(x, vec_set(0.0f), half, 1.0f - half);
}

#endif /* DSOCR_CPU_VEC_H */
