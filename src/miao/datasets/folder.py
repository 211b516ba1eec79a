"""Your own recordings: a folder of sound files, each with the MIDI file of what is played in it beside it.

| file | what |
|---|---|
| NAME.wav, .flac, .ogg, .mp3 | the sound |
| NAME.mid, .midi | its notes, with the programs they are to be learnt as |
| NAME.1.wav, NAME.2.wav, ... | the sounds of the score's tracks, where these were recorded apart |

Folders within are looked into; those named train, validation or test say the split, else every tenth piece, by the hash
of its name, is kept for validation. Known faults: those of whoever recorded; `verify` names what does not fit.
"""

import hashlib
from functools import partial
from pathlib import Path

from miao.datasets.recordings import SPLITS, Fault, Part, Recording
from miao.errors import DataError, MiaoError
from miao.midi.score import read_score
from miao.sound.writer import FORMATS

SCORES = (".mid", ".midi")
_VALIDATION_SHARE = 0.1


def recordings(root: Path) -> list[Recording]:
    """The pairs of a folder, in order of their names. Raises: DataError if there is none."""
    found = []
    for score in _scores(root):
        sounds = _sounds(score)
        if sounds:
            found.append(_recording(root, score, sounds))
    if not found:
        raise DataError(f"{root}: holds no sound with a MIDI file of the same name beside it")
    return found


def verify(root: Path) -> list[Fault]:
    """Scores without sounds, sounds without scores, and files that cannot be read."""
    faults = []
    for score in _scores(root):
        sounds = _sounds(score)
        if not sounds:
            faults.append(Fault(str(score.relative_to(root)), f"there is no {score.stem}.wav or other sound beside it"))
        try:
            read_score(score)
        except MiaoError as error:
            faults.append(Fault(str(score.relative_to(root)), str(error)))
    owned = {sound for score in _scores(root) for sound in _sounds(score).values()}
    for path in sorted(root.rglob("*")):
        if path.suffix.lower() in FORMATS and path not in owned:
            faults.append(Fault(str(path.relative_to(root)), f"there is no {path.stem}.mid beside it"))
    return faults


def _scores(root: Path) -> list[Path]:
    if not root.is_dir():
        raise DataError(f"{root}: there is no such folder")
    return sorted(path for path in root.rglob("*") if path.suffix.lower() in SCORES)


def _sounds(score: Path) -> dict[str, Path]:
    """Sounds of a score: the whole under "", tracks under their numbers."""
    found: dict[str, Path] = {}
    for path in sorted(score.parent.glob(f"{_escaped(score.stem)}*")):
        number = path.stem[len(score.stem) :].removeprefix(".")
        if path.suffix.lower() in FORMATS and (not number or (number.isdecimal() and path.stem != score.stem + number)):
            found.setdefault(number, path)
    return found


def _escaped(stem: str) -> str:
    return "".join(f"[{c}]" if c in "[]*?" else c for c in stem)


def _recording(root: Path, score: Path, sounds: dict[str, Path]) -> Recording:
    name = score.relative_to(root).with_suffix("").as_posix()
    n_tracks = _n_tracks(score)
    mix = Part("mix", sounds[""], tuple(range(n_tracks))) if "" in sounds else None
    stems = tuple(Part(f"track {n}", path, (int(n) - 1,)) for n, path in sorted(sounds.items()) if n)
    return Recording("folder", name, split_of(name), partial(read_score, score), mix, stems)


def _n_tracks(score: Path) -> int:
    """The tracks of a score; 0 if it cannot be read, which reading it says again later."""
    try:
        return len(read_score(score).tracks)
    except MiaoError:
        return 0


def split_of(name: str) -> str:
    """The split of a piece by its name: that of its folder, if it is named so."""
    named = [part for part in Path(name).parts[:-1] if part in SPLITS]
    if named:
        return named[0]
    return "validation" if hashlib.sha256(name.encode()).digest()[0] < 256 * _VALIDATION_SHARE else "train"
