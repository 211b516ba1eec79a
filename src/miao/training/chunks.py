"""Notes as batches: chunks by kind, and phrases of whole notes for the MIDI encoder."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miao import tokens as tk
from miao.datasets.notes import NoteData
from miao.frames import WINDOW_SECONDS, WINDOW_TOKENS, encode_frames, last_token
from miao.model import ChunkInputs
from miao.voices import is_drum_voice

_AUDIBLE_LEVELS = 70 / tk.LEVEL_STEP_DB
_FAINT = 0.05  # weight of a cell that nobody hears
_FAINT_SHARE = 0.2  # of such cells that a batch looks at


@dataclass(frozen=True)
class ChunkTable:
    """All chunks of one kind, side by side."""

    kind: int
    note: NDArray[np.int32]  # [M] which note of the list
    voice: NDArray[np.int64]  # [M]
    pitch: NDArray[np.float32]  # [M]
    velocity: NDArray[np.float32]  # [M] 0..1
    index: NDArray[np.int64]  # [M]
    age: NDArray[np.float32]  # [M] seconds
    previous: NDArray[np.float32]  # [M, C]
    target: NDArray[np.uint8]  # [M, a, C]
    n_valid: NDArray[np.int16]  # [M] steps that belong to the chunk; later ones are past the key's release
    loudest: NDArray[np.float32]  # [M] highest level of the note


def chunk_tables(notes: list[NoteData]) -> list[ChunkTable]:
    """The chunks of all notes, one table a kind."""
    rows: list[list[tuple]] = [[], [], []]
    for n, note in enumerate(notes):
        held, release = note.tokens.held, note.tokens.release
        hold = note.tokens.hold_seconds
        if is_drum_voice(note.voice):  # nobody lets go of a drum: that it has fallen silent is to be learnt, too
            silence = np.zeros_like(held[:1])
            silence[..., tk.PITCH_CELL] = tk.CENTS_CENTRE
            held, hold = np.concatenate([held, silence]), np.inf
            release = release[:0]
        flat, times = held.reshape(-1, tk.N_CELLS), tk.held_times(len(held))
        loudest = float(flat[:, : tk.PITCH_CELL].max())
        common = (n, note.voice, note.pitch, note.velocity / 127)
        for i in range(len(held)):
            kind, index = (tk.ATTACK, 0) if i == 0 else (tk.SUSTAIN, i - 1)
            start = times[i * tk.CHUNK_STEPS]
            n_valid = int(np.clip(np.ceil((hold - start) / tk.STEP_SECONDS[kind]), 0, tk.CHUNK_STEPS))
            previous = flat[max(i * tk.CHUNK_STEPS - 1, 0)]
            if n_valid:
                rows[kind].append((*common, min(index, tk.MAX_CHUNK_INDEX), start, previous, held[i], n_valid, loudest))
        # what sounded when the note was let go: the token at that moment, as the engine knows it
        last = token_before(flat, times, hold)
        for i in range(len(release)):
            previous = last if i == 0 else release[i - 1, -1]
            start = hold + i * tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.RELEASE]
            rows[tk.RELEASE].append(
                (*common, min(i, tk.MAX_CHUNK_INDEX), start, previous, release[i], tk.CHUNK_STEPS, loudest)
            )
    kinds = (
        np.int32,
        np.int64,
        np.float32,
        np.float32,
        np.int64,
        np.float32,
        np.float32,
        np.uint8,
        np.int16,
        np.float32,
    )
    tables = []
    for kind, table in enumerate(rows):
        columns = zip(zip(*table, strict=True), kinds, strict=True)
        tables.append(ChunkTable(kind, *(np.array(column, dtype) for column, dtype in columns)))
    return tables


def token_before(flat: NDArray, times: NDArray, hold_seconds: float) -> NDArray[np.float32]:
    """The last token that was written before a note was let go, [C]."""
    return flat[max(int(np.searchsorted(times, hold_seconds - 1e-6)) - 1, 0)].astype(np.float32)


@dataclass(frozen=True)
class Batch:
    """Chunks of one kind, ready for the decoder and the loss."""

    kind: int
    inputs: ChunkInputs
    target: Tensor  # [B, a, C] float levels
    weight: Tensor  # [B, a, C] audibility, 0 where a step does not belong to the chunk
    inside: Tensor  # [B, a, 1] whether a step does
    loudest: Tensor  # [B] highest level of the note


def gather(
    table: ChunkTable,
    rows: NDArray,
    rng: np.random.Generator,
    noise_levels: float,
    context: Tensor,
    own: NDArray | None = None,
) -> Batch:
    """Rows of a table as a batch; previous tokens are disturbed by ``noise_levels``, as the decoder's own would be.

    Where ``own`` [B, C] is not all zero, a chunk sets out from it instead: the decoder's own token, as it is.
    """
    target = torch.from_numpy(table.target[rows].astype(np.float32))
    previous = table.previous[rows]
    shift = rng.normal(0, 0.5 * noise_levels, (len(rows), 1)) + rng.normal(0, noise_levels, previous.shape)
    disturbed = np.clip(previous + shift * (previous > 0), 0, tk.N_LEVELS - 1)
    disturbed[:, tk.PITCH_CELL] = previous[:, tk.PITCH_CELL] + 0.5 * shift[:, tk.PITCH_CELL]
    if own is not None:
        disturbed = np.where(own.any(axis=1, keepdims=True), own, disturbed)
    columns = (table.voice, table.pitch, table.velocity, table.index, table.age)
    voice, pitch, velocity, index, age = (torch.from_numpy(column[rows]) for column in columns)
    before = torch.from_numpy(disturbed.astype(np.float32))
    inputs = ChunkInputs(voice, pitch, velocity, index, age, before, context)
    loudest = torch.from_numpy(table.loudest[rows])
    n_valid = torch.from_numpy(table.n_valid[rows].astype(np.int64))
    inside = torch.arange(target.shape[1])[None, :, None] < n_valid[:, None, None]
    weight = audibility(target, loudest)
    weight[..., tk.PITCH_CELL] = 1
    faint = weight <= _FAINT
    kept = torch.from_numpy(rng.random(faint.shape, np.float32)) < _FAINT_SHARE
    weight = torch.where(faint, weight * kept / _FAINT_SHARE, weight)  # the same on average, at a fraction of the work
    return Batch(table.kind, inputs, target, weight * inside, inside, loudest)


def audibility(levels: Tensor, loudest: Tensor) -> Tensor:
    """How much each cell counts: 1 near the note's loudest level, falling to 0.05 at 70 dB below it. [B, a, C]"""
    below = levels - loudest[:, None, None]
    return ((below + _AUDIBLE_LEVELS) / (30 / tk.LEVEL_STEP_DB)).clamp(_FAINT, 1)


