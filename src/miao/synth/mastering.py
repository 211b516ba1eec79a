"""From rows to how loud they are to be, in two passes.

The first pass learns how loud the mix is, the second gives it the gain that it needs; between them the blocks lie in
memory or in an unnamed temporary file, so that an hour of music needs no more memory than a minute.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Self

import numpy as np

from miao.errors import AudioError
from miao.sound.desk import is_silent
from miao.sound.limiter import Limiter
from miao.sound.loudness import Loudness

CEILING_DB = -1.0  # true peak, dBTP: what EBU R 128 asks for, and lossy codecs need
METER_DB = -100.0  # a limiter with its ceiling down here is a meter of true peaks


def measured(blocks: Iterable[np.ndarray], kept: "list[np.ndarray] | Spool", levels: "Levels") -> "Levels":
    """The first pass: keeps the blocks, in a list or a `Spool`, and knows their levels in the end."""
    for rows in blocks:
        levels.add(rows)
        kept.append(rows)
    return levels


def mastered(blocks: Iterable[np.ndarray], gain_db: float, limiter: Limiter | None) -> Iterator[np.ndarray]:
    """The second pass: the gain, and the limiter over the sum of the rows if there is one."""
    gain = np.float32(10 ** (gain_db / 20))
    for rows in blocks:
        yield rows * gain if limiter is None else limiter.process(mix_of(rows) * gain)[None]
    if limiter is not None:
        yield limiter.finish()[None]


def mix_of(rows: np.ndarray) -> np.ndarray:
    """The sum [2, n] of the rows [R, 2, n]; where there is one, itself."""
    mix: np.ndarray = rows[0] if len(rows) == 1 else rows.sum(axis=0)
    return mix


class Levels:
    """How loud a mix is, and how much louder it may become; the mix is the sum of the rows of [R, 2, n]."""

    def __init__(self, sample_rate: int, with_true_peak: bool = False) -> None:
        self._meter = Loudness(sample_rate)
        self._peak_meter = Limiter(sample_rate, METER_DB) if with_true_peak else None
        self._row_peak = 0.0

    def add(self, rows: np.ndarray) -> None:
        mix = mix_of(rows)
        self._meter.add(mix)
        if self._peak_meter is not None:
            self._peak_meter.process(mix)
            self._row_peak = max(self._row_peak, float(np.abs(rows).max()))

    @property
    def loudness(self) -> float:
        """LUFS."""
        return self._meter.integrated()

    def gain_to(self, loudness: float) -> float:
        """dB to the wished loudness; 0 if the mix is too quiet to measure."""
        measured = self.loudness
        return loudness - measured if np.isfinite(measured) else 0.0

    @property
    def headroom_db(self) -> float:
        """The gain with which neither the mix (true peak) nor a row (samples) passes the ceiling."""
        assert self._peak_meter is not None
        self._peak_meter.finish()
        headroom: float = min(
            CEILING_DB - METER_DB - self._peak_meter.reduction_db, CEILING_DB - 20 * np.log10(self._row_peak)
        )
        return headroom


class Spool:
    """Blocks [R, 2, n] in an unnamed temporary file, to be read again; silent rows take no room in it.

    It lies beside the output, where there is a disk made for sound: the system's temporary folder is often memory.
    """

    def __init__(self, beside: str | Path) -> None:
        target = Path(beside).resolve()
        is_stream = str(beside) == "-" or (target.exists() and not target.is_file())
        self._folder = tempfile.gettempdir() if is_stream else str(target.parent)
        self._blocks: list[tuple[tuple[int, ...], np.ndarray]] = []  # shape, which rows are there

    def __enter__(self) -> Self:
        with self._explained():
            self._file = tempfile.TemporaryFile(dir=self._folder)
        return self

    def append(self, rows: np.ndarray) -> None:
        sounding = np.flatnonzero([not is_silent(row) for row in rows])
        self._blocks.append((rows.shape, sounding))
        with self._explained():
            for i in sounding:
                self._file.write(np.ascontiguousarray(rows[i]).data)

    def __iter__(self) -> Iterator[np.ndarray]:
        with self._explained():
            self._file.seek(0)
        for shape, sounding in self._blocks:
            rows = (np.empty if len(sounding) == shape[0] else np.zeros)(shape, np.float32)
            with self._explained():
                for i in sounding:
                    self._file.readinto(rows[i])
            yield rows

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # what it could not flush is thrown away here anyway
            self._file.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise AudioError(
                f"the temporary file in {self._folder} fails: {(error.strerror or str(error)).lower()}; "
                "free some space, or give a fixed gain, which needs no such file"
            ) from error
