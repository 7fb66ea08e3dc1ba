// The main loops of the volume score: tiles so small that those of seven banks fit into the shared memory of every GPU,
// which is 99 KiB at least.
#pragma once

#include "portable.cuh"
#include "score/volume.cuh"
#include "volume.h"

namespace contrastive_ops::cuda {

template <class Stat>
using VolumeShape = std::conditional_t<sizeof(Stat) == 4, BlockShape<32, 64, 2, 2, 2>, BlockShape<32, 32, 2, 1, 1>>;

// Calls use(loop) with a null pointer to the main loop of `dtype`.
template <class Use>
void with_volume_loop(DType dtype, Use use) {
  switch (dtype) {
    case DType::kFloat32:
      return use(static_cast<FmaMainLoop<float, false, false, VolumeShape<float>>*>(nullptr));
    case DType::kFloat64:
      return use(static_cast<FmaMainLoop<double, false, false, VolumeShape<double>>*>(nullptr));
    case DType::kBFloat16:
      return use(static_cast<MmaMainLoop<__nv_bfloat16, false, false, VolumeShape<float>>*>(nullptr));
    case DType::kFloat16:
      return use(static_cast<MmaMainLoop<__half, false, false, VolumeShape<float>>*>(nullptr));
  }
}

}  // namespace contrastive_ops::cuda
