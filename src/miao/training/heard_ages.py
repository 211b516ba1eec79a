"""Ages of notes that music says little of: what a voice that lasts is like there.

Notes of fast music are let go before they are old, and what is heard at later ages of them is how the room rings on, or
the few long notes that there are. A shift learnt from it (`bank.level_shift`) lets a longer note fade. A voice whose
notes last has at such ages what its notes have on the whole, so that it stays as loud as it is.
"""

from dataclasses import replace

import numpy as np

from miao.arrays import Floats, Reals
from miao.bank.bank import Bank
from miao.bank.lasting import KNOT_SECONDS
from miao.bank.level_shift import AGES, RAMP, LevelShift, knot_shares

FEW_NOTES = 0.05  # of all: an age that no more of them reach is not heard
_AGE_STEP = 0.005  # seconds
_PITCHES = 48, 55, 60, 67, 72
_LOWEST = 3  # partials
_MOST_FALL = 4.0  # levels (7 dB) in five seconds, of what lasts


def settled(shift: LevelShift, lengths: Reals) -> LevelShift:
    """A shift as it is for ages that notes of some lengths (seconds) reach, with nothing that comes later; no key has
    a decay of its own."""
    heard = heard_ages(lengths)
    held = shift.held.astype(np.float32)
    held[np.quantile(lengths, 1 - FEW_NOTES) < AGES] = np.einsum("a,afnc->fnc", heard, held)
    keys = shift.keys
    if keys is not None:
        still, by_age = keys.astype(np.float32)
        keys = np.stack([still + (heard @ RAMP) * by_age, np.zeros_like(still)]).astype(np.float16)
    return replace(shift, held=held.astype(np.float16), keys=keys)


def heard_ages(lengths: Reals) -> Floats:
    """How much of the sound of notes of some lengths each of `AGES` counts for, [AGES], together 1."""
    ages = np.arange(0, float(np.max(lengths)), _AGE_STEP)
    sounding = (np.asarray(lengths)[:, None] > ages).sum(axis=0)
    heard: Floats = sounding @ knot_shares(ages, AGES) / sounding.sum()
    return heard


def program_lasts(bank: Bank, program: int) -> bool:
    """Whether notes of a program 0..127 stay about as loud as they are while they are held, as the bank was taught."""
    if bank.courses is None:
        return False
    courses = [bank.courses.at(program, pitch) for pitch in _PITCHES]
    at = KNOT_SECONDS.tolist().index(5.0)
    falls = [float(course[at, :_LOWEST].min()) for course in courses if course is not None]
    return bool(falls) and float(np.median(falls)) > -_MOST_FALL
