#include "cuda_emulator/schedule.h"

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <utility>

namespace contrastive_ops::cuda::emulator {
namespace {

Schedule::Order order_from_environment() {
  const char* const value = std::getenv("CUDA_EMULATOR_ORDER");
  const auto is = [&](const char* name) { return std::strcmp(value, name) == 0; };
  if (!value || is("forward")) return Schedule::Order::kForward;
  if (is("reverse")) return Schedule::Order::kReverse;
  if (is("random")) return Schedule::Order::kRandom;
  throw std::runtime_error("CUDA_EMULATOR_ORDER is neither forward, reverse nor random");
}

uint64_t seed_from_environment() {
  const char* const value = std::getenv("CUDA_EMULATOR_SEED");
  return value ? std::strtoull(value, nullptr, 10) : 0;
}

}  // namespace

Schedule::Schedule() : order_(order_from_environment()), state_(seed_from_environment()) {}

// splitmix64
uint64_t Schedule::random() {
  uint64_t z = state_ += 0x9E3779B97F4A7C15u;
  z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
  z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
  return z ^ (z >> 31);
}

std::vector<int> Schedule::permutation(int count) {
  std::vector<int> result(count);
  for (int i = 0; i < count; ++i) result[i] = order_ == Order::kReverse ? count - 1 - i : i;
  if (order_ == Order::kRandom) {
    for (int i = count - 1; i > 0; --i) std::swap(result[i], result[random() % (i + 1)]);
  }
  return result;
}

int Schedule::choose(int count) {
  if (order_ == Order::kForward) return 0;
  if (order_ == Order::kReverse) return count - 1;
  return static_cast<int>(random() % count);
}

int Schedule::choose_bit(uint32_t mask) {
  if (order_ == Order::kForward) return __builtin_ctz(mask);
  if (order_ == Order::kReverse) return 31 - __builtin_clz(mask);
  for (int skip = static_cast<int>(random() % __builtin_popcount(mask)); skip > 0; --skip) mask &= mask - 1;
  return __builtin_ctz(mask);
}

}  // namespace contrastive_ops::cuda::emulator
