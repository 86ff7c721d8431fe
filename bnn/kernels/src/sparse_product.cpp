// The product of sparse weights with a dense source.
#include <ATen/ops/empty.h>
#include <ATen/ops/zeros.h>

#include "ops.h"

namespace bnn::ops {
namespace {

// `source` as it is, if its rows may be read up to `padded` columns; else a copy that may, with zeros there.
Tensor padded_rows(const Tensor& source, int64_t padded) {
  const int64_t rows = source.size(0), stride = source.stride(0);
  const int64_t floats = (int64_t)(source.storage().nbytes() / sizeof(float)) - source.storage_offset();
  if (source.stride(1) == 1 && stride >= padded && (rows - 1) * stride + padded <= floats) return source;
  Tensor made = at::zeros({rows, padded}, at::kFloat);
  made.narrow(1, 0, source.size(1)).copy_(source);
  return made;
}

}  // namespace

Tensor sparse(const Tensor& starts, const Tensor& inputs, const Tensor& weights, const Tensor& source,
              const Optional& bias, bool relu) {
  check(weights, "weights");
  check(source, "source");
  TORCH_CHECK(starts.scalar_type() == at::kInt && inputs.scalar_type() == at::kInt, "indices must be int32");
  TORCH_CHECK(starts.dim() == 1 && starts.size(0) > 0 && inputs.dim() == 1 && weights.dim() == 1 && source.dim() == 2 &&
                  inputs.size(0) == weights.size(0) && starts.is_contiguous() && inputs.is_contiguous() &&
                  weights.is_contiguous(),
              "starts, inputs and weights must be contiguous vectors, source must have 2 dimensions");
  const int64_t rows = starts.size(0) - 1, columns = source.size(1);
  if (bias) {
    check(*bias, "bias");
    TORCH_CHECK(bias->is_contiguous() && bias->dim() == 1 && bias->size(0) == rows,
                "bias: must have one element per row");
  }
  const int32_t *start = starts.const_data_ptr<int32_t>(), *input = inputs.const_data_ptr<int32_t>();
  TORCH_CHECK(start[0] == 0 && start[rows] == weights.size(0) && std::is_sorted(start, start + rows + 1),
              "starts: must go from 0 to the number of weights");
  TORCH_CHECK(std::all_of(input, input + start[rows], [&](int32_t i) { return i >= 0 && i < source.size(0); }),
              "inputs: must be rows of source");
  const int64_t padded = (columns + kSparsePadding - 1) / kSparsePadding * kSparsePadding;
  const Tensor output = at::empty({rows, padded}, at::kFloat);
  if (columns == 0) return output;
  const Tensor from = padded_rows(source, padded);
  const Sparse s{start,  input,          read(weights), read(from), read(bias), output.mutable_data_ptr<float>(),
                 padded, from.stride(0), padded,        relu};
  const int64_t grain =
      std::max<int64_t>(1, kFewProducts / std::max<int64_t>(1, padded * start[rows] / std::max<int64_t>(1, rows)));
  at::parallel_for(0, rows, grain, [&](int64_t first, int64_t end) { kernels().sparse(s, first, end); });
  return output.narrow(1, 0, columns);
}

}  // namespace bnn::ops
