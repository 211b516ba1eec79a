"""From notes in played time to the tracks of a score: controllers, pedals, doublings, and when each sound is let go."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Flags, Integers, Records
from miao.expression.beats import bar_lines, bar_positions
from miao.expression.moods import Cues
from miao.expression.reading import Reading
from miao.expression.sustained import (
    PIANOS,
    SUSTAINED,
    VIBRATO,
    detached,
    held_by_pedal,
    is_moving,
    line_of,
    pedal,
    presses_of,
    with_swells,
    with_vibrato,
)
from miao.expression.time_warp import Warp
from miao.expression.touch import OF_ALL, VIBRATING, moved, shifts, vibrato_depth
from miao.midi.keys import CATCH_SECONDS, RINGING_STROKES
from miao.midi.score import Curve, Score, Track

DOUBLING_SHARE = 0.6  # of a note's velocity, for a register cue of 1
_LOWEST, _HIGHEST = 24, 103  # keys that are doubled onto
_SAME_MOMENT = 0.05  # seconds: what starts within them is struck together


def tracks_of(
    score: Score, reading: Reading, notes: list[Records], warp: Warp, amount: float, cues: Cues
) -> tuple[Track, ...]:
    """The tracks of a score with their notes as played, in the order of the file, and all that goes with them."""
    groups: dict[tuple[object, ...], list[int]] = {}
    for number, track in enumerate(score.tracks):  # a controller belongs to the channel
        curves = tuple(c.times.tobytes() + c.values.tobytes() for c in track.controls.values())
        groups.setdefault((track.channel, curves), []).append(number)
    tracks = list(score.tracks)
    for numbers in groups.values():
        mine = np.flatnonzero(np.isin(reading.track, numbers))
        controls = {name: warp.curve(curve) for name, curve in score.tracks[numbers[0]].controls.items()}
        presses = _pedalled(controls, reading, mine, warp, amount, cues.articulation)
        _colour(controls, reading, mine, [notes[i] for i in numbers], amount, cues)
        among = [notes[number] for number in numbers]
        for place, number in enumerate(numbers):
            track = score.tracks[number]
            pressure = track.key_pressure.copy()
            pressure["time"] = warp.at(pressure["time"])
            played = among[place] = _with_register(notes[number], reading, number, cues.register, among)
            _let_go(played, track.notes, warp, presses)
            order = np.lexsort((played["pitch"], played["start"]))
            tracks[number] = replace(track, notes=played[order], controls=controls, key_pressure=pressure)
    return tuple(tracks)


@dataclass(frozen=True, eq=False)
class _Presses:
    """When a pedal goes down and comes up, [p] each, seconds as played; none: what the file holds is held as long."""

    downs: NDArray[np.float64]
    ups: NDArray[np.float64]
    are_the_files: bool
    catch: float  # seconds before them in which a key may come up and be held: a piano's

    def reach(self, ends: NDArray[np.float64]) -> NDArray[np.float64]:
        """Until when keys that come up at some moments are held."""
        return held_by_pedal(ends, self.downs, self.ups, self.catch)


_NO_PRESSES = _Presses(np.zeros(0), np.zeros(0), False, 0.0)


def _pedalled(
    controls: dict[str, Curve], reading: Reading, mine: Integers, warp: Warp, amount: float, articulation: float
) -> _Presses:
    """Gives a piano that has no pedal one; of a pedal that the file has, a detached articulation takes a share."""
    if controls["sustain"].initial or len(controls["sustain"].times):
        if len(controls["sostenuto"].times):  # what that holds is not looked into
            return _NO_PRESSES
        if articulation < 0:
            bars = warp.at(reading.pulse.seconds(bar_lines(reading.bars, reading.end_quarter)))
            controls["sustain"] = detached(controls["sustain"], min(-articulation, 1.0), bars)
        catch = CATCH_SECONDS if (reading.program[mine] < 8).all() else 0.0
        return _Presses(*presses_of(controls["sustain"]), True, catch)
    if not amount or not set(reading.program[mine].tolist()) <= PIANOS or reading.is_drum[mine].any():
        return _NO_PRESSES
    since, bar, _ = bar_positions(reading.quarter[mine], reading.bars)
    half = (reading.quarter[mine] - since) * 4 + np.floor((since + 1e-6) / (bar / 2))
    cells = np.unique(np.rint(half), return_inverse=True)[1]
    starts, ends = warp.at(reading.start[mine]), warp.at(reading.end[mine])
    downs, ups = pedal(starts, ends, reading.pitch[mine], reading.chord_root[mine], cells, amount)
    if len(downs):
        times = np.stack([downs, ups], axis=1).ravel()
        controls["sustain"] = Curve(times, np.tile([1.0, 0.0], len(downs)), 0.0)
    return _Presses(downs, ups, False, CATCH_SECONDS)


def _colour(
    controls: dict[str, Curve], reading: Reading, mine: Integers, notes: list[Records], amount: float, cues: Cues
) -> None:
    """Swells and vibrato of held notes; the controllers that a mood moves."""
    is_drum = bool(reading.is_drum[mine].all())
    for name, shift in shifts(cues).items():
        if shift and (name in OF_ALL or not is_drum):
            curve = controls[name]
            controls[name] = Curve(curve.times, moved(curve.values, shift), float(moved(curve.initial, shift)))
    if is_drum:
        return
    programs, line = set(reading.program[mine].tolist()), line_of(notes)
    if programs <= SUSTAINED and amount and not is_moving(controls["expression"]):
        controls["expression"] = with_swells(controls["expression"], line, amount)
    depth = VIBRATO * amount + vibrato_depth(cues)
    if programs <= VIBRATING and depth > 0 and not is_moving(controls["modulation"]):
        controls["modulation"] = with_vibrato(controls["modulation"], line, depth)


def _let_go(played: Records, written: Records, warp: Warp, presses: _Presses) -> None:
    """Sets when each note's sound is let go: with its key, or later, where the file's pedal or ours holds it."""
    n = len(written)
    new = played[:n]
    new["cut"] = warp.at(written["cut"]) + new["start"] - warp.at(written["start"])  # where nothing cuts, infinite
    held = np.zeros(len(played), bool)
    held[:n] = written["damp"] > written["end"] + 1e-9
    damp = played["end"].copy()
    damp[held] = np.maximum(warp.at(written["damp"][held[:n]]), damp[held])
    if presses.are_the_files or len(presses.downs):
        last = max(float(warp.at(written["damp"].max())), float(played["end"].max()))  # nobody lifts it then
        reach = np.minimum(presses.reach(played["end"]), last)
        damp = reach if presses.are_the_files else np.where(held, damp, reach)
    played["damp"] = damp
    if len(presses.downs):
        _thin_out(played)


def _thin_out(notes: Records) -> None:
    """Of strokes that only a pedal holds, lets go of a key's oldest that was no harder than a new one, as a module does
    that hears them (midi/keys.py)."""
    order = np.lexsort((notes["start"], notes["pitch"]))
    starts, ends, damps, velocities = (notes[name][order].tolist() for name in ("start", "end", "damp", "velocity"))
    keys = np.split(np.arange(len(notes)), np.flatnonzero(np.diff(notes["pitch"][order])) + 1)
    for places in keys:
        ringing: list[int] = []
        for place in places.tolist() if len(places) > RINGING_STROKES else ():
            ringing = [i for i in ringing if damps[i] > starts[place]]
            held = [i for i in ringing if ends[i] <= starts[place]]
            if len(held) >= RINGING_STROKES:
                oldest = next(
                    (i for i in sorted(held, key=ends.__getitem__) if velocities[i] <= velocities[place]), None
                )
                if oldest is not None:
                    damps[oldest] = starts[place]
            ringing.append(place)
    notes["damp"][order] = damps


def _with_register(played: Records, reading: Reading, number: int, register: float, among: list[Records]) -> Records:
    """A track's notes and their doublings: the tune's an octave above, or the bass's an octave below. ``among`` are
    the notes of all tracks of its channel."""
    if not register:
        return played
    mine = np.flatnonzero(reading.track == number)
    wanted = (reading.is_tune if register > 0 else _is_bass(reading))[mine]
    notes = played[reading.place[mine[wanted]]].copy()
    notes["pitch"] += 12 if register > 0 else -12
    notes["velocity"] = np.rint(notes["velocity"] * DOUBLING_SHARE * min(abs(register), 1.5)).clip(0, 127)
    notes = notes[(notes["pitch"] >= _LOWEST) & (notes["pitch"] <= _HIGHEST) & (notes["velocity"] > 0)]

    return np.concatenate([played, _where_free(notes, np.concatenate(among))])


def _where_free(doublings: Records, played: Records) -> Records:
    """The doublings of keys that a channel does not hold down then, or strike itself; each ends before it does, as of
    two strokes of one key nobody could tell which one a note-off lets go."""
    kept = []
    for key in np.unique(doublings["pitch"]):
        mine = np.sort(played[played["pitch"] == key], order="start")
        some = np.sort(doublings[doublings["pitch"] == key], order="start")
        before = np.searchsorted(mine["start"], some["start"] + _SAME_MOMENT, side="right")
        held = np.append(-np.inf, np.maximum.accumulate(mine["end"]))[before]
        following = np.append(mine["start"], np.inf)[before]
        some["end"] = np.minimum(some["end"], following)
        some = some[(held <= some["start"]) & (np.diff(some["start"], append=np.inf) > _SAME_MOMENT)]
        some["end"][:-1] = np.minimum(some["end"][:-1], some["start"][1:])
        kept.append(some)
    return np.concatenate([doublings[:0], *kept])


def _is_bass(reading: Reading) -> NDArray[np.bool_]:
    """The lowest notes of the part that is lowest on the whole, [n]."""
    pitched = ~reading.is_drum
    numbers = np.unique(reading.track[pitched])
    if not len(numbers):
        return pitched
    means = [reading.pitch[pitched & (reading.track == number)].mean() for number in numbers]
    bass: Flags = pitched & reading.is_bottom & (reading.track == numbers[int(np.argmin(means))])
    return bass
