"""What is added to the levels that nets write, key by key: what measured sounds of a key have more or less of.

Nets are told of a voice every three semitones, and write what suits all keys around; a teacher's keys differ, and each
is a little brighter or duller than its neighbours. A shift for each cell, key and kind of chunk, the same at any
velocity and all through a chunk, is added behind the nets and taken off again before they are asked how a note goes on,
so that they write as they always do.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import save

from miao.arrays import AnyArray, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array, check_arrays, read_arrays
from miao.bank.level_shift import shifted
from miao.bank.voices import N_PITCHES
from miao.errors import BankError
from miao.files import write_bytes

FILE = "keys.safetensors"
N_KINDS = len(tk.STEP_SECONDS)
KEY_ARRAYS = {
    "first": Array(np.int32, ("V",), -1),
    "lowest": Array(np.uint8, ("V",), 0, N_PITCHES - 1),
    "n_keys": Array(np.uint8, ("V",), 0, N_PITCHES),
    "levels": Array(np.int8, ("keys", N_KINDS, tk.N_CELLS - 1)),
}
_UNIT_LEVELS = 0.125  # of the numbers that are kept: 0.22 dB, up to 28 dB


@dataclass(frozen=True, eq=False)
class KeyLevels:
    """Shifts of levels by key: rows of a voice's keys one after another, the outermost for keys beyond."""

    first: NDArray[np.int32]  # [V] row of a voice's lowest key, -1 for voices without
    lowest: NDArray[np.uint8]  # [V] that key
    n_keys: NDArray[np.uint8]  # [V]
    levels: NDArray[np.int8]  # [rows, kinds, C - 1] eighths of a level

    @staticmethod
    def of(shifts: Sequence[tuple[int, Floats] | None]) -> "KeyLevels":
        """From each voice's lowest key and its shifts [keys, kinds, C - 1] in levels."""
        some = [(0, np.zeros((0, N_KINDS, tk.N_CELLS - 1), np.float32)) if s is None else s for s in shifts]
        counts = np.array([len(levels) for _, levels in some], np.int64)
        first = np.where(counts > 0, np.cumsum(counts) - counts, -1)
        kept = np.concatenate([levels for _, levels in some]) if some else np.zeros((0, N_KINDS, tk.N_CELLS - 1))
        return KeyLevels(
            first.astype(np.int32), np.array([low for low, _ in some], np.uint8), counts.astype(np.uint8),
            np.clip(np.rint(kept / _UNIT_LEVELS), -127, 127).astype(np.int8),
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence["KeyLevels | None"], n_voices: Sequence[int]) -> "KeyLevels | None":
        """Those of several sets of voices, one set after another; None if none has any."""
        if all(part is None for part in parts):
            return None
        known = [KeyLevels.of([None] * n) if p is None else p.padded(n) for p, n in zip(parts, n_voices, strict=True)]
        starts = np.cumsum([0] + [len(p.levels) for p in known])
        firsts = [np.where(p.first >= 0, p.first + start, -1) for p, start in zip(known, starts, strict=False)]
        return KeyLevels(
            np.concatenate(firsts).astype(np.int32),
            *(np.concatenate([getattr(p, name) for p in known]) for name in ("lowest", "n_keys", "levels")),
        )

    def padded(self, n_voices: int) -> "KeyLevels":
        """With voices behind its own that have no shifts, up to so many."""
        more = max(n_voices - len(self.first), 0)
        return KeyLevels(np.pad(self.first, (0, more), constant_values=-1), np.pad(self.lowest, (0, more)),
                         np.pad(self.n_keys, (0, more)), self.levels)  # fmt: skip

    def chosen(self, voices: AnyArray) -> "KeyLevels":
        """Those of some voices, in their order, which may share rows."""
        return KeyLevels(self.first[voices], self.lowest[voices], self.n_keys[voices], self.levels)

    def alone(self, voice: int) -> "KeyLevels | None":
        """Those of one voice, or None if it has none."""
        if voice >= len(self.first) or self.first[voice] < 0:
            return None
        rows = slice(int(self.first[voice]), int(self.first[voice]) + int(self.n_keys[voice]))
        at = slice(voice, voice + 1)
        return KeyLevels(np.zeros(1, np.int32), self.lowest[at], self.n_keys[at], self.levels[rows])

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
        """The tokens before chunks of a kind, [B, C], as the nets wrote them."""
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
        is_known = voice < len(self.first)
        at = np.flatnonzero(is_known & (self.first[np.where(is_known, voice, 0)] >= 0))
        own = voice[at]
        key = np.rint(np.asarray(pitch, np.float32)[at]).astype(np.int64) - self.lowest[own]
        row = self.first[own] + np.clip(key, 0, self.n_keys[own].astype(np.int64) - 1)
        shift: Floats = self.levels[row, np.asarray(kind)[at]].astype(np.float32) * np.float32(_UNIT_LEVELS)
        return at, shift

    def is_whole(self) -> bool:
        """Whether all keys lie within the rows."""
        has = self.first >= 0
        return bool((self.n_keys[has] > 0).all() and (self.first[has] + self.n_keys[has] <= len(self.levels)).all())

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        write_bytes(path, save({name: getattr(self, name) for name in KEY_ARRAYS}), BankError)

    @staticmethod
    def load(path: Path) -> "KeyLevels":
        """Read them. Raises: BankError if the file is damaged or holds something else."""
        arrays, _ = read_arrays(path)
        check_arrays(path, arrays, KEY_ARRAYS)
        found = KeyLevels(**arrays)
        if not found.is_whole():
            raise BankError(f"{path}: names keys that are not there; there are {len(found.levels)}")
        return found


def _moved(levels: Floats, at: Integers, shift: Floats) -> Floats:
    """Levels [B, ..., C] of which some rows are moved by shifts [b, ..., C - 1]; silence stays silence."""
    moved = np.array(levels, np.float32)
    if len(at) == len(moved):
        return shifted(moved, shift)
    moved[at] = shifted(moved[at], shift)
    return moved
