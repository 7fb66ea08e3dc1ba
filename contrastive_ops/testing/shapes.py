"""Shapes that cross what a tile, a stripe or a block ends at."""

# M, N, D: one, none, no multiple of any tile or vector, and two that cross several native tiles (up to 192 x 384)
SHAPES = {
    "one": (1, 1, 1),
    "one_row": (1, 7, 3),
    "one_column": (7, 1, 16),
    "tiny": (5, 3, 17),
    "no_rows": (0, 9, 16),
    "no_columns": (9, 0, 16),
    "no_pairs": (0, 0, 4),
    "small": (17, 33, 64),
    "odd": (127, 257, 100),
    "even": (130, 300, 3),
    "tall": (500, 30, 17),
    "crosses_rows": (500, 700, 72),
    "crosses_columns": (400, 900, 16),
}
