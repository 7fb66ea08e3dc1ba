"""What a user's type checker sees; lines that end in `# error: ...` must be errors, and no others (test_typing.py)."""

import torch
from torch import Tensor, nn

import contrastive_ops as ops
from contrastive_ops import distributed

x, y = torch.randn(4, 8), torch.randn(4, 8)
labels = torch.tensor([0, 1, 0, 1])

value: Tensor = ops.NTXentLoss(0.1)(x, y)
learned: Tensor = ops.InfoNCELoss(nn.Parameter(torch.tensor(0.1)), reduction="sum")(x, y, x)
module: nn.Module = ops.SupConLoss(temperature=0.1, mean="inside", ignore_index=-100)
smoothed: Tensor = ops.ClipLoss(label_smoothing=0.1)(x, y, logit_scale=10.0)
nested: Tensor = ops.MatryoshkaLoss(ops.ClipLoss(), dims=(2, 8))(x, y, logit_scale=10.0)
several: Tensor = ops.GramLoss()(x, [y])
loss: Tensor = ops.sup_con(x, labels, reduction="none")

ops.NTXentLoss(tau=0.1)  # error: call-arg
ops.NTXentLoss("0.1")  # error: arg-type
ops.ClipLoss(0.1)  # error: call-arg
ops.ClipLoss(reduction="men")  # error: arg-type
ops.SupConLoss(mean="between")  # error: arg-type
ops.ClipLoss()(x, y)  # error: call-arg
ops.ClipLoss()(x, y, 1.0, smoothing=0.1)  # error: call-arg
ops.clip_loss(x, y, 1.0, reduction="men")  # error: arg-type
ops.clip_loss(x, y, 1.0, directions="both")  # error: arg-type
ops.dcl(x, y, combine="mean")  # error: arg-type
distributed.clip_loss(x, y, 1.0, strategy="rings")  # error: arg-type
distributed.info_nce(x, y, strategy="ring", grad_reduction="none")  # error: arg-type
number: int = ops.NTXentLoss()(x, y)  # error: assignment
