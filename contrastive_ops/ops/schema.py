"""How a problem crosses the operator schema: flat arguments out, the problem back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from contrastive_ops.problem import Gradients, Problem, unflatten_relations
from contrastive_ops.scores import Score, ScoreKind

PROBLEM_SCHEMA = (
    "Tensor queries, Tensor keys, Tensor scale, Tensor? row_bias, Tensor? col_bias, "
    "Tensor? row_term, Tensor? col_term, int score_kind, Tensor? mixing, bool absolute, "
    "int[] clause_kinds, SymInt[] clause_offsets, Tensor[] clause_ids, int num_candidate_clauses, "
    "bool has_positives, bool rows, bool columns, bool self_similarity, SymInt workspace_bytes, str? backend"
)


class Settings(NamedTuple):
    """The arguments of `PROBLEM_SCHEMA` after the differentiable ones."""

    score_kind: int
    mixing: Tensor | None
    absolute: bool
    clause_kinds: list[int]
    clause_offsets: list[int]
    clause_ids: list[Tensor]
    num_candidate_clauses: int
    has_positives: bool
    rows: bool
    columns: bool
    self_similarity: bool
    workspace_bytes: int
    backend: str | None

    def with_tensors(self, mixing: Tensor | None, clause_ids: list[Tensor]) -> Settings:
        # by hand: a graph cannot hold `_replace` before torch 2.11
        return Settings(
            self.score_kind,
            mixing,
            self.absolute,
            self.clause_kinds,
            self.clause_offsets,
            clause_ids,
            self.num_candidate_clauses,
            self.has_positives,
            self.rows,
            self.columns,
            self.self_similarity,
            self.workspace_bytes,
            self.backend,
        )


NUM_INPUTS = len(Gradients._fields)


def flatten(problem: Problem, backend: str | None, *, keep_scores: bool) -> Settings:
    """Everything of the problem but its differentiable inputs; without `keep_scores` no workspace is used."""
    kinds, offsets, ids, num_candidate_clauses = problem.flatten_relations()
    return Settings(
        int(problem.score.kind),
        problem.score.mixing,
        problem.score.absolute,
        kinds,
        offsets,
        ids,
        num_candidate_clauses,
        problem.positives is not None,
        problem.rows,
        problem.columns,
        problem.self_similarity,
        problem.workspace_bytes if keep_scores else 0,
        backend,
    )


def unflatten(args: Sequence[Any]) -> tuple[Problem, str | None, Sequence[Any]]:
    """(problem with a batch dimension, name of the backend, the remaining arguments)."""
    end = NUM_INPUTS + len(Settings._fields)
    settings = Settings(*args[NUM_INPUTS:end])
    candidates, positives = unflatten_relations(
        settings.clause_kinds, settings.clause_offsets, settings.clause_ids, settings.num_candidate_clauses
    )
    queries, keys, scale, row_bias, col_bias, row_term, col_term = args[:NUM_INPUTS]
    mixing = settings.mixing
    if queries.dim() == 2:
        queries = queries.unsqueeze(0)
        keys = queries if settings.self_similarity else keys.unsqueeze(0)
        row_bias, col_bias, row_term, col_term, mixing = (
            None if value is None else value.unsqueeze(0) for value in (row_bias, col_bias, row_term, col_term, mixing)
        )
    problem = Problem(
        queries=queries,
        keys=keys,
        scale=scale,
        row_bias=row_bias,
        col_bias=col_bias,
        candidates=candidates,
        positives=positives if settings.has_positives else None,
        rows=settings.rows,
        columns=settings.columns,
        self_similarity=settings.self_similarity,
        workspace_bytes=settings.workspace_bytes,
        score=Score(ScoreKind(settings.score_kind), row_term, col_term, mixing, settings.absolute),
    )
    return problem, settings.backend, args[end:]


def differentiable_inputs(problem: Problem) -> tuple[Tensor | None, ...]:
    """The inputs that have gradients, in schema order."""
    score = problem.score
    return (
        problem.queries,
        problem.keys,
        problem.scale,
        problem.row_bias,
        problem.col_bias,
        score.row_term,
        score.col_term,
    )
