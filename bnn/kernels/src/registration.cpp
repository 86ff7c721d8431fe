// The kernels as torch operators (torch.ops.bnn_kernels).
#include <torch/library.h>

#include "ops.h"

namespace bnn::ops {
namespace {

std::string isa() { return kernels().name; }

// For CPU tensors only, so that torch's dispatch modes (its counter of FLOPs, say) see the operators.
template <typename Function>
auto on_cpu(Function function) {
  return torch::dispatch(c10::DispatchKey::CPU, function);
}

}  // namespace

TORCH_LIBRARY(bnn_kernels, m) {
  m.def("isa() -> str", isa);
  m.def("normal(int seed, int elements) -> Tensor", normal);
  m.def("signs(int seed, bool output, int images, int channels) -> Tensor", signs);
  m.def("perturb(Tensor mu, Tensor rho, int seed, float prior) -> (Tensor, Tensor)", on_cpu(TORCH_FN(perturb)));
  m.def("sample(Tensor mu, Tensor scale, int seed) -> Tensor", on_cpu(TORCH_FN(sample)));
  m.def(
      "sampled_conv(Tensor input, Tensor mu, Tensor? scale, int seed, Tensor? bias, int[2] stride, int[2] padding, "
      "int[2] dilation, bool relu=False) -> Tensor",
      on_cpu(TORCH_FN(sampled_conv)));
  m.def("sampled_linear(Tensor input, Tensor mu, Tensor? scale, int seed, Tensor? bias, bool relu=False) -> Tensor",
        on_cpu(TORCH_FN(sampled_linear)));
  m.def("sparse(Tensor starts, Tensor inputs, Tensor weights, Tensor source, Tensor? bias, bool relu=False) -> Tensor",
        on_cpu(TORCH_FN(sparse)));
  m.def(
      "chain_(Tensor mu, Tensor rho, Tensor delta, float prior, Tensor? kl_weight, Tensor(a!) grad_mu, "
      "Tensor(b!) grad_delta) -> ()",
      on_cpu(TORCH_FN(chain_)));
  m.def(
      "adam_(Tensor(a!)[] values, Tensor[] gradients, Tensor(b!)[] means, Tensor(c!)[] squares, Tensor[] steps, "
      "float rate, float beta1, float beta2, float epsilon) -> ()",
      on_cpu(TORCH_FN(adam_)));
  m.def(
      "rmsprop_(Tensor(a!)[] values, Tensor[] gradients, Tensor(b!)[] squares, float rate, float decay, "
      "float epsilon) -> ()",
      on_cpu(TORCH_FN(rmsprop_)));
  m.def(
      "ivon_sample(Tensor[] means, Tensor[] hessians, int[] seeds, float ess, float decay) -> (Tensor[], Tensor)",
      on_cpu(TORCH_FN(ivon_sample)));
  m.def("ivon_product_(Tensor gradient, Tensor sample, Tensor mean, Tensor(a!) to) -> ()", on_cpu(TORCH_FN(ivon_product_)));
  m.def(
      "ivon_(Tensor(a!)[] means, Tensor[] gradients, Tensor[] samples, Tensor[] products, Tensor(b!)[] momenta, "
      "Tensor(c!)[] hessians, Tensor[] steps, float rate, float ess, float decay, float beta1, float beta2, float clip) "
      "-> ()",
      on_cpu(TORCH_FN(ivon_)));
  m.def(
      "conv(Tensor input, Tensor mu, Tensor? delta, Tensor? input_signs, Tensor? output_signs, Tensor? "
      "bias, int[2] stride, int[2] padding, int[2] dilation) -> Tensor",
      on_cpu(TORCH_FN(conv)));
  m.def(
      "conv_input_gradient(Tensor gradient, Tensor mu, Tensor? delta, Tensor? input_signs, Tensor? "
      "output_signs, int[2] size, int[2] stride, int[2] padding, int[2] dilation) -> Tensor",
      on_cpu(TORCH_FN(conv_input_gradient)));
  m.def(
      "conv_weight_gradient(Tensor input, Tensor gradient, Tensor? input_signs, Tensor? output_signs, "
      "int[2] size, int[2] stride, int[2] padding, int[2] dilation) -> (Tensor, Tensor?)",
      on_cpu(TORCH_FN(conv_weight_gradient)));
}

}  // namespace bnn::ops
