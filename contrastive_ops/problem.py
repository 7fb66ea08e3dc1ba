"""One frozen, validated description of the work. All input validation of the statistics lives here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor

from contrastive_ops.plain import plain_float, plain_int
from contrastive_ops.relations import Clause, ClauseKind, Relation, all_pairs
from contrastive_ops.scores import DOT, MAX_BANKS, Score
from contrastive_ops.steady import savable, steady

SUPPORTED_DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
DEFAULT_WORKSPACE_BYTES = 64 * 1024 * 1024
MAX_OFFSET = 2**62
AUTOCAST_DEVICES = frozenset(
    kind for kind in ("cpu", "cuda", "xpu", "mps", "hpu", "mtia") if torch.amp.is_autocast_available(kind)
)


class Statistics(NamedTuple):
    """Row and column reductions of the scores; a field that was not asked for is None.

    row_lse `[M]`: log-sum-exp over the candidates of row i (-inf for a row without candidates).
    row_sum `[M]`: sum of the scores over the positives of row i (0 for a row without positives).
    col_lse `[N]`, col_sum `[N]`: the same down the columns. With a batch dimension: `[B, M]`, `[B, N]`.
    """

    row_lse: Tensor | None
    row_sum: Tensor | None
    col_lse: Tensor | None
    col_sum: Tensor | None


class Gradients(NamedTuple):
    """Gradients of a problem's inputs; None where not asked for."""

    queries: Tensor | None = None
    keys: Tensor | None = None
    scale: Tensor | None = None
    row_bias: Tensor | None = None
    col_bias: Tensor | None = None
    row_term: Tensor | None = None
    col_term: Tensor | None = None


class Problem(NamedTuple):
    """Scores s_ij = scale * score(i, j) + row_bias_i + col_bias_j, and which of their statistics are wanted.

    score(i, j) is <q_i, k_j>, or what `score` says.
    """

    queries: Tensor  # [B, M, D]; backends always see the batch dimension, `build_problem` leaves out what the user did
    keys: Tensor  # [B, N, D], same dtype; [B, K, N, D] for a score of K products
    scale: Tensor  # [], statistics dtype
    row_bias: Tensor | None  # [B, M], statistics dtype
    col_bias: Tensor | None  # [B, N], statistics dtype
    candidates: Relation
    positives: Relation | None  # None: no sums
    rows: bool
    columns: bool
    self_similarity: bool  # queries is keys and relations and biases are symmetric: half of the pairs suffice
    workspace_bytes: int  # budget for scores kept between forward and backward
    score: Score = DOT

    @property
    def sizes(self) -> tuple[int, int, int, int]:
        """B, M, N, D."""
        batch, m, d = self.queries.shape
        return batch, m, self.keys.shape[-2], d

    @property
    def banks(self) -> int:
        """K, the products that a score is made of."""
        return self.keys.shape[1] if self.keys.dim() == 4 else 1

    @property
    def statistics_dtype(self) -> torch.dtype:
        return statistics_dtype(self.queries.dtype)

    def with_score(self, score: Score, queries: Tensor, keys: Tensor) -> Problem:
        """Another score of the same lines, from embeddings of its own."""
        # by hand: a graph cannot hold `_replace` before torch 2.11
        return Problem(
            queries=queries,
            keys=keys,
            scale=self.scale,
            row_bias=self.row_bias,
            col_bias=self.col_bias,
            candidates=self.candidates,
            positives=self.positives,
            rows=self.rows,
            columns=self.columns,
            self_similarity=False,
            workspace_bytes=self.workspace_bytes,
            score=score,
        )

    def flatten_relations(self) -> tuple[list[int], list[int], list[Tensor], int]:
        """(kinds, offsets, ids, number of candidate clauses), the form that crosses the operator schema."""
        clauses = self.candidates.clauses + (() if self.positives is None else self.positives.clauses)
        ids = [ids for c in clauses for ids in (c.row_ids, c.col_ids) if ids is not None]
        return [int(c.kind) for c in clauses], [c.offset for c in clauses], ids, len(self.candidates.clauses)


