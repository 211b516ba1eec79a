"""Music as the sum of its notes' powers: what the audio tokens of a performance make of each mel band over time.

The power spectrogram of a mix is nearly the sum of its notes' power spectrograms, as sounds that have nothing to do
with each other add up in power. So a recording can be compared with the notes played in it without being taken apart:
levels -> power of cells -> mel bands, by a fixed matrix for each voice and pitch -> sum over the notes. What is kept of
a note is its levels at the frames of the spectrogram (`note_courses`); whatever is fitted is added to these levels.
"""

from dataclasses import dataclass
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from miao.arrays import AnyArray, Doubles, Floats, Integers, Reals, Records
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.partials import Partials
from miao.bank.voices import VoiceTable, pitch_hz
from miao.sound.spectrum import FRAME_SAMPLES, HIGH_HZ, HOP_SAMPLES, LOW_HZ, N_MELS, SAMPLE_RATE, log_mel, mel_filters
from miao.synth import band_noise
from miao.synth.note import RING_SECONDS

FRAME_SECONDS = 2 * HOP_SAMPLES / SAMPLE_RATE  # of the comparison: every second frame of `log_mel`
LEVEL_PARTS = 4  # levels are kept in quarters, one byte each
LONGEST_SECONDS = 12.0  # that a note is followed
_FADED_LEVELS = 75 / tk.LEVEL_STEP_DB  # below the loudest of all notes
_MAX_RELEASE_CHUNKS = 16
_AT_ONCE = 256


@dataclass(frozen=True, eq=False)
class Courses:
    """The levels of all notes of a piece at all frames at which they sound: n pairs of a note and a frame."""

    n_frames: int
    frame: NDArray[np.int32]  # [n]
    pitch: NDArray[np.int16]  # [n]
    velocity: Floats  # [n] 0..1
    age: Floats  # [n] seconds since the note's start
    since: Floats  # [n] seconds since it was let go, -1 while it is held
    levels: NDArray[np.uint8]  # [n, C - 1] in quarter levels

    def part(self, first: int, last: int) -> "Courses":
        """Only what sounds in the frames [first, last)."""
        inside = (self.frame >= first) & (self.frame < last)
        arrays = {name: getattr(self, name)[inside] for name in ("pitch", "velocity", "age", "since", "levels")}
        return Courses(min(last, self.n_frames) - first, frame=self.frame[inside] - np.int32(first), **arrays)


def band_hz() -> Doubles:
    """Middles of the mel bands of `log_mel`, [N_MELS]."""
    mel = np.linspace(2595 * np.log10(1 + LOW_HZ / 700), 2595 * np.log10(1 + HIGH_HZ / 700), N_MELS + 2)
    return 700 * (10 ** (mel[1:-1] / 2595) - 1)


def band_shares(partials: Partials, note_hz: float) -> Floats:
    """What each mel band says of each cell of a note, [N_MELS, C - 1], columns that sum to 1: of a cell of partials the
    bands around these, of a noise cell those within its band. Cells without partials below 16 kHz get nothing."""
    partials, centres = partials.below(HIGH_HZ / note_hz), band_hz()
    hz = np.clip(partials.ratios * note_hz, centres[0], centres[-1])
    right = np.clip(np.searchsorted(centres, hz), 1, N_MELS - 1)
    far = (hz - centres[right - 1]) / (centres[right] - centres[right - 1])
    weight = np.maximum(partials.spread.sum(axis=1), 1e-6)
    shares = np.zeros((N_MELS, tk.N_CELLS - 1))
    for bands, share in ((right - 1, 1 - far), (right, far)):
        np.add.at(shares[:, : tk.N_PARTIALS], bands, (partials.spread * share / weight[:, None]).T)
    for n, (low, high) in enumerate(pairwise(tk.NOISE_EDGES_HZ.tolist()), start=tk.N_PARTIALS):
        inside = (centres >= low) & (centres <= high)
        if not inside.any():
            inside[np.abs(centres - 0.5 * (low + high)).argmin()] = True
        shares[inside, n] = 1 / inside.sum()
    return shares.astype(np.float32)


def bands_below(bandwidth_hz: float) -> int:
    """How many mel bands lie within a recording's bandwidth, a twentieth of it left off."""
    return int(np.sum(band_hz() * 1.05 < 0.95 * bandwidth_hz))


