// Runs every kernel of csrc/cuda on the emulator against sums in double: driver [fast|full|every] [portable|hopper].
// One line per case with the largest error, and a checksum of all outputs of each type, which no order of threads may
// change. Exits with 1 if an error is too large. "every": with the types that are the same code with other conversions.
#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdio>
#include <cstring>
#include <vector>

#include "cases.h"
#include "gradient.h"
#include "macro_blocks.h"
#include "score_pass.h"
#include "whole_pass.h"

namespace {

using namespace contrastive_ops;
using namespace contrastive_ops::cuda;

template <class T>
void run(const char* type_name, DType dtype, Path path, const std::vector<Case>& cases) {
  checksum = kNoChecksum;
  for (const Case& c : cases) {
    Problem<T> problem(c, path, dtype);
    ScorePass<T>(problem).run();
    fill_gradient(problem);
    MacroBlocks<T>(problem).run();
    if (c.batch > 1) WholePass<T>(problem).run();
    std::printf("%-8s %-24s B %lld M %lld N %lld D %lld  error %.2e  dS %.2e\n", type_name, c.name,
                static_cast<long long>(c.batch), static_cast<long long>(c.m), static_cast<long long>(c.n),
                static_cast<long long>(c.d), problem.worst, problem.worst_rounded);
  }
  std::printf("checksum of %s %016llx\n", type_name, static_cast<unsigned long long>(checksum));
}

}  // namespace

int main(int count, char** arguments) {
  const bool every = count > 1 && std::strcmp(arguments[1], "every") == 0;
  const bool full = every || (count > 1 && std::strcmp(arguments[1], "full") == 0);
  const bool hopper = count > 2 && std::strcmp(arguments[2], "hopper") == 0;
  const Path path = hopper ? Path::kHopper : Path::kPortable;
  const std::vector<Case> cases = make_cases(full, hopper);
  run<__nv_bfloat16>("bfloat16", DType::kBFloat16, path, cases);
  if (!hopper) run<float>("float32", DType::kFloat32, path, cases);
#ifndef CONTRASTIVE_CUDA_ONE_TYPE_A_LOOP
  if (every) run<__half>("float16", DType::kFloat16, path, cases);
  if (every && !hopper) run<double>("float64", DType::kFloat64, path, cases);
#endif
  std::printf("%s\n", failed ? "FAILED" : "passed");
  return failed;
}
