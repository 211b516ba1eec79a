"""How a held note goes on beyond what nets are asked for: it repeats what it has, along a measured course.

A sampler loops; tokens can, too. From a certain sustain chunk on nothing is decoded any more: the last chunk that the
nets wrote is repeated backwards and forwards in turn, without the slope that it had, and moved along a course. Where
the bank was told of a course (`Courses`), it is what the teacher's own held notes do at each cell, measured at a few
moments up to 30 s, so that a note is as loud, and as bright, as the teacher's after any time: how bright at pitches
between which it runs in straight lines, how loud at every key. Elsewhere a note that
loses less than 1 dB a second stays as it is, and any other goes on at each cell's own rate. Nothing is random and
nothing but the note itself is looked at, so that a note is the same live and from a file, and holds for hours.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Floats, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import Array, check_arrays, read_arrays, save_arrays
from miao.bank.voices import N_PITCHES, PITCH_NODES, learnt_pitch, node_below
from miao.errors import BankError

OLDEST_SECONDS = 8.0  # age that nets are told of a note that is older, when it is let go: they have learnt up to there
FIRST_CHUNK = 4  # sustain chunks that nets write where no course says otherwise
STEADY_CHUNK = 2  # where notes are known to stay as they are
KNOT_SECONDS = np.array([2.0, 3.0, 5.0, 8.0, 12.0, 20.0, 30.0, 60.0])  # of a course, since the note's start
COURSE_ARRAYS = {
    "row": Array(np.int16, ("V",), -1),
    "first": Array(np.uint8, ("R",), 1),
    "offsets": Array(np.int8, ("R", PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS)),
    "keys": Array(np.int8, ("R", N_PITCHES, len(KNOT_SECONDS)), is_optional=True),
}
_UNIT_LEVELS = 0.5  # of the numbers that courses are kept in
_KEY_UNIT_LEVELS = 0.25
_SETTLED_DB = 1.0  # a second: what loses less is not decaying
CHUNK_SECONDS = tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.SUSTAIN]
_STEPS = np.arange(tk.CHUNK_STEPS)
_TIMES = _STEPS * tk.STEP_SECONDS[tk.SUSTAIN]


@dataclass(frozen=True, eq=False)
class Courses:
    """What notes of a bank's voices do when they are held for long."""

    row: NDArray[np.int16]  # [V] of the tables below, -1 for voices of which nothing is known
    first: NDArray[np.uint8]  # [rows] sustain chunk from which notes repeat themselves
    offsets: NDArray[np.int8]  # [rows, PITCH_NODES, knots, C] what is added to the repeated chunk, half levels
    keys: NDArray[np.int8] | None = None  # [rows, N_PITCHES, knots] and to all cells of a key, quarters of a level

    def starts_at(self, voice: int) -> int:
        """The sustain chunk from which notes of a voice repeat themselves."""
        known = voice < len(self.row) and self.row[voice] >= 0
        return int(self.first[self.row[voice]]) if known else FIRST_CHUNK

    def at(self, voice: int, pitch: float) -> Floats | None:
        """The course of a note, [knots, C] levels against the repeated chunk; None if it is not known."""
        if voice >= len(self.row) or self.row[voice] < 0:
            return None
        pitch = float(learnt_pitch(np.asarray(pitch)))
        low, far = node_below(np.asarray(pitch))
        share = np.float32(far)
        table = self.offsets[self.row[voice]]
        course: Floats = np.float32(_UNIT_LEVELS) * ((1 - share) * table[low] + share * table[low + 1])
        if self.keys is not None:
            key = min(max(int(pitch), 0), N_PITCHES - 2)
            own, share = self.keys[self.row[voice]], np.float32(min(max(pitch - key, 0.0), 1.0))
            moved = np.float32(_KEY_UNIT_LEVELS) * ((1 - share) * own[key] + share * own[key + 1])
            course[:, : tk.PITCH_CELL] += moved[:, None]
        return course

    def with_own(self, courses: Mapping[int, "OwnCourse | None"]) -> "Courses":
        """With courses of their own for some voices; those with None stay as they are from chunk `STEADY_CHUNK` on."""
        if not courses:
            return self
        row = np.pad(self.row, (0, max(max(courses) + 1 - len(self.row), 0)), constant_values=-1)
        row[list(courses)] = len(self.first) + np.arange(len(courses))
        first = [STEADY_CHUNK if own is None else FIRST_CHUNK for own in courses.values()]
        still = np.zeros((PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS), np.int8)
        offsets = [still if own is None else own.offsets for own in courses.values()]
        keys = None if self.keys is None else np.pad(self.keys, ((0, len(courses)), (0, 0), (0, 0)))
        return Courses(
            row, np.append(self.first, first).astype(np.uint8), np.concatenate([self.offsets, offsets]), keys
        )

    @staticmethod
    def joined(parts: Sequence["Courses"], n_voices: Sequence[int]) -> "Courses":
        """Those of several sets of voices, one set after another."""
        starts = np.cumsum([0] + [len(part.first) for part in parts])
        rows = []
        for part, start, n in zip(parts, starts.tolist(), n_voices, strict=False):
            padded = np.pad(part.row, (0, max(n - len(part.row), 0)), constant_values=-1)[:n]
            rows.append(np.where(padded >= 0, padded + start, -1))
        still = [np.zeros((len(part.first), N_PITCHES, len(KNOT_SECONDS)), np.int8) for part in parts]
        keys = [zero if part.keys is None else part.keys for part, zero in zip(parts, still, strict=True)]
        return Courses(
            np.concatenate(rows).astype(np.int16), np.concatenate([part.first for part in parts]),
            np.concatenate([part.offsets for part in parts]), np.concatenate(keys),
        )  # fmt: skip

    def save(self, path: Path) -> None:
        """Write them as a safetensors file."""
        arrays: dict[str, AnyArray] = {"row": self.row, "first": self.first, "offsets": self.offsets}
        if self.keys is not None:
            arrays["keys"] = self.keys
        save_arrays(path, arrays)

    @staticmethod
    def load(path: Path) -> "Courses":
        """Read them. Raises: BankError if the file is damaged or holds something else."""
        arrays, _ = read_arrays(path)
        n_rows = check_arrays(path, arrays, COURSE_ARRAYS)["R"]
        if (arrays["row"] >= n_rows).any():
            raise BankError(f"{path}: row names courses that are not there; there are {n_rows}")
        return Courses(**arrays)

    @staticmethod
    def none() -> "Courses":
        """Nothing is known of any voice."""
        shape = (0, PITCH_NODES, len(KNOT_SECONDS), tk.N_CELLS)
        return Courses(np.zeros(0, np.int16), np.zeros(0, np.uint8), np.zeros(shape, np.int8))


