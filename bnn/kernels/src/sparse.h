// Sparse weights times dense columns (api.h, Sparse): every weight meets a strip of columns that lie in registers.
#pragma once

#include <algorithm>

#include "api.h"
#include "vec.h"

namespace bnn::BNN_ISA {

// Columns [from, from + VECTORS V) of one row, of which the last vector has `lanes`.
template <int VECTORS>
inline void sparse_strip(const Sparse& s, int64_t row, int64_t from, int64_t lanes) {
  vf sum[VECTORS];
  for (int v = 0; v < VECTORS; ++v)
    sum[v] = splat(s.bias ? s.bias[row] : 0.0f);
  for (int32_t i = s.starts[row]; i < s.starts[row + 1]; ++i) {
    const float* source = s.source + s.inputs[i] * s.columns + from;
    const vf weight = splat(s.weights[i]);
    for (int v = 0; v < VECTORS - 1; ++v)
      sum[v] += weight * load(source + v * V);
    sum[VECTORS - 1] += weight * load_some(source + (VECTORS - 1) * V, lanes);
  }
  if (s.relu)
    for (vf& part : sum)
      part = positive_part(part);
  float* to = s.destination + row * s.columns + from;
  for (int v = 0; v < VECTORS - 1; ++v)
    store(to + v * V, sum[v]);
  store_some(to + (VECTORS - 1) * V, sum[VECTORS - 1], lanes);
}

using SparseStrip = void (*)(const Sparse&, int64_t, int64_t, int64_t);

constexpr int kSparseVectors = 8;
constexpr SparseStrip kSparseStrips[kSparseVectors] = {
    sparse_strip<1>, sparse_strip<2>, sparse_strip<3>, sparse_strip<4>,
    sparse_strip<5>, sparse_strip<6>, sparse_strip<7>, sparse_strip<8>,
};

inline void sparse(const Sparse& s, int64_t first, int64_t last) {
  for (int64_t from = 0; from < s.columns; from += kSparseVectors * V) {
    const int64_t width = std::min<int64_t>(kSparseVectors * V, s.columns - from), vectors = (width + V - 1) / V;
    for (int64_t row = first; row < last; ++row)
      kSparseStrips[vectors - 1](s, row, from, width - (vectors - 1) * V);
  }
}

}  // namespace bnn::BNN_ISA
