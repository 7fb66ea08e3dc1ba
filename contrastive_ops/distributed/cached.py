"""Gradient cache: a contrastive batch larger than the encoder's memory (GradCache, Gao et al. 2021, arXiv 2101.06983;
BASIC, Pham et al. 2021, arXiv 2111.10050)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor

# by their names, or by their places where the model gives none
_Outputs = dict[str | int, Tensor]
_RandomState = tuple[Tensor, Tensor | None]  # of the CPU, and of the current GPU where there is one


def cached_loss(
    encode: Callable[..., Tensor | tuple[Tensor, ...] | Mapping[str, Tensor]],
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
        encode: the model; embeddings `[n, D]`: one, a tuple of them, or a dict, whose names are then those of the
            loss's arguments (open_clip's `output_dict`): the same names for every micro-batch, in any order. A 0-dim
            output (the logit scale) is shared by all micro-batches and is given to the loss once, and so is one of
            shape [1] or [1, 1] that has one element whatever the number of items. Where each micro-batch has one item
            this cannot be told from one number an item: that is refused, return a 0-dim scale there. Let the model
            return it: DistributedDataParallel reduces gradients only of what its own forward has used.
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
        parts: list[_Outputs] = []  # the outputs of each micro-batch
        needs_grad: dict[str | int, bool] = {}
        for number, batch in enumerate(batches, 1):
            random_states.append(_random_state())
            # the graph of the first one, dropped at once, shows which outputs are frozen
            with nullcontext() if not parts else torch.no_grad():
                outputs = _outputs(encode, batch)
            needs_grad = needs_grad or {name: output.requires_grad for name, output in outputs.items()}
            _check_names(outputs, needs_grad, number)
            parts.append({name: output.detach() for name, output in outputs.items()})
            del outputs
        columns = {name: [part[name] for part in parts] for name in needs_grad}
        shared = _shared(columns)
        embeddings = {
            name: (column[0] if name in shared else torch.cat(column)).detach().requires_grad_(needs_grad[name])
            for name, column in columns.items()
        }
        named = {name: value for name, value in embeddings.items() if isinstance(name, str)}
        value = loss(**named) if named else loss(*embeddings.values())
        value.backward()
    shares = {name: _shares(embeddings[name], column, name in shared) for name, column in columns.items()}
    for number, (batch, random_state) in enumerate(zip(batches, random_states, strict=True), 1):
        with nullcontext() if number == len(batches) else without_reduction(), _restored(random_state):
            outputs = _outputs(encode, batch)
            _check_names(outputs, needs_grad, number)
            trained = [name for name, output in outputs.items() if output.requires_grad]
            torch.autograd.backward([outputs[name] for name in trained], [shares[name][number - 1] for name in trained])
    return value.detach()


def _outputs(encode: Callable[..., Any], batch: Any) -> _Outputs:
    if isinstance(batch, Mapping):
        outputs = encode(**batch)
    else:
        outputs = encode(*batch) if isinstance(batch, (tuple, list)) else encode(batch)
    if isinstance(outputs, Mapping):
        found = dict(outputs)
    else:
        found = dict(enumerate(outputs if isinstance(outputs, (tuple, list)) else [outputs]))
    for name, output in found.items():
        if not isinstance(output, Tensor):
            raise TypeError(
                "encode must return tensors, one, a tuple or a dict of them, "
                f"got in output {name!r} a {type(output).__name__}: leave it out"
            )
    return found


def _check_names(outputs: Collection[str | int], expected: Collection[str | int], number: int) -> None:
    """Raise unless a micro-batch has the outputs of the first one, in whatever order."""
    lacks = [f"lacks {_output_name(name)}" for name in expected if name not in outputs]
    more = [f"has {_output_name(name)} more" for name in outputs if name not in expected]
    if lacks or more:
        raise ValueError(
            "encode must return the same outputs for every micro-batch, each time it is called, "
            f"got micro-batch {number} {', '.join(lacks + more)}"
        )


def _output_name(name: str | int) -> str:
    return repr(name) if isinstance(name, str) else f"output {name}"


def _shared(columns: Mapping[str | int, Sequence[Tensor]]) -> set[str | int]:
    """The outputs that are one number for all micro-batches, not the embeddings of each.

    One element in every micro-batch is no embedding if another output has a number of rows that is not 1.
    """
    ones = {name for name, parts in columns.items() if all(part.numel() == 1 for part in parts)}
    scalars = {name for name in ones if any(part.dim() == 0 for part in columns[name])}
    in_doubt = [name for name in columns if name in ones - scalars]
    others = [part for name, parts in columns.items() if name not in ones for part in parts]
    is_single = all(len(parts) == 1 for parts in columns.values())  # one micro-batch: the same either way
    if not in_doubt or is_single or any(part.shape[:1] != (1,) for part in others):
        return ones
    if len(in_doubt) == 1 and not others:
        return scalars  # something must be the embeddings
    raise ValueError(
        "encode must return what tells shared numbers from numbers of items, got one item in every micro-batch and "
        f"output {in_doubt[0]!r} of shape {tuple(columns[in_doubt[0]][0].shape)}: make it 0-dim if it is shared, "
        "otherwise use micro-batches of more than one item"
    )


def _shares(embedding: Tensor, parts: Sequence[Tensor], is_shared: bool) -> list[Tensor]:
    """What each micro-batch's output receives; a shared output receives all of it at the last."""
    gradient = embedding.grad
    if gradient is None:
        return [torch.zeros_like(part) for part in parts]
    if is_shared:
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
