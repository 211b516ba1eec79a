"""URMP: chamber music whose players were recorded one by one, in time with each other.

| | |
|---|---|
| size | 44 pieces, 1.3 h: 11 duets, 12 trios, 14 quartets, 7 quintets; 14 instruments; 12 GB packed, with video |
| sound | WAV, 48 kHz, mono: each part, dry, and the mix |
| notes | text a part: start, frequency, length; F0 every 10 ms; found by pitch tracking and corrected by hand |
| version | Dryad 10.5061/dryad.ng3r749 |
| split | none is published; MT3's: pieces 1, 2, 12, 13, 24, 25, 31, 38, 39 are held out |
| layout | 01_Jupiter_vn_vc/{AuMix_01_Jupiter_vn_vc.wav, AuSep_1_vn_01_Jupiter.wav, |
| | Notes_1_vn_01_Jupiter.txt, F0s_1_vn_01_Jupiter.txt} |

MT3 (Gardner et al. 2022) calls the nine pieces validation and reports its results on them; here they are `test`, so
that no training sees them.

Ours: a note's pitch is the one nearest its frequency; what is over is bend, and within the note the bend follows the
F0 file, where it has a pitch less than 1.5 semitones from the note's (vibrato and slides; not wrong octaves). Score
files (Sco_*.mid) and video are not read. `sax` stands for soprano and tenor alike (MT3, appendix B.6): a part that goes
below a soprano's lowest note is taken for a tenor's.

Known faults: no velocities (80 for all); the starts of bowed and blown notes are soft, and so less certain than
those of struck ones.
"""

import re
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from miao.arrays import Doubles
from miao.datasets.annotations import as_notes, as_score, as_track, bend_by_frames, bend_by_note, semitones
from miao.datasets.download import Remote
from miao.datasets.recordings import Fault, Part, Recording
from miao.datasets.verification import Progress, check_recordings, find_home, missing, relative
from miao.errors import DataError
from miao.midi.score import Score, Track

CITATION = """\
@article{li2019creating,
  title={Creating a Multitrack Classical Music Performance Dataset for Multimodal Music Analysis: Challenges, Insights,
         and Applications},
  author={Li, Bochen and Liu, Xinzhao and Dinesh, Karthik and Duan, Zhiyao and Sharma, Gaurav},
  journal={IEEE Transactions on Multimedia},
  volume={21},
  number={2},
  pages={522--535},
  year={2019}
}"""
LICENSE = "CC0 1.0"
REMOTES = (
    Remote("Dataset.tar.gz", "https://doi.org/10.5061/dryad.ng3r749",
           by_hand="Dryad gives it out by its page only; fetch it there with a browser"),
)  # fmt: skip
FOLDERS = ("Dataset", "URMP", "urmp", "URMP/Dataset")
PROGRAMS = {
    "vn": 40, "va": 41, "vc": 42, "db": 43, "fl": 73, "ob": 68, "cl": 71, "sax": 64, "bn": 70, "tpt": 56, "hn": 60,
    "tbn": 57, "tba": 58,
}  # fmt: skip
TENOR_SAX, SOPRANO_SAX_LOWEST = 66, 56
NAMES = {
    "vn": "Violin", "va": "Viola", "vc": "Cello", "db": "Double bass", "fl": "Flute", "ob": "Oboe", "cl": "Clarinet",
    "sax": "Saxophone", "bn": "Bassoon", "tpt": "Trumpet", "hn": "Horn", "tbn": "Trombone", "tba": "Tuba",
}  # fmt: skip
TEST = (1, 2, 12, 13, 24, 25, 31, 38, 39)
BEND_REACH = 1.5  # semitones
_PIECE = re.compile(r"(\d\d)_([^_]+)_([a-z]+(?:_[a-z]+)*)")


@dataclass(frozen=True)
class Player:
    """One part of a piece, by the files it should have."""

    instrument: str
    notes: Path
    f0: Path
    audio: Path


