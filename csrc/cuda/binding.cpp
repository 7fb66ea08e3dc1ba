// The only CUDA file that knows Python. Addresses arrive as integers; the caller keeps the memory alive and holds the
// device guard. Built twice: with the kernels for GPUs, and for the tests with the same kernels on a CPU emulator.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <cstdint>
#include <tuple>
#include <vector>

#include "launch.h"

namespace py = pybind11;
using contrastive_ops::Clause;
using contrastive_ops::ClauseKind;
using contrastive_ops::DType;
using contrastive_ops::kMaxClauses;
using contrastive_ops::kMaxReductions;
using contrastive_ops::ReductionKind;
using contrastive_ops::Relation;
using contrastive_ops::ScoreKind;
using namespace contrastive_ops::cuda;

namespace {

using Address = std::uintptr_t;  // 0: null
using Addresses = std::vector<Address>;
using SideTuple = std::tuple<Address, int64_t, int64_t, int64_t>;  // data, size, batch stride, row stride
using ClauseTuple = std::tuple<int, int64_t, Address, Address, int64_t, int64_t>;  // the fields of Clause
using ReductionTuple =
    std::tuple<int, std::vector<ClauseTuple>, Address, std::array<Address, 3>, std::array<Address, 3>>;  // of Reduction
using MergedTuple = std::tuple<int, Addresses, Address>;              // the fields of MergedReduction
using ScoreTuple = std::tuple<int, Address, Address, Address, bool>;  // the fields of Score
using GradientTuple = std::tuple<Address, Address, int>;              // the fields of EmbeddingsGradient
using BanksTuple = std::tuple<int, int64_t>;                          // count, stride

template <class T = void>
T* pointer(Address address) {
  return reinterpret_cast<T*>(address);
}

Side side(const SideTuple& fields) {
  const auto& [data, size, batch_stride, row_stride] = fields;
  return {pointer<const void>(data), size, batch_stride, row_stride};
}

LineValues line_values(const std::array<Address, 3>& of) { return {pointer(of[0]), pointer(of[1]), pointer(of[2])}; }

Slots slots(const Addresses& of) {
  Slots result = {};
  if (of.size() > std::size(result.of)) throw py::value_error("too many numbers of a line");
  for (size_t i = 0; i < of.size(); ++i) result.of[i] = pointer(of[i]);
  return result;
}

// Of each reduction.
void set_slots(Slots (&result)[kMaxReductions], const std::vector<Addresses>& of) {
  if (of.size() > kMaxReductions) throw py::value_error("too many reductions");
  for (size_t r = 0; r < of.size(); ++r) result[r] = slots(of[r]);
}

LineSums line_sums(const std::array<Address, 4>& of) {
  return {pointer(of[0]), pointer(of[1]), pointer(of[2]), pointer(of[3])};
}

EmbeddingsGradient gradient(const GradientTuple& fields) {
  const auto& [sum, result, dtype] = fields;
  return {pointer(sum), pointer(result), static_cast<DType>(dtype)};
}

Relation relation(const std::vector<ClauseTuple>& clauses) {
  if (clauses.size() > kMaxClauses) throw py::value_error("too many clauses");
  Relation result = {};
  for (const auto& [kind, offset, row_ids, col_ids, row_batch_stride, col_batch_stride] : clauses)
    result.clauses[result.count++] = {
        static_cast<ClauseKind>(kind),   offset,           pointer<const int64_t>(row_ids),
        pointer<const int64_t>(col_ids), row_batch_stride, col_batch_stride};
  return result;
}

Reduction reduction(const ReductionTuple& fields) {
  const auto& [kind, clauses, factor, rows, cols] = fields;
  return {static_cast<ReductionKind>(kind), relation(clauses), pointer(factor), line_values(rows), line_values(cols)};
}

Score score(const ScoreTuple& fields) {
  const auto& [kind, row_term, col_term, mixing, absolute] = fields;
  return {static_cast<ScoreKind>(kind), pointer(row_term), pointer(col_term), pointer(mixing), absolute};
}

Matrix matrix(int dtype, int64_t batch, int64_t d, const SideTuple& rows, const SideTuple& cols, Address row_bias,
              Address col_bias, Address scale, Address unit, const ScoreTuple& score_fields, const BanksTuple& banks,
              const std::vector<ReductionTuple>& reductions) {
  if (std::get<0>(banks) > contrastive_ops::kMaxBanks) throw py::value_error("too many banks");
  if (reductions.size() > kMaxReductions) throw py::value_error("too many reductions");
  Matrix result = {static_cast<DType>(dtype),
                   batch,
                   d,
                   side(rows),
                   side(cols),
                   pointer(row_bias),
                   pointer(col_bias),
                   pointer(scale),
                   pointer(unit),
                   score(score_fields),
                   std::get<0>(banks),
                   std::get<1>(banks),
                   0,
                   {}};
  for (const ReductionTuple& of : reductions) result.reductions[result.num_reductions++] = reduction(of);
  return result;
}

}  // namespace

