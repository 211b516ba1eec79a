"""Variations of programs: voices beside General MIDI's, with bank numbers of their own, in one file of a bank's folder.

They are taught beside the finished nets and have all that a taught voice has: what nets are told of them, partials,
spectra and loudness by key, openings, courses of held notes. The file says which bank number of which program each is,
and what it is called.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from safetensors.numpy import save

from miao.arrays import AnyArray, Integers
from miao.bank.arrays import Array, check_arrays, read_arrays
from miao.bank.key_levels import KEY_ARRAYS, KeyLevels
from miao.bank.kits import Kits
from miao.bank.lasting import COURSE_ARRAYS, Courses
from miao.bank.openings import COARSE, FINE, OPENING_ARRAYS, Openings
from miao.bank.voices import EMBEDDINGS, N_PROGRAMS, TABLE, VoiceEmbeddings, VoiceTable, check_table
from miao.errors import BankError
from miao.files import write_bytes

FILE = "variations.safetensors"
_PLACES = {"places": Array(np.uint8, ("V", 2), 0, N_PROGRAMS - 1)}
_PARTS = {"table": TABLE, "told": EMBEDDINGS, "keys": KEY_ARRAYS, "openings": OPENING_ARRAYS, "courses": COURSE_ARRAYS}
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
    courses: Courses

    def numbered(self, kits: Kits, first: int) -> Kits:
        """Kits and variations with these, numbered from ``first`` on."""
        voices = {place: first + n for n, place in enumerate(self.places)}
        return replace(
            kits, programs=kits.programs | voices, names=kits.names | dict(zip(self.places, self.names, strict=True))
        )

    def chosen(self, rows: Integers) -> "Variations":
        """Some of them, in the order that is said, with what belongs to these alone."""
        which = [int(row) for row in rows]
        told = VoiceEmbeddings(self.embeddings.embeddings[which], self.embeddings.profiles[:, which])
        table, keys = self.table.chosen(np.array(which, np.int16)), self.keys.chosen(np.array(which))
        openings, courses = self.openings.chosen(np.array(which)), self.courses
        modes, mode_row = _renumbered(table.mode_row, np.ones(len(which), np.int64))
        of_keys, first_key = _renumbered(keys.first, keys.n_keys)
        n_knots = np.where(openings.is_fine > 0, len(FINE), len(COARSE))
        of_openings, first_knot = _renumbered(openings.first, openings.n_keys * n_knots)
        of_courses, course_row = _renumbered(courses.row[which], np.ones(len(which), np.int64))
        return Variations(
            tuple(self.places[n] for n in which), tuple(self.names[n] for n in which),
            replace(table, modes=table.modes[modes], mode_row=mode_row.astype(np.int16)), told,
            replace(keys, levels=keys.levels[of_keys], first=first_key.astype(np.int32)),
            replace(openings, levels=openings.levels[of_openings], first=first_knot.astype(np.int32)),
            Courses(course_row.astype(np.int16), courses.first[of_courses], courses.offsets[of_courses],
                    None if courses.keys is None else courses.keys[of_courses]),
        )  # fmt: skip

    @staticmethod
    def joined(parts: Sequence["Variations"]) -> "Variations":
        """Those of several sets, one set after another."""
        sizes = [len(part.places) for part in parts]
        keys = KeyLevels.joined([part.keys for part in parts], sizes)
        openings = Openings.joined([part.openings for part in parts], sizes)
        assert keys is not None and openings is not None
        return Variations(
            tuple(place for part in parts for place in part.places), tuple(n for part in parts for n in part.names),
            VoiceTable.joined([part.table for part in parts]),
            VoiceEmbeddings.joined([part.embeddings for part in parts]), keys, openings,
            Courses.joined([part.courses for part in parts], sizes),
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        parts = {"table": self.table, "keys": self.keys, "openings": self.openings, "courses": self.courses}
        arrays: dict[str, AnyArray] = {"places": np.array(self.places, np.uint8).reshape(-1, 2)}
        arrays |= {f"{part}.{name}": getattr(own, name) for part, own in parts.items() for name in _PARTS[part]}
        arrays |= {"told.embeddings": self.embeddings.embeddings, "told.profiles": self.embeddings.profiles}
        kept = {name: np.ascontiguousarray(array) for name, array in arrays.items() if array is not None}
        write_bytes(path, save(kept, {"names": "\n".join(self.names)}), BankError)

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
            part(Openings, "openings"), part(Courses, "courses"),
        )  # fmt: skip
        if arrays:
            raise BankError(f"{path}: holds {min(arrays)}, which is nothing of a variation's")
        if not (found.keys.is_whole() and found.openings.is_whole()):
            raise BankError(f"{path}: names keys that are not there")
        return found


def _renumbered(first: AnyArray, counts: AnyArray) -> tuple[Integers, Integers]:
    """Of a table whose rows belong to voices, so many from a first one on (-1: none): the rows of all in turn, and the
    first ones among these."""
    owned = np.where(np.asarray(first) >= 0, counts, 0).astype(np.int64)
    rows = [np.arange(start, start + n, dtype=np.int64) for start, n in zip(np.asarray(first), owned, strict=True) if n]
    starts = np.where(owned > 0, np.cumsum(owned) - owned, -1)
    return np.concatenate(rows) if rows else np.zeros(0, np.int64), starts
