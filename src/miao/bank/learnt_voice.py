"""Learnt voices: one voice that was learnt from recordings for the nets of a bank, as one file.

Such a voice is a row of each of the bank's tables and a correction that is added to what the nets write. Beside the
numbers a file says what the voice is, where it comes from, under which licence, for which nets and how well it does.
"""

import os
import re
from dataclasses import MISSING, dataclass, replace
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array, check_arrays, checksum_of, read_arrays, save_arrays
from miao.bank.key_gains import VELOCITIES, KeyGains
from miao.bank.key_levels import KEY_ARRAYS, KeyLevels
from miao.bank.lasting import KNOT_SECONDS, OwnCourse
from miao.bank.level_shift import AGES, SINCE, LevelShift
from miao.bank.own_kit import KIT, OwnKit
from miao.bank.recorded_notes import RecordedNotes
from miao.bank.sides import Sides
from miao.bank.surface import N_RELEASE, RELEASE_KNOTS, Surface
from miao.bank.voices import (
    DRUM_KEYS,
    EMBEDDINGS,
    N_PITCHES,
    PITCH_NODES,
    TABLE,
    VoiceEmbeddings,
    VoiceTable,
    check_table,
    node_below,
)
from miao.bank.waver import Waver
from miao.errors import BankError
from miao.files import make_folder, path_of

FORMAT = "miao voice 1"
FORMAT_2 = "miao voice 2"  # the same, with recorded notes, a shift, a surface or gains
SUFFIX = ".safetensors"
STEP_KNOTS = ((0, 1, 3, 7, 15, 31), (0, 31), (0, 7, 31))  # of a chunk, by kind, between which corrections run straight
N_INDICES = (1, 3, 1)  # chunks of a kind that have corrections of their own; later ones share the last
_NUMBERS = {"middle_velocity": (0, 1), "release_seconds": (0, np.inf)}
_MOST_LEVELS = float(tk.N_LEVELS)
_PARTS = {
    **KIT,
    "recorded.pitch": Array(np.float32, ("notes",), 0, N_PITCHES - 1, is_optional=True),
    "recorded.velocity": Array(np.float32, ("notes",), 0, 1, is_optional=True),
    "recorded.n_steps": Array(np.int32, ("notes",), 1, is_optional=True),
    "recorded.first_held": Array(np.int32, ("firsts",), 0, is_optional=True),
    "recorded.first_release": Array(np.int32, ("firsts",), 0, is_optional=True),
    "recorded.held": Array(np.uint8, ("held", tk.CHUNK_STEPS, tk.N_CELLS), 0, tk.N_LEVELS - 1, is_optional=True),
    "recorded.release": Array(np.uint8, ("let go", tk.CHUNK_STEPS, tk.N_CELLS), 0, tk.N_LEVELS - 1, is_optional=True),
    "recorded.levels_a_velocity": Array(np.float32, (1,), -_MOST_LEVELS, _MOST_LEVELS, is_optional=True),
    "shift.held": Array(
        np.float16,
        (len(AGES), 2, PITCH_NODES, tk.N_CELLS - 1),
        is_optional=True,
        or_shape=(len(AGES), 2, len(DRUM_KEYS), tk.N_CELLS - 1),
    ),
    "shift.let_go": Array(
        np.float16,
        (len(SINCE), PITCH_NODES, tk.N_CELLS - 1),
        is_optional=True,
        or_shape=(len(SINCE), len(DRUM_KEYS), tk.N_CELLS - 1),
    ),
    "shift.keys": Array(np.float16, (2, N_PITCHES, tk.N_CELLS - 1), is_optional=True),
    "shift.middle_velocity": Array(np.float32, (1,), 0, 1, is_optional=True),
    "surface.lowest": Array(np.uint8, (1,), 0, N_PITCHES - 1, is_optional=True),
    "surface.strengths": Array(np.float32, ("strengths",), 0, 1, is_optional=True),
    "surface.spectrum": Array(np.float16, ("keys of it", "strengths", tk.N_CELLS), 0, _MOST_LEVELS, is_optional=True),
    "surface.layers": Array(np.float32, ("layers",), 0, 1, is_optional=True),
    "surface.course": Array(
        np.float16, ("its nodes", "layers", "its knots", tk.N_CELLS), -_MOST_LEVELS, _MOST_LEVELS, is_optional=True
    ),
    "surface.falls": Array(
        np.float16,
        ("its nodes", "layers", N_RELEASE * len(RELEASE_KNOTS), tk.N_CELLS),
        -_MOST_LEVELS,
        _MOST_LEVELS,
        is_optional=True,
    ),
    "course.offsets": Array(np.int8, (PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS), is_optional=True),
    "waver.pitches": Array(np.uint8, ("wavering",), 0, N_PITCHES - 1, is_optional=True),
    "waver.moves": Array(np.int8, ("wavering", "its steps", tk.N_CELLS), is_optional=True),
    "waver.sets_in": Array(np.float32, (2,), 0, 10, is_optional=True),
    "gains.levels": Array(np.float16, (N_PITCHES, len(VELOCITIES)), -_MOST_LEVELS, _MOST_LEVELS, is_optional=True),
}
_PARTS |= {f"keys.{name}": replace(array, is_optional=True) for name, array in KEY_ARRAYS.items()}
_PARTS |= {f"sides.{name}": replace(array, is_optional=True) for name, array in Sides.ARRAYS.items()}
_WITHOUT_CORRECTION = {f"table.{name}": array for name, array in TABLE.items()} | EMBEDDINGS | _PARTS
ARRAYS = _WITHOUT_CORRECTION | {  # of a voice's file
    f"correction.{kind}": Array(np.float16, (n, len(knots), 2, PITCH_NODES, tk.N_CELLS))
    for kind, (n, knots) in enumerate(zip(N_INDICES, STEP_KNOTS, strict=True))
}
_FALL_LEVELS = 1.0  # a step (10 ms), past the longest release heard: 175 dB a second
_SHIPPED = Path(__file__).parents[1] / "banks" / "voices"


