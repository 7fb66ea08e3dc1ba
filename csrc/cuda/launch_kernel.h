// How the host starts a kernel.
#pragma once

#include "runtime.h"
#include "stream.h"

namespace contrastive_ops::cuda {

// Dynamic shared memory of a launch.
struct SharedBytes {
  int bytes;
  int most;  // of any launch of the kernel

  SharedBytes(int same) : bytes(same), most(same) {}
  SharedBytes(int of_this, int of_any) : bytes(of_this), most(of_any) {}
};

// Once for each kernel and device, and at once for all of its launches: a limit that followed every launch would be
// lowered by one thread between another one's request and its launch.
void allow_shared_memory_once(const void* kernel, int bytes);

// kRunKernel is the device's, see device.cuh.
template <class Params>
void launch(void (*kernel)(Params), dim3 grid, int threads, SharedBytes shared, Stream& stream, const Params& params) {
  constexpr int kWithoutAsking = 48 * 1024;
  const void* const address = reinterpret_cast<const void*>(kernel);
  if (shared.most > kWithoutAsking) allow_shared_memory_once(address, shared.most);
  runtime().put_on_stream({address, grid, threads, shared.bytes, stream.handle(), &params, kRunKernel<Params>});
}

}  // namespace contrastive_ops::cuda