PYBIND11_MODULE(CONTRASTIVE_CUDA_MODULE, m) {
  m.doc() = "CUDA kernels of contrastive_ops. Addresses and sizes in, nothing checked: use contrastive_ops.backends.";

  // nvcc's names of the machine code (sm_*) and PTX (compute_*); without sm_90a the kernels of that path are empty
  m.attr("CODES") = py::str(CONTRASTIVE_CUDA_CODES).attr("split")();

  // types local to the module: both builds may be in one process
  py::enum_<Path>(m, "Path", py::module_local(), "Which kernels: those of sm_80 and later, or those of sm_90a.")
      .value("PORTABLE", Path::kPortable)
      .value("HOPPER", Path::kHopper);
  py::class_<Matrix>(m, "Matrix", py::module_local(), "A score matrix, seen from the side that owns the rows.")
      .def(py::init(&matrix), py::kw_only(), py::arg("dtype"), py::arg("batch"), py::arg("d"), py::arg("rows"),
           py::arg("cols"), py::arg("row_bias"), py::arg("col_bias"), py::arg("scale"), py::arg("unit"),
           py::arg("score"), py::arg("banks"), py::arg("reductions"));

  m.def(
      "score_tile",
      [](Path path, int dtype, int score) {
        const TileShape tile = score_tile(path, static_cast<DType>(dtype), static_cast<ScoreKind>(score));
        return py::make_tuple(tile.block_m, tile.block_n);
      },
      py::arg("path"), py::arg("dtype"), py::arg("score"), "Rows and columns of a tile of the score matrix.");
  m.def(
      "product_tile",
      [](Path path, int dtype) {
        const ProductTile tile = product_tile(path, static_cast<DType>(dtype));
        return py::make_tuple(tile.block_m, tile.block_n, tile.block_k);
      },
      py::arg("path"), py::arg("dtype"),
      "Lines and D of a tile of the embeddings' gradients in macro_pass_bwd, and the lines of a step of its sums.");

  m.def(
      "reduce_fwd",
      [](Path path, const Matrix& of, const std::vector<Addresses>& rows, const std::vector<Addresses>& cols,
         Address kept, int64_t row_stripe, int64_t col_stripe, int num_row_stripes, int num_col_stripes,
         bool self_similarity, Address stream_address) {
        Stream stream(pointer(stream_address));
        ReduceParams params = {
            of, {}, {}, pointer(kept), row_stripe, col_stripe, num_row_stripes, num_col_stripes, self_similarity};
        set_slots(params.rows, rows);
        set_slots(params.cols, cols);
        reduce_fwd(path, params, stream);
      },
      py::arg("path"), py::arg("matrix"), py::kw_only(), py::arg("rows"), py::arg("cols"), py::arg("kept"),
      py::arg("row_stripe"), py::arg("col_stripe"), py::arg("num_row_stripes"), py::arg("num_col_stripes"),
      py::arg("self_similarity"), py::arg("stream"), py::call_guard<py::gil_scoped_release>());
  m.def(
      "merge_slots",
      [](int dtype, const std::vector<MergedTuple>& reductions, int64_t size, int num_slots, Address stream_address) {
        if (reductions.size() > kMaxReductions) throw py::value_error("too many reductions");
        MergeParams params = {static_cast<DType>(dtype), 0, {}, size, num_slots};
        for (const auto& [kind, numbers, result] : reductions) {
          params.reductions[params.num_reductions++] = {static_cast<ReductionKind>(kind), slots(numbers),
                                                        pointer(result)};
        }
        Stream stream(pointer(stream_address));
        merge_slots(params, stream);
      },
      py::kw_only(), py::arg("dtype"), py::arg("reductions"), py::arg("size"), py::arg("num_slots"), py::arg("stream"),
      py::call_guard<py::gil_scoped_release>());
  m.def(
      "macro_pass_bwd",
      [](std::array<Path, 2> paths, const Matrix& of, const std::vector<std::array<int64_t, 5>>& block_fields,
         bool self_similarity, Address kept, Address weights, int64_t weights_bank_stride, int64_t weights_stride,
         std::array<Address, 4> lines, std::array<Address, 4> parts, Address d_scale, int64_t terms_per_entry,
         const GradientTuple& rows, const GradientTuple& cols, Address stream_address) {
        std::vector<MacroBlock> blocks;
        blocks.reserve(block_fields.size());
        for (const auto& f : block_fields) blocks.push_back({f[0], f[1], f[2], f[3], f[4]});
        Stream stream(pointer(stream_address));
        macro_pass_bwd({paths[0], paths[1]},
                       {of, blocks.data(), static_cast<int64_t>(blocks.size()), self_similarity, pointer(kept),
                        pointer(weights), weights_bank_stride, weights_stride, line_sums(lines), line_sums(parts),
                        pointer(d_scale), terms_per_entry, gradient(rows), gradient(cols)},
                       stream);
      },
      py::arg("paths"), py::arg("matrix"), py::kw_only(), py::arg("blocks"), py::arg("self_similarity"),
      py::arg("kept"), py::arg("weights"), py::arg("weights_bank_stride"), py::arg("weights_stride"), py::arg("lines"),
      py::arg("parts"), py::arg("d_scale"), py::arg("terms_per_entry"), py::arg("rows"), py::arg("cols"),
      py::arg("stream"), py::call_guard<py::gil_scoped_release>(),
      "The gradient pass in two levels. Paths: of the scores, and of the products with the weights.");
}
