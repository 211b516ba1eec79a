"""Losses as plain functions: tensors in, scalar out."""

import torch
import torch.nn.functional as F
from torch import Tensor

from miao.bank import tokens as tk
from miao.nets.model import LevelDistribution


def am_loss(distribution: LevelDistribution, target: Tensor, weight: Tensor, smoothing: float, form: str,
            total: Tensor | None = None) -> Tensor:  # fmt: skip
    """AM (Eq. 10): cross entropy over K levels, label smoothing α, mean over cells by weight; nats.

    ``form`` says where the smoothed share α goes: "neighbours" (half to the level below, half to the one above; levels
    are ordered, so this does not move the expected level) or "uniform" (all K levels alike, as in the paper).

    Shapes: target and weight [B, a, C]; target in integer levels. ``total`` is the sum of weights that the mean is
    taken over, where other processes have a share of the cells; by default the sum of ``weight``.
    """
    chosen = weight > 0
    distribution = LevelDistribution(distribution.mean[chosen], distribution.log_scale[chosen])
    target, weight = target[chosen], weight[chosen]
    log_likelihood = distribution.log_prob(target)
    if form == "neighbours":
        below, above = (target - 1).clamp(min=0), (target + 1).clamp(max=tk.N_LEVELS - 1)
        spread = 0.5 * (distribution.log_prob(below) + distribution.log_prob(above))
    elif form == "uniform":
        levels = range(tk.N_LEVELS)
        spread = torch.stack([distribution.log_prob(torch.full_like(target, k)) for k in levels]).mean(dim=0)
    else:
        raise ValueError(f'smoothing form "{form}"; there are "neighbours" and "uniform"')
    entropy = -(1 - smoothing) * log_likelihood - smoothing * spread
    return (entropy * weight).sum() / (weight.sum() if total is None else total).clamp(min=1e-6)


def mac_loss(similarity: Tensor, partner: Tensor, temperature: float, *, soft_similarity: Tensor | None = None,
             soft_share: float = 0.0) -> Tensor:  # fmt: skip
    """MAC (Eq. 7 and 8) in one direction: cross entropy of the softmax over candidates of similarity / τ; nats.

    The target is the ``partner``; ``soft_share`` of it goes to what the momentum encoder finds alike
    (``soft_similarity``, under the same softmax), so that likely partners among the negatives count as such.

    Shapes: similarities [B, candidates] (cosines), partner [B] int64: which candidate belongs to each.
    """
    log_share = torch.log_softmax(similarity / temperature, dim=1)
    hard = -log_share.gather(1, partner.unsqueeze(1)).mean()
    if soft_similarity is None or not soft_share:
        return hard
    soft = -(torch.softmax(soft_similarity / temperature, dim=1) * log_share).sum(dim=1).mean()
    return (1 - soft_share) * hard + soft_share * soft


def mam_loss(logits: Tensor, is_match: Tensor) -> Tensor:
    """MAM (Eq. 9): binary cross entropy of matched / not matched; nats. Shapes: [n] each, is_match 0 or 1."""
    return F.binary_cross_entropy_with_logits(logits, is_match.to(logits.dtype))


def mined(similarity: Tensor, partner: Tensor, temperature: float, lots: Tensor) -> Tensor:
    """A wrong partner for each, drawn by the softmax of similarity / τ: hard negatives, the more alike, the more often.

    Shapes: similarity and lots [B, candidates], lots drawn from a standard Gumbel distribution; partner [B]. -> [B]
    """
    chance = similarity / temperature + lots
    return chance.scatter(1, partner.unsqueeze(1), -torch.inf).argmax(dim=1)


def level_error_db(distribution: LevelDistribution, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of expected levels, dB, over level cells (the pitch cell left out), by weight."""
    weight = weight[..., : tk.PITCH_CELL]
    error = (distribution.expected() - target).abs()[..., : tk.PITCH_CELL]
    return (error * weight).sum() / weight.sum().clamp(min=1e-6) * tk.LEVEL_STEP_DB
