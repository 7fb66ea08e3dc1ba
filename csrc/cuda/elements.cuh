// The types of embeddings that kernels are compiled for.
#pragma once

#include <stdexcept>

#include "../types.h"
#include "device.cuh"

namespace contrastive_ops::cuda {

// Calls use(element) with a null pointer to the type of `dtype`. With CONTRASTIVE_CUDA_ONE_TYPE_A_LOOP there is one for
// each main loop: the others are the same code with other conversions, which a sanitizer does not see.
template <class Use>
void with_element(DType dtype, Use use) {
  switch (dtype) {
    case DType::kFloat32:
      return use(static_cast<float*>(nullptr));
    case DType::kBFloat16:
      return use(static_cast<__nv_bfloat16*>(nullptr));
#ifndef CONTRASTIVE_CUDA_ONE_TYPE_A_LOOP
    case DType::kFloat64:
      return use(static_cast<double*>(nullptr));
    case DType::kFloat16:
      return use(static_cast<__half*>(nullptr));
#endif
    default:
      throw std::invalid_argument("no kernel is compiled for this type of embeddings");
  }
}

}  // namespace contrastive_ops::cuda
