"""Which keys of each voice a bank was taught: beyond them a note is the outermost of these, moved.

A sound bank's instruments end somewhere, a bass at C6, strings at C7, and a bank is taught no note beyond. Nets make up
what they write there, up to 15 dB too loud or too soft from one key to the next.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Integers, Numbers
from miao.bank.arrays import Array, check_arrays, read_arrays, save_arrays
from miao.bank.voices import LEARNT_PITCHES
from miao.errors import BankError

FILE = "taught.safetensors"
_KEY = Array(np.uint8, ("V",), LEARNT_PITCHES[0], LEARNT_PITCHES[-1])
TAUGHT_ARRAYS = {"lowest": _KEY, "highest": _KEY}


@dataclass(frozen=True, eq=False)
class TaughtKeys:
    """The outermost keys of a bank's voices that it was taught."""

    lowest: NDArray[np.uint8]  # [V]
    highest: NDArray[np.uint8]  # [V]

    @staticmethod
    def of(voices: Sequence[range | None]) -> "TaughtKeys":
        """From the keys of each voice; None stands for all that banks are taught."""
        keys = [LEARNT_PITCHES if own is None else own for own in voices]
        both = np.array([(own[0], own[-1]) for own in keys], np.uint8).reshape(-1, 2)
        return TaughtKeys(both[:, 0].copy(), both[:, 1].copy())

    def keys(self, voice: int) -> range:
        """Those of a voice."""
        return range(int(self.lowest[voice]), int(self.highest[voice]) + 1)

    def nearest(self, voice: Integers | int, pitch: Numbers) -> Doubles:
        """The pitches nearest to some that voices were taught, [B]."""
        nearest: Doubles = np.clip(np.asarray(pitch, np.float64), self.lowest[voice], self.highest[voice])
        return nearest

    def chosen(self, voices: Integers) -> "TaughtKeys":
        """Those of some voices, in their order; of numbers that are not known, all keys."""
        every = TaughtKeys.joined([self, TaughtKeys.of([None])])
        rows = np.minimum(voices, len(self.lowest))
        return TaughtKeys(every.lowest[rows], every.highest[rows])

    @staticmethod
    def joined(parts: Sequence["TaughtKeys"]) -> "TaughtKeys":
        """Those of several sets of voices, one set after another."""
        return TaughtKeys(*(np.concatenate([getattr(part, name) for part in parts]) for name in TAUGHT_ARRAYS))

    def is_whole(self) -> bool:
        """Whether each voice has a key."""
        return bool((self.lowest <= self.highest).all())

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        save_arrays(path, {name: getattr(self, name) for name in TAUGHT_ARRAYS})

    @staticmethod
    def load(path: Path) -> "TaughtKeys":
        """Read them. Raises: BankError if the file is damaged or holds something else."""
        arrays, _ = read_arrays(path)
        check_arrays(path, arrays, TAUGHT_ARRAYS)
        found = TaughtKeys(**arrays)
        if not found.is_whole():
            raise BankError(f"{path}: a voice ends below its lowest key")
        return found
