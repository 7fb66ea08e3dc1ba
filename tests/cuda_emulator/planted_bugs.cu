// Does the emulator notice? A small kernel, into which one fault at a time is planted: product = a b^T by mma.sync from
// double buffers that cp.async fills, and the sums of its rows through shared memory.
//
//   planted_bugs FAULT [rows cols depth]    exit status 0: right; 1: a wrong number; 2: an exception
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <vector>

#include "device.cuh"

namespace contrastive_ops::cuda {
namespace {

enum class Fault {
  kNone,
  kNoSyncAfterWait,
  kWaitAfterSync,
  kNoWait,
  kEarlyReuse,
  kWrongStep,
  kNoSyncInReduction,
  kUnwrittenShared,
  kSharedOutOfBounds,
  kSharedOverdraft,
  kSharedNotAllowed,
  kGlobalOutOfBounds,
  kDivergedSync,
  kDivergedWarp,
  kMixedWarp,
  kSyncOfTooMany,
  kEndlessLoop,
  kBankConflicts,
};

constexpr struct {
  const char* name;
  Fault fault;
} kFaults[] = {
    {"none", Fault::kNone},
    {"no sync after the wait", Fault::kNoSyncAfterWait},
    {"wait after the sync", Fault::kWaitAfterSync},
    {"no wait", Fault::kNoWait},
    {"buffer reused too early", Fault::kEarlyReuse},
    {"wrong step in depth", Fault::kWrongStep},
    {"no sync in the reduction", Fault::kNoSyncInReduction},
    {"shared element never written", Fault::kUnwrittenShared},
    {"shared index out of bounds", Fault::kSharedOutOfBounds},
    {"more shared memory than declared", Fault::kSharedOverdraft},
    {"more shared memory than allowed", Fault::kSharedNotAllowed},
    {"global read out of bounds", Fault::kGlobalOutOfBounds},
    {"some threads skip a sync", Fault::kDivergedSync},
    {"some lanes skip a shuffle", Fault::kDivergedWarp},
    {"lanes at different instructions", Fault::kMixedWarp},
    {"a named barrier waits for too many", Fault::kSyncOfTooMany},
    {"endless loop", Fault::kEndlessLoop},
    {"bank conflicts", Fault::kBankConflicts},
};

using Element = __nv_bfloat16;

struct Params {
  Fault fault;
  const Element *a, *b;  // [rows, depth], [cols, depth]; depth is a multiple of 8
  float* product;        // [rows, cols]
  float* row_sums;       // [rows, blocks along the columns]
  int rows, cols, depth;
};

constexpr int kThreads = 128, kWarpsN = 2;
constexpr int kBlockM = 32, kBlockN = 16, kBlockK = 32;
constexpr int kPitch = kBlockK + 8;  // elements from line to line in shared memory: 80 bytes, without bank conflicts
constexpr int kABuffer = kBlockM * kPitch, kBBuffer = kBlockN * kPitch;
constexpr int kSharedBytes =
    shared_bytes<Element>(2 * kABuffer) + shared_bytes<Element>(2 * kBBuffer) + shared_bytes<float>(kWarpsN * kBlockM);

// Lines line_start, line_start + 1, ... of matrix [lines, depth] from depth_start on; zeros beyond the ends.
template <int kLines>
__device__ void copy_lines(Element* buffer, const Element* matrix, int line_start, int lines, int depth_start,
                           int depth, int pitch) {
  constexpr int kChunk = 8, kChunks = kBlockK / kChunk;
  for (int i = threadIdx.x; i < kLines * kChunks; i += kThreads) {
    const int line = line_start + i / kChunks, k = depth_start + i % kChunks * kChunk;
    copy_async_16(buffer + i / kChunks * pitch + i % kChunks * kChunk, matrix + int64_t{line} * depth + k,
                  line < lines && k < depth);
  }
}

__global__ void product_kernel(const Params params) {
  const Fault fault = params.fault;
  SharedMemory shared;
  Element* const a_buffers = shared.take<Element>(2 * kABuffer);
  Element* const b_buffers = shared.take<Element>(2 * kBBuffer);
  float* const sums = shared.take<float>((fault == Fault::kSharedOverdraft ? 4 : 1) * kWarpsN * kBlockM);
  const int lane = threadIdx.x % 32, warp_m = threadIdx.x / 32 / kWarpsN, warp_n = threadIdx.x / 32 % kWarpsN;
  const int row_start = blockIdx.y * kBlockM, col_start = blockIdx.x * kBlockN;
  const int rows_known = fault == Fault::kGlobalOutOfBounds ? params.rows + 1 : params.rows;

  const int pitch = fault == Fault::kBankConflicts ? kBlockK : kPitch;

  const auto copy = [&](int step) {
    const int k = step * (fault == Fault::kWrongStep ? kBlockK - 8 : kBlockK);
    copy_lines<kBlockM>(a_buffers + step % 2 * kABuffer, params.a, row_start, rows_known, k, params.depth, pitch);
    copy_lines<kBlockN>(b_buffers + step % 2 * kBBuffer, params.b, col_start, params.cols, step * kBlockK, params.depth,
                        pitch);
  };
  const int steps = (params.depth + kBlockK - 1) / kBlockK;
  float c[4] = {};
  copy(0);
  commit_copies();
  for (int step = 0; step < steps; ++step) {
    if (step + 1 < steps) copy(step + 1);
    commit_copies();
    if (fault == Fault::kWaitAfterSync) sync_block();
    if (fault != Fault::kNoWait) wait_copies<1>();
    if (fault != Fault::kNoSyncAfterWait && fault != Fault::kWaitAfterSync) sync_block();
    // matrices of 8 x 8: a's are rows 0-7 and 8-15 at depth 0, then at depth 8; b's are depth 0, 8, 16, 24
    const Element* const a_row = a_buffers + step % 2 * kABuffer + (16 * warp_m + lane % 16) * pitch + lane / 16 * 8;
    const Element* const b_row = b_buffers + step % 2 * kBBuffer + (8 * warp_n + lane % 8) * pitch + lane / 8 * 8;
    uint32_t b[4];
    load_matrices(b, b_row);
    for (int half = 0; half < 2; ++half) {
      uint32_t a[4];
      load_matrices(a, a_row + 16 * half);
      multiply_add(c, a, {b[2 * half], b[2 * half + 1]}, Type<Element>());
    }
    if (fault == Fault::kDivergedSync && threadIdx.x == 77 && step == 0) continue;
    if (fault != Fault::kEarlyReuse) sync_block();  // all have read what the next copies overwrite
  }

  while (fault == Fault::kEndlessLoop) sync_warp();
  for (int h = 0; h < 2; ++h) {
    const int tile_row = 16 * warp_m + 8 * h + lane / 4, row = row_start + tile_row;
    const int col = col_start + 8 * warp_n + 2 * (lane % 4);
    for (int e = 0; e < 2; ++e) {
      if (row < params.rows && col + e < params.cols) params.product[row * params.cols + col + e] = c[2 * h + e];
    }
    float sum = c[2 * h] + c[2 * h + 1];
    if (fault == Fault::kMixedWarp && lane == 9) sync_warp();
    if (!(fault == Fault::kDivergedWarp && lane == 9)) {
      sum += shuffle_xor(sum, 1);
      sum += shuffle_xor(sum, 2);
    }
    const bool skipped = fault == Fault::kUnwrittenShared && tile_row == 7 && warp_n == 1;
    const int past_end = fault == Fault::kSharedOutOfBounds && tile_row == kBlockM - 1 ? 1 : 0;
    if (lane % 4 == 0 && !skipped) sums[warp_n * kBlockM + tile_row + past_end] = sum;
  }
  if (fault == Fault::kSyncOfTooMany && threadIdx.x < 64) sync_named(1, kThreads);
  if (fault != Fault::kNoSyncInReduction) sync_block();
  if (threadIdx.x < kBlockM && row_start + static_cast<int>(threadIdx.x) < params.rows) {
    params.row_sums[(row_start + threadIdx.x) * gridDim.x + blockIdx.x] =
        sums[threadIdx.x] + sums[kBlockM + threadIdx.x];
  }
}

// Zeros and small numbers of both signs, the same each time.
std::vector<Element> make_elements(int count, uint32_t seed) {
  std::vector<Element> elements(count);
  for (Element& element : elements) {
    seed = seed * 1664525u + 1013904223u;
    element = __float2bfloat16(static_cast<float>(seed >> 24) / 128.0f - 1.0f);
  }
  return elements;
}

// The distance that the order of the sums explains.
bool is_close(float value, double expected, int depth) { return std::fabs(value - expected) <= 1e-5 * (depth + 1); }

int run(Fault fault, int rows, int cols, int depth) {
  const std::vector<Element> a = make_elements(rows * depth, 1), b = make_elements(cols * depth, 2);
  const dim3 grid((cols + kBlockN - 1) / kBlockN, (rows + kBlockM - 1) / kBlockM);
  std::vector<float> product(rows * cols, NAN), row_sums(rows * grid.x, NAN);
  const Params params = {fault, a.data(), b.data(), product.data(), row_sums.data(), rows, cols, depth};
  Stream stream(nullptr);
  const SharedBytes shared = fault == Fault::kSharedNotAllowed ? SharedBytes(60 * 1024, 50 * 1024) : kSharedBytes;
  launch(product_kernel, grid, kThreads, shared, stream, params);
  for (int row = 0; row < rows; ++row) {
    double expected_sum = 0, sum = 0;
    for (int col = 0; col < cols; ++col) {
      double expected = 0;
      for (int k = 0; k < depth; ++k) {
        expected += double{__bfloat162float(a[row * depth + k])} * __bfloat162float(b[col * depth + k]);
      }
      if (!is_close(product[row * cols + col], expected, depth)) {
        std::printf("wrong: product[%d][%d] is %g, not %g\n", row, col, product[row * cols + col], expected);
        return 1;
      }
      expected_sum += expected;
    }
    for (unsigned i = 0; i < grid.x; ++i) sum += row_sums[row * grid.x + i];
    if (!is_close(static_cast<float>(sum), expected_sum, depth * cols)) {
      std::printf("wrong: the sum of row %d is %g, not %g\n", row, sum, expected_sum);
      return 1;
    }
  }
  return 0;
}

}  // namespace
}  // namespace contrastive_ops::cuda

int main(int argc, char** argv) {
  using namespace contrastive_ops::cuda;
  if (argc != 2 && argc != 5) return 3;
  const auto size = [&](int i, int standard) { return argc == 5 ? std::atoi(argv[i]) : standard; };
  for (const auto& [name, fault] : kFaults) {
    if (std::strcmp(name, argv[1]) != 0) continue;
    try {
      return run(fault, size(2, 70), size(3, 40), size(4, 136));
    } catch (const std::exception& error) {
      std::printf("exception: %s\n", error.what());
      return 2;
    }
  }
  std::printf("no fault is called %s\n", argv[1]);
  return 3;
}
