#include "reduce_fwd.cuh"

#include "hopper.h"
#include "number_bytes.h"
#include "portable.cuh"
#include "score/dot.cuh"
#include "volume.h"

namespace contrastive_ops::cuda {
namespace {

// The usual sums (reduction/sets.cuh) are added to by the tiles alone that hold some of their pairs.
void clear_sums(const ReduceParams& params, Stream& stream) {
  const Matrix& matrix = params.matrix;
  const auto clear = [&](const Slots& slots, int64_t num_slots, int64_t size) {
    const int64_t bytes = num_slots * matrix.batch * size * statistics_bytes(matrix.dtype);
    if (slots.of[0]) runtime().set_to_zero(slots.of[0], bytes, stream.handle());
  };
  clear(params.rows[kUsualSum], params.num_col_stripes + params.self_similarity, matrix.rows.size);
  if (!params.self_similarity) clear(params.cols[kUsualSum], params.num_row_stripes, matrix.cols.size);
}

}  // namespace

TileShape score_tile(Path path, DType dtype, ScoreKind score) {
  if (score == ScoreKind::kVolume) return score_tile_volume(dtype);
  if (path == Path::kHopper) return score_tile_hopper();
  TileShape shape;
  with_portable_loop(dtype, [&](auto* loop) { shape = {loop->kBlockM, loop->kBlockN}; });
  return shape;
}

void reduce_fwd(Path path, const ReduceParams& work, Stream& stream) {
  const ReduceParams params = arranged(work);
  if (is_usual(params.matrix)) clear_sums(params, stream);
  if (params.matrix.score.kind == ScoreKind::kVolume) return reduce_fwd_volume(params, stream);
  if (path == Path::kHopper) return reduce_fwd_hopper(params, stream);
  with_portable_loop(params.matrix.dtype, [&](auto* loop) {
    using MainLoop = std::remove_pointer_t<decltype(loop)>;
    launch_reduce_fwd<MainLoop, DotScore<MainLoop>>(params, stream);
  });
}

}  // namespace contrastive_ops::cuda
