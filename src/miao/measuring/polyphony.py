"""Sound and its notes in, audio tokens of each note out, where notes sound together: recordings and mixes.

Each note is measured at the times of its own tokens, as `note.analyse_note` does, but with the partials of all
notes that sound with it fitted at once. Partials that a frame cannot tell apart are fitted as one, and the note gets
the share that `sharing.expected_levels` expects of it. Noise (all that no partial explains) is shared out band by band:
to each note by the energy that its partials are expected to have around the band, more to those that have just started.
What sounds where nobody plays (the room, hiss) is taken off the noise first. A note is followed after it is let go
until its key is struck again, for a second at most; the room's reverberation is in that.

Drums are followed up to the next stroke of the same key, and for 8 s at most, whatever their notes' ends say.

A note alone in silence comes out as `analyse_note` measures it.
"""

from dataclasses import dataclass

import numpy as np

from miao.arrays import Doubles, Flags, Floats, Integers, Reals, Records
from miao.bank import tokens as tk
from miao.bank.partials import Partials
from miao.bank.voices import N_PROGRAMS, is_drum_voice
from miao.measuring.note import (
    Levels,
    as_levels,
    band_weights,
    fit_frames,
    frame_width,
    frames_around,
    heard_partials,
    hidden_as_noise,
    is_even,
    levels_of,
    part_rest,
    pitch_track,
    straighten,
    without_rumble,
)
from miao.measuring.part_voices import Fits, fit_voices, nominal_hz, with_sides
from miao.measuring.sharing import APART, TAIL_SECONDS, Expected, expected_levels, sines, solve_frames
from miao.synth.note import RING_SECONDS

FEWEST_SURE = 0.3  # of a note's cells, below which its tokens say more of others than of itself
LONGEST_SECONDS = 20.0  # of a note
BLOCK_SECONDS = 60.0  # of notes that are kept in memory at a time
MARGIN_SECONDS = 2.0  # of sound before and after them
_YOUNG_SECONDS = 0.05  # how long a note has just started
_YOUNG_GAIN = 30.0  # by how much that raises its part of the noise
_FAINT_DB = 50.0  # others this far below the loudest partial of a chunk are left out
_OWN_DB = 60.0  # cells this far below a note's loudest do not count
_OWN_SHARE = 0.7  # from this share on a cell can be told from others
_STEADY_CENTS = 3.0
_WAVERING_CENTS = 10.0  # the same where others sound, as they leak into what is followed
_LONG_LOOK_SECONDS = 0.06  # in which the pitch of a note is followed where others sound
_LEAST_LEFT = 0.06  # of a band's noise, when many partials are fitted in it


@dataclass(frozen=True, eq=False)
class MeasuredPart:
    """What was measured of the notes of one part."""

    tokens: dict[int, tk.NoteTokens]  # by number of the note; those that could be measured
    sure: Doubles  # [n] share of a note's audible cells that could be told from others; 0 if not measured
    fits: Fits  # where the partials of each voice and pitch lie, and their stereo balance


