"""Convolution of stereo sound with long responses, block by block: what a room is made of.

The responses are cut into partitions of one length, each transformed once; so is each partition of what comes in. As
many samples come out as go in, without delay and however they are cut: the partition that is being filled is
transformed again at each call, so whole partitions at a time cost least. Silence stays silence and costs nothing.

The compiled loop takes both channels as one complex signal. The NumPy one is the oracle of the tests, and works where
nothing could be compiled.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats

try:
    import miao.sound._loops as _loops
except ImportError:  # no compiler when the package was installed
    _loops = None  # type: ignore[assignment]  # mypy knows no module that may be missing


def partitions(responses: Floats, partition_samples: int) -> Any:
    """Responses [2 ears, 2 speakers, S], cut and transformed; a partition has a power of two of samples, 512 or more.

    Convolvers of one room share them.
    """
    return (
        Partitions(responses, partition_samples)
        if _loops is None
        else _loops.Responses(np.ascontiguousarray(responses, np.float32), partition_samples)
    )


def convolver(parts: Any) -> "Convolver":
    """A silent convolver with what `partitions` gives."""
    return Convolver(parts) if isinstance(parts, Partitions) else CompiledConvolver(parts)


class Partitions:
    """In NumPy."""

    def __init__(self, responses: Floats, partition_samples: int) -> None:
        self.size = size = partition_samples
        n_parts = max(-(-responses.shape[-1] // size), 1)
        padded = np.zeros((2, 2, n_parts * size), np.float32)
        padded[..., : responses.shape[-1]] = responses
        parts = padded.reshape(2, 2, n_parts, size).transpose(2, 0, 1, 3)
        self.spectra = np.fft.rfft(parts, 2 * size).astype(np.complex64)  # [parts, ears, speakers, size + 1]


class Convolver:
    """In NumPy: the state is what was sent so far."""

    def __init__(self, parts: Partitions) -> None:
        self._size, self._parts = parts.size, parts.spectra
        size, n_parts = self._size, len(self._parts)
        self._past = np.zeros((n_parts, 2, size + 1), np.complex64)  # ring of spectra: what was sent, by partition
        self._at = 0  # where in the ring the partition goes that is being filled
        self._filling = np.zeros((2, size), np.float32)
        self._n_filled = 0
        # what all but the partition that is being filled add to it and to the next
        self._coming: np.ndarray = np.zeros((2, 2 * size), np.float32)
        self._n_sounding = 0  # partitions until the past is silent

    def process(self, samples: Floats) -> Floats:
        """The answer to f4[2, n], f4[2, n]; n may be anything."""
        size = self._size
        out = np.empty_like(samples, dtype=np.float32)
        done = 0
        while done < samples.shape[1]:
            n = min(size - self._n_filled, samples.shape[1] - done)
            span = slice(self._n_filled, self._n_filled + n)
            self._filling[:, span] = samples[:, done : done + n]
            now = self._coming
            spectrum = None
            if self._filling[:, : span.stop].any():
                # row by row: two rows that lie a power of two apart get in each other's way in the cache
                spectrum = np.stack([np.fft.rfft(row, 2 * size) for row in self._filling])
                now = now + np.fft.irfft((spectrum * self._parts[0]).sum(axis=1), 2 * size)
            out[:, done : done + n] = now[:, span]
            self._n_filled += n
            done += n
            if self._n_filled == size:
                self._turn(spectrum, now)
        return out

    def _turn(self, spectrum: NDArray[np.complex128] | None, now: Floats) -> None:
        """The filled partition joins the past; what the past adds to the next one is computed, once."""
        size, n_parts = self._size, len(self._parts)
        self._past[self._at] = 0 if spectrum is None else spectrum
        self._n_sounding = n_parts if spectrum is not None else self._n_sounding - 1
        self._coming = np.zeros((2, 2 * size), np.float32)
        if self._n_sounding > 0:
            total = np.zeros((2, size + 1), np.complex64)
            for part in range(1, n_parts):
                past = self._past[(self._at + 1 - part) % n_parts]
                total += self._parts[part, :, 0] * past[0]
                total += self._parts[part, :, 1] * past[1]
            self._coming = np.fft.irfft(total, 2 * size)
        self._coming[:, :size] += now[:, size:]
        self._at = (self._at + 1) % n_parts
        self._filling[:] = 0
        self._n_filled = 0


class CompiledConvolver(Convolver):
    """The same, compiled."""

    def __init__(self, parts: Any) -> None:
        self._convolver = _loops.Convolver(parts)

    def process(self, samples: Floats) -> Floats:
        """The answer to f4[2, n], f4[2, n]; n may be anything."""
        samples = np.asarray(samples, np.float32)
        if samples.strides[1] != samples.itemsize:
            samples = np.ascontiguousarray(samples)
        out = np.empty(samples.shape, np.float32)
        self._convolver.process(samples, out)
        return out
