"""The one matrix of problems: relation x shape x layout x options.

Relations and shapes form a full grid. The other axes (layout, batch, direction, biases, kind of scale) are cycled over
it with coprime periods instead of multiplied: the product would be 50,000 cases per backend and dtype, and each of
them only changes how a tile is loaded or finished, independently of the relation that it holds. The shapes that cross
several native tiles take half a second per hundred cases in float64, so they meet contiguous and transposed inputs of
every relation and no batch.
"""

from __future__ import annotations

from typing import Any

from contrastive_ops.testing.cases import Case
from contrastive_ops.testing.layouts import LAYOUTS
from contrastive_ops.testing.pair_sets import RELATIONS, SELF_RELATIONS
from contrastive_ops.testing.shapes import SHAPES

LARGE = 100_000  # pairs
DIRECTIONS = ((True, True), (True, False), (False, True))
BIASES = ((False, False), (True, True), (True, False), (False, True))
BATCHES = (0, 3, 1, 0, 2)


def is_large(case: Case) -> bool:
    return case.sizes[0] * case.sizes[1] > LARGE


def _options(k: int, large: bool) -> dict[str, Any]:
    rows, columns = DIRECTIONS[k % 3]
    row_bias, col_bias = BIASES[k % 4]
    layouts = ["contiguous", "transposed"] if large else list(LAYOUTS)
    return {
        "rows": rows,
        "columns": columns,
        "row_bias": row_bias,
        "col_bias": col_bias,
        "batch": 0 if large else BATCHES[k % 5],
        "layout": layouts[k % 17 % len(layouts)],
        "tensor_scale": k % 11 % 3 != 0,
        "scale": (14.25, 1.0, -3.5)[k % 13 % 3],
    }


def _cases() -> list[Case]:
    cases: list[Case] = []
    for relation in RELATIONS:
        for sizes in SHAPES.values():
            cases.append(Case(relation, sizes, **_options(len(cases), sizes[0] * sizes[1] > LARGE)))
    for relation in SELF_RELATIONS:
        for n, d in ((1, 1), (0, 4), (7, 3), (33, 64), (130, 100), (300, 17), (500, 72)):
            for _ in range(3):
                cases.append(Case(relation, (n, n, d), **_options(len(cases), n * n > LARGE)))
    return cases


CASES = _cases()
