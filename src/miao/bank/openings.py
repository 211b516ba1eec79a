"""How notes of a voice open: what is added to the levels that nets write while a note begins, until it has settled.

Nets are told of a voice every three semitones and write what suits most of its notes: slow strings rise up to 20 ms too
soon or too late, a bird glides over an octave where they write the mean of its way. `bank.key_levels` knows no time but
the kind of chunk. Here levels run in straight lines between knots from a note's start to 0.78 s, where nothing is added
any more, and between keys that were measured; they are taken off again before nets are asked how a note goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from miao.arrays import AnyArray, Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array, check_arrays, read_arrays
from miao.bank.level_shift import shifted
from miao.bank.voices import N_PITCHES
from miao.errors import BankError
from miao.files import write_bytes

FILE = "openings.safetensors"
_ATTACK_TIMES, _SUSTAIN_TIMES = tk.held_times(2).reshape(2, tk.CHUNK_STEPS)
END_SECONDS = float(_SUSTAIN_TIMES[-1])
COARSE = np.concatenate([_ATTACK_TIMES[[0, 2, 5, 10, 18, 31]], _SUSTAIN_TIMES[[7, 16]]])  # knots, seconds
FINE = np.concatenate([_ATTACK_TIMES, _SUSTAIN_TIMES[:-1]])  # every token, of sounds that move fast
OPENING_ARRAYS = {
    "first": Array(np.int32, ("V",), -1),
    "lowest": Array(np.uint8, ("V",), 0, N_PITCHES - 1),
    "semitones": Array(np.uint8, ("V",), 1, 12),
    "n_keys": Array(np.uint8, ("V",), 0, N_PITCHES),
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
class Openings:
    """Those of a bank's voices: knots of a voice's keys one after another, the outermost keys for those beyond."""

    first: NDArray[np.int32]  # [V] row of the first knot of a voice's lowest key, -1 for voices without
    lowest: NDArray[np.uint8]  # [V] that key
    semitones: NDArray[np.uint8]  # [V] to the next measured one
    n_keys: NDArray[np.uint8]  # [V]
    is_fine: NDArray[np.uint8]  # [V]
    levels: NDArray[np.int8]  # [rows, C - 1] quarters of a level

    @staticmethod
    def of(voices: Sequence[Opening | None]) -> "Openings":
        """From the opening of each voice, None for those without."""
        rows = [np.zeros((0, tk.N_CELLS - 1), np.float32)]
        rows += [own.levels.reshape(-1, tk.N_CELLS - 1) for own in voices if own is not None]
        counts = np.array([0 if own is None else own.levels.shape[0] * own.levels.shape[1] for own in voices], np.int64)
        starts = np.cumsum(counts) - counts
        columns = [(0, 1, 0, 0) if own is None else (own.lowest, own.semitones, len(own.levels), own.is_fine)
                   for own in voices]  # fmt: skip
        about = np.ascontiguousarray(np.array(columns, np.uint8).reshape(-1, 4).T)
        kept = np.clip(np.rint(np.concatenate(rows) / _UNIT_LEVELS), -127, 127).astype(np.int8)
        first = np.where(counts > 0, starts, -1).astype(np.int32)
        return Openings(first, about[0], about[1], about[2], about[3], kept)

    @staticmethod
    def joined(parts: Sequence["Openings | None"], n_voices: Sequence[int]) -> "Openings | None":
        """Those of several sets of voices, one set after another; None if none has any."""
        if all(part is None for part in parts):
            return None
        known = [
            Openings.of([None] * n) if part is None else part.chosen(np.arange(n))
            for part, n in zip(parts, n_voices, strict=True)
        ]
        starts = np.cumsum([0] + [len(part.levels) for part in known])
        firsts = [np.where(p.first >= 0, p.first + start, -1) for p, start in zip(known, starts, strict=False)]
        names = ("lowest", "semitones", "n_keys", "is_fine", "levels")
        return Openings(
            np.concatenate(firsts).astype(np.int32),
            *(np.concatenate([getattr(part, name) for part in known]) for name in names),
        )

    def chosen(self, voices: Integers) -> "Openings":
        """Those of some voices, in their order, which may share rows; of numbers that are not known, none."""
        known = np.asarray(voices) < len(self.first)
        at = np.where(known, voices, 0)
        first = np.where(known, self.first[at], -1).astype(np.int32)
        return Openings(
            first, self.lowest[at], self.semitones[at], self.n_keys[at], self.is_fine[at], self.levels
        )  # fmt: skip

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
        """The tokens before chunks of a kind, [B, C], as they were before anything was added."""
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
        known = voice < len(self.first)
        known &= is_asked
        known[known] = self.first[voice[known]] >= 0
        found = []
        for is_fine, knots in enumerate((COARSE, FINE)):
            rows = np.flatnonzero(known)
            rows = rows[self.is_fine[voice[rows]] == is_fine]
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

    def is_whole(self) -> bool:
        """Whether all keys lie within the rows."""
        has = self.first >= 0
        knots = np.where(self.is_fine[has] > 0, len(FINE), len(COARSE))
        return bool(
            (self.n_keys[has] > 0).all() and (self.first[has] + self.n_keys[has] * knots <= len(self.levels)).all()
        )

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        write_bytes(path, save({name: getattr(self, name) for name in OPENING_ARRAYS}), BankError)

    @staticmethod
    def load(path: Path) -> "Openings":
        """Read them. Raises: BankError if the file is damaged or holds something else."""
        arrays, _ = read_arrays(path)
        check_arrays(path, arrays, OPENING_ARRAYS)
        found = Openings(**arrays)
        if not found.is_whole():
            raise BankError(f"{path}: names knots that are not there; there are {len(found.levels)}")
        return found


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
