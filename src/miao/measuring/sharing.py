"""Who owns what: how loud each partial of each note of a part is expected to be, where notes share partials.

The sound is looked at in long frames, 20 ms apart. The partials of all sounding notes are fitted at once; partials
that a frame cannot tell apart are fitted as one and their power is shared out. What a note's share is follows from a
model of its levels: loudness of the note at that moment + spectrum of its voice around that pitch + how far the partial
was off that in nearby moments in which it stood alone. Loudness and spectra come from partials that stand alone, and
from two rules: no note is louder than what it shares, and none grows once it is let go. Shares and model take turns a
few times.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Flags, Floats, Integers, Records
from miao.bank import tokens as tk
from miao.bank.partials import Partials
from miao.measuring.note import frames_around
from miao.measuring.part_voices import nominal_hz

HOP_SECONDS = 0.020
WINDOW_SECONDS = 0.090
APART = 0.7  # partials closer than this over the frame's length (Hz) are fitted as one
TAIL_SECONDS = 1.0  # that a note is looked for after it is let go
HIGHEST_HZ = 9000.0
SILENT_DB = -110.0
_ROUNDS = 4
_SPREAD_SEMITONES = 2.5  # over which pitches of a voice lend each other their spectrum
_MEMORY_SECONDS = 0.25  # how long a partial that stood alone says something of its later level
_PRIOR = 0.3  # observations that a voice's spectrum is worth against those
_ROLLOFF_DB = -9.0  # an octave, of a spectrum that nothing is known of
_RIDGE = 1e-3
_CARRIER_ROWS = 64  # of which others follow by turning: exponentials are dear
_MOST_AT_ONCE = 64  # frames


@dataclass(eq=False)
class Expected:
    """A note on the grid of long frames."""

    start: float
    damp: float
    end: float  # from here on it is not heard
    first: int  # its first frame
    hz: Doubles  # [P] all of its partials
    spread: Floats  # [N_PARTIALS, P]
    n_low: int  # partials that are looked at, the lowest ones
    total: Doubles  # [F, n_low] power of what each partial belongs to
    share: Doubles  # [F, n_low] of it that is the note's
    others: Doubles  # [F, n_low] power that the others are expected to have in it
    level_db: Doubles  # [F, N_PARTIALS] expected, amplitude squared

    def db_at(self, times: Doubles) -> Doubles:
        """Expected levels of its cells at some times, [n, N_PARTIALS] dB; silence where it is not heard.

        Long frames hear a note too early and too soft at its start: there, it counts as loud as a moment later.
        """
        settled = np.maximum(times, self.start + 0.4 * WINDOW_SECONDS) / HOP_SECONDS - self.first
        position = np.clip(settled, 0, max(len(self.level_db) - 1, 0))
        low = np.minimum(position.astype(int), max(len(self.level_db) - 2, 0))
        high = np.minimum(low + 1, len(self.level_db) - 1)
        share = (position - low)[:, None]
        level = (1 - share) * self.level_db[low] + share * self.level_db[high]
        return np.where(((times >= self.start - 0.005) & (times <= self.end))[:, None], level, SILENT_DB)

    def power_at(self, times: Doubles) -> Doubles:
        """Expected amplitude squared of its partials at some times, [n, P]."""
        return 10 ** (self.db_at(times) @ self.spread / 10)


@dataclass(frozen=True, eq=False)
class _Group:
    """Frames in which the same notes sound."""

    frames: slice
    members: list[int]
    cluster: Integers  # of each partial of each member, one after another
    n_clusters: int


def expected_levels(samples: Floats, sample_rate: int, notes: Records, partials: list[Partials]) -> list[Expected]:
    """The expected levels of each note. ``notes``: fields start, damp, pitch, voice, sorted by start.

    Shape: samples [channels, S], a note's partials as of its voice and pitch.
    """
    n_frames = int(samples.shape[1] / sample_rate / HOP_SECONDS) + 1
    found = [_blank(notes, n, partials[n], sample_rate, n_frames) for n in range(len(notes))]
    groups = [_look(samples, sample_rate, found, *group) for group in _groups(found, n_frames)]
    templates = _Templates(notes)
    for round_ in range(_ROUNDS):
        templates.learn(found, is_first=round_ == 0)
        for n, note in enumerate(found):
            templates.expect(note, n)
        for group in groups:
            _share(found, group)
    for n, note in enumerate(found):
        templates.expect(note, n)
    return found


def _blank(notes: Records, n: int, partials: Partials, sample_rate: int, n_frames: int) -> Expected:
    start, damp, pitch = float(notes["start"][n]), float(notes["damp"][n]), int(notes["pitch"][n])
    again = notes["start"][(notes["pitch"] == pitch) & (notes["voice"] == notes["voice"][n])]
    end = min(damp + TAIL_SECONDS, float(again[again > start].min(initial=np.inf)))
    nominal = nominal_hz(int(notes["voice"][n]), pitch)
    partials = partials.below(min(0.47 * sample_rate, 20_000) / nominal)
    hz = partials.ratios * nominal
    first = int(np.clip(np.ceil((start + 0.2 * WINDOW_SECONDS) / HOP_SECONDS), 0, n_frames - 1))
    last = int(np.clip(np.floor(end / HOP_SECONDS) + 1, first + 1, n_frames))
    n_low = max(int((hz < min(HIGHEST_HZ, 0.45 * sample_rate)).sum()), min(1, len(hz)))
    shape = (last - first, n_low)
    return Expected(start, damp, end, first, hz, partials.spread, n_low,
                    np.zeros(shape), np.ones(shape), np.zeros(shape),
                    np.full((last - first, tk.N_PARTIALS), SILENT_DB))  # fmt: skip


def _groups(found: list[Expected], n_frames: int) -> list[tuple[slice, list[int]]]:
    """Runs of frames with the notes that sound in them."""
    borders = {0, n_frames}
    for note in found:
        borders |= {note.first, note.first + len(note.total)}
    edges = sorted(borders)
    sounding: list[int] = []
    by_start = sorted(range(len(found)), key=lambda n: found[n].first)
    groups, at = [], 0
    for begin, end in pairwise(edges):
        sounding = [n for n in sounding if found[n].first + len(found[n].total) > begin]
        while at < len(by_start) and found[by_start[at]].first <= begin:
            sounding.append(by_start[at])
            at += 1
        if sounding:
            groups += [(slice(f, min(f + _MOST_AT_ONCE, end)), sorted(sounding))
                       for f in range(begin, end, _MOST_AT_ONCE)]  # fmt: skip
    return groups


def clusters(hz: Doubles, gap: float) -> tuple[Integers, int]:
    """Which frequencies a frame cannot tell apart: a number for each, counted upwards, and how many there are.

    Going upwards, one belongs to those before it as long as it is less than ``gap`` above the lowest of them.
    """
    order = np.argsort(hz, kind="stable")
    numbers = np.empty(len(hz), np.int64)
    number, lowest = -1, -np.inf
    for i, value in zip(order.tolist(), hz[order].tolist(), strict=True):
        if value - lowest >= gap:
            number, lowest = number + 1, value
        numbers[i] = number
    return numbers, number + 1


def solve_frames(frames: Floats, sample_rate: int, hz: Doubles) -> NDArray[np.complex64]:
    """Complex amplitudes of partials at fixed frequencies by least squares: [channels, F, W] -> [channels, F, P]."""
    if not len(hz):
        return np.zeros((*frames.shape[:-1], 0), np.complex64)
    width = frames.shape[-1]
    window = np.hanning(width + 1)[:-1].astype(np.float32)
    heard = (frames * window).reshape(-1, width) @ _carriers(width, sample_rate, hz)  # [channels F, 2 P]
    heard = np.concatenate([heard[:, : len(hz)], -heard[:, len(hz) :]]).astype(np.float64)
    gram = _window_transform(2 * np.pi * (hz[:, None] - hz[None, :]), width, sample_rate)
    gram += np.eye(len(hz)) * gram[0, 0] * _RIDGE
    solved = 2 * np.linalg.solve(gram, heard.T).T
    half = len(solved) // 2
    return (solved[:half] + 1j * solved[half:]).reshape(*frames.shape[:-1], len(hz)).astype(np.complex64)


def _window_transform(omega: Doubles, width: int, sample_rate: int) -> Doubles:
    """Sum of a Hann window times exp(j omega t) over a centred frame (real, as the window is even)."""

    def dirichlet(x: Doubles) -> Doubles:
        half = x / 2
        small = np.abs(half) < 1e-9
        safe = np.where(small, 1.0, half)
        return np.where(small, width, np.sin(width * safe) / np.tan(safe))

    x = omega / sample_rate
    step = 2 * np.pi / width
    return 0.5 * dirichlet(x) + 0.25 * (dirichlet(x + step) + dirichlet(x - step))


def sines(amplitudes: NDArray[np.complex64], width: int, sample_rate: int, hz: Doubles) -> Floats:
    """The sound of complex amplitudes in frames: [channels, F, P] -> [channels, F, W]."""
    parts = np.concatenate([amplitudes.real, -amplitudes.imag], axis=-1)
    return parts @ _carriers(width, sample_rate, hz).T


def _carriers(width: int, sample_rate: int, hz: Doubles) -> Floats:
    """Cosines and sines around the middle of a frame, [W, 2 P]."""
    omega = 2j * np.pi * hz / sample_rate
    fine = np.exp(np.outer(np.arange(_CARRIER_ROWS), omega)).astype(np.complex64)
    coarse = np.exp(np.outer(np.arange(0, width, _CARRIER_ROWS) - width // 2, omega)).astype(np.complex64)
    turned = (coarse[:, None] * fine).reshape(len(coarse) * _CARRIER_ROWS, len(hz))[:width]
    return np.concatenate([turned.real, turned.imag], axis=1)


def _look(samples: Floats, sample_rate: int, found: list[Expected], frames: slice, members: list[int]) -> _Group:
    """Fit the partials of all notes that sound in some frames; writes the notes' totals."""
    hz = np.concatenate([found[n].hz[: found[n].n_low] for n in members])
    cluster, n_clusters = clusters(hz, APART / WINDOW_SECONDS)
    if not n_clusters:
        return _Group(frames, members, cluster, 0)
    centre = np.bincount(cluster, hz, n_clusters) / np.bincount(cluster, minlength=n_clusters)
    width = 2 * int(WINDOW_SECONDS * sample_rate / 2)
    cut = frames_around(samples, np.arange(frames.start, frames.stop) * HOP_SECONDS * sample_rate, width)
    power = np.square(np.abs(solve_frames(cut, sample_rate, centre))).mean(axis=0)[:, cluster]  # [F, partials]
    at = 0
    for n in members:
        note = found[n]
        note.total[frames.start - note.first : frames.stop - note.first] = power[:, at : at + note.n_low]
        at += note.n_low
    return _Group(frames, members, cluster, n_clusters)


