"""What every metric must rank behind music: noise as loud as the reference, and sines in place of instruments."""

import numpy as np

from miao.arrays import Floats, Reals
from miao.bank.voices import pitch_hz
from miao.datasets.soundfont import SAMPLE_RATE
from miao.midi.score import Track

_ENVELOPE_SECONDS = 0.02  # of the noise
_SINE_RAMP_SECONDS = 0.005
_DRUM_SECONDS = 0.1


def noise_like(sound: Reals, random: np.random.Generator) -> Floats:
    """White noise with the level that a sound [channels, S] has from moment to moment."""
    size = round(_ENVELOPE_SECONDS * SAMPLE_RATE)
    power = np.square(sound, dtype=np.float64)
    frames = np.pad(power, ((0, 0), (0, -power.shape[1] % size))).reshape(len(sound), -1, size).mean(axis=2)
    at = (np.arange(frames.shape[1]) + 0.5) * size
    level = np.stack([np.interp(np.arange(sound.shape[1]), at, np.sqrt(row)) for row in frames])
    return (level * random.standard_normal(sound.shape)).astype(np.float32)


def sines(track: Track, seconds: float) -> Floats:
    """A sine for each note of a track, bent as it is, from its start to its end; for a drum, a tenth of a second of it.

    Shape: [2, S] at 44.1 kHz.
    """
    sound = np.zeros(round(seconds * SAMPLE_RATE), np.float32)
    bend = track.controls.get("bend")
    for note in track.notes:
        length = _DRUM_SECONDS if note["is_drum"] else float(note["damp"] - note["start"])
        first = round(note["start"] * SAMPLE_RATE)
        n = min(round(max(length, 2 * _SINE_RAMP_SECONDS) * SAMPLE_RATE), len(sound) - first)
        if n <= 0:
            continue
        t = np.arange(n) / SAMPLE_RATE
        ramp = np.clip(np.minimum(t, t[-1] - t) / _SINE_RAMP_SECONDS, 0, 1)
        turns = float(pitch_hz(int(note["pitch"]))) * t
        if bend is not None and not note["is_drum"]:
            turns = np.cumsum(np.gradient(turns) * 2 ** (bend.at(note["start"] + t) / 12))
        sine = np.sin(2 * np.pi * turns)
        sound[first : first + n] += 0.1 * (note["velocity"] / 127) ** 2 * ramp * sine
    return np.stack([sound, sound])
