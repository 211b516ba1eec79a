"""The synthesis core: notes start, are let go and cut, controllers move, and blocks of stems come out.

It knows no score and nothing of what comes later. A file, a keyboard and a page feed it alike: whatever is told before
the block that it lies in makes the same samples, however the sound is cut into blocks.
"""

import heapq
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miao.bank.bank import Bank
from miao.bank.voices import N_PITCHES
from miao.sound.desk import pan_gains
from miao.sound.shelf import Shelf, silenced
from miao.synth import oscillators
from miao.synth.chunks import ChunkWriter, Known
from miao.synth.course import Sound, course_of
from miao.synth.ear import Ear
from miao.synth.envelope import Envelope, release_factor
from miao.synth.lots import lots_of_seed, noise_of
from miao.synth.note import MOST_RELEASE_CHUNKS, STOLEN_SECONDS, Bend, Note, Strike, timbre
from miao.synth.parts import Part
from miao.synth.settings import PlaySettings
from miao.synth.stealing import Ranking

SOFT_PEDAL_VELOCITY = 0.8
_KEPT_SECONDS = 0.1  # of controllers behind a block: longer than a note's knots lie apart
FLOOR = 1e-6  # amplitude below which nothing is added; what is too weak to be heard is silent in its chunk already
_CONTROL, _PRESS, _TUNE, _CUT, _RELEASE, _CATCH, _LIFT, _START = range(8)  # at one instant they count in this order


@dataclass(frozen=True)
class Block:
    """A stretch of every part's sound, before its fader."""

    start_sample: int
    stems: NDArray[np.float32]  # [parts, 2, n]
    busy: tuple[list[tuple[float, float]], ...]  # of each part, from when to when its notes sound, seconds
    extra: dict[int, NDArray[np.float32]]  # by part, [2, n] that goes to the room beyond the stem
    steps: list[tuple[int, str, float, float]]  # part, controller, value, time: what the mixing desk is told


class Pending:
    """A block whose samples are being made."""

    def __init__(self, block: Block, jobs: Sequence[Future[None]]) -> None:
        self._block, self._jobs = block, jobs

    def wait(self) -> Block:
        """The finished block. Raises: what went wrong in a job."""
        for job in self._jobs:
            job.result()
        return self._block


