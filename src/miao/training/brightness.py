"""Strokes of a voice that are brighter from strength to strength as its recorded notes are.

A surface is a mean over notes around a key and a strength (`training.surface`), and what its sound lacks is asked key
by key (`training.by_sound`), so that two strengths that lie close sound nearly alike, or in the wrong order. How bright
notes are at each strength, against the others at the same pitches, is what many notes tell. Where a step is lost the
surface is tilted at all keys alike, strength by strength, by what is missing.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from miao.arrays import Doubles, Integers, Reals
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.level_shift import shifted
from miao.datasets.samples import Recording
from miao.datasets.voice_notes import VoiceNotes
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.by_sound import played_mels
from miao.training.key_levels import cell_shifts

SECONDS = 1.0  # from a note's beginning, in which it is judged
PASSES = 2  # of playing
_LEAST_NOTES = 3  # of a strength
_LEAST_STRENGTHS = 2
_LEAST_STEP = 0.2  # bands, of notes' brightness between two strengths: less is chance
_LOST = 0.25  # of it that is played
_MOST_TILT_DB = 0.5  # a band
_SAY_NO = 2.0  # notes that say nothing is missing


def brightness(mel: Reals) -> tuple[float, float]:
    """The centre of a log-mel spectrogram's bands in the first second, weighted by amplitude, and how much further it
    lies if each band gets a dB more than the one below it. Both in bands."""
    amplitude = (10 ** (mel[: round(SECONDS * SAMPLE_RATE / spectrum.HOP_SAMPLES)] / 20)).sum(axis=0)
    band, share = np.arange(len(amplitude)), amplitude / amplitude.sum()
    centre = float(share @ band)
    return centre, float(share @ np.square(band - centre)) * np.log(10) / 20


def as_bright(bank: Bank, voice: LearntVoice, data: VoiceNotes, recordings: Sequence[Recording]) -> LearntVoice:
    """The voice, which a surface leads, with its notes' steps of brightness from strength to strength, if it lost one.

    ``data`` are the notes as measured; strengths of fewer than three notes are what those beside them are.
    """
    assert voice.surface is not None
    pitch, velocity = (np.array([getattr(r, name) for r in recordings]) for name in ("pitch", "velocity"))
    strengths, counts = np.unique(velocity, return_counts=True)
    is_known = counts >= _LEAST_NOTES
    if is_known.sum() < _LEAST_STRENGTHS:
        return voice
    which = np.flatnonzero(np.isin(velocity, strengths[is_known]))
    notes, sure = (pitch[which], velocity[which]), counts[is_known] / (counts[is_known] + _SAY_NO)
    wanted = np.array([brightness(recordings[i].mel)[0] for i in which.tolist()])
    missing, before = np.zeros(len(which)), voice
    for n in range(PASSES):
        ours = played_mels(bank, voice, data, recordings, which)
        centre, further = np.array([brightness(mel) for mel in ours]).T
        if not n and not has_lost_a_step(steps_by_strength(wanted, *notes), steps_by_strength(centre, *notes)):
            return voice
        missing += (wanted - centre) / further  # dB a band
        steps = steps_by_strength(np.clip(missing, -_MOST_TILT_DB, _MOST_TILT_DB), *notes)
        voice = _tilted(before, strengths[is_known], steps * sure)
    return voice


def has_lost_a_step(recorded: Reals, played: Reals) -> bool:
    """Whether of two strengths, one next to the other in brightness, what is played tells less than a quarter of how
    far apart they were recorded. Shape: [strengths] each, bands."""
    order = np.argsort(recorded)
    apart, left = np.diff(recorded[order]), np.diff(played[order])
    return bool(((apart >= _LEAST_STEP) & (left < _LOST * apart)).any())


def steps_by_strength(values: Reals, pitch: Integers, velocity: Integers) -> Doubles:
    """Numbers of notes at each strength against the others: means over pitches, of which each has one of its own and
    not all strengths. Shape: [n, ...] -> [strengths, ...]."""
    values = np.asarray(values, np.float64)
    strengths, own, rise = np.unique(velocity), np.zeros_like(values), np.zeros_like(values)
    for _ in range(10):
        for p in np.unique(pitch):
            own[pitch == p] = (values - rise)[pitch == p].mean(axis=0)
        for v in strengths:
            rise[velocity == v] = (values - own)[velocity == v].mean(axis=0)
    return np.array([rise[velocity == v][0] for v in strengths])


def _tilted(voice: LearntVoice, strengths: Integers, tilt: Doubles) -> LearntVoice:
    """The voice with each band by ``tilt`` dB louder than the one below, strength by strength, its middle as it was."""
    surface = voice.surface
    assert surface is not None
    by_strength = np.interp(127 * surface.strengths.astype(np.float64), strengths, tilt)
    bands = by_strength[:, None] * (np.arange(spectrum.N_MELS) - spectrum.N_MELS // 2)  # [strengths, bands] dB
    levels = surface.spectrum.astype(np.float32)
    for n, own in enumerate(levels):
        shifted(own, cell_shifts(voice.table, 0, int(surface.lowest[0]) + n, bands))
    return replace(voice, surface=replace(surface, spectrum=levels.astype(np.float16)))
