// The main loops of the volume score: tiles so small that those of seven banks fit into the shared memory of every GPU,
// which is 99 KiB at least.
#pragma once

#include "portable.cuh"
#include "score/volume.cuh"
#include "volume.h"

namespace contrastive_ops::cuda {

template <class Stat>
using VolumeShape = std::conditional_t<sizeof(Stat) == 4, BlockShape<32, 64, 2, 2, 2>, BlockShape<32, 32, 2, 1, 1>>;

template <class Element>
using FmaVolumes = FmaMainLoop<Element, false, false, VolumeShape<Element>>;
template <class Element>
using MmaVolumes = MmaMainLoop<Element, false, false, VolumeShape<float>>;

// Calls use(loop) with a null pointer to the main loop of `dtype`.
template <class Use>
void with_volume_loop(DType dtype, Use use) {
  with_portable_loop<FmaVolumes, MmaVolumes>(dtype, use);
}

}  // namespace contrastive_ops::cuda
