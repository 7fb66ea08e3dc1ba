# Made by docs/module_signatures.py from the signatures of the functions; a test compares.

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from torch import Tensor

from contrastive_ops.losses._common import LossReduction
from contrastive_ops.losses._module import LossModule
from contrastive_ops.losses.clip import clip_loss as clip_loss
from contrastive_ops.losses.clip_rocket import clip_rocket_loss as clip_rocket_loss
from contrastive_ops.losses.collo_ssl import collo_ssl as collo_ssl
from contrastive_ops.losses.contrastive_gap import contrastive_gap_loss as contrastive_gap_loss
from contrastive_ops.losses.cwcl import cwcl as cwcl
from contrastive_ops.losses.dcl import dcl as dcl
from contrastive_ops.losses.debiased import debiased_nt_xent as debiased_nt_xent
from contrastive_ops.losses.decoupled_softmax import decoupled_softmax as decoupled_softmax
from contrastive_ops.losses.gram import gram_loss as gram_loss
from contrastive_ops.losses.gram_negatives import gram_negatives as gram_negatives
from contrastive_ops.losses.info_nce import info_nce as info_nce
from contrastive_ops.losses.matryoshka import matryoshka as matryoshka
from contrastive_ops.losses.mixup_clip import mixup_clip_loss as mixup_clip_loss
from contrastive_ops.losses.multi_positive_clip import multi_positive_clip_loss as multi_positive_clip_loss
from contrastive_ops.losses.mv_dhel import mv_dhel as mv_dhel
from contrastive_ops.losses.mv_info_nce import mv_info_nce as mv_info_nce
from contrastive_ops.losses.nspt import nspt as nspt
from contrastive_ops.losses.nt_xent import nt_xent as nt_xent
from contrastive_ops.losses.packed_info_nce import packed_info_nce as packed_info_nce
from contrastive_ops.losses.poly_view import poly_view as poly_view
from contrastive_ops.losses.private_info_nce import private_info_nce as private_info_nce
from contrastive_ops.losses.shared_anchor import shared_anchor_loss as shared_anchor_loss
from contrastive_ops.losses.sup_con import sup_con as sup_con
from contrastive_ops.losses.swalip import swalip_loss as swalip_loss
from contrastive_ops.losses.uniformity import alignment as alignment
from contrastive_ops.losses.uniformity import cross_uniformity as cross_uniformity
from contrastive_ops.losses.uniformity import uniformity as uniformity
from contrastive_ops.losses.weighted_info_nce import weighted_info_nce as weighted_info_nce
from contrastive_ops.losses.whitening import shuffled_group_whitening as shuffled_group_whitening
from contrastive_ops.relations import Relation

__all__ = [
    "AlignmentLoss",
    "CWCLLoss",
    "ClipLoss",
    "ClipRocketLoss",
    "ColloSSLLoss",
    "ContrastiveGapLoss",
    "CrossUniformityLoss",
    "DCLLoss",
    "DebiasedNTXentLoss",
    "DecoupledSoftmaxLoss",
    "GramLoss",
    "InfoNCELoss",
    "MVDHELLoss",
    "MVInfoNCELoss",
    "MatryoshkaLoss",
    "MixupClipLoss",
    "MultiPositiveClipLoss",
    "NSPTLoss",
    "NTXentLoss",
    "PackedInfoNCELoss",
    "PolyViewLoss",
    "PrivateInfoNCELoss",
    "SharedAnchorLoss",
    "SupConLoss",
    "SwALIPLoss",
    "UniformityLoss",
    "WeightedInfoNCELoss",
    "alignment",
    "clip_loss",
    "clip_rocket_loss",
    "collo_ssl",
    "contrastive_gap_loss",
    "cross_uniformity",
    "cwcl",
    "dcl",
    "debiased_nt_xent",
    "decoupled_softmax",
    "gram_loss",
    "gram_negatives",
    "info_nce",
    "matryoshka",
    "mixup_clip_loss",
    "multi_positive_clip_loss",
    "mv_dhel",
    "mv_info_nce",
    "nspt",
    "nt_xent",
    "packed_info_nce",
    "poly_view",
    "private_info_nce",
    "shared_anchor_loss",
    "shuffled_group_whitening",
    "sup_con",
    "swalip_loss",
    "uniformity",
    "weighted_info_nce",
]

class AlignmentLoss(LossModule):
    def __init__(
        self,
        *,
        reduction: LossReduction = "mean",
    ) -> None: ...
    def forward(
        self,
        first: Tensor,
        second: Tensor,
        *,
        reduction: LossReduction = "mean",
    ) -> Tensor: ...
    __call__ = forward

class CWCLLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        *,
        temperature: float | Tensor = 0.07,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class ClipLoss(LossModule):
    def __init__(
        self,
        *,
        label_smoothing: float = 0.0,
        directions: Literal["mean", "sum"] = "mean",
        negatives: Relation | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        *,
        label_smoothing: float = 0.0,
        directions: Literal["mean", "sum"] = "mean",
        negatives: Relation | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class ClipRocketLoss(LossModule):
    def __init__(
        self,
        *,
        label_smoothing: float = 0.1,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        image_views: Sequence[Tensor] | Tensor,
        text_views: Sequence[Tensor] | Tensor,
        view_scale: float | Tensor,
        *,
        label_smoothing: float = 0.1,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class ColloSSLLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        *,
        log_positive_weights: Tensor | None = None,
        log_negative_weights: Tensor | None = None,
        samples: Tensor | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        anchors: Tensor,
        positives: Tensor,
        negatives: Tensor,
        *,
        temperature: float | Tensor = 0.1,
        log_positive_weights: Tensor | None = None,
        log_negative_weights: Tensor | None = None,
        samples: Tensor | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class ContrastiveGapLoss(LossModule):
    def __init__(
        self,
        *,
        t: float = 2.0,
        across: bool = False,
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        *,
        t: float = 2.0,
        across: bool = False,
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class CrossUniformityLoss(LossModule):
    def __init__(
        self,
        *,
        t: float = 2.0,
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        first: Tensor,
        second: Tensor,
        *,
        t: float = 2.0,
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class DCLLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        *,
        sigma: float | None = None,
        detach_weight: bool = True,
        combine: Literal["union", "sum"] = "union",
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        temperature: float | Tensor = 0.1,
        sigma: float | None = None,
        detach_weight: bool = True,
        combine: Literal["union", "sum"] = "union",
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class DebiasedNTXentLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        *,
        tau_plus: float = 0.1,
        beta: float = 0.0,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        temperature: float | Tensor = 0.5,
        tau_plus: float = 0.1,
        beta: float = 0.0,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class DecoupledSoftmaxLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.05,
        *,
        max_positives: int | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        query_ids: Tensor,
        key_ids: Tensor,
        *,
        temperature: float | Tensor = 0.05,
        max_positives: int | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class GramLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        label_smoothing: float = 0.0,
        detach_keys: bool = False,
        absolute: bool = False,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        anchor: Tensor,
        modalities: Sequence[Tensor],
        *,
        temperature: float | Tensor = 0.07,
        label_smoothing: float = 0.0,
        detach_keys: bool = False,
        absolute: bool = False,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class InfoNCELoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        negatives: Relation | Tensor | Iterable[Tensor] | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        negatives: Any = None,
        *,
        temperature: float | Tensor = 0.07,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class MVDHELLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        *,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        views: Tensor,
        *,
        temperature: float | Tensor = 0.5,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class MVInfoNCELoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        *,
        same_view_negatives: bool = True,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        views: Tensor,
        *,
        temperature: float | Tensor = 0.5,
        same_view_negatives: bool = True,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class MatryoshkaLoss(LossModule):
    def __init__(
        self,
        loss: Callable[..., Tensor],
        *,
        dims: Sequence[int] = (),
        weights: Sequence[float] | None = None,
        normalize: bool = True,
    ) -> None: ...
    def forward(
        self,
        *embeddings: Any,
        **others: Any,
    ) -> Tensor: ...
    __call__ = forward

class MixupClipLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        *,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        mixed: Tensor,
        keys: Tensor,
        partner: Tensor,
        share: Tensor,
        *,
        temperature: float | Tensor = 0.1,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class MultiPositiveClipLoss(LossModule):
    def __init__(
        self,
        *,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        image_ids: Tensor,
        text_ids: Tensor,
        *,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class NSPTLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        *,
        anchors: Tensor | None = None,
        exclude_self: bool = True,
        ignore_index: int = -1,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        labels: Tensor,
        *,
        temperature: float | Tensor = 0.1,
        anchors: Tensor | None = None,
        exclude_self: bool = True,
        ignore_index: int = -1,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class NTXentLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.5,
        *,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        z1: Tensor,
        z2: Tensor,
        *,
        temperature: float | Tensor = 0.5,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class PackedInfoNCELoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.02,
        *,
        targets: Tensor | None = None,
        query_groups: Tensor | None = None,
        key_groups: Tensor | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        *,
        temperature: float | Tensor = 0.02,
        targets: Tensor | None = None,
        query_groups: Tensor | None = None,
        key_groups: Tensor | None = None,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class PolyViewLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.1,
        *,
        same_view_negatives: bool = True,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        views: Tensor,
        *,
        temperature: float | Tensor = 0.1,
        same_view_negatives: bool = True,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class PrivateInfoNCELoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        reduction: LossReduction = "mean",
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        candidates: Tensor,
        targets: Tensor,
        *,
        temperature: float | Tensor = 0.07,
        reduction: LossReduction = "mean",
    ) -> Tensor: ...
    __call__ = forward

class SharedAnchorLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        symmetric: bool = True,
        combine: Literal["sum", "mean"] = "sum",
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        anchors: Tensor,
        others: Sequence[Tensor] | Tensor,
        *,
        temperature: float | Tensor = 0.07,
        symmetric: bool = True,
        combine: Literal["sum", "mean"] = "sum",
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class SupConLoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        mean: Literal["outside", "inside"] = "outside",
        ignore_index: int = -1,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        features: Tensor,
        labels: Tensor,
        *,
        temperature: float | Tensor = 0.07,
        mean: Literal["outside", "inside"] = "outside",
        ignore_index: int = -1,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class SwALIPLoss(LossModule):
    def __init__(
        self,
        *,
        epsilon: float = 0.05,
        iterations: int = 3,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        image_features: Tensor,
        text_features: Tensor,
        logit_scale: float | Tensor,
        target_image: Tensor,
        target_text: Tensor,
        *,
        epsilon: float = 0.05,
        iterations: int = 3,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class UniformityLoss(LossModule):
    def __init__(
        self,
        *,
        t: float = 2.0,
        diagonal: bool = True,
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        features: Tensor,
        *,
        t: float = 2.0,
        diagonal: bool = True,
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward

class WeightedInfoNCELoss(LossModule):
    def __init__(
        self,
        temperature: float | Tensor = 0.07,
        *,
        weigh_positive: bool = True,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> None: ...
    def forward(
        self,
        queries: Tensor,
        keys: Tensor,
        log_weights: Tensor,
        *,
        temperature: float | Tensor = 0.07,
        weigh_positive: bool = True,
        reduction: LossReduction = "mean",
        workspace_bytes: int = 67108864,
        backend: str | None = None,
    ) -> Tensor: ...
    __call__ = forward
