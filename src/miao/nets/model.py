"""The paper's Figure 1: MIDI encoder, audio encoder, audio decoder.

B batch   T frames   N pitch columns   L encoder tokens   D width   C cells of an audio token   K levels
a = 32 steps of a chunk, or encoder tokens of a segment   G = 256 / a segments   f segments that a token looks back
"""

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miao.bank import tokens as tk
from miao.bank.frames import CHANNELS, N_SEGMENTS, SEGMENT_TOKENS, WINDOW_AUDIO_FRAMES, WINDOW_TOKENS
from miao.bank.voices import N_PITCHES, N_VOICES, PITCH_NODES, SEMITONES_A_NODE
from miao.config import Count, Range, check
from miao.errors import ConfigError
from miao.nets.layers import (
    CausalSelfAttention,
    ChannelAttention,
    ChannelNorm,
    CrossAttention,
    DepthwiseConv,
    ParallelConv,
)
from miao.sound.spectrum import N_MELS

_PROFILE_LEVELS = 8.0  # a profile's unit, so that it learns as fast as the nets
_PATCH = 4  # the decoder's image is that much coarser than a chunk, in steps and in cells


@dataclass(frozen=True)
class ModelConfig:
    """Sizes of the nets."""

    encoder_channels: Count = 10  # of the image after Eq. 1; a multiple of the channels of x_m
    width: Count = 96  # D, of an encoder token
    n_heads: Count = 3  # h (the paper's best)
    segment_tokens: Annotated[int, Range(2, WINDOW_TOKENS)] = SEGMENT_TOKENS  # a, encoder tokens that share one CLS
    n_segments: Count = N_SEGMENTS  # f, how many segments back a token looks, its own included
    voice_width: Count = 128  # of a voice's embedding at one pitch
    hidden: Count = 512  # of the decoder's conditioning
    decoder_channels: Count = 24  # of the decoder's image; a multiple of 8 (for vector units) and of h
    decoder: Literal["conv", "ffn"] = "conv"  # Eq. 5-6, or the paper's Table 2
    n_voices: Count = N_VOICES
    audio_channels: Count = 24  # of the audio encoder's image
    share: Literal["none", "midi", "decoder"] = "none"  # that the audio encoder shares (BLIP: decoder)

    def __post_init__(self) -> None:
        """Raises: ConfigError for settings out of range, and for sizes that do not go together."""
        check(self, "model")
        if WINDOW_TOKENS % self.segment_tokens:
            raise ConfigError(f'"model.segment_tokens" is {self.segment_tokens}: it must divide {WINDOW_TOKENS}')
        if self.encoder_channels % len(CHANNELS):
            raise ConfigError(f'"model.encoder_channels" is {self.encoder_channels}: it must be a multiple of the '
                              f"{len(CHANNELS)} channels of x_m")  # fmt: skip
        for name in ("width", "decoder_channels"):
            size = getattr(self, name)
            if size % self.n_heads:
                raise ConfigError(f'"model.{name}" is {size}: it must be a multiple of "model.n_heads", {self.n_heads}')


@dataclass(frozen=True)
class Encoding:
    """What the MIDI encoder says of a window."""

    cls: Tensor  # [B, G, D]  each segment in one vector
    tokens: Tensor  # [B, L, D]  what has been played up to each moment

    def context(self) -> Tensor:
        """Context of a chunk that starts when a token ends: the token and the CLS of the segment before. [B, L, D]"""
        before = F.pad(self.cls, (0, 0, 1, 0))[:, :-1]
        segments = self.tokens.unflatten(1, (self.cls.shape[1], -1))  # [B, G, a, D]
        tokens: Tensor = (segments + before.unsqueeze(2)).flatten(1, 2)
        return tokens


