"""info_nce against the dense formula in float64, for every kind of negatives."""

import dense_losses
import pytest
import torch
from comparison import check_loss, gradients

from contrastive_ops import info_nce
from contrastive_ops.problem import statistics_dtype
from contrastive_ops.testing import make_pairs

CHUNKS = (5, 1, 0, 40, 77)


def leaves_for(m, d, dtype, negatives=None, negatives_grad=False):
    queries, keys = (x.requires_grad_() for x in make_pairs(m, d, dtype))
    temperature = torch.tensor(0.125, dtype=statistics_dtype(dtype)).requires_grad_()
    leaves = {"queries": queries, "keys": keys, "temperature": temperature}
    if negatives is not None:
        values = torch.randn(negatives, generator=torch.Generator().manual_seed(6))
        values = torch.nn.functional.normalize(values, dim=-1).to(dtype)
        leaves["negatives"] = values.requires_grad_(negatives_grad)
    return leaves


def check(leaves, dtype, backend, present=lambda negatives: negatives, reduction="none"):
    """`present` turns the negatives tensor into what is passed."""
    reduce = {"none": lambda x: x, "sum": torch.sum, "mean": torch.mean}[reduction]

    def ours(x):
        negatives = present(x["negatives"]) if "negatives" in x else None
        options = {"temperature": x["temperature"], "reduction": reduction, "backend": backend}
        return info_nce(x["queries"], x["keys"], negatives=negatives, **options)

    def dense(x, exact=False):
        return reduce(dense_losses.info_nce(x["queries"], x["keys"], x["temperature"], x.get("negatives"), exact))

    check_loss(ours, lambda x: dense(x, exact=True), dense, leaves, dtype, backend)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("m, d", [(2, 1), (5, 3), (130, 64), (400, 100)])
def test_in_batch_negatives(m, d, reduction, dtype, backend):
    check(leaves_for(m, d, dtype), dtype, backend, reduction=reduction)


@pytest.mark.parametrize("negatives_grad", [False, True])
@pytest.mark.parametrize("m, k, d", [(1, 1, 1), (5, 3, 17), (130, 300, 64)])
def test_shared_tensor(m, k, d, negatives_grad, dtype, backend):
    check(leaves_for(m, d, dtype, (k, d), negatives_grad), dtype, backend)


@pytest.mark.parametrize("negatives_grad", [False, True])
@pytest.mark.parametrize("m, k, d", [(1, 1, 1), (5, 3, 17), (70, 20, 64)])
def test_row_private_tensor(m, k, d, negatives_grad, dtype, backend):
    check(leaves_for(m, d, dtype, (m, k, d), negatives_grad), dtype, backend)


@pytest.mark.parametrize("negatives_grad", [False, True])
def test_list_of_chunks(negatives_grad, dtype, backend):
    leaves = leaves_for(33, 16, dtype, (sum(CHUNKS), 16), negatives_grad)
    check(leaves, dtype, backend, lambda negatives: list(negatives.split(CHUNKS)))


def test_tuple_with_and_without_gradient(backend):
    """A frozen queue beside fresh negatives: each receives what it asks for."""
    leaves = leaves_for(33, 16, torch.float32, (20, 16), negatives_grad=True)
    queue = make_pairs(50, 16, seed=3)[0]

    def ours(x):
        return info_nce(x["queries"], x["keys"], temperature=0.125, negatives=(queue, x["negatives"]), backend=backend)

    def dense(x):
        negatives = torch.cat((queue.to(x["negatives"].dtype), x["negatives"]))
        return dense_losses.info_nce(x["queries"], x["keys"], 0.125, negatives).mean()

    leaves.pop("temperature")
    check_loss(ours, dense, dense, leaves, torch.float32, backend)


def test_generator_of_chunks(dtype, backend):
    leaves = leaves_for(33, 16, dtype, (sum(CHUNKS), 16))
    check(leaves, dtype, backend, lambda negatives: (chunk for chunk in negatives.split(CHUNKS)))