def measure_notes(
    samples: Floats,
    sample_rate: int,
    notes: Records,
    *,
    tuning_cents: float = 0.0,
    fits: Fits | None = None,
    only: Flags | None = None,
) -> MeasuredPart:
    """Audio tokens of the notes of one part, which may sound together.

    ``notes`` is an array with fields start, damp (seconds from the first sample), pitch and voice, sorted by start. All
    that sounds must be in it. ``tuning_cents`` is where the recording is tuned (see align.py); ``fits`` where the
    partials lie, if that is known; ``only`` numbers of notes to measure, None for all.

    Shape: samples [channels, S], one channel or two.
    """
    samples = np.atleast_2d(np.asarray(samples, np.float32))[:2]
    if not samples.shape[1] or not len(notes):
        return MeasuredPart({}, np.zeros(len(notes)), fits or {})
    is_wide = len(samples) == 2 and float(np.square(samples[0] - samples[1]).sum()) > 1e-5 * float(
        np.square(samples).sum()
    )
    samples = without_rumble(samples if is_wide else samples[:1], sample_rate)
    notes = _with_drums_ringing(notes)
    fits = fits or fit_voices(samples, sample_rate, notes, tuning_cents)
    background = _background(samples, sample_rate, notes)
    seconds = samples.shape[1] / sample_rate
    wanted = np.arange(len(notes)) if only is None else np.sort(np.asarray(only, int))
    wanted = wanted[(notes["start"][wanted] >= 0) & (notes["start"][wanted] < seconds)]
    tokens: dict[int, tk.NoteTokens] = {}
    sure = np.zeros(len(notes))
    sides: dict[tuple[int, int], list[Reals]] = {}
    for some in np.split(wanted, np.flatnonzero(np.diff(notes["start"][wanted] // BLOCK_SECONDS)) + 1):
        if not len(some):
            continue
        begin = max(float(notes["start"][some].min()) - MARGIN_SECONDS, 0.0)
        end = float(min(notes["damp"][some].max(), notes["start"][some].max() + LONGEST_SECONDS)) + MARGIN_SECONDS
        first = round(begin * sample_rate)
        heard = np.flatnonzero((notes["start"] < end) & (notes["damp"] + TAIL_SECONDS > begin))
        there = notes[heard]
        for name in ("start", "damp"):
            there[name] -= first / sample_rate
        stage = _Stage(samples[:, first : round(end * sample_rate)], sample_rate, there, fits, background)
        for n, place in zip(some.tolist(), np.searchsorted(heard, some).tolist(), strict=True):
            measured = _Note(stage, place).measured()
            if measured is None:
                continue
            tokens[n], sure[n], balance = measured
            if is_wide:
                sides.setdefault((int(notes["voice"][n]), int(notes["pitch"][n])), []).append(balance)
    return MeasuredPart(tokens, sure, with_sides(fits, sides, is_wide))


def _with_drums_ringing(notes: Records) -> Records:
    """The notes, with drums damped by the next stroke of their key."""
    notes = notes.copy()
    for n in np.flatnonzero(notes["voice"] >= N_PROGRAMS):
        again = notes["start"][(notes["voice"] == notes["voice"][n]) & (notes["start"] > notes["start"][n])]
        notes["damp"][n] = min(notes["start"][n] + RING_SECONDS, again.min(initial=np.inf))
    return notes


class _Stage:
    """A part as a whole: its sound, and what is expected of each of its notes."""

    def __init__(self, samples: Floats, sample_rate: int, notes: Records, fits: Fits, background: Reals) -> None:
        self.samples, self.sample_rate, self.notes = samples, sample_rate, notes
        self.partials = [fits[int(v), int(p)].partials() for v, p in zip(notes["voice"], notes["pitch"], strict=True)]
        self.expected: list[Expected] = expected_levels(samples, sample_rate, notes, self.partials)
        self.background = background  # [N_NOISE]
        self.starts = np.array([note.start for note in self.expected])
        self.ends = np.array([note.end for note in self.expected])

    def others(self, n: int, begin: float, end: float) -> list[int]:
        """Notes but this one that may be heard in a stretch of time."""
        is_on = (self.starts < end) & (self.ends > begin)
        is_on[n] = False
        return np.flatnonzero(is_on).tolist()


@dataclass(frozen=True, eq=False)
class _Chunk:
    """What was measured in a chunk's frames."""

    levels: Floats  # [32, C]
    is_sure: Flags  # [32, C - 1]
    sides: Doubles  # [channels, C - 1] power


class _Note:
    """One note of a part, on its way to tokens."""

    def __init__(self, stage: _Stage, n: int) -> None:
        self.stage, self.n, self.expected = stage, n, stage.expected[n]
        rate, notes = stage.sample_rate, stage.notes
        self.start = float(notes["start"][n])
        self.is_drum = is_drum_voice(int(notes["voice"][n]))
        self.hold = float(np.clip(notes["damp"][n] - self.start, 0.01, LONGEST_SECONDS))
        begin = round(self.start * rate)
        self.origin = begin / rate
        stop = int(np.ceil(min(self.expected.end, self.start + self.hold + TAIL_SECONDS) * rate))
        self.sound = stage.samples[:, begin : max(min(stop, stage.samples.shape[1]), begin + 1)]
        hz = nominal_hz(int(notes["voice"][n]), int(notes["pitch"][n]))
        partials = stage.partials[n].below(min(0.47 * rate, 20_000) / hz)
        self.is_grid = is_even(partials.ratios)
        self.spacing = hz * partials.ratios[0] if self.is_grid else 60.0
        self.partials: Partials = heard_partials(self.sound, rate, hz, partials)
        self.hz = self.partials.ratios * hz
        self.all_others = stage.others(n, self.start, self.start + self.sound.shape[1] / rate)
        self.cents = np.zeros(2)
        self.straight: Reals = stage.samples
        self.warped: Doubles | None = None
        self._follow_pitch()

    def _follow_pitch(self) -> None:
        """Where a note alone wavers, lay it out on a time axis on which it stands still."""
        rate, seconds = self.stage.sample_rate, self.sound.shape[1] / self.stage.sample_rate
        length = np.clip(3 / self.spacing, 0.02 if not self.all_others else _LONG_LOOK_SECONDS, 0.1)
        clear = self._clear(self.hz[:10], 2 / length)
        if not self.is_grid or not clear.any():
            return
        width = int(rate * length)
        cents, _ = pitch_track(self.sound, rate, self.hz[:10][clear], width, seconds)
        if np.abs(cents).max() > (_STEADY_CENTS if not self.all_others else _WAVERING_CENTS):
            self.cents = cents
            self.straight, self.warped = straighten(self.sound, rate, cents)

    def _clear(self, hz: Doubles, reach_hz: float) -> Flags:
        """Which of some partials no other note comes near while this one is held."""
        times = np.arange(0.03, max(min(self.hold, self.sound.shape[1] / self.stage.sample_rate), 0.06), 0.05)
        times = times + self.start
        is_clear = np.ones(len(hz), bool)
        mine = self.expected.power_at(times)
        nearest = np.abs(self.expected.hz[:, None] - hz[None]).argmin(axis=0) if len(hz) else np.zeros(0, int)
        for other in self.all_others:
            note = self.stage.expected[other]
            near = np.abs(note.hz[:, None] - hz[None]) < reach_hz
            if near.any():
                theirs = note.power_at(times) @ near  # [times, hz]
                is_clear &= theirs.mean(axis=0) < 0.03 * mine[:, nearest].mean(axis=0)
        return is_clear

    def measured(self) -> tuple[tk.NoteTokens, float, Floats] | None:
        """Tokens, how sure they are, and the left channel's share of each cell; None if nothing is heard of it."""
        rate, steps = self.stage.sample_rate, tk.CHUNK_STEPS
        n_held = 1 + int(np.ceil(max(self.hold - tk.ATTACK_SECONDS, 0) / (steps * tk.STEP_SECONDS[tk.SUSTAIN])))
        tail = self.sound.shape[1] / rate - self.hold
        n_release = max(1, int(np.ceil(tail / (steps * tk.STEP_SECONDS[tk.RELEASE]))))
        times = np.concatenate([tk.held_times(n_held), self.hold + tk.release_times(n_release)]).reshape(-1, steps)
        kinds = [tk.ATTACK] + [tk.SUSTAIN] * (n_held - 1) + [tk.RELEASE] * n_release
        chunks = [self._chunk(t, kind) for t, kind in zip(times, kinds, strict=True)]
        levels = np.stack([chunk.levels for chunk in chunks])
        is_over = times > self.sound.shape[1] / rate + 0.5 * tk.STEP_SECONDS[tk.RELEASE]
        levels[is_over, : tk.PITCH_CELL] = 0
        quantised = np.rint(levels).astype(np.uint8)
        sounding = quantised[:, :, : tk.PITCH_CELL] > 0
        if not sounding[:n_held].any():
            return None
        cells = tk.PITCH_CELL if self.is_drum else tk.N_PARTIALS  # noise tells drums apart, and nothing else
        loud = levels[:, :, : tk.PITCH_CELL] > levels[:, :, : tk.PITCH_CELL].max() - _OWN_DB / tk.LEVEL_STEP_DB
        is_sure = np.stack([chunk.is_sure for chunk in chunks])
        sure = float(is_sure[:, :, :cells][loud[:, :, :cells]].mean()) if loud[:, :, :cells].any() else 0.0
        is_heard = (sounding & loud).any(axis=(1, 2))
        hold = self.hold
        if self.is_drum:  # it has no release; what lasts is what is heard
            n_held = 1 + int(np.flatnonzero(is_heard)[-1])
            quantised = np.concatenate([quantised[:n_held], np.zeros_like(quantised[:1])])
            quantised[n_held, :, tk.PITCH_CELL] = tk.CENTS_CENTRE
            n_release, hold = 1, float(min(self.hold, times[n_held - 1, -1]))
        else:
            heard = np.flatnonzero(is_heard[n_held:])
            n_release = 1 + (int(heard[-1]) if len(heard) else 0)
        sides = np.sum([chunk.sides for chunk in chunks], axis=0)
        floor = 1e-6 * sides.sum() + 1e-20
        left = (sides[0] + floor) / (sides.sum(axis=0) + 2 * floor) if len(sides) == 2 else np.full(tk.N_CELLS - 1, 0.5)
        tokens = tk.NoteTokens(quantised[:n_held], quantised[n_held : n_held + n_release], hold)
        return tokens, sure, left.astype(np.float32)

    def _chunk(self, times: Doubles, kind: int) -> _Chunk:
        """Measure the tokens at some times (seconds after the start) in frames of one length."""
        rate = self.stage.sample_rate
        width = frame_width(kind, self.spacing, rate)
        width += width % 2
        moments = self.start + times
        mine = self.expected.power_at(moments)[:, np.searchsorted(self.expected.hz, self.hz - 1e-6)]  # [F, P]
        others = [self.stage.expected[i] for i in self.stage.others(self.n, moments[0] - 0.4 * width / rate,
                                                                     moments[-1] + 0.4 * width / rate)]  # fmt: skip
        other_hz, theirs, levels = self._heard_others(others, moments, mine)
        gap = APART * rate / width
        shared, apart_hz = _merged(self.hz, other_hz, theirs, gap)
        share = mine / np.maximum(mine + shared, 1e-30) if len(other_hz) else np.ones_like(mine)

        measured, all_hz, own = self._frames(times, width, np.concatenate([self.hz, apart_hz]))
        power, noise = part_rest(measured, rate, all_hz)
        if len(apart_hz):
            noise = noise * _left_over(all_hz, measured.seconds)
        power, noise = hidden_as_noise(power, noise, measured.seconds, all_hz)
        noise_share = self._noise_share(moments, mine, others, levels)
        noise = np.maximum(noise - self.stage.background, 0) * noise_share
        cents = np.interp(times, np.arange(len(self.cents)) * 0.005, self.cents)
        # what is to be expected of one of several that add up with unknown phases: its part of the amplitude, squared,
        # and what the others may hide of it
        power = np.where(share < 1, np.square(share) * power[:, own] + (1 - share) * np.minimum(mine, power[:, own]),
                         power[:, own])  # fmt: skip
        tokens = as_levels(power, noise, self.partials, cents)

        cells = self.partials.spread
        cell_share = share @ cells.T / np.maximum(cells.sum(axis=1), 1e-9)
        is_sure = np.concatenate([cell_share, noise_share], axis=1) > _OWN_SHARE
        sides = np.concatenate([(measured.partials[:, :, own] * share).sum(axis=1) @ cells.T,
                                np.zeros((len(measured.partials), tk.N_NOISE))], axis=1)  # fmt: skip
        return _Chunk(tokens, is_sure, sides)

    def _heard_others(
        self, others: list[Expected], moments: Doubles, mine: Doubles
    ) -> tuple[Doubles, Doubles, list[Doubles]]:
        """Partials of other notes that matter now: their frequencies [Q] and expected powers [F, Q], of all notes."""
        pieces = [note.power_at(moments) for note in others]
        loudest = max([mine.max(initial=0.0), *(piece.max(initial=0.0) for piece in pieces)])
        keep = [piece.max(axis=0, initial=0.0) > loudest * 10 ** (-_FAINT_DB / 10) for piece in pieces]
        hz = np.concatenate([np.zeros(0)] + [note.hz[k] for note, k in zip(others, keep, strict=True)])
        heard = [p[:, k] for p, k in zip(pieces, keep, strict=True)]
        power = np.concatenate([np.zeros((len(moments), 0)), *heard], axis=1)
        return hz, power, pieces

    def _frames(self, times: Doubles, width: int, hz: Doubles) -> tuple[Levels, Doubles, Integers]:
        """Levels of all partials in frames at some times, the frequencies in order, and where the note's own are."""
        rate = self.stage.sample_rate
        if self.warped is None:
            sound, centres = self.stage.samples, (self.origin + times) * rate
        else:
            sound, centres = self.straight, np.interp(times * rate, np.arange(len(self.warped)), self.warped)
        order = np.argsort(hz, kind="stable")
        place = np.empty(len(hz), int)
        place[order] = np.arange(len(hz))
        hz = hz[order]
        frames = frames_around(sound, centres, width)
        if self.warped is None:  # what was before the note is none of it
            frames = frames * (np.rint(centres).astype(int)[:, None] - width // 2 + np.arange(width)
                               >= self._quiet_before(width))  # fmt: skip
        if len(hz) == len(self.hz):
            amplitudes, rest = fit_frames(frames, rate, hz)
        else:  # partials of several notes lie too close for slopes to be told apart
            amplitudes = solve_frames(frames, rate, hz)
            rest = frames - sines(amplitudes, width, rate, hz)
        return levels_of(amplitudes, rest, rate), hz, place[: len(self.hz)]

    def _quiet_before(self, width: int) -> int:
        """The first sample that counts: the note's first, if nothing else sounds there."""
        return round(self.origin * self.stage.sample_rate) if not self.all_others else -width

    def _noise_share(self, moments: Doubles, mine: Doubles, others: list[Expected], levels: list[Doubles]) -> Doubles:
        """The note's part of each band's noise, [F, N_NOISE]."""
        own = _noise_weight(self.hz, mine, moments - self.start)
        total = own + 1e-30
        for note, power in zip(others, levels, strict=True):
            total = total + _noise_weight(note.hz, power, moments - note.start)
        return own / total


def _noise_weight(hz: Doubles, power: Doubles, age: Doubles) -> Doubles:
    """How much noise is to be expected of a note in each band, [F, N_NOISE], up to a factor: by the energy of its
    partials near the band, and of all of them a little, more while it is young."""
    band = np.clip(np.searchsorted(tk.NOISE_EDGES_HZ, hz) - 1, 0, tk.N_NOISE - 1)
    inside = np.zeros((len(power), tk.N_NOISE))
    np.add.at(inside.T, band, power.T)
    padded = np.pad(inside, ((0, 0), (1, 1)), mode="edge")
    weight = (padded[:, :-2] + padded[:, 1:-1] + padded[:, 2:]) / 3 + 1e-3 * inside.sum(axis=1, keepdims=True)
    aged: Doubles = weight * (1 + _YOUNG_GAIN * np.exp(-np.maximum(age, 0) / _YOUNG_SECONDS) * (age > -0.01))[:, None]
    return aged


def _merged(own: Doubles, others: Doubles, power: Doubles, gap: float) -> tuple[Doubles, Doubles]:
    """What others add to each own partial [F, P], and the frequencies that are to be fitted beside the own ones.

    Others' partials within ``gap`` of an own one go into it; those closer to each other than that become one.
    """
    shared = np.zeros((len(power), len(own)))
    if not len(others):
        return shared, others
    if len(own):
        nearest = np.abs(others[:, None] - own[None]).argmin(axis=1)
        is_near = np.abs(others - own[nearest]) < gap
        np.add.at(shared.T, nearest[is_near], power[:, is_near].T)
    else:
        is_near = np.zeros(len(others), bool)
    apart: list[float] = []
    order = np.argsort(-power[:, ~is_near].max(axis=0, initial=0.0))
    taken = np.zeros(0)
    for value in others[~is_near][order].tolist():
        if not len(taken) or np.abs(taken - value).min() >= gap:
            apart.append(value)
            taken = np.array(apart)
    return shared, taken


def _left_over(hz: Doubles, seconds: float) -> Doubles:
    """By how much a band's noise is to be raised, as partials at these frequencies have taken some of it, [N_NOISE]."""
    taken = np.histogram(hz, tk.NOISE_EDGES_HZ)[0] / (np.diff(tk.NOISE_EDGES_HZ) * seconds)
    return 1 / np.maximum(1 - taken, _LEAST_LEFT)


def _background(samples: Floats, sample_rate: int, notes: Records) -> Reals:
    """Power in each noise band while nobody plays, mean of the channels, [N_NOISE]; 0 if that is never so."""
    n = 4096
    n_frames = samples.shape[1] // n
    if not n_frames:
        return np.zeros(tk.N_NOISE)
    middles = (np.arange(n_frames) + 0.5) * n / sample_rate
    half = n / sample_rate
    is_free = np.ones(n_frames, bool)
    for start, damp in zip(notes["start"].tolist(), notes["damp"].tolist(), strict=True):
        is_free &= (middles < start - half) | (middles > damp + 2 * TAIL_SECONDS)
    if is_free.sum() < 3:
        return np.zeros(tk.N_NOISE)
    window = np.hanning(n + 1)[:-1].astype(np.float32)
    cut = samples[:, : n_frames * n].reshape(len(samples), n_frames, n)[:, is_free]
    power = (np.abs(np.fft.rfft(cut * window, axis=2)) ** 2).mean(axis=0) * 2 / (n * np.square(window).sum())
    background: Reals = np.median(power @ band_weights(n, sample_rate), axis=0)
    return background
