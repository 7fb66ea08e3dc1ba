"""Hard negatives for GRAM's matching loss: one for every row and every column, drawn in one pass over the volumes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_ops.check import check_matrix, check_modalities, check_scale
from contrastive_ops.losses._checks import check_number
from contrastive_ops.losses._common import inverse_temperature
from contrastive_ops.ops import gram_volume
from contrastive_ops.ops.rule import refuse_transformed
from contrastive_ops.ops.volume_blocks import volume_blocks
from contrastive_ops.relations import off_diagonal

FLOOR = 1e-4  # of GRAM's training code


@torch.no_grad()
def gram_negatives(
    anchor: Tensor,
    modalities: Sequence[Tensor],
    *,
    temperature: float | Tensor = 0.07,
    floor: float = FLOOR,
    seed: int | None = None,
) -> tuple[Tensor, Tensor]:
    """A negative tuple for every anchor and a negative anchor for every tuple, hard ones more often.

        P(j | i) ~ softmax_j(-V_ij / temperature) + floor  over j != i, and the same down the columns

    Args:
        anchor: `[N, D]`, N >= 2.
        modalities: a sequence of 1 to 7 tensors `[N, D]`; row i of each belongs to anchor i.
        temperature: > 0, divides the volumes.
            On a GPU, where it is not read, 0 or less gives NaN or turns the order around, not an error.
        floor: added to every probability, so that no negative is impossible.
        seed: makes the draw repeatable; None draws with PyTorch's global generator.

    Returns:
        (tuples, anchors), `[N]` int64 each: tuple `tuples[i]` is for anchor i, anchor `anchors[j]` for tuple j. Without
        gradient; memory as of `gram_nearest`.

    Raises:
        ValueError, TypeError: naming got and expected, before any work is done.
    """
    check_matrix("anchor", anchor)
    anchor, modalities = check_modalities(anchor, modalities, paired=True)
    n = anchor.shape[0]
    if n < 2:
        raise ValueError(f"a negative needs at least two items, got N={n}")
    floor = check_number("floor", floor, 0.0)
    refuse_transformed(anchor, *modalities)
    generator = None if seed is None else torch.Generator(anchor.device).manual_seed(seed)
    volume = gram_volume(anchor, modalities)
    scale = check_scale(inverse_temperature(temperature, anchor), anchor.device, volume.dtype).neg()
    tuples, anchors = _Draw(volume, generator), _Draw(volume, generator)
    for rows, cols, scores in volume_blocks(anchor, modalities, scale):
        candidates = off_diagonal(rows.start - cols.start).mask(scores.shape[0], scores.shape[1], scores.device)
        assert candidates is not None
        scores.masked_fill_(~candidates, -torch.inf)
        tuples.see(rows, cols.start, scores)
        anchors.see(cols, rows.start, scores.mT)
    return tuples.finish(scale * volume, floor), anchors.finish(scale * volume, floor)


class _Draw:
    """One item for each of N lines with probability proportional to exp(score), from blocks that come one after
    another: a block displaces what was drawn before with the share that it has in all that was seen."""

    def __init__(self, like: Tensor, generator: torch.Generator | None) -> None:
        self.lse = torch.full_like(like, -torch.inf)
        self.item = torch.zeros_like(like, dtype=torch.int64)
        self.generator = generator

    def see(self, lines: slice, first: int, scores: Tensor) -> None:
        """`scores [lines, items]` of the items from `first` on; -inf for one that must not be drawn."""
        top = scores.amax(1)
        shift = top.masked_fill(top == -torch.inf, 0.0)
        cumulative = (scores - shift[:, None]).exp_().cumsum(1)
        total = cumulative[:, -1]
        block_lse = total.log() + shift
        merged = torch.logaddexp(self.lse[lines], block_lse)
        # below the last sum also after rounding, so that the item found has a share in it
        target = self._uniform(total) * (total * (1.0 - torch.finfo(total.dtype).eps))
        drawn = first + torch.searchsorted(cumulative, target[:, None], right=True).squeeze(1)
        displaces = self._uniform(total) < (block_lse - merged).exp()
        self.item[lines] = torch.where(displaces, drawn, self.item[lines])
        self.lse[lines] = merged

    def finish(self, own_score: Tensor, floor: float) -> Tensor:
        """The items, or others drawn uniformly in the share that the floor has beside the softmax."""
        n = len(self.item)
        softmax_share = torch.sigmoid(self.lse - own_score)  # 1 - p_ii
        floor_share = (n - 1) * floor
        other = torch.randint(n - 1, (n,), generator=self.generator, device=self.item.device)
        other += other >= torch.arange(n, device=other.device)
        is_uniform = self._uniform(own_score) * (softmax_share + floor_share) < floor_share
        return torch.where(is_uniform | self.lse.isnan(), other, self.item)

    def _uniform(self, like: Tensor) -> Tensor:
        return torch.rand(like.shape, generator=self.generator, dtype=like.dtype, device=like.device)
