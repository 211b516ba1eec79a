"""When a single note is there.

Of some notes the moment is chance: noise crosses a line earlier or later, and a string ensemble begins elsewhere in its
samples at each strength. Such a note is drawn several times (`AROUND`), and the median is its time.
"""

from collections.abc import Iterable

import numpy as np

from miao.arrays import Reals
from miao.sound.spectrum import SAMPLE_RATE

AROUND = (-2, -1, 0, 1, 2)
"""Strengths beside a note's own at which it is drawn, ours each with another seed."""
WITHIN_SECONDS = 0.3  # of a note's start, whose loudest moment counts
_OVER_SECONDS = 0.005


def attack_time(sound: Reals) -> float:
    """When a note has risen to -10 dB of the peak of its first 300 ms, by power over 5 ms; seconds."""
    power = np.square(sound).sum(axis=0)[: int(WITHIN_SECONDS * SAMPLE_RATE)]
    width = int(_OVER_SECONDS * SAMPLE_RATE)
    level = np.convolve(power, np.ones(width) / width)[: len(power)]
    return float(np.argmax(level >= 0.1 * level.max())) / SAMPLE_RATE


def usual_attack_time(drawn: Iterable[Reals]) -> float:
    """When a note is there that has been drawn several times: the median of `attack_time`; seconds."""
    return float(np.median([attack_time(sound) for sound in drawn]))
