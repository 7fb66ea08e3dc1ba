#include "cuda_emulator/runtime.h"

#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <stdexcept>

#include "cuda_emulator/statistics.h"

extern uint3 threadIdx, blockIdx;
extern dim3 blockDim, gridDim;

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace contrastive_ops::cuda::emulator {
namespace {

constexpr int64_t kMaxSwitches = 1 << 26;  // in one block: about a second; more is a thread that waits in a loop
constexpr int kMessageBytes = 1200;
constexpr int kMaxThreads = kMaxWarps * kWarpSize, kMaxSharedBytes = 227 * 1024;

struct Waiter {
  Thread* thread;
  bool (*condition)(const void*);
  const void* state;
};

// One launch at a time runs in a process.
struct Machine {
  Schedule schedule;
  SharedArena shared;
  std::array<Threads, sanitizer::kCrews> crews[kMaxWarps + 1];  // by warps; one after another takes a block of a launch
  Threads* crew = nullptr;                                      // of the running block
  std::unique_ptr<Block> block;
  const std::function<void()>* kernel = nullptr;
  Fiber host;
  Thread* current = nullptr;
  ReadyThreads ready;
  std::vector<Waiter> waiters;
  std::vector<std::function<void()>> deferred;
  int running = 0;  // threads that have not exited
  int64_t switches = 0;
  bool failed = false;
  char failure[kMessageBytes];
  // whose addresses order the host's work before a block, and one launch before the next
  char block_start, launch_end;

  // No std::exception_ptr: MemorySanitizer does not see what the library writes into one.
  void note_failure(const std::exception& error) {
    failed = true;
    std::snprintf(failure, sizeof(failure), "%s", error.what());
    sanitizer::release(&launch_end);
  }
};

std::unique_ptr<Machine> instance;  // made by the first launch

Machine& machine() { return *instance; }

// Its text is its own for the same reason.
class Failure : public std::runtime_error {
 public:
  explicit Failure(const char* text) : std::runtime_error("") { std::snprintf(text_, sizeof(text_), "%s", text); }
  const char* what() const noexcept override { return text_; }

 private:
  char text_[kMessageBytes];
};

// "threads 0-127 in sync_block; threads 128-255 exited"
class ThreadStates {
 public:
  explicit ThreadStates(const Threads& threads) {
    const int count = static_cast<int>(threads.size());
    for (int first = 0, end; first < count; first = end) {
      const char* const state = describe(*threads[first]);
      for (end = first + 1; end < count && describe(*threads[end]) == state;) ++end;
      append("%s", first > 0 ? "; " : "");
      end - first == 1 ? append("thread %d", first) : append("threads %d-%d", first, end - 1);
      append(state == kExited ? " %s" : " in %s", state);
    }
  }
  const char* text() const { return text_; }

 private:
  static constexpr int kBytes = 1000;

  static constexpr const char* kExited = "exited";

  static const char* describe(const Thread& thread) {
    return thread.exited ? kExited : thread.waits_for ? thread.waits_for : "its first instructions";
  }

  template <class... Arguments>
  void append(const char* format, Arguments... arguments) {
    if (used_ < kBytes) used_ += std::snprintf(text_ + used_, kBytes - used_, format, arguments...);
  }

  char text_[kBytes] = "";
  int used_ = 0;
};

bool wake_waiters(Machine& m) {
  bool any = false;
  for (size_t i = 0; i < m.waiters.size();) {
    if (!m.waiters[i].condition(m.waiters[i].state)) {
      ++i;
      continue;
    }
    m.ready.insert(m.waiters[i].thread->index);
    m.waiters[i] = m.waiters.back();
    m.waiters.pop_back();
    any = true;
  }
  return any;
}

bool do_deferred(Machine& m) {
  if (m.deferred.empty()) return false;
  const int i = m.schedule.choose(static_cast<int>(m.deferred.size()));
  const std::function<void()> action = std::move(m.deferred[i]);
  m.deferred.erase(m.deferred.begin() + i);
  action();
  return true;
}

// The next thread to run, or null if all have exited.
Thread* choose_next(Machine& m) {
  if (++m.switches > kMaxSwitches) {
    m.current = nullptr;
    fail("livelock: %s", ThreadStates(*m.crew).text());
  }
  if (!m.deferred.empty() && m.schedule.happens_now()) do_deferred(m);
  if (!m.waiters.empty() && m.schedule.happens_now()) wake_waiters(m);
  while (m.ready.empty()) {
    if (wake_waiters(m) || do_deferred(m)) continue;
    if (m.running == 0) return nullptr;
    m.current = nullptr;
    fail("deadlock: %s", ThreadStates(*m.crew).text());
  }
  return (*m.crew)[m.ready.take(m.schedule)].get();
}

// The fiber to go on with: the host's at the end and after a failure.
Fiber& next_fiber(Machine& m) {
  Thread* next = nullptr;
  try {
    if (!m.failed) next = choose_next(m);
  } catch (const std::exception& error) {
    m.note_failure(error);
  }
  if (!next) return m.host;
  m.current = next;
  threadIdx.x = next->index;
  return next->fiber;
}

void run_thread() {
  Machine& m = machine();
  Thread& thread = *m.current;
  sanitizer::acquire(&m.block_start);
  try {
    (*m.kernel)();
  } catch (const std::exception& error) {
    m.note_failure(error);
  }
  sanitizer::release(&m.launch_end);
  thread.exited = true;
  --m.running;
  thread.fiber.end_with_switch_to(next_fiber(m));
  std::abort();
}

Threads make_threads(int count) {
  Threads threads;
  for (int i = 0; i < count; ++i) {
    threads.push_back(std::make_unique<Thread>());
    threads[i]->index = i;
    threads[i]->warp = i / kWarpSize;
    threads[i]->lane = i % kWarpSize;
  }
  return threads;
}

void run_block(Machine& m, Threads& crew, dim3 index, int shared_bytes) {
  m.crew = &crew;
  blockIdx = {index.x, index.y, index.z};
  m.shared.start_block(shared_bytes);
  sanitizer::forget_edges();
  sanitizer::release(&m.block_start);
  m.block = std::make_unique<Block>(crew);
  m.running = static_cast<int>(crew.size());
  m.switches = 0;
  for (const auto& thread : crew) {
    thread->exited = false;
    thread->waits_for = nullptr;
    thread->copies.clear();
    char name[64] = "";
#ifdef CUDA_EMULATOR_TSAN
    std::snprintf(name, sizeof(name), "block (%u,%u,%u) thread %d", index.x, index.y, index.z, thread->index);
#endif
    thread->fiber.start(run_thread, thread->index, name);
    m.ready.insert(thread->index);
  }
  m.host.switch_to(next_fiber(m));
  m.current = nullptr;
  m.block.reset();
}

void check_launch(dim3 grid, int threads, int shared_bytes) {
  if (threads < kWarpSize || threads > kMaxThreads || threads % kWarpSize != 0) {
    fail("launch of blocks of %d threads: the emulator runs 1 to 32 whole warps", threads);
  }
  if (shared_bytes < 0 || shared_bytes > kMaxSharedBytes) {
    fail("launch with %d bytes of shared memory: no device has as much for a block", shared_bytes);
  }
  if (grid.x < 1 || grid.y < 1 || grid.z < 1 || grid.x > 0x7FFFFFFF || grid.y > 0xFFFF || grid.z > 0xFFFF) {
    fail("launch of %u x %u x %u blocks", grid.x, grid.y, grid.z);
  }
}

}  // namespace

Block::Block(const Threads& all) : threads(all) {
  const int count = static_cast<int>(all.size());
  for (int first = 0; first < count; first += kWarpSize) warps.emplace_back(first, kWarpSize);
  for (int first = 0; first + kWarpgroupSize <= count; first += kWarpgroupSize) {
    warpgroups.emplace_back(first, kWarpgroupSize);
  }
}

Thread& current_thread() { return *machine().current; }
Block& current_block() { return *machine().block; }
Collective& current_warp() { return current_block().warps[current_thread().warp]; }
Collective& current_warpgroup() {
  return current_block().warpgroups.at(current_thread().index / Block::kWarpgroupSize);
}
SharedArena& shared_arena() { return machine().shared; }

void suspend(const char* waits_for) {
  Machine& m = machine();
  Thread& thread = *m.current;
  thread.waits_for = waits_for;
  Fiber& next = next_fiber(m);
  if (&next != &thread.fiber) thread.fiber.switch_to(next);
}

void fail(const char* format, ...) {
  char text[kMessageBytes] = "";
  int used = 0;
  const Machine& m = machine();
  if (m.block) {
    used += std::snprintf(text, sizeof(text), "block (%u,%u,%u)%s", blockIdx.x, blockIdx.y, blockIdx.z,
                          m.current ? "" : ": ");
    if (m.current) used += std::snprintf(text + used, sizeof(text) - used, " thread %d: ", m.current->index);
  }
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text + used, sizeof(text) - used, format, arguments);
  va_end(arguments);
  throw Failure(text);
}

