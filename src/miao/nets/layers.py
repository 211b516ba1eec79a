"""Blocks that the paper's equations are made of.

Images are [B, channels, rows, columns], laid out in memory with the channels last: depthwise convolutions run several
times faster so on a CPU.
"""

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx


class ChannelNorm(nn.Module):
    """LN: layer norm over the channels of an image, at each position alone (so it looks neither back nor ahead)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        normed: Tensor = self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        return normed


class DepthwiseConv(nn.Module):
    """dw|G and dw|L (3x3) or dw|U (1x1): each channel on its own; ``causal`` rows see only rows before them.

    With ``multiplier`` m each input channel gives m output channels; stride 2 halves rows and columns (a 3x3 kernel at
    stride 2 still touches every input, at stride 4 it would skip one in four).
    """

    def __init__(
        self, channels: int, size: int = 3, *, stride: int = 1, multiplier: int = 1, causal: bool = False
    ) -> None:
        super().__init__()
        reach = size - 1
        self.past = 0
        if causal:  # at stride 2 a pair of rows is known only with its second row
            self.past = reach - 1 if stride == 2 else reach
        padding = (0 if causal else reach // 2, reach // 2)
        self.conv = nn.Conv2d(channels, channels * multiplier, size, stride=stride, padding=padding, groups=channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(F.pad(x, (0, 0, self.past, 0)) if self.past else x)
        return out


class _Sum(torch.autograd.Function):
    """A sum over processes is its own derivative: what reaches it anywhere comes from everywhere."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        x = x.contiguous().clone()
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        return _Sum.forward(ctx, grad)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor) -> Tensor:
        rows = [torch.empty_like(x) for _ in range(dist.get_world_size())]
        dist.all_gather(rows, x.contiguous())
        return torch.cat(rows)

    @staticmethod
    def backward(ctx: FunctionCtx, grad: Tensor) -> Tensor:
        return _Sum.forward(ctx, grad).chunk(dist.get_world_size())[dist.get_rank()]


def n_processes() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def summed_over_processes(x: Tensor) -> Tensor:
    """The sum of all processes' tensors; gradients flow back to each of them."""
    if n_processes() == 1:
        return x
    summed: Tensor = _Sum.apply(x)  # type: ignore[no-untyped-call]  # torch has no types for it
    return summed


def gathered_from_processes(x: Tensor) -> Tensor:
    """The rows of all processes, in the order of their ranks; gradients flow back to each of them."""
    if n_processes() == 1:
        return x
    gathered: Tensor = _Gather.apply(x)  # type: ignore[no-untyped-call]  # torch has no types for it
    return gathered


class BatchNorm(nn.BatchNorm2d):
    """β: batch norm over the batches of all processes together: two with half a batch are as one with all.

    In training it does not leave the work to PyTorch, whose sums in single precision are off by a thousandth on these
    images, which hardly vary around their means.
    """

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return super().forward(x)
        assert self.running_mean is not None and self.running_var is not None and self.momentum is not None
        own_variance, own_mean = torch.var_mean(x, dim=(0, 2, 3), correction=0)
        count = x.new_full((1,), x.numel() / x.shape[1])
        total, n = summed_over_processes(torch.cat([own_mean * count, count])).split([x.shape[1], 1])
        mean = total / n
        variance = summed_over_processes((own_variance + (own_mean - mean).square()) * count) / n
        with torch.no_grad():
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * n / (n - 1), self.momentum)
        scale = self.weight * torch.rsqrt(variance + self.eps)
        out: Tensor = x * scale[:, None, None] + (self.bias - mean * scale)[:, None, None]
        return out


