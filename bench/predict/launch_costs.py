"""What one launch of a Triton kernel asks of a GPU: counts, from its arguments and tile, not times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.predict.gpus import Gpu
from contrastive_ops.backends.gpu.waves import finish_time
from contrastive_ops.backends.triton.launch import Launch
from contrastive_ops.reductions import ReductionKind
from contrastive_ops.relations import ClauseKind
from contrastive_ops.triton_kernels import gradient_bwd, macro_bwd, reduce_fwd

# --- instructions per score, counted in what Triton 3.8 compiles for sm_90, on the path of a tile without masks ---

EXP_SLOTS = 3  # s - shift, times log2 e, and the one of the special-function unit
SCALE_SLOTS = 1  # dot product to score
ROW_SLOTS = 2  # maximum and sum along a row, among the columns that one thread holds
ROW_LINE_SLOTS = 40  # for each row of a thread: with the few threads that hold the rest of it, and the tile before
# maximum and sum down a column cross the lanes of a warp (shuffles), then the warps (shared memory), and are merged
# with what is in memory: this much per column that a thread holds, however few rows of it
COLUMN_SLOTS = 50
GRADIENT_SLOTS = 1  # g * exp, added up
DSCALE_SLOTS = 1
ROUND_SLOTS = 0.5  # two numbers an instruction
STORE_SLOTS = 9  # dS to memory: addresses, bounds and the way through shared memory
MASK_SLOTS = 7  # ids compared and the choice, where no diagonal tells that a tile needs none
# --- and for the tiles of embeddings ---
CHUNK_BYTES = 16  # of an asynchronous copy
CHUNK_SLOTS = 13  # address, bounds, copy, and the share of a chunk in what a step of the loop costs
TILE_SLOTS = 200  # of every thread for each tile of scores: barriers, waits, lines
# sm_80 and gfx942 issue a matrix instruction a warp per 16 x 8 x 16 or so, and loads of its operands from shared
# memory; later GPUs take operands from there by themselves
SMALL_MMA_ARCHS = ("sm_80", "gfx942")
MMA_SLOTS = 2.3 / 128  # of a thread, per FLOP


class Cost(NamedTuple):
    """Of one launch; `slots` are instructions times threads."""

    flops: float  # of the products, padding included
    l2_bytes: float
    hbm_bytes: float
    exps: float
    slots: float
    balance: float  # mean work of an SM over the work of the busiest


def launch_cost(launch: Launch, gpu: Gpu) -> Cost:
    cost = _MODELS[launch.kernel](launch, gpu)
    issues_products = gpu.arch in SMALL_MMA_ARCHS
    return cost._replace(slots=cost.slots + cost.flops * MMA_SLOTS * issues_products)


# --- kernels ---


def _itemsize(arguments: dict[str, Any], side: str = "row") -> int:
    """Bytes of one number of the embeddings, which come as a tensor or as a descriptor of one."""
    data = arguments[f"{side}_data"]
    return int(getattr(data, "base", data).itemsize)


def _reduce(launch: Launch, gpu: Gpu) -> Cost:
    a = launch.arguments
    m, n, d, bm, bn = a["num_rows"], a["num_cols"], a["D"], a["BLOCK_M"], a["BLOCK_N"]
    batch, size = launch.grid[1], _itemsize(a)
    row_tiles, col_tiles, col_stripes = _ceil(m, bm), _ceil(n, bn), a["num_col_stripes"]
    row_stripes = launch.grid[0] // col_stripes
    tiles_a_stripe = a["row_stripe"] // bm
    if a["SELF"]:
        tiles = row_tiles * (row_tiles + 1) // 2
        programs = row_stripes * (row_stripes + 1) // 2
        sweeps = sum(col_stripes - tile // tiles_a_stripe for tile in range(row_tiles))
    else:
        tiles, programs = row_tiles * col_tiles, launch.grid[0]
        sweeps = row_tiles * col_stripes  # of a tile of rows along a stripe of columns
    line = d * size
    loaded = sweeps * bm * line + tiles * bn * line if a["RESIDENT"] else tiles * (bm + bn) * line
    held = rows_of_a_thread(gpu.arch, bm, bn, launch.warps)
    columns = 0.0
    partial_bytes = 0
    of_rows, of_cols = _exponentials(a)
    exps = of_rows + of_cols
    if of_cols:
        partial_bytes = tiles * bn * 2 * 4 * 2 * of_cols  # top and total, read and written
        columns = of_cols * (EXP_SLOTS + COLUMN_SLOTS / held)
    per_score = SCALE_SLOTS + of_rows * (EXP_SLOTS + ROW_SLOTS) + columns + MASK_SLOTS * _masked_relations(a)
    scores = tiles * bm * bn
    slots = scores * per_score + tiles * _threads(launch, gpu) * held * ROW_LINE_SLOTS
    slots += _loading_slots(loaded, tiles, launch, gpu)

    # programs that run together: neighbours in their order, so a few stripes of rows and as many of columns as it takes
    together = min(launch.grid[0], gpu.sms)
    side_by_side = min(reduce_fwd.STRIPES_SIDE_BY_SIDE.value, row_stripes)
    wave_cols = min(_ceil(together, side_by_side), col_stripes) * a["col_stripe"] * line
    wave_rows = side_by_side * a["row_stripe"] * line
    waves = programs / together
    fits = wave_cols + wave_rows <= gpu.l2_bytes
    hbm = waves * (wave_rows + wave_cols * (1 if fits else tiles_a_stripe))
    if (m + n) * line <= gpu.l2_bytes:
        hbm = (m + n) * line
    kept_bytes = 0 if a["kept"] is None else m * n * 4  # written once
    hbm += kept_bytes
    flops = 2 * scores * _padded(d, a["BLOCK_D"])
    cost = Cost(flops, loaded + partial_bytes + kept_bytes, hbm, scores * exps, slots, _balance(programs * batch, gpu))
    return _times(cost, batch)


def _gradient(launch: Launch, gpu: Gpu) -> Cost:
    a = launch.arguments
    m, n, d, bm, bn = a["num_rows"], a["num_cols"], a["D"], a["BLOCK_M"], a["BLOCK_N"]
    (programs, batch), size = launch.grid, _itemsize(a)
    tiles, line = programs * _ceil(n, bn), d * size
    products = 1 + (a["d_rows"] is not None)
    loaded = programs * bm * line + tiles * bn * line if a["RESIDENT"] else tiles * (bm + bn) * line
    directions = sum(_exponentials(a))
    per_score = SCALE_SLOTS + directions * (EXP_SLOTS + GRADIENT_SLOTS) + MASK_SLOTS * _masked_relations(a)
    per_score += DSCALE_SLOTS * (a["d_scale"] is not None) + ROUND_SLOTS
    scores = tiles * bm * bn
    slots = scores * per_score + _loading_slots(loaded, tiles, launch, gpu)
    # all programs of a wave sweep the columns in step
    waves = 1 if (m + n) * line <= gpu.l2_bytes else programs / min(programs, gpu.sms)
    hbm = waves * n * line + m * line * products
    flops = 2 * scores * _padded(d, a["BLOCK_D"]) * products
    return _times(Cost(flops, loaded, hbm, scores * directions, slots, _balance(programs * batch, gpu)), batch)


def _macro_gradient(launch: Launch, gpu: Gpu) -> Cost:
    a = launch.arguments
    rows, cols, d, bm, bn = a["block_rows"], a["block_cols"], a["D"], a["BLOCK_M"], a["BLOCK_N"]
    tiles, line, is_kept = launch.grid[0] * launch.grid[1], d * _itemsize(a), a["kept"] is not None
    loaded = rows * cols * 4 if is_kept else tiles * (bm + bn) * line
    directions = sum(_exponentials(a))
    per_score = SCALE_SLOTS + directions * (EXP_SLOTS + GRADIENT_SLOTS) + MASK_SLOTS * _masked_relations(a)
    per_score += DSCALE_SLOTS * (a["d_scale"] is not None) + ROUND_SLOTS + STORE_SLOTS
    scores = tiles * bm * bn
    slots = scores * per_score + _loading_slots(loaded, tiles, launch, gpu)
    written = rows * cols * _itemsize(a)  # to L2, where the products find it
    flops = 0 if is_kept else 2 * scores * _padded(d, a["BLOCK_D"])
    hbm = loaded if is_kept else (rows + cols) * line
    return Cost(flops, loaded + written, hbm, scores * directions, slots, _balance(tiles, gpu))


def _macro_product(launch: Launch, gpu: Gpu) -> Cost:
    a = launch.arguments
    rows, cols, d, banks = a["block_rows"], a["block_cols"], a["D"], a["BANKS"]
    bm, bn, bk, size = a["BLOCK_M"], a["BLOCK_N"], a["BLOCK_K"], _itemsize(a)
    # programs of the rows' gradients and of the columns', and the depth of each
    programs, slices = launch.grid[:2]
    of_rows, of_cols = a["row_tiles"] * slices, (programs - a["row_tiles"]) * slices
    parts = [(of_rows, _padded(cols, bk) * banks), (of_cols, _padded(rows, bk))]
    steps = sum(tiles * depth for tiles, depth in parts)
    loaded = steps * (bm + bn) * size
    lines = rows * (of_rows > 0) + cols * banks * (of_cols > 0)
    sums = 2 * lines * d * (a["d_cols"] if a["d_rows"] is None else a["d_rows"]).itemsize  # read and written
    others = (cols * banks * (of_rows > 0) + rows * (of_cols > 0)) * d * size
    slots = _loading_slots(loaded, of_rows + of_cols, launch, gpu)
    balance = steps / (finish_time(gpu.sms, parts) * gpu.sms)
    return Cost(2 * steps * bm * bn, loaded + sums, sums + others, 0.0, slots, balance)


def _merge(launch: Launch, gpu: Gpu) -> Cost:
    a = launch.arguments
    read = a["num_slots"] * a["size"] * sum(x.itemsize for part in a["partials"] for x in part.states)
    exps = 2 * a["num_slots"] * a["size"] * sum(_has_exponentials(part) for part in a["partials"])
    return Cost(0.0, read, read, exps, exps * EXP_SLOTS, _balance(launch.grid[0], gpu))


def _macro_sums(launch: Launch, gpu: Gpu) -> Cost:
    a = launch.arguments
    parts = a["parts"]
    sizes = [x.numel() * x.itemsize for x in parts if x is not None]
    return Cost(0.0, sum(sizes), 0.0, 0.0, sum(sizes) / CHUNK_BYTES * CHUNK_SLOTS, _balance(launch.grid[0], gpu))


_MODELS: dict[Any, Callable[[Launch, Gpu], Cost]] = {
    reduce_fwd.reduce_fwd_kernel: _reduce,
    reduce_fwd.merge_states_kernel: _merge,
    gradient_bwd.gradient_bwd_kernel: _gradient,
    macro_bwd.macro_gradient_kernel: _macro_gradient,
    macro_bwd.macro_product_kernel: _macro_product,
    macro_bwd.macro_sums_kernel: _macro_sums,
}


# --- shared ---


def rows_of_a_thread(arch: str, block_m: int, block_n: int, warps: int) -> int:
    """Rows of a tile of scores that one thread holds: what the reduction of a column is shared by."""
    if arch == "sm_100":  # a lane of tensor memory is a row
        return max(1, block_m // 128)
    along_rows = 1
    if arch == "sm_90":  # four warps make an instruction of 64 rows, and further ones follow below
        along_rows = min(warps, max(4, block_m // 16))
    else:  # split where the tile is longer, in units of 16 x 16; the same is assumed of AMD
        along_columns = 1
        while along_rows * along_columns < warps:
            if block_m // along_rows >= block_n // along_columns and along_rows < block_m // 16:
                along_rows *= 2
            else:
                along_columns *= 2
    return max(1, block_m // (8 * along_rows))


def _has_exponentials(reduction: Any) -> bool:
    return int(reduction.kind.value) == int(ReductionKind.LOG_SUM_EXP)


def _exponentials(arguments: dict[str, Any]) -> tuple[int, int]:
    """Of a score: those of rows, and those of columns."""
    found = [reduction for reduction in arguments["reductions"] if _has_exponentials(reduction)]
    return sum(bool(reduction.rows) for reduction in found), sum(bool(reduction.cols) for reduction in found)


def _masked_relations(arguments: dict[str, Any]) -> int:
    """Relations that every tile has to test: ids. Diagonals cross a few tiles, which are not counted."""
    with_ids = (int(ClauseKind.SAME), int(ClauseKind.DIFFERENT))
    return sum(
        any(int(clause.kind.value) in with_ids for clause in reduction.relation)
        for reduction in arguments["reductions"]
    )


def _loading_slots(loaded_bytes: float, tiles: int, launch: Launch, gpu: Gpu) -> float:
    return loaded_bytes / CHUNK_BYTES * CHUNK_SLOTS + tiles * TILE_SLOTS * _threads(launch, gpu)


def _threads(launch: Launch, gpu: Gpu) -> int:
    return launch.warps * (64 if gpu.arch.startswith("gfx") else 32)


def _balance(programs: int, gpu: Gpu) -> float:
    return programs / (_ceil(programs, gpu.sms) * gpu.sms)


def _times(cost: Cost, batch: int) -> Cost:
    return Cost(*(value * batch for value in cost[:-1]), cost.balance)


def _padded(d: int, block: int) -> int:
    return _ceil(d, block) * block


def _ceil(a: int, b: int) -> int:
    return -(-a // b)
