"""How a teacher's notes open, beside ours (`bank.openings`): what bands lack while a note begins.

Notes of every third key are played by the teacher and by the bank, at two strengths; the difference of their log-mel
spectrograms over time goes to the cells. How power rises, which frames of 46 ms cannot tell, is measured after it
(`training.rises`). Voices that are far even so, because their pitch moves, are measured at every key and token by
token, by the tokens of the teacher's notes beside those that are written.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np

from miao.arrays import Doubles, Floats
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.openings import COARSE, END_SECONDS, FINE, Opening, Openings, shares
from miao.bank.voices import pitch_hz
from miao.datasets.notes import Source
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import make_folder, write_arrays
from miao.measuring.note import analyse_note
from miao.measuring.power import band_shares
from miao.measuring.replayed import missing_over_time, put_right
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.courses import held_chunks
from miao.training.key_levels import KEYS, VELOCITIES, checked_error, our_note, their_note

TRIED = ((3, False, 0.0, 0.02), (1, True, 4.3, 0.3))
"""Semitones from key to key, whether token by token, the error (dB) above which it is tried, and the least that it must
come nearer (dB)."""
SECONDS = 0.9  # of a note, longer than anything is added
_SHARE = 0.9
_MOST_LEVELS = 16.0
_MOST_BY_TOKENS = 31.0
_SILENT = 1e-5


def measure_opening(font: SoundFont, bank: Bank, voice: int, source: Source) -> Opening | None:
    """The opening of a program's notes that brings checked notes nearer, or None. ``bank`` has none of its own."""
    kept, least = None, checked_error(font, bank, voice, source)
    for semitones, is_fine, above, gain in TRIED:
        if least < above:
            break
        measure = _by_tokens if is_fine else _by_sound
        found = measure(font, bank, voice, source, semitones)
        error = checked_error(font, with_opening(bank, voice, found), voice, source)
        if error < least - gain:
            kept, least = found, error
    return kept


def with_opening(bank: Bank, voice: int, opening: Opening) -> Bank:
    """The bank with an opening of one voice alone."""
    return bank.with_openings(Openings.of([None] * voice + [opening]))


def _by_tokens(font: SoundFont, bank: Bank, voice: int, source: Source, semitones: int) -> Opening:
    keys = np.arange(KEYS[0], KEYS[-1] + 1, semitones)
    levels = np.zeros((len(keys), len(FINE), tk.N_CELLS - 1), np.float32)
    for velocity in VELOCITIES:
        written = np.concatenate(held_chunks(bank, voice, keys, velocity, 1), axis=1)[:, : len(FINE), : tk.PITCH_CELL]
        for n, key in enumerate(keys.tolist()):
            sound, partials = their_note(font, source, key, velocity, SECONDS), bank.table.partials(voice, key)
            if np.abs(sound).max(initial=0.0) >= _SILENT:
                tokens = analyse_note(sound, SAMPLE_RATE, float(pitch_hz(key)), SECONDS, partials).tokens
                tokens = put_right(tokens, sound, bank.table, voice, key)
                wanted = tokens.held.reshape(-1, tk.N_CELLS)[: len(FINE), : tk.PITCH_CELL].astype(np.float32)
                lacks = wanted - bank.table.trim(voice, key) / tk.LEVEL_STEP_DB - written[n]
                levels[n] += np.clip(lacks, -_MOST_BY_TOKENS, _MOST_BY_TOKENS) / len(VELOCITIES)
    return Opening(int(keys[0]), semitones, True, levels)


def _by_sound(font: SoundFont, bank: Bank, voice: int, source: Source, semitones: int) -> Opening:
    keys, knots = range(KEYS[0], KEYS[-1] + 1, semitones), COARSE
    levels = np.zeros((len(keys), len(knots), tk.N_CELLS - 1), np.float32)
    for n, key in enumerate(keys):
        cells = band_shares(bank.table.partials(voice, key), float(pitch_hz(key)))
        for v in VELOCITIES:
            sound = their_note(font, source, key, v, SECONDS)
            if np.abs(sound).max(initial=0.0) >= _SILENT:
                ours = our_note(bank, voice, key, v, SECONDS)[:, : sound.shape[1]]
                lacks = _at_knots(missing_over_time(sound, ours), knots) @ cells
                levels[n] += _SHARE / len(VELOCITIES) / tk.LEVEL_STEP_DB * lacks
    return Opening(keys[0], semitones, False, np.clip(levels, -_MOST_LEVELS, _MOST_LEVELS))


def _at_knots(frames: Floats, knots: Doubles) -> Floats:
    """Frames of a log-mel spectrogram at knots, [knots, N_MELS]: means over what lies nearer to a knot than to others,
    or the nearest frame."""
    times = np.arange(len(frames)) * spectrum.HOP_SAMPLES / SAMPLE_RATE
    weights = shares(times, knots) * (times < END_SECONDS)[:, None]
    nearest = np.abs(times[:, None] - knots).argmin(axis=0)
    weights[nearest, np.arange(len(knots))] += 0.5 * (weights.sum(axis=0) < 0.5)
    found: Floats = (weights / weights.sum(axis=0)).T @ frames
    return found


def prepare_openings(font: Path, folder: Path, bank: Bank, voices: Mapping[int, Source]) -> Iterator[Path]:
    """`measure_opening` of programs of a bank into ``opening_NNN.npz``; what is there for the same nets and key levels
    is kept. Raises: DataError."""
    teacher = SoundFont(font)
    make_folder(folder, DataError)
    plain = bank.with_openings(None)
    for voice, source in voices.items():
        target = folder / f"opening_{voice:03d}.npz"
        keys = None if bank.additions.key_levels is None else bank.additions.key_levels.alone(voice)
        levels = np.zeros(0, np.int8) if keys is None else keys.levels
        if not target.exists() or not np.array_equal(np.load(target)["keys"], levels):
            found = measure_opening(teacher, plain, voice, source)
            about = {"keys": levels, "is_kept": np.array(found is not None)}
            if found is not None:
                about |= {"lowest": np.array(found.lowest), "semitones": np.array(found.semitones),
                          "is_fine": np.array(found.is_fine), "levels": found.levels.astype(np.float16)}  # fmt: skip
            write_arrays(target, about, DataError)
        yield target


def gathered_openings(folder: Path, n_voices: int) -> Openings:
    """The openings of a bank's voices from a folder of ``opening_NNN.npz``."""
    found: list[Opening | None] = [None] * n_voices
    for path in sorted(folder.glob("opening_???.npz")):
        voice = int(path.stem[8:])
        with np.load(path) as file:
            if voice < n_voices and bool(file["is_kept"]):
                found[voice] = Opening(int(file["lowest"]), int(file["semitones"]), bool(file["is_fine"]),
                                       file["levels"].astype(np.float32))  # fmt: skip
    return Openings.of(found)
