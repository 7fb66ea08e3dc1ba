// Products that the score pass has kept, read back in place of multiplying.
#pragma once

#include "product_matrix.cuh"
#include "warp_grid.cuh"

namespace contrastive_ops::cuda {

// Product: whose tile, threads and types are taken over.
template <class Product>
class KeptMainLoop : public WarpGrid<Product> {
 public:
  using typename WarpGrid<Product>::Stat;
  using typename WarpGrid<Product>::Acc;
  static constexpr int kMinBlocks = 2;
  static constexpr int kSharedBytes = 0;

  // [rows, cols], contiguous.
  struct Operands {
    const Stat* products;
    int64_t rows, cols;
  };

  __device__ __forceinline__ KeptMainLoop(SharedMemory&, const Operands& operands, int /*batch*/)
      : operands_(operands) {}

  template <class Walk, class Epilogue>
  __device__ __forceinline__ void for_each_tile(Walk walk, Epilogue& epilogue) const {
    const ProductMatrix<KeptMainLoop, const Stat> products(operands_.products, operands_.rows, operands_.cols);
    Tile tile;
    while (walk.next(tile)) {
      Acc acc;
      products.load(tile, acc);
      epilogue(tile, acc);
    }
  }

 private:
  const Operands& operands_;
};

}  // namespace contrastive_ops::cuda
