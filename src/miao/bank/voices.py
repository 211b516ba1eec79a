"""Voices: what belongs to an instrument rather than to a moment. Partial ratios, stereo balance, names.

A voice is one General MIDI program or one drum key. Its table says, for every pitch, where the partials lie and how
each cell is spread over left and right. Tables are measured once, from the same notes that a bank is trained on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Doubles, Floats, Integers, Numbers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array, check_arrays, read_arrays, save_arrays
from miao.bank.partials import Partials, harmonic_partials, mode_partials
from miao.errors import BankError

N_PROGRAMS = 128
DRUM_KEYS = range(27, 88)
N_VOICES = N_PROGRAMS + len(DRUM_KEYS)
HARMONIC, HALF_HARMONIC, MODES = 0, 1, 2  # kinds of partial ratios
RATIO_BASE = {HARMONIC: 1.0, HALF_HARMONIC: 0.5}  # of the first harmonic, over the note's frequency
N_PITCHES = 128
LEARNT_PITCHES = range(22, 107)  # what banks are taught
PITCH_NODES = 43  # a voice has one embedding every three semitones
SEMITONES_A_NODE = 3

_BY_KEY = ("V", N_PITCHES)
TABLE = {  # what the arrays of a voice table are
    "kind": Array(np.int8, ("V",), HARMONIC, MODES),
    "tune_cents": Array(np.float32, _BY_KEY, -1200, 1200),
    "stretch": Array(np.float32, _BY_KEY, 0, 1),
    "mode_row": Array(np.int16, ("V",), -1),
    "modes": Array(np.float32, ("R", N_PITCHES, tk.N_PARTIALS), 0, 1e6),
    "balance": Array(np.int8, (*_BY_KEY, tk.N_CELLS - 1), -127, 127),
    "is_wide": Array(np.uint8, _BY_KEY, 0, 1),
    "trim_db": Array(np.float32, ("V",), -60, 60, or_shape=_BY_KEY),
}
EMBEDDINGS = {  # and of what nets are told of voices
    "embeddings": Array(np.float16, ("V", PITCH_NODES, "W")),
    "profiles": Array(np.float16, (3, "V", PITCH_NODES, tk.N_CELLS)),
}


def learnt_pitch(pitch: Numbers) -> Doubles:
    """The pitch that a bank was taught nearest to some: beyond the outermost nets make up what they write, a dozen dB
    too loud or too soft, so that such notes are those, moved."""
    nearest: Doubles = np.clip(np.asarray(pitch, np.float64), LEARNT_PITCHES[0], LEARNT_PITCHES[-1])
    return nearest


def program_voice(program: int) -> int:
    """Voice number of a General MIDI program 0..127."""
    return program


def drum_voice(key: int) -> int:
    """Voice number of a drum key; keys beyond 27..87 sound as the nearest one."""
    return N_PROGRAMS + min(max(key, DRUM_KEYS[0]), DRUM_KEYS[-1]) - DRUM_KEYS[0]


def note_voice(program: int, pitch: int, *, is_drum: bool) -> int:
    """Voice number of a note: its drum key's, or its program's."""
    return drum_voice(pitch) if is_drum else program_voice(program)


def drum_key(voice: int) -> int:
    """Drum key of a voice number from N_PROGRAMS on."""
    return DRUM_KEYS[voice - N_PROGRAMS]


def kit_rows(pitch: Numbers) -> Integers:
    """Rows of tables over `DRUM_KEYS` for keys; those beyond have the outermost. Shapes: [B]."""
    keys = np.clip(np.rint(np.asarray(pitch, np.float64)), DRUM_KEYS[0], DRUM_KEYS[-1])
    rows: Integers = keys.astype(np.int64) - DRUM_KEYS[0]
    return rows


def is_drum_voice(voice: int) -> bool:
    """Whether a voice number is a drum key's; numbers behind those are learnt voices."""
    return N_PROGRAMS <= voice < N_VOICES


def node_below(pitch: Reals) -> tuple[Integers, Doubles]:
    """The pitch node at or below each pitch, and how far on the pitch is to the next one, 0 to 1. Shapes: [B]."""
    position = np.clip(np.asarray(pitch, np.float32), 0, N_PITCHES - 2) / SEMITONES_A_NODE
    low = np.minimum(position.astype(np.int64), PITCH_NODES - 2)
    return low, position - low


def partials_of(kind: int, tune_cents: float, stretch: float, modes: Reals | None) -> Partials:
    """Where the partials of a note lie under a kind of ratios; modes [N_PARTIALS] are for MODES only."""
    if kind == MODES:
        assert modes is not None
        return mode_partials(modes)
    return harmonic_partials(RATIO_BASE[kind], tune_cents, stretch)


