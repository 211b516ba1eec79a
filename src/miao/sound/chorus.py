"""A stereo chorus: what is sent to it comes back a little later and earlier in turn, left and right against each other.

The types are those of General MIDI 2 (Global Parameter Control, CA-024, in RP-024): the rate of the swing, its depth,
and how much comes back in. It is fed by controller 93 and is silent where nothing is sent.
"""

import math
from dataclasses import dataclass

import numpy as np

from miao.arrays import Floats, Integers
from miao.errors import ConfigError

CHORUS_LEVEL = 0.7  # of what is sent, so that a full send is a chorus about as loud as the sound itself
_SHORTEST_SECONDS = 0.004  # of the delay, between which and depth more it swings
_SILENCE = 1e-4  # what comes back in has died away


@dataclass(frozen=True)
class ChorusType:
    """How a chorus swings."""

    rate_hz: float
    depth_seconds: float  # from the shortest to the longest delay
    feedback: float  # 0 to 1


# General MIDI 2: rate = 0.122 Hz x value, depth = (value + 1) / 3.2 ms, feedback = 0.763 % x value
CHORUS_TYPES = {
    "chorus 1": ChorusType(0.366, 0.0019, 0.0),
    "chorus 2": ChorusType(1.098, 0.0063, 0.038),
    "chorus 3": ChorusType(0.366, 0.0063, 0.061),
    "chorus 4": ChorusType(1.098, 0.0053, 0.122),
    "feedback chorus": ChorusType(0.244, 0.0078, 0.488),
    "flanger": ChorusType(0.122, 0.0019, 0.855),
}
USUAL = "chorus 3"  # General MIDI 2's at power-up


class Chorus:
    """A chorus for a stream of blocks of any size; cut in other places, the stream is the same sample by sample.

    Raises: ConfigError if there is no such type.
    """

    def __init__(self, sample_rate: int, kind: str = USUAL) -> None:
        if kind not in CHORUS_TYPES:
            raise ConfigError(f"no chorus {kind!r}; there are {', '.join(CHORUS_TYPES)}")
        self._kind, self._sample_rate = CHORUS_TYPES[kind], sample_rate
        self._shortest = _SHORTEST_SECONDS * sample_rate
        self._depth = self._kind.depth_seconds * sample_rate
        self._past = np.zeros((2, math.ceil(self._shortest + self._depth) + 4), np.float32)  # what went in
        self.position = 0  # the next sample; the swing is that of its time, whatever was played before
        self.is_silent = True

    @property
    def n_tail(self) -> int:
        """Samples until it is silent when nothing more is sent."""
        feedback = self._kind.feedback
        n_rounds = 1 + (math.ceil(math.log(_SILENCE) / math.log(feedback)) if feedback else 0)
        return n_rounds * self._past.shape[1]

    def process(self, sent: Floats) -> Floats:
        """What comes back for f4[2, n], f4[2, n]."""
        n = sent.shape[1]
        if self.is_silent and not sent.any():
            self.position += n
            return np.zeros((2, n), np.float32)
        back = np.empty((2, n), np.float32)
        # what is heard again comes from before the block, so a block is at most as long as the shortest delay
        step = max(int(self._shortest) - 3, 1) if self._kind.feedback else max(n, 1)
        for first in range(0, n, step):
            back[:, first : first + step] = self._short(sent[:, first : first + step])
        self.is_silent = not self._past.any()
        return np.float32(CHORUS_LEVEL) * back

    def tail(self) -> Floats:
        """What still sounds when nothing more is sent: f4[2, n_tail]."""
        return self.process(np.zeros((2, self.n_tail), np.float32))

    def _short(self, sent: Floats) -> Floats:
        """The same for a block that is shorter than the delay, or without feedback of any length."""
        n, n_past = sent.shape[1], self._past.shape[1]
        line = np.concatenate([self._past, sent], axis=1)  # what is not known yet is not asked for
        samples = self.position + np.arange(n, dtype=np.int64)
        swing = np.sin(2 * np.pi * self._kind.rate_hz / self._sample_rate * samples)
        back = np.empty((2, n), np.float32)
        for side, sign in ((0, 1.0), (1, -1.0)):
            place = n_past + np.arange(n) - self._shortest - 0.5 * self._depth * (1 + sign * swing)
            whole = np.floor(place).astype(np.int64)
            back[side] = _between(line[side], whole, (place - whole).astype(np.float32))
        line[:, n_past:] += np.float32(self._kind.feedback) * back
        self._past = np.ascontiguousarray(line[:, -n_past:])
        self._past[np.abs(self._past) < 1e-12] = 0  # so that it falls silent
        self.position += n
        return back


def _between(line: Floats, whole: Integers, part: Floats) -> Floats:
    """A value between samples by a cubic through four of them (Catmull and Rom)."""
    a, b, c, d = (line[whole + k] for k in (-1, 0, 1, 2))
    return b + 0.5 * part * (c - a + part * (2 * a - 5 * b + 4 * c - d + part * (3 * (b - c) + d - a)))
