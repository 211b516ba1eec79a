"""What a voice's surface is learnt from: of each recorded note its spectrum, how it goes on, and how it ends.

A note's spectrum is the mean of its tokens from 0.16 to 1.44 s, its course what it has more or less than that at a few
moments of its first chunks; notes that were let go sooner are continued.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miao.arrays import Doubles, Flags, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.lasting import FIRST_CHUNK, KNOT_SECONDS, STEADY_CHUNK
from miao.bank.surface import ATTACK_KNOTS, N_RELEASE, RELEASE_KNOTS, SUSTAIN_KNOTS, shares
from miao.datasets.voice_notes import VoiceNotes

# chunks of a surface, by whether notes last: from then on they repeat themselves
N_SUSTAIN = {True: STEADY_CHUNK, False: FIRST_CHUNK}
STEADY = slice(tk.CHUNK_STEPS, 3 * tk.CHUNK_STEPS)  # steps of which a note's spectrum is the mean: 0.16 to 1.44 s
STRENGTH_REACH = 0.5  # of the distance between two strengths
_LEAST_WEIGHT = 0.02  # of the largest
_ALIKE = 4  # of velocity: strengths that are taken as one
_TAIL_STEPS = 32  # of a note, by which it is continued
_FADED_STEPS = 16  # at the end of a file
_AROUND_STEPS = 8  # of a moment of a course


@dataclass(frozen=True, eq=False)
class NoteFeatures:
    """What is learnt of each note."""

    pitch: Integers  # [n]
    velocity: Integers  # [n] of its strength
    spectrum: Floats  # [n, C]
    course: Floats  # [n, knots, C]
    falls: Floats  # [n, knots, C]
    late: Floats  # [n, KNOT_SECONDS, C] against the last chunk of the course; NaN where a note has ended
    is_released: Flags  # [n]
    reach: float  # of strengths

    def near(self, pitch: float, velocity: float, semitones: float, among: Flags) -> tuple[Integers, Doubles]:
        """The notes that count at a pitch and strength, and their weights, which sum to 1."""
        far = ((self.pitch - pitch) / semitones) ** 2 + ((self.velocity - velocity) / self.reach) ** 2
        far = np.where(among, far, np.inf)
        weight = np.exp(-0.5 * (far - far.min()))
        which = np.flatnonzero(weight > _LEAST_WEIGHT)
        return which, weight[which] / weight[which].sum()


def features_of(data: VoiceNotes, lasts: bool) -> NoteFeatures:
    """What is learnt of each note; ``lasts`` says whether notes stay as loud as they are while they are held."""
    n_steps = tk.CHUNK_STEPS * (1 + N_SUSTAIN[lasts])
    both = zip(data.notes, data.is_released, strict=True)
    held = np.stack([_continued(note.tokens, n_steps, lasts, heard) for note, heard in both])  # [n, steps, C]
    spectrum = held[:, STEADY].mean(axis=1)
    falls = np.stack([_falls(note.tokens) for note in data.notes])
    velocity = _strengths([note.velocity for note in data.notes])
    apart = np.diff(np.unique(velocity))
    return NoteFeatures(
        np.array([note.pitch for note in data.notes]), velocity, spectrum,
        _at_knots(held - spectrum[:, None], (ATTACK_KNOTS, *[SUSTAIN_KNOTS] * N_SUSTAIN[lasts])),
        _at_knots(falls, (RELEASE_KNOTS,) * N_RELEASE), _late(data, held), np.array(data.is_released),
        STRENGTH_REACH * float(np.median(apart)) if len(apart) else 1.0,
    )  # fmt: skip


def _strengths(velocities: Sequence[int]) -> Integers:
    """Velocities, those that hardly differ as one."""
    known = np.unique(velocities)
    groups = np.split(known, np.flatnonzero(np.diff(known) > _ALIKE) + 1)
    mean = {int(v): int(np.rint(group.mean())) for group in groups for v in group}
    return np.array([mean[v] for v in velocities])


def _n_held(tokens: tk.NoteTokens) -> int:
    """How many tokens of a note lie within its hold."""
    times = tk.held_times(len(tokens.held))
    return int(np.clip(np.searchsorted(times, tokens.hold_seconds - 1e-6), 1, len(times)))


def _continued(tokens: tk.NoteTokens, n_steps: int, lasts: bool, is_released: bool) -> Floats:
    """A note's tokens while it is held, [n_steps, C]; one that was let go sooner stays as it was or goes on falling.

    Where a note dies away and its end is that of the file, the file's last moments are faded and do not count.
    """
    flat = tokens.held.reshape(-1, tk.N_CELLS).astype(np.float32)[: _n_held(tokens)]
    if not lasts and not is_released:
        flat = flat[: max(len(flat) - _FADED_STEPS, min(len(flat), tk.CHUNK_STEPS))]
    if len(flat) >= n_steps:
        return flat[:n_steps]
    tail = flat[tk.CHUNK_STEPS :][-_TAIL_STEPS:] if len(flat) > tk.CHUNK_STEPS + _TAIL_STEPS // 2 else flat[-4:]
    slope = np.zeros(tk.N_CELLS, np.float32)
    if not lasts and len(tail) > _TAIL_STEPS // 2:
        steps = np.arange(len(tail)) - (len(tail) - 1) / 2
        slope = np.minimum(steps @ tail / np.square(steps).sum(), 0).astype(np.float32)
        slope[tk.PITCH_CELL] = 0
    since = np.arange(n_steps - len(flat))[:, None] + (len(tail) + 1) / 2
    return np.concatenate([flat, np.maximum(tail.mean(axis=0) + slope * since, 0)]).astype(np.float32)


def _late(data: VoiceNotes, held: Floats) -> Floats:
    """How loud notes are at the moments of a course, against the last chunk of ``held`` [n, steps, C]."""
    late = np.full((len(data.notes), len(KNOT_SECONDS), tk.N_CELLS), np.nan, np.float32)
    for row, (note, is_released) in enumerate(zip(data.notes, data.is_released, strict=True)):
        n = _n_held(note.tokens) - (0 if is_released else _FADED_STEPS)
        flat = note.tokens.held.reshape(-1, tk.N_CELLS)[: max(n, 0)].astype(np.float32)
        last = held[row, -tk.CHUNK_STEPS :].mean(axis=0)
        for knot, seconds in enumerate(KNOT_SECONDS.tolist()):
            middle = round((seconds - tk.ATTACK_SECONDS) / tk.STEP_SECONDS[tk.SUSTAIN]) + tk.CHUNK_STEPS
            if middle + _AROUND_STEPS <= len(flat):
                late[row, knot] = flat[middle - _AROUND_STEPS : middle + _AROUND_STEPS].mean(axis=0) - last
    return late


def _falls(tokens: tk.NoteTokens) -> Floats:
    """What a note loses once it is let go, [steps, C]; silence is far below whatever it was."""
    n_steps = N_RELEASE * tk.CHUNK_STEPS
    release = np.zeros((n_steps, tk.N_CELLS), np.float32)
    flat = tokens.release.reshape(-1, tk.N_CELLS)[:n_steps]
    release[: len(flat)] = flat
    last = tokens.held.reshape(-1, tk.N_CELLS)[_n_held(tokens) - 1].astype(np.float32)
    falls = release - last
    silent = -np.float32(tk.N_LEVELS // 2)
    falls = np.where(release < 0.5, np.minimum(falls, silent), falls)
    falls[:, tk.PITCH_CELL] = 0
    return np.asarray(falls, np.float32)


def _at_knots(steps: Floats, chunks: Sequence[tuple[int, ...]]) -> Floats:
    """Levels at each step [n, steps, C] as those of knots of chunks, nearest by least squares, [n, knots, C]."""
    parts = [np.linalg.pinv(shares(knots)) @ steps[:, tk.CHUNK_STEPS * i : tk.CHUNK_STEPS * (i + 1)]
             for i, knots in enumerate(chunks)]  # fmt: skip
    return np.concatenate(parts, axis=1).astype(np.float32)
