"""`pytest bench`: options, and shapes as parameters."""

from __future__ import annotations

import pytest

from bench.shapes import FULL, Shape

NAMED = {"small_batch": "256x512", "usual_batch": "1024x512", "wide_embeddings": "1024x1024", "large_batch": "4096x512"}


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("contrastive_ops benchmarks")
    group.addoption("--shapes", default=None, help="comma-separated shapes such as 256x512,8192x128")
    group.addoption("--all-shapes", action="store_true", help="N 256..16384 times D 128..1024")
    group.addoption("--loss-backend", default=None, help="backend of ours; the first that can by default")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "shape" not in metafunc.fixturenames:
        return
    given = metafunc.config.getoption("--shapes")
    if metafunc.config.getoption("--all-shapes"):
        shapes = {str(shape): shape for shape in FULL}
    elif given:
        shapes = {text: Shape.parse(text) for text in given.split(",")}
    else:
        shapes = {f"{name}_{text}": Shape.parse(text) for name, text in NAMED.items()}
    metafunc.parametrize("shape", shapes.values(), ids=shapes.keys(), scope="module")


@pytest.fixture(scope="session")
def loss_backend(request: pytest.FixtureRequest) -> str | None:
    backend: str | None = request.config.getoption("--loss-backend")
    return backend
