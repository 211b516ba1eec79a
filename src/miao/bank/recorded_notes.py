"""Measured notes that lead a voice: near a note that was recorded, the voice says what was measured.

Between recorded pitches, and between their velocities, levels run in straight lines. Partials move with the key, noise
stays where it is. Where a note lasts longer than any recording of it, and where nothing was recorded, the nets go on
from the last token. A release is told as it falls from the token before, as a note may be let go at any moment.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Flags, Floats, Integers
from miao.bank import tokens as tk

MOST_SEMITONES = 7.0  # beyond the outermost notes; further away the nets alone know better


@dataclass(frozen=True, eq=False)
class RecordedNotes:
    """Tokens of notes, one after another: chunks of attack and sustain, and of releases."""

    pitch: Floats  # [n]
    velocity: Floats  # [n] 0..1
    n_steps: NDArray[np.int32]  # [n] tokens of each that lie within its hold
    first_held: NDArray[np.int32]  # [n + 1] where its chunks begin
    first_release: NDArray[np.int32]  # [n + 1]
    held: NDArray[np.uint8]  # [chunks, a, C]
    release: NDArray[np.uint8]  # [chunks, a, C]
    levels_a_velocity: Floats  # [1] by which all levels rise from velocity 0 to 1, beyond those recorded

    @staticmethod
    def of(
        pitches: Sequence[int], velocities: Sequence[int], notes: Sequence[tk.NoteTokens],
        is_released: Sequence[bool], levels_a_velocity: float,
    ) -> "RecordedNotes":  # fmt: skip
        """From measured notes; the release of one that was not heard being let go does not count."""
        releases = [note.release if heard else note.release[:0] for note, heard in zip(notes, is_released, strict=True)]
        return RecordedNotes(
            np.array(pitches, np.float32),
            (np.array(velocities) / 127).astype(np.float32),
            np.array([_n_steps(note) for note in notes], np.int32),
            np.cumsum([0, *(len(note.held) for note in notes)]).astype(np.int32),
            np.cumsum([0, *map(len, releases)]).astype(np.int32),
            np.concatenate([note.held for note in notes]).astype(np.uint8),
            np.concatenate(releases).astype(np.uint8),
            np.array([levels_a_velocity], np.float32),
        )

    @property
    def is_whole(self) -> bool:
        """Whether all notes lie within the chunks."""
        n, ends = len(self.pitch), ((self.first_held, self.held), (self.first_release, self.release))
        return len(self.first_held) == n + 1 and all(
            len(chunks) == firsts[-1] and (np.diff(firsts) >= least).all()
            for (firsts, chunks), least in zip(ends, (1, 0), strict=True)
        ) and bool((self.n_steps <= np.diff(self.first_held) * tk.CHUNK_STEPS).all())  # fmt: skip

    def led(
        self, kind: int, levels: Floats, pitch: Floats, velocity: Floats, index: Integers, previous: Floats | None
    ) -> Floats:
        """Levels of chunks of a kind, [B, a, C], as the nets write them, with what was recorded in their place."""
        out = np.array(levels, np.float32)
        for row in range(len(out)):
            parts = self._parts(kind, float(pitch[row]), float(velocity[row]), int(index[row]))
            if not parts:
                continue
            chunk, total = np.zeros_like(out[row]), 0.0
            before = None if previous is None else previous[row]
            for note, share, louder in parts:
                chunk += share * self._chunk(kind, note, int(index[row]), out[row], before, louder)
                total += share
            out[row] = np.clip(chunk / total, 0, tk.N_LEVELS - 1)
        return out

    def _parts(self, kind: int, pitch: float, velocity: float, index: int) -> list[tuple[int, float, float]]:
        """The notes that a chunk is made of: which, their shares, and by how many levels each is raised."""
        known = np.flatnonzero(self._reaches(kind, index))
        if not len(known):
            return []
        pitches = np.unique(self.pitch[known])
        below, above = pitches[pitches <= pitch], pitches[pitches >= pitch]
        if (not len(below) or not len(above)) and np.abs(pitches - pitch).min() > MOST_SEMITONES:
            return []
        low = float(below[-1]) if len(below) else float(above[0])
        high = float(above[0]) if len(above) else low
        share = (pitch - low) / (high - low) if high > low else 0.0
        found = []
        for at, weight in ((low, 1 - share), (high, share)):
            if weight > 0:
                found += [(n, weight * s, louder) for n, s, louder in self._layers(known, at, velocity)]
        return found

    def _layers(self, known: Integers, pitch: float, velocity: float) -> list[tuple[int, float, float]]:
        """The same of the notes at one pitch; takes at the same velocity count alike."""
        notes = known[self.pitch[known] == pitch]
        values = np.unique(self.velocity[notes])
        below, above = values[values <= velocity], values[values >= velocity]
        low = float(below[-1]) if len(below) else float(above[0])
        high = float(above[0]) if len(above) else low
        share = (velocity - low) / (high - low) if high > low else 0.0
        slope = float(self.levels_a_velocity[0])
        found = []
        for at, weight in ((low, 1 - share), (high, share)):
            takes = notes[self.velocity[notes] == at]
            louder = slope * (velocity - at) if low == high else 0.0
            if weight > 0:
                found += [(int(take), weight / len(takes), louder) for take in takes]
        return found

    def _reaches(self, kind: int, index: int) -> Flags:
        """Which notes have a chunk of that kind and number."""
        if kind == tk.RELEASE:
            return np.diff(self.first_release) > index
        return self.n_steps > (0 if kind == tk.ATTACK else (index + 1) * tk.CHUNK_STEPS)

    def _chunk(self, kind: int, note: int, index: int, written: Floats, before: Floats | None, louder: float) -> Floats:
        """One note's chunk, [a, C]."""
        if kind == tk.RELEASE:
            at = int(self.first_release[note]) + index
            chunk: Floats = self.release[at].astype(np.float32)
            last = self.release[at - 1][-1] if index else self._last_held(note)
            if before is None:
                return chunk
            moved = before + chunk - last.astype(np.float32)
            moved = np.where(chunk < 0.5, 0, moved)  # what is silent is silent
            moved[:, tk.PITCH_CELL] = chunk[:, tk.PITCH_CELL]
            return np.maximum(moved, 0)
        number = 0 if kind == tk.ATTACK else index + 1
        chunk = self.held[int(self.first_held[note]) + number].astype(np.float32)
        n_valid = min(int(self.n_steps[note]) - number * tk.CHUNK_STEPS, tk.CHUNK_STEPS)
        if n_valid < tk.CHUNK_STEPS:  # from there on as the nets would go on
            chunk[n_valid:] = np.maximum(chunk[n_valid - 1] + written[n_valid:] - written[n_valid - 1], 0)
        raised = np.where(chunk[:, : tk.PITCH_CELL] < 0.5, 0, np.maximum(chunk[:, : tk.PITCH_CELL] + louder, 0))
        return np.concatenate([raised, chunk[:, tk.PITCH_CELL :]], axis=1)

    def _last_held(self, note: int) -> NDArray[np.uint8]:
        flat = self.held[self.first_held[note] : self.first_held[note + 1]].reshape(-1, tk.N_CELLS)
        token: NDArray[np.uint8] = flat[max(int(self.n_steps[note]) - 1, 0)]
        return token


def _n_steps(note: tk.NoteTokens) -> int:
    """How many tokens of a note lie within its hold."""
    times = tk.held_times(len(note.held))
    return int(np.clip(np.searchsorted(times, note.hold_seconds - 1e-6), 1, len(times)))
