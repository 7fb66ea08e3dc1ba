#include "macro_gradient_bwd.cuh"

#include "hopper.h"
#include "portable.cuh"

namespace contrastive_ops::cuda {

void macro_gradient_bwd(Path path, const MacroGradientParams& params, void* stream) {
  if (path == Path::kHopper) return macro_gradient_bwd_hopper(params, stream);
  with_portable_loop(params.matrix.dtype, [&](auto* loop) {
    launch_macro_gradient_bwd<std::remove_pointer_t<decltype(loop)>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
