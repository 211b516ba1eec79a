"""Systems side by side on the pieces of a benchmark: plays, measures and keeps one record for each system and piece.

A record is records/SYSTEM/PIECE.json in the report's folder, with the embeddings of the sound in an .npz beside it. It
is written whole, the JSON last, and carries a fingerprint of all it depends on: the system's checksum, the piece's,
what measured it and how. A run does what has no record with the right fingerprint, so that it goes on where it was
stopped, and does again only what has changed. A system that cannot play a piece leaves a record that says why; it is
tried again the next time. The reference is always measured too.
"""

import hashlib
import importlib.util
import json
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np

from miao.errors import ConfigError, DataError, MiaoError
from miao.evaluation import benchmarks
from miao.evaluation.benchmarks import Benchmark, first_of_groups, load_sound
from miao.evaluation.embedders import musicnn, trill, vggish, yamnet
from miao.evaluation.measure import METRICS_VERSION, HeardReference, Tools, limited, listen_to_reference, measure
from miao.evaluation.sampler import file_checksum
from miao.evaluation.systems import Piece, ReferenceSystem, Sound, System
from miao.evaluation.transcription import BasicPitch, model_path
from miao.files import Json, write_arrays, write_json
from miao.sound.spectrum import SAMPLE_RATE, log_mel

EMBEDDERS = {"yamnet": yamnet, "vggish": vggish, "trill": trill}  # those whose weights are a file
PICTURE_FRAMES = 700  # of a log-mel spectrogram that is kept for pictures


@dataclass(frozen=True)
class Listeners:
    """What a run measures with, by name and path; opened in each process."""

    transcriber: Path | None = None  # the graph of Basic Pitch
    embedders: tuple[tuple[str, Path | None], ...] = ()  # names, and files of weights where there are any

    @staticmethod
    def found(embedders: list[str]) -> tuple["Listeners", list[str]]:
        """Those that are here, and a line for each that is not; embedders with weights are named as NAME=FILE.

        Raises: ConfigError for an unknown embedder; DataError if its file is not there.
        """
        chosen: dict[str, Path | None] = {}
        for text in embedders:
            name, _, path = text.partition("=")
            if name not in EMBEDDERS or not path:
                raise ConfigError(f"{text}: no such embedder; say NAME=FILE, NAME one of {', '.join(EMBEDDERS)}")
            if not Path(path).is_file():
                raise DataError(f"{path}: there is no such file; it is to hold the weights of {name}")
            chosen[name] = Path(path)
        missing = []
        if importlib.util.find_spec("musicnn"):
            chosen["musicnn"] = None
        else:
            missing.append("no distances of musicnn: pip install --no-deps musicnn==0.1.0")
        for name in EMBEDDERS:
            if name not in chosen:
                missing.append(f"no distances of {name}: give its weights by --embedder {name}=FILE")
        graph = model_path()
        if graph is None or not graph.is_file():
            missing.append("no note F1 and no harmony: pip install --no-deps basic-pitch==0.4.0")
            graph = None
        return Listeners(graph, tuple(chosen.items())), missing

    def names(self) -> list[str]:
        """Of the embedders."""
        return [name for name, _ in self.embedders]

    def checksums(self) -> dict[str, str]:
        """Of all weights that are files."""
        paths = {"transcriber": self.transcriber, **dict(self.embedders)}
        return {name: file_checksum(path) if path else "" for name, path in paths.items()}

    def open(self) -> Tools:
        """Ready to listen. Raises: DataError if weights are not what they should be."""
        return _tools(self)


@cache
def _tools(listeners: Listeners) -> Tools:
    transcribe = BasicPitch(listeners.transcriber, n_threads=1) if listeners.transcriber else None
    opened = {name: EMBEDDERS[name](path) if path else musicnn() for name, path in listeners.embedders}
    return Tools(transcribe, dict(opened))


