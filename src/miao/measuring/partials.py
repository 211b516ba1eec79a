"""Finding partials in the sound of a note: harmonics with their tuning and stretch, or free modes."""

import numpy as np

from miao.arrays import Doubles, Floats
from miao.bank import tokens as tk
from miao.measuring.note import pitch_track

_EPSILON = 1e-20
_CLICK_SECONDS = 0.01  # no sound is looked at as if it were shorter
_SAME_MODE_CENTS = 40.0  # how far a mode may lie from where the other notes of its voice have it


def spectral_peaks(samples: Floats, sample_rate: int, seconds: float) -> tuple[Doubles, Doubles, Doubles]:
    """Spectral peaks of the first ``seconds`` of a sound (after its onset): frequencies (Hz), power, and power over
    the median of the neighbourhood. The window falls from the onset on, so that short sounds count in full.

    Shapes: [channels, S] -> three arrays [n peaks].
    """
    loud = np.flatnonzero(np.abs(samples).max(axis=0) > 0.02 * np.abs(samples).max())
    n = int(seconds * sample_rate)
    piece = samples[:, loud[0] : loud[0] + n] if len(loud) else samples[:, :n]
    piece = np.pad(piece, ((0, 0), (0, n - piece.shape[1])))
    window = np.hanning(2 * n)[n:] if seconds < 0.3 else np.hanning(n)
    size = 1 << int(np.ceil(np.log2(2 * n)))
    power = (np.abs(np.fft.rfft(piece * window, size, axis=1)) ** 2).sum(axis=0) / window.sum() ** 2 + _EPSILON
    level = 10 * np.log10(power)
    at = np.flatnonzero((level[1:-1] > level[:-2]) & (level[1:-1] >= level[2:])) + 1
    a, b, c = level[at - 1], level[at], level[at + 1]
    shift = 0.5 * (a - c) / np.minimum(a - 2 * b + c, -1e-9)
    bin_hz = sample_rate / size
    block = max(int(max(150, 8 / seconds) / bin_hz), 8)
    edges = np.arange(0, len(level), block)
    whole = np.lib.stride_tricks.sliding_window_view(level, 2 * block)[::block]  # one by one they take most of the time
    rest = [np.median(level[e : e + 2 * block]) for e in edges[len(whole) :]]
    medians = np.concatenate([np.median(whole, axis=1), rest])
    return (at + shift) * bin_hz, power[at], b - np.interp(at, edges + block / 2, medians)


def _loud_seconds(samples: Floats, sample_rate: int) -> float:
    """How long a sound is within 34 dB of its peak; never less than a click."""
    loud = np.flatnonzero(np.abs(samples).max(axis=0) > 0.02 * np.abs(samples).max(initial=0.0))
    return max((loud[-1] - loud[0]) / sample_rate, _CLICK_SECONDS) if len(loud) else _CLICK_SECONDS


def fit_harmonics(samples: Floats, sample_rate: int, note_hz: float, base: float) -> tuple[float, float]:
    """Tuning (cents) and stretch B of a harmonic note.

    The tuning is the mean of the note's pitch track; the stretch is fitted to the peaks near where harmonics are
    expected, walking up from the lowest, and is kept only where it explains them (struck and plucked strings).
    """
    width = int(sample_rate * np.clip(3 / (note_hz * base), 0.02, 0.1))
    grid = note_hz * base * np.arange(1, 11)
    tune = 0.0
    for _ in range(2):
        cents, weights = pitch_track(samples, sample_rate, grid * 2 ** (tune / 1200), width, 1.0)
        tune += float(np.average(cents, weights=weights + _EPSILON))
    hz, power, _ = spectral_peaks(samples, sample_rate, 0.8)
    top, stretch = power.max(), 0.0
    ks, cents_of, weights_of = [], [], []
    for k in range(1, 41):
        expected = note_hz * base * k * 2 ** (tune / 1200) * np.sqrt(1 + stretch * k**2)
        near = np.flatnonzero(np.abs(hz - expected) < max(min(0.3 * note_hz * base, 0.01 * expected), 2.0))
        if not len(near) or power[near].max() < top * 1e-5:
            continue
        best = near[np.argmax(power[near])]
        ks.append(k)
        cents_of.append(1200 * np.log2(hz[best] / (note_hz * base * k)))
        weights_of.append(np.sqrt(power[best] / top) + 0.03)
        if len(ks) >= 4:
            x = np.stack([np.ones(len(ks)), 600 / np.log(2) * np.square(ks)], axis=1)
            y, w = np.asarray(cents_of), np.asarray(weights_of)
            (start, slope), *_ = np.linalg.lstsq(x * w[:, None], y * w, rcond=None)
            stretched = np.average(np.abs(y - x @ (start, slope)), weights=w)
            straight = np.average(np.abs(y - np.average(y, weights=w)), weights=w)
            limit = 1.5 if len(ks) < 10 else 4.0
            is_string = len(ks) >= 6 and 5e-6 < slope < 2e-3 and stretched < min(limit, 0.5 * straight)
            stretch = float(slope) if is_string else 0.0
    if stretch:
        tune = float(start)
    return float(np.clip(tune, -100, 100)), stretch


