"""Recordings of real instruments with the notes that were played: the benchmark `recordings`.

| group | what | notes | licence |
|---|---|---|---|
| piano | MAPS ENSTDkAm: a Disklavier, ambient microphones, 16 kHz | those that drove the piano | CC BY-NC-SA |
| violin | Bach Violin Dataset: solo, compressed | aligned by its authors | CC BY 3.0, CC BY-NC 3.0 |
| drums | MDB Drums++: real kits | annotated strokes | CC BY-NC-SA 4.0 |
| quartet | Bach10 excerpts: violin, clarinet, saxophone, bassoon | transcribed from the stems | research use |

Each piece is taken from its beginning, so that no note sounds into it, and cut off hard at its end. What a recording
cannot hold is not asked of anybody: sounds are compared up to its own bandwidth. The quartets come without notes; those
that are played to the systems are what the transcriber hears in the stems, which flatters F1 of the reference (it is
1). Faults known: one violin movement whose labels are poor is left out; the violins' velocities are all the same. The
movement that the bank's violin was learnt from is no piece of the benchmark.
"""

import csv
from functools import partial
from pathlib import Path

import numpy as np

from miao.arrays import Reals, Records
from miao.datasets.annotations import as_score, as_track
from miao.errors import DataError
from miao.evaluation.pieces import Material, Plan, excerpt, found_place
from miao.evaluation.transcription import BasicPitch
from miao.files import Json
from miao.midi.score import notes_array, read_score
from miao.sound.audio import Audio, read_audio, resample
from miao.sound.spectrum import SAMPLE_RATE

GROUPS = {
    "piano": ("MAPS ENSTDkAm, https://adasp.telecom-paris.fr/resources/2010-07-08-maps-database/", "CC BY-NC-SA"),
    "violin": ("Bach Violin Dataset, https://github.com/salu133445/bach-violin-dataset", "CC BY 3.0 and CC BY-NC 3.0"),
    "drums": ("MDB Drums++", "CC BY-NC-SA 4.0"),
    "quartet": ("Bach10 excerpts", "research use"),
}
PIANO, VIOLIN = 0, 40
QUARTET = {"S1": ("Violin", 40), "S2": ("Clarinet", 71), "S3": ("Saxophone", 66), "S4": ("Bassoon", 70)}
POOR_LABELS = ("minji-kim_bwv1003_mov3",)
LEARNT_FROM = "violin-minji-kim_bwv1003_mov4"  # by the bank's violin: no piece to measure it by
VELOCITY = 80  # where none is known


def plan_recordings(roots: list[Path], seconds: float) -> tuple[list[Plan], list[Json], list[Json]]:
    """The pieces of the benchmark that are there, their origins, and what is left out and why."""
    plans: list[Plan] = []
    made_of, skipped = [], []
    finders = {"piano": _piano, "violin": _violin, "drums": _drums, "quartet": _quartet}
    for group, (origin, licence) in GROUPS.items():
        place = found_place(roots, (f"recordings/{group}", group))
        if place is None:
            skipped.append({"name": group, "reason": f"{group} is not there ({origin})"})
            continue
        found, left_out = finders[group](place, seconds)
        plans += found
        skipped += left_out
        made_of.append({"name": group, "places": str(place), "licence": licence, "origin": origin,
                        "n_files": len(found)})  # fmt: skip
    return plans, made_of, skipped


# where they are

Found = tuple[list[Plan], list[Json]]


def _piano(folder: Path, seconds: float) -> Found:
    plans, skipped = [], []
    for path in sorted(folder.glob("*.flac")):
        name = f"piano-{path.stem.removeprefix('MAPS_MUS-').removesuffix('_ENSTDkAm')}"
        if path.with_suffix(".tsv").is_file():
            plans.append(Plan(name, "piano", path.name, partial(read_piano, path, seconds)))
        else:
            skipped.append({"name": name, "reason": f"{path.name} comes without {path.stem}.tsv"})
    skipped += [
        {"name": path.stem, "reason": f"{path.name} comes without its sound"}
        for path in sorted(folder.glob("*.tsv"))
        if not path.with_suffix(".flac").is_file()
    ]
    return plans, skipped


def _violin(folder: Path, seconds: float) -> Found:
    plans, skipped = [], []
    with open(folder / "info.csv", newline="") as file:
        starts = {row["filename"]: row["start"] for row in csv.DictReader(file)}
    for path in sorted(p for p in folder.glob("audio/*/*") if p.suffix in (".mp3", ".opus", ".flac", ".wav")):
        tables = [folder / kind / path.parent.name / f"{path.stem}.csv" for kind in ("notes", "alignments")]
        missing = [str(t.relative_to(folder)) for t in tables if not t.is_file()]
        reason = "its labels are poor" if path.stem in POOR_LABELS else f"comes without {missing[0]}" if missing else ""
        if reason or path.stem not in starts:
            skipped.append({"name": path.stem, "reason": f"{path.name}: {reason or 'not in info.csv'}"})
            continue
        start = 0.0
        for part in starts[path.stem].split(":"):
            start = 60 * start + float(part)
        plans.append(Plan(f"violin-{path.stem}", "violin", path.name, partial(read_violin, path, tables, start,
                                                                              seconds)))  # fmt: skip
    return plans, skipped


