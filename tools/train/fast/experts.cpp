/*-------------------------------------------------------------------------
 *
 * experts.cpp
 *		Rows of a mixture of experts to their experts and back.
 *
 * Each of n rows goes to k experts: places, ordered by expert. Those of an
 * expert are filled up with rows of zeros to a multiple of STEP: the library
 * under PyTorch compiles its products for each shape, and few shapes recur.
 *
 *-------------------------------------------------------------------------
 */
#include <torch/extension.h>

#include <vector>

#include "gemm.h"

static const int64_t STEP = 64;

/* index [n, k] to: the row of each place or -1, the place of each [row, choice], and how many places each expert has */
std::vector<at::Tensor>
experts_plan(const at::Tensor &index, long experts)
{
	long n = index.size(0), k = index.size(1);
	at::Tensor ids = index.contiguous(), places = at::empty({n, k}, index.options()), rows;
	at::Tensor counts = at::zeros({experts}, index.options());
	const int64_t *e = ids.data_ptr<int64_t>();
	int64_t *r, *p = places.data_ptr<int64_t>(), *c = counts.data_ptr<int64_t>();
	std::vector<int64_t> next(experts + 1);

	for (long i = 0; i < n * k; i++)
		c[e[i]]++;
	for (long i = 0; i < experts; i++)
	{
		c[i] = (c[i] + STEP - 1) / STEP * STEP;
		next[i + 1] = next[i] + c[i];
	}
	rows = at::full({next[experts]}, -1, index.options());
	r = rows.data_ptr<int64_t>();
	for (long i = 0; i < n * k; i++)
	{
		p[i] = next[e[i]]++;
		r[p[i]] = i / k;
	}
	return {rows, places, counts};
}

/* x [n, c] to its places [count, c] */
at::Tensor
experts_spread(const at::Tensor &x, const at::Tensor &rows)
{
	long c = x.size(1), count = rows.size(0);
	at::Tensor y = at::empty({count, c}, x.options());
	const bf16 *in = (const bf16 *) x.data_ptr<at::BFloat16>();
	bf16 *out = (bf16 *) y.data_ptr<at::BFloat16>();
	const int64_t *r = rows.data_ptr<int64_t>();

	TORCH_CHECK(x.is_contiguous(), "rows without gaps are wanted");
	for (long i = 0; i < count; i++)
	{
		if (r[i] < 0)
			memset(out + i * c, 0, c * 2);
		else
			memcpy(out + i * c, in + r[i] * c, c * 2);
	}
	return y;
}

/* The sum over its places, each times its weight, in fp32; without weights each counts 1 and the sum is bf16. */
at::Tensor
experts_gather(const at::Tensor &y, const at::Tensor &places, const c10::optional<at::Tensor> &weight)
{
	long c = y.size(1), n = places.size(0), k = places.size(1);
	at::Tensor x = at::empty({n, c}, y.options().dtype(weight ? at::kFloat : at::kBFloat16));
	const bf16 *in = (const bf16 *) y.data_ptr<at::BFloat16>();
	const int64_t *p = places.data_ptr<int64_t>();
	const float *w = weight ? weight->data_ptr<float>() : nullptr;

	TORCH_CHECK(y.is_contiguous() && c % 16 == 0 && (!weight || weight->is_contiguous()), "rows without gaps are wanted");
	for (long i = 0; i < n; i++)
		for (long j = 0; j < c; j += 16)
		{
			__m512 sum = _mm512_setzero_ps();

			for (long q = 0; q < k; q++)
				sum = _mm512_fmadd_ps(_mm512_set1_ps(w ? w[i * k + q] : 1.0f), load16(in + p[i * k + q] * c + j), sum);
			if (w)
				_mm512_storeu_ps(x.data_ptr<float>() + i * c + j, sum);
			else
				_mm256_storeu_si256((__m256i *) ((bf16 *) x.data_ptr<at::BFloat16>() + i * c + j), narrow(sum));
		}
	return x;
}

/* Gradients of the weighted sum: of the places and of the weights */
std::vector<at::Tensor>
experts_gather_backward(const at::Tensor &g, const at::Tensor &y, const at::Tensor &places, const at::Tensor &weight)
{
	long c = y.size(1), n = places.size(0), k = places.size(1);
	at::Tensor dy = at::zeros_like(y), dw = at::empty_like(weight);
	const bf16 *in = (const bf16 *) y.data_ptr<at::BFloat16>();
	bf16 *out = (bf16 *) dy.data_ptr<at::BFloat16>();
	const int64_t *p = places.data_ptr<int64_t>();
	const float *w = weight.data_ptr<float>(), *gp = g.data_ptr<float>();

	TORCH_CHECK(g.is_contiguous() && y.is_contiguous() && weight.is_contiguous(), "rows without gaps are wanted");
	for (long i = 0; i < n * k; i++)
	{
		__m512 sum = _mm512_setzero_ps(), by = _mm512_set1_ps(w[i]);

		for (long j = 0; j < c; j += 16)
		{
			__m512 d = _mm512_loadu_ps(gp + i / k * c + j);

			sum = _mm512_fmadd_ps(d, load16(in + p[i] * c + j), sum);
			_mm256_storeu_si256((__m256i *) (out + p[i] * c + j), narrow(_mm512_mul_ps(d, by)));
		}
		dw.data_ptr<float>()[i] = _mm512_reduce_add_ps(sum);
	}
	return {dy, dw};
}
