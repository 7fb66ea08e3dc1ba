// The dynamic shared memory of a block, poisoned at its start, with red zones between the arrays.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace contrastive_ops::cuda::emulator {

class SharedArena {
 public:
  SharedArena();
  ~SharedArena();
  SharedArena(const SharedArena&) = delete;
  SharedArena& operator=(const SharedArena&) = delete;

  // A new block, whose launch declared this many bytes.
  void start_block(int declared_bytes);

  // Memory of the array that a thread takes as its `index`th; all threads have to take the same. 1024-byte aligned at
  // offset 0, as on the device; `device_offset` is what the arrays would use there, without red zones.
  void* take(int index, int64_t bytes, int alignment, int device_offset);

  // Throws unless these bytes lie inside one array.
  void check(const void* memory, size_t bytes, const char* operation) const;

  // Addresses of shared memory as instructions and descriptors have them: 18 bits.
  uint32_t offset(const void* memory) const { return static_cast<uint32_t>(static_cast<const char*>(memory) - base_); }
  char* at(uint32_t offset) const { return base_ + offset; }

 private:
  struct Array {
    int64_t offset, bytes;
    int alignment;
  };

  char* base_;
  int declared_bytes_ = 0;
  std::vector<Array> arrays_;
};

}  // namespace contrastive_ops::cuda::emulator
