"""How a teacher's notes rise, beside ours (`bank.rises`): their power over time, key by key, at a few strengths.

Ours is what our tokens say, without the chance of phases and noise, so that nothing needs to be played. Both are taken
over the same moments. What a cell gets of the difference follows how much of the power is its own. Whether it is any
good is asked by the sound of notes of other strengths, each drawn several times: of one drawing it is partly chance.
Where notes waver, they are measured again as they do: choruses and ensembles begin elsewhere in their samples at each
strength, so that of theirs the mean is taken, and ours waver before they have risen.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np

from miao.arrays import Doubles, Floats, Integers, Reals
from miao.bank import tokens as tk
from miao.bank.arrays import checksum_of
from miao.bank.bank import Bank
from miao.bank.key_rows import KeyRows
from miao.bank.openings import END_SECONDS, FINE, shares
from miao.bank.rises import STRENGTHS, Rise, Rises
from miao.bank.voices import VoiceTable, is_drum_voice, pitch_hz
from miao.datasets.notes import Source, render
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import make_folder, write_arrays
from miao.measuring.attack import WITHIN_SECONDS, usual_attack_time
from miao.measuring.roundtrip import one_note_score, play
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.courses import held_chunks
from miao.training.key_levels import KEYS, energy_db, their_note

WAVERING = "wavering"  # folder beside that of other rises, of those of voices that waver
CHECKED_KEYS = range(29, 97, 4)
CHECKED_STRENGTHS = (52, 100)  # in turn; none of those measured, nor of those that errors are measured at
CHECKED_DRUM_STRENGTHS = (24, 52, 70, 100, 124)  # all of them: a drum has but one key
DRAWN = (-6, -3, 0, 3, 6)  # strengths beside one that is measured, of voices that waver
CHECKED_DRAWN = (-1, 0, 1)  # strengths beside a checked one at which its attack is asked for
SECONDS = 0.9  # of a note, longer than anything is added
_PASSES = 3  # powers are compared over moments, and what is added to a token is heard beside it
_WHOLE_DB, _NONE_DB = -10.0, -30.0  # below the strongest cell: cells get all of the difference, or none of it
_LEAST_SHARE = 0.3
_FLOOR_DB = -35.0  # below a note's loudest moment that its rise is compared
_MOST_LEVELS = 16.0
_LEAST_MOMENTS = (0.005, 0.015)  # over which power is taken, seconds: a period of low notes, within these; the longer
_FAR = 0.003  # for all notes where attacks are farther than that, seconds, with the shorter one
_MOST_LATE = 0.03
_DB_A_SECOND, _DB_A_DECIBEL = 30.0, 0.2  # of log-mel error that attacks that are off, and notes too loud, count as
_LEAST_GAIN_DB = 0.02
_MOST_LOUDER_DB = 0.3  # by which notes may be farther from as loud: clicks are, whose power is not in their tokens
_BLOCK = 44  # samples
_SILENT = 1e-5


@dataclass(frozen=True)
class Off:
    """How far notes of a voice are from the teacher's."""

    attack_seconds: float = 0.0  # mean, none counting as more than `_MOST_LATE`
    log_mel_db: float = 0.0  # mean
    loudness_db: float = 0.0  # mean of what single notes are too loud or soft by

    def all_db(self) -> float:
        """All of it together, as a log-mel error."""
        return self.log_mel_db + _DB_A_SECOND * self.attack_seconds + _DB_A_DECIBEL * self.loudness_db


@dataclass(frozen=True)
class Checked:
    """A note of the teacher that ours is compared with."""

    key: int
    velocity: int
    sound: Floats  # [2, S]
    attack_seconds: float  # its usual one


@dataclass(frozen=True)
class Powers:
    """Power of a voice's notes as they rise, by key and `STRENGTHS`."""

    keys: Integers
    theirs: Doubles  # [keys, STRENGTHS, blocks]
    ours: Doubles  # [keys, STRENGTHS, FINE, C - 1]


