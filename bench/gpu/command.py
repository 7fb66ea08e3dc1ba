"""The command line of a list of stages: which of them, where, for how long."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from bench.gpu.report import REPORT
from bench.gpu.runner import run
from bench.gpu.stage import Round

EVERYTHING = 7 * 24 * 3600.0  # seconds


class Command(NamedTuple):
    module: str
    description: str
    title: str  # of the report
    out: str
    budget: float  # seconds, for which the limits of the stages are meant
    rounds: Sequence[Round]

    def run(self, arguments: list[str] | None) -> int:
        start = time.monotonic()
        parsed = self._parse(arguments)
        import torch  # takes seconds, which are of the budget

        from bench.gpu.machine import NO_GPU, missing
        from bench.gpu.rehearsal import ENVIRONMENT, STAGE

        if parsed.device == "cuda" and (reason := missing(torch.device("cuda"))):
            print(f"Nothing was measured: {reason}")
            print(
                "What can be done without a GPU: `--device cpu` rehearses this; `make test` runs the same kernels in "
                "Triton's interpreter and on an emulator; `python -m bench.roofline` predicts their speed."
            )
            return NO_GPU
        budget = EVERYTHING if parsed.all else parsed.budget
        is_rehearsal = parsed.device == "cpu"
        status = run(
            self.title,
            [(STAGE,)] * is_rehearsal + self._chosen(parsed.only),
            device=parsed.device,
            out=parsed.out.absolute(),
            seconds=budget - (time.monotonic() - start),
            stretch=budget / self.budget,
            environment=ENVIRONMENT if is_rehearsal else {},
            say=lambda line: print(line, flush=True),
        )
        print(f"The report is {parsed.out / REPORT}. It names no machine and no user: please attach it to an issue.")
        return status

    def _parse(self, arguments: list[str] | None) -> argparse.Namespace:
        parser = argparse.ArgumentParser(
            prog=f"python -m {self.module}",
            description=self.description,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        names = [stage.name for stages in self.rounds for stage in stages]
        parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="cpu rehearses at tiny sizes")
        parser.add_argument("--budget", type=float, default=self.budget, metavar="SECONDS", help="default: %(default)s")
        parser.add_argument("--all", action="store_true", help="every case, however long it takes")
        parser.add_argument("--only", type=lambda text: text.split(","), metavar="STAGE[,STAGE]", help=" ".join(names))
        parser.add_argument("--out", type=Path, default=Path(self.out), help="folder of the report: %(default)s")
        parsed = parser.parse_args(arguments)
        if unknown := [given for given in parsed.only or () if not any(_means(given, name) for name in names)]:
            parser.error(f"stages are {' '.join(names)}; got {' '.join(unknown)}")
        return parsed

    def _chosen(self, only: list[str] | None) -> list[Round]:
        chosen = [
            tuple(stage for stage in stages if only is None or any(_means(given, stage.name) for given in only))
            for stages in self.rounds
        ]
        return [stages for stages in chosen if stages]


def _means(given: str, name: str) -> bool:
    """A stage by its name, or all whose names begin so: `steps` for `steps-cuda` and `steps-triton`."""
    return name == given or name.startswith(f"{given}-")
