// The 128-byte swizzle of TMA and wgmma: address bits 4 to 6, a 16-byte chunk of a line, are changed by bits 7 to 9,
// the line's number within a pattern of 8 lines.
#pragma once

namespace contrastive_ops::cuda::emulator {

constexpr int kSwizzlePeriod = 1024;  // bytes

constexpr int swizzle_128(int address) { return address ^ (address >> 7 & 7) << 4; }

}  // namespace contrastive_ops::cuda::emulator
