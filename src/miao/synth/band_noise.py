"""The noise that notes' bands are made of: loops that all parts read from, each from a place of its own."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from miao.arrays import Doubles

LOOP_SAMPLES = 65536  # 1.5 s at 44.1 kHz: long enough that its return is not heard
EDGE_WIDTH = 0.25  # a noise band fades over this part of the narrower neighbour, to each side of the edge


def noise_table(edges_hz: ArrayLike, sample_rate: int, seed: int, n_samples: int = LOOP_SAMPLES) -> NDArray[np.float32]:
    """Loops of band noise, one per band between neighbouring edges.

    Gaussian in distribution, each of unit RMS. Neighbouring bands fade into each other with powers that sum to one,
    so bands of equal power *density* (RMS proportional to the root of the width) add up to white noise without
    dents. What of a band lies above half the sample rate is missing, and its power with it: a gain means the same
    colour at every rate. The lowest edge may be 0; then the first band does not fade towards it.

    Shape: [N, n_samples] float32 for N + 1 edges; equal for equal arguments.
    Raises: ValueError if the edges do not increase from 0 or above, if a band is narrower than the spacing of the
    loop's frequencies (sample_rate / n_samples), or if n_samples is not a power of two.
    """
    edges = np.asarray(edges_hz, dtype=np.float64)
    if edges.ndim != 1 or len(edges) < 2 or edges[0] < 0 or not (np.diff(edges) > 0).all():
        raise ValueError(f"edges_hz {edges.tolist()}: give two or more increasing frequencies from 0 Hz up")
    if n_samples < 2 or n_samples & (n_samples - 1):
        raise ValueError(f"n_samples {n_samples}: must be a power of two")

    spacing_hz = sample_rate / n_samples
    n_bins = max(n_samples // 2, int(np.ceil(2 * edges[-1] / spacing_hz))) + 1  # also those that this rate cannot hold
    reach = _reaches(edges)
    table = np.empty((len(edges) - 1, n_samples), dtype=np.float32)
    for band, row in enumerate(table):
        # only the bins of the band and of its flanks are looked at
        first = max(int((edges[band] - reach[band]) / spacing_hz), 1)  # no direct current
        last = min(int(np.ceil((edges[band + 1] + reach[band + 1]) / spacing_hz)) + 1, n_bins)
        hz: Doubles = spacing_hz * np.arange(first, last, dtype=np.float64)
        power = _fade(hz, edges[band], reach[band]) - _fade(hz, edges[band + 1], reach[band + 1])
        if not power.any():
            raise ValueError(
                f"band {edges[band]:g}-{edges[band + 1]:g} Hz is too narrow for a loop of {n_samples} samples at "
                f"{sample_rate} Hz; widen it beyond {spacing_hz:g} Hz or take more samples"
            )
        magnitude = (n_samples * np.sqrt(power / power.sum() / 2)).astype(np.float32)
        inside = np.flatnonzero(magnitude[: max(n_samples // 2 - first, 0)])  # half the sample rate stays empty
        # numbers are drawn from the lowest frequency on
        angles = np.float32(2 * np.pi) * np.random.default_rng([seed, band]).random(len(inside), np.float32)
        spectrum = np.zeros(n_samples // 2 + 1, np.complex64)
        spectrum[first + inside] = magnitude[inside] * (np.cos(angles) + np.complex64(1j) * np.sin(angles))
        row[:] = np.fft.irfft(spectrum, n_samples)
    return table


def _reaches(edges: Doubles) -> Doubles:
    """How far bands fade into each other to each side of each edge, Hz; 0 Hz is no edge to fade at."""
    widths = np.diff(edges)
    reach = EDGE_WIDTH * np.minimum(np.append(widths, widths[-1]), np.insert(widths, 0, widths[0]))
    return np.where(edges == 0, 0.0, reach)


def _fade(hz: Doubles, edge_hz: float, reach_hz: float) -> Doubles:
    """The part of the power that belongs above an edge: 0 to 1 as a squared sine."""
    position = (hz - edge_hz) / (2 * reach_hz) + 0.5 if reach_hz else np.ones(len(hz))
    fade: Doubles = np.sin(np.pi / 2 * np.clip(position, 0, 1)) ** 2
    return fade
