"""Benchmarks: the scores and recordings that systems are compared on, rebuilt by one command from what can be had.

| name | version | scores | sound |
|---|---|---|---|
| gm-heldout | 1 | Freedoom's test part, OpenMSX, PianoBooster | the SoundFont that the bank was learnt from, dry |
| gm-othersource | 1 | the same | an unrelated SoundFont, dry |
| recordings | 2 | aligned with the sound, or transcribed from it | real piano, violin, drums, quartet |
| dissonant | 1 | made by rule, from triads to clusters and quarter tones | a SoundFont, dry |
| maestro, slakh, ... | 1 | the test split of a data set of the paper (published.py) | as recorded |

None of it is ever trained on. A benchmark is a folder: manifest.json and, for each piece, <split>/<piece>/ with
score.mid, mix.flac, stems/NN.flac (one for each track of the score, behind its faders) and piece.json. Of each song
there is an excerpt of 30 s, unless said otherwise, from 15 s on if there is that much; what sounds on is cut off 1.5 s
later. A piece appears whole or not at all, and pieces that are there are kept, so that a build goes on where it
stopped. Whatever was found and left out stands in the manifest under "skipped", with the reason.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

from miao.arrays import Floats, Reals
from miao.datasets.catalogue import DATASETS
from miao.errors import ConfigError, DataError, MiaoError
from miao.evaluation.dissonant import plan_dissonant
from miao.evaluation.harmony import roughness
from miao.evaluation.pieces import EXCERPT_SECONDS, EXCERPT_START, SPLIT, TAIL_SECONDS, Material, Plan
from miao.evaluation.published import plan_published
from miao.evaluation.recordings import LEARNT_FROM, plan_recordings
from miao.evaluation.sampler import Sampler, file_checksum
from miao.evaluation.songs import plan_songs
from miao.files import Json, make_folder, sweep, write_json, written_folder
from miao.midi.score import Score, read_score
from miao.midi.writing import write_score
from miao.sound.audio import Audio, read_audio
from miao.sound.spectrum import SAMPLE_RATE

VERSIONS = {"gm-heldout": 1, "gm-othersource": 1, "recordings": 2, "dissonant": 1} | dict.fromkeys(DATASETS, 1)
PEAK = 0.9  # of the loudest stem or the mix
_SILENT = 1e-5
_FORMAT = 1


@dataclass(frozen=True)
class Piece:
    """A piece of a benchmark; paths are relative to the benchmark's folder."""

    name: str
    group: str
    split: str
    origin: str
    seconds: float
    n_notes: int
    score: str
    mix: str
    stems: tuple[str, ...]
    notes_from: str
    bandwidth_hz: float
    facts: dict[str, float]
    checksum: str  # SHA-256 over its files


@dataclass(frozen=True)
class Benchmark:
    """A benchmark that has been built."""

    folder: Path
    name: str
    version: int
    source: Path | None  # the SoundFont it was played by
    pieces: tuple[Piece, ...]
    manifest: Json


def load_benchmark(folder: Path, split: str = SPLIT, limit: int | None = None) -> Benchmark:
    """The benchmark in a folder, or the first pieces of each group of it.

    Raises: DataError that names the first missing or changed file; ConfigError for an unknown split.
    """
    path = folder / "manifest.json"
    if not path.is_file():
        raise DataError(f"{path} is not there; build it with `miao data benchmark NAME -o {folder}`")
    try:
        manifest = json.loads(path.read_text())
        pieces = tuple(Piece(**{**p, "stems": tuple(p["stems"])}) for p in manifest["pieces"])
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not the manifest of a benchmark ({error}); build it again") from None
    splits = sorted({piece.split for piece in pieces})
    if split not in splits:
        raise ConfigError(f"{folder}: has no split {split}; there is {', '.join(splits) or 'none'}")
    chosen = first_of_groups([piece for piece in pieces if piece.split == split], limit)
    for piece in chosen:
        for name in files_of(piece):
            if not (folder / name).is_file():
                raise DataError(f"{folder / name} is missing; build the benchmark again, it makes what is not there")
        if _checksum(folder, files_of(piece)) != piece.checksum:
            raise DataError(f"{folder / piece.mix}: the files of {piece.name} have changed; remove their folder and "
                            "build the benchmark again")  # fmt: skip
    source = manifest["settings"].get("soundfont_path")
    return Benchmark(folder, manifest["name"], manifest["version"], source and Path(source), chosen, manifest)