def _share(found: list[Expected], group: _Group) -> None:
    """Share out what belongs to several notes in proportion to what is expected of each."""
    pieces = [slice(group.frames.start - found[n].first, group.frames.stop - found[n].first) for n in group.members]
    expected = np.concatenate(
        [10 ** (found[n].level_db[piece] @ found[n].spread[:, : found[n].n_low] / 10)
         for n, piece in zip(group.members, pieces, strict=True)], axis=1)  # fmt: skip
    sums = np.zeros((len(expected), group.n_clusters))
    np.add.at(sums.T, group.cluster, expected.T)
    share = expected / np.maximum(sums[:, group.cluster], 1e-30)
    at = 0
    for n, piece in zip(group.members, pieces, strict=True):
        found[n].share[piece] = share[:, at : at + found[n].n_low]
        found[n].others[piece] = (sums[:, group.cluster] - expected)[:, at : at + found[n].n_low]
        at += found[n].n_low


class _Templates:
    """Spectra of the voices of a part, by pitch."""

    def __init__(self, notes: Records) -> None:
        self.pitch, self.voice = notes["pitch"].astype(int), notes["voice"].astype(int)
        octaves = np.log2(tk.CELL_HARMONICS)
        self.blank = _ROLLOFF_DB * octaves
        self.spectra = {(v, p): self.blank.copy() for v, p in set(zip(self.voice.tolist(), self.pitch.tolist(),
                                                                       strict=True))}  # fmt: skip
        self.loudness: list[Doubles] = []
        self.seen: list[tuple[Doubles, Doubles]] = []

    def learn(self, found: list[Expected], is_first: bool) -> None:
        """Learn from the shares as they are: the notes' loudness, then the spectra around their pitches."""
        if is_first:  # nothing is known of shares: who stands alone, is alone in its cluster
            _mark_alone(found)
        self.seen = [_cells(note, is_first) for note in found]
        for _ in range(2):
            self.loudness = [self._loudness(note, n) for n, note in enumerate(found)]
            self._update()

    def _loudness(self, note: Expected, n: int) -> Doubles:
        """Loudness of a note against its voice's spectrum, frame by frame, [F] dB."""
        level, weight = self.seen[n]
        spectrum = self.spectra[self.voice[n], self.pitch[n]]
        counts = weight * 10 ** ((spectrum - spectrum.max()) / 30)
        total = counts.sum(axis=1)
        mean = (counts * (level - spectrum)).sum(axis=1) / np.maximum(total, 1e-9)
        bound = _bound(note, spectrum)
        sure = total / (total + 0.02)
        return np.asarray(np.where(total > 1e-6, sure * mean + (1 - sure) * bound, bound))

    def _update(self) -> None:
        own: dict[tuple[int, int], list[Doubles]] = {place: [np.zeros(tk.N_PARTIALS), np.zeros(tk.N_PARTIALS)]
                                                     for place in self.spectra}  # fmt: skip
        for n, (level, weight) in enumerate(self.seen):
            counts = weight / len(weight) ** 0.5  # a long note says more than a short one, but not by its length
            sums = own[int(self.voice[n]), int(self.pitch[n])]
            sums[0] += (counts * (level - self.loudness[n][:, None])).sum(axis=0)
            sums[1] += counts.sum(axis=0)
        for voice, pitch in self.spectra:
            value, weight = 0.2 * self.blank, np.full(tk.N_PARTIALS, 0.2)
            for (other, p), (total, known) in own.items():
                near = np.exp(-0.5 * ((p - pitch) / _SPREAD_SEMITONES) ** 2)
                if other == voice and near > 0.01:
                    near *= 1.0 if p == pitch else 0.3
                    value, weight = value + near * total, weight + near * known
            spectrum = value / weight
            self.spectra[voice, pitch] = spectrum - spectrum[:6].max()

    def expect(self, note: Expected, n: int) -> None:
        """Write a note's expected levels."""
        level, weight = self.seen[n]
        model = self.loudness[n][:, None] + self.spectra[self.voice[n], self.pitch[n]]
        steps = np.arange(len(level)) * HOP_SECONDS
        kernel = np.exp(-np.abs(steps[:, None] - steps[None]) / _MEMORY_SECONDS)
        known = kernel @ weight
        off = (kernel @ (weight * np.clip(level - model, -40, 40))) / (known + _PRIOR)
        expected = np.maximum(model + off, SILENT_DB)
        let_go = max(int(np.ceil(note.damp / HOP_SECONDS)) - note.first, 0)  # from then on no note grows
        expected[let_go:] = np.minimum.accumulate(expected[let_go:], axis=0)
        note.level_db = expected


