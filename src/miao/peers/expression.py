"""How a note is played, as MIDI-DDSP sees it: six controls and the deviation of f0, measured from audio tokens."""

import numpy as np

from miao.arrays import AnyArray, Doubles, Floats, Reals
from miao.bank import tokens as tk
from miao.peers.ddsp import HOP_SECONDS

CONTROLS = ("volume", "fluctuation", "peak", "vibrato", "brightness", "attack_noise")
_FLOOR_DB = -100.0


def expression_controls(tokens: tk.NoteTokens) -> Floats:
    """The six controls of a measured note, from where it starts to where it is let go, scaled to 0..1.

    volume: mean level, -80..0 dB. fluctuation: its standard deviation, 24 dB is 1. peak: where it is loudest, as a
    share of the duration. vibrato: the strongest wave of the pitch if it is one of 3 to 9 Hz, 0.2 semitones is 1;
    none in notes under 0.2 s. brightness: mean number of a harmonic, weighted by amplitude, 12 is 1. attack_noise:
    mean level of the noise in the first 40 ms, -100..-20 dB.

    Shape: [6], as in CONTROLS.
    """
    seconds = max(tokens.hold_seconds, 4 * HOP_SECONDS)
    levels, times = _resampled(tokens.held, tk.held_times(len(tokens.held)), seconds)
    amplitude = tk.level_to_amplitude(levels[:, : tk.N_PARTIALS])
    harmonics = tk.level_to_amplitude(levels[:, : tk.N_PARTIALS] @ tk.HARMONIC_SPREAD[:, :60])
    noise = _decibels(tk.level_to_amplitude(levels[:, tk.N_PARTIALS : tk.PITCH_CELL]))
    volume = _decibels(amplitude)
    cents = tk.level_to_cents(levels[:, tk.PITCH_CELL])
    total = harmonics.sum(axis=1)
    is_heard = total > 1e-6
    centroid = (harmonics @ np.arange(1, 61))[is_heard] / total[is_heard]
    controls: Floats = np.clip(
        [
            volume.mean() / 80 + 1,
            volume.std() / 24,
            volume.argmax() / len(times),
            _vibrato(cents) / 20 if seconds > 0.2 else 0,
            centroid.mean() / 12 if is_heard.any() else 0,
            noise[times < 0.04].mean() / 80 + 1.25,
        ],
        0, 1,
    ).astype(np.float32)  # fmt: skip
    return controls


def _resampled(chunks: AnyArray, times: Doubles, seconds: float) -> tuple[Floats, Doubles]:
    """Tokens every 10 ms up to a moment, [n, C], and their times."""
    tokens, wanted = chunks.reshape(-1, tk.N_CELLS).astype(np.float32), np.arange(0, seconds, HOP_SECONDS)
    return tk.tokens_at(tokens, times, wanted), wanted


def _decibels(amplitudes: Reals) -> Reals:
    levels: Reals = 10 * np.log10(np.maximum((amplitudes**2).sum(axis=1), 10 ** (_FLOOR_DB / 10)))
    return levels


def _vibrato(cents: Reals) -> float:
    """Amplitude in cents of the strongest wave, 0 if it is not one of 3 to 9 Hz."""
    n = len(cents)
    window = np.minimum(1, 2 * (1 - np.abs(2 * (np.arange(n) + 0.5) / n - 1)))  # fades in and out over a quarter
    spectrum = np.abs(np.fft.rfft((cents - cents.mean()) * window, 8 * n)) * 2 / window.sum()
    best = int(spectrum.argmax())
    return float(spectrum[best]) if 3 <= best / (8 * n * HOP_SECONDS) <= 9 else 0.0


def measured_cents(tokens: tk.NoteTokens, ages: Reals) -> tuple[Floats, Floats]:
    """The deviation of f0 in cents at some seconds since the start of a note, and whether it is heard (0 or 1)."""
    is_held = ages < tokens.hold_seconds
    cents, weight = np.zeros(len(ages), np.float32), np.zeros(len(ages), np.float32)
    for some, chunks, times, since in (
        (is_held, tokens.held, tk.held_times(len(tokens.held)), ages),
        (~is_held, tokens.release, tk.release_times(len(tokens.release)), ages - tokens.hold_seconds),
    ):
        if not len(chunks) or not some.any():
            continue
        cells = chunks.reshape(-1, tk.N_CELLS)
        loudest = cells[:, : tk.N_PARTIALS].max(axis=1).astype(np.float32)
        cents[some] = np.interp(since[some], times, tk.level_to_cents(cells[:, tk.PITCH_CELL].astype(np.float32)))
        weight[some] = (np.interp(since[some], times, loudest, right=0) > 10) & (since[some] >= 0)
    return cents, weight
