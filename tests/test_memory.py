"""Added peak memory of forward and backward: gradients, packed inputs, budget and a small constant; never M x N.

Measured as the high-water mark of the resident set in a fresh process, after a small run that loads the libraries.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import contrastive_ops
from contrastive_ops.problem import DEFAULT_WORKSPACE_BYTES
from contrastive_ops.testing.loss_calls import CALLS

MIB = 1 << 20
# every tensor of some size is mapped, and unmapped when it dies: glibc would else raise this threshold as it goes and
# hold on to a few freed gradients, more or fewer from run to run
RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
# prints the peak of every loss of each job in turn: the high-water mark starts anew; a job is a fork of a process
# that has imported everything but run nothing
SCRIPT = """
import json, os, re, sys, torch
from contrastive_ops.testing.loss_calls import CALLS
from contrastive_ops import gram_loss, info_nce
from contrastive_ops.testing import make_pairs

def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

def three_towers(a, b, **options):
    return gram_loss(a, [b, b.detach().roll(1, 0).requires_grad_()], **options)

losses = CALLS | {
    "streamed": lambda a, b, **options: info_nce(a, b, negatives=b.detach(), **options),
    "three_towers": three_towers,
}

def step(loss, n, d, budget, backend):
    a, b = (x.requires_grad_() for x in make_pairs(n, d))
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # resets VmHWM
    loss(a, b, workspace_bytes=budget, backend=backend).backward()
    return status("VmHWM") - before

def measure(names, n, *given):
    torch.set_num_threads(2)
    found = {}
    for name in names:
        step(losses[name], 300, *given)
        found[name] = step(losses[name], n, *given)
    print(json.dumps(found), flush=True)

for job in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        measure(*job)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def added_peaks(*jobs):
    """Of each job (names, n, d, budget, backend) the bytes by name."""
    arguments = [sys.executable, "-c", SCRIPT, json.dumps(jobs)]
    root = Path(__file__).parent.parent  # where bench lies
    process = subprocess.run(arguments, capture_output=True, text=True, env=os.environ | RETURN_FREED_MEMORY, cwd=root)
    assert process.returncode == 0, process.stderr
    return [json.loads(line) for line in process.stdout.splitlines()]


def added_peak(name, *given):
    return added_peaks(([name], *given))[0][name]


def test_native_backend_stays_within_its_promise():
    n, d = 8192, 128
    jobs = [([name], n, d, budget, "cpu") for name in ("clip_loss", "info_nce") for budget in (0, 16 * MIB)]
    inputs = gradients = 2 * n * d * 4
    # scratch of two threads, per-row vectors of 8 bytes, and what the allocator rounds up
    constant = 12 * MIB + 2 * n * 64
    for ((name,), _, _, budget, _), peak in zip(jobs, added_peaks(*jobs), strict=True):
        assert peak[name] <= gradients + inputs + budget + constant, (name, budget)


def test_the_matrix_is_never_stored():
    """12288 x 12288 scores would take 576 MiB; a third is enough, of which eager's blocks are the larger part."""
    sizes = {"clip_loss": 12288, "streamed": 12288, "nt_xent": 6144}
    jobs = [([name], n, 64, 0, backend) for name, n in sizes.items() for backend in ("cpu", "eager")]
    for job, peak in zip(jobs, added_peaks(*jobs), strict=True):
        assert max(peak.values()) <= 192 * MIB, job


def test_a_large_batch_needs_little():
    """16384 x 16384 scores would take 1 GiB."""
    assert added_peak("clip_loss", 16384, 64, 0, "cpu") <= 40 * MIB


def test_volumes_stay_within_their_promise():
    """An anchor and two modalities, three products in eight kept; all Gram matrices would take 576 MiB."""
    tower = 4096 * 512 * 4
    gradients, third_tower = 3 * tower, tower  # the step makes the third itself
    peak = added_peak("three_towers", 4096, 512, DEFAULT_WORKSPACE_BYTES, "cpu")
    assert peak <= gradients + third_tower + 128 * MIB


def test_the_measure_sees_a_stored_matrix():
    """The reference backend stores it, so this test would notice."""
    assert added_peak("clip_loss", 4096, 64, 0, "reference") >= 4096 * 4096 * 4


def test_no_loss_stores_the_matrix():
    """8192 x 8192 scores would take 256 MiB, a mask of bytes 64 MiB; embeddings of D = 16 take half a MiB."""
    (measured,) = added_peaks((list(CALLS), 8192, 16, 0, "cpu"))
    assert {name: peak // MIB for name, peak in measured.items() if peak > 40 * MIB} == {}


def test_every_loss_is_measured():
    functions = [name for name in contrastive_ops.losses.__all__ if name[0].islower()]
    not_measured = [name for name in functions if not any(call.startswith(name) for call in CALLS)]
    assert not_measured == ["gram_negatives"]  # no gradient; blocks of 32 MiB


def test_row_private_keys_take_no_more_than_a_batched_product():
    """Each is used once, so nothing of `[M, K, D]` is packed or kept: it has 100 MiB in float32."""
    command = [sys.executable, str(Path(__file__).parent / "private_memory.py")]
    root = str(Path(__file__).parent.parent)
    environment = os.environ | RETURN_FREED_MEMORY | {"PYTHONPATH": root}
    process = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=root)
    assert process.returncode == 0, process.stderr
    measured = json.loads(process.stdout)
    constant = 2 * MIB  # what a process takes once; it shows where no gradient of the keys is wanted
    too_much = {name: (ours, bmm) for name, (ours, bmm) in measured.items() if ours > 1.1 * bmm + constant}
    assert len(measured) == 8 and too_much == {}
