// The kernels as torch operators (torch.ops.bnn_kernels), on torch's own thread pool.
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/mul.h>
#include <ATen/ops/zeros.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <optional>

#include "geometry.h"

namespace bnn {
namespace {

using at::Tensor;
using Optional = std::optional<Tensor>;

// Forming one vector of an image's weights costs about as much as this many multiply-adds with it.
constexpr double kFormCost = 4.0;
// Fewer multiply-adds than this take less time than waking other threads.
constexpr int64_t kFewProducts = 1 << 21;
// Images seen as one where weights are shared.
constexpr int64_t kSharedImages = 48;

// A convolution of at most that many pixels over all images samples its weights row by row, if a row has at least ...
constexpr int64_t kFewPixels = 64, kFewWeights = 128;

const float* read(const Tensor& tensor) { return tensor.const_data_ptr<float>(); }
const float* read(const Optional& tensor) { return tensor ? read(*tensor) : nullptr; }

void check(const Tensor& tensor, const char* name) {
  TORCH_CHECK(tensor.device().is_cpu() && tensor.scalar_type() == at::kFloat, name, ": must be a float32 CPU tensor");
}

void check_nhwc(const Tensor& tensor, const char* name) {
  check(tensor, name);
  TORCH_CHECK(tensor.dim() == 4 && tensor.permute({0, 2, 3, 1}).is_contiguous(), name,
              ": must have 4 dimensions and lie in memory as channels_last");
}

void check_signs(const Optional& signs, int64_t images, int64_t channels, const char* name) {
  TORCH_CHECK(signs.has_value(), name, ": is needed with delta");
  check(*signs, name);
  TORCH_CHECK(signs->is_contiguous() && signs->dim() == 2 && signs->size(0) == images && signs->size(1) == channels,
              name, ": must be contiguous, (", images, ", ", channels, ")");
}

void check_same(const Tensor& tensor, const Tensor& like, const char* name) {
  check(tensor, name);
  TORCH_CHECK(
      tensor.sizes() == like.sizes() && tensor.strides() == like.strides() && like.is_non_overlapping_and_dense(), name,
      ": must have shape and strides of its weights, which must be dense");
}

// A dense tensor of that shape in NHWC order; no view, which autograd would not let anybody change in place.
Tensor make_nhwc(at::IntArrayRef nchw) {
  return at::empty_strided(nchw, {nchw[1] * nchw[2] * nchw[3], 1, nchw[1] * nchw[3], nchw[1]}, at::kFloat);
}

Shape shape_of(const Tensor& input, const Tensor& output, const Tensor& kernel, at::IntArrayRef stride,
               at::IntArrayRef padding, at::IntArrayRef dilation) {
  TORCH_CHECK(std::min(stride[0], stride[1]) > 0 && std::min(dilation[0], dilation[1]) > 0,
              "stride and dilation must be at least 1");
  TORCH_CHECK(kernel.size(1) == input.size(1) && kernel.size(0) == output.size(1) && input.size(0) == output.size(0),
              "input, output and kernel do not fit together");
  Shape s{input.size(2),
          input.size(3),
          input.size(1),
          output.size(2),
          output.size(3),
          output.size(1),
          {kernel.size(2), kernel.size(3)},
          {stride[0], stride[1]},
          {padding[0], padding[1]},
          {dilation[0], dilation[1]}};
  const int64_t in[2] = {s.in_height, s.in_width}, out[2] = {s.out_height, s.out_width};
  for (int axis = 0; axis < 2; ++axis)
    TORCH_CHECK((in[axis] + 2 * s.padding[axis] - s.dilation[axis] * (s.kernel[axis] - 1) - 1) / s.stride[axis] + 1 ==
                    out[axis],
                "the sizes of input and output do not fit together");
  return s;
}

// Parts to divide the rest into, so that `blocks` times parts are shared out evenly.
int64_t parts(int64_t blocks, int64_t most) {
  const int64_t threads = at::get_num_threads();
  return std::min(most, threads / std::gcd(blocks, threads));
}

// Winograd's algorithm pays for images from 8x8 pixels on: below, transforming and forming weights is the larger part.
bool winograd_fits(const Shape& s) {
  const auto is = [](const std::array<int64_t, 2>& pair, int64_t low, int64_t high) {
    return std::min(pair[0], pair[1]) >= low && std::max(pair[0], pair[1]) <= high;
  };
  return is(s.kernel, 3, 3) && is(s.stride, 1, 1) && is(s.dilation, 1, 1) && is(s.padding, 0, 2) &&
         std::min(s.in_channels, s.out_channels) >= 16 && s.out_height * s.out_width >= 64 &&
         kernels().gather_width >= 16;
}

Winograd winograd_of(const Shape& s, bool forward) {
  Winograd w{forward ? s.in_height : s.out_height,
             forward ? s.in_width : s.out_width,
             forward ? s.out_height : s.in_height,
             forward ? s.out_width : s.in_width,
             {forward ? s.padding[0] : 2 - s.padding[0], forward ? s.padding[1] : 2 - s.padding[1]},
             0,
             0};
  w.tiles_down = (w.height + 1) / 2;
  w.tiles_across = (w.width + 1) / 2;
  return w;
}

void run_gather(const Gather& g, const GatherArguments& a) {
  const Kernels& k = kernels();
  const int64_t blocks = (g.channels + k.gather_width - 1) / k.gather_width;
  if (a.images * g.pixels * g.taps * g.source_channels * g.channels < kFewProducts) {
    for (int64_t block = 0; block < blocks; ++block)
      k.gather(g, a, block, 0, a.images);
    return;
  }
  const int64_t chunks = parts(blocks, a.images);
  at::parallel_for(0, blocks * chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t chunk = task % chunks;
      k.gather(g, a, task / chunks, a.images * chunk / chunks, a.images * (chunk + 1) / chunks);
    }
  });
}

