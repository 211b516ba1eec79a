"""Writing the chunks of notes: all that are due side by side, one batch a kind, each from what is known by then.

Where nothing but the note itself decides how it sounds, a chunk that has been written before is looked up: in sequenced
music that is nine in ten.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Reals
from miao.bank import lasting
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.synth.course import rows_of
from miao.synth.note import Chunk, Note
from miao.synth.oscillators import REACHED

_AT_ONCE = 64  # chunks of a batch: more are no quicker, and ONNX Runtime keeps the memory of the largest
_KNOWN_CHUNKS = 6144  # written ones that are kept, 20 kB each, those that were asked for last
_SPREAD_TO_DEVIATION = 1.8  # standard deviation of a logistic of scale 1
_MOST_SPREAD = 0.5  # levels: where nothing is heard nets are unsure by up to fifty, which would be heard
_FLOOR_LEVEL = float(tk.db_to_level(np.array(-100.0)))  # a cell below it is left out,
_MASKED_LEVELS = 72 / tk.LEVEL_STEP_DB  # as is one so far below the loudest of its chunk

Contexts = Callable[[Sequence[Note]], NDArray[np.float32]]
"""What the MIDI encoder has heard by the time that each note's next chunk begins to sound, [B, D]."""
Known = dict[tuple[float, ...], Chunk]
"""Chunks that were written before, of one bank with its voices."""


class ChunkWriter:
    """Writes chunks by the nets of a bank. ``variation`` 0..1 is how far a note follows its sway; ``known`` may be what
    another writer for the same bank has written, and is added to."""

    def __init__(self, bank: Bank, contexts: Contexts, variation: float = 0.0, known: Known | None = None) -> None:
        self._bank, self._contexts, self._variation = bank, contexts, variation
        self._is_repeating = bank.encode is None and not variation
        self._known: Known = {} if known is None else known

    def write(self, notes: Iterable[Note], until: float) -> None:
        """All chunks that must be known before the samples up to a moment can be made.

        Kind by kind, as a note goes through them in this order: the releases of many notes are one batch then.
        """
        waiting = [note for note in notes if note.wants(until)]
        for kind in (tk.ATTACK, tk.SUSTAIN, tk.RELEASE):
            group = waiting
            while group := [note for note in group if note.kind == kind and note.wants(until)]:
                for first in range(0, len(group), _AT_ONCE):
                    self._write(kind, group[first : first + _AT_ONCE])

    def _write(self, kind: int, notes: list[Note]) -> None:
        if not self._is_repeating:
            for note, chunk in zip(notes, self._written(kind, notes), strict=True):
                note.take(chunk)
            return
        keys = [note.key() for note in notes]
        known = self._known
        new = {key: note for key, note in zip(keys, notes, strict=True) if key not in known}
        if new:
            known.update(zip(new, self._written(kind, list(new.values())), strict=True))
        for note, key in zip(notes, keys, strict=True):
            known[key] = chunk = known.pop(key)  # to the end, as what was asked for last
            note.take(chunk)
        for _ in range(len(known) - _KNOWN_CHUNKS):
            del known[next(iter(known))]

    def _written(self, kind: int, notes: list[Note]) -> list[Chunk]:
        """For each note its next chunk."""
        levels = np.empty((len(notes), tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
        repeats = np.array([kind == tk.SUSTAIN and note.index >= note.repeats_from for note in notes])
        asked = np.flatnonzero(~repeats)
        if len(asked):
            levels[asked] = self._asked(kind, [notes[n] for n in asked])
        for n in np.flatnonzero(repeats):
            levels[n] = self._repeated(notes[n])
        return chunks_of(kind, levels)

    def _repeated(self, note: Note) -> NDArray[np.float32]:
        """The next sustain chunk of a note that repeats itself."""
        assert self._bank.courses is not None
        voice = note.strike.voice
        course = self._bank.courses.at(voice, self._bank.taught_pitch(voice, note.strike.pitch))
        number = note.index - int(note.repeats_from)
        return lasting.next_chunk(note.recent, note.last, number, note.age, course)

    def _asked(self, kind: int, notes: list[Note]) -> NDArray[np.float32]:
        """What the nets write for the next chunks of some notes, [B, a, C]."""
        strikes = [note.strike for note in notes]
        oldest = np.inf if self._bank.courses is None else lasting.OLDEST_SECONDS
        expected, spread = self._bank.decode(
            kind,
            voice=np.array([s.voice for s in strikes], np.int64),
            pitch=np.array([s.pitch for s in strikes], np.float32),
            velocity=np.array([s.velocity for s in strikes], np.float32),
            index=np.array([min(n.index, tk.MAX_CHUNK_INDEX) for n in notes], np.int64),
            age=np.array([min(n.age, oldest) for n in notes], np.float32),
            previous=np.stack([n.last for n in notes]),
            context=self._contexts(notes),
        )
        if self._variation:
            sway = np.stack([n.sway for n in notes if n.sway is not None])[:, None]
            swayed = expected + _SPREAD_TO_DEVIATION * np.minimum(spread, _MOST_SPREAD) * sway
            expected = np.where(expected >= 0.5, np.clip(swayed, 0, tk.N_LEVELS - 1), expected)
        return expected


def chunks_of(kind: int, levels: NDArray[np.float32]) -> list[Chunk]:
    """The chunks [B, a, C] of a kind, with all that their notes ask of them worked out at once."""
    cells = levels[:, :, : tk.PITCH_CELL]
    rows = levels * heard_cells(levels)[:, None]
    if kind == tk.ATTACK:  # no note jumps to its first level within a sample: that is heard as a click
        first = np.zeros_like(rows[:, :1])
        first[:, :, tk.PITCH_CELL] = levels[:, :1, tk.PITCH_CELL]
        rows = np.concatenate([first, rows], axis=1)
    bends = np.exp2(tk.level_to_cents(rows[:, :, tk.PITCH_CELL].astype(np.float64)) / 1200)
    rows[:, :, REACHED] = 1  # in place of the pitch, which is told as bends
    loudest, at_end = cells.max(axis=(1, 2)).tolist(), cells[:, -8:].max(axis=(1, 2)).tolist()
    return [
        Chunk(own.copy(), rows_of(heard, bend), *rest)
        for own, heard, bend, *rest in zip(levels, rows, bends, loudest, at_end, strict=True)
    ]


def heard_cells(chunks: Reals) -> NDArray[np.float32]:
    """Which cells of chunks [B, a, C] are heard, [B, C] of 1 and 0: those within 72 dB of the loudest, and beside them.

    A partial lies between two cells; so a cell counts if one of its neighbours does. The pitch always counts.
    """
    highest = chunks[:, :, : tk.PITCH_CELL].max(axis=1)  # [B, C - 1]
    least = np.maximum(_FLOOR_LEVEL, highest.max(axis=1, keepdims=True) - _MASKED_LEVELS)
    is_loud = np.ones((len(chunks), tk.N_CELLS), bool)
    is_loud[:, : tk.PITCH_CELL] = highest >= least
    partials = is_loud[:, : tk.N_PARTIALS].copy()
    is_loud[:, 1 : tk.N_PARTIALS] |= partials[:, :-1]
    is_loud[:, : tk.N_PARTIALS - 1] |= partials[:, 1:]
    return is_loud.astype(np.float32)
