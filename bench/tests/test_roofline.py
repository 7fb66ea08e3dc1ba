"""The predicted times are made of counts that a hand can check; the GPU tools say plainly what they miss here."""

import pytest
import torch

pytest.importorskip("triton")

from bench import gpu_check, tune
from bench.predict.candidates import candidate_tiles, replaced_tile
from bench.predict.gpus import BY_ARCH, GPUS, gpu_of_device
from bench.predict.launch_costs import launch_cost, rows_of_a_thread
from bench.predict.launches import step_launches
from bench.predict.prediction import bounding_parts, predict, resource_seconds
from contrastive_ops.backends.gpu.gpu_size import GpuSize
from contrastive_ops.backends.gpu.kernels import MacroTiles
from contrastive_ops.backends.gpu.macro_plan import MacroBlocks, block_size
from contrastive_ops.backends.triton.tiles import Tile, find_tile

H100 = BY_ARCH["sm_90"]
ONE_LEVEL_D, TWO_LEVEL_D = 64, 4096  # below and above the D at which every table changes to macro-blocks
KERNEL_TILES = {"reduce": Tile(64, 32, 0, 4, 1), "gradient": Tile(64, 32, 0, 4, 1)}


def flops(objective, n, d, workspace_bytes=0):
    launches = step_launches(objective, H100, n, d, "bfloat16", workspace_bytes)
    return sum(launch_cost(launch, H100).flops for launch in launches)


def costs_with(kernel, tile, n, d, gpu=H100, objective="clip"):
    """Costs of the launches of one kernel with a tile of the test's own."""
    with replaced_tile(kernel, gpu.arch, "half", tile):
        launches = step_launches(objective, gpu, n, d, "bfloat16", workspace_bytes=0)
    return [launch_cost(launch, gpu) for launch in launches if launch.kernel.__name__.startswith(kernel)]


# flops: what the algorithm does, no more, where tiles divide the matrix


def test_clip_makes_five_products_with_one_level_and_four_with_two():
    n = 4096
    product = 2 * n * n
    assert flops("clip", n, ONE_LEVEL_D) == 5 * product * ONE_LEVEL_D
    assert flops("clip", n, TWO_LEVEL_D) == 4 * product * TWO_LEVEL_D


def test_kept_products_leave_three():
    n, d = 4096, TWO_LEVEL_D
    assert flops("clip", n, d, workspace_bytes=n * n * 4) == 3 * 2 * n * n * d


def test_info_nce_in_one_direction_makes_as_many():
    n = 1024
    assert flops("info_nce", n, ONE_LEVEL_D) == 5 * 2 * n * n * ONE_LEVEL_D


