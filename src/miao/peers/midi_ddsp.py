"""MIDI-DDSP: notes, then how each is played, then the parameters of an additive synthesizer, then sound.

Wu, Manilow, Deng, Swavely, Kastner, Cooijmans, Courville, Huang and Engel, "MIDI-DDSP: Detailed control of musical
performance via hierarchical modeling", ICLR 2022; harmonics, noise and spectral loss are those of Engel, Hantrakul, Gu
and Roberts, "DDSP: Differentiable digital signal processing", ICLR 2020.

Kept: the three levels; the six controls of a note and what each measures (not the scales of the two that are levels,
see expression_controls); a bidirectional GRU that predicts them from the notes; dilated convolutions from notes and
measured controls to f0, amplitude, harmonic distribution and noise; exact harmonics; the multi-scale spectral loss; f0
learns from measured f0 alone, the spectral loss does not reach it. Changed: the original is monophonic and knows 13
instruments at 16 kHz; here each note is a voice of its own, with one of 189 instruments (programs and drum keys),
sounds are summed and learnt from that sum, at 44.1 kHz; what a note measures are its audio tokens, not a DDSP
autoencoder with CREPE, where there are any (the others are played with the predicted controls). Dropped:
autoregression (of controls and f0), the GAN loss, the reverb.

A drum key has no pitch: its f0 is fixed and low, its harmonics are a comb that stands in for the modes of the drum.
Strings and bells that are not harmonic are played as if they were.
"""

from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miao.arrays import Floats, Records
from miao.bank.voices import N_PROGRAMS, N_VOICES
from miao.config import Count, Range, Weight, check
from miao.datasets.pairs import Pair
from miao.peers.ddsp import HOP, HOP_SECONDS, filtered_noise, oscillate, phases, spectral_loss
from miao.peers.expression import CONTROLS, expression_controls, measured_cents
from miao.sound.spectrum import SAMPLE_RATE

DRUM_HZ = 40.0
HIGHEST_HZ = 20_000.0
_DECAYS = (0.005, 0.015, 0.05, 0.15, 0.5, 1.5, 5.0)  # seconds: what a frame knows of time


@dataclass(frozen=True)
class MidiDdspConfig:
    """Sizes, and what a crop to learn from looks like."""

    width: Count = 256  # of the synthesis generator
    n_blocks: Annotated[int, Range(1, 8)] = 3  # of it, with dilations 1, 2, 4...
    voice_width: Count = 64  # of the embedding of an instrument
    expression_width: Count = 96  # of the GRU, each direction
    n_harmonics: Count = 96  # 60 at 16 kHz in the original
    n_bands: Annotated[int, Range(2)] = 65  # of noise, equally wide on the mel scale
    crop_hops: Count = 38  # of a window that are learnt from in a step: 0.38 s
    most_notes: Count = 10  # in a crop; of more the first to end are left out
    tail_seconds: Annotated[float, Range(0, 60)] = 2.0  # a note sounds after its damp, at the most
    fft_sizes: tuple[Annotated[int, Range(16, 65536)], ...] = (4096, 2048, 1024, 512, 256, 128)
    expression_weight: Weight = 1.0
    pitch_weight: Weight = 1.0

    def __post_init__(self) -> None:
        check(self, "model")

    @property
    def reach(self) -> int:
        """Frames that the convolutions see before and after a frame."""
        reach: int = 2**self.n_blocks - 1
        return reach


@dataclass(frozen=True)
class Notes:
    """The notes of some tracks, [B, L] each, filled up with zeros."""

    voice: Tensor  # int64
    numbers: Tensor  # [B, L, 4]: pitch / 127, velocity / 127, log of duration and of the time since the previous start
    n: Tensor  # [B] int64


@dataclass(frozen=True)
class Segments:
    """The parts of notes that sound, one row a note: frames every 10 ms from its start on."""

    track: Tensor  # [N] int64, row of Notes
    note: Tensor  # [N] int64, column of Notes
    age: Tensor  # [N] seconds from the note's start to the first frame
    held: Tensor  # [N] seconds from its start to its damp
    offset: Tensor  # [N] int64, sample of the crop at which the first frame is


