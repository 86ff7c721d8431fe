// A convolution of few pixels whose weights are sampled where they are needed (api.h, sampled): a row of weights is
// formed in the first-level cache, meets all pixels and is forgotten. With few pixels the weights are most of the
// work, and writing a sample of them to memory would cost as much again as making it.
#pragma once

#include <algorithm>

#include "api.h"
#include "gather.h"
#include "random.h"

namespace bnn::BNN_ISA {

// The weights mu + scale * eps of elements [first, first + count); `have` is the group of four whose noise `eps` holds.
inline void sample_row(const float* mu, const float* scale, uint64_t seed, int64_t first, int64_t count, int64_t& have,
                       float* eps, float* to) {
  for (int64_t at = first; at < first + count;) {
    const int64_t four = at / kFour, end = std::min(first + count, (four + 1) * kFour);
    if (four != have) normal_four(seed, kEpsilon, have = four, eps);
    for (; at < end; at += V) {
      const int64_t lanes = std::min<int64_t>(V, end - at);
      const vf noise = load_some(eps + at % kFour, lanes);
      store_some(to + (at - first), load_some(mu + at, lanes) + load_some(scale + at, lanes) * noise, lanes);
    }
    at = end;
  }
}

// Products of one row of weights with ROWS pixels, added up over the taps; several sums each, which the processor adds
// to at the same time.
template <int ROWS>
inline void row_products(const Tile& tile, const Gather& g, const float* source, const float* zeros, const float* row,
                         float bias, bool relu, float* to) {
  constexpr int kSums = (8 + ROWS - 1) / ROWS;
  vf sum[ROWS][kSums] = {};
  for (int t = 0; t < g.taps; ++t, row += g.source_channels) {
    if (!tile.active[t]) continue;
    const float* x[ROWS];
    for (int r = 0; r < ROWS; ++r) {
      const int64_t pixel = tile.source[(size_t)t * ROWS + r];
      x[r] = pixel < 0 ? zeros : source + pixel * g.source_channels;
    }
    int64_t k = 0;
    for (; k + kSums * V <= g.source_channels; k += kSums * V)
      for (int n = 0; n < kSums; ++n) {
        const vf w = load(row + k + n * V);
        for (int r = 0; r < ROWS; ++r)
          sum[r][n] += w * load(x[r] + k + n * V);
      }
    for (; k < g.source_channels; k += V) {
      const vf w = load_some(row + k, g.source_channels - k);
      for (int r = 0; r < ROWS; ++r)
        sum[r][0] += w * load_some(x[r] + k, g.source_channels - k);
    }
  }
  for (int r = 0; r < ROWS; ++r) {
    for (int n = 1; n < kSums; ++n)
      sum[r][0] += sum[r][n];
    float total = bias;
    for (int lane = 0; lane < V; ++lane)
      total += sum[r][0][lane];
    to[tile.pixel[r] * g.channels] = relu && total < 0 ? 0.0f : total;
  }
}

using RowProducts = void (*)(const Tile&, const Gather&, const float*, const float*, const float*, float, bool, float*);
constexpr RowProducts kRowProducts[kRows] = {row_products<1>, row_products<2>, row_products<3>,
                                             row_products<4>, row_products<5>, row_products<6>};

inline void sampled(const Gather& g, const GatherArguments& a, const float* scale, uint64_t seed, int64_t first,
                    int64_t last) {
  const int64_t length = g.taps * g.source_channels;
  Scratch& scratch = Scratch::mine();
  float* row = scratch.get(0, length + V);
  float* zeros = scratch.get(3, g.source_channels);
  std::fill(zeros, zeros + g.source_channels, 0.0f);
  alignas(64) float eps[kFour + V] = {};
  int64_t have = -1;
  for (int64_t channel = first; channel < last; ++channel) {
    sample_row(a.mu, scale, seed, channel * length, length, have, eps, row);
    for (int64_t n = 0; n < a.images; ++n) {
      const float* source = a.source + n * g.source_pixels * g.source_channels;
      float* to = a.destination + n * g.pixels * g.channels + channel;
      for (const Tile& tile : g.tiles)
        kRowProducts[tile.rows - 1](tile, g, source, zeros, row, a.bias ? a.bias[channel] : 0.0f, a.relu, to);
    }
  }
}

}  // namespace bnn::BNN_ISA