@dataclass(frozen=True, eq=False)
class Correction:
    """What is added to the levels that the nets write: for each chunk kind, number of the chunk, knot of its steps and
    pitch node, once as it is and once more for each unit of velocity above the middle."""

    levels: tuple[NDArray[np.float16], ...]  # by kind: [N_INDICES, STEP_KNOTS, 2, PITCH_NODES, C]
    middle_velocity: float  # 0..1
    release_seconds: float = np.inf  # the longest release that was heard; what still sounds then falls silent

    def applied(self, kind: int, levels: Floats, pitch: Reals, velocity: Reals, index: Integers) -> Floats:
        """Corrected levels of chunks of a kind, [B, a, C]; the other arrays are [B]."""
        low, share = node_below(pitch)
        share = share[:, None, None, None]
        table = self.levels[kind].astype(np.float32)[np.minimum(index, N_INDICES[kind] - 1)]  # [B, knots, 2, nodes, C]
        rows = np.arange(len(low))
        at = (1 - share) * table[rows, :, :, low] + share * table[rows, :, :, low + 1]  # [B, knots, 2, C]
        force = np.asarray(velocity, np.float32)[:, None, None] - np.float32(self.middle_velocity)
        knots = at[:, :, 0] + force * at[:, :, 1]  # [B, knots, C]
        moved = np.einsum("ak,bkc->bac", knot_weights(kind), knots)
        if kind == tk.RELEASE and self.release_seconds < np.inf:
            steps = np.arange(tk.CHUNK_STEPS) + tk.CHUNK_STEPS * np.asarray(index)[:, None]  # since it was let go
            beyond = np.maximum(steps - self.release_seconds / tk.STEP_SECONDS[kind], 0)
            moved[:, :, : tk.PITCH_CELL] -= (_FALL_LEVELS * beyond)[:, :, None].astype(np.float32)
        corrected: Floats = np.clip(levels + moved, 0, tk.N_LEVELS - 1).astype(np.float32)
        return corrected


def knot_weights(kind: int) -> Floats:
    """Share of each knot in each step of a chunk, [CHUNK_STEPS, knots]."""
    knots = STEP_KNOTS[kind]
    return np.stack([np.interp(np.arange(tk.CHUNK_STEPS), knots, row) for row in np.eye(len(knots))], axis=1).astype(
        np.float32
    )


