"""What is added to the levels that nets write, key by key: what measured sounds of a key have more or less of.

Nets are told of a voice every three semitones, and write what suits all keys around; a teacher's keys differ, and each
is a little brighter or duller than its neighbours. A shift for each cell, key and kind of chunk, the same at any
velocity and all through a chunk, is added behind the nets and taken off again before they are asked how a note goes on,
so that they write as they always do.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array
from miao.bank.key_rows import ROW_ARRAYS, KeyRows, first_rows
from miao.bank.level_shift import shifted

FILE = "keys.safetensors"
N_KINDS = len(tk.STEP_SECONDS)
KEY_ARRAYS = ROW_ARRAYS | {"levels": Array(np.int8, ("keys", N_KINDS, tk.N_CELLS - 1))}
_UNIT_LEVELS = 0.125  # of the numbers that are kept: 0.22 dB, up to 28 dB


@dataclass(frozen=True, eq=False)
class KeyLevels(KeyRows):
    """Shifts of levels by key, the outermost for keys beyond."""

    levels: NDArray[np.int8]  # [rows, kinds, C - 1] eighths of a level

    ARRAYS = KEY_ARRAYS

    @staticmethod
    def of(shifts: Sequence[tuple[int, Floats] | None]) -> "KeyLevels":
        """From each voice's lowest key and its shifts [keys, kinds, C - 1] in levels."""
        some = [(0, np.zeros((0, N_KINDS, tk.N_CELLS - 1), np.float32)) if s is None else s for s in shifts]
        counts = [len(levels) for _, levels in some]
        kept = np.concatenate([levels for _, levels in some]) if some else np.zeros((0, N_KINDS, tk.N_CELLS - 1))
        return KeyLevels(
            first_rows(counts), np.array([low for low, _ in some], np.uint8), np.array(counts, np.uint8),
            np.clip(np.rint(kept / _UNIT_LEVELS), -127, 127).astype(np.int8),
        )  # fmt: skip

    def of_key(self, voice: int, pitch: int) -> Floats:
        """The shifts of a voice's key by kind of chunk, levels, [kinds, C - 1]; 0 where it has none."""
        found = np.zeros((N_KINDS, tk.N_CELLS - 1), np.float32)
        for kind in range(N_KINDS):
            at, shift = self._shift(np.array([voice]), np.array([pitch]), np.array([kind]))
            if len(at):
                found[kind] = shift[0]
        return found

    def added(self, kind: int, levels: Floats, voice: Integers, pitch: Reals) -> Floats:
        """Levels of chunks of a kind as they will sound, [B, a, C]; the other arrays are [B]."""
        at, shift = self._shift(voice, pitch, np.full(len(voice), kind))
        return _moved(levels, at, shift[:, None]) if len(at) else levels

    def taken_off(
        self, kind: int, previous: Floats, voice: Integers, pitch: Reals, index: Integers, age: Reals
    ) -> Floats:
        """The tokens before chunks of a kind, [B, C], as they were before key levels were added."""
        before = np.full(len(voice), kind)
        is_first = np.asarray(index) == 0
        if kind == tk.SUSTAIN:
            before[is_first] = tk.ATTACK
        elif kind == tk.RELEASE:
            before[is_first] = np.where(np.asarray(age)[is_first] < tk.ATTACK_SECONDS, tk.ATTACK, tk.SUSTAIN)
        at, shift = self._shift(voice, pitch, before)
        return _moved(previous, at, -shift) if len(at) else previous

    def _shift(self, voice: Integers, pitch: Reals, kind: Integers) -> tuple[Integers, Floats]:
        """Which of some notes have shifts, and these, [b, C - 1] levels."""
        voice = np.asarray(voice)
        at = self.having(voice)
        own = voice[at]
        key = np.rint(np.asarray(pitch, np.float32)[at]).astype(np.int64) - self.lowest[own]
        row = self.first[own] + np.clip(key, 0, self.n_keys[own].astype(np.int64) - 1)
        shift: Floats = self.levels[row, np.asarray(kind)[at]].astype(np.float32) * np.float32(_UNIT_LEVELS)
        return at, shift


def _moved(levels: Floats, at: Integers, shift: Floats) -> Floats:
    """Levels [B, ..., C] of which some rows are moved by shifts [b, ..., C - 1]; silence stays silence."""
    moved = np.array(levels, np.float32)
    if len(at) == len(moved):
        return shifted(moved, shift)
    moved[at] = shifted(moved[at], shift)
    return moved
