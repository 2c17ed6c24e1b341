/*-------------------------------------------------------------------------
 *
 * emu_math.h
 *		bf16 and the mathematical functions of device code.
 *
 *-------------------------------------------------------------------------
 */
#ifndef DSOCR_EMU_MATH_H
#define DSOCR_EMU_MATH_H

#include <limits.h>
#include <float.h>

/* ---- bits ---- */

template <typename To, typename From>
static __forceinline__ To
dsocr_emu_bits(From from)
{
	To to;

	static_assert(sizeof(To) == sizeof(From), "sizes differ");
	memcpy(&to, &from, sizeof(to));
	return to;
}

static __forceinline__ float
__uint_as_float(unsigned int v)
{
	return dsocr_emu_bits<float>(v);
}

static __forceinline__ unsigned int
__float_as_uint(float v)
{
	return dsocr_emu_bits<unsigned int>(v);
}

static __forceinline__ float
__int_as_float(int v)
{
	return dsocr_emu_bits<float>(v);
}

static __forceinline__ int
__float_as_int(float v)
{
	return dsocr_emu_bits<int>(v);
}

static __forceinline__ int
__clz(int v)
{
	return v == 0 ? 32 : __builtin_clz((unsigned int) v);
}

static __forceinline__ int
__clzll(long long v)
{
	return v == 0 ? 64 : __builtin_clzll((unsigned long long) v);
}

static __forceinline__ int
__ffs(int v)
{
	return __builtin_ffs(v);
}

static __forceinline__ int
__ffsll(long long v)
{
	return __builtin_ffsll(v);
}

static __forceinline__ int
__popc(unsigned int v)
{
	return __builtin_popcount(v);
}

static __forceinline__ int
__popcll(unsigned long long v)
{
	return __builtin_popcountll(v);
}

static __forceinline__ unsigned int
__umulhi(unsigned int a, unsigned int b)
{
	return (unsigned int) (((uint64_t) a * b) >> 32);
}

/* ---- bf16 ---- */

struct __nv_bfloat16
{
	uint16_t dsocr_bits;
};

struct alignas(4) __nv_bfloat162
{
	__nv_bfloat16 x;
	__nv_bfloat16 y;
	DSOCR_EMU_COPIES(__nv_bfloat162, __nv_bfloat16) : x(vx), y(vy)
	{
	}
};

static __forceinline__ float
__bfloat162float(__nv_bfloat16 v)
{
	return __uint_as_float((unsigned int) v.dsocr_bits << 16);
}

/* To nearest, ties to even; every NaN becomes 0x7fff. */
static __forceinline__ __nv_bfloat16
__float2bfloat16_rn(float f)
{
	uint32_t u = __float_as_uint(f);
	__nv_bfloat16 v;

	if ((u & 0x7fffffffu) > 0x7f800000u)
		v.dsocr_bits = 0x7fff;
	else
		v.dsocr_bits = (uint16_t) ((u + 0x7fffu + ((u >> 16) & 1)) >> 16);
	return v;
}

static __forceinline__ __nv_bfloat16
__float2bfloat16(float f)
{
	return __float2bfloat16_rn(f);
}

static __forceinline__ __nv_bfloat162
__floats2bfloat162_rn(float x, float y)
{
	return {__float2bfloat16_rn(x), __float2bfloat16_rn(y)};
}

static __forceinline__ __nv_bfloat162
__float22bfloat162_rn(float2 v)
{
	return __floats2bfloat162_rn(v.x, v.y);
}

static __forceinline__ float2
__bfloat1622float2(__nv_bfloat162 v)
{
	return {__bfloat162float(v.x), __bfloat162float(v.y)};
}

static __forceinline__ float
__low2float(__nv_bfloat162 v)
{
	return __bfloat162float(v.x);
}

static __forceinline__ float
__high2float(__nv_bfloat162 v)
{
	return __bfloat162float(v.y);
}

static __forceinline__ __nv_bfloat162
__halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y)
{
	return {x, y};
}

static __forceinline__ __nv_bfloat16
__ushort_as_bfloat16(unsigned short v)
{
	return {v};
}

static __forceinline__ unsigned short
__bfloat16_as_ushort(__nv_bfloat16 v)
{
	return v.dsocr_bits;
}

/* ---- floats ---- */

static __forceinline__ float
__fmaf_rn(float a, float b, float c)
{
	return fmaf(a, b, c);
}

static __forceinline__ float
__fadd_rn(float a, float b)
{
	return a + b;
}

static __forceinline__ float
__fsub_rn(float a, float b)
{
	return a - b;
}

static __forceinline__ float
__fmul_rn(float a, float b)
{
	return a * b;
}

static __forceinline__ float
__fdiv_rn(float a, float b)
{
	return a / b;
}

static __forceinline__ float
__fdividef(float a, float b)
{
	return a / b;
}

static __forceinline__ float
__frcp_rn(float a)
{
	return 1.0f / a;
}

static __forceinline__ float
__fsqrt_rn(float a)
{
	return sqrtf(a);
}

static __forceinline__ float
rsqrtf(float a)
{
	return 1.0f / sqrtf(a);
}

static __forceinline__ float
__frsqrt_rn(float a)
{
	return 1.0f / sqrtf(a);
}

/* The C library has functions of these names. */
#define __expf(a) expf(a)
#define __logf(a) logf(a)
#define __log2f(a) log2f(a)
#define __sinf(a) sinf(a)
#define __cosf(a) cosf(a)
#define __powf(a, b) powf(a, b)

static __forceinline__ float
__saturatef(float a)
{
	return a != a || a < 0.0f ? 0.0f : a > 1.0f ? 1.0f : a;
}

static __forceinline__ int
__float2int_rn(float a)
{
	return (int) lrintf(a);
}

static __forceinline__ int
__float2int_rz(float a)
{
	return (int) a;
}

static __forceinline__ float
__int2float_rn(int a)
{
	return (float) a;
}

static __forceinline__ float
__uint2float_rn(unsigned int a)
{
	return (float) a;
}

/* 2^x as the hardware has it: subnormal operands and results are zeros. */
static __forceinline__ float
dsocr_exp2(float x)
{
	float y = exp2f(x);

	return y < FLT_MIN ? 0.0f : y;
}

/* ---- max and min of device code ---- */

#define DSOCR_EMU_MAX_MIN(type)                                                                    \
	static __forceinline__ type max(type a, type b)                                                \
	{                                                                                              \
		return a > b ? a : b;                                                                      \
	}                                                                                              \
	static __forceinline__ type min(type a, type b)                                                \
	{                                                                                              \
		return a < b ? a : b;                                                                      \
	}

DSOCR_EMU_MAX_MIN(int)
DSOCR_EMU_MAX_MIN(unsigned int)
DSOCR_EMU_MAX_MIN(long)
DSOCR_EMU_MAX_MIN(unsigned long)
DSOCR_EMU_MAX_MIN(long long)
DSOCR_EMU_MAX_MIN(unsigned long long)

static __forceinline__ float
max(float a, float b)
{
	return fmaxf(a, b);
}

static __forceinline__ float
min(float a, float b)
{
	return fminf(a, b);
}

static __forceinline__ double
max(double a, double b)
{
	return fmax(a, b);
}

static __forceinline__ double
min(double a, double b)
{
	return fmin(a, b);
}

#endif /* DSOCR_EMU_MATH_H */