def _drums(folder: Path, seconds: float) -> Found:
    plans, skipped = [], []
    for path in sorted(folder.glob("*.flac")):
        name = f"drums-{path.stem.removeprefix('MusicDelta_').removesuffix('_Drum')}"
        if path.with_suffix(".mid").is_file():
            plans.append(Plan(name, "drums", path.name, partial(read_drums, path, seconds)))
        else:
            skipped.append({"name": name, "reason": f"{path.name} comes without {path.stem}.mid"})
    return plans, skipped


def _quartet(folder: Path, seconds: float) -> Found:
    plans, skipped = [], []
    for path in sorted(p for p in folder.glob("*.flac") if "_S" not in p.stem):
        missing = [s for s in QUARTET if not path.with_name(f"{path.stem}_{s}.flac").is_file()]
        if missing:
            skipped.append({"name": path.stem, "reason": f"{path.name} comes without its stem {missing[0]}"})
        else:
            plans.append(Plan(f"quartet-{path.stem}", "quartet", path.name, partial(read_quartet, path, seconds)))
    return plans, skipped


# how they are read


def read_piano(path: Path, seconds: float) -> Material:
    """A piece of MAPS: columns onset, offset, pitch, velocity; offsets have the pedal in them."""
    table = np.loadtxt(path.with_suffix(".tsv"), ndmin=2)
    notes = as_notes(table[:, 0], table[:, 1], table[:, 2], table[:, 3], PIANO)
    return _material(path, 0.0, seconds, [("Piano", 0, notes)], "alignment")


def read_violin(path: Path, tables: list[Path], start: float, seconds: float) -> Material:
    """A movement; its alignment counts from `start`, where it begins in the recording."""
    columns = [np.loadtxt(table, delimiter=",", skiprows=1, ndmin=2) for table in tables]
    if len(columns[0]) != len(columns[1]):
        raise DataError(f"{tables[1]}: {len(columns[1])} aligned notes, but {len(columns[0])} in the score")
    velocity = np.full(len(columns[0]), VELOCITY)
    notes = as_notes(columns[1][:, 0], columns[1][:, 1], columns[0][:, 2], velocity, VIOLIN)
    return _material(path, start, seconds, [("Violin", 0, notes)], "alignment")


def read_drums(path: Path, seconds: float) -> Material:
    """A drum track; its MIDI file has General MIDI's drum keys, on any channel."""
    notes = np.concatenate([track.notes for track in read_score(path.with_suffix(".mid")).tracks])
    notes["is_drum"], notes["program"], notes["bank"] = True, 0, 0
    return _material(path, 0.0, seconds, [("Drums", 9, notes)], "alignment")


def read_quartet(path: Path, seconds: float) -> Material:
    """A chorale; its notes are what the transcriber hears in the four stems."""
    transcribe, parts, files = BasicPitch(n_threads=1), [], []
    for number, (suffix, (name, program)) in enumerate(QUARTET.items()):
        files.append(path.with_name(f"{path.stem}_{suffix}.flac"))
        audio = read_audio(files[-1])
        heard = transcribe(audio.samples, audio.sample_rate)
        notes = as_notes(heard["start"], heard["end"], heard["pitch"], np.full(len(heard), VELOCITY), program)
        parts.append((name, number, notes))
    return _material(path, 0.0, seconds, parts, "transcription", files)


def as_notes(starts: Reals, ends: Reals, pitches: Reals, velocities: Reals, program: int) -> Records:
    """A score's notes from columns."""
    notes = notes_array(len(starts))
    notes["start"] = np.maximum(starts, 0)
    notes["end"] = notes["damp"] = np.maximum(ends, notes["start"] + 0.01)
    notes["pitch"], notes["velocity"] = np.rint(pitches), np.clip(np.rint(velocities), 1, 127)
    notes["program"] = program
    return notes


def _material(path: Path, start: float, seconds: float, parts: list[tuple[str, int, Records]], notes_from: str,
              stems: list[Path] | None = None) -> Material:  # fmt: skip
    audio = read_audio(path)
    length = min(seconds or np.inf, audio.duration - start)
    score = excerpt(as_score([as_track(*part) for part in parts if len(part[2])]), 0.0, length)
    names = {part[0]: stem for part, stem in zip(parts, stems or [], strict=False)}
    kept = tuple(_cut(read_audio(names[track.name]), start, length) for track in score.tracks if track.name in names)
    bandwidth = min(audio.sample_rate, SAMPLE_RATE) / 2
    return Material(score, length, _cut(audio, start, length), kept, notes_from, bandwidth)


def _cut(audio: Audio, start: float, seconds: float) -> Audio:
    first, last = (round(t * audio.sample_rate) for t in (start, start + seconds))
    whole = resample(Audio(audio.samples[:2, first:last], audio.sample_rate), SAMPLE_RATE).samples
    n_samples = round(seconds * SAMPLE_RATE)
    whole = np.pad(whole, ((0, 0), (0, max(n_samples - whole.shape[1], 0))))[:, :n_samples]
    return Audio(np.broadcast_to(whole, (2, n_samples)), SAMPLE_RATE)
