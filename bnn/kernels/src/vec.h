// One vector register, whatever its width: arithmetic by the compiler's vector extension, and what that lacks.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX512F__) || defined(__AVX2__)
#include <immintrin.h>
#endif

namespace bnn::BNN_ISA {

#if defined(__AVX512F__)
constexpr int V = 16;
#elif defined(__AVX2__)
constexpr int V = 8;
#else
constexpr int V = 4;
#endif

typedef float vf __attribute__((vector_size(V * 4)));
typedef uint32_t vu __attribute__((vector_size(V * 4)));
typedef int32_t vi __attribute__((vector_size(V * 4)));

inline vf load(const float* from) {
  vf value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

inline void store(float* to, vf value) { std::memcpy(to, &value, sizeof value); }

// The first `count` lanes from memory, the others zero.
inline vf load_some(const float* from, int64_t count) {
  if (count >= V) return load(from);
  vf value = {};
  std::memcpy(&value, from, count * sizeof(float));
  return value;
}

inline void store_some(float* to, vf value, int64_t count) {
  if (count >= V) return store(to, value);
  std::memcpy(to, &value, count * sizeof(float));
}

// (Not `vf{} + value`, which turns -0 into 0 and hence costs an addition.)
inline vf splat(float value) { return value - vf{}; }
inline vu bits(vf value) { return (vu)value; }
inline vf floats(vu value) { return (vf)value; }
inline vf choose(vi mask, vf yes, vf no) { return floats((bits(yes) & (vu)mask) | (bits(no) & ~(vu)mask)); }
inline vf absolute(vf value) { return floats(bits(value) & 0x7fffffffu); }
// What is not below zero: NaN stays NaN.
inline vf positive_part(vf value) { return choose(value < 0.0f, vf{}, value); }
// `value` with the sign bits of `sign` flipped in.
inline vf flip(vf value, vu sign) { return floats(bits(value) ^ sign); }
inline vu sign_bits(vf value) { return bits(value) & 0x80000000u; }

inline vf root(vf value) {
#if defined(__AVX512F__)
  return (vf)_mm512_sqrt_ps((__m512)value);
#elif defined(__AVX2__)
  return (vf)_mm256_sqrt_ps((__m256)value);
#else
  for (int i = 0; i < V; ++i)
    value[i] = __builtin_sqrtf(value[i]);
  return value;
#endif
}

// Both halves of the 64-bit products of 32-bit lanes.
inline void multiply_wide(vu a, uint32_t b, vu& high, vu& low) {
#if defined(__AVX512F__)
  const __m512i x = (__m512i)a, y = _mm512_set1_epi32((int)b);
  const __m512i even = _mm512_mul_epu32(x, y), odd = _mm512_mul_epu32(_mm512_srli_epi64(x, 32), y);
  high = (vu)_mm512_mask_mov_epi32(_mm512_srli_epi64(even, 32), 0xaaaa, odd);
  low = (vu)_mm512_mask_mov_epi32(even, 0xaaaa, _mm512_slli_epi64(odd, 32));
#elif defined(__AVX2__)
  const __m256i x = (__m256i)a, y = _mm256_set1_epi32((int)b);
  const __m256i even = _mm256_mul_epu32(x, y), odd = _mm256_mul_epu32(_mm256_srli_epi64(x, 32), y);
  high = (vu)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xaa);
  low = (vu)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xaa);
#else
  for (int i = 0; i < V; ++i) {
    const uint64_t product = (uint64_t)a[i] * b;
    high[i] = (uint32_t)(product >> 32);
    low[i] = (uint32_t)product;
  }
#endif
}

}  // namespace bnn::BNN_ISA
