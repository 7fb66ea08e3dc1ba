"""Gradient cache: a contrastive batch larger than the encoder's memory (GradCache, Gao et al. 2021, arXiv 2101.06983;
BASIC, Pham et al. 2021, arXiv 2111.10050)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

_RandomState = tuple[Tensor, Tensor | None]  # of the CPU, and of the current GPU where there is one


def cached_loss(
    encode: Callable[..., Tensor | tuple[Tensor, ...]],
    micro_batches: Iterable[Any],
    loss: Callable[..., Tensor],
    *,
    no_sync: Callable[[], AbstractContextManager[Any]] | None = None,
) -> Tensor:
    """Loss of all micro-batches together, and its gradients added to every parameter's `.grad`: a whole training step
    but for the optimizer. It calls backward itself.

        1. encode every micro-batch without a graph
        2. loss(*embeddings of all micro-batches) and its gradients in the embeddings, once
        3. encode every micro-batch again, with a graph and the random state of 1, and send its gradients into it

    The gradients are those of the whole batch in one pass (for encoders that treat samples one by one: no batch norm).
    Only one micro-batch's graph exists at a time; the price is a second forward pass.

    Args:
        encode: the model; embeddings `[n, D]`, one or a tuple of them. A 0-dim output (the logit scale, as open_clip's
            model returns it) is shared by all micro-batches and is given to the loss once. Let the model return it:
            DistributedDataParallel reduces gradients only of what its own forward has used.
        micro_batches: each is what `encode` is called with: a tuple of arguments, a dict of keyword arguments, or
            one other argument. At least one; ranks may have different numbers (not under FSDP, whose forward passes
            gather parameters together).
        loss: of the concatenated embeddings, e.g. `lambda image, text, scale: distributed.clip_loss(image, text, scale,
            strategy="grouped", group_size=8)`, which is M2-Encoder's grouped loss with batch accumulation.
        no_sync: context in which backward reduces no gradients; `encode.no_sync` where there is one
            (DistributedDataParallel). All but the last backward run in it: one reduction a step. `fully_shard` has no
            such context of its own; without one it reduces at every micro-batch, with the same result.

    Returns:
        The value of the loss, 0-dim, detached.
    """
    batches = list(micro_batches)
    if not batches:
        raise ValueError("micro_batches must hold at least one micro-batch, got none")
    without_reduction = no_sync if no_sync is not None else getattr(encode, "no_sync", nullcontext)
    with without_reduction():
        random_states: list[_RandomState] = []
        parts: list[tuple[Tensor, ...]] = []  # the outputs of each micro-batch
        needs_grad: tuple[bool, ...] = ()
        for batch in batches:
            random_states.append(_random_state())
            # the graph of the first one, dropped at once, shows which outputs are frozen
            with nullcontext() if not parts else torch.no_grad():
                outputs = _outputs(encode, batch)
            needs_grad = needs_grad or tuple(output.requires_grad for output in outputs)
            parts.append(tuple(output.detach() for output in outputs))
            del outputs
        embeddings = [
            (column[0] if column[0].dim() == 0 else torch.cat(column)).detach().requires_grad_(needs)
            for needs, *column in zip(needs_grad, *parts, strict=True)
        ]
        value = loss(*embeddings)
        value.backward()
    gradients = zip(*map(_shares, embeddings, *parts), strict=True)
    for number, (batch, random_state, shares) in enumerate(zip(batches, random_states, gradients, strict=True), 1):
        with nullcontext() if number == len(batches) else without_reduction(), _restored(random_state):
            outputs = _outputs(encode, batch)
            trained = [i for i, output in enumerate(outputs) if output.requires_grad]
            torch.autograd.backward([outputs[i] for i in trained], [shares[i] for i in trained])
    return value.detach()


def _outputs(encode: Callable[..., Any], batch: Any) -> tuple[Tensor, ...]:
    if isinstance(batch, Mapping):
        outputs = encode(**batch)
    else:
        outputs = encode(*batch) if isinstance(batch, (tuple, list)) else encode(batch)
    return (outputs,) if isinstance(outputs, Tensor) else tuple(outputs)


def _shares(embedding: Tensor, *parts: Tensor) -> list[Tensor]:
    """What each micro-batch's output receives; a shared output receives all of it at the last."""
    gradient = embedding.grad
    if gradient is None:
        return [torch.zeros_like(part) for part in parts]
    if embedding.dim() == 0:
        return [*(torch.zeros_like(gradient) for _ in parts[1:]), gradient]
    return list(gradient.split([part.shape[0] for part in parts]))


def _random_state() -> _RandomState:
    return torch.get_rng_state(), torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None


@contextmanager
def _restored(state: _RandomState) -> Iterator[None]:
    """The random numbers of then, and afterwards those that would have come now."""
    of_cpu, of_gpu = state
    with torch.random.fork_rng([] if of_gpu is None else [torch.cuda.current_device()]):
        torch.set_rng_state(of_cpu)
        if of_gpu is not None:
            torch.cuda.set_rng_state(of_gpu)
        yield
