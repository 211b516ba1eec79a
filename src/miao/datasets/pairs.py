"""Pairs of MIDI and sound: what the paper's scheme trains on, as windows in WebDataset shards.

A pair is one window (5.12 s, see frames.py) of one part: its notes, its log-mel image x_a, and the audio tokens of
those notes in it that could be measured. A folder of pairs holds shards ``pairs-NNNNNN.tar``, each with samples of one
member, ``<name>.pair.npz``; beside them or above lies voices.safetensors, the table that the tokens were measured
under.
"""

import io
import os
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao import tokens as tk
from miao.datasets.notes import NoteData
from miao.errors import DataError
from miao.frames import MEL_FLOOR_DB, window_mel

PAIR_NOTE = np.dtype(
    [("start", "f8"), ("end", "f8"), ("damp", "f8"), ("pitch", "i2"), ("velocity", "i2"), ("voice", "i2")]
)
"""A note of a window: times in seconds from the window's start (negative: it began before), MIDI pitch and velocity."""

__all__ = ["MEL_FLOOR_DB", "PAIR_NOTE", "Pair", "from_bytes", "notes_of", "read_shard", "shards_of", "to_bytes",
           "window_mel", "write_shard"]  # fmt: skip
SUFFIX = "pair.npz"


@dataclass(frozen=True, eq=False)
class Pair:
    """One window of one part."""

    name: str  # data set/recording/part@seconds, unique
    notes: NDArray  # PAIR_NOTE [n], all that sound in the window, sorted by start
    mel: NDArray[np.float16]  # x_a [WINDOW_AUDIO_FRAMES, N_MELS] dB
    tokens: dict[int, tk.NoteTokens] = field(default_factory=dict)  # by index in notes, of notes that start in it


def to_bytes(pair: Pair) -> bytes:
    """A pair as the bytes of an .npz file."""
    numbers = sorted(pair.tokens)
    tokens = [pair.tokens[n] for n in numbers]
    chunks = [x for t in tokens for x in (t.held, t.release)]
    file = io.BytesIO()
    np.savez_compressed(
        file,
        notes=pair.notes,
        mel=pair.mel,
        measured=np.array(numbers, np.int32),
        hold=np.array([t.hold_seconds for t in tokens], np.float64),
        n_held=np.array([len(t.held) for t in tokens], np.int32),
        n_release=np.array([len(t.release) for t in tokens], np.int32),
        tokens=np.concatenate([np.zeros((0, tk.CHUNK_STEPS, tk.N_CELLS), np.uint8), *chunks]).astype(np.uint8),
    )
    return file.getvalue()


def from_bytes(name: str, data: bytes) -> Pair:
    """A pair from the bytes of an .npz file. Raises: DataError if they are something else."""
    try:
        with np.load(io.BytesIO(data)) as file:
            columns = [file[key].tolist() for key in ("measured", "hold", "n_held", "n_release")]
            chunks, at, tokens = file["tokens"], 0, {}
            for number, hold, n, m in zip(*columns, strict=True):
                tokens[number] = tk.NoteTokens(chunks[at : at + n], chunks[at + n : at + n + m], hold)
                at += n + m
            return Pair(name, file["notes"], file["mel"], tokens)
    except (OSError, ValueError, KeyError, EOFError) as error:
        raise DataError(f"{name}: not a pair of MIDI and sound ({error})") from None


def write_shard(path: Path, pairs: Iterable[Pair]) -> int:
    """Write pairs as one shard, under a temporary name first; the number of them. No file appears if there are none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary, n = path.with_suffix(f".{os.getpid()}.tmp"), 0
    try:
        with tarfile.open(temporary, "w") as tar:
            for pair in pairs:
                data = to_bytes(pair)
                member = tarfile.TarInfo(f"{pair.name.replace('.', '_')}.{SUFFIX}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
                n += 1
        if n:
            os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return n


def shards_of(folder: Path) -> list[Path]:
    """The shards of a folder, in order. Raises: DataError if there are none."""
    shards = sorted(folder.glob("pairs-*.tar"))
    if not shards:
        raise DataError(f"{folder}: holds no pairs-*.tar; make them with `miao data pairs` or `miao data prepare`")
    return shards


def notes_of(pair: Pair) -> list[NoteData]:
    """The measured notes of a pair."""
    some = ((pair.notes[number], tokens) for number, tokens in sorted(pair.tokens.items()))
    return [NoteData(int(n["voice"]), int(n["pitch"]), int(n["velocity"]), tokens) for n, tokens in some]


def read_shard(path: Path) -> Iterable[Pair]:
    """The pairs of one shard, in order. Raises: DataError if it is damaged."""
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                if file is not None and member.name.endswith(f".{SUFFIX}"):
                    yield from_bytes(member.name.removesuffix(f".{SUFFIX}"), file.read())
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path}: not a shard of pairs ({error})") from None
