#include "cuda_emulator/statistics.h"

#include <algorithm>

namespace contrastive_ops::cuda::emulator {

Statistics& statistics() {
  static Statistics instance;
  return instance;
}

void Statistics::count_matrix(void* const (&rows)[8]) {
  constexpr int kRowBytes = 16, kBanksOfRows = 128 / kRowBytes;
  int ways[kBanksOfRows] = {};
  for (int i = 0; i < 8; ++i) {
    if (std::find(rows, rows + i, rows[i]) == rows + i) {  // the same row twice is read once
      ++ways[reinterpret_cast<uintptr_t>(rows[i]) / kRowBytes % kBanksOfRows];
    }
  }
  const int most = *std::max_element(ways, ways + kBanksOfRows);
  reads += most;
  max_ways = std::max(max_ways, most);
}

}  // namespace contrastive_ops::cuda::emulator
