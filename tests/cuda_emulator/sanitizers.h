// What the sanitizers cannot see by themselves. Everything here is empty in a build without the sanitizer.
//
// ThreadSanitizer: the emulator's own sources are compiled without it, but with CUDA_EMULATOR_TSAN, so that only what
// the kernels do counts as theirs. Accesses that the emulator makes for a kernel are announced with reads() and
// writes(), the order that a barrier gives with an Edge. AddressSanitizer and MemorySanitizer see all.
#pragma once

#include <cstddef>
#include <cstring>

#if defined(__SANITIZE_ADDRESS__)
#define CUDA_EMULATOR_ASAN
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define CUDA_EMULATOR_ASAN
#endif
#if __has_feature(memory_sanitizer)
#define CUDA_EMULATOR_MSAN
#endif
#endif

#ifdef CUDA_EMULATOR_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef CUDA_EMULATOR_MSAN
#include <sanitizer/msan_interface.h>
#endif
#if defined(CUDA_EMULATOR_TSAN) && !defined(__SANITIZE_THREAD__)
// The emulator's own copies of memory, and its containers', are none of the running thread's: ThreadSanitizer does not
// see functions of these names.
extern "C" {
void* memcpy(void* to, const void* from, size_t bytes) noexcept __asm__("contrastive_ops_memmove");
void* memmove(void* to, const void* from, size_t bytes) noexcept __asm__("contrastive_ops_memmove");
void* memset(void* to, int value, size_t bytes) noexcept __asm__("contrastive_ops_memset");
}
#endif
#ifdef CUDA_EMULATOR_TSAN
extern "C" {
void __tsan_acquire(void* address);
void __tsan_release(void* address);
void __tsan_read_range(void* address, unsigned long bytes);
void __tsan_write_range(void* address, unsigned long bytes);
}
#endif

namespace contrastive_ops::cuda::emulator::sanitizer {

constexpr unsigned char kPoison = 0xFF;  // NaN in every floating-point type, -1 in the integers

// The running CUDA thread accesses memory.
inline void reads([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef CUDA_EMULATOR_TSAN
  __tsan_read_range(const_cast<void*>(memory), bytes);
#endif
#ifdef CUDA_EMULATOR_MSAN
  __msan_check_mem_is_initialized(memory, bytes);
#endif
}
inline void writes([[maybe_unused]] void* memory, [[maybe_unused]] size_t bytes) {
#ifdef CUDA_EMULATOR_TSAN
  __tsan_write_range(memory, bytes);
#endif
}

// What one thread did before release(edge) happens before what another does after acquire(edge): any address.
inline void release([[maybe_unused]] const void* edge) {
#ifdef CUDA_EMULATOR_TSAN
  __tsan_release(const_cast<void*>(edge));
#endif
}
inline void acquire([[maybe_unused]] const void* edge) {
#ifdef CUDA_EMULATOR_TSAN
  __tsan_acquire(const_cast<void*>(edge));
#endif
}

// An address of its own for that, within one block: forget_edges(), when the next one starts, keeps what is reused from
// ordering one block before another.
class Edge {
 public:
#ifdef CUDA_EMULATOR_TSAN
  Edge();
#endif
  void release() const { sanitizer::release(address_); }
  void acquire() const { sanitizer::acquire(address_); }

 private:
  const void* address_ = nullptr;
};
#ifdef CUDA_EMULATOR_TSAN
void forget_edges();
#else
inline void forget_edges() {}
#endif

// ThreadSanitizer takes milliseconds to make the threads of a block, so those of a launch serve the next one, which
// comes after it anyway. Within a launch each block has its own up to this number; then the first ones come again,
// ordered after what they did before.
#ifdef CUDA_EMULATOR_TSAN
constexpr int kCrews = 8;
#else
constexpr int kCrews = 1;
#endif

// Memory without a value: NaN to whoever reads it, uninitialized to MemorySanitizer.
inline void poison(void* memory, size_t bytes) {
  std::memset(memory, kPoison, bytes);
#ifdef CUDA_EMULATOR_MSAN
  __msan_poison(memory, bytes);
#endif
}

// Memory that belongs to nobody.
inline void forbid([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef CUDA_EMULATOR_ASAN
  __asan_poison_memory_region(memory, bytes);
#endif
}
inline void allow([[maybe_unused]] const void* memory, [[maybe_unused]] size_t bytes) {
#ifdef CUDA_EMULATOR_ASAN
  __asan_unpoison_memory_region(memory, bytes);
#endif
}

}  // namespace contrastive_ops::cuda::emulator::sanitizer
