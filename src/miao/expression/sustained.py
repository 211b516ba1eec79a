"""What happens within held notes: swells, vibrato that grows, and the pedal of a piano that has none."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Integers, Records
from miao.expression.touch import VIBRATO_SECONDS, grown
from miao.midi.score import Curve

STEP_SECONDS = 0.04
SWELL_DB = 4.0  # from the ends to the middle of a note of 2 s and more
SWELL_SECONDS = (0.4, 2.0)  # from here on, and in full
VIBRATO = 0.2  # of the modulation wheel: 10 cents
_MOVING = 8  # changes of a controller from which on the file plays it itself
SUSTAINED = frozenset([*range(21, 24), *range(40, 45), *range(48, 55), *range(56, 96), 109, 110, 111])
PIANOS = frozenset([0, 1, 2, 3, 4, 5])
_DOWN = 64 / 127
_SHORTEST_PRESS = 0.02  # seconds
_PEDAL_DELAY = 0.06  # seconds after the bass
_CHORD_SHARE = 0.85  # of what sounds in a half bar that must belong to its harmony for it to be pedalled


def with_swells(fader: Curve, notes: Records, amount: float) -> Curve:
    """The expression controller with a swell in each long note: softer by up to 4 dB at its ends, full in the middle.

    `notes` are those of one line, in time order. What the fader does already is kept and multiplied; a fader that moves
    of itself has no need of ours.
    """
    return _drawn(fader, notes, lambda since, length: 10 ** (-amount * _swell_db(since, length) / 40), "times")


def with_vibrato(wheel: Curve, notes: Records, depth: float) -> Curve:
    """The modulation wheel with vibrato that begins 0.3 s into a note and is full after 1 s; what the file asks for
    beyond it stays."""

    def shape(since: Doubles, length: Doubles) -> Doubles:
        return np.where(since >= length, 0.0, np.minimum(depth, 1.0) * grown(since))

    return _drawn(wheel, notes, shape, "most")


def is_moving(curve: Curve) -> bool:
    """The file plays this controller itself."""
    return len(curve.times) >= _MOVING


def pedal(starts: Doubles, ends: Doubles, pitches: Doubles, roots: Integers, cells: Integers, amount: float
          ) -> tuple[Doubles, Doubles]:  # fmt: skip
    """When a pedal goes down and comes up, [p] each: in each half bar (`cells`, rising numbers, one a note) whose notes
    mostly belong to one harmony, from just after its bass to a share of the way to the next change."""
    downs, ups = [], []
    borders = np.flatnonzero(np.diff(cells, prepend=cells[0] - 1 if len(cells) else 0))
    stops = np.append(borders[1:], len(cells))
    for first, stop in zip(borders.tolist(), stops.tolist(), strict=True):
        inside = slice(first, stop)
        above = (pitches[inside].astype(int) - roots[inside]) % 12
        length = np.maximum(ends[inside] - starts[inside], 0.05)
        fits = float((length * np.isin(above, (0, 3, 4, 7, 10))).sum() / length.sum())
        down = starts[first] + _PEDAL_DELAY
        change = starts[stop] if stop < len(starts) else ends[inside].max()
        if fits >= _CHORD_SHARE and change - down > 0.3:
            downs.append(down)
            ups.append(down + min(amount, 1.0) * (change - down))
    return np.array(downs), np.array(ups)


def presses_of(curve: Curve) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """When a pedal goes down and comes up, [p] each; one that is never lifted comes up at no time."""
    is_down = np.append(curve.initial, curve.values) >= _DOWN
    times = np.append(-np.inf, curve.times)
    turns = np.flatnonzero(np.diff(is_down.astype(int), prepend=0))
    downs, ups = times[turns[is_down[turns]]], times[turns[~is_down[turns]]]
    return downs, np.append(ups, np.inf)[: len(downs)]


def detached(curve: Curve, share: float, bars: NDArray[np.float64]) -> Curve:
    """A pedal that is held for a share less of each press.

    A press that lasts over bar lines (`bars`, seconds) is changed at each of them: it keeps the file from being played
    in anything but one long breath, whatever harmony it means.
    """
    spans = []
    for down, up in zip(*presses_of(curve), strict=True):
        inside = bars[(bars > down) & (bars < up)]
        edges = np.unique(np.concatenate([[down], inside, [up]]))
        edges = edges[np.isfinite(edges)]
        spans += list(zip(edges[:-1].tolist(), (edges[:-1] + (1 - share) * np.diff(edges)).tolist(), strict=True))
    kept = np.array([span for span in spans if span[1] - span[0] > _SHORTEST_PRESS]).reshape(-1, 2)
    return Curve(kept.ravel(), np.tile([1.0, 0.0], len(kept)), 0.0)


def held_by_pedal(ends: Doubles, downs: Doubles, ups: Doubles, catch: float = 0.0) -> Doubles:
    """Until when keys that come up at `ends` sound: until the pedal comes up, where it is down or goes down within
    `catch` seconds."""
    if not len(downs):
        return ends
    i = np.searchsorted(downs, ends, side="right") - 1
    is_held = (i >= 0) & (ends < ups[np.maximum(i, 0)])
    following = np.minimum(i + 1, len(downs) - 1)
    is_caught = ~is_held & (downs[following] >= ends) & (downs[following] - ends <= catch)
    return np.where(is_held, ups[np.maximum(i, 0)], np.where(is_caught, ups[following], ends))


def line_of(parts: Sequence[Records]) -> Records:
    """The notes of tracks that share a channel as one line: the longest of those that start together, by time."""
    notes = np.concatenate(parts)
    notes = notes[np.lexsort((-notes["end"], notes["start"]))]
    return notes[np.diff(notes["start"], prepend=-np.inf) > 0.03]


def _swell_db(since: Doubles, length: Doubles) -> Doubles:
    full = np.clip((length - SWELL_SECONDS[0]) / (SWELL_SECONDS[1] - SWELL_SECONDS[0]), 0, 1)
    place = np.clip(since / np.maximum(length, 1e-6), 0, 1)
    swell: Doubles = SWELL_DB * full * (1 - np.sin(np.pi * place) ** 0.7)
    return swell


def _drawn(curve: Curve, notes: Records, shape: Callable[[Doubles, Doubles], Doubles], how: str) -> Curve:
    """A curve multiplied by, or at least as high as, what a shape says of the time since each note's start."""
    starts, lengths = notes["start"], np.maximum(notes["end"] - notes["start"], 0)
    lengths = np.minimum(lengths, np.append(np.diff(starts), np.inf))  # until the next note of the line
    is_long = lengths > VIBRATO_SECONDS[0]
    if not is_long.any():
        return curve
    counts = np.where(is_long, np.minimum(np.ceil(lengths / STEP_SECONDS).astype(int) + 1, 4096), 1)
    owner = np.repeat(np.arange(len(notes)), counts)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    since = np.minimum(number * STEP_SECONDS, lengths[owner])
    ours_at, ours = starts[owner] + since, shape(since, lengths[owner])
    times = np.union1d(curve.times, ours_at)
    i = np.searchsorted(ours_at, times, side="right") - 1
    below = curve.at(times)
    if how == "times":
        values = below * np.where(i < 0, 1.0, ours[np.maximum(i, 0)])
    else:
        values = np.maximum(below, np.where(i < 0, 0.0, ours[np.maximum(i, 0)]))
    kept = np.rint(values * 254)  # no step below half of MIDI's
    changes = np.append(True, np.diff(kept) != 0)
    return Curve(times[changes], values[changes], curve.initial)
