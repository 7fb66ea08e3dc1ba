// In which order a launch's blocks, and a block's threads, run: the hardware promises nothing, so tests try several.
//
// CUDA_EMULATOR_ORDER=forward (default): always the first of those that can run, which gets as far ahead as it can;
//                     reverse: always the last; random: any, repeatably by CUDA_EMULATOR_SEED (default 0).
#pragma once

#include <cstdint>
#include <vector>

namespace contrastive_ops::cuda::emulator {

constexpr int kWarpSize = 32;
constexpr int kMaxWarps = 32;

class Schedule {
 public:
  enum class Order { kForward, kReverse, kRandom };

  Schedule();  // from the environment

  // 0 ... count - 1 in the order to take them.
  std::vector<int> permutation(int count);

  // One of `count` things that wait.
  int choose(int count);

  // Whether something that can happen at any time happens now. Only in random order: it happens late in the others.
  bool happens_now() { return order_ == Order::kRandom && random() % 8 == 0; }

  // One of the bits set in `mask`.
  int choose_bit(uint32_t mask);

 private:
  uint64_t random();

  Order order_;
  uint64_t state_;
};

// The threads of a block that can run.
class ReadyThreads {
 public:
  bool empty() const { return warps_ == 0; }
  void insert(int thread) {
    warps_ |= 1u << thread / kWarpSize;
    lanes_[thread / kWarpSize] |= 1u << thread % kWarpSize;
  }
  int take(Schedule& schedule) {
    const int warp = schedule.choose_bit(warps_), lane = schedule.choose_bit(lanes_[warp]);
    lanes_[warp] &= ~(1u << lane);
    if (lanes_[warp] == 0) warps_ &= ~(1u << warp);
    return warp * kWarpSize + lane;
  }
  void clear() { *this = ReadyThreads(); }

 private:
  uint32_t warps_ = 0;
  uint32_t lanes_[kMaxWarps] = {};
};

}  // namespace contrastive_ops::cuda::emulator