class MidiEncoder(nn.Module):
    """Eq. 1-4, causal in time."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        n_in, channels = len(CHANNELS), config.encoder_channels
        self.segment_tokens = config.segment_tokens
        flat = channels * N_PITCHES // 4
        self.reduce_first = DepthwiseConv(n_in, stride=2, multiplier=channels // n_in, causal=True)
        self.reduce_second = DepthwiseConv(channels, stride=2, causal=True)
        self.reduce_norm = ChannelNorm(channels)
        self.parallel = ParallelConv(channels, causal=True)
        self.before = DepthwiseConv(channels, causal=True)
        self.before_norm = ChannelNorm(channels)
        self.attention = CausalSelfAttention(
            flat, config.width, config.n_heads, WINDOW_TOKENS, config.n_segments * config.segment_tokens
        )
        self.after_norm = ChannelNorm(channels)
        self.after = DepthwiseConv(channels, causal=True)
        self.to_tokens = nn.Linear(flat, config.width)
        self.to_cls = nn.Linear(config.width, config.width)

    def forward(self, frames: Tensor) -> Encoding:
        data_s = F.gelu(
            self.reduce_norm(
                self.reduce_second(self.reduce_first(frames.contiguous(memory_format=torch.channels_last)))
            )
        )  # [B, W, T/4, N/4]  Eq. 1
        data_m = self.parallel(data_s)  # Eq. 2
        rows = self.before_norm(self.before(data_m)).transpose(1, 2)  # [B, L, W, N/4]
        attended = self.attention(rows.flatten(2)).view(rows.shape).transpose(1, 2)
        out = self.after(self.after_norm(attended)) + data_s  # Eq. 3
        tokens = self.to_tokens(out.transpose(1, 2).flatten(2))  # [B, L, D]
        segments = tokens.view(-1, WINDOW_TOKENS // self.segment_tokens, self.segment_tokens, tokens.shape[-1])
        return Encoding(cls=self.to_cls(segments.mean(dim=2)), tokens=tokens)


@dataclass(frozen=True)
class AudioFeatures:
    """What the audio encoder says of a window before it looks at any MIDI."""

    data_s: Tensor  # [B, W, La, M/4]  after Eq. 1
    rows: Tensor  # [B, La, W, M/4]  what attention reads
    cls: Tensor  # [B, G, D]  each segment in one vector
    tokens: Tensor  # [B, La, D]


class AudioEncoder(nn.Module):
    """Eq. 1-4 over the log-mel image x_a, with cross-attention to MIDI tokens in place of self-attention.

    Nothing of it runs in synthesis. What needs no partner is computed once a window (`features`); only `joint`, which
    is cheap, is computed for each pair that is to be matched.
    """

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        sharing = {"none": config.audio_channels, "midi": config.encoder_channels, "decoder": config.decoder_channels}
        channels, n_tokens = sharing[config.share], WINDOW_AUDIO_FRAMES // 4
        flat = channels * N_MELS // 4
        self.n_cls = WINDOW_TOKENS // config.segment_tokens
        self.reduce_first = DepthwiseConv(1, stride=2, multiplier=channels)
        self.reduce_second = DepthwiseConv(channels, stride=2)
        self.reduce_norm = ChannelNorm(channels)
        self.parallel = ParallelConv(channels)
        self.before, self.before_norm = DepthwiseConv(channels), ChannelNorm(channels)
        self.attention = CrossAttention(flat, n_tokens, config.width, WINDOW_TOKENS, config.width, config.n_heads)
        self.after_norm, self.after = ChannelNorm(channels), DepthwiseConv(channels)
        self.to_tokens = nn.Linear(flat, config.width)
        self.to_cls = nn.Linear(config.width, config.width)
        self.to_joint = nn.Linear(flat, 2 * config.width)
        self.special = nn.Parameter(torch.randn(2 * config.width) * 0.02)  # the special token
        self.from_joint = nn.Linear(2 * config.width, config.width)

    def features(self, mel: Tensor) -> AudioFeatures:
        """Of log-mel images in dB, [B, Ta, M]."""
        image = ((mel + 60) / 20).unsqueeze(1).contiguous(memory_format=torch.channels_last)
        data_s = F.gelu(self.reduce_norm(self.reduce_second(self.reduce_first(image))))  # [B, W, Ta/4, M/4]  Eq. 1
        data_m = self.parallel(data_s)  # Eq. 2
        rows = self.before_norm(self.before(data_m)).transpose(1, 2)  # [B, La, W, M/4]
        tokens = F.gelu(self.to_tokens(rows.flatten(2)))  # [B, La, D]
        segments = tokens.unflatten(1, (self.n_cls, -1))
        return AudioFeatures(data_s, rows, self.to_cls(segments.mean(dim=2)), tokens)

    def joint(self, audio: AudioFeatures, midi_tokens: Tensor) -> Encoding:
        """Windows and MIDI tokens [B, L, D] as one: the special token's embedding [B, 1, D] as CLS, and the tokens."""
        attended = self.attention(audio.rows.flatten(2), midi_tokens).view(audio.rows.shape).transpose(1, 2)
        out = self.after(self.after_norm(attended)) + audio.data_s  # Eq. 3
        tokens = F.gelu(self.to_joint(out.transpose(1, 2).flatten(2)))  # [B, La, 2 D]
        share = torch.softmax(tokens @ self.special, dim=1)  # [B, La]: the special token looks at all others
        cls = self.from_joint((share.unsqueeze(2) * tokens).sum(dim=1, keepdim=True))
        return Encoding(cls, tokens)