def find_modes(samples: Floats, sample_rate: int, note_hz: float, prominence_db: float = 9.0) -> Doubles:
    """Ratios of the strongest free modes, lowest first, zero where there are fewer than cells. Shape [N_PARTIALS]."""
    chosen: list[tuple[float, float]] = []
    length = _loud_seconds(samples, sample_rate)
    is_click = length < 0.06  # its spectrum is smooth: modes are where it can be sampled, not where something rings
    for seconds in (length,) if is_click else (0.8, 0.2):
        hz, power, prominence = spectral_peaks(samples, sample_rate, seconds)
        good = (hz > 25) & (hz < 18_000) & (power > power.max() * 1e-6)
        good &= is_click | (prominence > prominence_db)
        for i in np.argsort(-power * good)[: good.sum()]:
            gap = max(20.0, (1.0 if is_click else 4.0) / seconds, 0.008 * hz[i])
            if len(chosen) < tk.N_PARTIALS and all(abs(hz[i] - other) > gap for other, _ in chosen):
                chosen.append((hz[i], power[i]))
    ratios = np.zeros(tk.N_PARTIALS)
    ratios[: len(chosen)] = np.sort([hz for hz, _ in chosen]) / note_hz
    return ratios


def key_tracking(samples: Floats, higher: Floats, sample_rate: int, semitones: float) -> float:
    """How far the spectrum moves between two notes of a voice, as a share of how far their keys lie apart.

    1 for nearly every instrument; 0 for sounds that are the same on every key. 1 too where it cannot be told.
    """
    grid = np.geomspace(60, 16_000, int(1200 / 5 * np.log2(16_000 / 60)))  # 5 cents
    images = []
    for sound in (samples, higher):
        n = int(0.8 * sample_rate)
        piece = np.pad(sound[:, :n], ((0, 0), (0, max(n - sound.shape[1], 0)))) * np.hanning(n)
        power = (np.abs(np.fft.rfft(piece, axis=1)) ** 2).sum(axis=0)
        level = 10 * np.log10(np.interp(grid, np.arange(len(power)) * sample_rate / n, power) + _EPSILON)
        level = np.maximum(level - level.max(), -60)
        images.append(level - np.convolve(np.pad(level, 240, mode="edge"), np.ones(481) / 481, mode="valid"))
    low, high = images
    steps = np.arange(-10, int(semitones * 20 * 1.1))
    likeness = [np.corrcoef(low[: len(low) - s] if s >= 0 else low[-s:], high[s:] if s >= 0 else high[:s])[0, 1]
                for s in steps]  # fmt: skip
    best = int(np.argmax(likeness))
    expected = likeness[round(semitones * 20) + 10]
    return float(steps[best] / (20 * semitones)) if likeness[best] > max(0.5, expected + 0.1) else 1.0


def common_modes(found: list[Doubles]) -> Doubles:
    """One list of modes for a voice from the modes of notes all over its range: where most of them agree.

    ``found`` holds a `find_modes` result a note. The list, lowest first, gives each cell its meaning. [N_PARTIALS]
    """
    ratios = np.concatenate([modes[modes > 0] for modes in found] or [np.zeros(0)])
    cents = 1200 * np.log2(np.maximum(ratios, 1e-9))
    chosen: list[float] = []
    while len(chosen) < tk.N_PARTIALS and len(cents):
        votes = np.exp(-0.5 * ((cents[:, None] - cents[None, :]) / 12) ** 2).sum(axis=1)
        centre = cents[votes.argmax()]
        near = np.abs(cents - centre) < _SAME_MODE_CENTS
        chosen.append(float(np.median(cents[near])))
        cents = cents[~near]
    common = np.zeros(tk.N_PARTIALS)
    common[: len(chosen)] = 2 ** (np.sort(chosen) / 1200)
    return common


def matched_modes(samples: Floats, sample_rate: int, note_hz: float, common: Doubles) -> Doubles:
    """Free modes of one note, each in the cell of the voice's common mode that it is nearest to. [N_PARTIALS]

    A mode that the common list lacks takes the nearest cell that is left; a common mode that the note lacks is unused.
    """
    own = find_modes(samples, sample_rate, note_hz)
    hz, power, _ = spectral_peaks(samples, sample_rate, 0.8)
    loudness = [power[np.abs(hz - ratio * note_hz).argmin()] for ratio in own]
    matched = np.zeros_like(own)
    rest = []
    with np.errstate(divide="ignore"):
        away = np.abs(1200 * np.log2(own[:, None] / np.maximum(common[None, :], 1e-9)))  # [own, common]
    for i in np.argsort(loudness)[::-1]:
        if own[i] == 0:
            continue
        cell = int(np.where(matched == 0, away[i], np.inf).argmin())
        if away[i, cell] < _SAME_MODE_CENTS:
            matched[cell] = own[i]
        else:
            rest.append(i)
    for i in rest:
        matched[np.where(matched == 0, away[i], np.inf).argmin()] = own[i]
    return matched
