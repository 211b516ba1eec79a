"""A score as it would be played: `expressed` reads it, sums the rules and the mood's cues, and writes the result."""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Doubles, Records
from miao.config import check_number, check_seed
from miao.errors import ConfigError
from miao.expression.learnt import LEARNT, as_pianists
from miao.expression.moods import Cues, cues_of
from miao.expression.reading import Reading, read
from miao.expression.rewriting import in_mode
from miao.expression.rules import AMOUNTS, PART_NOISE_SECONDS, RULES, Deviation, Timeline, part_noise, wander
from miao.expression.sustained import SUSTAINED, SWELL_DB, SWELL_SECONDS
from miao.expression.time_warp import Warp
from miao.expression.touch import struck
from miao.expression.tracks import tracks_of
from miao.midi.score import Score, check_score

_log = logging.getLogger(__name__)

SHORTEST_SECONDS = 0.02  # of a note
WIDEST_CHORD = 0.03  # seconds by which notes that are written together may part
KEPT = 0.8  # of what a file plays itself is not played again
LEGATO_SECONDS = 0.02  # overlap of sustained notes within a phrase
_CONTRAST_RULES = ("duration_contrast", "accents", "groove")
_PHRASE_RULES = ("phrase_arch", "final_ritard", "breath", "punctuation")
_PERFORMED = 0.6  # from here on a file is called a performance


@dataclass(frozen=True)
class _Plan:
    """How much of everything: expression and mood together."""

    rules: Mapping[str, float]
    noise: float
    cues: Cues
    amount: float  # of expression


def expressed(score: Score, amount: float = 0.0, *, mood: str | Mapping[str, float] | None = None,
              valence: float = 0.0, arousal: float = 0.0, seed: int = 0, rewrite: bool = False,
              style: Literal["pianists", "rules"] = "pianists") -> Score:  # fmt: skip
    """The score played with expression and in a mood.

    amount            of expression, 0 (as written) to 2; 1 is what the rules' sources found natural
    mood              names of `moods.MOODS` with shares of 0 to 2: "tender", "tender:0.6", {"sad": 0.5}
    valence, arousal  -1 to 1, a point of the plane of moods
    seed              of the timing's noise; same score and seed, same performance
    rewrite           lets the mood change the mode: notes become those of the parallel major or minor
    style             "pianists": level and tempo as a net has learnt them from pianists, all else by rules; "rules":
                      everything by rules

    What the file has is kept: its velocities are multiplied, its tempi stretched, its controllers moved with the notes.
    Where it is a performance already, little is added, and the log says so. With nothing asked for, the very same
    object comes back. All notes stay, each for 20 ms or more, in their order within a track; what is written together
    parts by 30 ms at the most; all tracks follow one time.
    Raises: ConfigError for a setting out of range.
    """
    check_score(score)
    cues = cues_of(mood, valence, arousal)
    check_seed(seed)
    check_number("expression", amount, 0, 2)
    if style not in ("pianists", "rules"):
        raise ConfigError(f"there is no style {style!r}; there are pianists and rules")
    if not score.tracks or (amount == 0 and cues.is_none):
        return score
    reading = read(score)
    is_learnt = style == "pianists" and amount > 0 and bool(len(reading.tune))
    plan = _plan(reading, amount, cues, is_learnt)
    _tell(reading, amount)
    timeline = Timeline.of(reading)
    deviation = Deviation.none(reading, timeline)
    for name, share in plan.rules.items():
        if share:
            deviation = deviation.plus(RULES[name](reading, timeline), share)
    if is_learnt:
        deviation = deviation.plus(as_pianists(reading, timeline), amount)
    warp = _warp(timeline, deviation, plan, reading, seed)
    notes = _notes(score, reading, deviation, warp, plan, seed)
    tracks = tracks_of(score, reading, notes, warp, amount, cues)
    played = replace(
        score,
        tracks=tracks,
        duration=max(float(track.notes["damp"].max()) for track in tracks),
        end=float(warp.at(np.array([score.end]))[0]) if score.end else 0.0,
        tempi=warp.tempi(timeline.quarters, score.tempi),
        meters=tuple(replace(m, time=float(warp.at(np.array([m.time]))[0])) for m in score.meters),
    )
    return in_mode(played, reading.key, cues.mode) if rewrite else played


