// Prints what the host code asks for at each launch that it can make, a line of tab-separated fields each:
//   type of the kernel's argument    threads of a block    blocks to fit on a multiprocessor    dynamic shared memory
// The binary code of a kernel knows its argument by name and its registers, but not these. Built by
// tests/cuda_compiled.py.
#include <cxxabi.h>

#include <cstdlib>
#include <iostream>
#include <typeinfo>

#include "../csrc/cuda/device.cuh"
#include "../csrc/cuda/mainloop.h"
#include "../csrc/cuda/runtime.h"

namespace contrastive_ops::cuda {

template <class Params>
constexpr int kMinBlocks = 1;
template <class MainLoop, class Params, class Tag>
constexpr int kMinBlocks<Arguments<MainLoop, Params, Tag>> = MainLoop::kMinBlocks;

template <class Params>
void record_launch(int threads, SharedBytes shared, const Params&) {
  char* name = abi::__cxa_demangle(typeid(Params).name(), nullptr, nullptr, nullptr);
  std::cout << name << '\t' << threads << '\t' << kMinBlocks<Params> << '\t' << shared.bytes << '\n';
  std::free(name);
}

// The emulator, of which we need the names alone, is not linked.
const Runtime& runtime() {
  static constexpr Runtime kNone = {nullptr, nullptr, nullptr, nullptr, [](void*, const BoxedTensor&) {}};
  return kNone;
}

}  // namespace contrastive_ops::cuda

// the kernels themselves are not named, and so need not be compiled
#define launch(kernel, grid, threads, shared_bytes, stream, params) record_launch(threads, shared_bytes, params)
#include "all_kernels.inc"  // every csrc/cuda/*.cu

int main() {
  using namespace contrastive_ops::cuda;
  using contrastive_ops::DType;
  using contrastive_ops::kMaxBanks;
  using contrastive_ops::ScoreKind;
  constexpr int64_t kSize = 1024, kD = 512;
  Stream stream(nullptr);
  static unsigned char data[1];  // only its address matters
  const Side side = {data, kSize, 0, kD};
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kBFloat16, DType::kFloat16}) {
    const bool is_half = dtype == DType::kBFloat16 || dtype == DType::kFloat16;
    if (!is_half) {
      merge_slots({dtype, 1, {}, kSize, 1}, stream);
      add_parts({dtype, nullptr, nullptr, kSize, 1}, stream);
    }
    finish_gradient({dtype, nullptr, nullptr, kSize, nullptr, nullptr}, stream);
    for (const Path path : {Path::kPortable, Path::kHopper}) {
      if (path == Path::kHopper && !is_half) continue;
      for (const int num_log_sum_exps :
           {1, 3}) {  // the usual reductions, and a list of which two blocks fit everywhere
        Matrix matrix = {};
        matrix.dtype = dtype, matrix.batch = 1, matrix.d = kD, matrix.rows = matrix.cols = side;
        matrix.num_reductions = num_log_sum_exps;  // the first of the kinds, that of zeros
        for (const ScoreKind score : {ScoreKind::kDot, ScoreKind::kVolume}) {
          if (score == ScoreKind::kVolume && path == Path::kHopper) continue;
          matrix.score.kind = score, matrix.banks = score == ScoreKind::kDot ? 1 : kMaxBanks;
          reduce_fwd(path, {matrix, {}, {}, nullptr, kSize, kSize, 1, 1, false}, stream);
          for (const void* kept : {static_cast<const void*>(nullptr), static_cast<const void*>(data)}) {
            if (kept && (path == Path::kHopper || score == ScoreKind::kVolume)) continue;
            macro_gradient_bwd(path, {matrix, kept, data, 0, kSize, {}, nullptr, 1.0, 0, 0, kSize, kSize}, stream);
          }
        }
      }
      macro_product_bwd(path, {dtype, data, kSize, kSize, kSize, kD, {data, kD, data}, {data, kD, data}}, stream);
    }
  }
}
