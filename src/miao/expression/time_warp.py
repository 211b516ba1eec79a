"""The one time that all parts share: seconds as written to seconds as played, notes, controllers and tempi."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles
from miao.midi.score import Curve

LEAST_SLOPE, MOST_SLOPE = 0.4, 4.0  # of played time over written time, before the tempo of the mood


@dataclass(frozen=True, eq=False)
class Warp:
    """A strictly rising map of seconds, straight between its knots and at the ends of slope `speed`^-1."""

    written: NDArray[np.float64]  # [m + 1]
    played: NDArray[np.float64]  # [m + 1]
    speed: float

    @classmethod
    def of(cls, seconds: NDArray[np.float64], stretch: NDArray[np.float64], strays: NDArray[np.float64],
           octaves: float) -> "Warp":  # fmt: skip
        """Of knots [m + 1], how much longer each step between them is [m], by how many seconds each knot strays
        besides [m + 1], and the octaves of tempo on top. The first knot stays where it is, if that is 0."""
        lengths = np.diff(seconds)
        longer = 1 + stretch + np.diff(strays) / np.maximum(lengths, 1e-9)
        longer = np.clip(longer, LEAST_SLOPE, MOST_SLOPE)
        speed = 2.0**octaves
        played = (seconds[0] + np.concatenate([[0.0], np.cumsum(lengths * longer)])) / speed
        return cls(seconds, played, speed)

    def at(self, seconds: NDArray[np.float64]) -> NDArray[np.float64]:
        """When written moments are played, same shape."""
        inside = np.interp(seconds, self.written, self.played)
        before = np.minimum(seconds - self.written[0], 0) / self.speed
        played: Doubles = inside + before + np.maximum(seconds - self.written[-1], 0) / self.speed
        return played

    def curve(self, curve: Curve) -> Curve:
        """A controller in played time."""
        return Curve(self.at(curve.times), curve.values, curve.initial) if len(curve.times) else curve

    def tempi(self, quarters: NDArray[np.float64], tempi: Curve) -> Curve:
        """Quarter notes a minute in played time; `quarters` are those of the knots."""
        rate = np.diff(quarters) / np.maximum(np.diff(self.played), 1e-9) * 60
        changes = np.append(True, np.abs(np.diff(rate)) > 1e-9 * rate[1:])
        later = tempi.times > self.written[-1]
        times = np.concatenate([self.played[:-1][changes], self.at(tempi.times[later])])
        values = np.concatenate([rate[changes], tempi.values[later] * self.speed])
        return Curve(times, values, float(rate[0]))
