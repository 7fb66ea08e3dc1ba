#include "arena.h"

#include <sys/mman.h>

#include <mutex>
#include <new>
#include <vector>

namespace contrastive_ops {
namespace {

constexpr std::size_t kHugePage = std::size_t(2) << 20;
// What one forward and backward of one loss leaves behind: a state and a scratch block.
constexpr std::size_t kMaxCached = 2;

struct Mapping {
  void* data;
  std::size_t capacity;
};

std::mutex mutex;
std::vector<Mapping>& cached() {
  static auto* blocks = new std::vector<Mapping>;  // never destroyed: tensors may outlive static objects
  return *blocks;
}

}  // namespace

Block::Block(std::size_t bytes) : bytes_(bytes) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    auto& blocks = cached();
    auto best = blocks.end();
    for (auto it = blocks.begin(); it != blocks.end(); ++it)
      if (it->capacity >= bytes && it->capacity / 2 <= bytes + kHugePage &&
          (best == blocks.end() || it->capacity < best->capacity))
        best = it;
    if (best != blocks.end()) {
      data_ = best->data;
      capacity_ = best->capacity;
      blocks.erase(best);
      return;
    }
  }
  capacity_ = (bytes + kHugePage - 1) / kHugePage * kHugePage;
  if (capacity_ == 0) capacity_ = kHugePage;
  data_ = mmap(nullptr, capacity_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (data_ == MAP_FAILED) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  madvise(data_, capacity_, MADV_HUGEPAGE);
#endif
}

Block::~Block() {
  Mapping dropped = {data_, capacity_};
  {
    const std::lock_guard<std::mutex> lock(mutex);
    auto& blocks = cached();
    blocks.push_back(dropped);
    if (blocks.size() <= kMaxCached) return;
    dropped = blocks.front();
    blocks.erase(blocks.begin());
  }
  munmap(dropped.data, dropped.capacity);
}

void release_cached_blocks() {
  const std::lock_guard<std::mutex> lock(mutex);
  for (const Mapping& block : cached()) munmap(block.data, block.capacity);
  cached().clear();
}

}  // namespace contrastive_ops
