"""When a single note is there."""

import numpy as np

from miao.arrays import Reals
from miao.sound.spectrum import SAMPLE_RATE

_WITHIN_SECONDS = 0.3  # of a note's start, whose loudest moment counts
_OVER_SECONDS = 0.005


def attack_time(sound: Reals) -> float:
    """When a note has risen to -10 dB of the peak of its first 300 ms, by power over 5 ms; seconds."""
    power = np.square(sound).sum(axis=0)[: int(_WITHIN_SECONDS * SAMPLE_RATE)]
    width = int(_OVER_SECONDS * SAMPLE_RATE)
    level = np.convolve(power, np.ones(width) / width)[: len(power)]
    return float(np.argmax(level >= 0.1 * level.max())) / SAMPLE_RATE
