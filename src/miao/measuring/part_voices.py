"""Voices of a recorded part: where the partials of its notes lie, found where other notes leave them alone.

Each note is looked at over up to 0.8 s; of its harmonics those count that no other sounding note has a harmonic near.
What all notes of one pitch say is taken together, and pitches lend each other what they lack: tuning varies slowly from
key to key, the stretch of strings even more so. Bars, bells and drums have free modes, taken from those of their notes
that stand most alone.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Integers, Reals, Records
from miao.bank import tokens as tk
from miao.bank.voices import (
    HARMONIC,
    MODES,
    N_PITCHES,
    N_PROGRAMS,
    N_VOICES,
    VoiceTable,
    balance_of,
    drum_key,
    is_drum_voice,
    pitch_hz,
)
from miao.errors import DataError
from miao.files import write_arrays
from miao.measuring.partials import find_modes, spectral_peaks
from miao.measuring.voice_fit import VoiceFit

STRUCK_STRINGS = {*range(8), 15, *range(24, 40), 45, 46, *range(104, 108)}  # programs whose strings stretch harmonics
BARS_AND_BELLS = {*range(8, 15), 47, 108, *range(112, 120)}  # programs with free modes
LOOK_SECONDS = 0.8
_SHORTEST_LOOK_SECONDS = 0.1
_TAIL_SECONDS = 0.3  # that a note is still heard after it is let go, where others ask who sounds
_MOST_NOTES = 12  # of one pitch that are looked at
_HIGHEST_HARMONIC = 40
_FAINT = 1e-5  # power of a peak below the loudest of its note that is not looked at
_SPREAD_SEMITONES = 4.0  # over which pitches lend each other their tuning
_WIDEST_CENTS = 45.0


Fits = dict[tuple[int, int], VoiceFit]
"""Fits by voice and pitch."""


def kind_of(voice: int) -> int:
    """The kind of partials that a voice is taken to have in recordings."""
    return MODES if is_drum_voice(voice) or voice in BARS_AND_BELLS else HARMONIC


def nominal_hz(voice: int, pitch: int) -> float:
    """The frequency that a note's partials are ratios of; of a drum, its key's."""
    return float(pitch_hz(drum_key(voice) if is_drum_voice(voice) else pitch))


def fit_voices(samples: Floats, sample_rate: int, notes: Records, tuning_cents: float = 0.0) -> Fits:
    """Fits of all voices and pitches of a part. ``notes`` has fields start, damp (seconds), pitch and voice.

    ``tuning_cents`` is where the recording is thought to be tuned, to set out from. Shape: samples [channels, S].
    """
    fits: Fits = {}
    for voice in np.unique(notes["voice"]).tolist():
        own = np.flatnonzero(notes["voice"] == voice)
        if kind_of(voice) == MODES:
            fits |= _mode_fits(samples, sample_rate, notes, own)
        else:
            fits |= _harmonic_fits(samples, sample_rate, notes, own, tuning_cents)
    return fits


def table_of(fits: Fits) -> VoiceTable:
    """The fits as a voice table; a pitch that has none takes its nearest neighbour's."""
    shape = (N_VOICES, N_PITCHES)
    voices = sorted({voice for voice, _ in fits if fits[voice, _].kind == MODES})
    table = VoiceTable(
        np.zeros(N_VOICES, np.int8), np.zeros(shape, np.float32), np.zeros(shape, np.float32),
        np.full(N_VOICES, -1, np.int16), np.zeros((max(len(voices), 1), N_PITCHES, tk.N_PARTIALS), np.float32),
        np.zeros((*shape, tk.N_CELLS - 1), np.int8), np.zeros(shape, np.uint8), np.zeros(N_VOICES, np.float32),
    )  # fmt: skip
    for voice in sorted({voice for voice, _ in fits}):
        pitches = np.array(sorted(p for v, p in fits if v == voice))
        for pitch in range(N_PITCHES):
            fit = fits[voice, int(pitches[np.abs(pitches - pitch).argmin()])]
            table.kind[voice] = fit.kind
            table.tune_cents[voice, pitch], table.stretch[voice, pitch] = fit.tune_cents, fit.stretch
            if fit.kind == MODES:
                table.mode_row[voice] = voices.index(voice)
                table.modes[voices.index(voice), pitch] = fit.modes
            if fit.balance is not None:
                table.balance[voice, pitch] = balance_of(fit.balance)
            table.is_wide[voice, pitch] = fit.is_wide
    return table


