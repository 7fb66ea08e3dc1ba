// Fibers: one stack per CUDA thread, all on one thread of the operating system.
#pragma once

#include <cstddef>

namespace contrastive_ops::cuda::emulator {

class Fiber {
 public:
  Fiber() = default;
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;
  ~Fiber();

  // Makes this fiber run entry(), which must not return, when it is next switched to. The stack is kept from one start
  // to the next; `color` staggers the stacks' tops, which would otherwise share few lines of the cache.
  void start(void (*entry)(), int color, const char* name);

  // Makes this the fiber of the caller's own stack.
  void adopt_caller();

  // Leaves this fiber, which runs, for another; returns when somebody switches back.
  void switch_to(Fiber& other);
  // The same without return: this fiber has ended.
  void end_with_switch_to(Fiber& other);

 private:
  void leave_for(Fiber& other, bool forever);
  static void enter();

  void* stack_pointer_ = nullptr;  // while it does not run
  char* stack_ = nullptr;          // lowest address of its own stack, a guard page
  const void* bottom_ = nullptr;   // usable stack, for AddressSanitizer
  size_t size_ = 0;
  // of the sanitizers
  [[maybe_unused]] void* fake_stack_ = nullptr;
  [[maybe_unused]] void* tsan_fiber_ = nullptr;
  void (*entry_)() = nullptr;
};

}  // namespace contrastive_ops::cuda::emulator
