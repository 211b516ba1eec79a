"""How held notes of a bank's voices waver: what is added to the levels and the pitch that nets write, moment by moment.

Nets write what suits most notes: choruses, vibrato, and layers that beat, are at another place in each key, and notes
come out still. A teacher that is a sampler does the same at every stroke, and at keys that share a sample the same
faster or slower. So what its notes do beside ours is kept once for the keys of a sample, every 20 ms from the note's
start, and runs at each key's own pace. It is taken off again before nets are asked how a note goes on.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array
from miao.bank.key_rows import ROW_ARRAYS, KeyRows, first_rows
from miao.bank.voices import N_PITCHES
from miao.bank.waver import STEP_SECONDS, moved, moves_at, time_before, times_of

FILE = "wavers.safetensors"


@dataclass(frozen=True, eq=False)
class Wavering:
    """What a voice's notes do while they are held."""

    tops: NDArray[np.uint8]  # [n] the highest of the keys that do alike, rising
    moves: NDArray[np.int8]  # [n, steps, C] what that key does, in `waver.PARTS`


@dataclass(frozen=True, eq=False)
class Wavers(KeyRows):
    """Those of a bank's voices, a row for keys that do alike; keys beyond the last one do as its keys."""

    top: NDArray[np.uint8]  # [rows] the highest of the keys, rising for a voice
    moves: NDArray[np.int8]  # [rows, steps, C] what that key does, in `waver.PARTS`

    ARRAYS = ROW_ARRAYS | {
        "top": Array(np.uint8, ("rows",), 0, N_PITCHES - 1),
        "moves": Array(np.int8, ("rows", "steps", tk.N_CELLS)),
    }

    @staticmethod
    def of(voices: Sequence[Wavering | None]) -> "Wavers":
        """From what each voice does, None for those that are still."""
        some = [own for own in voices if own is not None]
        tops = [own.tops for own in some] or [np.zeros(0, np.uint8)]
        moves = [own.moves for own in some] or [np.zeros((0, 1, tk.N_CELLS), np.int8)]
        counts = [0 if own is None else len(own.tops) for own in voices]
        lowest = [0 if own is None else own.tops[0] for own in voices]
        return Wavers(
            first_rows(counts), np.array(lowest, np.uint8), np.array(counts, np.uint8),
            np.concatenate(tops), np.concatenate(moves),
        )  # fmt: skip

    def fits(self, other: "Wavers") -> bool:
        """Whether rows of both are as long."""
        return bool(self.moves.shape[1] == other.moves.shape[1])

    def is_whole(self) -> bool:
        """Whether all keys lie within the rows, those of a voice rising, and rows have steps."""
        if not super().is_whole() or not self.moves.shape[1]:
            return False
        tops = self.top.astype(np.int64)
        own = zip(self.first.tolist(), self.n_keys.tolist(), strict=True)
        return all((np.diff(tops[first : first + n]) > 0).all() for first, n in own if first >= 0)

    def added(self, kind: int, levels: Floats, voice: Integers, pitch: Reals, index: Integers, age: Reals) -> Floats:
        """Levels of chunks of a kind as they will sound, [B, a, C]; the other arrays are [B]."""
        at = self._wavering(kind, voice, index, age)
        if not len(at):
            return levels
        sounding = np.array(levels, np.float32)
        sounding[at] = moved(sounding[at], self._moves(voice, pitch, at, times_of(kind, age)))
        return sounding

    def taken_off(
        self, kind: int, previous: Floats, voice: Integers, pitch: Reals, index: Integers, age: Reals
    ) -> Floats:
        """The tokens before chunks of a kind, [B, C], as they were before wavers were added."""
        at = self._wavering(kind, voice, index, age)
        if not len(at):
            return previous
        written = np.array(previous, np.float32)
        written[at] = moved(written[at], -self._moves(voice, pitch, at, time_before(kind, index, age))[:, 0])
        return written

    def _wavering(self, kind: int, voice: Integers, index: Integers, age: Reals) -> Integers:
        """Which of some notes waver in chunks of a kind: those let go go on with it, but not where they had repeated
        themselves, and are at no moment of their rows any more."""
        at = self.having(voice)
        if kind != tk.RELEASE:
            return at
        let_go = np.asarray(age, np.float64) - np.asarray(index) * tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.RELEASE]
        going: Integers = at[let_go[at] < (self.moves.shape[1] - 1) * STEP_SECONDS]
        return going

    def _moves(self, voice: Integers, pitch: Reals, at: Integers, times: Reals) -> Floats:
        """How far some notes are off at times [B, a] since their starts, [b, a, C]."""
        key = np.clip(np.rint(np.asarray(pitch)[at]), 0, N_PITCHES - 1).astype(np.int64)
        row = self._row[np.asarray(voice)[at], key]
        pace = 2.0 ** ((key - self.top[row].astype(np.int64)) / 12)
        return moves_at(self.moves.reshape(-1, tk.N_CELLS), self.moves.shape[1], row, times[at], pace[:, None])

    @cached_property
    def _row(self) -> Integers:
        """The row of each key of voices that have some, [V, N_PITCHES]."""
        rows = np.zeros((len(self.first), N_PITCHES), np.int64)
        for voice in np.flatnonzero(self.first >= 0):
            first, n = int(self.first[voice]), int(self.n_keys[voice])
            rows[voice] = first + np.minimum(np.searchsorted(self.top[first : first + n], np.arange(N_PITCHES)), n - 1)
        return rows
