"""Songs whose MIDI files may be on this machine: the scores of the benchmarks `gm-heldout` and `gm-othersource`."""

import hashlib
import zlib
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import count
from pathlib import Path
from zipfile import BadZipFile, ZipFile

from miao.errors import DataError
from miao.evaluation.pieces import EXCERPT_START, TAIL_SECONDS, Material, Plan, excerpt, found_place
from miao.files import Json
from miao.midi.score import read_score

SUFFIXES = (".mid", ".midi", ".rmi")


@dataclass(frozen=True)
class Collection:
    """Scores that may be on this machine."""

    name: str
    places: tuple[str, ...]  # folders below a root
    licence: str
    origin: str


SONGS = (
    Collection("freedoom", ("midi/freedoom/test", "freedoom/test", "test"), "BSD-3-Clause",
               "the test part of the music of Freedoom, https://freedoom.github.io"),
    Collection("openmsx", ("openmsx", "baseset/openmsx", "usr/share/games/openttd/baseset/openmsx"), "GPL-2",
               "OpenMSX, Debian package openttd-openmsx"),
    Collection("pianobooster", ("pianobooster", "usr/share/games/pianobooster/music",
                                "usr/share/games/pianobooster/BoosterMusicBooks"), "CC BY",
               "music books of PianoBooster, Debian package pianobooster"),
)  # fmt: skip


def plan_songs(roots: list[Path], seconds: float) -> tuple[list[Plan], list[Json], list[Json]]:
    """Excerpts of the songs of all collections that are there, their origins, and what is left out and why."""
    plans: list[Plan] = []
    made_of, skipped = [], []
    contents: dict[str, str] = {}
    for collection in SONGS:
        place = found_place(roots, collection.places)
        files = scores_in(place) if place else []
        if not files:
            reason = f"no MIDI file in {place.name}" if place else f"{collection.name} is not there"
            skipped.append({"name": collection.name, "reason": f"{reason} ({collection.origin})"})
            continue
        made_of.append({**asdict(collection), "places": str(place), "n_files": len(files)})
        for path, inside, content in files:
            file = Path(inside or path)
            piece = unlike(f"{collection.name}-{file.stem}", contents.values())
            twin = contents.setdefault(hashlib.sha256(content).hexdigest(), piece)
            if twin != piece:
                skipped.append({"name": piece, "reason": f"{file.name} holds the same bytes as {twin}"})
            else:
                plans.append(Plan(piece, collection.name, file.name, partial(read_song, path, seconds, inside)))
    return plans, made_of, skipped


def scores_in(place: Path) -> list[tuple[Path, str, bytes]]:
    """The MIDI files below a folder: path, name within it if it is a zip archive (else ""), and bytes.

    Raises: DataError for a damaged archive.
    """
    found = []
    for path in sorted(p for p in place.rglob("*") if p.is_file()):
        if path.suffix.lower() in SUFFIXES:
            found.append((path, "", path.read_bytes()))
        elif path.suffix.lower() == ".zip":
            try:
                with ZipFile(path) as archive:
                    names = sorted(name for name in archive.namelist() if Path(name).suffix.lower() in SUFFIXES)
                    found += [(path, name, archive.read(name)) for name in names]
            except (BadZipFile, zlib.error) as error:
                raise DataError(f"{path}: a damaged archive ({error}); get it again") from None
    return found


def unlike(name: str, taken: Iterable[str]) -> str:
    """The name, with a number after it if it is taken."""
    names = (name if n == 1 else f"{name}-{n}" for n in count(1))
    return next(n for n in names if n not in set(taken))


def read_song(path: Path, seconds: float, inside: str = "") -> Material:
    """An excerpt of a MIDI file, or of one inside a zip archive. Raises: ScoreError if there is nothing in it."""
    score = read_score(ZipFile(path).read(inside) if inside else path)
    start = min(EXCERPT_START, max(0.0, score.duration - seconds)) if seconds else 0.0
    part = excerpt(score, start, seconds or score.duration)
    return Material(part, (seconds or score.duration) + TAIL_SECONDS)
