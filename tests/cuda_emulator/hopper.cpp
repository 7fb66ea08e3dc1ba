// Barriers in shared memory and TMA, read from the PTX manual apart from the kernels, and who takes part in wgmma.
#include "../../csrc/cuda/device.cuh"

#include <cstring>
#include <deque>
#include <stdexcept>
#include <string>
#include <vector>

#include "cuda_emulator/runtime.h"
#include "cuda_emulator/swizzle.h"

#ifdef CUDA_EMULATOR_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
}
#endif

namespace contrastive_ops::cuda {
namespace emulator {
namespace {

constexpr Barrier kBarrierMark = 0x6261'7272'6965'7221;
constexpr int kMostArrivals = (1 << 20) - 1, kMostBytes = (1 << 20) - 1;  // of a phase

struct BarrierState {
  const Barrier* barrier;
  int arrivals;  // of a phase
  int missing_arrivals;
  int64_t missing_bytes;
  uint32_t phase;          // how many have ended
  const Thread* unfenced;  // the thread that initialized it, until its fence
  sanitizer::Edge edges[2];

  // Of a phase: it orders nothing after the next one, which has the other parity.
  const sanitizer::Edge& edge(uint32_t phase_or_parity) const { return edges[phase_or_parity % 2]; }
};

// What TMA does counts as done by a thread of its own, which starts from what the issuing thread has done.
class Agent {
 public:
  Agent() {
#ifdef CUDA_EMULATOR_TSAN
    void* const issuer = __tsan_get_current_fiber();
    fiber_ = __tsan_create_fiber(0);
    __tsan_switch_to_fiber(fiber_, kInOrder);
    __tsan_switch_to_fiber(issuer, kWithoutOrder);
#endif
  }

  template <class Work>
  void run_and_end(const Work& work) const {
#ifdef CUDA_EMULATOR_TSAN
    void* const caller = __tsan_get_current_fiber();
    __tsan_switch_to_fiber(fiber_, kWithoutOrder);
    work();
    __tsan_switch_to_fiber(caller, kWithoutOrder);
    __tsan_destroy_fiber(fiber_);
#else
    work();
#endif
  }

 private:
#ifdef CUDA_EMULATOR_TSAN
  static constexpr unsigned kInOrder = 0, kWithoutOrder = 1;
  void* fiber_;
#endif
};

struct HopperBlock {
  std::deque<BarrierState> barriers;
  AsyncProducts products[kMaxWarps];
};

HopperBlock& current() { return current_block().state<HopperBlock>(); }

BarrierState& state_of(const Barrier* barrier) {
  for (BarrierState& state : current().barriers) {
    if (state.barrier == barrier) return state;
  }
  fail("mbarrier: not initialized");
}

// For the running thread's use.
BarrierState& use_barrier(const Barrier* barrier) {
  shared_arena().check(barrier, sizeof(Barrier), "mbarrier");
  sanitizer::reads(barrier, sizeof(Barrier));
  if (*barrier != kBarrierMark) fail("mbarrier: not initialized, or overwritten");
  return state_of(barrier);
}

void end_phase_if_complete(BarrierState& state) {
  if (state.missing_arrivals > 0 || state.missing_bytes != 0) return;
  ++state.phase;
  state.missing_arrivals = state.arrivals;
}

void arrive(const Barrier* barrier, int bytes) {
  BarrierState& state = use_barrier(barrier);
  if (state.missing_arrivals == 0) fail("mbarrier: more arrivals than its phase has");
  state.edge(state.phase).release();
  --state.missing_arrivals;
  state.missing_bytes += bytes;
  if (bytes < 0 || state.missing_bytes > kMostBytes) fail("mbarrier: more bytes expected than it can count");
  end_phase_if_complete(state);
}

struct Load {
  char* shared;
  TensorMap map;  // the kernel argument may be gone with its thread
  const Barrier* barrier;
  int x, y, z;
  uint32_t phase;
  Agent agent;

