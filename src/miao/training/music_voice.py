"""From recordings of music and their notes to a voice that plays dry and the room it was played in.

Worth is measured on music that was held out: every fourth piece, or the last quarter where there are fewer than four.
The figures are those of the fit (`training.learn_music`): the log-mel error between the recording and what the notes
make of its mel bands, as the program plays them with one gain; with room, filter and noise floor fitted; and with the
voice's levels as well. If the last is no better than the one before, the levels stay those of the program.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from miao.arrays import Floats, Records
from miao.bank.bank import Bank
from miao.bank.learnt_voice import LearntVoice
from miao.bank.voices import is_drum_voice, note_voice
from miao.errors import DataError
from miao.measuring.align import CONFIDENT, align
from miao.measuring.power import (
    FRAME_SECONDS,
    bands_below,
    cell_powers,
    noise_powers,
    note_courses,
    powers,
)
from miao.measuring.rooms import DRY_DB, room_of
from miao.midi.general_midi import program_name
from miao.midi.score import NOTE, Score
from miao.sound.audio import Audio, read_audio, resample
from miao.sound.room import BAND_HZ, DrawnRoom
from miao.sound.spectrum import HOP_SAMPLES, SAMPLE_RATE, log_mel
from miao.training.learn_music import Fitted, MusicConfig, MusicFit, Piece
from miao.training.new_voice import program_copy

LONGEST_SECONDS = 1800.0  # of music that is learnt from
SHORTEST_SECONDS = 5.0
HELD_OUT_EVERY = 4
_MAY_BE_ROOM = -25.0  # dB; a tail this faint is a note's own, or nobody's
_MIDDLE = slice(3, 5)  # octaves of 500 and 1000 Hz


@dataclass(frozen=True)
class Performance:
    """A recording and the notes played in it."""

    name: str
    audio: Audio
    score: Score
    tracks: tuple[int, ...]  # places in the score of those that play the instrument to be learnt


@dataclass(frozen=True)
class MusicScores:
    """Log-mel errors of held-out music, dB."""

    n_pieces: int
    seconds: float
    one_gain: float  # the program, dry
    room: float  # the program in the room that was learnt, with filter and noise floor
    all: float  # the voice in the room


@dataclass(frozen=True)
class MusicVoice:
    """What `learn_music` made."""

    voice: LearntVoice  # plays dry
    room: DrawnRoom | None  # None where the recordings are dry
    fit: MusicFit
    scores: MusicScores
    learnt_from: dict[str, float]  # errors on the music learnt from, by stage
    remarks: tuple[str, ...]
    seconds: float


def read_performance(sound: Path, score: Score, tracks: Sequence[int], longest: float) -> Performance:
    """A recording from its beginning, with its notes where they sound in it.

    Raises: DataError if the score is not what is played, or there is nothing to learn from.
    """
    audio = read_audio(sound, longest)
    if audio.duration < SHORTEST_SECONDS:
        raise DataError(
            f"{sound}: {audio.duration:.1f} s are too little to learn from; {SHORTEST_SECONDS:g} s are needed"
        )
    if np.abs(audio.samples).max() < 1e-4:
        raise DataError(f"{sound}: silent")
    notes = np.concatenate([track.notes for track in score.tracks]) if score.tracks else np.zeros(0, NOTE)
    if not len(notes):
        raise DataError(f"{sound}: its score holds no notes")
    found = align(audio.samples, audio.sample_rate, notes)
    if found.confidence < CONFIDENT:
        raise DataError(
            f"{sound}: does not sound like its notes (confidence {found.confidence:.2f}, {CONFIDENT:g} is needed); "
            "`miao match` says where they part"
        )
    moved = tuple(replace(track, notes=found.moved(track.notes)) for track in score.tracks)
    return Performance(sound.name, audio, replace(score, tracks=moved), tuple(tracks))


def learn_music(
    bank: Bank,
    performances: Sequence[Performance],
    name: str,
    about: dict[str, str],
    *,
    like: int | None = None,
    config: MusicConfig | None = None,
    tell: Callable[[float], None] = lambda done: None,
) -> MusicVoice:
    """Learn a voice and its room from recordings of music. ``like`` is the program to set out from; by default the one
    that the scores ask for.

    Raises: DataError if there is nothing to learn from.
    """
    began, config, remarks = time.perf_counter(), config or MusicConfig(), []
    program = asked_program(performances) if like is None else like
    bandwidth = min(*(p.audio.sample_rate / 2 for p in performances), SAMPLE_RATE / 2)
    for performance in performances:
        if np.mean(np.abs(performance.audio.samples) >= 0.999) > 1e-5:
            remarks.append(f"{performance.name}: clipped; its loud notes are duller than they were")
    pieces = []
    for number, performance in enumerate(performances):
        pieces.append(as_piece(bank, performance, program, bands_below(bandwidth)))
        tell(0.3 * (number + 1) / len(performances))
    train, test = split(pieces)
    trial = Fitted(bank, program, train, config)
    trial.learn(lambda done: tell(0.3 + 0.3 * done))
    scores = MusicScores(len(test), sum(p.courses.n_frames for p in test) * FRAME_SECONDS, trial.one_gain_error(test),
                         trial.error(test, with_shift=False), trial.error(test))  # fmt: skip
    is_better = scores.all < scores.room
    final = Fitted(bank, program, pieces, config if is_better else replace(config, steps=0))
    errors = final.learn(lambda done: tell(0.6 + 0.4 * done))
    fit = final.result(bandwidth)
    if not is_better:
        remarks.append("the notes' own levels could not be improved; only filter and room were learnt")
        scores = replace(scores, all=scores.room)
    room, said = _room(fit)
    remarks += said
    about = about | {
        "name": name, "bank": bank.name, "nets": bank.nets_checksum,
        "set_out_from": f"program {program + 1}, {program_name(program, False)}",
        "learnt_from": f"{len(pieces)} pieces, {sum(p.courses.n_frames for p in pieces) * FRAME_SECONDS / 60:.1f} min",
        "held_out_one_gain_db": f"{scores.one_gain:.2f}", "held_out_room_db": f"{scores.room:.2f}",
        "held_out_db": f"{scores.all:.2f}",
    }  # fmt: skip
    voice = replace(program_copy(bank, program, 0.0, about), shift=fit.shift)
    return MusicVoice(voice, room, fit, scores, errors, tuple(remarks), time.perf_counter() - began)


def asked_program(performances: Sequence[Performance]) -> int:
    """The program of most notes to be learnt."""
    programs = np.concatenate([p.score.tracks[i].notes["program"] for p in performances for i in p.tracks])
    return int(np.bincount(programs.astype(np.int64)).argmax())


def as_piece(bank: Bank, performance: Performance, program: int, n_bands: int) -> Piece:
    """A performance as it will be compared: the notes to be learnt by their courses, all others by their power."""
    audio = resample(performance.audio, SAMPLE_RATE)
    heard = np.ascontiguousarray(log_mel(audio.samples[:2], hop_samples=2 * HOP_SAMPLES)[:, :n_bands])
    tracks = performance.score.tracks
    notes = np.concatenate([tracks[i].notes for i in performance.tracks])
    others = _others(bank, [t.notes for i, t in enumerate(tracks) if i not in performance.tracks], len(heard), n_bands)
    return Piece(note_courses(bank, program, notes, len(heard)), heard, others)


def split(pieces: Sequence[Piece]) -> tuple[list[Piece], list[Piece]]:
    """What to learn from and what to hold out for the report."""
    if len(pieces) >= HELD_OUT_EVERY:
        test = set(range(HELD_OUT_EVERY - 1, len(pieces), HELD_OUT_EVERY))
        return [p for i, p in enumerate(pieces) if i not in test], [pieces[i] for i in sorted(test)]
    cuts = [int(0.75 * piece.courses.n_frames) for piece in pieces]
    return ([piece.part(0, cut) for piece, cut in zip(pieces, cuts, strict=True)],
            [piece.part(cut, piece.courses.n_frames) for piece, cut in zip(pieces, cuts, strict=True)])  # fmt: skip


def _others(bank: Bank, parts: list[Records], n_frames: int, n_bands: int) -> Floats | None:
    """The power of notes that are played along, as the bank plays them, [frames, bands]; None without any."""
    if not parts:
        return None
    noise, total = noise_powers(), np.zeros((n_frames, n_bands), np.float32)
    notes = np.concatenate(parts)
    voices = np.array([note_voice(int(n["program"]), int(n["pitch"]), is_drum=bool(n["is_drum"])) for n in notes])
    for voice in np.unique(voices).tolist():
        some = notes[voices == voice].copy()
        if is_drum_voice(voice):
            some["damp"] = np.maximum(some["damp"], some["start"] + 2.0)  # drums ring, whatever the key does
        matrices = {int(p): cell_powers(bank.table, voice, int(p), noise) for p in np.unique(some["pitch"])}
        total += powers(note_courses(bank, voice, some, n_frames), matrices, n_bands)
    return total


def _room(fit: MusicFit) -> tuple[DrawnRoom | None, list[str]]:
    """The room of a fit, and what is to be said about it."""
    level = float(np.mean(fit.room_db[_MIDDLE]))
    if level < max(_MAY_BE_ROOM, DRY_DB):
        return None, [f"the recordings are dry: what follows their notes is {-level:.0f} dB below them"]
    known = fit.known & (BAND_HZ >= 200)
    remarks = ["below 200 Hz music tells too little of a room; there it is like the usual one"]
    return room_of(fit.t60_seconds, fit.room_db, known), remarks
