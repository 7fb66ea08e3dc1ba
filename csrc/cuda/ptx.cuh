// What sm_80 and later have, as inline PTX.
#pragma once

#include <cuda_runtime.h>

#include <cmath>

namespace contrastive_ops::cuda {

// Every thread of the block; memory accesses before it are seen after it.
__device__ __forceinline__ void sync_block() { __syncthreads(); }

__device__ __forceinline__ void sync_warp() { __syncwarp(); }

// `threads` threads, whole warps, meet at barrier `id`, 1 to 15: barrier 0 is that of sync_block.
__device__ __forceinline__ void sync_named(int id, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

template <class T>
__device__ __forceinline__ T shuffle_xor(T value, int lane_mask) {
  return __shfl_xor_sync(0xFFFFFFFFu, value, lane_mask);
}

__device__ __forceinline__ uint32_t shared_address(const void* pointer) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
}

// 16 bytes from global to shared memory past the registers and L1; zeros, and no look at `global`, if not valid.
__device__ __forceinline__ void copy_async_16(void* shared, const void* global, bool valid) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(shared)), "l"(global),
               "r"(valid ? 16 : 0)
               : "memory");
}

// Closes a group of the copies that this thread has issued since the last one.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Waits until at most kPending of this thread's groups, the last ones, are unfinished. Others see the data after a
// sync_block.
template <int kPending>
__device__ __forceinline__ void wait_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}

// Four 8 x 8 matrices of 16-bit elements: lane l gives the address of row l % 8, 16 bytes, of matrix l / 8, and gets
// elements 2 * (l % 4) and 2 * (l % 4) + 1 of row l / 4 of every matrix.
__device__ __forceinline__ void load_matrices(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

// The same of the transposed matrices; the addresses stay those of rows in memory.
__device__ __forceinline__ void load_matrices_transposed(uint32_t (&r)[4], const void* shared_row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(shared_row))
               : "memory");
}

#define CONTRASTIVE_OPS_MULTIPLY_ADD(Element, type)                                                           \
  __device__ __forceinline__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], \
                                               Type<Element>) {                                               \
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." type "." type                                       \
                 ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"                       \
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])                                             \
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));                         \
  }
// c [16, 8] += a [16, 16] b [16, 8] by a warp, with g = lane / 4 and t = 2 * (lane % 4), elements in pairs t, t + 1:
// c: row g, row g + 8; a: row g, row g + 8, then the same 8 columns on; b: rows t and 8 rows on, of column g
CONTRASTIVE_OPS_MULTIPLY_ADD(__nv_bfloat16, "bf16")
CONTRASTIVE_OPS_MULTIPLY_ADD(__half, "f16")
#undef CONTRASTIVE_OPS_MULTIPLY_ADD

__device__ __forceinline__ float exponential(float x) {
  float result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(x * 1.4426950408889634f));
  return result;
}
__device__ __forceinline__ double exponential(double x) { return ::exp(x); }

__device__ __forceinline__ float square_root(float x) { return ::sqrtf(x); }
__device__ __forceinline__ double square_root(double x) { return ::sqrt(x); }

__device__ __forceinline__ float logarithm(float x) { return ::logf(x); }
__device__ __forceinline__ double logarithm(double x) { return ::log(x); }

// Arrays one after another in the dynamic shared memory, in the same order in all threads.
class SharedMemory {
 public:
  __device__ __forceinline__ SharedMemory() {
    extern __shared__ __align__(1024) unsigned char dynamic_shared_memory[];
    base_ = dynamic_shared_memory;
  }

  template <class T>
  __device__ __forceinline__ T* take(int64_t count, int alignment = 128) {
    used_ = (used_ + alignment - 1) / alignment * alignment;
    T* const array = reinterpret_cast<T*>(base_ + used_);
    used_ += shared_bytes<T>(count);
    return array;
  }

 private:
  unsigned char* base_;  // 1024-byte aligned
  int used_ = 0;
};

// A kernel is no function of the host.
template <class Params>
constexpr void (*kRunKernel)(const Launch&) = nullptr;

}  // namespace contrastive_ops::cuda
