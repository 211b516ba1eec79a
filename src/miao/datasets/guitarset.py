"""GuitarSet: an acoustic guitar, recorded string by string, with the notes of each string.

| | |
|---|---|
| size | 360 excerpts of about 30 s, 3 h: 6 players, 5 styles, 3 progressions, 2 tempi, accompaniment and solo |
| sound | WAV, 44.1 kHz: a microphone; a hexaphonic pickup with six channels, as it was and freed of bleeding; its mix |
| notes | JAMS: notes and pitch contours of each string, found in the pickup's channels and corrected by hand |
| version | 1.1.0 (Zenodo 3371780) |
| split | none is published; MT3's: of each style progressions 1 and 2 train, 3 is held out |
| layout | annotation/*.jams, audio_mono-mic/*_mic.wav, audio_mono-pickup_mix/*_mix.wav |
| | audio_hex-pickup_debleeded/*_hex_cln.wav, audio_hex-pickup_original/*_hex.wav |

MT3 (Gardner et al. 2022) calls the held-out part validation and reports its results on it; here it is `test`, so that
no training sees it. The rule is as its paper states it (appendix B.4); its file list was not seen.

Ours: a string is a part of its own (channel 1 is the low E), with steel-string guitar as its program. Notes have
pitches with fractions (their mean): the nearest pitch is the note, the rest its bend. Bends within a note are in the
pitch contours and are not read: plucks make them unreliable. A string plays one note at a time, so that a note ends,
at the latest, where the next starts. The whole guitar is the microphone's, or else the pickup's mix.

Known faults: no velocities (80 for all); ends of notes are less sure than starts; the debleeded channels were
made by source separation; the channels of both forms sound of the pickup, not of the guitar's body.
"""

import json
import re
from functools import partial
from pathlib import Path

import numpy as np

from miao.datasets.annotations import as_notes, as_score, as_track, bend_by_note
from miao.datasets.download import Remote
from miao.datasets.recordings import Fault, Part, Recording
from miao.datasets.verification import Progress, check_published_length, check_recordings, find_home, missing, relative
from miao.errors import DataError
from miao.midi.score import Score, Track

CITATION = """\
@inproceedings{xi2018guitarset,
  title={{GuitarSet}: A Dataset for Guitar Transcription},
  author={Xi, Qingyang and Bittner, Rachel M and Pauwels, Johan and Ye, Xuzhou and Bello, Juan P},
  booktitle={International Society for Music Information Retrieval Conference (ISMIR)},
  year={2018}
}"""
LICENSE = "CC BY 4.0"
_PLACE = "https://zenodo.org/records/3371780/files"
REMOTES = tuple(
    Remote(f"{name}.zip", f"{_PLACE}/{name}.zip", checksum=f"md5:{checksum}", is_optional=is_optional, folder=name)
    for name, checksum, is_optional in (
        ("annotation", "b39b78e63d3446f2e54ddb7a54df9b10", False),
        ("audio_hex-pickup_debleeded", "c31d97279464c9a67e640cb9061fb0c6", False),
        ("audio_mono-mic", "275966d6610ac34999b58426beb119c3", False),
        ("audio_hex-pickup_original", "f9911bf217cb40e9e68edf3726ef86cc", True),
        ("audio_mono-pickup_mix", "aecce79f425a44e2055e46f680e10f6a", True),
    )
)
FOLDERS = ("GuitarSet", "guitarset")
STRINGS = {"E": 40, "A": 45, "D": 50, "G": 55, "B": 59, "e": 64}  # by channel; the pitch of the open string
FRETS = 24
STEEL_GUITAR = 25
STRING_SOUNDS = ("audio_hex-pickup_debleeded/{}_hex_cln.wav", "audio_hex-pickup_original/{}_hex.wav")
GUITAR_SOUNDS = ("audio_mono-mic/{}_mic.wav", "audio_mono-pickup_mix/{}_mix.wav")
_NAME = re.compile(r"\d\d_[A-Za-z]+([123])-\d+-[A-G][#b]?_(?:comp|solo)")  # player, style, progression, tempo, key


