"""Arrays in safetensors files: all of them, of the kind, shape and range that they are meant to be, or one line."""

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from miao.arrays import AnyArray
from miao.errors import BankError
from miao.files import write_bytes

Shape = tuple[int | str, ...]  # a letter is a size that is the same in all arrays of a file


@dataclass(frozen=True)
class Array:
    """What an array of a file is to be."""

    dtype: type[np.generic]
    shape: Shape
    low: float = -np.inf
    high: float = np.inf
    or_shape: Shape | None = None  # another that it may have
    is_optional: bool = False


def read_arrays(path: Path) -> tuple[dict[str, AnyArray], dict[str, str]]:
    """The arrays of a file and what it says of itself. Raises: BankError if it is missing, cut off or damaged."""
    try:
        with safe_open(path, "numpy") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (OSError, SafetensorError, TypeError, ValueError) as error:
        raise BankError(f"{path}: not a readable safetensors file ({str(error).splitlines()[0].lower()})") from None


def save_arrays(
    path: Path, arrays: Mapping[str, AnyArray], about: Mapping[str, str] | None = None, *, force: bool = True
) -> None:
    """Write arrays and what is said of them; the same ones make the same bytes.

    Raises: BankError if the disk refuses, or the file exists and not ``force``.
    """
    data = save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, dict(about or {}) or None)
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    if "__metadata__" in header:  # which the library writes in any order
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, len(text).to_bytes(8, "little") + text + data[start:], BankError, force=force)


def check_arrays(
    path: Path, arrays: Mapping[str, AnyArray], wanted: Mapping[str, Array], sizes: Mapping[str, int] | None = None
) -> dict[str, int]:
    """The sizes that the letters of the shapes stand for; ``sizes`` are those that are known already.

    Raises: BankError that names the first array that is missing, or not what is wanted, and how.
    """
    found = dict(sizes or {})
    unknown = sorted(arrays.keys() - wanted.keys())
    if unknown:
        raise BankError(f"{path}: holds {unknown[0]}, which is none of {', '.join(wanted)}")
    for name, want in wanted.items():
        if name not in arrays:
            if want.is_optional:
                continue
            raise BankError(f"{path}: has no {name}")
        values = arrays[name]
        if values.dtype != want.dtype:
            raise BankError(f"{path}: {name} holds {values.dtype}, not {np.dtype(want.dtype)}")
        sizes_here = _sizes(values.shape, want.shape, found)
        if sizes_here is None and want.or_shape is not None:
            sizes_here = _sizes(values.shape, want.or_shape, found)
        if sizes_here is None:
            shape = ", ".join(str(found.get(n, n) if isinstance(n, str) else n) for n in want.shape)
            raise BankError(f"{path}: {name} is of shape {list(values.shape)}, not [{shape}]")
        found = sizes_here
        if values.size:
            low, high = _range(values)
            if not (want.low <= low and high <= want.high and np.isfinite([low, high]).all()):
                limits = f"{want.low:g} to {want.high:g}" if np.isfinite(want.high) else "finite"
                raise BankError(f"{path}: {name} has values from {low:g} to {high:g}; they must be {limits}")
    return found


def _range(values: AnyArray) -> tuple[float, float]:
    """The lowest and the highest value; one of them is not a number if any value is none."""
    if values.dtype != np.float16:
        return float(values.min()), float(values.max())
    # halves are compared ten times faster by their bits: below zero these fall as the value rises, but for the sign
    bits = values.view(np.int16)
    bits = bits ^ ((bits >> 15) & 0x7FFF)
    ends = np.array([bits.min(), bits.max()])
    low, high = (ends ^ ((ends >> 15) & 0x7FFF)).view(np.float16)
    return float(low), float(high)


def checksum_of(arrays: Mapping[str, AnyArray], about: Mapping[str, str]) -> str:
    """CRC-32 of arrays and what is said of them: tells a changed byte."""
    crc = 0
    for name, values in sorted(arrays.items()):
        crc = zlib.crc32(np.ascontiguousarray(values).tobytes(), zlib.crc32(name.encode(), crc))
    for key, text in sorted(about.items()):
        crc = zlib.crc32(f"{key}={text}\n".encode(), crc)
    return f"{crc:08x}"


def _sizes(shape: tuple[int, ...], wanted: Shape, known: Mapping[str, int]) -> dict[str, int] | None:
    """The letters' sizes if an array of a shape fits, else None."""
    if len(shape) != len(wanted):
        return None
    found = dict(known)
    for n, want in zip(shape, wanted, strict=True):
        size = found.setdefault(want, n) if isinstance(want, str) else want
        if size != n:
            return None
    return found
