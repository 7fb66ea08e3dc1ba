// bfloat16 and float16 on sm_90a: one warpgroup keeps a ring of boxes filled by TMA, the other multiplies them by
// wgmma. The producer runs along the walk ahead of the consumer: boxes of the next tile arrive during a tile's
// epilogue.
#pragma once

#include <type_traits>

#include "accumulator.cuh"
#include "mainloop.h"
#include "tensor_maps.h"

namespace contrastive_ops::cuda {

// One operand of the block's product, `kExtent` rows or columns of a tile times kDepth, as boxes of lines of 128 bytes:
// K-major in one box of kExtent lines, transposed in a box of kDepth lines for every 64 rows or columns.
template <class Element, bool kTransposed, int kExtent, int kDepth>
struct WgmmaOperand {
  static constexpr int kLine = 128 / sizeof(Element);  // elements
  static constexpr int kLines = kTransposed ? kDepth : kExtent;
  static constexpr int kBoxes = kTransposed ? kExtent / kLine : kDepth / kLine;
  static constexpr int kBoxSize = kLine * kLines, kSize = kBoxes * kBoxSize;
  static constexpr int kSwizzlePeriod = 1024;  // bytes: 8 lines
  static_assert(kDepth == kLine, "the depth of a step is one box");
  static_assert(kLines <= 256, "TMA's largest box");
  static_assert(!kTransposed || kLine == 64, "a box for every step of kExtentStep");

  // One entry that serves the whole batch.
  static bool is_shared(const OperandView& view) { return view.batch == 1 || view.batch_stride == 0; }

  static TensorMap map(const OperandView& view, Stream& stream) {
    const int64_t batch = is_shared(view) ? 1 : view.batch;
    const int64_t batch_stride = is_shared(view) ? view.line_stride * view.lines : view.batch_stride;
    constexpr DType kDType = std::is_same_v<Element, __half> ? DType::kFloat16 : DType::kBFloat16;
    return stream.tensor_maps().of(
        {kDType, view.data, batch, view.lines, view.width, batch_stride, view.line_stride, kLines, kLine});
  }

  static __device__ __forceinline__ void load(Element* boxes, const TensorMap& map, Barrier* full, int start, int depth,
                                              int batch) {
#pragma unroll
    for (int i = 0; i < kBoxes; ++i) {
      tma_load_3d(boxes + i * kBoxSize, &map, full, kTransposed ? start + i * kLine : depth,
                  kTransposed ? depth : start, batch);
    }
  }

  // wgmma's descriptor of the operand in `boxes`; all offsets count 16 bytes.
  //   K-major: stride from 8 lines to the next 8 lines; there is no leading offset within a swizzled line.
  //   Transposed: leading from 64 rows or columns to the next, stride from 8 lines of depth to the next.
  static __device__ __forceinline__ uint64_t descriptor(const Element* boxes) {
    constexpr uint64_t kSwizzle128 = 1;
    constexpr uint64_t kLeading = kTransposed ? kBoxSize * sizeof(Element) : 16;
    constexpr uint64_t kConstant = kSwizzle128 << 62 | uint64_t{kSwizzlePeriod / 16} << 32 | kLeading / 16 << 16;
    return kConstant | shared_address(boxes) / 16;
  }

  // What 16 in depth, 64 rows or columns, and the next stage add to a descriptor.
  static constexpr int kDepthStep = 16 * (kTransposed ? kLine : 1) * sizeof(Element) / 16;
  static constexpr int kExtentStep = 64 * kLine * sizeof(Element) / 16;
  static constexpr int kStageStep = kSize * sizeof(Element) / 16;
};

// One warpgroup multiplies a whole tile, so that two blocks fit on a multiprocessor: the tensor cores work for one of
// them during the epilogue of the other.
template <class Element_, bool kATransposed = false, bool kBTransposed = false>
class WgmmaMainLoop {
 public:
  using Element = Element_;
  using Stat = float;
  static constexpr int kBlockM = 128, kBlockN = 128, kBlockK = 64;
  static constexpr int kWarpsM = 4, kWarpsN = 1;
  static constexpr int kConsumerThreads = 128, kThreads = kConsumerThreads + 128, kMinBlocks = 2;
  using Acc = Accumulator<Stat, kBlockM / 64, kBlockN / 8, 64>;

 private:
  using A = WgmmaOperand<Element, kATransposed, kBlockM, kBlockK>;
  using B = WgmmaOperand<Element, kBTransposed, kBlockN, kBlockK>;
  static constexpr int kStages = 3;  // what shared memory holds

  // What the warpgroups of a block have at launch, the producer gives to the consumer.
  static constexpr int kLaunchRegisters = 65536 / (kThreads * kMinBlocks), kProducerRegisters = 24;
  static constexpr int kConsumerRegisters = 2 * kLaunchRegisters - kProducerRegisters;

 public:
  // the first array of a kernel, and so aligned without slack
  static constexpr int kSharedBytes =
      shared_bytes<Element>(kStages * (A::kSize + B::kSize)) + shared_bytes<Barrier>(2 * kStages);

  struct Operands {
    TensorMap a, b;
    bool a_shared, b_shared;  // by the whole batch
    int steps;                // in depth
  };

