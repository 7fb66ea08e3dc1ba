"""Search Python functions by what they do: a two-tower encoder trained with `contrastive_ops.clip_loss`.

The training data is the Python installed on this machine: (first docstring paragraph, source without docstrings) of
every documented function in the standard library and in site-packages. The function's name and signature stay in its
source, as they do where people search code; `--hide-names` drops the name. Modules are either trained on or held out.
`--sources DIR` makes one's own folder what is searched.

Writes to `--out`: model.pt (model and index), metrics.json, code_search.png. Ctrl-C during training stops after the
running step and goes on to save, evaluate and answer the queries; a second one exits at once.
"""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
from code_search_lib import memory, picture
from code_search_lib.features import Bags, hash_texts, rarity
from code_search_lib.model import SearchIndex, TwoTowers
from code_search_lib.pairs import Corpus, collect
from code_search_lib.retrieval import Scores, evaluate
from code_search_lib.training import History, LossFunction, Recipe, dense_loss, library_loss, train
from results import make_folder
from tqdm import tqdm

from contrastive_ops.backends import BACKENDS

INTERRUPTED = 130  # exit status by shell convention: 128 + SIGINT
EVALUATIONS = 5  # during training
ANSWERS = 3  # per query
QUERIES = (
    "compute the greatest common divisor of two integers",
    "parse a date from a string",
    "download a file from a url and save it to disk",
    "draw a histogram of the values",
    "find the shortest path between two nodes of a graph",
    "remove a directory and everything inside it",
)


class Features(NamedTuple):
    train_docstrings: Bags
    train_code: Bags
    held_out_docstrings: Bags
    held_out_code: Bags


