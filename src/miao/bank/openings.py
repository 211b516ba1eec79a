"""How notes of a voice open: what is added to the levels that nets write while a note begins, until it has settled.

Nets are told of a voice every three semitones and write what suits most of its notes: slow strings rise up to 20 ms too
soon or too late, a bird glides over an octave where they write the mean of its way. `bank.key_levels` knows no time but
the kind of chunk. Here levels run in straight lines between knots from a note's start to 0.78 s, where nothing is added
any more, and between keys that were measured; they are taken off again before nets are asked how a note goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array
from miao.bank.key_rows import ROW_ARRAYS, KeyRows, first_rows
from miao.bank.level_shift import shifted

FILE = "openings.safetensors"
_ATTACK_TIMES, _SUSTAIN_TIMES = tk.held_times(2).reshape(2, tk.CHUNK_STEPS)
END_SECONDS = float(_SUSTAIN_TIMES[-1])
COARSE = np.concatenate([_ATTACK_TIMES[[0, 2, 5, 10, 18, 31]], _SUSTAIN_TIMES[[7, 16]]])  # knots, seconds
FINE = np.concatenate([_ATTACK_TIMES, _SUSTAIN_TIMES[:-1]])  # every token, of sounds that move fast
OPENING_ARRAYS = ROW_ARRAYS | {
    "semitones": Array(np.uint8, ("V",), 1, 12),
    "is_fine": Array(np.uint8, ("V",), 0, 1),
    "levels": Array(np.int8, ("rows", tk.N_CELLS - 1)),
}
_UNIT_LEVELS = 0.25  # of the numbers that are kept


@dataclass(frozen=True, eq=False)
class Opening:
    """What is added to a voice's notes as they begin."""

    lowest: int  # key that was measured
    semitones: int  # from each measured key to the next
    is_fine: bool  # whether at the knots `FINE`, else `COARSE`
    levels: Floats  # [keys, knots, C - 1]


@dataclass(frozen=True, eq=False)
class Openings(KeyRows):
    """Those of a bank's voices, a row for each knot of a key; the outermost keys for those beyond."""

    semitones: NDArray[np.uint8]  # [V] from each measured key to the next one
    is_fine: NDArray[np.uint8]  # [V]
    levels: NDArray[np.int8]  # [rows, C - 1] quarters of a level

    ARRAYS = OPENING_ARRAYS

    @staticmethod
    def of(voices: Sequence[Opening | None]) -> "Openings":
        """From the opening of each voice, None for those without."""
        rows = [np.zeros((0, tk.N_CELLS - 1), np.float32)]
        rows += [own.levels.reshape(-1, tk.N_CELLS - 1) for own in voices if own is not None]
        counts = [0 if own is None else own.levels.shape[0] * own.levels.shape[1] for own in voices]
        columns = [(0, 0, 1, 0) if own is None else (own.lowest, len(own.levels), own.semitones, own.is_fine)
                   for own in voices]  # fmt: skip
        about = np.ascontiguousarray(np.array(columns, np.uint8).reshape(-1, 4).T)
        kept = np.clip(np.rint(np.concatenate(rows) / _UNIT_LEVELS), -127, 127).astype(np.int8)
        return Openings(first_rows(counts), about[0], about[1], about[2], about[3], kept)

    def added(self, kind: int, levels: Floats, voice: Integers, pitch: Reals, index: Integers) -> Floats:
        """Levels of chunks of a kind as they will sound, [B, a, C]; the other arrays are [B]."""
        if kind == tk.RELEASE:
            return levels
        moved = levels
        for rows, knots, table in self._tables(voice, pitch, (np.asarray(index) == 0) | (kind == tk.ATTACK)):
            if moved is levels:
                moved = np.array(levels, np.float32)
            moved[rows] = shifted(moved[rows], _of_steps(kind, knots is FINE) @ table)
        return moved

    def taken_off(
        self, kind: int, previous: Floats, voice: Integers, pitch: Reals, index: Integers, age: Reals
    ) -> Floats:
        """The tokens before chunks of a kind, [B, C], as they were before openings were added."""
        before = np.full(len(previous), _ATTACK_TIMES[-1]) if kind == tk.SUSTAIN else np.asarray(age, np.float64)
        moved = previous
        for rows, knots, table in self._tables(voice, pitch, (np.asarray(index) == 0) & (before < END_SECONDS)):
            if moved is previous:
                moved = np.array(previous, np.float32)
            shift = np.einsum("bk,bkc->bc", shares(before[rows], knots), table)
            moved[rows] = shifted(moved[rows], -shift)
        return moved

    def _tables(self, voice: Integers, pitch: Reals, is_asked: AnyArray) -> list[tuple[Integers, Doubles, Floats]]:
        """Of the notes that are asked for and have openings, by kind of knots: which, the knots, [b, knots, C - 1]."""
        voice = np.asarray(voice)
        known = self.having(voice)
        known = known[np.asarray(is_asked)[known]]
        found = []
        for is_fine, knots in enumerate((COARSE, FINE)):
            rows = known[self.is_fine[voice[known]] == is_fine]
            if not len(rows):
                continue
            own = voice[rows]
            place = (np.asarray(pitch, np.float32)[rows] - self.lowest[own]) / self.semitones[own]
            place = np.clip(place, 0, self.n_keys[own].astype(np.float32) - 1)
            low = np.minimum(place.astype(np.int64), np.maximum(self.n_keys[own].astype(np.int64) - 2, 0))
            share = (place - low).astype(np.float32)[:, None, None]
            at = (self.first[own] + low * len(knots))[:, None] + np.arange(len(knots))
            above = at + np.where(self.n_keys[own] > 1, len(knots), 0)[:, None]
            table = (1 - share) * self.levels[at] + share * self.levels[above]
            found.append((rows, knots, table * np.float32(_UNIT_LEVELS)))
        return found

    def rows_a_key(self) -> Integers:
        """How many knots each key of a voice has, [V]."""
        return np.where(self.is_fine > 0, len(FINE), len(COARSE))


@cache
def _of_steps(kind: int, is_fine: bool) -> Floats:
    """`shares` of the steps of a note's attack, or of its first sustain chunk."""
    return shares(_SUSTAIN_TIMES if kind == tk.SUSTAIN else _ATTACK_TIMES, FINE if is_fine else COARSE)


def shares(times: Reals, knots: Doubles) -> Floats:
    """Share of each knot at some times, [times, knots], in straight lines; from the last knot on they fade to none at
    `END_SECONDS`."""
    ends = np.append(knots, END_SECONDS)
    found = np.stack([np.interp(times, ends, row) for row in np.eye(len(ends))[:-1]], axis=1)
    return found.astype(np.float32)
