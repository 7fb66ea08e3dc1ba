"""Faults planted in the Triton kernels: each must be seen."""

import pytest
import torch
from triton_problems import TILE, cut_macro_blocks, plant

from contrastive_ops.testing import Case
from contrastive_ops.testing.verdicts import check_case

pytest.importorskip("triton", reason="triton exists for Linux only")

from contrastive_ops.triton_kernels import gradient_bwd, macro_bwd, reduction
from contrastive_ops.triton_kernels.reduction import log_sum_exp

TALL = Case("off_diagonal", (3 * TILE * 2, 100, 9))  # two tiles of rows in a stripe
MUTATIONS = {
    # the running sum is not rescaled when a larger score appears
    "online merge": (
        log_sum_exp,
        "lse_of_rows",
        ("state[1] * exponential(state[0] - shift) + tl.sum", "state[1] + tl.sum"),
        Case("off_diagonal", (70, 500, 9), columns=False),
    ),
    # zeros beyond the last row and column count as scores
    "tail mask": (
        log_sum_exp,
        "lse_scores",
        ("if at_the_end | may_exclude(", "if may_exclude("),
        Case("offset_outside", (70, 70, 9)),
    ),
    # a tile of rows forgets what the tiles above it have found in the same columns
    "column merge": (
        reduction,
        "add_to_slots",
        ("merge_states(reduction.kind, before, found)", "found"),
        TALL,
    ),
    # a line without candidates gives NaN
    "empty lines": (
        log_sum_exp,
        "finite_or_zero",
        ('return tl.where(tl.abs(top) == float("inf"), 0.0, top)', "return top"),
        Case("no_candidates", (20, 30, 9)),
    ),
    # the factor that keeps dS in the range of float16 is not taken out again
    "unit of float16": (
        gradient_bwd,
        "gradient_bwd_kernel",
        ("accumulated * (scale_value / unit_value)", "accumulated * scale_value"),
        Case("off_diagonal", (20, 30, 9)),
    ),
    # a tile of dS reads the products that the score pass kept of the first tile
    "kept products": (
        macro_bwd,
        "macro_gradient_kernel",
        ("offsets = tile.rows.to(tl.int64)", "offsets = (tile.rows % 64).to(tl.int64)"),
        Case("off_diagonal", (130, 300, 150)),
    ),
    # the second product of a macro-block overwrites instead of adding
    "macro-block sum": (
        macro_bwd,
        "add_product",
        (
            "total = tl.load(target, mask=mask, other=0.0)\n    for s",
            "total = tl.zeros((BLOCK_M, BLOCK_N), gradient.dtype.element_ty)\n    for s",
        ),
        Case("off_diagonal", (130, 300, 150)),
    ),
    # all entries of the batch add to the first one's gradient
    "entry of a gradient": (
        macro_bwd,
        "macro_product_kernel",
        ("d_rows + entry.to(tl.int64) * num_rows * D", "d_rows"),
        Case("off_diagonal", (70, 90, 150), batch=2),
    ),
    # products of the transposed weights with the rows of the first macro-block
    "rows of a block": (
        macro_bwd,
        "add_product",
        ("others.first + start,", "start,"),
        Case("off_diagonal", (200, 70, 150)),
    ),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_planted_fault_is_seen(name, monkeypatch, tmp_path):
    cut_macro_blocks(monkeypatch, TILE * 2 * TILE * 4)
    module, function, fault, case = MUTATIONS[name]
    dtype = torch.float16 if "float16" in name else torch.float32
    check_case(case, dtype, "triton")
    plant(monkeypatch, tmp_path, module, function, fault)
    with pytest.raises(AssertionError):
        check_case(case, dtype, "triton")
