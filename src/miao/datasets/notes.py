"""Single notes as training data: rendered by a sound bank, measured into audio tokens, kept as one shard a voice.

A shard is ``voice_NNN.npz`` with the notes of one voice and that voice's row of the voice table. Shards are written
under a temporary name and renamed, so an interrupted run leaves whole shards only and the next run goes on from there.
"""

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from miao.arrays import Doubles, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.voices import (
    HALF_HARMONIC,
    HARMONIC,
    LEARNT_PITCHES,
    MODES,
    N_PITCHES,
    N_VOICES,
    VoiceTable,
    balance_of,
    drum_key,
    is_drum_voice,
    pitch_hz,
)
from miao.datasets.soundfont import SAMPLE_RATE, SoundFont
from miao.errors import DataError
from miao.files import write_arrays
from miao.measuring.partials import common_modes, find_modes, key_tracking
from miao.measuring.replayed import measure_note
from miao.measuring.roundtrip import round_trip_error
from miao.measuring.voice_fit import VoiceFit, fit_voice, suited_kind
from miao.synth.note import RING_SECONDS

HELD_OUT_PITCHES = (38, 50, 62, 74, 86)  # never rendered for training
HELD_OUT_VELOCITIES = (45, 80, 115)
PITCHES = LEARNT_PITCHES
_SILENT = 1e-5  # amplitude below which the sound bank has nothing there
_FOLLOWS = 0.8  # tracking below which harmonics of the key make no sense
DRUM_HOLD_SECONDS = RING_SECONDS  # drums ring on, whatever the key does


@dataclass(frozen=True)
class NoteData:
    """One measured note; ``tokens`` as uint8."""

    voice: int
    pitch: int
    velocity: int
    tokens: tk.NoteTokens
    is_drum: bool = False


@dataclass(frozen=True)
class Source:
    """What of a sound bank a voice is: a program of a bank, or a key of a drum kit."""

    program: int  # or kit
    bank: int = 0
    key: int | None = None  # of the kit; None for programs

    @property
    def is_drum(self) -> bool:
        """Whether it is a drum key."""
        return self.key is not None


def source_of(voice: int) -> Source:
    """Where a voice of General MIDI comes from: its program, or its key of the standard kit."""
    return Source(0, key=drum_key(voice)) if is_drum_voice(voice) else Source(voice)


def render(font: SoundFont, source: Source | int, pitch: int, velocity: int, hold_seconds: float) -> Floats:
    """One note of a voice from a sound bank, [2, S] at 44.1 kHz. Drums ring until they are silent."""
    source = source_of(source) if isinstance(source, int) else source
    if source.is_drum:
        sound = font.note(source.program, pitch, velocity, DRUM_HOLD_SECONDS, is_drum=True, tail_seconds=0.0)
        return _trimmed(sound)
    return font.note(source.program, pitch, velocity, hold_seconds, bank=source.bank)


def _trimmed(sound: Floats) -> Floats:
    """A sound without the silence at its end (below -75 dB of its peak)."""
    level = np.abs(sound).max(axis=0)
    loud = np.flatnonzero(level > max(level.max(initial=0.0) * 10 ** (-75 / 20), 1e-6))
    return sound[:, : int(loud[-1]) + 1 if len(loud) else 1]


def choose_kind(font: SoundFont, source: Source) -> int:
    """Which kind of partial ratios suits a voice, by the round-trip error of three notes under each."""
    if source.is_drum:
        return MODES
    errors = np.zeros(3)
    for pitch in (45, 60, 76):
        sound = render(font, source, pitch, 90, 0.8)
        if np.abs(sound).max() > _SILENT:
            for kind in (HARMONIC, HALF_HARMONIC, MODES):
                errors[kind] += round_trip_error(sound, SAMPLE_RATE, pitch, 0.8, kind) / 3
    return suited_kind(errors.tolist())


def voice_tracking(font: SoundFont, source: Source) -> float:
    """How far the spectrum of a voice follows the keys (see `key_tracking`); sound effects do so by a part only."""
    if source.is_drum:
        return 1.0
    found = []
    for pitch in (48, 56, 64, 72):
        low, high = (render(font, source, p, 100, 0.8) for p in (pitch, pitch + 4))
        if min(np.abs(low).max(), np.abs(high).max()) > _SILENT:
            found.append(key_tracking(low, high, SAMPLE_RATE, 4))
    return float(np.median(found)) if found else 1.0


def voice_modes(font: SoundFont, source: Source, tracking: float) -> Doubles:
    """The modes that notes all over a voice's range have in common, as ratios at pitch 60; of a drum key, its own.

    Shape: [N_PARTIALS].
    """
    if source.key is not None:
        key = source.key
        return find_modes(render(font, source, key, 110, 1.0), SAMPLE_RATE, float(pitch_hz(key)))
    sounds = [(pitch, render(font, source, pitch, 100, 0.8)) for pitch in range(28, 104, 4)]
    found = [(p, find_modes(s, SAMPLE_RATE, float(pitch_hz(p)))) for p, s in sounds if np.abs(s).max() > _SILENT]
    return common_modes([modes / _tracked(p, 60, tracking) for p, modes in found])


