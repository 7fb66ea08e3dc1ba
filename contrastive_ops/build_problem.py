"""Problems from what users pass: everything is checked before any work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from contrastive_ops.check import autocast, check_embeddings, check_line, check_scale, shape_of
from contrastive_ops.plain import plain_int
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES, Problem, Side, statistics_dtype
from contrastive_ops.reductions import MAX_REDUCTIONS, Reduction
from contrastive_ops.relations import Clause, Relation
from contrastive_ops.scores import DOT
from contrastive_ops.steady import steady

MAX_OFFSET = 2**62


def build_problem(
    queries: Tensor,
    keys: Tensor,
    reductions: Mapping[str, Reduction],
    *,
    scale: float | Tensor = 1.0,
    row_bias: Tensor | None = None,
    col_bias: Tensor | None = None,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
) -> Problem:
    """Validate and apply autocast; errors call a reduction by its name. Tensors keep their dimensions: the graph sees
    no views, and the operators add the batch dimension (`form.unflatten`)."""
    is_self = keys is queries
    queries, keys = _check_queries_and_keys(queries, keys)
    _check_reductions(reductions)
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
    row_bias = check_line("row_bias", row_bias, (*batch, m), queries.device, dtype)
    col_bias = (
        row_bias if same_bias and is_self else check_line("col_bias", col_bias, (*batch, n), queries.device, dtype)
    )
    checked = tuple([_check_reduction(name, r, batch, m, n, checked_scale) for name, r in reductions.items()])
    self_similarity = is_self and same_bias and all(r.is_symmetric for r in checked)
    rows = Side(queries, row_bias)
    return Problem(
        rows=rows,
        cols=rows if self_similarity else Side(keys, col_bias),
        scale=checked_scale,
        score=DOT,
        reductions=checked,
        self_similarity=self_similarity,
        workspace_bytes=workspace_bytes,
    )


def _check_reductions(reductions: Mapping[str, Reduction]) -> None:
    if not 1 <= len(reductions) <= MAX_REDUCTIONS:
        raise ValueError(f"one pass takes 1 to {MAX_REDUCTIONS} reductions, got {len(reductions)}")
    for name, reduction in reductions.items():
        if not isinstance(reduction, Reduction) or type(reduction) is Reduction:
            raise TypeError(
                f"{name} must be a Reduction such as LogSumExp() or ScoreSum(diagonal()), "
                f"got {type(reduction).__name__}"
            )
        if not (reduction.rows or reduction.columns):
            raise ValueError("got rows=False and columns=False, expected at least one direction")


def _check_reduction(name: str, reduction: Reduction, batch: Sequence[int], m: int, n: int, scale: Tensor) -> Reduction:
    device, dtype = scale.device, scale.dtype
    relation = _check_relation(name, reduction.relation, batch, m, n, device)
    factor = None if reduction.factor is None else check_scale(reduction.factor, device, dtype, f"{name}.factor")
    if factor is not None and factor.requires_grad:
        raise ValueError(f"{name}.factor requires grad, expected a constant: detach it, or give the problem its scale")
    values: list[Tensor | None] = [None, None]
    if reduction.compares:
        for i, (wanted, value, length) in enumerate(
            ((reduction.rows, reduction.row_values, m), (reduction.columns, reduction.col_values, n))
        ):
            if wanted:
                label = f"{name}.{('row_values', 'col_values')[i]}"
                values[i] = check_line(label, value, (*batch, length), device, dtype)
                if values[i] is None:
                    raise TypeError(f"{label} must be a torch.Tensor, got None")
    return reduction.made_of(relation, factor, *values)


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
            f"queries and keys must both be 2-D or both 3-D, got shapes {shape_of(queries)} and {shape_of(keys)}"
        )
    if queries.dtype != keys.dtype:
        raise TypeError(f"queries and keys must share one dtype, got {queries.dtype} and {keys.dtype}: cast one")
    if queries.shape[-1] != keys.shape[-1]:
        raise ValueError(
            f"queries and keys must share the embedding size D, got {queries.shape[-1]} and {keys.shape[-1]} "
            f"(shapes {shape_of(queries)} and {shape_of(keys)})"
        )
    if queries.dim() == 3 and queries.shape[0] != keys.shape[0]:
        raise ValueError(f"queries and keys must share the batch size B, got {queries.shape[0]} and {keys.shape[0]}")
    return queries, keys


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
        raise ValueError(f"{relation}: {name} must have shape {expected}, got {shape_of(ids)}")
    ids = steady(ids)
    return ids if ids.dim() == 2 else ids.unsqueeze(0)
