"""The last step before the file: the true peak of a mix, and the limiter that keeps it below full scale.

True peak is ITU-R BS.1770-4's Annex 2 (four times oversampled) with longer filters than the 12 taps given there, and
two of them, because converters and resamplers differ in what they do to the last two kilohertz: one keeps the band
whole, one cuts it off as they do; the higher peak counts. (White noise limited by the first alone still peaks 1 dB
higher in soxr.)
"""

from functools import cache

import numpy as np

try:
    import miao.sound._loops as _loops
except ImportError:  # no compiler when the package was installed
    _loops = None  # type: ignore[assignment]  # mypy knows no module that may be missing

OVERSAMPLING = 4
HALF_TAPS = 48  # of the interpolation
CUTOFF = 0.955  # of half the sample rate
LOOK_AHEAD_SECONDS = 0.005
RELEASE_SECONDS = 0.1  # to 1/e of the reduction
SMALLEST_REDUCTION = 1e-6
PIECE_SAMPLES = 1 << 15
ROW_SAMPLES = 32


def true_peak(samples: np.ndarray) -> float:
    """The highest amplitude between and at the samples of f4[channels, S], 1 being full scale (20 log10: dBTP)."""
    between = _Between(samples.shape[0])
    highest = float(np.max(np.abs(samples), initial=0))
    padded = np.pad(samples, ((0, 0), (0, HALF_TAPS)))
    for start in range(0, padded.shape[1], PIECE_SAMPLES):
        highest = max(highest, float(between(padded[:, start : start + PIECE_SAMPLES]).max()))
    return highest


class Limiter:
    """Turns the sound down just where its true peak would pass the ceiling (dBTP), all channels together.

    The gain starts to fall 5 ms before a peak, along a triangular window, so that it is down when the peak comes,
    and recovers within a few tenths of a second. What never comes near the ceiling passes bit by bit.

    `process` holds back `latency` samples and `finish` gives them: together as long as what went in, not delayed.
    `reduction_db` is the most that was taken so far (dB, positive).

    ``variant`` names the loop, for tests: "numpy", which is the oracle and the fallback, or one of the compiled ones;
    None is the best that there is.
    """

    def __init__(
        self, sample_rate: int, ceiling_db: float = -1.0, channels: int = 2, variant: str | None = None
    ) -> None:
        # four points a sample miss the very top of what is between them
        self._ceiling = 10 ** ((ceiling_db - 0.25) / 20)
        self._half = max(round(LOOK_AHEAD_SECONDS * sample_rate / 2), 1)  # length of each of two boxes: a triangle
        n_window = 2 * self._half - 1
        self.latency = HALF_TAPS + n_window - 1
        self._between = _Between(channels)
        self._safe_peak = self._ceiling / np.abs(interpolation()).sum(axis=1).max()
        self._decay = 1 / (RELEASE_SECONDS * sample_rate)
        self._delayed = np.zeros((channels, self.latency), np.float32)
        self._last_between = 0.0
        self._wanted = np.zeros(n_window - 1)  # the last of each stage, oldest first
        self._held = -np.inf  # log of the reduction that is being released
        self._boxes = [np.zeros(self._half - 1), np.zeros(self._half - 1)]
        self._n_to_drop = self.latency
        self._most = 0.0
        self._compiled = None
        if _loops is not None and variant != "numpy":
            self._compiled = _loops.Limiter(
                channels, self._half, self._ceiling, self._safe_peak, self._decay, SMALLEST_REDUCTION,
                np.ascontiguousarray(interpolation()[:, ::-1], np.float32), variant or "",
            )  # fmt: skip

    @property
    def reduction_db(self) -> float:
        return float(-20 * np.log10(1 - (self._most if self._compiled is None else self._compiled.most)))

    def process(self, samples: np.ndarray) -> np.ndarray:
        """The next of f4[channels, n]; gives what is finished, f4[channels, up to n]."""
        if self._compiled is not None:
            samples = np.ascontiguousarray(samples, np.float32)
            out = np.empty_like(samples)
            self._compiled.process(samples, out)
        else:
            pieces = [
                self._piece(samples[:, start : start + PIECE_SAMPLES])
                for start in range(0, samples.shape[1], PIECE_SAMPLES)
            ]
            out = np.concatenate([samples[:, :0], *pieces], axis=1, dtype=np.float32)
        n_dropped = min(self._n_to_drop, out.shape[1])
        self._n_to_drop -= n_dropped
        return out[:, n_dropped:]

    def finish(self) -> np.ndarray:
        """What was held back."""
        return self.process(np.zeros((len(self._delayed), self.latency), np.float32))

    def _piece(self, samples: np.ndarray) -> np.ndarray:
        line = np.concatenate([self._delayed, samples], axis=1, dtype=np.float32)
        n = samples.shape[1]
        out, self._delayed = line[:, :n], line[:, n:]
        reduction = self._reduction(line[:, -n - HALF_TAPS : -HALF_TAPS], samples)
        if reduction is None:
            return out
        self._most = max(self._most, float(reduction.max()))
        return out * (1 - reduction).astype(np.float32)

    def _reduction(self, at: np.ndarray, samples: np.ndarray) -> np.ndarray | None:
        """1 - gain for what is leaving; None if all of it is 0. `at` is `samples` delayed to where `_between` is."""
        n = samples.shape[1]
        is_idle = self._held == -np.inf and not any(state.any() for state in (self._wanted, *self._boxes))
        if is_idle and max(np.max(np.abs(samples)), np.max(np.abs(self._between.past))) < self._safe_peak:
            self._between.skip(samples)
            self._last_between = 0.0  # anything below the ceiling
            return None
        between = self._between(samples, self._safe_peak)
        before = np.concatenate([[self._last_between], between[:-1]])
        self._last_between = between[-1]
        peak = np.maximum(np.maximum(between, before), np.abs(at).max(axis=0)).astype(np.float64)
        wanted = np.concatenate([self._wanted, 1 - self._ceiling / np.maximum(peak, self._ceiling)])
        self._wanted = wanted[n:]
        if is_idle and not wanted.any():
            return None
        # hold each wish for the whole window that will be averaged over it, then let go slowly: log turns the decay
        # into a slope, so that the recursion is a running maximum
        held = _running_max(wanted, len(self._wanted) + 1)
        slope = self._decay * np.arange(1, n + 1)
        with np.errstate(divide="ignore"):
            rising = np.maximum(np.maximum.accumulate(np.log(held) + slope), self._held)
        released = np.exp(rising - slope)
        released[released < SMALLEST_REDUCTION] = 0
        self._held = rising[-1] - slope[-1] if released[-1] else -np.inf
        for i, past in enumerate(self._boxes):
            padded = np.concatenate([past, released])
            self._boxes[i] = padded[n:]
            total = np.cumsum(np.concatenate([[0.0], padded]))
            released = (total[self._half :] - total[: -self._half]) / self._half
        return released


