// The kernels as functions of tensors, divided over torch's own thread pool. registration.cpp makes operators of them.
#pragma once

#include <string>
#include <tuple>

#include "tensors.h"

namespace bnn::ops {

// convolution.cpp: images and their gradients are NHWC in memory, kernels OHWI, signs (images, channels).
Tensor conv(const Tensor& input, const Tensor& mu, const Optional& delta, const Optional& input_signs,
            const Optional& output_signs, const Optional& bias, at::IntArrayRef stride, at::IntArrayRef padding,
            at::IntArrayRef dilation);
Tensor conv_input_gradient(const Tensor& gradient, const Tensor& mu, const Optional& delta, const Optional& input_signs,
                           const Optional& output_signs, at::IntArrayRef size, at::IntArrayRef stride,
                           at::IntArrayRef padding, at::IntArrayRef dilation);
std::tuple<Tensor, Optional> conv_weight_gradient(const Tensor& input, const Tensor& gradient,
                                                  const Optional& input_signs, const Optional& output_signs,
                                                  at::IntArrayRef size, at::IntArrayRef stride, at::IntArrayRef padding,
                                                  at::IntArrayRef dilation);
// Convolution with weights that all images share, for inference: one sample of them, mu + scale * eps, or mu itself.
Tensor sampled_conv(const Tensor& input, const Tensor& mu, const Optional& scale, int64_t seed, const Optional& bias,
                    at::IntArrayRef stride, at::IntArrayRef padding, at::IntArrayRef dilation, bool relu);
// The same for a dense layer, (images, inputs) to (images, outputs): a convolution of one pixel.
Tensor sampled_linear(const Tensor& input, const Tensor& mu, const Optional& scale, int64_t seed, const Optional& bias,
                      bool relu);

// sparse_product.cpp: sparse weights (compressed rows) times the columns of `source` (inputs, columns), plus a bias per
// row. The output's rows lie padded, as the next product wants them.
Tensor sparse(const Tensor& starts, const Tensor& inputs, const Tensor& weights, const Tensor& source,
              const Optional& bias, bool relu);

// noise.cpp
Tensor normal(int64_t seed, int64_t elements);
Tensor signs(int64_t seed, bool output, int64_t images, int64_t channels);
// mu + scale * eps, of mu's shape and strides.
Tensor sample(const Tensor& mu, const Tensor& scale, int64_t seed);
// softplus(rho) * eps, and the KL from N(0, prior^2) in nats.
std::tuple<Tensor, Tensor> perturb(const Tensor& mu, const Tensor& rho, int64_t seed, double prior);
// In place: gradients for mu and delta become those for mu and rho; with a weight, those of the KL are added.
void chain_(const Tensor& mu, const Tensor& rho, const Tensor& delta, double prior, const Optional& kl_weight,
            Tensor grad_mu, Tensor grad_delta);

// optimizer.cpp
void adam_(at::TensorList values, at::TensorList gradients, at::TensorList means, at::TensorList squares,
           at::TensorList steps, double rate, double beta1, double beta2, double epsilon);
void rmsprop_(at::TensorList values, at::TensorList gradients, at::TensorList squares, double rate, double decay,
              double epsilon);

// ivon.cpp: one sample of every weight, means + eps / sqrt(ess (hessians + decay)), and the posterior's KL in nats.
std::tuple<std::vector<Tensor>, Tensor> ivon_sample(at::TensorList means, at::TensorList hessians,
                                                    at::IntArrayRef seeds, double ess, double decay);
// gradient * (sample - mean) into `to`; all lie in memory alike.
void ivon_product_(const Tensor& gradient, const Tensor& sample, const Tensor& mean, Tensor to);
// The update. `products`, averages over ranks of the above, are as many as the means, or none.
void ivon_(at::TensorList means, at::TensorList gradients, at::TensorList samples, at::TensorList products,
           at::TensorList momenta, at::TensorList hessians, at::TensorList steps, double rate, double ess, double decay,
           double beta1, double beta2, double clip);

}  // namespace bnn::ops
