"""The course of a note: its levels and its pitch at *knots*, the times of its tokens, between which all runs straight.

`course_of` and `rows_of` give the compiled one where the loops of `oscillators` are compiled, else the one in NumPy
here, which says what is meant. Nothing in a course looks ahead: what has been heard of it stays as it was.
"""

import copy
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats
from miao.bank import tokens as tk
from miao.synth import oscillators
from miao.synth.oscillators import PAST, REACHED, NotePart


class Sound(NamedTuple):
    """What a note sounds like but for its levels; the arrays are those of `oscillators.NotePart`."""

    ratios: NDArray[np.float64]
    cells: NDArray[np.int32]
    shares: NDArray[np.float32]
    offsets: NDArray[np.float32]
    gains: NDArray[np.float32]
    balance: NDArray[np.float32]
    is_wide: bool


class Rows(NamedTuple):
    """What is heard of a chunk."""

    levels: NDArray[np.float32]  # [a, C]
    bends: NDArray[np.float64]  # [a] frequency of each row over that of the note


def rows_of(levels: Floats, bends: Doubles) -> Any:
    """`Rows` of these arrays, as `Course.append` takes them."""
    return oscillators.loops().Rows(levels, bends) if oscillators.loops() else Rows(levels.copy(), bends.copy())


def course_of(hz: float, sound: Sound) -> Any:
    """The `Course` of a note that has not begun."""
    return oscillators.loops().Course(hz, tk.N_CELLS, *sound) if oscillators.loops() else Course(hz, tk.N_CELLS, *sound)


