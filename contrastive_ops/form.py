"""How a problem crosses an operator schema: its tensors, its numbers, and a line of text that says the rest.

dot row_bias | log_sum_exp rows columns off_diagonal | score_sum rows columns diagonal
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from torch import Tensor

from contrastive_ops.problem import Problem, Side
from contrastive_ops.reductions import KINDS, Reduction
from contrastive_ops.relations import Clause, ClauseKind, Relation
from contrastive_ops.scores import DOT, Score, VolumeScore

_HERE: Any = ()  # stands for a tensor
_SCORES: dict[str, Score] = {
    score.word: score
    for score in (DOT, VolumeScore(_HERE, _HERE, _HERE), VolumeScore(_HERE, _HERE, _HERE, absolute=True))
}
_CLAUSE_WORDS = tuple(kind.name.lower() for kind in ClauseKind)


class Flat(NamedTuple):
    """A problem as arguments of an operator."""

    leaves: list[Tensor]
    numbers: list[int]  # the budget, and the offsets of diagonals
    form: str


def flatten(problem: Problem, workspace_bytes: int) -> Flat:
    """The problem with this budget."""
    offsets = [clause.offset for r in problem.reductions for clause in r.relation.clauses if not clause.uses_ids]
    return Flat([tensor for _, tensor in problem.leaves], [workspace_bytes, *offsets], _form(problem))


def unflatten(leaves: Sequence[Tensor], numbers: Sequence[int], form: str) -> Problem:
    """The problem as backends see it, with a batch dimension."""
    problem = parse(form).with_leaves(leaves).with_batch()
    workspace_bytes, *offsets = numbers
    reductions = problem.reductions
    if offsets:
        following = iter(offsets)
        reductions = tuple([r.with_relation(r.relation.with_offsets(following)) for r in reductions])
    return problem._replace(reductions=reductions, workspace_bytes=workspace_bytes)


def _form(problem: Problem) -> str:
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
    return " ".join(words)


@lru_cache(maxsize=512)
def parse(form: str) -> Problem:
    """The problem of that form without its tensors and numbers."""
    first, *others = (part.split() for part in form.split("|"))
    score, *words = first
    rows = Side(_HERE, _HERE if "row_bias" in words else None)
    is_self = "self" in words
    cols = rows if is_self else Side(_HERE, _HERE if "col_bias" in words else None)
    reductions = tuple(_parse_reduction(*part) for part in others)
    return Problem(rows, cols, _HERE, _SCORES[score], reductions, is_self)


def _parse_reduction(kind: str, *words: str) -> Reduction:
    clauses = [ClauseKind(_CLAUSE_WORDS.index(word)) for word in words if word in _CLAUSE_WORDS]
    relation = Relation(tuple(Clause(kind) for kind in clauses))
    options: dict[str, Any] = {"rows": "rows" in words, "columns": "columns" in words}
    return KINDS[kind](relation, factor=_HERE if "factor" in words else None, **options)
