#include "macro_product_bwd.cuh"

#include "hopper.h"
#include "portable.cuh"

namespace contrastive_ops::cuda {

void macro_product_bwd(Path path, const MacroProductParams& params, Stream& stream) {
  if (path == Path::kHopper) return macro_product_bwd_hopper(params, stream);
  const auto use = [&](auto* loop) { launch_macro_product_bwd<std::remove_pointer_t<decltype(loop)>>(params, stream); };
  if (params.transposed) {
    with_portable_loop<true, true>(params.dtype, use);
  } else {
    with_portable_loop<false, true>(params.dtype, use);
  }
}

}  // namespace contrastive_ops::cuda
