"""Steps for the toolkit's own programs: `python -m bench.gpu.small_step cuda` launches every kernel, small;
`python -m bench.gpu.small_step cuda 16384x768` repeats one training step of clip_loss."""

from __future__ import annotations

import sys

import torch

from bench.gpu.clip_step import ClipStep
from bench.gpu.contestants import CONTESTANTS
from bench.shapes import Shape
from contrastive_ops import clip_loss, gram_loss, nt_xent

DTYPES = (torch.bfloat16, torch.float32, torch.float16, torch.float64)
# aligned and unaligned rows, sizes that fill no tile, products that are kept and that are not
SIZES = ((512, 128), (300, 65), (150, 512))
REPEATS = 4


def every_kernel(backend: str, device: torch.device) -> None:
    for dtype in DTYPES:
        for n, d in SIZES:
            print(f"{dtype} {n}x{d}", flush=True)  # how far it came, where it is stopped
            images, texts = (torch.randn(n, d, device=device).to(dtype).requires_grad_() for _ in range(2))
            scale = torch.tensor(0.1, device=device).requires_grad_()
            clip_loss(images, texts, scale, backend=backend).backward()  # statistics, merge, dS and both its products
            clip_loss(images.detach(), texts.detach(), scale, backend=backend).backward()  # line sums
            nt_xent(images, texts, backend=backend).backward()  # self-similarity
            gram_loss(images, [texts, images.detach().flip(0)], backend=backend).backward()  # volumes


def one_step(backend: str, shape: Shape, device: torch.device) -> None:
    step = ClipStep(CONTESTANTS[f"ours, {backend}"].make(), shape.n, shape.d, torch.bfloat16, device)
    for _ in range(REPEATS):
        step()


if __name__ == "__main__":
    chosen = torch.device("cuda")
    if len(sys.argv) == 3:
        one_step(sys.argv[1], Shape.parse(sys.argv[2]), chosen)
    else:
        every_kernel(sys.argv[1], chosen)
    torch.cuda.synchronize()
