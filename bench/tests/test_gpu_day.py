"""The run on a GPU, rehearsed without one: rows that are right, and trouble that loses only itself."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from bench.gpu import journal
from bench.gpu.case import Setting
from bench.gpu.losses import LOSSES, make_leaves, unaligned
from bench.gpu.report import REPORT
from bench.gpu.runner import run
from bench.gpu.stage import Stage
from bench.gpu.stages import matrix
from bench.gpu.stages.counters import parse
from bench.gpu.verdict import compare
from contrastive_ops import similarity_statistics
from contrastive_ops.ops.statistics import Statistics
from contrastive_ops.testing import emulated_cuda, norm_error
from contrastive_ops.testing.matrix import CASES

HERE = Path(__file__).parent
REPOSITORY = HERE.parents[1]
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(HERE)])}


def trouble(name, seconds, *kinds):
    return Stage(name, "gpu_day_stages:trouble", seconds, {"kinds": kinds})


def run_stages(out, *rounds, seconds=60.0):
    said = []
    status = run("test", rounds, device="cpu", out=out, seconds=seconds, environment=ENVIRONMENT, say=said.append)
    rows = journal.read(out)
    assert len(said) == len(rows)
    return status, rows


def verdicts(rows, stage):
    """(what, verdict) of the results of a stage, and the verdict on the whole of it."""
    mine = [row for row in rows if row["stage"] == stage]
    (whole,) = (row["verdict"] for row in mine if row["what"] == journal.ENDED)
    return [(row["what"], row["verdict"]) for row in mine if journal.is_result(row)], whole


def test_a_rehearsal_gives_numbers_and_verdicts(tmp_path):
    pytest.importorskip("triton")
    chosen = "smoke-triton-tiny,smoke-cuda,steps,kernels"
    command = [sys.executable, "-m", "bench.gpu_day", "--device", "cpu", "--budget", "290", "--only", chosen]
    done = subprocess.run([*command, "--out", str(tmp_path)], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [row for row in journal.read(tmp_path) if journal.is_result(row)]
    assert all(math.isfinite(value) for row in rows for value in row.values() if isinstance(value, float))

    backends = ["triton"] + ["cuda"] * (emulated_cuda.missing() is None)
    for backend in backends:
        smoke = [row for row in rows if row["stage"] == f"smoke-{backend}-tiny"]
        assert len(smoke) == 3
        for row in smoke:
            assert row["verdict"] == journal.OK and row["same_bits_again"] is True
            for name in ("loss", "d_images", "d_texts", "d_scale"):
                assert 0 < row[f"error_{name}"] <= row[f"bound_{name}"] < 0.01
        (step,) = (row for row in rows if row["stage"] == f"steps-{backend}")
        assert step["verdict"] == journal.OK and step["error_dx"] <= step["bound_dx"] < 0.01
        assert step["forward_ms"] > 0 and 0 < step["step_ms"] < 60_000
        flops = 6 * step["n"] ** 2 * step["d"]
        assert step["three_products_tflop_per_s"] == pytest.approx(flops / step["step_ms"] / 1e9)
        assert step["graph"] == "needs a GPU"
    kernels = [row for row in rows if row["stage"] == "kernels"]
    assert kernels and all((row["verdict"], row["why"]) == (journal.SKIPPED, "needs a GPU") for row in kernels)

    report = (tmp_path / REPORT).read_text()
    assert f"{len(rows)} results:" in report and "Wrong or failed" not in report
    assert f"| {step['n']} | {step['d']} | bfloat16 | ours, {backends[-1]} |" in report


def test_trouble_loses_only_itself(tmp_path):
    status, rows = run_stages(
        tmp_path,
        (
            trouble("crashes", 30, "right", "dies", "right", "raises", "right"),
            trouble("hangs", 6, "right", "hangs", "right"),
        ),
        (trouble("after", 30, "skips", "right"),),
    )
    assert status == 1
    assert verdicts(rows, "crashes") == (
        [("right", "ok"), ("dies", "failed"), ("right", "ok"), ("raises", "failed"), ("right", "ok")],
        "done",
    )
    why = {row["what"]: row.get("why") for row in rows if row["stage"] == "crashes"}
    assert why["dies"] == "the process ended with exit status 3: last words"
    assert why["raises"] == "ValueError: of this case alone"
    assert verdicts(rows, "hangs") == ([("right", "ok"), ("hangs", "stopped")], "stopped")
    assert verdicts(rows, "after") == ([("skips", "skipped"), ("right", "ok")], "done")
    roots = [row["root"] for row in rows if row["what"] == "right"]
    assert roots == [math.sqrt(2)] * 5
    assert "hangs" in (tmp_path / "logs" / "hangs.log").read_text()  # where it was, by name

    report = (tmp_path / REPORT).read_text()
    assert "9 results: 5 ok, 2 failed, 1 stopped, 1 skipped." in " ".join(report.split())
    assert "2 of 3 cases in" in report


def test_what_is_wrong_is_an_error(tmp_path):
    journal.append(tmp_path, {"stage": "before", "what": "right", "verdict": "ok"})
    status, rows = run_stages(tmp_path, (trouble("judging", 30, "wrong"),))
    assert status == 1
    assert {row["stage"] for row in rows} == {"judging"}  # what an earlier run left is gone
    assert "- judging: wrong, number 0, error_x 0.5 of 0.1" in (tmp_path / REPORT).read_text()


def test_the_budget_bounds_the_whole(tmp_path):
    start = time.monotonic()
    status, rows = run_stages(
        tmp_path, (trouble("hangs", 600, "hangs"),), (trouble("late", 600, "right"),), seconds=8.0
    )
    assert time.monotonic() - start < 11
    assert status == 0
    assert verdicts(rows, "hangs") == ([("hangs", "stopped")], "stopped")
    assert verdicts(rows, "late") == ([], "skipped")
    assert "skipped: no time left of the budget" in (tmp_path / REPORT).read_text()


@pytest.mark.parametrize("by", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_leaves_a_report_and_no_process(by, tmp_path):
    script = (
        "from pathlib import Path; import sys; from test_gpu_day import run_stages, trouble;"
        "run_stages(Path(sys.argv[1]), (trouble('hangs', 8, 'right', 'hangs'),))"
    )
    environment = os.environ | ENVIRONMENT
    process = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], env=environment, cwd=HERE)
    report = tmp_path / REPORT
    wait_for(lambda: report.exists() and "| right | 0 |" in report.read_text())
    process.send_signal(by)
    process.wait(timeout=10)
    assert "1 results: 1 ok. It is still being written, or was stopped." in report.read_text()
    (row,) = (row for row in journal.read(tmp_path) if row["what"] == "right")
    assert row["root"] == math.sqrt(2)
    wait_for(lambda: not Path(f"/proc/{row['pid']}").exists())


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_row_that_is_being_written_is_left_for_later(tmp_path):
    journal.append(tmp_path, {"stage": "one", "what": "first", "verdict": "ok"})
    with open(tmp_path / journal.JOURNAL, "a") as file:
        file.write(json.dumps({"stage": "one", "what": "second"})[:-3])
    assert [row["what"] for row in journal.read(tmp_path)] == ["first"]


def test_a_verdict_is_about_the_worst_of_value_and_gradients():
    truth = {"loss": torch.tensor(2.0).double(), "dx": torch.tensor([3.0, 4.0]).double()}
    allowed = {"loss": 1e-3, "dx": 1e-3}

    def judged(loss=2.0, dx=(3.0, 4.0)):
        found = {"loss": torch.tensor(loss), "dx": None if dx is None else torch.tensor(dx).bfloat16()}
        return compare(found, truth, "cuda", allowed)

    half = 1e-3 + 2.0**-8 + 2.0**-8  # of the gradient and of dS, beside what is allowed
    assert judged() == {"verdict": "ok", "error_loss": 0, "bound_loss": 1.001e-3, "error_dx": 0, "bound_dx": half}
    assert judged(loss=2.0019)["verdict"] == "ok" and judged(loss=2.0022)["verdict"] == "WRONG"
    assert judged(dx=(3.03125, 4.0))["error_dx"] == pytest.approx(0.03125 / 5)
    assert judged(dx=(3.03125, 4.0))["verdict"] == "ok" and judged(dx=(3.0625, 4.0))["verdict"] == "WRONG"
    for broken in (judged(loss=math.nan), judged(dx=(math.nan, 4.0)), judged(dx=None)):
        assert broken["verdict"] == "WRONG"


@pytest.mark.parametrize("name", LOSSES)
def test_losses_and_their_dense_formulas_agree(name):
    loss = LOSSES[name]
    leaves = make_leaves(loss, 37, 12, torch.float64, torch.device("cpu"))
    for layout in (leaves, unaligned(leaves)):
        ours, dense = loss.ours(layout, backend="eager", workspace_bytes=0), loss.dense(layout)
        torch.testing.assert_close(ours, dense, rtol=1e-11, atol=0)
        for x, y in zip(*(torch.autograd.grad(value, list(layout.values())) for value in (ours, dense)), strict=True):
            assert norm_error(x, y) < 1e-10
    assert all(x.data_ptr() % 16 for x in layout.values() if x.dim() == 2)


def test_the_matrix_is_spread_and_judged(monkeypatch):
    cases = matrix.cases(Setting(torch.device("cpu"), Path()), "eager", "bfloat16")
    assert len(cases) == len(CASES) and len({case.what["what"] for case in cases}) == len(CASES)
    assert len({case.what["what"].split("-")[0] for case in cases[:60]}) > 15  # most relations in the first few
    chosen = next(case for case in cases if "off_diagonal-17x33x64" in case.what["what"])
    row = chosen.measure()
    assert row["verdict"] == "ok" and 0 < row["error_d_queries"] < 0.004

    def off(*args, **options):
        found = similarity_statistics(*args, **options)
        return Statistics(*(None if value is None else value * (1 + 1e-4) for value in found))

    monkeypatch.setattr(matrix, "similarity_statistics", off)
    row = chosen.measure()
    assert row["verdict"] == "WRONG" and "_lse" in row["why"]
    assert row["error_col_lse"] == pytest.approx(1e-4, rel=0.1)


def test_a_bare_machine_is_enough():
    """torch, triton, numpy and the standard library."""
    script = (
        "import sys\n"
        "for name in ('rich', 'matplotlib', 'pytest', 'hypothesis', 'filelock', 'tqdm', 'sklearn'):\n"
        "    sys.modules[name] = None  # importing it fails\n"
        "from importlib import import_module\n"
        "from bench import gpu_day, gpu_check\n"
        "for rounds in (gpu_day.ROUNDS, gpu_check.ROUNDS):\n"
        "    for stage in (stage for stages in rounds for stage in stages):\n"
        "        module, name = stage.cases.split(':')\n"
        "        assert callable(getattr(import_module(module), name))\n"
        "import bench.gpu.process, bench.gpu.small_step\n"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


NCU = """==PROF== Connected to process 7
"ID","Kernel Name","Section Name","Metric Name","Metric Unit","Metric Value","Rule Name"
"0","macro_product_bwd_kernel","GPU Speed Of Light Throughput","Duration","us","1,234.50",""
"0","macro_product_bwd_kernel","GPU Speed Of Light Throughput","Memory Throughput","%","61.2",""
"0","macro_product_bwd_kernel","SpeedOfLight","","","","SOLBottleneck"
"1","macro_product_bwd_kernel","Launch Statistics","Registers Per Thread","register/thread","128",""
==PROF== Disconnected
"""


def test_metrics_of_ncu_become_numbers_with_units():
    assert parse(NCU) == [
        {"duration_us": 1234.5, "memory_throughput_percent": 61.2},
        {"registers_per_thread_register_per_thread": 128.0},
    ]