Grouped = TypeVar("Grouped", Piece, Plan)


def first_of_groups(pieces: list[Grouped], limit: int | None) -> tuple[Grouped, ...]:
    """The first pieces of each group, in their order."""
    seen: Counter[str] = Counter()
    chosen = []
    for piece in pieces:
        seen[piece.group] += 1
        if limit is None or seen[piece.group] <= limit:
            chosen.append(piece)
    return tuple(chosen)


def files_of(piece: Piece) -> tuple[str, ...]:
    """The files that a piece consists of."""
    return (piece.score, piece.mix, *piece.stems)


def load_sound(folder: Path, piece: Piece) -> tuple[Score, Floats, Floats | None]:
    """Score, mix [2, S] and stems [tracks, 2, S] (or None) of a piece."""
    mix = read_audio(folder / piece.mix).samples
    stems = np.stack([read_audio(folder / name).samples for name in piece.stems]) if piece.stems else None
    return read_score(folder / piece.score), mix, stems


# building


def build(
    name: str,
    folder: Path,
    roots: list[Path],
    soundfont: Path | None,
    *,
    seconds: float = EXCERPT_SECONDS,
    limit: int | None = None,
    jobs: int = 1,
) -> Iterator[float]:
    """Make a benchmark, or what is missing of it; yields how much of it is done.

    roots      folders that collections and recordings are looked for in, before the places that packages install to
    soundfont  what plays it; recordings and data sets need none
    seconds    of each piece; 0 takes it whole
    limit      only the first pieces of each group

    Raises: ConfigError, or DataError if nothing is found or the folder holds something else.
    """
    from joblib import Parallel, delayed

    if name not in VERSIONS:
        raise ConfigError(f"no benchmark {name}; there are {', '.join(VERSIONS)}")
    if name == "recordings" or name in DATASETS:
        soundfont = None
    elif soundfont is None:
        raise ConfigError(f"{name} is played by a SoundFont; say which by --soundfont FILE.sf2")
    else:
        Sampler(soundfont)  # fails here, in one line, rather than in a process
    settings = {
        "benchmark": name, "version": VERSIONS[name], "seconds": seconds, "start": EXCERPT_START, "tail": TAIL_SECONDS,
        "soundfont": soundfont and soundfont.name, "soundfont_checksum": soundfont and file_checksum(soundfont),
    }  # fmt: skip
    _check_folder(folder, settings)
    plans, made_of, skipped = plan(name, roots, seconds)
    plans = list(first_of_groups(plans, limit))
    if not plans:
        raise DataError(f"{name}: nothing to make it of in {', '.join(map(str, roots)) or 'the usual places'}: "
                        + "; ".join(s["reason"] for s in skipped))  # fmt: skip
    make_folder(folder / SPLIT, DataError)
    sweep(folder / SPLIT)
    work = (delayed(_make)(p, folder, settings, soundfont) for p in plans)
    records: dict[str, Json] = {}
    for number, record in enumerate(Parallel(jobs, return_as="generator")(work), start=1):
        records[record["name"]] = record
        yield number / len(plans)
    pieces = [records[p.name] for p in plans if "reason" not in records[p.name]]
    skipped += [records[p.name] for p in plans if "reason" in records[p.name]]
    if not pieces:
        raise DataError(f"{name}: no piece could be made; the first reason: {skipped[0]['reason']}")
    groups = sorted({piece["group"] for piece in pieces})
    minutes = {g: round(sum(p["seconds"] for p in pieces if p["group"] == g) / 60, 2) for g in groups}
    manifest = {
        "format": _FORMAT, "name": name, "version": VERSIONS[name], "made_of": made_of,
        "settings": {**settings, "limit": limit, "soundfont_path": soundfont and str(soundfont.resolve())},
        "minutes": minutes, "pieces": pieces, "skipped": skipped,
    }  # fmt: skip
    write_json(folder / "manifest.json", manifest, DataError)