@cache
def noise_powers() -> Floats:
    """Power that each noise cell at amplitude 1 has in each mel band, [N_NOISE, N_MELS]."""
    table = band_noise.noise_table(tk.NOISE_EDGES_HZ, SAMPLE_RATE, seed=0)[:, : 2 * SAMPLE_RATE]
    return np.stack([np.mean(10 ** (log_mel(row)[4:-4] / 10), axis=0) for row in table]).astype(np.float32)


def cell_powers(table: VoiceTable, voice: int, pitch: int, noise: Reals) -> Floats:
    """Power that each cell of a voice at a pitch has in each mel band, at amplitude 1: [C - 1, N_MELS].

    A cell that stands for many partials counts for each as much as it sets that partial's level.
    """
    hz = float(pitch_hz(pitch))
    partials = table.partials(voice, pitch).below(min(0.47 * SAMPLE_RATE, 20_000.0) / hz)
    bins = partials.ratios * hz * FRAME_SAMPLES / SAMPLE_RATE
    near = np.floor(bins)[:, None] + np.arange(-2, 4)[None]  # [P, 6] bins that the window's main lobe reaches
    offset = near - bins[:, None]
    lobe = np.square(np.sinc(offset) / np.where(np.abs(np.abs(offset) - 1) < 1e-6, 1, 1 - offset**2))
    lobe = np.where(np.abs(np.abs(offset) - 1) < 1e-6, 0.25, lobe) * (np.abs(offset) < 2)
    filters = mel_filters()
    inside = np.clip(near.astype(int), 0, filters.shape[1] - 1)
    sines = np.einsum("pk,mpk->pm", lobe, filters[:, inside])  # [P, M]
    trim = 10 ** (table.trim(voice, pitch) / 10)
    return trim * np.concatenate([partials.spread @ sines, noise]).astype(np.float32)


def note_courses(bank: Bank, voice: int, notes: Records, n_frames: int, *, rings: bool = False) -> Courses:
    """What a voice's notes are, frame by frame; ``notes`` have start, damp (seconds), pitch and velocity. If it
    ``rings``, as drums do, nobody lets go of them: they sound until they are cut, or have died away.

    Levels are those that the window of a frame sees: the mean power over three places within it.
    """
    parts: list[tuple[AnyArray, ...]] = []
    notes = notes[notes["start"] < n_frames * FRAME_SECONDS]
    if rings:
        notes = notes.copy()
        notes["damp"] = np.minimum(notes["start"] + RING_SECONDS, notes["cut"])
    order = np.argsort(notes["start"], kind="stable")
    for first in range(0, len(order), _AT_ONCE):
        parts += _decoded(bank, voice, notes[order[first : first + _AT_ONCE]], n_frames, rings=rings)
    if not parts:
        empty = np.zeros(0, np.float32)
        return Courses(n_frames, empty.astype(np.int32), empty.astype(np.int16), empty, empty, empty,
                       np.zeros((0, tk.PITCH_CELL), np.uint8))  # fmt: skip
    frame, pitch, velocity, age, since, levels = (np.concatenate(p) for p in zip(*parts, strict=True))
    highest = levels.max(axis=1)
    keep = highest > max(int(highest.max(initial=0)) - LEVEL_PARTS * _FADED_LEVELS, LEVEL_PARTS)
    return Courses(n_frames, frame[keep], pitch[keep], velocity[keep], age[keep], since[keep], levels[keep])


