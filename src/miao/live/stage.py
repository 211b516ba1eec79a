"""A player whose samples are made by the compiled engine, in the callback of a sound card.

Python decides (which notes start, end and are stolen) and writes chunks ahead of need; the engine holds the sounding
notes and makes the blocks. What is decided goes to it as knots, steps of controllers and nothing else, so that it
sounds as `synth.player` and `sound.desk` would make it: the same events, the same sound.
"""

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.errors import MiaoError
from miao.live.attacks import Attacks
from miao.sound.chorus import CHORUS_LEVEL, CHORUS_TYPES, USUAL
from miao.sound.limiter import HALF_TAPS, RELEASE_SECONDS, SMALLEST_REDUCTION, interpolation
from miao.sound.room import Acoustics, DrawnRoom, response_of
from miao.synth import oscillators
from miao.synth.brightness import LAW
from miao.synth.mastering import CEILING_DB
from miao.synth.note import Note
from miao.synth.player import FLOOR, Player
from miao.synth.rendering import ROOM_LEVEL
from miao.synth.settings import PlaySettings

_compiled: Any
try:
    import miao.live._engine as _engine

    _compiled = _engine
except ImportError:  # no compiler when the package was installed
    _compiled = None

LOOK_AHEAD_SECONDS = 0.0005  # of the limiter: it delays the sound by 1.0 ms more than this
AHEAD_SECONDS = 0.25  # chunks are written so long before they are heard,
SOON_SECONDS = 0.1  # or, where a key is waiting, at the least so long before
_A_FEW = 8  # notes whose chunks are written before it is asked whether one is: some 3 ms of work
KEPT_SECONDS = 0.1  # of a note behind what is heard
SPARE_SLOTS = 32
_NAMES = ("bend", "modulation", "pressure", "brightness", "volume", "expression", "pan", "reverb", "chorus")
_NUMBERS = {name: number for number, name in enumerate(_NAMES)}
USUAL_ROOM = DrawnRoom()
_REPORTS = 1024  # of notes that have begun to sound, that are kept


def needs_engine() -> None:
    """Raises: MiaoError where the compiled engine is missing."""
    if _compiled is None:
        raise MiaoError("playing live needs the compiled engine; install a C++ compiler and reinstall miao")


def clock_ns() -> int:
    """The clock that the engine keeps its time by, ns."""
    return int(_compiled.now_ns())


class Heard(NamedTuple):
    """The first sample of a note has been made."""

    handle: int
    sample: int
    block: int  # first sample of the block that it lies in,
    clock_ns: int  # and when the sound card asked for it


@dataclass(eq=False)
class _Sent:
    """What the engine knows of a note."""

    note: Note
    slot: int
    number: int
    times: NDArray[np.float64]  # of the knots it has,
    levels: NDArray[np.float32]  # and what they are
    base: int = 0  # knots before these
    changes: int = -1  # of its course by then


