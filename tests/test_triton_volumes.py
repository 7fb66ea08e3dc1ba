"""Volumes in the Triton kernels: macro-blocks, descriptors, float16 near the span, faults caught.

Their values and gradients in one macro-block are those of tests/test_volume_statistics.py.
"""

import pytest
import torch
from test_volume_statistics import check as check_volumes
from triton_problems import TILE, cut_macro_blocks, plant

from contrastive_ops import all_pairs, volume_statistics
from contrastive_ops.scores import VolumeScore
from contrastive_ops.testing import Case, norm_error

pytest.importorskip("triton", reason="triton exists for Linux only")

from contrastive_ops.backends.triton import arguments
from contrastive_ops.triton_kernels import macro_bwd, tile
from contrastive_ops.triton_kernels.score import volume


@pytest.fixture
def small_volume_blocks(monkeypatch):
    """Called with the banks and their dtype: blocks of at most four tiles."""

    def cut(banks, dtype):
        cut_macro_blocks(monkeypatch, 2 * TILE * 2 * TILE * dtype.itemsize * banks)

    return cut


@pytest.mark.parametrize(
    "banks, dtype, case",
    [
        (1, torch.bfloat16, Case("off_diagonal", (70, 150, 20), row_bias=True, col_bias=True, scale=-3.5)),
        (2, torch.float32, Case("few_ids", (70, 66, 12), batch=2, columns=False, col_bias=True, scale=-3.5)),
        (2, torch.float16, Case("ids_and_diagonal", (70, 140, 70), row_bias=True, scale=-3.5)),
        (3, torch.float64, Case("offset_left", (66, 130, 16), layout="sliced", rows=False, row_bias=True, scale=-3.5)),
        (7, torch.float32, Case("off_diagonal", (66, 65, 18), col_bias=True, scale=-3.5)),
    ],
    ids=str,
)
def test_volumes_in_macro_blocks(banks, dtype, case, small_volume_blocks):
    small_volume_blocks(banks, dtype)
    check_volumes(case, dtype, "triton", banks)


def test_volumes_by_tensor_descriptors(monkeypatch):
    made = []
    descriptor = arguments.TensorDescriptor
    monkeypatch.setattr(arguments, "has_descriptors", lambda arch, precision: True)
    monkeypatch.setattr(arguments, "TensorDescriptor", lambda *given: made.append(given) or descriptor(*given))
    check_volumes(Case("off_diagonal", (40, 70, 16), scale=-3.5), torch.bfloat16, "triton", 2)
    assert len(made) == 2 * 2 + 2 * 2 * 2  # rows and banks in both passes, two operands of four products


def gradients_near_the_span():
    """Anchors 2^-9 away from a line, in float16: weights 512 times dS. Every number here is exact in float16."""
    leaves = [torch.zeros(3, 8, dtype=torch.float16) for _ in range(2)]
    leaves[0][:, 0] = leaves[1][:, 0] = 1.0
    leaves[0][range(3), range(2, 5)] = 2.0**-9
    found = []
    for backend, dtype in (("triton", torch.float16), ("reference", torch.float64)):
        anchor, data = (leaf.to(dtype).requires_grad_() for leaf in leaves)
        sums = volume_statistics(anchor, [data], scale=1.0, positives=all_pairs(), backend=backend).row_sum
        found.append(torch.autograd.grad(sums.sum(), [anchor, data]))
    return found


def test_float16_weights_near_the_span(monkeypatch):
    """They stay in the range of float16; planted fault: without the bound of the weights they do not."""
    for ours, true in zip(*gradients_near_the_span(), strict=True):
        torch.testing.assert_close(ours.double(), true, rtol=1e-3, atol=1e-4)
    monkeypatch.setattr(VolumeScore, "largest_weight", lambda score: torch.tensor(1.0))
    ours, true = (d_anchor for d_anchor, _ in gradients_near_the_span())
    assert ours.isfinite().all()  # cut off at the end of the range
    assert norm_error(ours, true) > 1.0


def check_volumes_in_blocks(cut, banks, dtype):
    cut(banks, dtype)
    check_volumes(Case("off_diagonal", (70, 66, 9), scale=-3.5), dtype, "triton", banks)


def check_bad_anchor(cut, banks, dtype):
    anchor, modalities = torch.randn(5, 6, dtype=dtype), torch.randn(banks, 5, 6, dtype=dtype)
    anchor[3, 1] = torch.nan
    row_lse = volume_statistics(anchor, list(modalities), backend="triton").row_lse
    assert row_lse.isnan().tolist() == [i == 3 for i in range(5)]


VOLUME_MUTATIONS = {
    # the lower triangle read by columns
    "mixing index": (
        volume,
        "load_mixing",
        ("r * (r + 1) // 2 + s", "s * (s + 1) // 2 + r"),
        (check_volumes_in_blocks, 3, torch.float32),
    ),
    # the first bank in the place of all
    "missing bank": (
        tile,
        "products",
        ("BLOCK_N, BLOCK_D, s, BANKS", "BLOCK_N, BLOCK_D, 0, BANKS"),
        (check_volumes_in_blocks, 2, torch.float32),
    ),
    # half precision: what the later coordinates owe to a bank is left out
    "weights not mixed": (
        volume,
        "volume_weights",
        ("tl.static_range(s + 1, BANKS)", "tl.static_range(s + 1, s + 1)"),
        (check_volumes_in_blocks, 2, torch.float16),
    ),
    # all banks write their weights to the first one's place
    "weights of a bank": (
        macro_bwd,
        "macro_gradient_kernel",
        ("targets + s * bank_stride", "targets"),
        (check_volumes_in_blocks, 2, torch.float32),
    ),
    # the tiles of columns share a slot of the rows' sums
    "slot of a row": (
        macro_bwd,
        "store_row_sums",
        ("slots + tl.program_id(1) * block_rows + i", "slots + i"),
        (check_volumes_in_blocks, 2, torch.float32),
    ),
    # a distance of 0 for NaN
    "NaN": (
        volume,
        "distance",
        ("tl.where(squared < 0.0, 0.0, squared)", "tl.where(squared > 0.0, squared, 0.0)"),
        (check_bad_anchor, 2, torch.float32),
    ),
}


@pytest.mark.parametrize("name", VOLUME_MUTATIONS)
def test_planted_fault_in_volumes_is_seen(name, monkeypatch, tmp_path, small_volume_blocks):
    module, function, fault, (check, banks, dtype) = VOLUME_MUTATIONS[name]
    check(small_volume_blocks, banks, dtype)
    plant(monkeypatch, tmp_path, module, function, fault)
    with pytest.raises(AssertionError):
        check(small_volume_blocks, banks, dtype)