def unflatten_relations(
    kinds: Sequence[int], offsets: Sequence[int], ids: Sequence[Tensor], num_candidate_clauses: int
) -> tuple[Relation, Relation]:
    """Inverse of `Problem.flatten_relations`."""
    pending = iter(ids)
    clauses = []
    for code, offset in zip(kinds, offsets, strict=True):
        kind = ClauseKind(code)
        uses_ids = kind in (ClauseKind.SAME, ClauseKind.DIFFERENT)
        row_ids, col_ids = (next(pending), next(pending)) if uses_ids else (None, None)
        clauses.append(Clause(kind, offset, row_ids, col_ids))
    return Relation(tuple(clauses[:num_candidate_clauses])), Relation(tuple(clauses[num_candidate_clauses:]))


def statistics_dtype(dtype: torch.dtype) -> torch.dtype:
    """Statistics and losses are float32, whatever the inputs; float64 for float64."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def build_problem(
    queries: Tensor,
    keys: Tensor,
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    candidates: Relation | None = None,
    positives: Relation | None = None,
    rows: bool = True,
    columns: bool = False,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
) -> Problem:
    """Validate and apply autocast; raises before any work is done. Tensors keep their dimensions: the graph sees no
    views, and the operators add the batch dimension (`unflatten`)."""
    is_self = keys is queries
    queries, keys = _check_queries_and_keys(queries, keys)
    if not (rows or columns):
        raise ValueError("got rows=False and columns=False, expected at least one direction")
    workspace_bytes = plain_int(workspace_bytes)
    if isinstance(workspace_bytes, bool) or not isinstance(workspace_bytes, (int, torch.SymInt)):
        raise TypeError(f"workspace_bytes must be an int, got {type(workspace_bytes).__name__}")
    if workspace_bytes < 0:
        raise ValueError(f"workspace_bytes must be >= 0, got {workspace_bytes}")
    dtype = statistics_dtype(queries.dtype)
    batch = queries.shape[:-2]
    m, n = queries.shape[-2], keys.shape[-2]
    checked_scale = check_scale(scale, queries.device, dtype)
    same_bias = row_bias is col_bias
    row_bias = _check_bias("row_bias", row_bias, (*batch, m), queries.device, dtype)
    col_bias = (
        row_bias if same_bias and is_self else _check_bias("col_bias", col_bias, (*batch, n), queries.device, dtype)
    )
    candidates = all_pairs() if candidates is None else candidates
    candidates = _check_relation("candidates", candidates, batch, m, n, queries.device)
    if positives is not None:
        positives = _check_relation("positives", positives, batch, m, n, queries.device)
    symmetric = candidates.is_symmetric and (positives is None or positives.is_symmetric)
    self_similarity = is_self and symmetric and same_bias
    return Problem(
        queries=queries,
        keys=queries if self_similarity else keys,
        scale=checked_scale,
        row_bias=row_bias,
        col_bias=col_bias,
        candidates=candidates,
        positives=positives,
        rows=rows,
        columns=columns,
        self_similarity=self_similarity,
        workspace_bytes=workspace_bytes,
    )


def _check_queries_and_keys(queries: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    """Both, after autocast; one tensor stays one."""
    is_self = keys is queries
    check_embeddings("queries", queries)
    check_embeddings("keys", keys)
    if queries.device != keys.device:
        raise ValueError(f"queries and keys must share one device, got {queries.device} and {keys.device}")
    queries = autocast(queries)
    keys = queries if is_self else autocast(keys)
    if queries.dim() != keys.dim():
        raise ValueError(
            f"queries and keys must both be 2-D or both 3-D, got shapes {_shape(queries)} and {_shape(keys)}"
        )
    if queries.dtype != keys.dtype:
        raise TypeError(f"queries and keys must share one dtype, got {queries.dtype} and {keys.dtype}: cast one")
    if queries.shape[-1] != keys.shape[-1]:
        raise ValueError(
            f"queries and keys must share the embedding size D, got {queries.shape[-1]} and {keys.shape[-1]} "
            f"(shapes {_shape(queries)} and {_shape(keys)})"
        )
    if queries.dim() == 3 and queries.shape[0] != keys.shape[0]:
        raise ValueError(f"queries and keys must share the batch size B, got {queries.shape[0]} and {keys.shape[0]}")
    return queries, keys


def check_modalities(
    anchor: Tensor, modalities: Sequence[Tensor], *, paired: bool = False
) -> tuple[Tensor, list[Tensor]]:
    """(anchor, modalities) after autocast; raise unless they are `[M, D]` and 1 to 7 of `[N, D]` (or `[B, ., D]`), all
    of one shape if `paired`."""
    check_embeddings("anchor", anchor)
    if isinstance(modalities, Tensor) or not isinstance(modalities, Sequence):
        raise TypeError(f"modalities must be a sequence of tensors, got {type(modalities).__name__}: pass [modality]")
    if not 1 <= len(modalities) <= MAX_BANKS:
        raise ValueError(f"modalities must be 1 to {MAX_BANKS} tensors, got {len(modalities)}")
    for k, modality in enumerate(modalities):
        check_embeddings(f"modalities[{k}]", modality)
    anchor, cast = autocast(anchor), [autocast(modality) for modality in modalities]
    for k, modality in enumerate(cast):
        name = f"modalities[{k}]"
        if modality.device != anchor.device:
            raise ValueError(f"{name} must be on the device of the anchor, {anchor.device}, got {modality.device}")
        if modality.dtype != anchor.dtype:
            raise TypeError(
                f"anchor and {name} must share one dtype, got {anchor.dtype} and {modality.dtype}: cast one"
            )
        if modality.dim() != anchor.dim() or modality.shape[:-2] != anchor.shape[:-2]:
            raise ValueError(
                f"anchor and {name} must both be [rows, D] or [B, rows, D], "
                f"got shapes {_shape(anchor)} and {_shape(modality)}"
            )
        if modality.shape[-1] != anchor.shape[-1]:
            raise ValueError(
                f"anchor and {name} must share the embedding size D, got {anchor.shape[-1]} and {modality.shape[-1]}"
            )
        if modality.shape != cast[0].shape:
            raise ValueError(f"all modalities must have one shape, got {_shape(cast[0])} and {_shape(modality)}")
    if paired and anchor.shape != cast[0].shape:
        raise ValueError(f"anchor and modalities must match row by row, got {_shape(anchor)} and {_shape(cast[0])}")
    return anchor, cast


def check_embeddings(name: str, value: Tensor) -> None:
    """Raise unless `value` is a floating `[M, D]` or `[B, M, D]` tensor with D >= 1."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(value).__name__}")
    if type(value).__name__ == "DTensor":
        raise TypeError(f"{name} is a DTensor, expected a plain tensor: pass {name}.to_local() or .full_tensor()")
    if value.layout != torch.strided:
        raise TypeError(f"{name} must be a dense tensor, got layout {value.layout}: call .to_dense()")
    if value.dtype not in SUPPORTED_DTYPES:
        expected = ", ".join(str(d).removeprefix("torch.") for d in SUPPORTED_DTYPES)
        raise TypeError(f"{name} must have a dtype of {expected}, got {value.dtype}")
    if value.dim() not in (2, 3):
        raise ValueError(f"{name} must be [rows, D] or [B, rows, D], got shape {_shape(value)}")
    if value.shape[-1] < 1:
        raise ValueError(f"{name} must have an embedding size D >= 1, got shape {_shape(value)}")


