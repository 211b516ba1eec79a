"""A score read as a player reads it: beats and bars, parts and their chords, the tune, its phrases, the harmony, and
what of a performance is in it already. Nothing here is played; `rules.py` says what follows from it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Flags, Integers, Records
from miao.expression.beats import Bars, Pulse, bar_positions, bars_of, infer_bars, metrical_weights
from miao.expression.phrases import Line, boundary_strengths, find_phrases
from miao.midi.score import Score

CHORD_SECONDS = 0.03  # notes of one part that start within this are struck together
PHRASES_A_PERIOD = 4.0
_TUNE_WORDS = ("melody", "lead", "vocal", "voice", "solo", "tune", "melodie", "gesang", "sopran")
_SILENT_SECONDS = 2.0  # that the leading part may rest before another part has the tune
_TRIADS = ((0, 4, 7), (0, 3, 7), (0, 3, 6), (0, 4, 7, 10))
# Krumhansl and Kessler's (1982) profiles of major and minor keys, from the tonic up
_MAJOR = np.array([6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88])
_MINOR = np.array([6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17])


@dataclass(frozen=True, eq=False)
class Phrase:
    """A stretch of the tune, in quarters."""

    start: float
    end: float  # where the next begins, or the piece ends
    last: float  # where its last note starts


@dataclass(frozen=True, eq=False)
class Reading:
    """The notes of all tracks in one table, in order of (start, pitch), and what is known of each; arrays are [n]."""

    pulse: Pulse
    bars: tuple[Bars, ...]
    track: NDArray[np.int64]
    place: NDArray[np.int64]  # of the note in its track
    start: NDArray[np.float64]  # seconds
    end: NDArray[np.float64]
    pitch: NDArray[np.float64]
    velocity: NDArray[np.float64]
    program: NDArray[np.int64]
    is_drum: NDArray[np.bool_]
    quarter: NDArray[np.float64]  # of the start
    weight: NDArray[np.float64]  # of the beat, 0 to 1
    chord: NDArray[np.int64]  # numbers the strokes of each part; notes struck together share one
    is_top: NDArray[np.bool_]  # the highest of its chord
    is_bottom: NDArray[np.bool_]
    is_tune: NDArray[np.bool_]
    next_start: NDArray[np.float64]  # of the next chord of the part; the note's own end after the last
    previous_pitch: NDArray[np.float64]  # of the note before in its line (top notes: the last top), its own at first
    tune: NDArray[np.int64]  # the notes of the tune in time order
    strengths: NDArray[np.float64]  # [len(tune)] of boundaries
    phrases: tuple[Phrase, ...]
    periods: tuple[Phrase, ...]
    chord_root: NDArray[np.int64]  # pitch class of the harmony under the note
    key: tuple[int, bool]  # pitch class of the tonic, and whether it is minor
    played_timing: float  # 0 straight as printed, 1 as a person plays
    played_dynamics: float  # likewise
    end_quarter: float

    @property
    def n(self) -> int:
        return len(self.start)


def read(score: Score) -> Reading:
    """What a player sees in a score; bars are guessed from the notes where the file has no time signatures."""
    counts = [len(track.notes) for track in score.tracks]
    table = np.concatenate([track.notes for track in score.tracks])
    track = np.repeat(np.arange(len(counts)), counts)
    place = np.concatenate([np.arange(n) for n in counts])
    order = np.lexsort((table["pitch"], table["start"]))
    table, track, place = table[order], track[order], place[order]
    start, end = table["start"], np.maximum(table["end"], table["start"])
    pitch = table["pitch"].astype(float)
    is_drum = table["is_drum"]
    pulse = Pulse.of(score.tempi)
    quarter = pulse.quarters(start)
    bars = bars_of(score.meters, pulse)
    if not bars:
        salience = np.minimum(end - start, 1.0) * (1 + (pitch < 55)) * table["velocity"] / 64
        bars = (infer_bars(quarter, salience),)
    chord, next_start = _chords(track, start, end, is_drum)
    pitched = np.flatnonzero(~is_drum)
    is_top, is_bottom = _extremes(chord, pitch)
    tune = _tune(score, track, start, end, pitch, is_top & ~is_drum, chord)
    is_tune = np.zeros(len(table), bool)
    is_tune[tune] = True
    end_quarter = float(pulse.quarters(np.array([end.max()]))[0])
    strengths, phrases, periods = _phrases(tune, start, end, quarter, pitch, bars, end_quarter)
    return Reading(
        pulse, bars, track, place, start, end, pitch, table["velocity"].astype(float),
        table["program"].astype(np.int64), is_drum, quarter, metrical_weights(quarter, bars), chord, is_top, is_bottom,
        is_tune, next_start, _previous(track, is_top, pitch), tune, strengths, phrases, periods,
        _roots(quarter, start, end, pitch, pitched, bars), _key(pitch[pitched], (end - start)[pitched]),
        _played_timing(score, quarter, pulse, start), _played_dynamics(table, track, score), end_quarter,
    )  # fmt: skip


def _chords(track: Integers, start: Doubles, end: Doubles, is_drum: Flags) -> tuple[Integers, Doubles]:
    """The stroke each note belongs to, and when its part strikes next."""
    order = np.lexsort((start, track))
    t, s = track[order], start[order]
    begins = np.ones(len(order), bool)
    anchor = -np.inf
    current = -1
    for i, (part, time) in enumerate(zip(t.tolist(), s.tolist(), strict=True)):
        if part == current and time - anchor <= CHORD_SECONDS:
            begins[i] = False
        else:
            current, anchor = part, time
    number = np.cumsum(begins) - 1
    firsts = np.flatnonzero(begins)
    following = np.append(firsts[1:], len(order))[number]
    inside = following < len(order)
    inside[inside] = t[following[inside]] == t[inside.nonzero()[0]]
    upcoming = end[order].copy()
    upcoming[inside] = s[following[inside]]
    chord, next_start = np.empty(len(order), np.int64), np.empty(len(order))
    chord[order], next_start[order] = number, upcoming
    return chord, next_start


def _extremes(chord: Integers, pitch: Doubles) -> tuple[Flags, Flags]:
    """Which notes are the highest and which the lowest of their chords."""
    highest, lowest = np.full(chord.max() + 1, -np.inf), np.full(chord.max() + 1, np.inf)
    np.maximum.at(highest, chord, pitch)
    np.minimum.at(lowest, chord, pitch)
    return pitch >= highest[chord], pitch <= lowest[chord]


def _previous(track: Integers, is_top: Flags, pitch: Doubles) -> NDArray[np.float64]:
    """The pitch of the top note before, in the same track."""
    previous = pitch.copy()
    for number in np.unique(track):
        tops = np.flatnonzero((track == number) & is_top)
        previous[tops[1:]] = pitch[tops[:-1]]
    return previous


def _tune(score: Score, track: Integers, start: Doubles, end: Doubles, pitch: Doubles, candidate: Flags,
          chord: Integers) -> NDArray[np.int64]:  # fmt: skip
    """The notes of the tune: the top line of the leading part, and of others while it rests.

    Parts lead by their names ("Melody"), by being high, and by being one voice; a note that starts while a longer
    one of the tune sounds above it is accompaniment.
    """
    tops = np.flatnonzero(candidate)
    if not len(tops):
        return np.zeros(0, np.int64)
    rank = {}
    for number in np.unique(track[tops]).tolist():
        mine = tops[track[tops] == number]
        strokes = len(np.unique(chord[mine]))
        all_notes = int((track == number).sum())
        named = any(word in score.tracks[number].name.lower() for word in _TUNE_WORDS)
        rank[number] = pitch[mine].mean() / 12 + 2.0 * strokes / all_notes + 4.0 * named
    leaders = sorted(rank, key=lambda number: -rank[number])
    kept: list[Integers] = []
    covered_from, covered_to = np.zeros(0), np.zeros(0)
    for number in leaders:
        mine = tops[track[tops] == number]
        line = _skyline(mine, start, end, pitch)
        if len(covered_from):
            i = np.searchsorted(covered_from, start[line], side="right") - 1
            is_free = (i < 0) | (start[line] > covered_to[np.maximum(i, 0)])
            line = line[is_free]
        if not len(line):
            continue
        kept.append(line)
        begin = np.concatenate([covered_from, start[line] - 0.05])
        stop = np.concatenate([covered_to, np.maximum(end[line], start[line]) + _SILENT_SECONDS])
        order = np.argsort(begin, kind="stable")
        begin, stop = begin[order], np.maximum.accumulate(stop[order])
        covered_from, covered_to = begin, stop
    tune = np.concatenate(kept)
    return tune[np.argsort(start[tune], kind="stable")]


def _skyline(notes: Records, start: Doubles, end: Doubles, pitch: Doubles) -> NDArray[np.int64]:
    """Those that no higher note of the line sounds over when they start (for a second at the most)."""
    kept: list[int] = []
    top_until, top = -np.inf, -np.inf
    for i, s, e, p in zip(
        notes.tolist(), start[notes].tolist(), end[notes].tolist(), pitch[notes].tolist(), strict=True
    ):
        if kept and s - start[kept[-1]] < CHORD_SECONDS:
            if p > pitch[kept[-1]]:
                kept[-1], top, top_until = i, p, min(e, s + 1.0) - 0.03
            continue
        if s >= top_until or p > top - 5:
            kept.append(i)
            top, top_until = p, min(e, s + 1.0) - 0.03
    return np.array(kept, np.int64)


def _phrases(
    tune: Integers,
    start: Doubles,
    end: Doubles,
    quarter: Doubles,
    pitch: Doubles,
    bars: Sequence[Bars],
    end_quarter: float,
) -> tuple[Doubles, tuple[Phrase, ...], tuple[Phrase, ...]]:
    """Strengths of boundaries along the tune, its phrases and its periods."""
    if not len(tune):
        return np.zeros(0), (), ()
    since, bar, _ = bar_positions(quarter[tune], bars)
    line = Line(start[tune], np.maximum(end[tune], start[tune]), pitch[tune], since / bar)
    strengths = boundary_strengths(line)
    firsts = find_phrases(line, strengths)
    borders = quarter[tune][firsts]
    lasts = quarter[tune][np.append(firsts[1:], len(tune)) - 1]
    ends = np.append(borders[1:], end_quarter)
    phrases = tuple(Phrase(*row) for row in zip(borders.tolist(), ends.tolist(), lasts.tolist(), strict=True))
    at = strengths[firsts] / 2 + 0.3
    above = Line(borders, ends, np.zeros(len(firsts)), since[firsts] / bar[firsts])
    heads = find_phrases(above, at, PHRASES_A_PERIOD)
    period_ends = np.append(borders[heads[1:]], end_quarter)
    period_lasts = lasts[np.append(heads[1:], len(firsts)) - 1]
    rows = zip(borders[heads].tolist(), period_ends.tolist(), period_lasts.tolist(), strict=True)
    return strengths, phrases, tuple(Phrase(*row) for row in rows)


def _roots(quarter: Doubles, start: Doubles, end: Doubles, pitch: Doubles, pitched: Integers, bars: Sequence[Bars]
           ) -> NDArray[np.int64]:  # fmt: skip
    """The root of the harmony around each note: the triad or seventh chord that most of its half bar belongs to, its
    lowest notes counting double."""
    roots = np.zeros(len(quarter), np.int64)
    if not len(pitched):
        return roots
    since, bar, _ = bar_positions(quarter, bars)
    half = np.where(np.mod(bar, 2) == 0, bar / 2, bar)
    span = np.rint((quarter - since) * 48 + np.floor((since + 1e-6) / half) * 7).astype(np.int64)
    _, cell = np.unique(span, return_inverse=True)
    profile = np.zeros((cell.max() + 1, 12))
    length = np.clip(end - start, 0.05, 2.0)
    np.add.at(profile, (cell[pitched], pitch[pitched].astype(int) % 12), length[pitched])
    lowest = np.full(len(profile), np.inf)
    np.minimum.at(lowest, cell[pitched], pitch[pitched])
    has_notes = np.isfinite(lowest)
    rows = np.flatnonzero(has_notes)
    profile[rows, lowest[rows].astype(int) % 12] += 0.5 * profile[rows].max(axis=1)
    templates = np.stack(
        [np.bincount((np.array(t) + r) % 12, minlength=12) / len(t) ** 0.5 for r in range(12) for t in _TRIADS]
    )  # [48, 12]
    best = (profile @ templates.T).argmax(axis=1) // len(_TRIADS)
    found: Integers = best[cell].astype(np.int64)
    return found


def _key(pitch: Doubles, length: Doubles) -> tuple[int, bool]:
    """Tonic and mode by correlation with Krumhansl's profiles."""
    if not len(pitch):
        return 0, False
    weight = np.bincount(pitch.astype(int) % 12, np.clip(length, 0.05, 2.0), minlength=12)
    fits = [
        float(np.corrcoef(np.roll(profile, t), weight)[0, 1]) if weight.std() > 0 else 0.0
        for profile in (_MAJOR, _MINOR)
        for t in range(12)
    ]
    best = int(np.argmax(fits))
    return best % 12, best >= 12


