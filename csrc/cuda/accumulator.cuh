// The one register layout that every product ends in: that of mma m16n8 and of wgmma m64nN.
#pragma once

#include "device.cuh"
#include "mainloop.h"

namespace contrastive_ops::cuda {

__device__ __forceinline__ int lane() { return threadIdx.x % 32; }

// A warp's part of a tile is kRowFragments x kColFragments fragments of 16 x 8 (rows of fragments kRowStep apart). A
// thread sees it as kRows x kCols elements: its m-th row times its n-th column.
template <class T, int kRowFragments_, int kColFragments_, int kRowStep_>
struct Accumulator {
  using Value = T;
  static constexpr int kRowFragments = kRowFragments_, kColFragments = kColFragments_, kRowStep = kRowStep_;
  static constexpr int kRows = 2 * kRowFragments, kCols = 2 * kColFragments;

  T values[kRowFragments][kColFragments][4];

  __device__ __forceinline__ void clear() {
#pragma unroll
    for (int r = 0; r < kRowFragments; ++r) {
#pragma unroll
      for (int c = 0; c < kColFragments; ++c) {
#pragma unroll
        for (int i = 0; i < 4; ++i) values[r][c][i] = T(0);
      }
    }
  }

  __device__ __forceinline__ T& at(int m, int n) { return values[m / 2][n / 2][2 * (m % 2) + n % 2]; }

  // The thread's rows and columns, counted from the first it has: constants once loops are unrolled.
  static __host__ __device__ constexpr int row_offset(int m) { return m / 2 * kRowStep + m % 2 * 8; }
  static __host__ __device__ constexpr int col_offset(int n) { return n / 2 * 8 + n % 2; }

  // The same counted from the start of the warp's part.
  static __device__ __forceinline__ int row(int m) { return lane() / 4 + row_offset(m); }
  static __device__ __forceinline__ int col(int n) { return lane() % 4 * 2 + col_offset(n); }
};

// The first row and column of the matrix that the thread has of a tile.
template <class MainLoop>
__device__ __forceinline__ int thread_row(const Tile& tile) {
  return tile.row_start + MainLoop::warp_row() + MainLoop::Acc::row(0);
}
template <class MainLoop>
__device__ __forceinline__ int thread_col(const Tile& tile) {
  return tile.col_start + MainLoop::warp_col() + MainLoop::Acc::col(0);
}

}  // namespace contrastive_ops::cuda
