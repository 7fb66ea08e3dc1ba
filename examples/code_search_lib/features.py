"""Texts to bags of hashed features: words, word stems and word pairs, weighted by rarity."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

MAX_WORDS = 300  # of one text
STEM_LENGTH = 5  # "normalised", "normalize" and "normal" share a feature

# camelCase, snake_case, ALLCAPS and numbers come apart
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_WORD_SALT, _STEM_SALT, _PAIR_SALT = (np.uint64(salt) for salt in (1, 2, 3))


class Bags(NamedTuple):
    """Sparse rows: those of text i are `ids[starts[i]:starts[i + 1]]`, each id once, with how often it occurs."""

    ids: NDArray[np.int64]
    counts: NDArray[np.float32]
    starts: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts) - 1


class Batch(NamedTuple):
    """What `nn.EmbeddingBag` takes: ids [F], offsets [B], per-sample weights [F]."""

    ids: Tensor
    offsets: Tensor
    weights: Tensor


def hash_texts(texts: Sequence[str], buckets: int) -> Bags:
    """Bags of the texts; `buckets` is a power of two. One hash per distinct word, the rest in whole arrays."""
    hash_of_word: dict[str, tuple[int, int]] = {}
    words: list[tuple[int, int]] = []
    lengths = np.empty(len(texts), np.int64)
    for i, text in enumerate(texts):
        found = _WORD.findall(text)[:MAX_WORDS]
        lengths[i] = len(found)
        for word in found:
            known = hash_of_word.get(word)
            if known is None:
                lower = word.lower()
                known = hash_of_word[word] = (zlib.crc32(lower.encode()), zlib.crc32(lower[:STEM_LENGTH].encode()))
            words.append(known)
    hashes = np.array(words, np.uint64).reshape(-1, 2)
    text_of_word = np.repeat(np.arange(len(texts)), lengths)
    word, stem = hashes[:, 0], hashes[:, 1]
    in_one_text = text_of_word[1:] == text_of_word[:-1]
    pair = (word[:-1] * _GOLDEN + word[1:])[in_one_text]
    features = np.concatenate([_mix(word, _WORD_SALT), _mix(stem, _STEM_SALT), _mix(pair, _PAIR_SALT)])
    owners = np.concatenate([text_of_word, text_of_word, text_of_word[1:][in_one_text]])
    keys, counts = np.unique(owners * buckets + (features % np.uint64(buckets)).astype(np.int64), return_counts=True)
    starts = np.searchsorted(keys, np.arange(len(texts) + 1) * buckets)
    return Bags(keys % buckets, counts.astype(np.float32), starts)


def rarity(collections: Sequence[Bags], buckets: int) -> Tensor:
    """Inverse document frequency of every bucket, [buckets]."""
    texts = sum(len(bags) for bags in collections)
    document_counts = sum(np.bincount(bags.ids, minlength=buckets) for bags in collections)
    return torch.from_numpy(np.log((1 + texts) / (1 + document_counts)).astype(np.float32))


def take(bags: Bags, rows: NDArray[np.int64], idf: Tensor) -> Batch:
    """The rows as one batch; weights are (1 + log count) * rarity, of length 1 in every bag."""
    starts = bags.starts[rows]
    lengths = bags.starts[rows + 1] - starts
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]])
    source = np.arange(lengths.sum()) + np.repeat(starts - offsets, lengths)
    ids = torch.from_numpy(bags.ids[source])
    weights = torch.from_numpy(1 + np.log(bags.counts[source])) * idf[ids]
    row_of_feature = torch.from_numpy(np.repeat(np.arange(len(rows)), lengths))
    squares = torch.zeros(len(rows)).index_add_(0, row_of_feature, weights.square())
    return Batch(ids, torch.from_numpy(offsets), weights * squares.clamp_min(1e-12).rsqrt()[row_of_feature])


def _mix(values: NDArray[np.uint64], salt: np.uint64) -> NDArray[np.uint64]:
    """splitmix64: every input bit reaches the low bits, which pick the bucket."""
    z: NDArray[np.uint64] = (values + salt) * _GOLDEN
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z ^= z >> np.uint64(31)
    return z
