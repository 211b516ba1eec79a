"""Pairs of MIDI and sound: what the paper's scheme trains on, as windows in WebDataset shards.

A pair is one window (5.12 s, see frames.py) of one part: its notes, its log-mel image x_a, and the audio tokens of
those notes in it that could be measured. A folder of pairs holds shards ``pairs-NNNNNN.tar``, each with samples of one
member, ``<name>.pair.npz``, and a second, ``<name>.flac``, where the sound itself is kept (as its peak is 1 there, its
scale is in the first); beside them or above lies voices.safetensors, the table that the tokens were measured under.
"""

import io
import itertools
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import soundfile
from numpy.typing import NDArray

from miao.arrays import Floats, Records
from miao.bank import tokens as tk
from miao.bank.frames import MEL_FLOOR_DB, window_mel
from miao.bank.voices import note_voice
from miao.datasets.notes import NoteData
from miao.errors import DataError
from miao.files import make_folder, written
from miao.sound.spectrum import SAMPLE_RATE

PAIR_NOTE = np.dtype(
    [("start", "f8"), ("end", "f8"), ("damp", "f8"), ("pitch", "i2"), ("velocity", "i2"), ("voice", "i2")]
)
"""A note of a window: times in seconds from the window's start (negative: it began before), MIDI pitch and velocity."""

__all__ = ["MEL_FLOOR_DB", "PAIR_NOTE", "Pair", "from_bytes", "notes_of", "pair_notes", "read_shard", "shards_of",
           "sound_to_bytes", "to_bytes", "window_mel", "write_shard"]  # fmt: skip

SUFFIX, SOUND_SUFFIX = "pair.npz", "flac"


@dataclass(frozen=True, eq=False)
class Pair:
    """One window of one part."""

    name: str  # data set/recording/part@seconds, unique
    notes: Records  # PAIR_NOTE [n], all that sound in the window, sorted by start
    mel: NDArray[np.float16]  # x_a [WINDOW_AUDIO_FRAMES, N_MELS] dB
    tokens: dict[int, tk.NoteTokens] = field(default_factory=dict)  # by index in notes, of notes that start in it
    sound: Floats | None = None  # [S] at 44.1 kHz, both channels' mean, from the window's start


def pair_notes(notes: Records) -> Records:
    """The notes of a track or a part (NOTE) as PAIR_NOTE; times stay as they are."""
    made = np.zeros(len(notes), PAIR_NOTE)
    for name in ("start", "end", "damp", "pitch", "velocity"):
        made[name] = notes[name]
    made["voice"] = [note_voice(program, pitch, is_drum=is_drum) for program, pitch, is_drum in
                     zip(notes["program"].tolist(), notes["pitch"].tolist(), notes["is_drum"].tolist(),
                         strict=True)]  # fmt: skip
    return made


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
        sound_peak=np.float32(0 if pair.sound is None else np.abs(pair.sound).max(initial=0)),
    )
    return file.getvalue()


def sound_to_bytes(sound: Floats) -> bytes:
    """A sound as the bytes of a FLAC file, 16 bits, its peak brought to 1."""
    file = io.BytesIO()
    soundfile.write(file, sound / max(float(np.abs(sound).max(initial=0)), 1e-9), SAMPLE_RATE, "PCM_16", format="FLAC")
    return file.getvalue()


def from_bytes(name: str, data: bytes, flac: bytes | None = None) -> Pair:
    """A pair from the bytes of an .npz file, and of a FLAC file. Raises: DataError if they are something else."""
    try:
        with np.load(io.BytesIO(data)) as file:
            columns = [file[key].tolist() for key in ("measured", "hold", "n_held", "n_release")]
            chunks, at, tokens = file["tokens"], 0, {}
            for number, hold, n, m in zip(*columns, strict=True):
                tokens[number] = tk.NoteTokens(chunks[at : at + n], chunks[at + n : at + n + m], hold)
                at += n + m
            sound = None
            if flac is not None:
                sound = soundfile.read(io.BytesIO(flac), dtype="float32")[0] * file["sound_peak"]
            return Pair(name, file["notes"], file["mel"], tokens, sound)
    except (OSError, ValueError, KeyError, EOFError, soundfile.LibsndfileError) as error:
        raise DataError(f"{name}: not a pair of MIDI and sound ({error})") from None


def write_shard(path: Path, pairs: Iterable[Pair]) -> int:
    """Write pairs as one shard; the number of them. No file appears if there are none."""
    make_folder(path.parent, DataError)
    some = iter(pairs)
    first, n = next(some, None), 0
    if first is None:
        return 0
    with written(path, DataError) as temporary, tarfile.open(temporary, "w") as tar:
        for pair in itertools.chain([first], some):
            members = {SUFFIX: to_bytes(pair)}
            if pair.sound is not None:
                members[SOUND_SUFFIX] = sound_to_bytes(pair.sound)
            for suffix, data in members.items():
                member = tarfile.TarInfo(f"{pair.name.replace('.', '_')}.{suffix}")
                member.size = len(data)
                tar.addfile(member, io.BytesIO(data))
            n += 1
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
            names = set(tar.getnames())
            for member in tar.getmembers():
                if not member.name.endswith(f".{SUFFIX}"):
                    continue
                name = member.name.removesuffix(f".{SUFFIX}")
                flac = f"{name}.{SOUND_SUFFIX}"
                yield from_bytes(name, _content(tar, member), _content(tar, flac) if flac in names else None)
    except (OSError, tarfile.TarError) as error:
        raise DataError(f"{path}: not a shard of pairs ({error})") from None


def _content(tar: tarfile.TarFile, member: tarfile.TarInfo | str) -> bytes:
    file = tar.extractfile(member)
    return b"" if file is None else file.read()
