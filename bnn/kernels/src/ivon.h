// IVON (Shen et al. 2024): a sample of the weights with the KL, and the update, each one pass over memory. The update
// finds the noise as the difference of sample and mean, which is what the gradient has seen of it.
#pragma once

#include "elementwise.h"

namespace bnn::BNN_ISA {

inline double ivon_sample(const float* mean, const float* hessian, float ess, float decay, uint64_t seed, int64_t first,
                          int64_t last, float* to) {
  alignas(64) float eps[kFour];
  const float pull = ess * decay, inverse = 1.0f / decay;
  double total = -(double)(last - first);
  for (int64_t at = first; at < last; at += kFour) {
    vf sum = {};
    normal_four(seed, kEpsilon, at / kFour, eps);
    for_vectors(at, std::min(last, at + kFour), [&](int64_t i, int64_t count) {
      const vf m = load_some(mean + i, count), precision = load_some(hessian + i, count) + decay;
      store_some(to + i, m + load(eps + (i - at)) / root(ess * precision), count);
      vf term = decay / precision + pull * m * m + log(precision * inverse);
      if (count < V)
        for (int lane = (int)count; lane < V; ++lane)
          term[lane] = 0;
      sum += term;
    });
    for (int lane = 0; lane < V; ++lane)
      total += sum[lane];
  }
  return 0.5 * total;
}

inline void ivon_product(const float* gradient, const float* sample, const float* mean, int64_t first, int64_t last,
                         float* to) {
  for_vectors(first, last, [&](int64_t i, int64_t count) {
    store_some(to + i, load_some(gradient + i, count) * (load_some(sample + i, count) - load_some(mean + i, count)),
               count);
  });
}

inline void ivon(const IvonStep& step, int64_t first, int64_t last, const float* gradient, const float* sample,
                 const float* product, float* mean, float* momentum, float* hessian) {
  const float unbiased = 1.0f / step.bias;
  for_vectors(first, last, [&](int64_t i, int64_t count) {
    const vf gradients = load_some(gradient + i, count), m = load_some(mean + i, count);
    const vf products = product ? load_some(product + i, count) : gradients * (load_some(sample + i, count) - m);
    vf g = load_some(momentum + i, count), h = load_some(hessian + i, count);
    const vf precision = h + step.decay;
    const vf move = step.second * (step.ess * precision * products - h);
    g = g + step.first * (gradients - g);
    h = h + move + 0.5f * move * move / precision;
    vf way = (g * unbiased + step.decay * m) / (h + step.decay);
    way = choose(way > step.clip, splat(step.clip), choose(way < -step.clip, splat(-step.clip), way));
    store_some(momentum + i, g, count);
    store_some(hessian + i, h, count);
    store_some(mean + i, m - step.rate * way, count);
  });
}

}  // namespace bnn::BNN_ISA
