"""Two towers over one table of hashed features, and the searchable index that is saved with them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from code_search_lib.features import Bags, Batch, hash_texts, take

MAX_LOG_SCALE = math.log(100.0)  # CLIP's bound
ENCODE_CHUNK = 4096  # texts at a time when no gradient is needed


class Tower(nn.Module):
    """Sum of feature vectors, then a residual MLP, then the unit sphere."""

    def __init__(self, table: nn.EmbeddingBag, width: int, hidden: int) -> None:
        super().__init__()
        self.table = table
        last = nn.Linear(hidden, width)
        # Close to the identity at first: training starts from word overlap, random projections of it, not from noise.
        nn.init.normal_(last.weight, std=1e-3)
        nn.init.zeros_(last.bias)
        self.mlp = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, hidden), nn.GELU(), last)

    def forward(self, batch: Batch) -> Tensor:
        pooled = self.table(batch.ids, batch.offsets, per_sample_weights=batch.weights)
        return F.normalize(pooled + self.mlp(pooled), dim=1)


class TwoTowers(nn.Module):
    """Docstring tower and code tower, `[B, width]` each, and the learnable scale of their similarities.

    The towers share the table (a word means the same in a docstring and in an identifier) and nothing else.
    """

    def __init__(self, buckets: int, width: int, hidden: int) -> None:
        super().__init__()
        self.sizes = (buckets, width, hidden)
        self.table = nn.EmbeddingBag(buckets, width, mode="sum")
        nn.init.normal_(self.table.weight, std=width**-0.5)
        self.docstring_tower = Tower(self.table, width, hidden)
        self.code_tower = Tower(self.table, width, hidden)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.register_buffer("idf", torch.ones(buckets))

    idf: Tensor

    def scale(self) -> Tensor:
        return self.log_scale.exp()

    @torch.no_grad()
    def clamp_scale(self) -> None:
        self.log_scale.clamp_(0.0, MAX_LOG_SCALE)

    @torch.no_grad()
    def encode(self, tower: Tower, bags: Bags) -> Tensor:
        """Vectors of all texts in `bags`, `[len(bags), width]`."""
        rows = np.arange(len(bags))
        chunks = [tower(take(bags, rows[i : i + ENCODE_CHUNK], self.idf)) for i in range(0, len(bags), ENCODE_CHUNK)]
        return torch.cat(chunks)


class SearchIndex(NamedTuple):
    """A trained model and the vectors of all collected functions: enough to answer queries."""

    model: TwoTowers
    locations: Sequence[str]
    docstrings: Sequence[str]
    vectors: Tensor  # [functions, width]

    def search(self, query: str, count: int) -> list[tuple[float, str, str]]:
        """(cosine, location, docstring) of the best functions, best first."""
        bags = hash_texts([query], self.model.sizes[0])
        cosines = (self.vectors @ self.model.encode(self.model.docstring_tower, bags).T).squeeze(1)
        top = cosines.topk(min(count, len(self.locations)))
        return [
            (value, self.locations[i], self.docstrings[i])
            for value, i in zip(top.values.tolist(), top.indices.tolist(), strict=True)
        ]

    def save(self, path: Path) -> None:
        """Whole or not at all: an interrupted write leaves the old file."""
        unfinished = path.with_suffix(".part")
        torch.save(
            {
                "sizes": self.model.sizes,
                "model": self.model.state_dict(),
                "locations": list(self.locations),
                "docstrings": list(self.docstrings),
                "vectors": self.vectors,
            },
            unfinished,
        )
        unfinished.replace(path)

    @classmethod
    def load(cls, path: Path) -> SearchIndex:
        saved = torch.load(path, weights_only=True)
        model = TwoTowers(*saved["sizes"])
        model.load_state_dict(saved["model"])
        return cls(model, saved["locations"], saved["docstrings"], saved["vectors"])
