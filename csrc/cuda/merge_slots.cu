#include "launch.h"
#include "mainloop.h"
#include "reduction/merge.cuh"

namespace contrastive_ops::cuda {
namespace {

constexpr int kMergeThreads = 256, kMergeBlocks = 8;  // all warps of a multiprocessor: it waits for memory

// One thread for each line; the reductions are the second dimension of the grid.
template <class Stat>
__global__ void __launch_bounds__(kMergeThreads, kMergeBlocks)
    merge_slots_kernel(const __grid_constant__ MergeParams params) {
  const int64_t line = int64_t(blockIdx.x) * kMergeThreads + threadIdx.x;
  if (line < params.size) merge_line<Stat>(params.reductions[blockIdx.y], params, line);
}

}  // namespace

void merge_slots(const MergeParams& params, Stream& stream) {
  const dim3 grid(blocks_along(params.size, kMergeThreads), static_cast<unsigned>(params.num_reductions));
  if (params.dtype == DType::kFloat64) {
    launch(merge_slots_kernel<double>, grid, kMergeThreads, 0, stream, params);
  } else {
    launch(merge_slots_kernel<float>, grid, kMergeThreads, 0, stream, params);
  }
}

}  // namespace contrastive_ops::cuda
