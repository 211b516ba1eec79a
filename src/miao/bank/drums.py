"""What is added to the levels that nets write of single drums: of the voices of kits, and of drums learnt by ear."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.arrays import Array, check_arrays, read_arrays, save_arrays
from miao.bank.learnt_voice import N_INDICES, STEP_KNOTS, knot_weights

FILE = "drums.safetensors"
ATTACK_SHAPE = (len(STEP_KNOTS[tk.ATTACK]), 2, tk.N_CELLS)  # at the middle velocity, and for each unit above it
SUSTAIN_SHAPE = (N_INDICES[tk.SUSTAIN], len(STEP_KNOTS[tk.SUSTAIN]), 2, tk.N_CELLS)
_ARRAYS = {
    "voice": Array(np.int16, ("E",), 0),
    "attack": Array(np.float16, ("E", *ATTACK_SHAPE)),
    "sustain": Array(np.float16, ("E", *SUSTAIN_SHAPE)),
}
_MIDDLE = np.float32(0.5)


@dataclass(frozen=True, eq=False)
class DrumCorrections:
    """What is added to the levels that nets write of some drum voices, as in `learnt_voice.Correction` at one pitch."""

    row: NDArray[np.int16]  # [V] of the tables below, -1 for voices without
    attack: NDArray[np.float16]  # [rows, knots, 2, C]
    sustain: NDArray[np.float16]  # [rows, indices, knots, 2, C]

    @staticmethod
    def none(n_voices: int) -> "DrumCorrections":
        """Of voices that have none."""
        return DrumCorrections(
            np.full(n_voices, -1, np.int16),
            np.zeros((0, *ATTACK_SHAPE), np.float16),
            np.zeros((0, *SUSTAIN_SHAPE), np.float16),
        )

    def at(self, voice: int) -> tuple[Floats, Floats]:
        """Those of a voice, zeros where it has none: [knots, 2, C], [indices, knots, 2, C]."""
        row = int(self.row[voice]) if voice < len(self.row) else -1
        if row < 0:
            return np.zeros(ATTACK_SHAPE, np.float32), np.zeros(SUSTAIN_SHAPE, np.float32)
        return self.attack[row].astype(np.float32), self.sustain[row].astype(np.float32)

    def replaced(self, own: "OwnCorrections", rows: Integers) -> "DrumCorrections":
        """With other corrections of some voices, and of all that play what these do: ``rows`` tells which; voices
        behind these are no drums."""
        row = self.row.copy()
        for n, voice in enumerate(own.voice.tolist()):
            row[rows[: len(row)] == voice] = len(self.attack) + n
        return DrumCorrections(
            row, np.concatenate([self.attack, own.attack]), np.concatenate([self.sustain, own.sustain])
        )

    def applied(self, kind: int, levels: Floats, voice: Integers, velocity: Floats, index: Integers) -> Floats:
        """Corrected levels of chunks [B, a, C]; the other arrays are [B]."""
        rows = self.row[np.minimum(voice, len(self.row) - 1)]
        at = np.flatnonzero((rows >= 0) & (voice < len(self.row)))
        if kind == tk.RELEASE or not len(at):
            return levels
        table = (
            self.attack[rows[at]]
            if kind == tk.ATTACK
            else self.sustain[rows[at], np.minimum(index[at], N_INDICES[tk.SUSTAIN] - 1)]
        )  # [b, knots, 2, C]
        force = np.asarray(velocity, np.float32)[at, None, None] - _MIDDLE
        knots = table[:, :, 0].astype(np.float32) + force * table[:, :, 1].astype(np.float32)
        levels = levels.copy()
        levels[at] = np.clip(levels[at] + np.einsum("ak,bkc->bac", knot_weights(kind), knots), 0, tk.N_LEVELS - 1)
        return levels


@dataclass(frozen=True, eq=False)
class OwnCorrections:
    """Corrections of some drums by their voices, in place of those that they had."""

    voice: NDArray[np.int16]  # [E]
    attack: NDArray[np.float16]  # [E, knots, 2, C]
    sustain: NDArray[np.float16]  # [E, indices, knots, 2, C]

    @staticmethod
    def of(voices: Sequence[int], attack: Sequence[AnyArray], sustain: Sequence[AnyArray]) -> "OwnCorrections":
        """From each voice's tables."""
        return OwnCorrections(
            np.array(voices, np.int16),
            np.array(attack, np.float16).reshape(-1, *ATTACK_SHAPE),
            np.array(sustain, np.float16).reshape(-1, *SUSTAIN_SHAPE),
        )

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        save_arrays(path, {name: getattr(self, name) for name in _ARRAYS})

    @staticmethod
    def load(path: Path) -> "OwnCorrections":
        """Read them. Raises: BankError if the file is damaged or holds something else."""
        arrays, _ = read_arrays(path)
        check_arrays(path, arrays, _ARRAYS)
        return OwnCorrections(**arrays)
