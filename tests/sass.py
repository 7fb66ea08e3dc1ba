"""Machine code of NVIDIA GPUs: the tools that take it apart, its instructions, and its loops.

triton brings NVIDIA's cuobjdump and nvdisasm; so do the packages nvidia-cuda-cuobjdump and nvidia-cuda-nvdisasm, and
the CUDA toolkit.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple


class Instruction(NamedTuple):
    label: str | None  # where a branch may land
    opcode: str
    target: str | None  # where it may branch to
    falls_through: bool


def find_tool(tool: str) -> str | None:
    """Where cuobjdump or nvdisasm is."""
    for package, folder in (("triton", "backends/nvidia/bin"), ("nvidia", "cu13/bin")):
        spec = find_spec(package)
        for place in (spec.submodule_search_locations or []) if spec else []:
            if (Path(place) / folder / tool).is_file():
                return str(Path(place) / folder / tool)
    return shutil.which(tool)


def run_tool(tool: str, *arguments: str, cwd: Path | None = None) -> str:
    path = find_tool(tool)
    if path is None:
        raise FileNotFoundError(f"{tool}: neither triton nor the package nvidia-cuda-{tool} is installed")
    return subprocess.run([path, *arguments], check=True, capture_output=True, text=True, cwd=cwd).stdout


def matching(instructions: list[Instruction], opcode: str) -> int:
    return sum(bool(re.match(opcode, x.opcode)) for x in instructions)


def parse_sass(code: str) -> list[Instruction]:
    instructions, label, joins = [], None, {}
    for line in code.splitlines():
        if found := re.match(r"\s*(\.L_x_\d+):", line):
            label = found[1]
        elif found := re.match(r"\s*/\*\w+\*/\s+(@\S+\s+)?([A-Z][\w.]*)\s*(.*);", line):
            condition, opcode, operands = found.groups()
            place = re.search(r"`\((\.L_x_\d+)\)", operands)
            target = None
            if opcode.startswith("BSSY") and place:
                joins[operands.split(",")[0]] = place[1]  # where BSYNC goes
            elif opcode.startswith("BSYNC"):
                target = joins.get(operands.strip())
            elif re.match("U?(BRA|JMP)", opcode) and place:
                target = place[1]
            # an unconditional branch has no predicate, neither in front nor among its operands, and is taken by all
            always = not condition and "P" not in operands and not re.match(r"BRA\.(DIV|CONV)", opcode)
            ends = re.match("U?(BRA|JMP|EXIT|RET|BSYNC)", opcode) and always
            instructions.append(Instruction(label, opcode, target, not ends))
            label = None
    return instructions


def main_loop(instructions: list[Instruction], opcode: str) -> list[Instruction]:
    """Of the innermost loops that hold such instructions the one that holds most; [] if there is none."""
    loops = innermost_loops(instructions, opcode)
    return max(loops, key=lambda loop: matching(loop, opcode), default=[])


def innermost_loops(instructions: list[Instruction], opcode: str) -> list[list[Instruction]]:
    """The loops that hold such instructions, and no smaller loop that does."""
    innermost: list[list[int]] = []
    for body in sorted(natural_loops(instructions), key=len):
        holds = matching([instructions[i] for i in body], opcode) > 0
        if holds and not any(set(inner) < set(body) for inner in innermost):
            innermost.append(body)
    return [[instructions[i] for i in body] for body in innermost]


def natural_loops(instructions: list[Instruction]) -> list[list[int]]:
    """Bodies of the loops: an edge back to an instruction that every way to it passes. Code that the compiler moved
    out of the way also branches backwards, but is no loop."""
    places = {x.label: i for i, x in enumerate(instructions) if x.label is not None}
    starts = sorted(
        {0, *places.values(), *(i + 1 for i, x in enumerate(instructions) if x.target or not x.falls_through)}
    )
    starts = [i for i in starts if i < len(instructions)]
    block_at = {start: b for b, start in enumerate(starts)}
    ends = [*starts[1:], len(instructions)]
    after: list[set[int]] = []
    for end in ends:
        last = instructions[end - 1]
        nexts = {block_at[places[last.target]]} if last.target in places else set()
        after.append(nexts | ({block_at[end]} if last.falls_through and end < len(instructions) else set()))
    before: list[set[int]] = [set() for _ in starts]
    for block, nexts in enumerate(after):
        for x in nexts:
            before[x].add(block)
    dominators = find_dominators(before)
    bodies: dict[int, set[int]] = {}
    for tail, nexts in enumerate(after):
        for head in (x for x in nexts if dominators[tail] >> x & 1):
            bodies.setdefault(head, {head}).update(reaching(tail, head, before))
    return [[i for b in sorted(body) for i in range(starts[b], ends[b])] for body in bodies.values()]


def find_dominators(before: list[set[int]]) -> list[int]:
    """For each block the blocks on every way to it from block 0, as bits."""
    everything = (1 << len(before)) - 1
    found = [1, *(everything for _ in before[1:])]
    changed = True
    while changed:
        changed = False
        for block in range(1, len(before)):
            ways = everything if before[block] else 0
            for x in before[block]:
                ways &= found[x]
            new = ways | 1 << block
            changed |= new != found[block]
            found[block] = new
    return found


def reaching(tail: int, head: int, before: list[set[int]]) -> set[int]:
    found, waiting = {head}, [tail]
    while waiting:
        block = waiting.pop()
        if block not in found:
            found.add(block)
            waiting += before[block]
    return found
