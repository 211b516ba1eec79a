"""How a teacher's held notes waver beside ours (`bank.wavers`): what levels and pitch do beside the course of each.

Notes of nearly every key are measured into tokens and compared with what nets write. Keys that share a sample of the
teacher's do the same, faster or slower: where one sample ends and the next begins is found by what neighbouring keys
agree in, and what they do not agree in is noise. The deepest waver that costs other keys nothing is taken.
"""

from collections.abc import Iterator, Mapping
from itertools import cycle
from pathlib import Path

import numpy as np

from miao.arrays import Doubles, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.lasting import CHUNK_SECONDS
from miao.bank.voices import pitch_hz
from miao.bank.waver import PARTS, STEP_SECONDS
from miao.bank.wavers import Wavering, Wavers
from miao.datasets.notes import HELD_OUT_PITCHES, Source
from miao.datasets.soundfont import SoundFont
from miao.errors import DataError
from miao.files import make_folder, write_arrays
from miao.measuring.note import analyse_note
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error
from miao.training.courses import FIRST, held_chunks
from miao.training.key_levels import KEYS, our_note, their_note
from miao.training.rises import rows_checksum
from miao.training.wavering import MOST_WORSE_DB, beside_course, by_steps

VELOCITY = 90
CHECKED_KEYS = range(30, 91, 6)  # that are not measured
CHECKED_VELOCITIES = (60, 100)  # in turn
MEASURED_KEYS = [key for key in KEYS if key not in {*CHECKED_KEYS, *HELD_OUT_PITCHES}]
DEPTHS = 1.0, 0.75, 0.5  # the deepest that costs no more than
STILL = (7, 20, 22, 26, 31, 36, 37, 59, 74, 100, 122, 126)
"""Programs 0..127 that one of two nets, trained on sound and on music, hears no nearer once they waver, or neither does
clearly and no log-mel error falls by it (`bench/wavers.py`); guitar harmonics (31), whose attacks go off by 4 ms; two
that nobody was asked of (100, 122)."""
_STEPS = 1 + round((tk.ATTACK_SECONDS + FIRST * CHUNK_SECONDS) / STEP_SECONDS)  # that are kept: then notes repeat
_EVEN_STEPS = round(1.0 / STEP_SECONDS)  # in which cells keep their power; later, courses say it
_HEARD_STEPS = _STEPS + 17  # keys below the one that is kept are slower
_BEGUN = 5  # steps from a note's start: what is before is how it opens
_HOLD_SECONDS = 1.9
_COURSE_SECONDS = 0.4  # standard deviation, above which it is course and not waver
_REACH = 14  # measured keys that may share a sample
_WORTH = 0.6  # of what a key does, that a row must explain
_LASTS_DB = 12.0  # that a note may lose from the first of these moments to the second
_MOMENTS = (0.3, 0.9), (1.9, 2.5)
_SILENT = 1e-5


def measure_waver(font: SoundFont, bank: Bank, voice: int, source: Source) -> Wavering | None:
    """How held notes of a program waver, or None if they fade soon, or if it takes checked notes away. ``bank`` has no
    waver of its own."""
    if not _lasts(font, source):
        return None
    keys, tracks = measure_tracks(font, bank, voice, source)
    both = zip(CHECKED_KEYS, cycle(CHECKED_VELOCITIES), strict=False)
    checked = [(key, v, their_note(font, source, key, v, _HOLD_SECONDS)) for key, v in both]
    checked = [note for note in checked if np.abs(note[2]).max(initial=0.0) >= _SILENT]
    most = _error(bank, voice, checked) + MOST_WORSE_DB
    for depth in DEPTHS:
        found = waver_of(keys, tracks, depth)
        if _error(with_waver(bank, voice, found), voice, checked) <= most:
            return found
    return None


def with_waver(bank: Bank, voice: int, waver: Wavering) -> Bank:
    """The bank with a waver of one voice alone."""
    return bank.with_wavers(Wavers.of([None] * voice + [waver]))


