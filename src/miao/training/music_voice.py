"""From recordings of music and their notes to voices that play dry and the room that they were played in.

Worth is measured on music that was held out: every fourth piece, or the last quarter where there are fewer than four.
The figures are those of the fit (`training.learn_music`): the log-mel error between the recording and what the notes
make of its mel bands, as the programs play them with one gain; with room, filter and noise floor fitted; and with the
voices' levels as well. If the last is no better than the one before, the levels stay those of the programs. Beside
these stand, where asked for, some seconds of the held-out music as they are rendered (`training.listening`).
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from miao.bank.bank import Bank
from miao.bank.learnt_voice import SUFFIX, LearntVoice, voices_folder
from miao.bank.waver import Waver
from miao.errors import BankError
from miao.measuring.power import FRAME_SECONDS, bands_below
from miao.measuring.rooms import DRY_DB, room_of
from miao.midi.general_midi import program_name
from miao.sound.room import BAND_HZ, DrawnRoom
from miao.sound.rooms import SUFFIX as ROOM_SUFFIX
from miao.sound.rooms import rooms_folder, save_room
from miao.sound.spectrum import SAMPLE_RATE
from miao.training.heard_ages import program_lasts, settled
from miao.training.kit_voice import STANDARD_KIT, kit_copy
from miao.training.learn_music import Fitted, MusicFit
from miao.training.listening import AFTER, BEFORE, IN_ROOM, Players, Takes, listened
from miao.training.music_model import MusicConfig, Piece
from miao.training.new_voice import program_copy
from miao.training.performances import (
    KIT,
    Performance,
    Span,
    as_piece,
    excerpts,
    instruments,
    split,
    voice_of,
)

KEPT_SUFFIX = ".fit"  # of files that a fit is kept in while it is made
Divide = Callable[[Sequence[int]], tuple[list[Span], list[Span]]]  # of pieces with so many frames: learnt, held out
_MAY_BE_ROOM = -25.0  # dB; a tail this faint is a note's own, or nobody's
_MOST_WORSE_DB = 0.1  # that held-out music may be for the voices to be dry
_MIDDLE = slice(3, 5)  # octaves of 500 and 1000 Hz
_TUNED_CENTS = 5.0  # from which on a recording's tuning is the voice's


@dataclass(frozen=True)
class MusicScores:
    """Log-mel errors of held-out music, dB."""

    n_pieces: int
    seconds: float
    one_gain: float  # the programs, dry
    room: float  # the programs in the room that was learnt, with filter and noise floor
    all: float  # the voices in the room


@dataclass(frozen=True)
class LearntRecording:
    """What was learnt from recordings of music: voices and the room that they were played in."""

    voices: tuple[LearntVoice, ...]  # play dry; that with most notes first
    room: DrawnRoom | None  # None where the recordings are dry
    fit: MusicFit
    scores: MusicScores
    takes: Takes  # held-out music as it was recorded and as it is rendered
    learnt_from: dict[str, float]  # errors on the music learnt from, by stage
    remarks: tuple[str, ...]  # what the user should know
    seconds: float  # that it took
    origin: str = ""
    places: dict[int, int] = field(default_factory=dict)  # which voice plays a track of the first score, both from 0

    @property
    def voice(self) -> LearntVoice:
        """The voice, or that with most notes."""
        return self.voices[0]

    def with_remarks(self, more: Sequence[str]) -> "LearntRecording":
        """The same, with more to be said."""
        return replace(self, remarks=(*more, *self.remarks))

    def save(
        self,
        voices: Path | None = None,
        rooms: Path | None = None,
        *,
        room_name: str | None = None,
        force: bool = False,
    ) -> list[Path]:
        """The files written: the voices and the room, called as the first of them, by default among the user's own.

        Raises: BankError or ConfigError if one exists and not ``force``, or cannot be written.
        """
        folder = voices_folder() if voices is None else voices
        written = [folder / f"{voice.name}{SUFFIX}" for voice in self.voices]
        room_path = (rooms_folder() if rooms is None else rooms) / f"{room_name or self.voice.name}{ROOM_SUFFIX}"
        for path in written if self.room is None else [*written, room_path]:
            if path.exists() and not force:
                raise BankError(f"{path} exists; overwrite it with force=True")
        for voice, path in zip(self.voices, written, strict=True):
            voice.save(path, force=force)
        if self.room is not None:
            save_room(room_path, self.room, {"name": room_path.stem, "origin": self.origin}, force=force)
            written.append(room_path)
        return written


def voice_names(name: str, programs: Sequence[int]) -> list[str]:
    """What voices from a recording are called: by the name if there is one, else by name and program."""
    if len(programs) == 1:
        return [name]
    slugs = ["kit" if p == KIT else
             "-".join("".join(c if c.isalnum() else " " for c in program_name(p, False).lower()).split())
             for p in programs]  # fmt: skip
    return [f"{name}-{slug}" for slug in slugs]


def programs_of(performances: Sequence[Performance], like: int | None) -> list[int]:
    """The programs that voices set out from: ``like`` for all notes, or those that play enough notes."""
    return [like] if like is not None else instruments(performances)[0]


def learn_music(
    bank: Bank,
    performances: Sequence[Performance],
    name: str,
    about: dict[str, str],
    *,
    like: int | None = None,
    config: MusicConfig | None = None,
    work: Path | None = None,
    players: Players | None = None,
    divide: Divide = split,
    keep_held_out: bool = False,
    tell: Callable[[float], None] = lambda done: None,
) -> LearntRecording:
    """Learn voices and their room from recordings of music: a voice for each instrument in the tracks chosen, the drum
    kit among them, or with ``like`` one for all their pitched notes, that sets out from that program.

    ``work`` is a folder that fits are kept in while they are made, so that the same call goes on where it was stopped;
    it is emptied in the end. With ``players`` (other systems by name, or none) held-out music is rendered for the
    report. ``divide`` says what is held out; with ``keep_held_out`` it is never learnt
    from. Raises: DataError if there is nothing to learn from.
    """
    began, config = time.perf_counter(), config or MusicConfig()
    remarks = [remark for performance in performances for remark in performance.remarks]
    programs = programs_of(performances, like)
    if like is None and (few := instruments(performances)[1]):
        others = ", ".join("drums" if p == KIT else program_name(p, False) for p in few)
        remarks.append(f"{others}: too few notes to learn from; they are played by the bank")
    cents, said = _tuning(performances)
    remarks += said
    tuned = replace(bank, table=replace(bank.table, tune_cents=bank.table.tune_cents + np.float32(cents)))
    if KIT in programs:
        tuned = tuned.with_voices([kit_copy(tuned, {"name": "kit", "bank": bank.name, "nets": bank.nets_checksum})])
    bandwidth = min(*(p.audio.sample_rate / 2 for p in performances), SAMPLE_RATE / 2)
    choices = _choices(tuned, programs)
    drawn = []
    for number, own in enumerate(choices):
        pairs = []
        for place, performance in enumerate(performances):
            pairs.append(as_piece(tuned, performance, programs, bands_below(bandwidth), is_one=like is not None,
                                  voices=own))  # fmt: skip
            tell(0.3 * (number + (place + 1) / len(performances)) / len(choices))
        drawn.append(([piece for piece, _ in pairs], [played for _, played in pairs]))
    train, test = divide([piece.n_frames for piece in drawn[0][0]])
    best = _nearest(tuned, choices, [excerpts(pieces, train) for pieces, _ in drawn], config)
    starts, (pieces, in_time) = choices[best], drawn[best]
    held_out = excerpts(pieces, test)
    kept = _Kept(work, pieces, config)
    trial, said = _trial(tuned, starts, excerpts(pieces, train), held_out, bandwidth, config, kept,
                         lambda done: tell(0.3 + 0.25 * done))  # fmt: skip
    remarks, config = remarks + said, trial.config
    scores = MusicScores(len(test), sum(span.seconds for span in test), trial.one_gain_error(held_out),
                         trial.room_error(held_out), trial.error(held_out))  # fmt: skip
    is_better = scores.all < scores.room
    names = voice_names(name, programs)
    about = about | {
        "bank": bank.name, "nets": bank.nets_checksum,
        "learnt_from": f"{len(pieces)} pieces, {sum(p.n_frames for p in pieces) * FRAME_SECONDS / 60:.1f} min",
        "held_out_one_gain_db": f"{scores.one_gain:.2f}", "held_out_room_db": f"{scores.room:.2f}",
        "held_out_db": f"{min(scores.all, scores.room):.2f}", "tuning_cents": f"{cents:.0f}",
    }  # fmt: skip
    places = _places(performances[0], programs, is_one=like is not None)
    takes = Takes({}, {}, 0.0)
    if players is not None:
        fit = trial.result(bandwidth)
        voices = _voices(tuned, programs, starts, names, _settled(tuned, programs, fit, in_time, like), about)
        spots = [(in_time[span.piece], span.first * FRAME_SECONDS, span.last * FRAME_SECONDS) for span in test]
        takes = listened(bank, spots, lambda p: _cast(p, programs, voices, is_one=like is not None), _room(fit)[0],
                         players, lambda done: tell(0.55 + 0.1 * done))  # fmt: skip
        remarks += as_rendered(takes.errors) if is_better else []
    if keep_held_out and is_better:
        final, errors = trial, trial.errors
    else:
        some = excerpts(pieces, train if keep_held_out else _all(pieces))
        final = Fitted(tuned, starts, some, config if is_better else replace(config, steps=0))
        errors = final.learn(lambda done: tell(0.65 + 0.35 * done), kept.path("all"))
    fit = final.result(bandwidth)
    if not is_better:
        remarks.append("the notes' own levels could not be improved; only filter and room were learnt")
        scores = replace(scores, all=scores.room)
    room, said = _room(fit)
    kept.clear()
    fit = _settled(tuned, programs, fit, in_time, like)
    return LearntRecording(
        _voices(tuned, programs, starts, names, fit, about), room, fit, scores, takes, errors, (*remarks, *said),
        time.perf_counter() - began, f"learnt from {performances[0].name}", places,
    )  # fmt: skip


def as_rendered(errors: Mapping[str, float]) -> list[str]:
    """What is to be said of takes, by their errors in dB, whose voices are better by the fit."""
    more = errors[AFTER] - min(errors[BEFORE], errors[IN_ROOM]) if AFTER in errors else 0.0
    if more <= 0:
        return []
    return [f"as rendered, what was held out is {more:.1f} dB further off than by the program; learn from more music"]


def _choices(bank: Bank, programs: Sequence[int]) -> list[list[int]]:
    """Voices of the bank that those learnt may set out from: what the nets were taught of the programs, and, if it is
    another, what plays them by default."""
    taught = [voice_of(bank, program) for program in programs]
    played = [own if program == KIT else bank.voice(program, 60, is_drum=False)
              for program, own in zip(programs, taught, strict=True)]  # fmt: skip
    may_be = [own if (voice := default_at(bank, other)) is None or voice.shift or voice.recorded else other
              for own, other in zip(taught, played, strict=True)]  # fmt: skip
    return [taught] if may_be == taught else [taught, may_be]


def default_at(bank: Bank, voice: int) -> LearntVoice | None:
    """The learnt voice that has a number in a bank, if it is one of those that play by default."""
    first = len(bank.table.kind) - len(bank.added) - len(bank.defaults)
    return bank.defaults[voice - first] if 0 <= voice - first < len(bank.defaults) else None


def _nearest(
    bank: Bank, choices: Sequence[Sequence[int]], drawn: Sequence[Sequence[Piece]], config: MusicConfig
) -> int:
    """Which voices are nearest to what is learnt from, in the room that suits each best."""
    if len(choices) == 1:
        return 0
    plain = replace(config, steps=0, is_damped=False)
    errors = [Fitted(bank, voices, pieces, plain).learn()["room"]
              for voices, pieces in zip(choices, drawn, strict=True)]  # fmt: skip
    return int(np.argmin(errors))


def _trial(bank: Bank, voices: Sequence[int], pieces: Sequence[Piece], held_out: Sequence[Piece], bandwidth: float,
           config: MusicConfig, kept: "_Kept", tell: Callable[[float], None]) -> tuple[Fitted, list[str]]:  # fmt: skip
    """A fit by which all is decided, and what is to be said of it. Whether what rings on once notes were let go is the
    room's is decided by measurement: it is, and notes are dry, if notes that end as the programs' do leave a room to be
    heard, and held-out music does not come out worse for it."""
    loose = Fitted(bank, voices, pieces, replace(config, is_damped=False))
    loose.learn(lambda done: tell(0.5 * done), kept.path("loose"))
    if not config.is_damped or bank.own_kits.issuperset(voices) or _room(loose.result(bandwidth))[0] is None:
        return loose, []
    damped = Fitted(bank, voices, pieces, config)
    damped.learn(lambda done: tell(0.5 + 0.5 * done), kept.path("trial"))
    worse = damped.error(held_out) - loose.error(held_out)
    if worse > _MOST_WORSE_DB:
        return loose, [f"notes ring on once let go as the programs' do; without that held-out music is {worse:.2f} dB "
                       "further off"]  # fmt: skip
    return damped, []


def _all(pieces: Sequence[Piece]) -> list[Span]:
    return [Span(number, 0, piece.n_frames) for number, piece in enumerate(pieces)]


def _voices(
    bank: Bank, programs: Sequence[int], starts: Sequence[int], names: Sequence[str], fit: MusicFit,
    about: dict[str, str],
) -> tuple[LearntVoice, ...]:  # fmt: skip
    """The voices of a fit, tuned as the bank is that it was made with."""
    found = []
    for program, start, name, shift in zip(programs, starts, names, fit.shifts, strict=True):
        default = default_at(bank, start)
        if default is not None:
            own = {"name": name, "set_out_from": f"program {program + 1}, {default.name} as it plays by default"}
            tuned = replace(default.table, tune_cents=bank.table.tune_cents[start : start + 1])
            voice = replace(default, table=tuned, about=about | own)
        elif program == KIT:
            voice = kit_copy(bank, about | {"name": name, "set_out_from": STANDARD_KIT})
        else:
            own = {"name": name, "set_out_from": f"program {program + 1}, {program_name(program, False)}"}
            voice = replace(program_copy(bank, program, 0.0, about | own), waver=_waver(bank, program))
        found.append(replace(voice, shift=shift))
    return tuple(found)


def _waver(bank: Bank, program: int) -> Waver | None:
    """What a program's notes do in their own time, which no fit to music hears, as it plays by default."""
    default = default_at(bank, bank.voice(program, 60, is_drum=False))
    return None if default is None else default.waver


