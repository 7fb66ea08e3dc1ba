// Runs every kernel of csrc/cuda on the emulator against sums in double: driver [fast|full] [portable|hopper]. One line
// per case with the largest error, and a checksum of all outputs, which no order of threads may change. Exits with 1 if
// an error is too large.
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
}

}  // namespace

int main(int count, char** arguments) {
  const bool full = count > 1 && std::strcmp(arguments[1], "full") == 0;
  const bool hopper = count > 2 && std::strcmp(arguments[2], "hopper") == 0;
  const Path path = hopper ? Path::kHopper : Path::kPortable;
  const std::vector<Case> cases = make_cases(full, hopper);
  // the others are the same code with other conversions, which a sanitizer does not see
  run<__nv_bfloat16>("bfloat16", DType::kBFloat16, path, cases);
  if (!hopper) run<float>("float32", DType::kFloat32, path, cases);
  if (full) run<__half>("float16", DType::kFloat16, path, cases);
  if (full && !hopper) run<double>("float64", DType::kFloat64, path, cases);
  std::printf("checksum %016llx\n%s\n", static_cast<unsigned long long>(checksum), failed ? "FAILED" : "passed");
  return failed;
}
