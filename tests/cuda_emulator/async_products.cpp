// Layouts and descriptors are read from the PTX manual apart from the kernels, and decoded from their bits;
// tests/hopper_layouts.cpp compares them with CuTe's.
#include "cuda_emulator/async_products.h"

#include <algorithm>
#include <cstring>

#include "cuda_emulator/runtime.h"
#include "cuda_emulator/swizzle.h"

namespace contrastive_ops::cuda::emulator {
namespace {

constexpr int kRows = 16, kDepth = 16;   // of a warp's part of a product
constexpr int kLine = 128, kChunk = 16;  // bytes

// A matrix in shared memory as its descriptor tells.
class Operand {
 public:
  Operand(uint64_t descriptor, bool transposed) : transposed_(transposed) {
    const auto bits = [&](int first, int count) { return static_cast<int>(descriptor >> first & ((1u << count) - 1)); };
    start_ = bits(0, 14) * 16;
    leading_ = bits(16, 14) * 16;
    stride_ = bits(32, 14) * 16;
    if (bits(62, 2) != 1) fail("wgmma: the emulator knows descriptors with the 128-byte swizzle only");
    if (bits(49, 3) != 0) fail("wgmma: the emulator knows descriptors with base offset 0 only");
    if (bits(14, 2) || bits(30, 2) || bits(46, 3) || bits(52, 10)) fail("wgmma: reserved bits of a descriptor are set");
    if (start_ / kLine % 8 != 0) fail("wgmma: a descriptor starts in the middle of a swizzled pattern of 1024 bytes");
    if (transposed && start_ % kLine != 0) fail("wgmma: a descriptor starts in the middle of a line of depth");
    if (stride_ % kSwizzlePeriod != 0 || (transposed && leading_ % kSwizzlePeriod != 0)) {
      fail("wgmma: an offset of a descriptor is no multiple of a swizzled pattern of 1024 bytes");
    }
  }

  // use(chunk, line, depth, along_lines) for every 16 bytes of `count` rows or columns from `first` on: 8 elements, the
  // first at (line, depth), the others in the lines that follow or further along the depth.
  template <class Use>
  void for_each_chunk(int first, int count, const Use& use) const {
    if (transposed_) {  // 64 rows or columns to a line of memory, 8 lines of depth to a pattern
      for (int k = 0; k < kDepth; ++k) {
        for (int i = first; i < first + count; i += 8) {
          use(at(start_ + i / 64 * leading_ + i % 64 * 2 + k / 8 * stride_ + k % 8 * kLine), i - first, k, true);
        }
      }
    } else {  // a row or column to a line of memory, 8 of them to a pattern
      for (int i = first; i < first + count; ++i) {
        for (int k = 0; k < kDepth; k += 8) {
          use(at(start_ + i / 8 * stride_ + i % 8 * kLine + k * 2), i - first, k, false);
        }
      }
    }
  }

 private:
  static const char* at(int address) {
    const char* const chunk = shared_arena().at(swizzle_128(address));
    shared_arena().check(chunk, kChunk, "wgmma");
    return chunk;
  }

  bool transposed_;
  int start_, leading_, stride_;
};

// use(chunk, line, depth, along_lines) for both operands of a warp's part of a product: lines are rows, then columns.
template <class Use>
void for_each_chunk(int warp, const Product& product, const Use& use) {
  const Operand a(product.a_descriptor, product.a_transposed), b(product.b_descriptor, product.b_transposed);
  a.for_each_chunk(warp % 4 * kRows, kRows, use);
  b.for_each_chunk(0, product.n,
                   [&](const char* chunk, int j, int k, bool along_lines) { use(chunk, kRows + j, k, along_lines); });
}

// [16 + n][depth]
std::vector<uint16_t> read_operands(int warp, const Product& product) {
  std::vector<uint16_t> elements((kRows + product.n) * kDepth);
  for_each_chunk(warp, product, [&](const char* chunk, int line, int k, bool along_lines) {
    uint16_t part[8];
    std::memcpy(part, chunk, kChunk);
    for (int e = 0; e < 8; ++e) elements[along_lines ? (line + e) * kDepth + k : line * kDepth + k + e] = part[e];
  });
  return elements;
}

// FNV-1a
uint64_t hash_of(const std::vector<uint16_t>& elements) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const uint16_t element : elements) hash = (hash ^ element) * 0x100000001B3u;
  return hash;
}

}  // namespace

