"""Tables by voice and key, as files: where the rows of a voice's keys lie, whether they are there, and which notes have
some."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Integers
from miao.bank.arrays import Array, check_arrays, read_arrays, save_arrays
from miao.bank.voices import N_PITCHES
from miao.errors import BankError

_OF_VOICES = ("V",)
ROW_ARRAYS = {
    "first": Array(np.int32, _OF_VOICES, -1),
    "lowest": Array(np.uint8, _OF_VOICES, 0, N_PITCHES - 1),
    "n_keys": Array(np.uint8, _OF_VOICES, 0, N_PITCHES),
}


@dataclass(frozen=True, eq=False)
class KeyRows:
    """Rows of voices' keys, one key after another; what has them adds the arrays that they are rows of, and says in
    ``ARRAYS`` what each array of its file is."""

    first: NDArray[np.int32]  # [V] row of a voice's lowest key, -1 for voices without
    lowest: NDArray[np.uint8]  # [V] that key
    n_keys: NDArray[np.uint8]  # [V]

    ARRAYS = ROW_ARRAYS

    def n_rows(self) -> int:
        """How many rows there are, of all voices."""
        return next((len(getattr(self, name)) for name, of in self.ARRAYS.items() if of.shape != _OF_VOICES), 0)

    def rows_a_key(self) -> Integers:
        """How many rows each key of a voice has, [V]."""
        return np.ones(len(self.first), np.int64)

    def is_whole(self) -> bool:
        """Whether all keys lie within the rows."""
        has, ends = self.first >= 0, self.first + self.n_keys * self.rows_a_key()
        return bool((self.n_keys[has] > 0).all() and (ends[has] <= self.n_rows()).all())

    def having(self, voice: Integers) -> Integers:
        """Which of some notes, by their voices, have rows."""
        known = np.flatnonzero(np.asarray(voice) < len(self.first))
        return known[self.first[np.asarray(voice)[known]] >= 0]

    def has(self, voice: int) -> bool:
        """Whether a voice has rows."""
        return len(self.having(np.array([voice]))) > 0

    @classmethod
    def joined(cls, parts: Sequence[Self | None], n_voices: Sequence[int]) -> Self | None:
        """Those of several sets of voices, one set after another; None if none has any."""
        sets = [part if part is None else part.chosen(np.arange(n)) for part, n in zip(parts, n_voices, strict=True)]
        known = [part for part in sets if part is not None]
        if not known:
            return None
        starts = np.cumsum([0] + [0 if part is None else part.n_rows() for part in sets])
        arrays = {}
        for name, of in cls.ARRAYS.items():
            if of.shape == _OF_VOICES:
                none = [np.full(n, of.low, of.dtype) for n in n_voices]
                columns = [own if part is None else getattr(part, name) for part, own in zip(sets, none, strict=True)]
                if name == "first":
                    columns = [np.where(c >= 0, c + start, -1) for c, start in zip(columns, starts, strict=False)]
                arrays[name] = np.concatenate(columns).astype(of.dtype)
            else:
                arrays[name] = np.concatenate([getattr(part, name) for part in known])
        return cls(**arrays)

    def chosen(self, voices: Integers) -> Self:
        """Those of some voices, in their order, which may share rows; of numbers that are not known, none."""
        known = np.asarray(voices) < len(self.first)
        at = np.where(known, voices, 0)
        columns = {name: getattr(self, name)[at] for name, of in self.ARRAYS.items() if of.shape == _OF_VOICES}
        return replace(self, **columns | {"first": np.where(known, columns["first"], -1).astype(np.int32)})

    def only(self, voices: Integers) -> Self:
        """Those of some voices, in their order, each with rows of its own; rows of others are left out."""
        some = self.chosen(voices)
        counts = np.where(some.first >= 0, some.n_keys * some.rows_a_key(), 0)
        first = first_rows(counts.tolist())
        rows = np.repeat(some.first - first, counts) + np.arange(counts.sum())
        arrays = {name: getattr(some, name)[rows] for name, of in self.ARRAYS.items() if of.shape != _OF_VOICES}
        return replace(some, first=first, **arrays)

    def alone(self, voice: int) -> Self | None:
        """Those of one voice, or None if it has none."""
        found = self.only(np.array([voice]))
        return found if found.n_rows() else None

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        save_arrays(path, {name: getattr(self, name) for name in self.ARRAYS})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read them. Raises: BankError if the file is damaged or holds something else."""
        arrays, _ = read_arrays(path)
        check_arrays(path, arrays, cls.ARRAYS)
        found = cls(**arrays)
        if not found.is_whole():
            raise BankError(f"{path}: names rows of keys that are not there; there are {found.n_rows()}")
        return found


def first_rows(counts: Sequence[int]) -> NDArray[np.int32]:
    """The first row of each voice that has so many, one voice after another; -1 of those that have none."""
    known = np.array(counts, np.int64)
    return np.where(known > 0, np.cumsum(known) - known, -1).astype(np.int32)
