"""What a data set gives: recordings, each with its score, its published split and the sound of its parts.

A loader (maestro.py, slakh.py, ...) is one file of the same shape: a card, a licence, a citation, where it comes from,
and two functions, `recordings` and `verify`. Nothing here reads sound; paths are given, so that listing a data set of
terabytes takes moments.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from miao.arrays import Floats
from miao.errors import DataError
from miao.midi.score import Score
from miao.sound.audio import read_audio

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Part:
    """Sound of some of a score's tracks: a stem, or the whole mix."""

    name: str
    audio: Path
    tracks: tuple[int, ...]  # of the score, from 0: what sounds in it
    channel: int | None = None  # of the file (one string of a hexaphonic pickup); None takes all

    def load(self) -> tuple[Floats, int]:
        """Samples [channels, S] and sample rate. Raises: AudioError, or DataError if the channel is not there."""
        audio = read_audio(self.audio)
        if self.channel is None:
            return audio.samples, audio.sample_rate
        if self.channel >= len(audio.samples):
            raise DataError(f"{self.audio}: has {len(audio.samples)} channels, channel {self.channel + 1} is wanted")
        return audio.samples[self.channel : self.channel + 1], audio.sample_rate


@dataclass(frozen=True)
class Recording:
    """One piece of a data set."""

    dataset: str
    name: str  # unique in the data set
    split: str  # of SPLITS, as published
    read_score: Callable[[], Score]  # seconds; programs are General MIDI's; raises ScoreError or DataError
    mix: Part | None
    stems: tuple[Part, ...] = ()  # where parts were recorded apart; preferred to the mix


@dataclass(frozen=True)
class Fault:
    """Something wrong with a data set on disk."""

    path: str  # relative to the root
    what: str  # "missing", "12 bytes, 3400 are published", "checksum differs", "sound ends 4.2 s before the notes"
