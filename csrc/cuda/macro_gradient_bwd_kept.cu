#include "macro_gradient_bwd.cuh"

#include "kept.h"
#include "mainloop_kept.cuh"
#include "portable.cuh"
#include "score/dot.cuh"

namespace contrastive_ops::cuda {

void macro_gradient_bwd_kept(const MacroGradientParams& params, Stream& stream) {
  with_portable_loop(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = KeptMainLoop<typename std::remove_pointer_t<decltype(loop)>::Product>;
    const typename MainLoop::Operands operands = {static_cast<const typename MainLoop::Stat*>(params.kept),
                                                  params.matrix.rows.size, params.matrix.cols.size};
    launch_macro_gradient_bwd<MainLoop, DotScore<MainLoop>>(params, operands, stream);
  });
}

}  // namespace contrastive_ops::cuda
