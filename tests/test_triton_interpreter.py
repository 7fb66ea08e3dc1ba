"""Triton's interpreter computes bfloat16 wrongly; the backend corrects it, as long as that is so."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch

pytest.importorskip("triton", reason="triton exists for Linux only")

from contrastive_ops.backends.triton import interpreter as corrected

STOCK = """
    import torch, triton, triton.language as tl

    @triton.jit
    def kernel(a, b, product, narrow, wide, B: tl.constexpr):
        i = tl.arange(0, B)[:, None] * B + tl.arange(0, B)[None, :]
        tl.store(product + i, tl.dot(tl.load(a + i), tl.load(b + i)))
        tl.store(narrow + i, tl.load(wide + i).to(tl.bfloat16))

    torch.manual_seed(0)
    a, b = (torch.randn(16, 16).bfloat16() for _ in range(2))
    product, wide, narrow = torch.empty(16, 16), torch.randn(16, 16), torch.empty(16, 16, dtype=torch.bfloat16)
    kernel[(1,)](a, b, product, narrow, wide, B=16)
    print(float((product - a.float() @ b.float()).abs().max()), int((narrow != wide.bfloat16()).sum()))
"""


def largest_error_and_wrong_roundings(folder, prelude=""):
    script = folder / "script.py"  # the source of a kernel is read from its file
    script.write_text(prelude + textwrap.dedent(STOCK))
    process = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    error, wrong = process.stdout.split()
    return float(error), int(wrong)


def test_the_stock_interpreter_is_still_wrong(tmp_path):
    """When this fails, upstream has it right: delete that part of contrastive_ops/backends/triton/interpreter.py."""
    error, wrong_roundings = largest_error_and_wrong_roundings(tmp_path)
    assert error > 1.0
    assert wrong_roundings > 0


def test_the_correction(tmp_path):
    prelude = "from contrastive_ops.backends.triton.interpreter import correct_interpreter\ncorrect_interpreter()\n"
    error, wrong_roundings = largest_error_and_wrong_roundings(tmp_path, prelude)
    assert error < 1e-5
    assert wrong_roundings == 0


def test_corrected_conversion_is_that_of_torch():
    bits = torch.randint(-(2**31), 2**31, (100_000,), generator=torch.Generator().manual_seed(0), dtype=torch.int64)
    values = torch.cat([bits.to(torch.int32).view(torch.float32), torch.tensor([0.0, -0.0, 1e-45, 3.4e38, torch.inf])])
    narrow = torch.from_numpy(corrected._narrow(values.numpy()).view(np.int16)).view(torch.bfloat16)
    torch.testing.assert_close(narrow, values.bfloat16(), rtol=0, atol=0, equal_nan=True)
    wide = torch.from_numpy(corrected._widen(narrow.view(torch.int16).numpy().view(np.uint16)))
    torch.testing.assert_close(wide, narrow.float(), rtol=0, atol=0, equal_nan=True)
