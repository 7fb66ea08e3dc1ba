"""An iterator of chunks serves one call; used again it would be no negatives at all, a loss of 0 without a word. So
would an iterable that hands out the same iterator every time."""

import re

import pytest
import torch
from torch.utils.checkpoint import checkpoint

from contrastive_ops import InfoNCELoss, info_nce, streamed_row_lse
from contrastive_ops.testing import make_pairs

USED_UP = re.compile("got an iterable without any chunk, expected at least one.* sequence such as")
X, Y = make_pairs(8, 4, torch.float64)
BANK = make_pairs(96, 4, torch.float64, seed=1)[0]


def chunks():
    return (BANK[i : i + 32] for i in range(0, 96, 32))


def twice(call, *args):
    call(*args)
    with pytest.raises(ValueError, match=USED_UP):
        call(*args)


def test_a_second_step():
    given = chunks()
    twice(lambda: info_nce(X, Y, negatives=given))


class Once:
    """An iterable, no iterator, that can be walked once."""

    def __init__(self):
        self.given = chunks()

    def __iter__(self):
        return self.given


@pytest.mark.parametrize("make", [lambda: iter(BANK.split(32)), lambda: map(torch.neg, BANK.split(32)), chunks, Once])
def test_any_iterator(make):
    given = make()
    twice(lambda: streamed_row_lse(X, given))


def test_a_setting_of_a_module():
    twice(InfoNCELoss(negatives=chunks()), X, Y)


def test_with_gradients_and_inside_torch_func():
    leaf, given = X.clone().requires_grad_(), chunks()
    twice(lambda: info_nce(leaf, Y, negatives=given))
    given = chunks()
    twice(lambda: torch.func.grad(lambda x: info_nce(x, Y, negatives=given))(X))


def test_gradients_of_chunks_are_refused_inside_torch_func_too():
    """They were 0: the tensors that run inside a transform do not tell who asks for their gradient."""

    def loss(keys):
        return info_nce(X, Y, negatives=(part for part in (BANK, keys)))

    one = torch.ones((), dtype=torch.float64)
    for gradient in (
        lambda: loss(Y.clone().requires_grad_()),
        lambda: torch.func.grad(loss)(Y),
        lambda: torch.func.vjp(loss, Y)[1](one),
        lambda: torch.func.jacrev(loss)(Y),
        lambda: torch.func.grad(lambda x: torch.func.grad(lambda y: loss(x) + y.sum())(Y).sum())(Y),
    ):
        with pytest.raises(ValueError, match="streamed chunk requires grad"):
            gradient()


def test_a_closure_of_lbfgs():
    weight, given = torch.eye(4, dtype=torch.float64, requires_grad=True), chunks()
    optimizer = torch.optim.LBFGS([weight], max_iter=3)

    def closure():
        optimizer.zero_grad()
        loss = info_nce(X @ weight, Y, negatives=given)
        loss.backward()
        return loss

    with pytest.raises(ValueError, match=USED_UP):
        optimizer.step(closure)


@pytest.mark.parametrize("use_reentrant", [False, True])
def test_recomputation(use_reentrant):
    leaf, given = X.clone().requires_grad_(), chunks()
    loss = checkpoint(lambda x: info_nce(x, Y, negatives=given), leaf, use_reentrant=use_reentrant)
    with pytest.raises(ValueError, match=USED_UP):
        loss.backward()


def test_what_may_be_used_again():
    """Sequences, and iterables that begin anew; no keys at all are no error where nothing can be used up."""

    class Bank:
        def __iter__(self):
            return chunks()

    expected = info_nce(X, Y, negatives=BANK)
    for negatives in (BANK.split(32), list(chunks()), Bank()):
        for _ in range(2):
            torch.testing.assert_close(info_nce(X, Y, negatives=negatives), expected)
    for nothing in ([], (), BANK[:0], iter([BANK[:0]])):
        assert info_nce(X, Y, negatives=nothing) == 0


def test_only_one_chunk_is_held():
    """The first one, which is seen before the work, is let go as well."""
    alive, most = set(), 0

    class Chunk(torch.Tensor):
        def __del__(self):
            alive.discard(id(self))

    def watched():
        nonlocal most
        for part in BANK.split(32):
            chunk = part.clone().as_subclass(Chunk)
            alive.add(id(chunk))
            most = max(most, len(alive))
            yield chunk
            del chunk

    streamed_row_lse(X, watched())
    assert most <= 2 and not alive  # the next is made before the loop lets go of the last
