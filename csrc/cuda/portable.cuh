// The portable path's main loop for each type of embeddings.
#pragma once

#include "mainloop_fma.cuh"
#include "mainloop_mma.cuh"
#include "params.h"

namespace contrastive_ops::cuda {

// Calls use(loop) with a null pointer to the main loop of `dtype`.
template <bool kATransposed = false, bool kBTransposed = false, class Use>
void with_portable_loop(DType dtype, Use use) {
  switch (dtype) {
    case DType::kFloat32:
      return use(static_cast<FmaMainLoop<float, kATransposed, kBTransposed>*>(nullptr));
    case DType::kFloat64:
      return use(static_cast<FmaMainLoop<double, kATransposed, kBTransposed>*>(nullptr));
    case DType::kBFloat16:
      return use(static_cast<MmaMainLoop<__nv_bfloat16, kATransposed, kBTransposed>*>(nullptr));
    case DType::kFloat16:
      return use(static_cast<MmaMainLoop<__half, kATransposed, kBTransposed>*>(nullptr));
  }
}

}  // namespace contrastive_ops::cuda
