"""The mutations are where they are said to be, and planting one changes that and nothing else."""

import subprocess
from pathlib import Path

import mutations
import pytest
from mutation_table import MUTATIONS, REACHED_BY, Mutation, Place

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_every_place_is_there(mutation):
    place, match = mutations.find(ROOT, mutation)
    assert mutations.pattern_of(place.instead).fullmatch(match[0]) is None


def test_there_are_thirty_over_three_languages():
    assert len({mutation.name for mutation in MUTATIONS}) >= 30
    for language, tests in REACHED_BY.items():
        assert sum(mutation.language == language for mutation in MUTATIONS) >= 9
        assert all((ROOT / name).exists() for name in tests if name.endswith(".py"))


def test_a_place_is_found_however_it_is_spaced(tmp_path):
    path = tmp_path / "a.h"
    path.write_text("x = f(a,\n      b + 1);  // once\n")
    mutation = Mutation("name", "cpu", (Place("gone.h", "f(", "g("), Place("a.h", "f(a, b+1)", "f(a, b)")))
    with mutations.planted(tmp_path, mutation):
        assert path.read_text() == "x = f(a, b);  // once\n"
    assert path.read_text() == "x = f(a,\n      b + 1);  // once\n"


@pytest.mark.parametrize("text", ["", "f(a)", "f(a) f(a)"])
def test_a_place_that_is_not_one_is_an_error(text, tmp_path):
    (tmp_path / "a.h").write_text(text)
    mutation = Mutation("name", "cpu", (Place("a.h", "f(b)" if text == "f(a)" else "f(a)", "g"),))
    with pytest.raises(LookupError, match="expected its text once, got"):
        mutations.find(tmp_path, mutation)


@pytest.mark.parametrize(
    "status, output, verdict, by",
    [
        (0, "12 passed in 3 s", mutations.SURVIVED, "12 passed in 3 s"),
        (1, "FAILED tests/test_x.py::test_y[a] - assert", mutations.KILLED, "test_x.py::test_y[a]"),
        (-11, "", mutations.KILLED, "the process ended by signal 11"),
        (5, "no tests ran", mutations.ERROR, "no tests ran"),
        (4, "ImportError while loading conftest", mutations.ERROR, "ImportError while loading conftest"),
    ],
)
def test_verdicts(status, output, verdict, by, tmp_path, monkeypatch):
    (tmp_path / "a.py").write_text("x = 1")
    monkeypatch.setattr(mutations, "in_tree", lambda *_: subprocess.CompletedProcess([], status, output))
    mutation = Mutation("name", "triton", (Place("a.py", "x = 1", "x = 2"),))
    assert mutations.judge(tmp_path, mutation, [])[1:3] == (verdict, by)
    assert (tmp_path / "a.py").read_text() == "x = 1"
