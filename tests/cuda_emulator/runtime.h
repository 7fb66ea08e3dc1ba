// The running block and its threads: what the software versions of instructions are written with. Kernels see device.h.
//
// Threads are fibers on one thread of the operating system; one runs until it waits for something. Whatever an
// instruction throws (fail) ends the launch, which throws it again.
#pragma once

#include <vector_types.h>

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <typeindex>
#include <utility>
#include <vector>

#include "cuda_emulator/async_copies.h"
#include "cuda_emulator/fiber.h"
#include "cuda_emulator/sanitizers.h"
#include "cuda_emulator/schedule.h"
#include "cuda_emulator/shared_memory.h"
#include "cuda_emulator/synchronization.h"

namespace contrastive_ops::cuda::emulator {

struct Thread {
  int index = 0;
  int warp = 0, lane = 0;
  bool exited = false;
  const char* waits_for = nullptr;  // what a report of a deadlock says
  AsyncCopies copies;
  Fiber fiber;
};

using Threads = std::vector<std::unique_ptr<Thread>>;

struct Block {
  static constexpr int kNamedBarriers = 16, kWarpgroupSize = 128;

  explicit Block(const Threads& threads);

  const Threads& threads;
  std::vector<Collective> warps, warpgroups;
  std::array<NamedBarrier, kNamedBarriers> barriers;

  // What other files keep about a block, made when first asked for.
  template <class State>
  State& state() {
    const std::type_index type = typeid(State);
    for (const auto& [of, state] : states_) {
      if (of == type) return *static_cast<State*>(state.get());
    }
    states_.emplace_back(type, std::make_shared<State>());
    return *static_cast<State*>(states_.back().second.get());
  }

 private:
  // no map, whose functions in the standard library MemorySanitizer does not know
  std::vector<std::pair<std::type_index, std::shared_ptr<void>>> states_;
};

// Of the thread that runs.
Thread& current_thread();
Block& current_block();
Collective& current_warp();
Collective& current_warpgroup();
SharedArena& shared_arena();

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
// run, and the first action first (forward) or last (reverse). It may not wait. All actions are done when the block
// ends.
void defer(std::function<void()> action);

// Throws std::runtime_error, with the names of the block and thread that run.
[[noreturn]] void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Runs kernel() in every thread of every block.
void launch_threads(dim3 grid, int threads, int shared_bytes, const std::function<void()>& kernel);

}  // namespace contrastive_ops::cuda::emulator
