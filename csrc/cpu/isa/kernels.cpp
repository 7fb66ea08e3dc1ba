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

template <class F>
auto by_type_and_score(DType dtype, ScoreKind score, F body) {
  return by_type(dtype, [&](auto t) {
    using T = decltype(t);
    return score == ScoreKind::kVolume ? body(t, VolumeScore<T>()) : body(t, DotScore<T>());
  });
}

#define CONTRASTIVE_STRING(x) #x
#define CONTRASTIVE_NAME(x) CONTRASTIVE_STRING(x)

}  // namespace

extern const Kernels kKernels;
const Kernels kKernels = {
    CONTRASTIVE_NAME(CONTRASTIVE_ISA),
    [](DType dtype) { return by_type(dtype, [](auto t) { return kPanel<decltype(t)>; }); },
    [](DType dtype, ReductionKind kind) {
      return by_type(dtype, [kind](auto t) { return functions<decltype(t)>(kind).state_bytes; });
    },
    [](ReductionKind kind) { return functions<float>(kind).state_is_result; },
    [](DType dtype, ScoreKind score, int banks, bool several_change, int64_t block_m, int64_t block_n,
       int64_t keys_depth) {
      return by_type_and_score(dtype, score, [&](auto t, auto s) {
        using T = decltype(t);
        return Scratch<T>::lay_out(block_m, block_n, s.scratch(banks), several_change, banks * Work<T>::padded(block_n),
                                   Work<T>::padded(keys_depth), nullptr, nullptr);
      });
    },
    [](const Params& p) {
      by_type_and_score(p.dtype, p.score, [&](auto t, auto s) { forward_pass<decltype(t), decltype(s)>(p); });
    },
    [](const Params& p) {
      by_type_and_score(p.dtype, p.score, [&](auto t, auto s) { backward_pass<decltype(t), decltype(s)>(p); });
    },
    fma_burst,
};

}  // namespace CONTRASTIVE_ISA
}  // namespace contrastive_ops
