"""How well docstrings find their functions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from code_search_lib.features import Bags
from code_search_lib.model import TwoTowers

CHUNK = 2048  # queries at a time


class Scores(NamedTuple):
    """Mean reciprocal rank and the shares of queries whose function is among the first 1 and 10."""

    mrr: float
    recall_1: float
    recall_10: float

    def __str__(self) -> str:
        return f"MRR {self.mrr:.3f}   recall@1 {self.recall_1:.3f}   recall@10 {self.recall_10:.3f}"


def evaluate(model: TwoTowers, docstrings: Bags, code: Bags) -> Scores:
    """Every docstring is a query; all functions of the same set are its candidates."""
    queries = model.encode(model.docstring_tower, docstrings)
    keys = model.encode(model.code_tower, code)
    ranks = torch.cat([_ranks(queries[i : i + CHUNK], keys, i) for i in range(0, len(queries), CHUNK)]).float()
    return Scores(
        ranks.reciprocal().mean().item(), (ranks <= 1).float().mean().item(), (ranks <= 10).float().mean().item()
    )


def _ranks(queries: Tensor, keys: Tensor, first: int) -> Tensor:
    """Rank of key `first + i` for query i, [B]; ties count against it."""
    cosines = queries @ keys.T
    own = cosines.diagonal(first)
    return (cosines >= own[:, None]).sum(1)
