"""The one way in which a file is written: under a temporary name beside its place, and renamed once it is whole.

So a name never stands for half a file, whoever is interrupted, and what stood there before stays until then. Only logs,
which grow, and downloads, which go on where they stopped, are written in place.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from miao.errors import MiaoError

E = TypeVar("E", bound=MiaoError)


def path_of(name: Any, kind: type[MiaoError]) -> Path:
    """A path of what should be one. Raises: a ``kind`` of error for what is none, or names nothing."""
    if not isinstance(name, str | os.PathLike):
        raise kind(f"no path, but of type {type(name).__name__}; give a name, or a Path")
    if name == "":
        raise kind("an empty name is no file's")
    return Path(name)


def drafts_of(folder: Path, process: int | None = None) -> list[Path]:
    """The half-written files in a folder: of all processes, or of one."""
    return list(folder.glob(".miao-*.part" if process is None else f".miao-{process}-*.part"))


def _temporary_name() -> str:
    return f".miao-{os.getpid()}-{os.urandom(6).hex()}.part"


class Draft:
    """A file that is being written: `path` is its temporary name, until `keep` gives it its own. A link is written
    through, not over."""

    def __init__(self, target: str | Path) -> None:
        self.target = Path(os.path.realpath(target))
        self.path = self.target.parent / _temporary_name()

    def open(self) -> BinaryIO:
        """The empty file, to write and read. Raises: OSError."""
        return open(self.path, "x+b")

    def keep(self, *, is_durable: bool = False) -> None:
        """Gives the closed file its name; a durable one is on the disk by then, even if the power fails next.

        Raises: OSError.
        """
        if is_durable:
            _flush(self.path)
        os.replace(self.path, self.target)
        if is_durable and os.name == "posix":  # elsewhere a folder cannot be opened
            _flush(self.target.parent)

    def discard(self) -> None:
        """Removes what has not been kept."""
        with suppress(OSError):
            self.path.unlink(missing_ok=True)


@contextmanager
def written(
    target: str | Path, kind: type[MiaoError], *, force: bool = True, is_durable: bool = False
) -> Iterator[Path]:
    """The temporary path of an empty file to write in a `with`; it gets its name where that ends well. A device is its
    own temporary path.

    Raises: a ``kind`` of error, one line, if the disk refuses, there is no such folder, or the file exists and not
    `force`.
    """
    if not is_device(target):
        check_target(target, kind, force=force)
    draft = Draft(target)
    try:
        if is_device(target):
            yield Path(target)
            return
        draft.open().close()
        yield draft.path
        draft.keep(is_durable=is_durable)
    except OSError as error:
        raise refusal(target, error, kind) from error
    finally:
        draft.discard()


@contextmanager
def written_folder(target: Path, kind: type[MiaoError]) -> Iterator[Path]:
    """An empty folder under a temporary name, to fill in a `with`; where that ends well it takes the place of `target`.

    Raises: a ``kind`` of error, one line, if the disk refuses.
    """
    target = Path(os.path.realpath(target))
    new = target.parent / _temporary_name()
    old = new.with_suffix(".old")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        new.mkdir()
        yield new
        if target.exists():
            os.replace(target, old)
        try:
            os.replace(new, target)
        except OSError:
            if old.exists():
                os.replace(old, target)
            raise
    except OSError as error:
        raise refusal(target, error, kind) from error
    finally:
        for left in (new, old):
            shutil.rmtree(left, ignore_errors=True)


def write_bytes(
    path: str | Path, data: bytes, kind: type[MiaoError], *, force: bool = True, is_durable: bool = False
) -> None:
    """Writes a file of these bytes. Raises: as `written`."""
    with written(path, kind, force=force, is_durable=is_durable) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str, kind: type[MiaoError], *, is_durable: bool = False) -> None:
    """Writes a file of text, UTF-8, with line ends as they are. Raises: as `written`."""
    write_bytes(path, text.encode(), kind, is_durable=is_durable)


Json = dict[str, Any]
"""What a JSON file holds: numbers, words, lists and more of the kind, by name."""


def write_json(path: str | Path, content: Any, kind: type[MiaoError], *, is_durable: bool = False) -> None:
    """Writes a JSON file. Raises: as `written`."""
    write_text(path, json.dumps(content, indent=1, ensure_ascii=False) + "\n", kind, is_durable=is_durable)


def write_arrays(path: Path, arrays: dict[str, Any], kind: type[MiaoError]) -> None:
    """Writes a compressed .npz file. Raises: as `written`."""
    import numpy as np  # not needed by what only prints help

    with written(path, kind) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def make_folder(folder: Path, kind: type[MiaoError]) -> None:
    """Makes a folder and those around it, if there are none. Raises: a ``kind`` of error if the system refuses."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise kind(f"{folder}: cannot be made: {reason(error)}") from error


def check_target(path: str | Path, kind: type[MiaoError], *, force: bool) -> None:
    """Raises: a ``kind`` of error if it is a folder, there is no folder for it, or it is there and not `force`."""
    target = Path(os.path.realpath(path_of(path, kind)))
    if target.is_dir():
        raise kind(f"{path} is a folder; name a file in it")
    if not target.parent.is_dir():
        raise kind(f"{path}: there is no folder {target.parent}; make it first")
    if target.exists() and not force:
        raise kind(f"{path} exists; force=True overwrites it")


def is_device(path: str | Path) -> bool:
    """Whether this is a pipe, /dev/null or the like: written straight away, since it cannot be renamed."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


def refusal(path: str | Path, error: OSError, kind: type[E]) -> E:
    """The error that says, in one line, why a file could not be written."""
    return kind(f"{path}: cannot be written: {reason(error)}")


def sweep(folder: Path) -> None:
    """Removes what a killed process has left in a folder; for one in which nobody else is writing."""
    for left in folder.glob(".miao-*"):
        shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)


def reason(error: OSError) -> str:
    """What the system says of an error, in lower case and without its number."""
    if isinstance(error, BrokenPipeError):
        return "the program that reads it has ended"
    return (error.strerror or str(error)).lower()


def _flush(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)