@dataclass(frozen=True)
class ChunkInputs:
    """What is known when a chunk starts; all chunks of a batch are of one kind."""

    voice: Tensor  # [B] int64
    pitch: Tensor  # [B] MIDI pitch, fractions allowed
    velocity: Tensor  # [B] in 0..1
    index: Tensor  # [B] int64, number of the chunk within its kind
    age: Tensor  # [B] seconds since the note's start
    previous: Tensor  # [B, C] last token before the chunk, in levels; ignored by attacks
    context: Tensor  # [B, D] from Encoding.context, zeros where there is none


@dataclass(frozen=True)
class LevelDistribution:
    """A distribution over K levels for each cell: a logistic, cut at the borders between levels.

    Its two numbers stand for K probabilities; the tails belong to the lowest and the highest level.
    """

    mean: Tensor  # [B, a, C] in levels
    log_scale: Tensor  # [B, a, C] of the spread in levels

    def log_prob(self, levels: Tensor) -> Tensor:
        """Log probability of integer levels, same shape."""
        inverse = torch.exp(-self.log_scale)
        upper = (levels + 0.5 - self.mean) * inverse
        lower = (levels - 0.5 - self.mean) * inverse
        # the tails go on without end, also where the mean is so far away that a border at 40 would be on its wrong side
        upper, lower = (
            torch.where(levels >= tk.N_LEVELS - 1, lower.clamp(min=0) + 40, upper),
            torch.where(levels <= 0, upper.clamp(max=0) - 40, lower),
        )
        # log(sigmoid(u) - sigmoid(l)) = log(1 - exp(l - u)) - softplus(-u) - softplus(l)
        return torch.log(-torch.expm1((lower - upper).clamp(max=-1e-4))) - F.softplus(-upper) - F.softplus(lower)

    def expected(self) -> Tensor:
        """The expected level, fractions kept, same shape."""
        return self.mean.clamp(0, tk.N_LEVELS - 1)


