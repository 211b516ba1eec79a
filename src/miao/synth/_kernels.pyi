"""The compiled loops of miao.synth.oscillators, and the compiled course of a note, see _kernels.cpp: what does not fit
raises TypeError or ValueError."""

from collections.abc import Callable

from numpy import int32
from numpy.typing import NDArray

from miao.arrays import AnyArray, Doubles, Floats, Integers
from miao.synth.oscillators import NotePart

def add_partials(
    out: Floats, knots: Doubles, phase: Doubles, amplitudes: Floats, ratios: Doubles, offsets: Floats, gains: Floats,
    floor: float,
) -> None: ...  # fmt: skip
def add_notes(
    out: Floats, parts: list[NotePart | Part], table: Floats, places: Integers, begin: int, is_extra: bool,
    silent: float, octaves: float, floor: float,
) -> None: ...  # fmt: skip
def work_on_notes(
    orders: list[tuple[Floats, list[NotePart | Part], Integers, bool]], table: Floats, begin: int, silent: float,
    octaves: float, floor: float,
) -> Work: ...  # fmt: skip
def brightened(
    rows: Floats, settings: Floats, lifts: Floats, weights: Floats, dark: float, louder: float, near_levels: float,
    far_levels: float, per_level: float,
) -> Floats: ...  # fmt: skip

variants: dict[str, tuple[Callable[..., None], Callable[..., None], Callable[..., Work]]]  # the three; best first

class Work:
    """Stems that any number of threads make, one after another."""

    def run(self) -> None: ...

class Rows:
    """`course.Rows`, shared by all courses that they are part of."""

    def __init__(self, levels: Floats, bends: Doubles) -> None: ...
    @property
    def levels(self) -> Floats: ...
    @property
    def bends(self) -> Doubles: ...

class Part:
    """What is heard of a note in a block; `arrays` are the fields of `oscillators.NotePart`."""

    def scaled(self, factor: float) -> Part: ...
    def arrays(self) -> tuple[AnyArray, ...]: ...

class Course:
    """`course.Course`."""

    phase: float
    def __init__(
        self, hz: float, n_cells: int, ratios: Doubles, cells: NDArray[int32], shares: Floats, offsets: Floats,
        gains: Floats, balance: Floats, is_wide: bool,
    ) -> None: ...  # fmt: skip
    @property
    def changes(self) -> int: ...
    @property
    def last(self) -> float: ...
    @property
    def times(self) -> Doubles: ...
    @property
    def hz(self) -> Doubles: ...
    @property
    def levels(self) -> Floats: ...
    def copy(self) -> Course: ...
    def append(self, heard: Rows, start: float, times: Doubles, first: int) -> None: ...
    def fall_silent(self, seconds: float) -> None: ...
    def truncate(self, moment: float) -> None: ...
    def rejoin(self, other: Course) -> None: ...
    def loudest_at(self, moment: float) -> float: ...
    def pass_by(self, moment: float) -> int: ...
    def span(self, begin: int, n_samples: int, rate: float) -> tuple[float, float] | None: ...
    def part(self, begin: int, n_samples: int, rate: float) -> Part | None: ...
    def bent_part(self, begin: int, n_samples: int, rate: float, cells: Doubles, bends: Doubles) -> Part | None: ...
