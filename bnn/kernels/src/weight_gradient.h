// Weight gradient: for each example dW_n = sum over pixels of gradient x input, summed over examples into the gradient
// for mu, and with the example's signs into that for delta. Both sums are formed in one pass over dW_n.
//
// Inputs are laid out as panels of some columns, output gradients as panels of some output channels; a strip of output
// rows (or some whole small images) at a time, so that both stay in cache. Every weight is summed by one thread.
#pragma once

#include "gather.h"

namespace bnn::BNN_ISA {

// How many output channels and vectors of columns are summed in registers at once. Large images: as many as there are
// registers for; the sums over images wait in the first-level cache meanwhile. Small ones: those stay in registers too.
#if defined(__AVX512F__)
constexpr int kLargeOutputs = 4, kLargeVectors = 4, kSmallOutputs = 4, kSmallVectors = 2;
#else
constexpr int kLargeOutputs = 4, kLargeVectors = 2, kSmallOutputs = 4, kSmallVectors = 1;
#endif
constexpr int64_t kLargePixels = 64;
constexpr int kGradientWidth = kLargeVectors * V;
constexpr int64_t kTogether = 256;  // output pixels of the images that are taken together

template <int OUTPUTS, int VECTORS>
struct Block {
  vf value[OUTPUTS][VECTORS];

