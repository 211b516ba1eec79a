"""From a score to stems: notes become audio tokens chunk by chunk, tokens become sound block by block.

All notes of a block decode side by side, one batch a chunk kind, and each chunk is written from what is known when it
starts. Memory is bounded by how many notes sound at once, not by the length of the piece.
"""

import hashlib
import os
import tomllib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from miao import oscillators
from miao import tokens as tk
from miao.errors import BankError
from miao.frames import HOP_SECONDS, TOKEN_SECONDS, WINDOW_SECONDS, encode_frames, seconds_to_sample, window_of
from miao.score import Score, Track
from miao.voices import VoiceTable, drum_voice, is_drum_voice, pitch_hz, program_voice

BLOCK_SECONDS = HOP_SECONDS
MAX_POLYPHONY = 1024  # beyond it the oldest notes are faded out
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
_HATS, _WHISTLES, _GUIROS, _CUICAS, _TRIANGLES = (42, 44, 46), (71, 72), (73, 74), (78, 79), (80, 81)
_CHOKES = {key: group for group in (_HATS, _WHISTLES, _GUIROS, _CUICAS, _TRIANGLES) for key in group}
_WORTH_A_THREAD = 8  # chunks
_ENCODED_AT_ONCE = 4  # windows; more would cost memory and gain nothing

Decoder = Callable[..., tuple[NDArray, NDArray]]
"""(kind, voice, pitch, velocity, index, age, previous, context) -> expected levels [B, a, C] and their spread."""


