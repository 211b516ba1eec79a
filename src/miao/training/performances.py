"""Recordings of music with their notes: read, put where they sound, and cut into what is learnt from and held out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import numpy as np

from miao.arrays import Floats, Records
from miao.bank.bank import Bank
from miao.bank.voices import N_PROGRAMS, is_drum_voice, note_voice
from miao.errors import DataError
from miao.measuring.align import CONFIDENT, LONGEST_OFFSET_SECONDS, align
from miao.measuring.octaves import octaves_off
from miao.measuring.power import FRAME_SECONDS, cell_powers, noise_powers, note_courses, powers
from miao.midi.score import NOTE, Score
from miao.sound.audio import Audio, read_audio, read_header, resample
from miao.sound.spectrum import HOP_SAMPLES, SAMPLE_RATE, log_mel
from miao.training.music_model import Piece

LONGEST_SECONDS = 1800.0  # of music that is learnt from
SHORTEST_SECONDS = 5.0
HELD_OUT_EVERY = 4
KIT = N_PROGRAMS  # stands for the drum kit where programs are listed
FEWEST_NOTES = 12  # of an instrument in all recordings, from which on it is learnt
EXCERPT_SECONDS = 60.0
_BEFORE_SECONDS = 2.0  # of an excerpt, that sound into it
_MOST_DRIFT = 0.02
_MOST_FRAMES, _LEAST_LATE_SECONDS, _LOUD_DB = 4, 0.006, 50.0


@dataclass(frozen=True)
class Performance:
    """A recording and the notes played in it."""

    name: str
    audio: Audio
    score: Score  # its notes where they sound
    tracks: tuple[int, ...]  # places in the score of those that play the instruments to be learnt
    tuning_cents: float = 0.0  # of the recording, against A4 = 440 Hz
    remarks: tuple[str, ...] = ()

    def notes(self) -> Records:
        """The pitched notes of its tracks."""
        notes = self._all()
        pitched: Records = notes[~notes["is_drum"]]
        return pitched

    def played_by(self, program: int) -> Records:
        """The notes of its tracks that a program plays, or the drum kit."""
        notes = self._all()
        is_own = notes["is_drum"] if program == KIT else ~notes["is_drum"] & (notes["program"] == program)
        own: Records = notes[is_own]
        return own

    def _all(self) -> Records:
        parts = [self.score.tracks[i].notes for i in self.tracks]
        return np.concatenate(parts) if parts else np.zeros(0, NOTE)


@dataclass(frozen=True)
class Span:
    """A stretch of one of several pieces, in frames."""

    piece: int
    first: int
    last: int

    @property
    def seconds(self) -> float:
        """How long it is."""
        return (self.last - self.first) * FRAME_SECONDS


def read_performance(
    sound: Path, score: Score, tracks: Sequence[int], longest: float, like: int | None = None
) -> Performance:
    """A recording from its beginning, with its notes where they sound in it; ``like`` (1 to 128) is what plays them,
    whatever the score asks for.

    Raises: DataError if the score is not what is played, or an octave off, or there is nothing to learn from.
    """
    audio, remarks = read_audio(sound, longest), []
    if audio.duration < SHORTEST_SECONDS:
        raise DataError(
            f"{sound}: {audio.duration:.1f} s are too little to learn from; {SHORTEST_SECONDS:g} s are needed"
        )
    if np.abs(audio.samples).max() < 1e-4:
        raise DataError(f"{sound}: silent")
    whole = read_header(sound).duration
    if whole > audio.duration + 1:
        remarks.append(f"{sound.name}: learnt from the first {audio.duration:.0f} of its {whole:.0f} s")
    if np.mean(np.abs(audio.samples) >= 0.999) > 1e-5:
        remarks.append(f"{sound.name}: clipped; its loud notes are duller than they were")
    last = audio.duration * (1 + _MOST_DRIFT) + LONGEST_OFFSET_SECONDS
    cut = tuple(replace(track, notes=track.notes[track.notes["start"] < last]) for track in score.tracks)
    notes = np.concatenate([track.notes for track in cut]) if cut else np.zeros(0, NOTE)
    if not len(notes):
        raise DataError(f"{sound}: its score holds no notes")
    found = align(audio.samples, audio.sample_rate, notes)
    if found.confidence < CONFIDENT:
        raise DataError(
            f"{sound}: does not sound like its notes (confidence {found.confidence:.2f}, {CONFIDENT:g} is needed); "
            "`miao match` says where they part"
        )
    moved = tuple(replace(track, notes=found.moved(track.notes)) for track in cut)
    learnt, every = (np.concatenate([track.notes for track in some]) for some in ([moved[n] for n in tracks], moved))
    if like is not None:
        learnt["program"] = like - 1
    if off := octaves_off(audio.samples, audio.sample_rate, learnt, every, found.tuning_cents):
        raise DataError(
            f"{sound}: its notes lie an octave {'above' if off > 0 else 'below'} what sounds; transpose them by "
            f"{-12 * off:+d}, or say that an organ or a bell plays (--like, or its program), if one does"
        )
    return Performance(sound.name, audio, replace(score, tracks=moved), tuple(tracks), found.tuning_cents,
                       tuple(remarks))  # fmt: skip


def asked_program(performances: Sequence[Performance]) -> int:
    """The program of most notes to be learnt."""
    return int(np.bincount(np.concatenate([p.notes()["program"] for p in performances]).astype(np.int64)).argmax())


def instruments(performances: Sequence[Performance]) -> tuple[list[int], list[int]]:
    """The programs that play in the tracks to be learnt, and `KIT` for drums, most notes first: those with enough notes
    to learn from, and the others. Raises: DataError if none has enough."""
    drums = [np.full(len(p.played_by(KIT)), KIT) for p in performances]
    played = np.concatenate([*(p.notes()["program"] for p in performances), *drums]).astype(np.int64)
    counts = np.bincount(played, minlength=1)
    order = [int(p) for p in np.argsort(-counts, kind="stable") if counts[p]]
    learnt = [program for program in order if counts[program] >= FEWEST_NOTES]
    if not learnt:
        raise DataError(f"{len(played)} notes are too few to learn from; {FEWEST_NOTES} of one instrument are needed")
    return learnt, order[len(learnt) :]


def as_piece(
    bank: Bank,
    performance: Performance,
    programs: Sequence[int],
    n_bands: int,
    *,
    is_one: bool,
    voices: Sequence[int] | None = None,
) -> tuple[Piece, Performance]:
    """A performance as it will be compared: the notes to be learnt by their courses, all others by their power; and the
    performance with its notes as early or late as the programs must play them.

    ``is_one``: all pitched notes of its tracks are the one program's, whatever they ask for. If the drum kit is among
    the programs, the bank must have one of its own (`kit_voice`). ``voices`` are those of the bank that draw the notes
    of the programs, by default as the nets were taught of these.
    """
    voices = [voice_of(bank, program) for program in programs] if voices is None else voices
    audio = resample(performance.audio, SAMPLE_RATE)
    heard = np.ascontiguousarray(log_mel(audio.samples[:2], hop_samples=2 * HOP_SAMPLES)[:, :n_bands])
    piece = _drawn(bank, performance, programs, voices, heard, is_one=is_one)
    late = _lateness(bank, voices, piece)
    if abs(late) < _LEAST_LATE_SECONDS:
        return piece, performance
    moved = tuple(replace(track, notes=_later(track.notes, late)) for track in performance.score.tracks)
    performance = replace(performance, score=replace(performance.score, tracks=moved))
    return _drawn(bank, performance, programs, voices, heard, is_one=is_one), performance


def voice_of(bank: Bank, program: int) -> int:
    """What a bank was taught of a program, as a voice of it; for `KIT` the kit that the bank was given."""
    return max(bank.own_kits) if program == KIT else program


def _drawn(
    bank: Bank, performance: Performance, programs: Sequence[int], voices: Sequence[int], heard: Floats, *,
    is_one: bool,
) -> Piece:  # fmt: skip
    others = []
    for place, track in enumerate(performance.score.tracks):
        is_learnt = ~track.notes["is_drum"]
        if not is_one:
            is_learnt &= np.isin(track.notes["program"], programs)
            is_learnt |= track.notes["is_drum"] & (KIT in programs)
        others.append(track.notes[~is_learnt | (place not in performance.tracks)])
    parts = [performance.notes() if is_one else performance.played_by(program) for program in programs]
    courses = tuple(note_courses(bank, voice, notes, len(heard), rings=program == KIT)
                    for program, voice, notes in zip(programs, voices, parts, strict=True))  # fmt: skip
    return Piece(courses, heard, _power(bank, np.concatenate(others), *heard.shape))


def _later(notes: Records, seconds: float) -> Records:
    moved = notes.copy()
    for name in ("start", "end", "damp"):
        moved[name] += seconds
    return moved


def _lateness(bank: Bank, voices: Sequence[int], piece: Piece) -> float:
    """How much later the recording is than the notes as the voices would play them, seconds: what is left once a
    score was aligned by its onsets, which are heard later the slower notes speak."""
    played = np.zeros_like(piece.heard_db) if piece.others is None else piece.others.copy()
    for voice, courses in zip(voices, piece.courses, strict=True):
        matrices = {int(p): cell_powers(bank.table, voice, int(p), noise_powers()) for p in np.unique(courses.pitch)}
        played += powers(courses, matrices, played.shape[1])
    top = float(piece.heard_db.max())
    heard = np.maximum(piece.heard_db, top - _LOUD_DB)
    levels = 10 * np.log10(played + 1e-14)
    loud = (piece.heard_db > top - _LOUD_DB / 2) & (levels > levels.max() - _LOUD_DB / 2)
    levels = np.maximum(levels + (np.median((piece.heard_db - levels)[loud]) if loud.any() else 0.0), top - _LOUD_DB)
    shifts = np.arange(-_MOST_FRAMES, _MOST_FRAMES + 1)
    inside = slice(_MOST_FRAMES, len(heard) - _MOST_FRAMES)
    errors = np.array([np.abs(np.roll(levels, shift, axis=0) - heard)[inside].mean() for shift in shifts])
    best = int(np.clip(errors.argmin(), 1, len(shifts) - 2))
    a, b, c = errors[best - 1 : best + 2]
    return float((shifts[best] + np.clip(0.5 * (a - c) / max(a - 2 * b + c, 1e-9), -0.5, 0.5)) * FRAME_SECONDS)


def split(lengths: Sequence[int]) -> tuple[list[Span], list[Span]]:
    """What to learn from and what to hold out for the report, of pieces with so many frames: every fourth piece, or
    the last quarter of each where there are fewer than four."""
    whole = [Span(number, 0, n) for number, n in enumerate(lengths)]
    if len(lengths) >= HELD_OUT_EVERY:
        test = whole[HELD_OUT_EVERY - 1 :: HELD_OUT_EVERY]
        return [span for span in whole if span not in test], test
    cuts = [int(0.75 * n) for n in lengths]
    return ([Span(number, 0, cut) for number, cut in enumerate(cuts)],
            [Span(number, cut, n) for number, (cut, n) in enumerate(zip(cuts, lengths, strict=True))])  # fmt: skip


def excerpts(pieces: Sequence[Piece], spans: Sequence[Span]) -> list[Piece]:
    """Stretches of pieces in excerpts of equal length, a minute at the most, so that what is computed at a time is
    bounded."""
    found = []
    for span in spans:
        n = max(round(span.seconds / EXCERPT_SECONDS + 0.4), 1)
        edges = np.linspace(span.first, span.last, n + 1).astype(int).tolist()
        before = round(_BEFORE_SECONDS / FRAME_SECONDS)
        found += [pieces[span.piece].part(a, b, before) for a, b in pairwise(edges)]
    return found


def _power(bank: Bank, notes: Records, n_frames: int, n_bands: int) -> Floats | None:
    """The power of notes that are played along, as the bank plays them, [frames, bands]; None without any."""
    notes = notes[notes["start"] < n_frames * FRAME_SECONDS]
    if not len(notes):
        return None
    noise, total = noise_powers(), np.zeros((n_frames, n_bands), np.float32)
    voices = np.array([note_voice(int(n["program"]), int(n["pitch"]), is_drum=bool(n["is_drum"])) for n in notes])
    for voice in np.unique(voices).tolist():
        some = notes[voices == voice]
        matrices = {int(p): cell_powers(bank.table, voice, int(p), noise) for p in np.unique(some["pitch"])}
        total += powers(note_courses(bank, voice, some, n_frames, rings=is_drum_voice(voice)), matrices, n_bands)
    return total
