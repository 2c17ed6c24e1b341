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

std::vector<at::Tensor> attention_forward(const at::Tensor &q, const at::Tensor &k, const at::Tensor &v, bool causal, double scale);
std::vector<at::Tensor> attention_backward(const at::Tensor &g, const at::Tensor &q, const at::Tensor &k, const at::Tensor &v,
										   const at::Tensor &o, const at::Tensor &lse, bool causal, double scale);

PYBIND11_MODULE(TORCH_EXTENSION_NAME, m)
{
	m.def("allowed", [] { return tiles_allowed() != 0; });
	m.def("attention_forward", &attention_forward);
	m.def("attention_backward", &attention_backward);
}
