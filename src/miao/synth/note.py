"""A note while it sounds: from the chunks that are written of it to what the oscillators are told of a block.

A note is known at *knots*, the times of its tokens, between which amplitudes run in straight lines. Nothing here looks
ahead of what has been decided: a release or a cut changes the note from its own moment on and leaves every earlier
sample as it was, so that it does not matter when it is learnt of, if only before its moment is rendered.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles
from miao.bank import tokens as tk
from miao.bank.sides import Sides
from miao.bank.voices import VoiceTable, pitch_hz
from miao.synth.brightness import Brightness
from miao.synth.course import Sound, rows_of
from miao.synth.envelope import LAST_FADE_SECONDS, Envelope
from miao.synth.oscillators import REACHED

ONSET_SECONDS = 0.001  # from silence to a note's first level
SHORTEST_SECONDS = 0.002  # of a note, however soon its key comes up
FADE_SECONDS = 0.02  # of a note that is cut off
STOLEN_SECONDS = 0.005  # and of one that makes room for another
RING_SECONDS = 8.0  # what rings on without a key to let go (a drum) is faded out then
MOST_RELEASE_CHUNKS = 16
MOST_RELEASE_SECONDS = MOST_RELEASE_CHUNKS * tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.RELEASE] + 0.1
_INAUDIBLE_LEVELS = 70 / tk.LEVEL_STEP_DB  # below the note's loudest level
_WORTH_LEVELS = 6 / tk.LEVEL_STEP_DB  # notes that differ by less are as loud
_HIGHEST_HZ = 20_000.0
_ROW_TIMES: list[NDArray[np.float64]]  # of a chunk's rows
_ROW_TIMES = [np.arange(tk.CHUNK_STEPS, dtype=np.float64) * float(step) for step in tk.STEP_SECONDS]
_ROW_TIMES[tk.ATTACK] = np.insert(_ROW_TIMES[tk.ATTACK], 1, ONSET_SECONDS)
_NOTHING = np.zeros(tk.N_CELLS, np.float32)
_NOTHING.flags.writeable = False
_SAME_SECONDS = 1e-5  # lengths of notes that differ by less are the same


class Strike(NamedTuple):
    """A note as it starts: all that is known of it then."""

    time: float  # seconds
    part: int
    voice: int
    pitch: int
    velocity: float  # 0..1
    rings: bool = False  # nobody lets go of it: a drum
    cents: float = 0.0  # its own tuning, beside that of the part
    glide: float = 0.0  # semitones that its pitch starts away from its own,
    glide_seconds: float = 0.0  # and how long it takes to come home
    gain: float = 1.0
    pan: float = 0.0  # -1 left to 1 right
    send: float = 1.0  # factor on what its part sends to the room
    attack: float = 0.0  # -1 sharp to 1 soft,
    decay: float = 0.0  # -1 short to 1 long,
    release: float = 0.0  # -1 short to 1 long; see `envelope`


@dataclass(frozen=True, eq=False)
class Timbre:
    """What all notes of one voice and pitch share; the arrays are those of `oscillators.NotePart`."""

    ratios: NDArray[np.float64]
    cells: NDArray[np.int32]
    shares: NDArray[np.float32]
    gains: NDArray[np.float32]
    balance: NDArray[np.float32]
    is_wide: bool
    hz: float


@lru_cache(maxsize=2048)
def timbre(table: VoiceTable, sides: Sides | None, voice: int, pitch: int, sample_rate: int) -> Timbre:
    """The timbre of a voice at a pitch; partials beyond hearing or the sample rate are left out."""
    hz = float(pitch_hz(pitch))
    partials = table.partials(voice, pitch).below(min(0.47 * sample_rate, _HIGHEST_HZ) / hz)
    cells = np.minimum((partials.spread > 0).argmax(axis=0), tk.N_PARTIALS - 2).astype(np.int32)
    shares = np.ascontiguousarray(partials.spread[cells + 1, np.arange(len(cells))], np.float32)
    gains = table.gains(voice, pitch)
    left, right = np.ascontiguousarray(partials.spread.T @ gains[: tk.N_PARTIALS], np.float32).T
    turns = np.zeros(len(cells)) if sides is None else sides.turns(voice, pitch, cells + (shares > 0.5))
    both = [left, right * np.cos(2 * np.pi * turns), right * np.sin(2 * np.pi * turns)]
    partial_gains = np.ascontiguousarray(np.stack(both, axis=1), np.float32)
    balance = np.ascontiguousarray(gains[tk.N_PARTIALS :], np.float32)
    is_wide = bool(table.is_wide[voice, pitch])
    return Timbre(np.ascontiguousarray(partials.ratios), cells, shares, partial_gains, balance, is_wide, hz)


class Chunk(NamedTuple):
    """A written chunk of a note."""

    levels: NDArray[np.float32]  # [a, C] as the nets have them
    heard: Any  # `course.Rows` of what is heard of them, a silent one before an attack's; see `chunks.chunks_of`
    loudest: float  # highest level of it
    at_end: float  # and of its last quarter


class _Held(NamedTuple):
    """A chunk of attack or sustain, for when the note is let go within it."""

    start: float  # seconds
    step: float
    n_before: int  # tokens
    levels: NDArray[np.float32]  # [a, C]


class _Undamped(NamedTuple):
    """How a note would have gone on, had it not been let go: for when the pedal catches it."""

    course: Any
    kind: int
    chunk: int
    n_held: int
    next_chunk: float
    last: NDArray[np.float32]
    is_written: bool
    lag: float


@dataclass(eq=False)
class Note:
    """A note that is being written and heard; times in seconds."""

    strike: Strike
    sound: Sound
    course: Any  # a `course.Course`: its knots that have not been passed
    sway: NDArray[np.float32] | None  # [C] standard deviations by which this note differs, None without variation
    kind: int = tk.ATTACK  # of the next chunk
    index: int = 0
    n_held: int = 0  # tokens of attack and sustain
    next_chunk: float = 0.0  # when it starts
    envelope: Envelope | None = None  # None: its voice's own
    pace: float = 1.0  # times that its release takes as long
    most_release: int = MOST_RELEASE_CHUNKS
    lag: float = 0.0  # seconds by which its release is late by now
    last: NDArray[np.float32] = field(default_factory=lambda: _NOTHING)  # token before it
    loudest: float = 0.0
    let_go: float = math.inf
    cut_at: float = math.inf
    _fade_seconds: float = FADE_SECONDS
    is_written: bool = False  # there is no next chunk
    repeats_from: float = math.inf  # sustain chunk from which it repeats itself, see `bank.lasting`
    recent: tuple[NDArray[np.float32], ...] = ()  # the last two sustain chunks before that
    _held: list["_Held"] = field(default_factory=list)  # the last two chunks of attack or sustain
    _undamped: "_Undamped | None" = None  # while it is let go
    _brightness: Brightness | None = None  # None where it was never asked for

    @property
    def brightness(self) -> Brightness:
        """How bright it is at its knots."""
        if self._brightness is None:
            self._brightness = Brightness(self.sound, float(pitch_hz(self.strike.pitch)), self.strike.rings)
        return self._brightness

    @property
    def end(self) -> float:
        """When it falls silent, as far as is known: infinite while there is a next chunk."""
        return self.course.last if self.is_written and len(self.course) else math.inf

    @property
    def age(self) -> float:
        """Seconds from its start to its next chunk, as its voice counts them."""
        return self.next_chunk - self.strike.time - self.lag

    def key(self) -> tuple[float, ...]:
        """What decides the next chunk where a note stands by itself: all that was decided before follows from it."""
        age = round(self.age / _SAME_SECONDS)
        s = self.strike
        return self.kind, s.voice, s.pitch, s.velocity, self.index, self.n_held, age

    def worth(self, moment: float) -> tuple[bool, bool, int, float]:
        """How much it would be missed from a moment on: less if it is let go, quiet, old; drums are missed most."""
        level = self.course.loudest_at(moment) if len(self.course) else float(tk.N_LEVELS)
        return self.strike.rings, self.let_go > moment, int(level / _WORTH_LEVELS), self.strike.time

    def worth_until(self, moment: float) -> float:
        """The last moment at which it is worth as much as at a moment, as far as is known, if it is told nothing; then
        it is not over yet. Its chunks up to the moment must have been written."""
        until = math.nextafter(self.end, -math.inf) if self.is_written else self.known_until
        if self.let_go > moment:
            until = min(until, math.nextafter(self.let_go, -math.inf))
        if self.cut_at < math.inf or not len(self.course):
            return until
        times = self.course.times
        first = int(times.searchsorted(moment))
        worths = (self.course.levels[first:, :REACHED].max(axis=1).astype(np.float64) / _WORTH_LEVELS).astype(np.int64)
        others = np.flatnonzero(worths != worths[0])
        return min(until, float(times[first + others[0] - 1])) if len(others) else until

    def wants(self, until: float) -> bool:
        """Whether its next chunk must be written before the samples up to a moment can be made."""
        return not self.is_written and self.known_until < until

    @property
    def known_until(self) -> float:
        """From when on the next chunk is heard: nothing later may decide it."""
        return self.course.last if len(self.course) else self.next_chunk

    def take(self, chunk: Chunk) -> None:
        """Add the next chunk and work out what comes after it."""
        step, course = tk.STEP_SECONDS[self.kind], self.course
        start, times, heard, first = self.next_chunk, _ROW_TIMES[self.kind], chunk.heard, 0
        end = start + tk.CHUNK_STEPS * step
        if self.kind == tk.RELEASE:
            first = int(self.index == 0)  # it begins with what sounds when it is let go
            if self.pace != 1:
                late = (self.pace - 1) * tk.CHUNK_STEPS * step
                times, end, self.lag = self.pace * times, end + late, self.lag + late
        elif len(course) and start <= course.last:  # caught when it had begun
            first = int((start + times).searchsorted(course.last, side="right"))
        if self.envelope is not None and first < len(times):
            rows, bends, times = heard.levels[first:], heard.bends[first:], times[first:]
            if self.kind == tk.RELEASE:
                rows = self.envelope.released(self.let_go, rows)
            else:
                rows = self.envelope.held(start + times, rows)
            heard, first = rows_of(rows, bends), 0
        self.loudest = max(self.loudest, chunk.loudest)
        is_silent = chunk.at_end < max(1.0, self.loudest - _INAUDIBLE_LEVELS)
        if self.kind == tk.RELEASE:
            self.index += 1
            self.is_written = is_silent or self.index >= self.most_release
        else:
            self._held = [*self._held[-1:], _Held(self.next_chunk, step, self.n_held, chunk.levels)]
            if self.kind == tk.SUSTAIN and self.index < self.repeats_from:
                self.recent = (*self.recent[-1:], chunk.levels)
            self.n_held += tk.CHUNK_STEPS
            self.index = self.index + 1 if self.kind == tk.SUSTAIN else 0
            self.kind = tk.SUSTAIN
            self.is_written = is_silent or (self.strike.rings and end - self.strike.time >= RING_SECONDS)
        self.next_chunk, self.last = end, chunk.levels[-1]
        course.append(heard, start, times, first)
        if self.is_written:
            course.fall_silent(step if self.strike.decay <= 0 else LAST_FADE_SECONDS)
        if self.let_go <= course.last and self.kind != tk.RELEASE:
            self._begin_release()
        if self.cut_at <= course.last:
            self._fade()

    def release(self, moment: float) -> None:
        """Let go of the note: its key is up and no pedal holds it."""
        if self.strike.rings or self.kind == tk.RELEASE or moment >= self.let_go:
            return
        self.let_go = max(moment, self.strike.time + SHORTEST_SECONDS)
        if len(self.course) and self.let_go <= self.course.last:
            self._begin_release()

    def catch(self, moment: float) -> None:
        """Hold the note again that was let go shortly before: its damper has left the string while that still sounds.

        It goes on as if it had not been let go; what the damper took off meanwhile comes back by the next knot.
        """
        kept, self.let_go, self._undamped = self._undamped, math.inf, None
        if kept is None or self.cut_at <= moment:
            return
        if moment <= self.course.last:
            self.course.truncate(moment)
        self.course.rejoin(kept.course)
        self.kind, self.index, self.n_held, self.next_chunk = kept.kind, kept.chunk, kept.n_held, kept.next_chunk
        self.last, self.is_written, self.lag = kept.last, kept.is_written, kept.lag

    def cut(self, moment: float, fade_seconds: float = FADE_SECONDS) -> None:
        """Fade the note out from a moment on."""
        if moment >= self.cut_at:
            return
        self.cut_at, self._fade_seconds = max(moment, self.strike.time), fade_seconds
        if len(self.course) and self.cut_at <= self.course.last:
            self._fade()

    def part(
        self, begin: int, n_samples: int, sample_rate: int, bend: "Bend | None",
        brightness: Callable[[Doubles], Doubles] | None = None,
    ) -> Any:  # fmt: skip
        """What is heard of the note in a block of samples from ``begin`` on, as `oscillators.add_notes` takes it; None
        where nothing is. Knots behind it are forgotten. ``bend`` is that of its part, None where nothing moves, and
        ``brightness`` what it stands at (-1 to 1) at some times."""
        if brightness is not None:
            times = self.course.times
            heard = self.part(begin, n_samples, sample_rate, bend)
            return None if heard is None else self.brightness.of(heard, times, brightness)
        if bend is None and not self.strike.glide:
            return self.course.part(begin, n_samples, sample_rate)
        span = self.course.span(begin, n_samples, sample_rate)
        if span is None:
            return None
        return self.course.bent_part(begin, n_samples, sample_rate, *self._bent(span[0], span[1], sample_rate, bend))

    def _bent(self, first: float, last: float, sample_rate: int, bend: "Bend | None") -> tuple[Doubles, Doubles]:
        """From which times on the pitch is bent by which factors, from one time to another."""
        grid = GRID_SAMPLES / sample_rate
        cells = np.arange(math.floor(first / grid), math.ceil(last / grid) + 1) * grid
        cents = np.zeros(len(cells)) if bend is None else bend(np.maximum(cells, self.strike.time), self.strike.time)
        if self.strike.glide:
            left = 1 - (cells - self.strike.time) / max(self.strike.glide_seconds, 1e-3)
            cents = cents + 100 * self.strike.glide * np.clip(left, 0, 1)
        is_new = np.diff(cents, prepend=np.nan) != 0
        return cells[is_new], np.exp2(cents[is_new] / 1200)

    def _begin_release(self) -> None:
        """The release starts from the last token before it; where the note has died away already there is none."""
        if self.is_written and (len(self.course) < 2 or self.let_go >= self.course.times[-2]):
            return
        kept = self.course.copy()
        self._undamped = _Undamped(
            kept, self.kind, self.index, self.n_held, self.next_chunk, self.last, self.is_written, self.lag
        )
        self.course.truncate(self.let_go)
        held = next((h for h in reversed(self._held) if h.start < self.let_go - 1e-9), self._held[0])
        n = min(max(math.ceil((self.let_go - held.start) / held.step - 1e-6), 1), tk.CHUNK_STEPS)
        self.n_held, self.last = held.n_before + n, held.levels[n - 1]
        self.kind, self.index, self.next_chunk, self.is_written = tk.RELEASE, 0, self.let_go, False

    def _fade(self) -> None:
        self.course.truncate(self.cut_at)
        self.course.fall_silent(self._fade_seconds)
        self.is_written = True


GRID_SAMPLES = 128  # bends are constant between multiples of these

Bend = Callable[[Doubles, float], Doubles]
"""(times, start of the note) -> cents at these times, each of them known by then."""