def balance_of(left_share: Reals) -> NDArray[np.int8]:
    """Left shares 0..1 of a power as the table keeps them."""
    balance: NDArray[np.int8] = np.rint((np.asarray(left_share, np.float32) - 0.5) * 254).astype(np.int8)
    return balance


def pitch_hz(pitch: NDArray[np.int16] | float) -> Doubles | float:
    """Nominal frequency of a MIDI pitch (fractions allowed), A4 = 440 Hz."""
    return 440.0 * 2.0 ** ((np.asarray(pitch, np.float64) - 69) / 12)


@dataclass(frozen=True, eq=False)
class VoiceTable:
    """Partial ratios and stereo balance of every voice at every pitch."""

    kind: NDArray[np.int8]  # [V] HARMONIC, HALF_HARMONIC or MODES
    tune_cents: Floats  # [V, 128]
    stretch: Floats  # [V, 128] B of k * sqrt(1 + B k^2)
    mode_row: NDArray[np.int16]  # [V] row in modes, -1 for harmonic voices
    modes: Floats  # [rows, 128, N_PARTIALS] ratios, 0 = unused
    balance: NDArray[np.int8]  # [V, 128, C - 1] left share of a cell's power: -127 right only, 0 middle, 127 left only
    is_wide: NDArray[np.uint8]  # [V, 128] whether the two channels' noise is independent
    trim_db: Floats  # [V], or [V, 128] by key: gain that makes up for what expected levels lose in power

    def partials(self, voice: int, pitch: int) -> Partials:
        """Where the partials of a note lie."""
        return _partials(self, voice, pitch)

    def gains(self, voice: int, pitch: int) -> Floats:
        """Left and right gain of each cell, [C - 1, 2], the voice's trim in it; 1 and 1 are the middle."""
        left = 0.5 + self.balance[voice, pitch].astype(np.float32) / 254
        trim = np.float32(10 ** (self.trim(voice, pitch) / 20))
        gains: Floats = trim * np.sqrt(2 * np.stack([left, 1 - left], axis=1))
        return gains

    def trim(self, voice: int, pitch: int) -> float:
        """Gain (dB) that a key of a voice is played with."""
        return float(self.trim_db[voice] if self.trim_db.ndim == 1 else self.trim_db[voice, pitch])

    def as_loud_beyond(self, keys: range) -> "VoiceTable":
        """The voices, each key beyond some with the trim of the outermost of these."""
        if self.trim_db.ndim == 1:
            return self
        return replace(self, trim_db=self.trim_db[:, np.clip(np.arange(N_PITCHES), keys[0], keys[-1])])

    def chosen(self, voices: NDArray[np.int16]) -> "VoiceTable":
        """The rows of some voices, in their order; modes are shared."""
        rows = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return VoiceTable(**{name: array if name == "modes" else array[voices] for name, array in rows.items()})

    @staticmethod
    def joined(tables: Sequence["VoiceTable"]) -> "VoiceTable":
        """The voices of several tables, one table after another; modes that they share are there once."""
        parts = {name: [getattr(t, name) for t in tables] for name in VoiceTable.__dataclass_fields__}
        firsts, n_modes = {}, 0
        for modes in parts["modes"]:
            if id(modes) not in firsts:
                firsts[id(modes)], n_modes = n_modes, n_modes + len(modes)
        parts["modes"] = list({id(modes): modes for modes in parts["modes"]}.values())
        rows = [np.where(t.mode_row >= 0, t.mode_row + firsts[id(t.modes)], -1) for t in tables]
        parts["mode_row"] = [r.astype(np.int16) for r in rows]
        if any(trim.ndim == 2 for trim in parts["trim_db"]):
            by_key = [t if t.ndim == 2 else t[:, None] for t in parts["trim_db"]]  # a part may be of no voices
            parts["trim_db"] = [np.broadcast_to(t, (len(t), N_PITCHES)) for t in by_key]
        return VoiceTable(**{name: np.concatenate(a) if len(a) > 1 else a[0] for name, a in parts.items()})

    def save(self, path: Path) -> None:
        """Write the table as a safetensors file; rows that are the same at every pitch (drums) once."""
        arrays = {}
        for name in self.__dataclass_fields__:
            values = getattr(self, name)
            if values.ndim < 2 or values.shape[1] != N_PITCHES:
                arrays[name] = values
                continue
            is_same = (values == values[:, :1]).all(axis=tuple(range(1, values.ndim)))
            arrays[name] = values[~is_same]
            arrays[f"{name}.is_same"] = is_same.astype(np.uint8)
            arrays[f"{name}.same"] = values[is_same, 0]
        save_arrays(path, arrays)

    @staticmethod
    def load(path: Path) -> "VoiceTable":
        """Read a table. Raises: BankError if the file is missing, damaged or not a voice table."""
        folded, _ = read_arrays(path)
        try:
            arrays = _unfolded(folded)
        except (KeyError, IndexError, ValueError) as error:
            raise BankError(f"{path}: not a voice table ({error})") from None
        check_table(path, arrays)
        return VoiceTable(**arrays)


