"""The examples refuse what cannot work before they train, and stop where they are told to."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "examples"
sys.path.insert(0, str(EXAMPLES))

NEEDS = {"gram_digits.py": ("sklearn", "tqdm", "matplotlib"), "code_search.py": ("tqdm", "matplotlib")}


def run(name, *arguments):
    for module in NEEDS.get(name, ()):
        pytest.importorskip(module)
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)], capture_output=True, text=True, timeout=240
    )


@pytest.mark.parametrize(
    "name, option, path",
    [
        ("gram_digits.py", "--out", "file/results"),
        ("code_search.py", "--out", "file/results"),
        ("distributed_clip.py", "--plot", "file/curve.png"),
    ],
)
def test_results_that_cannot_be_written_are_found_before_training(name, option, path, tmp_path):
    (tmp_path / "file").touch()  # a folder of this name cannot be made
    done = run(name, option, tmp_path / path, "--steps", 100_000)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert re.search(rf"{option} .*file.* cannot be written: ", done.stderr.splitlines()[-1])


@pytest.mark.parametrize("name", ["gram_digits.py", "distributed_clip.py"])
def test_no_steps_are_refused(name):
    done = run(name, "--steps", 0)
    assert done.returncode == 2 and "--steps must be at least 1, got 0" in done.stderr


def test_without_torchrun_the_command_is_named():
    done = run("distributed_clip.py")
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert "torchrun --nproc-per-node 4" in done.stderr and "distributed_clip.py" in done.stderr


def test_an_interrupt_of_gram_digits_is_one_line(tmp_path):
    for module in NEEDS["gram_digits.py"]:
        pytest.importorskip(module)
    command = [sys.executable, str(EXAMPLES / "gram_digits.py"), "--out", str(tmp_path), "--steps", "100000"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr.read(1)  # the progress bar: it trains
    process.send_signal(signal.SIGINT)
    said, errors = process.communicate(timeout=120)
    assert process.returncode == 130 and "Traceback" not in errors
    assert errors.splitlines()[-1].startswith("interrupted: nothing is drawn") and not said


def test_own_sources_are_what_is_searched(tmp_path):
    pytest.importorskip("tqdm")
    from code_search_lib.pairs import collect

    own = tmp_path / "own"
    own.mkdir()
    what = "Divide a number by two and nothing else."
    body = 'half = x / 2\n    print(half, "is the half of", x)\n    return half'
    (own / "tool.py").write_text(f'def halve(x):\n    """{what}"""\n    {body}\n')
    corpus = collect(500, 60.0, 1, True, False, [own])
    assert [(pair.module, pair.docstring) for pair in corpus.searched] == [
        ("tool", "Divide a number by two and nothing else.")
    ]
    assert len(corpus.pairs) == 500 and set(corpus.searched) <= set(corpus.pairs)
    everything = collect(500, 60.0, 1, True, False, [])
    assert everything.searched == everything.pairs


def test_sources_that_are_no_folder_are_refused(tmp_path):
    done = run("code_search.py", "--sources", tmp_path / "missing")
    assert done.returncode == 2 and "--sources must be folders, got" in done.stderr