void run_winograd(const Gather& g, const Winograd& w, GatherArguments a) {
  const Kernels& k = kernels();
  const int64_t blocks = (g.channels + k.gather_width - 1) / k.gather_width, floats = blocks * k.panel_floats(g);
  const Tensor panels = at::empty({a.delta ? 2 : 1, floats}, at::kFloat);
  float* to = panels.mutable_data_ptr<float>();
  at::parallel_for(0, blocks * panels.size(0), 1, [&](int64_t first, int64_t last) {
    for (int64_t i = first; i < last; ++i)
      k.winograd_panel(g, i < blocks ? a.mu : a.delta, i % blocks, to + i / blocks * floats);
  });
  a.mu = to;
  if (a.delta) a.delta = to + floats;
  at::parallel_for(0, a.images, 1, [&](int64_t first, int64_t last) { k.winograd(g, w, a, first, last); });
}

// Weights that all images share: several images are taken as one.
void run_shared(const Shape& shape, bool forward, const GatherArguments& a) {
  for (int64_t n = 0; n < a.images;) {
    const int64_t images = std::min(kSharedImages, a.images - n);
    const auto g = gather_of(shape, forward, images);
    const int64_t whole = (a.images - n) / images;
    GatherArguments some = a;
    some.source += n * (g->source_pixels / images) * g->source_channels;
    some.destination += n * (g->pixels / images) * g->channels;
    some.images = whole;
    run_gather(*g, some);
    n += whole * images;
  }
}

// Multiply-adds per weight and image, counting whole tiles under every tap that any of their pixels needs.
double work(const Gather& g, int64_t images) {
  int64_t sum = 0;
  for (const Tile& tile : g.tiles)
    for (int t = 0; t < g.taps; ++t)
      sum += tile.active[t] ? tile.rows : 0;
  return (double)sum / g.taps / images;
}

bool small(const Gather& g) { return g.pixels < 16; }

// destination = plain or Flipout convolution. `signs` are those of the destination's channels.
void gather_into(const Shape& shape, bool forward, const Tensor& source, const Tensor& mu, const Optional& delta,
                 const Optional& source_signs, const Optional& signs, const Optional& bias, Tensor& destination,
                 bool relu = false) {
  if (source.size(0) == 0) return;
  GatherArguments a{read(source),
                    read(mu),
                    read(delta),
                    read(source_signs),
                    read(signs),
                    read(bias),
                    destination.mutable_data_ptr<float>(),
                    source.size(0),
                    relu};
  const auto g = gather_of(shape, forward, 1);
  if (winograd_fits(shape)) {
    return run_winograd(*g, winograd_of(shape, forward), a);
  }
  if (!delta) return small(*g) ? run_shared(shape, forward, a) : run_gather(*g, a);
  const auto shared = gather_of(shape, forward, std::min(kSharedImages, a.images));
  const double both = 2 * work(*shared, std::min(kSharedImages, a.images));
  if (!small(*g) || work(*g, 1) + kFormCost < both) return run_gather(*g, a);
  a.delta = nullptr;
  run_shared(shape, forward, a);
  const Tensor flipped = at::mul(source, source_signs->unsqueeze(2).unsqueeze(3));
  Tensor part = make_nhwc(destination.sizes());
  a.source = read(flipped);
  a.mu = read(*delta);
  a.bias = nullptr;
  a.destination = part.mutable_data_ptr<float>();
  run_shared(shape, forward, a);
  destination.addcmul_(part, signs->unsqueeze(2).unsqueeze(3));
}

