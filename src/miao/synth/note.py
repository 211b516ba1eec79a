"""A note while it sounds: from the chunks that are written of it to what the oscillators are told of a block.

A note is known at *knots*, the times of its tokens, between which amplitudes run in straight lines. Nothing here looks
ahead of what has been decided: a release or a cut changes the note from its own moment on and leaves every earlier
sample as it was, so that it does not matter when it is learnt of, if only before its moment is rendered.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Floats
from miao.bank import tokens as tk
from miao.bank.voices import VoiceTable, pitch_hz
from miao.synth.envelope import LAST_FADE_SECONDS, Envelope
from miao.synth.oscillators import REACHED, NotePart

ONSET_SECONDS = 0.001  # from silence to a note's first level
SHORTEST_SECONDS = 0.002  # of a note, however soon its key comes up
FADE_SECONDS = 0.02  # of a note that is cut off
STOLEN_SECONDS = 0.005  # and of one that makes room for another
RING_SECONDS = 8.0  # what rings on without a key to let go (a drum) is faded out then
MOST_RELEASE_CHUNKS = 16
MOST_RELEASE_SECONDS = MOST_RELEASE_CHUNKS * tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.RELEASE] + 0.1
_INAUDIBLE_LEVELS = 80 / tk.LEVEL_STEP_DB  # below the note's loudest level
_WORTH_LEVELS = 6 / tk.LEVEL_STEP_DB  # notes that differ by less are as loud
_HIGHEST_HZ = 20_000.0
_ROW_TIMES: list[NDArray[np.float64]]  # of a chunk's rows
_ROW_TIMES = [np.arange(tk.CHUNK_STEPS, dtype=np.float64) * float(step) for step in tk.STEP_SECONDS]
_ROW_TIMES[tk.ATTACK] = np.insert(_ROW_TIMES[tk.ATTACK], 1, ONSET_SECONDS)
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
def timbre(table: VoiceTable, voice: int, pitch: int, sample_rate: int) -> Timbre:
    """The timbre of a voice at a pitch; partials beyond hearing or the sample rate are left out."""
    hz = float(pitch_hz(pitch))
    partials = table.partials(voice, pitch).below(min(0.47 * sample_rate, _HIGHEST_HZ) / hz)
    cells = np.minimum((partials.spread > 0).argmax(axis=0), tk.N_PARTIALS - 2).astype(np.int32)
    shares = np.ascontiguousarray(partials.spread[cells + 1, np.arange(len(cells))], np.float32)
    gains = table.gains(voice, pitch)
    partial_gains = np.ascontiguousarray(partials.spread.T @ gains[: tk.N_PARTIALS], np.float32)
    balance = np.ascontiguousarray(gains[tk.N_PARTIALS :], np.float32)
    is_wide = bool(table.is_wide[voice, pitch])
    return Timbre(np.ascontiguousarray(partials.ratios), cells, shares, partial_gains, balance, is_wide, hz)


class Chunk(NamedTuple):
    """A written chunk of a note."""

    levels: NDArray[np.float32]  # [a, C] as the nets have them
    rows: NDArray[np.float32]  # [a, C] what is heard of them, a silent one before an attack's; see `chunks.chunks_of`
    bends: NDArray[np.float64]  # [a] frequency of each row over that of the note
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

    times: NDArray[np.float64]
    levels: NDArray[np.float32]
    hz: NDArray[np.float64]
    bend: float
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
    timbre: Timbre
    gains: NDArray[np.float32]  # [P, 2] the timbre's, with the note's own gain and pan
    balance: NDArray[np.float32]  # [N, 2]
    offsets: NDArray[np.float32]  # [P] cycles
    noise_offsets: NDArray[np.int64]  # [N, 2]
    sway: NDArray[np.float32] | None  # [C] standard deviations by which this note differs, None without variation
    times: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # [n] of the knots not yet passed
    levels: NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, tk.N_CELLS), np.float32))  # [n, C]
    hz: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))  # [n - 1] from each knot to the next, unbent
    phase: float = 0.0  # cycles at times[0]
    kind: int = tk.ATTACK  # of the next chunk
    index: int = 0
    n_held: int = 0  # tokens of attack and sustain
    next_chunk: float = 0.0  # when it starts
    envelope: Envelope | None = None  # None: its voice's own
    pace: float = 1.0  # times that its release takes as long
    lag: float = 0.0  # seconds by which its release is late by now
    last: NDArray[np.float32] = field(default_factory=lambda: np.zeros(tk.N_CELLS, np.float32))  # token before it
    loudest: float = 0.0
    bend: float = 1.0  # frequency at the last knot over that of the note
    let_go: float = math.inf
    cut_at: float = math.inf
    _fade_seconds: float = FADE_SECONDS
    is_written: bool = False  # there is no next chunk
    repeats_from: float = math.inf  # sustain chunk from which it repeats itself, see `bank.lasting`
    recent: tuple[NDArray[np.float32], ...] = ()  # the last two sustain chunks before that
    _held: list["_Held"] = field(default_factory=list)  # the last two chunks of attack or sustain
    _undamped: "_Undamped | None" = None  # while it is let go

    @property
    def end(self) -> float:
        """When it falls silent, as far as is known: infinite while there is a next chunk."""
        return float(self.times[-1]) if self.is_written and len(self.times) else math.inf

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
        at = min(int(self.times.searchsorted(moment)), len(self.times) - 1)
        level = float(self.levels[at, : tk.PITCH_CELL].max()) if at >= 0 else float(tk.N_LEVELS)
        return self.strike.rings, self.let_go > moment, int(level / _WORTH_LEVELS), self.strike.time

    def wants(self, until: float) -> bool:
        """Whether its next chunk must be written before the samples up to a moment can be made."""
        return not self.is_written and self.known_until < until

    @property
    def known_until(self) -> float:
        """From when on the next chunk is heard: nothing later may decide it."""
        return float(self.times[-1]) if len(self.times) else self.next_chunk

    def take(self, chunk: Chunk) -> None:
        """Add the next chunk and work out what comes after it."""
        step = tk.STEP_SECONDS[self.kind]
        times = self.next_chunk + _ROW_TIMES[self.kind]
        end, rows, bends = self.next_chunk + tk.CHUNK_STEPS * step, chunk.rows, chunk.bends
        if self.kind != tk.RELEASE and len(self.times) and times[0] <= self.times[-1]:  # caught when it had begun
            n_past = int(times.searchsorted(self.times[-1], side="right"))
            times, rows, bends = times[n_past:], rows[n_past:], bends[n_past:]
        if self.kind == tk.RELEASE and self.pace != 1:
            late = (self.pace - 1) * tk.CHUNK_STEPS * step
            times, end, self.lag = self.next_chunk + self.pace * _ROW_TIMES[tk.RELEASE], end + late, self.lag + late
        if self.envelope is not None:
            is_held = self.kind != tk.RELEASE
            rows = self.envelope.held(times, rows) if is_held else self.envelope.released(self.let_go, rows)
        self.loudest = max(self.loudest, chunk.loudest)
        is_silent = chunk.at_end < max(1.0, self.loudest - _INAUDIBLE_LEVELS)
        if self.kind == tk.RELEASE:
            if self.index == 0:  # it begins with what sounds when it is let go
                times, rows, bends = times[1:], rows[1:], bends[1:]
            self.index += 1
            self.is_written = is_silent or self.index >= MOST_RELEASE_CHUNKS
        else:
            self._held = [*self._held[-1:], _Held(self.next_chunk, step, self.n_held, chunk.levels)]
            if self.kind == tk.SUSTAIN and self.index < self.repeats_from:
                self.recent = (*self.recent[-1:], chunk.levels)
            self.n_held += tk.CHUNK_STEPS
            self.index = self.index + 1 if self.kind == tk.SUSTAIN else 0
            self.kind = tk.SUSTAIN
            self.is_written = is_silent or (self.strike.rings and end - self.strike.time >= RING_SECONDS)
        self.next_chunk, self.last = end, chunk.levels[-1]
        self._append(times, rows, bends)
        if self.is_written:
            self._append_silence(step if self.strike.decay <= 0 else LAST_FADE_SECONDS)
        if self.let_go <= self.times[-1] and self.kind != tk.RELEASE:
            self._begin_release()
        if self.cut_at <= self.times[-1]:
            self._fade()

    def release(self, moment: float) -> None:
        """Let go of the note: its key is up and no pedal holds it."""
        if self.strike.rings or self.kind == tk.RELEASE or moment >= self.let_go:
            return
        self.let_go = max(moment, self.strike.time + SHORTEST_SECONDS)
        if len(self.times) and self.let_go <= self.times[-1]:
            self._begin_release()

    def catch(self, moment: float) -> None:
        """Hold the note again that was let go shortly before: its damper has left the string while that still sounds.

        It goes on as if it had not been let go; what the damper took off meanwhile comes back by the next knot.
        """
        kept, self.let_go, self._undamped = self._undamped, math.inf, None
        if kept is None or self.cut_at <= moment:
            return
        if moment <= self.times[-1]:
            self._truncate(moment)
        first = int(kept.times.searchsorted(self.times[-1], side="right"))
        self.times = np.concatenate([self.times, kept.times[first:]])
        self.levels = np.concatenate([self.levels, kept.levels[first:]])
        self.hz = np.concatenate([self.hz, kept.hz[max(first - 1, 0) :]])
        self.bend, self.kind, self.index, self.n_held = kept.bend, kept.kind, kept.chunk, kept.n_held
        self.next_chunk, self.last, self.is_written, self.lag = kept.next_chunk, kept.last, kept.is_written, kept.lag

    def cut(self, moment: float, fade_seconds: float = FADE_SECONDS) -> None:
        """Fade the note out from a moment on."""
        if moment >= self.cut_at:
            return
        self.cut_at, self._fade_seconds = max(moment, self.strike.time), fade_seconds
        if len(self.times) and self.cut_at <= self.times[-1]:
            self._fade()

    def part(self, begin: int, n_samples: int, sample_rate: int, bend: "Bend | None") -> NotePart | None:
        """What is heard of the note in a block of samples from ``begin`` on; knots behind it are forgotten.

        ``bend`` is that of its part, None where nothing moves.
        """
        at = self.times * sample_rate  # places are compared as samples only: a knot on a border belongs to one side
        end = begin + n_samples
        stop = min(int(at.searchsorted(end)) + 1, len(at))
        if stop < 2:
            return None
        times, knots, levels, hz = self.times[:stop], at[:stop] - begin, self.levels[:stop], self.hz[: stop - 1]
        pitch_times = times
        if bend is not None or self.strike.glide:
            pitch_times, hz = self._bent(times, hz, sample_rate, bend)
        phase = np.empty(len(pitch_times))
        phase[0] = 0.0
        np.cumsum(hz * (pitch_times[1:] - pitch_times[:-1]), out=phase[1:])
        phase += self.phase
        passed = self._passed(int(at[:stop].searchsorted(end)) - 1)  # one that lies on the border may be let go there
        if passed:
            self.phase = float(phase[passed if pitch_times is times else pitch_times.searchsorted(times[passed])])
            self.times, self.levels, self.hz = self.times[passed:], self.levels[passed:], self.hz[passed:]
        t = self.timbre
        return NotePart(
            knots, knots if pitch_times is times else pitch_times * sample_rate - begin, phase, levels, self.offsets,
            self.noise_offsets + (begin + math.ceil(knots[0])), t.ratios, t.cells, t.shares, self.gains, self.balance,
        )  # fmt: skip

    def pass_by(self, moment: float) -> int:
        """Forget the knots before the last one at or before a moment; gives how many.

        For an engine that has them already and keeps the phase itself.
        """
        passed = self._passed(int(self.times.searchsorted(moment, side="right")) - 1)
        if passed:
            self.times, self.levels, self.hz = self.times[passed:], self.levels[passed:], self.hz[passed:]
        return passed

    def _passed(self, last: int) -> int:
        """How many knots may be forgotten where ``last`` is the last one passed: a row left on the way needs the one
        before it."""
        while last > 0 and self.levels[last, REACHED] != 1:
            last -= 1
        return max(last, 0)

    def _bent(self, times: Doubles, hz: Doubles, sample_rate: int, bend: "Bend | None") -> tuple[Doubles, Doubles]:
        """The knots of the pitch, finer than those of the levels, and the frequency from each to the next."""
        grid = GRID_SAMPLES / sample_rate
        first, last = math.floor(times[0] / grid), math.ceil(times[-1] / grid)
        cells = np.arange(first, last + 1) * grid
        cents = np.zeros(len(cells)) if bend is None else bend(np.maximum(cells, self.strike.time), self.strike.time)
        if self.strike.glide:
            left = 1 - (cells - self.strike.time) / max(self.strike.glide_seconds, 1e-3)
            cents = cents + 100 * self.strike.glide * np.clip(left, 0, 1)
        is_new = np.diff(cents, prepend=np.nan) != 0
        cells, cents = cells[is_new], cents[is_new]
        inside = cells[(cells > times[0]) & (cells < times[-1])]
        fine = np.union1d(times, inside)
        middle = fine[:-1]
        at_level = np.clip(times.searchsorted(middle, side="right") - 1, 0, len(hz) - 1)
        at_cell = np.clip(cells.searchsorted(middle, side="right") - 1, 0, len(cells) - 1)
        return fine, hz[at_level] * np.exp2(cents[at_cell] / 1200)

    def _append(self, times: Doubles, rows: Floats, bends: Doubles) -> None:
        """Knots behind those that are there; a pitch runs straight from one token's to the next one's."""
        half_hz = 0.5 * self.timbre.hz * 2.0 ** (self.strike.cents / 1200)
        between = half_hz * (bends[1:] + bends[:-1])
        before, self.bend = self.bend, float(bends[-1])
        if not len(self.times):
            self.times, self.levels, self.hz = times, rows, between
            return
        first = half_hz * (before + bends[:1])
        self.hz = np.concatenate([self.hz, first, between])
        self.times = np.concatenate([self.times, times])
        self.levels = np.concatenate([self.levels, rows])

    def _append_silence(self, seconds: float) -> None:
        """A silent knot so long after the last one, at its pitch."""
        silent = np.zeros((1, tk.N_CELLS), np.float32)
        silent[0, REACHED] = 1
        self._append(self.times[-1:] + seconds, silent, np.array([self.bend]))

    def _truncate(self, moment: float) -> None:
        """Forget the knots from a moment on: the last one is the next row, reached as far as it is by then."""
        right = int(self.times.searchsorted(moment))
        if right == 0:  # the first knot itself
            self.times, self.levels, self.hz = self.times[:1], self.levels[:1], self.hz[:0]
            return
        left = right - 1
        share = (moment - self.times[left]) / (self.times[right] - self.times[left])
        row = self.levels[right].copy()
        row[REACHED] *= share
        self.times = np.append(self.times[:right], moment)
        self.levels = np.concatenate([self.levels[:right], row[None]])
        self.hz = self.hz[:right]
        self.bend = float(self.hz[left]) / (self.timbre.hz * 2.0 ** (self.strike.cents / 1200))

    def _begin_release(self) -> None:
        """The release starts from the last token before it; where the note has died away already there is none."""
        if self.is_written and (len(self.times) < 2 or self.let_go >= self.times[-2]):
            return
        self._undamped = _Undamped(
            self.times, self.levels, self.hz, self.bend, self.kind, self.index, self.n_held, self.next_chunk, self.last,
            self.is_written, self.lag,
        )  # fmt: skip
        self._truncate(self.let_go)
        held = next((h for h in reversed(self._held) if h.start < self.let_go - 1e-9), self._held[0])
        n = min(max(math.ceil((self.let_go - held.start) / held.step - 1e-6), 1), tk.CHUNK_STEPS)
        self.n_held, self.last = held.n_before + n, held.levels[n - 1]
        self.kind, self.index, self.next_chunk, self.is_written = tk.RELEASE, 0, self.let_go, False

    def _fade(self) -> None:
        self._truncate(self.cut_at)
        self._append_silence(self._fade_seconds)
        self.is_written = True


GRID_SAMPLES = 128  # bends are constant between multiples of these

Bend = Callable[[Doubles, float], Doubles]
"""(times, start of the note) -> cents at these times, each of them known by then."""
