"""NSPT, negatives of the student and positives of the teacher: rehearsal in COCONUT (Cappellazzo et al. 2023,
arXiv 2310.02699)."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.losses._checks import check_ids, check_indices
from contrastive_ops.losses._common import (
    LossReduction,
    check_pairs,
    check_reduction,
    inverse_temperature,
    reduce_counted,
)
from contrastive_ops.losses._counts import count_same
from contrastive_ops.losses._labels import is_labelled
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses._rows import row_lse, row_lse_and_sum, zero_without_candidates
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.relations import all_pairs, different, same


def nspt(
    student: Tensor,
    teacher: Tensor,
    labels: Tensor,
    *,
    anchors: Tensor | None = None,
    exclude_self: bool = True,
    ignore_index: int = -1,
    temperature: float | Tensor = 0.1,
    reduction: LossReduction = "mean",
    workspace_bytes: int = DEFAULT_WORKSPACE_BYTES,
    backend: str | None = None,
) -> Tensor:
    """SupCon with two banks of keys: the denominator is the student's, the positives are those of a frozen teacher.

        P(k) = { p in anchors : label_p == label_k }, k itself included
        s_ki = <student_k, student_i> / temperature,  r_kp = <student_k, teacher_p> / temperature
        loss_k = log sum_i exp(s_ki) - mean_{p in P(k)} r_kp

    Args:
        student: `[N, D]`, the batch: items of the current task and rehearsed ones.
        teacher: `[N, D]`, the same items by the teacher; detached here.
        labels: `[N]` integers.
        anchors: `[K]` different indices of the rehearsed items; None for all.
        exclude_self: whether i = k is left out of the sum. The paper does not say.
        ignore_index: the label, exactly this number, of items without a class: as anchors they have loss 0 and are not
            counted, and they stay in the sums of others.
        temperature: > 0, divides the similarities; float or one-element tensor, which receives its gradient.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        reduction: "mean" over the anchors that have a class, "sum", or "none" for `[K]` losses.
        workspace_bytes, backend: see `similarity_statistics`.

    Returns:
        float32 (float64 for float64 inputs). May be negative. N = 1 with `exclude_self` gives 0. K x N and K x K scores
        are visited.
    """
    check_reduction(reduction)
    check_pairs("student", student, "teacher", teacher)
    n = student.shape[0]
    labels = check_ids("labels", labels, n)
    items = torch.arange(n, device=student.device)
    anchors = items if anchors is None else check_indices("anchors", anchors, n)
    options = {
        "scale": inverse_temperature(temperature, student),
        "workspace_bytes": workspace_bytes,
        "backend": backend,
    }
    queries, labels = student[anchors], labels[anchors]
    lse = row_lse(queries, student, candidates=different(anchors, items) if exclude_self else all_pairs(), **options)
    positives = same(labels)
    _, total = row_lse_and_sum(queries, teacher.detach()[anchors], candidates=positives, positives=positives, **options)
    losses = zero_without_candidates(lse - total / count_same(labels, labels), lse)
    counted = is_labelled(labels, ignore_index)
    return reduce_counted(losses.masked_fill(~counted, 0.0), counted, reduction)


class NSPTLoss(LossModule):
    """`nspt` as a module: `NSPTLoss(temperature=0.1)(student, teacher, labels)`."""

    function = staticmethod(nspt)
