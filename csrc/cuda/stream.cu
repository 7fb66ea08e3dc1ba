#include "stream.h"

#include <tuple>

#include "tensor_maps.h"

namespace contrastive_ops::cuda {
namespace {

auto fields(const BoxedTensor& t) {
  return std::tie(t.data, t.lines, t.width, t.batch, t.batch_stride, t.line_stride, t.box_lines, t.box_width, t.dtype);
}

}  // namespace

Stream::Stream(void* handle) : handle_(handle), tensor_maps_(std::make_unique<TensorMaps>()) {}

Stream::~Stream() = default;

TensorMap TensorMaps::of(const BoxedTensor& tensor) {
  for (const auto& [known, map] : maps_) {
    if (fields(known) == fields(tensor)) return map;
  }
  TensorMap map;
  runtime().encode_tensor_map(&map, tensor);
  maps_.emplace_back(tensor, map);
  return map;
}

}  // namespace contrastive_ops::cuda
