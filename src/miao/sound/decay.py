"""How a sound dies away in a room: reverberation time and energy by octave, of an impulse response or a clap.

Reverberation time T60 is the time to fall by 60 dB, by Schroeder's backward integral: the energy still to come, in dB,
is followed by a straight line from 5 dB below its top over 30 dB, or over 20 or 15 where noise leaves no more; with
less it is not known. Noise is taken off as Lundeby and others do (1995): its level is that of what follows the decay,
the integral ends where decay and noise cross, and what lies beyond is added as a line has it. Bands are Gaussian over
the logarithm of frequency, half an octave wide (-3 dB), without phase.
"""

from dataclasses import dataclass

import numpy as np

from miao.arrays import Doubles, Reals
from miao.errors import MiaoError
from miao.sound.room import BAND_HZ

DIRECT_SECONDS = 0.0025  # after the loudest moment the direct sound is over
_FIT_TOP_DB = -5.0
_FIT_RANGES_DB = (30.0, 20.0, 15.0)
_SAFE_DB = 6.0  # by which a line must end above what the noise is wrong by
_ABOVE_NOISE_DB = 8.0
_ROUNDS = 6
_LN60 = 6 * np.log(10)


@dataclass(frozen=True)
class OctaveDecay:
    """How one octave dies away."""

    hz: float
    t60_seconds: float  # nan where it is not to be heard
    energy_db: float  # of all that comes, noise taken off
    range_db: float  # over which the decay was followed; 0 where it could not be


def onset_of(samples: Reals, sample_rate: int, where: str) -> int:
    """The sample at which the direct sound arrives, a millisecond before the first peak within 6 dB of the highest.

    Raises: MiaoError if all is silent.
    """
    level = np.abs(samples).max(axis=0)
    if not len(level) or level.max() < 1e-5:
        raise MiaoError(f"{where}: silent")
    first = int(np.argmax(level > 0.5 * level.max()))
    return max(first - sample_rate // 1000, 0)


def octave_band(samples: Reals, sample_rate: int, hz: float) -> Doubles:
    """A sound's half octave around a frequency, [channels, S]; the ends are padded with silence."""
    n = samples.shape[-1] + int(4 * sample_rate / hz)
    step = 1 << max(n.bit_length() - 4, 0)
    n = -(-n // step) * step  # a power of two times 8 to 16: transforms of large primes take many times longer
    octaves = np.log2(np.maximum(np.fft.rfftfreq(n, 1 / sample_rate), 1e-3) / hz)
    return np.fft.irfft(np.fft.rfft(samples, n) * np.exp(-8 * octaves**2), n)[..., : samples.shape[-1]]


def measure_octaves(samples: Reals, sample_rate: int) -> list[OctaveDecay]:
    """The decay of each octave from 63 Hz to 16 kHz of a sound that begins with its loudest moment, [channels, S]."""
    return [measure_octave(samples, sample_rate, float(hz)) for hz in BAND_HZ]


def measure_octave(samples: Reals, sample_rate: int, hz: float) -> OctaveDecay:
    """The decay around one frequency; not to be heard above 0.9 of the bandwidth."""
    if hz * 1.25 > sample_rate / 2:
        return OctaveDecay(hz, float("nan"), -np.inf, 0.0)
    power = np.square(octave_band(samples, sample_rate, hz)).sum(axis=0)
    width = max(round(sample_rate * max(0.004, 0.5 / hz)), 1)  # frames as long as the band resolves
    n_frames = len(power) // width
    if n_frames < 12:
        return OctaveDecay(hz, float("nan"), -np.inf, 0.0)
    frames = np.maximum(power[: n_frames * width].reshape(n_frames, width).mean(axis=1), 1e-25)
    seconds = width / sample_rate
    noise, end = _noise_and_end(frames)
    above = frames[:end] - noise
    last = max(float(above[end - max(end // 10, 3) :].mean()), 0.0)
    rough = _rough_t60(above, seconds)
    beyond = last * (rough / _LN60) / seconds if np.isfinite(rough) else 0.0
    to_come = np.maximum(np.cumsum(above[::-1])[::-1] + beyond, 1e-30)
    total_db = float(10 * np.log10(to_come[0] * seconds))
    level = 10 * np.log10(to_come / to_come[0])
    # an error of the noise of half a decibel, added up to where it is crossed
    wrong_db = 10 * np.log10(max(0.1 * noise * end, 1e-30) / to_come[0])
    for span in _FIT_RANGES_DB:
        bottom = _FIT_TOP_DB - span
        inside = np.flatnonzero((level <= _FIT_TOP_DB) & (level >= bottom))
        if level.min() <= bottom and bottom > wrong_db + _SAFE_DB and len(inside) >= 4:
            slope = np.polyfit(inside * seconds, level[inside], 1)[0]
            return OctaveDecay(hz, float(-60 / slope), total_db, span)
    return OctaveDecay(hz, float("nan"), total_db, 0.0)


def _noise_and_end(frames: Doubles) -> tuple[float, int]:
    """The power of the noise that a decay runs into, and the frame where they cross; 0 and all frames where the
    recording ends before."""
    n = len(frames)
    noise = float(frames[int(0.9 * n) :].mean())
    cross = float(n)
    for _ in range(_ROUNDS):
        level = 10 * np.log10(frames / max(noise, 1e-30))
        top = int(np.argmax(level))
        lower = np.flatnonzero(level[top:] < _ABOVE_NOISE_DB)
        stop = top + (int(lower[0]) if len(lower) else n - top)
        if stop - top < 4:
            return noise, max(stop, 4)
        slope, start = np.polyfit(np.arange(top, stop), level[top:stop], 1)
        if slope >= 0:
            return noise, n
        cross = -start / slope
        if cross > 0.93 * n:
            return 0.0, n  # it is cut off before
        behind = cross + 10 / -slope  # 10 dB further down the decay adds nothing to speak of
        noise = float(frames[min(int(behind), int(0.9 * n)) :].mean())
    return noise, int(np.clip(cross, 4, n))


def _rough_t60(above: Doubles, seconds: float) -> float:
    """T60 by a line through the levels of the later two thirds of a decay; inf if they do not fall."""
    level = 10 * np.log10(np.maximum(above, 1e-30))
    later = level[int(np.argmax(level)) :]
    later = later[len(later) // 3 :]
    good = np.flatnonzero(later > later.max() - 60)
    if len(good) < 3:
        return float("inf")
    slope = np.polyfit(good * seconds, later[good], 1)[0]
    return float(-60 / slope) if slope < 0 else float("inf")