@dataclass(frozen=True, eq=False)
class OwnCourse:
    """The course of a voice of its own, from chunk `FIRST_CHUNK` on."""

    offsets: NDArray[np.int8]  # [PITCH_NODES, knots, C] half levels, as in `Courses`


def as_offsets(levels: Reals) -> NDArray[np.int8]:
    """Differences in levels as `Courses` keeps them."""
    offsets: NDArray[np.int8] = np.clip(np.rint(levels / _UNIT_LEVELS), -127, 127).astype(np.int8)
    return offsets


def as_key_offsets(levels: Reals) -> NDArray[np.int8]:
    """What `Courses` adds to all cells of a key, as it is kept."""
    offsets: NDArray[np.int8] = np.clip(np.rint(levels / _KEY_UNIT_LEVELS), -127, 127).astype(np.int8)
    return offsets


def without_slope(chunk: Floats) -> Floats:
    """A chunk [a, C] whose levels waver as they did but neither rise nor fall; the pitch is left as it is."""
    centred = (_STEPS - _STEPS.mean()).astype(np.float32)
    slope = centred @ chunk / np.square(centred).sum()
    slope[tk.PITCH_CELL] = 0
    straight: Floats = (chunk - centred[:, None] * slope).astype(np.float32)
    return straight


def next_chunk(recent: Sequence[Floats], before: Floats, number: int, age: float, course: Floats | None) -> Floats:
    """The next sustain chunk [a, C] of a note that repeats itself.

    recent  the last two sustain chunks that nets wrote, each [a, C]
    before  the token that the note has reached, [C]
    number  how many chunks have been repeated before
    age     seconds since the note's start
    course  `Courses.at`, or None to go on as the two chunks say
    """
    loop = without_slope(recent[-1])
    turned = loop[::-1] if number % 2 == 0 else loop
    moved = _as_before(recent, number) if course is None else _along(course, age + _TIMES)
    chunk: Floats = np.clip(turned + moved, 0, tk.N_LEVELS - 1).astype(np.float32)
    if number == 0:  # a course sets in where the note is
        share = ((_STEPS + 1) / tk.CHUNK_STEPS).astype(np.float32)[:, None]
        chunk = (1 - share) * before + share * chunk
    return chunk


def _along(course: Floats, times: Reals) -> Floats:
    """What a course adds at some times, [a, C]: straight lines between its knots, level beyond the last."""
    right = np.clip(np.searchsorted(KNOT_SECONDS, times), 1, len(KNOT_SECONDS) - 1)
    low, high = KNOT_SECONDS[right - 1], KNOT_SECONDS[right]
    share = np.clip((times - low) / (high - low), 0, 1).astype(np.float32)[:, None]
    moved: Floats = (1 - share) * course[right - 1] + share * course[right]
    moved[:, tk.PITCH_CELL] = 0
    return moved


def _as_before(recent: Sequence[Floats], number: int) -> Floats:
    """What each cell has lost since the repeated chunk, [a, C], at the rate at which it fell before."""
    first, last = recent[0], recent[-1]
    power = [float(np.square(tk.level_to_amplitude(x[:, : tk.PITCH_CELL])).sum()) for x in (first, last)]
    if min(power) <= 0 or 10 * np.log10(power[0] / power[1]) < _SETTLED_DB * CHUNK_SECONDS:
        return np.zeros((tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
    fall = np.minimum(last.mean(axis=0) - first.mean(axis=0), 0)  # levels a chunk
    fall[tk.PITCH_CELL] = 0
    chunks = number + 0.5 + (_STEPS + 0.5) / tk.CHUNK_STEPS  # since the middle of the repeated one
    lost: Floats = (chunks[:, None] * fall).astype(np.float32)
    return lost
