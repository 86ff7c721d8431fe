// What the operators share: how they check and read tensors, and how they divide elements into chunks.
#pragma once

#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>

#include <algorithm>
#include <optional>

#include "api.h"

namespace bnn::ops {

using at::Tensor;
using Optional = std::optional<Tensor>;

// Fewer multiply-adds than this take less time than waking other threads.
constexpr int64_t kFewProducts = 1 << 21;

inline const float* read(const Tensor& tensor) { return tensor.const_data_ptr<float>(); }
inline const float* read(const Optional& tensor) { return tensor ? read(*tensor) : nullptr; }

inline void check(const Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat, name, ": must be a float32 CPU tensor");
}

inline void check_same(const Tensor& tensor, const Tensor& like, const char* name) {
  check(tensor, name);
  TORCH_CHECK(
      tensor.sizes() == like.sizes() && tensor.strides() == like.strides() && like.is_non_overlapping_and_dense(), name,
      ": must have shape and strides of its weights, which must be dense");
}

template <typename Function>
void for_chunks(int64_t elements, Function function) {
  at::parallel_for(0, (elements + kChunk - 1) / kChunk, 8, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk)
      function(chunk, chunk * kChunk, std::min(elements, (chunk + 1) * kChunk));
  });
}

}  // namespace bnn::ops
