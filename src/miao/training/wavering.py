"""How single notes waver (`bank.waver`), measured: what levels and pitch do beside their course, a note every few keys.

Quiet cells are left out, as they are measured beside loud ones and waver with these. Of recorded notes only that counts
which the same notes do not do as a voice plays them by itself: noise is never level from moment to moment.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d

from miao.arrays import AnyArray, Doubles, Floats, Reals
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.voices import pitch_hz
from miao.bank.waver import PARTS, STEP_SECONDS, Waver
from miao.datasets.samples import Recording
from miao.measuring.note import analyse_note
from miao.measuring.voice_fit import fit_voice
from miao.sound.loudness import energy_db
from miao.sound.spectrum import SAMPLE_RATE, log_mel, log_mel_error
from miao.training.by_sound import played

HOLD_SECONDS = 3.6
SEMITONES = 3  # from note to note
LEAST_SECONDS = 1.0  # that a recorded note is held, for its waver to be heard
_REACH = 6  # semitones from such a note, within which all that was recorded is to lie
SOON = 0.0, 0.1  # seconds since its start in which a note of a sampler sets in, as it wavers from there on
DEPTHS = 1.0, 0.75, 0.5  # of what was recorded, the deepest that costs no more than
MOST_WORSE_DB = 0.1  # log-mel error: a note does not waver as another one does at the same moment
_HEARD = 36  # notes that this is asked of, at most
_KEPT_SECONDS = 2.8  # later than that notes of a bank repeat themselves
_BEGUN_SECONDS, _ENDS_SECONDS = 0.2, 0.1  # at either end of a note, which are course
_COURSE_SECONDS = 0.12  # standard deviation, above which it is course and not waver: below about 1.3 Hz
_LEAST_SECONDS = 0.014  # the same, below which it is noise: above about 12 Hz
_QUIET, _FADE = 30.0, 6.0  # levels below the loudest cell (52 dB) from which on a cell is still, and over how many more
_MOST = 6.0  # levels
_MOST_PITCH = 15.0  # steps, 30 cents


def measured_waver(play: Callable[[int], Floats], pitches: Iterable[int], kind: int, sample_rate: int) -> Waver:
    """How notes waver once they have begun. ``play`` gives the note of a pitch, [2, S], held for `HOLD_SECONDS`."""
    keys = list(pitches)
    begun = round(_BEGUN_SECONDS / STEP_SECONDS)
    tokens = [_tokens(play(pitch), pitch, HOLD_SECONDS, kind, sample_rate)[begun:] for pitch in keys]
    moves = np.stack([_in_parts(_even(_wavers(levels))) for levels in tokens])
    return Waver(np.array(keys, np.uint8), moves, np.array(SOON, np.float32))


def wavering(bank: Bank, voice: LearntVoice, recordings: Sequence[Recording]) -> LearntVoice:
    """A voice that lasts whose held notes waver as recorded notes do, its own waver taken off.

    Still, if too few are held for long enough, or if the others (these, where there are none) are further from how they
    were recorded then.
    """
    still, number = replace(voice, waver=None), len(bank.table.kind)
    player = bank.with_voices([still])
    found = recorded_waver(recordings, lambda note: played(player, note, number), int(voice.table.kind[0]))
    if found is None:
        return still
    measured = {id(note) for note in waverers(recordings)}
    others = [note for note in recordings if id(note) not in measured] or list(recordings)
    some = [others[n] for n in np.linspace(0, len(others) - 1, min(len(others), _HEARD)).round().astype(int)]
    most = _error(bank, still, some) + MOST_WORSE_DB
    for depth in DEPTHS:
        trial = replace(still, waver=replace(found, moves=np.rint(depth * found.moves).astype(np.int8)))
        if _error(bank, trial, some) <= most:
            return trial
    return still


def _error(bank: Bank, voice: LearntVoice, recordings: Sequence[Recording]) -> float:
    """Mean log-mel error of notes that are as loud as they were recorded, dB."""
    player, errors = bank.with_voices([voice]), []
    for note in recordings:
        sound = played(player, note, len(bank.table.kind))
        errors.append(log_mel_error(note.mel, log_mel(sound) + energy_db(note.sound) - energy_db(sound)))
    return float(np.mean(errors))


def recorded_waver(
    recordings: Sequence[Recording], still: Callable[[Recording], Floats], kind: int
) -> Waver | None:  # fmt: skip
    """How recorded notes waver; None if too few are held for long enough.

    ``still`` gives a note as the voice that is to waver plays it yet. What that does counts as noise in what was
    recorded: each cell's waver is taken as far as its power is not noise's. Cells keep their power, and notes that are
    shorter than the longest go there and back.
    """
    chosen = waverers(recordings)
    if any(min((abs(r.pitch - c.pitch) for c in chosen), default=_REACH + 1) > _REACH for r in recordings):
        return None
    moves = [_own(recording, still(recording), kind) for recording in chosen]
    most = max(len(each) for each in moves)
    parts = np.stack([np.pad(_in_parts(each), ((0, most - len(each)), (0, 0)), "reflect") for each in moves])
    return Waver(np.array([r.pitch for r in chosen], np.uint8), parts)


def waverers(recordings: Sequence[Recording]) -> list[Recording]:
    """The notes that are listened to: three semitones apart at least, rising, the longest of those that are held
    for a second and are neither the softest nor the loudest, where there are others."""
    held = [r for r in recordings if r.hold_seconds >= LEAST_SECONDS]
    middle = sorted({r.velocity for r in recordings})[1:-1]
    chosen: list[Recording] = []
    for pitch in sorted({r.pitch for r in held}):
        if not chosen or pitch >= chosen[-1].pitch + SEMITONES:
            some = [r for r in held if r.pitch == pitch]
            chosen.append(max(some, key=lambda r: (r.velocity in middle, min(r.hold_seconds, HOLD_SECONDS))))
    return chosen


def _own(recording: Recording, still: Floats, kind: int) -> Doubles:
    """What a recorded note does that the same note, still, does not, levels [steps, C]."""
    seconds = min(recording.hold_seconds, HOLD_SECONDS)
    n = round(seconds * SAMPLE_RATE)
    begun, ends = (round(s / STEP_SECONDS) for s in (_BEGUN_SECONDS, seconds - _ENDS_SECONDS))
    theirs, ours = (_wavers(_tokens(sound[:, :n], recording.pitch, seconds, kind, SAMPLE_RATE)[begun:ends])
                    for sound in (recording.sound, still))  # fmt: skip
    power, noise = (np.square(moves).mean(axis=0) for moves in (theirs, ours))
    return _even(theirs * np.clip(1 - noise / np.maximum(power, 1e-9), 0, 1))


def _even(moves: Doubles) -> Doubles:
    """Moves with which cells keep their power, in place."""
    levels = moves[:, : tk.PITCH_CELL] * tk.LEVEL_STEP_DB
    moves[:, : tk.PITCH_CELL] -= 10 * np.log10(np.mean(10 ** (levels / 10), axis=0)) / tk.LEVEL_STEP_DB
    return moves


def _tokens(sound: Floats, pitch: int, hold_seconds: float, kind: int, sample_rate: int) -> Doubles:
    """A held note's levels every 20 ms from its start on, [steps, C]."""
    hz = float(pitch_hz(pitch))
    partials = fit_voice(sound, sample_rate, hz, kind).partials()
    held = analyse_note(sound, sample_rate, hz, hold_seconds, partials).tokens.held
    levels: Doubles = by_steps(held[:, None])[0]
    return levels


