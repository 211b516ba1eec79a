"""Notes as chunks by kind, and chunks as batches for the decoder and its loss."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from miao.arrays import AnyArray, Doubles, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.frames import WINDOW_TOKENS
from miao.bank.voices import is_drum_voice
from miao.datasets.notes import NoteData
from miao.nets.model import ChunkInputs

_AUDIBLE_LEVELS = 70 / tk.LEVEL_STEP_DB
_FAINT = 0.05  # weight of a cell that nobody hears
_FAINT_SHARE = 0.2  # of such cells that a batch looks at


@dataclass(frozen=True)
class ChunkTable:
    """All chunks of one kind, side by side."""

    kind: int
    note: NDArray[np.int32]  # [M] which note of the list
    voice: Integers  # [M]
    pitch: Floats  # [M]
    velocity: Floats  # [M] 0..1
    index: Integers  # [M]
    age: Floats  # [M] seconds
    previous: Floats  # [M, C]
    target: NDArray[np.uint8]  # [M, a, C]
    n_valid: NDArray[np.int16]  # [M] steps that belong to the chunk; later ones are past the key's release
    loudest: Floats  # [M] highest level of the note


def chunk_tables(notes: list[NoteData]) -> list[ChunkTable]:
    """The chunks of all notes, one table a kind."""
    rows: list[list[tuple[Any, ...]]] = [[], [], []]
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
    steps = (tk.CHUNK_STEPS, tk.N_CELLS)
    columns = ((np.int32, ()), (np.int64, ()), (np.float32, ()), (np.float32, ()), (np.int64, ()), (np.float32, ()),
               (np.float32, steps[1:]), (np.uint8, steps), (np.int16, ()), (np.float32, ()))  # fmt: skip
    tables = []
    for kind, table in enumerate(rows):
        values = zip(*table, strict=True) if table else [()] * len(columns)
        tables.append(ChunkTable(kind, *(np.array(value, dtype).reshape(-1, *shape)
                                         for value, (dtype, shape) in zip(values, columns, strict=True))))  # fmt: skip
    return tables


def token_before(flat: AnyArray, times: Doubles, hold_seconds: float) -> Floats:
    """The last token that was written before a note was let go, [C]."""
    token: Floats = flat[max(int(np.searchsorted(times, hold_seconds - 1e-6)) - 1, 0)].astype(np.float32)
    return token


@dataclass(frozen=True)
class Batch:
    """Chunks of one kind, ready for the decoder and the loss."""

    kind: int
    inputs: ChunkInputs  # contexts are zeros until the MIDI encoder has spoken
    place: Tensor  # [B] int64: 0 for a chunk without context, else 1 + its encoder token, windows one after another
    target: Tensor  # [B, a, C] float levels
    weight: Tensor  # [B, a, C] audibility, 0 where a step does not belong to the chunk
    inside: Tensor  # [B, a, 1] whether a step does
    loudest: Tensor  # [B] highest level of the note


def gather(
    table: ChunkTable,
    rows: Integers,
    rng: np.random.Generator,
    noise_levels: float,
    width: int,
    own: Integers | None = None,
    place: Integers | None = None,
) -> Batch:
    """Rows of a table as a batch; previous tokens are disturbed by ``noise_levels``, as the decoder's own would be.

    Where ``own`` [B, C] is not all zero, a chunk sets out from it instead: the decoder's own token, as it is.
    ``width`` is a context's, ``place`` [B] says which one a chunk will get (see `Batch`); by default none.
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
    inputs = ChunkInputs(voice, pitch, velocity, index, age, before, torch.zeros(len(rows), width))
    loudest = torch.from_numpy(table.loudest[rows])
    n_valid = torch.from_numpy(table.n_valid[rows].astype(np.int64))
    inside = torch.arange(target.shape[1])[None, :, None] < n_valid[:, None, None]
    weight = audibility(target, loudest)
    weight[..., tk.PITCH_CELL] = 1
    faint = weight <= _FAINT
    kept = torch.from_numpy(rng.random(faint.shape, np.float32)) < _FAINT_SHARE
    weight = torch.where(faint, weight * kept / _FAINT_SHARE, weight)  # the same on average, at a fraction of the work
    places = torch.zeros(len(rows), dtype=torch.int64) if place is None else torch.from_numpy(place)
    return Batch(table.kind, inputs, places, target, weight * inside, inside, loudest)


def joined(batches: Sequence[Batch], windows: Sequence[int]) -> Batch:
    """Batches of one kind as one; ``windows`` says how many windows there are before those of each batch."""
    inputs = ChunkInputs(*(torch.cat([getattr(b.inputs, f.name) for b in batches]) for f in fields(ChunkInputs)))
    places = [torch.where(b.place > 0, b.place + n * WINDOW_TOKENS, 0) for b, n in zip(batches, windows, strict=True)]
    rest = (torch.cat([getattr(b, name) for b in batches]) for name in ("target", "weight", "inside", "loudest"))
    return Batch(batches[0].kind, inputs, torch.cat(places), *rest)


def audibility(levels: Tensor, loudest: Tensor) -> Tensor:
    """How much each cell counts: 1 near the note's loudest level, falling to 0.05 at 70 dB below it. [B, a, C]"""
    below = levels - loudest[:, None, None]
    return ((below + _AUDIBLE_LEVELS) / (30 / tk.LEVEL_STEP_DB)).clamp(_FAINT, 1)


def heard_in_either(batch: Batch, expected: Tensor) -> Tensor:
    """The batch's weights, raised where what the net expects [B, a, C] is heard though nothing should be."""
    heard = audibility(expected, batch.loudest) * batch.inside
    heard[..., tk.PITCH_CELL] = 0
    return torch.where(heard > _FAINT, torch.maximum(batch.weight, heard), batch.weight)
