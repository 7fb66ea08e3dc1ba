// What follows the tiles of macro-blocks: parts of sums are added up, and sums become gradients. A thread per number.
#include "device.cuh"
#include "launch.h"
#include "mainloop.h"
#include "scores.cuh"

namespace contrastive_ops::cuda {
namespace {

constexpr int kSumThreads = 256;

__device__ __forceinline__ int64_t thread_index() { return int64_t(blockIdx.x) * kSumThreads + threadIdx.x; }

template <class Stat>
__global__ void __launch_bounds__(kSumThreads) add_parts_kernel(const __grid_constant__ AddPartsParams params) {
  const int64_t i = thread_index();
  if (i >= params.size) return;
  const Stat* parts = static_cast<const Stat*>(params.parts);
  Stat sum = Stat(0);
  for (int part = 0; part < params.num_parts; ++part) sum += parts[part * params.size + i];
  static_cast<Stat*>(params.sums)[i] += sum;
}

template <class Stat, class Gradient>
__global__ void __launch_bounds__(kSumThreads) finish_gradient_kernel(const __grid_constant__ FinishParams params) {
  const int64_t i = thread_index();
  if (i >= params.size) return;
  const Stat sum = static_cast<const Stat*>(params.sum)[i];
  const Stat unit = params.unit ? load_scalar<Stat>(params.unit) : Stat(1);
  const Stat gradient = params.scale ? sum * (load_scalar<Stat>(params.scale) / unit) : sum / unit;
  static_cast<Gradient*>(params.gradient)[i] = Gradient(gradient);
}

template <class Stat>
void launch_add_parts(const AddPartsParams& params, Stream& stream) {
  launch(add_parts_kernel<Stat>, dim3(blocks_along(params.size, kSumThreads)), kSumThreads, 0, stream, params);
}

template <class Stat, class Gradient>
void launch_finish_gradient(const FinishParams& params, Stream& stream) {
  const dim3 grid(blocks_along(params.size, kSumThreads));
  launch((finish_gradient_kernel<Stat, Gradient>), grid, kSumThreads, 0, stream, params);
}

}  // namespace

void add_parts(const AddPartsParams& params, Stream& stream) {
  if (params.dtype == DType::kFloat64) {
    launch_add_parts<double>(params, stream);
  } else {
    launch_add_parts<float>(params, stream);
  }
}

void finish_gradient(const FinishParams& params, Stream& stream) {
  switch (params.dtype) {
    case DType::kFloat32:
      return launch_finish_gradient<float, float>(params, stream);
    case DType::kFloat64:
      return launch_finish_gradient<double, double>(params, stream);
    case DType::kBFloat16:
      return launch_finish_gradient<float, __nv_bfloat16>(params, stream);
    case DType::kFloat16:
      return launch_finish_gradient<float, __half>(params, stream);
  }
}

}  // namespace contrastive_ops::cuda
