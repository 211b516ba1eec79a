"""From a score to stems: notes become audio tokens chunk by chunk, tokens become sound block by block.

All notes of a block decode side by side, one batch a chunk kind, and each chunk is written from what is known when it
starts. While the samples of one block are made on other threads, the next block decodes. Memory is bounded by how many
notes sound at once, not by the length of the piece.
"""

import math
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.frames import HOP_SECONDS, TOKEN_SECONDS, WINDOW_SECONDS, encode_frames, seconds_to_sample, window_of
from miao.bank.voices import VoiceTable, is_drum_voice, note_voice, pitch_hz
from miao.midi.score import Score, Track
from miao.synth import oscillators

BLOCK_SECONDS = HOP_SECONDS
MAX_POLYPHONY = 1024  # beyond it the oldest notes are faded out
ONSET_SECONDS = 0.001  # from silence to a note's first level
FADE_SECONDS = 0.02  # of a note that is cut off
DRUM_SECONDS = 8.0  # a drum that still rings then is faded out
VIBRATO_HZ, VIBRATO_CENTS = 5.5, 50.0  # at full modulation wheel or pressure
SOFT_PEDAL_VELOCITY = 0.8
_FLOOR = 1e-5  # amplitude below which a partial or band is left out
_MASKED = 10 ** (-72 / 20)  # likewise, as a share of the loudest amplitude of the note's part in a block
_AHEAD_SECONDS = 0.025  # how far beyond a block chunks must have begun, so that its last token leads somewhere
_MAX_RELEASE_CHUNKS = 16
_INAUDIBLE_LEVELS = 80 / tk.LEVEL_STEP_DB  # below the note's loudest level
_SPREAD_TO_DEVIATION = 1.8  # standard deviation of a logistic of scale 1
_MOST_SPREAD = 0.5  # levels: where nothing is heard nets are unsure by up to fifty, which would be heard
_HATS, _WHISTLES, _GUIROS, _CUICAS, _TRIANGLES = (42, 44, 46), (71, 72), (73, 74), (78, 79), (80, 81)
_CHOKES = {key: group for group in (_HATS, _WHISTLES, _GUIROS, _CUICAS, _TRIANGLES) for key in group}
_KNOWN_CHUNKS = 4096  # written ones that are kept, 10 kB each
_SAME_SECONDS = 1e-5  # lengths of notes that differ by less are the same
_ENCODED_AT_ONCE = 4  # windows; more would cost memory and gain nothing


@dataclass(frozen=True)
class Block:
    """A stretch of every track's sound, before its faders."""

    start_sample: int
    stems: NDArray[np.float32]  # [tracks, 2, n]


@dataclass(frozen=True, eq=False)
class _Timbre:
    """What all notes of one voice and pitch share; the arrays are those of `oscillators.NotePart`."""

    ratios: NDArray[np.float64]
    cells: NDArray[np.int32]
    shares: NDArray[np.float32]
    gains: NDArray[np.float32]
    balance: NDArray[np.float32]
    is_wide: bool
    hz: float


@lru_cache(maxsize=2048)
def _timbre(table: VoiceTable, voice: int, pitch: int, sample_rate: int) -> _Timbre:
    hz = float(pitch_hz(pitch))
    partials = table.partials(voice, pitch).below(min(0.47 * sample_rate, 20_000.0) / hz)
    cells = np.minimum((partials.spread > 0).argmax(axis=0), tk.N_PARTIALS - 2).astype(np.int32)
    shares = np.ascontiguousarray(partials.spread[cells + 1, np.arange(len(cells))], np.float32)
    gains = table.gains(voice, pitch)
    partial_gains = np.ascontiguousarray(partials.spread.T @ gains[: tk.N_PARTIALS], np.float32)
    balance = np.ascontiguousarray(gains[tk.N_PARTIALS :], np.float32)
    is_wide = bool(table.is_wide[voice, pitch])
    return _Timbre(np.ascontiguousarray(partials.ratios), cells, shares, partial_gains, balance, is_wide, hz)


