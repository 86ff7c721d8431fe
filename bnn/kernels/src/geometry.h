// The index tables of a convolution's shape, made once per shape and kept.
#pragma once

#include <array>
#include <memory>

#include "api.h"

namespace bnn {

struct Shape {
  int64_t in_height, in_width, in_channels, out_height, out_width, out_channels;
  std::array<int64_t, 2> kernel, stride, padding, dilation;
  auto operator<=>(const Shape&) const = default;
};

// Tiles of one image. With `images` > 1 the tables are of that many images seen as one: tiles then hold the same
// pixel of several images, which no padding divides; for weights that all images share.
std::shared_ptr<const Gather> gather_of(const Shape&, bool forward, int64_t images);
std::shared_ptr<const WeightGradient> weight_gradient_of(const Shape&);

}  // namespace bnn
