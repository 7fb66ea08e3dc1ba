#include "cuda_emulator/sanitizers.h"

#ifdef CUDA_EMULATOR_TSAN
#include <sys/mman.h>

#include <cstdlib>
#include <new>

extern "C" {
void* contrastive_ops_memmove(void* to, const void* from, size_t bytes) {
  void* end = to;
  if (to <= from || to >= static_cast<const char*>(from) + bytes) {
    asm volatile("rep movsb" : "+D"(end), "+S"(from), "+c"(bytes)::"memory");
    return to;
  }
  end = static_cast<char*>(to) + bytes - 1;
  from = static_cast<const char*>(from) + bytes - 1;
  asm volatile("std; rep movsb; cld" : "+D"(end), "+S"(from), "+c"(bytes)::"memory");
  return to;
}
void* contrastive_ops_memset(void* to, int value, size_t bytes) {
  void* end = to;
  asm volatile("rep stosb" : "+D"(end), "+c"(bytes) : "a"(value) : "memory");
  return to;
}

void* __libc_malloc(size_t bytes);
void __libc_free(void* memory);
}

// ThreadSanitizer counts allocation as a write by the running thread: memory that the emulator allocates in one fiber
// and frees in another would be a race. It does not see the C library's own functions. Kernels allocate nothing.
void* operator new(size_t bytes) {
  if (void* const memory = __libc_malloc(bytes)) return memory;
  throw std::bad_alloc();
}
void operator delete(void* memory) noexcept { __libc_free(memory); }
void operator delete(void* memory, size_t) noexcept { __libc_free(memory); }

namespace contrastive_ops::cuda::emulator::sanitizer {
namespace {

constexpr size_t kEdgeBytes = 8, kMaxEdges = 1 << 12;  // ThreadSanitizer tells addresses apart by 8 bytes
char* edges = nullptr;                                 // addresses only
size_t used_edges = 0;

}  // namespace

Edge::Edge() {
  if (!edges) forget_edges();
  if (used_edges == kMaxEdges) std::abort();
  address_ = edges + kEdgeBytes * used_edges++;
}

void forget_edges() {
  if (edges) munmap(edges, kEdgeBytes * kMaxEdges);
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | (edges ? MAP_FIXED : 0);
  edges = static_cast<char*>(mmap(edges, kEdgeBytes * kMaxEdges, PROT_READ | PROT_WRITE, flags, -1, 0));
  used_edges = 0;
}

}  // namespace contrastive_ops::cuda::emulator::sanitizer
#endif
