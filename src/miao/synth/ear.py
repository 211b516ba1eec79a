"""What the MIDI encoder hears of each part while it plays: nothing later than the moment that it is asked about."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from miao.bank.bank import Bank
from miao.bank.frames import HOP_SECONDS, TOKEN_SECONDS, WINDOW_SECONDS, encode_frames, window_of
from miao.synth.note import Note, Strike

_ENCODED_AT_ONCE = 4  # windows; more would cost memory and gain nothing
_PLAYED = np.dtype([("start", "f8"), ("end", "f8"), ("damp", "f8"), ("pitch", "i2"), ("velocity", "i2")])


class Ear:
    """The notes of the last two windows of each part, and what the encoder makes of them."""

    def __init__(self, bank: Bank) -> None:
        self._bank = bank
        self.until = -math.inf  # up to here all that happens is known
        self._played: dict[int, dict[int, list[float]]] = {}  # by part and note: start, end, damp, pitch, velocity
        self._parts: dict[int, int] = {}  # by note
        self._encoded: dict[tuple[int, int], tuple[NDArray[np.float32], float]] = {}  # and up to when it has heard

    @property
    def is_deaf(self) -> bool:
        """Whether the bank hears no context, so that nothing is kept."""
        return self._bank.encode is None

    def start(self, handle: int, strike: Strike) -> None:
        """A note starts."""
        row = [strike.time, np.inf, np.inf, strike.pitch, round(127 * strike.velocity)]
        self._played.setdefault(strike.part, {})[handle] = row
        self._parts[handle] = strike.part

    def lift(self, handle: int, moment: float) -> None:
        """A key comes up."""
        self._write(handle, 1, moment)

    def release(self, handle: int, moment: float) -> None:
        """A note is let go."""
        self._write(handle, 1, moment)
        self._write(handle, 2, moment)

    def catch(self, handle: int, moment: float) -> None:
        """A note that was let go is held again."""
        if handle in self._parts and (row := self._played[self._parts[handle]].get(handle)):
            row[2] = np.inf

    def _write(self, handle: int, place: int, moment: float) -> None:
        if handle in self._parts and (row := self._played[self._parts[handle]].get(handle)):
            row[place] = min(row[place], max(moment, row[0]))

    def forget(self, now: float) -> None:
        """Drop what no window to come can hold."""
        oldest = now - WINDOW_SECONDS - HOP_SECONDS
        for notes in self._played.values():
            for handle in [handle for handle, row in notes.items() if row[2] < oldest]:
                del notes[handle], self._parts[handle]
        self._encoded = {key: value for key, value in self._encoded.items() if key[1] * HOP_SECONDS >= oldest}

    def so_far(self, notes: Sequence[Note]) -> NDArray[np.float32]:
        """The contexts by all that is known."""
        return self.contexts(notes, self.until)

    def contexts(self, notes: Sequence[Note], until: float) -> NDArray[np.float32]:
        """The encoder's tokens for the next chunks of notes, [B, D]; all that happens up to ``until`` is known."""
        context = np.zeros((len(notes), self._bank.context_width), np.float32)
        encode = self._bank.encode
        if encode is None:
            return context
        places = [(note.strike.part, *window_of(note.known_until)) for note in notes]
        wanted = sorted({(part, window) for part, window, token in places if token >= 0})
        stale = [place for place in wanted if place not in self._encoded or self._encoded[place][1] < until]
        for first in range(0, len(stale), _ENCODED_AT_ONCE):
            some = stale[first : first + _ENCODED_AT_ONCE]
            encoded = encode(np.stack([self._frames(*place) for place in some]))
            self._encoded.update({place: (row, until) for place, row in zip(some, encoded, strict=True)})
        for row, (part, window, token) in enumerate(places):
            if token >= 0:
                context[row] = self._encoded[part, window][0][token]
        return context

    def _frames(self, part: int, window: int) -> NDArray[np.float32]:
        """x_m of a window. Faders are left out: they work on the stem, not on how a note sounds."""
        start = window * HOP_SECONDS
        rows = [row for row in self._played.get(part, {}).values() if row[0] < start + WINDOW_SECONDS]
        rows = sorted(row for row in rows if row[2] > start - TOKEN_SECONDS)
        notes = np.array([tuple(row) for row in rows], _PLAYED)
        for name in ("end", "damp"):
            notes[name] = np.minimum(notes[name], start + 2 * WINDOW_SECONDS)
        return encode_frames(notes, start)