def recordings(root: Path) -> list[Recording]:
    """The excerpts that have annotations and a sound. Raises: DataError if there is no GuitarSet."""
    home = _home(root)
    found = []
    for path in sorted((home / "annotation").glob("*.jams")):
        is_excerpt = _NAME.fullmatch(path.stem)
        strings, guitar = (_first(home, sounds, path.stem) for sounds in (STRING_SOUNDS, GUITAR_SOUNDS))
        if not is_excerpt or not (strings or guitar):
            continue
        try:
            played = [n for n, notes in enumerate(_read_jams(path)[0]) if notes]
        except DataError:
            played = []  # read_score says so
        stems = tuple(Part(f"string {list(STRINGS)[string]}", strings, (track,), channel=string)
                      for track, string in enumerate(played) if strings)  # fmt: skip
        mix = Part("guitar", guitar, tuple(range(len(played)))) if guitar else None
        split = "test" if is_excerpt[1] == "3" else "train"
        found.append(Recording("guitarset", path.stem, split, partial(read_guitar, path), mix, stems))
    return found


def verify(root: Path, on_progress: Progress | None = None) -> list[Fault]:
    """What is missing, damaged, misaligned or out of a guitar's reach. Raises: DataError if there is no GuitarSet."""
    home = _home(root)
    kinds = [kind for kind in (*STRING_SOUNDS, *GUITAR_SOUNDS) if (home / Path(kind).parent).is_dir()]
    faults = []
    for path in sorted((home / "annotation").glob("*.jams")):
        sounds = [home / kind.format(path.stem) for kind in kinds]
        faults += missing(sounds, home)
        try:
            strings, seconds = _read_jams(path)
        except DataError:
            continue  # check_recordings names it
        for sound in sounds:
            if sound.is_file() and seconds is not None:
                faults += check_published_length(sound, seconds, home)
        for (string, lowest), notes in zip(STRINGS.items(), strings, strict=True):
            wrong = [note for note in notes if not lowest - 1 <= note[2] <= lowest + FRETS + 1]
            if wrong:
                what = f"pitch {wrong[0][2]:.1f} at {wrong[0][0]:.2f} s is out of the reach of string {string}"
                faults.append(Fault(relative(path, home), what))
    return faults + check_recordings(recordings(home), home, on_progress)


def read_guitar(path: Path) -> Score:
    """A track for each string that is played. Raises: DataError if the file is damaged or holds no note."""
    tracks: list[Track] = []
    for string, played in zip(STRINGS, _read_jams(path)[0], strict=True):
        if played:
            starts, lengths, pitches = np.array(sorted(played)).T
            ends = np.minimum(starts + lengths, np.append(starts[1:], np.inf))
            notes = as_notes(starts, ends, pitches, STEEL_GUITAR, path)
            tracks.append(as_track(f"string {string}", len(tracks), notes, bend_by_note(notes, pitches)))
    if not tracks:
        raise DataError(f"{path}: holds no notes")
    return as_score(tracks)


def _read_jams(path: Path) -> tuple[list[list[tuple[float, float, float]]], float | None]:
    """(start, length, pitch) of the notes of each string, and how many seconds there are. Raises: DataError."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        strings: list[list[tuple[float, float, float]]] = [[] for _ in STRINGS]
        for annotation in content["annotations"]:
            if annotation["namespace"] != "note_midi":
                continue
            data = annotation["data"]
            if isinstance(data, dict):  # JAMS has columns for dense data
                data = [dict(zip(data, row, strict=True)) for row in zip(*data.values(), strict=True)]
            string = strings[int(annotation["annotation_metadata"]["data_source"])]
            string += [(float(note["time"]), float(note["duration"]), float(note["value"])) for note in data]
        seconds = content.get("file_metadata", {}).get("duration")
        return strings, None if seconds is None else float(seconds)
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{path}: not GuitarSet's JAMS ({type(error).__name__}: {error})") from error


def _first(home: Path, kinds: tuple[str, ...], name: str) -> Path | None:
    return next((path for kind in kinds if (path := home / kind.format(name)).is_file()), None)


def _home(root: Path) -> Path:
    return find_home(root, FOLDERS, lambda place: (place / "annotation").is_dir(), "the folder annotation of GuitarSet")
