"""MusicNet: free recordings of classical chamber and piano music, with the score aligned to each.

| | |
|---|---|
| size | 330 recordings, 34 h, 11 instruments, over a million notes; 11 GB packed |
| sound | WAV, 44.1 kHz, mono, from many sources |
| notes | CSV a recording: start and end in samples, instrument, note; from scores, aligned by dynamic time warping |
| version | Zenodo 5120004 |
| split | as published, by folder: 320 train, 10 test. Of train, 15 are validation, MT3's (Gardner et al. 2022) |
| layout | train_data/*.wav, train_labels/*.csv, test_data/*.wav, test_labels/*.csv; or musicnet.npz, unpacked |

MT3 tests on 15 recordings of its own choice, all in the published train part: numbers on this test part are not MT3's.

Known faults: the authors estimate that 4 % of labels are wrong, and alignment is coarse (tens of milliseconds); no
velocities (80 for all), no pedals; ends of notes are the score's; all of one instrument is one track here, even
if two violins play; some recordings are old and noisy; only the mix is there. The alignment check of `verify` names
recordings that are off as a whole; it does not hear single wrong notes.

musicnet.npz, an older form, holds Python objects (pickles), which may run any code when loaded the usual way. `unpack`
turns it into the layout above and admits nothing but arrays and interval trees; the old form does not say who plays in
which split, so that the published test recordings are known by number.
"""

import csv
import io
import pickle
import zipfile
from functools import partial
from pathlib import Path
from typing import Any, Self

import numpy as np

from miao.arrays import Doubles, Floats
from miao.datasets.annotations import as_notes, as_score, as_track
from miao.datasets.download import Remote
from miao.datasets.recordings import Fault, Part, Recording
from miao.datasets.verification import Progress, check_recordings, find_home, missing
from miao.errors import DataError
from miao.files import write_text
from miao.midi.general_midi import program_name
from miao.midi.score import Score, Track
from miao.sound.audio import Audio

CITATION = """\
@inproceedings{thickstun2017learning,
  title={Learning Features of Music from Scratch},
  author={Thickstun, John and Harchaoui, Zaid and Kakade, Sham M.},
  booktitle={International Conference on Learning Representations},
  year={2017}
}"""
LICENSE = "CC BY 4.0; the recordings: public domain or Creative Commons, each as musicnet_metadata.csv says"
_PLACE = "https://zenodo.org/records/5120004/files"
REMOTES = (
    Remote("musicnet.tar.gz", f"{_PLACE}/musicnet.tar.gz", 11_097_394_998, "md5:844764911fa0d5b97c97da944a057590"),
    Remote("musicnet_metadata.csv", f"{_PLACE}/musicnet_metadata.csv", 43_775, "md5:1caef62cee9c875235e62aac368b49d8"),
    Remote("musicnet_midis.tar.gz", f"{_PLACE}/musicnet_midis.tar.gz", 2_601_302,
           "md5:b5fa98a113bfc51c8a445def9f24dc7e", is_optional=True),
)  # fmt: skip
FOLDERS = ("musicnet", "MusicNet")
LABEL_RATE = 44_100  # samples a second, of the labels
VALIDATION = (1733, 1765, 1790, 1818, 2160, 2198, 2289, 2300, 2308, 2315, 2336, 2466, 2477, 2504, 2611)
TEST = (1759, 1819, 2106, 2191, 2298, 2303, 2382, 2416, 2556, 2628)
NPZ = "musicnet.npz"
COLUMNS = ("start_time", "end_time", "instrument", "note", "start_beat", "end_beat", "note_value")


def recordings(root: Path) -> list[Recording]:
    """The recordings whose sound and labels are both there. Raises: DataError if there is no MusicNet."""
    found = []
    for sound, labels, part in _pairs(_home(root)):
        if sound.is_file() and labels.is_file():
            try:
                n_tracks = len(np.unique(_read_labels(labels)[:, 2]))
            except DataError:
                n_tracks = 0  # read_score says so
            split = "validation" if part == "train" and int(labels.stem) in VALIDATION else part
            mix = Part("mix", sound, tuple(range(n_tracks)))
            found.append(Recording("musicnet", labels.stem, split, partial(read_labels, labels), mix))
    return found


def verify(root: Path, on_progress: Progress | None = None) -> list[Fault]:
    """What is missing, damaged or misaligned. Raises: DataError if there is no MusicNet."""
    home = _home(root)
    faults = missing([path for sound, labels, _ in _pairs(home) for path in (sound, labels)], home)
    return faults + check_recordings(recordings(home), home, on_progress)


def read_labels(path: Path) -> Score:
    """A track for each instrument, by program. Raises: DataError if the table is damaged or holds no note."""
    table = _read_labels(path)
    tracks: list[Track] = []
    for instrument in np.unique(table[:, 2]):
        rows = table[table[:, 2] == instrument]
        program = int(instrument) - 1  # the labels count from 1
        notes = as_notes(rows[:, 0] / LABEL_RATE, rows[:, 1] / LABEL_RATE, rows[:, 3], program, path)
        tracks.append(as_track(program_name(program), len(tracks), notes))
    return as_score(tracks)


