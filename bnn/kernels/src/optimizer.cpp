// The optimizers' updates, of all parameters in one go.
#include <cmath>
#include <vector>

#include "ops.h"

namespace bnn::ops {
namespace {

// Calls `function(i, first, last)` for chunks of every tensor i, all of them in one go: parameters are many and small.
template <typename Function>
void for_chunks_of(at::TensorList tensors, Function function) {
  std::vector<int64_t> begin{0};  // number of chunks before each tensor
  for (const Tensor& tensor : tensors)
    begin.push_back(begin.back() + (tensor.numel() + kChunk - 1) / kChunk);
  at::parallel_for(0, begin.back(), 8, [&](int64_t first, int64_t last) {
    int64_t i = std::upper_bound(begin.begin(), begin.end(), first) - begin.begin() - 1;
    for (int64_t chunk = first; chunk < last; ++chunk) {
      while (chunk >= begin[i + 1])
        ++i;
      const int64_t at = (chunk - begin[i]) * kChunk;
      function(i, at, std::min(tensors[i].numel(), at + kChunk));
    }
  });
}

std::vector<float*> writable(at::TensorList tensors, at::TensorList like, const char* name) {
  TORCH_CHECK(tensors.size() == like.size(), name, ": must be as many as the values");
  std::vector<float*> made;
  for (size_t i = 0; i < tensors.size(); ++i) {
    check_same(tensors[i], like[i], name);
    made.push_back(tensors[i].mutable_data_ptr<float>());
  }
  return made;
}

std::vector<const float*> readable(at::TensorList tensors, at::TensorList like, const char* name) {
  TORCH_CHECK(tensors.size() == like.size(), name, ": must be as many as the values");
  std::vector<const float*> made;
  for (size_t i = 0; i < tensors.size(); ++i) {
    check_same(tensors[i], like[i], name);
    made.push_back(read(tensors[i]));
  }
  return made;
}

}  // namespace

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
