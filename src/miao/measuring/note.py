"""Audio and its note in, audio tokens out: the tokenizer's encoder, a measurement without anything learnt.

Partials are measured by least squares on short frames (all partials of a frame at once, so that neighbours do not leak
into each other), the noise is what is left of each frame. Where the pitch moves, the sound is first laid out on a
time axis on which it stands still. All of it is for one note sounding alone.
"""

from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats, Numbers, Reals
from miao.bank import tokens as tk
from miao.bank.partials import Partials

SILENCE = 1e-6  # amplitude below which nothing is measured
_EPSILON = 1e-20
_RIDGE, _SLOPE_RIDGE = 2e-3, 6e-3  # of a partial's own weight in a frame; for its level, for its slope


FRAME_PERIODS = (2.0, 3.0, 3.0)  # length of a frame in periods of the note, by chunk kind,
FRAME_LIMITS = ((0.010, 0.050), (0.025, 0.110), (0.020, 0.080))  # and its shortest and longest, seconds


@dataclass(frozen=True)
class Levels:
    """What is measured in frames of a sound."""

    partials: Floats  # [channels, F, P] amplitude squared
    rest: Floats  # [channels, F, bins] power spectrum of what the partials leave over
    seconds: float  # length of a frame


def frame_width(kind: int, spacing_hz: float, sample_rate: int) -> int:
    """Length of the frames, in samples, that chunks of a kind are measured in; partials lie ``spacing_hz`` apart."""
    return int(sample_rate * np.clip(FRAME_PERIODS[kind] / spacing_hz, *FRAME_LIMITS[kind]))


def frames_around(samples: Floats, centres: Numbers, width: int) -> Floats:
    """Frames of a sound around centres (samples), silence beyond its ends: [channels, S] -> [channels, F, width]."""
    first = np.rint(centres).astype(int) - width // 2
    lead, tail = max(0, -first.min()), max(0, first.max() + width - samples.shape[1])
    padded = np.pad(samples, ((0, 0), (lead, tail)))
    return np.lib.stride_tricks.sliding_window_view(padded, width, axis=1)[:, first + lead]


