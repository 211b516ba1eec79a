"""Attack, decay and release as a player sets them: how a note departs from the envelope that its voice has.

The sound controllers of General MIDI 2 (CC 73, 75, 72) as they stand when a note is struck. They move levels and the
times of a release, nothing else, and only from a note's own start on, so that whoever makes the samples hears the same.
"""

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles
from miao.bank import tokens as tk

LONGEST_ATTACK_SECONDS = 1.0  # that a note takes to come up at the softest; a square law comes down from there
RELEASE_OCTAVES = 2.0  # a release lasts a quarter to four times as long
DECAY_OCTAVES = 1.0  # a note falls twice to half as fast
LAST_FADE_SECONDS = 0.3  # of a note that falls more slowly, where its voice has nothing left to be heard
_MOST_RISE = 30 / tk.LEVEL_STEP_DB  # by which a sharper attack lifts what is still to come up
_LEAST_SHARE = 1e-4  # of full amplitude: -80 dB, where a note that comes up softly begins
MIDDLE = 64 / 127  # of the controllers: the envelope is the voice's own


def setting(value: float) -> float:
    """-1 to 1 of a controller's 0 to 1; 0 is 64 of 127."""
    steps = 127 * value - 64
    return 0.0 if abs(steps) < 1e-6 else max(steps / (64 if steps < 0 else 63), -1.0)


def release_factor(release: float) -> float:
    """By which a release lasts longer, of a setting."""
    factor: float = 2.0 ** (RELEASE_OCTAVES * release)
    return factor


class Envelope:
    """What is done to the rows of one note, in the order in which they are written.

    attack  -1 to 1: above 0 the note comes up in a raised cosine over (attack^2) s; below 0 what its voice still has to
            come up within the first chunk is lifted towards the chunk's loudest row, wholly at -1. What begins at its
            loudest, as a piano does, cannot begin sharper.
    decay   -1 to 1: from its loudest row on a note falls, in dB, 2^-decay times as fast.
    """

    def __init__(self, start: float, attack: float, decay: float) -> None:
        self.start, self.sharp = start, max(-attack, 0.0)
        self.seconds = LONGEST_ATTACK_SECONDS * max(attack, 0.0) ** 2
        self.fall = 2.0 ** (-DECAY_OCTAVES * decay) - 1
        self.peak = 0.0  # loudest level so far
        self.times, self.shifts = np.zeros(0), np.zeros(0)  # levels by which the last rows were moved

    def held(self, times: NDArray[np.float64], rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows [n, C] of a chunk of attack or sustain at their times [n]."""
        loudness = rows[:, : tk.PITCH_CELL].max(axis=1).astype(np.float64)  # [n]
        peaks = np.maximum(np.maximum.accumulate(loudness), self.peak)
        shift = self.fall * (loudness - peaks)
        if self.sharp and not len(self.times):
            before = np.arange(len(rows)) < loudness.argmax()
            shift += self.sharp * np.where(before, np.minimum(loudness.max() - loudness, _MOST_RISE), 0.0)
        self.peak = float(peaks[-1])
        shift += self.come_up(times)
        self.times, self.shifts = (np.concatenate([old[-tk.CHUNK_STEPS :], new])
                                   for old, new in ((self.times, times), (self.shifts, shift)))  # fmt: skip
        return moved(rows, shift)

    def released(self, moment: float, rows: NDArray[np.float32]) -> NDArray[np.float32]:
        """The rows of a release that began at a moment: they go on from where the note was then."""
        return moved(rows, np.full(len(rows), np.interp(moment, self.times, self.shifts)))

    def come_up(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Levels by which a soft attack holds some moments down, [n]."""
        if not self.seconds:
            return np.zeros(len(times))
        share = np.sin(np.pi / 2 * np.clip((times - self.start) / self.seconds, 0, 1)) ** 2
        levels: Doubles = 20 * np.log10(np.maximum(share, _LEAST_SHARE)) / tk.LEVEL_STEP_DB
        return levels


def moved(rows: NDArray[np.float32], shift: NDArray[np.float64]) -> NDArray[np.float32]:
    """Rows [n, C] with all that is heard of them moved by some levels [n]; silence stays silence, the pitch stays."""
    new = rows.copy()
    cells = rows[:, : tk.PITCH_CELL]
    new[:, : tk.PITCH_CELL] = np.where(cells > 0, np.maximum(cells + shift[:, None], 0), 0)
    return new
