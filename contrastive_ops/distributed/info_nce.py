"""InfoNCE over the batches of all ranks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops.distributed.agreement import Distribution, Strategy, Task, agree
from contrastive_ops.distributed.convention import GradReduction, mean_over_ranks
from contrastive_ops.distributed.statistics import local_problem, statistics_of_team
from contrastive_ops.losses._common import check_pairs, inverse_temperature, paired_scores
from contrastive_ops.losses._relations import Pairs, matching_pairs
from contrastive_ops.ops import cross_entropy_of_positive
from contrastive_ops.ops.statistics import statistics_reductions
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import all_pairs


def info_nce(
    queries: Tensor,
    keys: Tensor,
    *,
    strategy: Strategy,
    temperature: float | Tensor = 0.07,
    negatives: Tensor | None = None,
    group: dist.ProcessGroup | None = None,
    group_size: int | None = None,
    groups: Sequence[Sequence[int]] | None = None,
    grad_reduction: GradReduction = "mean",
    wire_dtype: torch.dtype | None = None,
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """`contrastive_ops.info_nce` of the concatenated queries, keys and negatives of all ranks.

    Args:
        queries, keys: this rank's `[m, D]`; m may differ from rank to rank and be 0.
        strategy, group, group_size, groups, grad_reduction, wire_dtype: see `contrastive_ops.distributed`.
        temperature: > 0, the same number on every rank; a tensor receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        negatives: None: the keys of all other queries of all ranks. `[k, D]`: this rank's part of a queue or memory
            bank; the parts of all ranks together are the negatives of every query. k may differ from rank to rank. With
            "shard" they stay where they are.
        workspace_bytes, backend: as in one process.

    Returns:
        The same 0-dim loss on every rank, float32 (float64 for float64 queries). Nothing is detached.

    Raises:
        ValueError, TypeError: on every rank, where one of them has bad input or they differ in what must agree.
    """
    distribution = Distribution(strategy, group, group_size, groups, wire_dtype, grad_reduction)

    def prepare() -> Task:
        check_pairs("queries", queries, "keys", keys)
        if negatives is not None and (not isinstance(negatives, Tensor) or negatives.dim() != 2):
            raise ValueError(f"negatives must be None or this rank's [k, D], got {_described(negatives)}")
        problem = local_problem(
            queries,
            keys if negatives is None else negatives,
            statistics_reductions(*(matching_pairs() if negatives is None else Pairs(all_pairs(), None))),
            scale=inverse_temperature(temperature, queries),
            workspace_bytes=workspace_bytes,
        )
        return Task(problem, backend, {"negatives": "the other keys" if negatives is None else "given"})

    task, team = agree("info_nce", distribution, prepare)
    row_lse, positive, _, _ = statistics_of_team(task, team, distribution)
    if positive is None:
        positive = paired_scores(task.problem.rows.vectors, keys, task.problem.scale)
    assert row_lse is not None
    return mean_over_ranks(cross_entropy_of_positive(row_lse, positive), group=group, grad_reduction=grad_reduction)


def _described(value: object) -> str:
    return f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
