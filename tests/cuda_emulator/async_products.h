// wgmma of one warp. Accumulators are NaN from issue to wait; operands are read at issue and again at wait, and must be
// the same: the hardware may read them at any time between.
#pragma once

#include <cstdint>
#include <deque>
#include <vector>

namespace contrastive_ops::cuda::emulator {

struct Product {
  int n;
  bool a_transposed, b_transposed;
  uint64_t a_descriptor, b_descriptor;
  float (*value)(uint16_t bits);  // of an element

  bool operator==(const Product& other) const;
};

class AsyncProducts {
 public:
  static constexpr int kLanes = 32;
  using Registers = float*;  // a lane's accumulators, [n / 8][4]

  void fence() { fenced_ = true; }
  void issue(int warp, const Product& product, const Registers (&lanes)[kLanes]);
  void commit();
  void wait(int pending);  // until at most so many groups are unfinished

  // The running thread, of this warp, reads the operands of a product, or of all that wait(pending) will finish.
  static void announce(int warp, const Product& product);
  void announce_finishing(int pending) const;

 private:
  struct Pending {
    Product product;
    int warp;
    Registers key;      // lane 0's registers
    uint64_t operands;  // hash at issue
  };
  // Accumulators that are not to be touched.
  struct Sums {
    Registers lanes[kLanes];  // the first one's are the key
    std::vector<float> values[kLanes];
  };

  Sums* find_sums(Registers key);
  bool is_pending(Registers key) const;
  void finish(const Pending& pending);

  bool fenced_ = false;
  std::vector<Pending> open_;                // not committed
  std::deque<std::vector<Pending>> groups_;  // committed
  std::vector<Sums> sums_;
};

}  // namespace contrastive_ops::cuda::emulator
