"""How a room's response dies away in an octave, from a sound as it was before the room and as it was recorded in it.

In narrow bands, as complex signals with few samples a second, the response is a few hundred numbers. They are taken for
noise whose power falls on a line (level and slope are the octave's; what comes first is free, and the line ends in a
floor), and line, response and the recording's noise are found together, by what is most probable (Fisher's scoring of
the marginal likelihood, and MacKay's fixed point for the noise). So what music leaves out, as all that lies between its
partials, is neither guessed nor taken for a room, and how sure a time is comes with it. Nothing is squared before the
direct sound is off: this is why it knows so much more than a fit to powers (`training.learn_music`).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from miao.arrays import AnyArray, Doubles, Flags, Integers

_LN60 = 6 * np.log(10)
_WIDTH, _WIDE = 100.0, 350.0  # of a band, Hz; the second for short rooms
_ROUGH = (_WIDTH, 1.0), (_WIDE, 0.5)  # at first: a band's width and how long its response is followed
LONGEST_RESPONSE = 3.5
_SHORT_SECONDS = 0.6
_MOST_BANDS = 4  # of an octave
_EDGE = 0.3  # of a band's width on either side, where it fades: so that a moment between two samples stays short
_BEFORE = 3  # samples of a response before the direct sound, for what is left of that
_DIRECT_SECONDS = 0.003
_FREE_STEP = 0.02
_ROUNDS = 12
_T60_SECONDS = (0.06, 12.0)
_LEAST_SIGNAL_DB = 6.0  # of a band above what the room does not explain
_DIRECT_PRIOR = 10.0
_CLEANINGS = 1
_FLOOR_BELOW = -12.0  # nepers of power, where the floor of a response sets out
_NEAR_SAMPLES, _OUTLIER, _MOST_LEFT_OUT = 15, 5.0, 0.25  # moments that count together; left out: so far over the median
_NEAR_PRIOR = 0.2  # that what comes first is like the rest, in 1 / nepers^2


@dataclass(frozen=True, eq=False)
class Sounds:
    """A recording and what was played, as spectra."""

    heard: AnyArray  # [ears, F]
    played: AnyArray  # [inputs, F] what was sent to the room, then what came directly
    bins: int  # to a hertz
    seconds: float  # of the recording
    sent_db: float  # what was sent over what came directly


@dataclass(frozen=True, eq=False)
class Columns:
    """What a band's response is made of: an input at a lag each."""

    inputs: Integers
    lags: Integers  # samples
    seconds: Doubles
    is_direct: Flags
    is_before: Flags

    @property
    def is_tail(self) -> Flags:
        """What comes after the direct sound."""
        return ~self.is_direct & ~self.is_before


@dataclass(frozen=True, eq=False)
class Band:
    """What a narrow band says of the response: all complex, a column for each of `Columns`."""

    heard: AnyArray  # [ears, n] samples
    played: AnyArray  # [inputs, n]
    normal: AnyArray  # [columns, columns] correlations of what was played
    crossed: AnyArray  # [ears, columns] of what was recorded with it
    power: float  # of all that was recorded
    n: float  # samples that it has, by their weights
    loud: float  # power of a direct sound of 1


@dataclass(frozen=True, eq=False)
class Line:
    """How an octave of the room dies away, as it is most probable."""

    t60_seconds: float
    error: float  # standard error of its logarithm
    level_db: float  # of what comes after the direct sound, against it
    energy: Doubles  # [taps] of what comes after the direct sound, against it
    seconds: Doubles  # [taps]
    signal_db: Doubles  # of each band, what was recorded over what is not explained
    followed_db: float  # how far it was followed: until more is guessed than heard
    likeness: float  # of the ears, from 50 ms on


def octave_line(sounds: Sounds, hz: float) -> Line | None:
    """How one octave dies away; None where it is not to be heard."""
    if hz * 1.4 * sounds.bins > sounds.heard.shape[1] or hz < 100:
        return None
    may_be_wide = hz >= 500
    rough = _line(sounds, hz, *_ROUGH[may_be_wide], 0.4, 0)
    t60 = LONGEST_RESPONSE if rough is None else rough.t60_seconds  # a long room is hardly told by its beginning
    width = _WIDE if t60 < _SHORT_SECONDS and may_be_wide else _WIDTH
    seconds = float(np.clip(1.2 * t60 + 0.2, 0.3, LONGEST_RESPONSE))
    return _line(sounds, hz, width, seconds, t60, _CLEANINGS)