class AudioDecoder(nn.Module):
    """Eq. 5-6 over the image (token step, cell) of one chunk, conditioned on all that is known when it starts."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.rows, self.columns = tk.CHUNK_STEPS // _PATCH, tk.N_CELLS // _PATCH
        channels, hidden = config.decoder_channels, config.hidden
        self.voices = nn.Parameter(torch.randn(config.n_voices, PITCH_NODES, config.voice_width) * 0.3)
        self.chunks = nn.Embedding(3 * (tk.MAX_CHUNK_INDEX + 1), hidden)
        self.condition = nn.Linear(config.voice_width + 12 + tk.N_CELLS + config.width, hidden)
        self.condition_second = nn.Linear(hidden, hidden)
        size = channels * self.rows * self.columns
        self.expand = nn.ModuleList(nn.Linear(hidden, size) for _ in range(3))  # by chunk kind
        self.is_ffn = config.decoder == "ffn"
        if not self.is_ffn:
            self.before, self.before_norm = DepthwiseConv(channels), ChannelNorm(channels)
            self.attention, self.attention_norm = ChannelAttention(channels, config.n_heads), ChannelNorm(channels)
            self.parallel, self.after = ParallelConv(channels), DepthwiseConv(channels)
            self.after_norm = ChannelNorm(channels)
        self.head = nn.Conv2d(channels, 2 * _PATCH**2, 1)
        self.keep = nn.Parameter(torch.full((3, tk.CHUNK_STEPS, tk.N_CELLS), 2.0))
        self.profiles = nn.ParameterList(torch.zeros(config.n_voices, PITCH_NODES, tk.N_CELLS) for _ in range(3))
        steps = torch.arange(1, tk.CHUNK_STEPS + 1) / tk.CHUNK_STEPS
        self.ramps: Tensor
        self.register_buffer("ramps", torch.stack([torch.ones_like(steps), steps, steps]), persistent=False)

    def voice_at(self, kind: int, voice: Tensor, pitch: Tensor) -> tuple[Tensor, Tensor]:
        """A voice's embedding at a pitch [B, voice_width] and its profile there for a chunk kind [B, C]."""
        return _between(self.voices, voice, pitch), _between(self.profiles[kind], voice, pitch)

    def start(
        self, kind: int, inputs: ChunkInputs, voice: tuple[Tensor, Tensor], *, is_attack: bool
    ) -> tuple[Tensor, Tensor]:
        """e_m [B, channels, rows, columns] and the levels [B, a, C] that chunks of one kind set out from.

        These are the anchor's, kept in part, and the profile of the ``voice`` (from `voice_at`): for attacks the
        spectrum with which it starts, for the others how fast each cell decays (a straight line in dB).
        """
        embedding, profile = voice
        loudness = 40 * torch.log10(inputs.velocity.clamp(min=1 / 127)) / tk.LEVEL_STEP_DB  # in levels, up to 0
        struck = (48 + loudness).unsqueeze(1).expand(-1, tk.PITCH_CELL)
        struck = F.pad(struck, (0, 1), value=float(tk.CENTS_CENTRE))
        anchor = struck if is_attack else inputs.previous  # [B, C]
        known = torch.cat([embedding, _scalars(inputs), (anchor - 32) / 16, inputs.context], dim=1)
        x = F.gelu(self.condition(known) + self.chunks(kind * (tk.MAX_CHUNK_INDEX + 1) + inputs.index))
        x = x + F.gelu(self.condition_second(x))  # [B, hidden]
        image = self.expand[kind](x).view(x.shape[0], self.rows, self.columns, -1).permute(0, 3, 1, 2)
        moved = _PROFILE_LEVELS * self.ramps[kind].unsqueeze(1) * profile.unsqueeze(1)  # [B, a, C]
        return image, torch.sigmoid(self.keep[kind]) * anchor.unsqueeze(1) + moved

    def finish(self, e_m: Tensor, anchor: Tensor) -> LevelDistribution:
        """The distribution that e_m stands for, around the anchor's levels. [B, a, C]"""
        image = F.gelu(e_m) if self.is_ffn else self.refine(e_m)
        levels = F.pixel_shuffle(self.head(image), _PATCH)  # [B, 2, a, C]
        return LevelDistribution(anchor + 8 * levels[:, 0], levels[:, 1].clamp(-4, 4))

    def forward(self, kind: int, inputs: ChunkInputs) -> LevelDistribution:
        """Distribution of the levels of chunks of one kind."""
        voice = self.voice_at(kind, inputs.voice, inputs.pitch)
        return self.finish(*self.start(kind, inputs, voice, is_attack=kind == tk.ATTACK))

    def refine(self, e_m: Tensor) -> Tensor:
        """Eq. 5 and 6, with the image carried past them so that they learn what is missing."""
        de_m = F.gelu(self.attention_norm(self.attention(F.gelu(self.before_norm(self.before(e_m))))))
        refined: Tensor = e_m + self.after_norm(self.after(self.parallel(de_m)))
        return refined


def share_parameters(source: nn.Module, target: nn.Module) -> None:
    """Give the target's layers outside attention (Eq. 2 and 3 / 5 and 6) the source's parameters (the BLIP rule).

    Running averages of batch norms stay apart, as the two see different images.
    """
    for name in ("parallel", "before", "before_norm", "after_norm", "after"):
        theirs = dict(getattr(source, name).named_modules())
        for path, module in getattr(target, name).named_modules():
            for key in list(module._parameters):
                module._parameters[key] = theirs[path]._parameters[key]


def node_below(pitch: Tensor) -> tuple[Tensor, Tensor]:
    """As `voices.node_below`, of tensors."""
    position = pitch.clamp(0, N_PITCHES - 2) / SEMITONES_A_NODE
    low = position.floor().long().clamp(max=PITCH_NODES - 2)
    return low, position - low


def _between(nodes: Tensor, voice: Tensor, pitch: Tensor) -> Tensor:
    """What the nodes [V, PITCH_NODES, W] of voices say at pitches, linear between the two nearest. [B] -> [B, W]"""
    low, share = node_below(pitch)
    at = voice * PITCH_NODES + low
    both = F.embedding(torch.stack([at, at + 1], dim=1), nodes.flatten(0, 1))  # [B, 2, W]
    return (torch.stack([1 - share, share], dim=1).unsqueeze(2) * both).sum(dim=1)


def _scalars(inputs: ChunkInputs) -> Tensor:
    """Pitch, velocity and age as smooth features, [B, 12]."""
    pitch, velocity = (inputs.pitch - 64) / 32, inputs.velocity
    age = torch.log1p(inputs.age / 0.05) / 4
    columns = [pitch, pitch**2, torch.sin(3 * pitch), torch.cos(3 * pitch)]
    columns += [velocity, velocity**2, torch.sin(6 * velocity), torch.cos(6 * velocity), torch.sin(12 * velocity)]
    columns += [age, age**2, torch.sin(4 * age)]
    return torch.stack(columns, dim=1)
