"""What a General MIDI sound module makes of MIDI events: notes with their true ends, and controllers over time.

Decisions, each of them tested:

- A note-on with velocity 0 is a note-off. A note-off lets go the oldest open note of its pitch and channel, first
  among those of its own track; one that finds none is passed over.
- A zero-length note is kept, with end = start.
- Notes that are never ended: the note-offs of that key belong to the latest note-ons before them, and a note that
  is left over ends where its key is struck again, or with its track.
- Same-pitch overlap: a key has one string. A later start of the same pitch and channel damps the earlier note there
  (`damp`), even if its own key release (`end`) comes after. Notes that start together all sound.
- Sustain (CC 64 >= 64 is down) holds what is released while it is down until it comes up; sostenuto (CC 66) holds
  the keys that are down when it goes down, until it comes up; a pedal that never comes up holds to the end of the
  piece. Events at one instant count in the order of the file, tracks in their order.
- All sound off (CC 120) ends what sounds; all notes off (CC 123, and 124 to 127, which imply it) releases the keys,
  and pedals still hold; CC 121 resets the controllers except volume, pan, sends, program and tuning.
- Bank select takes effect with the next program change. Channel 10 is drums until a message says otherwise; a
  channel is made drums by bank MSB 126 or 127 (XG) or 120 (GM2) unless GS is on, where these are other things, by GS
  "use for rhythm part" or by XG part mode.
- GM, GM2, GS and XG reset messages put everything back. Master volume multiplies every channel's volume; master
  tuning and transposition add to the bend, transposition on pitched channels only.
"""

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from miao.midi.file import CONTROL, KEY_PRESSURE, META, NOTE_OFF, NOTE_ON, PRESSURE, PROGRAM, SYSEX, WHEEL, TrackEvents

NOTE = np.dtype(
    [
        ("start", "f8"),  # seconds
        ("end", "f8"),  # seconds, when the key is released; >= start
        ("damp", "f8"),  # seconds, when the sound is let go: >= end, unless the key is struck again before
        ("pitch", "i2"),  # 0 to 127
        ("velocity", "i2"),  # 1 to 127
        ("program", "i2"),  # 0 to 127; of drums, the kit
        ("bank", "i4"),  # 128 x MSB + LSB
        ("is_drum", "?"),
        # how it departs from an ordinary note of its channel; `notes_array` gives the values that change nothing
        ("cut", "f8"),  # seconds, when it fades at once, drums too: chokes, all sound off, resets; inf: never
        ("glide", "f4"),  # semitones by which its pitch begins away from its own, portamento; 0: none
        ("glide_seconds", "f4"),  # until it has arrived
        ("tuning", "f4"),  # cents at its start: scale tuning, tuned drum keys
        ("gain", "f4"),  # linear, of its drum key; 1: unchanged
        ("pan", "f4"),  # added to the channel's, -1 to 1
        ("send", "f4"),  # factor on the channel's reverb send; 1: unchanged
    ]
)
KEY_PRESSURE_EVENT = np.dtype([("time", "f8"), ("pitch", "i2"), ("value", "f8")])  # seconds; value 0 to 1


def notes_array(notes: int | Sequence[tuple]) -> np.ndarray:
    """NOTE [n]: n notes of zeros, or rows of (start, end, damp, pitch, velocity, program, bank, is_drum).

    What is not said changes nothing: never cut, no glide, gain 1.
    """
    rows = range(notes) if isinstance(notes, int) else notes
    made = np.zeros(len(rows), NOTE)
    made["cut"], made["gain"], made["send"] = np.inf, 1, 1
    if not isinstance(notes, int):
        columns = zip(*notes, strict=True)
        for name, column in zip(NOTE.names or (), columns, strict=False):
            made[name] = column
    return made


