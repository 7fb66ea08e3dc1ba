// The table of a GPU. CUDA's runtime is linked in; its driver is found at run time, so that the library loads without
// one.
#ifdef __CUDACC__  // the emulator brings its own

#include <cuda.h>
#include <cudaTypedefs.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

#include "runtime.h"

namespace contrastive_ops::cuda {
namespace {

void check(cudaError_t error) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // forgets it, or whoever asks next takes it for his own
  throw std::runtime_error(std::string("CUDA: ") + cudaGetErrorString(error));
}

int current_device() {
  int device;
  check(cudaGetDevice(&device));
  return device;
}

void allow_shared_memory(const void* kernel, int bytes) {
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes));
}

void put_on_stream(const Launch& launch) {
  void* arguments[] = {const_cast<void*>(launch.params)};
  check(cudaLaunchKernel(launch.kernel, launch.grid, dim3(launch.threads), arguments, launch.shared_bytes,
                         static_cast<cudaStream_t>(launch.stream)));
}

void set_to_zero(void* data, int64_t bytes, void* stream) {
  check(cudaMemsetAsync(data, 0, bytes, static_cast<cudaStream_t>(stream)));
}

PFN_cuTensorMapEncodeTiled_v12000 tensor_map_encoder() {
  void* function = nullptr;
  cudaDriverEntryPointQueryResult found;
  check(cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &function, 12000, cudaEnableDefault, &found));
  if (found != cudaDriverEntryPointSuccess) {
    throw std::runtime_error("the CUDA driver has no cuTensorMapEncodeTiled: it is older than CUDA 12");
  }
  return reinterpret_cast<PFN_cuTensorMapEncodeTiled_v12000>(function);
}

void encode_tensor_map(void* map, const BoxedTensor& of) {
  static const PFN_cuTensorMapEncodeTiled_v12000 encode = tensor_map_encoder();
  constexpr int kBytes = 2;  // bfloat16 or float16
  const CUtensorMapDataType type =
      of.dtype == DType::kBFloat16 ? CU_TENSOR_MAP_DATA_TYPE_BFLOAT16 : CU_TENSOR_MAP_DATA_TYPE_FLOAT16;
  const cuuint64_t sizes[] = {static_cast<cuuint64_t>(of.width), static_cast<cuuint64_t>(of.lines),
                              static_cast<cuuint64_t>(of.batch)};
  const cuuint64_t strides[] = {static_cast<cuuint64_t>(of.line_stride * kBytes),
                                static_cast<cuuint64_t>(of.batch_stride * kBytes)};
  const cuuint32_t box[] = {static_cast<cuuint32_t>(of.box_width), static_cast<cuuint32_t>(of.box_lines), 1};
  const cuuint32_t steps[] = {1, 1, 1};
  const CUresult result = encode(static_cast<CUtensorMap*>(map), type, 3, const_cast<void*>(of.data), sizes, strides,
                                 box, steps, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                                 CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  if (result != CUDA_SUCCESS) {
    throw std::runtime_error("cuTensorMapEncodeTiled: CUDA driver error " + std::to_string(result) + " for " +
                             std::to_string(of.batch) + " x " + std::to_string(of.lines) + " x " +
                             std::to_string(of.width) + ", strides " + std::to_string(of.batch_stride) + ", " +
                             std::to_string(of.line_stride));
  }
}

}  // namespace

const Runtime& runtime() {
  static constexpr Runtime kGpu = {current_device, allow_shared_memory, put_on_stream, set_to_zero, encode_tensor_map};
  return kGpu;
}

}  // namespace contrastive_ops::cuda

#endif