class Player:
    """A bank with parts that play it; times are seconds from sample 0.

    ``channels`` gives for each part the MIDI channel (0 to 15) that tells it from others where notes draw lots; above
    its four bits may stand what tells it from others of the channel where it reads the noise, see `stems.lots_of`;
    ``known`` is for players one after another that shall not write the same chunks anew.
    Events may be told in any order before `block` is called for the samples that they lie in; one that comes too late
    counts from the next sample on. At one instant controllers come first, then cuts, releases and starts.
    """

    def __init__(
        self, bank: Bank, channels: Sequence[int], settings: PlaySettings | None = None, start_sample: int = 0,
        known: Known | None = None,
    ) -> None:  # fmt: skip
        self.settings = settings or PlaySettings()
        self.position = start_sample  # the next sample
        self.sample_rate = self.settings.sample_rate
        self.n_left_out = 0  # notes that there was no room for
        self._bank = bank
        self._parts = [Part(channel & 15) for channel in channels]
        self._noise = noise_of(self.sample_rate)
        self._lots = lots_of_seed(self.settings.seed, self._noise.shape[1])
        self._places = [self._lots.places_of(channel) for channel in channels]
        self._ear = Ear(bank)
        self._writer = ChunkWriter(bank, self._ear.so_far, self.settings.variation, known)
        self._shelf = Shelf()
        self._notes: dict[int, Note] = {}
        self._ranking: Ranking | None = None  # of the notes, while they are so many that some must make room
        self._over: dict[int, Note] = {}  # that are over by what has been decided, before the samples have been made
        self._steps: list[tuple[int, str, float, float]] = []  # for the mixing desk, not yet handed on
        self._handles, self._order = count(), count()
        self._events: list[tuple[float, int, int, int, object]] = []  # a heap
        self._to_start: set[int] = set()
        self._early: dict[int, int] = {}  # notes that are let go or cut at the instant of their start

    @property
    def is_silent(self) -> bool:
        """Whether no note sounds and nothing is to come that has been told."""
        return not (self._notes or self._over or self._events)

    @property
    def n_notes(self) -> int:
        """How many notes sound."""
        return len(self._notes)

    def start(self, strike: Strike) -> int:
        """A note starts; gives the handle by which it is let go or cut."""
        handle = next(self._handles)
        self._to_start.add(handle)
        self._tell(strike.time, _START, handle, strike)
        return handle

    def lift(self, handle: int, time: float) -> None:
        """The key of a note comes up, but a pedal may hold it; only a bank that hears the context minds."""
        if not self._ear.is_deaf:
            self._tell(time, _LIFT, handle, None)

    def release(self, handle: int, time: float) -> None:
        """A note is let go: it dies away as its voice does."""
        self._tell(time, _RELEASE, handle, None)

    def catch(self, handle: int, time: float) -> None:
        """A note that was let go less than a tenth of a second before is held again, see `Note.catch`."""
        self._tell(time, _CATCH, handle, None)

    def cut(self, handle: int, time: float) -> None:
        """A note is cut off: it is gone within 20 ms."""
        self._tell(time, _CUT, handle, None)

    def control(self, part: int, name: str, value: float, time: float) -> None:
        """A controller of a part takes a value: bend (semitones), modulation, pressure, brightness, soft, attack, decay
        and release (0 to 1). Of the last four counts what they stand at when a note starts.

        Others, such as faders, are no matter of the player's and go along with the block that they lie in.
        """
        self._tell(time, _CONTROL, part, (name, value))

    def press(self, part: int, pitch: int, value: float, time: float) -> None:
        """A key of a part is pressed harder while it is down, 0 to 1: vibrato of its notes alone."""
        self._tell(time, _PRESS, part, (pitch, value))

    def tune(self, part: int, pitch: int, cents: float, time: float) -> None:
        """What sounds of a key of a part moves by some cents; notes that start later have it in their own tuning."""
        self._tell(time, _TUNE, part, (pitch, cents))

    def prefetch(self, voice: int, pitches: Iterable[int] = range(21, 109)) -> None:
        """Have a voice at hand before its first note: its timbres, and nets that have been run."""
        chosen = list(pitches)
        for pitch in chosen:
            timbre(self._bank.table, self._bank.sides, voice, pitch, self.sample_rate)
        strikes = [Strike(0.0, 0, voice, pitch, 80 / 127) for pitch in chosen]
        ChunkWriter(self._bank, self._ear.so_far).write([self._note(strike) for strike in strikes], 0.2)

    # for an engine that makes the samples itself: see `live`

    @property
    def notes(self) -> Mapping[int, Note]:
        """The notes that sound or are over, by their handles."""
        return self._notes

    @property
    def noise(self) -> NDArray[np.float32]:
        """The noise that bands are read from, see `band_noise.noise_table`."""
        return self._noise

    @property
    def places(self) -> list[NDArray[np.int64]]:
        """Where each part reads it at sample 0, [N, 2] each."""
        return self._places

    def decide(self, until: float) -> list[tuple[int, str | int, float, float]]:
        """What happens before a moment is settled, and no samples are made.

        Gives all steps of controllers that an engine must know of: part, name (of a key's pressure the pitch, of its
        tuning `N_PITCHES` more), value, time. The chunks that notes need are written by `write`.
        """
        self._ear.until = max(until, self._ear.until)
        moves: list[tuple[int, str | int, float, float]] = []
        self._apply(until, [], moves)
        self._over.clear()
        for part in self._parts:
            part.forget(until - _KEPT_SECONDS)
        if not self._ear.is_deaf:
            self._ear.forget(until)
        return moves

    def write(self, until: float, most: int | None = None) -> bool:
        """Have the chunks written that are heard before a moment, which may lie ahead of what is decided: all, or those
        of so many notes that need them first. Gives whether there were any."""
        waiting = [note for note in self._notes.values() if note.wants(until)]
        if most is not None:
            waiting = heapq.nsmallest(most, waiting, key=lambda note: note.known_until)
        self._writer.write(waiting, until)
        return bool(waiting)

    def bend_of(self, note: Note) -> Bend | None:
        """What moves the pitch of a note; None where nothing does."""
        return self._parts[note.strike.part].bend(note.strike.pitch)

    def is_settled(self, until: float) -> bool:
        """Whether nothing is still to be decided up to a moment."""
        return not self._events or self._events[0][0] > until

    def forget(self, handle: int) -> None:
        """A note is over, or is not to be heard any more."""
        self._notes.pop(handle, None)
        if self._ranking is not None:
            self._ranking.gone(handle)

    def block(self, n_samples: int) -> Block:
        """The next samples of all stems."""
        return self.begin(n_samples).wait()

    def begin(self, n_samples: int, pool: ThreadPoolExecutor | None = None, known: float = 0.0) -> Pending:
        """The next samples, being made by the threads of a pool, part by part; the next block may be begun.

        ``known`` is a moment up to which everything has been told: then chunks are written side by side for all that
        sounds up to there, which is quicker, and nothing more may be told of before it.
        """
        begin, end = self.position, self.position + n_samples
        until = end / self.sample_rate
        if until > self._ear.until:
            self._ear.until = max(until, known)
            self._apply(self._ear.until, self._steps)
            self._writer.write(self._notes.values(), self._ear.until)
        steps = [step for step in self._steps if step[3] < until]
        self._steps = [step for step in self._steps if step[3] >= until]
        stems = self._shelf.lend(len(self._parts), 2, n_samples)
        extra: dict[int, NDArray[np.float32]] = {}
        busy: tuple[list[tuple[float, float]], ...] = tuple([] for _ in self._parts)
        parts: dict[int, list[Any]] = {}
        sends: dict[int, list[float]] = {}
        over = []
        for handle, note in (*self._over.items(), *self._notes.items()):
            strike = note.strike
            if strike.time >= until:
                continue
            brightness = self._parts[strike.part].brightness
            heard = note.part(
                begin, n_samples, self.sample_rate, self.bend_of(note), None if brightness is None else brightness.at
            )
            busy[strike.part].append((strike.time, note.end))
            if heard is not None:
                parts.setdefault(strike.part, []).append(heard)
                sends.setdefault(strike.part, []).append(strike.send - 1)
            if self._is_told(note, until):
                over.append(handle)
        for handle in over:
            self.forget(handle)
        self._over = {handle: note for handle, note in self._over.items() if not self._is_told(note, until)}
        orders: list[oscillators.Order] = []
        for i in range(len(stems)):
            if i not in parts:
                silenced(stems[i])
        for i in sorted(parts, key=lambda part: -len(parts[part])):  # the largest first
            orders.append((stems[i], parts[i], self._places[i], False))
            if any(sends[i]):
                extra[i] = np.empty((2, n_samples), np.float32)
                more = [part.scaled(send) for part, send in zip(parts[i], sends[i], strict=True)]
                orders.append((extra[i], more, self._places[i], True))
        work = oscillators.work_on_notes(orders, self._noise, begin, FLOOR)
        jobs = [] if pool is None else [pool.submit(work) for _ in orders[: os.cpu_count() or 1]]
        if pool is None:
            work()
        self.position = end
        for part in self._parts:
            part.forget(until - _KEPT_SECONDS)
        if not self._ear.is_deaf:
            self._ear.forget(until)
        return Pending(Block(begin, stems, busy, extra, steps), jobs)

    def _is_told(self, note: Note, until: float) -> bool:
        """Whether nothing is heard of a note from a moment on."""
        return note.end + oscillators.PAST / self.sample_rate <= until

    # events

    def _tell(self, time: float, kind: int, target: int, what: object) -> None:
        if not math.isfinite(time):
            raise ValueError(f"an event at {time} s")
        heapq.heappush(self._events, (max(time, self._ear.until), kind, next(self._order), target, what))

    def _apply(
        self,
        until: float,
        steps: list[tuple[int, str, float, float]],
        moves: list[tuple[int, str | int, float, float]] | None = None,
    ) -> None:
        """What happens before a moment, in its order; what is no matter of ours is added to the steps.

        All controllers and pressed keys are added to ``moves``, where that is wanted.
        """
        while self._events and self._events[0][0] < until:
            time, kind, _, target, what = heapq.heappop(self._events)
            if kind == _CONTROL:
                assert isinstance(what, tuple)
                name, value = what
                if moves is not None:
                    moves.append((target, name, value, time))
                if name in Part.NAMES:
                    self._parts[target].set(name, value, time)
                else:
                    steps.append((target, name, value, time))
            elif kind == _PRESS:
                assert isinstance(what, tuple)
                pitch, value = what
                self._parts[target].press(pitch, value, time)
                if moves is not None:
                    moves.append((target, pitch, value, time))
            elif kind == _TUNE:
                assert isinstance(what, tuple)
                pitch, cents = what
                self._parts[target].tune(pitch, cents, time)
                if moves is not None:
                    moves.append((target, N_PITCHES + pitch, self._parts[target].tuned(pitch), time))
            elif kind == _START:
                assert isinstance(what, Strike)
                self._start(target, what if what.time == time else what._replace(time=time))
            elif kind == _LIFT:
                self._ear.lift(target, time)
            elif target in self._notes:
                note = self._notes[target]
                if kind == _RELEASE:
                    note.release(time)
                elif kind == _CUT:
                    note.cut(time)
                else:
                    self._writer.write([note], time)  # its release, up to here, in blocks of any size
                    note.catch(time)
                if self._ranking is not None:
                    self._ranking.told(target)
                if not self._ear.is_deaf:
                    (self._ear.catch if kind == _CATCH else self._ear.release)(target, time)
            elif target in self._to_start and kind != _CATCH:
                self._early[target] = min(kind, self._early.get(target, kind))

    def _start(self, handle: int, strike: Strike) -> None:
        self._to_start.discard(handle)
        early = self._early.pop(handle, None)
        if early == _CUT:
            return
        part = self._parts[strike.part]
        if part.soft >= 0.5:
            strike = strike._replace(velocity=SOFT_PEDAL_VELOCITY * strike.velocity)
        if part.attack or part.decay or part.release:
            strike = strike._replace(attack=part.attack, decay=part.decay, release=part.release)
        if tuned := part.tuned(strike.pitch):
            strike = strike._replace(cents=strike.cents - tuned)
        if len(self._notes) >= self.settings.polyphony:
            self._make_room(strike.time)
        elif len(self._notes) < self.settings.polyphony // 2:
            self._ranking = None
        note = self._note(strike)
        self._notes[handle] = note
        if self._ranking is not None:
            self._ranking.told(handle)
        if not self._ear.is_deaf:
            self._ear.start(handle, strike)
        if early == _RELEASE:
            note.release(strike.time)

    def _make_room(self, moment: float) -> None:
        """Fade out the note that is missed least: one that is let go, then the quietest, the oldest, drums last.

        One that has not been heard yet is left out altogether, as are all beyond twice the limit.
        """
        if self._ranking is None:
            self._ranking = Ranking(self._notes)
        for handle in self._ranking.settle(moment, self._writer.write):
            self._over[handle] = self._notes[handle]  # its last samples may not have been made yet
            self.forget(handle)
        limit = self.settings.polyphony
        if self._ranking.n_whole < limit and len(self._notes) < 2 * limit:
            return
        self.n_left_out += 1
        handle = self._ranking.least(moment)
        if self._notes[handle].strike.time < moment and len(self._notes) < 2 * limit:
            self._notes[handle].cut(moment, STOLEN_SECONDS)
            self._ranking.told(handle)
        else:
            self.forget(handle)

    def _note(self, strike: Strike) -> Note:
        sound = timbre(self._bank.table, self._bank.sides, strike.voice, strike.pitch, self.sample_rate)
        lots, variation = self._lots.of_note(strike, self._parts[strike.part].channel), self.settings.variation
        gains, balance = sound.gains, sound.balance
        if strike.gain != 1 or strike.pan:
            own = (strike.gain * pan_gains(strike.pan)).astype(np.float32)
            gains, balance = gains * own[[0, 1, 1]], balance * own
        turns, pace = lots.turns[: len(sound.ratios)], self._bank.release_pace(strike.voice)
        own_sound = Sound(sound.ratios, sound.cells, sound.shares, turns, gains, balance, sound.is_wide)
        return Note(
            strike, own_sound, course_of(sound.hz * 2.0 ** (strike.cents / 1200), own_sound),
            np.float32(variation) * lots.sway if variation else None,
            next_chunk=strike.time, repeats_from=self._bank.repeats_from(strike.voice),
            envelope=Envelope(strike.time, strike.attack, strike.decay) if strike.attack or strike.decay else None,
            pace=pace * release_factor(strike.release), most_release=max(int(MOST_RELEASE_CHUNKS / pace), 1),
        )  # fmt: skip

    def voice(self, program: int, pitch: int, *, is_drum: bool, bank: int = 0) -> int:
        """Which voice of its bank plays a note, see `Bank.voice`."""
        return self._bank.voice(program, pitch, is_drum=is_drum, bank=bank)
