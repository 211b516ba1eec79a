"""The rules of performance, each by itself: what a note's level, its time and its end owe to the structure.

The base is the KTH system (Friberg, Bresin and Sundberg 2006, Advances in Cognitive Psychology 2; Friberg 1991,
Computer Music Journal 15; Director Musices), with its quantities; where another source or our own choice stands behind
a rule, its docstring says so. Rules add up, and every rule grows linearly with its amount.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Flags
from miao.expression.beats import bar_positions
from miao.expression.reading import Phrase, Reading

STEP_QUARTERS = 0.25  # the tempo curve's grid, finer where the tune has notes between
_MOST_STEPS = 40_000
HIGH_LOUD_DB = 3.0  # an octave
ARCH_START, ARCH_END = 0.10, 0.20  # longer, of a phrase's first and last unit
ARCH_START_DB, ARCH_END_DB = -1.5, -3.0
ARCH_TURN = 0.4  # of the phrase: where it is fastest
# seconds of a note; change of its length in milliseconds and of its level (Friberg 1991, rule DDC 1A and 1B)
CONTRAST_SECONDS = np.array([0.03, 0.2, 0.4, 0.6])
CONTRAST_MS = np.array([0.0, -16.5, -10.5, 0.0])
CONTRAST_DB = np.array([0.0, -0.825, -0.525, 0.0])
DOUBLE_SHARE = 0.12  # of the short note, taken from the long one
UPHILL_MS = -2.0
# melodic charge by semitones above the root: 0 at the root, along the circle of fifths to 6.5 (Sundberg 1993)
MELODIC_CHARGE = np.array([0, 6.5, 2, 4.5, 4, 2.5, 6, 1, 5.5, 3, 3.5, 5])
CHARGE_DB, CHARGE_STRETCH = 0.2, 0.0067  # a unit of charge
PUNCTUATION_GAP, PUNCTUATION_STRETCH = 0.06, 0.04  # seconds; share of the note
REPEAT_GAP = 0.04  # seconds before a key is struck again
BREATH_GAP = 0.12  # seconds at the end of a phrase
RITARD_QUARTERS, RITARD_END = 6.0, 0.5  # how long the last slowing is, and the speed in the end
LEAD_SECONDS = 0.02  # Goebl 2001: melody notes of pianists come 20 to 30 ms early
ROLL_SECONDS = 0.004  # from one note of a chord to the next
ACCENT_DB = 2.5  # from the weakest place to the bar line
LEAP_DB = 0.12  # a semitone beyond a third, up to an octave
TUNE_DB, INNER_DB = 2.5, -1.0  # of the tune, and of what is neither tune nor bass
GROOVE_DB = 4.0  # drums: from off-beats to the bar line
NOISE_SECONDS, PART_NOISE_SECONDS = 0.010, 0.003  # standard deviations: all together, and each part beside it


@dataclass(frozen=True, eq=False)
class Timeline:
    """The moments between which the tempo is one: quarters, and seconds as the file has them; each [m + 1]."""

    quarters: NDArray[np.float64]
    seconds: NDArray[np.float64]

    @classmethod
    def of(cls, reading: Reading) -> "Timeline":
        """A grid of quarters of beats, with the tune's notes and the phrases' borders in it."""
        end = max(reading.end_quarter, STEP_QUARTERS)
        step = max(STEP_QUARTERS, end / _MOST_STEPS)
        first = min(0.0, float(reading.quarter.min()))
        grid = np.arange(first, end + step, step)
        inside = reading.pulse.quarters_at[(reading.pulse.quarters_at > first) & (reading.pulse.quarters_at < end)]
        knots = np.concatenate([grid, reading.quarter[reading.tune], [p.start for p in reading.phrases], inside])
        knots = np.unique(np.round(knots, 6))
        knots = knots[np.append(True, np.diff(knots) > 1e-4)]
        return cls(knots, reading.pulse.seconds(knots))

    @property
    def middles(self) -> NDArray[np.float64]:
        """Quarters, [m]."""
        return (self.quarters[1:] + self.quarters[:-1]) / 2

    @property
    def lengths(self) -> NDArray[np.float64]:
        """Seconds as the file has them, [m]."""
        return np.diff(self.seconds)


@dataclass(frozen=True, eq=False)
class Deviation:
    """What differs from the score, in units that add up."""

    level: NDArray[np.float64]  # [n] dB
    stretch: NDArray[np.float64]  # [m] of the timeline's steps: how much longer, as a share
    delay: NDArray[np.float64]  # [n] seconds after the common time
    gap: NDArray[np.float64]  # [n] seconds by which a note ends sooner (later, if negative)

    @classmethod
    def none(cls, reading: Reading, timeline: Timeline) -> "Deviation":
        """As written."""
        n, m = reading.n, len(timeline.quarters) - 1
        return cls(np.zeros(n), np.zeros(m), np.zeros(n), np.zeros(n))

    def plus(self, other: "Deviation", amount: float = 1.0) -> "Deviation":
        """The sum of this and a share of another."""
        return Deviation(
            self.level + amount * other.level, self.stretch + amount * other.stretch,
            self.delay + amount * other.delay, self.gap + amount * other.gap,
        )  # fmt: skip


Rule = Callable[[Reading, Timeline], Deviation]


def high_loud(reading: Reading, timeline: Timeline) -> Deviation:
    """The higher the louder: 3 dB an octave."""
    level = np.where(reading.is_drum, 0, HIGH_LOUD_DB * (reading.pitch - 60) / 12)
    return replace(Deviation.none(reading, timeline), level=level)


def phrase_arch(reading: Reading, timeline: Timeline) -> Deviation:
    """Each phrase, and each period of phrases, begins slowly and softly, gathers, and dies away.

    Parabolas through +10 % at the start and +20 % at the last note (KTH); half for phrases, half for periods. The
    level follows the tempo, -1.5 and -3 dB at the ends, as pianists' do (Todd 1992).
    """
    none = Deviation.none(reading, timeline)
    stretch, level = none.stretch.copy(), none.level.copy()
    for spans in (reading.phrases, reading.periods):
        slow, _ = _arch(spans, timeline.middles)
        rise, fall = _arch_parts(spans, reading.quarter)
        stretch += 0.5 * slow
        level += 0.5 * (ARCH_START_DB * rise + ARCH_END_DB * fall)
    return replace(none, stretch=stretch, level=level)


def duration_contrast(reading: Reading, timeline: Timeline) -> Deviation:
    """Short notes shorter and softer: by 16 ms and 0.8 dB at 0.2 s, less towards 0.6 s."""
    interval = reading.next_start - reading.start
    level = np.where(reading.is_drum, 0, np.interp(interval, CONTRAST_SECONDS, CONTRAST_DB))
    shorter = np.interp(_tune_intervals(reading), CONTRAST_SECONDS, CONTRAST_MS) / 1000
    return replace(Deviation.none(reading, timeline), level=level, stretch=_on_tune(reading, timeline, shorter))


def double_duration(reading: Reading, timeline: Timeline) -> Deviation:
    """Of two notes, one twice as long as the other: the short one 12 % longer, the long one shorter by as much."""
    interval = _tune_intervals(reading)
    longer = np.zeros(len(interval))
    ratio = interval[:-1] / np.maximum(interval[1:], 1e-3)
    pairs = np.flatnonzero(np.abs(ratio - 2) < 0.1)
    longer[pairs + 1] += DOUBLE_SHARE * interval[pairs + 1]
    longer[pairs] -= DOUBLE_SHARE * interval[pairs + 1]
    return replace(Deviation.none(reading, timeline), stretch=_on_tune(reading, timeline, longer))


def faster_uphill(reading: Reading, timeline: Timeline) -> Deviation:
    """A rising tune hurries: 2 ms a note."""
    tune = reading.tune
    rising = np.append(np.diff(reading.pitch[tune]) > 0, False)
    return replace(Deviation.none(reading, timeline), stretch=_on_tune(reading, timeline, rising * UPHILL_MS / 1000))


def melodic_charge(reading: Reading, timeline: Timeline) -> Deviation:
    """Notes of the tune that are far from the root of their harmony weigh more: 0.2 dB and 0.67 % a step of fifths."""
    none = Deviation.none(reading, timeline)
    tune = reading.tune
    charge = MELODIC_CHARGE[(reading.pitch[tune].astype(int) - reading.chord_root[tune]) % 12]
    level = none.level.copy()
    level[tune] = CHARGE_DB * charge
    longer = CHARGE_STRETCH * charge * np.minimum(_tune_intervals(reading), 1.0)
    return replace(none, level=level, stretch=_on_tune(reading, timeline, longer))


def punctuation(reading: Reading, timeline: Timeline) -> Deviation:
    """Small groups are set off: before a note that a boundary may lie at, the tune's note is longer and ends early."""
    none = Deviation.none(reading, timeline)
    tune = reading.tune
    if len(tune) < 3:
        return none
    strength = np.append(np.clip(reading.strengths[1:], 0, 1), 1.0)  # of what comes after each note
    gap = none.gap.copy()
    gap[tune] = PUNCTUATION_GAP * strength
    longer = PUNCTUATION_STRETCH * strength * np.minimum(_tune_intervals(reading), 1.0)
    return replace(none, gap=gap, stretch=_on_tune(reading, timeline, longer))


