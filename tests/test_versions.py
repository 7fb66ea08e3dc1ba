"""The oldest and the newest triton that the README names, briefly; `make versions` asks all of them, and torch's."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
import versions
from packaging.requirements import Requirement
from sampled import commit

from contrastive_ops.backends.triton.backend import OLDEST_TRITON

REPOSITORY = Path(__file__).parent.parent


@pytest.mark.skipif(find_spec("triton") is None, reason="triton exists for Linux only")
def test_the_oldest_and_the_newest_triton():
    """Where nothing changed since they passed, an eighth of the checks, another one at every commit."""
    checks = versions.checks_of([f"triton-{version}" for version in versions.OLDEST_AND_NEWEST], is_smoke=True)
    assert len({check.name for check in checks}) == 8
    found = versions.run_all(versions.due(checks, commit()))
    assert [verdict for verdict in found if not verdict.is_right] == []


def test_what_changed_is_checked_anew(tmp_path, monkeypatch):
    monkeypatch.setattr(versions, "PASSED", tmp_path / "passed.json")
    monkeypatch.setattr(versions, "REPOSITORY", tmp_path)
    checks = [versions.Check("triton", f"check {n}", [], {}, str) for n in range(200)]
    passed = [versions.Verdict(check.column, check.row, "", check.row != "check 7", 0.0) for check in checks]
    source = tmp_path / "contrastive_ops" / "backends" / "triton" / "tiles.py"
    source.parent.mkdir(parents=True)
    source.write_text("x = 1")
    assert versions.due(checks, "seed") == checks
    versions.write_passed(passed)
    first, second = versions.due(checks, "seed"), versions.due(checks, "other")
    assert first != second and all(checks[7] in found and 10 < len(found) < 50 for found in (first, second))
    source.write_text("x = 2")
    assert versions.due(checks, "seed") == checks


def test_a_wrong_result_is_seen():
    """What a column would say of a launcher that drops a descriptor, of a spill, and of a silent choice."""
    launches = '{"arch": "sm_90", "launches": {"a": 1, "b": 1, "c": 1, "d": 1, "e": 1, "f": 1}, '
    assert versions.judge_launched(launches + '"descriptors": 2, "tensor_maps": 2}') == "6 launches"
    with pytest.raises(AssertionError):
        versions.judge_launched(launches + '"descriptors": 2, "tensor_maps": 1}')
    compiled = '{"sm_90 merge": {"spills": 2}}'
    assert versions.judge_compiled(2)(compiled) == "1 kernels, 1 with up to 2 spills"
    with pytest.raises(AssertionError, match="more than 1 spills"):
        versions.judge_compiled(1)(compiled)
    with pytest.raises(AssertionError, match="without a word"):
        versions.judge_torch('{"errors": {}, "gpu": "eager", "warnings": []}')


def test_what_is_claimed_is_what_is_checked():
    assert versions.TRITONS[0].startswith(".".join(map(str, OLDEST_TRITON)) + ".")
    project = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    # a build of torch for GPUs pins its triton, so that an extra with a bound would not install beside it
    wanted = [Requirement(text) for text in re.findall(r'"(triton(?:[;<>=~ ][^"]*)?)"', project)]
    assert [(requirement.name, str(requirement.specifier)) for requirement in wanted] == [("triton", "")]
    torch_from = re.search(r'"torch>=([\d.]+),', project)
    assert torch_from is not None and next(iter(versions.TORCHES)).startswith(f"{torch_from[1]}.")
    readme = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    claimed = re.search(r"PyTorch ([\d.]+) to ([\d.]+)", readme)
    assert claimed is not None
    checked = [version.rpartition(".")[0] for version in versions.TORCHES]
    assert [claimed[1], claimed[2]] == [checked[0], checked[-1]]