template <typename Function>
void for_chunks(int64_t elements, Function function) {
  at::parallel_for(0, (elements + kChunk - 1) / kChunk, 8, [&](int64_t first, int64_t last) {
    for (int64_t chunk = first; chunk < last; ++chunk)
      function(chunk, chunk * kChunk, std::min(elements, (chunk + 1) * kChunk));
  });
}

// mu + scale * eps, of mu's shape and strides.
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

// The output of a convolution and its shape, for checked arguments.
std::tuple<Tensor, Shape> make_output(const Tensor& input, const Tensor& mu, const Optional& bias,
                                      at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation) {
  check_nhwc(input, "input");
  check_nhwc(mu, "mu");
  if (bias) {
    check(*bias, "bias");
    TORCH_CHECK(bias->is_contiguous() && bias->dim() == 1 && bias->size(0) == mu.size(0),
                "bias: must have one element per output channel");
  }
  TORCH_CHECK(std::min(stride[0], stride[1]) > 0, "stride: must be at least 1");
  int64_t size[2];
  for (int i = 0; i < 2; ++i) {
    const int64_t room = input.size(2 + i) + 2 * padding[i] - dilation[i] * (mu.size(2 + i) - 1) - 1;
    TORCH_CHECK(room >= 0, "input: smaller than the kernel");
    size[i] = room / stride[i] + 1;
  }
  Tensor output = make_nhwc({input.size(0), mu.size(0), size[0], size[1]});
  return {output, shape_of(input, output, mu, stride, padding, dilation)};
}

Tensor conv(const Tensor& input, const Tensor& mu, const Optional& delta, const Optional& input_signs,
            const Optional& output_signs, const Optional& bias, at::IntArrayRef stride, at::IntArrayRef padding,
            at::IntArrayRef dilation) {
  auto [output, shape] = make_output(input, mu, bias, stride, padding, dilation);
  if (delta) {
    check_same(*delta, mu, "delta");
    check_signs(input_signs, input.size(0), input.size(1), "input_signs");
    check_signs(output_signs, input.size(0), mu.size(0), "output_signs");
  }
  gather_into(shape, true, input, mu, delta, input_signs, output_signs, bias, output);
  return output;
}

// Convolution with weights that all images share, for inference: one sample of them, mu + scale * eps, or mu itself.
Tensor sampled_conv(const Tensor& input, const Tensor& mu, const Optional& scale, int64_t seed, const Optional& bias,
                    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool relu) {
  auto [output, shape] = make_output(input, mu, bias, stride, padding, dilation);
  if (scale) check_same(*scale, mu, "scale");
  if (input.size(0) == 0) return output;
  const int64_t images = input.size(0), pixels = images * shape.out_height * shape.out_width;
  if (!scale || pixels > kFewPixels || mu.numel() / mu.size(0) < kFewWeights) {
    const Tensor weights = scale ? sample(mu, *scale, seed) : mu;
    gather_into(shape, true, input, weights, std::nullopt, std::nullopt, std::nullopt, bias, output, relu);
    return output;
  }
  const auto g = gather_of(shape, true, images);
  const GatherArguments a{
      read(input),        read(mu), nullptr, nullptr, nullptr, read(bias), output.mutable_data_ptr<float>(),
      1, relu};
  const float* deviation = read(scale);
  at::parallel_for(0, shape.out_channels, 4, [&](int64_t first, int64_t last) {
    kernels().sampled(*g, a, deviation, (uint64_t)seed, first, last);
  });
  return output;
}

// The same for a dense layer, (images, inputs) to (images, outputs): a convolution of one pixel.
Tensor sampled_linear(const Tensor& input, const Tensor& mu, const Optional& scale, int64_t seed, const Optional& bias,
                      bool relu) {
  TORCH_CHECK(input.dim() == 2 && mu.dim() == 2, "input and mu: must have 2 dimensions");
  const auto pixel = [](const Tensor& tensor) { return tensor.contiguous().unsqueeze(2).unsqueeze(3); };
  const Optional deviation = scale ? Optional(pixel(*scale)) : std::nullopt;
  return sampled_conv(pixel(input), pixel(mu), deviation, seed, bias, {1, 1}, {0, 0}, {1, 1}, relu)
      .squeeze(3)
      .squeeze(2);
}

