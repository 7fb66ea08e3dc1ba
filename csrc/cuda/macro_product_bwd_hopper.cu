#include "macro_product_bwd.cuh"

#include "hopper.cuh"

namespace contrastive_ops::cuda {
namespace {

template <class Element>
using WgmmaProducts = MacroProductLoops<WgmmaMainLoop<Element, false, true>, WgmmaMainLoop<Element, true, true>>;

}  // namespace

ProductTile product_tile_hopper() {
  using Loops = WgmmaProducts<__half>;
  return {Loops::kBlockM, Loops::kBlockN, Loops::kBlockK};
}

void macro_product_bwd_hopper(const MacroProductParams& params, Stream& stream) {
  with_hopper_loop<WgmmaProducts>(params.dtype, [&](auto* loops) {
    launch_macro_product_bwd<std::remove_pointer_t<decltype(loops)>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
