// The kernels of one instruction set.
#include "../kernels.h"

#include "../fma_burst.h"
#include "../gradient_pass.h"
#include "../score_pass.h"

namespace contrastive_ops {
namespace CONTRASTIVE_ISA {
namespace {

template <class F>
auto by_type(DType dtype, F body) {
  return dtype == DType::kFloat64 ? body(double()) : body(float());
}

#define CONTRASTIVE_STRING(x) #x
#define CONTRASTIVE_NAME(x) CONTRASTIVE_STRING(x)

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {
    CONTRASTIVE_NAME(CONTRASTIVE_ISA),
    [](DType dtype) { return by_type(dtype, [](auto t) { return kPanel<decltype(t)>; }); },
    [](DType dtype, int banks, int64_t block_m, int64_t block_n) {
      return by_type(dtype, [&](auto t) {
        using T = decltype(t);
        return Scratch<T>::lay_out(block_m, block_n, DotScore<T>::scratch(banks), nullptr, nullptr);
      });
    },
    [](const Params& p) { by_type(p.dtype, [&](auto t) { forward_pass<decltype(t), DotScore<decltype(t)>>(p); }); },
    [](const Params& p) { by_type(p.dtype, [&](auto t) { backward_pass<decltype(t), DotScore<decltype(t)>>(p); }); },
    fma_burst,
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
