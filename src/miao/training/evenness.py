"""Evenness: how loud each key of a voice is, set to what the teacher's is.

Nets are told of a voice every three semitones and are off by a little here and there, so that neighbouring keys differ
by more than their teacher's do. How loud a key of the teacher is needs no net to know: it is measured once, and the
gain that is missing goes into the voice table (`VoiceTable.trim_db`).
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from miao.arrays import Doubles, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.voices import N_PITCHES, VoiceTable
from miao.datasets.notes import HELD_OUT_PITCHES, PITCHES, Source, render
from miao.datasets.soundfont import SoundFont
from miao.measuring.roundtrip import one_note_score, play
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.courses import held_chunks, measured_once, played_db
from miao.training.key_levels import DRUM_VELOCITIES, VELOCITIES, energy_db

VELOCITY = 100
SECONDS = 1.0  # of a held note
_SILENT = 1e-5
_MOST_DB = 9.0
_HEARD_KEYS = (33, 42, 51, 57, 66, 73, 84, 93)
_COMMON_DB = 0.5  # that all keys of a voice may be off by: spectra are set by medians, powers are means


def measure_keys(font: SoundFont, source: Source) -> Floats:
    """Power (dB, mean of the channels) of the first second of each key's note, [128]; NaN where there is none, and at
    the pitches that are held out."""
    power = np.full(N_PITCHES, np.nan, np.float32)
    for pitch in (p for p in PITCHES if p not in HELD_OUT_PITCHES):
        sound = font.note(source.program, pitch, VELOCITY, SECONDS, bank=source.bank, tail_seconds=0.0)
        sound = sound[:, : round(SECONDS * SAMPLE_RATE)]
        if np.abs(sound).max(initial=0.0) >= _SILENT:
            power[pitch] = 10 * np.log10(np.square(sound).mean())
    return power


def prepare_keys(path: Path, folder: Path, voices: Mapping[int, Source]) -> Iterator[Path]:
    """`measure_keys` of programs, see `courses.measured_once`."""
    return measured_once("keys", path, folder, voices, lambda font, _, source: {"power": measure_keys(font, source)})


def key_trims(bank: Bank, voice: int, keys: Integers) -> Floats:
    """The trim of each key of a voice, dB, [128]; keys that were not measured lie between their neighbours.

    Keys are as even as the teacher's; what they have in common may be off by half a decibel.
    """
    known = np.array([p for p in np.flatnonzero(~np.isnan(keys)) if p not in HELD_OUT_PITCHES])
    ours = first_second_db(bank, voice, known, VELOCITY)
    before = np.array([bank.table.trim(voice, int(pitch)) for pitch in known])
    missing = np.clip(keys[known] - ours, -_MOST_DB, _MOST_DB)
    common = float(np.median(missing))
    trims = before + missing - float(np.clip(common, -_COMMON_DB, _COMMON_DB))
    trims_of_keys: Floats = np.interp(np.arange(N_PITCHES), known, trims).astype(np.float32)
    return trims_of_keys


def first_second_db(bank: Bank, voice: int, keys: Integers, velocity: float) -> Doubles:
    """Power (dB) of the first second of notes of a voice as they are played, [keys]."""
    chunks = held_chunks(bank, voice, keys, velocity, 2)
    step = tk.STEP_SECONDS[tk.SUSTAIN]
    n_held = round((SECONDS - tk.ATTACK_SECONDS) / step)
    found = np.empty(len(keys))
    for n, pitch in enumerate(keys.tolist()):
        held = np.concatenate([chunks[1][n], chunks[2][n]])[:n_held]
        parts = [(chunks[0][n], tk.ATTACK_SECONDS), (held, n_held * step)]
        power = sum(seconds * 10 ** (played_db(bank.table, voice, pitch, some) / 10) for some, seconds in parts)
        found[n] = 10 * np.log10(power / SECONDS + 1e-20)
    return found


def off_by_sound(font: SoundFont, bank: Bank, voice: int, source: Source) -> float:
    """How much louder a voice's notes are than the teacher's, dB, by the energy of their sound, mean over some keys and
    two strengths: tokens do not say it of clicks. 0 where the sound bank has none."""
    keys = _HEARD_KEYS if source.key is None else (source.key,)
    found = []
    for key in keys:
        for velocity in VELOCITIES if source.key is None else DRUM_VELOCITIES:
            theirs = render(font, source, key, velocity, SECONDS)
            if np.abs(theirs).max(initial=0.0) >= _SILENT:
                seconds = SECONDS if source.key is None else theirs.shape[1] / SAMPLE_RATE
                score = one_note_score(voice, key, velocity, seconds)
                ours = play(bank, score, voice=voice if source.key is None else None)
                found.append(energy_db(ours) - energy_db(theirs))
    return float(np.mean(found)) if found else 0.0


def as_loud(font: SoundFont, bank: Bank, voices: Mapping[int, Source]) -> Iterator[tuple[int, float]]:
    """Voices, one after another, and what their trims are to change by, dB, so that notes are within half a decibel of
    being as loud as the teacher's in the mean."""
    for voice, source in voices.items():
        off = off_by_sound(font, bank, voice, source)
        yield voice, float(np.clip(off, -_COMMON_DB, _COMMON_DB) - off)


def with_even_keys(bank: Bank, folder: Path) -> VoiceTable:
    """The voice table of a bank with the trims of all voices of which a folder has ``keys_NNN.npz``."""
    table = bank.table
    trims = np.broadcast_to(table.trim_db.reshape(len(table.kind), -1), (len(table.kind), N_PITCHES)).copy()
    for path in sorted(folder.glob("keys_???.npz")):
        voice, keys = int(path.stem[5:]), np.load(path)["power"]
        if voice < len(trims) and not np.isnan(keys).all():
            trims[voice] = key_trims(bank, voice, keys)
    return replace(table, trim_db=trims)
