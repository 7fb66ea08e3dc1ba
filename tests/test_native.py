"""The C++ kernels without Python around them: sanitizers, the wide instantiation, and the machine code itself."""

import functools
import os
import platform
import re
import subprocess
from pathlib import Path

import pytest

from contrastive_ops import _native

ROOT = Path(__file__).parent.parent
SOURCES = ROOT / "csrc" / "cpu"
FLAGS = ["-std=c++17", "-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast", "-fopenmp"]
FLAGS += ["-Wall", "-Wextra", "-Werror", "-Wno-psabi"]
SANITIZE = ["-O1", "-g1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
AVX512 = ["-mavx512f", "-mavx512dq", "-mavx512bw", "-mavx512vl", *AVX2]


def runs_here(isa: str) -> bool:
    try:
        _native.kernels(isa)
    except ValueError:
        return False
    return True


# name of the build -> (instruction set, flags, problems)
BUILDS = {
    "sanitized baseline": ("baseline", SANITIZE, 120),
    "sanitized avx2": ("avx2", [*SANITIZE, *AVX2], 200),
    # 16 lanes, the width of AVX-512, elsewhere lowered by the compiler to AVX2
    **(
        {"sanitized avx512": ("avx512", [*SANITIZE, *AVX512], 200)}
        if runs_here("avx512")
        else {"16 lanes on avx2": ("wide", ["-O1", "-DCONTRASTIVE_VECTOR_BYTES=64", *AVX2], 200)}
    ),
}
IS_X86 = platform.machine() in ("x86_64", "AMD64")


def build_fuzz(directory: Path, isa: str, flags: list[str]) -> Path:
    """Truths are computed without the sanitizers, which see what the kernels touch of their buffers all the same."""
    program = directory / "fuzz"
    # the kernels come first: of an inline function that both have, the linker takes theirs
    sources = {
        SOURCES / "isa" / "kernels.cpp": [*flags, f"-DCONTRASTIVE_ISA={isa}"],
        SOURCES / "schedule.cpp": flags,
        SOURCES / "arena.cpp": flags,
        ROOT / "tests" / "native" / "fuzz.cpp": [
            *(flag for flag in flags if "sanitize" not in flag),
            f"-DFUZZ_ISA={isa}",
        ],
    }
    command = [os.environ.get("CXX", "c++"), *FLAGS]
    objects = [str(directory / f"{source.stem}.o") for source in sources]
    for (source, own_flags), made in zip(sources.items(), objects, strict=True):
        subprocess.run([*command, *own_flags, "-c", str(source), "-o", made], check=True)
    subprocess.run([*command, *flags, *objects, "-o", str(program)], check=True)
    return program


@pytest.mark.parametrize("build", [name for name in BUILDS if IS_X86 or "avx" not in name])
def test_random_problems(build: str, tmp_path: Path) -> None:
    isa, flags, problems = BUILDS[build]
    program = build_fuzz(tmp_path, isa, flags)
    run = subprocess.run([str(program), "7", str(problems)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    shares = [float(x) for x in re.findall(r"(?:values|gradients) ([\d.]+)", run.stdout)]
    assert len(shares) == 2 and all(0 < share <= 1 for share in shares), run.stdout


@functools.cache
def disassembly() -> str:
    return subprocess.run(
        ["objdump", "-d", "-C", "--no-show-raw-insn", _native.__file__], capture_output=True, text=True, check=True
    ).stdout


def micro_kernel(isa: str, rows: int, by_rows: bool) -> list[str]:
    """Instructions of one micro-kernel of the built extension."""
    name = rf"contrastive_ops::{isa}::micro_kernel<float, {rows}, {str(by_rows).lower()}>"
    found = re.search(rf"^[0-9a-f]+ <void {name}.*?>:\n(.*?)\n\n", disassembly(), re.M | re.S)
    assert found, f"no micro-kernel {name} in {_native.__file__}"
    return [line.split("\t", 1)[1].strip() for line in found.group(1).splitlines() if "\t" in line]


def main_loop(instructions: list[str], fma: str) -> list[str]:
    """The longest stretch without a jump that holds FMAs: the body of the main loop."""
    bodies, body = [], []
    for instruction in instructions:
        if instruction.startswith("j"):
            bodies.append(body)
            body = []
        else:
            body.append(instruction)
    return max(bodies, key=lambda b: sum(i.startswith(fma) for i in b))


@pytest.mark.skipif(not IS_X86, reason="x86 instruction sets")
@pytest.mark.parametrize(("isa", "rows", "register"), [("avx2", 6, "ymm"), ("avx512", 12, "zmm")])
@pytest.mark.parametrize("by_rows", [True, False])
def test_main_loop_is_fma_on_registers(isa: str, rows: int, register: str, by_rows: bool) -> None:
    loop = main_loop(micro_kernel(isa, rows, by_rows), "vfmadd")
    fmas = [i for i in loop if re.match(rf"vfmadd\d+ps .*%{register}\d+,%{register}\d+$", i)]
    loads = [i for i in loop if i.startswith(("vmovups", "vmovaps", "vbroadcastss")) and "(" in i]
    spills = [i for i in loop if register in i and re.search(r"\(%r[sb]p", i)]
    # a step of depth 1 is 2 * rows FMAs, rows broadcasts (which may be folded into the FMAs) and 2 loads
    assert len(fmas) >= 2 * rows and len(fmas) % (2 * rows) == 0, (len(fmas), rows)
    steps = len(fmas) // (2 * rows)
    assert len(loads) <= steps * (rows + 2), (len(loads), steps)
    assert spills == []


def volume_sweep(isa: str, name: str, banks: int) -> list[str]:
    """Instructions of the innermost loop with square roots of a sweep of the volume score."""
    pattern = rf"^[0-9a-f]+ <void contrastive_ops::{isa}::{name}<float, {banks}>.*?>:\n(.*?)\n\n"
    found = re.search(pattern, disassembly(), re.M | re.S)
    assert found, f"no {name}<float, {banks}> in {_native.__file__}"
    lines = [line.split("\t", 1) for line in found.group(1).splitlines() if "\t" in line]
    instructions = {int(address.strip(" :"), 16): text.strip() for address, text in lines}
    loops = []
    for end, text in instructions.items():
        jump = re.match(r"j\w+ +([0-9a-f]+) ", text)
        if jump and int(jump.group(1), 16) < end:
            loops.append([i for a, i in instructions.items() if int(jump.group(1), 16) <= a <= end])
    return min((loop for loop in loops if any(i.startswith("vsqrt") for i in loop)), key=len)


@pytest.mark.skipif(not IS_X86, reason="x86 instruction sets")
@pytest.mark.parametrize(("isa", "register"), [("avx2", "ymm"), ("avx512", "zmm")])
@pytest.mark.parametrize("banks", [2, 7])
def test_volume_sweeps_are_vectors(isa: str, register: str, banks: int) -> None:
    """A row of a panel is two vectors: a square root each, and for the weights a division each; nothing is scalar, and
    the scores of two banks spill nothing (the weights do: their sweep is one part in a hundred)."""
    for name, divisions in (("volume_scores", 0), ("volume_weights", 2)):
        loop = volume_sweep(isa, name, banks)
        scalar = [i for i in loop if re.match(r"v\w+ss\b", i) and not i.startswith(("vbroadcastss", "vmovss"))]
        spills = [i for i in loop if register in i and re.search(r"\(%r[sb]p", i)]
        assert sum(bool(re.match(rf"vsqrtps .*%{register}", i)) for i in loop) == 2, name
        assert sum(bool(re.match(rf"vdivps .*%{register}", i)) for i in loop) == divisions, name
        assert scalar == [], name
        assert (name, banks) != ("volume_scores", 2) or spills == []
