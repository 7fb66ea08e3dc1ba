"""Keys that are packed, private to a query, or several to a query."""

import dense_losses
import torch
from torch.nn import functional as F

from contrastive_ops import decoupled_softmax, packed_info_nce, private_info_nce
from objectives.table import FEW, SOME_ALONE, D, N, Objective, equal, inputs, lse, unit


def dense_packed(queries, keys, temperature, targets=None, query_groups=None, key_groups=None):
    scores = queries @ keys.mT / temperature
    if targets is None:
        targets = torch.arange(len(queries)) * (len(keys) // len(queries))
    if query_groups is not None:
        own = torch.arange(len(keys)) == targets[:, None]
        scores = scores.masked_fill(~(equal(query_groups, key_groups) | own), -torch.inf)
    return F.cross_entropy(scores, targets, reduction="none", ignore_index=-100)


def not_ignored(targets, **inputs):
    return targets >= 0


def dense_private(queries, candidates, targets, temperature):
    by_class = queries if queries.dim() == 3 else queries[:, None]
    return F.cross_entropy((by_class * candidates).sum(2) / temperature, targets, reduction="none", ignore_index=-100)


def dense_decoupled(queries, keys, query_ids, key_ids, temperature, max_positives=None):
    scores, positives = queries @ keys.mT / temperature, equal(query_ids, key_ids)
    each = F.softplus(lse(scores, ~positives)[:, None] - scores).masked_fill(~positives, 0.0)
    return each.sum(1) / positives.sum(1).clamp(min=1)


def has_positive(query_ids, key_ids, **inputs):
    return equal(query_ids, key_ids).any(1)


TARGETS = torch.randint(63, (N,), generator=torch.Generator().manual_seed(1))
SOME_IGNORED = TARGETS.clone()
SOME_IGNORED[[0, 5, 20]] = -100
KEYS = {"queries": (), "keys": unit(63, D, seed=4), "temperature": 0.4}
# ragged sets: the images' objects, as many queries as targets in a set
KEY_GROUPS = torch.cat((torch.arange(5).repeat_interleave(torch.tensor([1, 20, 7, 30, 5])),))
PRIVATE = {"candidates": unit(N, 5, D, seed=4), "targets": TARGETS % 5, "temperature": 0.4}
LABELS = {"queries": (), "keys": unit(40, D, seed=4), "temperature": 0.4}

OBJECTIVES = {
    "strided": Objective(packed_info_nce, dense_packed, inputs(**KEYS)),
    "targets": Objective(packed_info_nce, dense_packed, inputs(**KEYS, targets=SOME_IGNORED), {}, not_ignored),
    "all_ignored": Objective(
        packed_info_nce, dense_packed, inputs(**KEYS, targets=torch.full((N,), -100)), {}, not_ignored
    ),
    "ragged": Objective(
        packed_info_nce,
        dense_packed,
        inputs(**KEYS, targets=TARGETS, query_groups=KEY_GROUPS[TARGETS], key_groups=KEY_GROUPS),
        {},
        not_ignored,
    ),
    "strided_one": Objective(
        packed_info_nce, dense_packed, inputs(n=1, queries=(), keys=unit(1, D, seed=4), temperature=0.4)
    ),
    "private": Objective(
        private_info_nce, dense_private, inputs(queries=(), **PRIVATE), {}, not_ignored, has_backend=False
    ),
    "private_by_class": Objective(
        private_info_nce,
        dense_private,
        inputs(queries=unit(N, 5, D, seed=6), **{**PRIVATE, "targets": torch.where(FEW == 1, -100, TARGETS % 5)}),
        {},
        not_ignored,
        has_backend=False,
    ),
    "private_one_candidate": Objective(
        private_info_nce,
        dense_private,
        inputs(queries=(), candidates=unit(N, 1, D, seed=4), targets=TARGETS * 0, temperature=0.4),
        has_backend=False,
    ),
    "decoupled_softmax": Objective(
        decoupled_softmax,
        dense_decoupled,
        inputs(**LABELS, query_ids=SOME_ALONE, key_ids=torch.arange(40) % 9),
        {},
        has_positive,
    ),
    "decoupled_softmax_counted": Objective(
        decoupled_softmax,
        dense_decoupled,
        inputs(**LABELS, query_ids=SOME_ALONE, key_ids=torch.arange(40) % 9),
        {"max_positives": 7},  # the most that there are: 5
        has_positive,
    ),
    "decoupled_softmax_one_each": Objective(
        decoupled_softmax,
        lambda queries, keys, temperature, **ids: dense_losses.info_nce(queries, keys, temperature),
        inputs(queries=(), keys=(), temperature=0.4, query_ids=FEW.new_tensor(range(N)), key_ids=torch.arange(N)),
    ),
    "decoupled_softmax_no_positives": Objective(
        decoupled_softmax,
        dense_decoupled,
        inputs(**LABELS, query_ids=FEW, key_ids=torch.arange(40) + 9),
        {},
        has_positive,
    ),
    "decoupled_softmax_no_negatives": Objective(
        decoupled_softmax, dense_decoupled, inputs(**LABELS, query_ids=FEW * 0, key_ids=torch.zeros(40, dtype=int))
    ),
}
