#include "launch.h"
#include "mainloop.h"
#include "online.cuh"

namespace contrastive_ops::cuda {
namespace {

constexpr int kThreads = 256;

// lse = top + log(total) over the slots of each line, in the order of the slots. One thread per line.
template <class Stat>
__global__ void __launch_bounds__(kThreads) merge_partials_kernel(const __grid_constant__ MergeParams params) {
  const int64_t line = int64_t(blockIdx.x) * kThreads + threadIdx.x;
  if (line >= params.size) return;
  const Stat *tops = static_cast<const Stat*>(params.partials.top),
             *totals = static_cast<const Stat*>(params.partials.total);
  Statistics<Stat> merged = Statistics<Stat>::none();
  for (int slot = 0; slot < params.num_slots; ++slot) {
    const int64_t i = slot * params.size + line;
    merged = MergeOnline{}(merged, Statistics<Stat>{tops[i], totals[i]});
  }
  static_cast<Stat*>(params.lse)[line] = finite_or_zero(merged.top) + logarithm(merged.total);
  if (!params.positive_sum) return;
  Stat sum = Stat(0);
  for (int slot = 0; slot < params.num_slots; ++slot) {
    sum += static_cast<const Stat*>(params.partials.positive)[slot * params.size + line];
  }
  static_cast<Stat*>(params.positive_sum)[line] = sum;
}

}  // namespace

void merge_partials(const MergeParams& params, Stream& stream) {
  const dim3 grid(blocks_along(params.size, kThreads));
  if (params.dtype == DType::kFloat64) {
    launch(merge_partials_kernel<double>, grid, kThreads, 0, stream, params);
  } else {
    launch(merge_partials_kernel<float>, grid, kThreads, 0, stream, params);
  }
}

}  // namespace contrastive_ops::cuda