  int64_t bytes() const { return int64_t{map.box_lines} * map.box_width * map.element_bytes; }
};

// Zeros beyond the ends.
void copy_box(const Load& load) {
  const TensorMap& map = load.map;
  const int start = shared_arena().offset(load.shared);
  for (int i = 0; i < map.box_lines; ++i) {
    for (int j = 0; j < map.box_width; ++j) {
      const int64_t line = int64_t{load.y} + i, column = int64_t{load.x} + j;
      const bool inside =
          0 <= load.z && load.z < map.batch && 0 <= line && line < map.lines && 0 <= column && column < map.width;
      char* const target = shared_arena().at(swizzle_128(start + (i * map.box_width + j) * map.element_bytes));
      if (inside) {
        std::memcpy(target, map.data + load.z * map.batch_stride + line * map.line_stride + column * map.element_bytes,
                    map.element_bytes);
      } else {
        std::memset(target, 0, map.element_bytes);
      }
    }
  }
  sanitizer::writes(load.shared, load.bytes());
}

void finish(const Load& load) {
  BarrierState& state = state_of(load.barrier);
  if (state.phase != load.phase) fail("TMA: bytes arrive after their phase has ended: too few were expected");
  load.agent.run_and_end([&] {
    copy_box(load);
    state.edge(state.phase).release();
  });
  state.missing_bytes -= load.bytes();
  end_phase_if_complete(state);
}

AsyncProducts& current_products() { return current().products[current_thread().warp]; }

}  // namespace

void check_tensor_map(const TensorMap& map) {
  const auto demand = [](bool fine, const char* rule) {
    if (!fine) throw std::runtime_error(std::string("cuTensorMapEncodeTiled: ") + rule);
  };
  constexpr int64_t kMostSize = int64_t{1} << 32, kMostStride = int64_t{1} << 40;
  demand(reinterpret_cast<uintptr_t>(map.data) % 16 == 0, "the address must be a multiple of 16");
  for (const int64_t size : {map.width, map.lines, map.batch}) {
    demand(0 < size && size <= kMostSize, "sizes must be positive and at most 2^32");
  }
  for (const int64_t stride : {map.line_stride, map.batch_stride}) {
    demand(0 < stride && stride % 16 == 0 && stride < kMostStride, "strides must be multiples of 16 bytes below 2^40");
  }
  demand(0 < map.box_lines && map.box_lines <= 256, "boxes must have at most 256 lines");
  demand(map.box_width * map.element_bytes == 128, "the emulator knows lines of 128 bytes only");
}

void fence_products() { current_products().fence(); }

// The threads of a warpgroup execute it together, and then each warp its part.
void issue_product(const Product& product, float* d) {
  struct Arguments {
    const Product& product;
    float* d;
  } mine = {product, d};
  // one lane for all, so that a sanitizer's report is about that warp
  if (current_thread().lane == 0) AsyncProducts::announce(current_thread().warp, product);
  current_warpgroup().run("wgmma", mine, [](Arguments* const* all) {
    for (int i = 1; i < Block::kWarpgroupSize; ++i) {
      if (!(all[i]->product == all[0]->product)) fail("wgmma: the threads of a warpgroup disagree");
    }
    for (int first = 0; first < Block::kWarpgroupSize; first += kWarpSize) {
      float* lanes[kWarpSize];
      for (int lane = 0; lane < kWarpSize; ++lane) lanes[lane] = all[first + lane]->d;
      const int warp = current_thread().index / Block::kWarpgroupSize * 4 + first / kWarpSize;
      current().products[warp].issue(warp, all[0]->product, lanes);
    }
  });
}

void commit_products() {
  int nothing;
  current_warp().run("wgmma_commit", nothing, [](int* const*) { current_products().commit(); });
}

void wait_products(int pending) {
  if (current_thread().lane == 0) current_products().announce_finishing(pending);
  current_warp().run("wgmma_wait", pending, [](int* const* all) { current_products().wait(*all[0]); });
}

void set_register_count(int registers) {
  if (registers < 24 || registers > 256 || registers % 8 != 0) fail("setmaxnreg: takes multiples of 8 from 24 to 256");
  current_warpgroup().run("setmaxnreg", registers, [](int* const* all) {
    for (int i = 1; i < Block::kWarpgroupSize; ++i) {
      if (*all[i] != *all[0]) fail("setmaxnreg: the threads of a warpgroup disagree");
    }
  });
}

}  // namespace emulator

void barrier_init(Barrier* barrier, int arrivals) {
  using namespace emulator;
  if (arrivals < 1 || arrivals > kMostArrivals) fail("mbarrier: no such number of arrivals");
  shared_arena().check(barrier, sizeof(Barrier), "mbarrier.init");
  sanitizer::writes(barrier, sizeof(Barrier));
  std::memcpy(barrier, &kBarrierMark, sizeof(Barrier));
  current().barriers.push_front({barrier, arrivals, arrivals, 0, 0, &current_thread(), {}});
}

void fence_barrier_init() {
  using namespace emulator;
  for (BarrierState& state : current().barriers) {
    if (state.unfenced == &current_thread()) state.unfenced = nullptr;
  }
}

void barrier_arrive(Barrier* barrier) { emulator::arrive(barrier, 0); }

void barrier_arrive_expect(Barrier* barrier, int bytes) { emulator::arrive(barrier, bytes); }

void barrier_wait(Barrier* barrier, int parity) {
  using namespace emulator;
  const BarrierState& state = use_barrier(barrier);
  wait_until("barrier_wait", [&] { return static_cast<int>(state.phase % 2) != parity; });
  state.edge(parity).acquire();
}

void tma_load_3d(void* shared, const TensorMap* map, Barrier* barrier, int x, int y, int z) {
  using namespace emulator;
  const BarrierState& state = use_barrier(barrier);
  if (state.unfenced) fail("TMA: fence_barrier_init is missing after barrier_init");
  const Load load = {static_cast<char*>(shared), *map, barrier, x, y, z, state.phase, Agent()};
  if (shared_arena().offset(shared) % kSwizzlePeriod != 0) fail("TMA: a swizzled box must start at 1024 bytes");
  shared_arena().check(shared, load.bytes(), "TMA");
  sanitizer::poison(shared, load.bytes());
  defer([load] { finish(load); });
}

}  // namespace contrastive_ops::cuda