def _plan(reading: Reading, amount: float, cues: Cues, is_learnt: bool) -> _Plan:
    """The amount of each rule: of expression, but for those that a net stands in for, and of the mood."""
    own_time = 1 - KEPT * reading.played_timing
    rules = {}
    for name, share in AMOUNTS.items():
        if name == "noise":
            continue
        mood = cues.contrast if name in _CONTRAST_RULES else cues.phrasing if name in _PHRASE_RULES else 0.0
        rules[name] = share * max((0.0 if is_learnt and name in LEARNT else amount) + mood, 0.0)
    return _Plan(rules, AMOUNTS["noise"] * max(amount * own_time + cues.looseness, 0.0), cues, amount)


def _tell(reading: Reading, amount: float) -> None:
    has = [
        what
        for what, degree in (("timing", reading.played_timing), ("dynamics", reading.played_dynamics))
        if degree > _PERFORMED
    ]
    if amount and has:
        _log.warning(
            "the file is a performance already: its %s stay%s, little is added to %s",
            " and ".join(has),
            "s" * (len(has) == 1 and has[0] == "timing"),
            "them" if has != ["timing"] else "it",
        )
    if amount and not len(reading.tune):
        _log.warning("there are only drums: no phrases, so expression is accents and time alone")


def _warp(timeline: Timeline, deviation: Deviation, plan: _Plan, reading: Reading, seed: int) -> Warp:
    """The common time. But for the last slowing and the mood's tempo the piece keeps its length."""
    ritard = plan.rules["final_ritard"] * RULES["final_ritard"](reading, timeline).stretch
    rest = deviation.stretch - ritard
    lengths = timeline.lengths
    rest = rest - (rest * lengths).sum() / max(lengths.sum(), 1e-9)
    stretch = (rest + ritard) * (1 - KEPT * reading.played_timing)
    strays = wander(reading, timeline, seed) * plan.noise if plan.noise else np.zeros(len(timeline.seconds))
    return Warp.of(timeline.seconds, stretch, strays, plan.cues.tempo)


def _notes(score: Score, reading: Reading, deviation: Deviation, warp: Warp, plan: _Plan, seed: int
           ) -> list[Records]:  # fmt: skip
    """Each track's notes as played, in the order of the file; pedals are not in it yet."""
    start, end = warp.at(reading.start), warp.at(reading.end)
    offset = deviation.delay * (1 - KEPT * reading.played_timing)
    if plan.noise:
        offset = offset + plan.noise * (
            part_noise(reading, seed) + np.where(reading.is_drum, 0, 2 * PART_NOISE_SECONDS)
        )
    room = _to_next_moment(reading, start)
    offset = np.clip(offset, 0, np.minimum(WIDEST_CHORD, 0.9 * room))
    ends = _ends(reading, deviation, warp, plan, start, end) + offset
    starts = start + offset
    ends = np.maximum(_up_in_time(score, reading, starts, ends), starts + SHORTEST_SECONDS)
    velocity = _velocities(score, reading, deviation, plan)
    played = []
    for number, track in enumerate(score.tracks):
        mine = np.flatnonzero(reading.track == number)
        notes = track.notes.copy()
        places = reading.place[mine]
        notes["start"][places], notes["end"][places] = starts[mine], ends[mine]
        notes["velocity"][places] = velocity[mine]
        played.append(notes)
    return played


