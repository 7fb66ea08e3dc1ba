// cp.async of one thread. The destination is poisoned when a copy is issued, and gets its data only when the thread
// waits for the copy's group: reading too early and overwriting too early both show.
#pragma once

#include <deque>
#include <vector>

namespace contrastive_ops::cuda::emulator {

class AsyncCopies {
 public:
  static constexpr int kBytes = 16;

  void issue(void* shared, const void* global, bool valid);
  void commit();
  void wait(int pending);  // until at most so many groups are unfinished
  void clear();

 private:
  struct Copy {
    void* shared;
    alignas(kBytes) unsigned char data[kBytes];
  };
  using Group = std::vector<Copy>;

  std::deque<Group> committed_;
  Group open_;
};

}  // namespace contrastive_ops::cuda::emulator