// `source` as it is, if its rows may be read up to `padded` columns; else a copy that may, with zeros there.
Tensor padded_rows(const Tensor& source, int64_t padded) {
  const int64_t rows = source.size(0), stride = source.stride(0);
  const int64_t floats = (int64_t)(source.storage().nbytes() / sizeof(float)) - source.storage_offset();
  if (source.stride(1) == 1 && stride >= padded && (rows - 1) * stride + padded <= floats) return source;
  Tensor made = at::zeros({rows, padded}, at::kFloat);
  made.narrow(1, 0, source.size(1)).copy_(source);
  return made;
}

// Sparse weights (compressed rows) times the columns of `source` (inputs, columns), plus a bias per row. The output's
// rows lie padded, as the next product wants them.
Tensor sparse(const Tensor& starts, const Tensor& inputs, const Tensor& weights, const Tensor& source,
              const Optional& bias, bool relu) {
  check(weights, "weights");
  check(source, "source");
  TORCH_CHECK(starts.scalar_type() == at::kInt && inputs.scalar_type() == at::kInt, "indices must be int32");
  TORCH_CHECK(starts.dim() == 1 && starts.size(0) > 0 && inputs.dim() == 1 && weights.dim() == 1 && source.dim() == 2 &&
                  inputs.size(0) == weights.size(0) && starts.is_contiguous() && inputs.is_contiguous() &&
                  weights.is_contiguous(),
              "starts, inputs and weights must be contiguous vectors, source must have 2 dimensions");
  const int64_t rows = starts.size(0) - 1, columns = source.size(1);
  if (bias) {
    check(*bias, "bias");
    TORCH_CHECK(bias->is_contiguous() && bias->dim() == 1 && bias->size(0) == rows,
                "bias: must have one element per row");
  }
  const int32_t *start = starts.const_data_ptr<int32_t>(), *input = inputs.const_data_ptr<int32_t>();
  TORCH_CHECK(start[0] == 0 && start[rows] == weights.size(0) && std::is_sorted(start, start + rows + 1),
              "starts: must go from 0 to the number of weights");
  TORCH_CHECK(std::all_of(input, input + start[rows], [&](int32_t i) { return i >= 0 && i < source.size(0); }),
              "inputs: must be rows of source");
  const int64_t padded = (columns + kSparsePadding - 1) / kSparsePadding * kSparsePadding;
  const Tensor output = at::empty({rows, padded}, at::kFloat);
  if (columns == 0) return output;
  const Tensor from = padded_rows(source, padded);
  const Sparse s{start,  input,          read(weights), read(from), read(bias), output.mutable_data_ptr<float>(),
                 padded, from.stride(0), padded,        relu};
  const int64_t grain =
      std::max<int64_t>(1, kFewProducts / std::max<int64_t>(1, padded * start[rows] / std::max<int64_t>(1, rows)));
  at::parallel_for(0, rows, grain, [&](int64_t first, int64_t end) { kernels().sparse(s, first, end); });
  return output.narrow(1, 0, columns);
}

Tensor conv_input_gradient(const Tensor& gradient, const Tensor& mu, const Optional& delta, const Optional& input_signs,
                           const Optional& output_signs, at::IntArrayRef size, at::IntArrayRef stride,
                           at::IntArrayRef padding, at::IntArrayRef dilation) {
  check_nhwc(gradient, "gradient");
  check_nhwc(mu, "mu");
  if (delta) {
    check_same(*delta, mu, "delta");
    check_signs(input_signs, gradient.size(0), mu.size(1), "input_signs");
    check_signs(output_signs, gradient.size(0), mu.size(0), "output_signs");
  }
  Tensor made = make_nhwc({gradient.size(0), mu.size(1), size[0], size[1]});
  const Shape shape = shape_of(made, gradient, mu, stride, padding, dilation);
  gather_into(shape, false, gradient, mu, delta, output_signs, input_signs, std::nullopt, made);
  return made;
}