def measure_tracks(font: SoundFont, bank: Bank, voice: int, source: Source) -> tuple[Integers, Doubles]:
    """What notes of a program do beside ours, key by key: the keys that the sound bank has, rising, and levels and
    steps in pitch, [keys, steps, C]."""
    written = by_steps(held_chunks(bank, voice, np.array(MEASURED_KEYS), VELOCITY, FIRST + 1))
    keys, tracks = [], []
    for key, ours in zip(MEASURED_KEYS, written, strict=True):
        sound = their_note(font, source, key, VELOCITY, _HOLD_SECONDS)
        if np.abs(sound).max(initial=0.0) >= _SILENT:
            hz, partials = float(pitch_hz(key)), bank.table.partials(voice, key)
            sound = sound[:, : round(_HOLD_SECONDS * SAMPLE_RATE)]
            held = analyse_note(sound, SAMPLE_RATE, hz, _HOLD_SECONDS, partials).tokens.held
            theirs = by_steps(held[:, None])[0]
            n = min(len(theirs), len(ours), round(_HOLD_SECONDS / STEP_SECONDS))
            own = beside_course(theirs[_BEGUN:n] - ours[_BEGUN:n], theirs[_BEGUN:n], _COURSE_SECONDS)
            keys.append(key)
            tracks.append(np.pad(own, ((_BEGUN, 0), (0, 0)))[:_HEARD_STEPS])
    return np.array(keys, np.int64), np.array(tracks).reshape(len(keys), -1, tk.N_CELLS)


def waver_of(keys: Integers, tracks: Doubles, depth: float) -> Wavering:
    """The waver of a voice whose keys do so beside their course, with so much of what keys of a sample agree in."""
    found = samples(keys, tracks)
    moves = np.stack([_agreed(keys[some], tracks[some]) for some in found])
    levels = depth * moves[..., : tk.PITCH_CELL]
    power = np.mean(10 ** (levels[:, :_EVEN_STEPS] * tk.LEVEL_STEP_DB / 10), axis=1, keepdims=True)
    moves = np.concatenate([levels - 10 * np.log10(power) / tk.LEVEL_STEP_DB, depth * moves[..., tk.PITCH_CELL :]], 2)
    tops = keys[[some.stop - 1 for some in found]]
    return Wavering(tops.astype(np.uint8), np.clip(np.rint(moves * PARTS), -127, 127).astype(np.int8))


def samples(keys: Integers, tracks: Doubles) -> list[slice]:
    """The keys that share a sample, sample by sample: the parting that leaves least unexplained, where each sample must
    explain more than one key does."""
    each = _WORTH * float(np.median(np.square(tracks[:, :_STEPS]).sum(axis=(1, 2))))
    least, first = np.zeros(len(keys) + 1), np.zeros(len(keys), np.int64)
    for last in range(len(keys)):
        began = np.arange(last, max(last - _REACH, -1), -1)
        costs = least[began] + each + _unexplained(keys, tracks, last, began)
        first[last], least[last + 1] = began[costs.argmin()], costs.min()
    found: list[slice] = []
    end = len(keys)
    while end > 0:
        found.insert(0, slice(int(first[end - 1]), end))
        end = int(first[end - 1])
    return found


def _unexplained(keys: Integers, tracks: Doubles, last: int, began: Integers) -> Doubles:
    """What the keys from each of some up to the last one do not agree in, [began]."""
    total, square, count = np.zeros(tracks.shape[1:]), np.zeros(tracks.shape[1:]), np.zeros((tracks.shape[1], 1))
    found = []
    for key in began:
        track, is_heard = at_pace(tracks[key], float(keys[key] - keys[last]))
        total, square, count = total + track, square + np.square(track), count + is_heard[:, None]
        rest = square - np.square(total) / np.maximum(count, 1)
        found.append(float(rest[:_STEPS].sum()))
    return np.array(found)


