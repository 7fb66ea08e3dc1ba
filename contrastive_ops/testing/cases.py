"""Problems of the primitive by names, and their tensors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops.testing.layouts import LAYOUTS
from contrastive_ops.testing.pair_sets import RELATIONS, SELF_RELATIONS, PairSet


@dataclass(frozen=True)
class Case:
    """One problem by names; `make_inputs` turns it into tensors."""

    relation: str
    sizes: tuple[int, int, int]  # M, N, D
    layout: str = "contiguous"
    batch: int = 0  # 0: no batch dimension
    rows: bool = True
    columns: bool = True
    row_bias: bool = False
    col_bias: bool = False
    tensor_scale: bool = True
    scale: float = 14.25  # exact in every dtype

    def __str__(self) -> str:
        options = ("rows", "columns", "row_bias", "col_bias", "tensor_scale")
        return "-".join(
            [
                self.relation,
                "x".join(map(str, self.sizes)),
                self.layout,
                f"batch{self.batch}",
                *(name for name in options if getattr(self, name)),
            ]
        )

    @property
    def is_self(self) -> bool:
        return self.relation in SELF_RELATIONS


class Inputs(NamedTuple):
    """Tensors of a case; every floating one is a leaf that requires grad."""

    queries: Tensor
    keys: Tensor
    scale: float | Tensor
    row_bias: Tensor | None
    col_bias: Tensor | None
    candidates: PairSet
    positives: PairSet | None

    def leaves(self) -> dict[str, Tensor]:
        """The tensors to differentiate; one tensor in two roles is listed once."""
        named = {name: getattr(self, name) for name in ("queries", "keys", "scale", "row_bias", "col_bias")}
        found: dict[str, Tensor] = {}
        for name, value in named.items():
            if isinstance(value, Tensor) and not any(value is other for other in found.values()):
                found[name] = value
        return found


def make_inputs(case: Case, dtype: torch.dtype, seed: int = 0) -> Inputs:
    """Unit-norm embeddings whose row i and column i are correlated, and the case's biases, scale and relations."""
    m, n, d = case.sizes
    batch = (case.batch,) if case.batch else ()
    generator = torch.Generator().manual_seed(seed)
    queries = F.normalize(torch.randn(*batch, m, d, generator=generator), dim=-1)
    keys = torch.randn(*batch, n, d, generator=generator)
    common = min(m, n)
    keys[..., :common, :] += 0.5 * d**0.5 * queries[..., :common, :]
    keys = F.normalize(keys, dim=-1)
    statistics = torch.float64 if dtype == torch.float64 else torch.float32
    layout = LAYOUTS[case.layout]

    def leaf(x: Tensor, to: torch.dtype = statistics) -> Tensor:
        return x.to(to).detach().requires_grad_()

    placed_queries = layout(queries.to(dtype)).detach().requires_grad_()
    placed_keys = placed_queries if case.is_self else layout(keys.to(dtype)).detach().requires_grad_()
    row_bias = leaf(torch.randn(*batch, m, generator=generator)) if case.row_bias else None
    col_bias = leaf(torch.randn(*batch, n, generator=generator)) if case.col_bias else None
    if case.is_self:
        candidates, positives = SELF_RELATIONS[case.relation](n, case.batch)
        col_bias = row_bias if case.row_bias and case.col_bias else col_bias
    else:
        candidates, positives = RELATIONS[case.relation](m, n, case.batch)
    return Inputs(
        queries=placed_queries,
        keys=placed_keys,
        scale=leaf(torch.tensor(case.scale)) if case.tensor_scale else case.scale,
        row_bias=row_bias,
        col_bias=col_bias,
        candidates=candidates,
        positives=positives,
    )


def cast_inputs(inputs: Inputs, dtype: torch.dtype) -> Inputs:
    """The same (rounded) numbers as leaves of `dtype`; one tensor in two roles stays one tensor."""
    casts = {id(leaf): leaf.detach().to(dtype).requires_grad_() for leaf in inputs.leaves().values()}
    return inputs._replace(**{name: casts[id(leaf)] for name, leaf in inputs._asdict().items() if id(leaf) in casts})  # type: ignore[arg-type]
