"""One call into the kernels: fills `Params` and keeps every tensor behind it alive."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from contrastive_ops.backends.base import DTYPE_CODES
from contrastive_ops.backends.cpu import native
from contrastive_ops.backends.cpu.memory import Layout, Plan
from contrastive_ops.problem import Problem, Results
from contrastive_ops.relations import Relation


class Panel(NamedTuple):
    """What the kernels have to know of the rows of a call."""

    is_first: bool  # of its columns: packs the keys and starts their gradients
    is_last: bool  # finishes them
    packed_keys: int | None = None  # address where panels share them; None: in the state or the scratch


WHOLE = Panel(True, True)


class Call:
    def __init__(self, problem: Problem, plan: Plan, state: Tensor | None, scratch: Layout, panel: Panel) -> None:
        """Memory of the layout `scratch` is taken for the length of the call, beside that of the threads."""
        assert all(row_vector == 0 for row_vector, _ in problem.pairs)
        batch, m, n, d = problem.sizes
        threads = torch.get_num_threads()
        self._problem, self._plan = problem, plan
        p = self._params = native.extension.Params(
            dtype=DTYPE_CODES[problem.dtype],
            batch=batch,
            m=m,
            n=n,
            d=d,
            score=int(problem.score.kind),
            banks=len(problem.pairs),
            absolute=problem.score.absolute,
            threads=threads,
            scale=problem.scale.item(),
            self_similarity=problem.self_similarity,
            block_m=plan.tiling.block_m,
            block_n=plan.tiling.block_n,
            groups=plan.tiling.groups,
            stripes=plan.tiling.stripes,
            first_rows=panel.is_first,
            last_rows=panel.is_last,
            kept_tiles=plan.kept_tiles,
            scratch_bytes=plan.scratch_bytes,
        )
        block = native.new_block(scratch.total + plan.scratch_bytes * threads)
        self._alive: list[Any] = [problem, state, block]
        p.scratch = block.address + scratch.total
        self._of_reductions: dict[tuple[int, str], int] = {}  # addresses
        if state is not None:
            self._place(plan.state, state.data_ptr())
        self._place(scratch, block.address)
        if plan.tiling.stripes:
            p.packed_keys = 0  # tiles pack their own
        elif panel.packed_keys is not None:
            p.packed_keys = panel.packed_keys
        queries, keys = problem.rows.vectors, problem.cols.vectors
        batch_stride, _, row_stride, d_stride = queries.stride()
        p.set_queries(queries.data_ptr(), batch_stride, row_stride, d_stride)
        p.set_keys(keys.data_ptr(), *keys.stride())
        self.set(row_bias=problem.rows.bias, col_bias=problem.cols.bias)
        self.set(row_term=problem.score.row_term, col_term=problem.score.col_term, mixing=problem.score.mixing)

    def set(self, **tensors: Tensor | None) -> None:
        """Point the parameters of these names at the tensors' memory."""
        for name, tensor in tensors.items():
            if tensor is not None:
                setattr(self._params, name, self._address(tensor))

    def forward(self, results: Results) -> None:
        for r in self._plan.order:
            running = self._of_reductions
            (of_rows, of_columns), reduction = results[r], self._problem.reductions[r]
            row_values, col_values = self._address(reduction.row_values), self._address(reduction.col_values)
            rows = (self._address(of_rows), running.get((r, "rows"), 0), row_values, 0)
            columns = (self._address(of_columns), running.get((r, "columns"), 0), col_values, 0)
            self._add_reduction(r, rows, columns)
        native.kernels().forward(self._params)

    def backward(self, results: Results, upstream: Results) -> None:
        for r in self._plan.order:
            if self._problem.reductions[r].has_slope:
                (of_rows, of_columns), (to_rows, to_columns) = results[r], upstream[r]
                rows = (self._address(of_rows), 0, 0, self._address(to_rows))
                columns = (self._address(of_columns), 0, 0, self._address(to_columns))
                self._add_reduction(r, rows, columns)
        native.kernels().backward(self._params)

    def _add_reduction(self, r: int, rows: tuple[int, ...], columns: tuple[int, ...]) -> None:
        reduction = self._problem.reductions[r]
        factor = 1.0 if reduction.factor is None else float(reduction.factor)
        clauses = self._clauses(reduction.relation)
        reference, stripes = (self._of_reductions.get((r, piece), 0) for piece in ("tile_reference", "row_stripes"))
        self._params.add_reduction(int(reduction.kind), factor, clauses, rows, columns, reference, stripes)

    def _clauses(self, relation: Relation) -> list[tuple[int, ...]]:
        _, m, n, _ = self._problem.sizes
        found: list[tuple[int, ...]] = []
        for clause in relation.clauses:
            if clause.row_ids is None or clause.col_ids is None:
                # a diagonal outside the matrix stays outside, and arithmetic on it cannot overflow
                found.append((int(clause.kind), max(-m, min(n, clause.offset)), 0, 0, 0, 0))
            else:
                addresses = [self._address(ids) for ids in (clause.row_ids, clause.col_ids)]
                strides = [ids.shape[1] if ids.shape[0] > 1 else 0 for ids in (clause.row_ids, clause.col_ids)]
                found.append((int(clause.kind), 0, *addresses, *strides))
        return found

    def _address(self, tensor: Tensor | None) -> int:
        """Of its numbers, one line after another, kept alive until the call is over; 0 for None."""
        if tensor is None:
            return 0
        tensor = tensor.contiguous()
        self._alive.append(tensor)
        return tensor.data_ptr()

    def _place(self, layout: Layout, address: int) -> None:
        for name, offset in layout.offsets.items():
            if isinstance(name, str):
                setattr(self._params, name, address + offset)
            else:
                self._of_reductions[name] = address + offset