def measure_rise(font: SoundFont, bank: Bank, voice: int, source: Source) -> Rise | None:
    """The rise of a voice's notes that brings checked notes nearer than what the bank has of one, or None."""
    bare = bank.with_openings(bank.additions.openings)
    powers, notes = measure_powers(font, bare, voice, source), checked_notes(font, source)
    if not notes:
        return None
    kept, best = None, off(bank, voice, notes)
    for moment in _LEAST_MOMENTS:
        found = rise_of(powers, moment) if moment == _LEAST_MOMENTS[0] or best.attack_seconds > _FAR else None
        if found is not None:
            now = off(with_rise(bare, voice, found), voice, notes)
            is_as_loud = now.loudness_db < best.loudness_db + _MOST_LOUDER_DB
            if is_as_loud and now.all_db() < best.all_db() - _LEAST_GAIN_DB:
                kept, best = found, now
    return kept


def with_rise(bank: Bank, voice: int, rise: Rise) -> Bank:
    """The bank with a rise of one voice alone."""
    return bank.with_openings(bank.additions.openings, Rises.of([None] * voice + [rise]))


def checked_notes(font: SoundFont, source: Source) -> list[Checked]:
    """Some notes of a sound bank, as far as it has them."""
    notes = [*zip(CHECKED_KEYS, cycle(CHECKED_STRENGTHS), strict=False)]
    if source.key is not None:
        notes = [(source.key, velocity) for velocity in CHECKED_DRUM_STRENGTHS]
    found = []
    for key, velocity in notes:
        drawn = [_their_note(font, source, key, velocity + beside) for beside in CHECKED_DRAWN]
        sound = drawn[CHECKED_DRAWN.index(0)]
        if np.abs(sound).max(initial=0.0) >= _SILENT:
            found.append(Checked(key, velocity, sound, usual_attack_time(drawn)))
    return found


def off(bank: Bank, voice: int, notes: Sequence[Checked]) -> Off:
    """How far a voice is from notes of the teacher."""
    found = []
    for note in notes:
        drawn = _drawn(bank, voice, note)
        late = abs(usual_attack_time(drawn) - note.attack_seconds)
        theirs, ours = note.sound, drawn[0][:, : note.sound.shape[1]]
        error = spectrum.log_mel_error(spectrum.log_mel(theirs), spectrum.log_mel(ours))
        found.append((late, error, abs(energy_db(ours) - energy_db(theirs))))
    lates, errors, louds = np.array(found).T
    return Off(float(np.mean(np.minimum(lates, _MOST_LATE))), float(np.mean(errors)), float(np.mean(louds)))


def _drawn(bank: Bank, voice: int, note: Checked) -> list[Floats]:
    """A voice's own drawings of a note, each with another seed: the note whole, and how those beside it begin."""
    is_drum = is_drum_voice(voice)
    hold = note.sound.shape[1] / SAMPLE_RATE if is_drum else SECONDS
    drawings = [(0, np.inf), *((beside, WITHIN_SECONDS) for beside in CHECKED_DRAWN if beside)]
    return [
        play(bank, one_note_score(voice, note.key, note.velocity + beside, hold), seed, None if is_drum else voice,
             seconds)
        for seed, (beside, seconds) in enumerate(drawings)
    ]  # fmt: skip


