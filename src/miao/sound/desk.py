"""The mixing desk: each part's stem behind its fader into the mix, and on into what is sent to room and chorus.

A fader follows its controllers from the moment that they speak, in a straight ramp of 5 ms (the mean of the steps over
the last 5 ms): nothing sounds before it was asked for, and no step clicks. Where its part is silent it jumps, so that a
note that starts together with its fader has its whole attack.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from miao.arrays import Doubles, Floats, Reals
from miao.midi.score import Curve
from miao.sound.shelf import Shelf

try:
    import miao.sound._loops as _loops
except ImportError:  # no compiler when the package was installed
    _loops = None  # type: ignore[assignment]  # mypy knows no module that may be missing

SMOOTHING_SECONDS = 0.005  # long enough that no step of a fader clicks, short enough that no attack is dulled
DEFAULTS = {"volume": 100 / 127, "expression": 1.0, "pan": 0.0, "reverb": 40 / 127, "chorus": 0.0}  # General MIDI's

LINE = ("volume", "expression", "pan")

Law = Callable[[Mapping[str, float]], tuple[float, float]]
Spans = Sequence[tuple[float, float]]


def pan_gains(pan: Reals | float) -> Doubles:
    """Left and right gain [2, ...] of a position from -1 (left) to 1 (right): constant power, 1 and 1 at the centre."""
    angle = (np.clip(pan, -1, 1) + 1) * (np.pi / 4)
    gains: Doubles = np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)])
    return gains


def line_gains(values: Mapping[str, float]) -> tuple[float, float]:
    """Left and right gain of a part: volume^2 x expression^2 x pan, as General MIDI has it. Pan is a balance."""
    left, right = pan_gains(values["pan"]).tolist()
    level = values["volume"] ** 2 * values["expression"] ** 2
    return level * left, level * right


def send_gains(name: str) -> Law:
    """A send's gain is its controller."""
    return lambda values: (values[name], values[name])


class Fader:
    """A gain over time that follows some controllers by a law; told of a step before the block that it lies in."""

    def __init__(self, sample_rate: int, law: Law, names: Sequence[str]) -> None:
        self._law, self._span = law, SMOOTHING_SECONDS * sample_rate
        self._sample_rate = sample_rate
        self._values = {name: DEFAULTS[name] for name in names}
        self._coming: list[tuple[float, str, float]] = []
        self._steps: list[tuple[float, tuple[float, float]]] = [(-np.inf, law(self._values))]  # the last 5 ms and on

    def set(self, name: str, value: float, time: float) -> None:
        """A controller takes a value at a time (seconds). Other controllers than its own are passed over."""
        if name in self._values:
            self._coming.append((time, name, value))

    def gains(self, start_sample: int, n_samples: int, busy: Spans) -> Floats:
        """The gains [2, n] of a block; ``busy`` are the spans (seconds) in which the part sounds."""
        pieces, begin, stop = [], start_sample, start_sample + n_samples
        coming = [step for step in self._coming if step[0] * self._sample_rate < stop]
        self._coming = [step for step in self._coming if step[0] * self._sample_rate >= stop]
        for time, name, value in sorted(coming, key=lambda step: step[0]):
            self._values[name] = value
            at, gain = time * self._sample_rate, self._law(self._values)
            if any(start < time < end for start, end in busy):
                self._steps.append((at, gain))
                continue
            border = min(max(int(np.ceil(at)), begin), stop)
            if border > begin:
                pieces.append(self._between(begin, border))
                begin = border
            self._steps = [(-np.inf, gain)]
        if begin < stop:
            pieces.append(self._between(begin, stop))
        while len(self._steps) > 1 and self._steps[1][0] <= stop - self._span:
            del self._steps[0]
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces, axis=1)

    def _between(self, begin: int, stop: int) -> Floats:
        """The mean of the steps over the last 5 ms, for each sample."""
        if len(self._steps) == 1:  # without memory, and quick to multiply by
            return np.broadcast_to(np.array(self._steps[0][1], np.float32)[:, None], (2, stop - begin))
        at = np.array([begin - self._span, *(at for at, _ in self._steps[1:]), np.inf])
        at = np.minimum(np.maximum.accumulate(np.maximum(at, begin - self._span)), stop)
        gains = np.array([gain for _, gain in self._steps]).T  # [2, steps]
        areas = np.concatenate([np.zeros((2, 1)), np.cumsum(gains * np.diff(at), axis=1)], axis=1)  # integral at steps
        # the gain stands still before the first step, and from so long behind the last one on
        first = min(max(int(np.ceil(at[1])), begin), stop)
        last = max(min(int(np.ceil(at[-2] + self._span)), stop), first)
        means = np.empty((2, stop - begin), np.float32)
        means[:, : first - begin], means[:, last - begin :] = gains[:, :1], gains[:, -1:]
        samples = np.arange(first, last)
        for mean, area in zip(means[:, first - begin : last - begin], areas, strict=True):
            mean[:] = (np.interp(samples, at, area) - np.interp(samples - self._span, at, area)) / self._span
        return means