def _settled(
    bank: Bank, programs: Sequence[int], fit: MusicFit, performances: Sequence[Performance], like: int | None
) -> MusicFit:
    """The fit, in which voices of programs that last have nothing of ages that few of their notes reach."""
    shifts = []
    for program, shift in zip(programs, fit.shifts, strict=True):
        if program != KIT and program_lasts(bank, program):
            notes = np.concatenate([p.played_by(program) if like is None else p.notes() for p in performances])
            shift = settled(shift, notes["damp"] - notes["start"])
        shifts.append(shift)
    return replace(fit, shifts=tuple(shifts))


def _places(performance: Performance, programs: Sequence[int], *, is_one: bool) -> dict[int, int]:
    """Which of the voices plays a track, by places: that of most of its notes."""
    found = {}
    for place in performance.tracks:
        notes = performance.score.tracks[place].notes
        played = np.where(notes["is_drum"], KIT, notes["program"]).astype(np.int64)
        if is_one:
            played = played[~notes["is_drum"]]
        if len(played):
            most = int(np.bincount(played).argmax())
            if is_one or most in programs:
                found[place] = 0 if is_one else list(programs).index(most)
    return found


def _cast(
    performance: Performance, programs: Sequence[int], voices: Sequence[LearntVoice], *, is_one: bool
) -> dict[int, LearntVoice]:
    """The voices by numbers of tracks, from 1."""
    return {place + 1: voices[n] for place, n in _places(performance, programs, is_one=is_one).items()}


