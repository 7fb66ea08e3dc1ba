// The layouts of the kernels and of the emulator against CuTe's, an independent reading of the PTX manual: fragments of
// mma, ldmatrix and wgmma, the 128-byte swizzle of TMA, and wgmma's descriptors. Prints a line per comparison.
#include <cstdio>
#include <exception>
#include <functional>
#include <string>
#include <vector>

#include "../csrc/cuda/mainloop_wgmma.cuh"

// CuTe asks this for the addresses that it puts into descriptors.
#define CUTE_CVTA_GENERIC_TO_SHARED_ACTIVATED 1
inline size_t __cvta_generic_to_shared(const void* pointer) { return contrastive_ops::cuda::shared_address(pointer); }

#include <cute/atom/copy_traits_sm75.hpp>
#include <cute/atom/mma_traits_sm80.hpp>
#include <cute/atom/mma_traits_sm90_gmma.hpp>
#include <cute/tensor.hpp>

namespace contrastive_ops::cuda {
namespace {

using cute::Int;
using cute::Layout;
using cute::Shape;
using cute::Step;
using Bits = cute::bfloat16_t;  // CuTe's name of the type that the kernels call __nv_bfloat16
using Element = __nv_bfloat16;

constexpr int kDepth = 16;

int failures = 0;

void report(const std::string& name, bool same) {
  if (threadIdx.x != 0) return;
  std::printf("%s %s\n", same ? "same" : "DIFFERENT", name.c_str());
  failures += !same;
}

// Small integers, whose products and sums are exact.
float number(int i, int j) { return static_cast<float>((i * 7 + j * 13 + i * j % 5) % 11 - 5); }

uint32_t pair(float low, float high) {
  const Element values[2] = {Element(low), Element(high)};
  uint32_t bits;
  std::memcpy(&bits, values, sizeof(bits));
  return bits;
}

// A body that all threads of a block run.
struct Body {
  const std::function<void(SharedMemory&)>* run;
};
__global__ void body_kernel(const Body body) {
  SharedMemory shared;
  (*body.run)(shared);
}
void run_block(int threads, int bytes, const std::function<void(SharedMemory&)>& body) {
  Stream stream(nullptr);
  launch(body_kernel, dim3(1), threads, {bytes, 227 * 1024}, stream, Body{&body});
}

// Whether a condition holds in all threads: told by thread 0, after a barrier.
class AllThreads {
 public:
  void require(bool condition) { same_ = same_ && condition; }
  void report_as(const std::string& name) {
    sync_block();
    report(name, same_);
  }