def _mark_alone(found: list[Expected]) -> None:
    """First shares: 1 where nothing else lies near a partial, little elsewhere."""
    for note in found:
        note.share[:] = 1.0
    times: dict[int, list[int]] = {}
    for n, note in enumerate(found):
        for f in range(note.first, note.first + len(note.total)):
            times.setdefault(f, []).append(n)
    known: dict[tuple[int, ...], list[Flags]] = {}
    for f, members in times.items():
        key = tuple(members)
        if key not in known:
            hz = np.concatenate([found[n].hz[: found[n].n_low] for n in members])
            cluster, n_clusters = clusters(hz, APART / WINDOW_SECONDS)
            is_shared = np.bincount(cluster, minlength=n_clusters)[cluster] > 1
            known[key] = np.split(is_shared, np.cumsum([found[n].n_low for n in members])[:-1])
        for n, is_shared in zip(members, known[key], strict=True):
            found[n].share[f - found[n].first, is_shared] = 0.03


def _cells(note: Expected, is_first: bool) -> tuple[Doubles, Doubles]:
    """Levels of a note's cells (dB) as far as its shares tell, and how much they count (0..1): [F, N_PARTIALS] both."""
    power = note.total if is_first else note.total * note.share
    spread = note.spread[:, : note.n_low]
    counts = np.square(np.clip(2 * note.share - 1, 0, 1))  # what is mostly others' says nothing
    total = counts @ spread.T  # [F, N_PARTIALS]
    level = (counts * 10 * np.log10(power + 1e-11)) @ spread.T / np.maximum(total, 1e-9)
    audible = np.maximum(power.max(axis=1, initial=0.0)[:, None] * 1e-5, power.max(initial=0.0) * 1e-6)
    is_heard = (10 ** (level / 10) > audible) & (total > 1e-9)
    return np.where(total > 1e-9, level, SILENT_DB), np.where(is_heard, total / np.maximum(spread.sum(axis=1), 1e-9), 0)


def _bound(note: Expected, spectrum: Doubles) -> Doubles:
    """How loud a note can be at most, frame by frame: no partial may be louder than what others leave of what it
    shares, [F] dB."""
    spread = note.spread[:, : note.n_low]
    left = np.maximum(note.total - note.others, 0.03 * note.total)
    above = 10 * np.log10(left + 1e-11) - spectrum @ spread
    strong = np.argsort(-(spectrum @ spread))[:8]
    return np.quantile(above[:, strong], 0.2, axis=1) if len(strong) else np.full(len(above), SILENT_DB)
