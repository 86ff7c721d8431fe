// Logarithm, exponential and what is made of them, on vectors. Polynomials of the Cephes library (Moshier): within
// 2 units in the last place on normal numbers; summed in pairs, since a long chain of additions would be waited for.
#pragma once

#include "vec.h"

namespace bnn::BNN_ISA {

// ln(1 + m) for sqrt(1/2) <= 1 + m <= sqrt(2), as m plus what this returns.
inline vf log_rest(vf m) {
  const vf z = m * m, z2 = z * z;
  const vf a = m * -2.4999993993e-1f + 3.3333331174e-1f, b = m * -1.6668057665e-1f + 2.0000714765e-1f;
  const vf c = m * -1.2420140846e-1f + 1.4249322787e-1f, d = m * -1.1514610310e-1f + 1.1676998740e-1f;
  const vf y = (a + b * z) + z2 * ((c + d * z) + z2 * 7.0376836292e-2f);
  return y * m * z - 0.5f * z;
}

// m + y + e ln 2, the logarithm of two in two parts.
inline vf log_sum(vf m, vf y, vf e) { return m + (y + e * -2.12194440e-4f) + e * 0.693359375f; }

// ln x for normal x > 0.
inline vf log(vf x) {
  vi exponent = (vi)(bits(x) >> 23) - 126;
  vf m = floats((bits(x) & 0x007fffffu) | 0x3f000000u);  // in [1/2, 1)
  const vi small = m < 0.70710678f;
  exponent += small;  // a true comparison is -1
  m = m + choose(small, m, vf{}) - 1.0f;
  return log_sum(m, log_rest(m), __builtin_convertvector(exponent, vf));
}

// ln(1 + x) for 0 <= x <= 1: nothing is rounded before the logarithm, so that small x keep their digits.
inline vf log1p_unit(vf x) {
  const vi large = x > 0.41421356f;
  const vf m = choose(large, 0.5f * x - 0.5f, x);
  return log_sum(m, log_rest(m), choose(large, splat(1.0f), vf{}));
}

// exp x for x <= 0; below -87 it stays at exp(-87), so that sigma never is zero or denormal.
inline vf exp_negative(vf x) {
  x = choose(x < -87.0f, splat(-87.0f), x);
  const vi n = __builtin_convertvector(x * 1.44269504088896341f - 0.5f, vi);  // to the nearest, since x <= 0
  const vf k = __builtin_convertvector(n, vf);
  const vf r = (x - k * 0.693359375f) + k * 2.12194440e-4f;
  const vf z = r * r;
  const vf a = r * 1.6666665459e-1f + 5.0000001201e-1f, b = r * 8.3334519073e-3f + 4.1665795894e-2f;
  const vf c = r * 1.9875691500e-4f + 1.3981999507e-3f;
  return ((a + z * (b + z * c)) * z + r + 1.0f) * floats((vu)(n + 127) << 23);
}

// softplus(rho) as `sigma`; its derivative sigmoid(rho) is `upper` / `lower`.
struct Scale {
  vf sigma, upper, lower;
};

inline Scale softplus(vf rho) {
  const vf e = exp_negative(-absolute(rho));
  const vi positive = rho > 0.0f;
  return {choose(positive, rho, vf{}) + log1p_unit(e), choose(positive, splat(1.0f), e), 1.0f + e};
}

// sin(2 pi t) for -1/4 <= t <= 1/4.
inline vf sine_of_turns(vf t) {
  const vf x = t * 6.28318530717958648f, z = x * x;
  vf y = splat(-2.3889859e-8f);
  y = y * z + 2.7525562e-6f;
  y = y * z - 1.9840874e-4f;
  y = y * z + 8.3333310e-3f;
  y = y * z - 1.6666667e-1f;
  return y * z * x + x;
}

}  // namespace bnn::BNN_ISA
