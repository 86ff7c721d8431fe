// Counter-based noise: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011). Element i of a stream depends on the seed, the
// stream and i alone, so that any part can be made anywhere, in any order, by any number of threads.
#pragma once

#include "api.h"
#include "functions.h"

namespace bnn::BNN_ISA {

struct Words {
  vu w[4];
};

// The blocks with counters `first` + lane, each of four words.
inline Words philox(uint64_t seed, Stream stream, uint64_t first) {
  vu lane;
  for (int i = 0; i < V; ++i) lane[i] = i;
  vu x0 = lane + (uint32_t)first, x1 = vu{} + (uint32_t)(first >> 32), x2 = vu{} + (uint32_t)stream, x3 = {};
  x1 -= (vu)(x0 < lane);  // carry
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    vu high0, low0, high1, low1;
    multiply_wide(x0, 0xD2511F53u, high0, low0);
    multiply_wide(x2, 0xCD9E8D57u, high1, low1);
    x0 = high1 ^ x1 ^ k0;
    x1 = low1;
    x2 = high0 ^ x3 ^ k1;
    x3 = low0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{x0, x1, x2, x3}};
}

// Box and Muller: a uniform in (0, 1] gives the radius, a uniform angle the direction.
inline void box_muller(vu radius, vu angle, vf& a, vf& b) {
  // u >= 2^-33: normals reach 6.76 standard deviations
  const vf u = __builtin_convertvector(radius, vf) * 0x1p-32f + 0x1p-33f;
  const vf r = root(-2.0f * log(u));
  const vf turns = __builtin_convertvector((vi)angle, vf) * 0x1p-32f;  // [-1/2, 1/2]
  const vf size = absolute(turns);
  const vf folded = choose(size > 0.25f, 0.5f - size, size);
  a = r * sine_of_turns(0.25f - size);
  b = r * flip(sine_of_turns(folded), sign_bits(turns));
}

// Normals come in groups of 4 V: group g holds elements 4 V' g ..., where V' is always 16 so that every instruction set
// yields the same order. Word pair (0, 1) of the 16 blocks gives the first two runs of 16, pair (2, 3) the others.
constexpr int kGroup = 64;

inline void normal_group(uint64_t seed, Stream stream, int64_t group, float* out) {
  for (int part = 0; part < 16 / V; ++part) {
    const Words block = philox(seed, stream, (uint64_t)group * 16 + part * V);
    vf a, b;
    box_muller(block.w[0], block.w[1], a, b);
    store(out + part * V, a);
    store(out + 16 + part * V, b);
    box_muller(block.w[2], block.w[3], a, b);
    store(out + 32 + part * V, a);
    store(out + 48 + part * V, b);
  }
}

// Noise of elements [first, last), where `first` begins a group.
inline void normals(uint64_t seed, Stream stream, int64_t first, int64_t last, float* out) {
  for (int64_t at = first; at < last; at += kGroup) {
    if (at + kGroup <= last) {
      normal_group(seed, stream, at / kGroup, out + (at - first));
    } else {
      float rest[kGroup];
      normal_group(seed, stream, at / kGroup, rest);
      std::memcpy(out + (at - first), rest, (last - at) * sizeof(float));
    }
  }
}

// Element i takes bit i mod 32 of word (i / 32) mod 4 of block i / 128.
inline void random_signs(uint64_t seed, Stream stream, int64_t first, int64_t last, float* out) {
  int64_t have = -1;
  Words blocks = {};
  for (int64_t i = first; i < last; ++i) {
    const int64_t block = i / 128, batch = block / V;
    if (batch != have) {
      blocks = philox(seed, stream, (uint64_t)(batch * V));
      have = batch;
    }
    const uint32_t word = blocks.w[(i / 32) % 4][block % V];
    out[i - first] = (word >> (i % 32)) & 1 ? 1.0f : -1.0f;
  }
}

}  // namespace bnn::BNN_ISA
