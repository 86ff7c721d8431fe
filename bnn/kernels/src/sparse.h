// Sparse weights times dense columns (api.h, Sparse): every weight meets a strip of columns that lie in registers.
#pragma once

#include <algorithm>

#include "api.h"
#include "vec.h"

namespace bnn::BNN_ISA {

// Columns [from, from + VECTORS V) of one row.
template <int VECTORS>
inline void sparse_strip(const Sparse& s, int64_t row, int64_t from) {
  vf sum[VECTORS];
  for (int v = 0; v < VECTORS; ++v)
    sum[v] = splat(s.bias ? s.bias[row] : 0.0f);
  for (int32_t i = s.starts[row]; i < s.starts[row + 1]; ++i) {
    const float* source = s.source + s.inputs[i] * s.source_stride + from;
    const vf weight = splat(s.weights[i]);
    for (int v = 0; v < VECTORS; ++v)
      sum[v] += weight * load(source + v * V);
  }
  float* to = s.destination + row * s.stride + from;
  for (int v = 0; v < VECTORS; ++v)
    store(to + v * V, s.relu ? positive_part(sum[v]) : sum[v]);
}

using SparseStrip = void (*)(const Sparse&, int64_t, int64_t);

constexpr int kSparseVectors = 8;
constexpr SparseStrip kSparseStrips[kSparseVectors] = {
    sparse_strip<1>, sparse_strip<2>, sparse_strip<3>, sparse_strip<4>,
    sparse_strip<5>, sparse_strip<6>, sparse_strip<7>, sparse_strip<8>,
};

inline void sparse(const Sparse& s, int64_t first, int64_t last) {
  for (int64_t from = 0; from < s.columns; from += kSparseVectors * V) {
    const int64_t vectors = std::min<int64_t>(kSparseVectors, (s.columns - from) / V);
    for (int64_t row = first; row < last; ++row)
      kSparseStrips[vectors - 1](s, row, from);
  }
}

}  // namespace bnn::BNN_ISA