@lru_cache(maxsize=2)
def _noise(sample_rate: int) -> NDArray[np.float32]:
    return oscillators.noise_table(tk.NOISE_EDGES_HZ, sample_rate, seed=0)


class _Chance:
    """Random numbers of a seed, from which each note takes some that lie together."""

    SIZE = 65536

    def __init__(self, seed: int, n_noise_samples: int) -> None:
        random = np.random.Generator(np.random.Philox(key=[seed, 0]))
        self.turns = random.random(self.SIZE + tk.MAX_HARMONIC, np.float32)
        self.places = random.integers(0, n_noise_samples, self.SIZE + 2 * tk.N_NOISE)
        self.sways = random.standard_normal(self.SIZE + tk.N_CELLS, np.float32)


class _Part:
    """A track, with what is asked about its notes worked out at once."""

    def __init__(self, track: Track, voice: int | None = None) -> None:
        notes = track.notes
        self.notes, self.controls = notes, track.controls
        pitches, velocities = notes["pitch"].astype(np.int64), notes["velocity"] / 127
        if "soft" in track.controls:
            velocities = np.where(track.controls["soft"].at(notes["start"]) >= 0.5, SOFT_PEDAL_VELOCITY, 1) * velocities
        # a number for each note that does not depend on which other notes and tracks are rendered
        identity = (np.rint(notes["start"] * 1e6).astype(np.int64) * 128 + pitches) * 16 + track.channel
        self.starts, self.pitches, self.velocities = notes["start"].tolist(), pitches.tolist(), velocities.tolist()
        rings_on = notes["is_drum"] & (voice is None)
        self.damps = np.where(rings_on, np.inf, notes["damp"]).tolist()
        self.voices = [
            note_voice(program, pitch, is_drum=is_drum)
            for pitch, is_drum, program in zip(
                self.pitches, notes["is_drum"].tolist(), notes["program"].tolist(), strict=True
            )
        ]
        if voice is not None:
            self.voices = [voice] * len(notes)
        self.lots = _scattered(identity.astype(np.uint64))
        self.is_bent = any(
            curve.initial or curve.values.any()
            for curve in (track.controls.get(name) for name in ("bend", "modulation", "pressure"))
            if curve is not None
        )


_CHUNK_TIMES = [np.arange(tk.CHUNK_STEPS) * step for step in tk.STEP_SECONDS]


