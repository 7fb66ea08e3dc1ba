"""One frozen description of the work: two sides, a score, and what its lines are reduced to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.leaves import Axis, Leaf, cut
from contrastive_ops.reductions import Reduced, Reduction
from contrastive_ops.scores import Score

DEFAULT_WORKSPACE_BYTES = 64 * 1024 * 1024

SCALE = Leaf(Axis.NONE, 0, gradient="scale")
QUERIES, KEYS = Leaf(Axis.ROWS, 4, -2, "queries"), Leaf(Axis.COLS, 4, -2, "keys")
ROW_BIAS, COL_BIAS = Leaf(Axis.ROWS, 2, gradient="row_bias"), Leaf(Axis.COLS, 2, gradient="col_bias")

Results = tuple[Reduced, ...]  # of each reduction of a problem: its numbers, or their upstream gradients


class Gradients(NamedTuple):
    """Gradients of a problem's inputs, under the names of their leaves; None where not asked for."""

    queries: Tensor | None = None
    keys: Tensor | None = None
    scale: Tensor | None = None
    row_bias: Tensor | None = None
    col_bias: Tensor | None = None
    row_term: Tensor | None = None
    col_term: Tensor | None = None

    def of(self, leaf: Leaf) -> Tensor:
        """That of a leaf that was asked for."""
        assert leaf.gradient is not None
        gradient: Tensor = getattr(self, leaf.gradient)
        return gradient

    def transposed(self) -> Gradients:
        """Of the transposed problem, which has no terms."""
        return Gradients(self.keys, self.queries, self.scale, self.col_bias, self.row_bias)


class Side(NamedTuple):
    """The rows or the columns of a score matrix."""

    vectors: Tensor  # [B, V, n, D]: an item is V vectors
    bias: Tensor | None = None  # [B, n], statistics dtype


class Problem(NamedTuple):
    """Scores s_ij = scale * score(i, j) + row_bias_i + col_bias_j, and which of their reductions are wanted.

    Backends always see a batch dimension and that of the vectors; `build_problem` leaves out what the user did.
    """

    rows: Side
    cols: Side  # those of the rows in self-similarity
    scale: Tensor  # [], statistics dtype
    score: Score
    reductions: tuple[Reduction, ...]
    self_similarity: bool = False  # one set, and relations and biases are symmetric: half of the pairs suffice
    workspace_bytes: int = 0  # budget for scores kept between forward and backward

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, M, N, D."""
        batch, _, m, d = self.rows.vectors.shape
        return batch, m, self.cols.vectors.shape[-2], d

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """(r, c) of every product <q^r_i, k^c_j> that the score is made of."""
        return self.score.pairs(self.rows.vectors.shape[1], self.cols.vectors.shape[1])

    @property
    def dtype(self) -> torch.dtype:
        """Of the embeddings."""
        return self.rows.vectors.dtype

    @property
    def statistics_dtype(self) -> torch.dtype:
        return statistics_dtype(self.dtype)

    @property
    def wants_rows(self) -> bool:
        return any(reduction.rows for reduction in self.reductions)

    @property
    def is_empty(self) -> bool:
        """Whether there is no pair."""
        batch, m, n, _ = self.sizes
        return batch * m * n == 0

    def neutral_results(self) -> Results:
        """Of no pairs."""
        batch, m, n, _ = self.sizes

        def neutral(reduction: Reduction, length: int) -> Tensor:
            dtype = reduction.result_dtype(self.scale.dtype)
            return self.scale.new_full((batch, length), reduction.neutral, dtype=dtype)

        return tuple([r.reduced(iter([neutral(r, m if dim == -1 else n) for dim in r.dims])) for r in self.reductions])

    def leaves(self) -> list[tuple[Leaf, Tensor]]:
        """Every tensor once, in the order in which `with_leaves` takes them."""
        found = [(SCALE, self.scale), (QUERIES, self.rows.vectors)]
        if self.rows.bias is not None:
            found.append((ROW_BIAS, self.rows.bias))
        if not self.self_similarity:
            found.append((KEYS, self.cols.vectors))
            if self.cols.bias is not None:
                found.append((COL_BIAS, self.cols.bias))
        for name, leaf in self.score.LEAVES:
            found.append((leaf, getattr(self.score, name)))
        for reduction in self.reductions:
            found += reduction.leaves()
        return found

    def with_leaves(self, tensors: Iterable[Tensor], offsets: Iterator[int] | None = None) -> Problem:
        """The same with other tensors, and other offsets of diagonals if they are given."""
        following = iter(tensors)
        scale = next(following)
        rows = Side(next(following), None if self.rows.bias is None else next(following))
        if self.self_similarity:
            cols = rows
        else:
            cols = Side(next(following), None if self.cols.bias is None else next(following))
        score = self.score.with_leaves(*(next(following) for _ in self.score.LEAVES))
        reductions = tuple([reduction.with_leaves(following, offsets) for reduction in self.reductions])
        return Problem(rows, cols, scale, score, reductions, self.self_similarity, self.workspace_bytes)

    def map(self, change: Callable[[Leaf, Tensor], Tensor]) -> Problem:
        """The same with each tensor changed."""
        return self.with_leaves([change(leaf, tensor) for leaf, tensor in self.leaves()])

    def select(self, rows: slice | None = None, cols: slice | None = None, batch: slice | None = None) -> Problem:
        """The part of these lines and entries of the batch, renumbered from 0. Slices have a start and a stop."""
        whole = self.with_two_sides() if (rows, cols) != (None, None) else self
        part = whole.map(lambda leaf, tensor: cut(leaf, tensor, rows, cols, batch))
        row_start, col_start = (0 if x is None else x.start for x in (rows, cols))
        return part.moved(row_start, col_start)

    def entry(self) -> Problem:
        """That of a single batch entry, without the batch dimension."""
        return self.map(lambda leaf, tensor: tensor.squeeze(0) if leaf.dims else tensor)

    def moved(self, row_start: int, col_start: int) -> Problem:
        """As the part of a larger matrix that starts there: diagonals count lines of the whole."""
        reductions = tuple(r.with_relation(r.relation.moved(row_start, col_start)) for r in self.reductions)
        return self._replace(reductions=reductions)

    def with_two_sides(self) -> Problem:
        """Without self-similarity, which parts of the matrix do not have."""
        return self._replace(self_similarity=False)

    def transposed(self) -> Problem:
        """Keys own the rows. Only where the score has no roles."""
        assert not self.score.has_roles
        reductions = tuple(reduction.transposed() for reduction in self.reductions)
        return self._replace(rows=self.cols, cols=self.rows, reductions=reductions)

    def with_batch(self) -> Problem:
        """As backends see it."""

        return self.map(self.whole)

    def whole(self, leaf: Leaf, tensor: Tensor) -> Tensor:
        """A tensor of this score as backends see it."""
        if (leaf is QUERIES and not self.score.row_items_have_vectors) or (
            leaf is KEYS and not self.score.col_items_have_vectors
        ):
            tensor = tensor.unsqueeze(-3)
        return tensor.unsqueeze(0) if tensor.dim() < leaf.dims else tensor


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Statistics and losses are float32, whatever the inputs; float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32
