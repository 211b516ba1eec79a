"""Midi2Wave: a piano roll, a Transformer, a mel spectrogram, a neural vocoder.

Shi, Cooper, Wang, Yamagishi & Narayanan, "Can Knowledge of End-to-End Text-to-Speech Models Improve Neural
MIDI-to-Audio Synthesis Systems?", ICASSP 2023, and its predecessor (Cooper, Wang & Yamagishi, "Text-to-Speech Synthesis
Techniques for MIDI-to-Audio Synthesis", SSW 2021). Kept: the piano roll with velocities at the rate of the spectrogram,
a convolutional pre-net, a Transformer, a post-net that refines the spectrogram, a vocoder trained apart (inverter.py).

Dropped: the decoder that reads its own last frame (all frames are written at once, as roll and spectrogram are aligned
anyway), one position for each row (two rows are one), joint training with the vocoder, the filter bank with one band a
semitone. Added: an instrument's embedding, as the original plays a piano alone; and how long each note has sounded, as
a window may begin within it.
"""

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from miao.arrays import Floats, Records
from miao.bank.frames import N_PITCHES
from miao.config import Count, check
from miao.datasets.pairs import Pair
from miao.errors import ConfigError, DataError
from miao.peers.inputs import (
    DRUM_KIT,
    FLOOR_DB,
    HOP_SAMPLES,
    N_BANDS,
    N_INSTRUMENTS,
    instruments,
    scaled,
    sound_mel,
    unscaled,
)
from miao.sound.spectrum import SAMPLE_RATE

ROWS = 512  # of a window, 10 ms each
_PATCH = 2  # rows that the Transformer takes as one, to be four times as fast
_N_CHANNELS = 3  # of the roll: velocity where a note starts, velocity while it sounds, how long it has
_KEEP = ROWS // 4  # rows at both ends of a window that the windows beside it write
_DRUM_ROWS = 10  # that a drum is drawn for: it is not held
_LEVEL_GRADIENT = 0.5  # share of the loss on differences from row to row: attacks


@dataclass(frozen=True)
class Midi2WaveConfig:
    """Sizes of the acoustic model."""

    width: Count = 192
    n_heads: Count = 4
    n_layers: Count = 4
    hidden: Count = 768  # of the feed-forward parts

    def __post_init__(self) -> None:
        check(self, "model")
        if self.width % self.n_heads:
            raise ConfigError(
                f'"model.width" is {self.width}: it must be a multiple of "model.n_heads", {self.n_heads}'
            )


@dataclass(frozen=True)
class Midi2WaveBatch:
    """Windows of one instrument each."""

    roll: Tensor  # [B, ROWS, channels N_PITCHES]
    instrument: Tensor  # [B] 0..128
    mel: Tensor  # [B, ROWS, N_BANDS] as the net sees it


