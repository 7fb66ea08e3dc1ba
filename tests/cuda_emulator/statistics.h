// Bank conflicts of ldmatrix: the 8 rows of a matrix are read at once, and collide where they lie in the same four of
// the 32 banks. CUDA_EMULATOR_STATS=1 writes a line to stderr after every launch.
#pragma once

#include <cstdint>

namespace contrastive_ops::cuda::emulator {

struct Statistics {
  int64_t load_matrices = 0;  // calls by a warp
  int64_t reads = 0;          // of shared memory that they take: 4 per call if nothing collides
  int max_ways = 0;           // of one matrix, 1 is without conflict

  // `rows`: the addresses of the 8 rows of a matrix.
  void count_matrix(void* const (&rows)[8]);
};

// Since the process started, or since somebody assigned Statistics().
Statistics& statistics();

}  // namespace contrastive_ops::cuda::emulator
