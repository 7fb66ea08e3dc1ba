"""Bad input of the losses ends in a ValueError or TypeError that says what was got and expected, before any work."""

import pytest
import torch

import contrastive_ops as ops
from contrastive_ops.backends import BACKENDS

N, D = 5, 4
X, Y, LONG = torch.randn(N, D), torch.randn(N, D), torch.randn(7, D)
IDS, MASK, VIEWS = torch.arange(N), torch.ones(N, dtype=torch.bool), torch.randn(3, N, D)

BAD = {
    "clip_directions": (lambda: ops.clip_loss(X, Y, 1.0, directions="both"), ("mean, sum", "got 'both'")),
    "clip_negatives": (lambda: ops.clip_loss(X, Y, 1.0, negatives=MASK), ("negatives must be a Relation", "Tensor")),
    "clip_negatives_ids": (lambda: ops.clip_loss(X, Y, 1.0, negatives=ops.same(IDS[:3])), ("shape [5]", "got (3,)")),
    "clip_negatives_smoothed": (
        lambda: ops.clip_loss(X, Y, 1.0, negatives=ops.different(IDS), label_smoothing=0.1),
        ("all N candidates", "beside negatives"),
    ),
    "sup_con_mean": (lambda: ops.sup_con(X, IDS, mean="both"), ("outside, inside", "got 'both'")),
    "module_setting": (lambda: ops.DCLLoss(tau=0.1), ("DCLLoss", "tau", "temperature, sigma")),
    "dcl_shapes": (lambda: ops.dcl(X, LONG), ("one shape [N, D]", "(5, 4) and (7, 4)")),
    "dcl_combine": (lambda: ops.dcl(X, Y, combine="mean"), ("union, sum", "got 'mean'")),
    "dcl_sigma": (lambda: ops.dcl(X, Y, sigma=0.0), ("sigma must be in (0, inf)", "got 0.0")),
    "dcl_sigma_text": (lambda: ops.dcl(X, Y, sigma="1"), ("sigma must be a float", "got str")),
    "mv_dhel_2d": (lambda: ops.mv_dhel(X), ("[V, N, D]", "got shape (5, 4)")),
    "mv_dhel_one_view": (lambda: ops.mv_dhel(VIEWS[:1]), ("V >= 2", "got shape (1, 5, 4)")),
    "mv_info_nce_list": (lambda: ops.mv_info_nce([X, Y]), ("views must be a torch.Tensor", "got list")),
    "poly_view_reduction": (lambda: ops.poly_view(VIEWS, reduction="avg"), ("mean, sum, none", "got 'avg'")),
    "nspt_labels": (lambda: ops.nspt(X, Y, IDS[:3]), ("labels must have shape [5]", "got (3,)")),
    "nspt_anchor_mask": (lambda: ops.nspt(X, Y, IDS, anchors=MASK), ("anchors must be integers", "mask", "nonzero")),
    "multi_positive_ids": (
        lambda: ops.multi_positive_clip_loss(X, LONG, 1.0, IDS, IDS),
        ("text_ids must have shape [7]", "got (5,)"),
    ),
    "multi_positive_1d": (
        lambda: ops.multi_positive_clip_loss(X[0], Y, 1.0, IDS, IDS),
        ("[rows, D]", "got shape (4,)"),
    ),
    "uniformity_t": (lambda: ops.uniformity(X, t=0.0), ("t must be in (0, inf)", "got 0.0")),
    "cross_uniformity_t": (lambda: ops.cross_uniformity(X, Y, t=float("nan")), ("t must be in (0, inf)", "got nan")),
    "alignment_dtypes": (lambda: ops.alignment(X, Y.double()), ("share one dtype", "torch.float64")),
    "gap_t": (lambda: ops.contrastive_gap_loss(X, Y, 1.0, t=-1.0), ("t must be in (0, inf)", "got -1.0")),
    "debiased_tau_plus": (lambda: ops.debiased_nt_xent(X, Y, tau_plus=1.0), ("tau_plus must be in [0, 1)", "got 1.0")),
    "debiased_beta": (lambda: ops.debiased_nt_xent(X, Y, beta=-0.5), ("beta must be in [0, inf)", "got -0.5")),
    "weights_list": (lambda: ops.weighted_info_nce(X, Y, [0.0] * N), ("log_weights must be a torch.Tensor", "list")),
    "weights_int": (lambda: ops.weighted_info_nce(X, Y, IDS), ("floating-point", "got torch.int64")),
    "weights_short": (lambda: ops.weighted_info_nce(X, Y, torch.ones(3)), ("log_weights", "shape [5]", "got (3,)")),
    "collo_devices": (lambda: ops.collo_ssl(X, Y, VIEWS), ("positives must be [devices, N, D]", "got shape (5, 4)")),
    "collo_no_positive": (lambda: ops.collo_ssl(X, VIEWS[:0], VIEWS), ("at least one device", "got none")),
    "collo_weights": (
        lambda: ops.collo_ssl(X, VIEWS, VIEWS, log_negative_weights=torch.zeros(2)),
        ("log weights of negatives must have shape [3]", "got (2,)"),
    ),
    "collo_samples": (
        lambda: ops.collo_ssl(X, VIEWS, VIEWS, samples=IDS),
        ("samples must be [R, N=5]", "(5,)"),
    ),
    "cwcl_temperature": (lambda: ops.cwcl(X, Y, temperature=0.0), ("temperature must be > 0", "got 0.0")),
    "mixup_partner": (lambda: ops.mixup_clip_loss(X, Y, MASK, torch.ones(N)), ("partner must be integers", "mask")),
    "mixup_share": (lambda: ops.mixup_clip_loss(X, Y, IDS, 0.5), ("share must be a torch.Tensor", "got float")),
    "rocket_views": (
        lambda: ops.clip_rocket_loss(X, Y, 1.0, [X], [Y, Y], 1.0),
        ("as many image views as text views", "got 1 and 2"),
    ),
    "rocket_second_view": (
        lambda: ops.clip_rocket_loss(X, Y, 1.0, [X, X], [Y, LONG], 1.0),
        ("every image view and every text view must have one shape", "(7, 4)"),
    ),
    "swalip_targets": (
        lambda: ops.swalip_loss(X, Y, 1.0, LONG, LONG),
        ("the N=5 rows of the features", "got 7"),
    ),
    "swalip_iterations": (lambda: ops.swalip_loss(X, Y, 1.0, X, Y, iterations=0), ("an int >= 1", "got 0")),
    "swalip_epsilon": (lambda: ops.swalip_loss(X, Y, 1.0, X, Y, epsilon=0.0), ("epsilon must be in (0, inf)", "0.0")),
    "shared_anchor_none": (lambda: ops.shared_anchor_loss(X, []), ("at least one set", "got none")),
    "shared_anchor_second": (lambda: ops.shared_anchor_loss(X, [Y, LONG]), ("every set of others", "(7, 4)")),
    "packed_stride": (lambda: ops.packed_info_nce(X, LONG), ("multiple of M", "got M=5, N=7")),
    "packed_targets": (
        lambda: ops.packed_info_nce(X, LONG, targets=IDS.float()),
        ("targets must be integers", "float32"),
    ),
    "packed_target_beyond": (
        lambda: ops.packed_info_nce(X, LONG, targets=IDS + 3),
        ("targets must lie in [0, 7)", "from 3 to 7"),
    ),
    "private_target_beyond": (
        lambda: ops.private_info_nce(X, torch.randn(N, 3, D), IDS - 1),
        ("targets must lie in [0, 3)", "from -1 to 3"),
    ),
    "mixup_partner_negative": (
        lambda: ops.mixup_clip_loss(X, Y, IDS - 1, torch.ones(N)),
        ("partner must lie in [0, 5)", "from -1 to 3"),
    ),
    "packed_groups": (
        lambda: ops.packed_info_nce(X, LONG, targets=IDS, query_groups=IDS),
        ("go together", "only one"),
    ),
    "private_shapes": (
        lambda: ops.private_info_nce(X, torch.randn(N, 3, 2), IDS),
        ("[M, C, D]", "(5, 4) and (5, 3, 2)"),
    ),
    "decoupled_max": (
        lambda: ops.decoupled_softmax(X, Y, IDS, IDS, max_positives=0),
        ("max_positives must be None or an int >= 1", "got 0"),
    ),
    "decoupled_more": (
        lambda: ops.decoupled_softmax(X, Y, IDS, IDS // 3, max_positives=2),
        ("max_positives=2", "in [0, 3)", "from 0 to 3"),
    ),
    "decoupled_ids": (lambda: ops.decoupled_softmax(X, LONG, IDS, IDS), ("key_ids must have shape [7]", "got (5,)")),
    "matryoshka_dims": (lambda: ops.matryoshka(ops.alignment, X, Y, dims=(2, 9)), ("[1, D=4]", "got (2, 9)")),
    "matryoshka_nothing": (lambda: ops.matryoshka(ops.alignment, X, Y), ("embeddings and dims", "dims=()")),
    "matryoshka_weights": (
        lambda: ops.matryoshka(ops.alignment, X, Y, dims=(2, 4), weights=(1.0,)),
        ("a weight for each of 2 dims", "got 1"),
    ),
    "whitening_group": (lambda: ops.shuffled_group_whitening(X, group_size=3), ("a divisor of D=4", "got 3")),
    "whitening_order": (
        lambda: ops.shuffled_group_whitening(X, group_size=2, order=IDS),
        ("order must have shape [4]", "got (5,)"),
    ),
    "softmax_mean_list": (lambda: ops.softmax_mean(X, Y, [1.0]), ("values must be a torch.Tensor", "got list")),
}


@pytest.mark.parametrize("name", BAD)
def test_is_refused_with_got_and_expected_before_any_work(name, monkeypatch):
    call, parts = BAD[name]
    entered = []
    for backend in BACKENDS.values():
        monkeypatch.setattr(type(backend), "forward", lambda self, problem: entered.append(problem))
    with pytest.raises((ValueError, TypeError)) as raised:
        call()
    assert not entered
    for part in parts:
        assert part in str(raised.value)
