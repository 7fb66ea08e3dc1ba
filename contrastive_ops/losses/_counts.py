"""How many items of equal id there are, by sorting, so that shapes do not depend on the data."""

from __future__ import annotations

import torch
from torch import Tensor


def count_same(row_ids: Tensor, col_ids: Tensor) -> Tensor:
    """Number of columns with the id of each row, `[M]` for `[M]` and `[N]` integers."""
    ordered, row_ids = col_ids.to(torch.int64).sort().values, row_ids.to(torch.int64)
    return torch.searchsorted(ordered, row_ids, right=True) - torch.searchsorted(ordered, row_ids)
