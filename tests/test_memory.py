"""Added peak memory of forward and backward: gradients, packed inputs, budget and a small constant; never M x N.

Measured as the high-water mark of the resident set in a fresh process, after a small run that loads the libraries.
"""

import os
import subprocess
import sys

import pytest

MIB = 1 << 20
# every tensor of some size is mapped, and unmapped when it dies: glibc would else raise this threshold as it goes and
# hold on to a few freed gradients, more or fewer from run to run
RETURN_FREED_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(1 << 16)}
SCRIPT = """
import re, sys, torch
from contrastive_ops import clip_loss, info_nce, nt_xent
from contrastive_ops.testing import make_pairs

def status(name):
    return int(re.search(name + r":\\s+(\\d+) kB", open("/proc/self/status").read())[1]) * 1024

losses = {
    "clip": lambda a, b, **options: clip_loss(a, b, 20.0, **options),
    "info_nce": lambda a, b, **options: info_nce(a, b, **options),
    "streamed": lambda a, b, **options: info_nce(a, b, negatives=b.detach(), **options),
    "nt_xent": lambda a, b, **options: nt_xent(a, b, **options),
}
name, n, d, budget, backend = sys.argv[1], *map(int, sys.argv[2:5]), sys.argv[5]
torch.set_num_threads(2)

def step(n):
    a, b = (x.requires_grad_() for x in make_pairs(n, d))
    before = status("VmRSS")
    open("/proc/self/clear_refs", "w").write("5")  # resets VmHWM
    losses[name](a, b, workspace_bytes=budget, backend=backend).backward()
    return status("VmHWM") - before

step(300)
print(step(n))
"""


def added_peak(name, n, d, budget, backend):
    arguments = [sys.executable, "-c", SCRIPT, name, *map(str, (n, d, budget)), backend]
    environment = os.environ | RETURN_FREED_MEMORY
    process = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    assert process.returncode == 0, process.stderr
    return int(process.stdout)


@pytest.mark.parametrize("budget", [0, 16 * MIB])
@pytest.mark.parametrize("name, n, d", [("clip", 8192, 128), ("info_nce", 8192, 128)])
def test_native_backend_stays_within_its_promise(name, n, d, budget):
    inputs = gradients = 2 * n * d * 4
    # scratch of two threads, per-row vectors of 8 bytes, and what the allocator rounds up
    constant = 12 * MIB + 2 * n * 64
    assert added_peak(name, n, d, budget, "cpu") <= gradients + 1.5 * inputs + budget + constant


@pytest.mark.parametrize("name", ["clip", "streamed", "nt_xent"])
@pytest.mark.parametrize("backend", ["cpu", "eager"])
def test_the_matrix_is_never_stored(name, backend):
    """12288 x 12288 scores would take 576 MiB; a third is enough, of which eager's blocks are the larger part."""
    n = 6144 if name == "nt_xent" else 12288
    assert added_peak(name, n, 64, 0, backend) <= 192 * MIB


def test_a_large_batch_needs_little():
    """16384 x 16384 scores would take 1 GiB."""
    assert added_peak("clip", 16384, 64, 0, "cpu") <= 40 * MIB


def test_the_measure_sees_a_stored_matrix():
    """The reference backend stores it, so this test would notice."""
    assert added_peak("clip", 4096, 64, 0, "reference") >= 4096 * 4096 * 4