class ParallelConv(nn.Module):
    """Eq. 2: x + beta(dw|L(x)) + beta(dw|U(x)), two convolutions with batch norm beside the identity."""

    def __init__(self, channels: int, *, causal: bool = False) -> None:
        super().__init__()
        self.local = DepthwiseConv(channels, 3, causal=causal)
        self.unit = DepthwiseConv(channels, 1, causal=causal)
        self.local_norm = BatchNorm(channels)
        self.unit_norm = BatchNorm(channels)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.local_norm(self.local(x)) + self.unit_norm(self.unit(x))
        return out

    def merged(self) -> DepthwiseConv:
        """The same map as one 3x3 convolution, batch norms at their running averages; for rendering."""
        local, unit = (_folded(c.conv, n) for c, n in ((self.local, self.local_norm), (self.unit, self.unit_norm)))
        channels = len(self.local.conv.weight)
        one = DepthwiseConv(channels, 3)
        with torch.no_grad():
            one.conv.weight.copy_(local[0])
            one.conv.weight[:, :, 1:2, 1:2] += unit[0] + 1
            one.conv.bias = nn.Parameter(local[1] + unit[1])
        return one


def _folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Weight and bias of a convolution with the batch norm behind it."""
    assert conv.bias is not None and norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], (conv.bias - norm.running_mean) * scale + norm.bias


class CausalSelfAttention(nn.Module):
    """SA (Eq. 4): multi-head attention over tokens, each seeing itself and those before it, ``reach`` in all."""

    def __init__(self, width: int, inner: int, n_heads: int, length: int, reach: int) -> None:
        super().__init__()
        self.mask: Tensor | None
        band = torch.ones(length, length, dtype=torch.bool).tril().triu(1 - reach)
        self.register_buffer("mask", band if reach < length else None, persistent=False)
        self.n_heads = n_heads
        self.project = nn.Linear(width, 3 * inner)
        self.merge = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q, k, v = self.project(x).view(batch, length, 3, self.n_heads, -1).permute(2, 0, 3, 1, 4)
        # [B, heads, L, D / heads]
        mixed = F.scaled_dot_product_attention(q, k, v, self.mask, is_causal=self.mask is None)
        merged: Tensor = self.merge(mixed.transpose(1, 2).reshape(batch, length, -1))
        return merged


class CrossAttention(nn.Module):
    """Multi-head attention from one sequence to another; both are told where in the window they are.

    Places are learnt, and start out as the same waves over the window on both sides, so that a moment of the one finds
    that moment of the other from the first step on.
    """

    def __init__(self, width: int, n_queries: int, other_width: int, n_keys: int, inner: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key_value = nn.Linear(width, inner), nn.Linear(other_width, 2 * inner)
        self.merge = nn.Linear(inner, width)
        self.query_places = nn.Parameter(waves(n_queries, inner))
        self.key_places = nn.Parameter(waves(n_keys, inner))

    def forward(self, x: Tensor, other: Tensor) -> Tensor:
        def heads(y: Tensor) -> Tensor:
            return y.view(*y.shape[:2], self.n_heads, -1).transpose(1, 2)  # [B, heads, L, inner / heads]

        k, v = self.key_value(other).chunk(2, dim=2)
        mixed = F.scaled_dot_product_attention(
            heads(self.query(x) + self.query_places), heads(k + self.key_places), heads(v)
        )
        merged: Tensor = self.merge(mixed.transpose(1, 2).flatten(2))
        return merged


def waves(length: int, width: int) -> Tensor:
    """Sines and cosines of rising frequency over a window of any number of tokens, [length, width]."""
    place = (torch.arange(length) + 0.5) / length
    turns = torch.pi * 2 ** torch.linspace(0, 7, width // 2)
    angles = place[:, None] * turns
    return torch.stack([angles.sin(), angles.cos()], dim=2).flatten(1)


class ChannelAttention(nn.Module):
    """CSA (Eq. 5): self-attention over channels; the positions of the image are the features.

    Queries and keys are normalised and scaled by a learnt temperature, as dot products over hundreds of positions
    would saturate the softmax.
    """

    def __init__(self, channels: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.project = nn.Conv2d(channels, 3 * channels, 1)
        self.merge = nn.Conv2d(channels, channels, 1)
        self.scale = nn.Parameter(torch.full((n_heads, 1, 1), 4.0))

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, rows, columns = x.shape
        q, k, v = self.project(x).view(batch, 3, self.n_heads, channels // self.n_heads, rows * columns).unbind(1)
        weights = torch.softmax(F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2) * self.scale, dim=-1)
        merged: Tensor = self.merge((weights @ v).reshape(batch, channels, rows, columns))
        return merged
