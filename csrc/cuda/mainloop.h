// What a main loop is given and what it hands out: a walk of tiles, the operands of their products, and the kernel's
// arguments. A main loop is a class
//
//   Element, Stat, Acc                          types of the embeddings, of all sums, and the accumulator's layout
//   kBlockM, kBlockN, kWarpsM, kWarpsN          sides of a tile, warps that share it along rows and along columns
//   kThreads, kConsumerThreads, kMinBlocks      of a block; blocks that should fit on a multiprocessor
//   kSharedBytes                                what its constructor takes from shared memory
//   Operands, make_operands(a, b, stream)       what it reads in the kernel, built on the host
//   MainLoop(shared, operands, batch)
//   for_each_tile(walk, epilogue)               epilogue(tile, acc) once per tile, by the consumer threads
//   thread(), warp_m(), warp_n()                of a consumer
//   warp_row(), warp_col()                      where the warp's part of a tile starts
//   sync()                                      barrier of the consumers
//
// and the kernels are written over it.
#pragma once

#include <cstdint>
#include <stdexcept>

namespace contrastive_ops::cuda {

// Lines are counted in 32 bits, which halves the registers of a walk; offsets in memory take 64.
struct Tile {
  int row_start, col_start;
  int bank = 0;  // of operand B
};

// [batch, lines, width] with unit stride in width. A product sums over the widths of both operands, or over the lines
// of one that is transposed in memory.
struct OperandView {
  const void* data;
  int64_t batch, batch_stride;
  int64_t lines, line_stride, width;
  int64_t bank_stride = 0;  // from bank to bank of an operand that has several
};

// Tag: tells apart the kernels that share the other two.
template <class MainLoop, class Params, class Tag = void>
struct Arguments {
  Params params;
  typename MainLoop::Operands operands;
};

// Sums of two sizes must fit into 32 bits.
inline void check_size(int64_t size) {
  if (size > int64_t{1} << 30) throw std::runtime_error("the CUDA kernels take at most 2^30 lines");
}

// Blocks of a grid that cover `size` lines.
inline unsigned blocks_along(int64_t size, int block) { return static_cast<unsigned>((size + block - 1) / block); }

}  // namespace contrastive_ops::cuda