def _tuning(performances: Sequence[Performance]) -> tuple[float, list[str]]:
    """How the recordings are tuned together, cents, 0 where that is as usual; and what is to be said of it."""
    each = np.array([p.tuning_cents for p in performances])
    cents = float(np.median(each))
    if abs(cents) < _TUNED_CENTS:
        return 0.0, []
    side = "above" if cents > 0 else "below"
    said = [f"the music is tuned {abs(cents):.0f} cents {side} A4 = 440 Hz, and so is what is learnt from it"]
    if np.abs(each - cents).max() > 10:
        said.append("the recordings are not tuned alike; those that are off are learnt less well")
    return cents, said


def _room(fit: MusicFit) -> tuple[DrawnRoom | None, list[str]]:
    """The room of a fit, and what is to be said about it."""
    level = float(np.mean(fit.room_db[_MIDDLE]))
    if level < max(_MAY_BE_ROOM, DRY_DB):
        return None, [f"the recordings are dry: what follows their notes is {-level:.0f} dB below them"]
    known = fit.known & (BAND_HZ >= 200)
    remarks = ["below 200 Hz music tells too little of a room; there it is like the usual one"]
    return room_of(fit.t60_seconds, fit.room_db, known, fit.early_db), remarks


class _Kept:
    """Where fits are kept while they are made: files that are called by what is learnt from."""

    def __init__(self, folder: Path | None, pieces: Sequence[Piece], config: MusicConfig) -> None:
        self.folder = folder
        digest = hashlib.sha256(repr(config).encode())
        for piece in pieces if folder is not None else ():
            digest.update(piece.heard_db.tobytes())
            for courses in piece.courses:
                digest.update(courses.levels.tobytes())
        self.key = digest.hexdigest()[:16]

    def path(self, stage: str) -> Path | None:
        """The file of a stage."""
        return None if self.folder is None else self.folder / f"{stage}-{self.key}{KEPT_SUFFIX}"

    def clear(self) -> None:
        """Removes them, and the folder if nothing else is in it."""
        if self.folder is None or not self.folder.is_dir():
            return
        for path in self.folder.glob(f"*{KEPT_SUFFIX}"):
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            self.folder.rmdir()
