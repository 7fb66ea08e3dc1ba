// Instructions that a warp executes together.
#pragma once

#include <cuda_bf16.h>
#include <cuda_fp16.h>

#include <cstdint>

namespace contrastive_ops::cuda::emulator {

// Every lane gets the value of lane ^ lane_mask.
float shuffle_xor(float value, int lane_mask);
double shuffle_xor(double value, int lane_mask);
int32_t shuffle_xor(int32_t value, int lane_mask);

// ldmatrix.x4
void load_matrices(uint32_t (&r)[4], const void* shared_row, bool transposed);

// mma.sync.m16n8k16
void multiply_add(float (&c)[4], const uint32_t (&a)[4], const uint32_t (&b)[2], float (*widen)(uint16_t));

// Bits of an element to its value, exactly.
inline float widen_bfloat16(uint16_t bits) { return __bfloat162float(__nv_bfloat16(__nv_bfloat16_raw{bits})); }
inline float widen_half(uint16_t bits) { return __half2float(__half(__half_raw{bits})); }

}  // namespace contrastive_ops::cuda::emulator
