"""How a problem crosses an operator schema: its tensors, its numbers, and a line of text that says the rest.

dot row_bias | largest rows columns off_diagonal | score_sum rows columns same | leaves 0 1 2 3 4 4
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from torch import Tensor

from contrastive_ops.leaves import Leaf
from contrastive_ops.problem import Problem, Side
from contrastive_ops.reductions import KINDS, Reduction
from contrastive_ops.relations import Clause, ClauseKind, Relation
from contrastive_ops.scores import DOT, Score, VolumeScore

_HERE: Any = ()  # stands for a tensor
_QUERIES = 1  # among the leaves, after the scale
_SCORES: dict[str, Score] = {
    score.word: score
    for score in (DOT, VolumeScore(_HERE, _HERE, _HERE), VolumeScore(_HERE, _HERE, _HERE, absolute=True))
}
_CLAUSE_WORDS = tuple(kind.name.lower() for kind in ClauseKind)


class Flat(NamedTuple):
    """A problem as arguments of an operator."""

    leaves: list[Tensor]  # a constant that has several places is there once
    numbers: list[int]  # the budget, and the offsets of diagonals
    form: str


class Form(NamedTuple):
    """What a line of text says."""

    problem: Problem  # without its tensors and numbers
    leaves: tuple[Leaf, ...]  # of the flat ones: the first place of each
    places: tuple[int, ...]  # of every leaf of the problem: which of the flat ones it is


def flatten(problem: Problem, workspace_bytes: int) -> Flat:
    """The problem with this budget."""
    offsets = [clause.offset for r in problem.reductions for clause in r.relation.clauses if not clause.uses_ids]
    leaves: list[Tensor] = []
    places = []
    for leaf, tensor in problem.leaves():
        # one that has a gradient keeps its places: autograd adds what each receives
        place = len(leaves) if leaf.gradient is not None else _place(tensor, leaves)
        places.append(place)
        if place == len(leaves):
            leaves.append(tensor)
    return Flat(leaves, [workspace_bytes, *offsets], _words(problem, places if len(leaves) < len(places) else []))


def unflatten(leaves: Sequence[Tensor], numbers: Sequence[int], form: str) -> Problem:
    """The problem as backends see it, with a batch dimension."""
    parsed = parse(form)
    blank = parsed.problem._replace(workspace_bytes=numbers[0])
    whole = [blank.whole(parsed.leaves[i], leaves[i]) for i in parsed.places]
    return blank.with_leaves(whole, iter(numbers[1:]))


def has_batch(leaves: Sequence[Tensor], form: str) -> bool:
    """Whether the leaves of a flat problem have a batch dimension."""
    return leaves[_QUERIES].dim() - parse(form).problem.score.row_items_have_vectors == 3


def _place(tensor: Tensor, leaves: list[Tensor]) -> int:
    for i, other in enumerate(leaves):
        if tensor is other:
            return i
    return len(leaves)


def _words(problem: Problem, places: list[int]) -> str:
    words = [problem.score.word]
    if problem.rows.bias is not None:
        words.append("row_bias")
    if problem.self_similarity:
        words.append("self")
    elif problem.cols.bias is not None:
        words.append("col_bias")
    for reduction in problem.reductions:
        words += ["|", reduction.word]
        if reduction.rows:
            words.append("rows")
        if reduction.columns:
            words.append("columns")
        if reduction.factor is not None:
            words.append("factor")
        words += [_CLAUSE_WORDS[int(clause.kind)] for clause in reduction.relation.clauses]
    if places:
        words += ["|", "leaves", *[str(place) for place in places]]
    return " ".join(words)


@lru_cache(maxsize=512)
def parse(form: str) -> Form:
    first, *others = (part.split() for part in form.split("|"))
    places = tuple(map(int, others.pop()[1:])) if others[-1][0] == "leaves" else None
    score, *words = first
    rows = Side(_HERE, _HERE if "row_bias" in words else None)
    is_self = "self" in words
    cols = rows if is_self else Side(_HERE, _HERE if "col_bias" in words else None)
    problem = Problem(rows, cols, _HERE, _SCORES[score], tuple(_parse_reduction(*part) for part in others), is_self)
    leaves = [leaf for leaf, _ in problem.leaves()]
    if places is None:
        places = tuple(range(len(leaves)))
    return Form(problem, tuple(leaves[places.index(i)] for i in range(max(places) + 1)), places)


def _parse_reduction(kind: str, *words: str) -> Reduction:
    clauses = [ClauseKind(_CLAUSE_WORDS.index(word)) for word in words if word in _CLAUSE_WORDS]
    relation = Relation(tuple(Clause(kind) for kind in clauses))
    options: dict[str, Any] = {"rows": "rows" in words, "columns": "columns" in words}
    return KINDS[kind](relation, factor=_HERE if "factor" in words else None, **options)