void make_ready(Thread& thread) { machine().ready.insert(thread.index); }

void wait_until_condition(const char* waits_for, bool (*condition)(const void*), const void* state) {
  machine().waiters.push_back({machine().current, condition, state});
  suspend(waits_for);
}

void defer(std::function<void()> action) { machine().deferred.push_back(std::move(action)); }

void launch_threads(dim3 grid, int threads, int shared_bytes, const std::function<void()>& kernel) {
  static std::mutex one_at_a_time;
  const std::lock_guard<std::mutex> lock(one_at_a_time);
  if (!instance) instance = std::make_unique<Machine>();
  check_launch(grid, threads, shared_bytes);
  Machine& m = machine();
  m.kernel = &kernel;
  m.host.adopt_caller();
  gridDim = grid;
  blockDim = dim3(threads);
  int blocks = 0;
  for (const int i : m.schedule.permutation(static_cast<int>(grid.x * grid.y * grid.z))) {
    Threads& crew = m.crews[threads / kWarpSize][blocks++ % sanitizer::kCrews];
    if (crew.empty()) crew = make_threads(threads);
    run_block(m, crew, dim3(i % grid.x, i / grid.x % grid.y, i / grid.x / grid.y), shared_bytes);
    if (!m.failed) continue;
    sanitizer::acquire(&m.launch_end);
    // the fibers are abandoned where they wait
    crew.clear();
    m.ready.clear();
    m.waiters.clear();
    m.deferred.clear();
    m.failed = false;
    throw Failure(m.failure);
  }
  sanitizer::acquire(&m.launch_end);
  static const bool kPrint = std::getenv("CUDA_EMULATOR_STATS") != nullptr;
  if (kPrint) {
    const Statistics& stats = statistics();
    std::fprintf(stderr, "ldmatrix: %lld calls, %lld reads, at most %d ways\n",
                 static_cast<long long>(stats.load_matrices), static_cast<long long>(stats.reads), stats.max_ways);
  }
}

}  // namespace contrastive_ops::cuda::emulator