@dataclass(frozen=True, eq=False)
class LearntVoice:
    """A voice and what is known about it.

    ``about`` has `name`, `bank` (what it was learnt for), `nets` (their checksum), and whatever else its maker says:
    `licence`, `origin`, `source`, `n_notes`, scores.

    >>> from miao import find_voice
    >>> find_voice("alto-sax").name
    'alto-sax'
    """

    table: VoiceTable  # of one voice
    embeddings: VoiceEmbeddings  # of one voice
    correction: Correction | None
    about: dict[str, str]
    recorded: RecordedNotes | None = None  # notes that lead, where recordings are dense
    shift: LevelShift | None = None  # what was learnt from music
    key_levels: KeyLevels | None = None  # those of the program of which it is a copy
    gains: KeyGains | None = None  # that make its keys even
    course: OwnCourse | None = None  # of its held notes, if they die away
    kit: OwnKit | None = None  # what nets are told of its keys, if it plays drums
    surface: Surface | None = None  # what its recorded notes say together
    waver: Waver | None = None  # what its held notes do from moment to moment
    sides: Sides | None = None  # how far its partials are ahead on the right; None: as the program's that it plays

    @property
    def name(self) -> str:
        """By which it is called."""
        return self.about["name"]

    def check(self, bank: str, nets_checksum: str) -> None:
        """Raises: BankError if the voice was learnt for other nets than these."""
        if self.about["nets"] != nets_checksum:
            raise BankError(
                f'voice "{self.name}" was learnt for other nets ({self.about["bank"]} {self.about["nets"]}) than those '
                f"of the bank {bank} ({nets_checksum}); learn it again"
            )

    def save(self, path: Path, *, force: bool = True) -> None:
        """Write the file. Raises: BankError if the disk refuses, or it exists and not ``force``."""
        arrays = {f"table.{name}": getattr(self.table, name) for name in self.table.__dataclass_fields__}
        arrays |= {"embeddings": self.embeddings.embeddings, "profiles": self.embeddings.profiles}
        about = self.about | {"format": FORMAT}
        if self.correction is not None:
            arrays |= {f"correction.{kind}": levels for kind, levels in enumerate(self.correction.levels)}
            about["middle_velocity"] = repr(float(self.correction.middle_velocity))
            about["release_seconds"] = repr(float(self.correction.release_seconds))
        parts = {"recorded": self.recorded, "shift": self.shift, "keys": self.key_levels, "gains": self.gains,
                 "course": self.course, "kit": self.kit, "surface": self.surface, "waver": self.waver,
                 "sides": self.sides}  # fmt: skip
        for prefix, part in parts.items():
            if part is not None:
                named = {f"{prefix}.{name}": getattr(part, name) for name in part.__dataclass_fields__}
                arrays |= {name: array for name, array in named.items() if array is not None}
                about["format"] = FORMAT_2
        about["checksum"] = checksum_of(arrays, about)
        make_folder(path.parent, BankError)
        save_arrays(path, arrays, about, force=force)

    @staticmethod
    def load(path: Path) -> "LearntVoice":
        """Read a file. Raises: BankError if it is missing, damaged or no learnt voice."""
        arrays, about = read_arrays(path)
        if about.get("format") not in (FORMAT, FORMAT_2):
            raise BankError(f'{path}: not a learnt voice; it says "{about.get("format", "")}" and not "{FORMAT}"')
        written = about.pop("checksum", None)  # of voices from before there were any, none
        if written is not None and written != checksum_of(arrays, about):
            raise BankError(f"{path}: has been changed or damaged since it was saved; get it anew")
        has_correction = "correction.0" in arrays
        check_arrays(path, arrays, ARRAYS if has_correction else _WITHOUT_CORRECTION, {"V": 1})
        rows = {name: arrays[f"table.{name}"] for name in VoiceTable.__dataclass_fields__}
        check_table(path, rows)
        for key in ("name", "bank", "nets"):
            if not about.get(key):
                raise BankError(f"{path}: does not say its {key}")
        correction = None
        if has_correction:
            levels = tuple(arrays[f"correction.{kind}"] for kind in range(3))
            middle, release = (_number(path, about, key) for key in ("middle_velocity", "release_seconds"))
            correction = Correction(levels, middle, release)
        embeddings = VoiceEmbeddings(arrays["embeddings"], arrays["profiles"])
        recorded, shift = _part(path, RecordedNotes, "recorded", arrays), _part(path, LevelShift, "shift", arrays)
        keys, gains = _part(path, KeyLevels, "keys", arrays), _part(path, KeyGains, "gains", arrays)
        course, kit = _part(path, OwnCourse, "course", arrays), _part(path, OwnKit, "kit", arrays)
        surface, waver = _part(path, Surface, "surface", arrays), _part(path, Waver, "waver", arrays)
        sides = _part(path, Sides, "sides", arrays)
        if keys is not None and not keys.is_whole():
            raise BankError(f"{path}: its key levels lie beyond its keys")
        if sides is not None and not sides.is_whole():
            raise BankError(f"{path}: its sides are of keys that are not there")
        if recorded is not None and not recorded.is_whole:
            raise BankError(f"{path}: its recorded notes lie beyond its chunks")
        if shift is not None and shift.held.shape[2] != shift.let_go.shape[1]:
            raise BankError(f"{path}: shift.held and shift.let_go are of different nodes")
        if surface is not None and not surface.is_whole:
            raise BankError(f"{path}: the parts of its surface do not fit each other")
        if waver is not None and not waver.is_whole:
            raise BankError(f"{path}: what it says of how its notes waver does not fit together")
        parts = recorded, shift, keys, gains, course, kit, surface, waver, sides
        return LearntVoice(VoiceTable(**rows), embeddings, correction, about, *parts)


