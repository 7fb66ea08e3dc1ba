"""What keeps the library open to change: small files, and reductions that are named where they live."""

import re
from pathlib import Path
from statistics import median

import pytest

ROOT = Path(__file__).parent.parent
SOURCES = ("*.py", "*.h", "*.cpp", "*.cu", "*.cuh")
# folders of the library and of what is built on it; their tests may be longer
FOLDERS = ("contrastive_ops", "csrc", "triton_kernels", "bench", "examples", "docs")
MAX_LINES, MAX_MEDIAN = 350, 90
# of the library's files outside of reductions, and of the losses that are made of them
MAX_NAMING = 12
LOG_SUM_EXP = re.compile(r"\b((row|col|d|safe|masked)_)*lse\b|log_?sum_?exp")
AT_HOME = re.compile(r"reduction|losses|integrations|testing")


def sources(folders):
    found = [path for folder in folders for pattern in SOURCES for path in (ROOT / folder).rglob(pattern)]
    # the link in the package is the folder beside it
    return [path for path in found if "contrastive_ops/triton_kernels" not in path.as_posix()]


def test_files_are_small():
    lines = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in sources(FOLDERS)}
    assert {path: count for path, count in lines.items() if count > MAX_LINES} == {}
    assert median(lines.values()) <= MAX_MEDIAN


@pytest.mark.parametrize(
    "line, found", [("d_row_lse = 1", True), ("logsumexp(x)", True), ("else: false", False), ("LogSumExp()", False)]
)
def test_the_name_is_recognised(line, found):
    assert bool(LOG_SUM_EXP.search(line)) is found


def test_one_reduction_is_named_in_few_files():
    """A new one is then a file in each language, and nothing else."""
    naming = {
        path.relative_to(ROOT).as_posix()
        for path in sources(("contrastive_ops", "csrc", "triton_kernels"))
        if LOG_SUM_EXP.search(path.read_text(encoding="utf-8")) and not AT_HOME.search(str(path.relative_to(ROOT)))
    }
    assert 0 < len(naming) <= MAX_NAMING, sorted(naming)