def _played_timing(score: Score, quarter: Doubles, pulse: Pulse, start: Doubles) -> float:
    """How far a file's time is a person's already: onsets beside the grid of 16ths, triplets and 32nds, or a tempo map
    that moves all the time."""
    off = np.min([np.abs(quarter * grid - np.rint(quarter * grid)) / grid for grid in (8, 12)], axis=0)
    rate = pulse.per_second[np.maximum(np.searchsorted(pulse.seconds_at, start, side="right") - 1, 0)]
    beside = float((off / rate > 0.006).mean())  # half of it by chance where a sixth of a beat is 36 ms and less
    tempi = np.log(np.maximum(score.tempi.values, 1e-3)) if len(score.tempi.values) else np.zeros(1)
    moves = np.abs(np.diff(tempi))
    small = (moves > 0.002) & (moves < 0.35)
    by_map = float(np.clip(small.sum() / max(start.max() - start.min(), 1.0) / 0.5, 0, 1))
    return float(np.clip(max((beside - 0.15) / 0.35, by_map), 0, 1))


def _played_dynamics(table: Records, track: Integers, score: Score) -> float:
    """How far a file has dynamics: velocities that differ within a track, 2.5 dB as a person's, or faders."""
    spreads, sizes = [], []
    for number in np.unique(track):
        mine = table[track == number]
        mine = mine[~mine["is_drum"]]
        if len(mine) < 8:
            continue
        level = 40 * np.log10(np.maximum(mine["velocity"], 1) / 127)
        fader = score.tracks[int(number)].controls.get("expression")
        if fader is not None and len(fader.times):
            level = level + 40 * np.log10(np.maximum(fader.at(mine["start"]), 0.05))
        is_varied = len(np.unique(np.rint(level * 4))) > 5  # two or three steps are a score's accents, no playing
        spreads.append(float(np.clip(level.std() / 2.5, 0, 1)) * is_varied)
        sizes.append(len(mine))
    return float(np.average(spreads, weights=sizes)) if sizes else 0.0
