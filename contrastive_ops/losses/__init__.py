"""Losses: each a few lines over the statistics, in functional and module form."""

from contrastive_ops.losses.clip import ClipLoss, clip_loss
from contrastive_ops.losses.clip_rocket import ClipRocketLoss, clip_rocket_loss
from contrastive_ops.losses.collo_ssl import ColloSSLLoss, collo_ssl
from contrastive_ops.losses.contrastive_gap import ContrastiveGapLoss, contrastive_gap_loss
from contrastive_ops.losses.cwcl import CWCLLoss, cwcl
from contrastive_ops.losses.dcl import DCLLoss, dcl
from contrastive_ops.losses.debiased import DebiasedNTXentLoss, debiased_nt_xent
from contrastive_ops.losses.decoupled_softmax import DecoupledSoftmaxLoss, decoupled_softmax
from contrastive_ops.losses.gram import GramLoss, gram_loss
from contrastive_ops.losses.gram_negatives import gram_negatives
from contrastive_ops.losses.info_nce import InfoNCELoss, info_nce
from contrastive_ops.losses.matryoshka import MatryoshkaLoss, matryoshka
from contrastive_ops.losses.mixup_clip import MixupClipLoss, mixup_clip_loss
from contrastive_ops.losses.multi_positive_clip import MultiPositiveClipLoss, multi_positive_clip_loss
from contrastive_ops.losses.mv_dhel import MVDHELLoss, mv_dhel
from contrastive_ops.losses.mv_info_nce import MVInfoNCELoss, mv_info_nce
from contrastive_ops.losses.nspt import NSPTLoss, nspt
from contrastive_ops.losses.nt_xent import NTXentLoss, nt_xent
from contrastive_ops.losses.packed_info_nce import PackedInfoNCELoss, packed_info_nce
from contrastive_ops.losses.poly_view import PolyViewLoss, poly_view
from contrastive_ops.losses.private_info_nce import PrivateInfoNCELoss, private_info_nce
from contrastive_ops.losses.shared_anchor import SharedAnchorLoss, shared_anchor_loss
from contrastive_ops.losses.sup_con import SupConLoss, sup_con
from contrastive_ops.losses.swalip import SwALIPLoss, swalip_loss
from contrastive_ops.losses.uniformity import (
    AlignmentLoss,
    CrossUniformityLoss,
    UniformityLoss,
    alignment,
    cross_uniformity,
    uniformity,
)
from contrastive_ops.losses.weighted_info_nce import WeightedInfoNCELoss, weighted_info_nce
from contrastive_ops.losses.whitening import shuffled_group_whitening

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
