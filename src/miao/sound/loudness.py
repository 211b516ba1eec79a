"""How loud a mix is: the integrated loudness of ITU-R BS.1770-4, in LUFS.

pyloudnorm differs by -0.04 LU: its high-pass has unit gain.
"""

import numpy as np

GATE_HOP_SECONDS = 0.1  # gating blocks of 0.4 s overlap by 75 %
CHUNK_HOPS = 8  # filtered at a time
HIGH_PASS_GAIN = 1.004995  # the recommendation's, whose numerator is 1, -2, 1
ABSOLUTE_GATE_LUFS = -70.0
RELATIVE_GATE_LU = -10.0


class Loudness:
    """A meter for integrated loudness, fed block by block.

    Channels count alike (mono, stereo). Sound shorter than one gating block (0.4 s) is measured as one block of its
    own length; silence, or nothing above the gate of -70 LUFS, is -inf.
    """

    def __init__(self, sample_rate: int, channels: int = 2) -> None:
        self._hop = round(GATE_HOP_SECONDS * sample_rate)
        self._spectrum = np.fft.rfft(k_weighting(sample_rate), (CHUNK_HOPS + 1) * self._hop).astype(np.complex64)
        self._past = np.zeros((channels, self._hop), np.float32)
        self._pending = np.zeros((channels, 0), np.float32)
        self._powers = [np.zeros(0)]  # mean square of each hop, summed over channels

    def add(self, samples: np.ndarray) -> None:
        """The next f4[channels, n] of the sound."""
        self._pending = np.concatenate([self._pending, samples], axis=1, dtype=np.float32)
        n = CHUNK_HOPS * self._hop
        while self._pending.shape[1] >= n:
            squares = self._weighted_squares(self._pending[:, :n])
            self._powers.append(squares.reshape(CHUNK_HOPS, self._hop).mean(axis=1))
            self._past, self._pending = self._pending[:, n - self._hop : n], self._pending[:, n:]

    def integrated(self) -> float:
        """LUFS of all that was added so far."""
        rest = self._weighted_squares(self._pending)
        n_rest = len(rest) // self._hop
        hops = np.concatenate([*self._powers, rest[: n_rest * self._hop].reshape(n_rest, self._hop).mean(axis=1)])
        blocks = (
            np.convolve(hops, np.full(4, 0.25), "valid")
            if len(hops) >= 4
            else np.array([rest.sum()]) / max(len(rest), 1)
        )
        loud = blocks[blocks > 10 ** ((ABSOLUTE_GATE_LUFS + 0.691) / 10)]
        if not len(loud):
            return -np.inf
        gated = loud[loud > np.mean(loud) * 10 ** (RELATIVE_GATE_LU / 10)]
        return float(-0.691 + 10 * np.log10(np.mean(gated)))

    def _weighted_squares(self, samples: np.ndarray) -> np.ndarray:
        """K-weighted, squared and summed over channels, by overlap-save: f8[n] of f4[channels, n], n up to a chunk."""
        n = (CHUNK_HOPS + 1) * self._hop
        lines = np.concatenate([self._past, samples], axis=1)
        weighted = [np.fft.irfft(np.fft.rfft(line, n) * self._spectrum, n)[self._hop : len(line)] for line in lines]
        return np.sum(np.square(weighted, dtype=np.float64), axis=0)


def k_weighting(sample_rate: int) -> np.ndarray:
    """BS.1770's two filters as one impulse response of 0.1 s: the head's shelf, then the 38 Hz high-pass.

    They are given for 48 kHz only; the analogue prototypes behind those numbers (as libebur128 has them) make them for
    any rate, with the same gain. The response has fallen by more than 200 dB at its end.
    """
    n = round(GATE_HOP_SECONDS * sample_rate)
    z = np.exp(-1j * np.pi * np.arange(2 * n + 1) / (2 * n))  # one sample of delay, at each bin of a 4 n transform
    k, q, gain = np.tan(np.pi * 1681.974450955533 / sample_rate), 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    band = gain**0.4996667741545416
    shelf = ((gain + band * k / q + k * k) + 2 * (k * k - gain) * z + (gain - band * k / q + k * k) * z**2) / (
        (1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z**2
    )
    k, q = np.tan(np.pi * 38.13547087602444 / sample_rate), 0.5003270373238773
    high_pass = HIGH_PASS_GAIN * (1 - z) ** 2 / ((1 + k / q + k * k) + 2 * (k * k - 1) * z + (1 - k / q + k * k) * z**2)
    return np.fft.irfft(shelf * high_pass)[:n]
