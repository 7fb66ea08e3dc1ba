// A stream, and what the launches of one call on it have in common.
#pragma once

#include <memory>

namespace contrastive_ops::cuda {

class TensorMaps;

class Stream {
 public:
  explicit Stream(void* handle);
  ~Stream();

  void* handle() const { return handle_; }
  TensorMaps& tensor_maps() { return *tensor_maps_; }

 private:
  void* handle_;
  std::unique_ptr<TensorMaps> tensor_maps_;
};

}  // namespace contrastive_ops::cuda