@dataclass(frozen=True)
class MidiDdspBatch:
    """One crop of each window, its notes, and what was measured of them."""

    sound: Tensor  # [B, S]
    notes: Notes
    controls: Tensor  # [B, L, 6]
    is_measured: Tensor  # [B, L] bool
    segments: Segments
    noise: Tensor  # [N, frames + 1, HOP] white, within -1..1
    cents: Tensor  # [N, frames] measured deviation of f0
    cents_weight: Tensor  # [N, frames] 0 or 1


@dataclass(frozen=True)
class SynthesisParameters:
    """What the synthesizer plays, at each frame."""

    hz: Tensor  # [N] nominal f0
    n_audible: Tensor  # [N] int64, harmonics below HIGHEST_HZ; the others are 0
    cents: Tensor  # [N, frames] deviation of f0, -100..100
    harmonics: Tensor  # [N, frames, H] amplitudes
    noise: Tensor  # [N, frames, bands] magnitudes


class ExpressionGenerator(nn.Module):
    """The controls of notes, from the notes of a track."""

    def __init__(self, config: MidiDdspConfig) -> None:
        super().__init__()
        self.gru = nn.GRU(config.voice_width + 30, config.expression_width, batch_first=True, bidirectional=True)
        self.head = nn.Linear(2 * config.expression_width, len(CONTROLS))

    def forward(self, notes: Notes, voice: Tensor) -> Tensor:
        """Shape: [B, L], embeddings [B, L, D] -> [B, L, 6], each within 0..1."""
        x = torch.cat([voice, _known(notes.numbers[..., :2]), notes.numbers[..., 2:]], dim=2)
        lengths = notes.n.clamp(min=1).cpu()
        packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        hidden, _ = nn.utils.rnn.pad_packed_sequence(self.gru(packed)[0], batch_first=True, total_length=x.shape[1])
        return torch.sigmoid(self.head(hidden).float())


