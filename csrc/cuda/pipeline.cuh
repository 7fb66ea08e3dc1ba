// The main loop of the portable path: boxes of both operands travel to shared memory kStages - 1 steps ahead of their
// products, and the first boxes of a tile while the tile before is in its epilogue.
#pragma once

#include "operand_box.cuh"
#include "warp_grid.cuh"

namespace contrastive_ops::cuda {

// Product_: the boxes of a step and how the warps multiply them, see mainloop_mma.cuh and mainloop_fma.cuh.
template <class Product_>
class PipelinedMainLoop : public WarpGrid<Product_> {
 public:
  using Product = Product_;
  using typename WarpGrid<Product>::Element;
  using typename WarpGrid<Product>::Acc;
  using WarpGrid<Product>::kThreads;
  using WarpGrid<Product>::warp_row;
  using WarpGrid<Product>::warp_col;
  static constexpr int kBlockK = Product::kBlockK, kMinBlocks = Product::kMinBlocks;

 private:
  using ABox = typename Product::ABox;
  using BBox = typename Product::BBox;
  static constexpr bool kATransposed = Product::kATransposed, kBTransposed = Product::kBTransposed;
  static constexpr int kStages = Product::kStages;

 public:
  static constexpr int kSharedBytes =
      shared_bytes<Element>(kStages * ABox::kSize) + shared_bytes<Element>(kStages * BBox::kSize);

  struct Operands {
    Operand<Element> a, b;
    int64_t depth;
    bool aligned;
  };

  static Operands make_operands(const OperandView& a, const OperandView& b, Stream&) {
    const Operand<Element> first(a), second(b);
    return {first, second, kATransposed ? a.lines : a.width, first.is_aligned() && second.is_aligned()};
  }

  __device__ __forceinline__ PipelinedMainLoop(SharedMemory& shared, const Operands& operands, int batch)
      : operands_(operands),
        a_boxes_(shared.take<Element>(kStages * ABox::kSize)),
        b_boxes_(shared.take<Element>(kStages * BBox::kSize)),
        a_(operands.a.data + batch * operands.a.batch_stride),
        b_(operands.b.data + batch * operands.b.batch_stride),
        steps_(static_cast<int>((operands.depth + kBlockK - 1) / kBlockK)) {}

  template <class Walk, class Epilogue>
  __device__ __forceinline__ void for_each_tile(Walk walk, Epilogue& epilogue) const {
    Tile tile;
    bool more = walk.next(tile);
    if (more) load_first(tile);
    while (more) {
      Acc acc;
      acc.clear();
      if (operands_.aligned) {
        multiply_tile<true>(tile, acc);
      } else {
        multiply_tile<false>(tile, acc);
      }
      const Tile finished = tile;
      more = walk.next(tile);
      if (more) {
        sync_block();  // other warps may still read what is loaded over
        load_first(tile);
      }
      epilogue(finished, acc);
    }
  }

 private:
  // The loads of one tile, step after step.
  class Loads {
   public:
    __device__ __forceinline__ Loads(const PipelinedMainLoop& loop, const Tile& tile, int64_t depth)
        : loop_(loop),
          a_(loop.operands_.a, loop.a_, kATransposed ? depth : tile.row_start, kATransposed ? tile.row_start : depth),
          b_(loop.operands_.b, loop.b_ + tile.bank * loop.operands_.b.bank_stride,
             kBTransposed ? depth : tile.col_start, kBTransposed ? tile.col_start : depth) {}

    // A group of copies, empty past the last step.
    template <bool kAligned>
    __device__ __forceinline__ void next(int step, int stage) {
      if (step < loop_.steps_) {
        a_.template load<kAligned>(loop_.a_boxes_ + stage * ABox::kSize);
        b_.template load<kAligned>(loop_.b_boxes_ + stage * BBox::kSize);
        kATransposed ? a_.next_lines() : a_.next_width();
        kBTransposed ? b_.next_lines() : b_.next_width();
      }
      commit_copies();
    }

   private:
    const PipelinedMainLoop& loop_;
    BoxLoader<Element, ABox, kThreads> a_;
    BoxLoader<Element, BBox, kThreads> b_;
  };

  __device__ __forceinline__ void load_first(const Tile& tile) const {
    Loads loads(*this, tile, 0);
    for (int step = 0; step < kStages - 1; ++step) {
      if (operands_.aligned) {
        loads.template next<true>(step, step);
      } else {
        loads.template next<false>(step, step);
      }
    }
  }

  template <bool kAligned>
  __device__ __forceinline__ void multiply_tile(const Tile& tile, Acc& acc) const {
    Loads loads(*this, tile, (kStages - 1) * kBlockK);
    int stage = 0, free_stage = kStages - 1;
#pragma unroll 1
    for (int step = 0; step < steps_; ++step) {
      wait_copies<kStages - 2>();
      sync_block();  // this step's boxes are there for all warps, and all warps are done with the step before
      loads.template next<kAligned>(step + kStages - 1, free_stage);
      Product::multiply(a_boxes_ + stage * ABox::kSize, b_boxes_ + stage * BBox::kSize, warp_row(), warp_col(), acc);
      free_stage = stage;
      stage = stage + 1 == kStages ? 0 : stage + 1;
    }
  }

  const Operands& operands_;
  Element *a_boxes_, *b_boxes_;
  const Element *a_, *b_;  // of this batch entry
  int steps_;
};

}  // namespace contrastive_ops::cuda