class _Between:
    """The highest amplitude of any channel from each sample to the next, not counting it, HALF_TAPS samples late.

    It is a matrix product: a row of 32 samples and what is around them, times the kernels at each of the 32 places.
    """

    def __init__(self, channels: int) -> None:
        kernels = interpolation()[:, ::-1]
        self.past = np.zeros((channels, kernels.shape[1] - 1), np.float32)
        matrix = np.zeros((self.past.shape[1] + ROW_SAMPLES, len(kernels), ROW_SAMPLES), np.float32)
        for place in range(ROW_SAMPLES):
            matrix[place : place + kernels.shape[1], :, place] = kernels.T
        self._matrix = matrix.reshape(len(matrix), -1)

    def __call__(self, samples: np.ndarray, safe_peak: float = 0.0) -> np.ndarray:
        """f4[n] of f4[channels, n]; 0 where all samples around are below `safe_peak`, which is then not looked into."""
        n = samples.shape[1]
        filling = np.zeros((len(samples), -n % ROW_SAMPLES), np.float32)
        line = np.concatenate([self.past, samples, filling], axis=1, dtype=np.float32)
        self.skip(samples)
        rows = np.lib.stride_tricks.sliding_window_view(line, len(self._matrix), axis=1)[:, ::ROW_SAMPLES]
        highest = np.zeros((rows.shape[1], ROW_SAMPLES), np.float32)
        if safe_peak:
            cells = np.abs(np.pad(line, ((0, 0), (0, -line.shape[1] % ROW_SAMPLES)))).max(axis=0)
            cells = cells.reshape(-1, ROW_SAMPLES).max(axis=1)  # a row reaches into as many as it has samples / 32
            reach = -(-len(self._matrix) // ROW_SAMPLES)
            padded = np.pad(cells, (0, reach))
            matters = np.flatnonzero(_running_max(padded, reach)[: len(highest)] >= safe_peak)
        else:
            matters = np.arange(len(highest))
        for channel in rows:
            points = np.abs(channel[matters] @ self._matrix)
            points = points.reshape(len(matters), self._matrix.shape[1] // ROW_SAMPLES, ROW_SAMPLES)
            for kernel in range(points.shape[1]):  # the maximum over an inner axis is ten times slower
                highest[matters] = np.maximum(highest[matters], points[:, kernel])
        return highest.reshape(-1)[:n]

    def skip(self, samples: np.ndarray) -> None:
        """Goes on as if it had been asked about `samples`."""
        n_past = self.past.shape[1]
        self.past = np.concatenate([self.past, samples[:, -n_past:]], axis=1, dtype=np.float32)[:, -n_past:]


@cache
def interpolation() -> np.ndarray:
    """Kernels [7, 2 HALF_TAPS]: the points between two samples of the whole band, then all of the band to 20 kHz."""
    distance = np.arange(OVERSAMPLING)[:, None] / OVERSAMPLING - HALF_TAPS + np.arange(2 * HALF_TAPS)
    window = np.i0(7 * np.sqrt(1 - (distance / HALF_TAPS) ** 2)) / np.i0(7)
    kernels = np.concatenate([np.sinc(distance[1:]) * window[1:], CUTOFF * np.sinc(CUTOFF * distance) * window])
    kernels.setflags(write=False)
    return kernels


def _running_max(values: np.ndarray, n: int) -> np.ndarray:
    """The highest of each n values in a row, by doubling."""
    width = 1
    while width < n:
        step = min(width, n - width)
        values = np.maximum(values[step:], values[:-step])
        width += step
    return values
