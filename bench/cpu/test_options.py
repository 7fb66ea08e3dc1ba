"""The command line and the shape of its report, without measuring anything for long."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from bench import __main__ as command
from bench.clip_truth import clip_truth
from bench.cpu.contestants import Inputs
from bench.cpu.truth import WrongResult, refuse_wrong
from bench.shapes import Shape
from contrastive_ops.testing import dense_clip_loss


@pytest.mark.parametrize("text", ["4096", "4096x", "x512", "0x4", "-1x4", "4096x512x2"])
def test_bad_shape_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="is written like 4096x512"):
        Shape.parse(text)


def test_wrong_loss_is_refused() -> None:
    inputs = Inputs.make(Shape(64, 16))
    truth = clip_truth(inputs.x, inputs.y, inputs.scale)
    refuse_wrong("dense", dense_clip_loss, inputs, truth)
    with pytest.raises(WrongResult, match="dy is off"):
        refuse_wrong("detached", lambda x, y, s: dense_clip_loss(x, y.detach() + 0 * y, s), inputs, truth)


def test_tiny_run_writes_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["--only", "64x16", "--rounds", "2", "--no-peak", "--memory-from", "64"]
    arguments += ["--contestants", "ours,dense,products", "--threads", str(torch.get_num_threads())]
    monkeypatch.setattr("sys.argv", ["bench", *arguments, "--out", str(tmp_path)])
    assert command.main() == 0
    report = json.loads((tmp_path / "bench.json").read_text())
    rows = report["shapes"][0]["rows"]
    assert {(row["contestant"], row["mode"]) for row in rows} == {
        (name, mode) for name in ("ours", "dense", "products") for mode in ("forward", "forward+backward")
    }
    assert all(len(row["samples_seconds"]) == 2 for row in rows)
    assert (tmp_path / "bench.png").stat().st_size > 10_000
