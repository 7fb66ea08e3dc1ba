"""One ordinary call of every public function, as keyword arguments that tests vary: `CALLS["clip_loss"]`.

Functions of `contrastive_ops.distributed` are `CALLS["distributed.clip_loss"]` and need a process group, which the
fixture `one_rank` makes. `test_public_calls.py` fails where a public function is missing here.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

import contrastive_ops as ops
from contrastive_ops import Reduction, Relation, distributed
from contrastive_ops.relations import Clause

N, D = 12, 8


class Call(NamedTuple):
    function: Callable[..., Any]
    arguments: Callable[[], dict[str, Any]]  # new ones at every call

    def __call__(self, **changed: Any) -> Any:
        return self.function(**self.arguments() | changed)


def unit(*shape: int, seed: int = 0) -> Tensor:
    vectors = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return F.normalize(vectors, dim=-1).requires_grad_()


def _pair(first: str, second: str, **others: Callable[[], Any]) -> Callable[[], dict[str, Any]]:
    """Two `[N, D]` by these names, and what others are made of."""
    return lambda: {first: unit(N, D), second: unit(N, D, seed=1), **{name: make() for name, make in others.items()}}


def _ids() -> Tensor:
    return torch.arange(N) % 4


def _items() -> Tensor:
    return torch.arange(N).roll(1)


def _modalities() -> list[Tensor]:
    return [unit(N, D, seed=1), unit(N, D, seed=2)]


def _cached(inputs: Tensor) -> Tensor:
    """The value of a step; encoders get no gradient through it."""
    return distributed.cached_loss(lambda x: (x, x.flip(1)), inputs.split(4), ops.info_nce)


_IMAGES = _pair("image_features", "text_features", logit_scale=lambda: torch.tensor(9.0, requires_grad=True))
_QUERIES, _VIEWS = _pair("queries", "keys"), _pair("z1", "z2")
_RELATIONS = {"candidates": lambda: ops.different(_ids()), "positives": lambda: ops.same(_ids())}
_BIASES = {"row_bias": lambda: unit(N), "col_bias": lambda: unit(N, seed=3)}
_STATISTICS = _pair("queries", "keys", **_RELATIONS, **_BIASES)

CALLS = {
    "alignment": Call(ops.alignment, _pair("first", "second")),
    "clip_loss": Call(ops.clip_loss, lambda: _IMAGES() | {"negatives": ops.different(_ids())}),
    "clip_rocket_loss": Call(
        ops.clip_rocket_loss,
        lambda: _IMAGES() | {"image_views": _modalities(), "text_views": _modalities(), "view_scale": 9.0},
    ),
    "collo_ssl": Call(
        ops.collo_ssl,
        lambda: {
            "anchors": unit(N, D),
            "positives": unit(2, N, D, seed=1),
            "negatives": unit(2, N, D, seed=2),
            "samples": torch.stack((_items(), _ids())),
        },
    ),
    "contrastive_gap_loss": Call(ops.contrastive_gap_loss, lambda: _IMAGES() | {"across": True}),
    "cross_uniformity": Call(ops.cross_uniformity, _pair("first", "second")),
    "cwcl": Call(ops.cwcl, _QUERIES),
    "dcl": Call(ops.dcl, _VIEWS),
    "debiased_nt_xent": Call(ops.debiased_nt_xent, _VIEWS),
    "decoupled_softmax": Call(
        ops.decoupled_softmax, _pair("queries", "keys", query_ids=_ids, key_ids=_ids, max_positives=lambda: 3)
    ),
    "gram_loss": Call(ops.gram_loss, lambda: {"anchor": unit(N, D), "modalities": _modalities()}),
    "gram_nearest": Call(ops.gram_nearest, lambda: {"anchor": unit(N, D), "modalities": _modalities(), "k": 2}),
    "gram_negatives": Call(ops.gram_negatives, lambda: {"anchor": unit(N, D), "modalities": _modalities(), "seed": 0}),
    "gram_volume": Call(ops.gram_volume, lambda: {"anchor": unit(N, D), "modalities": _modalities()}),
    "info_nce": Call(ops.info_nce, _pair("queries", "keys", negatives=lambda: ops.different(_ids()))),
    "matryoshka": Call(
        lambda features, labels, **options: ops.matryoshka(
            ops.sup_con, features, dims=(4, D), labels=labels, **options
        ),
        lambda: {"features": unit(N, D), "labels": _ids()},
    ),
    "merge_lse": Call(
        lambda first, second: ops.merge_lse(first, second),
        lambda: {"first": unit(N), "second": unit(N, seed=1)},
    ),
    "mixup_clip_loss": Call(
        ops.mixup_clip_loss, _pair("mixed", "keys", partner=_items, share=lambda: torch.full((N,), 0.7))
    ),
    "multi_positive_clip_loss": Call(
        ops.multi_positive_clip_loss, lambda: _IMAGES() | {"image_ids": _ids(), "text_ids": _ids()}
    ),
    "mv_dhel": Call(ops.mv_dhel, lambda: {"views": unit(3, N, D)}),
    "mv_info_nce": Call(ops.mv_info_nce, lambda: {"views": unit(3, N, D)}),
    "nspt": Call(ops.nspt, _pair("student", "teacher", labels=_ids, anchors=lambda: torch.arange(0, N, 2))),
    "nt_xent": Call(ops.nt_xent, _VIEWS),
    "packed_info_nce": Call(
        ops.packed_info_nce, _pair("queries", "keys", targets=_items, query_groups=_ids, key_groups=_ids)
    ),
    "poly_view": Call(ops.poly_view, lambda: {"views": unit(3, N, D)}),
    "private_info_nce": Call(
        ops.private_info_nce, lambda: {"queries": unit(N, D), "candidates": unit(N, 5, D, seed=1), "targets": _ids()}
    ),
    "shared_anchor_loss": Call(ops.shared_anchor_loss, lambda: {"anchors": unit(N, D), "others": _modalities()}),
    "shuffled_group_whitening": Call(
        ops.shuffled_group_whitening,
        lambda: {"features": unit(N, D), "group_size": 4, "order": torch.arange(D).roll(3), "epsilon": 1e-2},
    ),
    "similarity_statistics": Call(ops.similarity_statistics, _STATISTICS),
    "softmax_mean": Call(
        ops.softmax_mean, _pair("queries", "keys", values=lambda: unit(N, 5, seed=2), col_bias=_BIASES["col_bias"])
    ),
    "streamed_row_lse": Call(
        ops.streamed_row_lse, lambda: {"queries": unit(N, D), "chunks": list(unit(N, D, seed=1).detach().split(5))}
    ),
    "summed_row_cross_entropy": Call(
        ops.summed_row_cross_entropy,
        _pair("queries", "keys", candidates=ops.off_diagonal, positives=ops.diagonal, **_BIASES),
    ),
    "in_batch_accuracy": Call(ops.in_batch_accuracy, _pair("queries", "keys", positives=_RELATIONS["positives"])),
    "mrr": Call(ops.mrr, lambda: {"ranks": _ids()}),
    "positive_ranks": Call(ops.positive_ranks, _pair("queries", "keys", **_RELATIONS, **_BIASES)),
    "recall_at": Call(ops.recall_at, lambda: {"ranks": _ids(), "k": 2}),
    "reduce": Call(
        ops.reduce,
        _pair(
            "queries",
            "keys",
            reductions=lambda: {
                "all": ops.LogSumExp(ops.different(_ids()), columns=True),
                "half": ops.LogSumExp(factor=0.5),
                "sum": ops.ScoreSum(ops.same(_ids())),
                "count": ops.CountAbove(row_values=torch.full((N,), 0.1)),
            },
            **_BIASES,
        ),
    ),
    "sup_con": Call(ops.sup_con, lambda: {"features": unit(N, D), "labels": _ids()}),
    "swalip_loss": Call(
        ops.swalip_loss,
        lambda: _IMAGES() | {"target_image": unit(N, D, seed=2), "target_text": unit(N, D, seed=3)},
    ),
    "uniformity": Call(ops.uniformity, lambda: {"features": unit(N, D)}),
    "volume_statistics": Call(
        ops.volume_statistics,
        lambda: {
            "anchor": unit(N, D),
            "modalities": _modalities(),
            **{name: make() for name, make in _RELATIONS.items()},
            **{name: make() for name, make in _BIASES.items()},
        },
    ),
    "weighted_info_nce": Call(ops.weighted_info_nce, _pair("queries", "keys", log_weights=lambda: unit(N))),
    "distributed.cached_loss": Call(_cached, lambda: {"inputs": unit(N, D)}),
    "distributed.clip_loss": Call(
        distributed.clip_loss, lambda: _IMAGES() | {"negatives": ops.different(_ids()), "strategy": "gather"}
    ),
    "distributed.gram_loss": Call(
        distributed.gram_loss, lambda: {"anchor": unit(N, D), "modalities": _modalities(), "strategy": "gather"}
    ),
    "distributed.info_nce": Call(distributed.info_nce, lambda: _QUERIES() | {"strategy": "gather"}),
    "distributed.mean_over_ranks": Call(
        distributed.mean_over_ranks, lambda: {"losses": unit(N), "counted": _ids() > 0}
    ),
    "distributed.similarity_statistics": Call(
        distributed.similarity_statistics, lambda: _STATISTICS() | {"strategy": "gather"}
    ),
    "distributed.sup_con": Call(
        distributed.sup_con, lambda: {"features": unit(N, D), "labels": _ids(), "strategy": "gather"}
    ),
}


def with_argument(name: str) -> list[str]:
    """The calls of functions that have an argument of this name."""
    return [call for call, (function, _) in CALLS.items() if name in inspect.signature(function).parameters]


def with_integers() -> list[str]:
    """The calls that are given labels, ids or indices, alone or in a relation."""
    found = []
    for name, call in CALLS.items():
        mapped(call.arguments(), lambda x, name=name: x if x.is_floating_point() else found.append(name) or x)
    return list(dict.fromkeys(found))


def mapped(value: Any, transform: Callable[[Tensor], Tensor]) -> Any:
    """The same arguments with another tensor in the place of each, also inside lists and relations."""
    if isinstance(value, Tensor):
        return transform(value)
    if isinstance(value, dict):
        return {name: mapped(each, transform) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [mapped(each, transform) for each in value]
    if isinstance(value, Relation):
        return Relation(tuple(_mapped_clause(clause, transform) for clause in value.clauses))
    if isinstance(value, Reduction):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return type(value)(**mapped(fields, transform))
    return value


def _mapped_clause(clause: Clause, transform: Callable[[Tensor], Tensor]) -> Clause:
    if clause.row_ids is None or clause.col_ids is None:
        return clause
    row_ids = transform(clause.row_ids)
    # one tensor in both roles stays one: the relation is symmetric
    col_ids = row_ids if clause.col_ids is clause.row_ids else transform(clause.col_ids)
    return Clause(clause.kind, clause.offset, row_ids, col_ids)


def tensors_of(value: Any) -> list[Tensor]:
    """Every tensor of a result: one, a tuple with None for what was not asked for, or a dict of such."""
    if value is None:
        return []
    if isinstance(value, Tensor):
        return [value]
    return [x for part in (value.values() if isinstance(value, dict) else value) for x in tensors_of(part)]


def outcome(call: Call, arguments: dict[str, Any], between: Callable[[], None] = lambda: None) -> list[Tensor]:
    """All results, and the gradients of all leaves where there are any; `between` happens before backward."""
    results = tensors_of(call.function(**arguments))
    leaves: list[Tensor] = []
    mapped(arguments, lambda x: leaves.append(x) or x if x.requires_grad else x)
    differentiable = [x.double().sum() for x in results if x.requires_grad]
    between()
    if not differentiable or not leaves:
        return results
    grads = torch.autograd.grad(sum(differentiable), leaves, allow_unused=True, materialize_grads=True)
    return [x.detach() for x in results] + list(grads)
