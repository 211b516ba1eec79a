"""What a benchmark is made of: pieces that are planned, and what is read of them when they are made."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miao.midi.score import Score
from miao.sound.audio import Audio
from miao.sound.spectrum import SAMPLE_RATE

SPLIT = "test"
EXCERPT_START = 15.0  # seconds
EXCERPT_SECONDS = 30.0
TAIL_SECONDS = 1.5


@dataclass(frozen=True)
class Material:
    """A piece before it is written down."""

    score: Score
    seconds: float  # of sound
    audio: Audio | None = None  # None: a SoundFont is to play it
    stems: tuple[Audio, ...] = ()
    notes_from: str = "score"  # or "alignment", "transcription"
    bandwidth_hz: float = SAMPLE_RATE / 2


@dataclass(frozen=True)
class Plan:
    """A piece to be made."""

    name: str
    group: str  # what results are put together by: a collection, an instrument, a kind of harmony
    origin: str  # the file
    read: Callable[[], Material]


def excerpt(score: Score, start: float, seconds: float) -> Score:
    """The notes that start within, none of them held beyond its end."""
    part = score.between(start, start + seconds)
    tracks = []
    for track in part.tracks:
        notes = track.notes.copy()
        for name in ("end", "damp"):
            notes[name] = np.minimum(notes[name], seconds)
        tracks.append(replace(track, notes=notes))
    return replace(part, tracks=tuple(tracks), duration=min(part.duration, seconds))


def found_place(roots: list[Path], places: tuple[str, ...]) -> Path | None:
    """The first of these folders below one of the roots, or below the root of the system."""
    for root in (*roots, Path("/")):
        for place in places:
            if (root / place).is_dir() and (root != Path("/") or place.startswith("usr/")):
                return root / place
    return None
