/*-------------------------------------------------------------------------
 *
 * module.cpp
 *		What Python sees.
 *
 *-------------------------------------------------------------------------
 */
#include <torch/extension.h>

#include <vector>

#include "gemm.h"

using at::Tensor;
using Tensors = std::vector<Tensor>;
using Maybe = c10::optional<Tensor>;

Tensors attention_forward(const Tensor &q, const Tensor &k, const Tensor &v, const Maybe &rows, const Maybe &columns, bool causal,
						  double scale);
Tensors attention_backward(const Tensor &g, const Tensor &q, const Tensor &k, const Tensor &v, const Maybe &rows,
						   const Maybe &columns, const Tensor &o, const Tensor &lse, bool causal, double scale);
Tensors norm_forward(const Tensor &x, const Tensor &w, const Maybe &b, double eps);
Tensors norm_backward(const Tensor &g, const Tensor &x, const Tensor &w, const Tensor &stats, bool centred);
Tensor gelu_forward(const Tensor &x);
Tensor gelu_backward(const Tensor &g, const Tensor &x);
Tensor swiglu_forward(const Tensor &a, const Tensor &b);
Tensors swiglu_backward(const Tensor &g, const Tensor &a, const Tensor &b);
Tensor rotate(const Tensor &x, const Tensor &cos, const Tensor &sin, double sign);
Tensor pixels(const Tensor &gray, const Tensor &paper, const Tensor &ink);
Tensors experts_plan(const Tensor &index, long experts);
Tensor experts_spread(const Tensor &x, const Tensor &rows);
Tensor experts_gather(const Tensor &y, const Tensor &places, const Maybe &weight);
Tensors experts_gather_backward(const Tensor &g, const Tensor &y, const Tensor &places, const Tensor &weight);

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m)
{
	m.def("allowed", [] { return gemm_allowed() != 0; });
	m.def("attention_forward", &attention_forward);
	m.def("attention_backward", &attention_backward);
	m.def("norm_forward", &norm_forward);
	m.def("norm_backward", &norm_backward);
	m.def("gelu_forward", &gelu_forward);
	m.def("gelu_backward", &gelu_backward);
	m.def("swiglu_forward", &swiglu_forward);
	m.def("swiglu_backward", &swiglu_backward);
	m.def("rotate", &rotate);
	m.def("pixels", &pixels);
	m.def("experts_plan", &experts_plan);
	m.def("experts_spread", &experts_spread);
	m.def("experts_gather", &experts_gather);
	m.def("experts_gather_backward", &experts_gather_backward);
}