def band_weights(size: int, sample_rate: int) -> Floats:
    """Share of each FFT bin in each noise band, [size // 2 + 1, N_NOISE]; bins are spread where bands are narrower."""
    hz = np.arange(size // 2 + 1) * sample_rate / size
    half = sample_rate / size / 2
    low, high = tk.NOISE_EDGES_HZ[:-1], tk.NOISE_EDGES_HZ[1:]
    overlap = np.minimum(hz[:, None] + half, high) - np.maximum(hz[:, None] - half, low)
    weights: Floats = (np.clip(overlap, 0, None) / (2 * half)).astype(np.float32)
    return weights


def fit_frames(frames: Floats, sample_rate: int, hz: Reals) -> tuple[NDArray[np.complex64], Floats]:
    """Complex amplitudes of partials in the middle of frames, and what they leave of each frame.

    Shape: frames [channels, F, W], W even -> [channels, F, P], [channels, F, W]. Within a frame an amplitude runs in a
    straight line: without its slope, what a tone that changes leaves of a frame would count as noise. Sums over a
    frame's halves make two fits of one, of what is even around its middle (cosines, and sines that grow) and of what
    is odd.
    """
    if not len(hz):
        return np.zeros((*frames.shape[:2], 0), np.complex64), frames
    half, n = frames.shape[2] // 2, len(hz)
    window = np.hanning(2 * half + 1)[half:-1].astype(np.float32)
    window[0] /= 2  # the middle is in both halves
    time = np.arange(half) / sample_rate
    phase = 2 * np.pi * np.outer(time, hz)
    share = (time * (sample_rate / frames.shape[2]))[:, None]  # of the frame
    cosines, sines = np.cos(phase), np.sin(phase)
    ahead, behind = frames[:, :, half:], frames[:, :, half:0:-1]
    fitted, amplitudes = [], []
    for heard, level, slope in ((ahead + behind, cosines, share * sines), (ahead - behind, sines, share * cosines)):
        shapes = np.concatenate([level, slope], axis=1).astype(np.float32)  # [W / 2, 2 P]
        weighted = shapes * window[:, None]
        gram = (shapes.T @ weighted).astype(np.float64)
        gram += np.diag(np.repeat([_RIDGE, _SLOPE_RIDGE], n) * (0.5 * float(window.sum())))
        right = (heard @ weighted).reshape(-1, 2 * n).T.astype(np.float64) / 2
        solved = np.linalg.solve(gram, right).T.reshape(*frames.shape[:2], 2 * n).astype(np.float32)
        fitted.append(solved @ shapes.T)
        amplitudes.append(solved[:, :, :n])
    even, odd = fitted
    rest = frames.copy()
    rest[:, :, half:] -= even + odd
    rest[:, :, half - 1 : 0 : -1] -= (even - odd)[:, :, 1:]
    return (amplitudes[0] - 1j * amplitudes[1]).astype(np.complex64), rest


def measure_levels(samples: Floats, sample_rate: int, centres: Numbers, width: int, hz: Doubles) -> Levels:
    """Power of partials at fixed frequencies and the power spectrum of the rest, frame by frame."""
    frames = frames_around(samples, centres, width + width % 2)
    return levels_of(*fit_frames(frames, sample_rate, hz), sample_rate)


def levels_of(amplitudes: NDArray[np.complex64], rest: Floats, sample_rate: int) -> Levels:
    """The levels of frames from what was fitted in them and what was left over."""
    width = rest.shape[2]
    window = np.hanning(width + 1)[:-1]
    size = 1 << int(np.ceil(np.log2(max(width, 2048))))
    power = np.abs(np.fft.rfft(rest * window.astype(np.float32), size, axis=2)) ** 2
    power *= 2 / (size * np.square(window).sum())  # now sums to the mean square
    return Levels(np.square(np.abs(amplitudes)), power, width / sample_rate)


def part_rest(levels: Levels, sample_rate: int, hz: Doubles) -> tuple[Reals, Reals]:
    """Amplitude squared of the partials [F, P] and power of the noise bands [F, N_NOISE], means of the channels.

    What is left close to a partial is its own beating and wavering and goes back to it; the noise of a band is what
    its bins away from partials say. A band without such bins (low notes) takes all that is left as noise.
    """
    rest = levels.rest.mean(axis=0)  # [F, bins]
    partials = levels.partials.mean(axis=0)  # [F, P]
    size = 2 * (rest.shape[1] - 1)
    bin_hz = sample_rate / size
    bands = band_weights(size, sample_rate)
    if not len(hz):
        return partials, rest @ bands
    bins = np.arange(rest.shape[1]) * bin_hz
    right = np.clip(np.searchsorted(hz, bins), 1, max(len(hz) - 1, 1)) if len(hz) > 1 else np.zeros(len(bins), int)
    owner = np.where(np.abs(bins - hz[right - 1]) < np.abs(bins - hz[right]), right - 1, right) % len(hz)
    is_near = np.abs(bins - hz[owner]) < 1.6 / levels.seconds
    total, far = bands.sum(axis=0), (bands * ~is_near[:, None]).sum(axis=0)
    has_far = far > 0.15 * total
    weights = np.where(has_far, bands * ~is_near[:, None], bands)
    noise = rest @ (weights * (total / np.maximum(weights.sum(axis=0), 1e-9)))
    is_near &= (bands * has_far).sum(axis=1) > 0.5  # bins whose band knows its noise from elsewhere
    expected = (noise / np.maximum(total, 1e-9)) @ bands.T  # [F, bins]
    back = np.zeros_like(partials)
    np.add.at(back.T, owner[is_near], (rest - expected).T[is_near])
    return partials + 2 * np.clip(back, 0, None), noise


def pitch_track(samples: Floats, sample_rate: int, hz: Reals, width: int, n_seconds: float) -> tuple[Doubles, Doubles]:
    """Deviation of the pitch in cents every 5 ms, from how fast the phases of the strongest low partials turn, and
    how loud it is there."""
    width += width % 2
    hop = int(0.005 * sample_rate)
    centres = np.arange(0, max(n_seconds * sample_rate, 4 * hop), hop)
    mono = samples.mean(axis=0, keepdims=True)
    near = hz[: min(len(hz), 10)]
    near = near[near < 3000]
    if not len(near):
        return np.zeros(len(centres)), np.zeros(len(centres))
    amplitudes = fit_frames(frames_around(mono, centres, width), sample_rate, near)[0][0]  # [F, P]
    turn = np.angle(amplitudes[1:] * amplitudes[:-1].conj() * np.exp(-2j * np.pi * near * hop / sample_rate))
    deviation_hz = turn * sample_rate / (2 * np.pi * hop)
    cents = 1200 / np.log(2) * deviation_hz / near
    weights = np.abs(amplitudes[1:] * amplitudes[:-1])
    weights *= (np.abs(cents) < 70) & (weights > 1e-3 * weights.max())
    total = weights.sum(axis=1)
    track = (cents * weights).sum(axis=1) / np.maximum(total, _EPSILON)
    sure = total > 1e-4 * total.max()
    if not sure.any():
        return np.zeros(len(centres)), np.zeros(len(centres))
    track = np.interp(np.arange(len(track)), np.flatnonzero(sure), track[sure])
    smooth = np.convolve(np.pad(track, (3, 3), mode="edge"), np.ones(6) / 6, mode="valid")
    return np.clip(smooth, -62, 62), np.append(total, 0.0)


@cache
def _interpolation_kernel() -> Floats:
    """Windowed sines over x for 512 positions between two samples, 16 taps from -7 to 8: [512, 16]."""
    distance = np.arange(-7, 9)[None, :] - np.arange(512)[:, None] / 512
    kernel: Floats = (np.sinc(distance) * np.cos(np.pi * np.clip(distance / 17, -0.5, 0.5)) ** 2).astype(np.float32)
    return kernel


def straighten(samples: Floats, sample_rate: int, cents: Doubles) -> tuple[Floats, Doubles]:
    """The sound on a time axis on which its pitch stands still, and that axis: warped position of each sample."""
    n = samples.shape[1]
    ratio = 2 ** (np.interp(np.arange(n), np.arange(len(cents)) * int(0.005 * sample_rate), cents) / 1200)
    warped = np.concatenate([[0.0], np.cumsum(ratio)[:-1]])
    position = np.interp(np.arange(int(warped[-1])), warped, np.arange(n))
    whole = position.astype(int)
    share = (position - whole).astype(np.float32)
    padded = np.pad(samples, ((0, 0), (8, 9)))
    kernel = _interpolation_kernel()[np.minimum((share * 512).astype(int), 511)]  # [S, 16]
    straight = np.stack(
        [
            np.einsum("st,st->s", np.lib.stride_tricks.sliding_window_view(channel, 16)[whole + 1], kernel)
            for channel in padded
        ]
    )
    return straight, warped


@dataclass(frozen=True)
class Measured:
    """A note's tokens and what belongs to its voice rather than to its tokens."""

    tokens: tk.NoteTokens
    balance: Floats  # [C - 1] share of the left channel in each cell's power, 0..1
    is_wide: bool  # the two channels differ


def analyse_note(samples: Reals, sample_rate: int, note_hz: float, hold_seconds: float, partials: Partials) -> Measured:
    """Audio tokens of one note that starts at sample 0, is held ``hold_seconds`` and dies away after.

    Shape: samples [channels, S]; one channel or two. What lies beyond S is silence. Levels are the mean power of the
    channels. The release gets as many chunks as it takes to fall below the lowest level, at least one.
    """
    samples = np.atleast_2d(np.asarray(samples, np.float32))
    is_wide = len(samples) == 2 and float(np.square(samples[0] - samples[1]).sum()) > 1e-5 * float(
        np.square(samples).sum()
    )
    samples = without_rumble(samples if is_wide else samples[:1], sample_rate)
    partials = partials.below(min(0.47 * sample_rate, 20_000) / note_hz)
    is_grid = is_even(partials.ratios)
    spacing = note_hz * partials.ratios[0] if is_grid else 60.0
    partials = heard_partials(samples, sample_rate, note_hz, partials)
    hz = partials.ratios * note_hz

    n_held = 1 + int(np.ceil(max(hold_seconds - tk.ATTACK_SECONDS, 0) / (tk.CHUNK_STEPS * tk.STEP_SECONDS[1])))
    tail = samples.shape[1] / sample_rate - hold_seconds
    n_release = max(1, int(np.ceil(tail / (tk.CHUNK_STEPS * tk.STEP_SECONDS[2]))))
    held, release = tk.held_times(n_held), hold_seconds + tk.release_times(n_release)

    cents = np.zeros(2)
    if is_grid and len(hz):
        track_width = int(sample_rate * np.clip(3 / spacing, 0.02, 0.1))
        cents, _ = pitch_track(samples, sample_rate, hz, track_width, samples.shape[1] / sample_rate)
    straight, warped = samples, None
    if np.abs(cents).max() > 3:
        straight, warped = straighten(samples, sample_rate, cents)
    else:
        cents = np.zeros_like(cents)

    def measure(times: Doubles, kind: int) -> Floats:
        width = frame_width(kind, spacing, sample_rate)
        centres = times * sample_rate
        if warped is not None:
            centres = np.interp(centres, np.arange(len(warped)), warped)
        levels = measure_levels(straight, sample_rate, centres, width, hz)
        return _to_levels(levels, sample_rate, partials, hz, np.interp(times, np.arange(len(cents)) * 0.005, cents))

    steps = tk.CHUNK_STEPS
    attack = measure(held[:steps], tk.ATTACK)
    sustain = measure(held[steps:], tk.SUSTAIN) if n_held > 1 else attack[:0]
    released = measure(release, tk.RELEASE)
    tokens = np.concatenate([attack, sustain, released])
    if samples.shape[1] < 0.06 * sample_rate:  # frames are longer than what is left of a click near its end
        tokens[: len(held), : tk.PITCH_CELL] *= (held < samples.shape[1] / sample_rate - 0.0045)[:, None]
    balance = np.full(tk.N_CELLS - 1, 0.5, np.float32)
    if is_wide:
        balance = _balance(samples, sample_rate, partials, hz, spacing)
    quantised = np.rint(tokens).astype(np.uint8).reshape(-1, steps, tk.N_CELLS)
    sounding = np.flatnonzero((quantised[n_held:, :, : tk.PITCH_CELL] > 0).any(axis=(1, 2)))
    n_release = 1 + (int(sounding[-1]) if len(sounding) else 0)
    return Measured(
        tk.NoteTokens(quantised[:n_held], quantised[n_held : n_held + n_release], hold_seconds), balance, is_wide
    )


def without_rumble(samples: Floats, sample_rate: int) -> Floats:
    """The sound without what lies below hearing (cut below 12 Hz, whole from 28 Hz), which short frames would smear."""
    size = 1 << int(np.ceil(np.log2(samples.shape[1] + sample_rate // 4)))
    hz = np.arange(size // 2 + 1) * sample_rate / size
    gain = np.sin(np.pi / 2 * np.clip((hz - 12) / 16, 0, 1)) ** 2
    return np.fft.irfft(np.fft.rfft(samples, size, axis=1) * gain, size, axis=1)[:, : samples.shape[1]].astype(
        np.float32
    )


def heard_partials(samples: Floats, sample_rate: int, note_hz: float, partials: Partials) -> Partials:
    """Only the partials around which there is sound within 85 dB of the loudest frequency."""
    power = (np.abs(np.fft.rfft(samples, axis=1)) ** 2).sum(axis=0)
    bin_hz = sample_rate / samples.shape[1]
    reach = max(int(0.4 * note_hz * min(partials.ratios.min(initial=1.0), 1.0) / bin_hz), 3)
    at = np.clip(np.rint(partials.ratios * note_hz / bin_hz).astype(int), 0, len(power) - 1)
    nearby = np.lib.stride_tricks.sliding_window_view(np.pad(power, reach), 2 * reach + 1)[at].max(axis=1, initial=0)
    keep = nearby > power.max() * 10**-8.5
    return Partials(partials.ratios[keep], partials.spread[:, keep])


def is_even(ratios: Doubles) -> bool:
    """Whether partials lie as harmonics do."""
    return len(ratios) > 0 and bool(np.allclose(ratios[:4], ratios[0] * np.arange(1, len(ratios[:4]) + 1), rtol=0.02))


def _to_levels(levels: Levels, sample_rate: int, partials: Partials, hz: Doubles, cents: Doubles) -> Floats:
    """Measured powers as level numbers, [F, C], not rounded; partials that do not stand out count as noise."""
    power, noise = part_rest(levels, sample_rate, hz)
    return as_levels(*hidden_as_noise(power, noise, levels.seconds, hz), partials, cents)


def hidden_as_noise(power: Reals, noise: Reals, seconds: float, hz: Doubles) -> tuple[Reals, Reals]:
    """Partials' amplitudes squared [F, P] and noise bands [F, N_NOISE] of frames of a length, with partials that do not
    stand out of the noise moved into it."""
    if len(hz):
        band = np.clip(np.searchsorted(tk.NOISE_EDGES_HZ, hz) - 1, 0, tk.N_NOISE - 1)
        density = noise / np.diff(tk.NOISE_EDGES_HZ)
        leak = 4 * 1.5 / seconds * density[:, band] / 2  # what noise alone would put into a partial
        is_noise = power < 2.0 * leak
        np.add.at(noise.T, band, np.where(is_noise, power / 2, 0).T)  # mean square of a sine
        power = np.where(is_noise, 0, power)
    return power, noise


def as_levels(power: Reals, noise: Reals, partials: Partials, cents: Doubles) -> Floats:
    """Partials' amplitudes squared [F, P], noise bands [F, N_NOISE] and cents [F] as level numbers, [F, C]."""
    cells = partials.spread  # [N_PARTIALS, P]
    cell_power = power @ cells.T / np.maximum(cells.sum(axis=1), 1e-9)
    tokens = np.empty((len(power), tk.N_CELLS), np.float32)
    tokens[:, : tk.N_PARTIALS] = tk.db_to_level(10 * np.log10(cell_power + _EPSILON))
    tokens[:, tk.N_PARTIALS : tk.PITCH_CELL] = tk.db_to_level(10 * np.log10(noise + _EPSILON))
    tokens[:, tk.PITCH_CELL] = tk.cents_to_level(cents)
    return tokens


def _balance(samples: Floats, sample_rate: int, partials: Partials, hz: Doubles, spacing: float) -> Floats:
    """Share of the left channel in the power of each cell over the whole note, [C - 1]."""
    width = int(sample_rate * np.clip(3 / spacing, 0.025, 0.110))
    centres = np.arange(0, samples.shape[1], int(0.03 * sample_rate))
    levels = measure_levels(samples, sample_rate, centres, width, hz)
    power = levels.partials.sum(axis=1) @ partials.spread.T  # [2, N_PARTIALS]
    noise = levels.rest.sum(axis=1) @ band_weights(2 * (levels.rest.shape[2] - 1), sample_rate)
    both = np.concatenate([power, noise], axis=1)
    floor = 1e-6 * both.sum()
    left: Floats = ((both[0] + floor) / (both.sum(axis=0) + 2 * floor)).astype(np.float32)
    return left
