"""Rests in music: when every note has been let go, what is heard is the room, and says how long it rings.

In each rest the level of an octave falls along a line; the median of their slopes is the room's.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from miao.arrays import Doubles, Flags, Floats, Reals
from miao.measuring.power import FRAME_SECONDS, Courses
from miao.sound.room import BAND_HZ
from miao.sound.spectrum import AUDIBLE_DB

_LET_GO_SECONDS = 0.04  # from then on a note is silent, but for what rings
# of a rest, and how many falls must then be left: what a damped string still does is over later, but where rests are
# few their beginnings tell more than what little is left
_SKIP_FRAMES = ((4, 12), (2, 5))
_LEAST_FRAMES = 5  # less says nothing
_MOST_FRAMES = 12  # from so many on all falls count alike
_FOLLOWED_DB = 25.0  # further down others' ringing, or noise, begins
_ABOVE_FLOOR_DB = 6.0
_FLOOR_SHARE = 0.02  # of frames, below which a band is at its quietest
_T60_SECONDS = (0.1, 8.0)


@dataclass(frozen=True, eq=False)
class RestDecays:
    """How the octaves fall in rests."""

    t60_seconds: Doubles  # [9], nan where rests do not tell
    error: Doubles  # [9] standard error of its logarithm


def rests(n_frames: int, courses: Sequence[Courses], others: Reals | None) -> Flags:
    """Frames in which every note has been let go, [n_frames], from the first note on; others [frames, bands] is the
    power of what is played along."""
    is_rest, first = np.ones(n_frames, bool), n_frames
    for course in courses:
        is_rest[course.frame[course.since < _LET_GO_SECONDS]] = False
        first = min(first, int(course.frame.min(initial=n_frames)))
    is_rest[:first] = False
    if others is not None:
        loud = others.sum(axis=1)
        is_rest &= loud <= 1e-6 * loud.max(initial=0.0)
    return is_rest


def decays_in_rests(heard: Sequence[Reals], are_rests: Sequence[Flags], octave_shares: Reals) -> RestDecays:
    """T60 by octave of recordings [frames, bands] (dB) as their rests tell; octave_shares [bands, 9] says which bands
    an octave is made of."""
    times, errors = np.full(len(BAND_HZ), np.nan), np.full(len(BAND_HZ), np.inf)
    for octave in range(len(BAND_HZ)):
        bands = octave_shares[:, octave] > 0.5
        if not bands.any():
            continue
        for skipped, n_enough in _SKIP_FRAMES:
            falls = [fall for piece, is_rest in zip(heard, are_rests, strict=True)
                     for fall in _falls(np.asarray(piece)[:, bands], is_rest, skipped)]  # fmt: skip
            if len(falls) >= n_enough:
                break
        if len(falls) < n_enough:
            continue
        slope, off = _middle_slope(falls)
        if slope < 0 and _T60_SECONDS[0] <= -60 / slope <= _T60_SECONDS[1]:
            times[octave], errors[octave] = -60 / slope, off / -slope
    return RestDecays(times, errors)


def _falls(piece: Reals, is_rest: Flags, skipped: int) -> list[Floats]:
    """The level of some bands together, dB, in each rest, so many frames left out, as far as it is heard to fall."""
    level = 10 * np.log10(np.sum(10 ** (piece / 10), axis=1) + 1e-14)
    bottom = max(np.quantile(level, _FLOOR_SHARE) + _ABOVE_FLOOR_DB, level.max() - AUDIBLE_DB)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], is_rest, [False]]).astype(int))).reshape(-1, 2)
    found = []
    for begin, end in edges.tolist():
        fall = level[begin + skipped : end]
        low = np.flatnonzero(fall < max(bottom, fall.max(initial=-np.inf) - _FOLLOWED_DB))
        fall = fall[: int(low[0])] if len(low) else fall
        if len(fall) >= _LEAST_FRAMES:
            found.append(fall)
    return found


def _middle_slope(falls: Sequence[Reals]) -> tuple[float, float]:
    """The median of the slopes of falls, dB a second, long ones counting for more, and its standard error: a string
    that rings into a rest spoils one fall, not all."""
    slopes = np.array([np.polyfit(np.arange(len(fall)) * FRAME_SECONDS, fall, 1)[0] for fall in falls])
    weights = np.array([min(len(fall), _MOST_FRAMES) for fall in falls], float)
    order = np.argsort(slopes)
    along = np.cumsum(weights[order]) / weights.sum()
    middle = float(slopes[order][np.searchsorted(along, 0.5)])
    off = 1.48 * float(np.median(np.abs(slopes - middle)))
    return middle, 1.25 * off / np.sqrt(len(falls))