# what a channel plays with before any controller: General MIDI's power-up values
DEFAULTS = {
    "volume": 100 / 127,
    "expression": 1.0,
    "pan": 0.0,  # -1 left to 1 right
    "reverb": 40 / 127,
    "chorus": 0.0,
    "modulation": 0.0,
    "soft": 0.0,
    "sustain": 0.0,
    "sostenuto": 0.0,
    "pressure": 0.0,
    "bend": 0.0,  # semitones
}
CONTROLLERS = {
    1: "modulation", 7: "volume", 10: "pan", 11: "expression", 64: "sustain", 66: "sostenuto", 67: "soft",
    91: "reverb", 93: "chorus",
}  # fmt: skip
_RESET_BY_121 = ("expression", "modulation", "sustain", "sostenuto", "soft", "pressure")
_NO_PARAMETER = (127, 127)  # the "null" RPN: data entry has no effect


@dataclass(frozen=True, eq=False)
class Curve:
    """A controller over time: a step function that is `initial` before the first of `times`."""

    times: np.ndarray  # float64 [n], seconds, increasing
    values: np.ndarray  # float64 [n]
    initial: float

    def at(self, times: np.ndarray | float) -> np.ndarray:
        """The values in force at `times` (seconds, any shape; the result has it); a step counts from its time on."""
        padded = np.concatenate([[self.initial], self.values])
        return padded[np.searchsorted(self.times, times, side="right")]


@dataclass(frozen=True)
class Performance:
    """What one set of tracks plays."""

    notes: np.ndarray  # NOTE [n]
    note_tracks: np.ndarray  # int [n], which of the tracks a note stands in
    note_lanes: np.ndarray  # int [n], 16 x port + channel
    controls: dict[int, dict[str, Curve]]  # by lane
    key_pressure: dict[int, np.ndarray]  # by lane, KEY_PRESSURE_EVENT
    seconds: float  # when the last event or sound ends
    n_unended: int
    ignored: Counter  # sentence -> how many events


class _Channel:
    """The state of one channel of one port while the events go by."""

    def __init__(self, lane: int):
        self.lane = lane
        self.open: dict[int, list[int]] = {}  # pitch -> its notes whose key is down, oldest first
        self.log: dict[str, tuple[array, array]] = {name: (array("q"), array("d")) for name in DEFAULTS}
        self.key_pressure: list[tuple[int, int, float]] = []
        self.cuts = array("q")  # rows at which all sound ends
        self.power_up()

    def power_up(self) -> None:
        self.program = self.bank = self.bank_msb = self.bank_lsb = 0
        self.part_is_drum = self.is_drum = self.lane % 16 == 9
        self.sound = -1  # index into the module's sounds; -1: to be looked up at the next note
        self.wheel = 0.0  # -1 to 1
        self.volume = DEFAULTS["volume"]
        self.bend_semitones, self.bend_cents = 2, 0
        self.fine, self.coarse = 8192, 64  # RPN 1 (14 bits) and 2, both in the middle
        self.parameter, self.is_registered = _NO_PARAMETER, True


