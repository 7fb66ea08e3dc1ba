"""Panels of rows with what they share: keys are packed once, and their gradients add up in place."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

from contrastive_ops.backends.base import Outer, Wanted
from contrastive_ops.backends.cpu import native
from contrastive_ops.backends.cpu.call import Panel
from contrastive_ops.backends.cpu.memory import keys_bytes, new_state, plan_of
from contrastive_ops.backends.cpu.passes import Outputs, gradient_pass, score_pass
from contrastive_ops.backends.cpu.tiling import LARGEST_BLOCK, Shape, ceil_div
from contrastive_ops.backends.panels import even_slices
from contrastive_ops.problem import Gradients, Problem

LEAST_ROWS = 48  # of a useful panel: fewer read and write all keys for little work
# scores of so many bytes are still in a cache when their gradient is formed; but so few rows need the keys too often
PANEL_BYTES, PANEL_ROWS = 16 * 1024 * 1024, 1024


def is_finished_at_once(problem: Problem) -> bool:
    """Whether the scores of all rows are one panel, or of no useful number of them."""
    batch, m, _, _ = problem.sizes
    rows = _rows_of_a_panel(problem)
    return rows >= batch * m or rows < LEAST_ROWS or not problem.score.is_linear_in_products


def finish_by_panels(problem: Problem, outer: Outer, wanted: Wanted) -> tuple[Tensor, Gradients]:
    """`Backend.total_and_gradients` for a score that is linear in its products."""
    batch, m, _, _ = problem.sizes
    whole, total = Outputs.new(problem, wanted), problem.scale.new_zeros(())
    dscales = problem.scale.new_zeros((batch,)) if wanted.scale else None
    panels = list(panels_of(problem))
    _, largest = panels[0]
    keys = None  # no panel has any where tiles pack their own
    for entries, rows in panels:
        part = problem.select(rows, None, entries)
        shape = Shape.of(part)._replace(all_rows=m, panel_rows=largest.stop, shares_keys=True)
        if keys is None and not plan_of(shape).tiling.stripes:
            keys = native.new_block(keys_bytes(shape))
        panel = Panel(rows.start == 0, rows.stop == m, 0 if keys is None else keys.address)
        outputs = _outputs_of(whole, dscales, entries, rows)
        total += _finish(part, shape, panel, outer, outputs)
    if dscales is not None:
        whole = whole._replace(dscale=dscales.sum())
    return total, whole.gradients(wanted, problem.scale.dtype)


def _finish(part: Problem, shape: Shape, panel: Panel, outer: Outer, outputs: Outputs) -> Tensor:
    """What a panel adds to the total; its state is gone before the next one has its own."""
    state = new_state(plan_of(shape).state.total)
    results = score_pass(part, shape, state, panel)
    total, upstream = outer(results)
    gradient_pass(part, shape, results, upstream, state, outputs, panel)
    return total


def _outputs_of(whole: Outputs, dscales: Tensor | None, entries: slice, rows: slice) -> Outputs:
    """Memory of the gradients of a panel, contiguous: it has all rows, or one entry of the batch."""

    def part(gradient: Tensor | None, dim: int | None) -> Tensor | None:
        if gradient is None:
            return None
        gradient = gradient[entries]
        return gradient if dim is None else gradient.narrow(dim, rows.start, rows.stop - rows.start)

    return Outputs(
        part(whole.dqueries, -2),
        part(whole.dkeys, None),
        part(dscales, None),  # its first entry is that of the panel's
        part(whole.drow_bias, -1),
        part(whole.dcol_bias, None),
        None,
        None,
    )


def panels_of(problem: Problem) -> Iterator[tuple[slice, slice]]:
    """Entries of the batch and rows: several entries where the rows of one are less than a panel."""
    batch, m, _, _ = problem.sizes
    height = _rows_of_a_panel(problem)
    if height >= m:
        for entries in even_slices(batch, height // m, 1):
            yield entries, slice(0, m)
        return
    for entry in range(batch):
        for rows in even_slices(m, height, 1):
            yield slice(entry, entry + 1), rows


def _rows_of_a_panel(problem: Problem) -> int:
    """Rows whose scores fit the budget, whole tiles of columns counted."""
    _, _, n, _ = problem.sizes
    row_bytes = max(1, ceil_div(n, LARGEST_BLOCK) * LARGEST_BLOCK * problem.statistics_dtype.itemsize)
    return min(problem.workspace_bytes // row_bytes, max(PANEL_BYTES // row_bytes, PANEL_ROWS))
