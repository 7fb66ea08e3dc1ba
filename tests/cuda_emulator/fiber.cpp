#include "cuda_emulator/fiber.h"

#include <sys/mman.h>

#include <cstdint>
#include <stdexcept>

#include "cuda_emulator/sanitizers.h"

#if !defined(__x86_64__) || !defined(__linux__)
#error "the emulator's fibers are written for x86-64 and Linux: see README.md"
#endif

#ifdef CUDA_EMULATOR_TSAN
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_destroy_fiber(void* fiber);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_set_fiber_name(void* fiber, const char* name);
}
#endif

// void contrastive_ops_switch_stack(void** save_stack_pointer, void* stack_pointer): callee-saved registers go to the
// stack that is left and come from the one that is entered.
asm(R"(
.text
.p2align 4
.globl contrastive_ops_switch_stack
.hidden contrastive_ops_switch_stack
.type contrastive_ops_switch_stack, @function
contrastive_ops_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size contrastive_ops_switch_stack, .-contrastive_ops_switch_stack
.section .note.GNU-stack, "", @progbits
.text
)");
extern "C" void contrastive_ops_switch_stack(void** save_stack_pointer, void* stack_pointer);

namespace contrastive_ops::cuda::emulator {
namespace {

constexpr size_t kStackBytes = 256 * 1024, kGuardBytes = 4096, kSavedRegisters = 6;
constexpr int kColors = 32, kColorBytes = 128;

Fiber* left = nullptr;     // by the last switch
Fiber* entered = nullptr;  // by the last switch

char* map_memory(size_t bytes) {
  const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
  void* const memory = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
  if (memory == MAP_FAILED) throw std::runtime_error("no memory for the stacks of the emulator's fibers");
  return static_cast<char*>(memory);
}

}  // namespace

Fiber::~Fiber() {
  if (!stack_) return;
  sanitizer::allow(stack_, kStackBytes);
  munmap(stack_, kStackBytes);
#ifdef CUDA_EMULATOR_TSAN
  if (tsan_fiber_) __tsan_destroy_fiber(tsan_fiber_);
#endif
}

void Fiber::start(void (*entry)(), int color, [[maybe_unused]] const char* name) {
  if (!stack_) {
    stack_ = map_memory(kStackBytes);
    mprotect(stack_, kGuardBytes, PROT_NONE);
    bottom_ = stack_ + kGuardBytes;
    size_ = kStackBytes - kGuardBytes;
  }
  sanitizer::allow(bottom_, size_);  // what an abandoned or ended fiber left
#ifdef CUDA_EMULATOR_TSAN
  if (!tsan_fiber_) tsan_fiber_ = __tsan_create_fiber(0);
  __tsan_set_fiber_name(tsan_fiber_, name);
#endif
  entry_ = entry;
  fake_stack_ = nullptr;
  void** top = reinterpret_cast<void**>(stack_ + kStackBytes - color % kColors * kColorBytes);
  // As if enter() had been called: the stack pointer is 8 mod 16 in its first instruction, at a return address of 0.
  *--top = nullptr;
  *--top = reinterpret_cast<void*>(&Fiber::enter);
  for (size_t i = 0; i < kSavedRegisters; ++i) *--top = nullptr;
  stack_pointer_ = top;
}

void Fiber::adopt_caller() {
#ifdef CUDA_EMULATOR_TSAN
  tsan_fiber_ = __tsan_get_current_fiber();
#endif
}

void Fiber::switch_to(Fiber& other) { leave_for(other, false); }
void Fiber::end_with_switch_to(Fiber& other) { leave_for(other, true); }

void Fiber::leave_for(Fiber& other, [[maybe_unused]] bool forever) {
  left = this;
  entered = &other;
#ifdef CUDA_EMULATOR_ASAN
  __sanitizer_start_switch_fiber(forever ? nullptr : &fake_stack_, other.bottom_, other.size_);
#endif
#ifdef CUDA_EMULATOR_TSAN
  constexpr unsigned kWithoutOrder = 1;
  __tsan_switch_to_fiber(other.tsan_fiber_, kWithoutOrder);
#endif
  contrastive_ops_switch_stack(&stack_pointer_, other.stack_pointer_);
#ifdef CUDA_EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(fake_stack_, &left->bottom_, &left->size_);
#endif
}

void Fiber::enter() {
#ifdef CUDA_EMULATOR_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &left->bottom_, &left->size_);
#endif
  entered->entry_();
}

}  // namespace contrastive_ops::cuda::emulator
