"""Each key set to its teacher's spectrum (`bank.key_levels`): what the sound of a key has more or less of than ours.

A note of every key is played by the teacher and by the bank, and the median difference over time of their log-mel
spectra, band by band, is what is missing: while it begins, while it is held, after it is let go. A cell gets what the
bands around its partials, or those within its noise band, are missing.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from miao.arrays import AnyArray, Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.key_levels import N_KINDS, KeyLevels
from miao.bank.nets import Decoder, Written
from miao.bank.voices import LEARNT_PITCHES, N_PITCHES, VoiceTable, drum_voice, pitch_hz
from miao.datasets.notes import Source, render
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import make_folder, write_arrays
from miao.measuring.power import band_shares
from miao.measuring.roundtrip import one_note_score, play
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.courses import held_chunks

KEYS = range(28, 97)  # of programs; those beyond are as the outermost
VELOCITIES = (56, 100)  # of notes of programs; errors are measured at 45, 80 and 115
PASSES = 2  # of measuring: what is added to a cell is heard in several bands, so that some is missing still
DRUM_VELOCITIES = (62, 98)
SECONDS, TAIL_SECONDS = 0.6, 0.2  # of a held note, and after it is let go
_HOP = 2 * spectrum.HOP_SAMPLES
_SILENT = 1e-5
_HEARD_SECONDS = 0.3
_SHARE = 0.95  # of what is missing that is added
_MOST_DB = 15.0
_GAINS_DB = np.arange(-6, 6.25, 0.25)
_LOUD_DB = 1.0  # by which a drum may be louder or softer than the teacher's
_CHECKED_KEYS, _CHECKED_VELOCITY = (31, 40, 49, 58, 66, 75, 84, 93), 72
_LEAST_AUDIBLE = 0.25  # of a kind's frames, or a band is not changed


def missing_bands(theirs: Reals, ours: Reals, hold_seconds: float, hop: int = spectrum.HOP_SAMPLES) -> Floats:
    """What a sound lacks against another one, dB, [kinds, N_MELS]: medians over the frames of each kind of chunk in
    which a band is audible in either. Shapes: [2, S] each."""
    n = max(theirs.shape[1], ours.shape[1])
    a, b = (spectrum.log_mel(np.pad(x, ((0, 0), (0, n - x.shape[1]))), hop_samples=hop) for x in (theirs, ours))
    difference = spectrum.audible_difference(a, b)
    kind = np.digitize(np.arange(len(a)) * hop / SAMPLE_RATE, [tk.ATTACK_SECONDS, hold_seconds])
    found = np.zeros((N_KINDS, spectrum.N_MELS), np.float32)
    for k in range(N_KINDS):
        found[k] = band_medians(difference[kind == k])
    return np.clip(found, -_MOST_DB, _MOST_DB)


def band_medians(values: Reals, otherwise: float = 0.0) -> Floats:
    """The median of each column's numbers, another number where there are few."""
    count = (~np.isnan(values)).sum(axis=0)
    if not len(values):
        return np.full(values.shape[1], otherwise, np.float32)
    ordered, columns = np.sort(values, axis=0), np.arange(values.shape[1])  # what is no number comes last
    middle = 0.5 * (ordered[np.maximum(count - 1, 0) // 2, columns] + ordered[count // 2 * (count > 0), columns])
    found: Floats = np.where(count > _LEAST_AUDIBLE * len(values), middle, otherwise).astype(np.float32)
    return found


def measure_bands(font: SoundFont, bank: Bank, voice: int, source: Source) -> Floats:
    """`missing_bands` of a voice, mean over velocities: [keys, kinds, N_MELS]; NaN where the sound bank has no note.
    The keys are `KEYS`, or a drum's own."""
    if source.key is not None:
        return _measure_drum(font, bank, voice, source, source.key)[None]
    found, heard = np.zeros((len(KEYS), N_KINDS, spectrum.N_MELS), np.float32), bank
    for left in reversed(range(PASSES)):
        found += _missing_of_keys(font, heard, voice, source)
        if left:
            known = np.nan_to_num(_SHARE * found)
            shifts = [cell_shifts(bank.table, voice, key, some) for key, some in zip(KEYS, known, strict=True)]
            heard = bank.with_key_levels(KeyLevels.of([None] * voice + [(KEYS[0], np.array(shifts))]))
    return found


def checked_error(font: SoundFont, bank: Bank, voice: int, source: Source) -> float:
    """Mean log-mel error of some notes of a program, of a strength that is not measured, dB; 0 where there are none."""
    errors = []
    for key in _CHECKED_KEYS:
        theirs = their_note(font, source, key, _CHECKED_VELOCITY, SECONDS)
        if np.abs(theirs).max(initial=0.0) >= _SILENT:
            ours = our_note(bank, voice, key, _CHECKED_VELOCITY, SECONDS)[:, : theirs.shape[1]]
            errors.append(spectrum.log_mel_error(spectrum.log_mel(theirs), spectrum.log_mel(ours)))
    return float(np.mean(errors)) if errors else 0.0


def their_note(font: SoundFont, source: Source, key: int, velocity: int, seconds: float) -> Floats:
    """A note of a sound bank's program, followed for a moment after it is let go."""
    return font.note(source.program, key, velocity, seconds, bank=source.bank, tail_seconds=TAIL_SECONDS)


def heard_keys(font: SoundFont, source: Source) -> range | None:
    """The outermost keys of a program that a sound bank plays, and all between; None if it plays none."""

    def is_heard(key: int) -> bool:
        notes = (their_note(font, source, key, velocity, _HEARD_SECONDS) for velocity in VELOCITIES)
        return any(np.abs(note).max(initial=0.0) >= _SILENT for note in notes)

    lowest = next((key for key in LEARNT_PITCHES if is_heard(key)), None)
    if lowest is None:
        return None
    return range(lowest, next(key for key in reversed(LEARNT_PITCHES) if is_heard(key)) + 1)


def our_note(bank: Bank, voice: int, key: int, velocity: int, seconds: float) -> Floats:
    """The same note of a bank's voice, to its end."""
    return play(bank, one_note_score(voice, key, velocity, seconds), voice=voice)


def _missing_of_keys(font: SoundFont, bank: Bank, voice: int, source: Source) -> Floats:
    keys = np.array(KEYS)
    found = np.zeros((len(keys), N_KINDS, spectrum.N_MELS), np.float32)
    for velocity in VELOCITIES:
        players = players_of_keys(bank, voice, keys, velocity)
        for n, (key, player) in enumerate(zip(keys.tolist(), players, strict=True)):
            theirs = their_note(font, source, key, velocity, SECONDS)
            if np.abs(theirs).max(initial=0.0) < _SILENT:
                found[n] = np.nan
                continue
            ours = play(player, one_note_score(0, key, velocity, SECONDS), voice=voice)[:, : theirs.shape[1]]
            found[n] += missing_bands(theirs, ours, SECONDS, _HOP) / len(VELOCITIES)
    return found


def _measure_drum(font: SoundFont, bank: Bank, voice: int, source: Source, key: int) -> Floats:
    """What a drum lacks, [kinds, N_MELS]: all of its bands' differences, half of them or none, whichever comes nearest,
    at the gain that does while it is nearly as loud. A click of a few milliseconds is no spectrum: it may be none."""
    theirs = [render(font, source, key, velocity, SECONDS) for velocity in DRUM_VELOCITIES]
    if min(np.abs(sound).max(initial=0.0) for sound in theirs) < _SILENT:
        return np.full((N_KINDS, spectrum.N_MELS), np.nan, np.float32)

    def played(player: Bank) -> list[Floats]:
        return [
            play(player, one_note_score(drum_voice(key), key, velocity, sound.shape[1] / SAMPLE_RATE, source.program))
            for velocity, sound in zip(DRUM_VELOCITIES, theirs, strict=True)
        ]

    before = played(bank)
    missing = np.mean(
        [missing_bands(a, b, a.shape[1] / SAMPLE_RATE) for a, b in zip(theirs, before, strict=True)], axis=0
    ).astype(np.float32)
    most = max(_LOUD_DB, abs(_softer_db(theirs, before)))
    found: Floats = np.zeros_like(missing)
    nearest = float(_errors(theirs, before, np.zeros(1))[0])
    for share in (1.0, 0.5, 0.0):
        shifts = cell_shifts(bank.table, voice, key, _SHARE * share * missing)[None]
        after = played(bank.with_key_levels(KeyLevels.of([None] * voice + [(key, shifts)])))
        softer = _softer_db(theirs, after)
        gains = _GAINS_DB[np.abs(_GAINS_DB - softer) <= most]
        errors = _errors(theirs, after, gains)
        if len(gains) and errors.min() < nearest:
            nearest = float(errors.min())
            found = (share * missing + gains[errors.argmin()] / _SHARE).astype(np.float32)
    return found


def _softer_db(theirs: list[Floats], ours: list[Floats]) -> float:
    """How much softer our sounds are, mean."""
    return float(np.mean([energy_db(a) - energy_db(b) for a, b in zip(theirs, ours, strict=True)]))


def _errors(theirs: list[Floats], ours: list[Floats], gains: Reals) -> Doubles:
    """Mean log-mel error of some sounds at gains (dB)."""
    mels = [(spectrum.log_mel(a), spectrum.log_mel(b)) for a, b in zip(theirs, ours, strict=True)]
    return np.array([np.mean([spectrum.log_mel_error(a, b + gain) for a, b in mels]) for gain in gains])


def energy_db(sound: Reals) -> float:
    """Energy of a whole sound."""
    return float(10 * np.log10(np.square(sound).sum() + 1e-12))


def players_of_keys(bank: Bank, voice: int, keys: Integers, velocity: float) -> list[Bank]:
    """For each key a bank that plays its note, let go after `SECONDS`, from chunks decoded for all keys at once."""
    held = held_chunks(bank, voice, keys, velocity, 1)
    n, last = len(keys), round((SECONDS - tk.ATTACK_SECONDS) / tk.STEP_SECONDS[tk.SUSTAIN])
    release, _ = bank.decode(
        tk.RELEASE, voice=np.full(n, voice), pitch=keys.astype(np.float32),
        velocity=np.full(n, velocity / 127, np.float32), index=np.zeros(n, np.int64),
        age=np.full(n, SECONDS, np.float32), previous=held[1][:, last],
        context=np.zeros((n, bank.context_width), np.float32),
    )  # fmt: skip
    chunks = {tk.ATTACK: [held[0]], tk.SUSTAIN: held[1:], tk.RELEASE: [release, np.zeros_like(release)]}

    def player(key: int) -> Decoder:
        def decode(kind: int, *, index: Integers, **_: AnyArray) -> Written:
            known = chunks[kind]
            chunk = known[min(int(index[0]), len(known) - 1)][key : key + 1]
            return chunk, np.ones_like(chunk)

        return decode

    return [replace(bank, decode=player(key)) for key in range(n)]


def prepare_bands(font: Path, folder: Path, bank: Bank, voices: Mapping[int, Source]) -> Iterator[Path]:
    """`measure_bands` of voices of a bank without key levels into ``bands_NNN.npz``; what is there for the same nets
    and strengths is kept. Raises: DataError."""
    teacher = SoundFont(font)
    make_folder(folder, DataError)
    plain = bank.with_key_levels(None)
    for voice, source in voices.items():
        strokes, passes = (DRUM_VELOCITIES, 1) if source.is_drum else (VELOCITIES, PASSES)
        measured = f"{bank.nets_checksum} {strokes} {passes}"
        target = folder / f"bands_{voice:03d}.npz"
        if not target.exists() or str(np.load(target)["nets"]) != measured:
            trim = np.array([plain.table.trim(voice, p) for p in range(N_PITCHES)], np.float32)
            keys = list(KEYS) if source.key is None else [source.key]
            missing = measure_bands(teacher, plain, voice, source)
            about = {"keys": keys, "trim": trim, "nets": np.array(measured)}
            if source.key is None:
                known = np.nan_to_num(_SHARE * missing)
                shifts = np.array([cell_shifts(plain.table, voice, k, m) for k, m in zip(KEYS, known, strict=True)])
                after = plain.with_key_levels(KeyLevels.of([None] * voice + [(KEYS[0], shifts)]))
                about["errors"] = np.array([checked_error(teacher, bank, voice, source) for bank in (plain, after)])
            write_arrays(target, {"missing": missing, **about}, DataError)
        yield target


def cell_shifts(table: VoiceTable, voice: int, pitch: int, missing: Reals) -> Floats:
    """What each cell of a key lacks, levels, [kinds, C - 1], from what bands lack (dB, [kinds, N_MELS]), a
    row for each kind of chunk or of whatever else."""
    shares = band_shares(table.partials(voice, pitch), float(pitch_hz(pitch)))
    return (missing @ shares / tk.LEVEL_STEP_DB).astype(np.float32)


def make_key_levels(bank: Bank, folder: Path) -> KeyLevels:
    """The key levels of a bank from a folder of ``bands_NNN.npz``, its trims as they are now."""
    found: list[tuple[int, Floats] | None] = [None] * len(bank.table.kind)
    for path in sorted(folder.glob("bands_???.npz")):
        voice = int(path.stem[6:])
        with np.load(path) as file:
            missing, keys, trims = file["missing"], file["keys"], file["trim"]
            before, after = file.get("errors", (1.0, 0.0))
        known = np.flatnonzero(~np.isnan(missing[:, 0, 0]))
        if voice >= len(found) or not len(known) or after >= before > 0:  # no spectrum that is no gain
            continue
        shifts = np.zeros((len(keys), N_KINDS, tk.N_CELLS - 1), np.float32)
        for n in known:
            pitch = int(keys[n])
            louder = trims[pitch] - bank.table.trim(voice, pitch)
            shifts[n] = cell_shifts(bank.table, voice, pitch, _SHARE * missing[n] + louder)
        found[voice] = (int(keys[known[0]]), shifts[known[0] : known[-1] + 1])
    return KeyLevels.of(found)
