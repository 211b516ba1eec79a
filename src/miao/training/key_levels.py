"""Each key set to its teacher's spectrum (`bank.key_levels`): what the sound of a key has more or less of than ours.

A note of every key is played by the teacher, and what its mel bands have more or less of than ours is what is missing:
while it begins, while it is held, after it is let go. What ours have is known from its tokens (`measuring.power`). A
cell gets what the bands around its partials, or those within its noise band, are missing.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from miao.arrays import Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.key_levels import N_KINDS, KeyLevels
from miao.bank.voices import N_PITCHES, VoiceTable, drum_voice, pitch_hz
from miao.datasets.notes import Source, render
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import make_folder, write_arrays
from miao.measuring.power import cell_powers, noise_powers
from miao.measuring.roundtrip import one_note_score, play
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.courses import held_chunks

KEYS = range(28, 97)  # of programs; those beyond are as the outermost
VELOCITIES = (72,)  # of notes of programs; errors are measured at 45, 80 and 115
DRUM_VELOCITIES = (62, 98)
SECONDS, TAIL_SECONDS = 0.6, 0.2  # of a held note, and after it is let go
_HOP = 4 * spectrum.HOP_SAMPLES
_WINDOW = ((-0.012, 0.25), (0.0, 0.5), (0.012, 0.25))  # seconds from a frame's middle, and how much of it lies there
_SILENT = 1e-5
_SHARE = 0.95  # of what is missing that is added
_MOST_DB = 15.0
_LEAST_AUDIBLE = 0.25  # of a kind's frames, or a band is not changed
_MEL_HZ = 700 * (10 ** (np.linspace(
    np.log10(1 + spectrum.LOW_HZ / 700), np.log10(1 + spectrum.HIGH_HZ / 700), spectrum.N_MELS + 2)) - 1)  # fmt: skip


def missing_bands(theirs: Reals, ours: Reals, hold_seconds: float) -> Floats:
    """What a drum's sound lacks against another one, dB, [kinds, N_MELS]: medians over the frames of each kind of chunk
    in which a band is audible in either. Shapes: [2, S] each."""
    n = max(theirs.shape[1], ours.shape[1])
    a, b = (spectrum.log_mel(np.pad(x, ((0, 0), (0, n - x.shape[1])))) for x in (theirs, ours))
    threshold = a.max() - spectrum.AUDIBLE_DB
    difference = np.maximum(a, threshold) - np.maximum(b, threshold)
    audible = (a >= threshold) | (b >= threshold)
    kind = _kinds(len(a), spectrum.HOP_SAMPLES, hold_seconds)
    found = np.zeros((N_KINDS, spectrum.N_MELS), np.float32)
    for k in range(N_KINDS):
        found[k] = _medians(np.where(audible, difference, np.nan)[kind == k])
    return np.clip(found, -_MOST_DB, _MOST_DB)


def _kinds(n_frames: int, hop: int, hold_seconds: float) -> Integers:
    """Of which kind the chunks are that frames fall into."""
    return np.digitize(np.arange(n_frames) * hop / SAMPLE_RATE, [tk.ATTACK_SECONDS, hold_seconds])


def _medians(values: Reals) -> Floats:
    """The median of each column's numbers; 0 where there are few."""
    count = (~np.isnan(values)).sum(axis=0)
    if not len(values):
        return np.zeros(values.shape[1], np.float32)
    ordered, columns = np.sort(values, axis=0), np.arange(values.shape[1])  # what is no number comes last
    middle = 0.5 * (ordered[np.maximum(count - 1, 0) // 2, columns] + ordered[count // 2 * (count > 0), columns])
    found: Floats = np.where(count > _LEAST_AUDIBLE * len(values), middle, 0).astype(np.float32)
    return found


def measure_bands(font: SoundFont, bank: Bank, voice: int, source: Source) -> Floats:
    """What the keys of a voice lack, dB, mean over velocities: [keys, kinds, N_MELS]; NaN where the sound bank has no
    note. The keys are `KEYS`, or a drum's own."""
    if source.key is not None:
        return _measure_drum(font, bank, voice, source, source.key)[None]
    keys, noise = np.array(KEYS), noise_powers()
    found = np.zeros((len(keys), N_KINDS, spectrum.N_MELS), np.float32)
    for velocity in VELOCITIES:
        times, amplitudes = _played(bank, voice, keys, velocity)
        for n, key in enumerate(keys.tolist()):
            theirs = font.note(source.program, key, velocity, SECONDS, bank=source.bank, tail_seconds=TAIL_SECONDS)
            if np.abs(theirs).max(initial=0.0) < _SILENT:
                found[n] = np.nan
                continue
            heard = 10 ** (spectrum.log_mel(theirs, hop_samples=_HOP) / 10)
            ours = _heard(times, amplitudes[n], len(heard)) @ cell_powers(bank.table, voice, key, noise)
            found[n] += missing_power(heard, ours, SECONDS) / len(VELOCITIES)
    return found


def _measure_drum(font: SoundFont, bank: Bank, voice: int, source: Source, key: int) -> Floats:
    """What a drum lacks, [kinds, N_MELS]: both sounds are heard, as drums are noise and over soon."""
    found = np.zeros((N_KINDS, spectrum.N_MELS), np.float32)
    for velocity in DRUM_VELOCITIES:
        theirs = render(font, source, key, velocity, SECONDS)
        if np.abs(theirs).max(initial=0.0) < _SILENT:
            return np.full_like(found, np.nan)
        hold = theirs.shape[1] / SAMPLE_RATE
        ours = play(bank, one_note_score(drum_voice(key), key, velocity, hold), voice=voice)
        found += missing_bands(theirs, ours, hold) / len(DRUM_VELOCITIES)
    return found


def missing_power(theirs: Reals, ours: Reals, hold_seconds: float) -> Floats:
    """What power our bands lack against a teacher's, dB, [kinds, N_MELS], by the mean over the frames of each kind of
    chunk; what is too soft to be heard beside the loudest counts as that soft. Shapes: [frames, N_MELS] each."""
    kind = _kinds(len(theirs), _HOP, hold_seconds)
    kind[0] = -1  # half of what its window sees is before the note
    found = np.zeros((N_KINDS, spectrum.N_MELS), np.float32)
    faint = float(theirs.max()) * 10 ** (-spectrum.AUDIBLE_DB / 10)
    for k in range(N_KINDS):
        if (kind == k).any():
            a, b = (power[kind == k].mean(axis=0) + faint for power in (theirs, ours))
            found[k] = 10 * np.log10(a / b)
    return np.clip(found, -_MOST_DB, _MOST_DB)


def _played(bank: Bank, voice: int, keys: Integers, velocity: float) -> tuple[Doubles, Floats]:
    """Times (seconds) of the tokens of notes of all keys, let go after `SECONDS`, and the amplitudes of their cells
    then, [keys, times, C - 1]."""
    attack, sustain = held_chunks(bank, voice, keys, velocity, 1)
    n, last = len(keys), round((SECONDS - tk.ATTACK_SECONDS) / tk.STEP_SECONDS[tk.SUSTAIN])
    release, _ = bank.decode(
        tk.RELEASE, voice=np.full(n, voice), pitch=keys.astype(np.float32),
        velocity=np.full(n, velocity / 127, np.float32), index=np.zeros(n, np.int64),
        age=np.full(n, SECONDS, np.float32), previous=sustain[:, last],
        context=np.zeros((n, bank.context_width), np.float32),
    )  # fmt: skip
    times = np.concatenate([tk.held_times(2)[: tk.CHUNK_STEPS + last], SECONDS + tk.release_times(1)])
    tokens = np.concatenate([attack, sustain[:, :last], release], axis=1)
    return times, tk.level_to_amplitude(tokens[..., : tk.PITCH_CELL])


def _heard(times: Doubles, amplitudes: Floats, n_frames: int) -> Floats:
    """Power of the cells of a note at frames, as far as their windows see it: [frames, C - 1]."""
    power = np.zeros((n_frames, amplitudes.shape[1]), np.float32)
    for shift, share in _WINDOW:
        at = np.arange(n_frames) * _HOP / SAMPLE_RATE + shift
        right = np.clip(np.searchsorted(times, at), 1, len(times) - 1)
        along = np.clip((at - times[right - 1]) / (times[right] - times[right - 1]), 0, 1).astype(np.float32)[:, None]
        heard = (1 - along) * amplitudes[right - 1] + along * amplitudes[right]
        power += np.float32(share) * np.where((at >= 0)[:, None], np.square(heard), 0)
    return power


def prepare_bands(font: Path, folder: Path, bank: Bank, voices: Mapping[int, Source]) -> Iterator[Path]:
    """`measure_bands` of voices of a bank without key levels into ``bands_NNN.npz``; what is there for the same nets is
    kept. Raises: DataError."""
    teacher = SoundFont(font)
    make_folder(folder, DataError)
    plain = bank.without_key_levels()
    for voice, source in voices.items():
        target = folder / f"bands_{voice:03d}.npz"
        if not target.exists() or str(np.load(target)["nets"]) != bank.nets_checksum:
            trim = np.array([plain.table.trim(voice, p) for p in range(N_PITCHES)], np.float32)
            keys = list(KEYS) if source.key is None else [source.key]
            missing = measure_bands(teacher, plain, voice, source)
            nets = np.array(bank.nets_checksum)
            write_arrays(target, {"missing": missing, "keys": keys, "trim": trim, "nets": nets}, DataError)
        yield target


def cell_shifts(table: VoiceTable, voice: int, pitch: int, missing: Reals) -> Floats:
    """What each cell of a key lacks, levels, [kinds, C - 1], from what bands lack (dB, [kinds, N_MELS])."""
    note_hz = float(pitch_hz(pitch))
    partials = table.partials(voice, pitch).below(spectrum.HIGH_HZ / note_hz)
    centres = _MEL_HZ[1:-1]
    shifts = np.zeros((N_KINDS, tk.N_CELLS - 1), np.float32)
    for kind in range(N_KINDS):
        at = np.interp(partials.ratios * note_hz, centres, missing[kind])
        weight = partials.spread.sum(axis=1)
        shifts[kind, : tk.N_PARTIALS] = np.where(weight > 0, partials.spread @ at / np.maximum(weight, 1e-6), 0)
        for n in range(tk.N_NOISE):
            low, high = tk.NOISE_EDGES_HZ[n : n + 2]
            inside = (centres >= low) & (centres <= high)
            middle = np.interp(0.5 * (low + high), centres, missing[kind])
            shifts[kind, tk.N_PARTIALS + n] = missing[kind, inside].mean() if inside.any() else middle
    return shifts / np.float32(tk.LEVEL_STEP_DB)


def make_key_levels(bank: Bank, folder: Path) -> KeyLevels:
    """The key levels of a bank from a folder of ``bands_NNN.npz``, its trims as they are now."""
    found: list[tuple[int, Floats] | None] = [None] * len(bank.table.kind)
    for path in sorted(folder.glob("bands_???.npz")):
        voice = int(path.stem[6:])
        with np.load(path) as file:
            missing, keys, trims = file["missing"], file["keys"], file["trim"]
        known = np.flatnonzero(~np.isnan(missing[:, 0, 0]))
        if voice >= len(found) or not len(known):
            continue
        shifts = np.zeros((len(keys), N_KINDS, tk.N_CELLS - 1), np.float32)
        for n in known:
            pitch = int(keys[n])
            louder = trims[pitch] - bank.table.trim(voice, pitch)
            shifts[n] = cell_shifts(bank.table, voice, pitch, _SHARE * missing[n] + louder)
        found[voice] = (int(keys[known[0]]), shifts[known[0] : known[-1] + 1])
    return KeyLevels.of(found)