bool Product::operator==(const Product& other) const {
  return n == other.n && a_transposed == other.a_transposed && b_transposed == other.b_transposed &&
         a_descriptor == other.a_descriptor && b_descriptor == other.b_descriptor && value == other.value;
}

void AsyncProducts::issue(int warp, const Product& product, const Registers (&lanes)[kLanes]) {
  if (!find_sums(lanes[0])) {
    if (!fenced_) fail("wgmma: no wgmma_fence since the accumulators were the thread's own");
    Sums& sums = sums_.emplace_back();
    for (int lane = 0; lane < kLanes; ++lane) {
      sums.lanes[lane] = lanes[lane];
      sums.values[lane].assign(lanes[lane], lanes[lane] + product.n / 2);
      std::memset(lanes[lane], sanitizer::kPoison, product.n / 2 * sizeof(float));
    }
  }
  open_.push_back({product, warp, lanes[0], hash_of(read_operands(warp, product))});
}

void AsyncProducts::commit() {
  groups_.push_back(std::move(open_));
  open_.clear();
}

void AsyncProducts::wait(int pending) {
  while (groups_.size() > static_cast<size_t>(pending)) {
    for (const Pending& product : groups_.front()) finish(product);
    groups_.pop_front();
  }
  for (size_t i = 0; i < sums_.size();) {
    if (is_pending(sums_[i].lanes[0])) {
      ++i;
      continue;
    }
    for (int lane = 0; lane < kLanes; ++lane) {
      const std::vector<float>& values = sums_[i].values[lane];
      float* const d = sums_[i].lanes[lane];
      const auto* const bytes = reinterpret_cast<const unsigned char*>(d);
      const auto is_poison = [](unsigned char byte) { return byte == sanitizer::kPoison; };
      if (!std::all_of(bytes, bytes + values.size() * sizeof(float), is_poison)) {
        fail("wgmma: accumulators were written before the product was waited for");
      }
      std::copy(values.begin(), values.end(), d);
    }
    sums_.erase(sums_.begin() + i);
    fenced_ = false;
  }
}

void AsyncProducts::announce(int warp, const Product& product) {
  for_each_chunk(warp, product, [](const char* chunk, int, int, bool) { sanitizer::reads(chunk, kChunk); });
}

void AsyncProducts::announce_finishing(int pending) const {
  for (size_t i = pending; i < groups_.size(); ++i) {
    for (const Pending& product : groups_[i - pending]) announce(product.warp, product.product);
  }
}

AsyncProducts::Sums* AsyncProducts::find_sums(Registers key) {
  const auto found = std::find_if(sums_.begin(), sums_.end(), [&](const Sums& sums) { return sums.lanes[0] == key; });
  return found == sums_.end() ? nullptr : &*found;
}

bool AsyncProducts::is_pending(Registers key) const {
  const auto uses = [&](const Pending& pending) { return pending.key == key; };
  return std::any_of(open_.begin(), open_.end(), uses) ||
         std::any_of(groups_.begin(), groups_.end(),
                     [&](const auto& group) { return std::any_of(group.begin(), group.end(), uses); });
}

// Element d[c][2 * h + e] of a lane is row 8 * h + lane / 4 of the warp's 16, and column 8 * c + 2 * (lane % 4) + e.
void AsyncProducts::finish(const Pending& pending) {
  const auto& [product, warp, key, operands] = pending;
  const std::vector<uint16_t> elements = read_operands(warp, product);
  if (hash_of(elements) != operands) fail("wgmma: an operand was written before the product was waited for");
  std::vector<float> values(elements.size());
  std::transform(elements.begin(), elements.end(), values.begin(), product.value);
  Sums& sums = *find_sums(key);
  for (int i = 0; i < kRows; ++i) {
    for (int j = 0; j < product.n; ++j) {
      const float *const row = &values[i * kDepth], *const column = &values[(kRows + j) * kDepth];
      float dot = 0;
      for (int k = 0; k < kDepth; ++k) dot += row[k] * column[k];
      sums.values[i % 8 * 4 + j % 8 / 2][j / 8 * 4 + i / 8 * 2 + j % 2] += dot;
    }
  }
}

}  // namespace contrastive_ops::cuda::emulator
