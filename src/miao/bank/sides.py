"""How far each partial of a voice is ahead on the right: what makes a piano wide, and keeps it so.

Microphones stand apart, so that each partial of a note reaches them at a phase of its own. A gain for each side
(`voices.VoiceTable.balance`) says nothing of that: with gains alone a piano comes out nearly mono. Turns are kept by
cell and key; partials that share a cell are turned the one or the other way, by lot but always alike.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array
from miao.bank.key_rows import ROW_ARRAYS, KeyRows, first_rows

FILE = "sides.safetensors"
_PARTS = 254  # of a cycle
_GOLDEN = 0.6180339887


class Turned(NamedTuple):
    """How far the partials of a voice are turned."""

    lowest: int  # key that has a row; then each above it has one
    turns: Doubles  # [keys, N_PARTIALS] cycles, -1/2 to 1/2


@dataclass(frozen=True, eq=False)
class Sides(KeyRows):
    """Those of a bank's voices; keys beyond those that have a row have the outermost."""

    turn: NDArray[np.int8]  # [rows, N_PARTIALS] parts of a cycle

    ARRAYS = ROW_ARRAYS | {"turn": Array(np.int8, ("rows", tk.N_PARTIALS), -127, 127)}

    @staticmethod
    def of(voices: Sequence[Turned | None]) -> "Sides":
        """From how far each voice is turned, None for those that are not."""
        rows = [np.zeros((0, tk.N_PARTIALS))] + [own.turns for own in voices if own is not None]
        counts = [0 if own is None else len(own.turns) for own in voices]
        lowest = np.array([0 if own is None else own.lowest for own in voices], np.uint8)
        kept = np.clip(np.rint(np.concatenate(rows) * _PARTS), -127, 127).astype(np.int8)
        return Sides(first_rows(counts), lowest, np.array(counts, np.uint8), kept)

    def turns(self, voice: int, pitch: float, cells: Integers) -> Doubles:
        """Cycles by which partials of a note are ahead on the right, [P], by the nearest cell of each, rising."""
        if not len(self.having(np.array([voice]))):
            return np.zeros(len(cells))
        key = min(max(round(pitch) - int(self.lowest[voice]), 0), int(self.n_keys[voice]) - 1)
        row = int(self.first[voice]) + key
        is_back = lots(pitch, len(cells)) & np.append(False, np.diff(cells) == 0)
        turns: Doubles = np.where(is_back, -1.0, 1.0) * self.turn[row, cells] / _PARTS
        return turns


def lots(pitch: Reals | float, n: int) -> NDArray[np.bool_]:
    """A lot for each of some partials of a key, [n]: always the same."""
    drawn: NDArray[np.bool_] = (np.arange(n) * _GOLDEN + float(pitch) * _GOLDEN**2) % 1 < 0.5
    return drawn
