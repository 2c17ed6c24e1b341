/*-------------------------------------------------------------------------
 *
 * pointwise.cpp
 *		Norms, activations, rotation and pixels, each in one pass over memory.
 *
 * Sums and the residual stream are fp32, what goes into products is bf16.
 *
 *-------------------------------------------------------------------------
 */
#include <torch/extension.h>

#include <cmath>
#include <vector>

#include "gemm.h"

namespace
{

at::Tensor
bf16_like(const at::Tensor &x)
{
	return at::empty(x.sizes(), x.options().dtype(at::kBFloat16));
}

bf16 *
words(const at::Tensor &t)
{
	TORCH_CHECK(t.scalar_type() == at::kBFloat16 && t.is_contiguous(), "bf16 without gaps is wanted");
	return (bf16 *) t.data_ptr<at::BFloat16>();
}

float *
floats(const at::Tensor &t)
{
	TORCH_CHECK(t.scalar_type() == at::kFloat && t.is_contiguous(), "fp32 without gaps is wanted");
	return t.data_ptr<float>();
}

void
store(bf16 *p, __m512 x)
{
	_mm256_storeu_si256((__m256i *) p, narrow(x));
}

long
rows_of(const at::Tensor &x)
{
	TORCH_CHECK(x.size(-1) % 16 == 0, "channels: a multiple of 16 is wanted");
	return x.numel() / x.size(-1);
}

/* The last call for count values that may not be a multiple of 16 sees a mask. */
template <typename F>
void
each_16(long count, F f)
{
	long i = 0;

	for (; i + 16 <= count; i += 16)
		f(i, (__mmask16) 0xffff);
	if (i < count)
		f(i, (__mmask16) ((1u << (count - i)) - 1));
}

__m512
read(const bf16 *p, __mmask16 m)
{
	return load16_masked(p, m);
}

void
write(bf16 *p, __mmask16 m, __m512 x)
{
	_mm256_mask_storeu_epi16(p, m, narrow(x));
}

/* 1 / (1 + e^-x) */
__m512
sigmoid(__m512 x)
{
	__m512 one = _mm512_set1_ps(1.0f);

	return _mm512_div_ps(one, _mm512_add_ps(one, exp16(_mm512_min_ps(_mm512_sub_ps(_mm512_setzero_ps(), x), _mm512_set1_ps(80.0f)))));
}

/* The normal distribution and its density; Abramowitz and Stegun 7.1.26, error 1.5e-7 */
__m512
normal(__m512 x, __m512 *density)
{
	__m512 z = _mm512_mul_ps(_mm512_abs_ps(x), _mm512_set1_ps(0.70710678f)), one = _mm512_set1_ps(1.0f);
	__m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
	__m512 e = exp16(_mm512_sub_ps(_mm512_setzero_ps(), _mm512_mul_ps(z, z)));
	__m512 p = _mm512_set1_ps(1.061405429f);

	p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-1.453152027f));
	p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(1.421413741f));
	p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(-0.284496736f));
	p = _mm512_fmadd_ps(p, t, _mm512_set1_ps(0.254829592f));
	p = _mm512_mul_ps(_mm512_mul_ps(p, t), _mm512_mul_ps(e, _mm512_set1_ps(0.5f))); /* the tail */
	*density = _mm512_mul_ps(e, _mm512_set1_ps(0.39894228f));
	return _mm512_mask_sub_ps(p, _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ), one, p);
}

} // namespace

