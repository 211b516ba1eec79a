"""The compiled loops of miao.synth.oscillators, see _kernels.cpp: what does not fit raises TypeError or ValueError."""

from collections.abc import Callable

from miao.arrays import Doubles, Floats, Integers
from miao.synth.oscillators import NotePart

def add_partials(
    out: Floats, knots: Doubles, phase: Doubles, amplitudes: Floats, ratios: Doubles, offsets: Floats, gains: Floats,
    floor: float,
) -> None: ...  # fmt: skip
def add_noise(
    out: Floats, knots: Doubles, gains: Floats, balance: Floats, table: Floats, offsets: Integers, floor: float
) -> None: ...
def add_notes(
    out: Floats, parts: list[NotePart], table: Floats, silent: float, octaves: float, floor: float, masked: float
) -> None: ...

variants: dict[
    str, tuple[Callable[..., None], Callable[..., None], Callable[..., None]]
]  # the three, by kind; best first
