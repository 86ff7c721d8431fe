// The instruction set is chosen when the program runs: one build serves every machine of its architecture.
#include <cstdlib>
#include <cstring>

#include "api.h"

namespace bnn {

extern const Kernels kernels_generic;
#if defined(__x86_64__)
extern const Kernels kernels_avx2, kernels_avx512;
#endif

namespace {

const Kernels& choose() {
#if defined(__x86_64__)
  const char* wanted = std::getenv("BNN_KERNELS_ISA");
  const bool any = wanted == nullptr || *wanted == 0;
  __builtin_cpu_init();
  const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
                      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl");
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  if (avx512 && (any || !std::strcmp(wanted, "avx512"))) return kernels_avx512;
  if (avx2 && (any || std::strcmp(wanted, "generic"))) return kernels_avx2;
#endif
  return kernels_generic;
}

}  // namespace

const Kernels& kernels() {
  static const Kernels& chosen = choose();
  return chosen;
}

}  // namespace bnn
