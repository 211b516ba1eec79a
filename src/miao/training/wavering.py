"""How single notes waver (`bank.waver`), measured: what levels and pitch do beside their course, a note every few keys.

Quiet cells are left out, as they are measured beside loud ones and waver with these.
"""

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from miao.arrays import Doubles, Floats, Reals
from miao.bank import tokens as tk
from miao.bank.voices import pitch_hz
from miao.bank.waver import PARTS, STEP_SECONDS, Waver
from miao.measuring.note import analyse_note
from miao.measuring.voice_fit import fit_voice

HOLD_SECONDS = 3.6
SEMITONES = 3  # from note to note
_KEPT_SECONDS = 2.8  # later than that notes of a bank repeat themselves
_COURSE_SECONDS = 0.12  # standard deviation, above which it is course and not waver: below about 1.3 Hz
_LEAST_SECONDS = 0.014  # the same, below which it is noise: above about 12 Hz
_QUIET, _FADE = 30.0, 6.0  # levels below the loudest cell (52 dB) from which on a cell is still, and over how many more
_MOST = 6.0  # levels
_MOST_PITCH = 15.0  # steps, 30 cents


def measured_waver(play: Callable[[int], Floats], pitches: Iterable[int], kind: int, sample_rate: int) -> Waver:
    """How notes waver. ``play`` gives the note of a pitch, [2, S], held for `HOLD_SECONDS`."""
    keys = list(pitches)
    moves = np.stack([_wavers(_tokens(play(pitch), pitch, kind, sample_rate)) for pitch in keys])
    return Waver(np.array(keys, np.uint8), moves)


def _tokens(sound: Floats, pitch: int, kind: int, sample_rate: int) -> Doubles:
    """A held note's levels every 20 ms from its start on, [steps, C]."""
    hz = float(pitch_hz(pitch))
    partials = fit_voice(sound, sample_rate, hz, kind).partials()
    held = analyse_note(sound, sample_rate, hz, HOLD_SECONDS, partials).tokens.held.astype(np.float64)
    a_step = round(STEP_SECONDS / tk.STEP_SECONDS[tk.ATTACK])
    return np.concatenate([held[0, ::a_step], held[1:].reshape(-1, tk.N_CELLS)])


def _wavers(levels: Reals) -> NDArray[np.int8]:
    """What levels [steps, C] do beside their course, int8 in `PARTS`."""
    fast, slow = (gaussian_filter1d(np.asarray(levels, np.float64), seconds / STEP_SECONDS, axis=0, mode="nearest")
                  for seconds in (_LEAST_SECONDS, _COURSE_SECONDS))  # fmt: skip
    mean = np.mean(levels, axis=0)
    counts = np.clip((mean - (mean[: tk.PITCH_CELL].max() - _QUIET)) / _FADE, 0, 1)
    counts[tk.PITCH_CELL] = 1
    most = np.full(tk.N_CELLS, _MOST)
    most[tk.PITCH_CELL] = _MOST_PITCH
    moves = np.clip(counts * (fast - slow), -most, most)[: round(_KEPT_SECONDS / STEP_SECONDS)]
    found: NDArray[np.int8] = np.rint(moves * PARTS).astype(np.int8)
    return found
