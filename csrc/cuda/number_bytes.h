// How much memory numbers take.
#pragma once

#include <cstdint>

#include "../types.h"

namespace contrastive_ops::cuda {

inline int64_t element_bytes(DType dtype) { return dtype == DType::kFloat64 ? 8 : dtype == DType::kFloat32 ? 4 : 2; }

// Of the statistics type for embeddings of this type.
inline int64_t statistics_bytes(DType dtype) { return dtype == DType::kFloat64 ? 8 : 4; }

}  // namespace contrastive_ops::cuda