def repetition(reading: Reading, timeline: Timeline) -> Deviation:
    """A note before its own pitch in the same part leaves a gap, so that the repetition is heard."""
    order = np.lexsort((reading.start, reading.pitch, reading.track))
    gap = np.zeros(reading.n)
    here, after = order[:-1], order[1:]
    is_same = (reading.track[here] == reading.track[after]) & (reading.pitch[here] == reading.pitch[after])
    is_close = reading.start[after] - reading.end[here] < REPEAT_GAP
    gap[here[is_same & is_close & ~reading.is_drum[here]]] = REPEAT_GAP
    return replace(Deviation.none(reading, timeline), gap=gap)


def breath(reading: Reading, timeline: Timeline) -> Deviation:
    """The last note of a phrase leaves room for a breath or a change of bow, in whatever part plays it (ours)."""
    none = Deviation.none(reading, timeline)
    gap = none.gap.copy()
    lasts = np.array([p.last for p in reading.phrases])
    if len(lasts):
        tune = reading.tune
        at = np.searchsorted(reading.quarter[tune], lasts - 1e-6)
        gap[tune[at[at < len(tune)]]] = BREATH_GAP
    return replace(none, gap=gap)


def final_ritard(reading: Reading, timeline: Timeline) -> Deviation:
    """The last slowing, as runners stop: v = (1 + (v_end^3 - 1) x)^(1/3) (Friberg and Sundberg 1999).

    Over 6 quarters, or an eighth of a shorter piece, down to half the speed.
    """
    span = min(RITARD_QUARTERS, reading.end_quarter / 8)
    last = float(reading.quarter.max())
    start = last - span
    x = np.clip((timeline.middles - start) / max(span, 1e-6), 0, 1)
    speed = np.cbrt(1 + (RITARD_END**3 - 1) * x)
    return replace(Deviation.none(reading, timeline), stretch=np.where(timeline.middles > start, 1 / speed - 1, 0))


