"""The span of K vectors, `[rows, K, D]` at a time, in float64: orthonormal basis, volume, and their gradients.

With x_1 .. x_K the vectors of a row, X = L Y: L lower triangular (K x K), Y the orthonormal basis (K x D), and
beta = det L the volume that they span. What depends on the span and on beta alone has in X the gradient

    dX = dbeta * beta * L^-T Y + L^-T (I - Y^T Y) dY                      dY: the gradient in the basis

since a rotation of the basis inside the span changes nothing. Training draws the vectors of a tuple together, so L^-1
grows: at an angle of 1e-4 it costs four digits, which float64 has to spare and float32 has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK_BYTES = 2 * 1024 * 1024  # of float64 vectors; a few such chunks are alive at a time
DEPENDENT = 2.0**-40  # a vector is in the span of those before it if less than this share of its length lies outside


class Span(NamedTuple):
    """Spans of many rows. A vector that is dependent on those before it has length 0, and its rows of basis and inverse
    are 0."""

    basis: Tensor  # [rows, K, D] orthonormal
    inverse: Tensor  # [rows, K, K] L^-1, so that basis = inverse @ vectors
    lengths: Tensor  # [rows, K] diagonal of L: what of a vector lies outside the span of those before it

    @property
    def volume(self) -> Tensor:
        """beta, `[rows]`."""
        return self.lengths.prod(1)

    def leading(self, count: int) -> Span:
        """The spans of the first `count` vectors of each row."""
        return Span(self.basis[:, :count], self.inverse[:, :count, :count], self.lengths[:, :count])


def float64_chunks(vectors: Sequence[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Yields (rows, their vectors `[rows, K, D]`) from K tensors `[.., D]`, each seen as one list of rows."""
    flat = [vector.reshape(-1, vector.shape[-1]) for vector in vectors]
    total, d = flat[0].shape
    size = max(1, CHUNK_BYTES // (8 * d * len(flat)))
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        chunk = flat[0].new_empty((rows.stop - start, len(flat), d), dtype=torch.float64)
        for k, vector in enumerate(flat):
            chunk[:, k].copy_(vector[rows])
        yield rows, chunk


def span_(vectors: Tensor) -> Span:
    """Gram-Schmidt in place, one vector after another, each taken out of all that follow: `vectors [rows, K, D]`,
    float64, become the basis."""
    rows, count, _ = vectors.shape
    lengths = torch.linalg.vector_norm(vectors, dim=-1)
    triangle = vectors.new_zeros((rows, count, count))
    independent = torch.ones_like(lengths, dtype=torch.bool)
    for r in range(count):
        rest = vectors[:, r]
        length = lengths[:, 0] if r == 0 else torch.linalg.vector_norm(rest, dim=-1)
        # what is not finite counts as independent, and stays visible
        depends = (length <= DEPENDENT * lengths[:, r]) & length.isfinite()
        independent[:, r] = ~depends
        triangle[:, r, r] = length.masked_fill(depends, 1.0)
        rest.mul_(triangle[:, r, r].reciprocal().masked_fill(depends, 0.0)[:, None])
        for later in range(r + 1, count):  # `baddbmm_` on a slice would go row by row
            share = torch.linalg.vecdot(vectors[:, later], rest)
            triangle[:, later, r] = share
            vectors[:, later].addcmul_(share[:, None], rest, value=-1)
    inverse = torch.linalg.solve_triangular(triangle, torch.eye(count).to(triangle).expand_as(triangle), upper=False)
    return Span(vectors, inverse * independent[:, :, None], triangle.diagonal(dim1=1, dim2=2) * independent)


def span_again(vectors: Tensor, inverse: Tensor) -> Span:
    """The span of which L^-1 is known: the same to rounding, in one product."""
    diagonal = inverse.diagonal(dim1=1, dim2=2)
    return Span(torch.bmm(inverse, vectors), inverse, diagonal.reciprocal().masked_fill(diagonal == 0, 0.0))


def volume_gradient(found: Span, dvolume: Tensor) -> Tensor:
    """dX = dbeta * beta * L^-T Y, `[rows, K, D]`; 0 where the volume is."""
    weight = dvolume.to(torch.float64) * found.volume
    return torch.bmm((weight[:, None, None] * found.inverse).mT, found.basis)


def outside(found: Span, directions: Tensor) -> Tensor:
    """(I - Y^T Y) of `directions [rows, K, D]`: what of them leaves the span."""
    return torch.baddbmm(directions, torch.bmm(directions, found.basis.mT), found.basis, alpha=-1)
