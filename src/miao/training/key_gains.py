"""The loudness that a default voice is to have at each key and strength, and the gains that give it (`bank.key_gains`).

At velocity 100 keys are even, and as loud as the program's in the mean, before notes as songs have them are compared
(`training.balance`). How much
louder strokes grow is what the recordings say, from the softest to the loudest that was recorded, as far as their
levels were left as they were played: many sets of samples are as loud throughout. Softer and louder than that it is the
program's. Registers are as loud against each other, at each strength, as their notes were (`heard_db`): a flute's
highest notes are never soft, and its lowest never loud.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from miao.arrays import Doubles, Flags, Integers, Numbers, Reals
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.key_gains import VELOCITIES, KeyGains
from miao.bank.learnt_voice import LearntVoice
from miao.bank.voices import N_PITCHES
from miao.datasets.notes import PITCHES
from miao.datasets.samples import Recording
from miao.sound.loudness import energy_db
from miao.training.evenness import first_second_db

AS_LOUD = 100  # the velocity at which keys are as loud as the program's
LEAST_RANGE_DB = 3.0  # from the softest to the loudest: recordings that differ by less have been levelled
_LEAST_NOTES = 5  # of a strength that is heard
_SMOOTH_SEMITONES = 4.0
_SLOPES = 0.5, 1.5  # of a recorded rise, in units of the program's
_MOST_STEP_DB = 0.7  # from key to key
_HEARD_SEMITONES, _MOST_HEARD_DB, _MOST_HEARD_STEP_DB = 3.5, 9.0, 0.8
_LEAST_RISE_DB = 0.02  # a unit of velocity
_MOST_TRIM_DB = 80.0
_PASSES = 3  # cells that are near silence move by less than they are told


def recorded_dynamics(recordings: Sequence[Recording]) -> tuple[Integers, Doubles] | None:
    """The velocities that were recorded and how loud each is against the others, dB, rising; None if all are as loud.

    Medians over the pitches, of which each has a level of its own, so that single notes that stick out do not count.
    """
    level = np.array([energy_db(r.sound) for r in recordings])
    pitch, velocity = (np.array([getattr(r, name) for r in recordings]) for name in ("pitch", "velocity"))
    strengths, counts = np.unique(velocity, return_counts=True)
    strengths = strengths[counts >= _LEAST_NOTES]
    if len(strengths) < 2:
        return None
    rise, own = np.zeros(len(strengths)), np.zeros(len(level))
    layer = np.abs(velocity[:, None] - strengths).argmin(axis=1)
    for _ in range(10):  # medians in turn
        for p in np.unique(pitch):
            own[pitch == p] = np.median((level - rise[layer])[pitch == p])
        rise = np.array([np.median((level - own)[velocity == v]) for v in strengths])
    rise = rising(rise, counts[counts >= _LEAST_NOTES])
    return (strengths, rise) if np.ptp(rise) >= LEAST_RANGE_DB else None


def rising(values: Numbers, weights: Numbers) -> Doubles:
    """The numbers nearest to some that never fall: neighbours that do are one, at their mean."""
    blocks: list[list[float]] = []  # mean, weight, count
    for value, weight in zip(values, weights, strict=True):
        blocks.append([float(value), float(weight), 1])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (a, m, i), (b, n, j) = blocks[-2:]
            blocks[-2:] = [[(a * m + b * n) / (m + n), m + n, i + j]]
    return np.concatenate([np.full(int(count), mean) for mean, _, count in blocks])


def smooth(values: Reals, semitones: float) -> Doubles:
    """Values by key, each the mean of its neighbours, weighted by a Gaussian."""
    distance = np.arange(len(values))[:, None] - np.arange(len(values))[None, :]
    near = np.exp(-0.5 * np.square(distance / semitones))
    smoothed: Doubles = near @ np.asarray(values, np.float64) / near.sum(axis=1)
    return smoothed


def wanted_db(taught: Reals, middle: int, recorded: tuple[Integers, Doubles] | None) -> Doubles:
    """The loudness that keys are to have at VELOCITIES, [velocities, keys], from the program's; even from the key
    ``middle`` on, up and down."""
    at = VELOCITIES.tolist().index(AS_LOUD)
    steps = np.diff(smooth(taught[at], _SMOOTH_SEMITONES)).clip(-_MOST_STEP_DB, _MOST_STEP_DB)
    line = np.concatenate([[0.0], np.cumsum(steps)])
    line += np.median((taught[at] - line)[max(middle - 12, 0) : middle + 13])
    rises = np.maximum(np.diff(np.median(taught, axis=1)), _LEAST_RISE_DB * np.diff(VELOCITIES))
    if recorded is not None:
        strengths, levels = recorded
        inside = (VELOCITIES[1:] > strengths[0]) & (VELOCITIES[:-1] < strengths[-1])
        heard = np.clip(np.diff(np.interp(VELOCITIES, strengths, levels)), _SLOPES[0] * rises, _SLOPES[1] * rises)
        rises = np.where(inside, heard, rises)
    rise = np.concatenate([[0.0], np.cumsum(rises)])
    wanted: Doubles = line + (rise - rise[at])[:, None]
    return wanted


def heard_db(wanted: Doubles, heard: Doubles, inside: Flags, *, is_levelled: bool) -> Doubles:
    """What keys are to have if registers are to be as loud against each other as was heard, [velocities, keys].

    ``heard`` is how loud keys are at VELOCITIES as notes were recorded, of which those ``inside`` were; of levelled
    recordings strokes grow as ``wanted``. Within 9 dB, smooth over keys, and never softer where they are struck harder.
    """
    known, at = np.flatnonzero(inside), VELOCITIES.tolist().index(AS_LOUD)
    more = (heard - wanted)[:, known]
    more -= np.median(more, axis=1, keepdims=True) if is_levelled else np.median(more[at])
    more = np.stack([smooth(row, _HEARD_SEMITONES) for row in more.clip(-_MOST_HEARD_DB, _MOST_HEARD_DB)])
    more -= np.median(more[at])
    every = np.arange(wanted.shape[1])
    found = wanted + np.stack([np.interp(every, known, row) for row in more])
    steps = np.diff(found, axis=1).clip(-_MOST_HEARD_STEP_DB, _MOST_HEARD_STEP_DB)
    line = np.pad(np.cumsum(steps, axis=1), ((0, 0), (1, 0)))
    line += np.median((found - line)[:, known], axis=1, keepdims=True)
    least = _LEAST_RISE_DB * VELOCITIES
    ones = np.ones(len(least))
    return np.stack([rising(column - least, ones) + least for column in line.T], axis=1)


def even_voice(
    bank: Bank, voice: LearntVoice, program: int, recorded: tuple[Integers, Doubles] | None,
    heard: Doubles | None = None,
) -> LearntVoice:  # fmt: skip
    """The voice as loud at each key and strength as it is to be, in place of a program; ``heard`` is how loud it was at
    VELOCITIES and PITCHES before (`played_db`), by its recordings."""
    keys, every = np.array(PITCHES), np.arange(N_PITCHES)
    lowest, highest = (int(voice.about[name]) for name in ("lowest", "highest"))
    middle, inside = (lowest + highest) // 2, (keys >= lowest) & (keys <= highest)
    taught = played_db(bank, program)
    wanted, at = wanted_db(taught, int(np.abs(keys - middle).argmin()), recorded), VELOCITIES.tolist().index(AS_LOUD)
    if heard is not None:
        wanted = heard_db(wanted, heard, inside, is_levelled=recorded is None)
    wanted -= np.median((wanted - taught)[at, inside])
    trims, gains = np.zeros(len(keys)), np.zeros((len(VELOCITIES), len(keys)))
    for _ in range(_PASSES):
        table = replace(voice.table, trim_db=np.interp(every, keys, trims)[None].astype(np.float32))
        by_key = np.stack([np.interp(every, keys, row) for row in gains / tk.LEVEL_STEP_DB], axis=1)
        voice = replace(voice, table=table, gains=KeyGains(by_key.astype(np.float16)))
        missing = wanted - played_db(bank.with_voices([voice]), len(bank.table.kind))
        trims = np.clip(trims + missing[at], -_MOST_TRIM_DB, _MOST_TRIM_DB)
        gains = np.clip(gains + missing - missing[at], -_MOST_TRIM_DB, _MOST_TRIM_DB)
    return voice


def played_db(bank: Bank, voice: int) -> Doubles:
    """How loud a voice is at VELOCITIES and PITCHES, dB."""
    return np.stack([first_second_db(bank, voice, np.array(PITCHES), float(v)) for v in VELOCITIES])