class Course:
    """Knots that have not been passed; a pitch runs straight from one to the next.

    hz  frequency of the note, without any bend
    """

    def __init__(self, hz: float, n_cells: int, *sound: Any) -> None:
        self._half_hz, self._sound = 0.5 * hz, Sound(*sound)
        self.times, self.hz = np.zeros(0), np.zeros(0)  # [n] seconds, [n - 1] from each knot to the next, unbent
        self.levels = np.zeros((0, n_cells), np.float32)  # [n, C]
        self.phase = 0.0  # cycles at the first knot
        self.changes = 0  # so often its knots have become others, but for those forgotten
        self._bend = 1.0  # frequency at the last knot over that of the note

    def __len__(self) -> int:
        return len(self.times)

    @property
    def last(self) -> float:
        """The time of the last knot."""
        return float(self.times[-1])

    def copy(self) -> "Course":
        """Another one that goes its own way from here on."""
        return copy.copy(self)

    def append(self, heard: Rows, start: float, times: Doubles, first: int) -> None:
        """The rows of a chunk from ``first`` on, at their times from its start on, behind the knots that are there."""
        rows, bends = heard.levels[first:], heard.bends[first:]
        between = self._half_hz * (bends[1:] + bends[:-1])
        before = [self._half_hz * (self._bend + bends[:1])] if len(self.times) else []
        self.hz = np.concatenate([self.hz, *before, between])
        self.times = np.concatenate([self.times, start + times[first:]])
        self.levels = np.concatenate([self.levels, rows])
        self._bend = float(bends[-1])
        self.changes += 1

    def fall_silent(self, seconds: float) -> None:
        """A silent knot so long after the last one, at its pitch."""
        silent = np.zeros((1, self.levels.shape[1]), np.float32)
        silent[0, REACHED] = 1
        self.append(Rows(silent, np.array([self._bend])), self.last, np.array([seconds]), 0)

    def truncate(self, moment: float) -> None:
        """Forget the knots from a moment on: the last one is the next row, reached as far as it is by then."""
        self.changes += 1
        right = int(self.times.searchsorted(moment))
        if right == 0:  # the first knot itself
            self.times, self.levels, self.hz = self.times[:1], self.levels[:1], self.hz[:0]
            return
        left = right - 1
        row = self.levels[right].copy()
        row[REACHED] *= (moment - self.times[left]) / (self.times[right] - self.times[left])
        self.times = np.append(self.times[:right], moment)
        self.levels = np.concatenate([self.levels[:right], row[None]])
        self.hz = self.hz[:right]
        self._bend = 0.5 * float(self.hz[left]) / self._half_hz

    def rejoin(self, other: "Course") -> None:
        """Go on as another course does behind the last knot."""
        first = int(other.times.searchsorted(self.times[-1], side="right"))
        self.times = np.concatenate([self.times, other.times[first:]])
        self.levels = np.concatenate([self.levels, other.levels[first:]])
        self.hz = np.concatenate([self.hz, other.hz[max(first - 1, 0) :]])
        self._bend = other._bend
        self.changes += 1

    def loudest_at(self, moment: float) -> float:
        """The highest level of the knot at or behind a moment, or of the last one."""
        at = min(int(self.times.searchsorted(moment)), len(self.times) - 1)
        return float(self.levels[at, :REACHED].max())

    def pass_by(self, moment: float) -> int:
        """Forget the knots before the last one at or before a moment; gives how many.

        For an engine that has them already and keeps the phase itself.
        """
        passed = self._whole(int(self.times.searchsorted(moment, side="right")) - 1)
        self._drop(passed)
        return passed

    def span(self, begin: int, n_samples: int, rate: float) -> tuple[float, float] | None:
        """The times of the first and the last knot that are heard in a block; None where nothing is."""
        stop = self._heard(begin + n_samples, rate)
        return None if stop < 2 else (float(self.times[0]), float(self.times[stop - 1]))

    def part(self, begin: int, n_samples: int, rate: float) -> NotePart | None:
        """What is heard of the note in a block of samples from ``begin`` on; knots behind it are forgotten."""
        return self.bent_part(begin, n_samples, rate, np.zeros(0), np.zeros(0))

    def bent_part(self, begin: int, n_samples: int, rate: float, cells: Doubles, bends: Doubles) -> NotePart | None:
        """The same, its pitch bent by a factor from each of the times ``cells`` on."""
        end, stop = begin + n_samples, self._heard(begin + n_samples, rate)
        if stop < 2:
            return None
        # places are compared as samples only: a knot on a border belongs to one side
        times, levels, hz = self.times[:stop], self.levels[:stop], self.hz[: stop - 1]
        knots, pitch_times = times * rate - begin, times
        if len(cells):
            pitch_times = np.union1d(times, cells[(cells > times[0]) & (cells < times[-1])])
            at_level = np.clip(times.searchsorted(pitch_times[:-1], side="right") - 1, 0, len(hz) - 1)
            at_cell = np.clip(cells.searchsorted(pitch_times[:-1], side="right") - 1, 0, len(cells) - 1)
            hz = hz[at_level] * bends[at_cell]
        phase = np.empty(len(pitch_times))
        phase[0] = 0.0
        np.cumsum(hz * np.diff(pitch_times), out=phase[1:])
        phase += self.phase
        passed = self._whole(int((times * rate).searchsorted(end - PAST)) - 1)  # the noise tells of them so long
        if passed > 0:
            self.phase = float(phase[pitch_times.searchsorted(times[passed])])
            self._drop(passed)
        s = self._sound
        return NotePart(
            knots, pitch_times * rate - begin, phase, levels, s.offsets, s.ratios, s.cells, s.shares, s.gains,
            s.balance, s.is_wide,
        )  # fmt: skip

    def _heard(self, end: int, rate: float) -> int:
        return min(int((self.times * rate).searchsorted(end)) + 1, len(self.times))

    def _drop(self, passed: int) -> None:
        if passed:
            self.times, self.levels, self.hz = self.times[passed:], self.levels[passed:], self.hz[passed:]

    def _whole(self, last: int) -> int:
        """How many knots may be forgotten where ``last`` is the last one passed: a row left on the way needs the one
        before it."""
        while last > 0 and self.levels[last, REACHED] != 1:
            last -= 1
        return max(last, 0)