  static Operands make_operands(const OperandView& a, const OperandView& b, Stream& stream) {
    const int64_t depth = kATransposed ? a.lines : a.width;
    return {A::map(a, stream), B::map(b, stream), A::is_shared(a), B::is_shared(b),
            static_cast<int>((depth + kBlockK - 1) / kBlockK)};
  }

  __device__ __forceinline__ WgmmaMainLoop(SharedMemory& shared, const Operands& operands, int batch)
      : operands_(operands),
        batch_(batch),
        a_boxes_(shared.take<Element>(kStages * (A::kSize + B::kSize), A::kSwizzlePeriod)),
        b_boxes_(a_boxes_ + kStages * A::kSize),
        full_(shared.take<Barrier>(2 * kStages)),
        empty_(full_ + kStages) {
    if constexpr (kHasWgmma) init_barriers();
  }

  static __device__ __forceinline__ int thread() { return threadIdx.x; }
  static __device__ __forceinline__ int warp_m() { return threadIdx.x / 32; }
  static __device__ __forceinline__ int warp_n() { return 0; }
  static __device__ __forceinline__ int warp_row() { return warp_m() * 16; }
  static __device__ __forceinline__ int warp_col() { return 0; }
  static __device__ __forceinline__ void sync() {
    constexpr int kConsumers = 1;  // 0 is sync_block's
    sync_named(kConsumers, kConsumerThreads);
  }

  template <class Walk, class Epilogue>
  __device__ __forceinline__ void for_each_tile(Walk walk, Epilogue& epilogue) const {
    if constexpr (kHasWgmma) {
      if (threadIdx.x >= kConsumerThreads) {
        lower_registers<kProducerRegisters>();
        if (threadIdx.x == kConsumerThreads) produce(walk);
      } else {
        raise_registers<kConsumerRegisters>();
        consume(walk, epilogue);
      }
    }
  }

 private:
  __device__ __forceinline__ void init_barriers() const {
    if (threadIdx.x == 0) {
      for (int stage = 0; stage < kStages; ++stage) {
        barrier_init(full_ + stage, 1);
        barrier_init(empty_ + stage, kWarpsM);
      }
      fence_barrier_init();
    }
    sync_block();
  }

  // Where a thread is in the ring. A stage is full and empty once per round.
  struct Position {
    int stage = 0, round_parity = 0;

    __device__ __forceinline__ void advance() {
      if (++stage == kStages) {
        stage = 0;
        round_parity ^= 1;
      }
    }
  };

  template <class Walk>
  __device__ __forceinline__ void produce(Walk& walk) const {
    constexpr int kStageBytes = (A::kSize + B::kSize) * sizeof(Element);
    Position at;
    Tile tile;
    while (walk.next(tile)) {
      const int row_start = static_cast<int>(tile.row_start), col_start = static_cast<int>(tile.col_start);
#pragma unroll 1
      for (int step = 0; step < operands_.steps; ++step, at.advance()) {
        barrier_wait(empty_ + at.stage, at.round_parity ^ 1);
        Barrier* full = full_ + at.stage;
        barrier_arrive_expect(full, kStageBytes);
        A::load(a_boxes_ + at.stage * A::kSize, operands_.a, full, row_start, step * kBlockK,
                operands_.a_shared ? 0 : batch_);
        B::load(b_boxes_ + at.stage * B::kSize, operands_.b, full, col_start, step * kBlockK,
                operands_.b_shared ? 0 : batch_);
      }
    }
  }

  template <class Walk, class Epilogue>
  __device__ __forceinline__ void consume(Walk& walk, Epilogue& epilogue) const {
    Position at;
    Tile tile;
    while (walk.next(tile)) {
      Acc acc;
      acc.clear();
      multiply_tile(at, acc);
      epilogue(tile, acc);
    }
  }

  // The products of a step run while those of the step before finish: only then is its stage free.
  __device__ __forceinline__ void multiply_tile(Position& at, Acc& acc) const {
    const uint64_t a_first = A::descriptor(a_boxes_), b_first = B::descriptor(b_boxes_);
    int before = 0;
    pin_registers(acc.values);  // known zeros would be set again within the loop, which serializes the products
#pragma unroll 1
    for (int step = 0; step < operands_.steps; ++step) {
      barrier_wait(full_ + at.stage, at.round_parity);
      const uint64_t a = a_first + at.stage * A::kStageStep, b = b_first + at.stage * B::kStageStep;
      wgmma_fence(acc.values);
#pragma unroll
      for (int k = 0; k < kBlockK / 16; ++k) {
#pragma unroll
        for (int r = 0; r < Acc::kRowFragments; ++r) {
          wgmma<kBlockN, kATransposed, kBTransposed>(acc.values[r], a + r * A::kExtentStep + k * A::kDepthStep,
                                                     b + k * B::kDepthStep, Type<Element>{});
        }
      }
      wgmma_commit();
      wgmma_wait<1>(acc.values);
      if (step > 0) release(before);
      before = at.stage;
      at.advance();
    }
    wgmma_wait<0>(acc.values);
    if (operands_.steps > 0) release(before);
  }

  __device__ __forceinline__ void release(int stage) const {
    if (lane() == 0) barrier_arrive(empty_ + stage);
  }

  const Operands& operands_;
  int batch_;
  Element *a_boxes_, *b_boxes_;
  Barrier *full_, *empty_;  // [kStages]
};

}  // namespace contrastive_ops::cuda