# harmonics


_Spectrum = tuple[Doubles, Doubles, float, Doubles, float]  # peaks: hz and power; seconds, others' pitches (Hz), reach


@dataclass(frozen=True)
class _Peaks:
    """Harmonics found in some notes of one pitch."""

    k: Integers
    cents: Doubles  # from k times the nominal frequency
    weights: Doubles
    notes: int


def _harmonic_fits(samples: Floats, sample_rate: int, notes: Records, own: Integers, tuning_cents: float) -> Fits:
    voice = int(notes["voice"][own[0]])
    pitches = np.unique(notes["pitch"][own])
    found: dict[int, list[_Spectrum]] = {int(p): _spectra(samples, sample_rate, notes, own[notes["pitch"][own] == p])
                                         for p in pitches}  # fmt: skip
    tune = np.full(len(pitches), float(tuning_cents))
    stretch = np.zeros(len(pitches))
    counts = np.zeros(len(pitches))
    for highest in (6, 14, _HIGHEST_HARMONIC):
        known = zip(pitches.tolist(), tune.tolist(), stretch.tolist(), strict=True)
        peaks = [_harmonics(found[p], p, t, b, highest) for p, t, b in known]
        counts = np.array([x.notes for x in peaks], float)
        if voice in STRUCK_STRINGS and highest > 6:
            stretch = _stretches(peaks, pitches)
        straight = [x.cents - 600 / np.log(2) * np.log1p(b * x.k**2.0) for x, b in zip(peaks, stretch, strict=True)]
        raw = np.array([_weighted_median(c, x.weights) for c, x in zip(straight, peaks, strict=True)])
        tune = _lent(raw, counts, pitches, float(tuning_cents))
    return {(voice, int(p)): VoiceFit(HARMONIC, float(t), float(b), np.zeros(tk.N_PARTIALS), int(n))
            for p, t, b, n in zip(pitches, tune, stretch, counts, strict=True)}  # fmt: skip


def _spectra(samples: Floats, sample_rate: int, notes: Records, own: Integers) -> list[_Spectrum]:
    """Spectral peaks of notes of one pitch, the longest first, and the harmonics of others sounding with each."""
    spectra = []
    lengths = np.minimum(notes["damp"][own] + 0.1 - notes["start"][own], LOOK_SECONDS)
    for n in own[np.argsort(-lengths, kind="stable")][:_MOST_NOTES]:
        start = float(notes["start"][n]) + 0.02
        end = float(min(notes["damp"][n] + 0.1, notes["start"][n] + LOOK_SECONDS))
        again = notes["start"][(notes["pitch"] == notes["pitch"][n]) & (notes["start"] > notes["start"][n])]
        end = min(end, float(again.min(initial=np.inf)))
        piece = samples[:, max(int(start * sample_rate), 0) : max(int(end * sample_rate), 0)]
        seconds = piece.shape[1] / sample_rate
        if seconds < _SHORTEST_LOOK_SECONDS or np.abs(piece).max(initial=0.0) < 1e-5:
            continue
        others = _sounding(notes, start, end, int(notes["pitch"][n]))
        hz, power, _ = spectral_peaks(piece, sample_rate, seconds)
        spectra.append((hz, power, seconds, np.asarray(pitch_hz(others)), 1.0 if seconds < 0.3 else 0.0))
    return spectra


def _sounding(notes: Records, start: float, end: float, pitch: int) -> NDArray[np.int16]:
    """Pitches of other notes that sound in a stretch of time, each once."""
    is_on = (notes["start"] < end) & (notes["damp"] + _TAIL_SECONDS > start) & (notes["voice"] < N_PROGRAMS)
    sounding = np.unique(notes["pitch"][is_on])
    others: NDArray[np.int16] = sounding[sounding != pitch]
    return others


