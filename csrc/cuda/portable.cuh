// The portable path's main loop for each type of embeddings.
#pragma once

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
  switch (dtype) {
    case DType::kFloat32:
      return use(static_cast<Fma<float>*>(nullptr));
    case DType::kFloat64:
      return use(static_cast<Fma<double>*>(nullptr));
    case DType::kBFloat16:
      return use(static_cast<Mma<__nv_bfloat16>*>(nullptr));
    case DType::kFloat16:
      return use(static_cast<Mma<__half>*>(nullptr));
  }
}

}  // namespace contrastive_ops::cuda
