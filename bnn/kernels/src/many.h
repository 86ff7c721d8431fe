// What operators on all parameters share: chunks of many tensors in one go, and the memory of each.
#pragma once

#include <vector>

#include "tensors.h"

namespace bnn::ops {

// Calls `function(i, first, last)` for chunks of every tensor i, all of them in one go: parameters are many and small.
template <typename Function>
void for_chunks_of(at::TensorList tensors, Function function) {
  std::vector<int64_t> begin{0};  // number of chunks before each tensor
  for (const Tensor& tensor : tensors)
    begin.push_back(begin.back() + (tensor.numel() + kChunk - 1) / kChunk);
  at::parallel_for(0, begin.back(), 8, [&](int64_t first, int64_t last) {
    int64_t i = std::upper_bound(begin.begin(), begin.end(), first) - begin.begin() - 1;
    for (int64_t chunk = first; chunk < last; ++chunk) {
      while (chunk >= begin[i + 1])
        ++i;
      const int64_t at = (chunk - begin[i]) * kChunk;
      function(i, at, std::min(tensors[i].numel(), at + kChunk));
    }
  });
}

inline std::vector<float*> writable(at::TensorList tensors, at::TensorList like, const char* name) {
  TORCH_CHECK(tensors.size() == like.size(), name, ": must be as many as the values");
  std::vector<float*> made;
  for (size_t i = 0; i < tensors.size(); ++i) {
    check_same(tensors[i], like[i], name);
    made.push_back(tensors[i].mutable_data_ptr<float>());
  }
  return made;
}

inline std::vector<const float*> readable(at::TensorList tensors, at::TensorList like, const char* name) {
  TORCH_CHECK(tensors.size() == like.size(), name, ": must be as many as the values");
  std::vector<const float*> made;
  for (size_t i = 0; i < tensors.size(); ++i) {
    check_same(tensors[i], like[i], name);
    made.push_back(read(tensors[i]));
  }
  return made;
}

}  // namespace bnn::ops
