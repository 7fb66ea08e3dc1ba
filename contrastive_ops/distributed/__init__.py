"""Losses over the batches of all ranks of a process group, for `torch.distributed` (NCCL, gloo).

    import contrastive_ops.distributed as distributed

    loss = distributed.clip_loss(image, text, logit_scale, strategy="ring")     # this rank's features
    loss.backward()                                                             # as DDP and FSDP expect it

Every loss equals that of one process on the concatenated batch, value and gradients; the gradient convention
(`grad_reduction`) is in `mean_over_ranks`. All ranks of the group call it, and backward, together. Local batches may
differ in size and be empty. Bad input on one rank, or ranks that differ in what must agree, raise on every rank before
any feature moves.

    strategy    what moves                                                   memory for what moves
    "gather"    the columns of all ranks come to every rank, once            O(W n D)
    "ring"      the columns travel from rank to rank, one rank's at a time   O(n D)
    "shard"     the rows of all ranks come to every rank, columns stay       O(W m D)
    "grouped"   "gather" inside groups of ranks: another objective, with fewer candidates (M2-Encoder, arXiv 2401.15896)

`group_size` makes contiguous groups of that many ranks, `groups` lists them. If the columns require grad and the rows
do not, the rows travel in their place ("gather", "ring"), because nothing has to be brought home for a frozen tower.
`wire_dtype` halves what features cost to move. docs/distributed.md has bytes and memory.
"""

from contrastive_ops.distributed.cached import cached_loss
from contrastive_ops.distributed.clip import clip_loss
from contrastive_ops.distributed.convention import mean_over_ranks
from contrastive_ops.distributed.gram import gram_loss
from contrastive_ops.distributed.info_nce import info_nce
from contrastive_ops.distributed.statistics import similarity_statistics
from contrastive_ops.distributed.sup_con import sup_con

__all__ = ["cached_loss", "clip_loss", "gram_loss", "info_nce", "mean_over_ranks", "similarity_statistics", "sup_con"]
