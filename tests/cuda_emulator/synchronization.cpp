#include "cuda_emulator/synchronization.h"

#include "cuda_emulator/runtime.h"

namespace contrastive_ops::cuda::emulator {

bool Collective::arrive(const char* name, void* mine) {
  const Thread& thread = current_thread();
  if (arrived_ > 0 && name != name_) {
    fail("this thread executes %s where others of its group execute %s", name, name_);
  }
  name_ = name;
  arguments_[thread.index - first_] = mine;
  if (++arrived_ == size_) return true;
  suspend(name);
  return false;
}

void Collective::sync(const char* name) {
  const sanitizer::Edge& edge = edges_[generation_ % 2];
  edge.release();
  int nothing = 0;
  run(name, nothing, [](int* const*) {});
  edge.acquire();
}

void Collective::finish() {
  arrived_ = 0;
  ++generation_;
  const int self = current_thread().index;
  for (int i = first_; i < first_ + size_; ++i) {
    if (i != self) make_ready(*current_block().threads[i]);
  }
}

void NamedBarrier::sync(const char* name, int threads) {
  const Thread& thread = current_thread();
  if (threads % kWarpSize != 0 || threads < kWarpSize || threads > static_cast<int>(current_block().threads.size())) {
    fail("no barrier of %d threads", threads);
  }
  if (arrived_ > 0 && threads != expected_) {
    fail("this thread meets %d threads at a barrier where others meet %d", threads, expected_);
  }
  expected_ = threads;
  arrived_lanes_[thread.warp] |= 1u << thread.lane;
  const sanitizer::Edge& edge = edges_[generation_ % 2];
  edge.release();
  if (++arrived_ == expected_) {
    for (int warp = 0; warp < kMaxWarps; ++warp) {
      if (arrived_lanes_[warp] != 0 && arrived_lanes_[warp] != 0xFFFFFFFFu) {
        fail("%s: only a part of warp %d meets the others", name, warp);
      }
    }
    for (int warp = 0; warp < kMaxWarps; ++warp) {
      for (int lane = 0; lane < kWarpSize && arrived_lanes_[warp] != 0; ++lane) {
        make_ready(*current_block().threads[warp * kWarpSize + lane]);
      }
      arrived_lanes_[warp] = 0;
    }
    arrived_ = 0;
    ++generation_;
  }
  suspend(name);
  edge.acquire();
}

}  // namespace contrastive_ops::cuda::emulator