class DilatedBlock(nn.Module):
    """A residual convolution over frames with a kernel of 3, written as a matrix product; no padding."""

    def __init__(self, width: int, dilation: int) -> None:
        super().__init__()
        self.dilation = dilation
        self.norm = nn.LayerNorm(width)
        self.taps, self.out = nn.Linear(3 * width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        d, y = self.dilation, self.norm(x)
        y = torch.cat([y[:, : -2 * d], y[:, d:-d], y[:, 2 * d :]], dim=2)
        out: Tensor = x[:, d:-d] + self.out(F.gelu(self.taps(y)))  # [N, T, D] -> [N, T - 2 d, D]
        return out


class SynthesisGenerator(nn.Module):
    """The parameters of the synthesizer at each frame, from a note and its controls."""

    def __init__(self, config: MidiDdspConfig) -> None:
        super().__init__()
        self.sizes = [1, 1, config.n_harmonics, config.n_bands]
        self.note = nn.Linear(config.voice_width + 28 + len(CONTROLS), 2 * config.width)
        self.time = nn.Linear(3 + 2 * len(_DECAYS) + 3, config.width)
        self.blocks = nn.Sequential(*(DilatedBlock(config.width, 2**i) for i in range(config.n_blocks)))
        self.norm = nn.LayerNorm(config.width)
        self.head = nn.Linear(config.width, sum(self.sizes))
        with torch.no_grad():  # in tune at first, and tones before noise: from silence learning starts late
            self.head.weight[0], self.head.bias[0] = 0.0, 0.0
            self.head.bias[1] -= 1.0
            self.head.bias[2 : 2 + config.n_harmonics] -= torch.arange(1, config.n_harmonics + 1).log()
            self.head.bias[-config.n_bands :] -= 5.0

    def forward(self, voice: Tensor, numbers: Tensor, controls: Tensor, age: Tensor, held: Tensor,
                hz: Tensor, is_drum: Tensor) -> SynthesisParameters:  # fmt: skip
        """Shapes: a note's embedding [N, D], pitch and velocity [N, 2], controls [N, 6], seconds since its start
        [N, frames + 2 reach] and until its damp [N], nominal f0 [N], whether that is fixed [N]."""
        scale, shift = self.note(torch.cat([voice, _known(numbers), controls], dim=1)).unsqueeze(1).chunk(2, dim=2)
        x = self.time(_times(age, held)) * (1 + scale) + shift  # [N, T, D]
        x = self.head(self.norm(self.blocks(x))).float()
        cents, amplitude, distribution, noise = x.split(self.sizes, dim=2)
        number = torch.arange(1, self.sizes[2] + 1, device=x.device)
        n_audible = (HIGHEST_HZ / hz).long().clamp(1, self.sizes[2])
        distribution = _positive(distribution) * (number <= n_audible[:, None, None])
        return SynthesisParameters(
            hz=hz,
            n_audible=n_audible,
            cents=100 * torch.tanh(cents.squeeze(2) / 4) * ~is_drum.unsqueeze(1),
            harmonics=_positive(amplitude) * distribution / distribution.sum(dim=2, keepdim=True).clamp(min=1e-7),
            noise=_positive(noise),
        )


def _positive(x: Tensor) -> Tensor:
    """DDSP's exponential sigmoid, 0..2: equal steps of x are equal steps of dB."""
    return 2 * torch.sigmoid(x) ** 2.3026 + 1e-7


def _known(numbers: Tensor) -> Tensor:
    """Pitch and velocity, 0..1 each, as shares of 18 and 10 nodes, [..., 2] -> [..., 28]."""
    shares = []
    for x, n in zip(numbers.unbind(-1), (18, 10), strict=True):
        nodes = torch.arange(n, device=x.device, dtype=x.dtype)
        shares.append((1 - (x.unsqueeze(-1) * (n - 1) - nodes).abs()).clamp(min=0))
    return torch.cat(shares, dim=-1)


def _times(age: Tensor, held: Tensor) -> Tensor:
    """What a frame knows of time: [N, T] seconds since the start, [N] from it to the damp -> [N, T, 20]."""
    since = age - held.unsqueeze(1)
    is_on, is_off = (age >= 0).to(age.dtype), (since >= 0).to(age.dtype)
    age, since = age.clamp(min=0), since.clamp(min=0)
    known = [is_on, is_off, torch.log1p(100 * age) / 5, torch.log1p(100 * since) / 5, torch.log1p(age), since]
    for seconds in _DECAYS:
        known += [is_on * torch.exp(-age / seconds), is_off * torch.exp(-since / seconds)]
    return torch.stack(known, dim=2)


def pitch_hz_of(pitch: Tensor, is_drum: Tensor) -> Tensor:
    """Nominal f0 of notes; drums share one."""
    return torch.where(is_drum, DRUM_HZ, 440 * 2 ** ((pitch - 69) / 12))


class MidiDdsp(nn.Module):
    """Notes to sound."""

    def __init__(self, config: MidiDdspConfig) -> None:
        super().__init__()
        self.config = config
        self.voice = nn.Embedding(N_VOICES, config.voice_width)
        self.expression = ExpressionGenerator(config)
        self.synthesis = SynthesisGenerator(config)

    def controls(self, notes: Notes) -> Tensor:
        """How notes are played, [B, L, 6]."""
        controls: Tensor = self.expression(notes, self.voice(notes.voice))
        return controls

    def parameters_of(self, notes: Notes, controls: Tensor, segments: Segments,
                      n_frames: int) -> SynthesisParameters:  # fmt: skip
        """What the synthesizer plays of some notes."""
        at, reach = (segments.track, segments.note), self.config.reach
        voice, numbers = notes.voice[at], notes.numbers[at][:, :2]
        is_drum = voice >= N_PROGRAMS
        hz = pitch_hz_of(127 * numbers[:, 0], is_drum)
        frames = torch.arange(-reach, n_frames + reach, device=hz.device)
        age = segments.age.unsqueeze(1) + HOP_SECONDS * frames
        parameters: SynthesisParameters = self.synthesis(
            self.voice(voice), numbers, controls[at], age, segments.held, hz, is_drum
        )
        return parameters

    def play(self, played: SynthesisParameters, noise: Tensor, is_wanted: Tensor) -> Tensor:
        """The sound of notes, hop by hop, [N, frames - 1, HOP]; hops that are not wanted [N, frames - 1] are silent."""
        if not len(noise):
            return noise[:, 1:-1]
        with torch.autocast(noise.device.type, enabled=False):  # sound is float32
            with torch.no_grad():
                phase = phases(played.hz.unsqueeze(1) * 2 ** (played.cents / 1200))
            rows, hops = is_wanted.nonzero(as_tuple=True)
            left, right = played.harmonics[rows, hops], played.harmonics[rows, hops + 1]
            tones = oscillate(phase[rows, hops], left, right, played.n_audible[rows])
            sound = filtered_noise(noise, played.noise) * is_wanted.unsqueeze(2)
            return sound.index_put((rows, hops), tones, accumulate=True)

    def forward(self, batch: MidiDdspBatch) -> tuple[Tensor, Tensor, Tensor]:
        """Sound [B, S], controls [B, L, 6], deviations of f0 in cents [N, frames]."""
        segments = batch.segments
        controls = self.controls(batch.notes)
        known = torch.where(batch.is_measured.unsqueeze(2), batch.controls, controls.detach())  # teacher forcing
        n_frames = batch.cents.shape[1]
        played = self.parameters_of(batch.notes, known, segments, n_frames)
        is_wanted = self._within(segments, n_frames - 1, batch.sound.shape[1])
        sound = self.play(played, batch.noise, is_wanted).flatten(1)  # [N, samples]
        n = batch.sound.shape[1] + HOP + sound.shape[1]  # room before and after each crop
        first = segments.track * n + HOP + segments.offset
        place = first.unsqueeze(1) + torch.arange(sound.shape[1], device=sound.device)
        mix = sound.new_zeros(len(batch.sound) * n).index_add(0, place.flatten(), sound.flatten())
        return mix.unflatten(0, (-1, n))[:, HOP : HOP + batch.sound.shape[1]], controls, played.cents

    def _within(self, segments: Segments, n_hops: int, n_samples: int) -> Tensor:
        """The hops that are in the crop, and before a note's tail ends."""
        hops = torch.arange(n_hops, device=segments.age.device)
        age = segments.age.unsqueeze(1) + HOP_SECONDS * hops
        is_inside = segments.offset.unsqueeze(1) + HOP * hops < n_samples
        return is_inside & (age < segments.held.unsqueeze(1) + self.config.tail_seconds)


# learning


class MidiDdspObjective(nn.Module):
    """The spectral loss of crops, and the errors of what was measured: controls and f0."""

    parts = ("model",)

    def __init__(self, config: MidiDdspConfig, precision: str) -> None:
        super().__init__()
        self.config, self.precision = config, precision
        self.model = MidiDdsp(config)

    def forward(self, batch: MidiDdspBatch, step: int) -> dict[str, Tensor]:
        """The losses by name; "loss/total" is what to descend."""
        with torch.autocast(batch.sound.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            sound, controls, cents = self.model(batch)
        spectral = spectral_loss(sound, batch.sound, self.config.fft_sizes)
        measured = batch.is_measured.unsqueeze(2)
        expression = ((controls - batch.controls).abs() * measured).sum() / (6 * measured.sum()).clamp(min=1)
        pitch = ((cents - batch.cents).abs() * batch.cents_weight).sum() / batch.cents_weight.sum().clamp(min=1) / 100
        total = spectral + self.config.expression_weight * expression + self.config.pitch_weight * pitch
        return {"loss/total": total, "loss/spectral": spectral, "loss/expression": expression, "loss/pitch": pitch}

    def collate(self, pairs: list[Pair], rng: np.random.Generator) -> MidiDdspBatch:
        """One crop of each pair, where something sounds and not too many notes do."""
        config = self.config
        n_samples = config.crop_hops * HOP
        crops = [self._crop(pair, rng) for pair in pairs]
        sounding = [(row, note, start) for row, (start, notes) in enumerate(crops) for note in notes]
        n_frames = config.crop_hops + 2  # a note's frames lie anywhere between the crop's
        numbers = []  # age, held, offset
        cents, weight = np.zeros((2, len(sounding), n_frames), np.float32)
        controls, is_measured = [], []
        for pair in pairs:
            own = np.zeros((len(pair.notes), len(CONTROLS)), np.float32)
            for note, tokens in pair.tokens.items():
                own[note] = expression_controls(tokens)
            controls.append(own)
            is_measured.append(np.isin(np.arange(len(own)), list(pair.tokens)))
        for i, (row, number, start) in enumerate(sounding):
            note = pairs[row].notes[number]
            first = round(note["start"] * SAMPLE_RATE) - start
            skipped = max(-first // HOP, 0)
            numbers.append((skipped * HOP_SECONDS, note["damp"] - note["start"], first + skipped * HOP))
            measured = pairs[row].tokens.get(number)
            if measured is not None and note["voice"] < N_PROGRAMS:
                cents[i], weight[i] = measured_cents(measured, (skipped + np.arange(n_frames)) * HOP_SECONDS)
        age, held, offset = np.array(numbers, np.float64).reshape(-1, 3).T
        noise = rng.random((len(sounding), n_frames + 1, HOP), np.float32) * 2 - 1
        places = np.array([row[:2] for row in sounding], np.int64).reshape(-1, 2)
        sounds = [_cut(pair, start, n_samples) for pair, (start, _) in zip(pairs, crops, strict=True)]
        return MidiDdspBatch(
            sound=torch.from_numpy(np.stack(sounds)),
            notes=notes_as_tensors([pair.notes for pair in pairs]),
            controls=nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in controls], batch_first=True),
            is_measured=nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in is_measured], batch_first=True),
            segments=Segments(
                track=torch.from_numpy(places[:, 0].copy()),
                note=torch.from_numpy(places[:, 1].copy()),
                age=torch.from_numpy(age).float(),
                held=torch.from_numpy(held).float(),
                offset=torch.from_numpy(offset.astype(np.int64)),
            ),
            noise=torch.from_numpy(noise),
            cents=torch.from_numpy(cents),
            cents_weight=torch.from_numpy(weight),
        )

    def _crop(self, pair: Pair, rng: np.random.Generator) -> tuple[int, list[int]]:
        """Where a crop starts, in samples, and the notes that sound in it."""
        assert pair.sound is not None
        n_samples, most = self.config.crop_hops * HOP, self.config.most_notes
        best: tuple[int, list[int]] = (0, [])
        for _ in range(10):
            start = int(rng.integers(0, max(len(pair.sound) - n_samples, 0) + 1))
            seconds, until = start / SAMPLE_RATE, (start + n_samples) / SAMPLE_RATE
            ends = pair.notes["damp"] + self.config.tail_seconds
            some = np.flatnonzero((pair.notes["start"] < until) & (ends > seconds))
            if not len(some) or np.abs(pair.sound[start : start + n_samples]).max(initial=0) < 1e-3:
                continue
            best = start, sorted(some[np.argsort(-ends[some], kind="stable")][:most].tolist())
            if len(some) <= most:
                break
        return best


def _cut(pair: Pair, start: int, n_samples: int) -> Floats:
    assert pair.sound is not None
    sound = pair.sound[start : start + n_samples]
    return np.pad(sound, (0, n_samples - len(sound))).astype(np.float32)


def notes_as_tensors(tracks: list[Records], device: torch.device | None = None) -> Notes:
    """The notes of tracks as the nets take them; a track's gaps are those of its notes in the order they have."""
    numbers = []
    for notes in tracks:
        gap = np.diff(notes["start"], prepend=notes["start"][:1] - 4)
        seconds = np.clip([notes["damp"] - notes["start"], gap], 0, 30)
        both = notes["pitch"] / 127, notes["velocity"] / 127, *np.log1p(10 * seconds) / 4
        numbers.append(torch.from_numpy(np.stack(both, axis=1).astype(np.float32)))
    voices = [torch.from_numpy(notes["voice"].astype(np.int64)) for notes in tracks]
    return Notes(
        voice=nn.utils.rnn.pad_sequence(voices, batch_first=True).to(device),
        numbers=nn.utils.rnn.pad_sequence(numbers, batch_first=True).to(device),
        n=torch.tensor([len(notes) for notes in tracks]),
    )
