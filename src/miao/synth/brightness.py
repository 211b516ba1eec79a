"""How bright notes sound (CC 74): a tilt over the levels of each note that keeps how loud it is.

A low-pass that opens brings partials up and leaves the loudness nearly where it was. Here each partial and each band of
noise of a note moves by so many decibels an octave above the note's own pitch, whatever that is, and all of the note by
what keeps its loudness (B-weighted), but for a small share. What lies far below the rest of a note is not lifted: an
open filter does not make a voice's hiss a part of it. No standard gives more of the law than that 64 changes nothing.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from miao.arrays import Doubles, Floats, Reals
from miao.bank import tokens as tk
from miao.synth import oscillators
from miao.synth.course import Sound
from miao.synth.oscillators import NotePart

BRIGHT_DB, DARK_DB = 4.5, 6.0  # an octave, at 127 and at 0
MOST_OCTAVES = 4.5  # above its pitch a note is tilted; beyond all moves alike
LOUDER = 0.06  # share left of what the tilt alone changes of the loudness: 1.2 dB up and 1.6 down at the most
NEAR_DB, FAR_DB = 30.0, 60.0  # below the loudest level: what is lifted wholly, and what is not
_LOWEST_HZ, _HIGHEST_HZ = 65.0, 2000.0  # from where on a note is tilted,
_DRUMS_HZ = 400.0  # a drum, which has no pitch
_LAST_HZ = 10_000.0  # and up to where

# as the loops take it: what darkness is of brightness, the share, near and far in levels, a level's power as logarithm
LAW = (DARK_DB / BRIGHT_DB, LOUDER, NEAR_DB / tk.LEVEL_STEP_DB, FAR_DB / tk.LEVEL_STEP_DB,
       float(np.log(10)) / 10 * tk.LEVEL_STEP_DB)  # fmt: skip


class Brightness:
    """How bright a note is at each of its knots. It is decided when a knot is first heard of, by what is in force at
    the knot before: what comes between the two changes nothing of the line that runs from one to the other.

    hz  frequency of the note
    """

    def __init__(self, sound: Sound, hz: float, is_drum: bool) -> None:
        self.lifts, self.weights = brilliance(sound, hz, is_drum)
        self._times, self._settings = np.zeros(0), np.zeros(0)  # of the knots that were heard of last

    def of(self, part: Any, times: Doubles, stands_at: Callable[[Doubles], Doubles]) -> Any:
        """What `course.Course.part` gives, its first knots at times (seconds), as bright as settings of -1 to 1 say."""
        arrays = NotePart(*part.arrays())
        times = times[: len(arrays.knots)]
        settings = stands_at(np.concatenate([times[:1], times[:-1]]))
        if len(self._times):
            place = np.minimum(self._times.searchsorted(times), len(self._times) - 1)
            settings = np.where(self._times[place] == times, self._settings[place], settings)
        self._times, self._settings = times, settings
        if not settings.any():
            return part
        return arrays._replace(levels=brightened(arrays.levels, settings.astype(np.float32), self.lifts, self.weights))


def brilliance(sound: Sound, hz: float, is_drum: bool) -> tuple[Floats, Floats]:
    """Levels by which each cell of a note is lifted at 127, and its B-weighted power at level 0 dB; both [C - 1]."""
    n, at = tk.N_PARTIALS, np.arange(len(sound.ratios))
    spread = np.zeros((n, len(at)))  # [partial cells, P]
    spread[sound.cells, at], spread[sound.cells + 1, at] = 1 - sound.shares, sound.shares
    partials_hz, edges = hz * sound.ratios, tk.NOISE_EDGES_HZ
    own = spread @ np.log2(partials_hz) / np.maximum(spread.sum(axis=1), 1e-9)
    places = np.concatenate([own, 0.5 * np.log2(edges[1:] * edges[:-1])])
    from_hz = _DRUMS_HZ if is_drum else min(max(hz, _LOWEST_HZ), _HIGHEST_HZ)
    octaves = np.clip(np.minimum(places, np.log2(_LAST_HZ)) - np.log2(from_hz), 0, MOST_OCTAVES)
    partials = spread @ (0.5 * (sound.gains.astype(np.float64) ** 2).sum(axis=1) * b_weight(partials_hz) ** 2)
    bands = (sound.balance.astype(np.float64) ** 2).sum(axis=1) * b_weight(2 ** places[n:]) ** 2
    lifts = BRIGHT_DB / tk.LEVEL_STEP_DB * octaves
    return lifts.astype(np.float32), np.concatenate([partials, bands]).astype(np.float32)


def b_weight(hz: Reals) -> Doubles:
    """The gain of the B curve (IEC 651), of loudness at middling levels, at frequencies, same shape; 1 at 1 kHz."""
    f = np.asarray(hz, np.float64)
    poles = (f**2 + 20.6**2) * np.sqrt(f**2 + 158.5**2) * (f**2 + 12_194.0**2)
    weight: Doubles = 10 ** (0.17 / 20) * 12_194.0**2 * f**3 / poles
    return weight


def brightened(rows: Floats, settings: Floats, lifts: Floats, weights: Floats) -> Floats:
    """Rows of levels [n, C], each as bright as a setting of -1 to 1 says, [n]; at 0 a row is what it was."""
    if oscillators.loops():
        bright: Floats = oscillators.loops().brightened(rows, settings, lifts, weights, *LAW)
        return bright
    return brightened_numpy(rows, settings, lifts, weights)


def brightened_numpy(rows: Floats, settings: Floats, lifts: Floats, weights: Floats) -> Floats:
    """The same in NumPy: the oracle of the tests, and the fallback."""
    dark, louder, near, far, per_level = LAW
    levels = rows[:, : tk.PITCH_CELL]
    is_heard = (levels >= 0.5) & (settings != 0)[:, None]
    below = levels - levels.max(axis=1, keepdims=True)
    share = np.clip((below + far) / (far - near), 0, 1)
    tilt = settings[:, None] * lifts * np.where(settings[:, None] < 0, dark, share)  # [n, C - 1]
    power = np.where(is_heard, weights * np.exp(per_level * below), 0)
    before, after = power.sum(axis=1), (power * np.exp(per_level * tilt)).sum(axis=1)
    change = np.log(np.where(before > 0, after / np.maximum(before, 1e-30), 1)) / per_level
    new = rows.copy()
    moved = np.maximum(levels + tilt - (1 - louder) * change[:, None], 0)
    new[:, : tk.PITCH_CELL] = np.where(is_heard, moved, levels)
    return new
