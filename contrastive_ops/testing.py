"""Shared inputs, shapes, relations and dense truths: read by the tests and by the benchmarks.

Nothing here calls the library under test except to build `Relation` objects; every truth is a dense formula over
masks that are made without it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops.relations import Relation, all_pairs, diagonal, different, off_diagonal, same

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)


class Tolerance(NamedTuple):
    """What may be added to the error of the dense formula, relative to the norm of the truth."""

    value: float
    grad: float


TOLERANCES = {
    # statistics come back in float32, accumulated in float32: 8 units in the last place
    torch.float32: Tolerance(1e-6, 1e-6),
    # the truth itself is float64, so both sides carry its rounding over sums of up to 900 terms
    torch.float64: Tolerance(1e-13, 1e-13),
    # inputs are exact and statistics float32; only gradients are rounded to the input dtype, once: half a unit
    torch.bfloat16: Tolerance(1e-6, 2.0**-8),
    torch.float16: Tolerance(1e-6, 2.0**-11),
}
# backends whose gradient products take dS in the dtype of the embeddings, as tensor cores do: half a unit more
ROUNDS_SCORE_GRADIENT = ("triton", "cuda")


def tolerance_for(dtype: torch.dtype, backend: str) -> Tolerance:
    """What the results of this backend may be off by, beyond the error of the dense formula."""
    value, grad = TOLERANCES[dtype]
    if backend in ROUNDS_SCORE_GRADIENT and dtype in (torch.bfloat16, torch.float16):
        grad += torch.finfo(dtype).eps / 2
    return Tolerance(value, grad)


# M, N, D: one, none, no multiple of any tile or vector, and two that cross several native tiles (up to 192 x 384)
SHAPES = {
    "one": (1, 1, 1),
    "one_row": (1, 7, 3),
    "one_column": (7, 1, 16),
    "tiny": (5, 3, 17),
    "no_rows": (0, 9, 16),
    "no_columns": (9, 0, 16),
    "no_pairs": (0, 0, 4),
    "small": (17, 33, 64),
    "odd": (127, 257, 100),
    "even": (130, 300, 3),
    "tall": (500, 30, 17),
    "crosses_rows": (500, 700, 72),
    "crosses_columns": (400, 900, 16),
}


def make_pairs(n: int, d: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """L2-normalised (images, texts), each `[n, d]`; matching rows are correlated, as halfway through training."""
    generator = torch.Generator().manual_seed(seed)
    shared, first, second = torch.randn(3, n, d, generator=generator).unbind(0)
    images, texts = (F.normalize(shared + own, dim=-1).to(dtype) for own in (first, second))
    return images, texts


def make_confident_pairs(n: int, d: int, dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Pairs as after memorisation: at scale 100 every pair's loss lies between 1e-9 and 1e-3 (for n = 600, d = 512)."""
    generator = torch.Generator().manual_seed(seed)
    anchors, noise = torch.randn(2, n, d, generator=generator, dtype=torch.float64).unbind(0)
    images = F.normalize(anchors, dim=-1)
    across = F.normalize(noise - (noise * images).sum(1, keepdim=True) * images, dim=-1)
    # random directions have scores of variance 100^2 / d, so their LSE is about this; the margin above it is -log loss
    lse_negatives = math.log(n) + 0.5 * 100.0**2 / d
    margin = torch.linspace(10.0, 17.0, n, dtype=torch.float64)[:, None]
    cosine = (lse_negatives + margin) / 100.0
    texts = cosine * images + (1 - cosine**2).sqrt() * across
    return images.to(dtype), texts.to(dtype)


def dense_clip_loss(images: Tensor, texts: Tensor, scale: float | Tensor) -> Tensor:
    """The plain eager loss that trainers have: the mean of two cross-entropies on stored `[n, n]` logits."""
    logits = scale * images @ texts.mT
    target = torch.arange(images.shape[0], device=images.device)
    return 0.5 * (F.cross_entropy(logits, target) + F.cross_entropy(logits.mT, target))


# --- relations: a name, the library's object, and the mask it must stand for -----------------------------------


class PairSet(NamedTuple):
    """A relation and, made without it, its mask `[M, N]` or `[B, M, N]`."""

    relation: Relation
    mask: Tensor


def _pairs(m: int, n: int, relation: Relation, belongs: Callable[[Tensor, Tensor], Tensor]) -> PairSet:
    i, j = torch.arange(m)[:, None], torch.arange(n)[None, :]
    return PairSet(relation, belongs(i, j).expand(m, n))


def _ids(m: int, n: int, values: int, seed: int, batch: tuple[int, ...] = ()) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randint(values, (*batch, m), generator=generator),
        torch.randint(values, (*batch, n), generator=generator),
    )


