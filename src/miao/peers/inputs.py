"""What the peers read and write: notes of a track, a mel spectrogram finer than x_a, batches of pairs with their sound.

The peers' mel has 128 bands, so that two tones a semitone apart fall into different bands from 400 Hz on, as low as the
2048-point frames of spectrum.py tell them apart; a row every 10 ms. Their nets see it as numbers around 0.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from miao.arrays import Floats, Integers, Records
from miao.bank.voices import is_drum_voice
from miao.config import Count, Whole, check
from miao.datasets.pairs import Pair
from miao.errors import DataError
from miao.sound.spectrum import FRAME_SAMPLES, mel_filters
from miao.training.batches import pair_stream

N_BANDS = 128
HOP_SAMPLES = 441  # 10 ms
FLOOR_DB = -100.0
N_INSTRUMENTS = 129  # 128 programs and a drum kit, whose pitches are its keys
DRUM_KIT = 128
MARGIN_SAMPLES = (FRAME_SAMPLES - HOP_SAMPLES) // 2  # that the first row sees before its own samples
_CENTRE_DB, _SPREAD_DB = -55.0, 45.0  # -100 dB is -1, -10 dB is 1
_BLOCK_ROWS = 4096  # at once, for memory


def sound_mel(samples: Floats) -> Floats:
    """The mel spectrogram of a sound [S] at 44.1 kHz in dB, [S / HOP_SAMPLES rounded down, N_BANDS].

    Row n is centred in its own HOP_SAMPLES samples; silence lies beyond both ends.
    """
    n_rows = len(samples) // HOP_SAMPLES
    padded = torch.from_numpy(np.pad(np.asarray(samples, np.float32), (MARGIN_SAMPLES, FRAME_SAMPLES)))
    blocks = [np.zeros((0, N_BANDS), np.float32)]
    for first in range(0, n_rows, _BLOCK_ROWS):
        last = min(first + _BLOCK_ROWS, n_rows) - 1
        part = padded[first * HOP_SAMPLES : last * HOP_SAMPLES + FRAME_SAMPLES]
        blocks.append(torch_mel(part).numpy())
    return np.concatenate(blocks)


def torch_mel(samples: Tensor) -> Tensor:
    """The same of samples [..., S] without anything beyond their ends, differentiable: [..., rows, N_BANDS] in dB."""
    window = torch.hann_window(FRAME_SAMPLES, device=samples.device)
    frames = samples.unfold(-1, FRAME_SAMPLES, HOP_SAMPLES)
    power = torch.view_as_real(torch.fft.rfft(frames * (window * (2 / window.sum())))).square().sum(dim=-1)
    filters = torch.from_numpy(mel_filters(N_BANDS)).to(samples.device)
    return 10 * torch.log10((power @ filters.T).clamp(min=10 ** (FLOOR_DB / 10)))


def scaled(mel_db: Any) -> Any:
    """dB as a net sees them: about -1 to 1."""
    return (mel_db - _CENTRE_DB) / _SPREAD_DB


def unscaled(values: Any) -> Any:
    """dB again."""
    return values * _SPREAD_DB + _CENTRE_DB


def instruments(notes: Records) -> Integers:
    """The instrument of each note: its program, or DRUM_KIT."""
    return np.array([DRUM_KIT if is_drum_voice(int(v)) else int(v) for v in notes["voice"]], np.int64)


@dataclass(frozen=True)
class PeerBatchConfig:
    """What a batch is made of."""

    pairs: Count = 16  # windows with their sound, of all processes together; a multiple of ``lanes``
    lanes: Count = 4  # shares that batches are drawn in, see training/batches.py
    seed: Whole = 0

    def __post_init__(self) -> None:
        check(self, "batch")


class PeerBatches:
    """Batches of pairs with sound for one process, made into tensors by an objective's ``collate``.

    What ``collate`` draws at random (crops, noise) depends on the process's lanes: two processes learn from the same
    pairs as one, but not from the same crops.
    """

    def __init__(self, config: PeerBatchConfig, pairs: Path, collate: Callable[[list[Pair], np.random.Generator], Any],
                 lanes: range, first: int = 0) -> None:  # fmt: skip
        """``lanes`` are this process's; ``first`` is how many batches have been drawn before."""
        self.config, self.collate, self.lanes, self.n_drawn = config, collate, lanes, first
        self.share = config.pairs // config.lanes  # of a lane
        skip = first * self.share
        self.streams = [pair_stream(pairs, lane, config.lanes, config.seed, skip, with_sound=True) for lane in lanes]

    def draw(self) -> Any:
        """The next batch. Raises: DataError for pairs without sound."""
        pairs = [pair for stream in self.streams for pair in islice(_with_sound(stream), self.share)]
        rng = np.random.default_rng([self.config.seed, self.n_drawn, self.lanes.start])
        self.n_drawn += 1
        return self.collate(pairs, rng)


def _with_sound(stream: Iterator[Pair]) -> Iterator[Pair]:
    for pair in stream:
        if pair.sound is None:
            raise DataError(f"{pair.name}: a pair without its sound; make pairs with `miao data pairs --sound`")
        yield pair
