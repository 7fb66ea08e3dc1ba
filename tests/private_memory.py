"""Prints the peak memory that a step of row-private negatives adds, beside that of the batched product (JSON)."""

import json

import torch
import torch.nn.functional as F

from contrastive_ops import info_nce, private_info_nce
from contrastive_ops.testing.memory import added_by

M, K, D = 1024, 200, 128
TEMPERATURE = 0.07


def negatives_bmm(queries, keys, negatives):
    scores = torch.bmm(negatives, queries[:, :, None]).squeeze(2)
    scores = torch.cat(((queries * keys).sum(1)[:, None], scores), 1) / TEMPERATURE
    return F.cross_entropy(scores.float(), torch.zeros(len(queries), dtype=torch.int64))


def candidates_bmm(queries, keys, candidates):
    scores = torch.bmm(candidates, queries[:, :, None]).squeeze(2) / TEMPERATURE
    return F.cross_entropy(scores.float(), torch.arange(len(queries)) % K)


LOSSES = {
    "info_nce": (lambda q, k, own: info_nce(q, k, negatives=own, temperature=TEMPERATURE), negatives_bmm),
    "private_info_nce": (
        lambda q, k, own: private_info_nce(q, own, torch.arange(len(q)) % K, temperature=TEMPERATURE),
        candidates_bmm,
    ),
}


def step(loss, m, dtype, trained):
    queries, keys = (torch.randn(m, D).to(dtype).requires_grad_() for _ in range(2))
    own = torch.randn(m, K, D).to(dtype).requires_grad_(trained)
    return added_by(lambda: loss(queries, keys, own).backward()).bytes


def main():
    torch.set_num_threads(1)
    found = {}
    for name, losses in LOSSES.items():
        for dtype in (torch.float32, torch.bfloat16):
            for trained in (True, False):
                for loss in losses:
                    step(loss, 8, dtype, trained)  # loads what is loaded once
                found[f"{name}-{dtype}-{trained}"] = [step(loss, M, dtype, trained) for loss in losses]
    print(json.dumps(found))


if __name__ == "__main__":
    main()
