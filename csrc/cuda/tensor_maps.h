// The tensor maps of a call: a map is encoded once, however many launches read through it.
#pragma once

#include <utility>
#include <vector>

#include "device.cuh"
#include "runtime.h"

namespace contrastive_ops::cuda {

class TensorMaps {
 public:
  TensorMap of(const BoxedTensor& tensor);

  // For what reads other tensors from here on.
  void forget() { maps_.clear(); }

 private:
  std::vector<std::pair<BoxedTensor, TensorMap>>
      maps_;  // a few dozen: one for every stripe of a macro-block's operands
};

}  // namespace contrastive_ops::cuda