def test_nt_xent_visits_half_of_the_scores():
    n = 4096
    views = 2 * n

    def scores(d):  # the upper triangle of square tiles, diagonal included
        tile = find_tile("reduce", "sm_90", "half", d)
        side = min(tile.block_m, tile.block_n)
        count = views // side
        return count * (count + 1) // 2 * side * side * 2 * d

    whole = 2 * views * views
    assert flops("nt_xent", n, ONE_LEVEL_D) == scores(ONE_LEVEL_D) + 2 * whole * ONE_LEVEL_D
    tile, product = (find_tile(kernel, "sm_90", "half", TWO_LEVEL_D) for kernel in ("macro_gradient", "macro_product"))
    size = GpuSize(H100.sms, H100.l2_bytes // 2)
    tiles = MacroTiles(tile[:2], product[:3])
    side, _ = block_size(MacroBlocks(TWO_LEVEL_D, 1, 2, True, True, False, tiles, size), views, views)
    blocks = views // side
    assert blocks * side == views and blocks > 1
    ds = blocks * (blocks + 1) // 2 * side * side * 2 * TWO_LEVEL_D
    assert flops("nt_xent", n, TWO_LEVEL_D) == scores(TWO_LEVEL_D) + ds + whole * TWO_LEVEL_D


def test_padding_of_d_is_counted():
    (padded, *_), (full, *_) = (costs_with("gradient", KERNEL_TILES["gradient"], 128, d) for d in (33, 64))
    assert padded.flops == full.flops
    assert padded.l2_bytes < full.l2_bytes  # but what is beyond D is not loaded


# bytes and exponentials, by hand


def test_bytes_of_the_gradient_kernel():
    first, second = costs_with("gradient", KERNEL_TILES["gradient"], 128, 64)
    # 2 programs; each loads its 64 rows once and 4 tiles of 32 columns; a row of 64 bfloat16 is 128 bytes
    assert first.l2_bytes == second.l2_bytes == 2 * (64 * 128 + 4 * 32 * 128)
    assert first.exps == 2 * 128 * 128
    assert first.balance == 2 / 132
    assert first.hbm_bytes == 128 * 128 + 2 * 128 * 128  # columns, rows, and the gradient of the rows


def test_bytes_of_the_score_pass_with_resident_rows():
    (cost,) = costs_with("reduce", KERNEL_TILES["reduce"], 128, 64)
    # 2 x 4 tiles, each a stripe of its own: rows are loaded for all of them, as are columns
    assert cost.l2_bytes == 8 * 64 * 128 + 8 * 32 * 128 + 8 * 32 * 2 * 4 * 2  # and the partials of 32 columns, twice
    assert cost.exps == 2 * 128 * 128


def test_bytes_of_a_loop_over_d():
    (cost,) = costs_with("reduce", Tile(64, 32, 32, 4, 1), 128, 256)
    assert cost.l2_bytes == 8 * (64 + 32) * 512 + 8 * 32 * 2 * 4 * 2  # both sides for every tile


def test_bytes_of_the_macro_kernels():
    n, d = 256, TWO_LEVEL_D
    (cost,) = costs_with("macro_gradient", Tile(128, 128, 64, 8, 3), n, d)
    assert cost.l2_bytes == 4 * (128 + 128) * d * 2 + n * n * 2  # dS is written
    (cost,) = costs_with("macro_product", Tile(128, 256, 64, 8, 3), n, d)
    # for either gradient 2 x 16 tiles of sums, read and written in float32
    assert cost.l2_bytes == 2 * (32 * n * (128 + 256) * 2 + 2 * n * d * 4)
    assert cost.balance == 64 / 132


@pytest.mark.parametrize(
    "arch, tile, warps, rows",
    [
        ("sm_90", (128, 128), 8, 2),
        ("sm_90", (256, 64), 4, 8),
        ("sm_80", (128, 128), 8, 4),
        ("sm_100", (128, 128), 8, 1),
    ],
)
def test_rows_that_share_the_reduction_of_a_column(arch, tile, warps, rows):
    assert rows_of_a_thread(arch, *tile, warps) == rows


# times


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("d", [ONE_LEVEL_D, TWO_LEVEL_D])
def test_more_pairs_take_longer_and_nothing_beats_the_peak(gpu, d):
    found = [predict("clip", gpu, n, d, "bfloat16") for n in (1024, 2048, 4096, 8192)]
    times = [x.seconds for x in found]
    assert times == sorted(times) and times[-1] > 2 * times[0]
    for x in found:
        assert 0 < x.share <= 1
        assert x.seconds <= x.seconds_without_overlap


@pytest.mark.parametrize(
    "rate, resource",
    [("half", "tensor"), ("l2", "L2"), ("hbm", "HBM"), ("mufu_lanes", "exp"), ("issue_lanes", "issue")],
)
def test_the_scarcest_resource_is_the_bound(rate, resource):
    slow = H100._replace(**{rate: getattr(H100, rate) / 1e4})
    (gradient,) = (x for x in predict("clip", slow, 1024, 64, "bfloat16").passes if x.kernel == "gradient")
    # and of the few programs, which leave multiprocessors idle
    assert {name for name, seconds in gradient.parts.items() if seconds} <= {resource, "waves"}
    assert gradient.seconds == pytest.approx(gradient.resources[resource])


def test_parts_of_a_launch_add_up():
    times = {"tensor": 4.0, "L2": 3.0, "HBM": 1.0, "exp": 0.5, "issue": 2.0}
    waves = bounding_parts(times, balance=0.75)  # a quarter of the multiprocessors idle
    assert waves == {"tensor": 3.0, "waves": 1.0, "L2": 0.0, "HBM": 0.0, "exp": 0.0, "issue": 0.0}
    assert bounding_parts(times | {"L2": 5.0}, balance=0.75)["L2"] == 5.0


def test_the_sum_of_parts_is_the_step_and_few_pairs_wait_for_the_host():
    large, small = (predict("clip", H100, n, 1024, "bfloat16") for n in (16384, 128))
    assert sum(large.parts.values()) == pytest.approx(large.seconds)
    assert large.bound == "L2" and small.bound == "host"


def test_times_of_resources_by_hand():
    gpu = H100._replace(half=1e12, l2=1e9, hbm=1e8, sms=2, clock=1e6)
    cost, _ = costs_with("gradient", KERNEL_TILES["gradient"], 128, 64, gpu)
    times = resource_seconds(cost, gpu, "bfloat16")
    assert cost.balance == 1.0
    assert times["tensor"] == pytest.approx(2 * 2 * 128 * 128 * 64 / 1e12)
    assert times["L2"] == pytest.approx(49152 / 1e9)
    assert times["HBM"] == pytest.approx(49152 / 1e8)
    assert times["exp"] == pytest.approx(2 * 128 * 128 / (16 * 2 * 1e6))


def test_candidates_fit_and_the_table_is_put_back():
    before = find_tile("gradient", "sm_90", "half", 128)
    tiles = list(candidate_tiles("gradient", "sm_90", "half", 128))
    assert len(tiles) > 5
    for tile in tiles:
        with replaced_tile("gradient", "sm_90", "half", tile):
            assert find_tile("gradient", "sm_90", "half", 128) == tile._replace(block_d=128)
    assert find_tile("gradient", "sm_90", "half", 128) == before


def test_devices_are_matched_only_where_the_rates_are_theirs():
    assert H100.name == "H100 SXM" and gpu_of_device("NVIDIA H100 80GB HBM3") is H100
    assert gpu_of_device("NVIDIA A100-SXM4-80GB") is BY_ARCH["sm_80"]
    h200 = gpu_of_device("NVIDIA H200")
    assert h200 == H100._replace(name="H200 SXM", hbm=4.8e12, l2_bytes=60 << 20)  # the same chip with other memory
    for other in (
        "NVIDIA H100 PCIe",
        "NVIDIA H200 NVL",
        "NVIDIA GH200 480GB",
        "NVIDIA GeForce RTX 4090",
        "NVIDIA GB200",
    ):
        assert gpu_of_device(other) is None


# without a GPU


@pytest.mark.parametrize("tool", [gpu_check, tune], ids=["gpu_check", "tune"])
def test_the_gpu_tools_say_what_they_miss(tool, monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.chdir(tmp_path)
    assert tool.main([]) == 2
    said = capsys.readouterr().out
    assert "no GPU" in said
    assert "make test" in said or "bench.roofline" in said
    assert list(tmp_path.iterdir()) == []  # no report of nothing