class Stage:
    """Parts that play one bank, and the engine that makes their sound; times are seconds of the engine's clock.

    ``is_plain`` leaves out gain and limiter: what comes from the desk, for comparisons.
    Raises: MiaoError where the compiled engine is missing.
    """

    def __init__(
        self, bank: Bank, channels: Sequence[int], settings: PlaySettings | None = None, *, gain_db: float = 14.0,
        room: Acoustics | None = USUAL_ROOM, chorus: str = USUAL, is_plain: bool = False,
    ) -> None:  # fmt: skip
        needs_engine()
        self.bank, self.channels = bank, tuple(channels)
        self.settings = settings or PlaySettings(polyphony=128)
        self.sample_rate = self.settings.sample_rate
        self.attacks = Attacks(bank, self.settings)
        self.player = Player(bank, channels, self.settings, known=self.attacks)
        self.n_left_out = 0
        self.heard: deque[Heard] = deque(maxlen=_REPORTS)
        self._numbers = itertools.count()
        self._handles: dict[int, int] = {}  # by the engine's number
        self._sent: dict[int, _Sent] = {}
        self._is_under_way = False
        self.engine = _compiled.Engine(
            self.sample_rate, len(channels), 2 * self.settings.polyphony + SPARE_SLOTS, self.player.noise, tk.N_CELLS,
            *oscillators.LEVEL_SCALE, FLOOR, LAW, 1.0 if is_plain else 10 ** (gain_db / 20), ROOM_LEVEL,
            (*_swing(chorus), CHORUS_LEVEL),
            self._responses(room),
            None if is_plain else _limiter_arguments(self.sample_rate),
        )  # fmt: skip

    @property
    def limiter_seconds(self) -> float:
        """By how much the limiter delays the sound."""
        return (HALF_TAPS + 2 * _half(self.sample_rate) - 2) / self.sample_rate

    def now(self, at_ns: int | None = None) -> float:
        """The time of the sample that the sound card plays next, or did at a time of the clock."""
        return float(self.engine.sample_at(clock_ns() if at_ns is None else at_ns)) / self.sample_rate

    def advance(self, until: float, now: float | None = None) -> None:
        """Settles what happens before a moment and hands it to the engine; now may be earlier, if it is known then."""
        for part, name, value, time in self.player.decide(until):
            number = len(_NAMES) + name if isinstance(name, int) else _NUMBERS.get(name)
            if number is not None:
                self.engine.step(part, number, value, time)
        self.player.write(until)
        self._carry(until if now is None else now)

    def look_ahead(
        self, now: float, seconds: float = AHEAD_SECONDS, is_called: Callable[[], bool] = lambda: False
    ) -> None:
        """Writes the chunks that will be needed soon, and forgets the notes that are over.

        What is not needed at once is left for another time if ``is_called`` says that something else is waiting.
        """
        self.collect()
        soon = now + min(SOON_SECONDS, seconds)
        while self.player.write(soon, _A_FEW):
            pass
        while not is_called() and self.player.write(now + seconds, _A_FEW):
            pass
        self._carry(now)
        for sent in self._sent.values():
            passed = sent.note.course.pass_by(now - KEPT_SECONDS)
            sent.base += passed
            sent.times, sent.levels = sent.times[passed:], sent.levels[passed:]

    def collect(self) -> None:
        """What the engine reports."""
        over, heard = self.engine.reports()
        for number in over:
            handle = self._handles.pop(number, None)
            if handle is not None and handle in self._sent and self._sent[handle].number == number:
                del self._sent[handle]
                self.player.forget(handle)
        self.heard.extend(Heard(self._handles.get(number, -1), *rest) for number, *rest in heard)

    def change_room(self, room: Acoustics | None) -> None:
        """What is sent goes over to another room from here on, or to none, within 50 ms; what the old one holds sounds
        on in it. Raises: MiaoError where the engine takes nothing more."""
        _check_taken(self.engine.change_room(self._responses(room)))

    def _responses(self, room: Acoustics | None) -> Floats | None:
        if room is None:
            return None
        return np.ascontiguousarray(response_of(self.sample_rate, room), np.float32)

    def begin_again(self, now: float, channels: Sequence[int] | None = None) -> None:
        """Whatever sounds fades out, and a new player begins, which may be told of what was before: it is then under
        way from here on. Its controllers stand where a new part's do. Raises: MiaoError where the engine takes nothing
        more."""
        for sent in self._sent.values():
            sent.note.cut(now)
        self._carry(now)
        _check_taken(self.engine.begin_again())
        self._sent.clear()
        self._handles.clear()
        self.channels = self.channels if channels is None else tuple(channels)
        start = int(now * self.sample_rate)
        self.player = Player(self.bank, self.channels, self.settings, start, self.attacks)
        self._is_under_way = True

    def _carry(self, now: float) -> None:
        """Hands the engine what is new of each note."""
        notes = self.player.notes
        for handle in [handle for handle, sent in self._sent.items() if handle not in notes]:
            gone = self._sent.pop(handle)  # it had to make room
            if gone.note.end > now:
                gone.note.cut(now)
                self._send(gone)
        for handle, note in list(notes.items()):
            sent = self._sent.get(handle) or self._start(handle, note, now)
            if sent is not None and sent.changes != note.course.changes:
                self._send(sent)

    def _start(self, handle: int, note: Note, now: float) -> _Sent | None:
        if not len(note.course):
            return None
        if self._is_under_way and note.strike.time < now:  # what has passed of it is not sent
            note.part(int(now * self.sample_rate), 1, self.sample_rate, self.player.bend_of(note))
            if note.end <= now:
                self.player.forget(handle)
                return None
        number, strike, sound = next(self._numbers), note.strike, note.sound
        slot = self.engine.start(
            number, strike.part, strike.pitch, strike.time, strike.glide, strike.glide_seconds, note.course.phase,
            strike.send, not self._is_under_way, sound.ratios, sound.cells, sound.shares,
            np.ascontiguousarray(sound.offsets), np.ascontiguousarray(sound.gains, np.float32),
            np.ascontiguousarray(sound.balance, np.float32), self.player.places[strike.part], sound.is_wide,
            note.brightness.lifts, note.brightness.weights,
        )  # fmt: skip
        if slot < 0:
            self.n_left_out += 1
            self.player.forget(handle)
            return None
        self._handles[number] = handle
        self._sent[handle] = _Sent(note, slot, number, np.zeros(0), note.course.levels[:0])
        return self._sent[handle]

    def _send(self, sent: _Sent) -> None:
        note, times, levels = sent.note, sent.note.course.times, sent.note.course.levels
        n = min(len(sent.times), len(times))
        differ = np.flatnonzero((sent.times[:n] != times[:n]) | (sent.levels[:n] != levels[:n]).any(axis=1))
        same = int(differ[0]) if len(differ) else n
        hz = np.concatenate([[0.0], note.course.hz])[same:]
        self.engine.knots(
            sent.slot, sent.number, sent.base + same, np.ascontiguousarray(times[same:]), hz,
            np.ascontiguousarray(levels[same:]), note.is_written,
        )  # fmt: skip
        sent.times, sent.levels, sent.changes = times, levels, note.course.changes


def _check_taken(is_taken: bool) -> None:
    if not is_taken:
        raise MiaoError("the engine takes nothing more; is anything playing?")


def _swing(chorus: str) -> tuple[float, float, float]:
    kind = CHORUS_TYPES[chorus]
    return kind.rate_hz, kind.depth_seconds, kind.feedback


def _half(sample_rate: int) -> int:
    return max(round(LOOK_AHEAD_SECONDS * sample_rate / 2), 1)


def _limiter_arguments(sample_rate: int) -> tuple[int, float, float, float, float, Floats]:
    """Those of the compiled limiter, as `Limiter` has them but for a window that a player does not feel."""
    ceiling = 10 ** ((CEILING_DB - 0.25) / 20)
    kernels = interpolation()
    return (
        _half(sample_rate), ceiling, ceiling / np.abs(kernels).sum(axis=1).max(), 1 / (RELEASE_SECONDS * sample_rate),
        SMALLEST_REDUCTION, np.ascontiguousarray(kernels[:, ::-1], np.float32),
    )  # fmt: skip