def _line(sounds: Sounds, hz: float, width: float, seconds: float, t60_seconds: float,
          n_cleanings: int) -> Line | None:  # fmt: skip
    """The line that is most probable, by what bands spread over the middle of an octave say together; bands in which
    noise rules are left out, and moments that nothing explains, as where a limiter was at work."""
    low, high = hz * 2**-0.35, hz * 2**0.35
    n_bands = int(np.clip(round((high - low) / (0.7 * width)), 1, _MOST_BANDS))
    columns = _columns(len(sounds.played) // 2, width, seconds)
    bands = [_band(sounds, columns, low + (k + 0.5) * (high - low) / n_bands, width) for k in range(n_bands)]
    line, found = _fitted(bands, columns, t60_seconds)
    for _ in range(n_cleanings):
        bands = [_without_outliers(band, columns, seen.response, round(width * sounds.seconds))
                 for band, seen in zip(bands, found, strict=True)]  # fmt: skip
        line, found = _fitted(bands, columns, line.t60_seconds)
    heard = [band for band, signal in zip(bands, line.signal_db, strict=True) if signal >= _LEAST_SIGNAL_DB]
    if not heard:
        return None
    return line if len(heard) == n_bands else _fitted(heard, columns, line.t60_seconds)[0]


def _columns(n_inputs: int, width: float, seconds: float) -> Columns:
    """What is sent at all lags but those of the direct sound, and what comes directly at these."""
    lags = np.arange(-_BEFORE, round(seconds * width))
    is_direct = np.abs(lags) < _DIRECT_SECONDS * width
    inputs = np.concatenate([np.repeat(np.arange(n_inputs), (~is_direct).sum()),
                             np.repeat(np.arange(n_inputs, 2 * n_inputs), is_direct.sum())])  # fmt: skip
    lags = np.concatenate([np.tile(lags[~is_direct], n_inputs), np.tile(lags[is_direct], n_inputs)])
    return Columns(inputs, lags, lags / width, inputs >= n_inputs, lags < -_DIRECT_SECONDS * width)


def _band(sounds: Sounds, columns: Columns, hz: float, width: float) -> Band:
    n, first = round(width * sounds.bins), round((hz - width / 2) * sounds.bins)
    edge = round(_EDGE * n)
    weights = np.ones(n)
    weights[:edge] = np.sin(np.pi / 2 * (np.arange(edge) + 0.5) / edge) ** 2
    weights[n - edge :] = weights[:edge][::-1]
    heard, played = (all_of[:, first : first + n] * weights for all_of in (sounds.heard, sounds.played))
    both = np.fft.ifft(played[None] * played.conj()[:, None])  # [inputs, inputs, n]
    inputs, lags = columns.inputs, columns.lags
    normal = both[inputs[:, None], inputs, lags[:, None] - lags]
    crossed = np.fft.ifft(heard[:, None] * played.conj()[None])[:, inputs, lags]
    power = float(np.square(np.abs(heard)).sum() / n)
    direct = float(both[len(played) // 2, len(played) // 2, 0].real)
    return Band(np.fft.ifft(heard), np.fft.ifft(played), normal, crossed, power,
                float(np.square(weights).sum()), power / len(heard) / direct)  # fmt: skip


def _without_outliers(band: Band, columns: Columns, response: AnyArray, n_heard: int) -> Band:
    """The band without the moments that a response leaves unexplained far more than others."""
    n = band.heard.shape[1]
    spread = np.zeros((len(response), len(band.played), n), complex)
    spread[:, columns.inputs, columns.lags] = response
    left = band.heard - np.fft.ifft((np.fft.fft(spread) * np.fft.fft(band.played)).sum(axis=1))
    power = np.convolve(np.square(np.abs(left)).sum(axis=0), np.ones(_NEAR_SAMPLES) / _NEAR_SAMPLES, "same")[:n_heard]
    most = max(_OUTLIER * float(np.median(power)), float(np.quantile(power, 1 - _MOST_LEFT_OUT)))
    out = np.flatnonzero(power > most)
    rows = band.played[columns.inputs, (out[:, None] - columns.lags) % n]  # [out, columns]
    return replace(
        band, normal=band.normal - rows.conj().T @ rows, crossed=band.crossed - band.heard[:, out] @ rows.conj(),
        power=band.power - float(np.square(np.abs(band.heard[:, out])).sum()), n=band.n * (1 - len(out) / n),
    )  # fmt: skip


def _fitted(bands: Sequence[Band], columns: Columns, t60_seconds: float) -> tuple[Line, list["_Seen"]]:
    n_ears, rate = len(bands[0].heard), 1 / float(np.diff(np.unique(columns.seconds)).min())
    shapes = _shapes(columns, t60_seconds)  # [columns, numbers]
    numbers = np.zeros(shapes.shape[1] + 1)  # and last the floor
    numbers[:3] = np.log(0.05 * _LN60 / t60_seconds / rate), _LN60 / t60_seconds, np.log(1e-3)
    numbers[-1] = numbers[0] + _FLOOR_BELOW
    own = np.concatenate([np.full(3, 1e-9), np.full(len(numbers) - 3, _NEAR_PRIOR)])
    own[-1] = 1e-2
    noises = [0.03 * band.power / band.n / n_ears for band in bands]
    for _ in range(_ROUNDS):
        slope, bend, found = -own * numbers, np.diag(own), []
        slope[:3], slope[-1] = 0, own[-1] * (numbers[0] + _FLOOR_BELOW - numbers[-1])
        by_line = np.exp(np.clip(shapes @ numbers[:-1], -60, 5))
        by_floor = np.exp(np.clip(numbers[-1], -60, 0)) * columns.is_tail
        share = by_line / (by_line + by_floor)
        moves = np.concatenate([shapes * share[:, None], (1 - share)[:, None]], axis=1)  # of the variance's logarithm
        for place, band in enumerate(bands):
            variance = band.loud * np.where(columns.is_direct, _DIRECT_PRIOR, by_line + by_floor)
            seen = _posterior(band, variance, noises[place])
            noises[place] = seen.noise
            slope += moves.T @ (np.square(np.abs(seen.response)) / variance - seen.told).sum(axis=0)
            bend += n_ears * moves.T @ (seen.information @ moves)
            found.append(seen)
        step = np.linalg.solve(bend, slope)
        step *= min(1.0, 1.5 / float(np.abs(np.delete(step, 1)).max()), 0.5 * numbers[1] / max(abs(step[1]), 1e-12))
        numbers += step
        numbers[1] = np.clip(numbers[1], _LN60 / _T60_SECONDS[1], _LN60 / _T60_SECONDS[0])
        if abs(step[1]) < 1e-3 * numbers[1] and abs(step[0]) < 0.01:
            break
    return _as_line(bands, columns, found, noises, numbers, np.linalg.inv(bend)), found


def _as_line(bands: Sequence[Band], columns: Columns, found: Sequence["_Seen"], noises: Sequence[float],
             numbers: Doubles, covariance: Doubles) -> Line:  # fmt: skip
    n_ears = len(bands[0].heard)
    middle = columns.is_tail & (columns.inputs == 0)  # the answer to what comes from the middle
    direct = columns.is_direct & (columns.inputs == columns.inputs[columns.is_direct].min())
    energy = np.mean([seen.energy[middle] / seen.energy[direct].sum() for seen in found], axis=0)
    is_told = np.mean([seen.told[middle] for seen in found], axis=0) > 0.5
    reach = float(columns.seconds[middle][is_told].max(initial=0.0))
    later = np.concatenate([seen.response[:, middle & (columns.seconds > 0.05)] for seen in found], axis=1)
    sizes = np.sqrt(np.square(np.abs(later)).sum(axis=1))
    return Line(
        float(_LN60 / numbers[1]), float(np.sqrt(covariance[1, 1]) / numbers[1]), float(10 * np.log10(energy.sum())),
        energy, columns.seconds[middle],
        np.array([10 * np.log10(b.power / b.n / n_ears / noise) for b, noise in zip(bands, noises, strict=True)]),
        60 * reach * float(numbers[1]) / _LN60,
        float(abs(np.vdot(later[0], later[1])) / max(sizes.prod(), 1e-30)) if n_ears > 1 else 0.0,
    )  # fmt: skip


def _shapes(columns: Columns, t60_seconds: float) -> Doubles:
    """What the logarithm of a response's variance is made of, [columns, numbers]: level, slope, what is before, steps
    in what comes first."""
    seconds, is_tail = columns.seconds, columns.is_tail
    shapes = [is_tail.astype(float), -seconds * is_tail, columns.is_before.astype(float)]
    free = np.clip(t60_seconds / 8, _FREE_STEP, 5 * _FREE_STEP)
    for step in range(round(free / _FREE_STEP)):
        inside = is_tail & (seconds >= step * _FREE_STEP) & (seconds < (step + 1) * _FREE_STEP)
        if inside.any():
            shapes.append(inside.astype(float))
    return np.stack(shapes, axis=1)


@dataclass(frozen=True, eq=False)
class _Seen:
    """What is known of a band's response."""

    response: AnyArray  # [ears, columns], what is to be expected of it
    energy: Doubles  # [columns], the same of its square
    told: Doubles  # [columns] from 0, all guessed, to 1, all heard
    information: Doubles  # [columns, columns] about the logarithms of its variances
    noise: float  # of a sample


def _posterior(band: Band, variance: Doubles, noise: float) -> _Seen:
    size, n_ears = np.sqrt(variance), len(band.crossed)
    matrix = size[:, None] * band.normal * (size / noise)
    matrix[np.diag_indices_from(matrix)] += 1
    inverse = np.linalg.inv(matrix)
    response = size * ((size / noise * band.crossed) @ inverse.T)
    own = np.real(np.diag(inverse))
    left = (band.power - 2 * np.vdot(response, band.crossed).real
            + np.einsum("eu,eu->", response.conj(), response @ band.normal.T).real)  # fmt: skip
    fair = max(left / max(n_ears * (band.n - float((1 - own).sum())), 1.0), 1e-7 * band.power / band.n / n_ears)
    information = np.square(np.abs(np.eye(len(size)) - inverse))
    energy = np.square(np.abs(response)).mean(axis=0) + variance * own
    return _Seen(response, energy, 1 - own, information, float(fair))
