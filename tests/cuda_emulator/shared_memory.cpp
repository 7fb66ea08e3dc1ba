#include "cuda_emulator/shared_memory.h"

#include <sys/mman.h>

#include <new>

#include "cuda_emulator/runtime.h"
#include "cuda_emulator/sanitizers.h"

namespace contrastive_ops::cuda::emulator {
namespace {

constexpr size_t kCapacity = 256 * 1024;  // what the 18 bits of a wgmma descriptor reach: 227 KiB and the red zones
constexpr size_t kAlignment = 1024, kRedZone = 256;

int64_t align(int64_t offset, int64_t alignment) { return (offset + alignment - 1) / alignment * alignment; }

}  // namespace

SharedArena::SharedArena() {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS;
  base_ = static_cast<char*>(mmap(nullptr, kCapacity, PROT_READ | PROT_WRITE, flags, -1, 0));
  if (base_ == MAP_FAILED) throw std::bad_alloc();
  static_assert(4096 % kAlignment == 0, "pages are aligned enough");
}

SharedArena::~SharedArena() {
  sanitizer::allow(base_, kCapacity);
  munmap(base_, kCapacity);
}

void SharedArena::start_block(int declared_bytes) {
#ifdef CUDA_EMULATOR_TSAN
  // New memory to ThreadSanitizer: the accesses of the block before, which nothing orders before this one's, are none.
  munmap(base_, kCapacity);
  mmap(base_, kCapacity, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
#endif
  sanitizer::allow(base_, kCapacity);
  sanitizer::poison(base_, kCapacity);
  sanitizer::forbid(base_, kCapacity);
  declared_bytes_ = declared_bytes;
  arrays_.clear();
}

void* SharedArena::take(int index, int64_t bytes, int alignment, int device_offset) {
  if (device_offset > declared_bytes_) {
    fail("the kernel takes %d bytes of shared memory, its launch declared %d", device_offset, declared_bytes_);
  }
  if (index == static_cast<int>(arrays_.size())) {
    const int64_t end = arrays_.empty() ? 0 : arrays_.back().offset + arrays_.back().bytes + kRedZone;
    const Array array = {align(end, alignment), bytes, alignment};
    if (array.offset + bytes + static_cast<int64_t>(kRedZone) > static_cast<int64_t>(kCapacity)) {
      fail("the arrays in shared memory and the emulator's red zones exceed 256 KiB");
    }
    sanitizer::allow(base_ + array.offset, bytes);
    arrays_.push_back(array);
  }
  const Array& array = arrays_[index];
  if (array.bytes != bytes || array.alignment != alignment) {
    fail("threads of a block take different arrays of shared memory");
  }
  return base_ + array.offset;
}

void SharedArena::check(const void* memory, size_t bytes, const char* operation) const {
  const int64_t start = static_cast<const char*>(memory) - base_;
  for (const Array& array : arrays_) {
    if (start >= array.offset && start + static_cast<int64_t>(bytes) <= array.offset + array.bytes) return;
  }
  fail("%s: %zu bytes at offset %lld are not inside an array of shared memory", operation, bytes,
       static_cast<long long>(start));
}

}  // namespace contrastive_ops::cuda::emulator
