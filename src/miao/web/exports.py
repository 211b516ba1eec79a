"""What a song becomes as files: sound, stems, changed MIDI, the arrangement; the same as the command writes."""

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from miao.errors import ScoreError
from miao.expression.written import performance_bytes
from miao.files import write_bytes
from miao.synth.mastering import Levels
from miao.synth.running import Running
from miao.synth.settings import PlaySettings
from miao.synth.synthesizer import UNSAFE_IN_NAMES, Synthesizer
from miao.web.courtesy import Courtesy
from miao.web.guard import Refusal
from miao.web.jobs import Job
from miao.web.songs import Song, wished

SOUNDS = ("wav", "flac", "ogg", "mp3")
FORMATS = (*SOUNDS, "stems", "mid", "json")
MEDIA = {
    "wav": "audio/wav", "flac": "audio/flac", "ogg": "audio/ogg", "mp3": "audio/mpeg", "zip": "application/zip",
    "mid": "audio/midi", "json": "application/json", "png": "image/png", "safetensors": "application/octet-stream",
}  # fmt: skip
N_SHAPE = 1200  # columns of the seek bar
SURVEYED_SAMPLES = 32768  # at once

Find = Callable[[str], Any]


def export(
    job: Job, synthesizer: Synthesizer, song: Song, told: dict[str, Any], format: str, polyphony: int, find: Find
) -> None:
    """Write a song as arranged into the job's folder. Raises: MiaoError."""
    arrangement = wished(told)
    name = file_name(song.name)
    if format == "json":
        _keep(job, f"{name}.json", json.dumps(told, indent=1).encode())
        return
    score = arrangement.score(song.score, song.played(arrangement))
    if format == "mid":
        _keep(job, f"{name}.mid", performance_bytes(score) if arrangement.changes_notes else song.data)
        return
    settings = arrangement.settings(song.score, PlaySettings(polyphony=polyphony), find)
    if format == "stems":
        folder = job.folder / "stems"
        synthesizer.render_file(
            score, job.folder / f"{name}.wav", settings, stems_folder=folder, on_progress=lambda x: job.tell(0.9 * x)
        )
        with zipfile.ZipFile(job.folder / f"{name}.zip", "w", zipfile.ZIP_STORED) as packed:
            packed.write(job.folder / f"{name}.wav", f"{name}.wav")
            for stem in sorted(folder.iterdir()):
                packed.write(stem, f"stems/{stem.name}")
                job.tell(0.95)
        job.files[f"{name}.zip"] = job.folder / f"{name}.zip"
        return
    path = job.folder / f"{name}.{format}"
    summary = synthesizer.render_file(score, path, settings, on_progress=job.tell)
    job.result = {"loudness": round(summary.loudness, 1), "gain_db": round(summary.gain_db, 2),
                  "seconds": round(summary.seconds, 2)}  # fmt: skip
    job.files[path.name] = path


def survey(
    job: Job, synthesizer: Synthesizer, song: Song, told: dict[str, Any], polyphony: int, find: Find, courtesy: Courtesy
) -> None:  # fmt: skip
    """How loud a song is as arranged, and the shape of its sound for the seek bar: what it peaks at, column by column.

    The job's result has `gain_db`, by which it is as loud as wished, and `shape`, 0 to 1 after that gain. Whoever waits
    for sound goes first.
    """
    arrangement = wished(told)
    score = arrangement.score(song.score, song.played(arrangement))
    settings = arrangement.settings(song.score, PlaySettings(polyphony=polyphony), find)
    bank, voices = synthesizer.cast(score, settings)
    rate = settings.sample_rate
    n_all = max(round(max(score.end, score.duration) * rate), 1)
    levels, peaks, done = Levels(rate), np.zeros(N_SHAPE), 0
    running = Running(bank, score, settings, voices)
    while (mix := running.mixed(SURVEYED_SAMPLES)) is not None:
        levels.add(mix[None])
        highest = np.abs(mix).max(axis=0)
        columns = np.minimum((done + np.arange(len(highest), dtype=np.int64)) * N_SHAPE // n_all, N_SHAPE - 1)
        np.maximum.at(peaks, columns, highest)
        done += len(highest)
        running.heard(done)
        courtesy.give_way()
        job.result = {"shape": peaks.round(4).tolist(), "is_whole": False}
        job.tell(done / n_all)
    gain_db = levels.gain_to(arrangement.loudness)
    shape = np.minimum(peaks * 10 ** (gain_db / 20), 1)
    job.result = {"gain_db": round(gain_db, 4), "shape": shape.round(3).tolist(), "is_whole": True}


def file_name(name: str) -> str:
    """What a song's files are called, without what some file system would not take."""
    stem = re.sub(r"\.(midi?|rmi|kar)$", "", name, flags=re.IGNORECASE)
    return UNSAFE_IN_NAMES.sub("_", stem)[:60].strip(" .") or "song"


def wanted_format(format: Any) -> str:
    """A format that there is. Raises: Refusal."""
    if format not in FORMATS:
        raise Refusal(f"the format is one of {', '.join(FORMATS)}")
    return str(format)


def _keep(job: Job, name: str, data: bytes) -> None:
    path: Path = job.folder / name
    write_bytes(path, data, ScoreError)
    job.files[name] = path
