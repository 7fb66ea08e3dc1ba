#include "cuda_emulator/host.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "../../csrc/cuda/device.cuh"
#include "cuda_emulator/runtime.h"

namespace contrastive_ops::cuda {
namespace emulator {
namespace {

constexpr int kWithoutAsking = 48 * 1024;

CudaEmulatorCounts counts;
std::mutex mutex;

// Nothing runs and nothing is written: what is left is the time of the host code.
bool only_counts() {
  static const bool kValue = std::getenv("CUDA_EMULATOR_COUNT") != nullptr;
  return kValue;
}

std::vector<std::pair<const void*, int>>& limits() {
  static std::vector<std::pair<const void*, int>> of_kernels;
  return of_kernels;
}

int limit_of(const void* kernel) {
  const auto found =
      std::find_if(limits().begin(), limits().end(), [&](const auto& limit) { return limit.first == kernel; });
  return found == limits().end() ? kWithoutAsking : found->second;
}

int current_device() { return 0; }

void allow_shared_memory(const void* kernel, int bytes) {
  const std::lock_guard<std::mutex> lock(mutex);
  ++counts.allowances;
  limits().insert(limits().begin(), {kernel, bytes});  // the last word counts, also if it is less
}

void put_on_stream(const Launch& launch) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    ++counts.launches;
    if (launch.shared_bytes > limit_of(launch.kernel)) {
      throw std::runtime_error("launch with " + std::to_string(launch.shared_bytes) +
                               " bytes of shared memory, of which " + std::to_string(limit_of(launch.kernel)) +
                               " are allowed");
    }
  }
  if (!only_counts()) launch_threads(launch.grid, launch.threads, launch.shared_bytes, [&] { launch.run(launch); });
}

void set_to_zero(void* data, int64_t bytes, void* /*stream*/) {
  ++counts.fills;
  if (!only_counts()) std::memset(data, 0, bytes);
}

void encode_tensor_map(void* map, const BoxedTensor& of) {
  constexpr int kBytes = 2;
  const TensorMap encoded = {static_cast<const unsigned char*>(of.data),
                             kBytes,
                             of.width,
                             of.lines,
                             of.batch,
                             of.line_stride * kBytes,
                             of.batch_stride * kBytes,
                             of.box_width,
                             of.box_lines};
  check_tensor_map(encoded);
  ++counts.tensor_maps;
  *static_cast<TensorMap*>(map) = encoded;
}

}  // namespace
}  // namespace emulator

const Runtime& runtime() {
  using namespace emulator;
  static constexpr Runtime kEmulated = {current_device, allow_shared_memory, put_on_stream, set_to_zero,
                                        encode_tensor_map};
  return kEmulated;
}

}  // namespace contrastive_ops::cuda

CudaEmulatorCounts cuda_emulator_counts() { return contrastive_ops::cuda::emulator::counts; }
