// What the kernels of one instruction set offer. Every pointer is to dense float32 memory; images are NHWC, kernels
// OHWI. Nothing here starts a thread: a call does the share of the work that its range names, so that the caller can
// divide it over torch's own thread pool. Results do not depend on how it is divided.
#pragma once

#include <cstdint>
#include <vector>

namespace bnn {

// Philox counters of different uses never meet: one stream each (random.h).
enum Stream : uint32_t { kEpsilon = 0, kSignsIn = 1, kSignsOut = 2 };

// Elements are handled in chunks of this many: sums are formed per chunk, so that they do not depend on threads.
constexpr int64_t kChunk = 4096;

// Up to this many neighbouring destination pixels share one pass over the weights.
constexpr int kRows = 6;

// Some destination pixels of one image row, and for each tap the source pixel that each of them reads.
struct Tile {
  int rows;                     // 1 ... kRows
  int64_t pixel[kRows];         // destination pixel
  std::vector<char> active;     // [tap]: whether at least one row reads inside the image
  std::vector<int64_t> source;  // [tap][row]: source pixel, -1 for padding
};

// A convolution seen from its destination: each pixel gathers source pixels, tap by tap. The forward pass gathers
// inputs for outputs, the input gradient gathers output gradients for inputs.
struct Gather {
  int64_t source_pixels, source_channels;  // per image
  int64_t pixels, channels;                // destination, per image
  int taps;
  bool source_is_input;  // forward pass: weights are read as [channel][tap][source channel]
  std::vector<Tile> tiles;
};

// The pairs (output pixel, input pixel) that one tap of the weight gradient multiplies, within a strip of output rows.
struct Strip {
  int64_t first_out, out_pixels, first_in, in_pixels;
  std::vector<std::vector<int32_t>> pairs;  // [tap]: out, in, out, in, ... relative to the strip's first pixels
  std::vector<int32_t> unfolded;            // [output pixel][tap of the convolution]: input pixel, -1 for padding
};

// With few input channels the inputs are unfolded: all taps of a pixel are taken as its channels, under a single tap.
struct WeightGradient {
  int64_t in_pixels, in_channels, out_pixels, out_channels;
  int taps;           // that are gone through one by one
  int unfolded_taps;  // that became channels; 1 if none
  std::vector<Strip> strips;

  int64_t columns() const { return in_channels * unfolded_taps; }
};

// A 3x3 convolution of stride 1 as tiles of 2x2 destination pixels, `padding` before the source's first row and column.
struct Winograd {
  int64_t source_height, source_width, height, width, padding[2], tiles_down, tiles_across;
};

// Source, weights and signs of a gather. Without delta it is a plain convolution with weights mu; with delta example n
// sees mu + delta * sign_out[n] * sign_in[n] (signs are +1 or -1; rows of source and destination channels).
struct GatherArguments {
  const float* source;
  const float* mu;
  const float* delta;
  const float* source_signs;
  const float* signs;
  const float* bias;
  float* destination;
  int64_t images;
  bool relu = false;  // the forward pass for inference takes the positive part at once
};

struct WeightGradientArguments {
  const float* input;
  const float* gradient;
  const float* input_signs;
  const float* output_signs;
  float* mu;     // out: sum over examples of dW_n
  float* delta;  // out: sum over examples of dW_n * signs; null for a plain convolution
  int64_t images;
};

// Columns of a sparse product are padded to a multiple of this: any machine's vectors are whole.
constexpr int64_t kSparsePadding = 16;

// Weights in compressed sparse rows, times a dense source (inputs, columns), which lies row by row.
struct Sparse {
  const int32_t* starts;  // of each row, and the end of the last
  const int32_t* inputs;  // of each weight
  const float* weights;
  const float* source;
  const float* bias;  // per row, or null
  float* destination;
  int64_t columns;  // padded
  int64_t source_stride, stride;
  bool relu;
};

struct AdamStep {
  float rate, beta1, beta2, epsilon, bias1, bias2_root;
};

// What does not change within an update by IVON: `decay` is delta, `first` and `second` are 1 - beta1 and 1 - beta2,
// `bias` is 1 - beta1^t, `clip` the largest step before `rate` (infinity: none).
struct IvonStep {
  float rate, ess, decay, first, second, bias, clip;
};

struct Kernels {
  const char* name;
  int gather_width;      // destination channels of one task of `gather`
  int gradient_width;    // columns (input channels, or what they were unfolded to) of one task of `weight_gradient`
  int gradient_outputs;  // output channels are divided in multiples of this

