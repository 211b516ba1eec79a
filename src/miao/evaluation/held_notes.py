"""Notes that are held for long, keys beside each other and ever harder strokes, against the teacher.

Level: mean power of the two channels over one second around a moment, dB. A note lasts if the teacher's stays within
4 dB from 1 to 20 s; any other one decays. Levels below -90 dB and those more than 60 dB below the note's first second
count no more. How loud held notes are is measured at every key at one velocity (`training.courses`): at another one
nothing was.
"""

from dataclasses import dataclass

import numpy as np

from miao.arrays import Doubles, Reals
from miao.bank.bank import Bank
from miao.bank.voices import is_drum_voice
from miao.datasets.notes import Source, render, source_of
from miao.datasets.soundfont import SoundFont
from miao.measuring.roundtrip import one_note_score, play
from miao.sound.spectrum import SAMPLE_RATE

PITCHES = (38, 44, 50, 53, 59, 62, 68, 74, 86)
VELOCITY = 100
MOMENTS = (1.0, 2.0, 3.0, 5.0, 8.0, 10.0, 12.0, 20.0, 30.0)
LASTING_MOMENTS, DECAY_MOMENTS = (5.0, 10.0, 20.0, 30.0), (3.0, 5.0, 8.0, 12.0)
LASTING_DB, DECAY_DB = 3.0, 4.0  # how near the teacher's a level is to be
EVEN_KEYS = range(52, 69)
STROKES = (1, 16, 32, 48, 64, 80, 96, 112, 127)
_LASTS_WITHIN_DB = 4.0
_SILENT_DB, _LOWEST_DB, _DEEPEST_DB = -70.0, -90.0, 60.0
_HELD_SECONDS = MOMENTS[-1] + 0.6


@dataclass(frozen=True)
class HeldErrors:
    """A note's levels less the teacher's at some moments, dB."""

    voice: int
    pitch: int
    lasts: bool  # or decays
    moments: tuple[float, ...]
    differences: tuple[float, ...]

    def far(self) -> int:
        """How many of the moments are further from the teacher than they may be."""
        limit = LASTING_DB if self.lasts else DECAY_DB
        return sum(abs(d) > limit for d in self.differences)


def levels(sound: Reals) -> Doubles:
    """Levels at MOMENTS, dB; -120 where there is silence. Shape: [channels, S] at 44.1 kHz."""
    found = []
    for moment in MOMENTS:
        piece = sound[:, round((moment - 0.5) * SAMPLE_RATE) : round((moment + 0.5) * SAMPLE_RATE)]
        power = float(np.square(piece, dtype=np.float64).sum()) / (max(len(piece), 1) * SAMPLE_RATE)
        found.append(10 * np.log10(power + 1e-12))
    return np.array(found)


def held_errors(
    font: SoundFont, bank: Bank, voice: int, source: Source | None = None, velocity: int = VELOCITY
) -> list[HeldErrors]:
    """Errors of a program's held notes; of drums there are none."""
    if is_drum_voice(voice):
        return []
    records = []
    for pitch in PITCHES:
        theirs = levels(render(font, source or source_of(voice), pitch, velocity, _HELD_SECONDS))
        if theirs[0] < _SILENT_DB:
            continue
        ours = levels(play(bank, one_note_score(0, pitch, velocity, _HELD_SECONDS), voice=voice))
        known = dict(zip(MOMENTS, zip(theirs, ours, strict=True), strict=True))
        early = theirs[: MOMENTS.index(20.0) + 1]
        lasts = bool(np.ptp(early) <= _LASTS_WITHIN_DB)
        moments: tuple[float, ...] = LASTING_MOMENTS if lasts else DECAY_MOMENTS
        if not lasts:
            lowest = max(theirs[0] - _DEEPEST_DB, _LOWEST_DB)
            moments = tuple(m for m in moments if known[m][0] > lowest)
        differences = tuple(float(known[m][1] - known[m][0]) for m in moments)
        records.append(HeldErrors(voice, pitch, lasts, moments, differences))
    return records


def unevenness(font: SoundFont, bank: Bank, voice: int, source: Source | None = None) -> float:
    """How much further (dB, mean) neighbouring keys' levels lie apart than the teacher's do, from E3 to G#4."""
    ours, theirs = [], []
    for pitch in EVEN_KEYS:
        ours.append(_first_second(play(bank, one_note_score(0, pitch, VELOCITY, 1.0), voice=voice)))
        theirs.append(_first_second(render(font, source or source_of(voice), pitch, VELOCITY, 1.0)))
    return float(np.abs(np.diff(ours) - np.diff(theirs)).mean())


def falls_by_velocity(bank: Bank, voice: int, pitch: int = 60) -> float:
    """The largest fall in level (dB) from one of ever harder strokes to the next; 0 if it never falls."""
    found = [_first_second(play(bank, one_note_score(0, pitch, v, 0.5), voice=voice)) for v in STROKES]
    return float(max(0.0, -np.diff(found).min()))


def _first_second(sound: Reals) -> float:
    return float(10 * np.log10(np.square(sound[:, :SAMPLE_RATE]).sum() + 1e-12))