def accents(reading: Reading, timeline: Timeline) -> Deviation:
    """Strong beats 2 dB above the weakest places, and notes after a leap up by what it exceeds a third (ours)."""
    leap = np.clip(reading.pitch - reading.previous_pitch - 4, 0, 8)
    level = ACCENT_DB * (reading.weight - 0.5) + LEAP_DB * leap * reading.is_top
    return replace(Deviation.none(reading, timeline), level=np.where(reading.is_drum, 0, level))


def balance(reading: Reading, timeline: Timeline) -> Deviation:
    """The tune above the others, inner voices below (ours; how far it is in recordings: docs/expression.md)."""
    is_inner = ~reading.is_tune & ~reading.is_bottom
    level = TUNE_DB * reading.is_tune + INNER_DB * is_inner
    return replace(Deviation.none(reading, timeline), level=np.where(reading.is_drum, 0, level))


def groove(reading: Reading, timeline: Timeline) -> Deviation:
    """Drums stay on the common time; weak places up to 4 dB softer than strong ones and backbeats (ours)."""
    since, bar, beat = bar_positions(reading.quarter, reading.bars)
    number = np.rint(since / beat)
    is_backbeat = (np.abs(since - number * beat) < 0.02) & (np.mod(number, 2) == 1) & (bar / beat >= 2)
    is_snare = np.isin(reading.pitch, (37, 38, 39, 40))
    weight = np.where(is_backbeat & is_snare, 1.0, reading.weight)
    level = np.where(reading.is_drum, GROOVE_DB * (weight - 0.6), 0)
    return replace(Deviation.none(reading, timeline), level=level)