def _equal(row_ids: Tensor, col_ids: Tensor) -> Tensor:
    return row_ids[..., :, None] == col_ids[..., None, :]


def _everything(m: int, n: int, batch: int) -> tuple[PairSet, PairSet | None]:
    return _pairs(m, n, all_pairs(), lambda i, j: i == i), None


def _shifted(offset: int) -> Callable[[int, int, int], tuple[PairSet, PairSet]]:
    def make(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
        return (
            _pairs(m, n, off_diagonal(offset), lambda i, j: j != i + offset),
            _pairs(m, n, diagonal(offset), lambda i, j: j == i + offset),
        )

    return make


def _only_diagonal(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    return (
        _pairs(m, n, diagonal(), lambda i, j: j == i),
        _pairs(m, n, off_diagonal(1), lambda i, j: j != i + 1),
    )


def _two_diagonals(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    return (
        _pairs(m, n, off_diagonal() & off_diagonal(-3), lambda i, j: (j != i) & (j != i - 3)),
        # contradicting clauses: no pair is positive
        _pairs(m, n, diagonal() & off_diagonal(), lambda i, j: i != i),
    )


def _few_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    rows, cols = _ids(m, n, 5, seed=1)
    return PairSet(different(rows, cols), ~_equal(rows, cols)), PairSet(same(rows, cols), _equal(rows, cols))


def _many_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Most rows have no candidate, most columns no positive."""
    rows, cols = _ids(m, n, 2 * (m + n) + 1, seed=2)
    return PairSet(same(rows, cols), _equal(rows, cols)), PairSet(same(rows, cols), _equal(rows, cols))


def _no_candidates(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    rows, cols = torch.zeros(m, dtype=torch.int32), torch.zeros(n, dtype=torch.int32)
    return PairSet(different(rows, cols), ~_equal(rows, cols)), _pairs(m, n, all_pairs(), lambda i, j: i == i)


def _extreme_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Ids at both ends of int64, and pairs that would collide if cut to 32 bits or to float64."""
    values = torch.tensor([-(2**63), 2**63 - 1, 2**32, 0, -1, 2**53, 2**53 + 1])
    rows, cols = (values[ids] for ids in _ids(m, n, len(values), seed=3))
    return PairSet(same(rows, cols), _equal(rows, cols)), PairSet(different(rows, cols), ~_equal(rows, cols))


def _sorted_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Whole tiles have no candidate, so that skipping them is exercised."""
    rows, cols = (ids.sort().values for ids in _ids(m, n, 7, seed=4))
    return PairSet(same(rows, cols), _equal(rows, cols)), PairSet(same(rows, cols), _equal(rows, cols))


def _narrow_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Small integer types, one of them strided."""
    rows, cols = _ids(2 * m, n, 3, seed=5)
    rows, cols = rows.to(torch.uint8)[::2], cols.to(torch.int16)
    return PairSet(different(rows, cols), ~_equal(rows, cols)), PairSet(same(rows, cols), _equal(rows, cols))


def _ids_and_diagonal(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    rows, cols = _ids(m, n, 4, seed=6)
    on_diagonal = torch.arange(m)[:, None] == torch.arange(n)[None, :]
    return (
        _pairs(m, n, off_diagonal(), lambda i, j: i != j),
        PairSet(same(rows, cols) & off_diagonal(), _equal(rows, cols) & ~on_diagonal),
    )


def _two_ids(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    (a, b), (c, d) = _ids(m, n, 3, seed=7), _ids(m, n, 4, seed=8)
    return (
        PairSet(different(a, b) & different(c, d), ~_equal(a, b) & ~_equal(c, d)),
        PairSet(same(a, b) & different(c, d), _equal(a, b) & ~_equal(c, d)),
    )


def _ids_per_batch(m: int, n: int, batch: int) -> tuple[PairSet, PairSet]:
    """Ids of their own for every batch entry among the candidates, shared ids among the positives."""
    rows, cols = _ids(m, n, 4, seed=9, batch=(batch,) if batch else ())
    shared_rows, shared_cols = _ids(m, n, 4, seed=10)
    return (
        PairSet(different(rows, cols), ~_equal(rows, cols)),
        PairSet(same(shared_rows, shared_cols), _equal(shared_rows, shared_cols)),
    )


RELATIONS: dict[str, Callable[[int, int, int], tuple[PairSet, PairSet | None]]] = {
    "everything": _everything,
    "off_diagonal": _shifted(0),
    "offset_right": _shifted(3),
    "offset_left": _shifted(-2),
    "offset_outside": _shifted(10_000),
    "only_diagonal": _only_diagonal,
    "two_diagonals": _two_diagonals,
    "few_ids": _few_ids,
    "many_ids": _many_ids,
    "no_candidates": _no_candidates,
    "extreme_ids": _extreme_ids,
    "sorted_ids": _sorted_ids,
    "narrow_ids": _narrow_ids,
    "ids_and_diagonal": _ids_and_diagonal,
    "two_ids": _two_ids,
    "ids_per_batch": _ids_per_batch,
}


def _symmetric_ids(n: int, batch: int) -> Tensor:
    return _ids(n, 0, 5, seed=11, batch=(batch,) if batch else ())[0]


def _self_everything(n: int, batch: int) -> tuple[PairSet, PairSet | None]:
    return _everything(n, n, batch)


def _self_sup_con(n: int, batch: int) -> tuple[PairSet, PairSet]:
    ids = _symmetric_ids(n, batch)
    return (
        _pairs(n, n, off_diagonal(), lambda i, j: i != j),
        PairSet(same(ids) & off_diagonal(), _equal(ids, ids) & ~torch.eye(n, dtype=torch.bool)),
    )


def _self_different(n: int, batch: int) -> tuple[PairSet, PairSet]:
    ids = _symmetric_ids(n, batch)
    return PairSet(different(ids), ~_equal(ids, ids)), PairSet(same(ids), _equal(ids, ids))


# relations of a set with itself that are symmetric, so that half of the pairs suffice
SELF_RELATIONS: dict[str, Callable[[int, int], tuple[PairSet, PairSet | None]]] = {
    "self_everything": _self_everything,
    "self_sup_con": _self_sup_con,
    "self_different": _self_different,
}


# --- layouts: the same values in other strides -----------------------------------------------------------------


def _contiguous(x: Tensor) -> Tensor:
    return x.contiguous()


def _transposed(x: Tensor) -> Tensor:
    return x.mT.contiguous().mT


def _sliced(x: Tensor) -> Tensor:
    """Every second row and an inner part of wider rows; what lies between is NaN."""
    *batch, rows, d = x.shape
    wide = x.new_full((*batch, 2 * rows, d + 5), torch.nan)
    view = wide[..., ::2, 3 : 3 + d]
    view.copy_(x)
    return view


def _expanded(x: Tensor) -> Tensor:
    """Row stride 0: every row is the first one."""
    return x[..., :1, :].contiguous().expand_as(x)


def _shared_batch(x: Tensor) -> Tensor:
    """Batch stride 0: every entry is the first one."""
    return x[:1].contiguous().expand_as(x) if x.dim() == 3 else x


def _interleaved_batch(x: Tensor) -> Tensor:
    """Every entry lies between the lines of the others."""
    return x.transpose(0, 1).contiguous().transpose(0, 1) if x.dim() == 3 else x


def _strided_inner(x: Tensor) -> Tensor:
    """Neither stride is 1."""
    view = x.new_full((*x.shape, 2), torch.nan)[..., 1]
    view.copy_(x)
    return view


def _negated(x: Tensor) -> Tensor:
    """A lazily negated view (`is_neg()`): the memory holds -x."""
    if x.dtype not in (torch.float32, torch.float64):
        return _strided_inner(x)
    return torch.complex(torch.zeros_like(x), -x).conj().imag


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "contiguous": _contiguous,
    "transposed": _transposed,
    "sliced": _sliced,
    "expanded": _expanded,
    "shared_batch": _shared_batch,
    "interleaved_batch": _interleaved_batch,
    "strided_inner": _strided_inner,
    "negated": _negated,
}


# --- cases of the primitive ------------------------------------------------------------------------------------


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


def dense_scores(inputs: Inputs) -> Tensor:
    """s_ij = scale * <q_i, k_j> + row_bias_i + col_bias_j."""
    scores = inputs.scale * (inputs.queries @ inputs.keys.mT)
    if inputs.row_bias is not None:
        scores = scores + inputs.row_bias[..., :, None]
    if inputs.col_bias is not None:
        scores = scores + inputs.col_bias[..., None, :]
    return scores


def dense_statistics(scores: Tensor, inputs: Inputs, case: Case) -> dict[str, Tensor]:
    """The definition, from stored scores; differentiable."""
    candidates = inputs.candidates.mask.expand_as(scores)
    found = {}
    for name, dim, wanted in (("row", -1, case.rows), ("col", -2, case.columns)):
        if not wanted:
            continue
        empty = ~candidates.any(dim)
        # a line without candidates is taken from zeros, so that its gradient is 0, and set to -inf afterwards
        masked = scores.masked_fill(~candidates, -torch.inf).masked_fill(empty.unsqueeze(dim), 0.0)
        lse = masked.logsumexp(dim) if scores.shape[dim] else scores.sum(dim)
        found[f"{name}_lse"] = lse.masked_fill(empty, -torch.inf)
        if inputs.positives is not None:
            found[f"{name}_sum"] = scores.masked_fill(~inputs.positives.mask, 0.0).sum(dim)
    return found


def differentiate(
    outputs: dict[str, Tensor], leaves: dict[str, Tensor], positive_upstream: bool = False
) -> dict[str, Tensor]:
    """d_<leaf> of sum(upstream * outputs) for random upstream gradients; zeros where a leaf has no influence."""
    generator = torch.Generator().manual_seed(1)
    upstream = [torch.randn(value.shape, generator=generator, dtype=torch.float64) for value in outputs.values()]
    grads = torch.autograd.grad(
        list(outputs.values()),
        list(leaves.values()),
        [
            (g.abs() if positive_upstream else g).to(value.dtype)
            for g, value in zip(upstream, outputs.values(), strict=True)
        ],
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return {f"d_{name}": grad for name, grad in zip(leaves, grads, strict=True)}


class Dense(NamedTuple):
    """Statistics and gradients of the dense formula; `sizes[name]`: root sum of squares of each result's terms.

    An error is measured against the terms where they cancel: no algorithm keeps digits that its terms do not have.
    """

    results: dict[str, Tensor]
    sizes: dict[str, Tensor]


def dense_results(inputs: Inputs, case: Case, dtype: torch.dtype) -> Dense:
    """Everything in `dtype`, from the rounded inputs."""
    inputs = cast_inputs(inputs, dtype)
    scores = dense_scores(inputs)
    values = dense_statistics(scores, inputs, case)
    grads = differentiate(values, inputs.leaves())
    # the terms of dS_ij = g_i p_ij + h_j p'_ij + a_i + b_j without their signs
    ds = differentiate(values, {"scores": scores}, positive_upstream=True)["d_scores"]
    scale = inputs.scale if isinstance(inputs.scale, float) else inputs.scale.detach()
    queries, keys = inputs.queries.detach(), inputs.keys.detach()
    dq_terms = abs(scale) * (ds**2 @ keys.norm(dim=-1, keepdim=True) ** 2).sqrt().squeeze(-1)
    dk_terms = abs(scale) * (ds.mT**2 @ queries.norm(dim=-1, keepdim=True) ** 2).sqrt().squeeze(-1)
    row_terms, col_terms = ds.norm(dim=-1), ds.norm(dim=-2)
    shared_bias = inputs.row_bias is inputs.col_bias
    sizes = {
        "d_queries": dq_terms.hypot(dk_terms) if case.is_self else dq_terms,
        "d_keys": dk_terms,
        # one number out of all pairs: against the sum of its rows' sizes, as their signs are random here
        "d_scale": (ds * (queries @ keys.mT)).sum(-1).abs().sum(),
        "d_row_bias": row_terms.hypot(col_terms) if case.is_self and shared_bias else row_terms,
        "d_col_bias": col_terms,
    }
    if inputs.positives is not None:
        positive = scores.detach().masked_fill(~inputs.positives.mask, 0.0)
        sizes |= {"row_sum": positive.norm(dim=-1), "col_sum": positive.norm(dim=-2)}
    return Dense({**values, **grads}, sizes)


# --- errors ----------------------------------------------------------------------------------------------------


def norm_error(value: Tensor, truth: Tensor, size: Tensor | None = None) -> float:
    """|value - truth| / |truth| over the finite entries; infinite entries must agree, and so must a zero truth.

    `size`: the size of the terms of each entry (or row), which counts where it is larger than the truth.
    """
    value, truth = value.detach().double(), truth.detach().double()
    if value.shape != truth.shape or not torch.equal(value.isinf() * value.sign(), truth.isinf() * truth.sign()):
        return math.inf
    finite = truth.isfinite()
    difference, norm = (value - truth)[finite].norm().item(), truth[finite].norm().item()
    if size is not None:
        norm = max(norm, size.double().norm().item())
    if difference == 0.0:
        return 0.0
    return difference / norm if norm else math.inf


def worst_row_error(value: Tensor, truth: Tensor, size: Tensor | None = None) -> float:
    """The largest |value_i - truth_i| / |truth_i| over rows (last dimension); a zero row must be exactly zero."""
    value, truth = value.detach().double(), truth.detach().double()
    difference, norm = (value - truth).norm(dim=-1), truth.norm(dim=-1)
    if size is not None:
        norm = norm.maximum(size.double())
    relative = torch.where(difference == 0.0, 0.0, difference / norm)
    return relative.max().item() if relative.numel() else 0.0