@dataclass(frozen=True)
class Run:
    """One evaluation: what is compared, on what, with what, and where it is kept."""

    systems: tuple[System, ...]  # the reference first
    benchmark: Benchmark
    listeners: Listeners
    folder: Path

    def record_path(self, system: System, piece: benchmarks.Piece) -> Path:
        """Where a record is kept."""
        return self.folder / "records" / re.sub(r"[^\w.+-]+", "_", system.name) / f"{piece.name}.json"

    def fingerprint(self, system: System, piece: benchmarks.Piece) -> str:
        """Of all that a record depends on."""
        parts = {
            "system": system.name, "checksum": system.checksum, "piece": piece.checksum, "metrics": METRICS_VERSION,
            "source": self.benchmark.manifest["settings"].get("soundfont_checksum"),
            "listeners": self.listeners.checksums(),
        }  # fmt: skip
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]

    def record(self, system: System, piece: benchmarks.Piece) -> Json | None:
        """The record of a system and piece, if there is one that still holds."""
        try:
            record = json.loads(self.record_path(system, piece).read_text())
        except (FileNotFoundError, ValueError):
            return None
        return record if record.get("fingerprint") == self.fingerprint(system, piece) else None


def new_run(systems: list[System], benchmark: Benchmark, listeners: Listeners, folder: Path) -> Run:
    """Raises: ConfigError if two systems have one name."""
    names = [system.name for system in systems]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{name} is there twice; systems are told apart by their names")
    chosen = (ReferenceSystem(), *(s for s in systems if s.name != "reference"))
    return Run(chosen, benchmark, listeners, folder)


def perform(run: Run, jobs: int = 1) -> Iterator[tuple[int, int, list[str]]]:
    """Do what is not done yet; yields how many pieces are done, of how many, and what could not be played."""
    from joblib import Parallel, delayed

    pieces = run.benchmark.pieces
    to_do = [p for p in pieces if any(_is_open(run.record(s, p)) for s in run.systems)]
    n_done = len(pieces) - len(to_do)
    yield n_done, len(pieces), []
    work = (delayed(_perform_piece)(run, piece) for piece in to_do)
    for number, troubles in enumerate(Parallel(jobs, return_as="generator_unordered")(work), start=1):
        yield n_done + number, len(pieces), troubles


def _is_open(record: Json | None) -> bool:
    return record is None or "failure" in record


def _perform_piece(run: Run, piece: benchmarks.Piece) -> list[str]:
    """All systems on one piece; what could not be played."""
    score, mix, stems = load_sound(run.benchmark.folder, piece)
    material = Piece(score, mix.shape[1] / SAMPLE_RATE, Sound(mix, stems), run.benchmark.source)
    troubles: list[str] = []
    heard: HeardReference | None = None
    is_pictured = piece in first_of_groups(list(run.benchmark.pieces), 1)
    for system in run.systems:
        if not _is_open(run.record(system, piece)):
            continue
        about = {"fingerprint": run.fingerprint(system, piece), "system": system.name, "piece": piece.name,
                 "group": piece.group, "seconds": material.seconds, "facts": piece.facts}  # fmt: skip
        path = run.record_path(system, piece)
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            began = time.perf_counter()
            sound = system.play(material)
            play_seconds = time.perf_counter() - began
            heard = heard or listen_to_reference(material, run.listeners.open())
            if sound is not material.reference:  # what a recording cannot hold is not asked of anybody
                sound = limited(sound, piece.bandwidth_hz)
            measured = measure(material, sound, run.listeners.open(), heard)
        except MiaoError as error:
            write_json(path, {**about, "failure": str(error)}, DataError)
            troubles.append(f"{system.name}, {piece.name}: {error}")
            continue
        arrays = {f"embedding/{name}": x for name, x in measured.embeddings.items()}
        if is_pictured:
            arrays["picture"] = picture(10 ** (measured.gain_db / 20) * sound.mix)
        write_arrays(path.with_suffix(".npz"), arrays, DataError)
        rest = asdict(measured)
        del rest["embeddings"]
        write_json(path, {**about, "play_seconds": play_seconds, **rest}, DataError)
    return troubles


def picture(mix: np.ndarray) -> np.ndarray:
    """The first 8 seconds of a sound as log-mel levels, dB, int8 [frames, N_MELS]."""
    return np.clip(log_mel(mix)[:PICTURE_FRAMES], -128, 0).astype(np.int8)