def _decoded(bank: Bank, voice: int, notes: Records, n_frames: int, *, rings: bool) -> list[tuple[AnyArray, ...]]:
    """The courses of some notes, decoded side by side; an entry a note."""
    n = len(notes)
    pitch = notes["pitch"].astype(np.float32)
    velocity = (notes["velocity"] / 127).astype(np.float32)
    start, damp = notes["start"].astype(np.float64), notes["damp"].astype(np.float64)
    damp = np.minimum(damp, start + LONGEST_SECONDS)
    last = np.zeros((n, tk.N_CELLS), np.float32)
    times: list[list[Doubles]] = [[] for _ in range(n)]
    tokens: list[list[Floats]] = [[] for _ in range(n)]

    def write(kind: int, rows: Integers, index: int, begin: Doubles, stop: Doubles) -> None:
        expected, _ = bank.decode(
            kind, voice=np.full(len(rows), voice), pitch=pitch[rows], velocity=velocity[rows],
            index=np.full(len(rows), min(index, tk.MAX_CHUNK_INDEX)), age=(begin - start[rows]).astype(np.float32),
            previous=last[rows], context=np.zeros((len(rows), bank.context_width), np.float32),
        )  # fmt: skip
        steps = np.arange(tk.CHUNK_STEPS) * tk.STEP_SECONDS[kind]
        for row, chunk, at, end in zip(rows.tolist(), expected, begin, stop, strict=True):
            inside = at + steps < end - 1e-9
            inside[0] = True
            times[row].append((at + steps)[inside])
            tokens[row].append(chunk[inside].astype(np.float32))
            last[row] = chunk[inside][-1]

    rows, index, begin = np.arange(n), 0, start.copy()
    kind = tk.ATTACK
    while len(rows):
        write(kind, rows, max(index - 1, 0), begin[rows], damp[rows])
        begin[rows] += tk.CHUNK_STEPS * tk.STEP_SECONDS[kind]
        alive = last[rows][:, : tk.PITCH_CELL].max(axis=1) > 1
        rows, index, kind = rows[(begin[rows] < damp[rows]) & alive], index + 1, tk.SUSTAIN
    rows, begin = np.arange(n), damp.copy()
    for index in range(0 if rings else _MAX_RELEASE_CHUNKS):
        rows = rows[last[rows][:, : tk.PITCH_CELL].max(axis=1) > 4]
        if not len(rows):
            break
        write(tk.RELEASE, rows, index, begin[rows], np.full(len(rows), np.inf))
        begin[rows] += tk.CHUNK_STEPS * tk.STEP_SECONDS[tk.RELEASE]
    let_go = np.full(n, np.inf) if rings else damp
    return [_framed(np.concatenate(times[i]), np.concatenate(tokens[i]), float(start[i]), float(let_go[i]),
                    int(notes["pitch"][i]), float(velocity[i]), n_frames) for i in range(n)]  # fmt: skip


def _framed(times: Doubles, tokens: Floats, start: float, damp: float, pitch: int, velocity: float,
            n_frames: int) -> tuple[AnyArray, ...]:  # fmt: skip
    """A note's tokens at the frames of the comparison."""
    first = max(int(np.ceil((start - 0.5 * FRAME_SECONDS) / FRAME_SECONDS)), 0)
    frames = np.arange(first, min(int(times[-1] / FRAME_SECONDS) + 1, n_frames))
    amplitude = tk.level_to_amplitude(tokens[:, : tk.PITCH_CELL])
    power = np.zeros((len(frames), tk.PITCH_CELL))
    for shift, share in ((-0.5, 0.25), (0.0, 0.5), (0.5, 0.25)):
        at = (frames + shift) * FRAME_SECONDS
        right = np.clip(np.searchsorted(times, at), 1, len(times) - 1) if len(times) > 1 else np.zeros(len(at), int)
        left = np.maximum(right - 1, 0)
        along = np.clip((at - times[left]) / np.maximum(times[right] - times[left], 1e-9), 0, 1)[:, None]
        heard = np.square((1 - along) * amplitude[left] + along * amplitude[right])
        power += share * np.where(((at >= start) & (at <= times[-1] + 0.02))[:, None], heard, 0)
    levels = np.where(power > 0, tk.db_to_level(10 * np.log10(np.maximum(power, 1e-20))), 0)
    seconds = frames * FRAME_SECONDS
    since = np.where(seconds >= damp, seconds - damp, -1.0)
    return (
        frames.astype(np.int32), np.full(len(frames), pitch, np.int16),
        np.full(len(frames), velocity, np.float32), np.maximum(seconds - start, 0).astype(np.float32),
        since.astype(np.float32), np.rint(LEVEL_PARTS * levels).astype(np.uint8),
    )  # fmt: skip


def powers(courses: Courses, matrices: dict[int, Floats], n_bands: int) -> Floats:
    """The power of a piece's notes as they are, dry: [frames, bands]. ``matrices`` by pitch, as `cell_powers`."""
    total = np.zeros((courses.n_frames, n_bands), np.float32)
    for pitch in np.unique(courses.pitch).tolist():
        rows = np.flatnonzero(courses.pitch == pitch)
        amplitude = tk.level_to_amplitude(courses.levels[rows].astype(np.float32) / LEVEL_PARTS)
        np.add.at(total, courses.frame[rows], np.square(amplitude) @ matrices[pitch][:, :n_bands])
    return total