def heard_in_either(batch: Batch, expected: Tensor) -> Tensor:
    """The batch's weights, raised where what the net expects [B, a, C] is heard though nothing should be."""
    heard = audibility(expected, batch.loudest) * batch.inside
    heard[..., tk.PITCH_CELL] = 0
    return torch.where(heard > _FAINT, torch.maximum(batch.weight, heard), batch.weight)


@dataclass(frozen=True)
class Phrase:
    """A window with notes of one voice: its image and, for each kind, which chunk uses which encoder token."""

    frames: NDArray[np.float32]  # [5, T, N]
    rows: list[NDArray]  # by kind: rows of the chunk tables
    tokens: list[NDArray]  # by kind: encoder token of each row


def draw_phrase(notes: list[NoteData], members: NDArray, rows_of: list[dict], rng: np.random.Generator) -> Phrase:
    """Some notes of one voice laid out at random over a window, as a player might.

    FluidSynth sounds each note by itself, so a phrase is the sum of its notes and their tokens stay exact.
    """
    chosen = rng.choice(members, min(len(members), int(rng.integers(4, 20))))
    starts = np.sort(rng.uniform(0, WINDOW_SECONDS - 0.1, len(chosen)))
    played = np.zeros(
        len(chosen), [("start", "f8"), ("end", "f8"), ("damp", "f8"), ("pitch", "i2"), ("velocity", "i2")]
    )
    rows: list[list[int]] = [[], [], []]
    tokens: list[list[int]] = [[], [], []]
    for i, (n, start) in enumerate(zip(chosen, starts, strict=True)):
        hold = notes[n].tokens.hold_seconds
        key = hold if rng.random() < 0.7 else hold * rng.uniform(0.3, 1.0)  # else held on by the pedal
        played[i] = (start, start + key, start + hold, notes[n].pitch, notes[n].velocity)
        for kind in range(3):
            for row, age in rows_of[kind].get(int(n), ()):
                token = last_token(start + age)
                if 0 <= token < WINDOW_TOKENS:
                    rows[kind].append(row)
                    tokens[kind].append(token)
    return Phrase(encode_frames(played, 0.0), [np.array(r, int) for r in rows], [np.array(t, int) for t in tokens])


def rows_by_note(tables: list[ChunkTable]) -> list[dict[int, list[tuple[int, float]]]]:
    """By kind: note -> its (row, age in seconds) in the chunk table."""
    found: list[dict[int, list[tuple[int, float]]]] = []
    for table in tables:
        by_note: dict[int, list[tuple[int, float]]] = {}
        for row, (note, age) in enumerate(zip(table.note, table.age, strict=True)):
            by_note.setdefault(int(note), []).append((row, float(age)))
        found.append(by_note)
    return found
