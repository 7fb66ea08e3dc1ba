// The portable path's main loop for each type of embeddings.
#pragma once

#include "elements.cuh"
#include "mainloop_fma.cuh"
#include "mainloop_mma.cuh"
#include "params.h"

namespace contrastive_ops::cuda {

template <class Element>
using FmaScores = FmaMainLoop<Element>;
template <class Element>
using MmaScores = MmaMainLoop<Element>;

// Calls use(loop) with a null pointer to the main loop of `dtype`.
template <template <class Element> class Fma = FmaScores, template <class Element> class Mma = MmaScores, class Use>
void with_portable_loop(DType dtype, Use use) {
  with_element(dtype, [&](auto* element) {
    using Element = std::remove_pointer_t<decltype(element)>;
    if constexpr (sizeof(Element) == 2) {
      use(static_cast<Mma<Element>*>(nullptr));
    } else {
      use(static_cast<Fma<Element>*>(nullptr));
    }
  });
}

}  // namespace contrastive_ops::cuda
