// The only file that knows Python. Addresses arrive as integers; the caller keeps the memory alive.
#include <omp.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <chrono>
#include <stdexcept>
#include <string>
#include <vector>

#include "cpu/arena.h"
#include "cpu/kernels.h"
#include "cpu/reduction/traits.h"

namespace py = pybind11;
using contrastive_ops::Block;
using contrastive_ops::Clause;
using contrastive_ops::ClauseKind;
using contrastive_ops::DType;
using contrastive_ops::Kernels;
using contrastive_ops::Params;
using contrastive_ops::ReducedLines;
using contrastive_ops::Reduction;
using contrastive_ops::ReductionKind;
using contrastive_ops::ScoreKind;

namespace {

const Kernels& kernels_or_throw(const char* isa) {
  const Kernels* found = contrastive_ops::find_kernels(isa);
  if (!found) throw py::value_error(std::string("this processor or build does not have the instruction set ") + isa);
  return *found;
}

template <class T>
void address(py::class_<Params>& cls, const char* name, T* Params::* member) {
  cls.def_property(
      name, [member](const Params& p) { return reinterpret_cast<std::uintptr_t>(p.*member); },
      [member](Params& p, std::uintptr_t value) { p.*member = reinterpret_cast<T*>(value); });
}

template <class T>
T* pointer(std::uintptr_t value) {
  return reinterpret_cast<T*>(value);
}

using ClauseFields = std::tuple<int, int64_t, std::uintptr_t, std::uintptr_t, int64_t, int64_t>;  // as Clause
using LinesFields = std::array<std::uintptr_t, 4>;                                                // as ReducedLines

void add_reduction(Params& p, int kind, double factor, const std::vector<ClauseFields>& clauses,
                   const LinesFields& rows, const LinesFields& columns, std::uintptr_t tile_reference,
                   std::uintptr_t row_stripes) {
  if (p.num_reductions == contrastive_ops::kMaxReductions) throw py::value_error("too many reductions");
  if (clauses.size() > contrastive_ops::kMaxClauses) throw py::value_error("too many clauses");
  if (kind < 0 || kind > int(ReductionKind::kCountAbove)) throw py::value_error("no such kind of reduction");
  Reduction r = {};
  r.kind = static_cast<ReductionKind>(kind);
  if (p.num_reductions && contrastive_ops::changes_scores(p.reductions[p.num_reductions - 1].kind) &&
      !contrastive_ops::changes_scores(r.kind))
    throw py::value_error("reductions that change the scores come last");
  for (const auto& [clause_kind, offset, row_ids, col_ids, row_stride, col_stride] : clauses)
    r.relation.clauses[r.relation.count++] = {
        static_cast<ClauseKind>(clause_kind), offset,     pointer<const int64_t>(row_ids),
        pointer<const int64_t>(col_ids),      row_stride, col_stride};
  const auto lines = [](const LinesFields& f) -> ReducedLines {
    return {pointer<void>(f[0]), pointer<void>(f[1]), pointer<void>(f[2]), pointer<void>(f[3])};
  };
  r.factor = factor;
  r.rows = lines(rows), r.columns = lines(columns);
  r.tile_reference = pointer<void>(tile_reference);
  r.row_stripes = pointer<void>(row_stripes);
  p.reductions[p.num_reductions++] = r;
}

// The best 10 ms of float FMAs over all threads at once, in GFLOP/s.
double fma_peak(double seconds, int threads, const char* isa) {
  using Clock = std::chrono::steady_clock;
  const Kernels& k = kernels_or_throw(isa);
  const auto burst_seconds = [&](int64_t iterations) {
    const auto start = Clock::now();
#pragma omp parallel num_threads(threads)
    k.fma_burst(iterations);
    return std::chrono::duration<double>(Clock::now() - start).count();
  };
  int64_t iterations = 10000;
  while (burst_seconds(iterations) < 0.01) iterations *= 2;
  const double flops = 2.0 * 12 * (k.panel(DType::kFloat32) / 2) * double(iterations) * threads;
  double best = 0;
  for (const auto start = Clock::now(); std::chrono::duration<double>(Clock::now() - start).count() < seconds;) {
    const double rate = flops / burst_seconds(iterations) * 1e-9;
    best = rate > best ? rate : best;
  }
  return best;
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  m.doc() = "Native CPU kernels of contrastive_ops.";

  py::class_<Block>(m, "Block", py::buffer_protocol(), "A reusable, writable block of memory.")
      .def(py::init<std::size_t>())
      .def_property_readonly("address", [](const Block& b) { return reinterpret_cast<std::uintptr_t>(b.data()); })
      .def_buffer([](Block& b) {
        return py::buffer_info(b.data(), 1, py::format_descriptor<std::uint8_t>::format(),
                               static_cast<py::ssize_t>(b.bytes()));
      });
  m.def("release_cached_blocks", &contrastive_ops::release_cached_blocks);

  py::class_<Params> params(m, "Params");
  params.def(
      py::init([](int dtype, int64_t batch, int64_t m, int64_t n, int64_t d, int score, int64_t banks, bool absolute,
                  int threads, double scale, bool self_similarity, int64_t block_m, int64_t block_n, int groups,
                  int stripes, bool first_rows, bool last_rows, int64_t kept_tiles, int64_t scratch_bytes) {
        Params p = {};
        p.dtype = static_cast<DType>(dtype);
        p.batch = batch, p.m = m, p.n = n, p.d = d;
        if (banks < 1 || banks > contrastive_ops::kMaxBanks) throw py::value_error("too many banks of keys");
        p.score = static_cast<ScoreKind>(score);
        p.banks = banks;
        p.absolute = absolute;
        p.threads = threads;
        p.scale = scale;
        p.self_similarity = self_similarity;
        p.block_m = block_m, p.block_n = block_n, p.groups = groups, p.stripes = stripes;
        p.first_rows = first_rows, p.last_rows = last_rows;
        p.kept_tiles = kept_tiles;
        p.scratch_bytes = scratch_bytes;
        return p;
      }),
      py::kw_only(), py::arg("dtype"), py::arg("batch"), py::arg("m"), py::arg("n"), py::arg("d"), py::arg("score"),
      py::arg("banks"), py::arg("absolute"), py::arg("threads"), py::arg("scale"), py::arg("self_similarity"),
      py::arg("block_m"), py::arg("block_n"), py::arg("groups"), py::arg("stripes"), py::arg("first_rows"),
      py::arg("last_rows"), py::arg("kept_tiles"), py::arg("scratch_bytes"));
  params.def("set_queries",
             [](Params& p, std::uintptr_t data, int64_t batch_stride, int64_t row_stride, int64_t d_stride) {
               p.queries = {reinterpret_cast<const void*>(data), batch_stride, row_stride, d_stride};
             });
  params.def("set_keys", [](Params& p, std::uintptr_t data, int64_t batch_stride, int64_t bank_stride,
                            int64_t row_stride, int64_t d_stride) {
    p.keys = {reinterpret_cast<const void*>(data), batch_stride, row_stride, d_stride};
    p.bank_stride = bank_stride;
  });
  params.def("add_reduction", &add_reduction,
             "The next one: kind, factor, clauses, rows, columns, tile reference, stripes of the rows.");
  address(params, "row_bias", &Params::row_bias);
  address(params, "col_bias", &Params::col_bias);
  address(params, "row_term", &Params::row_term);
  address(params, "col_term", &Params::col_term);
  address(params, "mixing", &Params::mixing);
  address(params, "packed_queries", &Params::packed_queries);
  address(params, "packed_keys", &Params::packed_keys);
  address(params, "kept", &Params::kept);
  address(params, "scratch", &Params::scratch);
  address(params, "dq_accumulator", &Params::dq_accumulator);
  address(params, "dk_accumulator", &Params::dk_accumulator);
  address(params, "dqueries", &Params::dqueries);
  address(params, "dkeys", &Params::dkeys);
  address(params, "drow_bias", &Params::drow_bias);
  address(params, "dcol_bias", &Params::dcol_bias);
  address(params, "drow_term", &Params::drow_term);
  address(params, "dcol_term", &Params::dcol_term);
  address(params, "dscale_partial", &Params::dscale_partial);
  address(params, "dscale", &Params::dscale);
  address(params, "dq_stripes", &Params::dq_stripes);
  address(params, "drow_bias_stripes", &Params::drow_bias_stripes);
  address(params, "drow_term_stripes", &Params::drow_term_stripes);

  py::class_<Kernels>(m, "Kernels", "The kernels of one instruction set.")
      .def_property_readonly("name", [](const Kernels& k) { return k.name; })
      .def("panel", [](const Kernels& k, int dtype) { return k.panel(static_cast<DType>(dtype)); })
      .def("state_bytes",
           [](const Kernels& k, int dtype, int kind) {
             return k.state_bytes(static_cast<DType>(dtype), static_cast<ReductionKind>(kind));
           })
      .def("state_is_result",
           [](const Kernels& k, int kind) { return k.state_is_result(static_cast<ReductionKind>(kind)); })
      .def("scratch_bytes",
           [](const Kernels& k, int dtype, int score, int banks, bool several_change, int64_t block_m, int64_t block_n,
              int64_t keys_depth) {
             return k.scratch_bytes(static_cast<DType>(dtype), static_cast<ScoreKind>(score), banks, several_change,
                                    block_m, block_n, keys_depth);
           })
      .def(
          "forward", [](const Kernels& k, const Params& p) { k.forward(p); }, py::call_guard<py::gil_scoped_release>())
      .def(
          "backward", [](const Kernels& k, const Params& p) { k.backward(p); },
          py::call_guard<py::gil_scoped_release>());
  m.def(
      "kernels", [](std::optional<std::string> isa) { return &kernels_or_throw(isa ? isa->c_str() : nullptr); },
      py::arg("isa") = py::none(), py::return_value_policy::reference,
      "The kernels of the named instruction set (baseline, avx2, avx512), by default the best of this processor.");
  m.def(
      "fma_peak",
      [](double seconds, int threads, std::optional<std::string> isa) {
        return fma_peak(seconds, threads, isa ? isa->c_str() : nullptr);
      },
      py::arg("seconds") = 0.1, py::arg("threads") = 1, py::arg("isa") = py::none(),
      py::call_guard<py::gil_scoped_release>(), "Best 10 ms rate of float32 FMAs on `threads` threads, in GFLOP/s.");
}
