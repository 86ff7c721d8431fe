// 3x3 convolutions of stride 1 by Winograd's F(2x2, 3x3) (Lavin, Gray 2016): 16 multiplications make 4 outputs where
// the definition needs 36. Its transforms act on the 4x4 pixels and 3x3 taps only and signs on the channels, so that
// they commute: mu's and delta's kernels are transformed once, each example's weights are formed from the transforms.
// The input gradient is the same with flipped taps, the weight gradient the transpose.
#pragma once

#include "gather.h"
#include "weight_gradient.h"

namespace bnn::BNN_ISA {

constexpr int kPoints = 16;     // of a transformed tile
constexpr int64_t kTiles = 64;  // of an image that are taken together
constexpr int64_t kChunkOutputs = 64;
constexpr int64_t kFormLength = 8192 / kPanelWidth;  // source channels whose weights are formed at once
constexpr int64_t kMaxUnits = 32;
constexpr int64_t kUnitFloats = 512 * 1024;  // of transformed pixels and products that wait for each other

// B^T d B of a 4x4 tile: pixels of the source to points.
inline void transform_pixels(const vf (&d)[4][4], vf (&to)[kPoints]) {
  vf rows[4][4];
  for (int j = 0; j < 4; ++j) {
    rows[0][j] = d[0][j] - d[2][j];
    rows[1][j] = d[1][j] + d[2][j];
    rows[2][j] = d[2][j] - d[1][j];
    rows[3][j] = d[1][j] - d[3][j];
  }
  for (int i = 0; i < 4; ++i) {
    to[4 * i + 0] = rows[i][0] - rows[i][2];
    to[4 * i + 1] = rows[i][1] + rows[i][2];
    to[4 * i + 2] = rows[i][2] - rows[i][1];
    to[4 * i + 3] = rows[i][1] - rows[i][3];
  }
}

// G g G^T of 3x3 taps.
inline void transform_taps(const vf (&g)[9], vf (&to)[kPoints]) {
  vf rows[4][3];
  for (int j = 0; j < 3; ++j) {
    const vf ends = 0.5f * (g[j] + g[6 + j]), middle = 0.5f * g[3 + j];
    rows[0][j] = g[j];
    rows[1][j] = ends + middle;
    rows[2][j] = ends - middle;
    rows[3][j] = g[6 + j];
  }
  for (int i = 0; i < 4; ++i) {
    const vf ends = 0.5f * (rows[i][0] + rows[i][2]), middle = 0.5f * rows[i][1];
    to[4 * i + 0] = rows[i][0];
    to[4 * i + 1] = ends + middle;
    to[4 * i + 2] = ends - middle;
    to[4 * i + 3] = rows[i][2];
  }
}

// G^T m G: summed products of the weight gradient to 3x3 taps.
inline void gather_taps(const vf (&m)[kPoints], vf (&to)[9]) {
  vf rows[3][4];
  for (int j = 0; j < 4; ++j) {
    const vf sum = 0.5f * (m[4 + j] + m[8 + j]), difference = 0.5f * (m[4 + j] - m[8 + j]);
    rows[0][j] = m[j] + sum;
    rows[1][j] = difference;
    rows[2][j] = sum + m[12 + j];
  }
  for (int i = 0; i < 3; ++i) {
    const vf sum = 0.5f * (rows[i][1] + rows[i][2]), difference = 0.5f * (rows[i][1] - rows[i][2]);
    to[3 * i + 0] = rows[i][0] + sum;
    to[3 * i + 1] = difference;
    to[3 * i + 2] = sum + rows[i][3];
  }
}

// A^T m A: products to 2x2 outputs.
inline void transform_products(const vf (&m)[kPoints], vf (&to)[4]) {
  vf rows[2][4];
  for (int j = 0; j < 4; ++j) {
    rows[0][j] = m[j] + m[4 + j] + m[8 + j];
    rows[1][j] = m[4 + j] - m[8 + j] - m[12 + j];
  }
  for (int i = 0; i < 2; ++i) {
    to[2 * i] = rows[i][0] + rows[i][1] + rows[i][2];
    to[2 * i + 1] = rows[i][1] - rows[i][2] - rows[i][3];
  }
}

// A g A^T of 2x2 output gradients to points.
inline void spread_outputs(const vf (&g)[4], vf (&to)[kPoints]) {
  vf rows[4][2];
  for (int j = 0; j < 2; ++j) {
    rows[0][j] = g[j];
    rows[1][j] = g[j] + g[2 + j];
    rows[2][j] = g[j] - g[2 + j];
    rows[3][j] = -g[2 + j];
  }
  for (int i = 0; i < 4; ++i) {
    to[4 * i + 0] = rows[i][0];
    to[4 * i + 1] = rows[i][0] + rows[i][1];
    to[4 * i + 2] = rows[i][0] - rows[i][1];
    to[4 * i + 3] = -rows[i][1];
  }
}

// The 4x4 source pixels of a tile, in transformed form, for `channels` channels from `first` on: to[point * stride +
// c].
inline void transform_tile(const Winograd& w, const float* image, int64_t image_channels, int64_t tile, int64_t first,
                           int64_t channels, float* to, int64_t stride) {
  const int64_t y0 = tile / w.tiles_across * 2 - w.padding[0], x0 = tile % w.tiles_across * 2 - w.padding[1];
  const float* pixel[4][4];
  for (int i = 0; i < 4; ++i)
    for (int j = 0; j < 4; ++j) {
      const int64_t y = y0 + i, x = x0 + j;
      const bool inside = y >= 0 && y < w.source_height && x >= 0 && x < w.source_width;
      pixel[i][j] = inside ? image + (y * w.source_width + x) * image_channels + first : nullptr;
    }
  for (int64_t c = 0; c < channels; c += V) {
    vf d[4][4], points[kPoints];
    for (int i = 0; i < 4; ++i)
      for (int j = 0; j < 4; ++j)
        d[i][j] = pixel[i][j] ? load_some(pixel[i][j] + c, channels - c) : vf{};
    transform_pixels(d, points);
    for (int p = 0; p < kPoints; ++p)
      store_some(to + p * stride + c, points[p], channels - c);
  }
}

// Panels [tap][channel][destination channel] to [point][channel][destination channel].
inline void transform_panels(const float* taps, int64_t floats, bool flipped, float* to) {
  for (int64_t i = 0; i < floats; i += V) {
    vf g[9], points[kPoints];
    for (int t = 0; t < 9; ++t)
      g[t] = load(taps + (flipped ? 8 - t : t) * floats + i);
    transform_taps(g, points);
    for (int p = 0; p < kPoints; ++p)
      store(to + p * floats + i, points[p]);
  }
}

// Transformed weights of one block of destination channels: [point][source channel][channel].
inline int64_t panel_floats(const Gather& g) { return kPoints * g.source_channels * kPanelWidth; }

inline void winograd_panel(const Gather& g, const float* weights, int64_t block, float* to) {
  const int64_t channel = block * kPanelWidth, width = std::min<int64_t>(kPanelWidth, g.channels - channel);
  const int64_t padded = (width + V - 1) / V * V, floats = g.source_channels * padded;
  float* taps = Scratch::mine().get(0, 9 * floats);
  for (int t = 0; t < 9; ++t)
    pack(g, weights, {t, 0, g.source_channels}, channel, width, padded, taps + t * floats);
  transform_panels(taps, floats, !g.source_is_input, to + block * panel_floats(g));
}

// An image, or some tiles of a large one.
struct Unit {
  int64_t image, first, last;  // tiles
};

// Products of some units with one block of weights, and from them their destination pixels.
template <int VECTORS>
void winograd_block(const Gather& g, const Winograd& w, const GatherArguments& a, int64_t block, const Unit* units,
                    int64_t count, int64_t most, const float* sources, float* products) {
  constexpr int64_t padded = VECTORS * V;
  const int64_t channel = block * kPanelWidth, width = std::min<int64_t>(kPanelWidth, g.channels - channel);
  const int64_t k_all = g.source_channels, source_floats = kPoints * most * k_all,
                product_floats = kPoints * most * padded;
  const float* mu = a.mu + block * panel_floats(g);
  const float* delta = a.delta ? a.delta + block * panel_floats(g) : nullptr;
  float* formed = Scratch::mine().get(1, kFormLength * padded);
  std::memset(products, 0, count * product_floats * sizeof(float));
  for (int p = 0; p < kPoints; ++p)
    for (int64_t k = 0; k < k_all; k += kFormLength) {
      const Run run{0, k, std::min(k_all, k + kFormLength)};
      const int64_t offset = (p * k_all + k) * padded;
      for (int64_t u = 0; u < count; ++u) {
        const Unit& unit = units[u];
        const float* panel = mu + offset;
        if (delta) {
          vu signs[VECTORS];
          for (int v = 0; v < VECTORS; ++v)
            signs[v] = sign_bits(load_some(a.signs + unit.image * g.channels + channel + v * V, width - v * V));
          form<VECTORS>(mu + offset, delta + offset, &run, 1, a.source_signs + unit.image * k_all, signs, formed);
          panel = formed;
        }
        const float* source = sources + u * source_floats + p * most * k_all + k;
        float* product = products + u * product_floats + p * most * padded;
        const int64_t rows = unit.last - unit.first, passes = (rows + kRows - 1) / kRows;
        for (int64_t i = 0; i < passes; ++i) {
          const int64_t low = rows * i / passes, high = rows * (i + 1) / passes;
          const float* at[kRows];
          float* sums[kRows];
          for (int64_t r = low; r < high; ++r)
            at[r - low] = source + r * k_all, sums[r - low] = product + r * padded;
          kMultiply<VECTORS, false>[high - low - 1](at, & run, 1, panel, sums, V);
        }
      }
    }
  for (int64_t u = 0; u < count; ++u)
    for (int64_t tile = units[u].first; tile < units[u].last; ++tile)
      for (int v = 0; v < VECTORS; ++v) {
        vf m[kPoints], made[4];
        for (int p = 0; p < kPoints; ++p)
          m[p] = load(products + u * product_floats + (p * most + tile - units[u].first) * padded + v * V);
        transform_products(m, made);
        const int64_t lanes = width - v * V;
        const vf bias = a.bias ? load_some(a.bias + channel + v * V, lanes) : vf{};
        for (int i = 0; i < 4; ++i) {
          const int64_t y = tile / w.tiles_across * 2 + i / 2, x = tile % w.tiles_across * 2 + i % 2;
          if (y < w.height && x < w.width)
            store_some(a.destination + ((units[u].image * w.height + y) * w.width + x) * g.channels + channel + v * V,
                       a.relu ? positive_part(made[i] + bias) : made[i] + bias, lanes);
        }
      }
}

// All destination channels of images [first, last): pixels are transformed once for all blocks of weights.
inline void winograd(const Gather& g, const Winograd& w, const GatherArguments& a, int64_t first, int64_t last) {
  const int64_t k_all = g.source_channels, tiles = w.tiles_across * w.tiles_down;
  const int64_t chunks = (tiles + kTiles - 1) / kTiles, most = (tiles + chunks - 1) / chunks;
  const int64_t source_floats = kPoints * most * k_all, product_floats = kPoints * most * kPanelWidth;
  const int64_t group = std::clamp<int64_t>(kUnitFloats / (source_floats + product_floats), 1, kMaxUnits);
  float* sources = Scratch::mine().get(4, group * source_floats);
  float* products = Scratch::mine().get(5, group * product_floats);
  Unit units[kMaxUnits];
  for (int64_t begin = first * chunks; begin < last * chunks; begin += group) {
    const int64_t count = std::min(group, last * chunks - begin);
    for (int64_t u = 0; u < count; ++u) {
      const int64_t n = (begin + u) / chunks, from = (begin + u) % chunks * most;
      units[u] = {n, from, std::min(tiles, from + most)};
      for (int64_t tile = from; tile < units[u].last; ++tile)
        transform_tile(w, a.source + n * g.source_pixels * k_all, k_all, tile, 0, k_all,
                       sources + u * source_floats + (tile - from) * k_all, most * k_all);
    }
    for (int64_t block = 0; block * kPanelWidth < g.channels; ++block)
      switch ((std::min<int64_t>(kPanelWidth, g.channels - block * kPanelWidth) + V - 1) / V) {
        case 1:
          winograd_block<1>(g, w, a, block, units, count, most, sources, products);
          break;
        case 2:
          winograd_block<2>(g, w, a, block, units, count, most, sources, products);
          break;
#if defined(__AVX512F__)
        case 3:
          winograd_block<3>(g, w, a, block, units, count, most, sources, products);
          break;
        case 4:
          winograd_block<4>(g, w, a, block, units, count, most, sources, products);
          break;
#endif
      }
  }
}

// The 2x2 output gradients of a tile as points, for output channels [first, first + channels): to[point * stride + o].
inline void spread_tile(const Winograd& w, const float* image, int64_t image_channels, int64_t tile, int64_t first,
                        int64_t channels, float* to, int64_t stride) {
  const float* pixel[4];
  for (int i = 0; i < 4; ++i) {
    const int64_t y = tile / w.tiles_across * 2 + i / 2, x = tile % w.tiles_across * 2 + i % 2;
    pixel[i] = y < w.height && x < w.width ? image + (y * w.width + x) * image_channels + first : nullptr;
  }
  for (int64_t c = 0; c < channels; c += V) {
    vf g[4], points[kPoints];
    for (int i = 0; i < 4; ++i)
      g[i] = pixel[i] ? load_some(pixel[i] + c, channels - c) : vf{};
    spread_outputs(g, points);
    for (int p = 0; p < kPoints; ++p)
      store_some(to + p * stride + c, points[p], channels - c);
  }
}

// Output channels [first, first + outputs), at most kChunkOutputs, so that their sums stay in the second-level cache.
template <int OUTPUTS, int VECTORS>
void winograd_gradient_block(const WeightGradient& g, const Winograd& w, const WeightGradientArguments& a,
                             int64_t column, int64_t width, int64_t first, int64_t outputs) {
  constexpr int64_t padded = VECTORS * V;
  const int64_t rows = (outputs + OUTPUTS - 1) / OUTPUTS * OUTPUTS, point_floats = rows * padded;
  const int64_t tiles = w.tiles_across * w.tiles_down, chunks = (tiles + kTiles - 1) / kTiles;
  const int64_t most = (tiles + chunks - 1) / chunks, group = chunks > 1 ? 1 : std::max<int64_t>(1, kTiles / tiles);
  Scratch& scratch = Scratch::mine();
  float* sums[2] = {};  // [point][output channel][column]
  for (int kind = 0; kind < (a.delta ? 2 : 1); ++kind) {
    sums[kind] = scratch.get(4 + kind, kPoints * point_floats);
    std::memset(sums[kind], 0, kPoints * point_floats * sizeof(float));
  }
  for (int64_t n = 0; n < a.images; n += group) {
    Panels panels;
    panels.images = std::min(group, a.images - n);
    panels.columns = padded;
    panels.output_sign_stride = rows;
    if (a.delta) {
      float* input_signs = scratch.get(2, panels.images * padded);
      float* output_signs = scratch.get(3, panels.images * rows);
      pack_rows(a.input_signs + n * g.in_channels, panels.images, g.in_channels, column, width, padded, input_signs);
      pack_rows(a.output_signs + n * g.out_channels, panels.images, g.out_channels, first, outputs, rows, output_signs);
      panels.input_signs = input_signs;
      panels.output_signs = output_signs;
    }
    for (int64_t from = 0; from < tiles; from += most) {
      const int64_t count = std::min(tiles, from + most) - from, places = panels.images * count;
      float* inputs = scratch.get(0, kPoints * places * padded);   // [point][image][tile][column]
      float* gradients = scratch.get(1, kPoints * places * rows);  // [point][image][tile][output channel]
      if (width < padded) std::memset(inputs, 0, kPoints * places * padded * sizeof(float));
      if (outputs < rows) std::memset(gradients, 0, kPoints * places * rows * sizeof(float));
      for (int64_t i = 0; i < panels.images; ++i)
        for (int64_t tile = 0; tile < count; ++tile) {
          const int64_t place = i * count + tile;
          transform_tile(w, a.input + (n + i) * g.in_pixels * g.in_channels, g.in_channels, from + tile, column, width,
                         inputs + place * padded, places * padded);
          spread_tile(w, a.gradient + (n + i) * g.out_pixels * g.out_channels, g.out_channels, from + tile, first,
                      outputs, gradients + place * rows, places * rows);
        }
      panels.gradient_stride = count * rows;
      panels.gradient_step = rows;
      for (int p = 0; p < kPoints; ++p)
        for (int64_t o = 0; o < rows; o += OUTPUTS) {
          Panels block = panels;
          block.inputs = inputs + p * places * padded;
          block.gradients = gradients + p * places * rows + o;
          block.output_signs = panels.output_signs + o;
          const int64_t at = p * point_floats + o * padded;
          if (a.delta)
            add_images<OUTPUTS, VECTORS, true, true>(nullptr, count, count, block, sums[0] + at, sums[1] + at, padded,
                                                     OUTPUTS);
          else
            add_images<OUTPUTS, VECTORS, false, true>(nullptr, count, count, block, sums[0] + at, nullptr, padded,
                                                      OUTPUTS);
        }
    }
  }
  for (int kind = 0; kind < (a.delta ? 2 : 1); ++kind)
    for (int64_t o = 0; o < outputs; ++o)
      for (int v = 0; v < VECTORS && v * V < width; ++v) {
        vf m[kPoints], taps[9];
        for (int p = 0; p < kPoints; ++p)
          m[p] = load(sums[kind] + p * point_floats + o * padded + v * V);
        gather_taps(m, taps);
        for (int t = 0; t < 9; ++t)
          store_some((kind ? a.delta : a.mu) + ((first + o) * 9 + t) * g.in_channels + column + v * V, taps[t],
                     width - v * V);
      }
}

inline void winograd_gradient(const WeightGradient& g, const Winograd& w, const WeightGradientArguments& a,
                              int64_t block, int64_t first, int64_t last) {
  const int64_t column = block * kGradientWidth, width = std::min<int64_t>(kGradientWidth, g.in_channels - column);
  for (int64_t o = first; o < last; o += kChunkOutputs) {
    const int64_t outputs = std::min(kChunkOutputs, last - o);
    if (width > kSmallVectors * V)
      winograd_gradient_block<kLargeOutputs, kLargeVectors>(g, w, a, column, width, o, outputs);
    else
      winograd_gradient_block<kSmallOutputs, kSmallVectors>(g, w, a, column, width, o, outputs);
  }
}

}  // namespace bnn::BNN_ISA
