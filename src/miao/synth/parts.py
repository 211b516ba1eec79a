"""What the controllers of a part stand at, as far as they concern how its notes sound: bend, vibrato, soft pedal,
brightness, attack, decay and release."""

import math
from bisect import bisect_right

import numpy as np

from miao.arrays import Doubles
from miao.synth.envelope import setting
from miao.synth.note import Bend

VIBRATO_HZ, VIBRATO_CENTS = 5.5, 50.0  # at full modulation wheel or pressure
BEND_SMOOTHING_SECONDS = 0.005
_MOVES_PITCH = ("bend", "modulation", "pressure")
_SHAPES = ("attack", "decay", "release")


class Part:
    """What a part's controllers stand at, as far as they concern how its notes sound."""

    NAMES = (*_MOVES_PITCH, "soft", "brightness", *_SHAPES)

    def __init__(self, channel: int) -> None:
        self.channel = channel
        self.soft = self.attack = self.decay = self.release = 0.0
        self.brightness: Steps | None = None  # -1 to 1; None if it has never been anything but 0
        self._steps = {name: Steps() for name in _MOVES_PITCH}
        self._keys: dict[int, Steps] = {}  # pressure by pitch
        self._tunings: dict[int, Steps] = {}  # cents by which keys have moved, by pitch

    def set(self, name: str, value: float, time: float) -> None:
        """A controller takes a value at a time."""
        if name == "soft":
            self.soft = value
        elif name in _SHAPES:
            setattr(self, name, setting(value))
        elif name == "brightness":
            if self.brightness is None and setting(value):
                self.brightness = Steps()
            if self.brightness is not None:
                self.brightness.add(time, setting(value))
        else:
            self._steps[name].add(time, value)

    def press(self, pitch: int, value: float, time: float) -> None:
        """A key is pressed so hard from a time on."""
        self._keys.setdefault(pitch, Steps()).add(time, value)

    def tune(self, pitch: int, cents: float, time: float) -> None:
        """What sounds of a key moves by some cents from a time on."""
        self._tunings.setdefault(pitch, Steps()).add(time, self.tuned(pitch) + cents)

    def tuned(self, pitch: int) -> float:
        """Cents by which a key has moved so far: a note that starts has them in its own tuning."""
        return self._tunings[pitch].values[-1] if pitch in self._tunings else 0.0

    def forget(self, before: float) -> None:
        """Drop what was in force before a time and is no longer."""
        for steps in (*self._steps.values(), *self._keys.values(), *self._tunings.values()):
            steps.forget(before)
        if self.brightness is not None:
            self.brightness.forget(before)

    def bend(self, pitch: int) -> Bend | None:
        """Pitch wheel, tuning and vibrato of notes of a pitch, cents; None where nothing moves or shifts it."""
        key, tuning = self._keys.get(pitch), self._tunings.get(pitch)
        bend, modulation, pressure = (self._steps[name] for name in _MOVES_PITCH)
        if all(steps is None or steps.rests for steps in (bend, modulation, pressure, key, tuning)):
            return None

        def cents(times: Doubles, start: float) -> Doubles:
            depth = np.maximum(modulation.mean(times, start), pressure.mean(times, start))
            if key is not None:
                depth = np.maximum(depth, key.mean(times, start))
            vibrato = np.sin(2 * np.pi * VIBRATO_HZ * (times - start))
            moved: Doubles = 100 * bend.mean(times, start) + VIBRATO_CENTS * depth * vibrato
            return moved if tuning is None else moved + tuning.mean(times, start)

        return cents


class Steps:
    """A controller over time, as far back as it may still be asked about."""

    def __init__(self) -> None:
        self.times, self.values = [-math.inf], [0.0]

    def add(self, time: float, value: float) -> None:
        """It takes a value at a time, no earlier than the last one told."""
        if time == self.times[-1]:
            self.values[-1] = value
        elif value != self.values[-1]:
            self.times.append(time)
            self.values.append(value)

    @property
    def rests(self) -> bool:
        """Whether it has been at 0 for as long as is known."""
        return not any(self.values)

    def forget(self, before: float) -> None:
        """Drop what was in force before a time and is no longer."""
        n = bisect_right(self.times, before) - 1
        if n > 0:
            del self.times[:n], self.values[:n]
            self.times[0] = -math.inf

    def at(self, times: Doubles) -> Doubles:
        """What is in force at some times."""
        values: Doubles = np.array(self.values)[np.searchsorted(self.times, times, side="right") - 1]
        return values

    def mean(self, times: Doubles, since: float) -> Doubles:
        """Of the last 5 ms before each of some times, but not of what was before ``since``."""
        values, at = np.array(self.values), np.array(self.times[1:])
        if not len(at):
            return np.full(len(times), values[0])
        origin = float(at[0])
        area = np.concatenate([[0.0], np.cumsum(values[1:-1] * np.diff(at))])  # integral from the first step to each

        def integral(moments: Doubles) -> Doubles:
            place = at.searchsorted(moments, side="right")
            left = np.maximum(place - 1, 0)
            sums: Doubles = np.where(
                place == 0, values[0] * (moments - origin), area[left] + values[place] * (moments - at[left])
            )
            return sums

        begin = np.maximum(times - BEND_SMOOTHING_SECONDS, since)
        place = at.searchsorted(times, side="right")
        means = (integral(times) - integral(begin)) / np.maximum(times - begin, 1e-9)
        return np.where(place == at.searchsorted(begin, side="right"), values[place], means)