class _Module:
    """A General MIDI sound module that writes down what it would play; a row is the number of an event."""

    def __init__(self, lanes: list[int]):
        self.channels = {lane: _Channel(lane) for lane in lanes}
        self.is_gs = False
        self.volume, self.tuning, self.transposition = 1.0, 0.0, 0.0  # master: 0 to 1, semitones, semitones
        self.ignored: Counter[str] = Counter()
        self.sounds: dict[tuple[int, int, bool], int] = {}  # (program, bank, is_drum) -> its index
        self.starts, self.ends = array("q"), array("q")  # rows of the notes; end -1: the key is still down
        self.note_tracks, self.note_sounds = array("l"), array("l")

    # keys

    def note_on(self, row: int, track: int, channel: _Channel, pitch: int) -> None:
        if channel.sound < 0:
            sound = (channel.program, channel.bank, channel.is_drum)
            channel.sound = self.sounds.setdefault(sound, len(self.sounds))
        channel.open.setdefault(pitch, []).append(len(self.starts))
        self.starts.append(row)
        self.ends.append(-1)
        self.note_tracks.append(track)
        self.note_sounds.append(channel.sound)

    def note_off(self, row: int, track: int, channel: _Channel, pitch: int) -> None:
        notes = channel.open.get(pitch)
        if notes:
            position = 0
            if len(notes) > 1:
                position = next((i for i, note in enumerate(notes) if self.note_tracks[note] == track), 0)
            self.ends[notes.pop(position)] = row

    def release_all(self, row: int, channel: _Channel) -> None:
        for notes in channel.open.values():
            for note in notes:
                self.ends[note] = row
        channel.open.clear()

    # controllers

    def write(self, row: int, channel: _Channel, name: str, value: float) -> None:
        rows, values = channel.log[name]
        rows.append(row)
        values.append(value)

    def write_volume(self, row: int, channel: _Channel) -> None:
        self.write(row, channel, "volume", channel.volume * self.volume)

    def write_bend(self, row: int, channel: _Channel) -> None:
        bend = channel.wheel * (channel.bend_semitones + channel.bend_cents / 100)
        tuning = (channel.fine - 8192) / 8192 + channel.coarse - 64 + self.tuning
        self.write(row, channel, "bend", bend + tuning + (0 if channel.is_drum else self.transposition))

    def program_change(self, row: int, channel: _Channel, program: int) -> None:
        was_drum = channel.is_drum
        channel.sound = -1
        channel.program = program
        channel.bank = 128 * channel.bank_msb + channel.bank_lsb
        channel.is_drum = channel.part_is_drum or (channel.bank_msb in (120, 126, 127) and not self.is_gs)
        if channel.is_drum != was_drum and self.transposition:
            self.write_bend(row, channel)

    def control_change(self, row: int, channel: _Channel, number: int, value: int) -> None:
        if number == 7:
            channel.volume = value / 127
            self.write_volume(row, channel)
        elif number == 10:
            self.write(row, channel, "pan", max(-1.0, (value - 64) / 63))
        elif number in CONTROLLERS:
            self.write(row, channel, CONTROLLERS[number], value / 127)
            if number == 93 and value:
                self.ignored["chorus send (CC 93): there is no chorus"] += 1
        elif number == 0:
            channel.bank_msb = value
        elif number == 32:
            channel.bank_lsb = value
        elif number in (98, 99, 100, 101):
            self.select_parameter(channel, number, value)
        elif number in (6, 38, 96, 97):
            self.enter_data(row, channel, number, value)
        elif number == 121:
            self.reset_controllers(row, channel)
        elif number >= 120 and number != 122:
            self.release_all(row, channel)
            if number == 120:
                channel.cuts.append(row)
        else:
            self.ignored[f"controller {number}: not rendered"] += 1

    def select_parameter(self, channel: _Channel, number: int, value: int) -> None:
        msb, lsb = channel.parameter
        channel.parameter = (msb, value) if number in (98, 100) else (value, lsb)
        channel.is_registered = number >= 100

    def enter_data(self, row: int, channel: _Channel, number: int, value: int) -> None:
        """Data entry (CC 6, 38) and its increments (96, 97) for RPN 0 (bend range), 1 (fine) and 2 (coarse tuning)."""
        step = {96: 1, 97: -1}.get(number)
        match (channel.is_registered, channel.parameter):
            case (True, (0, 0)) if number == 38:
                channel.bend_cents = value
            case (True, (0, 0)):
                channel.bend_semitones = value if step is None else channel.bend_semitones + step
            case (True, (0, 1)) if number == 38:
                channel.fine = channel.fine & ~0x7F | value
            case (True, (0, 1)):
                channel.fine = channel.fine & 0x7F | value << 7 if step is None else channel.fine + step
            case (True, (0, 2)) if number != 38:
                channel.coarse = value if step is None else channel.coarse + step
            case (True, (0, 2)) | (True, (127, 127)):
                return
            case _:
                kind = "registered" if channel.is_registered else "non-registered"
                self.ignored["{} parameter {}/{}: not rendered".format(kind, *channel.parameter)] += 1
                return
        self.write_bend(row, channel)

    def reset_controllers(self, row: int, channel: _Channel) -> None:
        for name in _RESET_BY_121:
            self.write(row, channel, name, DEFAULTS[name])
        channel.wheel = 0.0
        channel.parameter, channel.is_registered = _NO_PARAMETER, True
        self.write_bend(row, channel)

    # system exclusive

    def reset(self, row: int, is_gs: bool = False) -> None:
        self.is_gs = is_gs
        self.volume, self.tuning, self.transposition = 1.0, 0.0, 0.0
        for channel in self.channels.values():
            self.release_all(row, channel)
            channel.cuts.append(row)
            channel.power_up()
            for name, value in DEFAULTS.items():
                self.write(row, channel, name, value)

    def set_master(self, row: int, **values: float) -> None:
        """Sets `volume` (0 to 1), `tuning` or `transposition` (semitones) for all channels."""
        for name, value in values.items():
            setattr(self, name, value)
        for channel in self.channels.values():
            self.write_volume(row, channel)
            self.write_bend(row, channel)

    def set_drums(self, row: int, lane: int, is_drum: bool) -> None:
        if channel := self.channels.get(lane):
            channel.part_is_drum = channel.is_drum = is_drum
            channel.sound = -1
            self.write_bend(row, channel)

    def system_exclusive(self, row: int, port: int, message: bytes) -> None:
        """Universal, Roland GS (41 .. 42 12 address) and Yamaha XG (43 1n 4C address) messages that matter here."""
        match tuple(message):
            case (0x7E, _, 0x09, 0x01 | 0x03) | (0x43, _, 0x4C, 0x00, 0x00, 0x7E | 0x7F, 0x00):
                self.reset(row)
            case (0x41, _, 0x42, 0x12, 0x40, 0x00, 0x7F, 0x00, _) | (0x41, _, 0x42, 0x12, 0x00, 0x00, 0x7F, _, _):
                self.reset(row, is_gs=True)
            case (0x7F, _, 0x04, 0x01, low, high):
                self.set_master(row, volume=(low + 128 * high) / 16383)
            case (0x7F, _, 0x04, 0x03, low, high):
                self.set_master(row, tuning=(low + 128 * high - 8192) / 8192)
            case (0x7F, _, 0x04, 0x04, _, high) | (0x41, _, 0x42, 0x12, 0x40, 0x00, 0x05, high, _):
                self.set_master(row, transposition=high - 64)
            case (0x43, _, 0x4C, 0x00, 0x00, 0x06, high):
                self.set_master(row, transposition=high - 64)
            case (0x41, _, 0x42, 0x12, 0x40, 0x00, 0x04, high, _) | (0x43, _, 0x4C, 0x00, 0x00, 0x04, high):
                self.set_master(row, volume=high / 127)
            case (0x41, _, 0x42, 0x12, 0x40, 0x00, 0x00, a, b, c, d, _) | (0x43, _, 0x4C, 0x00, 0x00, 0x00, a, b, c, d):
                tenths_of_cents = (a << 12 | b << 8 | c << 4 | d) - 1024
                self.set_master(row, tuning=tenths_of_cents / 1000)
            case (0x41, _, 0x42, 0x12, 0x40, part, 0x15, value, _) if part & 0xF0 == 0x10:
                block = part & 0x0F  # GS numbers its blocks 10, 1 to 9, 11 to 16
                self.set_drums(row, port + (9 if block == 0 else block - 1 if block < 10 else block), value > 0)
            case (0x43, _, 0x4C, 0x08, part, 0x07, value) if part < 16:
                self.set_drums(row, port + part, value > 0)
            case (0x7E, _, 0x09, 0x02):
                pass  # General MIDI off
            case _:
                self.ignored["system-exclusive message: not one that this program knows"] += 1


