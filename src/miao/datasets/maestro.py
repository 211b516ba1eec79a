"""MAESTRO: ten years of a piano competition on Disklaviers, as played (MIDI) and as heard.

| | |
|---|---|
| size | v3: 1,276 performances, 198.7 h, 7.04 million notes; 101 GB packed, 120 GB unpacked |
| sound | WAV, 44.1 or 48 kHz, 16 bit, stereo; one concert grand a year, its hall, its microphones |
| notes | MIDI of the performance: velocities, sustain, sostenuto and una corda pedals; within about 3 ms of the sound |
| version | 3.0.0; 2.0.0 and 1.0.0 have the same layout and are read too |
| split | as published: 962 train, 137 validation, 177 test; no composition is in two of them |
| layout | maestro-v3.0.0.json or .csv, and 2004/ to 2018/ with pairs of .midi and .wav |

Known faults, of the data set: version 3 left out six recordings of version 2 that were no piano solos; the pianos are
tuned and voiced anew each year, so that "the piano" is several. A key that is held while the pedal is down sounds on in
the MIDI file's own terms; `read_score` says until when.
"""

import csv
import json
from functools import partial
from pathlib import Path

from miao.datasets.annotations import read_parts
from miao.datasets.download import Remote
from miao.datasets.recordings import SPLITS, Fault, Part, Recording
from miao.datasets.verification import (
    Progress,
    check_published_length,
    check_recordings,
    find_home,
    missing,
    relative,
)
from miao.errors import DataError

CITATION = """\
@inproceedings{hawthorne2019enabling,
  title={Enabling Factorized Piano Music Modeling and Generation with the {MAESTRO} Dataset},
  author={Hawthorne, Curtis and Stasyuk, Andriy and Roberts, Adam and Simon, Ian and Huang, Cheng-Zhi Anna and
          Dieleman, Sander and Elsen, Erich and Engel, Jesse and Eck, Douglas},
  booktitle={International Conference on Learning Representations},
  year={2019}
}"""
LICENSE = "CC BY-NC-SA 4.0"
_PLACE = "https://storage.googleapis.com/magentadata/datasets/maestro/v3.0.0/maestro-v3.0.0"
REMOTES = (
    Remote("maestro-v3.0.0.zip", f"{_PLACE}.zip",
           checksum="sha256:6680fea5be2339ea15091a249fbd70e49551246ddbd5ca50f1b2352c08c95291"),
    Remote("maestro-v3.0.0-midi.zip", f"{_PLACE}-midi.zip", is_optional=True,
           checksum="sha256:70470ee253295c8d2c71e6d9d4a815189e35c89624b76d22fce5a019d5dde12c"),
    Remote("maestro-v3.0.0.json", f"{_PLACE}.json", is_optional=True),
)  # fmt: skip
FOLDERS = ("maestro-v3.0.0", "maestro-v2.0.0", "maestro-v1.0.0", "maestro", "MAESTRO")
PIANO = 0


def recordings(root: Path) -> list[Recording]:
    """The performances whose sound and notes are both there. Raises: DataError if there is no MAESTRO."""
    home = _home(root)
    found = []
    for row in _rows(home):
        sound, midi = home / row["audio_filename"], home / row["midi_filename"]
        if sound.is_file() and midi.is_file() and row["split"] in SPLITS:
            read = partial(read_parts, [("Piano", midi, PIANO, False)])
            name = str(Path(row["midi_filename"]).with_suffix(""))
            found.append(Recording("maestro", name, row["split"], read, Part("mix", sound, (0,))))
    return found


def verify(root: Path, on_progress: Progress | None = None) -> list[Fault]:
    """What is missing, damaged, misaligned, or not as the metadata say. Raises: DataError if there is no MAESTRO."""
    home = _home(root)
    rows = _rows(home)
    faults = missing([home / row[key] for row in rows for key in ("audio_filename", "midi_filename")], home)
    table = relative(_metadata(home), home)
    faults += [Fault(table, f"{row['midi_filename']}: {row['split']} is no split; there are {', '.join(SPLITS)}")
               for row in rows if row["split"] not in SPLITS]  # fmt: skip
    for row in rows:
        if (home / row["audio_filename"]).is_file():
            faults += check_published_length(home / row["audio_filename"], float(row["duration"]), home)
    return faults + check_recordings(recordings(home), home, on_progress)


def _home(root: Path) -> Path:
    return find_home(root, FOLDERS, lambda place: bool(_tables(place)), "maestro-v3.0.0.json (or .csv, or of v2)")


def _tables(place: Path) -> list[Path]:
    return sorted(path for path in place.glob("maestro-v*") if path.suffix in (".json", ".csv"))


def _metadata(home: Path) -> Path:
    return _tables(home)[-1]  # the newest version; .json before .csv, which say the same


def _rows(home: Path) -> list[dict[str, str]]:
    """One dictionary for each performance. Raises: DataError if the table is damaged."""
    path = _metadata(home)
    try:
        if path.suffix == ".csv":
            with open(path, newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
        else:
            table = json.loads(path.read_text(encoding="utf-8"))
            if isinstance(table, dict):  # version 3 has columns: {"split": {"0": "train", ...}, ...}
                rows = [{key: column[n] for key, column in table.items()} for n in table["split"]]
            else:
                rows = table
        for row in rows:
            float(row["duration"]), row["split"], row["audio_filename"], row["midi_filename"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not MAESTRO's table of recordings ({type(error).__name__}: {error})") from error
    return rows
