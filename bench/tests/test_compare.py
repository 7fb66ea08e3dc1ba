"""`python -m bench.compare`: what its intervals say, and its two processes with libraries that are fast and slow."""

import random
import subprocess

import pytest

from bench import REPOSITORY, compare
from bench.commits import pairs
from bench.commits.pairs import Worker
from bench.commits.ratio import ratio_of
from bench.commits.trees import commit_of, worktree
from bench.shapes import Shape

TINY = Shape(8, 8)
LIBRARY = """
import time

def clip_loss(x, y, scale, *, backend):
    time.sleep({seconds})
    return ((x * y).sum() * scale)
"""

in_a_clone = pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="the sources of no git repository")


def tree(folder, seconds):
    package = folder / "contrastive_ops"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(LIBRARY.format(seconds=seconds))
    return folder


# (pairs, which of the sorted ratios are the ends), from tables of the sign test for 5 %
@pytest.mark.parametrize("count, place", [(6, 0), (8, 0), (9, 1), (20, 5), (40, 13), (100, 39)])
def test_ends_of_the_interval(count, place):
    ratios = [1.0 + i / 100 for i in range(count)]
    random.Random(0).shuffle(ratios)
    found = ratio_of([(ratio * 2.0, 2.0) for ratio in ratios])
    expected = sorted(ratios)
    assert found.median == pytest.approx((expected[(count - 1) // 2] + expected[count // 2]) / 2)
    assert (found.low, found.high) == pytest.approx((expected[place], expected[-1 - place]))
    assert found.old_seconds == 2.0


def test_too_few_pairs():
    with pytest.raises(ValueError, match="at least 6 pairs, got 5"):
        ratio_of([(1.0, 1.0)] * 5)


def test_how_often_the_true_median_lies_inside():
    source = random.Random(1)
    inside = 0
    for _ in range(1000):
        found = ratio_of([(source.lognormvariate(0.0, 0.3), 1.0) for _ in range(40)])
        inside += found.low <= 1.0 <= found.high
    assert 950 <= inside <= 980  # the next narrower interval would hold it 92 times in 100


def test_a_process_that_ends_is_said(tmp_path):
    with (
        pytest.raises(RuntimeError, match="empty ended, expected a time"),
        Worker(tmp_path / "empty") as worker,  # its tree holds no library: another is found, and refused
    ):
        worker.seconds(TINY)


@in_a_clone
@pytest.mark.parametrize("seconds, status", [(0.008, 0), (0.0001, 1)])
def test_the_command(seconds, status, tmp_path, monkeypatch, capsys):
    """Without builds: libraries of a fixed time, far enough from one another for a busy machine."""
    trees = iter((tree(tmp_path / "new", 0.004), tree(tmp_path / "old", seconds)))
    monkeypatch.setattr(compare, "build", lambda tree: None)
    monkeypatch.setattr(compare, "Worker", lambda _: Worker(next(trees)))
    monkeypatch.setattr(pairs, "SAMPLE_SECONDS", 0.002)
    assert compare.main(["HEAD", "--only", "8x8,9x4", "--pairs", "12"]) == status
    printed = capsys.readouterr().out
    assert commit_of("HEAD")[:12] in printed and "median of 12 ratios" in printed
    assert printed.count("fall: above 1.02") == 2 * status


@in_a_clone
@pytest.mark.parametrize("arguments, said", [(["--pairs", "5", "HEAD"], "at least 6"), (["no-such"], "got 'no-such'")])
def test_what_is_refused(arguments, said, capsys):
    with pytest.raises(SystemExit) as ended:
        compare.main(arguments)
    assert ended.value.code == 2 and said in capsys.readouterr().err


@in_a_clone
def test_a_worktree_has_the_files_of_the_commit_and_goes():
    commit = commit_of("HEAD")
    with worktree(commit) as folder:
        found = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        assert found.stdout.strip() == commit and (folder / "setup.py").exists()
    assert not folder.exists()
    listed = subprocess.run(["git", "worktree", "list"], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert str(folder) not in listed.stdout


def test_the_library_of_this_tree_is_timed():
    """For real, with its kernels."""
    with Worker(REPOSITORY) as new, Worker(REPOSITORY) as old:
        ratio = pairs.compare(new, old, TINY, 6)
    assert 0.2 < ratio.low <= ratio.median <= ratio.high < 5.0 and 0 < ratio.old_seconds < 1