def track_gains(controls: Mapping[str, Curve], start_sample: int, n_samples: int, sample_rate: int) -> Floats:
    """The gains [2, n] of a track that sounds throughout, from its controllers as curves; see `Fader`."""
    fader = Fader(sample_rate, line_gains, LINE)
    for name in LINE:
        if name in controls:
            curve = controls[name]
            fader.set(name, curve.initial, -1.0)
            for time, value in zip(curve.times.tolist(), curve.values.tolist(), strict=True):
                fader.set(name, value, time)
    return fader.gains(start_sample, n_samples, [(0.0, np.inf)])


class Strip:
    """What a part has on the desk: its fader, and those of its sends."""

    def __init__(self, sample_rate: int, sends: Sequence[str]) -> None:
        self.line = Fader(sample_rate, line_gains, LINE)
        self.sends = {name: Fader(sample_rate, send_gains(name), (name,)) for name in sends}

    def set(self, name: str, value: float, time: float) -> None:
        """A controller takes a value at a time (seconds)."""
        self.line.set(name, value, time)
        if name in self.sends:
            self.sends[name].set(name, value, time)


class Desk:
    """All strips. ``mix`` is called with each block in turn, ``set`` with what happens in it before."""

    def __init__(self, sample_rate: int, n_parts: int, sends: Sequence[str] = ("reverb",)) -> None:
        self.strips = [Strip(sample_rate, sends) for _ in range(n_parts)]
        self._sends = tuple(sends)
        self._shelf = Shelf()

    def set(self, part: int, name: str, value: float, time: float) -> None:
        """A controller of a part takes a value at a time (seconds)."""
        self.strips[part].set(name, value, time)

    def mix(
        self, start_sample: int, stems: Floats, busy: Sequence[Spans], extra: Mapping[int, Floats]
    ) -> tuple[Floats, dict[str, Floats]]:
        """The stems [parts, 2, n] behind their faders, and the sum [2, n] of what is sent, by the send's name.

        ``extra`` is what some stems send to the room beyond what they sound, before the fader.
        """
        lines = np.zeros_like(stems)
        return lines, self.add(start_sample, stems, busy, extra, lines, range(len(stems)))

    def add(
        self, start_sample: int, stems: Floats, busy: Sequence[Spans], extra: Mapping[int, Floats],
        rows: Floats, places: Sequence[int],
    ) -> dict[str, Floats]:  # fmt: skip
        """The same, each stem behind its fader added to one of the rows [R, 2, n], in place; gives what is sent."""
        n = stems.shape[2]
        sent = {name: self._shelf.lend_silent(2, n) for name in self._sends}
        for i, (strip, stem, place) in enumerate(zip(self.strips, stems, places, strict=True)):
            gains = strip.line.gains(start_sample, n, busy[i])
            faders = {name: fader.gains(start_sample, n, busy[i]) for name, fader in strip.sends.items()}
            if i not in extra and not busy[i] and is_silent(stem):  # most parts rest most of the time
                continue
            sends = [
                (extra.get(i) if name == "reverb" else None, fader, sent[name])
                for name, fader in faders.items()
                if fader.strides[1] or fader[:, 0].any()  # it is not closed throughout
            ]
            (mix_numpy if _loops is None else _loops.mix)(stem, gains, rows[place], sends)
        return sent


Sends = list[tuple[Floats | None, Floats, Floats]]


def mix_numpy(stem: Floats, gains: Floats, row: Floats, sends: Sends) -> None:
    """Adds a stem behind its fader to a row, and what is sent of it (and beyond it) to the sums of its sends:
    the oracle of the compiled loop, and the fallback. All [2, n]."""
    line = stem * gains
    row += line
    for extra, fader, total in sends:
        total += (line if extra is None else line + extra * gains) * fader


def is_silent(samples: Floats) -> bool:
    """Whether all of [channels, n] is zero."""
    return not samples.any() if _loops is None or not _is_plain(samples) else _loops.is_silent(samples)


def highest(samples: Floats) -> float:
    """The highest amplitude of [channels, n]; 0 of none."""
    if _loops is None or not _is_plain(samples):
        return float(np.abs(samples).max(initial=0))
    return _loops.peak(samples)


def _is_plain(samples: Floats) -> bool:
    """Whether samples lie one after the other in memory; a pause may be one zero for all."""
    return samples.strides[1] == samples.itemsize
