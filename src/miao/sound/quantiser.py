"""Samples to whole numbers of 16 or 24 bits, with dither that depends on nothing but a sample's place.

Dither is the difference of two uniform noises of one step (triangular, +-1 step): what lies below a step is then kept
in the mean, and the error has one variance whatever the signal. The noise is a hash of the sample's number, so that the
same samples make the same file however they are cut into blocks. Exact zeros stay zero.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats

try:
    import miao.sound._loops as _loops
except ImportError:  # no compiler when the package was installed
    _loops = None  # type: ignore[assignment]  # mypy knows no module that may be missing


class Quantised(NamedTuple):
    """Whole numbers, and what was wrong with the samples."""

    steps: NDArray[np.integer]  # [n, channels] i2, or i4 for more than 16 bits
    n_beyond: int  # samples beyond full scale, which are clipped
    n_not_finite: int


def quantise(samples: Floats, first: int, bits: int, is_dithered: bool, variant: str | None = None) -> Quantised:
    """Whole numbers of f4[channels, n] whose first sample is number ``first`` of the sound.

    ``variant`` names the loop, for tests: "numpy" is the oracle and the fallback; None is the best that there is.
    """
    if _loops is None or variant == "numpy":
        return quantise_numpy(samples, first, bits, is_dithered)
    if samples.strides[1] != samples.itemsize:
        samples = np.ascontiguousarray(samples)
    steps = np.empty(samples.shape[::-1], np.int16 if bits <= 16 else np.int32)
    loop = _loops.quantise16 if bits <= 16 else _loops.quantise32
    return Quantised(steps, *loop(samples, first, 2.0 ** (bits - 1), is_dithered, steps, variant or ""))


def quantise_numpy(samples: Floats, first: int, bits: int, is_dithered: bool) -> Quantised:
    """`quantise` in NumPy."""
    channels, n = samples.shape
    scale = np.float32(2.0 ** (bits - 1))
    with np.errstate(invalid="ignore", over="ignore"):
        values = scale * samples
        if is_dithered:
            places = (np.arange(n, dtype=np.uint64) + np.uint64(first)) * np.uint64(channels)
            noise = _noise((places + np.arange(channels, dtype=np.uint64)[:, None]).astype(np.uint32))
            values = values + np.where(samples == 0, np.float32(0), noise)
        values = np.rint(np.fmax(np.fmin(values, scale - 1), -scale))
        steps = values.T.astype(np.int16 if bits <= 16 else np.int32)
        is_beyond = np.abs(samples) > 1
    return Quantised(steps, int(np.count_nonzero(is_beyond)), int(np.count_nonzero(~np.isfinite(samples))))


def _noise(places: NDArray[np.uint32]) -> Floats:
    """Triangular noise, -1 to 1, by the mixing steps of MurmurHash3 (A. Appleby, public domain)."""
    h = places * np.uint32(0x9E3779B1)
    h = (h ^ (h >> np.uint32(16))) * np.uint32(0x85EBCA6B)
    h = (h ^ (h >> np.uint32(13))) * np.uint32(0xC2B2AE35)
    h ^= h >> np.uint32(16)
    low, high = (h & np.uint32(0xFFFF)).astype(np.int32), (h >> np.uint32(16)).astype(np.int32)
    return (low - high).astype(np.float32) / np.float32(65536)
