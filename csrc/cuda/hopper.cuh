// The Hopper path's main loop for each type of embeddings.
#pragma once

#include <stdexcept>

#include "elements.cuh"
#include "hopper.h"
#include "mainloop_wgmma.cuh"

namespace contrastive_ops::cuda {

// Calls use(loop) with a null pointer to the main loop of `dtype`.
template <template <class Element> class MainLoop, class Use>
void with_hopper_loop(DType dtype, Use use) {
  with_element(dtype, [&](auto* element) {
    using Element = std::remove_pointer_t<decltype(element)>;
    if constexpr (sizeof(Element) == 2) {
      use(static_cast<MainLoop<Element>*>(nullptr));
    } else {
      throw std::invalid_argument("the Hopper path multiplies bfloat16 and float16");
    }
  });
}

template <class Element>
using HopperScores = WgmmaMainLoop<Element>;

}  // namespace contrastive_ops::cuda