def _agreed(keys: Integers, tracks: Doubles) -> Doubles:
    """What keys of one sample agree in, as the highest of them does it, [steps, C]; alone a key is believed."""
    both = [at_pace(track, float(key - keys[-1])) for key, track in zip(keys, tracks, strict=True)]
    all_tracks, is_heard = np.stack([track for track, _ in both]), np.stack([heard for _, heard in both])[..., None]
    count = is_heard.sum(axis=0)
    mean = all_tracks.sum(axis=0) / np.maximum(count, 1)
    noise = (np.square(all_tracks - mean) * is_heard).sum(axis=0) / (np.maximum(count - 1, 1) * np.maximum(count, 1))
    noise, power = noise[:_STEPS].mean(axis=0), np.square(mean[:_STEPS]).mean(axis=0)
    agreed: Doubles = mean[:_STEPS] * np.clip(1 - noise / np.maximum(power, 1e-9), 0, 1)
    return agreed


def at_pace(track: Doubles, semitones: float) -> tuple[Doubles, Doubles]:
    """What a key so far above another one (below 0: beneath) says of that one, [steps, C], 0 where it was not heard;
    and whether it was, [steps]."""
    at = np.arange(len(track)) / 2 ** (semitones / 12)
    is_heard = at <= len(track) - 1
    low = np.minimum(at.astype(np.int64), len(track) - 2)
    share = (at - low)[:, None]
    found = ((1 - share) * track[low] + share * track[low + 1]) * is_heard[:, None]
    return found, is_heard.astype(np.float64)


def _lasts(font: SoundFont, source: Source) -> bool:
    """Whether most notes of a program are there for long, as they are or fading slowly."""
    lost = []
    for key in CHECKED_KEYS:
        sound = their_note(font, source, key, VELOCITY, _MOMENTS[-1][-1])
        if np.abs(sound).max(initial=0.0) >= _SILENT:
            powers = [np.square(sound[:, round(a * SAMPLE_RATE) : round(b * SAMPLE_RATE)]).mean() for a, b in _MOMENTS]
            lost.append(10 * np.log10((powers[0] + 1e-14) / (powers[1] + 1e-14)))
    return bool(lost) and float(np.median(lost)) <= _LASTS_DB


def _error(bank: Bank, voice: int, notes: list[tuple[int, int, Floats]]) -> float:
    """Mean log-mel error of a voice beside notes of the teacher's, dB."""
    errors = []
    for key, velocity, theirs in notes:
        ours = our_note(bank, voice, key, velocity, _HOLD_SECONDS)[:, : theirs.shape[1]]
        errors.append(log_mel_error(log_mel(theirs), log_mel(ours)))
    return float(np.mean(errors)) if errors else 0.0


def prepare_wavers(font: Path, folder: Path, bank: Bank, voices: Mapping[int, Source]) -> Iterator[Path]:
    """`measure_waver` of programs of a bank into ``waver_NNN.npz``; what is there for the same nets, key levels,
    openings and rises is kept. Raises: DataError."""
    teacher = SoundFont(font)
    make_folder(folder, DataError)
    plain = bank.with_wavers(None)
    for voice, source in voices.items():
        target = folder / f"waver_{voice:03d}.npz"
        own = plain.additions
        added = [rows_checksum(table, voice) for table in (own.key_levels, own.openings, own.rises)]
        measured = " ".join([bank.nets_checksum, *added])
        if not target.exists() or str(np.load(target)["measured"]) != measured:
            found = measure_waver(teacher, plain, voice, source)
            about = {"measured": np.array(measured)}
            if found is not None:
                about |= {"tops": found.tops, "moves": found.moves}
            write_arrays(target, about, DataError)
        yield target


def gathered_wavers(folder: Path, n_voices: int) -> Wavers:
    """The wavers of a bank's voices from a folder of ``waver_NNN.npz``; those of `STILL` have none."""
    found: list[Wavering | None] = [None] * n_voices
    for path in sorted(folder.glob("waver_???.npz")):
        voice = int(path.stem[6:])
        with np.load(path) as file:
            if voice < n_voices and voice not in STILL and "tops" in file:
                found[voice] = Wavering(file["tops"], file["moves"])
    return Wavers.of(found)