def _harmonics(spectra: list[_Spectrum], pitch: int, tune: float, stretch: float, highest: int) -> _Peaks:
    """Peaks near where harmonics are expected, where no other note has one."""
    nominal = float(pitch_hz(pitch))
    k = np.arange(1, highest + 1)
    expected = nominal * k * 2 ** (tune / 1200) * np.sqrt(1 + stretch * k**2.0)
    ks: list[int] = []
    cents: list[float] = []
    weights: list[float] = []
    n_notes = 0
    for hz, power, seconds, others, is_falling in spectra:
        if not len(hz):
            continue
        reach = np.minimum(np.maximum(expected * 0.016, 2.0), 0.35 * nominal)
        apart = reach + (3.0 if is_falling else 2.0) / seconds
        is_free = np.ones(len(k), bool)
        for other in others:
            j = np.maximum(np.rint(expected / other), 1)
            is_free &= np.abs(expected - j * other) > np.minimum(apart, 0.45 * other) + 0.003 * expected
        before = len(ks)
        for i in np.flatnonzero(is_free & (expected < hz[-1])):
            first, last = np.searchsorted(hz, [expected[i] - reach[i], expected[i] + reach[i]])
            if first < last:
                best = first + int(np.argmax(power[first:last]))
                if power[best] > _FAINT * power.max():
                    ks.append(int(k[i]))
                    cents.append(1200 * np.log2(hz[best] / (nominal * k[i])))
                    weights.append((np.sqrt(power[best] / power.max()) + 0.02) * min(seconds, 0.5) * expected[i] ** 0.5)
        n_notes += len(ks) > before
    return _Peaks(np.array(ks, int), np.array(cents, float), np.array(weights, float), n_notes)


def _stretches(peaks: list[_Peaks], pitches: NDArray[np.int16]) -> Doubles:
    """Stretch B at each pitch: its logarithm is smooth over the keys; 0 where nothing is known nearby."""
    logs, weights = np.zeros(len(peaks)), np.zeros(len(peaks))
    for n, found in enumerate(peaks):
        if len(found.k) < 6 or found.k.max() < 5:
            continue
        x = np.stack([np.ones(len(found.k)), 600 / np.log(2) * found.k**2.0], axis=1)
        w = found.weights.copy()
        for _ in range(4):  # least absolute deviations by reweighting: a few peaks belong to something else
            (_, slope), *_ = np.linalg.lstsq(x * w[:, None], found.cents * w, rcond=None)
            away = np.abs(found.cents - x @ np.linalg.lstsq(x * w[:, None], found.cents * w, rcond=None)[0])
            w = found.weights / np.sqrt(1 + (away / 3) ** 2)
        if 2e-6 < slope < 5e-3:
            logs[n], weights[n] = np.log(slope), len(found.k)
    if not weights.any():
        return np.zeros(len(peaks))
    near = np.exp(-0.5 * ((pitches[:, None] - pitches[None]) / _SPREAD_SEMITONES) ** 2) * weights
    near += 1e-6 * weights
    middle = (near * logs).sum(axis=1) / near.sum(axis=1)
    own = weights / (weights + 10)
    away = np.abs(logs - middle) < 0.7
    stretch: Doubles = np.exp(np.where(away, own * logs + (1 - own) * middle, middle))
    return stretch


def _weighted_median(values: Doubles, weights: Doubles) -> float:
    if not len(values):
        return 0.0
    order = np.argsort(values)
    half = np.searchsorted(np.cumsum(weights[order]), 0.5 * weights.sum())
    return float(values[order][min(half, len(order) - 1)])


def _lent(values: Doubles, counts: Doubles, pitches: NDArray[np.int16], fallback: float) -> Doubles:
    """Each pitch's value drawn towards its neighbours', the more the fewer notes it has."""
    near = np.exp(-0.5 * ((pitches[:, None] - pitches[None]) / _SPREAD_SEMITONES) ** 2) * np.minimum(counts, 4)
    middle = ((near * values).sum(axis=1) + 0.1 * fallback) / (near.sum(axis=1) + 0.1)
    own = counts / (counts + 0.5)
    lent: Doubles = np.clip(own * values + (1 - own) * middle, fallback - _WIDEST_CENTS, fallback + _WIDEST_CENTS)
    return lent


