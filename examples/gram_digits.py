"""Three views of handwritten digits tied together by the volume that they span (GRAM), and by pairs (InfoNCE).

    python examples/gram_digits.py --out out/gram_digits

The data come with scikit-learn: 1797 images of 8 x 8 pixels. An anchor sees the pixels through noise; the data are the
magnitudes of the image's spectrum, which know no place, and statistics of its strokes. Three small encoders are trained
twice from the same start, and asked to find the tuple that belongs to an anchor among all images they never saw.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from results import make_folder
from sklearn.datasets import load_digits
from torch import Tensor, nn
from tqdm import tqdm

from contrastive_ops import clip_loss, gram_loss, gram_nearest, gram_volume

EMBEDDING = 32
BATCH = 512
STEPS = 600
HELD_OUT = 500
TEMPERATURE = 0.07
LABEL_SMOOTHING = 0.1
NOISE = 0.35  # of the pixels, whose standard deviation is about the same
INTERRUPTED = 130  # exit status by shell convention: 128 + SIGINT
EVERY = 50  # steps between two looks at what was held out


def views(images: np.ndarray) -> list[Tensor]:
    """pixels `[N, 64]`, spectrum `[N, 40]` and strokes `[N, 28]` of `images [N, 8, 8]`, each feature standardised."""
    pixels = images.reshape(len(images), -1) / 16.0
    spectrum = np.abs(np.fft.rfft2(images)).reshape(len(images), -1)
    down, across = np.gradient(images, axis=(1, 2))
    strength, angle = np.hypot(down, across), np.arctan2(down, across)
    bins = np.floor((angle / np.pi + 1.0) * 6.0).clip(0, 11)
    orientation = np.stack([(strength * (bins == b)).sum((1, 2)) for b in range(12)], 1)
    strokes = np.concatenate((images.sum(1), images.sum(2), orientation), 1)
    found = []
    for view in (pixels, spectrum, strokes):
        values = torch.from_numpy(view).float()
        found.append((values - values.mean(0)) / values.std(0).clamp(min=1e-3))
    return found


class Encoders(nn.Module):
    """One multilayer perceptron for each view, onto the unit sphere."""

    def __init__(self, sizes: list[int]) -> None:
        super().__init__()
        self.towers = nn.ModuleList(
            nn.Sequential(nn.Linear(size, 256), nn.GELU(), nn.Linear(256, 128), nn.GELU(), nn.Linear(128, EMBEDDING))
            for size in sizes
        )

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        return [F.normalize(tower(x), dim=-1) for tower, x in zip(self.towers, inputs, strict=True)]


def by_volume(anchor: Tensor, data: list[Tensor]) -> Tensor:
    return gram_loss(anchor, data, temperature=TEMPERATURE, label_smoothing=LABEL_SMOOTHING)


def by_pairs(anchor: Tensor, data: list[Tensor]) -> Tensor:
    """The anchor with each of the data, as CLIP extended to several modalities does it."""
    losses = [clip_loss(anchor, x, 1.0 / TEMPERATURE, label_smoothing=LABEL_SMOOTHING) for x in data]
    return torch.stack(losses).mean()


def rank_by_volume(anchor: Tensor, data: list[Tensor]) -> Tensor:
    """Indices of all tuples, best first, `[N, N]`."""
    return gram_nearest(anchor, data, len(anchor))[1]


def rank_by_cosines(anchor: Tensor, data: list[Tensor]) -> Tensor:
    return sum(anchor @ x.mT for x in data).argsort(1, descending=True)  # type: ignore[union-attr]


METHODS = {"GRAM (volume)": (by_volume, rank_by_volume), "pairwise InfoNCE": (by_pairs, rank_by_cosines)}


class Run(NamedTuple):
    steps: list[int]
    recall_at_1: list[float]
    ranks: Tensor  # [N] of the right tuple, 0 is best, at the end
    embeddings: list[Tensor]
    seconds: float


def train(name: str, train_views: list[Tensor], test_views: list[Tensor], steps: int) -> Run:
    loss_of, rank = METHODS[name]
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    encoders = Encoders([view.shape[1] for view in train_views])
    optimizer = torch.optim.AdamW(encoders.parameters(), lr=1e-3, weight_decay=1e-2)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps)
    noise = torch.randn(test_views[0].shape, generator=torch.Generator().manual_seed(1))
    seen = [test_views[0] + NOISE * noise, *test_views[1:]]
    looks, recalls, start = [], [], time.perf_counter()
    ranks, embeddings = torch.empty(0), list[Tensor]()
    for step in tqdm(range(steps), desc=name, leave=False):
        rows = torch.randperm(len(train_views[0]), generator=generator)[:BATCH]
        inputs = [view[rows] for view in train_views]
        inputs[0] = inputs[0] + NOISE * torch.randn(inputs[0].shape, generator=generator)
        anchor, *data = encoders(inputs)
        loss = loss_of(anchor, data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if (step + 1) % EVERY == 0 or step + 1 == steps:
            with torch.no_grad():
                embeddings = encoders(seen)
                order = rank(embeddings[0], embeddings[1:])
            ranks = (order == torch.arange(len(order))[:, None]).int().argmax(1)
            looks.append(step + 1)
            recalls.append((ranks == 0).float().mean().item())
    return Run(looks, recalls, ranks, embeddings, time.perf_counter() - start)


def draw(runs: dict[str, Run], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (curve, recall, volumes) = plt.subplots(1, 3, figsize=(13, 3.8), layout="constrained")
    ks = (1, 5, 10)
    for place, (name, run) in enumerate(runs.items()):
        curve.plot(run.steps, run.recall_at_1, label=name)
        values = [(run.ranks < k).float().mean().item() for k in ks]
        bars = recall.bar([x + 0.4 * place for x in range(len(ks))], values, width=0.38, label=name)
        recall.bar_label(bars, fmt="{:.2f}")
    curve.set(xlabel="step", ylabel="recall@1 of what was held out", title="the right tuple comes first")
    recall.set(title=f"recall among {HELD_OUT} tuples", xticks=[x + 0.2 for x in range(len(ks))], ylim=(0, 1.3))
    recall.set_xticklabels([f"@{k}" for k in ks])
    anchor, *data = next(iter(runs.values())).embeddings
    shifted = [x.roll(1, 0) for x in data]
    bins = np.linspace(0.0, 1.0, 60)
    volumes.hist(gram_volume(anchor, data).numpy(), bins, alpha=0.7, label="matching tuples")
    volumes.hist(gram_volume(anchor, shifted).numpy(), bins, alpha=0.7, label="other tuples")
    volumes.set(title="volumes after training with GRAM", xlabel="volume")
    for axes, place in ((curve, "lower right"), (volumes, "best")):
        axes.legend(loc=place)
    recall.legend(loc="upper center", ncols=2)  # above the bars
    figure.savefig(path, dpi=130)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("out/gram_digits"))
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    if arguments.steps < 1:
        parser.error(f"--steps must be at least 1, got {arguments.steps}")
    make_folder("--out", arguments.out, arguments.out)
    images = load_digits().images
    order = np.random.default_rng(0).permutation(len(images))
    all_views = [view[torch.from_numpy(order)] for view in views(images)]
    train_views, test_views = ([view[part] for view in all_views] for part in (slice(HELD_OUT, None), slice(HELD_OUT)))
    try:
        runs = {name: train(name, train_views, test_views, arguments.steps) for name in METHODS}
    except KeyboardInterrupt:
        print("interrupted: nothing is drawn, as the picture compares both", file=sys.stderr)
        return INTERRUPTED
    print(f"retrieval of the tuple of an anchor among {HELD_OUT} images that were held out")
    for name, run in runs.items():
        recalls = ", ".join(f"recall@{k} {(run.ranks < k).float().mean():.3f}" for k in (1, 5, 10))
        print(f"  {name:18} {recalls}, median rank {run.ranks.median() + 1}, {run.seconds:.0f} s")
    picture = arguments.out / "gram_digits.png"
    draw(runs, picture)
    print(f"picture: {picture}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