  void clear() {
    for (auto& row : value)
      for (vf& item : row)
        item = vf{};
  }
  // Adds to memory, of which `outputs` rows `stride` floats apart and `columns` columns exist.
  void add_to(float* sums, int64_t stride, int64_t outputs, int64_t columns) const {
    for (int64_t o = 0; o < outputs; ++o)
      for (int v = 0; v < VECTORS && v * V < columns; ++v) {
        float* to = sums + o * stride + v * V;
        store_some(to, load_some(to, columns - v * V) + value[o][v], columns - v * V);
      }
  }
};

// Some images and columns, laid out for the loops below.
struct Panels {
  int64_t images, columns;
  const float *inputs, *gradients, *input_signs, *output_signs;
  int64_t gradient_stride, gradient_step;  // from one image and one pixel to the next
  int64_t output_sign_stride;              // from one image to the next
};

// One tap and OUTPUTS output channels of all images of a group. ALIKE: pixel i of the gradient meets pixel i of the
// input, and `pairs` is not looked at.
template <int OUTPUTS, int VECTORS, bool FLIPOUT, bool ALIKE>
void add_images(const int32_t* pairs, int64_t count, int64_t in_pixels, const Panels& panels, float* mu_sums,
                float* delta_sums, int64_t stride, int64_t outputs) {
  constexpr int64_t padded = VECTORS * V;
  Block<OUTPUTS, VECTORS> mu, delta;
  mu.clear();
  if (FLIPOUT) delta.clear();
  for (int64_t n = 0; n < panels.images; ++n) {
    const float* inputs = panels.inputs + n * in_pixels * padded;
    const float* gradients = panels.gradients + n * panels.gradient_stride;
    vf product[OUTPUTS][VECTORS] = {};
    for (int64_t i = 0; i < count; ++i) {
      const float* g =
          gradients + (ALIKE ? i : (int64_t)pairs[2 * i]) * (ALIKE ? panels.gradient_step : (int64_t)OUTPUTS);
      const float* x = inputs + (ALIKE ? i : (int64_t)pairs[2 * i + 1]) * padded;
      vf value[VECTORS];
      for (int v = 0; v < VECTORS; ++v)
        value[v] = load(x + v * V);
      for (int o = 0; o < OUTPUTS; ++o) {
        const vf factor = splat(g[o]);
        for (int v = 0; v < VECTORS; ++v)
          product[o][v] += factor * value[v];
      }
    }
    for (int o = 0; o < OUTPUTS; ++o) {
      vu sign = {};
      if (FLIPOUT) sign = sign_bits(splat(panels.output_signs[n * panels.output_sign_stride + o]));
      for (int v = 0; v < VECTORS; ++v) {
        mu.value[o][v] += product[o][v];
        if (FLIPOUT) {
          const vu flips = sign_bits(load(panels.input_signs + n * padded + v * V)) ^ sign;
          delta.value[o][v] += floats(bits(product[o][v]) ^ flips);
        }
      }
    }
  }
  mu.add_to(mu_sums, stride, outputs, panels.columns);
  if (FLIPOUT) delta.add_to(delta_sums, stride, outputs, panels.columns);
}

// Copies `count` rows of channels [first, first + width), padded with zeros.
inline void pack_rows(const float* from, int64_t count, int64_t channels, int64_t first, int64_t width, int64_t padded,
                      float* to) {
  for (int64_t p = 0; p < count; ++p, to += padded) {
    std::memcpy(to, from + p * channels + first, width * sizeof(float));
    std::fill(to + width, to + padded, 0.0f);
  }
}

// Columns [first, first + width) of unfolded pixels.
inline void pack_unfolded(const WeightGradient& w, const Strip& strip, const float* image, int64_t first, int64_t width,
                          int64_t padded, float* to) {
  const int32_t* source = strip.unfolded.data();
  for (int64_t p = 0; p < strip.out_pixels; ++p, source += w.unfolded_taps, to += padded) {
    std::fill(to, to + padded, 0.0f);
    int64_t column = -(first % w.in_channels);  // of the tap's first channel, relative to the panel
    for (int64_t t = first / w.in_channels; t < w.unfolded_taps && column < width; ++t, column += w.in_channels)
      if (source[t] >= 0)
        for (int64_t c = std::max<int64_t>(0, -column); c < std::min(w.in_channels, width - column); ++c)
          to[column + c] = image[source[t] * w.in_channels + c];
  }
}

template <int OUTPUTS, int VECTORS>
void gradient_block(const WeightGradient& w, const WeightGradientArguments& a, int64_t column, int64_t width,
                    int64_t first, int64_t last) {
  constexpr int64_t padded = VECTORS * V;
  const int64_t stride = w.taps * w.columns(), blocks = (last - first + OUTPUTS - 1) / OUTPUTS;
  for (int64_t o = first; o < last; ++o)
    for (int t = 0; t < w.taps; ++t) {
      const int64_t at = o * stride + t * w.columns() + column;
      std::memset(a.mu + at, 0, width * sizeof(float));
      if (a.delta) std::memset(a.delta + at, 0, width * sizeof(float));
    }
  const int64_t group = w.strips.size() > 1 ? 1 : std::max<int64_t>(1, kTogether / w.out_pixels);
  Scratch& scratch = Scratch::mine();
  for (int64_t n = 0; n < a.images; n += group) {
    Panels panels;
    panels.images = std::min(group, a.images - n);
    panels.columns = width;
    panels.output_sign_stride = blocks * OUTPUTS;
    if (a.delta) {
      float* input_signs = scratch.get(2, panels.images * padded);
      float* output_signs = scratch.get(3, panels.images * blocks * OUTPUTS);
      for (int64_t i = 0; i < panels.images; ++i)
        for (int64_t c = 0; c < padded; ++c)
          input_signs[i * padded + c] = a.input_signs[(n + i) * w.in_channels + (column + c) % w.in_channels];
      pack_rows(a.output_signs + n * w.out_channels, panels.images, w.out_channels, first, last - first,
                blocks * OUTPUTS, output_signs);
      panels.input_signs = input_signs;
      panels.output_signs = output_signs;
    }
    for (const Strip& strip : w.strips) {
      float* inputs = scratch.get(0, panels.images * strip.in_pixels * padded);
      float* gradients = scratch.get(1, panels.images * strip.out_pixels * blocks * OUTPUTS);
      panels.inputs = inputs;
      panels.gradient_stride = strip.out_pixels * OUTPUTS;
      panels.gradient_step = OUTPUTS;
      for (int64_t i = 0; i < panels.images; ++i) {
        const float* image = a.input + (n + i) * w.in_pixels * w.in_channels;
        float* to = inputs + i * strip.in_pixels * padded;
        if (w.unfolded_taps > 1)
          pack_unfolded(w, strip, image, column, width, padded, to);
        else
          pack_rows(image + strip.first_in * w.in_channels, strip.in_pixels, w.in_channels, column, width, padded, to);
      }
      for (int64_t b = 0; b < blocks; ++b)
        for (int64_t i = 0; i < panels.images; ++i)
          pack_rows(a.gradient + ((n + i) * w.out_pixels + strip.first_out) * w.out_channels, strip.out_pixels,
                    w.out_channels, first + b * OUTPUTS, std::min<int64_t>(OUTPUTS, last - first - b * OUTPUTS),
                    OUTPUTS, gradients + (b * panels.images + i) * panels.gradient_stride);
      for (int t = 0; t < w.taps; ++t)
        for (int64_t b = 0; b < blocks; ++b) {
          const int64_t o = first + b * OUTPUTS, at = o * stride + t * w.columns() + column;
          Panels block = panels;
          block.gradients = gradients + b * panels.images * panels.gradient_stride;
          block.output_signs = panels.output_signs + b * OUTPUTS;
          const int64_t outputs = std::min<int64_t>(OUTPUTS, last - o);
          if (a.delta)
            add_images<OUTPUTS, VECTORS, true, false>(strip.pairs[t].data(), (int64_t)strip.pairs[t].size() / 2,
                                                      strip.in_pixels, block, a.mu + at, a.delta + at, stride, outputs);
          else
            add_images<OUTPUTS, VECTORS, false, false>(strip.pairs[t].data(), (int64_t)strip.pairs[t].size() / 2,
                                                       strip.in_pixels, block, a.mu + at, nullptr, stride, outputs);
        }
    }
  }
}

inline void weight_gradient(const WeightGradient& w, const WeightGradientArguments& a, int64_t block, int64_t first,
                            int64_t last) {
  int64_t column = block * kGradientWidth;
  const int64_t end = std::min<int64_t>(w.columns(), column + kGradientWidth);
  if (w.out_pixels >= kLargePixels && end - column > kSmallVectors * V)
    return gradient_block<kLargeOutputs, kLargeVectors>(w, a, column, end - column, first, last);
  for (constexpr int64_t narrow = kSmallVectors * V; column < end; column += narrow)
    gradient_block<kSmallOutputs, kSmallVectors>(w, a, column, std::min(narrow, end - column), first, last);
}

}  // namespace bnn::BNN_ISA