@dataclass(eq=False)
class _Sounding:
    """A note that is being decoded and heard."""

    track: int
    voice: int
    pitch: int
    velocity: float  # 0..1
    start: float
    damp: float  # when it is let go; infinite for drums
    timbre: _Timbre
    offsets: NDArray[np.float32]  # [P] cycles
    noise_offsets: NDArray[np.int64]  # [N_NOISE, 2]
    sway: NDArray | None  # [C] standard deviations by which this note differs, None without variation
    times: NDArray = field(default_factory=lambda: np.zeros(0))  # [n] of the knots not yet passed
    levels: NDArray = field(default_factory=lambda: np.zeros((0, tk.N_CELLS), np.float32))
    phase: float = 0.0  # cycles at times[0]
    kind: int = tk.ATTACK
    index: int = 0
    n_held: int = 0  # tokens until it is let go
    next_chunk: float = 0.0  # when the next chunk starts
    last: NDArray = field(default_factory=lambda: np.zeros(tk.N_CELLS, np.float32))
    loudest: float = 0.0
    cut_at: float = np.inf  # from here on it fades
    is_written: bool = False  # its last token is known

    def key(self) -> tuple:
        """What decides the next chunk where a note stands by itself: all that was decided before follows from it."""
        age = round((self.next_chunk - self.start) / _SAME_SECONDS)
        return self.kind, self.voice, self.pitch, self.velocity, self.index, self.n_held, age

    def take(self, levels: NDArray, loudest: float, at_end: float) -> None:
        """Add a decoded chunk [a, C] and work out which chunk comes next, if any.

        ``loudest`` is the highest level in it, ``at_end`` the highest in its last quarter.
        """
        step, is_attack = tk.STEP_SECONDS[self.kind], self.kind == tk.ATTACK
        times = self.next_chunk + _CHUNK_TIMES[self.kind]
        self.loudest = max(self.loudest, loudest)
        is_silent = at_end < max(1.0, self.loudest - _INAUDIBLE_LEVELS)
        end = self.next_chunk + tk.CHUNK_STEPS * step
        if self.kind == tk.RELEASE:
            self.index += 1
            self.is_written = is_silent or self.index >= _MAX_RELEASE_CHUNKS
        else:
            if self.damp < end:
                n = max(int(np.ceil((self.damp - self.next_chunk) / step - 1e-6)), 1)
                levels, times = levels[:n], times[:n]
            self.n_held += len(levels)
            if is_attack:  # no note jumps to its first level within a sample: that is heard as a click
                times = np.insert(times, 1, times[0] + ONSET_SECONDS)
                levels = np.concatenate([_silent(levels[0]), levels])
            self.index = self.index + 1 if self.kind == tk.SUSTAIN else 0
            self.kind = tk.SUSTAIN
            is_faded = np.isinf(self.damp) and end - self.start >= DRUM_SECONDS
            self.is_written = is_faded or (is_silent and end < self.damp)
            if self.damp <= end:
                self.kind, self.index, end = tk.RELEASE, 0, max(self.damp, float(times[-1]) + 1e-3)
        self.next_chunk = end
        self.last = levels[-1]
        self.times = np.concatenate([self.times, times])
        self.levels = np.concatenate([self.levels, levels])
        if self.is_written:
            self._fall_silent(self.times[-1] + step)
        if self.times[-1] > self.cut_at:
            self.cut(self.cut_at)

    def _fall_silent(self, end: float) -> None:
        self.times = np.append(self.times, end)
        self.levels = np.concatenate([self.levels, _silent(self.last)])

    def cut(self, moment: float) -> None:
        """Fade the note out from a moment on."""
        self.cut_at = min(self.cut_at, moment)
        if not len(self.times) or self.times[-1] <= moment:
            return  # take() will see to it
        self.last = tk.token_at(self.levels, self.times, moment) if len(self.times) > 1 else self.levels[0]
        before = self.times < moment
        self.times = np.append(self.times[before], moment)
        self.levels = np.concatenate([self.levels[before], self.last[None]])
        self.is_written = True
        self._fall_silent(moment + FADE_SECONDS)


def _silent(token: NDArray[np.float32]) -> NDArray[np.float32]:
    """Silence at the pitch of a token, [1, C]."""
    silent = np.zeros((1, tk.N_CELLS), np.float32)
    silent[0, tk.PITCH_CELL] = token[tk.PITCH_CELL]
    return silent