def _tracked(pitch: int | Integers, origin: int | Integers, tracking: float) -> float | Doubles:
    """What ratios at one pitch are to be multiplied by at another, where the spectrum follows the keys by a part."""
    return 2.0 ** ((pitch - origin) * (tracking - 1) / 12)


def training_pitches(source: Source, part: int) -> list[int]:
    """Pitches to render for a voice: part 0 the even ones, part 1 the odd ones, never those held out."""
    if source.key is not None:
        return [source.key]
    return [p for p in PITCHES if p % 2 == part and p not in HELD_OUT_PITCHES]


def draw_notes(source: Source, part: int, rng: np.random.Generator) -> list[tuple[int, int, float]]:
    """(pitch, velocity, hold seconds) of the notes to render.

    Part 0 has at each pitch a rather loud note of a second or two and one of any velocity and length, at each second
    one of 2 to 6 s, and one of 10 s an octave; part 1 one or two at each pitch, to fill in. The engine repeats what it
    has of a note before the longest of them end (`bank.lasting`), so nets need know nothing of later chunks.

    A variation, whose nets are taught already, has two at every third pitch and one of 2 to 6 s an octave, in part 0.
    """
    if source.bank:
        return _draw_few(rng) if part == 0 else []
    notes = []
    for pitch in training_pitches(source, part):
        if source.is_drum:
            allowed = [v for v in range(2, 128) if min(abs(v - h) for h in HELD_OUT_VELOCITIES) > 2]
            notes += [(pitch, 110 - part, 1.0)] + [(pitch, int(v), 1.0) for v in rng.choice(allowed, 9, replace=False)]
            continue
        if part:
            notes.append((pitch, int(rng.integers(40, 128)), float(rng.uniform(0.4, 2.0))))
            if pitch % 4 == 1:
                notes.append((pitch, int(rng.integers(1, 128)), float(np.exp(rng.uniform(np.log(0.3), np.log(6.0))))))
            continue
        notes.append((pitch, int(rng.integers(84, 122)), float(rng.uniform(1.2, 2.8))))
        notes.append((pitch, int(rng.integers(2, 128)), float(np.exp(rng.uniform(np.log(0.06), np.log(1.5))))))
        if pitch % 4 == 2:
            notes.append((pitch, int(rng.integers(30, 127)), float(np.exp(rng.uniform(np.log(2.0), np.log(6.0))))))
        if pitch % 12 == 6:
            notes.append((pitch, int(rng.integers(50, 120)), 10.0))
    return notes


def _draw_few(rng: np.random.Generator) -> list[tuple[int, int, float]]:
    notes = []
    for pitch in range(24, PITCHES[-1] + 1, 3):
        if pitch in HELD_OUT_PITCHES:
            continue
        notes.append((pitch, int(rng.integers(84, 122)), float(rng.uniform(1.2, 2.8))))
        notes.append((pitch, int(rng.integers(2, 128)), float(np.exp(rng.uniform(np.log(0.06), np.log(1.5))))))
        if pitch % 12 == 6:
            notes.append((pitch, int(rng.integers(30, 127)), float(np.exp(rng.uniform(np.log(2.0), np.log(6.0))))))
    return notes


def prepare(path: Path, folder: Path, voices: Mapping[int, Source], n_jobs: int, seed: int = 0) -> Iterator[Path]:
    """Render and measure the notes of voices from a SoundFont into shards, on ``n_jobs`` processes; yields each shard.

    Shards that are there already are kept, so an interrupted run goes on where it was. Raises: DataError.
    """
    from joblib import Parallel, delayed

    SoundFont(path).close()  # fails here, in one line, rather than in a process
    folder.mkdir(parents=True, exist_ok=True)
    jobs = (
        delayed(_prepare)(path, voice, source, part, folder, seed)
        for part in (0, 1)
        for voice, source in voices.items()
        if part == 0 or not source.bank  # a variation's notes are few, all in part 0
    )
    yield from Parallel(n_jobs, return_as="generator_unordered")(jobs)


@cache
def _font(path: Path) -> SoundFont:
    return SoundFont(path)


def _prepare(path: Path, voice: int, source: Source, part: int, folder: Path, seed: int) -> Path:
    return prepare_voice(_font(path), voice, source, part, folder, seed)


