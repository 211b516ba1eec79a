"""The compiled loops of miao.sound, see _loops.cpp: what is wrong in kind or shape raises TypeError or ValueError."""

from numpy import int16, int32
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats

variants: list[str]  # kinds that this processor can run, best first

class Responses:
    def __init__(self, responses: Floats, size: int, variant: str = "") -> None: ...  # [2 ears, 2 speakers, S]

class Convolver:
    def __init__(self, responses: Responses) -> None: ...
    def process(self, samples: Floats, out: Floats) -> None: ...  # [2, n] both

class Limiter:
    def __init__(
        self, channels: int, half: int, ceiling: float, safe_peak: float, decay: float, smallest: float,
        kernels: Floats, variant: str = "",
    ) -> None: ...  # fmt: skip
    @property
    def most(self) -> float: ...
    def process(self, samples: Floats, out: Floats) -> None: ...  # [channels, n] both

# samples [channels, n], filters [2, 5], state [channels, 2, 2], out [n]
def weighted_squares(samples: Floats, filters: Doubles, state: Doubles, reach: int, out: Doubles) -> None: ...

# stem, gains and row [2, n]; of each send what goes there beyond the stem, its gains, and the sum that it is added to
def mix(
    stem: Floats, gains: Floats, row: Floats, sends: list[tuple[Floats | None, Floats, Floats]], variant: str = ""
) -> None: ...
def peak(samples: Floats) -> float: ...  # [channels, n]
def is_silent(samples: Floats) -> bool: ...  # [channels, n]

# samples [channels, n] to whole numbers [n, channels]; how many were beyond full scale, and how many not finite
def quantise16(
    samples: Floats, first: int, scale: float, is_dithered: bool, out: NDArray[int16], variant: str = ""
) -> tuple[int, int]: ...
def quantise32(
    samples: Floats, first: int, scale: float, is_dithered: bool, out: NDArray[int32], variant: str = ""
) -> tuple[int, int]: ...
