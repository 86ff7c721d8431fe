// Convolution by gathering (api.h, Gather): forward pass and input gradient, with one weight kernel for all images or
// one per image.
//
// The weights of up to kMaxVectors * V destination channels are laid out as a panel [source channel][destination
// channel], a block of some source channels at a time, so that the panel stays in the first-level cache. For Flipout
// the panel of image n, mu + delta * signs, is formed there from the panels of mu and delta: forming it costs one
// multiply-add per weight, a second convolution would cost one per weight and pixel. Source pixels are read where they
// lie, by pointer; padding reads zeros, and taps that lie in the padding for a whole tile are left out.
#pragma once

#include <algorithm>
#include <cstdlib>
#include <memory>

#include "api.h"
#include "vec.h"

namespace bnn::BNN_ISA {

#if defined(__AVX512F__)
constexpr int kMaxVectors = 4;  // 6 rows x 4 vectors of sums, in 32 registers
#else
constexpr int kMaxVectors = 2;  // 6 x 2 in 16 registers
#endif
constexpr int kPanelWidth = kMaxVectors * V;

constexpr int kMaxRuns = 64;  // of one block of source channels

// Source channels [first, last) under one tap.
struct Run {
  int tap;
  int64_t first, last;
};

// Memory of one thread, kept between calls.
class Scratch {
 public:
  float* get(int slot, int64_t floats) {
    if (size_[slot] < floats) {
      memory_[slot].reset(static_cast<float*>(std::aligned_alloc(64, (floats * 4 + 63) / 64 * 64 + kSlots * 640)));
      size_[slot] = floats;
    }
    return memory_[slot].get() + slot * 160;  // not all at the same place of a page: stores would hold up loads
  }
  static Scratch& mine() {
    thread_local Scratch scratch;
    return scratch;
  }

 private:
  struct Free {
    void operator()(float* memory) const { std::free(memory); }
  };
  static constexpr int kSlots = 7;
  std::unique_ptr<float, Free> memory_[kSlots];
  int64_t size_[kSlots] = {};
};

// Adds to ROWS pixels x VECTORS vectors of channels: the sums stay in registers over all runs. `at[run * ROWS + row]`
// points to the source. PART: the last vector has `lanes` channels only.
template <int ROWS, int VECTORS, bool PART>
inline void multiply(const float* const* at, const Run* runs, int count, const float* panel, float* const* to,
                     int64_t lanes) {
  vf sum[ROWS][VECTORS];
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v)
      sum[r][v] = PART && v == VECTORS - 1 ? load_some(to[r] + v * V, lanes) : load(to[r] + v * V);
  for (int i = 0; i < count; ++i, at += ROWS) {
    const float* x[ROWS];
    for (int r = 0; r < ROWS; ++r)
      x[r] = at[r];
    const int64_t length = runs[i].last - runs[i].first;
    if (x[0] == nullptr) {  // a tap that this tile leaves out
      panel += length * VECTORS * V;
      continue;
    }
    for (int64_t k = 0; k < length; ++k, panel += VECTORS * V) {
      vf w[VECTORS];
      for (int v = 0; v < VECTORS; ++v)
        w[v] = load(panel + v * V);
      for (int r = 0; r < ROWS; ++r) {
        const vf value = splat(x[r][k]);
        for (int v = 0; v < VECTORS; ++v)
          sum[r][v] += value * w[v];
      }
    }
  }
  for (int r = 0; r < ROWS; ++r)
    for (int v = 0; v < VECTORS; ++v)
      if (PART && v == VECTORS - 1)
        store_some(to[r] + v * V, sum[r][v], lanes);
      else
        store(to[r] + v * V, sum[r][v]);
}

using Multiply = void (*)(const float* const*, const Run*, int, const float*, float* const*, int64_t);

template <int VECTORS, bool PART>
constexpr Multiply kMultiply[kRows] = {multiply<1, VECTORS, PART>, multiply<2, VECTORS, PART>,
                                       multiply<3, VECTORS, PART>, multiply<4, VECTORS, PART>,
                                       multiply<5, VECTORS, PART>, multiply<6, VECTORS, PART>};