std::tuple<Tensor, Optional> conv_weight_gradient(const Tensor& input, const Tensor& gradient,
                                                  const Optional& input_signs, const Optional& output_signs,
                                                  at::IntArrayRef size, at::IntArrayRef stride, at::IntArrayRef padding,
                                                  at::IntArrayRef dilation) {
  check_nhwc(input, "input");
  check_nhwc(gradient, "gradient");
  const bool flipout = input_signs.has_value();
  if (flipout) {
    check_signs(input_signs, input.size(0), input.size(1), "input_signs");
    check_signs(output_signs, input.size(0), gradient.size(1), "output_signs");
  }
  Tensor mu = make_nhwc({gradient.size(1), input.size(1), size[0], size[1]});
  Optional delta;
  if (flipout) delta = make_nhwc(mu.sizes());
  const Shape shape = shape_of(input, gradient, mu, stride, padding, dilation);
  const auto w = weight_gradient_of(shape);
  const bool transformed = winograd_fits(shape);
  const Winograd tiles = winograd_of(shape, true);
  const WeightGradientArguments a{read(input),
                                  read(gradient),
                                  read(input_signs),
                                  read(output_signs),
                                  mu.mutable_data_ptr<float>(),
                                  flipout ? delta->mutable_data_ptr<float>() : nullptr,
                                  input.size(0)};
  const Kernels& k = kernels();
  const int64_t blocks = (w->columns() + k.gradient_width - 1) / k.gradient_width;
  const int64_t groups = (w->out_channels + k.gradient_outputs - 1) / k.gradient_outputs,
                chunks = parts(blocks, groups);
  at::parallel_for(0, blocks * chunks, 1, [&](int64_t first, int64_t last) {
    for (int64_t task = first; task < last; ++task) {
      const int64_t chunk = task % chunks;
      const int64_t from = groups * chunk / chunks * k.gradient_outputs;
      const int64_t to = std::min(w->out_channels, groups * (chunk + 1) / chunks * k.gradient_outputs);
      if (transformed)
        k.winograd_gradient(*w, tiles, a, task / chunks, from, to);
      else
        k.weight_gradient(*w, a, task / chunks, from, to);
    }
  });
  return {mu, delta};
}

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

std::string isa() { return kernels().name; }

}  // namespace

// For CPU tensors only, so that torch's dispatch modes (its counter of FLOPs, say) see the operators.
template <typename Function>
auto on_cpu(Function function) {
  return torch::dispatch(c10::DispatchKey::CPU, function);
}

TORCH_LIBRARY(bnn_kernels, m) {
  m.def("isa() -> str", isa);
  m.def("normal(int seed, int elements) -> Tensor", normal);
  m.def("signs(int seed, bool output, int images, int channels) -> Tensor", signs);
  m.def("perturb(Tensor mu, Tensor rho, int seed, float prior) -> (Tensor, Tensor)", on_cpu(TORCH_FN(perturb)));
  m.def("sample(Tensor mu, Tensor scale, int seed) -> Tensor", on_cpu(TORCH_FN(sample)));
  m.def(
      "sampled_conv(Tensor input, Tensor mu, Tensor? scale, int seed, Tensor? bias, int[2] stride, int[2] padding, "
      "int[2] dilation, bool relu=False) -> Tensor",
      on_cpu(TORCH_FN(sampled_conv)));
  m.def("sampled_linear(Tensor input, Tensor mu, Tensor? scale, int seed, Tensor? bias, bool relu=False) -> Tensor",
        on_cpu(TORCH_FN(sampled_linear)));
  m.def("sparse(Tensor starts, Tensor inputs, Tensor weights, Tensor source, Tensor? bias, bool relu=False) -> Tensor",
        on_cpu(TORCH_FN(sparse)));
  m.def(
      "chain_(Tensor mu, Tensor rho, Tensor delta, float prior, Tensor? kl_weight, Tensor(a!) grad_mu, "
      "Tensor(b!) grad_delta) -> ()",
      on_cpu(TORCH_FN(chain_)));
  m.def(
      "adam_(Tensor(a!)[] values, Tensor[] gradients, Tensor(b!)[] means, Tensor(c!)[] squares, Tensor[] steps, "
      "float rate, float beta1, float beta2, float epsilon) -> ()",
      on_cpu(TORCH_FN(adam_)));
  m.def(
      "rmsprop_(Tensor(a!)[] values, Tensor[] gradients, Tensor(b!)[] squares, float rate, float decay, "
      "float epsilon) -> ()",
      on_cpu(TORCH_FN(rmsprop_)));
  m.def(
      "conv(Tensor input, Tensor mu, Tensor? delta, Tensor? input_signs, Tensor? output_signs, Tensor? "
      "bias, int[2] stride, int[2] padding, int[2] dilation) -> Tensor",
      on_cpu(TORCH_FN(conv)));
  m.def(
      "conv_input_gradient(Tensor gradient, Tensor mu, Tensor? delta, Tensor? input_signs, Tensor? "
      "output_signs, int[2] size, int[2] stride, int[2] padding, int[2] dilation) -> Tensor",
      on_cpu(TORCH_FN(conv_input_gradient)));
  m.def(
      "conv_weight_gradient(Tensor input, Tensor gradient, Tensor? input_signs, Tensor? output_signs, "
      "int[2] size, int[2] stride, int[2] padding, int[2] dilation) -> (Tensor, Tensor?)",
      on_cpu(TORCH_FN(conv_weight_gradient)));
}

}  // namespace bnn
