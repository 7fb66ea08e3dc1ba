"""Faults of one line in the kernels' sources, chosen by what they mean; `mutations.py` plants them.

A place is found by the tokens of its text, so spaces and line breaks do not matter, and must be found exactly once.
Where a fault is spelt otherwise in an older revision, further places say how; the first that the sources have is taken.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    path: str
    text: str
    instead: str


class Mutation(NamedTuple):
    name: str
    language: str  # of REACHED_BY
    places: tuple[Place, ...]


# the tests that reach the kernels of a language, for pytest; those that see most in little time come first
REACHED_BY = {
    "cpu": (
        "tests/test_volume_statistics.py",
        "tests/test_backward.py",
        "tests/test_reductions.py",
        "tests/test_statistics_matrix.py",
        "tests/test_extreme_scales.py",
        "tests/test_confident_pairs.py",
        "tests/test_cpu_reductions.py",
        "tests/test_row_cross_entropy.py",
        "-k",
        "cpu or native",
    ),
    "triton": (
        "tests/test_diagonals.py",
        "tests/test_volume_statistics.py",
        "tests/test_backward.py",
        "tests/test_statistics_matrix.py",
        "tests/test_triton_reductions.py",
        "tests/test_triton.py",
        "-k",
        "(triton or test_triton) and not compilation and not graph and not beyond_32 and not planted",
    ),
    "cuda": (
        "tests/test_volume_statistics.py",
        "tests/test_backward.py",
        "tests/test_statistics_matrix.py",
        "tests/test_cuda_reductions.py",
        "tests/test_cuda.py",
        "tests/test_cuda_kernels.py",
        "-k",
        "cuda",
    ),
}


def fault(name: str, path: str, text: str, instead: str, *older: tuple[str, str, str]) -> Mutation:
    """`older`: path, text and replacement in the sources before reductions had folders of their own."""
    return Mutation(name, name.partition(":")[0], (Place(path, text, instead), *(Place(*place) for place in older)))


CPU, CUDA, TRITON = "csrc/cpu", "csrc/cuda", "triton_kernels"

MUTATIONS = [
    fault(
        "cpu: a diagonal through a corner of the tile is missed",
        f"{CPU}/relation.h",
        "start < tile.cols && start + tile.rows > 0;",
        "start < tile.cols && start + tile.rows > 1;",
    ),
    fault(
        "cpu: equal ids at the ends of two ranges are missed",
        f"{CPU}/relation.h",
        "r.low <= c.high && c.low <= r.high",
        "r.low < c.high && c.low <= r.high",
    ),
    fault(
        "cpu: a bit of the ids is lost",
        f"{CPU}/relation.h",
        "Lane<T>(ids[i] >> 32)",
        "Lane<T>(ids[i] >> 33)",
    ),
    fault(
        "cpu: the first padding column counts",
        f"{CPU}/reduction/exponential_sweeps.h",
        "for (int64_t q = tail; q < W; ++q) panel[i * W + q]",
        "for (int64_t q = tail + 1; q < W; ++q) panel[i * W + q]",
        (
            f"{CPU}/sweep.h",
            "for (int64_t q = tail; q < W; ++q) panel[i * W + q]",
            "for (int64_t q = tail + 1; q < W; ++q) panel[i * W + q]",
        ),
    ),
    fault(
        "cpu: the last column of a tail is no positive",
        f"{CPU}/reduction/score_sum.h",
        "for (int64_t q = 0; q < width; ++q) row[0] += lanes[q];",
        "for (int64_t q = 0; q + 1 < width; ++q) row[0] += lanes[q];",
        (
            f"{CPU}/sweep.h",
            "for (int64_t q = 0; q < width; ++q) row[0] += lanes[q];",
            "for (int64_t q = 0; q + 1 < width; ++q) row[0] += lanes[q];",
        ),
    ),
    fault(
        "cpu: a tile's sums are merged without their reference",
        f"{CPU}/reduction/exponential_sweeps.h",
        "added * exp<T>(fresh - base)",
        "added",
        (f"{CPU}/sweep.h", "added * exp<T>(fresh - base)", "added"),
    ),
    fault(
        "cpu: the exponent of a gradient's factor has the wrong sign",
        f"{CPU}/reduction/exponential_sweeps.h",
        "load<T>(lanes[0]) * exp<T>(reference - l)",
        "load<T>(lanes[0]) * exp<T>(l - reference)",
        (f"{CPU}/sweep.h", "load<T>(lanes[0]) * exp<T>(reference - l)", "load<T>(lanes[0]) * exp<T>(l - reference)"),
    ),
    fault(
        "cpu: column factors are those of the other half of a panel",
        f"{CPU}/reduction/exponential_sweeps.h",
        "e1 * (a + b1)",
        "e1 * (a + b0)",
        (f"{CPU}/sweep.h", "e1 * (a + b1)", "e1 * (a + b0)"),
    ),
    fault(
        "cpu: the last stripe of columns is left out",
        f"{CPU}/walk.h",
        "merge(row_state<T>(w.p.reductions[r]), state, w.p.batch * w.p.m)",
        "merge(row_state<T>(w.p.reductions[r]), state, s + 1 < w.p.stripes ? w.p.batch * w.p.m : 0)",
    ),
    fault(
        "cpu: a panel of rows forgets what those before it gave the keys",
        f"{CPU}/gradient_pass.h",
        "firsts.of_cols && p.first_rows",
        "firsts.of_cols",
    ),
    fault(
        "cpu: dscale is that of the last panel of rows",
        f"{CPU}/gradient_pass.h",
        "p.batch * w.row_tiles, !p.first_rows",
        "p.batch * w.row_tiles, false",
    ),
    fault(
        "cpu: d_scale of self-similarity counts pairs twice",
        f"{CPU}/score/dot.h",
        "p.self_similarity ? total / 2 : total",
        "p.self_similarity ? total : total",
        (f"{CPU}/dot_score.h", "p.self_similarity ? total / 2 : total", "p.self_similarity ? total : total"),
    ),
    fault(
        "cpu: weights of a volume have the wrong sign",
        f"{CPU}/score/volume.h",
        "-q * sum",
        "q * sum",
        (f"{CPU}/volume_score.h", "-q * sum", "q * sum"),
    ),
    fault(
        "triton: sums are merged without their reference",
        f"{TRITON}/reduction/log_sum_exp.py",
        "first[1] * exponential(first[0] - shift) + second[1] * exponential(second[0] - shift)",
        "first[1] * exponential(first[0] - shift) + second[1]",
        (
            f"{TRITON}/statistics_fwd.py",
            "total * exponential(top - shift) + new_total * exponential(new_top - shift)",
            "total * exponential(top - shift) + new_total",
        ),
    ),
    fault(
        "triton: the first row beyond the end counts",
        f"{TRITON}/reduction/log_sum_exp.py",
        "(tile.row_start + BLOCK_M > tile.num_rows)",
        "(tile.row_start + BLOCK_M > tile.num_rows + 1)",
        (f"{TRITON}/tile.py", "(row_start + BLOCK_M > num_rows)", "(row_start + BLOCK_M > num_rows + 1)"),
    ),
    fault(
        "triton: a diagonal's offset has the wrong sign",
        f"{TRITON}/relation.py",
        "tile.cols[None, :] == tile.rows[:, None] + clause.offset",
        "tile.cols[None, :] == tile.rows[:, None] - clause.offset",
        (
            f"{TRITON}/relation.py",
            "cols[None, :] == rows[:, None] + clause.offset",
            "cols[None, :] == rows[:, None] - clause.offset",
        ),
    ),
    fault(
        "triton: a diagonal through a corner of the tile is missed",
        f"{TRITON}/relation.py",
        "tile.col_start < first + BLOCK_M",
        "tile.col_start < first + BLOCK_M - 1",
        (
            f"{TRITON}/relation.py",
            "col_start < row_start + offset + BLOCK_M",
            "col_start < row_start + offset + BLOCK_M - 1",
        ),
    ),
    fault(
        "triton: a bank is taken for its neighbour's row",
        f"{TRITON}/tile.py",
        "tl.cast(bank, tl.int64) * strides.bank",
        "tl.cast(bank, tl.int64) * strides.row",
    ),
    fault(
        "triton: kept products of a batch lie in one another",
        f"{TRITON}/reduce_fwd.py",
        "kept_lines = batch.to(tl.int64) * num_rows + tile.rows",
        "kept_lines = batch.to(tl.int64) * 0 + tile.rows",
        (
            f"{TRITON}/statistics_fwd.py",
            "kept_lines = batch.to(tl.int64) * num_rows + rows",
            "kept_lines = batch.to(tl.int64) * 0 + rows",
        ),
    ),
    fault(
        "triton: a mirrored tile's columns count twice",
        f"{TRITON}/reduction/__init__.py",
        "tl.where(tile.col_start == tile.row_start, neutral[s], found[s])",
        "tl.where(tile.col_start == tile.row_start, found[s], found[s])",
        (
            f"{TRITON}/statistics_fwd.py",
            "counted = tl.where(col_start == row_start, 0.0, counted)",
            "counted = tl.where(col_start == row_start, counted, counted)",
        ),
    ),
    fault(
        "triton: columns count half in the gradient",
        f"{TRITON}/reduction/log_sum_exp.py",
        "ds += h[None, :] * exponential(scores - lse[None, :])",
        "ds += h[None, :] * exponential(scores - lse[None, :]) * 0.5",
        (
            f"{TRITON}/tile.py",
            "ds += h[None, :] * exponential(scores - lse[None, :])",
            "ds += h[None, :] * exponential(scores - lse[None, :]) * 0.5",
        ),
    ),
    fault(
        "triton: a slope of the volume has the wrong sign",
        f"{TRITON}/score/volume.py",
        "(-by_distance * coordinates[r],)",
        "(by_distance * coordinates[r],)",
        (f"{TRITON}/volume.py", "(-by_distance * coordinates[r],)", "(by_distance * coordinates[r],)"),
    ),
    fault(
        "triton: the other side of a macro-block is taken from its start",
        f"{TRITON}/macro_bwd.py",
        "others.first + start, first_d",
        "start, first_d",
        (f"{TRITON}/macro_bwd.py", "first_other + start,", "start,"),
    ),
    fault(
        "triton: sums along lines are those of the last block",
        f"{TRITON}/macro_bwd.py",
        "tl.load(target, mask=i < size, other=0.0) + total",
        "total",
    ),
    fault(
        "cuda: sums are merged without their reference",
        f"{CUDA}/reduction/log_sum_exp.cuh",
        "b.total * exponential(b.top - shift)",
        "b.total",
        (f"{CUDA}/online.cuh", "b.total * exponential(b.top - shift)", "b.total"),
    ),
    fault(
        "cuda: the first column beyond the end counts",
        f"{CUDA}/relation.cuh",
        "Acc::row_offset(m) < rows_left && Acc::col_offset(n) < cols_left",
        "Acc::row_offset(m) < rows_left && Acc::col_offset(n) <= cols_left",
    ),
    fault(
        "cuda: a diagonal's offset has the wrong sign",
        f"{CUDA}/relation.cuh",
        "row + static_cast<int>(clause.offset) - col",
        "row - static_cast<int>(clause.offset) - col",
    ),
    fault(
        "cuda: ids of the columns have the stride of the rows",
        f"{CUDA}/relation.cuh",
        "batch * clause.col_batch_stride",
        "batch * clause.row_batch_stride",
    ),
    fault(
        "cuda: a column forgets the tiles above",
        f"{CUDA}/reduction/log_sum_exp_of_stripe.cuh",
        "stripe.walk.starts_col(tile) ? found : MergeExpSums",
        "true ? found : MergeExpSums",
        (f"{CUDA}/statistics_fwd.cuh", "walk_.starts_col(tile) ? found", "true ? found"),
    ),
    fault(
        "cuda: a mirrored tile's positives count twice",
        f"{CUDA}/reduction/score_sum_of_tiles.cuh",
        "of_cols.of[0] && !stripe.is_mirrored(tile)",
        "of_cols.of[0]",
        (f"{CUDA}/statistics_fwd.cuh", "params_.cols.positive && !is_mirrored(tile)", "params_.cols.positive"),
    ),
    fault(
        "cuda: d_scale counts blocks on the diagonal twice",
        f"{CUDA}/macro_pass_bwd.cu",
        "is_on_diagonal(block) ? 0.5 : 1.0",
        "is_on_diagonal(block) ? 1.0 : 1.0",
    ),
    fault(
        "cuda: every bank of keys is the first",
        f"{CUDA}/macro_pass_bwd.cu",
        "bank * matrix_.bank_stride + block.first_col * keys.row_stride",
        "block.first_col * keys.row_stride",
    ),
    fault(
        "cuda: sums along lines are those of the last block",
        f"{CUDA}/macro_sums.cu",
        "static_cast<Stat*>(params.sums)[i] += sum",
        "static_cast<Stat*>(params.sums)[i] = sum",
    ),
]