def _to_next_moment(reading: Reading, start: Doubles) -> NDArray[np.float64]:
    """Seconds until a later note of the same track starts, [n]; infinite after the last."""
    order = np.lexsort((reading.start, reading.track))
    written, track, played = reading.start[order], reading.track[order], start[order]
    is_new = np.append(True, (np.diff(written) > 1e-6) | (np.diff(track) != 0))
    first = np.flatnonzero(is_new)
    following = np.append(first[1:], len(order))[np.cumsum(is_new) - 1]
    room = np.full(len(order), np.inf)
    inside = np.flatnonzero(following < len(order))
    inside = inside[track[following[inside]] == track[inside]]
    room[inside] = played[following[inside]] - played[inside]
    back = np.empty(len(order))
    back[order] = room
    return back


def _ends(reading: Reading, deviation: Deviation, warp: Warp, plan: _Plan, start: Doubles, end: Doubles
          ) -> NDArray[np.float64]:  # fmt: skip
    """When keys come up: gaps of the rules, legato of sustained parts, articulation of the mood."""
    following = warp.at(reading.next_start)
    length, space = end - start, following - end
    gap = np.where(reading.is_drum, 0, deviation.gap)
    is_legato = np.isin(reading.program, list(SUSTAINED)) & ~reading.is_drum & (gap == 0)
    is_legato &= (space > 1e-6) & (space < 0.25 * np.maximum(following - start, 1e-3))  # as written, but for its gap
    change = np.where(is_legato, plan.amount * (space + LEGATO_SECONDS), -gap)
    cue = plan.cues.articulation
    if cue < 0:
        change = change + np.where(reading.is_drum, 0, max(cue, -1.5) * 0.5 * length)
    elif cue > 0:
        reach = np.where(reading.is_drum, 0, np.clip(space + LEGATO_SECONDS, 0, 0.5 * np.maximum(length, 0.05)))
        change = change + min(cue, 1.5) * reach
    change = np.maximum(change, -0.7 * length)  # a gap takes no more of a note than that
    ends: Doubles = end + change
    return ends


def _up_in_time(score: Score, reading: Reading, starts: Doubles, ends: Doubles) -> Doubles:
    """The ends, none behind the next stroke of its key on its channel if the score has none there: of two strokes of
    one key nobody could tell which one a note-off lets go."""
    channels = np.array([track.channel for track in score.tracks])
    keys = channels[reading.track] * 128 + reading.pitch
    ends = ends.copy()
    for key in np.unique(keys):
        strokes = np.flatnonzero(keys == key)
        strokes = strokes[np.argsort(reading.start[strokes], kind="stable")]
        first = np.minimum.accumulate(np.append(starts[strokes], np.inf)[::-1])[::-1]  # of a stroke and all later ones
        later = np.searchsorted(reading.start[strokes], reading.end[strokes] - 1e-6)
        ends[strokes] = np.minimum(ends[strokes], first[later])
    return ends


def _velocities(score: Score, reading: Reading, deviation: Deviation, plan: _Plan) -> NDArray[np.int64]:
    """Velocities as played: the file's, times what rules and mood add. Within an instrument the mean of what the rules
    add is 0, so that the balance stays; if the loudest leave the scale, all come down together."""
    del score
    level = deviation.level * (1 - KEPT * reading.played_dynamics)
    kind = np.where(reading.is_drum, 128, reading.program)
    _, kind = np.unique(kind, return_inverse=True)
    mean = np.bincount(kind, level) / np.bincount(kind)
    level = level - mean[kind] + plan.cues.level
    if plan.amount:
        long = np.clip((reading.end - reading.start - SWELL_SECONDS[0]) / (SWELL_SECONDS[1] - SWELL_SECONDS[0]), 0, 1)
        level = (
            level + plan.amount * 0.3 * SWELL_DB * long * np.isin(reading.program, list(SUSTAINED)) * ~reading.is_drum
        )
    top = 40 * np.log10(np.maximum(reading.velocity, 1) / 127) + level
    over = float(np.quantile(top, 0.99))
    level = level - max(over, 0.0)
    return struck(reading.velocity, level)