def check_matrix(name: str, value: Tensor) -> None:
    """Raise unless `value` is `[N, D]` embeddings."""
    check_embeddings(name, value)
    if value.dim() != 2:
        raise ValueError(f"{name} must be [N, D], got shape {_shape(value)}")


def autocast(value: Tensor) -> Tensor:
    """Cast to the autocast dtype where autocast is active (float64 is left alone, as in PyTorch)."""
    kind = value.device.type
    if value.dtype == torch.float64 or not is_autocast_active(kind):
        return value
    return value.to(torch.get_autocast_dtype(kind))


def is_autocast_active(kind: str) -> bool:
    # the table stands for `torch.amp.is_autocast_available`, which a graph cannot hold before torch 2.12
    return kind in AUTOCAST_DEVICES and torch.is_autocast_enabled(kind)


def without_autocast(value: Tensor) -> AbstractContextManager[Any]:
    """Where autocast has done its part (`autocast`), every product of `value` keeps its dtype."""
    kind = value.device.type
    return torch.autocast(kind, enabled=False) if is_autocast_active(kind) else nullcontext()


def check_scale(scale: float | Tensor, device: torch.device, dtype: torch.dtype, name: str = "scale") -> Tensor:
    """The scale as a 0-dim tensor of the statistics dtype; keeps the graph of a tensor. `name`: of the argument.

    For a tensor of another device the host waits; for a float it does not.
    """
    if isinstance(scale, Tensor):
        if scale.numel() != 1:
            raise ValueError(f"{name} must be a float or hold one element, got shape {_shape(scale)}")
        if not scale.is_floating_point():
            raise TypeError(f"{name} must be a floating-point tensor, got {scale.dtype}")
        # no view and no cast where none is needed: each would be a node of the graph
        return (scale if scale.dim() == 0 else scale.reshape(())).to(device=device, dtype=dtype)
    number = plain_float(scale)
    if isinstance(number, bool) or not isinstance(number, (int, float)):
        raise TypeError(f"{name} must be a float or a 0-dim tensor, got {type(scale).__name__}")
    value, largest = float(number), torch.finfo(dtype).max
    if largest < abs(value) < math.inf:
        raise ValueError(f"{name} must be a number of {dtype}, at most {largest:.4g} in size, got {value}")
    if torch.compiler.is_compiling():  # a product may have any number, a fill is compiled for each of a schedule
        return torch.ones((), device=device, dtype=dtype) * value
    # a fill: `torch.tensor` would copy the number from the host, which waits for the device and breaks a CUDA graph
    return torch.full((), value, device=device, dtype=dtype)


