// What sm_90a adds, as inline PTX: barriers in shared memory, the tensor memory accelerator (TMA) and the asynchronous
// products of a warpgroup (wgmma). Both read and write shared memory on their own, in the asynchronous proxy.
#pragma once

#include <cuda.h>
#include <cuda_runtime.h>

#include <cstdint>

namespace contrastive_ops::cuda {

// Only code for sm_90a has these instructions. What is compiled for other architectures is never launched.
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
constexpr bool kHasWgmma = false;
#else
constexpr bool kHasWgmma = true;
#endif

// mbarrier: a phase ends when all arrivals and all announced bytes are in.
using Barrier = uint64_t;

__device__ __forceinline__ void barrier_init(Barrier* barrier, int arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(barrier)), "r"(arrivals) : "memory");
}

// Shows the thread's new barriers to TMA; the threads of the block need a barrier of their own.
__device__ __forceinline__ void fence_barrier_init() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

__device__ __forceinline__ void barrier_arrive(Barrier* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(barrier)) : "memory");
}

// Arrives and announces bytes that TMA will bring in this phase.
__device__ __forceinline__ void barrier_arrive_expect(Barrier* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(barrier)), "r"(bytes)
               : "memory");
}

// Waits for the end of the phase of this parity: 0, 1, 0, ... A new barrier passes a wait for parity 1.
__device__ __forceinline__ void barrier_wait(Barrier* barrier, int parity) {
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1;\n"
      "@!done bra again;\n"
      "}\n" ::"r"(shared_address(barrier)),
      "r"(parity)
      : "memory");
}

using TensorMap = CUtensorMap;

// One thread loads a box whose first element is (x, y, z) = (width, line, batch): its bytes, all of the box, count on
// the barrier. `map` is a kernel parameter.
__device__ __forceinline__ void tma_load_3d(void* shared, const TensorMap* map, Barrier* barrier, int x, int y, int z) {
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::
          "r"(shared_address(shared)),
      "l"(map), "r"(shared_address(barrier)), "r"(x), "r"(y), "r"(z)
      : "memory");
}

// The compiler knows nothing of the time between wgmma and wgmma_wait: this keeps it from moving registers there.
template <int kRows, int kCols>
__device__ __forceinline__ void pin_registers(float (&d)[kRows][kCols][4]) {
#pragma unroll
  for (int r = 0; r < kRows; ++r) {
#pragma unroll
    for (int c = 0; c < kCols; ++c) {
      asm volatile("" : "+f"(d[r][c][0]), "+f"(d[r][c][1]), "+f"(d[r][c][2]), "+f"(d[r][c][3])::"memory");
    }
  }
}

// Orders what the warpgroup did to the registers of d before the products that follow.
template <int kRows, int kCols>
__device__ __forceinline__ void wgmma_fence(float (&d)[kRows][kCols][4]) {
  pin_registers(d);
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}

__device__ __forceinline__ void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }

// Waits until at most kPending of the committed groups, which add to d, are unfinished.
template <int kPending, int kRows, int kCols>
__device__ __forceinline__ void wgmma_wait(float (&d)[kRows][kCols][4]) {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
  pin_registers(d);
}

#define CONTRASTIVE_OPS_REGISTERS(c) "+f"(d[c][0]), "+f"(d[c][1]), "+f"(d[c][2]), "+f"(d[c][3])
#define CONTRASTIVE_OPS_WGMMA(Element, type)                                                                     \
  template <int kN, bool kATransposed, bool kBTransposed>                                                        \
  __device__ __forceinline__ void wgmma(float (&d)[kN / 8][4], uint64_t a_descriptor, uint64_t b_descriptor,     \
                                        Type<Element>) {                                                         \
    static_assert(kN == 128);                                                                                    \
    asm volatile(                                                                                                \
        "wgmma.mma_async.sync.aligned.m64n128k16.f32." type "." type                                             \
        " {%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, %16, %17, %18, %19, %20, %21, " \
        "%22, %23, %24, %25, %26, %27, %28, %29, %30, %31, %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, "   \
        "%42, %43, %44, %45, %46, %47, %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, "   \
        "%62, %63}, %64, %65, 1, 1, 1, %66, %67;"                                                                \
        : CONTRASTIVE_OPS_REGISTERS(0), CONTRASTIVE_OPS_REGISTERS(1), CONTRASTIVE_OPS_REGISTERS(2),              \
          CONTRASTIVE_OPS_REGISTERS(3), CONTRASTIVE_OPS_REGISTERS(4), CONTRASTIVE_OPS_REGISTERS(5),              \
          CONTRASTIVE_OPS_REGISTERS(6), CONTRASTIVE_OPS_REGISTERS(7), CONTRASTIVE_OPS_REGISTERS(8),              \
          CONTRASTIVE_OPS_REGISTERS(9), CONTRASTIVE_OPS_REGISTERS(10), CONTRASTIVE_OPS_REGISTERS(11),            \
          CONTRASTIVE_OPS_REGISTERS(12), CONTRASTIVE_OPS_REGISTERS(13), CONTRASTIVE_OPS_REGISTERS(14),           \
          CONTRASTIVE_OPS_REGISTERS(15)                                                                          \
        : "l"(a_descriptor), "l"(b_descriptor), "n"(kATransposed), "n"(kBTransposed));                           \
  }
// d [64, kN] += a [64, 16] b [16, kN] by a warpgroup, from shared memory. Element d[c][2 * h + e] of a thread is row
// 16 * warp + 8 * h + lane / 4 and column 8 * c + 2 * (lane % 4) + e. Until wgmma_wait, the registers are not to be
// touched and the memory is not to be written. Operands are K-major: depth is contiguous; transposed: rows or columns.
CONTRASTIVE_OPS_WGMMA(__nv_bfloat16, "bf16")
CONTRASTIVE_OPS_WGMMA(__half, "f16")
#undef CONTRASTIVE_OPS_WGMMA
#undef CONTRASTIVE_OPS_REGISTERS

// The registers of each thread of this warpgroup from here on: taken from, or given to, what the block has.
template <int kRegisters>
__device__ __forceinline__ void raise_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

template <int kRegisters>
__device__ __forceinline__ void lower_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace contrastive_ops::cuda
