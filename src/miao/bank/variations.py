"""Variations of programs: voices beside General MIDI's, with bank numbers of their own, in one file of a bank's folder.

They are taught beside the finished nets and have all that a taught voice has: what nets are told of them, partials,
spectra and loudness by key, openings, rises, wavers, sides, courses of held notes. The file says which bank number of
which program each is, and what it is called.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Integers
from miao.bank.arrays import Array, check_arrays, read_arrays, save_arrays
from miao.bank.key_levels import KEY_ARRAYS, KeyLevels
from miao.bank.kits import Kits
from miao.bank.lasting import COURSE_ARRAYS, Courses
from miao.bank.openings import OPENING_ARRAYS, Openings
from miao.bank.rises import RISE_ARRAYS, Rises
from miao.bank.sides import Sides
from miao.bank.taught import TAUGHT_ARRAYS, TaughtKeys
from miao.bank.voices import EMBEDDINGS, N_PROGRAMS, TABLE, VoiceEmbeddings, VoiceTable, check_table
from miao.bank.wavers import Wavers
from miao.errors import BankError

FILE = "variations.safetensors"
_PLACES = {"places": Array(np.uint8, ("V", 2), 0, N_PROGRAMS - 1)}
_PARTS = {
    "table": TABLE, "told": EMBEDDINGS, "keys": KEY_ARRAYS, "openings": OPENING_ARRAYS, "rises": RISE_ARRAYS,
    "courses": COURSE_ARRAYS, "wavers": Wavers.ARRAYS, "sides": Sides.ARRAYS, "taught": TAUGHT_ARRAYS,
}  # fmt: skip
_T = TypeVar("_T")


@dataclass(frozen=True, eq=False)
class Variations:
    """Voices of their own beside General MIDI's; what each is, in their order, and its rows of all tables."""

    places: tuple[tuple[int, int], ...]  # (bank number, as GS has it 1..127, program 0..127)
    names: tuple[str, ...]
    table: VoiceTable
    embeddings: VoiceEmbeddings
    keys: KeyLevels
    openings: Openings
    rises: Rises
    courses: Courses
    wavers: Wavers | None = None
    sides: Sides | None = None
    taught: TaughtKeys | None = None  # None: all keys

    def numbered(self, kits: Kits, first: int) -> Kits:
        """Kits and variations with these, numbered from ``first`` on."""
        voices = {place: first + n for n, place in enumerate(self.places)}
        return replace(
            kits, programs=kits.programs | voices, names=kits.names | dict(zip(self.places, self.names, strict=True))
        )

    def chosen(self, rows: Integers) -> "Variations":
        """Some of them, in the order that is said, with what belongs to these alone."""
        which = np.asarray(rows, np.int64)
        table, courses = self.table.chosen(which.astype(np.int16)), self.courses
        modes, courses_of = (own[own >= 0] for own in (table.mode_row, courses.row[which]))
        return Variations(
            tuple(self.places[n] for n in which), tuple(self.names[n] for n in which),
            replace(table, modes=table.modes[modes], mode_row=_in_turn(table.mode_row)),
            VoiceEmbeddings(self.embeddings.embeddings[which], self.embeddings.profiles[:, which]),
            self.keys.only(which), self.openings.only(which), self.rises.only(which),
            Courses(_in_turn(courses.row[which]), courses.first[courses_of], courses.offsets[courses_of],
                    None if courses.keys is None else courses.keys[courses_of]),
            self.wavers and self.wavers.only(which), self.sides and self.sides.only(which),
            self.taught_keys.chosen(which),
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence["Variations"]) -> "Variations":
        """Those of several sets, one set after another."""
        sizes = [len(part.places) for part in parts]
        keys = KeyLevels.joined([part.keys for part in parts], sizes)
        openings = Openings.joined([part.openings for part in parts], sizes)
        rises = Rises.joined([part.rises for part in parts], sizes)
        assert keys is not None and openings is not None and rises is not None
        return Variations(
            tuple(place for part in parts for place in part.places), tuple(n for part in parts for n in part.names),
            VoiceTable.joined([part.table for part in parts]),
            VoiceEmbeddings.joined([part.embeddings for part in parts]), keys, openings, rises,
            Courses.joined([part.courses for part in parts], sizes),
            Wavers.joined([part.wavers for part in parts], sizes), Sides.joined([part.sides for part in parts], sizes),
            TaughtKeys.joined([part.taught_keys for part in parts]),
        )  # fmt: skip

    @property
    def taught_keys(self) -> TaughtKeys:
        """The keys that were taught of each."""
        return TaughtKeys.of([None] * len(self.places)) if self.taught is None else self.taught

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        parts = {part: own for part in _PARTS if part != "told" and (own := getattr(self, part)) is not None}
        arrays: dict[str, AnyArray] = {"places": np.array(self.places, np.uint8).reshape(-1, 2)}
        arrays |= {f"{part}.{name}": getattr(own, name) for part, own in parts.items() for name in _PARTS[part]}
        arrays |= {"told.embeddings": self.embeddings.embeddings, "told.profiles": self.embeddings.profiles}
        kept = {name: array for name, array in arrays.items() if array is not None}
        save_arrays(path, kept, {"names": "\n".join(self.names)})

    @staticmethod
    def load(path: Path) -> "Variations":
        """Read what `save` wrote. Raises: BankError if it is damaged or does not go together."""
        arrays, about = read_arrays(path)
        names = tuple(about.get("names", "").split("\n"))
        own = {"places": arrays.pop("places")} if "places" in arrays else {}
        n_voices = check_arrays(path, own, _PLACES)["V"]
        places = tuple((int(bank), int(program)) for bank, program in own["places"])
        if len(set(places)) != n_voices or len(names) != n_voices or not all(bank for bank, _ in places):
            raise BankError(f"{path}: does not say what each of its {n_voices} voices is")

        def part(kind: Callable[..., _T], prefix: str) -> _T:
            wanted = {f"{prefix}.{name}": array for name, array in _PARTS[prefix].items()}
            found = {name: arrays.pop(name) for name in [*arrays] if name.startswith(f"{prefix}.")}
            sizes = check_arrays(path, found, wanted, {"V": n_voices})
            bare = {name.removeprefix(f"{prefix}."): array for name, array in found.items()}
            if prefix == "table":
                check_table(path, bare)
            if prefix == "courses" and (bare["row"] >= sizes["R"]).any():
                raise BankError(f"{path}: row names courses that are not there; there are {sizes['R']}")
            return kind(**bare)

        found = Variations(
            places, names, part(VoiceTable, "table"), part(VoiceEmbeddings, "told"), part(KeyLevels, "keys"),
            part(Openings, "openings"),
            part(Rises, "rises") if "rises.first" in arrays else Rises.of([None] * n_voices),
            part(Courses, "courses"),
            part(Wavers, "wavers") if "wavers.first" in arrays else None,
            part(Sides, "sides") if "sides.first" in arrays else None,
            part(TaughtKeys, "taught") if "taught.lowest" in arrays else None,
        )  # fmt: skip
        if arrays:
            raise BankError(f"{path}: holds {min(arrays)}, which is nothing of a variation's")
        rows = found.keys, found.openings, found.rises, found.wavers, found.sides, found.taught
        if not all(own.is_whole() for own in rows if own is not None):
            raise BankError(f"{path}: names keys that are not there")
        return found


def _in_turn(row: NDArray[np.int16]) -> NDArray[np.int16]:
    """Rows of voices, -1 for those without, once each voice that has one has its own, in their order."""
    return np.where(row >= 0, np.cumsum(row >= 0) - 1, -1).astype(np.int16)