@dataclass(frozen=True, eq=False)
class VoiceEmbeddings:
    """What the nets are told of a voice: learnt vectors at pitch nodes, in straight lines between two of them.

    They lie apart from the nets, so that voices can be added.
    """

    embeddings: NDArray[np.float16]  # [V, PITCH_NODES, W]
    profiles: NDArray[np.float16]  # [3, V, PITCH_NODES, C] by chunk kind, see `model.AudioDecoder.start`
    row: NDArray[np.int16] | None = None  # of each voice in these tables; None where they are the voices

    def at(self, kind: int, voice: Integers, pitch: Reals) -> tuple[Floats, Floats]:
        """Embedding [B, W] and profile [B, C] of voices at pitches, for chunks of a kind."""
        low, far = node_below(pitch)
        share = far.astype(np.float32)[:, None]
        rows = voice if self.row is None else self.row[voice]
        tables = (self.embeddings, self.profiles[kind])
        embedding, profile = ((1 - share) * table[rows, low] + share * table[rows, low + 1] for table in tables)
        return embedding, profile

    @staticmethod
    def joined(parts: Sequence["VoiceEmbeddings"]) -> "VoiceEmbeddings":
        """The voices of several sets, one set after another."""
        embeddings, profiles = [p.embeddings for p in parts], [p.profiles for p in parts]
        row = None
        if any(p.row is not None for p in parts):
            firsts = np.cumsum([0] + [len(p.embeddings) for p in parts])
            rows = [np.arange(len(p.embeddings)) if p.row is None else p.row for p in parts]
            row = np.concatenate([r + first for r, first in zip(rows, firsts, strict=False)]).astype(np.int16)
        return VoiceEmbeddings(np.concatenate(embeddings), np.concatenate(profiles, axis=1), row)

    def rows(self) -> Integers:
        """The row of each voice in these tables, [V]."""
        return np.arange(self.n_voices) if self.row is None else self.row.astype(np.int64)

    @property
    def n_voices(self) -> int:
        """How many voices there are."""
        return len(self.embeddings if self.row is None else self.row)

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        assert self.row is None
        save_arrays(path, {"embeddings": self.embeddings, "profiles": self.profiles})

    @staticmethod
    def load(path: Path) -> "VoiceEmbeddings":
        """Read them. Raises: BankError if the file is missing, damaged or holds something else."""
        arrays, _ = read_arrays(path)
        check_arrays(path, arrays, EMBEDDINGS)
        return VoiceEmbeddings(**arrays)


def check_table(path: Path, arrays: dict[str, AnyArray]) -> None:
    """Raises: BankError that names the first array of a voice table that is not what it is to be."""
    n_rows = check_arrays(path, arrays, TABLE)["R"]
    row, needs_one = arrays["mode_row"], arrays["kind"] == MODES
    if (row >= n_rows).any() or (row[needs_one] < 0).any():
        raise BankError(f"{path}: mode_row names rows of modes that are not there; there are {n_rows}")


def _unfolded(arrays: dict[str, AnyArray]) -> dict[str, AnyArray]:
    """What `VoiceTable.save` wrote, with all rows at every pitch again."""
    whole = {name: values for name, values in arrays.items() if "." not in name}
    for name in {key.rpartition(".")[0] for key in arrays if "." in key}:
        is_same, same = arrays[f"{name}.is_same"].astype(bool), arrays[f"{name}.same"]
        values = np.zeros((len(is_same), N_PITCHES, *same.shape[1:]), same.dtype)
        values[~is_same], values[is_same] = whole[name], same[:, None]
        whole[name] = values
    return whole


@lru_cache(maxsize=4096)
def _partials(table: VoiceTable, voice: int, pitch: int) -> Partials:
    kind, row = int(table.kind[voice]), table.mode_row[voice]
    modes = table.modes[row, pitch] if kind == MODES else None
    return partials_of(kind, float(table.tune_cents[voice, pitch]), float(table.stretch[voice, pitch]), modes)
