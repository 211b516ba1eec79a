"""Notes, their partials and noise bands to samples: the hot loops.

A note is described at *knots*: sample positions, not necessarily whole numbers, at which its amplitudes are known;
between two knots everything is linear. All functions add into a block of output and keep no state, so a note that
began in an earlier block is simply passed with negative knots, and any split into blocks gives the same samples.
`add_partials` takes amplitudes, `add_notes` takes levels, all notes of a part at once, without the GIL.

Each loop exists twice. The NumPy one says what is meant, is the oracle of the tests and works everywhere; the C++ one
in `_kernels` is some fifty times faster and is used whenever it could be built. `KERNELS` tells which one it is.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk

_kernels: Any
try:
    import miao.synth._kernels as _compiled

    _kernels = _compiled  # what is in use
except ImportError:  # no compiler when the package was installed
    _kernels = _compiled = None  # type: ignore[assignment]  # mypy knows no module that may be missing

log = logging.getLogger(__name__)

KERNELS = "numpy" if _kernels is None else "compiled"

REACHED = tk.PITCH_CELL  # of `NotePart.levels`
GRID, PAST = 32, 64  # samples between moments of the noise of a part; before a block that its noise is told by
_BLOCK = 1024  # samples made at a time by the NumPy loops, which bounds their memory

# 2 ^ (_SILENT + _OCTAVES * level) is the amplitude of a level, see tokens.level_to_amplitude
_OCTAVES = tk.LEVEL_STEP_DB / (20 * np.log10(2))
_SILENT = float(tk.level_to_db(np.zeros(()))) / (20 * np.log10(2))
LEVEL_SCALE = _SILENT, float(_OCTAVES)

_warned = False


def variants() -> list[str]:
    """The loops there are here, the fastest first: compiled ones that this processor can run, and "numpy"."""
    return [*(_compiled.variants if _compiled else ()), "numpy"]


def set_variant(name: str) -> None:
    """Use other loops from here on, for tests and comparisons: one of `variants`. Raises: ValueError for others."""
    global _kernels
    if name not in variants():
        raise ValueError(f'no loops "{name}"; on this processor there are {", ".join(variants())}')
    if name == "numpy":
        _kernels = None
    else:
        loops = zip(("add_partials", "add_notes", "work_on_notes"), _compiled.variants[name], strict=True)
        _kernels = SimpleNamespace(**(vars(_compiled) | dict(loops)))


def loops() -> Any:
    """The compiled loops in use, with the compiled twins of `course`; None where those in NumPy are."""
    return _kernels


class NotePart(NamedTuple):
    """What is heard of one note in a stretch of time; a plain tuple of arrays, as the compiled loop takes it.

    Levels are those of partial cells and of noise bands. ``phase`` follows the pitch cell already, so that in its place
    stands how much of the way from the row before was gone when something else began: 1 everywhere but where a note is
    let go or cut between two tokens. There amplitudes turn on the very lines that they were on.
    The pitch may have knots of its own: more of them, where it is bent.
    """

    knots: NDArray[np.float64]  # [n] sample positions relative to the block's first sample, increasing
    pitch_knots: NDArray[np.float64]  # [m] likewise, over the same stretch
    phase: NDArray[np.float64]  # [m] base phase at each of these, cycles
    levels: NDArray[np.float32]  # [n, C] see tokens
    offsets: NDArray[np.float32]  # [P] phase of each partial where the base phase is 0, cycles
    ratios: NDArray[np.float64]  # [P] frequency of each partial over the base frequency
    cells: NDArray[np.int32]  # [P] the level of a partial lies between this cell's and the next one's,
    shares: NDArray[np.float32]  # [P] so far from the one to the other
    gains: NDArray[np.float32]  # [P, 3] left, right, and right a quarter of a cycle ahead
    balance: NDArray[np.float32]  # [N, 2] left and right
    is_wide: bool  # each side has a noise of its own
    factor: float = 1.0  # of all its gains

    def scaled(self, factor: float) -> "NotePart":
        """The same so many times as loud."""
        return self._replace(factor=self.factor * factor)

    def arrays(self) -> tuple[Any, ...]:
        """Its fields, as the compiled one gives them too."""
        return tuple(self)


def add_notes(
    out: NDArray[np.float32], parts: list[Any], table: NDArray[np.float32], places: NDArray[np.int64], begin: int,
    floor: float, is_extra: bool = False,
) -> None:  # fmt: skip
    """Add the notes of a part to a stereo block, in place.

    Each has the partials that `add_partials` makes of the amplitudes of its levels. Their noise is one for all: in each
    band its power is the sum of theirs, at moments `GRID` samples apart; up to each moment its gain (RMS amplitude)
    runs to what it was at the one before, so that it tells of nothing that is still to come. Amplitudes below ``floor``
    are left out.

    out       [2, S] float32, contiguous along samples; its first one is sample ``begin``
    parts     what `course.Course.part` gives, with all knots from `PAST` samples before the block on
    table     [N, M] unit-RMS noise loops, M a power of two; see `noise_table`
    places    [N, 2] where a loop is read at sample 0; the second ones by the right side of notes that are wide
    is_extra  add what the room gets beyond what is heard, where each part's factor is by how much more is sent of it

    Raises: ValueError if a shape does not fit or `out` cannot be written in place.
    """
    _check_block(out)
    if table.shape[1] < 1 or table.shape[1] & (table.shape[1] - 1):
        raise ValueError(f"table has {table.shape[1]} samples per row: must be a power of two")
    if _kernels:
        _kernels.add_notes(out, parts, table, places, begin, is_extra, _SILENT, _OCTAVES, floor)
    else:
        _fall_back(add_notes_numpy)(out, parts, table, places, begin, floor, is_extra)


Order = tuple[NDArray[np.float32], list[Any], NDArray[np.int64], bool]
"""Of a stem: `out`, `parts`, `places` and `is_extra` of `add_notes`."""


def work_on_notes(orders: list[Order], table: NDArray[np.float32], begin: int, floor: float) -> Callable[[], None]:
    """What makes stems, each the notes of a part alone whatever was there before, as `add_notes` does: threads that
    call it share the orders, the first of them first, and each comes back when none is left."""
    for out, *_ in orders:
        _check_block(out)
    if _kernels:
        run: Callable[[], None] = _kernels.work_on_notes(orders, table, begin, _SILENT, _OCTAVES, floor).run
        return run
    waiting = deque(orders)

    def work() -> None:
        while True:
            try:
                out, parts, places, is_extra = waiting.popleft()
            except IndexError:
                return
            out[:] = 0
            add_notes(out, parts, table, places, begin, floor, is_extra)

    return work


def add_partials(
    out: NDArray[np.float32],
    knots: NDArray[np.float64],
    phase: NDArray[np.float64],
    amplitudes: NDArray[np.float32],
    ratios: NDArray[np.float64],
    offsets: NDArray[np.float32],
    gains: NDArray[np.float32],
    floor: float,
) -> None:
    """Add one note's partials to a stereo block, in place.

    out[c, s] += gains[p, c] * a_p(s) * sin(2 pi (ratios[p] * Phi(s) + offsets[p])) for every sample
    knots[0] <= s < knots[-1] of the block; amplitudes a_p and base phase Phi are linear between knots. Between two
    knots a partial is left out where both its amplitudes are below `floor`, or where its frequency is at or above
    half the sample rate. Accuracy: 1e-5 of a partial's amplitude, as long as a phase stays below 2^31 cycles.

    out         [2, S] float32, contiguous along samples
    knots       [n] sample positions relative to the block's first sample, increasing; below 0 and above S are fine
    phase       [n] base phase at each knot, in cycles
    amplitudes  [n, P] amplitude of each partial at each knot, linear
    ratios      [P] frequency of each partial over the base frequency
    offsets     [P] phase of each partial where the base phase is 0, in cycles
    gains       [P, 2] left and right

    Raises: ValueError if a shape does not fit or `out` cannot be written in place.
    """
    arrays = _partials_arguments(out, knots, phase, amplitudes, ratios, offsets, gains)
    add: Callable[..., None] = _kernels.add_partials if _kernels else _fall_back(add_partials_numpy)
    add(out, *arrays, floor)


def add_partials_numpy(
    out: Floats, knots: Doubles, phase: Doubles, amplitudes: Floats, ratios: Doubles, offsets: Floats, gains: Floats,
    floor: float, pitch_knots: Doubles | None = None, ahead: Floats | None = None,
) -> None:  # fmt: skip
    """`add_partials` in NumPy: the oracle, and the fallback where nothing could be compiled; ``ahead`` [P] are gains of
    the right side for partials a quarter of a cycle ahead."""
    pitch_knots = knots if pitch_knots is None else pitch_knots
    for k in range(len(knots) - 1):
        length = knots[k + 1] - knots[k]
        first = max(int(np.searchsorted(pitch_knots, knots[k], side="right")) - 1, 0)
        last = min(int(np.searchsorted(pitch_knots, knots[k + 1])), len(pitch_knots) - 1)
        for j in range(first, last):
            start, end = pitch_knots[j], pitch_knots[j + 1]
            frequencies = ratios * (phase[j + 1] - phase[j]) / max(end - start, 1e-9)  # cycles per sample
            is_heard = (amplitudes[k : k + 2] >= floor).any(axis=0) & (np.abs(frequencies) < 0.5)
            if not is_heard.any():
                continue
            for samples, weight in _samples_between(
                max(start, knots[k]), min(end, knots[k + 1]), start, end, out.shape[1]
            ):
                at = (np.arange(samples.start, samples.stop) - knots[k]) / length
                base = phase[j] + weight * (phase[j + 1] - phase[j])
                cycles = ratios[is_heard, None] * base + offsets[is_heard, None]  # [P, s]
                angle = (2 * np.pi * (cycles - np.rint(cycles))).astype(np.float32)
                a0, a1 = amplitudes[k, is_heard], amplitudes[k + 1, is_heard]
                level = a0[:, None] + (a1 - a0)[:, None] * at.astype(np.float32)
                out[:, samples] += gains[is_heard].T @ (level * np.sin(angle))
                if ahead is not None and ahead.any():
                    out[1, samples] += ahead[is_heard] @ (level * np.cos(angle))


def add_notes_numpy(
    out: Floats,
    parts: list[NotePart],
    table: Floats,
    places: Integers,
    begin: int,
    floor: float,
    is_extra: bool = False,
) -> None:
    """`add_notes` in NumPy: the oracle, and the fallback where nothing could be compiled."""
    n_bands = len(table)
    first, last = begin // GRID - 1, (begin + out.shape[1] - 1) // GRID
    moments = np.arange(first, last + 1) * GRID - begin
    powers = np.zeros((2, 3, len(moments), n_bands))  # as heard and as sent; left, right, right of what is wide
    for part in parts:
        if len(part.knots) < 2:
            continue
        levels, bands = np.split(part.levels[:, :-1], [part.levels.shape[1] - 1 - n_bands], axis=1)
        if part.factor:
            between = levels[:, part.cells] + part.shares * (levels[:, part.cells + 1] - levels[:, part.cells])
            amplitudes = _turned(tk.level_to_amplitude(between), part.levels)
            own = part.gains * np.float32(part.factor)
            add_partials_numpy(
                out, part.knots, part.phase, amplitudes, part.ratios, part.offsets, own[:, :2], floor,
                part.pitch_knots, own[:, 2],
            )  # fmt: skip
        gains = _turned(tk.level_to_amplitude(bands), part.levels)
        inside = (moments >= part.knots[0]) & (moments < part.knots[-1])
        at = np.stack([np.interp(moments, part.knots, gain) for gain in gains.T], axis=1) * inside[:, None]
        for n, factor in enumerate((1, 1 + part.factor)):
            powers[n, 0] += (factor * at * part.balance[:, 0]) ** 2
            powers[n, 2 if part.is_wide else 1] += (factor * at * part.balance[:, 1]) ** 2
    heard, sent = np.sqrt(powers).astype(np.float32)
    for way, gains in enumerate(sent - heard if is_extra else heard):
        channel = min(way, 1)
        _add_loops(out[channel], moments + float(GRID), gains, table, places[:, way // 2] + begin, floor)


def _add_loops(out: Floats, knots: Doubles, gains: Floats, table: Floats, read: Integers, floor: float) -> None:
    """Adds the loops of all bands to some samples [S], read from places [N] at the first one on, with gains [n, N] at
    knots; between two knots of which both lie below the floor a band is left out."""
    for k in range(len(knots) - 1):
        for band in np.flatnonzero((np.abs(gains[k : k + 2]) >= floor).any(axis=0)):
            for samples, weight in _samples_between(knots[k], knots[k + 1], knots[k], knots[k + 1], len(out)):
                gain = gains[k, band] + (gains[k + 1, band] - gains[k, band]) * weight.astype(np.float32)
                positions = read[band] + np.arange(samples.start, samples.stop)
                out[samples] += gain * table[band, positions & (table.shape[1] - 1)]


def _turned(amplitudes: Floats, levels: Floats) -> Floats:
    """Amplitudes [n, ...] at the knots, where a row was left on the way: on the line from the row before."""
    for k in range(1, len(amplitudes)):
        reached = levels[k, REACHED]
        if reached != 1:
            amplitudes[k] = reached * amplitudes[k] + (1 - reached) * amplitudes[k - 1]
    return amplitudes


def _samples_between(
    first: float, last: float, start: float, end: float, n_samples: int
) -> Iterator[tuple[slice, Reals]]:
    """The samples first <= s < last of a block, as slices of bounded length with their place 0..1 from start to end."""
    begin, stop = max(0, int(np.ceil(first))), min(n_samples, int(np.ceil(last)))
    for a in range(begin, stop, _BLOCK):
        b = min(a + _BLOCK, stop)
        yield slice(a, b), (np.arange(a, b) - start) / (end - start)


def _partials_arguments(
    out: Floats, knots: Doubles, phase: Doubles, amplitudes: Floats, ratios: Doubles, offsets: Floats, gains: Floats
) -> tuple[AnyArray, ...]:
    n, partials = len(knots), len(ratios)
    _check_block(out)
    return (
        _array("knots", knots, np.float64, (n,)),
        _array("phase", phase, np.float64, (n,)),
        _array("amplitudes", amplitudes, np.float32, (n, partials)),
        _array("ratios", ratios, np.float64, (partials,)),
        _array("offsets", offsets, np.float32, (partials,)),
        _array("gains", gains, np.float32, (partials, 2)),
    )


def _check_block(out: AnyArray) -> None:
    if out.dtype != np.float32 or out.ndim != 2 or out.shape[0] != 2 or (out.shape[1] > 1 and out.strides[1] != 4):
        raise ValueError(
            f"out is {out.dtype} {out.shape}, strides {out.strides}: must be float32 [2, samples], "
            "contiguous along samples, as it is written in place"
        )


def _array(name: str, values: AnyArray, kind: type, shape: tuple[int, ...]) -> AnyArray:
    array: AnyArray = np.ascontiguousarray(values, dtype=kind)
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    return array


def _fall_back(loop: Callable[..., None]) -> Callable[..., None]:
    global _warned
    if not _warned:
        _warned = True
        log.warning("the compiled kernels are missing, so synthesis is slow; install a C++ compiler and reinstall miao")
    return loop
