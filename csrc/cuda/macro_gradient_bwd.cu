#include "macro_gradient_bwd.cuh"

#include "hopper.h"
#include "kept.h"
#include "portable.cuh"
#include "score/dot.cuh"
#include "volume.h"

namespace contrastive_ops::cuda {

void macro_gradient_bwd(Path path, const MacroGradientParams& work, Stream& stream) {
  MacroGradientParams params = work;
  params.matrix = arranged(work.matrix);
  if (params.matrix.score.kind == ScoreKind::kVolume) return macro_gradient_bwd_volume(params, stream);
  if (params.kept) return macro_gradient_bwd_kept(params, stream);
  if (path == Path::kHopper) return macro_gradient_bwd_hopper(params, stream);
  with_portable_loop(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_macro_gradient_bwd<MainLoop, DotScore<MainLoop>>(params, score_operands<MainLoop>(params.matrix, stream),
                                                            stream);
  });
}

}  // namespace contrastive_ops::cuda
