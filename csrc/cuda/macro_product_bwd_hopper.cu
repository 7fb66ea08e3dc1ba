#include "macro_product_bwd.cuh"

#include "hopper.cuh"

namespace contrastive_ops::cuda {
namespace {

template <class Element>
using Product = WgmmaMainLoop<Element, false, true>;
template <class Element>
using TransposedProduct = WgmmaMainLoop<Element, true, true>;

}  // namespace

void macro_product_bwd_hopper(const MacroProductParams& params, Stream& stream) {
  const auto use = [&](auto* loop) { launch_macro_product_bwd<std::remove_pointer_t<decltype(loop)>>(params, stream); };
  if (params.transposed) {
    with_hopper_loop<TransposedProduct>(params.dtype, use);
  } else {
    with_hopper_loop<Product>(params.dtype, use);
  }
}

}  // namespace contrastive_ops::cuda
