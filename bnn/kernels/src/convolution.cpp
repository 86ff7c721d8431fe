// Convolutions and their gradients: which kernel takes a convolution, and how the work is divided.
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/mul.h>

#include <numeric>

#include "geometry.h"
#include "ops.h"

namespace bnn::ops {
namespace {

// Forming one vector of an image's weights costs about as much as this many multiply-adds with it.
constexpr double kFormCost = 4.0;
// Images seen as one where weights are shared.
constexpr int64_t kSharedImages = 48;

// A convolution of at most that many pixels over all images samples its weights row by row, if a row has at least ...
constexpr int64_t kFewPixels = 64, kFewWeights = 128;

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

// A dense tensor of that shape in NHWC order; no view, which autograd would not let anybody change in place.
Tensor make_nhwc(at::IntArrayRef nchw) {
  return at::empty_strided(nchw, {nchw[1] * nchw[2] * nchw[3], 1, nchw[1] * nchw[3], nchw[1]}, at::kFloat);
}

Shape shape_of(const Tensor& input, const Tensor& output, const Tensor& kernel, at::IntArrayRef stride,
               at::IntArrayRef padding, at::IntArrayRef dilation) {
  TORCH_CHECK(std::min(stride[0], stride[1]) > 0 && std::min(dilation[0], dilation[1]) > 0,
              "stride and dilation must be at least 1");
  TORCH_CHECK(kernel.size(1) == input.size(1), "the weights are for ", kernel.size(1), " channels, the input has ",
              input.size(1));
  TORCH_CHECK(kernel.size(0) == output.size(1) && input.size(0) == output.size(0),
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

}  // namespace

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

Tensor sampled_linear(const Tensor& input, const Tensor& mu, const Optional& scale, int64_t seed, const Optional& bias,
                      bool relu) {
  TORCH_CHECK(input.dim() == 2 && mu.dim() == 2, "input and mu: must have 2 dimensions");
  const auto pixel = [](const Tensor& tensor) { return tensor.contiguous().unsqueeze(2).unsqueeze(3); };
  const Optional deviation = scale ? Optional(pixel(*scale)) : std::nullopt;
  return sampled_conv(pixel(input), pixel(mu), deviation, seed, bias, {1, 1}, {0, 0}, {1, 1}, relu)
      .squeeze(3)
      .squeeze(2);
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

}  // namespace bnn::ops
