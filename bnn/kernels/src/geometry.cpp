#include "geometry.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

namespace bnn {
namespace {

constexpr int64_t kStripPixels = 256;
constexpr int64_t kFewChannels = 8;  // that leave most of a vector empty, and are unfolded

// Input position that output position `out` reads under kernel position `k`, along one axis; -1 outside.
int64_t input_of(const Shape& s, int axis, int64_t out, int64_t k, int64_t size) {
  const int64_t in = out * s.stride[axis] + k * s.dilation[axis] - s.padding[axis];
  return in >= 0 && in < size ? in : -1;
}

// Output position that reads input position `in` under kernel position `k`, along one axis; -1 if there is none.
int64_t output_of(const Shape& s, int axis, int64_t in, int64_t k, int64_t size) {
  const int64_t scaled = in + s.padding[axis] - k * s.dilation[axis];
  return scaled >= 0 && scaled % s.stride[axis] == 0 && scaled / s.stride[axis] < size ? scaled / s.stride[axis] : -1;
}

int64_t source_of(const Shape& s, bool forward, int64_t y, int64_t x, int tap) {
  const int64_t ky = tap / s.kernel[1], kx = tap % s.kernel[1];
  const int64_t width = forward ? s.in_width : s.out_width;
  const int64_t sy = forward ? input_of(s, 0, y, ky, s.in_height) : output_of(s, 0, y, ky, s.out_height);
  const int64_t sx = forward ? input_of(s, 1, x, kx, s.in_width) : output_of(s, 1, x, kx, s.out_width);
  return sy < 0 || sx < 0 ? -1 : sy * width + sx;
}

Tile empty_tile(int rows, int taps) {
  Tile tile;
  tile.rows = rows;
  tile.active.assign(taps, 0);
  tile.source.assign((size_t)taps * rows, -1);
  return tile;
}

// Pixels of one image row that the stride treats alike, in tiles of even size.
void add_row(Gather& g, const Shape& s, bool forward, int64_t y, int64_t width) {
  const int64_t step = forward ? 1 : s.stride[1];
  for (int64_t offset = 0; offset < std::min(step, width); ++offset) {
    const int64_t count = (width - offset + step - 1) / step, tiles = (count + kRows - 1) / kRows;
    for (int64_t i = 0; i < tiles; ++i) {
      const int64_t first = count * i / tiles, last = count * (i + 1) / tiles;
      Tile tile = empty_tile((int)(last - first), g.taps);
      for (int r = 0; r < tile.rows; ++r) {
        const int64_t x = offset + (first + r) * step;
        tile.pixel[r] = y * width + x;
        for (int t = 0; t < g.taps; ++t) {
          const int64_t source = source_of(s, forward, y, x, t);
          tile.source[(size_t)t * tile.rows + r] = source;
          tile.active[t] |= source >= 0;
        }
      }
      g.tiles.push_back(std::move(tile));
    }
  }
}

// The same pixel of several images.
void add_pixel(Gather& g, const Shape& s, bool forward, int64_t y, int64_t x, int64_t width, int64_t images) {
  const int64_t pixels = g.pixels / images, source_pixels = g.source_pixels / images;
  const int64_t tiles = (images + kRows - 1) / kRows;
  for (int64_t i = 0; i < tiles; ++i) {
    const int64_t first = images * i / tiles, last = images * (i + 1) / tiles;
    Tile tile = empty_tile((int)(last - first), g.taps);
    for (int t = 0; t < g.taps; ++t) {
      const int64_t source = source_of(s, forward, y, x, t);
      tile.active[t] = source >= 0;
      for (int r = 0; r < tile.rows; ++r)
        tile.source[(size_t)t * tile.rows + r] = source < 0 ? -1 : (first + r) * source_pixels + source;
    }
    for (int r = 0; r < tile.rows; ++r)
      tile.pixel[r] = (first + r) * pixels + y * width + x;
    g.tiles.push_back(std::move(tile));
  }
}

Gather make_gather(const Shape& s, bool forward, int64_t images) {
  const int64_t in = s.in_height * s.in_width * images, out = s.out_height * s.out_width * images;
  Gather g;
  g.source_is_input = forward;
  g.taps = (int)(s.kernel[0] * s.kernel[1]);
  g.source_pixels = forward ? in : out;
  g.source_channels = forward ? s.in_channels : s.out_channels;
  g.pixels = forward ? out : in;
  g.channels = forward ? s.out_channels : s.in_channels;
  const int64_t height = forward ? s.out_height : s.in_height, width = forward ? s.out_width : s.in_width;
  for (int64_t y = 0; y < height; ++y) {
    if (images == 1) {
      add_row(g, s, forward, y, width);
    } else {
      for (int64_t x = 0; x < width; ++x)
        add_pixel(g, s, forward, y, x, width, images);
    }
  }
  return g;
}

void unfold_strip(const Shape& s, int taps, Strip& strip) {
  strip.in_pixels = strip.out_pixels;
  strip.pairs.resize(1);
  for (int32_t p = 0; p < strip.out_pixels; ++p) {
    strip.pairs[0].insert(strip.pairs[0].end(), {p, p});
    const int64_t pixel = strip.first_out + p;
    for (int t = 0; t < taps; ++t)
      strip.unfolded.push_back((int32_t)source_of(s, true, pixel / s.out_width, pixel % s.out_width, t));
  }
}

WeightGradient make_weight_gradient(const Shape& s) {
  WeightGradient w;
  w.in_pixels = s.in_height * s.in_width;
  w.in_channels = s.in_channels;
  w.out_pixels = s.out_height * s.out_width;
  w.out_channels = s.out_channels;
  const int taps = (int)(s.kernel[0] * s.kernel[1]);
  const bool unfold = s.in_channels <= kFewChannels && taps > 1;
  w.taps = unfold ? 1 : taps;
  w.unfolded_taps = unfold ? taps : 1;
  const int64_t rows = std::clamp<int64_t>(kStripPixels / s.out_width, 1, s.out_height);
  for (int64_t y0 = 0; y0 < s.out_height; y0 += rows) {
    const int64_t y1 = std::min(s.out_height, y0 + rows);
    Strip strip;
    strip.first_out = y0 * s.out_width;
    strip.out_pixels = (y1 - y0) * s.out_width;
    if (unfold) {
      unfold_strip(s, taps, strip);
      w.strips.push_back(std::move(strip));
      continue;
    }
    int64_t low = s.in_height, high = 0;  // input rows that the strip reads
    for (int64_t y = y0; y < y1; ++y)
      for (int64_t k = 0; k < s.kernel[0]; ++k) {
        const int64_t in = input_of(s, 0, y, k, s.in_height);
        if (in >= 0) low = std::min(low, in), high = std::max(high, in + 1);
      }
    low = std::min(low, high);
    strip.first_in = low * s.in_width;
    strip.in_pixels = (high - low) * s.in_width;
    strip.pairs.resize(taps);
    for (int t = 0; t < taps; ++t)
      for (int64_t y = y0; y < y1; ++y)
        for (int64_t x = 0; x < s.out_width; ++x) {
          const int64_t source = source_of(s, true, y, x, t);
          if (source < 0) continue;
          strip.pairs[t].push_back((int32_t)((y - y0) * s.out_width + x));
          strip.pairs[t].push_back((int32_t)(source - strip.first_in));
        }
    w.strips.push_back(std::move(strip));
  }
  return w;
}

// Values by key, made on first use. Shapes are few: a network's layers, and its last, smaller batch.
template <typename Key, typename Value, typename Make>
std::shared_ptr<const Value> kept(const Key& key, Make make) {
  static std::map<Key, std::shared_ptr<const Value>> known;
  static std::mutex lock;
  const std::lock_guard guard(lock);
  auto& value = known[key];
  if (!value) value = std::make_shared<const Value>(make());
  return value;
}

}  // namespace

std::shared_ptr<const Gather> gather_of(const Shape& shape, bool forward, int64_t images) {
  return kept<std::tuple<Shape, bool, int64_t>, Gather>(std::tuple(shape, forward, images),
                                                        [&] { return make_gather(shape, forward, images); });
}

std::shared_ptr<const WeightGradient> weight_gradient_of(const Shape& shape) {
  return kept<Shape, WeightGradient>(shape, [&] { return make_weight_gradient(shape); });
}

}  // namespace bnn