/* y = (x - mean) r w + b in bf16, and mean and r of each row; RMSNorm has no mean and no b. */
std::vector<at::Tensor>
norm_forward(const at::Tensor &x, const at::Tensor &w, const c10::optional<at::Tensor> &b, double eps)
{
	long n = rows_of(x), c = x.size(-1);
	at::Tensor y = bf16_like(x), stats = at::empty({n, 2}, x.options());
	const float *in = floats(x), *wp = floats(w), *bp = b ? floats(*b) : nullptr;
	float *s = floats(stats);
	bf16 *out = words(y);

	for (long i = 0; i < n; i++, in += c, out += c)
	{
		__m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
		float mean = 0, r;

		for (long j = 0; bp && j < c; j += 16)
			sum = _mm512_add_ps(sum, _mm512_loadu_ps(in + j));
		if (bp)
			mean = _mm512_reduce_add_ps(sum) / c;
		for (long j = 0; j < c; j += 16)
		{
			__m512 v = _mm512_sub_ps(_mm512_loadu_ps(in + j), _mm512_set1_ps(mean));

			squares = _mm512_fmadd_ps(v, v, squares);
		}
		r = 1 / sqrtf(_mm512_reduce_add_ps(squares) / c + (float) eps);
		s[2 * i] = mean;
		s[2 * i + 1] = r;
		for (long j = 0; j < c; j += 16)
		{
			__m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(in + j), _mm512_set1_ps(mean)), _mm512_set1_ps(r));

			v = _mm512_mul_ps(v, _mm512_loadu_ps(wp + j));
			store(out + j, bp ? _mm512_add_ps(v, _mm512_loadu_ps(bp + j)) : v);
		}
	}
	return {y, stats};
}

/* dx, dw and db; the latter is of use only where there is a b */
std::vector<at::Tensor>
norm_backward(const at::Tensor &g, const at::Tensor &x, const at::Tensor &w, const at::Tensor &stats, bool centred)
{
	long n = rows_of(x), c = x.size(-1);
	at::Tensor dx = at::empty_like(x), dw = at::zeros({c}, x.options()), db = at::zeros({c}, x.options());
	const float *in = floats(x), *wp = floats(w), *s = floats(stats);
	float *out = floats(dx), *dwp = floats(dw), *dbp = floats(db);
	const bf16 *gp = words(g);

	for (long i = 0; i < n; i++, in += c, gp += c, out += c)
	{
		__m512 mean = _mm512_set1_ps(s[2 * i]), r = _mm512_set1_ps(s[2 * i + 1]);
		__m512 a = _mm512_setzero_ps(), b = _mm512_setzero_ps();

		for (long j = 0; j < c; j += 16)
		{
			__m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(in + j), mean), r), d = load16(gp + j), e;

			_mm512_storeu_ps(dwp + j, _mm512_fmadd_ps(d, v, _mm512_loadu_ps(dwp + j)));
			if (centred)
				_mm512_storeu_ps(dbp + j, _mm512_add_ps(d, _mm512_loadu_ps(dbp + j)));
			e = _mm512_mul_ps(d, _mm512_loadu_ps(wp + j));
			a = _mm512_fmadd_ps(e, v, a);
			b = _mm512_add_ps(e, b);
		}
		a = _mm512_set1_ps(_mm512_reduce_add_ps(a) / c);
		b = _mm512_set1_ps(centred ? _mm512_reduce_add_ps(b) / c : 0);
		for (long j = 0; j < c; j += 16)
		{
			__m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(in + j), mean), r);
			__m512 e = _mm512_fmsub_ps(load16(gp + j), _mm512_loadu_ps(wp + j), b);

			_mm512_storeu_ps(out + j, _mm512_mul_ps(r, _mm512_fnmadd_ps(a, v, e)));
		}
	}
	return {dx, dw, db};
}

at::Tensor
gelu_forward(const at::Tensor &x)
{
	at::Tensor y = bf16_like(x);
	const bf16 *in = words(x);
	bf16 *out = words(y);

	each_16(x.numel(), [&](long i, __mmask16 m) {
		__m512 v = read(in + i, m), unused;

		write(out + i, m, _mm512_mul_ps(v, normal(v, &unused)));
	});
	return y;
}

at::Tensor
gelu_backward(const at::Tensor &g, const at::Tensor &x)
{
	at::Tensor dx = bf16_like(x);
	const bf16 *in = words(x), *gp = words(g);
	bf16 *out = words(dx);

	each_16(x.numel(), [&](long i, __mmask16 m) {
		__m512 v = read(in + i, m), density, p = normal(v, &density);

		write(out + i, m, _mm512_mul_ps(read(gp + i, m), _mm512_fmadd_ps(v, density, p)));
	});
	return dx;
}