def measure_powers(font: SoundFont, bank: Bank, voice: int, source: Source) -> Powers:
    """The power of a voice's notes, theirs as they sound, ours as its tokens say; theirs is 0 where there is no
    note. Of a voice that wavers theirs is the mean over `DRAWN`, each as loud."""
    keys = np.array(KEYS if source.key is None else [source.key])
    drawn = DRAWN if bank.additions.wavers is not None and bank.additions.wavers.has(voice) else (0,)
    theirs = np.zeros((len(keys), len(STRENGTHS), len(_block_times())))
    ours = np.zeros((len(keys), len(STRENGTHS), len(FINE), tk.N_CELLS - 1))
    for s, velocity in enumerate(STRENGTHS.tolist()):
        written = np.concatenate(held_chunks(bank, voice, keys, velocity, 1), axis=1)[:, : len(FINE)]
        for n, key in enumerate(keys.tolist()):
            ours[n, s] = cell_powers(bank.table, voice, key, written[n])
            sounds = [_their_note(font, source, key, velocity + beside) for beside in drawn]
            if all(np.abs(sound).max(initial=0.0) >= _SILENT for sound in sounds):
                powers = np.stack([block_powers(sound) for sound in sounds])
                whole = powers.sum(axis=1, keepdims=True)
                theirs[n, s] = (powers / np.maximum(whole, 1e-15)).mean(axis=0) * whole[len(drawn) // 2]
    return Powers(keys, theirs, ours)


def rise_of(powers: Powers, least_moment: float) -> Rise | None:
    """The rise of all keys of a voice, power taken over a period, or such a moment at least; of drums over that. Keys
    of which the sound bank has no note are as those next to them; None if it has none."""
    known = np.flatnonzero((powers.theirs.max(axis=2) > 0).all(axis=1))
    if not len(known):
        return None
    power = np.zeros((len(powers.keys), len(STRENGTHS), len(FINE)), np.float32)
    cells = np.zeros((len(powers.keys), tk.N_CELLS - 1), np.float32)
    for n in known:
        period = 1 / float(pitch_hz(float(powers.keys[n]))) if len(powers.keys) > 1 else 0.0
        moment = float(np.clip(period, least_moment, _LEAST_MOMENTS[-1]))
        loud = 10 * np.log10(powers.ours[n].mean(axis=1) + 1e-15)
        loud -= loud.max(axis=1, keepdims=True)
        cells[n] = np.clip((loud - _NONE_DB) / (_WHOLE_DB - _NONE_DB), 0, 1).mean(axis=0)
        for s in range(len(STRENGTHS)):
            power[n, s] = rise_levels(powers.theirs[n, s], powers.ours[n, s], cells[n], moment)
    nearest = known[np.abs(np.arange(len(powers.keys))[:, None] - known).argmin(axis=1)]
    return Rise(int(powers.keys[0]), power[nearest], cells[nearest])


def rise_levels(theirs: Reals, ours: Reals, cells: Reals, moment: float) -> Floats:
    """What tokens lack to be as powerful as a sound while it rises, levels, [FINE], of which each cell gets a share
    [C - 1]. Shapes: theirs [blocks]; ours [FINE, C - 1], the power of tokens' cells."""
    around = _around_tokens(moment)
    wanted = theirs @ around
    floor = wanted.max() * 10 ** (_FLOOR_DB / 10) + 1e-15
    levels = np.zeros(len(FINE))
    for _ in range(_PASSES):
        moved = ours * 10 ** (tk.LEVEL_STEP_DB / 10 * levels[:, None] * cells)
        has = np.interp(_block_times(), FINE, moved.sum(axis=1)) @ around
        lacks = 10 * np.log10(np.maximum(wanted, floor) / np.maximum(has, floor)) / tk.LEVEL_STEP_DB
        follows = (moved @ cells + 1e-15) / (moved.sum(axis=1) + 1e-15)  # of a level that is added to the power
        levels = np.clip(levels + lacks / np.maximum(follows, _LEAST_SHARE), -_MOST_LEVELS, _MOST_LEVELS)
    return levels.astype(np.float32)


def _their_note(font: SoundFont, source: Source, key: int, velocity: int) -> Floats:
    """A note of a sound bank, followed for a moment after it is let go; of drums until it is silent."""
    is_drum = source.is_drum
    return render(font, source, key, velocity, SECONDS) if is_drum else their_note(font, source, key, velocity, SECONDS)


def block_powers(sound: Reals) -> Doubles:
    """Power of a sound in blocks of samples, both channels together, as long as anything is added, [blocks]."""
    n = len(_block_times()) * _BLOCK
    power = np.square(sound[:, :n]).sum(axis=0)
    found: Doubles = np.pad(power, (0, n - len(power))).reshape(-1, _BLOCK).mean(axis=1)
    return found


def _block_times() -> Doubles:
    """Middles of the blocks of samples in which power is taken, seconds."""
    return (np.arange(round(END_SECONDS * SAMPLE_RATE / _BLOCK)) + 0.5) * _BLOCK / SAMPLE_RATE


def _around_tokens(moment: float) -> Doubles:
    """Weights of blocks, [blocks, FINE], by which their power becomes that around each token: over a moment, half as
    much so many seconds away, and what lies nearer to it than to the next tokens."""
    half = max(round(moment * SAMPLE_RATE / _BLOCK), 1)
    window = np.hanning(2 * half + 1)
    nearer = shares(_block_times(), FINE)
    within = np.convolve(np.ones(len(nearer)), window, "same")
    columns = [np.convolve(one / (one.sum() * within), window, "same") for one in nearer.T.astype(np.float64)]
    return np.stack(columns, axis=1)


def cell_powers(table: VoiceTable, voice: int, pitch: int, tokens: Reals) -> Doubles:
    """Power of each cell of tokens as they are played, both channels together, [n, C - 1]."""
    spread = table.partials(voice, pitch).below(20_000 / float(pitch_hz(pitch))).spread
    partials = np.square(tk.level_to_amplitude(tokens[:, : tk.N_PARTIALS] @ spread)) @ spread.T / 2
    noise = np.square(tk.level_to_amplitude(tokens[:, tk.N_PARTIALS : tk.PITCH_CELL]))
    found: Doubles = 2 * 10 ** (table.trim(voice, pitch) / 10) * np.concatenate([partials, noise], axis=1)
    return found


def prepare_rises(font: Path, folder: Path, bank: Bank, voices: Mapping[int, Source]) -> Iterator[Path]:
    """`measure_rise` of voices of a bank into ``rise_NNN.npz``; what is there for the same nets, key levels,
    openings, rises, wavers and drawings is kept. Raises: DataError."""
    teacher = SoundFont(font)
    make_folder(folder, DataError)
    for voice, source in voices.items():
        target = folder / f"rise_{voice:03d}.npz"
        own = bank.additions
        added = [rows_checksum(table, voice) for table in (own.key_levels, own.openings, own.rises, own.wavers)]
        measured = " ".join(
            [bank.nets_checksum, *added, str(CHECKED_DRUM_STRENGTHS if source.is_drum else CHECKED_DRAWN)]
        )
        if not target.exists() or str(np.load(target)["measured"]) != measured:
            found = measure_rise(teacher, bank, voice, source)
            about = {"measured": np.array(measured), "is_kept": np.array(found is not None)}
            if found is not None:
                about |= {"lowest": np.array(found.lowest), "power": found.power, "cells": found.cells}
            write_arrays(target, about, DataError)
        yield target


def rows_checksum(table: KeyRows | None, voice: int) -> str:
    """A checksum of what a table has of a voice."""
    own = None if table is None else table.alone(voice)
    return "none" if own is None else checksum_of({name: getattr(own, name) for name in own.ARRAYS}, {})


def gathered_rises(folder: Path, n_voices: int, some: Collection[int] | None = None) -> Rises:
    """The rises of a bank's voices, or of some of them, from a folder of ``rise_NNN.npz``."""
    found: list[Rise | None] = [None] * n_voices
    for path in sorted(folder.glob("rise_???.npz")):
        voice = int(path.stem[5:])
        with np.load(path) as file:
            if voice < n_voices and (some is None or voice in some) and bool(file["is_kept"]):
                found[voice] = Rise(int(file["lowest"]), file["power"], file["cells"])
    return Rises.of(found)


def replaced(rises: Rises | None, new: Rises) -> Rises:
    """The rises of some voices, with new ones in the places of those that have one."""
    n_voices = len(new.first)
    both, every = Rises.joined([rises, new], [n_voices, n_voices]), np.arange(n_voices)
    assert both is not None
    return both.only(np.where(new.first >= 0, n_voices + every, every))
