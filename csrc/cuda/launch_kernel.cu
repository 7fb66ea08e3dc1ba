#include "device.cuh"

#include <algorithm>
#include <mutex>
#include <utility>
#include <vector>

namespace contrastive_ops::cuda {

void allow_shared_memory_once(const void* kernel, int bytes) {
  static std::mutex mutex;
  static std::vector<std::pair<int, const void*>> allowed;
  const std::pair<int, const void*> asked = {runtime().current_device(), kernel};
  const std::lock_guard<std::mutex> lock(mutex);
  if (std::find(allowed.begin(), allowed.end(), asked) != allowed.end()) return;
  runtime().allow_shared_memory(kernel, bytes);
  allowed.push_back(asked);
}

}  // namespace contrastive_ops::cuda