def plan(name: str, roots: list[Path], seconds: float) -> tuple[list[Plan], list[Json], list[Json]]:
    """What a benchmark is to be made of: pieces, their origins with licences, and what is left out and why."""
    if name == "recordings":
        plans, made_of, skipped = plan_recordings(roots, seconds)
        reason = "what the bank's violin was learnt from"
        skipped += [{"name": p.name, "reason": f"{p.name}: {reason}"} for p in plans if p.name == LEARNT_FROM]
        return [p for p in plans if p.name != LEARNT_FROM], made_of, skipped
    if name == "dissonant":
        return plan_dissonant(seconds)
    if name in DATASETS:
        return plan_published(name, roots, seconds)
    return plan_songs(roots, seconds)


def _make(planned: Plan, folder: Path, settings: Json, soundfont: Path | None) -> Json:
    """One piece in its folder; its record, or the reason why there is none."""
    target = folder / SPLIT / planned.name
    done = target / "piece.json"
    if done.is_file():
        made: Json = json.loads(done.read_text())["piece"]
        return made
    try:
        material = planned.read()
        if not material.score.tracks:
            raise DataError(f"{planned.origin}: no note in the excerpt")
        with written_folder(target, DataError) as part:
            piece = _filled(part, planned, material, soundfont)
            write_json(part / "piece.json", {"settings": settings, "piece": asdict(piece)}, DataError)
    except MiaoError as error:
        return {"name": planned.name, "group": planned.group, "origin": planned.origin, "reason": str(error)}
    return asdict(piece)


def _filled(part: Path, planned: Plan, material: Material, soundfont: Path | None) -> Piece:
    """Score and sound of a piece, written into its folder. Raises: DataError if there is nothing to hear."""
    write_score(material.score, part / "score.mid")
    score = read_score(part / "score.mid")
    mix, stems = _sound(material, score, soundfont)
    peak = float(max(np.abs(sound).max(initial=0.0) for sound in (mix, *stems)))
    if peak < _SILENT:
        raise DataError(f"{planned.origin}: nothing is heard in the excerpt")
    gain = np.float32(PEAK / peak)
    make_folder(part / "stems", DataError)
    names = [f"stems/{number:02d}.flac" for number in range(1, len(stems) + 1)]
    for file, sound in zip(["mix.flac", *names], [mix, *stems], strict=True):
        Audio(sound * gain, SAMPLE_RATE).save(part / file, subtype="24")
    inside = f"{SPLIT}/{planned.name}"
    return Piece(
        name=planned.name, group=planned.group, origin=planned.origin, split=SPLIT,
        seconds=mix.shape[1] / SAMPLE_RATE, n_notes=score.n_notes,
        score=f"{inside}/score.mid", mix=f"{inside}/mix.flac", stems=tuple(f"{inside}/{n}" for n in names),
        notes_from=material.notes_from, bandwidth_hz=material.bandwidth_hz,
        facts={"gain_db": round(20 * float(np.log10(gain)), 2), "roughness": round(score_roughness(score), 4)},
        checksum=_checksum(part, ("score.mid", "mix.flac", *names)),
    )  # fmt: skip


def _sound(material: Material, score: Score, soundfont: Path | None) -> tuple[Reals, list[Reals]]:
    """Mix and stems of a piece, [2, S] each."""
    if material.audio is None:
        assert soundfont is not None
        stems = Sampler(soundfont).stems(score, material.seconds)
        return stems.sum(axis=0), list(stems)
    sounds = [np.broadcast_to(a.samples, (2, a.samples.shape[1])) for a in (material.audio, *material.stems)]
    alone = sounds[:1] if len(score.tracks) == 1 else []
    return sounds[0], sounds[1:] if len(sounds) == 1 + len(score.tracks) else alone


def score_roughness(score: Score) -> float:
    """Roughness of all notes of a score together, their bends included."""
    notes = np.concatenate([track.notes for track in score.tracks])
    bends = np.concatenate([track.controls["bend"].at(track.notes["start"]) for track in score.tracks])
    return roughness(notes, bends)


def _checksum(folder: Path, names: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in names:
        digest.update((folder / name).read_bytes())
    return digest.hexdigest()[:16]


def _check_folder(folder: Path, settings: Json) -> None:
    """Raises: DataError if pieces there were made with other settings."""
    for path in sorted(folder.glob("*/*/piece.json")):
        theirs = json.loads(path.read_text())["settings"]
        for key, value in settings.items():
            if theirs.get(key) != value:
                raise DataError(f"{folder} holds a benchmark with {key} {theirs.get(key)}, not {value}; use another "
                                "folder")  # fmt: skip
        return