def unpack(root: Path) -> None:
    """Turn musicnet.npz into sound files and tables beside it; those that are there are kept. Raises: DataError."""
    path = root / NPZ
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.namelist():
                name = member.removesuffix(".npy")
                samples, labels = _load(archive.read(member))
                part = "test" if int(name) in TEST else "train"
                _write(root, part, name, samples, labels)
    except (OSError, EOFError, ValueError, TypeError, zipfile.BadZipFile, pickle.UnpicklingError) as error:
        raise DataError(f"{path}: not MusicNet's npz form ({error})") from error


def _home(root: Path) -> Path:
    for place in (root, *(root / folder for folder in FOLDERS)):
        if (place / NPZ).is_file() and not (place / "train_labels").is_dir():
            raise DataError(f"{place / NPZ}: the npz form is to be unpacked first: `miao data unpack musicnet "
                            f"--root {place}`")  # fmt: skip
    wanted = "the folder train_labels (or test_labels)"
    return find_home(root, FOLDERS, lambda p: any((p / f"{s}_labels").is_dir() for s in ("train", "test")), wanted)


def _pairs(home: Path) -> list[tuple[Path, Path, str]]:
    """(sound, labels, part) of all numbers that have either."""
    pairs = []
    for part in ("train", "test"):
        data, labels = home / f"{part}_data", home / f"{part}_labels"
        names = {p.stem for folder, kind in ((data, "*.wav"), (labels, "*.csv")) for p in folder.glob(kind)}
        pairs += [(data / f"{name}.wav", labels / f"{name}.csv", part) for name in sorted(names) if name.isdecimal()]
    return pairs


def _read_labels(path: Path) -> Doubles:
    """Rows of start, end (samples), instrument (from 1), note. Raises: DataError."""
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows = [[float(row[key]) for key in COLUMNS[:4]] for row in csv.DictReader(file)]
        table = np.array(rows).reshape(-1, 4)
    except (OSError, ValueError, KeyError, TypeError, csv.Error) as error:
        raise DataError(f"{path}: not MusicNet's labels ({type(error).__name__}: {error})") from error
    if not len(table):
        raise DataError(f"{path}: holds no notes")
    if not ((table[:, 2] >= 1) & (table[:, 2] <= 128) & (table[:, 2] % 1 == 0)).all():
        raise DataError(f"{path}: instruments are numbers from 1 to 128")
    return table


# the npz form


class _Interval(tuple[float, float, Any]):
    """Stands for intervaltree's: (begin, end, data)."""

    def __new__(cls, begin: float, end: float, data: Any = None) -> Self:
        return super().__new__(cls, (begin, end, data))


class _Tree(list[_Interval]):
    """Stands for intervaltree's: its intervals."""


_ADMITTED: dict[tuple[str, str], Any] = {
    ("intervaltree.intervaltree", "IntervalTree"): _Tree,
    ("intervaltree.interval", "Interval"): _Interval,
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}
_NUMPY_INTERNALS = ("_reconstruct", "scalar")


class _Unpickler(pickle.Unpickler):
    """Admits arrays and interval trees alone."""

    def find_class(self, module: str, name: str) -> Any:
        """The class that stands for a name. Raises: pickle.UnpicklingError for any other."""
        if module in ("numpy.core.multiarray", "numpy._core.multiarray") and name in _NUMPY_INTERNALS:
            return getattr(np._core.multiarray, name)  # type: ignore[attr-defined]  # NumPy keeps it to itself, but pickles name it
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(f"it holds {module}.{name}, which is not admitted")
        return _ADMITTED[module, name]


def _load(data: bytes) -> tuple[Floats, list[_Interval]]:
    """Samples and labels of one member of the archive."""
    file = io.BytesIO(data)
    version = np.lib.format.read_magic(file)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    read(file)
    samples, tree = _Unpickler(file, encoding="latin1").load().ravel()
    return np.asarray(samples, np.float32), list(tree)


def _write(root: Path, part: str, name: str, samples: Floats, intervals: list[_Interval]) -> None:
    sound, labels = root / f"{part}_data" / f"{name}.wav", root / f"{part}_labels" / f"{name}.csv"
    for path in (sound, labels):
        path.parent.mkdir(parents=True, exist_ok=True)
    if not sound.exists():
        Audio(samples[None], LABEL_RATE).save(sound, subtype="float")
    rows = []
    for begin, end, (instrument, note, measure, beat, value) in sorted(intervals, key=lambda i: i[:2]):
        rows.append((begin, end, instrument, note, measure + beat, "", value))
    table = io.StringIO(newline="")
    csv.writer(table).writerows([COLUMNS, *rows])
    write_text(labels, table.getvalue(), DataError)
