"""What a set of tracks plays, as arrays: all actions of a sound module from the first event to the last."""

from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise, repeat

import numpy as np

from miao.arrays import distinct
from miao.midi.channel import DEFAULTS
from miao.midi.events import (
    META,
    PLAIN,
    SYSEX,
    Action,
    Control,
    Cut,
    Effect,
    KeyPressure,
    KeyTuning,
    KeyUp,
    Release,
    Shape,
    Silence,
    Sound,
    Start,
)  # fmt: skip
from miao.midi.module import Module
from miao.midi.notes import KEY_PRESSURE_EVENT, Curve, notes_array
from miao.midi.repair import Events
from miao.midi.told import Told

_AT_ONCE = 256  # events; their actions are written down together, and forgotten while the collector is young


@dataclass(frozen=True)
class Performance:
    """What one set of tracks plays."""

    notes: np.ndarray  # NOTE [n], in the order of their starts
    note_tracks: np.ndarray  # int [n], which of the tracks a note stands in
    note_lanes: np.ndarray  # int [n], 16 x port + channel
    controls: dict[int, dict[str, Curve]]  # by lane
    key_pressure: dict[int, np.ndarray]  # by lane, KEY_PRESSURE_EVENT
    zones: dict[int, int]  # lane -> lane of its MPE master
    effects: dict[str, str]  # "room", "chorus" -> the type in force while most notes start; "" the usual
    seconds: float  # when the last event is
    told: Told


class Recorder:
    """Writes down the actions of a module."""

    def __init__(self) -> None:
        self.starts, self.ends, self.damps, self.cuts = array("d"), array("d"), array("d"), array("d")
        self.lanes, self.tracks, self.pitches, self.velocities = array("i"), array("i"), array("b"), array("b")
        self.sounds: dict[Sound, int] = {}
        self.note_sounds = array("i")
        self.shapes: dict[int, Shape] = {}  # of notes that have one of their own
        self.silences: dict[int, list[tuple[int, float]]] = {}  # by lane: (number of notes so far, time)
        self.controls: dict[tuple[int, str], tuple[array[float], array[float]]] = {}
        self.key_pressure: dict[int, list[tuple[float, int, float, bool]]] = {}
        self.effects: dict[str, list[tuple[int, str]]] = {"room": [], "chorus": []}  # (number of notes so far, type)
        self._n_before = 0  # notes before the actions that are taken now

    def take(self, actions: Sequence[Action]) -> None:
        """Writes down some actions, in the order in which the module gave them."""
        self._take_starts([action for action in actions if type(action) is Start])
        ends, damps, n_notes = self.ends, self.damps, 0
        for action in actions:
            if type(action) is Release:
                time, note = action
                damps[note] = time
                if ends[note] < 0:
                    ends[note] = time
            elif type(action) is Start:
                n_notes = action.note + 1
                if action[7] is not PLAIN:
                    self.shapes[action[1]] = action[7]
            elif type(action) is KeyUp:
                ends[action[1]] = action[0]
            elif type(action) is Control:
                time, lane, name, value = action
                times, values = self.controls.setdefault((lane, name), (array("d"), array("d")))
                times.append(time)
                values.append(value)
            elif type(action) is Cut:
                self.cuts[action.note] = min(self.cuts[action.note], action.time)
            elif type(action) is Silence:
                self.silences.setdefault(action.lane, []).append((max(n_notes, self._n_before), action.time))
            elif isinstance(action, KeyPressure | KeyTuning):
                time, lane, pitch, value = action
                is_tuning = type(action) is KeyTuning
                self.key_pressure.setdefault(lane, []).append((time, pitch, value, is_tuning))
            elif type(action) is Effect:
                self.effects[action.kind].append((max(n_notes, self._n_before), action.name))
        # a Catch needs no line: the release that follows it counts
        self._n_before = len(self.starts)

    def _take_starts(self, starts: list[Start]) -> None:
        if starts:
            times, _, lanes, tracks, pitches, velocities, sounds, _ = zip(*starts, strict=True)
            self.starts.extend(times)
            self.lanes.extend(lanes)
            self.tracks.extend(tracks)
            self.pitches.extend(pitches)
            self.velocities.extend(velocities)
            self.note_sounds.extend([self.sounds.setdefault(sound, len(self.sounds)) for sound in sounds])
            self.ends.extend(repeat(-1.0, len(starts)))
            self.damps.extend(repeat(-1.0, len(starts)))
            self.cuts.extend(repeat(np.inf, len(starts)))

    def notes(self) -> np.ndarray:
        """NOTE [n]."""
        notes = notes_array(len(self.starts))
        notes["start"], notes["end"], notes["damp"], notes["cut"] = self.starts, self.ends, self.damps, self.cuts
        notes["pitch"], notes["velocity"] = self.pitches, self.velocities
        sounds = np.array([*self.sounds, (0, 0, False)], dtype=[("program", "i2"), ("bank", "i4"), ("is_drum", "?")])
        chosen = np.array(self.note_sounds, dtype=np.int64)
        for name in sounds.dtype.names or ():
            notes[name] = sounds[name][chosen]
        for note, shape in self.shapes.items():
            for name, value in zip(Shape._fields, shape, strict=True):
                notes[name][note] = value
        lanes = np.array(self.lanes, dtype=np.int64)
        for lane, silences in self.silences.items():
            here = np.flatnonzero(lanes == lane)
            counts = np.array([n for n, _ in silences] + [np.iinfo(np.int64).max])
            moments = np.array([time for _, time in silences] + [np.inf])
            notes["cut"][here] = np.minimum(notes["cut"][here], moments[np.searchsorted(counts, here, side="right")])
        return notes

    def curves(self, lane: int) -> dict[str, Curve]:
        nothing = (array("d"), array("d"))
        return {name: _curve(*self.controls.get((lane, name), nothing), value) for name, value in DEFAULTS.items()}

    def effect(self, kind: str) -> str:
        """The type that is in force while most notes start."""
        changes = [(0, ""), *self.effects[kind], (len(self.starts), "")]
        n_notes: Counter[str] = Counter()
        for (n, name), (following, _) in pairwise(changes):
            n_notes[name] += following - n
        return n_notes.most_common(1)[0][0]


