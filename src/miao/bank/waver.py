"""How the notes of a learnt voice waver while they are held: vibrato, and partials that rise and fall with it.

Nets write what is to be expected, and what wavers from note to note in its own time is expected not to waver: a bowed
string comes out without vibrato, each partial as still as an organ's. So what a note's levels and pitch do beside their
course is kept as it was measured, of a note every few keys, added to what nets write of a held note, and taken off
again before they are asked how it goes on. Notes waver once they speak, and as the nets let them once they are let go.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.level_shift import shifted

PARTS = 8  # of a level, or of a step in pitch: units of what is kept
STEP_SECONDS = tk.STEP_SECONDS[tk.SUSTAIN]
SETS_IN = 0.05, 0.25  # seconds since a note's start: when it begins to waver, and when it wavers in full


@dataclass(frozen=True, eq=False)
class Waver:
    """What is added to levels and pitch, every 20 ms from a note's start on, there and back; of notes between those
    that were measured, as in the nearest."""

    pitches: NDArray[np.uint8]  # [n] rising
    moves: NDArray[np.int8]  # [n, steps, C] in `PARTS`

    @property
    def is_whole(self) -> bool:
        """Whether its parts fit each other."""
        return len(self.pitches) == len(self.moves) > 0 and bool((np.diff(self.pitches.astype(int)) > 0).all())

    def at(self, pitch: Reals, times: Reals) -> Floats:
        """How far notes [B] are off at times [B, a] since their starts, [B, a, C]."""
        row = np.abs(np.asarray(pitch)[:, None] - self.pitches.astype(np.float32)).argmin(axis=1)
        last = self.moves.shape[1] - 1
        place = last - np.abs(np.mod(np.maximum(times, 0) / STEP_SECONDS, max(2 * last, 1)) - last)
        low = np.minimum(place.astype(np.int64), max(last - 1, 0))
        share = (place - low)[..., None]
        near, far = (self.moves[row[:, None], np.minimum(low + n, last)] for n in (0, 1))
        fade = np.clip((times - SETS_IN[0]) / (SETS_IN[1] - SETS_IN[0]), 0, 1)[..., None]
        moved: Floats = (fade * ((1 - share) * near + share * far) / PARTS).astype(np.float32)
        return moved

    def added(self, kind: int, levels: Floats, pitch: Reals, age: Reals) -> Floats:
        """Levels of chunks of a kind as they will sound, [B, a, C], of notes of some ages as the chunks begin."""
        if kind == tk.RELEASE:
            return levels
        times = np.asarray(age, np.float64)[:, None] + np.arange(tk.CHUNK_STEPS) * tk.STEP_SECONDS[kind]
        return _moved(np.array(levels, np.float32), self.at(pitch, times))

    def taken_off(self, kind: int, previous: Floats, pitch: Reals, index: Integers, age: Reals) -> Floats:
        """The tokens before chunks of a kind, [B, C], as they were written."""
        if kind == tk.RELEASE:
            return previous
        times: Doubles = np.asarray(age, np.float64) - tk.lead_seconds(kind, index)
        return _moved(np.array(previous, np.float32), -self.at(pitch, times[:, None])[:, 0])


def _moved(levels: Floats, moves: Floats) -> Floats:
    """Levels and pitches [..., C], moved in place."""
    shifted(levels, moves[..., : tk.PITCH_CELL])
    pitch = levels[..., tk.PITCH_CELL]
    np.clip(pitch + moves[..., tk.PITCH_CELL], 0, tk.N_LEVELS - 1, out=pitch)
    return levels
