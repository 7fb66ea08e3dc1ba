#include "line_sums_bwd.cuh"

#include "hopper.h"
#include "portable.cuh"

namespace contrastive_ops::cuda {

void line_sums_bwd(Path path, const LineSumsParams& params, Stream& stream) {
  if (path == Path::kHopper) return line_sums_bwd_hopper(params, stream);
  with_portable_loop(params.matrix.dtype,
                     [&](auto* loop) { launch_line_sums_bwd<std::remove_pointer_t<decltype(loop)>>(params, stream); });
}

}  // namespace contrastive_ops::cuda