def perform(events: Events, messages: Sequence[Sequence[bytes]]) -> Performance:
    """Plays events, in their order; `messages` are the system-exclusive ones of each track."""
    module, recorder = Module(), Recorder()
    kinds = events.table[:, 1]
    played = np.flatnonzero(kinds != META)
    for first in range(0, len(played), _AT_ONCE):
        some = played[first : first + _AT_ONCE]
        columns = [column.tolist() for column in events.table[some].T[1:]]
        rows = list(zip(*columns, events.tracks[some].tolist(), repeat(b"")))
        for place in np.flatnonzero(kinds[some] == SYSEX).tolist():
            _, lane, index, _, track, _ = rows[place]
            rows[place] = (SYSEX, lane, 0, 0, track, messages[track][index])
        recorder.take(module.feed_all(events.seconds[some].tolist(), rows))
    last = float(events.seconds[-1])
    recorder.take(module.finish(last))
    notes, lanes = recorder.notes(), np.array(recorder.lanes, dtype=np.int64)
    used = distinct(lanes).tolist()
    return Performance(
        notes,
        np.array(recorder.tracks, dtype=np.int64),
        lanes,
        {lane: recorder.curves(lane) for lane in used},
        {lane: np.array(recorder.key_pressure.get(lane, []), KEY_PRESSURE_EVENT) for lane in used},
        module.zones,
        {kind: recorder.effect(kind) for kind in ("room", "chorus")},
        last,
        module.told,
    )


def _curve(times: "array[float]", values: "array[float]", initial: float) -> Curve:
    """The logged values over time: of several at one time the last, and of repeated values the first."""
    moments, levels = np.array(times, dtype=np.float64), np.array(values, dtype=np.float64)
    last = np.append(np.diff(moments) > 0, True)[: len(moments)]
    moments, levels = moments[last], levels[last]
    changes = np.diff(levels, prepend=initial) != 0
    return Curve(moments[changes], levels[changes], initial)
