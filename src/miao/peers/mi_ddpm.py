"""MI-DDPM: notes to a mel spectrogram by a diffusion model, 2.56 s at a time.

Hawthorne, Simon, Roberts, Zeghidour, Gardner, Manilow & Engel, "Multi-instrument Music Synthesis with Spectrogram
Diffusion", ISMIR 2022. Kept: MT3's note events, an encoder of them, an encoder of the segment before, a decoder of
noisy frames with cross-attention to both and FiLM by the diffusion time, cosine schedule, L1 loss, conditions dropped
one time in ten, guidance, ancestral sampling with the clean spectrogram clipped to -1..1. A network of its own makes
sound of the spectrogram, here as there.

Other than there, all to fit an hour on one core: 4 M parameters; two frames a position; what an event
consists of (when, what happens to which key of which instrument) is one position, the sum of its tokens' embeddings,
not one position a token; rotary positions by time, so that frames find their notes at once; 16 velocities (there: one);
the net's output is v, from which the noise follows; 20 steps, not 1000; weaker guidance; no dropout.
"""

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miao.arrays import Floats
from miao.config import Count, Share, Whole, check
from miao.datasets.pairs import Pair
from miao.errors import ConfigError, DataError
from miao.peers.inputs import FLOOR_DB, N_BANDS, N_INSTRUMENTS, sound_mel
from miao.peers.note_events import (
    FRAME,
    N_ACTIONS,
    N_KEYS,
    SEGMENT_FRAMES,
    SEGMENT_SECONDS,
    note_events,
    stacked,
)

PATCH_FRAMES = 2  # a position of the decoder; the original has one frame a position
TOP_DB = 0.0  # what is louder is clipped; a sine at full scale
_MASKED = -1e4


@dataclass(frozen=True)
class MiDdpmConfig:
    """Sizes of the net, and how it is trained."""

    width: Count = 192
    n_heads: Count = 3
    hidden: Count = 384  # of a feed-forward block, which has two such halves, one of them a gate
    note_layers: Whole = 2
    context_layers: Whole = 1
    decoder_layers: Count = 4
    max_events: Count = 256  # of a segment; what comes later is left out (dense drums have about 100)
    drop_conditions: Share = 0.1  # share of segments learnt without notes and context
    drop_context: Share = 0.25  # share of pairs whose first half is learnt, with nothing before it: a piece's beginning

    def __post_init__(self) -> None:
        check(self, "model")
        if self.width % self.n_heads:
            raise ConfigError(
                f'"model.width" is {self.width}: it must be a multiple of "model.n_heads", {self.n_heads}'
            )


@dataclass(frozen=True)
class Conditions:
    """What a segment is made from."""

    events: Tensor  # [B, E, 4] int64: frame, action, instrument, key
    is_event: Tensor  # [B, E] bool; the others fill up
    context: Tensor  # [B, SEGMENT_FRAMES, N_BANDS] the segment before, -1..1
    has_context: Tensor  # [B] bool; False for the first segment of a piece
    is_kept: Tensor  # [B] bool; False to predict without notes and context


@dataclass(frozen=True)
class MiDdpmBatch:
    """What one process sees in one step."""

    conditions: Conditions
    target: Tensor  # x_0 [B, SEGMENT_FRAMES, N_BANDS], -1..1
    time: Tensor  # [B], 0 clean to 1 noise
    noise: Tensor  # ε like target


@dataclass(frozen=True)
class Memory:
    """What the decoder attends to, seen by each of its layers."""

    keys: list[Tensor]  # [B, h, K, d] a layer
    values: list[Tensor]
    bias: Tensor  # [B, 1, 1, K], 0 where there is something


def scaled(mel_db: Floats) -> Floats:
    """Decibels as the net takes them, -1..1."""
    values: Floats = np.clip((mel_db - FLOOR_DB) / (TOP_DB - FLOOR_DB) * 2 - 1, -1, 1).astype(np.float32)
    return values


def unscaled(values: Floats) -> Floats:
    """What the net gives as decibels."""
    return ((values + 1) / 2 * (TOP_DB - FLOOR_DB) + FLOOR_DB).astype(np.float32)


