"""Where a score's beats and bars are: quarters from its tempo map, bars from its time signatures or from its notes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Integers
from miao.midi.score import Curve, Meter

_TICK = 1 / 48  # quarters: what lies closer together is one moment
_BAR_CANDIDATES = (4.0, 3.0, 2.0)  # quarters, when nothing says how long a bar is; the first wins a draw
_FIRST_IS_USUAL = 0.05  # how much better another bar must fit than the usual one
_INFERRED_QUARTERS = 512  # how much of a piece is looked at to find its bars


@dataclass(frozen=True)
class Bars:
    """The bars of a time signature, from a moment on."""

    quarter: float  # where it begins, in quarter notes from the start
    numerator: int
    denominator: int

    @property
    def bar(self) -> float:
        """Quarters in a bar."""
        return 4 * self.numerator / self.denominator

    @property
    def beat(self) -> float:
        """Quarters in a beat: three units in 6/8, 9/8 and 12/8, else one."""
        is_compound = self.denominator >= 8 and self.numerator % 3 == 0 and self.numerator > 3
        return 4 / self.denominator * (3 if is_compound else 1)


@dataclass(frozen=True, eq=False)
class Pulse:
    """Seconds as quarter notes under a tempo map and back; straight lines between the map's steps."""

    seconds_at: NDArray[np.float64]  # [m] knots, increasing
    quarters_at: NDArray[np.float64]  # [m]
    per_second: NDArray[np.float64]  # [m] quarters a second from each knot on

    @classmethod
    def of(cls, tempi: Curve) -> "Pulse":
        """Of a curve of quarter notes a minute. What is no tempo (0, below 0, not finite) is passed over."""
        sane = np.isfinite(tempi.values) & (tempi.values > 0)
        times, values = tempi.times[sane], tempi.values[sane]
        first = values[times <= 0][-1] if (times <= 0).any() else tempi.initial
        later = times > 0
        knots = np.concatenate([[0.0], times[later]])
        rate = np.concatenate([[first], values[later]]) / 60
        return cls(knots, np.concatenate([[0.0], np.cumsum(np.diff(knots) * rate[:-1])]), rate)

    def quarters(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """The quarter at which a moment lies, same shape."""
        i = np.maximum(np.searchsorted(self.seconds_at, seconds, side="right") - 1, 0)
        return self.quarters_at[i] + (seconds - self.seconds_at[i]) * self.per_second[i]

    def seconds(self, quarters: NDArray[np.float64]) -> NDArray[np.float64]:
        """The moment at which a quarter lies, same shape."""
        i = np.maximum(np.searchsorted(self.quarters_at, quarters, side="right") - 1, 0)
        return self.seconds_at[i] + (quarters - self.quarters_at[i]) / self.per_second[i]


def bars_of(meters: Sequence[Meter], pulse: Pulse) -> tuple[Bars, ...]:
    """The bars that time signatures ask for; of several at one moment the last counts."""
    found = {}
    for meter in meters:
        at = float(pulse.quarters(np.array([meter.time]))[0])
        found[round(at * 48) / 48] = Bars(at, meter.numerator, meter.denominator)
    return tuple(found[key] for key in sorted(found))


def infer_bars(quarters: NDArray[np.float64], weights: NDArray[np.float64]) -> Bars:
    """The bar that fits best where a file says nothing: its length in quarters and where it begins.

    Onsets that matter (long, low, loud: `weights`) come back after a bar, so their weight at each half quarter is
    compared with itself 2, 3 and 4 quarters later; the phase is the one that gathers most weight. 4/4 wins a draw.
    """
    half = np.rint(quarters * 2).astype(np.int64)
    inside = half < 2 * _INFERRED_QUARTERS
    if inside.sum() < 4:
        return Bars(0.0, 4, 4)
    salience = np.bincount(half[inside], weights[inside])
    salience = salience - salience.mean()
    power = float(salience @ salience)
    if power <= 0 or len(salience) <= 16:
        return Bars(0.0, 4, 4)
    best, bar = -np.inf, _BAR_CANDIDATES[0]
    for candidate in _BAR_CANDIDATES:
        fits = []
        for times in (1, 2):
            lag = round(2 * candidate * times)
            fits.append(float(salience[lag:] @ salience[:-lag]) / power)
        fit = float(np.mean(fits)) + _FIRST_IS_USUAL * (candidate == _BAR_CANDIDATES[0])
        if fit > best:
            best, bar = fit, candidate
    steps = round(2 * bar)
    phase = int(np.argmax([salience[p::steps].sum() for p in range(steps)])) / 2
    return Bars(phase - bar if phase else 0.0, round(bar), 4)


def bar_positions(quarters: NDArray[np.float64], bars: Sequence[Bars]) -> tuple[Integers, Doubles, Doubles]:
    """Where moments lie in their bars: quarters since the bar line, the bar's and the beat's quarters; each [n].

    A signature starts a new bar where it stands; before the first one its own bars are counted backwards.
    """
    starts = np.array([m.quarter for m in bars])
    which = np.maximum(np.searchsorted(starts, quarters + _TICK, side="right") - 1, 0)
    bar = np.array([m.bar for m in bars])[which]
    beat = np.array([m.beat for m in bars])[which]
    since = np.mod(quarters - starts[which] + _TICK / 2, bar) - _TICK / 2
    return np.maximum(since, 0.0), bar, beat


def bar_lines(bars: Sequence[Bars], end: float) -> NDArray[np.float64]:
    """The quarters at which bars begin, from 0 or the first signature to the first one behind a quarter, [b]."""
    starts = [m.quarter for m in bars]
    stops = [*starts[1:], max(end, starts[-1])]
    lines = [np.arange(start, stop - _TICK, m.bar) for m, start, stop in zip(bars, starts, stops, strict=True)]
    last = bars[-1]
    return np.append(np.concatenate(lines), last.quarter + np.ceil((stops[-1] - last.quarter) / last.bar) * last.bar)


def metrical_weights(quarters: NDArray[np.float64], bars: Sequence[Bars]) -> NDArray[np.float64]:
    """How strong the beat is on which each moment falls, [n]: 1 bar line, 0.75 half bar, 0.5 beat, 0.25 half beat,
    0 else."""
    since, bar, beat = bar_positions(quarters, bars)
    weight = np.zeros(len(quarters))
    for unit, value in ((beat / 2, 0.25), (beat, 0.5), (bar / 2, 0.75)):
        on = np.abs(since - np.rint(since / unit) * unit) < _TICK
        if value == 0.75:  # bars of an even number of beats have a middle
            on &= np.mod(np.rint(bar / beat), 2) == 0
        weight[on] = value
    weight[since < _TICK] = 1.0
    return weight