def melody_lead(reading: Reading, timeline: Timeline) -> Deviation:
    """The tune 20 ms ahead of what is struck together with it (Goebl 2001); drums and basses do not wait longer."""
    tune_starts = reading.start[reading.tune]
    if not len(tune_starts):
        return Deviation.none(reading, timeline)
    i = np.clip(np.searchsorted(tune_starts, reading.start), 0, len(tune_starts) - 1)
    nearest = np.minimum(
        np.abs(tune_starts[i] - reading.start), np.abs(tune_starts[np.maximum(i - 1, 0)] - reading.start)
    )
    is_with = (nearest < 0.002) & ~reading.is_drum
    is_accompaniment = is_with & ~reading.is_tune & _same_hands(reading)
    return replace(Deviation.none(reading, timeline), delay=np.where(is_accompaniment, LEAD_SECONDS, 0.0))


def chord_spread(reading: Reading, timeline: Timeline) -> Deviation:
    """Chords of keys and plucked strings from the bottom up, 4 ms a note, within 12 ms (ours)."""
    is_struck = np.isin(reading.program, [*range(0, 16), *range(24, 32), 45, 46, *range(104, 108)]) & ~reading.is_drum
    order = np.lexsort((reading.pitch, reading.chord))
    chord = reading.chord[order]
    first = np.flatnonzero(np.diff(chord, prepend=-1))
    rank = np.empty(reading.n)
    rank[order] = np.arange(reading.n) - np.repeat(first, np.diff(np.append(first, reading.n)))
    delay = np.where(is_struck & ~reading.is_tune, np.minimum(rank, 3) * ROLL_SECONDS, 0)
    return replace(Deviation.none(reading, timeline), delay=delay)


# How much of each rule is played at an expression of 1: chosen on two thirds of the performances that
# bench/performances.py compares with, in round numbers; 1 is the published quantity.
RULES: Mapping[str, Rule] = {
    "high_loud": high_loud, "phrase_arch": phrase_arch, "duration_contrast": duration_contrast,
    "double_duration": double_duration, "faster_uphill": faster_uphill, "melodic_charge": melodic_charge,
    "punctuation": punctuation, "repetition": repetition, "breath": breath, "final_ritard": final_ritard,
    "accents": accents, "balance": balance, "groove": groove, "melody_lead": melody_lead, "chord_spread": chord_spread,
}  # fmt: skip

AMOUNTS: Mapping[str, float] = {
    "high_loud": 1.0, "phrase_arch": 0.6, "duration_contrast": 1.5, "double_duration": 0.5, "faster_uphill": 1.0,
    "melodic_charge": 0.7, "punctuation": 0.5, "repetition": 1.0, "breath": 1.0, "final_ritard": 0.7, "accents": 1.0,
    "balance": 1.0, "groove": 1.0, "melody_lead": 1.0, "chord_spread": 1.0, "noise": 1.0,
}  # fmt: skip