class StopRequest:
    """While active, the first Ctrl-C sets `received`; the second raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.received = False

    def __enter__(self) -> StopRequest:
        self._previous = signal.signal(signal.SIGINT, self._on_signal)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._previous)

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self.received:
            raise KeyboardInterrupt
        self.received = True
        tqdm.write("stopping after this step; Ctrl-C again to exit at once")


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )

    def option(name: str, default: object, kind: type, help_text: str) -> None:
        shown = "" if default is None else f" (default {default})"
        parser.add_argument(name, default=default, type=kind, metavar=kind.__name__.upper(), help=help_text + shown)

    option("--out", Path("out/code_search"), Path, "folder for the results")
    parser.add_argument(
        "--query",
        action="append",
        metavar="TEXT",
        help="answer this from the model saved in --out and exit; repeatable",
    )
    parser.add_argument(
        "--sources",
        action="append",
        type=Path,
        default=[],
        metavar="DIR",
        help="search the functions of this folder, trained on beside the installed ones; repeatable",
    )
    option("--seed", 0, int, "of initialisation, batches and dropout")
    option("--steps", 32, int, "optimizer steps")
    option("--batch-size", 8192, int, "pairs per step")
    option("--learning-rate", 1e-2, float, "peak rate")
    option("--width", 192, int, "length of the vectors")
    option("--hidden", 256, int, "hidden units of the towers")
    option("--buckets", 2**17, int, "rows of the feature table, a power of two")
    option("--max-pairs", 60_000, int, "stop collecting at so many")
    option("--collect-seconds", 60.0, float, "stop collecting after this time")
    option("--train-seconds", 150.0, float, "stop training after this time, even with steps left")
    parser.add_argument("--hide-names", action="store_true", help="drop the function's name from its source")
    parser.add_argument("--backend", choices=tuple(BACKENDS), help="of contrastive_ops; without it the best one here")
    option("--threads", torch.get_num_threads(), int, "of PyTorch, and processes that read sources")
    option("--compare-steps", 5, int, "steps to repeat with the dense PyTorch loss")
    parser.add_argument("--no-memory-chart", action="store_true", help="do not measure memory over batch sizes")
    option("--memory-limit-gib", 6.0, float, "the dense loss is not measured beyond this")
    parser.add_argument(
        "--memory-batch-sizes",
        type=int,
        nargs="+",
        metavar="INT",
        default=[1024, 2048, 4096, 8192, 16384],
        help="batch sizes of the memory chart (default 1024 ... 16384)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bars")
    options = parser.parse_args(arguments)
    for name in ("steps", "batch_size", "width", "hidden", "max_pairs", "threads"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1, got {getattr(options, name)}")
    if missing := [str(folder) for folder in options.sources if not folder.is_dir()]:
        parser.error(f"--sources must be folders, got {', '.join(missing)}")
    if options.buckets < 1 or options.buckets & (options.buckets - 1):
        parser.error(f"--buckets must be a power of two, got {options.buckets}")
    return options


def stated(value: object) -> object:
    """A setting as JSON can hold it."""
    if isinstance(value, list):
        return [stated(item) for item in value]
    return str(value) if isinstance(value, Path) else value


def new_model(options: argparse.Namespace, features: Features) -> TwoTowers:
    torch.manual_seed(options.seed)
    model = TwoTowers(options.buckets, options.width, options.hidden)
    model.idf.copy_(rarity([features.train_docstrings, features.train_code], options.buckets))
    return model


def train_with_progress(
    model: TwoTowers, features: Features, recipe: Recipe, loss: LossFunction, options: argparse.Namespace
) -> tuple[History, list[tuple[int, Scores]], bool]:
    """History, (step, scores) from before the first step to after the last, and whether Ctrl-C ended it."""
    history = History()
    held_out = (features.held_out_docstrings, features.held_out_code)
    evaluations = [(0, evaluate(model, *held_out))]
    print(f"before training   {evaluations[0][1]}")
    interval = max(1, recipe.steps // EVALUATIONS)
    deadline = time.monotonic() + options.train_seconds
    done = 0
    with StopRequest() as stop, tqdm(total=recipe.steps, desc="training", unit="step", disable=options.quiet) as bar:
        for done in train(model, features.train_docstrings, features.train_code, recipe, loss, history):
            bar.set_postfix(
                loss=f"{history.losses[-1]:.3f}",
                scale=f"{history.scales[-1]:.1f}",
                recall_10=f"{evaluations[-1][1].recall_10:.3f}",
                refresh=False,
            )
            bar.update()
            if stop.received:
                break
            if time.monotonic() > deadline:
                tqdm.write(f"stopping after {done} steps: --train-seconds {options.train_seconds:g} are over")
                break
            if done % interval == 0 and done < recipe.steps:
                evaluations.append((done, evaluate(model, *held_out)))
    if done > evaluations[-1][0]:
        evaluations.append((done, evaluate(model, *held_out)))
        print(f"after {done:3d} steps   {evaluations[-1][1]}")
    return history, evaluations, stop.received


def build_index(model: TwoTowers, corpus: Corpus, features: Features) -> SearchIndex:
    """Over all functions that are to be searched, trained on or not."""
    vectors = torch.cat(
        [model.encode(model.code_tower, bags) for bags in (features.train_code, features.held_out_code)]
    )
    found = [i for i, pair in enumerate(corpus.pairs) if pair.is_searched]
    locations = [corpus.pairs[i].location for i in found]
    return SearchIndex(model, locations, [corpus.pairs[i].docstring for i in found], vectors[found])


def print_answers(index: SearchIndex, queries: Sequence[str]) -> None:
    for query in queries:
        print(f"\n  ? {query}")
        for cosine, location, docstring in index.search(query, ANSWERS):
            print(f"    {cosine:.2f}  {location}")
            print(f"          {textwrap.shorten(docstring, 100, placeholder=' ...')}")


def compare_with_dense(
    options: argparse.Namespace, features: Features, recipe: Recipe, losses: Sequence[float]
) -> list[float]:
    """Losses of the first steps when trained with the dense loss from the same seed on the same batches."""
    history = History()
    steps = min(options.compare_steps, len(losses))
    repeated = train(
        new_model(options, features), features.train_docstrings, features.train_code, recipe, dense_loss, history, steps
    )
    for _ in tqdm(repeated, total=steps, desc="dense loss, same seed", unit="step", disable=options.quiet):
        pass
    return history.losses


def measure_memory(options: argparse.Namespace) -> list[memory.Point]:
    points = []
    measured = memory.measure(
        options.memory_batch_sizes, options.width, options.backend, options.threads, options.memory_limit_gib
    )
    bar = tqdm(measured, total=2 * len(options.memory_batch_sizes), desc="measuring memory", disable=options.quiet)
    for point in bar:
        if isinstance(point, memory.Point):
            points.append(point)
        else:
            tqdm.write(point)
    return points


def print_memory(points: Sequence[memory.Point]) -> None:
    peaks = {(point.loss, point.batch_size): f"{point.bytes / 2**20:.1f} MiB" for point in points}
    print(f"\n  {'batch':>7} {'ours':>11} {'dense':>11}   added peak memory, forward and backward")
    for size in sorted({point.batch_size for point in points}):
        print(f"  {size:7d} {peaks.get(('ours', size), '-'):>11} {peaks.get(('dense', size), '-'):>11}")


def run(options: argparse.Namespace) -> int:
    start = time.monotonic()
    make_folder("--out", options.out, options.out)
    torch.set_num_threads(options.threads)
    corpus = collect(
        options.max_pairs,
        options.collect_seconds,
        options.threads,
        not options.hide_names,
        not options.quiet,
        options.sources,
    )
    print(
        f"{len(corpus.train)} pairs to train on and {len(corpus.held_out)} held out, "
        f"from {corpus.files} files{'' if corpus.complete else ' (limit reached)'}"
    )
    if not corpus.held_out or len(corpus.train) < options.batch_size:
        raise SystemExit(f"too few pairs for --batch-size {options.batch_size}: install more packages or lower it")
    texts = [[getattr(pair, side) for pair in pairs] for pairs in corpus[:2] for side in ("docstring", "code")]
    features = Features(*(hash_texts(side, options.buckets) for side in texts))

    recipe = Recipe(options.steps, options.batch_size, options.learning_rate, options.seed)
    model = new_model(options, features)
    history, evaluations, interrupted = train_with_progress(
        model, features, recipe, library_loss(options.backend), options
    )
    index = build_index(model, corpus, features)
    index.save(options.out / "model.pt")
    print(f"saved {options.out / 'model.pt'}")
    print_answers(index, QUERIES)
    print()

    # From here on nothing is lost: an interrupt ends the measuring, and what there is gets written.
    dense_losses: list[float] = []
    points: list[memory.Point] = []
    if not interrupted:
        try:
            dense_losses = compare_with_dense(options, features, recipe, history.losses)
            points = [] if options.no_memory_chart else measure_memory(options)
        except KeyboardInterrupt:
            interrupted = True
            print("\nstopped measuring")
    pool = len(corpus.held_out)
    picture.draw(
        options.out / "code_search.png", history.losses, dense_losses, evaluations, points, options.batch_size, pool
    )

    differences = [abs(ours - dense) for ours, dense in zip(history.losses, dense_losses, strict=False)]
    relative = [difference / dense for difference, dense in zip(differences, dense_losses, strict=True)]
    seconds, loss_seconds = sum(history.step_seconds), sum(history.loss_seconds)
    metrics = {
        "settings": {name: stated(value) for name, value in vars(options).items()},
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "interrupted": interrupted,
        "pairs": {"train": len(corpus.train), "held_out": pool},
        "evaluations": [{"step": step, **scores._asdict()} for step, scores in evaluations],
        "losses": history.losses,
        "scales": history.scales,
        "step_seconds": history.step_seconds,
        "loss_seconds": history.loss_seconds,
        "dense_losses": dense_losses,
        "largest_difference": {"absolute": max(differences, default=None), "relative": max(relative, default=None)},
        "peak_memory": [point._asdict() for point in points],
        "total_seconds": time.monotonic() - start,
    }
    (options.out / "metrics.json").write_text(json.dumps(metrics, indent=1) + "\n")

    if points:
        print_memory(points)
    print(f"\nheld-out retrieval, {pool} queries over {pool} functions")
    print(f"  before training   {evaluations[0][1]}")
    print(f"  after {evaluations[-1][0]:3d} steps   {evaluations[-1][1]}")
    print(
        f"loss {history.losses[0]:.3f} -> {history.losses[-1]:.3f}, scale {history.scales[-1]:.1f}; "
        f"{seconds / len(history.losses):.2f} s a step, {loss_seconds / seconds:.0%} of it in the loss"
    )
    if differences:
        print(
            f"first {len(differences)} steps against the dense PyTorch loss, same seed: "
            f"largest difference {max(differences):.1e} absolute, {max(relative):.1e} relative"
        )
    print(f"results in {options.out}: code_search.png, metrics.json, model.pt; {time.monotonic() - start:.0f} s in all")
    return INTERRUPTED if interrupted else 0


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse_options(arguments)
    try:
        if options.query:
            saved = options.out / "model.pt"
            if not saved.exists():
                raise SystemExit(f"no saved model at {saved}: run once without --query, or name its folder by --out")
            print_answers(SearchIndex.load(saved), options.query)
            return 0
        return run(options)
    except KeyboardInterrupt:
        print("\ninterrupted", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
