"""Notes and controllers of a piece as arrays."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NOTE = np.dtype(
    [
        ("start", "f8"),  # seconds
        ("end", "f8"),  # seconds, when the key is released; >= start
        ("damp", "f8"),  # seconds, when the sound is let go: >= end; drums ring on
        ("pitch", "i2"),  # 0 to 127
        ("velocity", "i2"),  # 1 to 127
        ("program", "i2"),  # 0 to 127; of drums, the kit
        ("bank", "i4"),  # 128 x MSB + LSB
        ("is_drum", "?"),
        # how it departs from an ordinary note of its channel; `notes_array` gives the values that change nothing
        ("cut", "f8"),  # seconds, when it fades at once, drums too: chokes, all sound off, resets; inf: never
        ("glide", "f4"),  # semitones by which its pitch begins away from its own, portamento; 0: none
        ("glide_seconds", "f4"),  # until it has arrived
        ("tuning", "f4"),  # cents at its start: scale tuning, tuned drum keys
        ("gain", "f4"),  # linear, of its drum key; 1: unchanged
        ("pan", "f4"),  # added to the channel's, -1 to 1
        ("send", "f4"),  # factor on the channel's reverb send; 1: unchanged
    ]
)
# seconds; a key is pressed so hard, 0 to 1, or what sounds of it moves by so many cents (MIDI Tuning in real time)
KEY_PRESSURE_EVENT = np.dtype([("time", "f8"), ("pitch", "i2"), ("value", "f8"), ("is_tuning", "?")])


@dataclass(frozen=True, eq=False)
class Curve:
    """A controller over time: a step function that is `initial` before the first of `times`."""

    times: np.ndarray  # float64 [n], seconds, increasing
    values: np.ndarray  # float64 [n]
    initial: float

    def at(self, times: np.ndarray | float) -> np.ndarray:
        """The values in force at `times` (seconds, any shape; the result has it); a step counts from its time on."""
        padded = np.concatenate([[self.initial], self.values])
        return padded[np.searchsorted(self.times, times, side="right")]


def notes_array(notes: int | Sequence[tuple[float, ...]]) -> np.ndarray:
    """NOTE [n]: n notes of zeros, or rows of (start, end, damp, pitch, velocity, program, bank, is_drum).

    What is not said changes nothing: never cut, no glide, gain 1.
    """
    rows = range(notes) if isinstance(notes, int) else notes
    made = np.zeros(len(rows), NOTE)
    made["cut"], made["gain"], made["send"] = np.inf, 1, 1
    if not isinstance(notes, int):
        columns = zip(*notes, strict=True)
        for name, column in zip(NOTE.names or (), columns, strict=False):
            made[name] = column
    return made