def wander(reading: Reading, timeline: Timeline, seed: int) -> NDArray[np.float64]:
    """Seconds by which the common time strays at each knot, [m + 1]: 1/f noise, 10 ms as standard deviation.

    0 at both ends: it does not add up.
    """
    n = len(timeline.quarters)
    random = np.random.Generator(np.random.Philox(key=[seed, 1]))
    beats = max(int(np.ceil(timeline.quarters[-1] - timeline.quarters[0])) + 1, 2)
    spectrum = np.fft.rfft(random.standard_normal(beats))
    spectrum[1:] /= np.sqrt(np.arange(1, len(spectrum)))  # power 1/f
    spectrum[0] = 0
    noise = np.fft.irfft(spectrum, beats)
    noise *= NOISE_SECONDS / max(float(noise.std()), 1e-12)
    noise = np.clip(noise, -2.5 * NOISE_SECONDS, 2.5 * NOISE_SECONDS)
    ramp = np.minimum(np.minimum(np.arange(beats), np.arange(beats)[::-1]) / 4, 1)
    return np.interp(timeline.quarters, timeline.quarters[0] + np.arange(beats), noise * ramp) if n else np.zeros(n)


def part_noise(reading: Reading, seed: int) -> NDArray[np.float64]:
    """Seconds by which each stroke of a part strays beside the common time, [n]; 3 ms, drums none."""
    random = np.random.Generator(np.random.Philox(key=[seed, 2]))
    strokes = np.clip(random.standard_normal(int(reading.chord.max()) + 1), -2, 2) * PART_NOISE_SECONDS
    return np.where(reading.is_drum, 0.0, strokes[reading.chord])


def _same_hands(reading: Reading) -> NDArray[np.bool_]:
    """Notes of an instrument that one player plays with the tune: the same program."""
    return np.isin(reading.program, np.unique(reading.program[reading.tune]))


def _tune_intervals(reading: Reading) -> NDArray[np.float64]:
    """Seconds from each note of the tune to its next; the last to its end."""
    tune = reading.tune
    if not len(tune):
        return np.zeros(0)
    last = max(float(reading.end[tune[-1]] - reading.start[tune[-1]]), 0.02)
    seconds: Doubles = np.maximum(np.append(np.diff(reading.start[tune]), last), 1e-3)
    return seconds


def _on_tune(reading: Reading, timeline: Timeline, longer: NDArray[np.float64]) -> NDArray[np.float64]:
    """Seconds that each note of the tune takes more, as shares of the timeline's steps under it. A rest of more than
    two seconds after a note takes its part for two seconds only."""
    tune = reading.tune
    stretch = np.zeros(len(timeline.quarters) - 1)
    if not len(tune):
        return stretch
    share = longer / _tune_intervals(reading)
    i = np.searchsorted(reading.quarter[tune], timeline.quarters[:-1] + 1e-6, side="right") - 1
    under = i >= 0
    under[under] &= timeline.seconds[:-1][under] < reading.start[tune][i[under]] + 2.0
    stretch[under] = share[i[under]]
    return stretch


def _arch_parts(spans: tuple[Phrase, ...], quarters: Doubles) -> tuple[Doubles, Doubles]:
    """How far moments lie towards the start and towards the end of their phrases: two parabolas, 1 at the ends."""
    rise, fall = np.zeros(len(quarters)), np.zeros(len(quarters))
    if not spans:
        return rise, fall
    starts = np.array([p.start for p in spans])
    ends = np.array([max(p.last, p.start + 1e-3) for p in spans])
    i = np.searchsorted(starts, quarters + 1e-6, side="right") - 1
    inside = i >= 0
    place = np.clip((quarters[inside] - starts[i[inside]]) / (ends - starts)[i[inside]], 0, 1)
    rise[inside] = np.square(np.maximum(1 - place / ARCH_TURN, 0))
    fall[inside] = np.square(np.maximum(place - ARCH_TURN, 0) / (1 - ARCH_TURN))
    return rise, fall


def _arch(spans: tuple[Phrase, ...], quarters: Doubles) -> tuple[Doubles, Flags]:
    """The stretch of phrases at some moments, and where it applies."""
    rise, fall = _arch_parts(spans, quarters)
    return ARCH_START * rise + ARCH_END * fall, rise + fall > 0