def by_steps(chunks: Sequence[Reals] | AnyArray) -> Doubles:
    """Attack and sustain chunks of notes, each [n, a, C], every 20 ms from their starts on, [n, steps, C]."""
    a_step = round(STEP_SECONDS / tk.STEP_SECONDS[tk.ATTACK])
    steps: Doubles = np.concatenate([chunks[0][:, ::a_step], *chunks[1:]], axis=1).astype(np.float64)
    return steps


def _wavers(levels: Doubles) -> Doubles:
    """What levels [steps, C] do beside their course."""
    return beside_course(levels, levels, _COURSE_SECONDS)[: round(_KEPT_SECONDS / STEP_SECONDS)]


def beside_course(levels: Doubles, sounding: Doubles, course_seconds: float) -> Doubles:
    """What levels do beside a course so slow (a standard deviation) where the cells of a sound that they are of are
    loud, [steps, C] each."""
    fast, slow = (gaussian_filter1d(levels, seconds / STEP_SECONDS, axis=0, mode="nearest")
                  for seconds in (_LEAST_SECONDS, course_seconds))  # fmt: skip
    mean = np.mean(sounding, axis=0)
    counts = np.clip((mean - (mean[: tk.PITCH_CELL].max() - _QUIET)) / _FADE, 0, 1)
    counts[tk.PITCH_CELL] = 1
    most = np.full(tk.N_CELLS, _MOST)
    most[tk.PITCH_CELL] = _MOST_PITCH
    moves: Doubles = np.clip(counts * (fast - slow), -most, most)
    return moves


def _in_parts(moves: Reals) -> NDArray[np.int8]:
    found: NDArray[np.int8] = np.rint(moves * PARTS).astype(np.int8)
    return found
