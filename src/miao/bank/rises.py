"""How the power of notes rises: what is added, token by token until they have settled, to the cells that make it.

A slow voice of a teacher rises in its own way at each key, and at some of its strengths in another than at others,
where nets, and knots of every third key (`bank.openings`), write what suits most. One curve of power for each key and
a few strengths says it. It moves each cell by its share: those that are soft beside the others do not make the power,
and must not follow its beats.
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
from miao.bank.openings import END_SECONDS, FINE, shares

FILE = "rises.safetensors"
STRENGTHS = np.array([40, 64, 88, 112])  # velocities between which a curve runs straight; beyond as the outermost
RISE_ARRAYS = ROW_ARRAYS | {
    "power": Array(np.int8, ("keys", len(STRENGTHS), len(FINE))),
    "cells": Array(np.uint8, ("keys", tk.N_CELLS - 1)),
}
_UNIT_LEVELS = 0.25  # of the power that is kept
_WHOLE = 255  # of a share that is kept


@dataclass(frozen=True, eq=False)
class Rise:
    """What is added to the power of a voice's notes as they rise."""

    lowest: int  # key; the others follow it one by one
    power: Floats  # [keys, STRENGTHS, FINE] levels
    cells: Floats  # [keys, C - 1] share of it that each cell gets, 0 to 1


@dataclass(frozen=True, eq=False)
class Rises(KeyRows):
    """Those of a bank's voices, the outermost keys for those beyond."""

    power: NDArray[np.int8]  # [rows, STRENGTHS, FINE] quarters of a level
    cells: NDArray[np.uint8]  # [rows, C - 1]

    ARRAYS = RISE_ARRAYS

    @staticmethod
    def of(voices: Sequence[Rise | None]) -> "Rises":
        """From the rise of each voice, None for those without."""
        some = [own for own in voices if own is not None]
        counts = [0 if own is None else len(own.power) for own in voices]
        power = np.concatenate([np.zeros((0, len(STRENGTHS), len(FINE)))] + [own.power for own in some])
        cells = np.concatenate([np.zeros((0, tk.N_CELLS - 1))] + [own.cells for own in some])
        return Rises(
            first_rows(counts), np.array([0 if own is None else own.lowest for own in voices], np.uint8),
            np.array(counts, np.uint8), np.clip(np.rint(power / _UNIT_LEVELS), -127, 127).astype(np.int8),
            np.clip(np.rint(_WHOLE * cells), 0, _WHOLE).astype(np.uint8),
        )  # fmt: skip

    def added(
        self, kind: int, levels: Floats, voice: Integers, pitch: Reals, velocity: Reals, index: Integers
    ) -> Floats:
        """Levels of chunks of a kind as they will sound, [B, a, C]; the other arrays are [B], velocities 0 to 1."""
        if kind == tk.RELEASE:
            return levels
        at = self.having(voice)
        at = at[(np.asarray(index)[at] == 0) | (kind == tk.ATTACK)]
        if not len(at):
            return levels
        power, cells = self._curves(np.asarray(voice)[at], np.asarray(pitch)[at], np.asarray(velocity)[at])
        n = tk.CHUNK_STEPS
        steps = power[:, :n] if kind == tk.ATTACK else np.pad(power[:, n:], ((0, 0), (0, 2 * n - len(FINE))))
        moved = np.array(levels, np.float32)
        moved[at] = shifted(moved[at], steps[:, :, None] * cells[:, None])
        return moved

    def taken_off(
        self, kind: int, previous: Floats, voice: Integers, pitch: Reals, velocity: Reals, index: Integers, age: Reals
    ) -> Floats:
        """The tokens before chunks of a kind, [B, C], as they were before rises were added."""
        before = np.full(len(previous), FINE[tk.CHUNK_STEPS - 1]) if kind == tk.SUSTAIN else np.asarray(age, np.float64)
        at = self.having(voice)
        at = at[(np.asarray(index)[at] == 0) & (before[at] < END_SECONDS)]
        if not len(at):
            return previous
        power, cells = self._curves(np.asarray(voice)[at], np.asarray(pitch)[at], np.asarray(velocity)[at])
        step = np.einsum("bk,bk->b", shares(before[at], FINE), power)
        moved = np.array(previous, np.float32)
        moved[at] = shifted(moved[at], -step[:, None] * cells)
        return moved

    def _curves(self, voice: Integers, pitch: Reals, velocity: Reals) -> tuple[Floats, Floats]:
        """Levels of power, [b, FINE], and the cells' shares of it, [b, C - 1], of notes that have some."""
        key = np.rint(np.asarray(pitch, np.float32)).astype(np.int64) - self.lowest[voice]
        row = self.first[voice] + np.clip(key, 0, self.n_keys[voice].astype(np.int64) - 1)
        strength = 127 * np.asarray(velocity, np.float64)
        by_strength = np.stack([np.interp(strength, STRENGTHS, one) for one in np.eye(len(STRENGTHS))], axis=1)
        power = np.einsum("bs,bsk->bk", by_strength.astype(np.float32), self.power[row].astype(np.float32))
        return power * np.float32(_UNIT_LEVELS), self.cells[row].astype(np.float32) / _WHOLE
