"""Slakh2100: songs of the Lakh MIDI collection, played by professional sample libraries, with all stems.

| | |
|---|---|
| size | 2,100 songs, 145 h of mixtures, 187 patches in 34 classes; redux: 1,710 songs, 104 GB packed |
| sound | FLAC, 44.1 kHz, mono: mix and a stem for each part; BabySlakh: the first 20 songs as WAV at 16 kHz |
| notes | the MIDI that was rendered, one file a stem: exact; programs and drums by metadata.yaml |
| version | slakh2100_flac_redux (Zenodo 4599666), the original slakh2100_flac, babyslakh_16k (Zenodo 4603870) |
| split | as published, by folder: 1,500 / 375 / 225; redux 1,289 train, 270 validation, 151 test, 390 omitted |
| layout | train/Track00001/{metadata.yaml, mix.flac, MIDI/S00.mid, stems/S00.flac}; validation and test likewise |

BabySlakh has no folders of splits; a song's number says which it is in (to 1500 train, to 1875 validation).

Known faults, of the data set: the original holds songs several times, also across its splits; redux moved the copies
to `omitted`, which is not listed here. Use the original only to compare with what was measured on it. Some stems were
not rendered (sound effects, mostly; `audio_rendered: false`) and are in neither mix nor score here; BabySlakh's flags
may be false throughout, so a file that is there counts. A patch is often not the instrument that the program names
(inst_class and plugin_name tell more), and sample libraries differ in what they make of pedals and bends.
"""

import re
from functools import partial
from pathlib import Path

from miao.datasets.annotations import read_parts
from miao.datasets.download import Remote
from miao.datasets.recordings import SPLITS, Fault, Part, Recording
from miao.datasets.verification import Progress, check_recordings, find_home, missing, relative
from miao.errors import DataError, needs
from miao.files import Json
from miao.midi.score import Score

CITATION = """\
@inproceedings{manilow2019cutting,
  title={Cutting Music Source Separation Some {Slakh}: A Dataset to Study the Impact of Training Data Quality and
         Quantity},
  author={Manilow, Ethan and Wichern, Gordon and Seetharaman, Prem and Le Roux, Jonathan},
  booktitle={Proc. IEEE Workshop on Applications of Signal Processing to Audio and Acoustics (WASPAA)},
  year={2019}
}"""
LICENSE = "CC BY 4.0"
REMOTES = (
    Remote("slakh2100_flac_redux.tar.gz", "https://zenodo.org/records/4599666/files/slakh2100_flac_redux.tar.gz",
           104_322_767_708, "md5:f4b71b6c45ac9b506f59788456b3f0c4"),
    Remote("babyslakh_16k.tar.gz", "https://zenodo.org/records/4603870/files/babyslakh_16k.tar.gz",
           882_818_115, "md5:311096dc2bde7d61c97e930edbfc7f78", is_optional=True),
)  # fmt: skip
FOLDERS = ("slakh2100_flac_redux", "slakh2100_flac", "slakh2100", "Slakh2100", "babyslakh_16k")
SUFFIXES = (".flac", ".wav")
_TRACK = re.compile(r"Track(\d{5})")
_LAST_TRAIN, _LAST_VALIDATION = 1500, 1875  # song numbers of the original


class Stem:
    """One part of a song, as metadata.yaml and the files have it."""

    def __init__(self, song: Path, name: str, fields: Json) -> None:
        self.name = name
        self.midi = song / "MIDI" / f"{name}.mid"
        self.audio = find_sound(song / "stems", name)
        self.is_drum = bool(fields["is_drum"])
        self.program = 0 if self.is_drum else int(fields["program_num"])
        self.title = f"{name} {fields.get('midi_program_name') or fields.get('inst_class')}"
        self.is_rendered = bool(fields.get("audio_rendered"))
        if not 0 <= self.program <= 127:
            raise ValueError(f"{name}: there is no program {self.program}")

    @property
    def sounds(self) -> bool:
        """Whether it is in the mix, and its notes are there."""
        return self.midi.is_file() and (self.is_rendered or self.audio.is_file())


def recordings(root: Path) -> list[Recording]:
    """The songs of all splits that have metadata and a mix or a stem; raises DataError if there is no Slakh."""
    found = []
    for song in songs(root):
        try:
            stems = [stem for stem in read_stems(song) if stem.sounds]
        except DataError:
            continue  # verify names it
        mix_path = find_sound(song, "mix")
        mix = Part("mix", mix_path, tuple(range(len(stems)))) if mix_path.is_file() else None
        recording = Recording("slakh", song.name, split_of(song), partial(_read, stems), mix, as_parts(stems))
        if stems and (mix or recording.stems):
            found.append(recording)
    return found


def verify(root: Path, on_progress: Progress | None = None) -> list[Fault]:
    """What is missing, damaged or misaligned; raises DataError if there is no Slakh."""
    home, faults = home_of(root), []
    for song in songs(root):
        try:
            stems = read_stems(song)
        except DataError as error:
            faults.append(Fault(relative(song / "metadata.yaml", home), str(error).partition(": ")[2]))
            continue
        wanted = [stem for stem in stems if stem.is_rendered or stem.midi.is_file() or stem.audio.is_file()]
        faults += missing([find_sound(song, "mix"), *(p for s in wanted for p in (s.midi, s.audio))], home)
    return faults + check_recordings(recordings(home), home, on_progress)


def songs(root: Path) -> list[Path]:
    """The folders of all songs, but for those that redux omits. Raises: DataError."""
    home = home_of(root)
    places = [home / split for split in SPLITS if (home / split).is_dir()] or [home]
    return sorted((path for place in places for path in place.iterdir() if _TRACK.fullmatch(path.name)),
                  key=lambda path: path.name)  # fmt: skip


def split_of(song: Path) -> str:
    """By the folder, or the song's number if it lies in none of a split."""
    if song.parent.name in SPLITS:
        return song.parent.name
    number = int(song.name.removeprefix("Track"))
    return SPLITS[(number > _LAST_TRAIN) + (number > _LAST_VALIDATION)]


def read_stems(song: Path) -> list[Stem]:
    """The stems that a song's metadata list, in order; raises DataError if these are missing or damaged."""
    needs("train", "yaml")
    import yaml

    path = song / "metadata.yaml"
    try:
        with open(path, encoding="utf-8") as file:
            metadata = yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
        return [Stem(song, name, fields) for name, fields in sorted(metadata["stems"].items())]
    except FileNotFoundError:
        raise DataError(f"{path}: missing") from None
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DataError(f"{path}: not a song's metadata ({type(error).__name__}: {error})".replace("\n", " ")) from None


def as_parts(stems: list[Stem]) -> tuple[Part, ...]:
    """The stems whose sound is there; stem n is track n of the score."""
    return tuple(Part(stem.title, stem.audio, (n,)) for n, stem in enumerate(stems) if stem.audio.is_file())


def find_sound(folder: Path, name: str) -> Path:
    """The sound of a name, in whichever format it is there; else where it should be."""
    paths = [folder / f"{name}{suffix}" for suffix in SUFFIXES]
    return next((path for path in paths if path.is_file()), paths[0])


def home_of(root: Path) -> Path:
    """The folder that holds splits or songs. Raises: DataError."""
    return find_home(root, FOLDERS, _is_home, "a folder train or Track00001")


def _is_home(place: Path) -> bool:
    return any((place / split).is_dir() for split in SPLITS) or any(_TRACK.fullmatch(p.name) for p in place.iterdir())


def _read(stems: list[Stem]) -> Score:
    return read_parts([(stem.title, stem.midi, stem.program, stem.is_drum) for stem in stems])
