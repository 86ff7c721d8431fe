// Noise, the perturbation of weights with its KL, and the way of gradients through both.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>

#include <numeric>
#include <vector>

#include "ops.h"

namespace bnn::ops {

Tensor normal(int64_t seed, int64_t elements) {
  Tensor made = at::empty({elements}, at::kFloat);
  float* to = made.mutable_data_ptr<float>();
  for_chunks(elements, [&](int64_t, int64_t first, int64_t last) {
    kernels().normal((uint64_t)seed, kEpsilon, first, last, to + first);
  });
  return made;
}

Tensor signs(int64_t seed, bool output, int64_t images, int64_t channels) {
  Tensor made = at::empty({images, channels}, at::kFloat);
  float* to = made.mutable_data_ptr<float>();
  for_chunks(made.numel(), [&](int64_t, int64_t first, int64_t last) {
    kernels().signs((uint64_t)seed, output ? kSignsOut : kSignsIn, first, last, to + first);
  });
  return made;
}

Tensor sample(const Tensor& mu, const Tensor& scale, int64_t seed) {
  check(mu, "mu");
  check_same(scale, mu, "scale");
  Tensor made = at::empty_strided(mu.sizes(), mu.strides(), mu.options());
  const float *m = read(mu), *s = read(scale);
  float* to = made.mutable_data_ptr<float>();
  for_chunks(mu.numel(),
             [&](int64_t, int64_t first, int64_t last) { kernels().sample(m, s, (uint64_t)seed, first, last, to); });
  return made;
}

std::tuple<Tensor, Tensor> perturb(const Tensor& mu, const Tensor& rho, int64_t seed, double prior) {
  check(mu, "mu");
  check_same(rho, mu, "rho");
  Tensor delta = at::empty_strided(mu.sizes(), mu.strides(), mu.options());
  const float *m = read(mu), *r = read(rho);
  float* to = delta.mutable_data_ptr<float>();
  std::vector<double> parts((mu.numel() + kChunk - 1) / kChunk);
  for_chunks(mu.numel(), [&](int64_t chunk, int64_t first, int64_t last) {
    parts[chunk] = kernels().perturb(m, r, (uint64_t)seed, (float)prior, first, last, to);
  });
  Tensor kl = at::empty({}, mu.options());
  *kl.mutable_data_ptr<float>() = (float)std::accumulate(parts.begin(), parts.end(), 0.0);
  return {delta, kl};
}

void chain_(const Tensor& mu, const Tensor& rho, const Tensor& delta, double prior, const Optional& kl_weight,
            Tensor grad_mu, Tensor grad_delta) {
  check(mu, "mu");
  for (const Tensor* tensor : {&rho, &delta, (const Tensor*)&grad_mu, (const Tensor*)&grad_delta})
    check_same(*tensor, mu, "gradient");
  const float *m = read(mu), *r = read(rho), *d = read(delta);
  if (kl_weight) check(*kl_weight, "kl_weight");
  const float weight = kl_weight ? *read(*kl_weight) : 0.0f;
  float *gm = grad_mu.mutable_data_ptr<float>(), *gd = grad_delta.mutable_data_ptr<float>();
  for_chunks(mu.numel(), [&](int64_t, int64_t first, int64_t last) {
    kernels().chain(m, r, d, (float)prior, weight, first, last, gm, gd);
  });
}

}  // namespace bnn::ops
