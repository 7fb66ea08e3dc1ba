// A small pipelined product on the Hopper instructions, into which a fault can be planted: hopper_faults FAULT runs it
// on the emulator, and exits with 1 after a wrong result, with 2 after the emulator's report.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <exception>
#include <vector>

#include "../csrc/cuda/mainloop_wgmma.cuh"

namespace contrastive_ops::cuda {
namespace {

constexpr int kM = 64, kN = 128, kDepth = 640, kStages = 2, kStep = 64;

enum Fault {
  kNone,
  kConsumerSkipsFull,
  kProducerSkipsEmpty,
  kWrongParity,
  kExpectTooLittle,
  kExpectTooMuch,
  kTooManyArrivals,
  kReleaseBeforeWait,
  kReadBeforeWait,
  kWriteBeforeWait,
  kWrongDepthStep,
  kUnswizzled,
  kWarpsDisagree,
  kNoBarrierFence,
  kNoBlockSync,
  kNoProductFence,
  kBarrierOverwritten,
  kOutOfBounds,
  kFaults
};
const char* const kNames[kFaults] = {
    "none",
    "consumer skips the full barrier",
    "producer skips the empty barrier",
    "wrong parity",
    "too few bytes expected",
    "too many bytes expected",
    "too many arrivals",
    "stage released before its products are finished",
    "accumulators read before the wait",
    "accumulators written before the wait",
    "wrong step in depth",
    "descriptor without swizzle",
    "warps of a warpgroup disagree",
    "no fence after the barriers' initialization",
    "no sync after the barriers' initialization",
    "no fence before the products",
    "barrier overwritten",
    "box beyond the end of shared memory",
};

using Element = __nv_bfloat16;
using A = WgmmaOperand<Element, false, kM, kStep>;
using B = WgmmaOperand<Element, false, kN, kStep>;

struct Params {
  TensorMap a, b;
  float* product;  // [kM, kN]
  Fault fault;
};

constexpr int kConsumers = 128, kThreads = kConsumers + 128;

// Warpgroup 0 multiplies; one thread of warpgroup 1 loads.
__global__ void product_kernel(const Params params) {
  SharedMemory shared;
  Element* const a_boxes = shared.take<Element>(kStages * A::kSize, 1024);
  Element* const b_boxes = shared.take<Element>(kStages * B::kSize, 1024);
  Barrier* const full = shared.take<Barrier>(kStages);
  Barrier* const empty = shared.take<Barrier>(kStages);
  const auto has = [&](Fault fault) { return params.fault == fault; };
  const int thread = threadIdx.x;

  if (thread == 0) {
    for (int stage = 0; stage < kStages; ++stage) {
      barrier_init(full + stage, 1);
      barrier_init(empty + stage, has(kTooManyArrivals) ? 3 : 4);
    }
    if (!has(kNoBarrierFence)) fence_barrier_init();
  }
  if (!has(kNoBlockSync)) sync_block();
  if (has(kBarrierOverwritten) && thread == 0) full[1] = 0;

  if (thread >= kConsumers) {
    lower_registers<24>();
    if (thread > kConsumers) return;
    for (int step = 0; step < kDepth / kStep; ++step) {
      const int stage = step % kStages, round = step / kStages % 2;
      if (!has(kProducerSkipsEmpty)) barrier_wait(empty + stage, round ^ 1);
      const int bytes = (A::kSize + B::kSize) * sizeof(Element);
      barrier_arrive_expect(full + stage, has(kExpectTooLittle) ? B::kSize * sizeof(Element)
                                          : has(kExpectTooMuch) ? bytes + 16
                                                                : bytes);
      A::load(a_boxes + stage * A::kSize, params.a, full + stage, 0, step * kStep, 0);
      B::load(b_boxes + (has(kOutOfBounds) ? stage + 1 : stage) * B::kSize, params.b, full + stage, 0, step * kStep, 0);
    }
    return;
  }

  raise_registers<240>();
  float d[1][kN / 8][4] = {};
  const auto release = [&](int stage) {
    if (thread % 32 == 0) barrier_arrive(empty + stage);
  };
  for (int step = 0; step < kDepth / kStep; ++step) {
    const int stage = step % kStages, round = step / kStages % 2;
    if (!has(kConsumerSkipsFull)) barrier_wait(full + stage, has(kWrongParity) ? round ^ 1 : round);
    uint64_t a = A::descriptor(a_boxes + stage * A::kSize), b = B::descriptor(b_boxes + stage * B::kSize);
    if (has(kWarpsDisagree)) a += thread / 32 % 2 * A::kDepthStep;
    if (has(kUnswizzled)) a &= ~(uint64_t{3} << 62);
    if (!has(kNoProductFence)) wgmma_fence(d);
    for (int k = 0; k < kStep / 16; ++k) {
      const int depth_step = has(kWrongDepthStep) ? 1 : A::kDepthStep;
      wgmma<kN, false, false>(d[0], a + k * depth_step, b + k * B::kDepthStep, Type<Element>{});
    }
    wgmma_commit();
    if (has(kReleaseBeforeWait)) release(stage);
    if (has(kWriteBeforeWait)) d[0][0][0] = 0;
    if (has(kReadBeforeWait) && step == kDepth / kStep - 1) break;
    wgmma_wait<0>(d);
    if (!has(kReleaseBeforeWait)) release(stage);
  }
  for (int c = 0; c < kN / 8; ++c) {
    for (int i = 0; i < 4; ++i) {
      const int row = thread / 32 * 16 + i / 2 * 8 + thread % 32 / 4, col = 8 * c + thread % 4 * 2 + i % 2;
      params.product[row * kN + col] = d[0][c][i];
    }
  }
  if (has(kReadBeforeWait)) wgmma_wait<0>(d);
}

std::vector<Element> random_elements(int count, unsigned seed) {
  std::vector<Element> elements;
  for (int i = 0; i < count; ++i) {
    seed = seed * 1664525 + 1013904223;
    elements.push_back(Element(static_cast<float>(seed >> 16) / 32768.0f - 1.0f));
  }
  return elements;
}

// Whether every sum is right; says which is not.
bool product_is_right(Fault fault) {
  const std::vector<Element> a = random_elements(kM * kDepth, 1), b = random_elements(kN * kDepth, 2);
  std::vector<float> product(kM * kN, 0.0f);
  Stream stream(nullptr);
  const Params params = {A::map({a.data(), 1, 0, kM, kDepth, kDepth}, stream),
                         B::map({b.data(), 1, 0, kN, kDepth, kDepth}, stream), product.data(), fault};
  constexpr int kBytes = shared_bytes<Element>(kStages * A::kSize, 1024) +
                         shared_bytes<Element>(kStages * B::kSize, 1024) + 2 * shared_bytes<Barrier>(kStages);
  launch(product_kernel, dim3(1), kThreads, kBytes, stream, params);
  for (int i = 0; i < kM; ++i) {
    for (int j = 0; j < kN; ++j) {
      double wanted = 0;
      for (int k = 0; k < kDepth; ++k) {
        wanted += static_cast<double>(static_cast<float>(a[i * kDepth + k])) * static_cast<float>(b[j * kDepth + k]);
      }
      if (!(std::fabs(product[i * kN + j] - wanted) < 1e-4)) {
        std::printf("wrong: product[%d][%d] is %g\n", i, j, product[i * kN + j]);
        return false;
      }
    }
  }
  return true;
}

}  // namespace
}  // namespace contrastive_ops::cuda

int main(int count, char** arguments) {
  using namespace contrastive_ops::cuda;
  for (int fault = 0; count == 2 && fault < kFaults; ++fault) {
    if (std::strcmp(arguments[1], kNames[fault]) != 0) continue;
    try {
      return product_is_right(static_cast<Fault>(fault)) ? 0 : 1;
    } catch (const std::exception& error) {
      std::printf("%s\n", error.what());
      return 2;
    }
  }
  std::printf("usage: hopper_faults FAULT\n");
  return 3;
}
