// The Hopper path's main loop for each type of embeddings.
#pragma once

#include <stdexcept>

#include "hopper.h"
#include "mainloop_wgmma.cuh"

namespace contrastive_ops::cuda {

// Calls use(loop) with a null pointer to the main loop of `dtype`.
template <template <class Element> class MainLoop, class Use>
void with_hopper_loop(DType dtype, Use use) {
  switch (dtype) {
    case DType::kBFloat16:
      return use(static_cast<MainLoop<__nv_bfloat16>*>(nullptr));
    case DType::kFloat16:
      return use(static_cast<MainLoop<__half>*>(nullptr));
    default:
      throw std::invalid_argument("the Hopper path multiplies bfloat16 and float16");
  }
}

template <class Element>
using HopperScores = WgmmaMainLoop<Element>;

}  // namespace contrastive_ops::cuda
