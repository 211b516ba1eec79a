"""Cerberus4: the piano, guitar, bass and drums of Slakh's songs, as Cerberus was trained on and MT3 evaluated on.

| | |
|---|---|
| size | as MT3 states: 1,327 songs, 543 h (its mixtures of these songs); here: the songs of a Slakh tree that qualify |
| sound | Slakh's stems; the published experiments are at 16 kHz, a tree of FLAC files is at 44.1 kHz |
| notes | Slakh's MIDI of these stems |
| version | none of its own: made from Slakh2100 |
| split | Slakh's |
| layout | a Slakh tree, see slakh.py |

What could be established. Manilow et al. (2020) train on the partition of Slakh2100, resampled to 16 kHz, on mixtures
of these four instruments. MT3 (Gardner et al. 2022, with Manilow among the authors) makes "Cerberus4" of all songs that
have at least one stem of each class, by program: piano 0 to 7, guitar 24 to 31, bass 32 to 39, drums. Its code
(mt3/datasets.py) names TFRecords, gs://mt3/data/datasets/cerberus4/slakh_multi_cerberus_{split}_bass:drums:guitar:piano,
with the fields mix, stems, note_sequences, program_num, src_ids and track_id.

What could not. We found no public release of those files, so they are not read; nor did we find out whether they hold
whole songs, and which segments Manilow et al. drew. So this is our reconstruction: whole songs by MT3's rule, each
class with all its stems, programs as Slakh has them. There is no mix on disk: the mix of these parts is the sum of
their stems. Numbers on it are not those of MT3's files, and they depend on the tree: redux has fewer songs than the
original.
"""

from functools import partial
from pathlib import Path

from miao.datasets import slakh
from miao.datasets.annotations import read_parts
from miao.datasets.recordings import Fault, Recording
from miao.datasets.verification import Progress, check_recordings, missing
from miao.errors import DataError

CITATION = """\
@inproceedings{manilow2020simultaneous,
  title={Simultaneous Separation and Transcription of Mixtures with Multiple Polyphonic and Percussive Instruments},
  author={Manilow, Ethan and Seetharaman, Prem and Pardo, Bryan},
  booktitle={IEEE International Conference on Acoustics, Speech and Signal Processing (ICASSP)},
  year={2020}
}
@inproceedings{gardner2022mt3,
  title={{MT3}: Multi-Task Multitrack Music Transcription},
  author={Gardner, Josh and Simon, Ian and Manilow, Ethan and Hawthorne, Curtis and Engel, Jesse},
  booktitle={International Conference on Learning Representations},
  year={2022}
}"""
LICENSE = "CC BY 4.0 (Slakh2100's)"
REMOTES = slakh.REMOTES
FOLDERS = slakh.FOLDERS
CLASSES = {"piano": range(0, 8), "guitar": range(24, 32), "bass": range(32, 40)}
DRUMS = "drums"


def recordings(root: Path) -> list[Recording]:
    """The songs in which all four play, with the stems of these alone. Raises: DataError if there is no Slakh."""
    found = []
    for song in slakh.songs(root):
        try:
            stems = chosen(slakh.read_stems(song))
        except DataError:
            continue  # verify names it
        if stems:
            read = partial(read_parts, [(stem.title, stem.midi, stem.program, stem.is_drum) for stem in stems])
            parts = slakh.as_parts(stems)
            found.append(Recording("cerberus4", song.name, slakh.split_of(song), read, None, parts))
    return found


def verify(root: Path, on_progress: Progress | None = None) -> list[Fault]:
    """What is wrong with the stems that are used. Raises: DataError if there is no Slakh."""
    home, faults = slakh.home_of(root), []
    for song in slakh.songs(root):
        try:
            stems = [stem for stem in slakh.read_stems(song) if class_of(stem)]
        except DataError as error:
            path, _, what = str(error).partition(": ")
            faults.append(Fault(str(Path(path).relative_to(home)), what))
            continue
        faults += missing([p for s in stems if s.is_rendered for p in (s.midi, s.audio)], home)
    return faults + check_recordings(recordings(home), home, on_progress)


def chosen(stems: list[slakh.Stem]) -> list[slakh.Stem]:
    """The stems of the four classes whose sound is there, or none if a class has none."""
    there = [stem for stem in stems if class_of(stem) and stem.midi.is_file() and stem.audio.is_file()]
    return there if {class_of(stem) for stem in there} == {*CLASSES, DRUMS} else []


def class_of(stem: slakh.Stem) -> str | None:
    """piano, guitar, bass, drums, or None."""
    if stem.is_drum:
        return DRUMS
    return next((name for name, programs in CLASSES.items() if stem.program in programs), None)
