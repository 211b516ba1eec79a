"""What a voice learnt from music adds to a program's levels: a shift by pitch, velocity, age, and time since let go.

It is added behind the nets and taken off again before they are asked how a note goes on, so that they write as they
always do: what is learnt from the sum of many notes is then exactly what each note will have more or less of.
And how notes of any voice set out when they are let go.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Integers, Numbers, Reals
from miao.bank import tokens as tk
from miao.bank.voices import DRUM_KEYS, N_PITCHES, PITCH_NODES, SEMITONES_A_NODE, kit_rows

AGES = np.array([0.0, 0.03, 0.1, 0.3, 0.8, 2.0, 5.0])  # seconds since the note's start, between which it runs straight
RAMP = np.linspace(-1, 1, len(AGES), dtype=np.float32)  # at these ages: a key's own decay
SINCE = np.array([0.0, 0.05, 0.15, 0.4, 1.0])  # seconds since it was let go; at 0 nothing is added yet
_SETTLES_SECONDS = 0.15  # since a note was let go, until it is as it was written
_LEFT = np.clip(1 - np.arange(tk.CHUNK_STEPS) * tk.STEP_SECONDS[tk.RELEASE] / _SETTLES_SECONDS, 0, 1).astype(np.float32)
_MOST_OFF = 8.0  # levels


@dataclass(frozen=True, eq=False)
class LevelShift:
    """Levels by age, and more levels by time since the note was let go: at the middle velocity, and for each unit of
    velocity above it. Nodes are those of pitches, or of a kit its keys, as they are not alike."""

    held: NDArray[np.float16]  # [AGES, 2, nodes, C - 1]
    let_go: NDArray[np.float16]  # [SINCE, nodes, C - 1]
    middle_velocity: Floats  # [1]
    # [2, N_PITCHES, C - 1] more for single keys: at all times, and by `RAMP`
    keys: NDArray[np.float16] | None = None

    def added(self, kind: int, levels: Floats, pitch: Reals, velocity: Reals, index: Integers, age: Reals) -> Floats:
        """Levels of chunks of a kind as they will sound, [B, a, C]; the other arrays are [B]."""
        moved = np.array(levels, np.float32)
        steps = np.arange(tk.CHUNK_STEPS) * tk.STEP_SECONDS[kind]
        since = np.asarray(index)[:, None] * tk.CHUNK_STEPS * tk.STEP_SECONDS[kind] + steps
        shift = self.at(pitch, velocity, np.asarray(age)[:, None] + steps, since if kind == tk.RELEASE else None)
        return shifted(moved, shift)

    def taken_off(
        self, kind: int, previous: Floats, pitch: Reals, velocity: Reals, index: Integers, age: Reals
    ) -> Floats:
        """The tokens before chunks of a kind, [B, C], as the nets wrote them."""
        since = np.asarray(index)[:, None] * tk.CHUNK_STEPS * tk.STEP_SECONDS[kind] if kind == tk.RELEASE else None
        shift = self.at(pitch, velocity, np.asarray(age)[:, None], since)
        return shifted(np.array(previous, np.float32)[:, None], -shift)[:, 0]

    def at(self, pitch: Reals, velocity: Reals, age: Reals, since: Reals | None) -> Floats:
        """The shift of notes at some ages [B, n], and times since they were let go, if they were: [B, n, C - 1]."""
        low, share = key_place(pitch) if self.held.shape[2] == len(DRUM_KEYS) else pitch_place(pitch)
        held = self.held.astype(np.float32)
        nodes = (1 - share)[:, None, None, None] * held[:, :, low].transpose(2, 0, 1, 3)
        nodes += share[:, None, None, None] * held[:, :, low + 1].transpose(2, 0, 1, 3)  # [B, ages, 2, C - 1]
        force = np.asarray(velocity, np.float32) - self.middle_velocity[0]
        by_age = nodes[:, :, 0] + force[:, None, None] * nodes[:, :, 1]
        found = np.einsum("bnk,bkc->bnc", knot_shares(age, AGES), by_age)
        if since is not None:
            let_go = self.let_go.astype(np.float32)
            ends = (1 - share)[:, None, None] * let_go[:, low].transpose(1, 0, 2)
            ends += share[:, None, None] * let_go[:, low + 1].transpose(1, 0, 2)
            found += np.einsum("bnk,bkc->bnc", knot_shares(since, SINCE), ends)
        if self.keys is not None:
            nearest = np.clip(np.rint(np.asarray(pitch)), 0, N_PITCHES - 1).astype(np.int64)
            still, by_age = self.keys[:, nearest].astype(np.float32)
            found += still[:, None] + (knot_shares(age, AGES) @ RAMP)[:, :, None] * by_age[:, None]
        shift: Floats = found.astype(np.float32)
        return shift


def pitch_place(pitch: Reals) -> tuple[Integers, Floats]:
    """The pitch node at or below pitches, and how far they are from it to the next one."""
    position = np.clip(np.asarray(pitch, np.float32), 0, N_PITCHES - 2) / SEMITONES_A_NODE
    low = np.minimum(position.astype(np.int64), PITCH_NODES - 2)
    return low, (position - low).astype(np.float32)


def key_place(pitch: Numbers) -> tuple[Integers, Floats]:
    """The same among the keys of a kit: each is its own."""
    rows = kit_rows(pitch)
    low = np.minimum(rows, len(DRUM_KEYS) - 2)
    return low, (rows - low).astype(np.float32)


def knot_shares(times: Reals, knots: Doubles) -> Floats:
    """Share of each knot at some times [...], in straight lines between two: [..., knots]."""
    at = np.clip(np.searchsorted(knots, times, side="right") - 1, 0, len(knots) - 2)
    share = np.clip((times - knots[at]) / (knots[at + 1] - knots[at]), 0, 1)
    found = np.zeros((*np.shape(times), len(knots)), np.float32)
    np.put_along_axis(found, at[..., None], (1 - share)[..., None].astype(np.float32), axis=-1)
    np.put_along_axis(found, at[..., None] + 1, share[..., None].astype(np.float32), axis=-1)
    return found


def shifted(levels: Floats, shift: Floats) -> Floats:
    """Levels [..., C], moved in place by shifts [..., C - 1]; silence stays silence, the pitch cell as it is."""
    cells = levels[..., : tk.PITCH_CELL]
    heard = (cells >= 0.5).astype(np.float32)  # to choose cell by cell would take three times as long
    cells += heard * shift
    np.maximum(cells, np.float32(0.5) * heard, out=cells)
    np.minimum(cells, np.float32(tk.N_LEVELS - 1), out=cells)
    return levels


def set_out(release: Floats, reached: Floats) -> Floats:
    """First chunks of releases, [B, a, C], from the levels on that their notes had reached, [B, C]: nets write what is
    to be expected, but a note that beats is let go in a trough as well as on a crest. Soon they are as written."""
    first = release[:, 0, : tk.PITCH_CELL]
    off = np.clip(reached[:, : tk.PITCH_CELL] - first, -_MOST_OFF, _MOST_OFF)
    off *= (reached[:, : tk.PITCH_CELL] >= 0.5) & (first >= 0.5)
    return shifted(np.array(release, np.float32), _LEFT[:, None] * off[:, None])
