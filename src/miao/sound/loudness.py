"""How loud a mix is: the integrated loudness of ITU-R BS.1770-4, in LUFS.

pyloudnorm differs by -0.04 LU: its high-pass has unit gain.
"""

import numpy as np

from miao.arrays import Doubles, Reals

try:
    import miao.sound._loops as _loops
except ImportError:  # no compiler when the package was installed
    _loops = None  # type: ignore[assignment]  # mypy knows no module that may be missing

GATE_HOP_SECONDS = 0.1  # gating blocks of 0.4 s overlap by 75 %
HIGH_PASS_GAIN = 1.004995  # the recommendation's, whose numerator is 1, -2, 1
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0
_NONE = np.zeros(0)


class Loudness:
    """A meter for integrated loudness, fed block by block.

    Channels count alike (mono, stereo). Sound shorter than one gating block (0.4 s) is measured as one block of its
    own length; silence, or nothing above the gate of -70 LUFS, is -inf.
    """

    def __init__(self, sample_rate: int, channels: int = 2) -> None:
        self._hop = round(GATE_HOP_SECONDS * sample_rate)
        self._weighting = (Weighting if _loops is None else CompiledWeighting)(sample_rate, channels)
        self._pending = np.zeros(0)  # squares of a hop that is not complete
        self._powers = [np.zeros(0)]  # mean square of each hop, summed over channels

    def add(self, samples: np.ndarray) -> None:
        """The next f4[channels, n] of the sound."""
        squares = self._weighting.squares(samples, self._pending)
        whole = len(squares) // self._hop * self._hop
        self._powers.append(squares[:whole].reshape(-1, self._hop).mean(axis=1))
        self._pending = squares[whole:]

    def integrated(self) -> float:
        """LUFS of all that was added so far."""
        hops = np.concatenate(self._powers)
        if len(hops) >= 4:
            blocks = np.convolve(hops, np.full(4, 0.25), "valid")
        else:
            n = len(hops) * self._hop + len(self._pending)
            blocks = np.array([hops.sum() * self._hop + self._pending.sum()]) / max(n, 1)
        loud = blocks[blocks > 10 ** ((ABSOLUTE_GATE_LUFS + 0.691) / 10)]
        if not len(loud):
            return -np.inf
        gated = loud[loud > np.mean(loud) * 10 ** (RELATIVE_GATE_LU / 10)]
        return float(-0.691 + 10 * np.log10(np.mean(gated)))


class Weighting:
    """K-weighting in NumPy, by overlap-save with the filters' response: the oracle, and the fallback."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._response = k_weighting(sample_rate)
        self._past = np.zeros((channels, len(self._response)))

    def squares(self, samples: np.ndarray, before: Doubles = _NONE) -> Doubles:
        """The next f4[channels, n], weighted, squared and summed over channels, behind some squares ``before``."""
        n_past, step = len(self._response), 8 * len(self._response)
        lines = np.concatenate([self._past, samples], axis=1)
        self._past = lines[:, lines.shape[1] - n_past :]
        spectrum = np.fft.rfft(self._response, n_past + step)
        found = [before]
        for start in range(0, samples.shape[1], step):
            pieces = lines[:, start : start + n_past + step]
            weighted = np.fft.irfft(np.fft.rfft(pieces, n_past + step) * spectrum, n_past + step)
            found.append(np.square(weighted[:, n_past : pieces.shape[1]]).sum(axis=0))
        return np.concatenate(found)


class CompiledWeighting:
    """The same by the two filters themselves, compiled."""

    def __init__(self, sample_rate: int, channels: int) -> None:
        self._filters = k_filters(sample_rate)
        self._state = np.zeros((channels, 2, 2))
        self._reach = round(GATE_HOP_SECONDS * sample_rate)  # behind which they have forgotten what was, see below

    def squares(self, samples: np.ndarray, before: Doubles = _NONE) -> Doubles:
        """The next f4[channels, n], weighted, squared and summed over channels, behind some squares ``before``."""
        samples = np.asarray(samples, np.float32)
        if samples.strides[1] != samples.itemsize:
            samples = np.ascontiguousarray(samples)
        out = np.empty(len(before) + samples.shape[1])
        out[: len(before)] = before
        _loops.weighted_squares(samples, self._filters, self._state, self._reach, out[len(before) :])
        return out


def energy_db(sound: Reals, seconds: float = 1.0, sample_rate: int = 44_100) -> float:
    """Energy of the beginning of a sound, mean of the channels, dB."""
    return float(10 * np.log10(np.square(sound[:, : int(seconds * sample_rate)]).sum() / len(sound) + 1e-12))


def k_filters(sample_rate: int) -> Doubles:
    """BS.1770's two filters, each as b0, b1, b2, a1, a2: the head's shelf, then the 38 Hz high-pass.

    They are given for 48 kHz only; the analogue prototypes behind those numbers (as libebur128 has them) make them for
    any rate, with the same gain.
    """
    k, q, gain = np.tan(np.pi * 1681.974450955533 / sample_rate), 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = gain**0.4996667741545416
    head = 1 + k / q + k * k
    shelf = [
        (gain + band * k / q + k * k) / head, 2 * (k * k - gain) / head, (gain - band * k / q + k * k) / head,
        2 * (k * k - 1) / head, (1 - k / q + k * k) / head,
    ]  # fmt: skip
    k, q = np.tan(np.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    head = 1 + k / q + k * k
    high_pass = [
        HIGH_PASS_GAIN / head, -2 * HIGH_PASS_GAIN / head, HIGH_PASS_GAIN / head,
        2 * (k * k - 1) / head, (1 - k / q + k * k) / head,
    ]  # fmt: skip
    return np.array([shelf, high_pass])


def k_weighting(sample_rate: int) -> Doubles:
    """Both filters as one impulse response of 0.1 s, at whose end it has fallen by more than 200 dB."""
    n = round(GATE_HOP_SECONDS * sample_rate)
    z = np.exp(-1j * np.pi * np.arange(2 * n + 1) / (2 * n))  # one sample of delay, at each bin of a 4 n transform
    response = np.ones(len(z), complex)
    for b0, b1, b2, a1, a2 in k_filters(sample_rate):
        response *= (b0 + b1 * z + b2 * z**2) / (1 + a1 * z + a2 * z**2)
    return np.fft.irfft(response)[:n]
