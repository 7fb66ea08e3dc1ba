"""Collect (docstring, function) pairs from Python sources: those installed on this machine, and one's own."""

from __future__ import annotations

import ast
import os
import re
import signal
import sysconfig
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

SKIPPED_FOLDERS = {"test", "tests", "idle_test", "__pycache__", "node_modules"}
MAX_FILE_BYTES = 1_000_000  # beyond that it is a generated table
MAX_BODY_CHARACTERS = 6_000
MIN_DOCSTRING_WORDS = 4
MIN_BODY_WORDS = 8
FILES_PER_TASK = 64
HELD_OUT_SHARE = 10  # one file of so many is held out

_WORD = re.compile(r"[a-z]+")
FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef


class Pair(NamedTuple):
    """One function. `code` is its source without docstrings; `module` and `name` say where it stands."""

    module: str
    name: str
    docstring: str  # the first paragraph, on one line
    code: str
    is_searched: bool = True

    @property
    def location(self) -> str:
        return f"{self.module}:{self.name}"


class Corpus(NamedTuple):
    train: list[Pair]
    held_out: list[Pair]
    files: int
    complete: bool  # False if the time limit or the cap on pairs ended the search

    @property
    def pairs(self) -> list[Pair]:
        return self.train + self.held_out

    @property
    def searched(self) -> list[Pair]:
        return [pair for pair in self.pairs if pair.is_searched]


def collect(
    max_pairs: int, max_seconds: float, workers: int, keep_names: bool, progress: bool, own: Sequence[Path] = ()
) -> Corpus:
    """Parse one's own folders, which alone are searched then, and the installed sources; the same files give the same
    pairs in the same order."""
    deadline = time.monotonic() + max_seconds
    own_files = _source_files(own)
    files = own_files + _source_files(sysconfig.get_path(key) for key in ("stdlib", "purelib", "platlib"))
    own_modules = {module for _, module in own_files}
    tasks = [files[i : i + FILES_PER_TASK] for i in range(0, len(files), FILES_PER_TASK)]
    train: list[Pair] = []
    held_out: list[Pair] = []
    seen: set[int] = set()
    parsed = 0
    complete = True
    # Workers ignore Ctrl-C: it reaches the whole process group, and the parent is the one that answers.
    pool = ProcessPoolExecutor(workers, initializer=signal.signal, initargs=(signal.SIGINT, signal.SIG_IGN))
    try:
        results = pool.map(_pairs_of_files, tasks, [keep_names] * len(tasks))
        with tqdm(total=len(files), desc="reading sources", unit="file", disable=not progress) as bar:
            for task, found in zip(tasks, results, strict=True):
                parsed += len(task)
                for pair in found:
                    if _is_new(pair, seen):
                        # By module, so that functions written together, which look alike, stay on one side.
                        is_held_out = zlib.crc32(pair.module.encode()) % HELD_OUT_SHARE == 0
                        pair = pair._replace(is_searched=not own or pair.module in own_modules)
                        (held_out if is_held_out else train).append(pair)
                bar.update(len(task))
                bar.set_postfix(pairs=len(train) + len(held_out))
                if len(train) + len(held_out) >= max_pairs or time.monotonic() > deadline:
                    complete = parsed == len(files)
                    break
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
    surplus = len(train) + len(held_out) - max_pairs
    if surplus > 0:
        del train[len(train) - surplus :]
    return Corpus(train, held_out, parsed, complete)


def _source_files(roots: Iterable[str | Path]) -> list[tuple[str, str]]:
    """(path, module name) of every source, in an order that a cap on pairs cuts fairly: by hash of the module name."""
    module_of_path: dict[str, str] = {}
    for root in dict.fromkeys(roots):
        for folder, subfolders, names in os.walk(root):
            # site-packages of the base interpreter lies inside the standard library's folder but is no part of it
            subfolders[:] = [
                name for name in subfolders if name not in SKIPPED_FOLDERS and not name.endswith("-packages")
            ]
            for name in names:
                if name.endswith(".py"):
                    path = Path(folder, name)
                    parts = list(path.relative_to(root).with_suffix("").parts)
                    if parts[-1] == "__init__" and len(parts) > 1:
                        parts.pop()
                    module_of_path.setdefault(str(path), ".".join(parts))
    return sorted(module_of_path.items(), key=lambda item: (zlib.crc32(item[1].encode()), item[1], item[0]))


def _is_new(pair: Pair, seen: set[int]) -> bool:
    """True once for a docstring and once for a body; case, digits, punctuation and the function's name do not count."""
    _, _, body = pair.code.partition("(")
    keys = {_hash_words(_WORD.findall(pair.docstring.lower()), 1), _hash_words(_WORD.findall(body.lower()), 2)}
    if keys & seen:
        return False
    seen |= keys
    return True


def _hash_words(words: Sequence[str], salt: int) -> int:
    """64 bits that do not change between runs, as those of `hash` do."""
    text = " ".join(words).encode()
    return zlib.crc32(text, salt) << 32 | zlib.crc32(text, salt + 1000)


def _pairs_of_files(files: Sequence[tuple[str, str]], keep_names: bool) -> list[Pair]:
    return [pair for path, module in files for pair in _pairs_of_file(path, module, keep_names)]


def _pairs_of_file(path: str, module: str, keep_names: bool) -> Iterator[Pair]:
    try:
        if os.path.getsize(path) > MAX_FILE_BYTES:
            return
        source = Path(path).read_text(encoding="utf-8")
        if '"""' not in source and "'''" not in source:
            return  # parsing is the expensive part, and hardly a docstring has single quotes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's invalid escapes
            tree = ast.parse(source)
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return  # sources for other Python versions, templates, broken encodings
    lines = source.split("\n")
    docstring_lines = {
        line
        for node in ast.walk(tree)
        if isinstance(node, FunctionNode | ast.ClassDef) and (expression := _docstring_node(node)) is not None
        for line in range(expression.lineno, (expression.end_lineno or expression.lineno) + 1)
    }
    for node, name in _functions(tree, ""):
        expression = _docstring_node(node)
        if expression is None or len(node.body) < 2 or expression.lineno == node.lineno:
            continue
        docstring = " ".join(ast.get_docstring(node, clean=True).split("\n\n")[0].split())  # type: ignore[union-attr]
        # All docstrings inside go, those of nested functions too: the code must not contain what describes it.
        last = node.end_lineno or node.lineno
        code = "\n".join(lines[i - 1] for i in range(node.lineno, last + 1) if i not in docstring_lines)
        code = re.sub(r"^\s*(async\s+)?def\s+", "", code)
        if not keep_names:
            code = code[len(node.name) :]
        code = code[:MAX_BODY_CHARACTERS]
        enough = len(_WORD.findall(docstring.lower())) >= MIN_DOCSTRING_WORDS
        if enough and len(_WORD.findall(code.partition("(")[2].lower())) >= MIN_BODY_WORDS:
            yield Pair(module, name, docstring, code)


def _functions(tree: ast.AST, prefix: str) -> Iterator[tuple[FunctionNode, str]]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, FunctionNode):
            yield node, prefix + node.name
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.ClassDef):
            yield from _functions(node, f"{prefix}{node.name}.")
        elif isinstance(node, ast.stmt):
            yield from _functions(node, prefix)


def _docstring_node(node: FunctionNode | ast.ClassDef) -> ast.Expr | None:
    first = node.body[0]
    is_text = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    return first if is_text else None  # type: ignore[return-value]
