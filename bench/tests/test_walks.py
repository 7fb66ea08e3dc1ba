"""What `python -m bench.walks` compares is one loss."""

import pytest
import torch

from bench.walks import losses


@pytest.mark.parametrize("sizes", [(24, 24), (8, 40)], ids=str)
def test_contestants_agree(sizes):
    queries, keys = (torch.nn.functional.normalize(torch.randn(length, 16), dim=1) for length in sizes)
    found = losses(*sizes, workspace_bytes=0)
    expected = found["dense"](queries, keys)
    assert ("clip_loss" in found) == (sizes[0] == sizes[1])
    for name in {"ours", "linear_cross_entropy"} & found.keys():
        torch.testing.assert_close(found[name](queries, keys), expected, rtol=1e-5, atol=0)
