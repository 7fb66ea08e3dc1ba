"""`python -m bench.compare REV`: whether the working tree is slower than another commit of it.

Both are built and run in a process of their own; the processes are fed in turn, so that a busy machine slows both sides
of a pair alike. A fall is a 95 % interval of the median ratio that lies wholly above 1.02; then the status is 1.
"""

from __future__ import annotations

import argparse
import sys

import torch
from rich.console import Console
from rich.table import Table

from bench import REPOSITORY
from bench.__main__ import shape_list
from bench.commits.pairs import Worker, compare
from bench.commits.ratio import FALL, LEAST_PAIRS, Ratio
from bench.commits.trees import build, commit_of, worktree
from bench.cpu.gates import SPEED_GATES
from bench.machine import machine_info
from bench.shapes import Shape

FIXED_COST = Shape(8, 8)  # what a call costs however little it does
SHAPES = (FIXED_COST, *map(Shape.parse, dict.fromkeys(gate.shape for gate in SPEED_GATES)))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m bench.compare", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("rev", metavar="REV", help="a commit, branch or tag")
    parser.add_argument("--pairs", type=int, default=40, help="of samples for each shape (%(default)s)")
    parser.add_argument("--only", type=shape_list, default=SHAPES, metavar="NxD[,NxD...]", help="these shapes")
    given = parser.parse_args(arguments)
    if given.pairs < LEAST_PAIRS:
        parser.error(f"--pairs must be at least {LEAST_PAIRS}, got {given.pairs}")
    try:
        commit = commit_of(given.rev)
    except ValueError as error:
        parser.error(str(error))

    console = Console(width=None if sys.stdout.isatty() else 150)
    ratios: dict[Shape, Ratio] = {}
    with worktree(commit) as tree, console.status("building") as status:
        for each in (REPOSITORY, tree):
            build(each)
        with Worker(REPOSITORY) as new, Worker(tree) as old:
            for shape in given.only:
                ratios[shape] = compare(new, old, shape, given.pairs, status.update)
                console.print(f"{shape}: {ratios[shape].median:.3f}", highlight=False)
    print_ratios(console, ratios, f"{given.rev} ({commit[:12]})", given.pairs)
    return 1 if any(ratio.is_fall for ratio in ratios.values()) else 0


def print_ratios(console: Console, ratios: dict[Shape, Ratio], rev: str, pairs: int) -> None:
    machine = machine_info(torch.get_num_threads())
    console.print(
        f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, torch {machine['torch']}, "
        f"load {machine['load_average']}"
    )
    table = Table(title=f"clip_loss, forward + backward, over {rev}", title_justify="left")
    for heading in ("shape", "before", f"median of {pairs} ratios", "95 % interval", ""):
        table.add_column(heading, justify="left" if heading == "shape" else "right")
    for shape, ratio in ratios.items():
        verdict = f"[bold red]fall: above {FALL}[/bold red]" if ratio.is_fall else ""
        interval = f"{ratio.low:.3f} .. {ratio.high:.3f}"
        table.add_row(str(shape), f"{ratio.old_seconds * 1e3:.4g} ms", f"{ratio.median:.3f}", interval, verdict)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main())
