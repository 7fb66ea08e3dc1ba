#include "cuda_emulator/warp_operations.h"

#include <cstring>

#include "cuda_emulator/runtime.h"
#include "cuda_emulator/statistics.h"

namespace contrastive_ops::cuda::emulator {
namespace {

template <class T>
T exchange(T value, int lane_mask) {
  if (lane_mask < 0 || lane_mask >= kWarpSize) fail("shfl.sync: no lane is %d from another", lane_mask);
  struct Lane {
    T value;
    int lane_mask;
    T result;
  } mine = {value, lane_mask, T()};
  current_warp().run("shfl.sync", mine, [](Lane* const* lanes) {
    for (int lane = 0; lane < kWarpSize; ++lane) lanes[lane]->result = lanes[lane ^ lanes[lane]->lane_mask]->value;
  });
  return mine.result;
}

uint16_t low_half(uint32_t pair) { return static_cast<uint16_t>(pair); }
uint16_t high_half(uint32_t pair) { return static_cast<uint16_t>(pair >> 16); }

}  // namespace

float shuffle_xor(float value, int lane_mask) { return exchange(value, lane_mask); }
double shuffle_xor(double value, int lane_mask) { return exchange(value, lane_mask); }
int32_t shuffle_xor(int32_t value, int lane_mask) { return exchange(value, lane_mask); }

void load_matrices(uint32_t (&r)[4], const void* shared_row, bool transposed) {
  constexpr int kMatrices = 4, kSide = 8, kRowBytes = 16;
  struct Lane {
    void* row;
    bool transposed;
    uint16_t elements[kSide];  // of its row
    uint32_t (&r)[kMatrices];
  } mine = {const_cast<void*>(shared_row), transposed, {}, r};
  shared_arena().check(shared_row, kRowBytes, "ldmatrix");
  if (reinterpret_cast<uintptr_t>(shared_row) % kRowBytes != 0) {
    fail("ldmatrix: an address is no multiple of 16 bytes");
  }
  // each lane reads its own row: a sanitizer's report is about that thread
  sanitizer::reads(shared_row, kRowBytes);
  std::memcpy(mine.elements, shared_row, kRowBytes);
  current_warp().run("ldmatrix", mine, [](Lane* const* lanes) {
    Statistics& stats = statistics();
    ++stats.load_matrices;
    for (int matrix = 0; matrix < kMatrices; ++matrix) {
      Lane* const* const rows = lanes + kSide * matrix;
      void* addresses[kSide];
      for (int i = 0; i < kSide; ++i) addresses[i] = rows[i]->row;
      stats.count_matrix(addresses);
      for (int lane = 0; lane < kWarpSize; ++lane) {
        const int i = lane / 4, j = lane % 4 * 2;
        const bool swap = lanes[lane]->transposed;
        const uint32_t first = swap ? rows[j]->elements[i] : rows[i]->elements[j];
        const uint32_t second = swap ? rows[j + 1]->elements[i] : rows[i]->elements[j + 1];
        lanes[lane]->r[matrix] = first | second << 16;
      }
    }
  });
}

void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], float (*widen)(uint16_t)) {
  constexpr int kM = 16, kN = 8, kK = 16;
  struct Lane {
    float (&c)[4];
    const uint32_t (&a)[4];
    const uint32_t (&b)[2];
    float (*widen)(uint16_t);
  } mine = {c, a, b, widen};
  current_warp().run("mma.sync", mine, [](Lane* const* lanes) {
    float a[kM][kK], b[kK][kN];
    for (int lane = 0; lane < kWarpSize; ++lane) {
      const Lane& mine = *lanes[lane];
      const int group = lane / 4, pair = lane % 4 * 2;
      for (int i = 0; i < 4; ++i) {  // 8 rows on, then 8 columns on
        float* const elements = &a[group + i % 2 * 8][pair + i / 2 * 8];
        elements[0] = mine.widen(low_half(mine.a[i]));
        elements[1] = mine.widen(high_half(mine.a[i]));
      }
      for (int i = 0; i < 2; ++i) {
        b[pair + 8 * i][group] = mine.widen(low_half(mine.b[i]));
        b[pair + 8 * i + 1][group] = mine.widen(high_half(mine.b[i]));
      }
    }
    for (int m = 0; m < kM; ++m) {
      float sums[kN] = {};
      for (int k = 0; k < kK; ++k) {
        for (int n = 0; n < kN; ++n) sums[n] += a[m][k] * b[k][n];
      }
      for (int n = 0; n < kN; ++n) lanes[m % 8 * 4 + n / 2]->c[m / 8 * 2 + n % 2] += sums[n];
    }
  });
}

}  // namespace contrastive_ops::cuda::emulator