# diffusion


def schedule(time: Tensor) -> tuple[Tensor, Tensor]:
    """The shares α of the signal and σ of the noise at diffusion times 0..1: x_t = α x_0 + σ ε, α² + σ² = 1.

    The cosine schedule with the log-SNR within ±20.
    """
    margin = math.atan(math.exp(-10))
    angle = margin + time * (math.pi / 2 - 2 * margin)
    return torch.cos(angle), torch.sin(angle)


# the net


def rotation(frames: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines that turn heads of ``size`` numbers by a time in frames, [B, T] -> 2 x [B, 1, T, size / 2].

    Wavelengths from 6 frames to four segments.
    """
    n = size // 2
    turns = torch.exp(torch.linspace(0, -math.log(SEGMENT_FRAMES * 4 / 6.28), n, device=frames.device))
    angle = frames[:, None, :, None] * turns
    return angle.cos(), angle.sin()


def _turned(x: Tensor, turn: tuple[Tensor, Tensor]) -> Tensor:
    (a, b), (cos, sin) = x.chunk(2, dim=3), (t.to(x.dtype) for t in turn)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=3)


class Attention(nn.Module):
    """Attention whose weights know how far apart in time two positions are."""

    def __init__(self, width: int, n_heads: int) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.query, self.key, self.value, self.out = (nn.Linear(width, width, bias=False) for _ in range(4))

    def see(self, x: Tensor, turn: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """Keys and values of what is attended to, [B, K, D] -> 2 x [B, h, K, d]."""
        return _turned(self._heads(self.key(x)), turn), self._heads(self.value(x))

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], key: Tensor, value: Tensor, bias: Tensor) -> Tensor:
        query = _turned(self._heads(self.query(x)), turn) * (x.shape[2] // self.n_heads) ** -0.5
        # written out: on a CPU in bfloat16 three times as fast as the fused kind, forwards and backwards
        weights = torch.softmax(query @ key.transpose(2, 3) + bias.to(query.dtype), dim=3)  # [B, h, T, K]
        out: Tensor = self.out((weights @ value).transpose(1, 2).flatten(2))
        return out

    def _heads(self, x: Tensor) -> Tensor:
        heads: Tensor = x.unflatten(2, (self.n_heads, -1)).transpose(1, 2)
        return heads


class FeedForward(nn.Module):
    """T5's gated block."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.inner, self.out = nn.Linear(width, 2 * hidden, bias=False), nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, content = self.inner(x).chunk(2, dim=2)
        out: Tensor = self.out(F.gelu(gate) * content)
        return out


class EncoderLayer(nn.Module):
    """Self-attention and a feed-forward block, over notes or over frames of the segment before."""

    def __init__(self, config: MiDdpmConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(config.width) for _ in range(2))
        self.attention = Attention(config.width, config.n_heads)
        self.feed_forward = FeedForward(config.width, config.hidden)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], bias: Tensor) -> Tensor:
        y = self.norms[0](x)
        x = x + self.attention(y, turn, *self.attention.see(y, turn), bias)
        out: Tensor = x + self.feed_forward(self.norms[1](x))
        return out


class DecoderLayer(nn.Module):
    """The same with cross-attention in between; the diffusion time scales and shifts what the two blocks see (FiLM)."""

    def __init__(self, config: MiDdpmConfig) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.RMSNorm(config.width) for _ in range(3))
        self.attention, self.cross = (Attention(config.width, config.n_heads) for _ in range(2))
        self.feed_forward = FeedForward(config.width, config.hidden)
        self.film = nn.Linear(config.width, 4 * config.width)

    def forward(self, x: Tensor, turn: tuple[Tensor, Tensor], time: Tensor, key: Tensor, value: Tensor, bias: Tensor
                ) -> Tensor:  # fmt: skip
        scale_a, shift_a, scale_f, shift_f = self.film(time)[:, None].float().chunk(4, dim=2)  # [B, 1, D]
        y = self.norms[0](x) * (1 + scale_a) + shift_a
        x = x + self.attention(y, turn, *self.attention.see(y, turn), bias.new_zeros(()))
        x = x + self.cross(self.norms[1](x), turn, key, value, bias)
        out: Tensor = x + self.feed_forward(self.norms[2](x) * (1 + scale_f) + shift_f)
        return out