// Transposes V x V floats: row i, column j of `from` (rows `stride` apart) to row j, column i of `to`.
inline void transpose(const float* from, int64_t stride, float* to, int64_t to_stride) {
  vf rows[V];
  for (int i = 0; i < V; ++i)
    rows[i] = load(from + i * stride);
  for (int half = V / 2; half >= 1; half /= 2) {
    vi low, high;  // lanes whose bit `half` is clear come from one row, the others from its partner
    for (int lane = 0; lane < V; ++lane) {
      low[lane] = lane & half ? (lane ^ half) + V : lane;
      high[lane] = lane & half ? lane + V : (lane ^ half);
    }
    for (int i = 0; i < V; ++i) {
      if (i & half) continue;
      const vf a = rows[i], b = rows[i + half];
      rows[i] = __builtin_shuffle(a, b, low);
      rows[i + half] = __builtin_shuffle(a, b, high);
    }
  }
  for (int i = 0; i < V; ++i)
    store(to + i * to_stride, rows[i]);
}

// Lays out the weights of a run for destination channels [first, first + width): panel[k][channel], zeros beyond
// `width` up to `padded`.
inline void pack(const Gather& g, const float* weights, const Run& run, int64_t first, int64_t width, int64_t padded,
                 float* panel) {
  const int64_t length = run.last - run.first;
  if (!g.source_is_input) {  // weights[source channel][tap][destination channel]
    for (int64_t k = 0; k < length; ++k, panel += padded) {
      const float* row = weights + ((run.first + k) * g.taps + run.tap) * g.channels + first;
      std::memcpy(panel, row, width * sizeof(float));
      std::fill(panel + width, panel + padded, 0.0f);
    }
    return;
  }
  const int64_t stride = g.taps * g.source_channels;  // weights[destination channel][tap][source channel]
  const float* block = weights + first * stride + run.tap * g.source_channels + run.first;
  for (int64_t c = 0; c < padded; c += V) {
    int64_t k = 0;
    if (c + V <= width)
      for (; k + V <= length; k += V)
        transpose(block + c * stride + k, stride, panel + k * padded + c, padded);
    for (; k < length; ++k)
      for (int64_t j = c; j < c + V; ++j)
        panel[k * padded + j] = j < width ? block[j * stride + k] : 0.0f;
  }
}

// The panel that one example sees. Signs are +1 or -1, so that multiplying by them is flipping a bit.
template <int VECTORS>
inline void form(const float* mu, const float* delta, const Run* runs, int count, const float* source_signs,
                 const vu* signs, float* panel) {
  vu mine[VECTORS];  // a copy, which no store to the panel can change
  for (int v = 0; v < VECTORS; ++v)
    mine[v] = signs[v];
  for (int i = 0; i < count; ++i)
    for (int64_t k = runs[i].first; k < runs[i].last; ++k) {
      const vu flipped = sign_bits(splat(source_signs[k]));
      for (int v = 0; v < VECTORS; ++v, mu += V, delta += V, panel += V)
        store(panel, load(mu) + floats(bits(load(delta)) ^ mine[v] ^ flipped));
    }
}

// Source channels of a panel block. Short for small images, so that the panels of mu and delta stay in the first-level
// cache while one image's weights after another's are formed; longer for large ones, which use each panel for long.
inline int64_t block_length(const Gather& g, bool form) {
  const int64_t floats = form && g.pixels < 64 ? 4096 : 8192;
  return std::max<int64_t>(16, floats / kPanelWidth);
}
// Floats of source and destination of one group of images, which a block of weights meets one after another.
constexpr int64_t kGroupFloats = 96 * 1024;

// Cuts taps x source channels into blocks of runs; returns how many.
inline int cut(const Gather& g, int64_t limit, int64_t& tap, int64_t& channel, Run* runs) {
  int count = 0;
  for (int64_t length = 0; tap < g.taps && length < limit && count < kMaxRuns; ++count) {
    const int64_t end = std::min(g.source_channels, channel + limit - length);
    runs[count] = {(int)tap, channel, end};
    length += end - channel;
    channel = end;
    if (channel == g.source_channels) ++tap, channel = 0;
  }
  return count;
}

