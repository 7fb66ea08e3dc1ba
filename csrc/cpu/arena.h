// Reusable memory blocks: mapping a fresh workspace costs as much as a small product (page faults).
#pragma once

#include <cstddef>

namespace contrastive_ops {

// A page-aligned block, taken from the cache if a freed one is large enough and not much too large, else mapped.
// It goes back to the cache when it is destroyed. Thread-safe.
class Block {
 public:
  explicit Block(std::size_t bytes);
  ~Block();
  Block(const Block&) = delete;
  Block& operator=(const Block&) = delete;

  void* data() const { return data_; }
  std::size_t bytes() const { return bytes_; }

 private:
  void* data_;
  std::size_t bytes_, capacity_;
};

// Of memory of others that is about to be written for the first time: pages of 2 MiB where there are many, as a fault
// for every 4 KiB of a large gradient takes longer than writing it. Nothing is advised of what is there already.
void advise_huge_pages(void* data, std::size_t bytes);

// Returns every cached block to the operating system.
void release_cached_blocks();

}  // namespace contrastive_ops
