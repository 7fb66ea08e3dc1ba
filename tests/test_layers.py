"""Imports go one way, from losses down to leaves; the kernels know nothing of torch."""

import ast
import re
from pathlib import Path

import contrastive_ops

PACKAGE = Path(contrastive_ops.__file__).parent
REPOSITORY = Path(__file__).parent.parent

# from the top to the bottom; a module imports from its own layer or from one below
LAYERS = (
    "distributed",
    "losses",
    "ops",
    "backends",
    "build_problem",
    "check",
    "form",
    "problem",
    "reductions",
    "scores",
    "relations",
    "leaves",
    "steady",
    "readable",
    "plain",
)
ROOT = "__init__"  # the package itself re-exports from every layer
BESIDE = "testing"  # outside the stack: no layer imports it
# of which these make inputs and truths: from the library they have the objects that name relations, and no number
TRUTHS = ("cases", "dense", "errors", "layouts", "pair_sets", "pairs", "shapes", "tolerances")
NATIVE = "_native"  # the extension belongs to one backend alone
NATIVE_OWNER = ("backends", "cpu")
CUDA = "_cuda"
CUDA_OWNER = ("backends", "cuda", "backend")
TRITON = "triton_kernels"  # stands beside csrc; of the package it knows the kinds of relations and scores
TRITON_OWNER = ("backends", "triton")
SHARED_BY_BACKENDS = (("backends", "base"), ("backends", "extension"), ("backends", "gpu"), ("backends", "panels"))


def modules():
    """(path inside the package, parts of the name, everything imported from the package as parts)."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        yield parts, sorted(set(imports(ast.parse(path.read_text(encoding="utf-8")), parts)))


def imports(tree, parts):
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{'.'.join(parts)}: relative import"
            name = (node.module or "").split(".")
            if name[0] == "contrastive_ops":
                # `from contrastive_ops import x` names a module or an export: resolved to the module where there is one
                yield from (tuple(name[1:]) or (alias.name,) for alias in node.names)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                name = alias.name.split(".")
                if name[0] == "contrastive_ops":
                    yield tuple(name[1:])


def test_every_module_has_a_layer():
    known = {*LAYERS, BESIDE, ROOT}
    assert {parts[0] for parts, _ in modules()} == known


def test_imports_go_down_only():
    for parts, imported in modules():
        if parts[0] == ROOT:
            assert (BESIDE,) not in imported
            continue
        for target in imported:
            if parts[0] == BESIDE:
                if parts[-1] in TRUTHS:
                    assert target[0] == "relations" or (target[0] == BESIDE and target[1] in TRUTHS), (parts, target)
            elif target == (NATIVE,):
                assert parts[:2] == NATIVE_OWNER, f"{parts} imports the native extension"
            elif target == (CUDA,):
                assert parts == CUDA_OWNER, f"{parts} imports the CUDA extension"
            elif target[0] == TRITON:
                assert parts[:2] == TRITON_OWNER, f"{parts} imports the Triton kernels"
            else:
                assert target[0] in LAYERS, f"{parts} imports {target}"
                assert LAYERS.index(target[0]) >= LAYERS.index(parts[0]), f"{parts} imports {target}"


def test_backends_do_not_know_one_another():
    """Each backend sees what backends share (the protocol, the passes of GPUs) and what lies below; only the registry
    sees them all."""
    for parts, imported in modules():
        if parts[0] == "backends" and parts[1] != "__init__":
            for target in imported:
                own = target[:2] == parts[:2]  # a backend may be a package
                shared = target[:2] in SHARED_BY_BACKENDS
                assert target[0] != "backends" or own or shared, f"{parts} imports {target}"


def test_kernels_are_free_of_torch():
    for path in (REPOSITORY / "triton_kernels").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = {name[0] for name in imports(tree, path.parts) if name[0] != TRITON}
        assert names <= {"reductions", "relations", "scores"}, path
        assert "torch" not in {
            alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names
        }
    sources = [path for path in (REPOSITORY / "csrc").rglob("*") if path.suffix in (".h", ".cpp", ".cu", ".cuh")]
    assert sources
    for path in sources:
        text = path.read_text(encoding="utf-8")
        assert "torch/" not in text and "ATen" not in text and "c10" not in text, path


def test_only_the_distributed_layer_knows_of_ranks():
    for path in PACKAGE.rglob("*.py"):
        if path.relative_to(PACKAGE).parts[0] != "distributed":
            assert "torch.distributed" not in path.read_text(encoding="utf-8"), path


def test_tests_and_benchmarks_do_not_know_one_another():
    """What both need is in contrastive_ops.testing; the tests of the benchmarks lie beside those.

    Scripts inside strings count, too.
    """
    tests, bench = (sorted((REPOSITORY / folder).rglob("*.py")) for folder in ("tests", "bench"))
    of_tests = {path.relative_to(REPOSITORY / "tests").parts[0].removesuffix(".py") for path in tests}
    for paths, foreign in ((tests, {"bench"}), (bench, of_tests - {"conftest"})):
        assert len(paths) > 50
        for path in paths:
            found = re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert foreign.isdisjoint(found), path
