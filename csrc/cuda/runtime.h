// Every call that the host code makes of CUDA, in one table: on a GPU those of its runtime and driver, in the tests
// those of the emulator, or of a count of them. What may fail throws std::runtime_error.
#pragma once

#include <vector_types.h>

#include <cstdint>

#include "../types.h"

namespace contrastive_ops::cuda {

struct Launch {
  const void* kernel;  // void (*)(Params)
  dim3 grid;
  int threads, shared_bytes;
  void* stream;
  const void* params;          // Params*
  void (*run)(const Launch&);  // kernel(*params), where kernels are functions of the host; null on a GPU
};

// Boxes of [1, box_lines, box_width] from [batch, lines, width], unit stride in width, the other strides in elements.
// In shared memory a line takes 128 bytes, swizzled: its 16-byte chunk c lies at c ^ (line % 8). Zeros beyond the ends.
struct BoxedTensor {
  DType dtype;
  const void* data;
  int64_t batch, lines, width;
  int64_t batch_stride, line_stride;
  int box_lines, box_width;
};

struct Runtime {
  int (*current_device)();
  // lets launches of the kernel on the current device ask for so much dynamic shared memory
  void (*allow_shared_memory)(const void* kernel, int bytes);
  void (*put_on_stream)(const Launch& launch);
  void (*set_to_zero)(void* data, int64_t bytes, void* stream);
  void (*encode_tensor_map)(void* map, const BoxedTensor& tensor);  // TensorMap*
};

const Runtime& runtime();

}  // namespace contrastive_ops::cuda
