"""Dampers: what makes notes of a program end as soon as dry ones do, so that whatever rings on is the room's.

From music alone a damper that falls slowly and a room that rings are the same sound. What tells them apart is a
choice, and it is made here: a note that is let go has fallen by 60 dB within `DRY_T60_SECONDS`. It is made for notes
that are damped at all, by what the program itself does when a key comes up: strings without dampers (the highest of a
piano, harps, bells) ring on as before, and are left to.
"""

import numpy as np

from miao.arrays import Flags, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.level_shift import SINCE
from miao.bank.voices import N_PITCHES, PITCH_NODES, SEMITONES_A_NODE
from miao.measuring.power import FRAME_SECONDS, LEVEL_PARTS, Courses, cell_powers, noise_powers, note_courses
from miao.midi.score import notes_array

DRY_T60_SECONDS = 0.14
BEGIN_SECONDS = 0.05  # a damper takes to reach its string
_HOLD_SECONDS, _HEARD_SECONDS, _VELOCITY = 0.6, 3.0, 80
_FOLLOWED_DB = 25.0  # of a fall, by which it is judged
_MOST_HELD_DB_A_SECOND = 200.0
_PITCHES = np.minimum(np.arange(PITCH_NODES) * SEMITONES_A_NODE, N_PITCHES - 1)
_LEAST_DB_A_SECOND, _LEAST_TIMES = 60.0, 1.5  # a note that is damped falls at least so fast, and faster than before


def dampers(bank: Bank, program: int) -> Floats:
    """Levels that are added to a program's notes by time since they were let go (`SINCE`) and pitch node, so that they
    end as dry notes do: [SINCE, PITCH_NODES], 0 where they ring on by nature or end as soon by themselves."""
    rates, is_damped = _falls(bank, program)
    near = np.lib.stride_tricks.sliding_window_view(np.pad(is_damped, 2, mode="edge"), 5)
    missing = np.maximum(60 / (DRY_T60_SECONDS - BEGIN_SECONDS) - rates[:, 1], 0)
    missing[near.mean(axis=1) < 0.5] = 0  # as most of the neighbours are: single pitches are misjudged
    # until the damper is there a string sounds on, where the program falls at once
    held = np.where(missing > 0, np.minimum(rates[:, 1], _MOST_HELD_DB_A_SECOND), 0)
    before, after = np.minimum(SINCE, BEGIN_SECONDS), np.maximum(SINCE - BEGIN_SECONDS, 0)
    decibels = held * before[:, None] - missing * after[:, None]
    added: Floats = (decibels / tk.LEVEL_STEP_DB).astype(np.float32)
    return added


def release_pace(bank: Bank, program: int, seconds: float, pitches: Integers) -> float:
    """How many times as long releases of a program have to last for damped notes to fall by 60 dB in some seconds,
    beside how they fall while they are held: the median of those of some pitches."""
    rates, is_damped = _falls(bank, program)
    some = rates[is_damped & np.isfinite(rates[:, 1]) & np.isin(_PITCHES, pitches)]
    return float(np.median(some[:, 1] / (60 / seconds + np.maximum(some[:, 0], 0)))) if len(some) else 1.0


def _falls(bank: Bank, program: int) -> tuple[Floats, Flags]:
    """The `fall_rates` of each pitch node, [PITCH_NODES, 2], and whether it is damped."""
    notes = notes_array([(0.0, _HOLD_SECONDS, _HOLD_SECONDS, int(pitch), _VELOCITY, program, 0, False)
                         for pitch in _PITCHES])  # fmt: skip
    courses = note_courses(bank, program, notes, round(_HEARD_SECONDS / FRAME_SECONDS))
    rates = np.array([fall_rates(bank, program, pitch, courses) for pitch in _PITCHES.tolist()])
    return rates, rates[:, 1] >= np.maximum(_LEAST_DB_A_SECOND, _LEAST_TIMES * rates[:, 0])


def fall_rates(bank: Bank, program: int, pitch: int, courses: Courses) -> tuple[float, float]:
    """How fast a note falls while it is held and once it is let go, dB a second; inf where nothing is left to hear."""
    rows = np.flatnonzero(courses.pitch == pitch)
    rows = rows[np.argsort(courses.frame[rows], kind="stable")]
    amplitude = tk.level_to_amplitude(courses.levels[rows].astype(np.float32) / LEVEL_PARTS)
    power = np.square(amplitude) @ cell_powers(bank.table, program, pitch, noise_powers()).sum(axis=1) + 1e-14
    is_let_go = courses.since[rows] >= 0
    settled = power[~is_let_go & (courses.age[rows] > 0.4 * _HOLD_SECONDS)]
    held = _slope(10 * np.log10(settled)) if len(settled) > 2 else 0.0
    to_come = 10 * np.log10(np.cumsum(power[is_let_go][::-1])[::-1])
    followed = to_come[to_come > to_come.max(initial=-np.inf) - _FOLLOWED_DB]
    return held, _slope(followed) if len(followed) > 1 else float("inf")


def _slope(levels_db: Floats) -> float:
    return float(-np.polyfit(np.arange(len(levels_db)) * FRAME_SECONDS, levels_db, 1)[0])
