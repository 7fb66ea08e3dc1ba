#include "macro_product_bwd.cuh"

#include "hopper.h"
#include "portable.cuh"

namespace contrastive_ops::cuda {
namespace {

// The tiles of the scores; two of them at a time, as sums need fewer registers than scores.
template <class Element, class Of = FmaShape<Element>>
using FmaProductShape = BlockShape<Of::kBlockM, Of::kBlockN, Of::kWarpsM, Of::kWarpsN, 2>;
template <class Element, bool kTransposed>
using FmaProductLoop = FmaMainLoop<Element, kTransposed, true, FmaProductShape<Element>>;
template <class Element>
using FmaProducts = MacroProductLoops<FmaProductLoop<Element, false>, FmaProductLoop<Element, true>>;
template <class Element>
using MmaProducts = MacroProductLoops<MmaMainLoop<Element, false, true>, MmaMainLoop<Element, true, true>>;

}  // namespace

ProductTile product_tile(Path path, DType dtype) {
  if (path == Path::kHopper) return product_tile_hopper();
  ProductTile tile;
  with_portable_loop<FmaProducts, MmaProducts>(
      dtype, [&](auto* loops) { tile = {loops->kBlockM, loops->kBlockN, loops->kBlockK}; });
  return tile;
}

void macro_product_bwd(Path path, const MacroProductParams& params, Stream& stream) {
  if (path == Path::kHopper) return macro_product_bwd_hopper(params, stream);
  with_portable_loop<FmaProducts, MmaProducts>(params.dtype, [&](auto* loops) {
    launch_macro_product_bwd<std::remove_pointer_t<decltype(loops)>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