class Midi2Wave(nn.Module):
    """The acoustic model: from rolls to spectrograms."""

    def __init__(self, config: Midi2WaveConfig) -> None:
        super().__init__()
        width = config.width
        self.instrument = nn.Embedding(N_INSTRUMENTS, width)
        self.read = nn.Linear(_PATCH * _N_CHANNELS * N_PITCHES, width)
        nn.init.normal_(self.read.weight, std=0.5)  # few of its inputs are not 0, so each must weigh much
        nn.init.normal_(self.instrument.weight, std=0.5)
        self.pre = nn.ModuleList(nn.Conv1d(width, width, 5, padding=2) for _ in range(2))
        layer = nn.TransformerEncoderLayer(width, config.n_heads, config.hidden, 0.0, F.gelu, batch_first=True,
                                           norm_first=True)  # fmt: skip
        self.layers = nn.TransformerEncoder(layer, config.n_layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.write = nn.Linear(width, _PATCH * N_BANDS)
        self.post = nn.Sequential(nn.Conv1d(N_BANDS, width, 5, padding=2), nn.Tanh(),
                                  nn.Conv1d(width, width, 5, padding=2), nn.Tanh(),
                                  nn.Conv1d(width, N_BANDS, 5, padding=2))  # fmt: skip
        self.places: Tensor
        self.register_buffer("places", sinusoids(ROWS // _PATCH, width), persistent=False)

    def forward(self, roll: Tensor, instrument: Tensor) -> tuple[Tensor, Tensor]:
        """The spectrogram before and after the post-net, [B, ROWS, N_BANDS] each, as the net sees it."""
        x = self.read(roll.unflatten(1, (-1, _PATCH)).flatten(2))  # [B, ROWS / 2, W]
        x = x + self.instrument(instrument).unsqueeze(1)
        for conv in self.pre:
            x = x + F.gelu(conv(x.transpose(1, 2))).transpose(1, 2)
        x = self.norm(self.layers(x + 0.3 * self.places))
        mel = self.write(x).view(*roll.shape[:2], N_BANDS)
        return mel, mel + self.post(mel.transpose(1, 2)).transpose(1, 2)


def sinusoids(n: int, width: int) -> Tensor:
    """Positions 0 to n - 1 as sines and cosines (Vaswani et al. 2017), [n, width]."""
    rates = torch.exp(-torch.arange(0, width, 2) * (np.log(10_000.0) / width))
    turns = torch.arange(n).unsqueeze(1) * rates
    return torch.stack([turns.sin(), turns.cos()], dim=2).flatten(1)


def piano_roll(notes: Records, start_seconds: float) -> Floats:
    """PAIR_NOTE as an image of the window that starts at a time, [ROWS, channels N_PITCHES] in 0..1.

    A note is drawn from the row nearest its start to the one nearest its damp, and has one row at the least; of two of
    one pitch the later start wins.
    """
    roll = np.zeros((_N_CHANNELS, ROWS, N_PITCHES), np.float32)
    rate = SAMPLE_RATE / HOP_SAMPLES
    drums = instruments(notes) == DRUM_KIT
    begins = np.rint((notes["start"] - start_seconds) * rate).astype(int)
    ends = np.maximum(np.rint((notes["damp"] - start_seconds) * rate).astype(int), begins + 1)
    ends = np.where(drums, begins + _DRUM_ROWS, ends)
    for begin, end, pitch, velocity in zip(begins, ends, notes["pitch"], notes["velocity"], strict=True):
        if begin >= ROWS or end <= 0:
            continue
        rows = np.arange(max(begin, 0), min(end, ROWS))
        if begin >= 0:
            roll[0, begin, pitch] = velocity / 127
        roll[1, rows, pitch] = velocity / 127
        roll[2, rows, pitch] = np.minimum(np.log1p((rows - begin) / 5) / np.log1p(200), 1)  # 1 after 10 s
    return roll.transpose(1, 0, 2).reshape(ROWS, -1)


class Midi2WaveObjective(nn.Module):
    """The spectrogram's error, before and after the post-net."""

    parts = ("model",)

    def __init__(self, config: Midi2WaveConfig, precision: str) -> None:
        super().__init__()
        self.precision = precision
        self.model = Midi2Wave(config)

    def collate(self, pairs: list[Pair], rng: np.random.Generator) -> Midi2WaveBatch:
        """Whole windows; nothing is drawn at random. Raises: DataError for a window of several instruments."""
        for pair in pairs:
            if len(set(instruments(pair.notes))) > 1:
                raise DataError(f"{pair.name}: a window of several instruments; make pairs with `--mixes 0`")
        mels = np.stack([sound_mel(pair.sound) for pair in pairs if pair.sound is not None])
        kinds = np.array([instruments(pair.notes[:1])[0] for pair in pairs])
        rolls = np.stack([piano_roll(pair.notes, 0.0) for pair in pairs])
        return Midi2WaveBatch(torch.from_numpy(rolls), torch.from_numpy(kinds), scaled(torch.from_numpy(mels)))

    def forward(self, batch: Midi2WaveBatch, step: int) -> dict[str, Tensor]:
        """Mean absolute errors; "error_db" is that of the spectrogram in dB."""
        with torch.autocast(batch.mel.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = self.model(batch.roll, batch.instrument)
        losses = []
        for mel in (output.float() for output in outputs):
            change = (mel - batch.mel).diff(dim=1).abs().mean()
            losses.append((mel - batch.mel).abs().mean() + _LEVEL_GRADIENT * change)
        with torch.no_grad():
            error = unscaled(outputs[1].float()).sub(unscaled(batch.mel)).abs().mean()
        return {"loss/total": torch.stack(losses).sum(), "error_db": error}


@torch.no_grad()
def predict_mel(model: Midi2Wave, notes: Records, n_rows: int) -> Floats:
    """The spectrogram of a track (PAIR_NOTE, one instrument), [n_rows, N_BANDS] in dB.

    Windows overlap by half; the middle half of each is kept. A window without notes is silent.
    """
    mel = np.full((n_rows, N_BANDS), FLOOR_DB, np.float32)
    if not len(notes):
        return mel
    instrument = torch.from_numpy(instruments(notes[:1]))
    for first in range(0, n_rows, ROWS - 2 * _KEEP):
        begin = first - _KEEP
        roll = piano_roll(notes, begin * HOP_SAMPLES / SAMPLE_RATE)
        if not roll.any():
            continue
        made = unscaled(model(torch.from_numpy(roll)[None], instrument)[1][0]).numpy()
        last = min(first + ROWS - 2 * _KEEP, n_rows)
        mel[first:last] = np.maximum(made[_KEEP : _KEEP + last - first], FLOOR_DB)
    return mel
