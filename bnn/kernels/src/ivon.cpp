// IVON's sample of all weights and its update, of all parameters in one go.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_like.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "many.h"
#include "ops.h"

namespace bnn::ops {

std::tuple<std::vector<Tensor>, Tensor> ivon_sample(at::TensorList means, at::TensorList hessians,
                                                    at::IntArrayRef seeds, double ess, double decay) {
  TORCH_CHECK(!means.empty() && seeds.size() == means.size(), "seeds: must be as many as the means, at least one");
  const auto m = readable(means, means, "means"), h = readable(hessians, means, "hessians");
  std::vector<Tensor> made;
  std::vector<float*> to;
  std::vector<std::vector<double>> parts;  // of the KL, by chunk: the sum does not depend on threads
  for (const Tensor& mean : means) {
    made.push_back(at::empty_like(mean));
    to.push_back(made.back().mutable_data_ptr<float>());
    parts.emplace_back((mean.numel() + kChunk - 1) / kChunk);
  }
  for_chunks_of(means, [&](int64_t i, int64_t first, int64_t last) {
    parts[i][first / kChunk] =
        kernels().ivon_sample(m[i], h[i], (float)ess, (float)decay, (uint64_t)seeds[i], first, last, to[i]);
  });
  double total = 0;
  for (const auto& some : parts)
    total = std::accumulate(some.begin(), some.end(), total);
  Tensor kl = at::empty({}, means[0].options());
  *kl.mutable_data_ptr<float>() = (float)total;
  return {made, kl};
}

void ivon_product_(const Tensor& gradient, const Tensor& sample, const Tensor& mean, Tensor to) {
  check(mean, "mean");
  for (const Tensor* tensor : {&gradient, &sample, (const Tensor*)&to})
    check_same(*tensor, mean, "gradient, sample, product");
  const float *from = read(gradient), *w = read(sample), *m = read(mean);
  float* made = to.mutable_data_ptr<float>();
  for_chunks(mean.numel(), [&](int64_t, int64_t first, int64_t last) {
    kernels().ivon_product(from, w, m, first, last, made);
  });
}

void ivon_(at::TensorList means, at::TensorList gradients, at::TensorList samples, at::TensorList products,
           at::TensorList momenta, at::TensorList hessians, at::TensorList steps, double rate, double ess, double decay,
           double beta1, double beta2, double clip) {
  const auto m = writable(means, means, "means"), g = writable(momenta, means, "momenta"),
             h = writable(hessians, means, "hessians");
  const auto from = readable(gradients, means, "gradients"), w = readable(samples, means, "samples");
  const auto given = products.empty() ? std::vector<const float*>(means.size(), nullptr)
                                      : readable(products, means, "products");
  TORCH_CHECK(steps.size() == means.size(), "steps: must be as many as the means");
  std::vector<IvonStep> facts;
  for (const Tensor& step : steps) {
    check(step, "step");
    facts.push_back({(float)rate, (float)ess, (float)decay, (float)(1 - beta1), (float)(1 - beta2),
                     (float)(1 - std::pow(beta1, (double)*read(step))), (float)clip});
  }
  for_chunks_of(means, [&](int64_t i, int64_t first, int64_t last) {
    kernels().ivon(facts[i], first, last, from[i], w[i], given[i], m[i], g[i], h[i]);
  });
}

}  // namespace bnn::ops
