"""What the machine can do at best: a copy, and products by its own library. All other times are read beside these."""

from __future__ import annotations

from functools import partial

import torch

from bench.gpu.case import Case, Row, Setting
from bench.gpu.clock import milliseconds

MACRO_BLOCK = (2048, 768, 4096)  # rows, D, columns: what a product of a macro-block makes


def cases(setting: Setting) -> list[Case]:
    size, side = setting.choose(2 << 30, 1 << 20), setting.choose(8192, 128)
    products = [("square product", (side, side, side), dtype) for dtype in ("bfloat16", "float32", "float64")]
    products.append(("product of a macro-block", setting.choose(MACRO_BLOCK, (64, 32, 64)), "bfloat16"))
    return [
        Case({"what": "copy", "bytes": size}, partial(_copy, setting, size)),
        *(
            Case(
                {"what": what, "shape": "x".join(map(str, shape)), "dtype": dtype},
                partial(_product, setting, shape, getattr(torch, dtype)),
            )
            for what, shape, dtype in products
        ),
    ]


def _copy(setting: Setting, size: int) -> Row:
    source = torch.empty(size, dtype=torch.uint8, device=setting.device).random_()
    target = torch.empty_like(source)
    time = milliseconds(lambda: target.copy_(source), setting.device)
    return {"copy_ms": time, "read_and_written_tb_per_s": 2 * size / time / 1e9}


def _product(setting: Setting, shape: tuple[int, int, int], dtype: torch.dtype) -> Row:
    m, n, k = shape
    first, second = (torch.randn(*size, device=setting.device, dtype=dtype) for size in ((m, k), (k, n)))
    time = milliseconds(lambda: first @ second, setting.device)
    return {"product_ms": time, "tflop_per_s": 2.0 * m * n * k / time / 1e9}
