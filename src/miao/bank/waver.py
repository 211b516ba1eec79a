"""How the notes of a learnt voice waver while they are held: vibrato, and partials that rise and fall with it.

Nets write what is to be expected, and what wavers from note to note in its own time is expected not to waver: a bowed
string comes out without vibrato, each partial as still as an organ's. So what a note's levels and pitch do beside their
course is kept as it was measured, of a note every few keys, added to what nets write of a held note, and taken off
again before they are asked how it goes on. Notes waver once they speak, and as the nets let them once they are let go.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.voices import N_PITCHES

PARTS = 8  # of a level, or of a step in pitch: units of what is kept
STEP_SECONDS = tk.STEP_SECONDS[tk.SUSTAIN]
_TIMES = [np.arange(tk.CHUNK_STEPS) * step for step in tk.STEP_SECONDS]
_ON_STEP = 1e-3  # of a step
SETS_IN = 0.05, 0.25  # seconds since a note's start: when it begins to waver, and when it wavers in full


@dataclass(frozen=True, eq=False)
class Waver:
    """What is added to levels and pitch, every 20 ms from a note's start on, there and back; of notes between those
    that were measured, as in the nearest."""

    pitches: NDArray[np.uint8]  # [n] rising
    moves: NDArray[np.int8]  # [n, steps, C] in `PARTS`
    sets_in: NDArray[np.float32] | None = None  # [2] as `SETS_IN`, where it is not that

    @property
    def is_whole(self) -> bool:
        """Whether its parts fit each other."""
        rising = (np.diff(values) for values in (self.pitches.astype(int), self._sets_in))
        return len(self.pitches) == len(self.moves) > 0 and all(bool((steps > 0).all()) for steps in rising)

    @property
    def _sets_in(self) -> tuple[float, float] | NDArray[np.float32]:
        return SETS_IN if self.sets_in is None else self.sets_in

    @cached_property
    def _rows(self) -> Integers:
        """Of which note each pitch has its moves, [N_PITCHES]."""
        rows: Integers = np.abs(np.arange(N_PITCHES)[:, None] - self.pitches.astype(np.int64)).argmin(axis=1)
        return rows

    @cached_property
    def _levels(self) -> Floats:
        """The moves in levels, and steps in pitch, [n * steps, C]."""
        return _levels(self.moves.reshape(-1, tk.N_CELLS))

    def at(self, pitch: Reals, times: Reals) -> Floats:
        """How far notes [B] are off at times [B, a] since their starts, [B, a, C]."""
        rows = self._rows[np.asarray(pitch).astype(np.int64)]
        return moves_at(self._levels, self.moves.shape[1], rows, times, sets_in=self._sets_in)

    def added(self, kind: int, levels: Floats, pitch: Reals, age: Reals) -> Floats:
        """Levels of chunks of a kind as they will sound, [B, a, C], moved in place; `age` is notes' as they begin."""
        return levels if kind == tk.RELEASE else moved(levels, self.at(pitch, times_of(kind, age)))

    def taken_off(self, kind: int, previous: Floats, pitch: Reals, index: Integers, age: Reals) -> Floats:
        """The tokens before chunks of a kind, [B, C], as they were written."""
        if kind == tk.RELEASE:
            return previous
        return moved(np.array(previous, np.float32), -self.at(pitch, time_before(kind, index, age))[:, 0])


def moves_at(
    table: Floats | NDArray[np.int8], n_steps: int, rows: Integers, times: Reals, pace: Reals | float = 1.0,
    sets_in: tuple[float, float] | NDArray[np.float32] = SETS_IN,
) -> Floats:  # fmt: skip
    """How far notes are off at times [B, a] since their starts, [B, a, C]: there and back along their rows [B] of a
    table [n * steps, C], of levels or in `PARTS`, at a pace."""
    first, last = n_steps * rows[:, None], n_steps - 1
    place = last - np.abs(np.maximum(times, 0) * pace / STEP_SECONDS % max(2 * last, 1) - last)
    low = np.rint(place).astype(np.int64)
    if np.abs(place - low).max() <= _ON_STEP:
        found = _levels(table.take(first + low, axis=0))
    else:  # as in the attack, whose steps are shorter
        low = np.minimum(place.astype(np.int64), max(last - 1, 0))
        share = (place - low).astype(np.float32)[..., None]
        near, far = (_levels(table.take(first + np.minimum(low + n, last), axis=0)) for n in (0, 1))
        found = (1 - share) * near + share * far
    begins, is_full = map(float, sets_in)
    if times.min() < is_full:
        fade = np.clip((times - begins) / (is_full - begins), 0, 1)
        found *= fade.astype(np.float32)[..., None]
    return found


def times_of(kind: int, age: Reals) -> Doubles:
    """Times of the tokens of chunks of a kind, [B, a], from notes' ages as these begin."""
    times: Doubles = np.asarray(age, np.float64)[:, None] + _TIMES[kind]
    return times


def time_before(kind: int, index: Integers, age: Reals) -> Doubles:
    """Time of the token before chunks of a kind, [B, 1]."""
    times: Doubles = np.asarray(age, np.float64) - tk.lead_seconds(kind, index)
    if kind == tk.RELEASE:
        times = np.where(np.asarray(index) == 0, tk.held_time_before(times), times)
    return times[:, None]


def moved(levels: Floats, moves: Floats) -> Floats:
    """Levels and pitches [..., C], moved in place; silence stays silence."""
    moves *= levels >= 0.5
    levels += moves
    return np.clip(levels, 0, tk.N_LEVELS - 1, out=levels)


def _levels(moves: Floats | NDArray[np.int8]) -> Floats:
    if moves.dtype == np.float32:
        return np.asarray(moves, np.float32)
    return moves.astype(np.float32) / np.float32(PARTS)
