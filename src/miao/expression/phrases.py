"""Phrases, found from the notes: where one tune ends and the next begins.

A boundary is likely before a note that comes after a long note or a rest, or after a leap (Cambouropoulos' local
boundary detection, LBDM; Temperley's Grouper scores gaps and lengths likewise), and phrases of one piece are of similar
length and begin at like places of the bar. So: a strength for each note as the first of a phrase, and a cut of the
whole line that gathers the most strength at lengths that are usual.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles

USUAL_NOTES = 8.0  # of a phrase; Grouper takes 8 to 10
LENGTH_WEIGHT = 0.65  # of a phrase twice or half as long as usual, in strengths
THRESHOLD = 0.2  # what a boundary costs
PHASE_WEIGHT = 0.6  # of beginning at another place of the bar than the phrase before
GAP_WEIGHT, REST_WEIGHT, LEAP_WEIGHT, CONTRAST_WEIGHT = 0.1, 4.0, 0.3, 0.4
LONGEST_NOTES = 48
_MOST_GAP = 4.0  # times the usual time from note to note; a pause of a minute is no more of a boundary
_AROUND = 12  # notes on either side that say what is usual here
_AT_ONCE = 4096  # notes whose phrases are weighed side by side


@dataclass(frozen=True, eq=False)
class Line:
    """A single line of notes: the tune."""

    starts: NDArray[np.float64]  # [n] increasing; seconds or quarters, one unit for all three
    ends: NDArray[np.float64]  # [n]
    pitches: NDArray[np.float64]  # [n]
    places: NDArray[np.float64]  # [n] place in the bar, 0 to 1; all 0 if there are no bars


def boundary_strengths(line: Line) -> NDArray[np.float64]:
    """How much each note sounds like the first of a phrase, [n]; about 0 within a phrase, 1 and more at its borders.

    The first note's is 0: nothing is before it.
    """
    n = len(line.starts)
    strength = np.zeros(n)
    if n < 3:
        return strength
    interval = np.maximum(np.diff(line.starts), 1e-3)  # [n - 1]
    rest = np.maximum(line.starts[1:] - line.ends[:-1], 0)
    leap = np.abs(np.diff(line.pitches))
    usual = _local_mean(interval)
    gap = np.minimum(interval / usual, _MOST_GAP)
    strength[1:] = GAP_WEIGHT * np.maximum(gap - 1, 0)
    strength[1:] += CONTRAST_WEIGHT * _contrast(gap)
    strength[1:] += REST_WEIGHT * np.minimum(rest / usual, 1.5)
    strength[1:] += LEAP_WEIGHT * np.minimum(_contrast(leap + 1.0) * leap / 7, 1)
    return strength


def find_phrases(line: Line, strengths: NDArray[np.float64], usual_notes: float = USUAL_NOTES) -> NDArray[np.int64]:
    """The first notes of the phrases, as places in the line, the first of all being 0.

    The best of all cuts by dynamic programming: the sum of the strengths above `THRESHOLD`, less what unusual lengths
    and other places of the bar cost. A line of fewer than three notes is one phrase.
    """
    n = len(line.starts)
    if n < 3:
        return np.zeros(min(n, 1), np.int64)
    best = np.full(n + 1, -np.inf)
    best[0] = 0
    came_from = np.zeros(n + 1, np.int64)
    gain = np.append(strengths - THRESHOLD, 0.0)
    for begin in range(0, n, _AT_ONCE):
        ends = np.arange(begin + 1, min(begin + _AT_ONCE, n) + 1)
        for end, cost in zip(ends.tolist(), _costs(line.places, ends, usual_notes), strict=True):
            first = max(end - LONGEST_NOTES, 0)
            score = best[first:end] - cost[first - end :]
            i = int(score.argmax())
            best[end], came_from[end] = score[i] + gain[end], first + i
    if not np.isfinite(best[n]):
        return np.zeros(1, np.int64)
    firsts, at = [], n
    while at > 0:
        at = int(came_from[at])
        firsts.append(at)
    return np.array(firsts[::-1], np.int64)


def _costs(places: NDArray[np.float64], ends: NDArray[np.int64], usual_notes: float) -> NDArray[np.float64]:
    """What phrases cost that end before some notes and begin LONGEST_NOTES to 1 before these, [e, LONGEST_NOTES]:
    unusual lengths, and another place of the bar than what comes after; behind the last note is no place."""
    lengths = np.arange(LONGEST_NOTES, 0, -1)
    cost = np.tile(LENGTH_WEIGHT * np.square(np.log2(lengths / usual_notes)), (len(ends), 1))
    inside = ends < len(places)
    firsts = np.maximum(ends[inside, None] - lengths, 0)
    apart = np.abs(places[ends[inside], None] - places[firsts])
    cost[inside] += PHASE_WEIGHT * np.minimum(np.minimum(apart, 1 - apart) * 4, 1)
    return cost


def _contrast(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """How much each value stands out above its two neighbours, 0 to 1 (LBDM's rule of change)."""
    around = np.pad(x, 1, mode="edge")
    before, after = around[:-2], around[2:]
    change = np.maximum(x - before, 0) / (x + before) + np.maximum(x - after, 0) / (x + after)
    return np.minimum(change, 1)


def _local_mean(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """The mean of the values around each, outliers held at four times the median."""
    held = np.minimum(x, _MOST_GAP * np.median(x))
    total = np.concatenate([[0.0], np.cumsum(held)])
    i = np.arange(len(x))
    low, high = np.maximum(i - _AROUND, 0), np.minimum(i + _AROUND + 1, len(x))
    means: Doubles = (total[high] - total[low]) / (high - low)
    return means
