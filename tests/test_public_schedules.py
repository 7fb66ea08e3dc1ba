"""Temperatures and scales that change from step to step, as Python floats: what is compiled takes any number, as dense
code does, and gives the values of eager mode."""

import inspect

import torch
import torch.nn.functional as F
from pair_calls import NO_GRADIENT, pairs
from torch._dynamo.testing import CompileCounterWithBackend

import contrastive_ops as ops
from contrastive_ops.testing.loss_calls import CALLS

VALUES = (0.5, 0.6, 0.8, 1.1, 1.5)
NAMES = ("temperature", "logit_scale", "scale", "view_scale")
IDS = torch.arange(12) // 2


def has_number(name):
    function = getattr(ops, name)
    return inspect.isfunction(function) and any(n in inspect.signature(function).parameters for n in NAMES)


SCALED = {
    "clip_loss": lambda x, y, t: ops.clip_loss(x, y, t),
    "clip_rocket_loss": lambda x, y, t: ops.clip_rocket_loss(x, y, t, (x,), (y,), t),
    "contrastive_gap_loss": lambda x, y, t: ops.contrastive_gap_loss(x, y, t),
    "multi_positive_clip_loss": lambda x, y, t: ops.multi_positive_clip_loss(x, y, t, IDS, IDS),
    "private_info_nce": lambda x, y, t: ops.private_info_nce(x, torch.stack((x, y), 1), IDS % 2, temperature=t),
    "reduce": lambda x, y, t: ops.reduce(x, y, {"a": ops.LogSumExp(factor=t)}, scale=t)["a"].rows.sum(),
    "similarity_statistics": lambda x, y, t: ops.similarity_statistics(x, y, scale=t).row_lse.sum(),
    "softmax_mean": lambda x, y, t: ops.softmax_mean(x, y, y, scale=t).square().sum(),
    "streamed_row_lse": lambda x, y, t: ops.streamed_row_lse(x, [y], scale=t).sum(),
    "summed_row_cross_entropy": lambda x, y, t: ops.summed_row_cross_entropy(
        x, y, scale=t, candidates=ops.off_diagonal(), positives=ops.diagonal()
    ),
    "swalip_loss": lambda x, y, t: ops.swalip_loss(x, y, t, y, x),
    "volume_statistics": lambda x, y, t: ops.volume_statistics(x, [y], scale=-t).row_lse.sum(),
}
AT_A_TEMPERATURE = {
    name.partition(",")[0]: lambda x, y, t, call=call: call(x, y, temperature=t) for name, call in CALLS.items()
}
CHANGING = {
    name: SCALED.get(name) or AT_A_TEMPERATURE[name]
    for name in ops.__all__
    if has_number(name) and name not in NO_GRADIENT
}


CHANGING["debiased_nt_xent, tau_plus"] = lambda x, y, t: ops.debiased_nt_xent(x, y, tau_plus=t / 2, beta=t)


def dense(x, y, t):
    return F.cross_entropy(x @ y.mT / t, torch.arange(len(x))) + F.cross_entropy(x @ y.mT * t, torch.arange(len(x)))


def every(x, y, t):
    return torch.stack([call(x, y, t) for call in CHANGING.values()])


def test_a_schedule_does_not_recompile():
    """All functions in one graph: tracing takes its time for each."""
    counts = []
    for function in (dense, every):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("aot_eager")
        compiled = torch.compile(function, fullgraph=True, backend=counter)
        for value in VALUES:
            torch.manual_seed(0)
            found = compiled(*pairs(), value)
            torch.manual_seed(0)
            torch.testing.assert_close(found, function(*pairs(), value))
        counts.append(counter.frame_count)
    assert counts[0] == counts[1] < len(VALUES)
