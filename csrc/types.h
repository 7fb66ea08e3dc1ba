// What every backend's parameters have in common.
#pragma once

#include <cstdint>

namespace contrastive_ops {

enum class DType : int { kFloat32 = 0, kFloat64 = 1, kBFloat16 = 2, kFloat16 = 3 };

// Order shared with ScoreKind in contrastive_ops/scores/base.py.
enum class ScoreKind : int { kDot = 0, kVolume = 1 };
constexpr int kMaxBanks = 7;  // banks of keys that a score may be made of

// Order shared with ReductionKind in contrastive_ops/reductions/base.py.
enum class ReductionKind : int { kLogSumExp = 0, kScoreSum = 1, kLargest = 2, kCountAbove = 3 };
constexpr int kMaxReductions = 4;  // of one pass

// Order shared with ClauseKind in contrastive_ops/relations.py.
enum class ClauseKind : int { kDiagonal = 0, kOffDiagonal = 1, kSame = 2, kDifferent = 3 };

struct Clause {
  ClauseKind kind;
  int64_t offset;          // diagonals: j == i + offset
  const int64_t* row_ids;  // [M] of each batch
  const int64_t* col_ids;  // [N] of each batch
  int64_t row_batch_stride;
  int64_t col_batch_stride;
};

constexpr int kMaxClauses = 4;

struct Relation {
  int count;  // clauses used; 0 means every pair
  Clause clauses[kMaxClauses];
};

}  // namespace contrastive_ops
