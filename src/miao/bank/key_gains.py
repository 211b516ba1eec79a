"""How loud each key of a learnt voice is at each strength: gains that make its keys even and its strokes rise.

Nets and corrections say what a note is made of, and how loud it is as well as recordings did: some recorded keys were
nearer to the microphone than others, and soft strokes are extrapolated. A gain for each key and strength, in straight
lines between two, is added to all that is written of a note and taken off again before the nets are asked how it goes
on, so that they write as they always do and a note is louder or softer by exactly its gain, from its start to its end.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats, Reals
from miao.bank.level_shift import shifted
from miao.bank.voices import N_PITCHES

VELOCITIES = np.array([1, 4, 8, 12, 16, 24, 32, 40, 48, 64, 80, 100, 127])  # between which gains run straight


@dataclass(frozen=True, eq=False)
class KeyGains:
    """Levels that are added to all cells of a note."""

    levels: NDArray[np.float16]  # [N_PITCHES, VELOCITIES]

    def at(self, pitch: Reals, velocity: Reals) -> Floats:
        """The gains of notes, levels, [B]; velocities are 0..1."""
        key = np.clip(np.asarray(pitch, np.float64), 0, N_PITCHES - 1)
        stroke = np.clip(np.asarray(velocity, np.float64) * 127, VELOCITIES[0], VELOCITIES[-1])
        low = np.minimum(key.astype(np.int64), N_PITCHES - 2)
        soft = np.clip(np.searchsorted(VELOCITIES, stroke, side="right") - 1, 0, len(VELOCITIES) - 2)
        share = (stroke - VELOCITIES[soft]) / (VELOCITIES[soft + 1] - VELOCITIES[soft])
        levels = self.levels.astype(np.float64)
        lower, upper = ((1 - share) * levels[row, soft] + share * levels[row, soft + 1] for row in (low, low + 1))
        gains: Floats = ((1 - (key - low)) * lower + (key - low) * upper).astype(np.float32)
        return gains

    def added(self, levels: Floats, pitch: Reals, velocity: Reals) -> Floats:
        """Levels of chunks as they will sound, [B, a, C]; silence stays silence."""
        return shifted(np.array(levels, np.float32), self.at(pitch, velocity)[:, None, None])

    def taken_off(self, previous: Floats, pitch: Reals, velocity: Reals) -> Floats:
        """The tokens before chunks, [B, C], as they were written."""
        return shifted(np.array(previous, np.float32), -self.at(pitch, velocity)[:, None])
