"""Native C++ kernels for CPU tensors: policy, memory and addresses here, arithmetic in `csrc/cpu`."""

from __future__ import annotations

import os
from functools import cache, lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from contrastive_ops.backends.base import DTYPE_CODES, Wanted
from contrastive_ops.backends.extension import PACKAGE, check_own
from contrastive_ops.problem import Gradients, Problem, Results
from contrastive_ops.reductions import Reduced, ReductionKind
from contrastive_ops.relations import Relation
from contrastive_ops.scores import ScoreKind

try:
    from contrastive_ops import _native

    check_own(_native)
except ImportError as error:
    _native = None  # type: ignore[assignment]
    _IMPORT_ERROR: ImportError | None = error
else:
    _IMPORT_ERROR = None

ISA_VARIABLE = "CONTRASTIVE_OPS_CPU_ISA"  # one of these; the best of the processor by default
ISAS = ("baseline", "avx2", "avx512")
MAX_GROUPS = 8  # concurrency of the schedule; more costs locality
SMALLEST_BLOCK, LARGEST_BLOCK = 96, 256  # of all tilings; columns of a volume score may be fewer
VOLUME_TILES_BYTES = 400 * 1024  # of the second-level cache: K tiles of products and one of scores
ALIGNMENT = 64


class Tiling(NamedTuple):
    """How the score matrix is cut; independent of the thread count, so that results are too."""

    block_m: int
    block_n: int
    row_tiles: int
    col_tiles: int
    tiles: int  # all of them, or the upper triangle in self-similarity

    @property
    def groups(self) -> int:
        return min(MAX_GROUPS, self.row_tiles, self.col_tiles)


class Shape(NamedTuple):
    """What tiling and memory depend on. Sizes may be symbolic while a graph is traced."""

    batch: int
    m: int
    n: int
    d: int
    score: ScoreKind
    banks: int  # keys of one column
    dtype: torch.dtype
    statistics_dtype: torch.dtype
    self_similarity: bool
    workspace_bytes: int

    @classmethod
    def of(cls, problem: Problem) -> Shape:
        batch, m, n, d = problem.sizes
        dtype, statistics_dtype = problem.dtype, problem.scale.dtype
        score, banks = problem.score.kind, len(problem.pairs)
        return cls(
            batch, m, n, d, score, banks, dtype, statistics_dtype, problem.self_similarity, problem.workspace_bytes
        )