class _Performance:
    """The state of one rendering."""

    def __init__(self, bank: Bank, score: Score, sample_rate: int, seed: int, variation: float,
                 voices: Mapping[int, int]) -> None:  # fmt: skip
        self.bank, self.sample_rate, self.variation = bank, sample_rate, variation
        self.tracks = [_Part(track, voices.get(i)) for i, track in enumerate(score.tracks)]
        self.noise = _noise(sample_rate)
        self.chance = _Chance(seed, self.noise.shape[1])
        self.next_note = [0] * len(self.tracks)
        self.sounding: list[_Sounding] = []
        self.contexts: dict[tuple[int, int], NDArray] = {}
        # where nothing but the note itself decides how it sounds, the same note sounds the same again
        self.is_repeating = bank.encode is None and not variation
        self.known: dict[tuple, tuple[NDArray[np.float32], float, float]] = {}
        self.n_left_out = 0

    @property
    def is_over(self) -> bool:
        return not self.sounding and all(n >= len(t.notes) for n, t in zip(self.next_note, self.tracks, strict=True))

    def start_notes(self, until: float) -> None:
        """Take up all notes that start before a moment, in order of their starts."""
        new = []
        for i, track in enumerate(self.tracks):
            stop = int(np.searchsorted(track.notes["start"], until))
            new += [(track.starts[n], i, n) for n in range(self.next_note[i], stop)]
            self.next_note[i] = stop
        for start, i, n in sorted(new):
            note = self._sounding(i, n)
            if is_drum_voice(note.voice) and note.pitch in _CHOKES:
                for other in self.sounding:
                    if other.track == i and is_drum_voice(other.voice) and other.pitch in _CHOKES[note.pitch]:
                        other.cut(start)
            if len(self.sounding) >= MAX_POLYPHONY:
                self._make_room(start)
            self.sounding.append(note)

    def _make_room(self, moment: float) -> None:
        """Fade out the oldest note that sounds on; one that has not been heard yet is left out altogether."""
        oldest = next((n for n, note in enumerate(self.sounding) if np.isinf(note.cut_at)), 0)
        self.n_left_out += 1
        if len(self.sounding[oldest].times) and len(self.sounding) < 2 * MAX_POLYPHONY:
            self.sounding[oldest].cut(moment)
        else:
            del self.sounding[oldest]

    def _sounding(self, i: int, n: int) -> _Sounding:
        track, chance = self.tracks[i], self.chance
        voice, pitch, start = track.voices[n], track.pitches[n], track.starts[n]
        timbre = _timbre(self.bank.table, voice, pitch, self.sample_rate)
        turn, place, sway = track.lots[n]
        noise_offsets = chance.places[place : place + 2 * tk.N_NOISE].reshape(-1, 2)
        if not timbre.is_wide:
            noise_offsets = np.repeat(noise_offsets[:, :1], 2, axis=1)
        return _Sounding(
            i, voice, pitch, track.velocities[n], start, track.damps[n], timbre,
            chance.turns[turn : turn + len(timbre.ratios)], noise_offsets,
            np.float32(self.variation) * chance.sways[sway : sway + tk.N_CELLS] if self.variation else None,
            next_chunk=start,
        )  # fmt: skip

    def decode(self, until: float) -> None:
        """Write all chunks that start before a moment."""
        while True:
            due = [n for n in self.sounding if not n.is_written and n.next_chunk < until]
            if not due:
                return
            for kind in (tk.ATTACK, tk.SUSTAIN, tk.RELEASE):
                group = [n for n in due if n.kind == kind]
                for first in range(0, len(group), 512):
                    self._decode(kind, group[first : first + 512])

    def _decode(self, kind: int, notes: list[_Sounding]) -> None:
        """Have the next chunks of some notes written; those that were written before are only looked up."""
        if not self.is_repeating:
            for note, chunk in zip(notes, self._written(kind, notes), strict=True):
                note.take(*chunk)
            return
        keys = [note.key() for note in notes]
        new = {key: note for key, note in zip(keys, notes, strict=True) if key not in self.known}
        if new:
            self.known.update(zip(new, self._written(kind, list(new.values())), strict=True))
        for note, key in zip(notes, keys, strict=True):
            note.take(*self.known[key])
        for key in list(self.known)[: max(len(self.known) - _KNOWN_CHUNKS, 0)]:
            del self.known[key]

    def _written(self, kind: int, notes: list[_Sounding]) -> list[tuple[NDArray[np.float32], float, float]]:
        """For each note its next chunk [a, C], the highest level in it and in its last quarter."""
        expected, spread = self.bank.decode(
            kind,
            voice=np.array([n.voice for n in notes], np.int64),
            pitch=np.array([n.pitch for n in notes], np.float32),
            velocity=np.array([n.velocity for n in notes], np.float32),
            index=np.array([min(n.index, tk.MAX_CHUNK_INDEX) for n in notes], np.int64),
            age=np.array([n.next_chunk - n.start for n in notes], np.float32),
            previous=np.stack([n.last for n in notes]),
            context=self._context(notes),
        )
        if self.variation:
            sway = np.stack([n.sway for n in notes if n.sway is not None])[:, None]
            swayed = expected + _SPREAD_TO_DEVIATION * np.minimum(spread, _MOST_SPREAD) * sway
            expected = np.where(expected >= 0.5, np.clip(swayed, 0, tk.N_LEVELS - 1), expected)
        highest = expected[:, :, : tk.PITCH_CELL].max(axis=2)  # [B, a]
        loudest, at_end = highest.max(axis=1).tolist(), highest[:, -8:].max(axis=1).tolist()
        return [(chunk.copy(), loud, quiet) for chunk, loud, quiet in zip(expected, loudest, at_end, strict=True)]

    def _context(self, notes: list[_Sounding]) -> NDArray[np.float32]:
        """The encoder's tokens for chunks that start now, [B, D]; windows are encoded when first asked for."""
        context = np.zeros((len(notes), self.bank.context_width), np.float32)
        if self.bank.encode is None:
            return context
        places = [(n.track, *window_of(n.next_chunk)) for n in notes]
        missing = sorted({(i, w) for i, w, token in places if token >= 0} - self.contexts.keys())
        for first in range(0, len(missing), _ENCODED_AT_ONCE):
            some = missing[first : first + _ENCODED_AT_ONCE]
            encoded = self.bank.encode(np.stack([self._frames(i, w) for i, w in some]))
            self.contexts.update(zip(some, encoded, strict=True))
        for row, (i, window, token) in enumerate(places):
            if token >= 0:
                context[row] = self.contexts[i, window][token]
        return context

    def _frames(self, i: int, window: int) -> NDArray[np.float32]:
        """x_m of a window. Faders are left out: they work on the stem, not on how a note sounds."""
        start = window * HOP_SECONDS
        notes = self.tracks[i].notes
        notes = notes[: np.searchsorted(notes["start"], start + WINDOW_SECONDS)]
        return encode_frames(notes[notes["damp"] > start - TOKEN_SECONDS], start)

    def block(self, number: int, pool: ThreadPoolExecutor) -> "_Pending":
        """Decode the block of that number, and have it synthesised: one job a track, in the order of its notes."""
        begin = int(seconds_to_sample(number * BLOCK_SECONDS, self.sample_rate))
        end = int(seconds_to_sample((number + 1) * BLOCK_SECONDS, self.sample_rate))
        until = end / self.sample_rate
        self.start_notes(until)
        self.decode(until + _AHEAD_SECONDS)
        stems = np.zeros((len(self.tracks), 2, end - begin), np.float32)
        parts: dict[int, list[oscillators.NotePart]] = {}
        for note in self.sounding:
            part = self._part(note, begin, until)
            if part is not None:
                parts.setdefault(note.track, []).append(part)
        largest_first = sorted(parts, key=lambda i: -sum(len(part.ratios) for part in parts[i]))
        jobs = [
            pool.submit(oscillators.add_notes, stems[i], parts[i], self.noise, _FLOOR, _MASKED) for i in largest_first
        ]
        self.sounding = [n for n in self.sounding if not (n.is_written and n.times[-1] <= until)]
        oldest = max(number - 1, 0)
        self.contexts = {key: value for key, value in self.contexts.items() if key[1] >= oldest}
        return _Pending(Block(begin, stems), jobs)

    def _part(self, note: _Sounding, begin: int, until: float) -> oscillators.NotePart | None:
        """A note's part of a block; the knots that are behind it are then forgotten."""
        stop = min(int(note.times.searchsorted(until)) + 1, len(note.times))
        if stop < 2:
            return None
        times, levels = note.times[:stop], note.levels[:stop]
        cents = tk.level_to_cents(levels[:, tk.PITCH_CELL].astype(np.float64))
        bend = self._bend_cents(note, times)
        if bend is not None:
            times, levels = _refined(times, levels)
            cents = tk.level_to_cents(levels[:, tk.PITCH_CELL].astype(np.float64)) + self._bend_cents(note, times)
        hz = note.timbre.hz * np.exp2(cents / 1200)
        phase = np.empty(len(times))
        phase[0] = note.phase
        np.cumsum(0.5 * (hz[1:] + hz[:-1]) * (times[1:] - times[:-1]), out=phase[1:])
        phase[1:] += note.phase
        knots = times * self.sample_rate - begin
        passed = max(int(note.times[:stop].searchsorted(until, side="right")) - 1, 0)
        if passed:
            note.phase = float(phase[times.searchsorted(note.times[passed])])
            note.times, note.levels = note.times[passed:], note.levels[passed:]
        timbre, noise_offsets = note.timbre, note.noise_offsets + (begin + math.ceil(knots[0]))
        return oscillators.NotePart(
            knots, phase, levels, note.offsets, noise_offsets, timbre.ratios, timbre.cells, timbre.shares,
            timbre.gains, timbre.balance,
        )  # fmt: skip

    def _bend_cents(self, note: _Sounding, times: NDArray) -> NDArray | None:
        """Pitch wheel, tuning and vibrato at some times, cents; None where nothing moves or shifts the pitch."""
        track = self.tracks[note.track]
        if not track.is_bent:
            return None
        bend = track.controls["bend"].at(times) * 100 if "bend" in track.controls else np.zeros(len(times))
        depth = np.zeros(len(times))
        for name in ("modulation", "pressure"):
            if name in track.controls:
                depth = np.maximum(depth, track.controls[name].at(times))
        if not bend.any() and not depth.any():
            return None
        return bend + VIBRATO_CENTS * depth * np.sin(2 * np.pi * VIBRATO_HZ * (times - note.start))


