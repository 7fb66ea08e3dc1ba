// How the threads of a block meet: to execute one instruction together, and at barriers.
#pragma once

#include <cstdint>
#include <vector>

#include "cuda_emulator/sanitizers.h"
#include "cuda_emulator/schedule.h"

namespace contrastive_ops::cuda::emulator {

// Threads first, ..., first + size - 1 that execute one instruction together, be it a warp or a warpgroup: the last to
// come does the work for all. It orders no memory accesses.
class Collective {
 public:
  Collective(int first, int size) : first_(first), size_(size), arguments_(size) {}

  // work(all): `all` are the threads' `mine` in their order. No thread returns before work has. `name` is a literal.
  template <class Arguments, class Work>
  void run(const char* name, Arguments& mine, const Work& work) {
    if (!arrive(name, &mine)) return;
    work(reinterpret_cast<Arguments* const*>(arguments_.data()));
    finish();
  }

  // The same with nothing to do but to order memory accesses: what the threads did before happens before what follows.
  void sync(const char* name);

 private:
  bool arrive(const char* name, void* mine);  // whether this thread is the last; the others wait in here
  void finish();

  int first_, size_;
  int arrived_ = 0;
  unsigned generation_ = 0;
  const char* name_ = nullptr;  // of the instruction that threads wait in
  std::vector<void*> arguments_;
  sanitizer::Edge edges_[2];  // one per parity of the generation: a thread cannot be two generations behind
};

// bar.sync: whole warps meet, and what they did before happens before what they do after.
class NamedBarrier {
 public:
  void sync(const char* name, int threads);

 private:
  int expected_ = 0, arrived_ = 0;
  unsigned generation_ = 0;
  uint32_t arrived_lanes_[kMaxWarps] = {};
  sanitizer::Edge edges_[2];  // as in Collective
};

}  // namespace contrastive_ops::cuda::emulator
