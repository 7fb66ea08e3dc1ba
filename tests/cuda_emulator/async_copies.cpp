#include "cuda_emulator/async_copies.h"

#include <cstdint>
#include <cstring>
#include <utility>

#include "cuda_emulator/runtime.h"

namespace contrastive_ops::cuda::emulator {

void AsyncCopies::issue(void* shared, const void* global, bool valid) {
  shared_arena().check(shared, kBytes, "cp.async");
  const auto misaligned = [](const void* address) { return reinterpret_cast<uintptr_t>(address) % kBytes != 0; };
  if (misaligned(shared) || (valid && misaligned(global))) {
    fail("cp.async: an address is no multiple of 16 bytes");
  }
  Copy copy = {shared, {}};
  if (valid) {
    sanitizer::reads(global, kBytes);
    std::memcpy(copy.data, global, kBytes);
  }
  sanitizer::writes(shared, kBytes);
  sanitizer::poison(shared, kBytes);
  open_.push_back(copy);
}

void AsyncCopies::commit() {
  committed_.push_back(std::move(open_));
  open_.clear();
}

void AsyncCopies::wait(int pending) {
  while (static_cast<int>(committed_.size()) > pending) {
    for (const Copy& copy : committed_.front()) {
      sanitizer::writes(copy.shared, kBytes);
      std::memcpy(copy.shared, copy.data, kBytes);
    }
    committed_.pop_front();
  }
}

void AsyncCopies::clear() {
  committed_.clear();
  open_.clear();
}

}  // namespace contrastive_ops::cuda::emulator