@dataclass(frozen=True)
class _Pending:
    """A block that is being synthesised."""

    block: Block
    jobs: list[Future]

    def wait(self) -> Block:
        """The finished block. Raises: what went wrong in a job."""
        for job in self.jobs:
            job.result()
        return self.block


def _scattered(numbers: NDArray[np.uint64]) -> list[list[int]]:
    """Three places in `_Chance` for each number, by the last steps of SplitMix64."""
    mixed = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed ^= mixed >> np.uint64(31)
    return (mixed[:, None] >> np.array([0, 16, 32], np.uint64) & np.uint64(_Chance.SIZE - 1)).tolist()


def _refined(times: NDArray, levels: NDArray) -> tuple[NDArray, NDArray]:
    """Knots with three more between those that are more than 6 ms apart, so that bends run smoothly."""
    gaps = np.diff(times)
    wide = np.flatnonzero(gaps > 0.006)
    extra = (times[wide, None] + gaps[wide, None] * np.array([0.25, 0.5, 0.75])).ravel()
    fine = np.sort(np.concatenate([times, extra]))
    left = np.clip(times.searchsorted(fine, side="right") - 1, 0, len(times) - 2)
    share = ((fine - times[left]) / gaps[left]).astype(np.float32)[:, None]
    return fine, levels[left] + share * (levels[left + 1] - levels[left])


def stream_stems(
    bank: Bank, score: Score, *, sample_rate: int = 44_100, seed: int = 0, variation: float = 0.0,
    voices: Mapping[int, int] | None = None,
) -> Iterator[Block]:  # fmt: skip
    """The score's stems, block by block (2.56 s each), until the last note has died away.

    The same seed gives the same samples. ``variation`` 0..1 lets repeated notes differ as the bank's distributions say,
    by a scale of half a level at the most.
    ``voices`` says of some tracks, by their place in the score, which voice of the bank plays all of their notes,
    whatever the score says of programs and drums.
    """
    performance = _Performance(bank, score, sample_rate, seed, variation, voices or {})
    pool = ThreadPoolExecutor(max(os.cpu_count() or 1, 1))
    try:
        number, pending = 0, None
        while not performance.is_over:
            following = performance.block(number, pool)
            if pending is not None:
                yield pending.wait()
            number, pending = number + 1, following
        if pending is not None:
            yield pending.wait()
    finally:
        pool.shutdown(cancel_futures=True)
