"""Pairs of MIDI and sound made with a sound bank: windows of real scores, each track played by a voice of our choice.

The sound is what FluidSynth plays of one track or of all, dry; the tokens of a note are exact, as it is also played and
measured alone. Scores are divided into train and validation by file, so that no piece is on both sides.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from miao.arrays import Floats, Records
from miao.bank import tokens as tk
from miao.bank.frames import WINDOW_SECONDS
from miao.bank.voices import N_VOICES, VoiceTable, drum_voice, is_drum_voice, pitch_hz
from miao.config import Count, Share, Whole, check
from miao.datasets.notes import load_table, render
from miao.datasets.pairs import PAIR_NOTE, Pair, window_mel, write_shard
from miao.datasets.soundfont import SAMPLE_RATE, PlayedNote, SoundFont
from miao.errors import DataError, ScoreError
from miao.measuring.note import analyse_note
from miao.measuring.replayed import put_right
from miao.midi.score import Track, read_score

PAIRS_PER_SHARD = 64
_PREROLL_SECONDS = 4.0  # notes that began that long before a window are still heard in it
_LONGEST_SECONDS = 8.0  # of a note
_VALIDATION_SHARE = 0.1
_FEWEST_NOTES = 4  # in a window
_MOST_TRACKS = 12  # in a mix
_SILENT = 1e-4


@dataclass(frozen=True)
class PairSettings:
    """What pairs to make."""

    n_pairs: Count = 4096  # for training; a tenth as many for validation, at least 256
    measured: Whole = 6  # notes of each window of one track whose tokens are measured
    mixes: Share = 0.25  # of the windows, with all tracks
    keeps_sound: bool = False  # beside its mel image
    seed: Whole = 0

    def __post_init__(self) -> None:
        check(self)


def make_pairs(font: Path, scores: list[Path], notes: Path, folder: Path, settings: PairSettings,
               n_jobs: int) -> Iterator[float]:  # fmt: skip
    """Write folder/train and folder/validation; yields the share that is done. Shards that are there are kept.

    ``notes`` says where the partials of each voice lie: a folder of `miao data soundfont`, or a bank's; only its voices
    play. Raises: DataError if there are no scores or no voices.
    """
    from joblib import Parallel, delayed

    SoundFont(font).close()  # fails here, in one line, rather than in a process
    _, table = _voices_in(notes)
    files = sorted({path for place in scores for path in place.rglob("*.mid*")})
    if table is None:
        raise DataError(f"{notes}: holds neither voice_*.npz shards nor a bank's voices.safetensors; make shards with "
                        f"`miao data soundfont {font} -o {notes}`")  # fmt: skip
    held_out = list(filter(is_for_validation, files))
    parts = {"train": [f for f in files if f not in held_out], "validation": held_out}
    if not all(parts.values()):
        raise DataError(f"{', '.join(map(str, scores))}: too few MIDI files ({len(files)}); ten or more are needed")
    folder.mkdir(parents=True, exist_ok=True)
    table.save(folder / "voices.safetensors")
    jobs = []
    for split, n in (("train", settings.n_pairs), ("validation", max(settings.n_pairs // 10, 256))):
        for number in range(-(-n // PAIRS_PER_SHARD)):
            path = folder / split / f"pairs-{number:06d}.tar"
            if not path.exists():
                jobs.append((font, parts[split], notes, path, settings, split == "validation", number))
    for n, _ in enumerate(Parallel(n_jobs, return_as="generator_unordered")(delayed(_shard)(*j) for j in jobs), 1):
        yield n / len(jobs)


def is_for_validation(path: Path) -> bool:
    """Whether a score is kept out of training, by the hash of its name."""
    return hashlib.sha256(path.name.encode()).digest()[0] < 256 * _VALIDATION_SHARE


@cache
def _font(path: Path) -> SoundFont:
    return SoundFont(path)


def _voices_in(notes: Path) -> tuple[list[int], VoiceTable | None]:
    """The voices of a folder of shards or a bank, and their table."""
    voices = sorted({int(path.name[6:9]) for path in notes.glob("voice_*.npz")})
    if voices:
        return voices, load_table(notes)
    path = notes / "voices.safetensors"
    return (list(range(N_VOICES)), VoiceTable.load(path)) if path.is_file() else ([], None)


Voices = tuple[list[int], set[int], VoiceTable]
"""Of instruments, of drums, and the table of both."""


@cache
def _voices_of(notes: Path) -> Voices:
    voices, table = _voices_in(notes)
    assert table is not None  # whoever asks has looked
    return [v for v in voices if not is_drum_voice(v)], {v for v in voices if is_drum_voice(v)}, table


def _shard(font: Path, files: list[Path], notes: Path, path: Path, settings: PairSettings, is_held_out: bool,
           number: int) -> None:  # fmt: skip
    rng = np.random.default_rng([settings.seed, is_held_out, number])
    pairs: list[Pair] = []
    tries = 0
    while len(pairs) < PAIRS_PER_SHARD and tries < 20 * PAIRS_PER_SHARD:
        tries += 1
        file = files[rng.integers(len(files))]
        try:
            score = read_score(file)
        except ScoreError:
            continue
        track = int(rng.integers(len(score.tracks)))
        is_mix = rng.random() < settings.mixes
        tracks = score.tracks[:_MOST_TRACKS] if is_mix else score.tracks[track : track + 1]
        start = float(rng.uniform(0, max(score.duration - WINDOW_SECONDS, 0.1)))
        pair = make_pair(_font(font), tracks, start, _voices_of(notes), settings, rng,
                         f"{file.stem}/{number:04d}-{len(pairs):02d}")  # fmt: skip
        if pair is not None:
            pairs.append(pair)
    write_shard(path, pairs)


def make_pair(font: SoundFont, tracks: tuple[Track, ...], start: float, voices: Voices, settings: PairSettings,
              rng: np.random.Generator, name: str) -> Pair | None:  # fmt: skip
    """A window of tracks from ``start`` seconds on, each played by a voice drawn at random; None if little is played.

    Tokens are measured where there is one track.
    """
    sound = np.zeros((2, round(WINDOW_SECONDS * SAMPLE_RATE)), np.float32)
    parts = []
    for track in tracks:
        notes = _notes_in_window(track, start, voices, rng)
        if len(notes):
            played = _played(font, notes)
            sound += played * np.float32(rng.uniform(0.4, 1.0) if len(tracks) > 1 else 1.0)
            parts.append(notes)
    notes = np.concatenate(parts) if parts else np.zeros(0, PAIR_NOTE)
    notes = notes[np.argsort(notes["start"], kind="stable")]
    if (notes["start"] >= 0).sum() < _FEWEST_NOTES or np.abs(sound).max() < _SILENT:
        return None
    starting = rng.permutation(np.flatnonzero(notes["start"] >= 0))[: settings.measured if len(tracks) == 1 else 0]
    tokens = {int(n): _measured(font, voices[2], notes[n]) for n in np.sort(starting)}
    measured = {n: t for n, t in tokens.items() if t is not None}
    return Pair(name, notes, window_mel(sound), measured, sound.mean(axis=0) if settings.keeps_sound else None)


def _notes_in_window(track: Track, start: float, voices: Voices, rng: np.random.Generator) -> Records:
    """The notes of a track that sound in a window, as PAIR_NOTE."""
    programs, keys, _ = voices
    is_drum = bool(track.notes["is_drum"].any())
    inside = (track.notes["start"] > start - _PREROLL_SECONDS) & (track.notes["start"] < start + WINDOW_SECONDS - 0.05)
    chosen = track.notes[inside & (track.notes["is_drum"] == is_drum)]
    notes = np.zeros(len(chosen), PAIR_NOTE)
    for name in ("start", "end", "damp"):
        notes[name] = chosen[name] - start
    notes["pitch"], notes["velocity"] = chosen["pitch"], chosen["velocity"]
    if is_drum:
        notes["voice"] = [drum_voice(int(p)) for p in notes["pitch"]]
        notes = notes[np.isin(notes["voice"], list(keys))]
        notes["damp"] = notes["end"] = np.minimum(notes["start"] + 0.1, notes["damp"])
    else:
        notes["voice"] = programs[rng.integers(len(programs))]
        notes = notes[(notes["pitch"] >= 24) & (notes["pitch"] <= 104)]
        notes["damp"] = np.minimum(notes["damp"], notes["start"] + _LONGEST_SECONDS)
        notes["end"] = np.minimum(notes["end"], notes["damp"])
    return notes[notes["damp"] > 0]


def _played(font: SoundFont, notes: Records) -> Floats:
    """The notes of one track as the sound bank plays them, [2, S] of a window."""
    voice = int(notes["voice"][0])
    phrase = [PlayedNote(float(n["start"]) + _PREROLL_SECONDS, float(n["damp"]) + _PREROLL_SECONDS, int(n["pitch"]),
                         int(n["velocity"])) for n in notes]  # fmt: skip
    is_drum = is_drum_voice(voice)
    sound = font.phrase(0 if is_drum else voice, phrase, WINDOW_SECONDS + _PREROLL_SECONDS, is_drum=is_drum)
    return sound[:, round(_PREROLL_SECONDS * SAMPLE_RATE) :][:, : round(WINDOW_SECONDS * SAMPLE_RATE)]


def _measured(font: SoundFont, table: VoiceTable, note: np.void) -> tk.NoteTokens | None:
    """The tokens of a note that is played alone; None if the sound bank has nothing there."""
    voice, pitch, velocity = (int(note[name]) for name in ("voice", "pitch", "velocity"))
    hold = float(max(note["damp"] - note["start"], 0.01))
    sound = render(font, voice, pitch, velocity, hold)
    if np.abs(sound).max(initial=0.0) < _SILENT:
        return None
    if is_drum_voice(voice):
        hold = sound.shape[1] / SAMPLE_RATE
    tokens = analyse_note(sound, SAMPLE_RATE, float(pitch_hz(pitch)), hold, table.partials(voice, pitch)).tokens
    return put_right(tokens, sound, table, voice, pitch)
