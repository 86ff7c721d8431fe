// The optimizers' updates, of all parameters in one go.
#include <cmath>
#include <vector>

#include "many.h"
#include "ops.h"

namespace bnn::ops {

void adam_(at::TensorList values, at::TensorList gradients, at::TensorList means, at::TensorList squares,
           at::TensorList steps, double rate, double beta1, double beta2, double epsilon) {
  const auto v = writable(values, values, "values"), m = writable(means, values, "means"),
             s = writable(squares, values, "squares");
  const auto g = readable(gradients, values, "gradients");
  TORCH_CHECK(steps.size() == values.size(), "steps: must be as many as the values");
  std::vector<AdamStep> facts;
  for (const Tensor& step : steps) {
    check(step, "step");
    const double done = *read(step);
    facts.push_back({(float)rate, (float)beta1, (float)beta2, (float)epsilon, (float)(1 - std::pow(beta1, done)),
                     (float)std::sqrt(1 - std::pow(beta2, done))});
  }
  for_chunks_of(values, [&](int64_t i, int64_t first, int64_t last) {
    kernels().adam(facts[i], first, last, g[i], v[i], m[i], s[i]);
  });
}

void rmsprop_(at::TensorList values, at::TensorList gradients, at::TensorList squares, double rate, double decay,
              double epsilon) {
  const auto v = writable(values, values, "values"), s = writable(squares, values, "squares");
  const auto g = readable(gradients, values, "gradients");
  for_chunks_of(values, [&](int64_t i, int64_t first, int64_t last) {
    kernels().rmsprop((float)rate, (float)decay, (float)epsilon, first, last, g[i], v[i], s[i]);
  });
}

}  // namespace bnn::ops
