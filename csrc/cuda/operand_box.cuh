// The part of an operand that a block multiplies at a time: from global memory, 16 bytes per thread and copy, into
// shared memory without bank conflicts.
#pragma once

#include "device.cuh"
#include "mainloop.h"

namespace contrastive_ops::cuda {

template <class T>
struct Operand {
  const T* data;
  int64_t batch_stride, bank_stride, line_stride;
  int64_t lines, width;

  Operand() = default;  // of a product that is not wanted
  explicit Operand(const OperandView& view)
      : data(static_cast<const T*>(view.data)),
        batch_stride(view.batch > 1 ? view.batch_stride : 0),
        bank_stride(view.bank_stride),
        line_stride(view.line_stride),
        lines(view.lines),
        width(view.width) {}

  // Whether no 16-byte chunk of a line is misaligned or only half inside.
  bool is_aligned() const {
    constexpr int64_t kChunk = 16 / sizeof(T);
    return reinterpret_cast<uintptr_t>(data) % 16 == 0 && batch_stride % kChunk == 0 && bank_stride % kChunk == 0 &&
           line_stride % kChunk == 0 && width % kChunk == 0;
  }
};

// [kLines][kWidth] in shared memory. Swizzled: chunk c of a line lies at c ^ swizzle(line), so that the same chunk of 8
// consecutive lines covers all banks.
template <class T, int kLines_, int kWidth_, bool kSwizzled_>
struct Box {
  static constexpr int kLines = kLines_, kWidth = kWidth_;
  static constexpr bool kSwizzled = kSwizzled_;
  static constexpr int kPerChunk = 16 / sizeof(T), kChunks = kWidth / kPerChunk;
  static constexpr int kSize = kLines * kWidth;
  // lines until the banks repeat, and lines that a swizzle serves before it changes
  static constexpr int kPeriod = 8, kShared = kChunks < kPeriod ? kPeriod / kChunks : 1;

  static __device__ __forceinline__ int swizzle(int line) { return kSwizzled ? line % kPeriod / kShared : 0; }

  // Element offset of a chunk.
  static __device__ __forceinline__ int offset(int line, int chunk) {
    return line * kWidth + (chunk ^ swizzle(line)) * kPerChunk;
  }
};

// A thread's share of loading boxes from `data`: the same chunk of every kLineStep-th line. Zeros beyond the ends.
template <class T, class Box, int kThreads>
class BoxLoader {
  static constexpr int kLineStep = kThreads / Box::kChunks, kCopies = Box::kLines / kLineStep;
  static_assert(kThreads % Box::kChunks == 0 && Box::kLines % kLineStep == 0, "equal shares");
  static_assert(!Box::kSwizzled || kLineStep % Box::kPeriod == 0, "one swizzle for all lines of a thread");

 public:
  __device__ __forceinline__ BoxLoader(const Operand<T>& operand, const T* data, int64_t first_line,
                                       int64_t first_element)
      : line_stride_(operand.line_stride) {
    const int line = threadIdx.x / Box::kChunks, chunk = threadIdx.x % Box::kChunks;
    const int64_t element = first_element + chunk * Box::kPerChunk;
    source_ = data + (first_line + line) * line_stride_ + element;
    lines_left_ = clamp(operand.lines - first_line - line);
    width_left_ = clamp(operand.width - element);
    offset_ = Box::offset(line, chunk);
  }

  template <bool kAligned>
  __device__ __forceinline__ void load(T* box) const {
    T* target = box + offset_;
#pragma unroll
    for (int i = 0; i < kCopies; ++i) {
      const bool in_lines = i * kLineStep < lines_left_;
      const T* source = source_ + i * kLineStep * line_stride_;
      if constexpr (kAligned) {
        copy_async_16(target + i * kLineStep * Box::kWidth, source, in_lines && width_left_ > 0);
      } else {
#pragma unroll
        for (int e = 0; e < Box::kPerChunk; ++e) {
          target[i * kLineStep * Box::kWidth + e] = in_lines && e < width_left_ ? source[e] : T{};
        }
      }
    }
  }

  __device__ __forceinline__ void next_lines() {
    source_ += Box::kLines * line_stride_;
    lines_left_ -= Box::kLines;
  }

  __device__ __forceinline__ void next_width() {
    source_ += Box::kWidth;
    width_left_ -= Box::kWidth;
  }

 private:
  static __device__ __forceinline__ int clamp(int64_t count) {
    constexpr int64_t kMost = 1 << 30;
    return static_cast<int>(count > kMost ? kMost : count < -kMost ? -kMost : count);
  }

  const T* source_;
  int64_t line_stride_;
  int lines_left_, width_left_;
  int offset_;
};

}  // namespace contrastive_ops::cuda
