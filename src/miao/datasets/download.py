"""Fetching what a data set's `REMOTES` name: resumed where it stopped, checked, and never half there.

A file is written as NAME.part and gets its name when its checksum is right, or its size where no checksum is known. A
second try asks the server for the rest only (HTTP Range); a server that sends all instead is begun anew.
"""

import hashlib
import os
import tarfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from miao.errors import DataError

_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60
_RANGE_NOT_SATISFIABLE = 416
_PARTIAL_CONTENT = 206


@dataclass(frozen=True)
class Remote:
    """One file that its authors publish."""

    name: str
    url: str
    n_bytes: int | None = None  # None: not published
    checksum: str | None = None  # "md5:..." or "sha256:..."; None: not published
    is_optional: bool = False  # fetched only if asked for by name
    by_hand: str = ""  # why it cannot be fetched by a program, and what to do instead
    folder: str = ""  # below the root, for archives that hold files without one


def chosen(remotes: Iterable[Remote], names: list[str] | None) -> list[Remote]:
    """The remotes of these names, or those that are not optional. Raises: DataError for an unknown name."""
    by_name = {remote.name: remote for remote in remotes}
    unknown = [name for name in names or () if name not in by_name]
    if unknown:
        raise DataError(f"there is no file {unknown[0]}; there are {', '.join(by_name)}")
    return [by_name[name] for name in names] if names else [r for r in by_name.values() if not r.is_optional]


def download(remote: Remote, root: Path, on_progress: Callable[[float], None] | None = None) -> Path:
    """Fetch one file into a folder; a file that is there already is left as it is.

    ``on_progress`` is told the share that is there, where the server says how much there is.

    Raises: DataError if it has to be fetched by hand, the server refuses, or what came is not what was published.
    """
    path, part = root / remote.name, root / f"{remote.name}.part"
    if path.exists():
        return path
    if remote.by_hand:
        raise DataError(f"{remote.name}: {remote.by_hand} ({remote.url})")
    root.mkdir(parents=True, exist_ok=True)
    try:
        _fetch(remote, part, on_progress)
    except urllib.error.HTTPError as error:
        raise DataError(f"{remote.url}: the server says {error.code} {error.reason}") from error
    except (OSError, ValueError) as error:  # of the network, and an address that is none
        text = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise DataError(f"{remote.url}: {text}; the same command goes on from here") from error
    fault = difference(remote, part)
    if fault:
        part.unlink()
        raise DataError(f"{remote.name}: what came is not what was published ({fault}); try again")
    os.replace(part, path)
    return path


def difference(remote: Remote, path: Path) -> str | None:
    """How a file differs from the published one, or None."""
    size = path.stat().st_size
    if remote.n_bytes is not None and size != remote.n_bytes:
        return f"{size:,} bytes, {remote.n_bytes:,} are published"
    if remote.checksum is None:
        return None
    kind, _, wanted = remote.checksum.partition(":")
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, kind).hexdigest()
    return None if found == wanted else f"{kind} is {found}, {wanted} is published"


def unpack(remote: Remote, root: Path) -> None:
    """Take a .zip or .tar.gz apart, in the folder that it lies in. Raises: DataError if it is missing or damaged."""
    path, target = root / remote.name, root / remote.folder
    if not path.exists():
        raise DataError(f"{path}: there is no such file; fetch it with `miao data download`")
    try:
        if path.suffix == ".zip":
            with zipfile.ZipFile(path) as archive:
                archive.extractall(target)
        else:
            with tarfile.open(path) as tar:
                tar.extractall(target, filter="data")
    except (OSError, EOFError, tarfile.TarError, zipfile.BadZipFile) as error:
        raise DataError(f"{path}: cannot be unpacked ({error})") from error


def _fetch(remote: Remote, part: Path, on_progress: Callable[[float], None] | None) -> None:
    there = part.stat().st_size if part.exists() else 0
    request = urllib.request.Request(remote.url, headers={"Range": f"bytes={there}-"} if there else {})
    try:
        response = urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == _RANGE_NOT_SATISFIABLE and there:
            return  # all of it is there; whether it is right, the checksum says
        raise
    with response:
        if response.status != _PARTIAL_CONTENT:
            there = 0
        length = response.headers.get("Content-Length")
        total = there + int(length) if length else remote.n_bytes
        with open(part, "ab" if there else "wb") as file:
            while block := response.read(_BLOCK_BYTES):
                file.write(block)
                there += len(block)
                if on_progress and total:
                    on_progress(there / total)
    if total is not None and there < total:
        raise OSError(f"the connection broke after {there:,} of {total:,} bytes")