/* silu(a) b */
at::Tensor
swiglu_forward(const at::Tensor &a, const at::Tensor &b)
{
	at::Tensor y = bf16_like(a);
	const bf16 *ap = words(a), *bp = words(b);
	bf16 *out = words(y);

	each_16(a.numel(), [&](long i, __mmask16 m) {
		__m512 v = read(ap + i, m);

		write(out + i, m, _mm512_mul_ps(_mm512_mul_ps(v, sigmoid(v)), read(bp + i, m)));
	});
	return y;
}

std::vector<at::Tensor>
swiglu_backward(const at::Tensor &g, const at::Tensor &a, const at::Tensor &b)
{
	at::Tensor da = bf16_like(a), db = bf16_like(a);
	const bf16 *ap = words(a), *bp = words(b), *gp = words(g);
	bf16 *dap = words(da), *dbp = words(db);

	each_16(a.numel(), [&](long i, __mmask16 m) {
		__m512 v = read(ap + i, m), s = sigmoid(v), d = read(gp + i, m);
		__m512 slope = _mm512_mul_ps(s, _mm512_fmadd_ps(v, _mm512_sub_ps(_mm512_set1_ps(1.0f), s), _mm512_set1_ps(1.0f)));

		write(dap + i, m, _mm512_mul_ps(_mm512_mul_ps(d, read(bp + i, m)), slope));
		write(dbp + i, m, _mm512_mul_ps(d, _mm512_mul_ps(v, s)));
	});
	return {da, db};
}

/*
 * Rotary positions: channels i and i + d / 2 of each head turned by the angle
 * of the row.  x [B, T, H d], cos and sin [T, d] in fp32; sign -1 turns back.
 */
at::Tensor
rotate(const at::Tensor &x, const at::Tensor &cos, const at::Tensor &sin, double sign)
{
	at::Tensor y = bf16_like(x);
	long T = x.size(1), C = x.size(2), d = cos.size(1), half = d / 2;
	const bf16 *in = words(x);
	const float *cp = floats(cos), *sp = floats(sin);
	bf16 *out = words(y);
	__m512 by = _mm512_set1_ps((float) sign);

	TORCH_CHECK(half % 16 == 0 && C % d == 0 && cos.size(0) == T, "shapes do not fit");
	for (long row = 0; row < x.size(0) * T; row++, in += C, out += C)
		for (long h = 0; h < C; h += d)
			for (long i = 0; i < half; i += 16)
			{
				__m512 c = _mm512_loadu_ps(cp + row % T * d + i), s = _mm512_mul_ps(by, _mm512_loadu_ps(sp + row % T * d + i));
				__m512 a = load16(in + h + i), b = load16(in + h + half + i);

				store(out + h + i, _mm512_fmsub_ps(a, c, _mm512_mul_ps(b, s)));
				store(out + h + half + i, _mm512_fmadd_ps(b, c, _mm512_mul_ps(a, s)));
			}
	return y;
}

/* Bytes [B, H, W] and colours [B, 3] of 255 and 0 to normalised pixels [B, 3, H, W] */
at::Tensor
pixels(const at::Tensor &gray, const at::Tensor &paper, const at::Tensor &ink)
{
	long n = gray.size(1) * gray.size(2);
	at::Tensor y = at::empty({gray.size(0), 3, gray.size(1), gray.size(2)}, gray.options().dtype(at::kBFloat16));
	const uint8_t *in = gray.data_ptr<uint8_t>(), *pp = paper.data_ptr<uint8_t>(), *ip = ink.data_ptr<uint8_t>();
	bf16 *out = words(y);

	TORCH_CHECK(gray.is_contiguous() && paper.is_contiguous() && ink.is_contiguous(), "bytes without gaps are wanted");
	for (long c = 0; c < gray.size(0) * 3; c++)
	{
		const uint8_t *from = in + c / 3 * n;
		uint32_t table[256];

		for (int i = 0; i < 256; i++)
		{
			at::BFloat16 v(nearbyintf(ip[c] + i / 255.0f * (pp[c] - ip[c])) / 127.5f - 1.0f);

			table[i] = v.x;
		}
		for (long i = 0; i < n; i++)
			*out++ = (bf16) table[from[i]];
	}
	return y;
}
