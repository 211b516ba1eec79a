"""What recorded notes say together: a spectrum for each key and strength, how notes go on from there, and how they end.

A recorded note is one of many that could have been played; what can be known of a key is what its neighbours have in
common. So no single notes are kept (`bank.recorded_notes` does that) but levels that run smoothly between all of them:

    level = spectrum (key, strength) + course (pitch, strength, time since the start)

and, once a note is let go, the token that it had reached and its fall since then. Between keys, strengths and moments
levels run in straight lines. Beyond the outermost recorded keys the nets take over within nine semitones; where no
course is known any more a note goes on as its nets or `bank.lasting` say.
"""

from dataclasses import dataclass
from functools import cache, cached_property

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.voices import SEMITONES_A_NODE

ATTACK_KNOTS = (0, 1, 2, 3, 5, 7, 10, 14, 19, 25, 31)  # steps of a chunk, between which a course runs straight
SUSTAIN_KNOTS = (0, 5, 10, 15, 20, 25, 31)
RELEASE_KNOTS = (0, 2, 5, 9, 14, 20, 31)
N_RELEASE = 3  # chunks of which falls are known
FADE_SEMITONES = 9.0
_LEAST_FALL = 0.5  # levels a step beyond what is known of a release: 87 dB a second


@dataclass(frozen=True, eq=False)
class Surface:
    """Levels by key, strength and moment."""

    lowest: NDArray[np.uint8]  # [1] key
    strengths: Floats  # [S] 0..1, rising
    spectrum: NDArray[np.float16]  # [keys, S, C] from the lowest key on; the pitch cell among them
    layers: Floats  # [L] 0..1, rising: strengths that were recorded
    course: NDArray[np.float16]  # [nodes, L, knots, C] against the spectrum, every third semitone from the lowest key
    falls: NDArray[np.float16] | None = (
        None  # [nodes, L, knots, C] since the note was let go; None: they fall as nets write
    )

    @property
    def n_sustain(self) -> int:
        """Sustain chunks whose course is known."""
        return int(self.course.shape[2] - len(ATTACK_KNOTS)) // len(SUSTAIN_KNOTS)

    @property
    def is_whole(self) -> bool:
        """Whether its parts fit each other."""
        n_keys, n_nodes = self.spectrum.shape[0], self.course.shape[0]
        knots = self.course.shape[2] - len(ATTACK_KNOTS)
        return (
            min(n_keys, len(self.strengths), len(self.layers)) > 0
            and n_nodes == nodes_of(n_keys)
            and knots >= 0 and knots % len(SUSTAIN_KNOTS) == 0
            and bool((np.diff(self.strengths) > 0).all() and (np.diff(self.layers) > 0).all())
            and (self.falls is None or self.falls.shape[:2] == self.course.shape[:2])
        )  # fmt: skip

    @cached_property
    def _at_work(self) -> tuple[Floats, Floats, Floats | None]:
        """Spectrum, course and falls in the numbers that are counted with, once the voice plays.

        No cell grows once a note is let go: straight lines through levels that break off overshoot before they fall.
        """
        falls = None
        if self.falls is not None:
            falls = np.minimum.accumulate(np.minimum(self.falls.astype(np.float32), 0), axis=2)
        return self.spectrum.astype(np.float32), self.course.astype(np.float32), falls

    def share(self, pitch: Reals) -> Floats:
        """How much the surface counts at pitches: 1 within the recorded keys, 0 beyond the fade."""
        low = int(self.lowest[0])
        beyond = np.maximum(low - np.asarray(pitch), np.asarray(pitch) - (low + len(self.spectrum) - 1))
        share: Floats = np.clip(1 - np.maximum(beyond, 0) / FADE_SEMITONES, 0, 1).astype(np.float32)
        return share

    def led(
        self, kind: int, levels: Floats, pitch: Reals, velocity: Reals, index: Integers, previous: Floats | None
    ) -> Floats:
        """Levels of chunks of a kind, [B, a, C], as the nets write them, with the surface's in their place.

        ``previous`` are the tokens before them, [B, C]; the other arrays are [B].
        """
        out, index = np.array(levels, np.float32), np.asarray(index)
        share = self.share(pitch)
        if kind == tk.RELEASE:
            if previous is None:
                return out
            rows = np.flatnonzero((share > 0) & ((self.falls is not None) | (index == 0)))
        else:
            rows = np.flatnonzero((share > 0) & ((kind == tk.ATTACK) | (index < self.n_sustain)))
        if not len(rows):
            return out
        own = np.asarray(pitch)[rows], np.asarray(velocity)[rows], index[rows]
        if kind == tk.RELEASE:
            assert previous is not None
            chunk = _fallen(out[rows], previous[rows]) if self.falls is None else self._let_go(*own, previous[rows])
        else:
            chunk = self._held(kind, *own)
        part = share[rows, None, None]
        out[rows] = np.clip(part * chunk + (1 - part) * out[rows], 0, tk.N_LEVELS - 1)
        return out

    def _held(self, kind: int, pitch: Reals, velocity: Reals, index: Integers) -> Floats:
        """Chunks of attack or sustain, [B, a, C]."""
        key = np.asarray(pitch, np.float64) - int(self.lowest[0])
        spectra, course, _ = self._at_work
        spectrum = _between(spectra, key, velocity, self.strengths)  # [B, C]
        chunk = np.repeat(spectrum[:, None], tk.CHUNK_STEPS, axis=1)
        for number in np.unique(index if kind == tk.SUSTAIN else 0 * index).tolist():
            rows = np.flatnonzero((index == number) | (kind == tk.ATTACK))
            first, knots = len(ATTACK_KNOTS) + len(SUSTAIN_KNOTS) * number, shares(SUSTAIN_KNOTS)
            if kind == tk.ATTACK:
                first, knots = 0, shares(ATTACK_KNOTS)
            table = course[:, :, first : first + knots.shape[1]]
            chunk[rows] += knots @ _between(table, key[rows] / SEMITONES_A_NODE, velocity[rows], self.layers)
        return chunk

    def _let_go(self, pitch: Reals, velocity: Reals, index: Integers, previous: Floats) -> Floats:
        """Chunks of release, [B, a, C]: what was reached, and what is lost since then."""
        known = self._at_work[2]
        assert known is not None
        key = np.asarray(pitch, np.float64) - int(self.lowest[0])
        falls = _between(known, key / SEMITONES_A_NODE, velocity, self.layers)  # [B, knots, C]
        n = len(RELEASE_KNOTS)
        chunks = [shares(RELEASE_KNOTS) @ falls[:, n * i : n * (i + 1)] for i in range(N_RELEASE)]
        since = np.concatenate([np.zeros_like(falls[:, :1]), *chunks], axis=1)  # [B, 1 + steps, C]
        steps = np.arange(1, tk.CHUNK_STEPS + 1)
        rate = np.minimum((since[:, -1] - since[:, -tk.CHUNK_STEPS // 2]) / (tk.CHUNK_STEPS // 2), -_LEAST_FALL)
        out = np.empty((len(key), tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
        for row, number in enumerate(index):
            if number < N_RELEASE:
                own = since[row, tk.CHUNK_STEPS * number :]
                moved = own[steps] - own[0]
            else:
                moved = steps[:, None] * rate[row]
            moved[:, tk.PITCH_CELL] = 0
            out[row] = np.where(previous[row] < 0.5, 0, previous[row] + moved)
        return out


def _fallen(written: Floats, previous: Floats) -> Floats:
    """The first chunks of release that nets wrote, [B, a, C], from the tokens on that notes had reached, [B, C]."""
    moved: Floats = np.where(previous[:, None] < 0.5, 0, previous[:, None] + written - written[:, :1])
    moved[:, :, tk.PITCH_CELL] = written[:, :, tk.PITCH_CELL]
    return moved


def nodes_of(n_keys: int) -> int:
    """How many nodes of a course cover so many keys."""
    return -(-(n_keys - 1) // SEMITONES_A_NODE) + 1


@cache
def shares(knots: tuple[int, ...]) -> Floats:
    """Share of each knot in each step of a chunk, [CHUNK_STEPS, knots]."""
    rows = [np.interp(np.arange(tk.CHUNK_STEPS), knots, row) for row in np.eye(len(knots))]
    return np.stack(rows, axis=1).astype(np.float32)


def _between(table: Floats, place: Doubles, velocity: Reals, strengths: Floats) -> Floats:
    """A table [places, strengths, ...] at some places and velocities, [B, ...]; beyond the ends as there."""
    low, far = _place(place, len(table))
    at = np.interp(np.asarray(velocity, np.float64), strengths, np.arange(len(strengths)))
    soft, loud = _place(at, len(strengths))
    far_on, louder = (x.astype(np.float32).reshape(-1, *(1,) * (table.ndim - 2)) for x in (far, loud))
    above, harder = np.minimum(low + 1, len(table) - 1), np.minimum(soft + 1, len(strengths) - 1)
    lower, upper = ((1 - louder) * table[row, soft] + louder * table[row, harder] for row in (low, above))
    found: Floats = ((1 - far_on) * lower + far_on * upper).astype(np.float32)
    return found


def _place(at: Doubles, n: int) -> tuple[Integers, Doubles]:
    """The row at or below each place among n rows, and how far on it is to the next one."""
    inside = np.clip(np.asarray(at, np.float64), 0, n - 1)
    low = np.minimum(inside.astype(np.int64), max(n - 2, 0))
    return low, inside - low