class CpuBackend:
    name = "cpu"
    summary = "native C++ (AVX-512, AVX2 or portable); O((M+N)*D) memory + budget"

    def missing(self) -> str | None:
        if _IMPORT_ERROR is None:
            return None
        remedy = "reinstall with a C++17 compiler"
        place = f"imported from {PACKAGE}"
        if (PACKAGE / "setup.py").exists():
            place = f"imported from the source tree {PACKAGE}"
            remedy = "pip install -e . builds it there; an installed copy is imported from another directory"
        return f"the native extension is not built in the contrastive_ops {place} ({_IMPORT_ERROR}): {remedy}"

    def reasons(self, problem: Problem) -> list[str]:
        missing = self.missing()
        reasons = [] if missing is None else [missing]
        if problem.scale.device.type != "cpu":
            reasons.append(f"tensors must be on the CPU, got {problem.scale.device}")
        kinds = [r.kind for r in problem.reductions]
        if kinds not in ([ReductionKind.LOG_SUM_EXP], [ReductionKind.LOG_SUM_EXP, ReductionKind.SCORE_SUM]):
            reasons.append(f"reductions {kinds}")
        return reasons

    def state_bytes(self, problem: Problem) -> int:
        return _state_layout(Shape.of(problem)).total

    def forward(self, problem: Problem) -> tuple[Results, Tensor | None]:
        batch, m, n, _ = problem.sizes
        rows, columns = _directions(problem)
        has_sums = len(problem.reductions) > 1
        new = problem.scale.new_empty
        row_lse = new((batch, m)) if rows else None
        col_lse = new((batch, n)) if columns else None
        row_sum = new((batch, m)) if rows and has_sums else None
        col_sum = new((batch, n)) if columns and has_sums else None
        shape = Shape.of(problem)
        state = _new_state(_plan(shape).state.total)
        if batch * m * n == 0:
            for lse, total in ((row_lse, row_sum), (col_lse, col_sum)):
                if lse is not None:
                    lse.fill_(-torch.inf)
                if total is not None:
                    total.zero_()
        else:
            call = _Call(problem, shape, state)
            call.set(row_lse=row_lse, row_sum=row_sum, col_lse=col_lse, col_sum=col_sum)
            scratch = _Layout()
            if rows:
                scratch.add("row_running", 2 * batch * m * call.item_bytes)
            if columns:
                scratch.add("col_running", 2 * batch * n * call.item_bytes)
            if rows and has_sums:
                scratch.add("row_positive", 8 * batch * m)
            if columns and has_sums:
                scratch.add("col_positive", 8 * batch * n)
            call.run("forward", scratch)
        results = (Reduced(row_lse, col_lse), Reduced(row_sum, col_sum))[: len(problem.reductions)]
        if problem.self_similarity:
            # one direction is the other; op outputs must not share memory
            results = tuple(
                Reduced(x.rows if r.rows else None, (x.rows.clone() if r.rows else x.rows) if r.columns else None)
                for x, r in zip(results, problem.reductions, strict=True)
            )
        return results, state

    def backward(
        self, problem: Problem, results: Results, upstream: Results, state: Tensor, wanted: Wanted
    ) -> Gradients:
        batch, m, n, d = problem.sizes
        if problem.self_similarity:
            results, upstream = _merge_directions(results, upstream)
        queries, keys = problem.rows.vectors, problem.cols.vectors
        dqueries = queries.new_empty(queries.shape, dtype=wanted.dtype) if wanted.queries else None
        dkeys = keys.new_empty(keys.shape, dtype=wanted.dtype) if wanted.keys else None
        is_dot = problem.score.kind is ScoreKind.DOT

        def new_line(want: bool, length: int) -> Tensor | None:
            return problem.scale.new_empty((batch, length), dtype=torch.float64) if want else None

        drow_bias, dcol_bias = new_line(wanted.row_bias, m), new_line(wanted.col_bias, n)
        drow_term = new_line(wanted.row_term, m)
        dcol_term = new_line(wanted.col_term or (wanted.scale and not is_dot), n)
        dscale = problem.scale.new_empty(()) if wanted.scale else None
        gradients = (dqueries, dkeys, dscale, drow_bias, dcol_bias, drow_term, dcol_term)
        if batch * m * n == 0:
            for gradient in gradients:
                if gradient is not None:
                    gradient.zero_()
        else:
            call = _Call(problem, Shape.of(problem), state)
            call.set(row_lse=results[0].rows, col_lse=results[0].columns)
            call.set(d_row_lse=upstream[0].rows, d_col_lse=upstream[0].columns)
            if len(upstream) > 1:
                call.set(d_row_sum=upstream[1].rows, d_col_sum=upstream[1].columns)
            call.set(dqueries=dqueries, dkeys=dkeys, drow_bias=drow_bias, dcol_bias=dcol_bias, dscale=dscale)
            call.set(drow_term=drow_term, dcol_term=dcol_term)
            scratch = _Layout()
            # dscale = <Q, dS K> needs one of the two products also where no gradient of the embeddings is wanted
            needs_dq = wanted.queries or (is_dot and wanted.scale and not wanted.keys)
            for name, gradient, needed, elements in (
                ("dq_accumulator", dqueries, needs_dq, batch * m * d),
                ("dk_accumulator", dkeys, wanted.keys, batch * len(problem.pairs) * n * d),
            ):
                if gradient is not None and gradient.dtype == problem.statistics_dtype:
                    call.set(**{name: gradient})
                elif needed:
                    scratch.add(name, elements * call.item_bytes)
            if is_dot and wanted.scale:
                scratch.add("dscale_partial", 8 * batch * (call.tiling.row_tiles + call.tiling.col_tiles))
            call.run("backward", scratch)
        if not wanted.col_term:
            dcol_term = None
        lines = (None if x is None else x.to(problem.scale.dtype) for x in (drow_bias, dcol_bias, drow_term, dcol_term))
        return Gradients(dqueries, dkeys, dscale, *lines)


def release_workspace() -> None:
    """Return the cached workspaces (at most two blocks, those of the last calls) to the operating system."""
    if _native is not None:
        _native.release_cached_blocks()