class MiDdpm(nn.Module):
    """Predicts the noise in a noisy segment from its notes and the segment before."""

    def __init__(self, config: MiDdpmConfig) -> None:
        super().__init__()
        self.config = config
        width, values = config.width, PATCH_FRAMES * N_BANDS
        self.embed = nn.ModuleList(nn.Embedding(n, width) for n in (N_ACTIONS, N_INSTRUMENTS, N_KEYS))
        self.note_layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.note_layers))
        self.context_in = nn.Linear(values, width)
        self.context_layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.context_layers))
        self.nothing = nn.Parameter(torch.randn(width))  # always there to attend to; alone where conditions are dropped
        self.memory_norm = nn.RMSNorm(width)
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())
        self.frames_in = nn.Linear(values, width)
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm, self.frames_out = nn.RMSNorm(width), nn.Linear(width, 2 * values)
        nn.init.zeros_(self.frames_out.weight)

    def memory(self, conditions: Conditions) -> Memory:
        """Notes and the segment before, ready to be attended to at every diffusion step."""
        events, is_event = conditions.events, conditions.is_event
        notes_bias = _bias(is_event)[:, None, None]  # [B, 1, 1, E]
        notes_at = events[:, :, FRAME].float()
        notes = sum(table(events[:, :, 1 + n]) for n, table in enumerate(self.embed))  # [B, E, D]
        for layer in self.note_layers:
            notes = layer(notes, self._turn(notes_at), notes_bias)
        context_at = self._patch_times(len(events), events.device) - SEGMENT_FRAMES
        context = self.context_in(_patches(conditions.context)).float()  # [B, P, D]
        for layer in self.context_layers:
            context = layer(context, self._turn(context_at), notes_bias.new_zeros(()))
        nothing = self.nothing.expand(len(events), 1, -1)
        seen = self.memory_norm(torch.cat([nothing, notes, context], dim=1))  # [B, 1 + E + P, D]
        turn = self._turn(torch.cat([torch.zeros_like(notes_at[:, :1]), notes_at, context_at], dim=1))
        kept = conditions.is_kept[:, None]
        is_there = torch.cat([torch.ones_like(kept), is_event & kept,
                              (conditions.has_context[:, None] & kept).expand(context_at.shape)], dim=1)  # fmt: skip
        crosses = [layer.cross for layer in self.layers]  # torch takes a layer for any module
        keys, values = zip(*(cross.see(seen, turn) for cross in crosses), strict=True)  # type: ignore[operator,union-attr]
        return Memory(list(keys), list(values), _bias(is_there)[:, None, None])

    def forward(self, noisy: Tensor, time: Tensor, memory: Memory) -> Tensor:
        """v = α ε - σ x_0 of noisy segments x_t [B, SEGMENT_FRAMES, N_BANDS] at diffusion times [B], same shape.

        For each number the net gives an offset and what x_t is multiplied by: a position has more numbers of noise than
        fit through the net's width beside all else, and noise cannot be told from few.
        """
        x = self.frames_in(_patches(noisy)).float()  # [B, P, D]
        turn = self._turn(self._patch_times(len(x), x.device))
        at = self.time(_time_features(time, self.config.width))
        for layer, key, value in zip(self.layers, memory.keys, memory.values, strict=True):
            x = layer(x, turn, at, key, value, memory.bias)
        offset, factor = self.frames_out(self.norm(x)).float().chunk(2, dim=2)  # [B, P, PATCH_FRAMES * N_BANDS]
        predicted: Tensor = (offset + factor * _patches(noisy)).unflatten(2, (PATCH_FRAMES, N_BANDS)).flatten(1, 2)
        return predicted

    def noise(self, noisy: Tensor, time: Tensor, memory: Memory) -> Tensor:
        """The noise ε in them."""
        alpha, sigma = (x[:, None, None] for x in schedule(time))
        noise: Tensor = sigma * noisy + alpha * self(noisy, time, memory)
        return noise

    def _turn(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        return rotation(frames, self.config.width // self.config.n_heads)

    def _patch_times(self, n: int, device: torch.device) -> Tensor:
        first = (PATCH_FRAMES - 1) / 2
        return torch.arange(first, SEGMENT_FRAMES, PATCH_FRAMES, device=device).expand(n, -1)


def _patches(frames: Tensor) -> Tensor:
    patches: Tensor = frames.unflatten(1, (-1, PATCH_FRAMES)).flatten(2)
    return patches


def _bias(is_there: Tensor) -> Tensor:
    return torch.where(is_there, 0.0, _MASKED)


def _time_features(time: Tensor, width: int) -> Tensor:
    """Sines and cosines of diffusion times, [B] -> [B, width]."""
    frequencies = torch.exp(torch.linspace(0, math.log(1000.0), width // 2, device=time.device))
    angle = time[:, None] * frequencies
    return torch.cat([angle.sin(), angle.cos()], dim=1)


# training


class MiDdpmObjective(nn.Module):
    """The net in training."""

    parts = ("model",)

    def __init__(self, config: MiDdpmConfig, precision: str) -> None:
        super().__init__()
        self.config, self.precision = config, precision
        self.model = MiDdpm(config)

    def forward(self, batch: MiDdpmBatch, step: int) -> dict[str, Tensor]:
        """The losses by name; "loss/total" is what to descend.

        It is the mean error |v̂ - v|, which is the original's |ε̂ - ε| divided by α: where nearly all is noise the latter
        says next to nothing about the spectrogram, and a short training does not get that far.
        """
        alpha, sigma = (x[:, None, None] for x in schedule(batch.time))
        noisy = alpha * batch.target + sigma * batch.noise
        with torch.autocast(noisy.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            predicted = self.model(noisy, batch.time, self.model.memory(batch.conditions))
        error = (predicted - (alpha * batch.noise - sigma * batch.target)).abs().mean(dim=(1, 2))  # [B]
        noise_error = (alpha[:, 0, 0] * error).mean().detach()
        return {"loss/total": error.mean(), "error/noise": noise_error}

    def collate(self, pairs: list[Pair], rng: np.random.Generator) -> MiDdpmBatch:
        """A batch of pairs: of each the second half, after the first; or the first, after nothing.

        Raises: DataError for a pair without sound, or one of another length.
        """
        n, config = len(pairs), self.config
        is_first = rng.uniform(size=n) < config.drop_context
        is_kept = rng.uniform(size=n) >= config.drop_conditions
        time, noise = rng.uniform(size=n), rng.standard_normal((n, SEGMENT_FRAMES, N_BANDS), np.float32)
        mel = np.stack([_halves(pair) for pair in pairs])  # [n, 2, SEGMENT_FRAMES, N_BANDS]
        events = [note_events(pair.notes, 0.0 if first else SEGMENT_SECONDS, config.max_events)
                  for pair, first in zip(pairs, is_first, strict=True)]  # fmt: skip
        flags = torch.from_numpy(~is_first), torch.from_numpy(is_kept)
        return MiDdpmBatch(
            conditions=Conditions(*stacked(events), torch.from_numpy(mel[:, 0]), *flags),
            target=torch.from_numpy(mel[np.arange(n), np.where(is_first, 0, 1)]),
            time=torch.from_numpy(time.astype(np.float32)),
            noise=torch.from_numpy(noise),
        )


def _halves(pair: Pair) -> Floats:
    if pair.sound is None:
        raise DataError(f"{pair.name}: holds no sound")
    mel = scaled(sound_mel(pair.sound))
    if len(mel) != 2 * SEGMENT_FRAMES:
        raise DataError(f"{pair.name}: {len(mel)} frames of sound, expected {2 * SEGMENT_FRAMES}")
    return mel.reshape(2, SEGMENT_FRAMES, N_BANDS)