def test_re_iterable_is_read_once(backend):
    """Forward needs each chunk once, backward none."""

    class Bank:
        reads = 0

        def __iter__(self):
            Bank.reads += 1
            return iter(make_pairs(40, 16, seed=2)[0].split(16))

    queries, keys = (x.requires_grad_() for x in make_pairs(9, 16))
    info_nce(queries, keys, negatives=Bank(), backend=backend).backward()
    assert Bank.reads == 1


def test_memory_mapped_bank(tmp_path, dtype, backend):
    """numpy.memmap is read where it lies; bfloat16 has no numpy type and is mapped by torch."""
    leaves = leaves_for(33, 16, dtype, (100, 16))
    size, path = leaves["negatives"].numel(), str(tmp_path / "bank.bin")

    def mapped(negatives):
        torch.from_file(path, shared=True, size=size, dtype=dtype).copy_(negatives.flatten())
        if dtype == torch.bfloat16:
            return torch.from_file(path, shared=True, size=size, dtype=dtype).view(100, 16)
        numpy = pytest.importorskip("numpy")
        array = numpy.memmap(path, dtype=str(dtype).removeprefix("torch."), mode="r+", shape=(100, 16))
        return torch.from_numpy(array)

    check(leaves, dtype, backend, mapped)


def test_bank_in_slices_equals_bank_at_once(monkeypatch, backend):
    """A bank longer than one slice; the slice is shortened here, 65536 rows would only make the test slow."""
    monkeypatch.setattr("contrastive_ops.ops.streamed.CHUNK_ROWS", 30)
    check(leaves_for(33, 16, torch.float32, (100, 16)), torch.float32, backend)


def test_bank_of_another_dtype_is_cast(backend):
    queries, keys = make_pairs(9, 16)
    bank = make_pairs(40, 16, torch.float16, seed=2)[0]
    cast = info_nce(queries, keys, negatives=bank, backend=backend)
    assert torch.equal(cast, info_nce(queries, keys, negatives=bank.float(), backend=backend))


def test_lazily_negated_chunks(backend):
    """A chunk whose memory holds the negative of its values (`is_neg()`) is read as its values."""
    queries, keys = make_pairs(9, 16)
    bank = make_pairs(40, 16, seed=2)[0]
    lazy = torch.complex(torch.zeros_like(bank), -bank).conj().imag
    assert lazy.is_neg()
    expected = info_nce(queries, keys, negatives=bank, backend=backend)
    torch.testing.assert_close(info_nce(queries, keys, negatives=lazy, backend=backend), expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("empty", [[], (torch.zeros(0, 16),), torch.zeros(0, 16), torch.zeros(9, 0, 16)], ids=str)
def test_no_negatives_at_all_give_zero(empty, backend):
    queries, keys = (x.requires_grad_() for x in make_pairs(9, 16))
    value, grads = gradients(
        lambda x: info_nce(x["q"], x["k"], negatives=empty, reduction="none", backend=backend),
        {"q": queries, "k": keys},
    )
    assert torch.equal(value, torch.zeros(9))
    assert all((grad == 0).all() for grad in grads.values())


@pytest.mark.parametrize("m", [0, 1])
def test_without_other_queries_loss_and_gradients_are_zero(m, dtype, backend):
    leaves = leaves_for(m, 7, dtype)
    value, grads = gradients(
        lambda x: info_nce(x["queries"], x["keys"], temperature=x["temperature"], backend=backend), leaves
    )
    assert value == 0
    assert all((grad == 0).all() for grad in grads.values())


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("temperature_dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("with_bank", [False, True])
def test_any_one_element_temperature(shape, temperature_dtype, with_bank, backend):
    queries, keys = make_pairs(9, 16)
    options = {
        "negatives": make_pairs(12, 16, seed=2)[0] if with_bank else None,
        "reduction": "none",
        "backend": backend,
    }
    temperature = torch.full(shape, 0.125, dtype=temperature_dtype)
    value = info_nce(queries, keys, temperature=temperature, **options)
    assert value.dtype == torch.float32
    assert torch.equal(value, info_nce(queries, keys, temperature=0.125, **options))