template <int VECTORS>
void gather_block(const Gather& g, const GatherArguments& a, int64_t channel, int64_t width, int64_t first,
                  int64_t last) {
  constexpr int64_t padded = VECTORS * V;
  const int64_t last_lanes = width - (VECTORS - 1) * V, all = g.taps * g.source_channels * padded;
  const int64_t limit = block_length(g, a.delta != nullptr);
  Scratch& scratch = Scratch::mine();
  float* mu = scratch.get(0, all);
  float* delta = a.delta ? scratch.get(1, all) : nullptr;
  float* formed = scratch.get(2, limit * padded);
  float* zeros = scratch.get(3, g.source_channels);
  std::fill(zeros, zeros + g.source_channels, 0.0f);
  for (int t = 0; t < g.taps; ++t) {
    const Run whole{t, 0, g.source_channels};
    pack(g, a.mu, whole, channel, width, padded, mu + t * g.source_channels * padded);
    if (a.delta) pack(g, a.delta, whole, channel, width, padded, delta + t * g.source_channels * padded);
  }

  const int64_t group = std::max<int64_t>(1, kGroupFloats / (g.source_pixels * g.source_channels + g.pixels * padded));
  const Multiply* multiplies = last_lanes == V ? kMultiply<VECTORS, false> : kMultiply<VECTORS, true>;
  Run runs[kMaxRuns];
  const float* at[kMaxRuns * kRows];
  for (int64_t begin = first; begin < last; begin += group) {
    const int64_t end = std::min(last, begin + group);
    for (int64_t p = begin * g.pixels; p < end * g.pixels; ++p) {
      float* to = a.destination + p * g.channels + channel;
      if (a.bias)
        std::memcpy(to, a.bias + channel, width * sizeof(float));
      else
        std::memset(to, 0, width * sizeof(float));
    }
    int64_t tap = 0, source_channel = 0;
    while (tap < g.taps) {
      const int64_t offset = (tap * g.source_channels + source_channel) * padded;
      const int count = cut(g, limit, tap, source_channel, runs);
      for (int64_t n = begin; n < end; ++n) {
        const float* panel = mu + offset;
        if (a.delta) {
          vu signs[VECTORS];
          for (int v = 0; v < VECTORS; ++v)
            signs[v] = sign_bits(
                load_some(a.signs + n * g.channels + channel + v * V, v == VECTORS - 1 ? last_lanes : (int64_t)V));
          form<VECTORS>(mu + offset, delta + offset, runs, count, a.source_signs + n * g.source_channels, signs,
                        formed);
          panel = formed;
        }
        const float* image = a.source + n * g.source_pixels * g.source_channels;
        float* made = a.destination + n * g.pixels * g.channels + channel;
        for (const Tile& tile : g.tiles) {
          bool any = false;
          for (int i = 0; i < count; ++i) {
            const int64_t* source = tile.source.data() + runs[i].tap * tile.rows;
            const bool active = tile.active[runs[i].tap];
            any |= active;
            for (int r = 0; r < tile.rows; ++r)
              at[i * tile.rows + r] = !active         ? nullptr
                                      : source[r] < 0 ? zeros
                                                      : image + source[r] * g.source_channels + runs[i].first;
          }
          if (!any) continue;
          float* to[kRows];
          for (int r = 0; r < tile.rows; ++r)
            to[r] = made + tile.pixel[r] * g.channels;
          multiplies[tile.rows - 1](at, runs, count, panel, to, last_lanes);
        }
      }
    }
    if (a.relu)
      for (int64_t p = begin * g.pixels; p < end * g.pixels; ++p)
        for (int v = 0; v < VECTORS; ++v) {
          const int64_t lanes = v == VECTORS - 1 ? last_lanes : (int64_t)V;
          float* to = a.destination + p * g.channels + channel + v * V;
          store_some(to, positive_part(load_some(to, lanes)), lanes);
        }
  }
}

inline void gather(const Gather& g, const GatherArguments& a, int64_t block, int64_t first, int64_t last) {
  const int64_t channel = block * kPanelWidth, width = std::min<int64_t>(kPanelWidth, g.channels - channel);
  switch ((width + V - 1) / V) {
    case 1:
      return gather_block<1>(g, a, channel, width, first, last);
    case 2:
      return gather_block<2>(g, a, channel, width, first, last);
#if defined(__AVX512F__)
    case 3:
      return gather_block<3>(g, a, channel, width, first, last);
    case 4:
      return gather_block<4>(g, a, channel, width, first, last);
#endif
  }
}

}  // namespace bnn::BNN_ISA
