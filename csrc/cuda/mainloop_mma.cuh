// bfloat16 and float16: ldmatrix and mma.sync, sums in float32.
#pragma once

#include "pipeline.cuh"

namespace contrastive_ops::cuda {

// One operand of the warp's product: `extent` rows or columns of the tile from `start` on, as patches of 16 lines by
// 16 in depth. A patch is four 8 x 8 matrices, what a thread loads at once; lane l gives the address of line l % 8 of
// matrix l / 8. K-major operands hold the depth along the lines of their box; transposed ones hold it across them,
// and ldmatrix.trans turns the matrices.
template <class Box, bool kTransposed>
class MmaOperand {
 public:
  // The half of the patch, along the lines and in depth, that holds this lane's matrix.
  __device__ __forceinline__ MmaOperand(int start, int line_half, int depth_half)
      : first_(kTransposed ? Box::offset(8 * depth_half + lane() % 8, start / 8 + line_half)
                           : Box::offset(start + 8 * line_half + lane() % 8, depth_half)) {}

  // Moving within a line toggles bits of the swizzled chunk; moving across lines keeps it, as 16 is a multiple of the
  // swizzle's period.
  template <class T>
  __device__ __forceinline__ void load(uint32_t (&matrices)[4], const T* box, int line, int depth) const {
    if constexpr (kTransposed) {
      load_matrices_transposed(matrices, box + (first_ ^ line) + depth * Box::kWidth);
    } else {
      load_matrices(matrices, box + (first_ ^ depth) + line * Box::kWidth);
    }
  }

 private:
  int first_;
};

using MmaShape = BlockShape<128, 128, 2, 4, 2>;

template <class Element_, bool kATransposed_, bool kBTransposed_, class Shape = MmaShape>
struct MmaProduct : Shape {
  using Element = Element_;
  using Stat = float;
  static constexpr bool kATransposed = kATransposed_, kBTransposed = kBTransposed_;
  using Shape::kBlockM, Shape::kBlockN, Shape::kWarpsM, Shape::kWarpsN;
  static constexpr int kBlockK = 32, kStages = 3;
  using Acc = Accumulator<Stat, kBlockM / kWarpsM / 16, kBlockN / kWarpsN / 8, 16>;
  using ABox = Box<Element, kATransposed ? kBlockK : kBlockM, kATransposed ? kBlockM : kBlockK, true>;
  using BBox = Box<Element, kBTransposed ? kBlockK : kBlockN, kBTransposed ? kBlockN : kBlockK, true>;
  static_assert(Acc::kColFragments % 2 == 0, "a patch of B is two fragments");

  static __device__ __forceinline__ void multiply(const Element* a_box, const Element* b_box, int warp_row,
                                                  int warp_col, Acc& acc) {
    // mma's order of the matrices: lines before depth in A, depth before lines in B
    const MmaOperand<ABox, kATransposed> a(warp_row, lane() / 8 % 2, lane() / 16);
    const MmaOperand<BBox, kBTransposed> b(warp_col, lane() / 16, lane() / 8 % 2);
#pragma unroll
    for (int k = 0; k < kBlockK; k += 16) {
      uint32_t b_fragments[Acc::kColFragments][2];
#pragma unroll
      for (int c = 0; c < Acc::kColFragments; c += 2) {
        uint32_t matrices[4];
        b.load(matrices, b_box, 8 * c, k);
        b_fragments[c][0] = matrices[0];
        b_fragments[c][1] = matrices[1];
        b_fragments[c + 1][0] = matrices[2];
        b_fragments[c + 1][1] = matrices[3];
      }
#pragma unroll
      for (int r = 0; r < Acc::kRowFragments; ++r) {
        uint32_t a_fragment[4];
        a.load(a_fragment, a_box, 16 * r, k);
#pragma unroll
        for (int c = 0; c < Acc::kColFragments; ++c) {
          multiply_add(acc.values[r][c], a_fragment, b_fragments[c], Type<Element>{});
        }
      }
    }
  }
};

template <class Element, bool kATransposed = false, bool kBTransposed = false, class Shape = MmaShape>
using MmaMainLoop = PipelinedMainLoop<MmaProduct<Element, kATransposed, kBTransposed, Shape>>;

}  // namespace contrastive_ops::cuda
