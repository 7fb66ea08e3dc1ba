"""The span of V vectors, `[rows, V, D]` at a time, in float64: orthonormal basis, volume, and their gradients.

With x_1 .. x_V the vectors of a row, X = L Y: L lower triangular (V x V), Y the orthonormal basis (V x D), and
beta = det L the volume that they span. What depends on the span and on beta alone has in X the gradient

    dX = dbeta * beta * L^-T Y + L^-T (I - Y^T Y) dY                      dY: the gradient in the basis

since a rotation of the basis inside the span changes nothing. Training draws the vectors of a tuple together, so L^-1
grows: at an angle of 1e-4 it costs four digits, which float64 has to spare and float32 has not.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

CHUNK_BYTES = 2 * 1024 * 1024  # of float64 vectors; a few such chunks are alive at a time
DEPENDENT = 2.0**-40  # a vector is in the span of those before it if less than this share of its length lies outside


def float64_chunks(vectors: Sequence[Tensor]) -> Iterator[tuple[slice, Tensor]]:
    """Yields (rows, their vectors `[rows, V, D]`) from V tensors `[.., D]`, each seen as one list of rows."""
    flat = [vector.reshape(-1, vector.shape[-1]) for vector in vectors]
    total, d = flat[0].shape
    size = max(1, CHUNK_BYTES // (8 * d * len(flat)))
    for start in range(0, total, size):
        rows = slice(start, min(start + size, total))
        chunk = flat[0].new_empty((rows.stop - start, len(flat), d), dtype=torch.float64)
        for v, vector in enumerate(flat):
            chunk[:, v].copy_(vector[rows])
        yield rows, chunk


def orthonormalize_(vectors: Tensor) -> Tensor:
    """Gram-Schmidt, one vector after another, each taken out of all that follow: `vectors [rows, V, D]` become the
    basis Y, and L `[rows, V, V]` is returned. A vector that depends on those before it has 0 for its basis and on the
    diagonal of L."""
    rows, count, _ = vectors.shape
    triangle = vectors.new_zeros((rows, count, count))
    lengths = torch.linalg.vector_norm(vectors, dim=-1)
    for r in range(count):
        vector, later = vectors[:, r], vectors[:, r + 1 :]
        length = lengths[:, r] if r == 0 else torch.linalg.vector_norm(vector, dim=-1)
        # what is not finite counts as independent, and stays visible
        depends = (length <= DEPENDENT * lengths[:, r]) & length.isfinite()
        triangle[:, r, r] = length.masked_fill(depends, 0.0)
        vector.mul_(length.reciprocal().masked_fill_(depends, 0.0)[:, None])
        if r + 1 < count:
            shares = torch.bmm(later, vector[:, :, None])
            triangle[:, r + 1 :, r] = shares[:, :, 0]
            later.addcmul_(shares, vector[:, None], value=-1)
    return triangle


def identity(size: int, like: Tensor) -> Tensor:
    """`[size, size]`, made on the device."""
    return torch.eye(size, dtype=like.dtype, device=like.device)


def inverse_triangle(triangle: Tensor) -> Tensor:
    """L^-1 `[rows, V, V]`, so that Y = L^-1 X; rows of 0 where a vector is dependent."""
    diagonal = triangle.diagonal(dim1=1, dim2=2)
    depends = diagonal == 0
    solvable = triangle + torch.diag_embed(depends.to(triangle.dtype))
    unit = identity(triangle.shape[-1], triangle).expand_as(triangle)
    inverse: Tensor = torch.linalg.solve_triangular(solvable, unit, upper=False)
    return inverse.masked_fill_(depends[:, :, None], 0.0)


def volumes(triangle: Tensor) -> Tensor:
    """beta `[rows]` of L `[rows, V, V]`."""
    return triangle.diagonal(dim1=1, dim2=2).prod(1)


def volume_coefficients(inverse: Tensor, dvolume: Tensor) -> Tensor:
    """C `[rows, V, V]` of the gradient in the vectors of a volume, dX = C X = dbeta * beta * L^-T L^-1 X; 0 where the
    volume is."""
    diagonal = inverse.diagonal(dim1=1, dim2=2)
    volume = diagonal.prod(1).reciprocal().masked_fill((diagonal == 0).any(1), 0.0)
    return torch.bmm(((dvolume.to(torch.float64) * volume)[:, None, None] * inverse).mT, inverse)


def inside(inverse: Tensor, vectors: Tensor, directions: Tensor) -> Tensor:
    """S `[rows, K, V]` of what of `directions [rows, K, D]` lies in the span of `vectors [rows, V, D]`:
    G Y^T Y = S X."""
    return torch.bmm(torch.bmm(torch.bmm(directions, vectors.mT), inverse.mT), inverse)
