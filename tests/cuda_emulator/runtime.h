// The running block and its threads: what the software versions of instructions are written with. Kernels see device.h.
//
// Threads are fibers on one thread of the operating system; one runs until it waits for something. Whatever an
// instruction throws ends the launch, which throws it again.
#pragma once

#include <vector_types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <typeindex>
#include <vector>

#include "cuda_emulator/async_copies.h"
#include "cuda_emulator/fiber.h"
#include "cuda_emulator/sanitizers.h"
#include "cuda_emulator/schedule.h"
#include "cuda_emulator/shared_memory.h"

namespace contrastive_ops::cuda::emulator {

struct Thread {
  int index = 0;
  int warp = 0, lane = 0;
  bool exited = false;
  const char* waits_for = nullptr;  // what a report of a deadlock says
  AsyncCopies copies;
  Fiber fiber;
};

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

struct Block {
  static constexpr int kNamedBarriers = 16, kWarpgroupSize = 128;

  explicit Block(const std::vector<std::unique_ptr<Thread>>& threads);

  const std::vector<std::unique_ptr<Thread>>& threads;
  std::vector<Collective> warps, warpgroups;
  std::array<NamedBarrier, kNamedBarriers> barriers;

  // What other files keep about a block, made when first asked for.
  template <class State>
  State& state() {
    std::shared_ptr<void>& found = states_[std::type_index(typeid(State))];
    if (!found) found = std::make_shared<State>();
    return *static_cast<State*>(found.get());
  }

 private:
  std::map<std::type_index, std::shared_ptr<void>> states_;
};

// Of the thread that runs.
Thread& current_thread();
Block& current_block();
Collective& current_warp();
Collective& current_warpgroup();
SharedArena& shared_arena();
Schedule& schedule();

// Lets others run until make_ready(this thread).
void suspend(const char* waits_for);
void make_ready(Thread& thread);

// Lets others run until condition(), which any of them may evaluate, holds. `waits_for` is a literal.
void wait_until_condition(const char* waits_for, bool (*condition)(const void*), const void* state);
template <class Condition>
void wait_until(const char* waits_for, const Condition& condition) {
  if (condition()) return;
  wait_until_condition(
      waits_for, [](const void* state) { return (*static_cast<const Condition*>(state))(); }, &condition);
}

// Has `action` done later by the hardware, as it were: at a random time in random order, otherwise when no thread can
// run, and the first action first (forward) or last (reverse). It may not wait; all actions are done when a launch
// ends.
void defer(std::function<void()> action);

// Throws std::runtime_error, with the names of the block and thread that run.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Runs kernel() in every thread of every block.
void launch_threads(dim3 grid, int threads, int shared_bytes, const std::function<void()>& kernel);

}  // namespace contrastive_ops::cuda::emulator
