"""What is drawn by lot: a note's phases and swaying levels, and where a part reads the noise.

A note draws the same whatever else is rendered, with which other parts and from where on: what it draws hangs on the
seed, its moment, its key and its channel.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miao.bank import tokens as tk
from miao.synth import band_noise
from miao.synth.note import Strike

_N = 65536


class Drawn(NamedTuple):
    """What a note has drawn."""

    turns: NDArray[np.float32]  # [MAX_HARMONIC] where its oscillators set out, in turns
    sway: NDArray[np.float32]  # [N_CELLS] of its levels, in standard deviations


@dataclass(frozen=True, eq=False)
class Lots:
    """Random numbers of a seed; each note and part takes some that lie together."""

    turns: NDArray[np.float32]
    places: NDArray[np.int64]
    sways: NDArray[np.float32]

    def of_note(self, strike: Strike, channel: int) -> Drawn:
        """What a note on a MIDI channel (0 to 15) draws."""
        turn, _, sway = _scattered((round(strike.time * 1e6) * 128 + strike.pitch) * 16 + channel)
        return Drawn(self.turns[turn : turn + tk.MAX_HARMONIC], self.sways[sway : sway + tk.N_CELLS])

    def places_of(self, channel: int) -> NDArray[np.int64]:
        """Where a part reads the noise at sample 0, [N, 2]: what tells it from others is its channel's number."""
        place = _scattered(channel + 1)[1]
        return self.places[place : place + 2 * tk.N_NOISE].reshape(-1, 2)


@lru_cache(maxsize=4)
def lots_of_seed(seed: int, n_noise_samples: int) -> Lots:
    """The random numbers of a seed, for noise of so many samples."""
    random = np.random.Generator(np.random.Philox(key=[seed, 0]))
    return Lots(
        random.random(_N + tk.MAX_HARMONIC, np.float32),
        random.integers(0, n_noise_samples, _N + 2 * tk.N_NOISE),
        random.standard_normal(_N + tk.N_CELLS, np.float32),
    )


@lru_cache(maxsize=2)
def noise_of(sample_rate: int) -> NDArray[np.float32]:
    """The noise that all parts read from, see `band_noise.noise_table`."""
    return band_noise.noise_table(tk.NOISE_EDGES_HZ, sample_rate, seed=0)


def _scattered(number: int) -> tuple[int, int, int]:
    """Three places in `Lots` for a number, by the last steps of SplitMix64."""
    mixed = number & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ (mixed >> 27)) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    return mixed & (_N - 1), mixed >> 16 & (_N - 1), mixed >> 32 & (_N - 1)
