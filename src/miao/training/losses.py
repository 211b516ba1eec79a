"""Losses as plain functions: tensors in, scalar out."""

import torch
from torch import Tensor

from miao import tokens as tk
from miao.model import LevelDistribution


def am_loss(distribution: LevelDistribution, target: Tensor, weight: Tensor, smoothing: float, form: str) -> Tensor:
    """AM (Eq. 10): cross entropy over K levels, label smoothing α, mean over cells by weight; nats.

    ``form`` says where the smoothed share α goes: "neighbours" (half to the level below, half to the one above; levels
    are ordered, so this does not move the expected level) or "uniform" (all K levels alike, as in the paper).

    Shapes: target and weight [B, a, C]; target in integer levels.
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
    return (entropy * weight).sum() / weight.sum().clamp(min=1e-6)


def level_error_db(distribution: LevelDistribution, target: Tensor, weight: Tensor) -> Tensor:
    """Mean absolute error of expected levels, dB, over level cells (the pitch cell left out), by weight."""
    weight = weight[..., : tk.PITCH_CELL]
    error = (distribution.expected() - target).abs()[..., : tk.PITCH_CELL]
    return (error * weight).sum() / weight.sum().clamp(min=1e-6) * tk.LEVEL_STEP_DB
