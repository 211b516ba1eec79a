"""Cerberus4: quartets of piano, guitar, bass and drums out of Slakh's songs, as MT3 evaluates on.

| | |
|---|---|
| size | as MT3 states: 1,327 songs, 542.6 h of mixtures; here: what a Slakh tree gives |
| sound | Slakh's stems; the published experiments are at 16 kHz, a tree of FLAC files is at 44.1 kHz |
| notes | Slakh's MIDI of these stems |
| version | none of its own: made from Slakh2100 |
| split | Slakh's; as MT3 states: 960 train, 235 validation, 132 test |
| layout | a Slakh tree, see slakh.py |

What could be established. MT3 (Gardner et al. 2022, appendix B.3) takes from each song of Slakh2100 all sets of exactly
one piano, one guitar, one bass and one drums, whole songs, with Slakh's split. This follows Manilow et al. (2020), who
drew short segments in which the four are active; MT3 does neither. Its code (mt3/datasets.py) names TFRecords,
gs://mt3/data/datasets/cerberus4/slakh_multi_cerberus_{split}_bass:drums:guitar:piano, with the fields mix, stems,
note_sequences, program_num, src_ids and track_id.

What could not. We found no public release of those files, so they are not read and the sets are made anew here. By
which programs MT3 tells the classes is not said; here they are General MIDI's groups: piano 0 to 7, guitar 24 to 31,
bass 32 to 39, and drums. Counts differ by that and by the tree (redux has fewer songs), so numbers need not be those of
MT3's files.

Ours: each set is a recording, TrackNNNNN/S00-S01-S02-S03; a stem is in several if a song has two guitars, say. There is
no mix on disk: the mix of a set is the sum of its stems.
"""

from collections.abc import Iterator
from functools import partial
from itertools import product
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
    """Each set of one piano, guitar, bass and drums whose sound is there. Raises: DataError if there is no Slakh."""
    found = []
    for song in slakh.songs(root):
        try:
            stems = slakh.read_stems(song)
        except DataError:
            continue  # verify names it
        for quartet in quartets(stems):
            found.append(_as_recording(song, f"{song.name}/{'-'.join(stem.name for stem in quartet)}", quartet))
    return found


def verify(root: Path, on_progress: Progress | None = None) -> list[Fault]:
    """What is wrong with the stems that are used. Raises: DataError if there is no Slakh."""
    home, faults, wholes = slakh.home_of(root), [], []  # a stem may be in several sets, and is looked at once
    for song in slakh.songs(root):
        try:
            stems = [stem for stem in slakh.read_stems(song) if class_of(stem)]
        except DataError as error:
            path, _, what = str(error).partition(": ")
            faults.append(Fault(str(Path(path).relative_to(home)), what))
            continue
        faults += missing([p for s in stems if s.is_rendered for p in (s.midi, s.audio)], home)
        used = {stem.name: stem for quartet in quartets(stems) for stem in quartet}
        if used:
            wholes.append(_as_recording(song, song.name, list(used.values())))
    return faults + check_recordings(wholes, home, on_progress)


def quartets(stems: list[slakh.Stem]) -> Iterator[list[slakh.Stem]]:
    """All sets of one stem of each class, of those whose notes and sound are there."""
    there = [stem for stem in stems if stem.midi.is_file() and stem.audio.is_file()]
    for quartet in product(*([stem for stem in there if class_of(stem) == name] for name in (*CLASSES, DRUMS))):
        yield list(quartet)


def class_of(stem: slakh.Stem) -> str | None:
    """piano, guitar, bass, drums, or None."""
    if stem.is_drum:
        return DRUMS
    return next((name for name, programs in CLASSES.items() if stem.program in programs), None)


def _as_recording(song: Path, name: str, stems: list[slakh.Stem]) -> Recording:
    read = partial(read_parts, [(stem.title, stem.midi, stem.program, stem.is_drum) for stem in stems])
    return Recording("cerberus4", name, slakh.split_of(song), read, None, slakh.as_parts(stems))
