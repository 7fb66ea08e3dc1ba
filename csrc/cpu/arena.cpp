#include "arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <mutex>
#include <new>
#include <vector>

namespace contrastive_ops {
namespace {

constexpr std::size_t kHugePage = std::size_t(2) << 20;
// What the losses of a training step leave behind, each a few blocks: a state, packed keys, a scratch. One that nothing
// has asked for in so many requests goes back to the operating system, so that what is held follows what is used.
constexpr std::size_t kMaxCached = 8;
constexpr std::size_t kMaxAge = 32;

struct Mapping {
  void* data;
  std::size_t capacity;
  std::size_t last_used;  // the number of the request that was the latest when it came back
};

std::mutex mutex;
std::size_t requests = 0;
std::vector<Mapping>& cached() {
  static auto* blocks = new std::vector<Mapping>;  // never destroyed: tensors may outlive static objects
  return *blocks;
}

// The smallest free block that is large enough and not much too large.
bool take_cached(std::size_t bytes, Mapping* found) {
  auto& blocks = cached();
  auto best = blocks.end();
  for (auto it = blocks.begin(); it != blocks.end(); ++it)
    if (it->capacity >= bytes && it->capacity / 2 <= bytes + kHugePage &&
        (best == blocks.end() || it->capacity < best->capacity))
      best = it;
  if (best == blocks.end()) return false;
  *found = *best;
  blocks.erase(best);
  return true;
}

// Those that have been idle for too long, and the longest idle of too many. Blocks lie in the order of their last use.
void drop_idle() {
  auto& blocks = cached();
  auto kept = std::find_if(blocks.begin(), blocks.end(),
                           [](const Mapping& block) { return requests - block.last_used <= kMaxAge; });
  if (blocks.size() > kMaxCached) kept = std::max(kept, blocks.end() - kMaxCached);
  for (auto it = blocks.begin(); it != kept; ++it) munmap(it->data, it->capacity);
  blocks.erase(blocks.begin(), kept);
}

}  // namespace

Block::Block(std::size_t bytes) : bytes_(bytes) {
  {
    const std::lock_guard<std::mutex> lock(mutex);
    ++requests;
    Mapping found;
    const bool is_cached = take_cached(bytes, &found);
    drop_idle();
    if (is_cached) {
      data_ = found.data;
      capacity_ = found.capacity;
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
  const std::lock_guard<std::mutex> lock(mutex);
  cached().push_back({data_, capacity_, requests});
  drop_idle();
}

void advise_huge_pages(void* data, std::size_t bytes) {
#ifdef MADV_HUGEPAGE
  const auto start = (reinterpret_cast<std::uintptr_t>(data) + kHugePage - 1) / kHugePage * kHugePage;
  const auto end = (reinterpret_cast<std::uintptr_t>(data) + bytes) / kHugePage * kHugePage;
  if (end >= start + 8 * kHugePage) madvise(reinterpret_cast<void*>(start), end - start, MADV_HUGEPAGE);
#else
  (void)data, (void)bytes;
#endif
}

void release_cached_blocks() {
  const std::lock_guard<std::mutex> lock(mutex);
  for (const Mapping& block : cached()) munmap(block.data, block.capacity);
  cached().clear();
}

}  // namespace contrastive_ops