class _Layout:
    """Named, aligned pieces of one block; piece 0 starts at offset 0."""

    def __init__(self) -> None:
        self.offsets: dict[str, int] = {}
        self.sizes: dict[str, int] = {}
        self.total = 0

    def add(self, name: str, size: int) -> None:
        self.offsets[name] = self.total
        self.sizes[name] = size
        self.total += -(-size // ALIGNMENT) * ALIGNMENT


class _Call:
    """One call into the kernels: fills `Params` and keeps every tensor behind it alive."""

    def __init__(self, problem: Problem, shape: Shape, state: Tensor) -> None:
        batch, m, n, d = problem.sizes
        plan = _plan(shape)
        self.tiling = plan.tiling
        self.item_bytes = shape.statistics_dtype.itemsize
        self._scratch_bytes = plan.scratch_bytes
        self._alive: list[Any] = [problem, state]
        p = self._params = _native.Params(
            dtype=DTYPE_CODES[shape.dtype],
            batch=batch,
            m=m,
            n=n,
            d=d,
            score=int(shape.score),
            banks=shape.banks,
            absolute=problem.score.absolute,
            threads=torch.get_num_threads(),
            scale=problem.scale.item(),
            has_positives=len(problem.reductions) > 1,
            directions=_directions(problem),
            self_similarity=problem.self_similarity,
            block_m=plan.tiling.block_m,
            block_n=plan.tiling.block_n,
            groups=plan.tiling.groups,
            kept_tiles=plan.kept_tiles,
            scratch_bytes=plan.scratch_bytes,
        )
        queries, keys = problem.rows.vectors[:, 0], problem.cols.vectors
        p.set_queries(queries.data_ptr(), *queries.stride())
        p.set_keys(keys.data_ptr(), *keys.stride())
        self.set(row_bias=problem.rows.bias, col_bias=problem.cols.bias)
        self.set(row_term=problem.score.row_term, col_term=problem.score.col_term, mixing=problem.score.mixing)
        adds = (p.add_candidate_clause, p.add_positive_clause)
        for reduction, add in zip(problem.reductions, adds, strict=False):
            self._add_clauses(reduction.relation, add, m, n)
        self._place(plan.state, state.data_ptr())

    def set(self, **tensors: Tensor | None) -> None:
        """Point the parameters of these names at the tensors' memory."""
        for name, tensor in tensors.items():
            if tensor is not None:
                tensor = tensor.contiguous()
                self._alive.append(tensor)
                setattr(self._params, name, tensor.data_ptr())

    def run(self, direction: str, scratch: _Layout) -> None:
        """Allocate the scratch pieces and run the forward or backward pass."""
        scratch.add("scratch", self._scratch_bytes * torch.get_num_threads())
        block = _new_block(scratch.total)
        self._place(scratch, block.address)
        getattr(_kernels(), direction)(self._params)

    def _place(self, layout: _Layout, address: int) -> None:
        for name, offset in layout.offsets.items():
            setattr(self._params, name, address + offset)

    def _add_clauses(self, relation: Relation, add: Any, m: int, n: int) -> None:
        for clause in relation.clauses:
            addresses = []
            strides = []
            for ids in (clause.row_ids, clause.col_ids):
                if ids is not None:
                    ids = ids.contiguous()
                    self._alive.append(ids)
                    strides.append(ids.shape[1] if ids.shape[0] > 1 else 0)
                    addresses.append(ids.data_ptr())
            # a diagonal outside the matrix stays outside, and arithmetic on it cannot overflow
            offset = max(-m, min(n, clause.offset))
            add(int(clause.kind), offset, *(addresses or (0, 0)), *(strides or (0, 0)))


def wished_isa() -> str | None:
    """What the environment names; None for the best of the processor."""
    return os.environ.get(ISA_VARIABLE, "").strip().lower() or None


@cache
def _kernels() -> Any:
    wish = wished_isa()
    try:
        return _native.kernels(wish)
    except ValueError as error:
        raise ValueError(
            f"{ISA_VARIABLE} must be {', '.join(ISAS)}, as far as the processor has them, or unset, got {wish!r}"
        ) from error


def instruction_set() -> str:
    """Of the kernels in use."""
    return str(_kernels().name)


def _new_block(size: int) -> Any:
    """`size` bytes of reusable memory that return to the cache when the block dies."""
    try:
        return _native.Block(size)
    except MemoryError as error:
        raise MemoryError(f"could not allocate {size} bytes: lower workspace_bytes, or take a smaller batch") from error


def _new_state(size: int) -> Tensor:
    """A block as a tensor, which keeps it alive."""
    return torch.frombuffer(_new_block(max(size, 1)), dtype=torch.uint8)[:size]


def _directions(problem: Problem) -> tuple[bool, bool]:
    """Self-similarity needs one direction only: the other is the same."""
    return (True, False) if problem.self_similarity else (problem.wants_rows, problem.wants_columns)


def _merge_directions(results: Results, upstream: Results) -> tuple[Results, Results]:
    """Self-similarity: row and column results are one, so their upstream gradients add up."""

    def add(first: Tensor | None, second: Tensor | None) -> Tensor | None:
        return second if first is None else first if second is None else first + second

    return (
        tuple(Reduced(x.rows if x.rows is not None else x.columns, None) for x in results),
        tuple(Reduced(add(*x), None) for x in upstream),
    )


def _ceil_div(a: int, b: int) -> int:
    return -(-a // b)


class Plan(NamedTuple):
    """All that a shape decides, the same from call to call."""

    tiling: Tiling
    state: _Layout
    kept_tiles: int
    scratch_bytes: int  # of one thread


@lru_cache(maxsize=256)
def _plan(shape: Shape) -> Plan:
    tiling, state = _tiling(shape), _state_layout(shape)
    tile_bytes = shape.banks * tiling.block_m * tiling.block_n * shape.statistics_dtype.itemsize
    kept_tiles = min(shape.batch * tiling.tiles, state.sizes["kept"] // tile_bytes)
    scratch_bytes = _kernels().scratch_bytes(
        DTYPE_CODES[shape.dtype], int(shape.score), shape.banks, tiling.block_m, tiling.block_n
    )
    return Plan(tiling, state, kept_tiles, scratch_bytes)


def _tiling(shape: Shape) -> Tiling:
    """Tiles that fit the second-level cache beside their operands, fewer rows where the matrix is small.

    Numbers and measurements: docs/cpu_kernels.md.
    """
    m, n = shape.m, shape.n
    if shape.self_similarity:
        block_m, block_n = (192, 192) if m > 512 else (96, 96)
    else:
        block_m, block_n = (192, 256) if m > 512 else (128, 128)
    if shape.score is ScoreKind.VOLUME:
        block_n = min(block_n, _volume_columns(shape))
    row_tiles, col_tiles = _ceil_div(m, block_m), _ceil_div(n, block_n)
    tiles = row_tiles * (row_tiles + 1) // 2 if shape.self_similarity else row_tiles * col_tiles
    return Tiling(block_m, block_n, row_tiles, col_tiles, tiles)


def _volume_columns(shape: Shape) -> int:
    """The most columns of a volume score's tile, a multiple of every panel."""
    column_bytes = (shape.banks + 1) * 192 * shape.statistics_dtype.itemsize
    return max(32, VOLUME_TILES_BYTES // column_bytes // 32 * 32)


def _state_layout(shape: Shape) -> _Layout:
    """Packed operands, tile references and kept tiles; shapes as in `csrc/cpu/params.h`.

    Sizes are bounds over all tilings, without a branch on M or N: a compiled graph serves every shape.
    """
    batch, m, n, d, score, banks = shape[:6]
    smallest_n = min(SMALLEST_BLOCK, _volume_columns(shape))
    item = shape.statistics_dtype.itemsize
    panel = _kernels().panel(DTYPE_CODES[shape.dtype])
    d_padded, n_padded = _ceil_div(d, panel) * panel, _ceil_div(n, panel) * panel
    layout = _Layout()
    layout.add("packed_queries", batch * m * d_padded * item)
    if shape.self_similarity:
        layout.offsets["packed_keys"] = layout.offsets["packed_queries"]
    else:
        layout.add("packed_keys", batch * ((banks - 1) * n_padded + n) * d_padded * item)
    layout.add("tile_reference", batch * _ceil_div(m, SMALLEST_BLOCK) * _ceil_div(n, smallest_n) * item)
    all_products = batch * banks * (m + LARGEST_BLOCK) * (n + LARGEST_BLOCK) * item
    # the packed banks of a volume are many times the queries, so they are paid from the budget
    budget = shape.workspace_bytes - (0 if score is ScoreKind.DOT else layout.sizes["packed_keys"])
    layout.add("kept", torch.sym_min(torch.sym_max(budget, 0), all_products))
    return layout
