// The passes over all weights of a layer: perturbation and KL, chain rule and KL gradient, Adam, RMSProp.
#pragma once

#include <cmath>

#include "random.h"

namespace bnn::BNN_ISA {

// Calls `one(i, count)` for vectors of elements, the last with fewer than V.
template <typename One>
inline void for_vectors(int64_t first, int64_t last, One one) {
  int64_t i = first;
  for (; i + V <= last; i += V)
    one(i, (int64_t)V);
  if (i < last) one(i, last - i);
}

// Noise is made for a few vectors at a time, so that the processor fetches the next ones from memory meanwhile.
inline double perturb(const float* mu, const float* rho, uint64_t seed, float prior, int64_t first, int64_t last,
                      float* delta) {
  alignas(64) float eps[kFour];
  const float weight = 0.5f / (prior * prior);
  double total = (double)(last - first) * (std::log((double)prior) - 0.5);
  for (int64_t at = first; at < last; at += kFour) {
    vf sum = {};
    normal_four(seed, kEpsilon, at / kFour, eps);
    for_vectors(at, std::min(last, at + kFour), [&](int64_t i, int64_t count) {
      const vf m = load_some(mu + i, count), sigma = softplus(load_some(rho + i, count)).sigma;
      store_some(delta + i, sigma * load(eps + (i - at)), count);
      vf term = (sigma * sigma + m * m) * weight - log(sigma);
      if (count < V)
        for (int lane = (int)count; lane < V; ++lane)
          term[lane] = 0;
      sum += term;
    });
    for (int lane = 0; lane < V; ++lane)
      total += sum[lane];
  }
  return total;
}

// One sample of the weights, mu + scale * eps.
inline void sample(const float* mu, const float* scale, uint64_t seed, int64_t first, int64_t last, float* to) {
  alignas(64) float eps[kFour];
  for (int64_t at = first; at < last; at += kFour) {
    normal_four(seed, kEpsilon, at / kFour, eps);
    for_vectors(at, std::min(last, at + kFour), [&](int64_t i, int64_t count) {
      store_some(to + i, load_some(mu + i, count) + load_some(scale + i, count) * load(eps + (i - at)), count);
    });
  }
}

// eps is delta / sigma; written over one divisor, the gradient for rho is
// (grad_delta * delta + kl_weight * (sigma^2 / prior^2 - 1)) * (sigmoid(rho) / sigma), whose last factor is near 1.
inline void chain(const float* mu, const float* rho, const float* delta, float prior, float kl_weight, int64_t first,
                  int64_t last, float* grad_mu, float* grad_delta) {
  const float pull = kl_weight / (prior * prior);
  for_vectors(first, last, [&](int64_t i, int64_t count) {
    const Scale s = softplus(load_some(rho + i, count));
    const vf g = load_some(grad_delta + i, count) * load_some(delta + i, count) + pull * s.sigma * s.sigma - kl_weight;
    store_some(grad_delta + i, g * (s.upper / (s.sigma * s.lower)), count);
    store_some(grad_mu + i, load_some(grad_mu + i, count) + pull * load_some(mu + i, count), count);
  });
}

inline void adam(const AdamStep& step, int64_t first, int64_t last, const float* gradient, float* value, float* mean,
                 float* square) {
  const float rate = step.rate / step.bias1, scale = 1.0f / step.bias2_root;
  for_vectors(first, last, [&](int64_t i, int64_t count) {
    const vf g = load_some(gradient + i, count);
    vf m = load_some(mean + i, count), s = load_some(square + i, count);
    m = m + (1.0f - step.beta1) * (g - m);
    s = step.beta2 * s + (1.0f - step.beta2) * g * g;
    store_some(mean + i, m, count);
    store_some(square + i, s, count);
    store_some(value + i, load_some(value + i, count) - rate * m / (root(s) * scale + step.epsilon), count);
  });
}

inline void rmsprop(float rate, float decay, float epsilon, int64_t first, int64_t last, const float* gradient,
                    float* value, float* square) {
  for_vectors(first, last, [&](int64_t i, int64_t count) {
    const vf g = load_some(gradient + i, count), s = decay * load_some(square + i, count) + (1.0f - decay) * g * g;
    store_some(square + i, s, count);
    store_some(value + i, load_some(value + i, count) - rate * g / (root(s) + epsilon), count);
  });
}

}  // namespace bnn::BNN_ISA