@dataclass(frozen=True, eq=False)
class Bank:
    """Voices and the nets that play them, from a folder: config.toml, voices.safetensors and ONNX graphs."""

    name: str
    folder: Path
    table: VoiceTable
    decode: Decoder
    encode: Callable[[NDArray], NDArray] | None  # [B, 5, T, N] -> context [B, L, D]; None if notes sound alike in any
    context_width: int

    @staticmethod
    def load(name: str | Path = "gm", n_threads: int | None = None) -> "Bank":
        """A bank by name, or from a folder. Raises: BankError."""
        banks = Path(__file__).parent / "banks"
        folder = banks / name if (banks / name / "config.toml").is_file() else Path(name)
        if not (folder / "config.toml").is_file():
            names = sorted(p.parent.name for p in banks.glob("*/config.toml"))
            raise BankError(
                f'no bank "{name}"; there are {", ".join(names) or "none"}, or give a folder with config.toml'
            )
        config = tomllib.loads((folder / "config.toml").read_text())
        if config.get("format") != 1:
            raise BankError(f"{folder}: bank format {config.get('format')}, this miao reads format 1; update miao")
        graphs = (*_KIND_NAMES, "encoder") if config["uses_context"] else _KIND_NAMES
        sessions = {stem: _session(folder / f"{stem}.onnx") for stem in graphs}

        pool = ThreadPoolExecutor(n_threads or min(os.cpu_count() or 1, 4))

        def decode(kind: int, **inputs: NDArray) -> tuple[NDArray, NDArray]:
            if kind == tk.ATTACK:  # sets out from nothing
                inputs.pop("previous", None)
            session, n = sessions[_KIND_NAMES[kind]], len(inputs["voice"])
            parts = min(pool._max_workers, 1 + n // _WORTH_A_THREAD)
            cuts = [slice(n * i // parts, n * (i + 1) // parts) for i in range(parts)]
            results = pool.map(lambda cut: session.run(None, {k: v[cut] for k, v in inputs.items()}), cuts)
            levels, spread = zip(*results, strict=True)
            return np.concatenate(levels), np.concatenate(spread)

        def encode(frames: NDArray) -> NDArray:
            return sessions["encoder"].run(None, {"frames": frames})[0]

        table = VoiceTable.load(folder / "voices.safetensors")
        context = encode if config["uses_context"] else None
        return Bank(str(name), folder, table, decode, context, int(config["context_width"]))

    @cached_property
    def checksum(self) -> str:
        """SHA-256 over the bank's files, the first 12 digits."""
        digest = hashlib.sha256()
        for path in sorted(self.folder.glob("*")):
            if path.suffix in (".onnx", ".safetensors"):
                digest.update(path.read_bytes())
        return digest.hexdigest()[:12]


_KIND_NAMES = ("attack", "sustain", "release")


def _session(path: Path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # halves of a batch on two threads are faster than two threads on a batch
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise BankError(f"{path}: not a readable ONNX graph ({str(error).splitlines()[0]})") from None


@dataclass(frozen=True)
class Block:
    """A stretch of every track's sound, before its faders."""

    start_sample: int
    stems: NDArray[np.float32]  # [tracks, 2, n]


@dataclass(frozen=True, eq=False)
class _Timbre:
    """What all notes of one voice and pitch share."""

    ratios: NDArray  # [P]
    spread: NDArray  # [N_PARTIALS, P]
    partial_gains: NDArray  # [P, 2]
    noise_gains: NDArray  # [N_NOISE, 2]
    is_wide: bool


@lru_cache(maxsize=2048)
def _timbre(table: VoiceTable, voice: int, pitch: int, sample_rate: int) -> _Timbre:
    limit = min(0.47 * sample_rate, 20_000.0) / float(pitch_hz(pitch))
    partials = table.partials(voice, pitch).below(limit)
    gains = table.gains(voice, pitch)
    partial_gains = np.ascontiguousarray(partials.spread.T @ gains[: tk.N_PARTIALS])
    return _Timbre(
        partials.ratios, partials.spread, partial_gains, gains[tk.N_PARTIALS :], bool(table.is_wide[voice, pitch])
    )


@lru_cache(maxsize=2)
def _noise(sample_rate: int) -> NDArray[np.float32]:
    return oscillators.noise_table(tk.NOISE_EDGES_HZ, sample_rate, seed=0)


_STEPS = np.arange(tk.CHUNK_STEPS)


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
    offsets: NDArray  # [P] cycles
    noise_offsets: NDArray  # [N_NOISE, 2]
    sway: NDArray | None  # [C] standard deviations by which this note differs, None without variation
    times: NDArray = field(default_factory=lambda: np.zeros(0))  # [n] of the knots not yet passed
    levels: NDArray = field(default_factory=lambda: np.zeros((0, tk.N_CELLS), np.float32))
    phase: float = 0.0  # cycles at times[0]
    kind: int = tk.ATTACK
    index: int = 0
    next_chunk: float = 0.0  # when the next chunk starts
    last: NDArray = field(default_factory=lambda: np.zeros(tk.N_CELLS, np.float32))
    loudest: float = 0.0
    cut_at: float = np.inf  # from here on it fades
    is_written: bool = False  # its last token is known

    def take(self, levels: NDArray, loudest: float, at_end: float) -> None:
        """Add a decoded chunk [a, C] and work out which chunk comes next, if any.

        ``loudest`` is the highest level in it, ``at_end`` the highest in its last quarter.
        """
        step = tk.STEP_SECONDS[self.kind]
        times = self.next_chunk + _STEPS * step
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
        silent = np.zeros((1, tk.N_CELLS), np.float32)
        silent[0, tk.PITCH_CELL] = self.last[tk.PITCH_CELL]
        self.times = np.append(self.times, end)
        self.levels = np.concatenate([self.levels, silent])

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


class _Performance:
    """The state of one rendering."""

    def __init__(self, bank: Bank, score: Score, sample_rate: int, seed: int, variation: float) -> None:
        self.bank, self.tracks, self.sample_rate = bank, score.tracks, sample_rate
        self.seed, self.variation = seed, variation
        self.noise = _noise(sample_rate)
        self.next_note = [0] * len(self.tracks)
        self.sounding: list[_Sounding] = []
        self.contexts: dict[tuple[int, int], NDArray] = {}
        self.n_left_out = 0

    @property
    def is_over(self) -> bool:
        return not self.sounding and all(n >= len(t.notes) for n, t in zip(self.next_note, self.tracks, strict=True))

    def start_notes(self, until: float) -> None:
        """Take up all notes that start before a moment, in order of their starts."""
        new = []
        for i, track in enumerate(self.tracks):
            stop = int(np.searchsorted(track.notes["start"], until))
            new += [(float(track.notes["start"][n]), i, n) for n in range(self.next_note[i], stop)]
            self.next_note[i] = stop
        for start, i, n in sorted(new):
            note = self._sounding(i, self.tracks[i], n)
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

    def _sounding(self, i: int, track: Track, n: int) -> _Sounding:
        note = track.notes[n]
        pitch, is_drum = int(note["pitch"]), bool(note["is_drum"])
        voice = drum_voice(pitch) if is_drum else program_voice(int(note["program"]))
        start, velocity = float(note["start"]), int(note["velocity"]) / 127
        if "soft" in track.controls and float(track.controls["soft"].at(np.array([start]))[0]) >= 0.5:
            velocity *= SOFT_PEDAL_VELOCITY
        timbre = _timbre(self.bank.table, voice, pitch, self.sample_rate)
        random = np.random.Generator(np.random.Philox(key=[self.seed, _identity(track.channel, start, pitch)]))
        noise_offsets = random.integers(0, self.noise.shape[1], (tk.N_NOISE, 2))
        if not timbre.is_wide:
            noise_offsets[:, 1] = noise_offsets[:, 0]
        damp = np.inf if is_drum else float(note["damp"])
        offsets = random.random(len(timbre.ratios), np.float32)
        sway = random.standard_normal(tk.N_CELLS, np.float32) * np.float32(self.variation) if self.variation else None
        return _Sounding(
            i, voice, pitch, velocity, start, damp, timbre, offsets, noise_offsets, sway, next_chunk=start
        )

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
            sway = np.stack([n.sway for n in notes])[:, None]
            expected = np.where(expected >= 0.5, expected + _SPREAD_TO_DEVIATION * spread * sway, expected)
        highest = expected[:, :, : tk.PITCH_CELL].max(axis=2)  # [B, a]
        loudest, at_end = highest.max(axis=1), highest[:, -8:].max(axis=1)
        for note, levels, loud, quiet in zip(notes, expected, loudest.tolist(), at_end.tolist(), strict=True):
            note.take(levels, loud, quiet)

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

    def block(self, number: int, pool: ThreadPoolExecutor) -> Block:
        """Decode and synthesise the block of that number."""
        begin = int(seconds_to_sample(number * BLOCK_SECONDS, self.sample_rate))
        end = int(seconds_to_sample((number + 1) * BLOCK_SECONDS, self.sample_rate))
        until = end / self.sample_rate
        self.start_notes(until)
        self.decode(until + _AHEAD_SECONDS)
        stems = np.zeros((len(self.tracks), 2, end - begin), np.float32)
        by_track: dict[int, list[_Sounding]] = {}
        for note in self.sounding:
            by_track.setdefault(note.track, []).append(note)

        def play(i: int) -> None:
            for note in by_track[i]:
                self._play(note, stems[i], begin, until)

        list(pool.map(play, sorted(by_track, key=lambda i: -len(by_track[i]))))
        self.sounding = [n for n in self.sounding if not (n.is_written and n.times[-1] <= until)]
        oldest = max(number - 1, 0)
        self.contexts = {key: value for key, value in self.contexts.items() if key[1] >= oldest}
        return Block(begin, stems)

    def _play(self, note: _Sounding, out: NDArray, begin: int, until: float) -> None:
        """Add a note's part of a block to its stem, then forget the knots that are behind."""
        stop = min(int(np.searchsorted(note.times, until)) + 1, len(note.times))
        if stop < 2:
            return
        times, levels = note.times[:stop], note.levels[:stop]
        cents = tk.level_to_cents(levels[:, tk.PITCH_CELL]).astype(np.float64)
        track = self.tracks[note.track]
        bend = self._bend_cents(track, times, note.start)
        if bend is not None:
            fine = _refined(times)
            levels = np.stack([np.interp(fine, times, column) for column in levels.T], axis=1).astype(np.float32)
            cents = np.interp(fine, times, cents) + self._bend_cents(track, fine, note.start)
            times = fine
        hz = float(pitch_hz(note.pitch)) * 2 ** (cents / 1200)
        turned = np.concatenate([[0.0], np.cumsum(0.5 * (hz[1:] + hz[:-1]) * np.diff(times))])
        knots = times * self.sample_rate - begin
        highest = levels[:, : tk.PITCH_CELL].max(axis=0)  # [C - 1]
        floor = max(_FLOOR, _MASKED * float(tk.level_to_amplitude(highest.max())))
        least = float(tk.db_to_level(20 * np.log10(floor)))
        cells = np.flatnonzero(highest[: tk.N_PARTIALS] >= least)
        if len(cells):
            heard = np.flatnonzero(note.timbre.spread[cells].any(axis=0))
            loud = levels[:, : tk.N_PARTIALS] @ note.timbre.spread[:, heard]
            oscillators.add_partials(
                out, knots, note.phase + turned, tk.level_to_amplitude(loud), note.timbre.ratios[heard],
                note.offsets[heard], note.timbre.partial_gains[heard], floor,
            )  # fmt: skip
        if highest[tk.N_PARTIALS :].max() >= least:
            gains = tk.level_to_amplitude(levels[:, tk.N_PARTIALS : tk.PITCH_CELL])
            offsets = note.noise_offsets + (begin + int(np.ceil(knots[0])))
            oscillators.add_noise(out, knots, gains, note.timbre.noise_gains, self.noise, offsets, floor)
        passed = max(int(np.searchsorted(note.times[:stop], until, side="right")) - 1, 0)
        if passed:
            note.phase = float(note.phase + np.interp(note.times[passed], times, turned))
            note.times, note.levels = note.times[passed:], note.levels[passed:]

    def _bend_cents(self, track: Track, times: NDArray, start: float) -> NDArray | None:
        """Pitch wheel, tuning and vibrato at some times, cents; None where nothing moves or shifts the pitch."""
        bend = track.controls["bend"].at(times) * 100 if "bend" in track.controls else np.zeros(len(times))
        depth = np.zeros(len(times))
        for name in ("modulation", "pressure"):
            if name in track.controls:
                depth = np.maximum(depth, track.controls[name].at(times))
        if not bend.any() and not depth.any():
            return None
        return bend + VIBRATO_CENTS * depth * np.sin(2 * np.pi * VIBRATO_HZ * (times - start))


def _identity(channel: int, start: float, pitch: int) -> int:
    """A number for a note that does not depend on which other notes and tracks are rendered."""
    return (round(start * 1e6) * 128 + pitch) * 16 + channel


def _refined(times: NDArray) -> NDArray:
    """Knots with three more between those that are more than 6 ms apart, so that bends run smoothly."""
    gaps = np.diff(times)
    wide = np.flatnonzero(gaps > 0.006)
    extra = (times[wide, None] + gaps[wide, None] * np.array([0.25, 0.5, 0.75])).ravel()
    return np.sort(np.concatenate([times, extra]))


def stream_stems(
    bank: Bank, score: Score, *, sample_rate: int = 44_100, seed: int = 0, variation: float = 0.0
) -> Iterator[Block]:
    """The score's stems, block by block (2.56 s each), until the last note has died away.

    The same seed gives the same samples. ``variation`` 0..1 lets repeated notes differ as the bank's distributions say.
    """
    performance = _Performance(bank, score, sample_rate, seed, variation)
    with ThreadPoolExecutor(max(os.cpu_count() or 1, 1)) as pool:
        number = 0
        while not performance.is_over:
            yield performance.block(number, pool)
            number += 1