def _check_bias(
    name: str, bias: Tensor | None, shape: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor | None:
    if bias is None:
        return None
    if not isinstance(bias, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor or None, got {type(bias).__name__}")
    if not bias.is_floating_point():
        raise TypeError(f"{name} must be a floating-point tensor, got {bias.dtype}")
    if tuple(bias.shape) != shape:
        raise ValueError(f"{name} must have shape {shape}, got {_shape(bias)}")
    if bias.device != device:
        raise ValueError(f"{name} must be on the device of the queries, {device}, got {bias.device}")
    return savable(bias.to(dtype))


def _check_relation(
    name: str, relation: Relation, batch: Sequence[int], m: int, n: int, device: torch.device
) -> Relation:
    if not isinstance(relation, Relation):
        raise TypeError(f"{name} must be a Relation such as off_diagonal() or same(ids), got {type(relation).__name__}")
    clauses = []
    for clause in relation.clauses:
        if clause.uses_ids:
            row_ids = _check_ids(name, "row_ids", clause.row_ids, batch, m, device)
            shared = clause.col_ids is clause.row_ids
            if shared and m != n:
                raise ValueError(f"{name}: col_ids are needed where M != N, got only row_ids with M={m}, N={n}")
            col_ids = row_ids if shared else _check_ids(name, "col_ids", clause.col_ids, batch, n, device)
            clauses.append(Clause(clause.kind, 0, row_ids, col_ids))
        else:
            if isinstance(clause.offset, bool) or not isinstance(clause.offset, (int, torch.SymInt)):
                raise TypeError(f"{name}: the diagonal offset must be an int, got {type(clause.offset).__name__}")
            if not -MAX_OFFSET <= clause.offset <= MAX_OFFSET:
                raise ValueError(f"{name}: the diagonal offset must fit in 63 bits, got {clause.offset}")
            clauses.append(clause)
    return Relation(tuple(clauses))


def _check_ids(
    relation: str, name: str, ids: Tensor | None, batch: Sequence[int], length: int, device: torch.device
) -> Tensor:
    if not isinstance(ids, Tensor):
        raise TypeError(f"{relation}: {name} must be a torch.Tensor, got {type(ids).__name__}")
    if ids.is_floating_point() or ids.is_complex():
        raise TypeError(f"{relation}: {name} must be integers, got {ids.dtype}")
    if ids.device != device:
        raise ValueError(f"{relation}: {name} must be on the device of the queries, {device}, got {ids.device}")
    fits = ids.dim() in (1, 1 + len(batch)) and ids.shape[-1] == length
    if not fits or (ids.dim() == 2 and ids.shape[0] != batch[0]):
        # the text is built only here: formatting a symbolic size would fix it in a compiled graph
        expected = f"[{length}]" + (f" or [{batch[0]}, {length}]" if batch else "")
        raise ValueError(f"{relation}: {name} must have shape {expected}, got {_shape(ids)}")
    ids = steady(ids)
    return ids if ids.dim() == 2 else ids.unsqueeze(0)


def _shape(value: Tensor) -> tuple[int, ...]:
    return tuple(value.shape)