# modes


def _mode_fits(samples: Floats, sample_rate: int, notes: Records, own: Integers) -> Fits:
    """Modes of a voice's pitches, each from the note of it that stands most alone."""
    voice = int(notes["voice"][own[0]])
    fits: Fits = {}
    for pitch in np.unique(notes["pitch"][own]).tolist():
        same = own[notes["pitch"][own] == pitch]
        n = same[int(np.argmax([_alone_seconds(notes, i) for i in same]))]
        start = float(notes["start"][n])
        end = start + max(min(_alone_seconds(notes, n), LOOK_SECONDS), 0.06)
        piece = samples[:, max(int(start * sample_rate), 0) : max(int(end * sample_rate), 0)]
        modes = np.zeros(tk.N_PARTIALS)
        if piece.shape[1] and np.abs(piece).max(initial=0.0) > 1e-5:
            modes = find_modes(piece, sample_rate, nominal_hz(voice, pitch))
        fits[voice, pitch] = VoiceFit(MODES, 0.0, 0.0, modes, len(same))
    return fits


def _alone_seconds(notes: Records, n: int) -> float:
    """How long a note sounds until the next one starts, less where others started shortly before."""
    start = notes["start"][n]
    later = notes["start"][notes["start"] > start + 0.005]
    earlier = notes["start"][(notes["start"] <= start + 0.005) & (np.arange(len(notes)) != n)]
    gap = float(start - earlier.max(initial=-np.inf))
    return float(min(later.min(initial=np.inf) - start, LOOK_SECONDS)) * min(max(gap, 0.01) / 0.3, 1.0)


def with_sides(fits: Fits, balances: dict[tuple[int, int], list[Reals]], is_wide: bool) -> Fits:
    """The fits with the mean stereo balance of each voice and pitch."""
    return {
        place: replace(fit, balance=np.mean(balances[place], axis=0) if place in balances else None, is_wide=is_wide)
        for place, fit in fits.items()
    }


# kept and put together


def save_fits(path: Path, fits: Fits) -> None:
    """Keep fits in an .npz file."""
    places = sorted(fits)
    rows = [fits[place] for place in places]
    columns = dict(
        place=np.array(places, np.int32).reshape(-1, 2), kind=[f.kind for f in rows],
        tune=[f.tune_cents for f in rows], stretch=[f.stretch for f in rows], n=[f.n_notes for f in rows],
        modes=np.array([f.modes for f in rows]), is_wide=[f.is_wide for f in rows],
        balance=np.array([np.full(tk.N_CELLS - 1, np.nan) if f.balance is None else f.balance
                          for f in rows]),
    )  # fmt: skip
    write_arrays(path, columns, DataError)


def load_fits(path: Path) -> Fits:
    """Fits of an .npz file."""
    with np.load(path) as file:
        columns = [file[name] for name in ("place", "kind", "tune", "stretch", "modes", "n", "balance", "is_wide")]
    return {
        (int(place[0]), int(place[1])): VoiceFit(int(kind), float(tune), float(stretch), modes, int(n),
                                            None if np.isnan(balance).any() else balance, bool(is_wide))
        for place, kind, tune, stretch, modes, n, balance, is_wide in zip(*columns, strict=True)
    }  # fmt: skip


def joined_fits(found: list[Fits]) -> Fits:
    """Fits of several parts as one: means by their notes; of modes, those from the most notes."""
    joined: Fits = {}
    for place in sorted({place for fits in found for place in fits}):
        rows = [fits[place] for fits in found if place in fits]
        weights = np.array([max(row.n_notes, 0.1) for row in rows])
        most = rows[int(weights.argmax())]
        sides = [(row.balance, w) for row, w in zip(rows, weights.tolist(), strict=True) if row.balance is not None]
        balance = sum(b * w for b, w in sides) / sum(w for _, w in sides) if sides else None
        joined[place] = VoiceFit(most.kind, float(np.average([row.tune_cents for row in rows], weights=weights)),
                            float(np.average([row.stretch for row in rows], weights=weights)), most.modes,
                            sum(row.n_notes for row in rows), balance, any(row.is_wide for row in rows))  # fmt: skip
    return joined