def _number(path: Path, about: dict[str, str], key: str) -> float:
    low, high = _NUMBERS[key]
    try:
        value = float(about[key])
    except (KeyError, ValueError):
        raise BankError(f'{path}: {key} is "{about.get(key, "")}"; it must be a number') from None
    if not low <= value <= high:
        raise BankError(f"{path}: {key} is {value:g}; it must be {low:g} to {high:g}")
    return value


P = TypeVar("P")


def _part(path: Path, kind: type[P], prefix: str, arrays: dict[str, AnyArray]) -> P | None:
    """A part of a voice that a file may have, by the names of its arrays; None if it has none of them.

    Raises: BankError if it has some of them only.
    """
    fields = kind.__dataclass_fields__  # type: ignore[attr-defined]  # any dataclass
    found = {name: arrays[f"{prefix}.{name}"] for name in fields if f"{prefix}.{name}" in arrays}
    if not found:
        return None
    missing = [name for name, field in fields.items() if name not in found and field.default is MISSING]
    if missing:
        raise BankError(f"{path}: has no {prefix}.{missing[0]}")
    return kind(**found)


# --- where they are ---------------------------------------------------------------------------------------------


def voices_folder() -> Path:
    """Where a user's own voices are: $XDG_DATA_HOME or the platform's place for such files, miao/voices in it."""
    home = os.environ.get("XDG_DATA_HOME") or os.environ.get("LOCALAPPDATA")
    return (Path(home) if home else Path.home() / ".local" / "share") / "miao" / "voices"


def check_name(name: str) -> str:
    """The name, if it can be that of a voice: letters, digits, - and _. Raises: BankError."""
    if not re.fullmatch(r"[\w-]+", name):
        raise BankError(f'a voice cannot be called "{name}"; use letters, digits, - and _')
    return name


def voice_paths(folder: Path | None = None) -> dict[str, Path]:
    """The files of all learnt voices by their names: those in the package, then those in a folder (by default the
    user's own), which come first where names are the same."""
    paths: dict[str, Path] = {}
    for place in (_SHIPPED, voices_folder() if folder is None else folder):
        paths |= {path.stem: path for path in sorted(place.glob(f"*{SUFFIX}"))}
    return paths


def find_voice(name: str | Path, folder: Path | None = None) -> LearntVoice:
    """A learnt voice by its name or its file. Raises: BankError if there is none."""
    path, known = path_of(name, BankError), voice_paths(folder)
    if str(name) in known:
        return LearntVoice.load(known[str(name)])
    if path.suffix == SUFFIX:
        return LearntVoice.load(path)
    raise BankError(f'no voice "{name}"; there are {", ".join(known) or "none"}, or give a {SUFFIX} file')


def is_shipped(path: Path) -> bool:
    """Whether a file is one of the package's own."""
    return path.parent == _SHIPPED