def perform(tracks: list[TrackEvents], clock: Callable[[np.ndarray], np.ndarray]) -> Performance:
    """Plays tracks that share their channels, as those of a type 1 file do; `clock` turns ticks into seconds."""
    table = np.concatenate([track.table() for track in tracks])
    sources = np.repeat(np.arange(len(tracks)), [len(track.rows) // 5 for track in tracks])
    order = np.argsort(table[:, 0], kind="stable")  # at one tick: tracks in order, each in the order of the file
    table, sources = table[order], sources[order]
    ticks, kinds, lanes, first, second = table.T
    module = _Module(np.unique(lanes[kinds < SYSEX]).tolist())
    events = zip(kinds.tolist(), lanes.tolist(), first.tolist(), second.tolist(), sources.tolist(), strict=True)
    for row, (kind, lane, a, b, track) in enumerate(events):
        if kind == NOTE_ON and b:
            module.note_on(row, track, module.channels[lane], a)
        elif kind in (NOTE_ON, NOTE_OFF):
            module.note_off(row, track, module.channels[lane], a)
        elif kind == CONTROL:
            module.control_change(row, module.channels[lane], a, b)
        elif kind == WHEEL:
            channel = module.channels[lane]
            channel.wheel = (a + 128 * b - 8192) / 8192
            module.write_bend(row, channel)
        elif kind == PROGRAM:
            module.program_change(row, module.channels[lane], a)
        elif kind == PRESSURE:
            module.write(row, module.channels[lane], "pressure", a / 127)
        elif kind == KEY_PRESSURE:
            module.channels[lane].key_pressure.append((row, a, b / 127))
            module.ignored["polyphonic aftertouch: kept, not rendered"] += 1
        elif kind == SYSEX:
            module.system_exclusive(row, lane, tracks[track].messages[a])
    track_ends = np.zeros(len(tracks), dtype=np.int64)
    track_ends[sources[kinds == META]] = np.flatnonzero(kinds == META)
    return _write_down(module, table, clock(ticks), track_ends)


def _write_down(module: _Module, table: np.ndarray, seconds: np.ndarray, track_ends: np.ndarray) -> Performance:
    starts, ends = np.array(module.starts, dtype=np.int64), np.array(module.ends, dtype=np.int64)
    tracks, lanes = np.array(module.note_tracks, dtype=np.int64), table[starts, 2]
    notes = notes_array(len(starts))
    notes["pitch"], notes["velocity"] = table[starts, 3], table[starts, 4]
    sounds = np.array([*module.sounds, (0, 0, False)], dtype=[("program", "i2"), ("bank", "i4"), ("is_drum", "?")])
    for name in sounds.dtype.names or ():
        notes[name] = sounds[name][np.array(module.note_sounds, dtype=np.int64)]
    n_unended = _end_the_unended(starts, ends, (tracks * 4096 + lanes) * 128 + notes["pitch"], track_ends[tracks])
    damps = ends.copy()
    for lane, channel in module.channels.items():
        here = np.flatnonzero(lanes == lane)
        damps[here] = _hold_by_pedals(starts[here], ends[here], channel, len(seconds) - 1)
        cuts = np.append(np.array(channel.cuts, dtype=np.int64), np.iinfo(np.int64).max)
        cut = cuts[np.searchsorted(cuts, starts[here], side="right")]
        damps[here] = np.minimum(damps[here], cut)
    notes["start"], notes["end"], notes["damp"] = seconds[starts], seconds[ends], seconds[damps]
    _damp_by_restrikes(notes, lanes)
    channels = module.channels.items()
    return Performance(
        notes,
        tracks,
        lanes,
        {k: {n: _curve(seconds, *log, DEFAULTS[n]) for n, log in c.log.items()} for k, c in channels},
        {k: np.array([(seconds[r], p, v) for r, p, v in c.key_pressure], KEY_PRESSURE_EVENT) for k, c in channels},
        float(seconds[-1]),
        n_unended,
        module.ignored,
    )


def _end_the_unended(starts: np.ndarray, ends: np.ndarray, keys: np.ndarray, track_ends: np.ndarray) -> int:
    """Writes the ends (rows) of notes whose note-off never came (-1), and says how many there were.

    If a note-off was lost, giving each one to the oldest note shifts all that follow on this key by one; so here
    they go to the latest note-on before them. A note that is left over ends at the next start of its key, or with
    its track.
    """
    unended = ends < 0
    for key in np.unique(keys[unended]):
        notes = np.flatnonzero(keys == key)
        offs = np.sort(ends[notes][ends[notes] >= 0])
        waiting: list[int] = []
        note_at = dict(zip(starts[notes].tolist(), notes.tolist(), strict=True))
        for row in sorted([*note_at, *offs.tolist()]):
            if row in note_at:
                waiting.append(note_at[row])
                ends[note_at[row]] = -1
            else:
                ends[waiting.pop()] = row
        following = dict(zip(notes[:-1].tolist(), starts[notes[1:]].tolist(), strict=True))
        for note in waiting:
            ends[note] = following.get(note, track_ends[note])
    return int(unended.sum())


def _hold_by_pedals(starts: np.ndarray, ends: np.ndarray, channel: _Channel, last_row: int) -> np.ndarray:
    """The rows at which the pedals let go the notes of a channel: `ends`, or later."""
    down, up = _pedal_rows(*channel.log["sostenuto"], last_row)
    held = ends.copy()
    if len(down):
        latest = np.searchsorted(down, ends) - 1  # the last time it went down before the key came up
        caught = (latest >= 0) & (down[latest] > starts)
        held[caught] = np.maximum(ends, up[latest])[caught]
    down, up = _pedal_rows(*channel.log["sustain"], last_row)
    if len(down):
        latest = np.searchsorted(down, held) - 1
        caught = (latest >= 0) & (up[latest] > held)
        held[caught] = up[latest][caught]
    return held


def _pedal_rows(rows: array, values: array, last_row: int) -> tuple[np.ndarray, np.ndarray]:
    """At which rows a pedal goes down, and at which it comes up again (or `last_row`)."""
    is_down = np.concatenate([[False], np.asarray(values) >= 64 / 127, [False]]).astype(np.int8)
    all_rows = np.append(np.array(rows, dtype=np.int64), last_row)
    steps = np.diff(is_down)
    return all_rows[steps == 1], all_rows[steps == -1]


def _damp_by_restrikes(notes: np.ndarray, lanes: np.ndarray) -> None:
    """A note is damped no later than the next later start of the same pitch and channel."""
    if not len(notes):
        return
    key = lanes * 128 + notes["pitch"]
    order = np.lexsort((notes["start"], key))
    start, key = notes["start"][order], key[order]
    is_new = np.append(True, (np.diff(start) > 0) | (np.diff(key) > 0))  # the first of those that start together
    first = np.flatnonzero(is_new)
    following = np.append(first[1:], len(notes))[np.cumsum(is_new) - 1]  # index of the next later strike
    inside = following < len(notes)
    inside[inside] = key[following[inside]] == key[inside]
    restruck = order[inside]
    notes["damp"][restruck] = np.minimum(notes["damp"][restruck], start[following[inside]])


def _curve(seconds: np.ndarray, rows: array, values: array, initial: float) -> Curve:
    """The logged values over time: of several at one time the last, and of repeated values the first."""
    times, levels = seconds[np.array(rows, dtype=np.int64)], np.array(values, dtype=np.float64)
    last = np.append(np.diff(times) > 0, True)[: len(times)]
    times, levels = times[last], levels[last]
    changes = np.diff(levels, prepend=initial) != 0
    return Curve(times[changes], levels[changes], initial)
