// Counter-based noise: Philox4x32-10 (Salmon, Moraes, Dror, Shaw 2011). Element i of a stream depends on the seed, the
// stream and i alone, so that any part can be made anywhere, in any order, by any number of threads.
#pragma once

#include <algorithm>

#include "api.h"
#include "functions.h"

namespace bnn::BNN_ISA {

struct Words {
  vu w[4];
};

// The blocks with counters first, first + 1, ..., first + N V - 1, each of four words. A round waits for the one
// before, so that several blocks per lane are worked on at once.
template <int N>
inline void philox(uint64_t seed, Stream stream, uint64_t first, Words (&to)[N]) {
  vu lane;
  for (int i = 0; i < V; ++i)
    lane[i] = i;
  for (int n = 0; n < N; ++n) {
    const uint64_t counter = first + n * V;
    to[n].w[0] = lane + (uint32_t)counter;
    to[n].w[1] = vu{} + (uint32_t)(counter >> 32) - (vu)(to[n].w[0] < lane);  // carry: a true comparison is -1
    to[n].w[2] = vu{} + (uint32_t)stream;
    to[n].w[3] = vu{};
  }
  uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
  for (int round = 0; round < 10; ++round, k0 += 0x9E3779B9u, k1 += 0xBB67AE85u)
    for (auto& [x] : to) {
      vu high0, low0, high1, low1;
      multiply_wide(x[0], 0xD2511F53u, high0, low0);
      multiply_wide(x[2], 0xCD9E8D57u, high1, low1);
      x[0] = high1 ^ x[1] ^ k0;
      x[1] = low1;
      x[2] = high0 ^ x[3] ^ k1;
      x[3] = low0;
    }
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

// Normals come in groups of 64, made of 16 blocks whatever V is: words (0, 1) of the blocks give the first two runs of
// 16 elements, words (2, 3) the others. Four groups are made at a time.
constexpr int kGroup = 64, kFour = 4 * kGroup;

inline void normal_four(uint64_t seed, Stream stream, int64_t four, float* out) {
  constexpr int kParts = 16 / V;  // of a group
  Words blocks[4 * kParts];
  philox(seed, stream, (uint64_t)four * 64, blocks);
  for (int n = 0; n < 4 * kParts; ++n) {
    float* to = out + n / kParts * kGroup + n % kParts * V;
    vf a, b;
    box_muller(blocks[n].w[0], blocks[n].w[1], a, b);
    store(to, a);
    store(to + 16, b);
    box_muller(blocks[n].w[2], blocks[n].w[3], a, b);
    store(to + 32, a);
    store(to + 48, b);
  }
}

// Noise of elements [first, last), where `first` begins a chunk.
inline void normals(uint64_t seed, Stream stream, int64_t first, int64_t last, float* out) {
  for (int64_t at = first; at < last; at += kFour) {
    if (at + kFour <= last) {
      normal_four(seed, stream, at / kFour, out + (at - first));
    } else {
      float rest[kFour];
      normal_four(seed, stream, at / kFour, rest);
      std::memcpy(out + (at - first), rest, (last - at) * sizeof(float));
    }
  }
}

// Signs +1 or -1 of elements [first, last), where `first` begins a chunk: element i takes bit i mod 32 of word
// (i / 32) mod 4 of block i / 128.
inline void random_signs(uint64_t seed, Stream stream, int64_t first, int64_t last, float* out) {
  vu lane;
  for (int i = 0; i < V; ++i)
    lane[i] = i;
  for (int64_t batch = first; batch < last; batch += 128 * V) {
    Words blocks[1];
    philox(seed, stream, (uint64_t)batch / 128, blocks);
    for (int64_t at = batch; at < std::min(last, batch + 128 * V); at += V) {
      const vu word = vu{} + blocks[0].w[(at - batch) / 32 % 4][(at - batch) / 128];
      const vu negative = ~(word >> (lane + (uint32_t)(at % 32))) << 31;
      store_some(out + (at - first), floats(bits(splat(1.0f)) | negative), last - at);
    }
  }
}

}  // namespace bnn::BNN_ISA