 private:
  bool same_ = true;
};

// ---- mma.sync and ldmatrix

void compare_mma() {
  using Traits = cute::MMA_Traits<cute::SM80_16x8x16_F32BF16BF16F32_TN>;
  AllThreads product, accumulator;
  run_block(32, 0, [&](SharedMemory&) {
    const int thread = threadIdx.x;
    // [16, 16] and [8, 16], rows and columns first in CuTe's indices
    const auto a_value = [&](int v) { return Traits::ALayout{}(thread, v); };
    const auto b_value = [&](int v) { return Traits::BLayout{}(thread, v); };
    uint32_t a[4], b[2];
    for (int r = 0; r < 4; ++r) {
      const int first = a_value(2 * r), second = a_value(2 * r + 1);
      a[r] = pair(number(first % 16, first / 16), number(second % 16, second / 16));
    }
    for (int r = 0; r < 2; ++r) {
      const int first = b_value(2 * r), second = b_value(2 * r + 1);
      b[r] = pair(number(first % 8 + 50, first / 8), number(second % 8 + 50, second / 8));
    }
    float c[4] = {};
    multiply_add(c, a, b, Type<Element>{});
    using Acc = Accumulator<float, 1, 1, 16>;
    for (int v = 0; v < 4; ++v) {
      const int index = Traits::CLayout{}(thread, v), i = index % 16, j = index / 16;
      float wanted = 0;
      for (int k = 0; k < kDepth; ++k) wanted += number(i, k) * number(j + 50, k);
      product.require(c[v] == wanted);
      accumulator.require(Acc::row(v / 2) == i && Acc::col(v % 2) == j);
    }
    product.report_as("mma.m16n8k16: fragments of a, b and c");
    accumulator.report_as("mma.m16n8k16: Accumulator");
  });
}

template <class Traits>
void compare_ldmatrix(const char* name, bool transposed) {
  AllThreads same;
  run_block(32, shared_bytes<uint16_t>(32 * 8), [&](SharedMemory& shared) {
    uint16_t* const rows = shared.take<uint16_t>(32 * 8);  // one of 8 elements per thread
    const int thread = threadIdx.x;
    // CuTe gives the bit that a thread's source bit, or bit of its registers, is
    for (int e = 0; e < 8; ++e) rows[thread * 8 + e] = typename Traits::SrcLayout{}(thread, 16 * e) / 16;
    sync_block();
    uint32_t registers[4];
    transposed ? load_matrices_transposed(registers, rows + thread * 8) : load_matrices(registers, rows + thread * 8);
    for (int v = 0; v < 8; ++v) {
      const int found = registers[v / 2] >> 16 * (v % 2) & 0xFFFF;
      same.require(found == typename Traits::DstLayout{}(thread, 16 * v) / 16);
    }
    same.report_as(name);
  });
}

// ---- wgmma

template <bool kTransposed>
constexpr auto kMajor = kTransposed ? cute::SM90::GMMA::Major::MN : cute::SM90::GMMA::Major::K;

// CuTe's view of an operand [kExtent, 64] where the kernels keep it. Its atoms follow one another along the depth
// first.
template <bool kTransposed, int kExtent, int kDepth_>
auto cute_operand(Element* boxes) {
  using Atom = cute::SM90::GMMA::Layout_SW128_Atom<Bits, kMajor<kTransposed>>;
  const auto layout = cute::tile_to_shape(Atom{}, Shape<Int<kExtent>, Int<kDepth_>>{}, Step<Int<2>, Int<1>>{});
  return cute::make_tensor(cute::make_smem_ptr(reinterpret_cast<Bits*>(boxes)), layout);
}

// TMA's placement, and descriptors for parts of kPart rows or columns.
template <bool kTransposed, int kExtent, int kPart>
void compare_operand(const std::string& name) {
  constexpr int kStep = 64;
  using Operand = WgmmaOperand<Element, kTransposed, kExtent, kStep>;
  // wider than the box on every side
  constexpr int kLines = (kTransposed ? kStep : kExtent) + 24, kWidth = (kTransposed ? kExtent : kStep) + 72;
  std::vector<Element> matrix;
  for (int i = 0; i < kLines; ++i) {
    for (int j = 0; j < kWidth; ++j) matrix.push_back(Element(number(i, j)));
  }
  Stream stream(nullptr);
  const TensorMap map = Operand::map({matrix.data(), 1, 0, kLines, kWidth, kWidth}, stream);
  AllThreads placement, descriptors;
  constexpr int kBytes = shared_bytes<Element>(Operand::kSize, 1024) + shared_bytes<Barrier>(1);
  run_block(32, kBytes, [&](SharedMemory& shared) {
    Element* const boxes = shared.take<Element>(Operand::kSize, 1024);
    Barrier* const full = shared.take<Barrier>(1);
    constexpr int kStart = 8, kFirstDepth = 16;
    if (threadIdx.x == 0) {
      barrier_init(full, 1);
      fence_barrier_init();
      barrier_arrive_expect(full, Operand::kSize * sizeof(Element));
      Operand::load(boxes, map, full, kStart, kFirstDepth, 0);
    }
    sync_block();
    barrier_wait(full, 0);
    const auto tensor = cute_operand<kTransposed, kExtent, kStep>(boxes);
    for (int i = threadIdx.x; i < kExtent; i += 32) {
      for (int k = 0; k < kStep; ++k) {
        const int line = kTransposed ? kFirstDepth + k : kStart + i,
                  column = kTransposed ? kStart + i : kFirstDepth + k;
        placement.require(static_cast<float>(tensor(i, k)) == number(line, column));
      }
    }
    cute::for_each(cute::make_int_sequence<kExtent / kPart>{}, [&](auto part) {
      cute::for_each(cute::make_int_sequence<kStep / kDepth>{}, [&](auto k) {
        const auto tile = cute::local_tile(tensor, Shape<Int<kPart>, Int<kDepth>>{}, cute::make_coord(part, k));
        const uint64_t wanted = cute::SM90::GMMA::make_gmma_desc<kMajor<kTransposed>>(tile);
        const uint64_t found =
            Operand::descriptor(boxes) + part * (kPart / 64) * Operand::kExtentStep + k * Operand::kDepthStep;
        constexpr uint64_t kLeading = uint64_t{0x3FFF} << 16;  // of no use where there is one line of 64
        const uint64_t relevant = kTransposed && kPart == 64 ? ~kLeading : ~uint64_t{0};
        descriptors.require((found & relevant) == (wanted & relevant));
      });
    });
    placement.report_as("TMA: 128-byte swizzle, " + name);
    descriptors.report_as("wgmma: descriptors, " + name);
  });
}

// The emulator multiplies what CuTe has laid out and described.
template <int kN, bool kATransposed, bool kBTransposed, class Instruction>
void compare_wgmma(const std::string& name) {
  using Traits = cute::MMA_Traits<Instruction>;
  AllThreads product, accumulator;
  constexpr int kM = 64;
  const int bytes = shared_bytes<Element>(kM * 64, 1024) + shared_bytes<Element>(kN * 64, 1024);
  run_block(128, bytes, [&](SharedMemory& shared) {
    const auto a = cute_operand<kATransposed, kM, 64>(shared.take<Element>(kM * 64, 1024));
    const auto b = cute_operand<kBTransposed, kN, 64>(shared.take<Element>(kN * 64, 1024));
    const int thread = threadIdx.x;
    for (int k = 0; k < 64; ++k) {
      for (int i = thread; i < kM; i += 128) a(i, k) = Bits(number(i, k));
      for (int j = thread; j < kN; j += 128) b(j, k) = Bits(number(j + 50, k));
    }
    sync_block();
    float d[1][kN / 8][4] = {};
    wgmma_fence(d);
    cute::for_each(cute::make_int_sequence<64 / kDepth>{}, [&](auto k) {
      const auto a_tile = cute::local_tile(a, Shape<Int<kM>, Int<kDepth>>{}, cute::make_coord(Int<0>{}, k));
      const auto b_tile = cute::local_tile(b, Shape<Int<kN>, Int<kDepth>>{}, cute::make_coord(Int<0>{}, k));
      wgmma<kN, kATransposed, kBTransposed>(d[0], cute::SM90::GMMA::make_gmma_desc<kMajor<kATransposed>>(a_tile),
                                            cute::SM90::GMMA::make_gmma_desc<kMajor<kBTransposed>>(b_tile),
                                            Type<Element>{});
    });
    wgmma_commit();
    wgmma_wait<0>(d);
    using Acc = Accumulator<float, 1, kN / 8, 64>;
    for (int v = 0; v < kN / 2; ++v) {
      const int index = typename Traits::CLayout{}(thread, v), i = index % kM, j = index / kM;
      float wanted = 0;
      for (int k = 0; k < 64; ++k) wanted += number(i, k) * number(j + 50, k);
      product.require((&d[0][0][0])[v] == wanted);
      const int m = v / 2 % 2, n = v / 4 * 2 + v % 2;
      accumulator.require(thread / 32 * 16 + Acc::row(m) == i && Acc::col(n) == j);
    }
    product.report_as("wgmma: operands and accumulators, " + name);
    accumulator.report_as("wgmma: Accumulator, " + name);
  });
}

void compare_all() {
  compare_mma();
  compare_ldmatrix<cute::Copy_Traits<cute::SM75_U32x4_LDSM_N>>("ldmatrix.x4", false);
  compare_ldmatrix<cute::Copy_Traits<cute::SM75_U16x8_LDSM_T>>("ldmatrix.x4.trans", true);
  compare_operand<false, 128, 64>("a, K-major");
  compare_operand<true, 128, 64>("a, transposed");
  compare_operand<false, 128, 128>("b, K-major");
  compare_operand<true, 128, 128>("b, transposed");
  using namespace cute::SM90::GMMA;
  compare_wgmma<128, false, false, MMA_64x128x16_F32BF16BF16_SS<Major::K, Major::K>>("K-major");
  compare_wgmma<128, false, true, MMA_64x128x16_F32BF16BF16_SS<Major::K, Major::MN>>("b transposed");
  compare_wgmma<128, true, true, MMA_64x128x16_F32BF16BF16_SS<Major::MN, Major::MN>>("both transposed");
}

}  // namespace
}  // namespace contrastive_ops::cuda

int main() {
  try {
    contrastive_ops::cuda::compare_all();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 2;
  }
  return contrastive_ops::cuda::failures > 0;
}
