"""Two and more views of an instance."""

import dense_losses
import torch

from contrastive_ops import dcl, mv_dhel, mv_info_nce, nt_xent, poly_view
from objectives.table import N, Objective, inputs, lse, off_diagonal, zero_where_empty


def dense_dcl(z1, z2, temperature, sigma=None, detach_weight=True, combine="union"):
    losses, others = [], off_diagonal(len(z1))
    for a, b in ((z1, z2), (z2, z1)):
        own, cross = a @ a.mT / temperature, a @ b.mT / temperature
        cosine = (a * b).sum(1)
        weight = 1.0 if sigma is None else 2 - len(a) * torch.softmax(cosine / sigma, 0)
        if detach_weight and sigma is not None:
            weight = weight.detach()
        if combine == "union":
            negatives = lse(torch.cat((own, cross), 1), others.repeat(1, 2))
        else:
            negatives = lse(own, others) + lse(cross, others)
        losses.append(zero_where_empty(negatives - weight * cross.diag(), others))
    return torch.cat(losses)


def dense_mv_dhel(views, temperature):
    others = off_diagonal(views.shape[1])
    energy = sum(lse(u @ u.mT / temperature, others) for u in views)
    pairs = [(views[v] * views[w]).sum(1) / temperature for w in range(len(views)) for v in range(w)]
    return zero_where_empty(energy - torch.stack(pairs).logsumexp(0), others)


def dense_mv_info_nce(views, temperature, same_view_negatives=True):
    v, n = views.shape[:2]
    e = (torch.einsum("aid,bjd->abij", views, views) / temperature).exp()
    two_views, one_instance = off_diagonal(v)[:, :, None, None], ~off_diagonal(n)
    positive = (e * (two_views & one_instance)).sum((0, 1, 3))
    negative = (e * (~one_instance if same_view_negatives else two_views & ~one_instance)).sum((0, 1, 3))
    return (positive + negative).log() - positive.log()


def dense_poly_view(views, temperature, same_view_negatives=True):
    v, n = views.shape[:2]
    others, losses = off_diagonal(n), []
    for a in range(v):
        kept = [b for b in range(v) if same_view_negatives or b != a]
        scores = torch.cat([views[a] @ views[b].mT / temperature for b in kept], 1)
        each = [
            dense_losses.cross_entropy(
                scores, (views[a] * views[b]).sum(1) / temperature, others.repeat(1, len(kept)), True
            )
            for b in range(v)
            if b != a
        ]
        losses.append(torch.stack(each).mean(0))
    return torch.cat(losses)


PAIR = inputs(z1=(), z2=(), temperature=0.4)
THREE = inputs(views=(3,), temperature=0.4)
ONE_PAIR, ONE_INSTANCE = inputs(n=1, z1=(), z2=(), temperature=0.4), inputs(n=1, views=(3,), temperature=0.4)

OBJECTIVES = {
    "dcl": Objective(dcl, dense_dcl, PAIR),
    "dcl_sum": Objective(dcl, dense_dcl, PAIR, {"combine": "sum"}),
    "dcl_one": Objective(dcl, dense_dcl, ONE_PAIR),
    "dcl_sum_one": Objective(dcl, dense_dcl, ONE_PAIR, {"combine": "sum"}),
    "dclw": Objective(dcl, dense_dcl, PAIR, {"sigma": 0.5}),
    "dclw_not_detached": Objective(dcl, dense_dcl, PAIR, {"sigma": 0.5, "detach_weight": False}),
    "dclw_sum": Objective(dcl, dense_dcl, PAIR, {"sigma": 0.3, "combine": "sum", "detach_weight": False}),
    "mv_dhel": Objective(mv_dhel, dense_mv_dhel, THREE),
    "dhel": Objective(mv_dhel, dense_mv_dhel, inputs(views=(2,), temperature=0.4)),
    "mv_dhel_one": Objective(mv_dhel, dense_mv_dhel, ONE_INSTANCE),
    "mv_info_nce": Objective(mv_info_nce, dense_mv_info_nce, THREE),
    "mv_info_nce_across": Objective(mv_info_nce, dense_mv_info_nce, THREE, {"same_view_negatives": False}),
    "mv_info_nce_one": Objective(mv_info_nce, dense_mv_info_nce, ONE_INSTANCE),
    "poly_view": Objective(poly_view, dense_poly_view, THREE),
    "poly_view_across": Objective(poly_view, dense_poly_view, THREE, {"same_view_negatives": False}),
    "poly_view_one": Objective(poly_view, dense_poly_view, ONE_INSTANCE),
    # for two views the geometric loss is NT-Xent
    "poly_view_is_nt_xent": Objective(
        lambda z1, z2, **options: poly_view(torch.stack((z1, z2)), **options),
        lambda z1, z2, temperature: dense_losses.nt_xent(z1, z2, temperature),
        PAIR,
    ),
    "nt_xent": Objective(nt_xent, dense_losses.nt_xent, inputs(n=N + 1, z1=(), z2=(), temperature=0.4)),
}
