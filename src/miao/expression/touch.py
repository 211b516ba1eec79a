"""What of a mood acts on a note as it is struck: the same for a file, which is known to its end, and under the hands of
somebody who plays.

Level goes into the velocity. Brightness, attack, how long a note rings, and the room are controllers, moved from where
they stand; a vibrato grows within each note. Everything else of a mood (tempo, the ends of notes, doublings, looseness,
contrast, phrasing, mode) needs what comes next, or what is played beside it: that is `play.expressed`.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Integers, Numbers, Reals
from miao.expression.moods import Cues

CURVE_SHARE = 0.5  # of a controller's range, for a cue of 1: brightness, room
RING_SHARE = 0.25  # decay and release of an articulation of 1: how long a note sounds is not its key's matter alone
SHARP_SHARE, SOFT_SHARE = -0.5, -0.13  # attack (CC 73 is its time): as sharp as can be, and come up within 70 ms
MOOD_VIBRATO = 0.5  # of the modulation wheel, for a cue of 1
VIBRATO_SECONDS = (0.3, 1.0)  # from the start of a note: when it begins, and when it is full
VIBRATING = frozenset([*range(40, 44), 52, 53, 54, 56, 57, 58, 60, *range(64, 72), 73, 74, 75, 77, 110, 111])
OF_ALL = ("reverb",)  # controllers that are moved for drums, too


def shifts(cues: Cues) -> Mapping[str, float]:
    """By how much controllers move, of their range of 0 to 1."""
    return {
        "reverb": CURVE_SHARE * cues.room,
        "brightness": CURVE_SHARE * cues.brightness,
        "attack": (SHARP_SHARE if cues.attack > 0 else SOFT_SHARE) * cues.attack,
        "decay": RING_SHARE * cues.articulation,
        "release": RING_SHARE * cues.articulation,
    }


def moved(value: NDArray[np.float64] | float, shift: float) -> NDArray[np.float64]:
    """Values of a controller, moved within its range."""
    return np.clip(np.asarray(value) + shift, 0, 1)


def struck(velocity: Numbers | float, level_db: Reals | float) -> NDArray[np.int64]:
    """Velocities at another level; 40 dB are a factor of 10, as the square law of level has it."""
    velocities: Integers = np.clip(np.rint(velocity * 10 ** (np.asarray(level_db) / 40)), 1, 127).astype(np.int64)
    return velocities


def vibrato_depth(cues: Cues) -> float:
    """Of the modulation wheel, once it has grown."""
    return min(max(MOOD_VIBRATO * cues.vibrato, 0.0), 1.0)


def grown(since: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """How far a vibrato has grown so many seconds into a note, 0 to 1."""
    return np.clip((np.asarray(since) - VIBRATO_SECONDS[0]) / (VIBRATO_SECONDS[1] - VIBRATO_SECONDS[0]), 0, 1)