def prepare_voice(font: SoundFont, voice: int, source: Source, part: int, folder: Path, seed: int = 0) -> Path:
    """Render and measure one voice's notes of one part into its shard; a shard that is there already is kept."""
    path = folder / f"voice_{voice:03d}.{part}.npz"
    if path.exists():
        return path
    first = folder / f"voice_{voice:03d}.0.npz"
    if first.exists():
        kind, tracking = (np.load(first)[name].item() for name in ("kind", "tracking"))
    else:
        tracking = voice_tracking(font, source)
        kind = MODES if tracking < _FOLLOWS else choose_kind(font, source)
    rng = np.random.default_rng([seed, voice, part])
    common = voice_modes(font, source, tracking) if kind == MODES else np.zeros(0)
    rows: dict[int, VoiceFit] = {}
    kept: list[NoteData] = []
    for pitch, velocity, hold in draw_notes(source, part, rng):
        sound = render(font, source, pitch, velocity, hold)
        if np.abs(sound).max(initial=0.0) < _SILENT:
            continue  # the preset has no sample there
        hz = float(pitch_hz(pitch))
        if pitch not in rows:
            rows[pitch] = fit_voice(sound, SAMPLE_RATE, hz, kind, common * _tracked(pitch, 60, tracking))
        if source.is_drum:
            hold = sound.shape[1] / SAMPLE_RATE
        measured = measure_note(sound, pitch, hold, rows[pitch])
        if rows[pitch].balance is None:
            rows[pitch] = replace(rows[pitch], balance=measured.balance, is_wide=measured.is_wide)
        kept.append(NoteData(voice, pitch, velocity, measured.tokens, source.is_drum))
    pitches = sorted(rows)
    columns = dict(
        kind=kind,
        tracking=tracking,
        is_drum=source.is_drum,
        pitch=[n.pitch for n in kept],
        velocity=[n.velocity for n in kept],
        hold=[n.tokens.hold_seconds for n in kept],
        n_held=[len(n.tokens.held) for n in kept],
        n_release=[len(n.tokens.release) for n in kept],
        tokens=np.concatenate(
            [np.zeros((0, tk.CHUNK_STEPS, tk.N_CELLS), np.uint8)]
            + [x for n in kept for x in (n.tokens.held, n.tokens.release)]
        ),
        row_pitch=pitches,
        tune=[rows[p].tune_cents for p in pitches],
        stretch=[rows[p].stretch for p in pitches],
        modes=np.array([rows[p].modes for p in pitches]).reshape(-1, tk.N_PARTIALS),
        balance=np.array([rows[p].balance for p in pitches]).reshape(-1, tk.N_CELLS - 1),
        is_wide=np.array([rows[p].is_wide for p in pitches], np.uint8),
    )
    write_arrays(path, columns, DataError)
    return path


def load_notes(folder: Path, voices: Container[int] | None = None) -> list[NoteData]:
    """All notes of a folder of shards, or those of some voices. Raises: DataError if there are none."""
    notes = []
    for path in sorted(folder.glob("voice_*.npz")):
        if voices is not None and int(path.name[6:9]) not in voices:
            continue
        with np.load(path) as shard:
            chunks, at, voice = shard["tokens"], 0, int(path.name[6:9])
            is_drum = bool(shard["is_drum"]) if "is_drum" in shard else is_drum_voice(voice)
            columns = (shard[k] for k in ("pitch", "velocity", "hold", "n_held", "n_release"))
            for pitch, velocity, hold, n, m in zip(*columns, strict=True):
                tokens = tk.NoteTokens(chunks[at : at + n], chunks[at + n : at + n + m], float(hold))
                notes.append(NoteData(voice, int(pitch), int(velocity), tokens, is_drum))
                at += n + m
    if not notes:
        raise DataError(
            f"{folder}: holds no voice_*.npz shards; make them with `miao data soundfont FILE.sf2 -o {folder}`"
        )
    return notes


def load_table(folder: Path, voices: Sequence[int] = range(N_VOICES)) -> VoiceTable:
    """The voice table of voices of a folder of shards, in their order; a pitch that was not measured takes its nearest
    neighbour's row."""
    n_voices = len(voices)
    kind = np.zeros(n_voices, np.int8)
    tune, stretch = (np.zeros((n_voices, N_PITCHES), np.float32) for _ in range(2))
    balance = np.zeros((n_voices, N_PITCHES, tk.N_CELLS - 1), np.int8)
    is_wide = np.zeros((n_voices, N_PITCHES), np.uint8)
    mode_row = np.full(n_voices, -1, np.int16)
    modes: list[Doubles] = []
    for voice, number in enumerate(voices):
        shards = [np.load(p) for p in sorted(folder.glob(f"voice_{number:03d}.?.npz"))]
        pitches = np.concatenate([s["row_pitch"] for s in shards] or [[]])
        if not len(pitches):
            continue
        kind[voice] = shards[0]["kind"]
        nearest = np.abs(np.arange(N_PITCHES)[:, None] - pitches[None, :]).argmin(axis=1)
        tune[voice], stretch[voice], share, is_wide[voice] = (
            np.concatenate([s[name] for s in shards])[nearest] for name in ("tune", "stretch", "balance", "is_wide")
        )
        balance[voice] = balance_of(share)
        if kind[voice] == MODES:
            mode_row[voice] = len(modes)
            moved = _tracked(np.arange(N_PITCHES), pitches[nearest], shards[0]["tracking"].item())
            modes.append(np.concatenate([s["modes"] for s in shards])[nearest] * np.asarray(moved)[:, None])
    return VoiceTable(
        kind,
        tune,
        stretch,
        mode_row,
        np.array(modes, np.float32).reshape(-1, N_PITCHES, tk.N_PARTIALS),
        balance,
        is_wide,
        np.zeros(n_voices, np.float32),
    )
