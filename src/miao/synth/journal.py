"""The journal of a folder that songs are rendered into: by it a second call knows what the first one has done."""

import hashlib
import json
import os
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from miao.errors import ConfigError
from miao.files import reason

JOURNAL = ".miao-render.jsonl"


@dataclass(frozen=True)
class Job:
    """A song and the file that it becomes."""

    source: Path
    target: Path


@dataclass(frozen=True)
class Wishes:
    """How all songs are rendered."""

    bank: str = "gm"
    settings: dict[str, Any] = field(default_factory=dict)  # keywords of `Synthesizer.render_file`
    tracks: tuple[int, ...] = ()  # from 1; none: all
    expression: dict[str, Any] = field(default_factory=dict)  # arguments of `Score.expressed`; none: as written
    force: bool = False

    @property
    def mark(self) -> str:
        """What distinguishes these wishes from others, whether or not files are overwritten."""
        return json.dumps([self.bank, self.settings, self.tracks, self.expression], sort_keys=True, default=str)


def shown(path: str | Path) -> str:
    """A path as one line of text, whatever its name is made of."""
    text = os.fsencode(path).decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Journal:
    """What has been begun, a line a song: with it a file that is there is known to be ours, and of these wishes.

    A line tells what was at the target before; if something else is there now, the rendering has come to its end.
    """

    def __init__(self, output: Path) -> None:
        self._path = output / JOURNAL
        self._begun: dict[str, dict[str, Any]] = {}

    def __enter__(self) -> Self:
        try:
            self._file = open(self._path, "a+", encoding="utf-8")
            _lock(self._file.fileno())
        except BlockingIOError:
            self._file.close()
            raise ConfigError(f"{shown(self._path.parent)}: somebody else is rendering into it") from None
        except OSError as error:
            raise ConfigError(f"{shown(self._path)}: cannot be written: {reason(error)}") from error
        self._file.seek(0)
        line = "\n"
        for line in self._file:
            with suppress(ValueError, KeyError, TypeError):  # a line that was cut short: the song is done again
                entry = json.loads(line)
                self._begun[entry["target"]] = entry
        if not line.endswith("\n"):
            self._file.write("\n")
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def state(self, job: Job, wishes: Wishes) -> Literal["free", "done", "foreign"]:
        """Whether the target is free, holds what is wanted, or something else. Raises: OSError."""
        there = _identity(job.target)
        if there is None:
            return "free"
        entry = self._begun.get(self._name(job))
        if entry is None or entry["before"] == there:
            return "foreign"
        return "done" if entry["mark"] == self._mark(job, wishes) else "foreign"

    def begin(self, job: Job, wishes: Wishes) -> None:
        """A song is begun. Raises: ConfigError if the journal cannot be written."""
        entry = {
            "target": self._name(job), "source": os.fsencode(job.source).decode("utf-8", "surrogateescape"),
            "mark": self._mark(job, wishes), "before": _identity(job.target),
        }  # fmt: skip
        try:
            self._file.write(json.dumps(entry) + "\n")
            self._file.flush()
        except OSError as error:
            raise ConfigError(f"{shown(self._path)}: cannot be written: {reason(error)}") from error

    def _name(self, job: Job) -> str:
        return os.fsencode(job.target.relative_to(self._path.parent)).decode("utf-8", "surrogateescape")

    @staticmethod
    def _mark(job: Job, wishes: Wishes) -> str:
        return hashlib.sha256(job.source.read_bytes() + wishes.mark.encode()).hexdigest()


def _identity(path: Path) -> list[int] | None:
    """What tells one file under a name from the next one; None if there is none."""
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return None
    return [found.st_ino, found.st_mtime_ns, found.st_size]


def _lock(number: int) -> None:
    """Locks an open file for this process, until it ends or closes the file. Raises: BlockingIOError."""
    if sys.platform == "win32":
        import msvcrt

        try:
            msvcrt.locking(number, msvcrt.LK_NBLCK, 1)
        except OSError as error:
            raise BlockingIOError from error
    else:
        import fcntl

        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