def recordings(root: Path) -> list[Recording]:
    """The pieces whose notes and mix or parts are there. Raises: DataError if there is no URMP."""
    found = []
    for piece in pieces(_home(root)):
        players = [player for player in players_of(piece) if player.notes.is_file()]
        stems = tuple(Part(f"{n + 1} {NAMES[player.instrument]}", player.audio, (n,))
                      for n, player in enumerate(players) if player.audio.is_file())  # fmt: skip
        is_complete = len(players) == len(players_of(piece))
        has_mix = is_complete and _mix(piece).is_file()  # else the mix would hold more than the notes
        mix = Part("mix", _mix(piece), tuple(range(len(players)))) if has_mix else None
        if mix or stems:
            split = "test" if int(piece.name[:2]) in TEST else "train"
            found.append(Recording("urmp", piece.name, split, partial(read_players, players), mix, stems))
    return found


def verify(root: Path, on_progress: Progress | None = None) -> list[Fault]:
    """What is missing, damaged or misaligned. Raises: DataError if there is no URMP."""
    home, faults = _home(root), []
    for piece in pieces(home):
        wanted = [_mix(piece)]
        for player in players_of(piece):
            wanted += [player.audio, player.notes, player.f0]
        faults += missing(wanted, home)
        unknown = [code for code in _codes(piece) if code not in PROGRAMS]
        if unknown:
            what = f"{unknown[0]} is no instrument; there are {', '.join(PROGRAMS)}"
            faults.append(Fault(relative(piece, home), what))
    return faults + check_recordings(recordings(home), home, on_progress)


def read_players(players: list[Player]) -> Score:
    """A track for each player. Raises: DataError if a file is damaged, or holds no note."""
    tracks: list[Track] = []
    for number, player in enumerate(players):
        table = _read_table(player.notes, 3)
        table = table[np.argsort(table[:, 0], kind="stable")]
        pitches = semitones(table[:, 1])
        ends = np.minimum(table[:, 0] + table[:, 2], np.append(table[1:, 0], np.inf))  # one note at a time
        is_tenor = player.instrument == "sax" and pitches.min() < SOPRANO_SAX_LOWEST - 0.5
        program = TENOR_SAX if is_tenor else PROGRAMS[player.instrument]
        notes = as_notes(table[:, 0], ends, pitches, program, player.notes)
        bend = bend_by_note(notes, pitches)
        if player.f0.is_file():
            frames = _read_table(player.f0, 2)
            bend = bend_by_frames(notes, bend, frames[:, 0], np.maximum(frames[:, 1], 0), BEND_REACH)
        tracks.append(as_track(NAMES[player.instrument], number, notes, bend))
    return as_score(tracks)


def pieces(home: Path) -> list[Path]:
    """The folders of the pieces, in order."""
    return sorted(path for path in home.iterdir() if path.is_dir() and _PIECE.fullmatch(path.name))


def players_of(piece: Path) -> list[Player]:
    """The parts that a piece's name tells of, and the files that each should have."""
    number, title, _ = piece.name.split("_", 2)
    ends = [(code, f"{n}_{code}_{number}_{title}") for n, code in enumerate(_codes(piece), 1) if code in PROGRAMS]
    return [Player(code, piece / f"Notes_{end}.txt", piece / f"F0s_{end}.txt", piece / f"AuSep_{end}.wav")
            for code, end in ends]  # fmt: skip


def _codes(piece: Path) -> list[str]:
    return piece.name.split("_")[2:]


def _mix(piece: Path) -> Path:
    return piece / f"AuMix_{piece.name}.wav"


def _read_table(path: Path, n_columns: int) -> Doubles:
    """Rows of numbers. Raises: DataError if there are others, or none."""
    try:
        rows = [[float(word) for word in line.split()] for line in path.read_text().splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise DataError(f"{path}: not a table of numbers ({error})") from error
    if not rows:
        raise DataError(f"{path}: holds no notes")
    if {len(row) for row in rows} != {n_columns}:
        raise DataError(f"{path}: rows should have {n_columns} columns")
    return np.array(rows)


def _home(root: Path) -> Path:
    return find_home(root, FOLDERS, lambda place: bool(pieces(place)), "a folder such as 01_Jupiter_vn_vc")
