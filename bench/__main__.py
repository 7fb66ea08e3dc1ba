"""`python -m bench`: the table, the JSON file and the picture; `python -m bench --gates`: promised against measured."""

from __future__ import annotations

import argparse
import dataclasses
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from bench.cpu.contestants import FORWARD, MODES, clip_contestants
from bench.cpu.gates import PARTS, Outcome, check_gates, print_outcomes
from bench.cpu.peak import fma_peak_meter, peak_isa
from bench.cpu.plot import save_plot
from bench.cpu.report import as_json, print_table, print_verdict, write_json
from bench.cpu.solver import described, solver_info
from bench.cpu.suite import MEMORY_FROM_N, Settings, ShapeResult, run_shape
from bench.cpu.truth import WrongResult
from bench.machine import load_average, machine_info
from bench.shapes import DEFAULT, DEFAULT_FORWARD_UP_TO_N, FULL, Shape


def parse_arguments(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Time and memory of clip_loss beside dense PyTorch, torch.compile, F.linear_cross_entropy and "
        "three bare matrix products, in alternated samples of one process.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--full", action="store_true", help="N 256..16384 times D 128..1024 (about two hours)")
    parser.add_argument("--only", type=shape_list, metavar="NxD[,NxD...]", help="these shapes, such as 4096x512")
    parser.add_argument("--gates", action="store_true", help="promised against measured, instead of the table")
    parser.add_argument("--parts", type=name_list, default=PARTS, help=f"of --gates: any of {','.join(PARTS)}")
    parser.add_argument("--rounds", type=positive, default=9, help="samples of every contestant")
    parser.add_argument("--least-rounds", type=positive, default=2, help="rounds taken even where time is short")
    parser.add_argument("--budget", type=float, default=40.0, metavar="SECONDS", help="of samples per shape")
    parser.add_argument("--threads", type=positive, default=torch.get_num_threads())
    parser.add_argument("--backend", help="of ours; the first that can by default")
    parser.add_argument("--contestants", type=name_list, default=(), help=f"any of {','.join(clip_contestants())}")
    parser.add_argument("--modes", type=name_list, default=MODES, help=f"any of {','.join(MODES)}")
    parser.add_argument("--no-peak", action="store_true", help="without the FMA peak beside the samples")
    parser.add_argument("--no-memory", action="store_true", help="without added memory")
    parser.add_argument(
        "--memory-from", type=positive, default=MEMORY_FROM_N, metavar="N", help="smallest N for memory"
    )
    parser.add_argument("--out", type=Path, default=Path("out/bench"), help="folder of the JSON file and the picture")
    parsed = parser.parse_args(arguments)
    for name, given, known in (
        ("--parts", parsed.parts, PARTS),
        ("--modes", parsed.modes, MODES),
        ("--contestants", parsed.contestants, tuple(clip_contestants())),
    ):
        if unknown := [value for value in given if value not in known]:
            parser.error(f"{name} are {', '.join(known)}, got {', '.join(unknown)}")
    return parsed


def main() -> int:
    arguments = parse_arguments()
    console = Console(width=None if sys.stdout.isatty() else 150)
    torch.set_num_threads(arguments.threads)
    try:
        peak_meter = None if arguments.no_peak else fma_peak_meter(arguments.threads)
    except RuntimeError as error:
        console.print(str(error), style="red")
        return 2
    solver = solver_info(arguments.backend, arguments.threads)
    machine = machine_info(arguments.threads) | solver | {"peak_isa": None if arguments.no_peak else peak_isa()}
    console.print(
        f"{machine['cpu']}, {machine['threads']} threads of {machine['cores']} cores, torch {machine['torch']}, "
        f"load {machine['load_average']}"
    )
    console.print(described(solver))
    try:
        with console.status("starting") as status:
            settings = Settings(
                threads=arguments.threads,
                rounds=arguments.rounds,
                least_rounds=min(max(arguments.least_rounds, 3 if arguments.gates else 1), arguments.rounds),
                budget_seconds=arguments.budget,
                backend=arguments.backend,
                only_contestants=tuple(arguments.contestants),
                modes=tuple(arguments.modes),
                peak_meter=peak_meter,
                memory=not arguments.no_memory,
                memory_from_n=arguments.memory_from,
                progress=status.update,
            )
            if arguments.gates:
                return _gates(console, arguments, settings, machine)
            return _table(console, arguments, settings, machine)
    except WrongResult as error:
        console.print(f"[bold red]refusing to report:[/bold red] {error}")
        return 1


def _table(console: Console, arguments: argparse.Namespace, settings: Settings, machine: dict[str, Any]) -> int:
    results: list[ShapeResult] = []
    try:
        for shape in arguments.only or (FULL if arguments.full else DEFAULT):
            results.append(run_shape(shape, _for_shape(settings, shape, arguments)))
            console.print(f"{shape} done, load {load_average()}")
    except KeyboardInterrupt:
        console.print("interrupted: reporting the shapes that are complete")
    if not results:
        return 130
    machine["load_average"] = load_average()
    print_table(console, results)
    print_verdict(console, results)
    write_json(arguments.out / "bench.json", as_json(results, machine, _stated(arguments)))
    save_plot(arguments.out / "bench.png", results, machine)
    console.print(f"wrote {arguments.out / 'bench.json'} and {arguments.out / 'bench.png'}")
    return 0


def _gates(console: Console, arguments: argparse.Namespace, settings: Settings, machine: dict[str, Any]) -> int:
    outcomes: list[Outcome] = []
    for outcome in check_gates(settings, tuple(arguments.parts)):
        outcomes.append(outcome)
        console.print(f"{outcome.what}: promised {outcome.promised}, measured {outcome.measured}", highlight=False)
    content = {
        "machine": machine | {"load_average": load_average()},
        "settings": _stated(arguments),
        "gates": [outcome._asdict() for outcome in outcomes],
    }
    write_json(arguments.out / "gates.json", content)
    everything_met = print_outcomes(console, outcomes)
    console.print(f"wrote {arguments.out / 'gates.json'}")
    return 0 if everything_met else 1


def _for_shape(settings: Settings, shape: Shape, arguments: argparse.Namespace) -> Settings:
    is_default_set = not (arguments.only or arguments.full)
    too_slow = is_default_set and shape.n > DEFAULT_FORWARD_UP_TO_N
    return dataclasses.replace(
        settings,
        progress=lambda text: settings.progress(f"{shape}: {text}"),
        modes=tuple(mode for mode in settings.modes if mode != FORWARD or not too_slow),
    )


def _stated(arguments: argparse.Namespace) -> dict[str, Any]:
    """The command line for the JSON file, without folders of this machine."""
    stated = {name: value for name, value in vars(arguments).items() if name != "out"}
    return stated | {"only": [str(shape) for shape in arguments.only or ()]}


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 1, got {value}")
    return value


def name_list(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def shape_list(text: str) -> tuple[Shape, ...]:
    try:
        return tuple(Shape.parse(part) for part in text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
