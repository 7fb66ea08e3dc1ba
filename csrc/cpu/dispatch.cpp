#include <cstring>

#include "kernels.h"

namespace contrastive_ops {

namespace baseline {
extern const Kernels kKernels;
}
#if CONTRASTIVE_X86
namespace avx2 {
extern const Kernels kKernels;
}
namespace avx512 {
extern const Kernels kKernels;
}
#endif

const Kernels* find_kernels(const char* name) {
  const auto wanted = [name](const char* isa) { return !name || std::strcmp(name, isa) == 0; };
#if CONTRASTIVE_X86
  if (wanted("avx512") && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl"))
    return &avx512::kKernels;
  if (wanted("avx2") && __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return &avx2::kKernels;
#endif
  return wanted("baseline") ? &baseline::kKernels : nullptr;
}

}  // namespace contrastive_ops