  // Destination channels [block * gather_width, ...) of images [first, last).
  void (*gather)(const Gather&, const GatherArguments&, int64_t block, int64_t first, int64_t last);
  // Columns [block * gradient_width, ...), output channels [first, last), all images.
  void (*weight_gradient)(const WeightGradient&, const WeightGradientArguments&, int64_t block, int64_t first,
                          int64_t last);
  // The same by Winograd's algorithm, for the convolutions that it fits. First the weights of every block of
  // gather_width destination channels are transformed to a place of `panel_floats` per block, then images [first, last)
  // are computed with `mu` and `delta` of the arguments pointing there.
  int64_t (*panel_floats)(const Gather&);
  void (*winograd_panel)(const Gather&, const float* weights, int64_t block, float* to);
  void (*winograd)(const Gather&, const Winograd&, const GatherArguments&, int64_t first, int64_t last);
  void (*winograd_gradient)(const WeightGradient&, const Winograd&, const WeightGradientArguments&, int64_t block,
                            int64_t first, int64_t last);
  // N(0, 1) noise of elements [first, last).
  void (*normal)(uint64_t seed, Stream, int64_t first, int64_t last, float* out);
  // Signs +1 or -1 of elements [first, last).
  void (*signs)(uint64_t seed, Stream, int64_t first, int64_t last, float* out);
  // delta = softplus(rho) * eps for elements [first, last) of one chunk; returns their KL from N(0, prior^2), nats.
  double (*perturb)(const float* mu, const float* rho, uint64_t seed, float prior, int64_t first, int64_t last,
                    float* delta);
  // mu + scale * eps for elements [first, last), where `first` begins a chunk.
  void (*sample)(const float* mu, const float* scale, uint64_t seed, int64_t first, int64_t last, float* to);
  // Output channels [first, last) of a convolution of few pixels whose weights are sampled as they are needed.
  void (*sampled)(const Gather&, const GatherArguments&, const float* scale, uint64_t seed, int64_t first,
                  int64_t last);
  // Rows [first, last) of destination = weights * source + bias.
  void (*sparse)(const Sparse&, int64_t first, int64_t last);
  // In place: gradients for mu and delta become those for mu and rho, KL term included.
  void (*chain)(const float* mu, const float* rho, const float* delta, float prior, float kl_weight, int64_t first,
                int64_t last, float* grad_mu, float* grad_delta);
  void (*adam)(const AdamStep&, int64_t first, int64_t last, const float* gradient, float* value, float* mean,
               float* square);
  void (*rmsprop)(float rate, float decay, float epsilon, int64_t first, int64_t last, const float* gradient,
                  float* value, float* square);
  // IVON: mean + eps / sqrt(ess (hessian + decay)) for elements [first, last) of one chunk; returns the KL of
  // N(mean, 1 / (ess (hessian + decay))) from N(0, 1 / (ess decay)), nats.
  double (*ivon_sample)(const float* mean, const float* hessian, float ess, float decay, uint64_t seed, int64_t first,
                        int64_t last, float* to);
  // gradient * (sample - mean), the product with the noise.
  void (*ivon_product)(const float* gradient, const float* sample, const float* mean, int64_t first, int64_t last,
                       float* to);
  // The update. Without `product` it is made of gradient, sample and mean.
  void (*ivon)(const IvonStep&, int64_t first, int64_t last, const float* gradient, const float* sample,
               const float* product, float* mean, float* momentum, float* hessian);
};

// The kernels for this machine's vector width; BNN_KERNELS_ISA (avx512, avx2, generic) asks for a narrower one.
const Kernels& kernels();

}  // namespace bnn
