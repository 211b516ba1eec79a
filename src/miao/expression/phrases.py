"""Phrases, found from the notes: where one tune ends and the next begins.

A boundary is likely before a note that comes after a long note or a rest, or after a leap (Cambouropoulos' local
boundary detection, LBDM; Temperley's Grouper scores gaps and lengths likewise), and phrases of one piece are of similar
length and begin at like places of the bar. So: a strength for each note as the first of a phrase, and a cut of the
whole line that gathers the most strength at lengths that are usual.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

USUAL_NOTES = 8.0  # of a phrase; Grouper takes 8 to 10
LENGTH_WEIGHT = 0.65  # of a phrase twice or half as long as usual, in strengths
THRESHOLD = 0.2  # what a boundary costs
PHASE_WEIGHT = 0.6  # of beginning at another place of the bar than the phrase before
GAP_WEIGHT, REST_WEIGHT, LEAP_WEIGHT, CONTRAST_WEIGHT = 0.1, 4.0, 0.3, 0.4
LONGEST_NOTES = 48
_MOST_GAP = 4.0  # times the usual time from note to note; a pause of a minute is no more of a boundary
_AROUND = 12  # notes on either side that say what is usual here


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
    lengths = np.arange(1, LONGEST_NOTES + 1)
    cost = LENGTH_WEIGHT * np.square(np.log2(lengths / usual_notes))
    gain = np.append(strengths - THRESHOLD, 0.0)
    places = np.append(line.places, 0.0)
    for end in range(1, n + 1):
        first = max(end - LONGEST_NOTES, 0)
        score = best[first:end] - cost[end - first - 1 :: -1][: end - first]
        if end < n:
            apart = np.abs(places[end] - places[first:end])
            score = score - PHASE_WEIGHT * np.minimum(np.minimum(apart, 1 - apart) * 4, 1)
        i = int(np.argmax(score))
        best[end], came_from[end] = score[i] + gain[end], first + i
    if not np.isfinite(best[n]):
        return np.zeros(1, np.int64)
    firsts, at = [], n
    while at > 0:
        at = int(came_from[at])
        firsts.append(at)
    return np.array(firsts[::-1], np.int64)


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
    return (total[high] - total[low]) / (high - low)
