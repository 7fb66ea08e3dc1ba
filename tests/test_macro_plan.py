"""Macro-blocks fill the multiprocessors: the planner by hand, at its edges, and on the GPUs that it is made for."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contrastive_ops.backends.gpu.gpu_size import MIB, GpuSize
from contrastive_ops.backends.gpu.kernels import MacroTiles
from contrastive_ops.backends.gpu.macro_plan import MacroBlocks, block_size, fullness, pass_time
from contrastive_ops.backends.gpu.waves import finish_time

SQUARE_TILES = MacroTiles((128, 128), (128, 128, 64))  # of the cuda backend in half precision
GPUS = {
    "A100": GpuSize(108, 20 * MIB),
    "H100": GpuSize(132, 25 * MIB),
    "H200": GpuSize(132, 30 * MIB),
    "B200": GpuSize(148, 63 * MIB),
}
# where the blocks that are fullest cut the matrix badly: the last ones would be emptier than these
LESS_FULL = {("A100", 512, 16384): 0.94, ("A100", 512, 32768): 0.93}


def blocks_of(gpu, d, tiles=SQUARE_TILES, **changes):
    return MacroBlocks(d, 1, 2, False, True, True, tiles, gpu)._replace(**changes)


@pytest.mark.parametrize(
    "programs, end",
    [
        ([(4, 10)], 10),
        ([(5, 10)], 20),
        ([(4 * 1000 + 1, 10)], 10010),  # rounds are not walked one by one
        ([(2, 10), (4, 3)], 10),  # two take the long ones, two the short ones, twice
        ([(4, 3), (2, 10)], 13),
        ([(1, 10), (7, 3)], 10),  # the three others take 3 + 3 + 1
        ([(5, 4), (9, 6)], 22),  # from 8, 4, 4 and 4 on
        ([], 0),
    ],
)
def test_programs_go_to_the_next_that_is_free(programs, end):
    assert finish_time(4, programs) == end


@given(st.integers(1, 9), st.lists(st.tuples(st.integers(0, 60), st.integers(1, 9)), max_size=3))
def test_programs_one_by_one(multiprocessors, programs):
    free = [0] * multiprocessors
    for count, length in programs:
        for _ in range(count):
            free.sort()
            free[0] += length
    assert finish_time(multiprocessors, programs) == max(free)


def test_fullness_by_hand():
    """8 x 8 tiles on 60 multiprocessors: two waves. 8 x 4 and 8 x 4 tiles of the products, of one length: two again."""
    blocks = blocks_of(GpuSize(60, MIB), 512)
    scores, product = 128 * 128 * 512, 128 * 128 * 1024
    assert fullness(blocks, 1024, 1024) == (64 * scores + 64 * product) / (60 * (2 * scores + 2 * product))


@pytest.mark.parametrize("n", [16384, 32768, 65536])
@pytest.mark.parametrize("d", [512, 768, 1024])
@pytest.mark.parametrize("gpu", GPUS)
def test_blocks_fill_the_gpu(gpu, d, n):
    blocks = blocks_of(GPUS[gpu], d)
    height, width = block_size(blocks, n, n)
    assert height * width * 2 <= GPUS[gpu].macro_bytes
    assert fullness(blocks, height, width) >= LESS_FULL.get((gpu, d, n), 0.95)


@pytest.mark.parametrize("gpu", ["H100", "H200"])
@pytest.mark.parametrize("d", [768, 1024])
def test_tiles_of_unequal_sides_want_other_blocks(gpu, d):
    """Those of the triton backend on sm_90, which takes two levels from D = 513 on."""
    blocks = blocks_of(GPUS[gpu], d, MacroTiles((128, 128), (128, 256, 64)))
    assert fullness(blocks, *block_size(blocks, 65536, 65536)) >= 0.95


def test_a_batch_that_varies_costs_the_host_little():
    """Sizes within a tile have one plan, and another one takes milliseconds: half of one on a quiet machine."""
    blocks = blocks_of(GPUS["H100"], 768)
    block_size(blocks, 40000, 40000)
    start = time.process_time()
    plans = [block_size(blocks, n, n) for n in range(20000, 30000, 100)]
    assert time.process_time() - start < 100 * 5e-3
    assert len(set(plans)) > 1
    assert block_size(blocks, 20001, 20001) == block_size(blocks, 20090, 20090)


@given(
    rows=st.integers(1, 20000),
    cols=st.integers(1, 20000),
    banks=st.integers(1, 7),
    is_self=st.booleans(),
    of_queries=st.booleans(),
    macro_bytes=st.integers(1, 64 * MIB),
)
@settings(max_examples=60, deadline=None)
def test_any_matrix(rows, cols, banks, is_self, of_queries, macro_bytes):
    """Whole tiles, within the memory but for a block of one tile; squares in self-similarity."""
    cols = rows if is_self else cols
    blocks = blocks_of(
        GpuSize(132, macro_bytes), 64, banks=banks, self_similarity=is_self, of_queries=of_queries or is_self
    )
    height, width = block_size(blocks, rows, cols)
    assert height % 128 == width % 128 == 0
    assert height < rows + 128 and width < cols + 128
    assert banks * height * width * 2 <= macro_bytes or (height, width) == (128, 128)
    assert height == width or not is_self
    assert pass_time(blocks, rows, cols, height, width) > 0


def test_all_blocks_of_a_pass_are_counted():
    """3 x 2 blocks, the last ones cut off; in self-similarity three on the diagonal and three above it."""
    blocks = blocks_of(GpuSize(1, MIB), 64)
    work = sum(
        2 * 2**22 + down * across * 128 * 128 * 64 + down * 128 * 128 * cols + across * 128 * 128 * rows
        for rows, down in ((128, 1), (128, 1), (44, 1))
        for cols, across in ((256, 2), (44, 1))
    )
    assert pass_time(blocks, 300, 300, 128, 256) == work
    squares = blocks._replace(self_similarity=True)
    assert pass_time(squares, 300, 300, 128, 128) == 12 * 2**22 + 6 * 128 * 128 * 64 + sum(
        128 * 128 * (rows + cols * rows_differ)
        for rows, cols, rows_differ in (
            (128, 128, 0), (128, 128, 0), (44, 44, 0), (128, 128, 1), (128, 44, 1), (128, 44, 1)
        )
    )  # fmt: skip
