"""A piece of music as the rest of the program knows it: tracks of notes in seconds, with their controllers.

MIDI is read here and nowhere else: file.py takes the bytes apart, module.py says what the events mean
(pedals, overlaps, drums, resets: see its docstring), this file gives the result its shape, and writes it back.
"""

import io
import logging
from collections import Counter
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import BinaryIO

import mido
import numpy as np

from miao.errors import ScoreError
from miao.files import write_bytes
from miao.midi.file import MidiFile, parse_midi_file, seconds_at
from miao.midi.general_midi import program_name
from miao.midi.module import CONTROLLERS, DEFAULTS, KEY_PRESSURE_EVENT, NOTE, Curve, Performance, notes_array, perform

__all__ = [
    "KEY_PRESSURE_EVENT", "NOTE", "Curve", "Meter", "Score", "Track", "TrackSummary", "notes_array", "read_score",
    "write_score",
]  # fmt: skip

_log = logging.getLogger(__name__)

_WRITE_TICKS_PER_SECOND = 20_000  # 0.05 ms; and the longest pause a file can hold is then 3.7 hours
_WRITE_DIVISION = _WRITE_TICKS_PER_SECOND // 2  # ticks per quarter note at 120 a minute
_GS_RESET = mido.Message("sysex", data=(0x41, 0x10, 0x42, 0x12, 0x40, 0x00, 0x7F, 0x00, 0x41))


@dataclass(frozen=True, eq=False)
class Track:
    """The notes of one channel in one track of the file.

    A controller belongs to the channel: tracks that share a channel have the same curves. `controls` always has the
    keys volume, expression, reverb, chorus, modulation, soft, sustain, sostenuto, pressure (0 to 1), pan (-1 left to
    1 right) and bend (semitones: pitch wheel times its range, channel tuning and master tuning).
    """

    name: str  # "" if the file gives none
    channel: int  # 0 to 15
    notes: np.ndarray  # NOTE [n], n >= 1, sorted by (start, pitch)
    controls: dict[str, Curve]
    key_pressure: np.ndarray  # KEY_PRESSURE_EVENT [m], in time order
    stem: int | None = None  # tracks of one number are one instrument and one stem (MPE members); None: by itself


@dataclass(frozen=True)
class TrackSummary:
    """What a listing says of one track."""

    name: str
    channel: int  # 0 to 15
    programs: tuple[str, ...]  # General MIDI names, in order of first use
    is_drum: bool  # any of its notes is
    n_notes: int
    lowest: int  # MIDI pitches
    highest: int
    polyphony: int  # most notes between start and damp at one time


@dataclass(frozen=True)
class Meter:
    """A time signature, in force from a time on."""

    time: float  # seconds
    numerator: int
    denominator: int


@dataclass(frozen=True, eq=False)
class Score:
    """Tracks that hold notes, and what reading them had to leave out."""

    tracks: tuple[Track, ...]
    duration: float  # seconds, when the last note is damped; 0 without notes
    tempi: Curve  # quarter notes per minute
    warnings: tuple[str, ...] = ()  # what was damaged or missing in the file
    ignored: tuple[str, ...] = ()  # what the file asks for and the renderer does not do
    end: float = 0.0  # seconds, the end of the last track of the file, which may rest before it; 0: not known
    room: str | None = None  # the reverb type asked for: small, medium or large room, medium or large hall, plate
    meters: tuple[Meter, ...] = ()  # time signatures in time order; none: the file names none

    @property
    def n_notes(self) -> int:
        return sum(len(track.notes) for track in self.tracks)

    def describe(self) -> tuple[TrackSummary, ...]:
        """One summary per track, in order."""
        return tuple(_summary(track) for track in self.tracks)

    def transposed(self, semitones: int) -> "Score":
        """The score with all but drum notes moved. Raises: ScoreError if a pitch would leave 0 to 127."""
        return _with_tracks(self, [_transposed(track, semitones) for track in self.tracks])

    def shifted(self, seconds: float) -> "Score":
        """The score later by `seconds` (or earlier, if negative).

        Raises: ScoreError if a note would start before 0; controllers may.
        """
        first = min((track.notes["start"][0] for track in self.tracks), default=0.0)
        if not np.isfinite(seconds) or first + seconds < 0:
            raise ScoreError(f"cannot shift by {seconds} s: the first note starts at {first:.3f} s")
        tempi = replace(self.tempi, times=self.tempi.times + seconds)
        shifted = _with_tracks(self, [_shifted(track, seconds) for track in self.tracks])
        return replace(shifted, tempi=tempi, meters=_meters_later(self.meters, seconds))

    def between(self, start: float, end: float) -> "Score":
        """The notes that start in [start, end), whole, with `start` as the new 0 and the controllers as they stand.

        Tracks without such a note are left out; there may be none left.
        """
        tracks = []
        for track in self.tracks:
            inside = (track.notes["start"] >= start) & (track.notes["start"] < end)
            if inside.any():
                controls = {name: _from(curve, start) for name, curve in track.controls.items()}
                pressure = track.key_pressure[track.key_pressure["time"] >= start]
                part = replace(track, notes=track.notes[inside], controls=controls, key_pressure=pressure)
                tracks.append(_shifted(part, -start))
        tempi = _from(self.tempi, start)
        meters = _meters_later(self.meters, -start)
        return replace(_with_tracks(self, tracks), tempi=replace(tempi, times=tempi.times - start), meters=meters)

    def select(self, indices: list[int]) -> "Score":
        """Only the tracks with these indices, in this order. Raises: ScoreError for an index that is not there."""
        wrong = [i for i in indices if not 0 <= i < len(self.tracks)]
        if wrong:
            raise ScoreError(f"there is no track {wrong[0]}; the score has tracks 0 to {len(self.tracks) - 1}")
        return _with_tracks(self, [self.tracks[i] for i in indices])


def read_score(source: str | Path | bytes | BinaryIO) -> Score:
    """The score in a Standard MIDI File: a path, the bytes, or an open binary file.

    Types 0, 1 and 2 (the sequences of type 2 are laid one after another), bare or in a RIFF, in ticks per quarter
    note or SMPTE time, under the whole tempo map. Damage is left out, and named in `warnings` and in the log.

    Raises: ScoreError if there is no such file, nothing readable in it, or no note.
    """
    data, name = _load(source)
    file = parse_midi_file(data, name)
    if file.type == 2:
        parts = [([track], track.tempi) for track in file.tracks]
    else:  # one tempo map for all, wherever it stands
        parts = [(list(file.tracks), [tempo for track in file.tracks for tempo in track.tempi])]
    tracks: list[Track] = []
    tempi: list[tuple[float, float]] = []
    meters: list[Meter] = []
    ignored: Counter[str] = Counter()
    offset, n_unended = 0.0, 0
    for events, tempo_map in parts:
        played = perform(events, partial(seconds_at, division=file.division, tempi=tempo_map))
        tracks += [_shifted(track, offset) for track in _tracks(played, [e.name for e in events])]
        at = seconds_at(np.array([tick for tick, _ in tempo_map], dtype=np.int64), file.division, tempo_map)
        tempi += [(offset + time, 60e6 / tempo) for time, (_, tempo) in zip(at, tempo_map, strict=True) if tempo]
        signatures = sorted({meter for track in events for meter in track.meters})
        moments = seconds_at(np.array([m[0] for m in signatures], dtype=np.int64), file.division, tempo_map)
        meters += [Meter(offset + time, *m[1:]) for time, m in zip(moments.tolist(), signatures, strict=True)]
        ignored += played.ignored
        n_unended += played.n_unended
        offset += played.seconds
    warnings = _warnings(file, n_unended)
    for warning in warnings:
        _log.warning("%s: %s", name, warning)
    if not tracks:
        raise ScoreError(f"{name}: the file holds no notes" + "".join(f"; {warning}" for warning in warnings))
    tempi.sort(key=lambda tempo: tempo[0])
    return Score(
        tuple(tracks),
        max(float(track.notes["damp"].max()) for track in tracks),
        Curve(np.array([t for t, _ in tempi]), np.array([bpm for _, bpm in tempi]), 120.0),
        warnings,
        tuple(f"{what} ({n} event{'s' * (n > 1)})" for what, n in sorted(ignored.items())),
        meters=tuple(meters),
    )


def write_score(score: Score, path: str | Path) -> None:
    """Writes a score as a type 1 file at 120 quarter notes a minute, one track for each of its tracks.

    Times are rounded to 0.05 ms, controllers to MIDI's steps, bend to 1/8192 of the widest bend of the channel.
    What reading derives is not written but follows again: `damp` comes from pedals and overlaps. Tracks that share
    a channel and its curves have these written once, with the first.

    Raises: ScoreError if the file cannot be written.
    """
    file = mido.MidiFile(type=1, ticks_per_beat=_WRITE_DIVISION)
    # with GS on, drums are where "use for rhythm part" says and nowhere else, whatever the bank
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000), _GS_RESET]))
    written: set[tuple] = set()
    for track in score.tracks:
        events = _note_messages(track)
        curves = (track.channel, *(curve.times.tobytes() + curve.values.tobytes() for curve in track.controls.values()))
        if curves not in written:
            written.add(curves)
            events += _control_messages(track)
        events.sort(key=lambda event: event[:2])
        lines = mido.MidiTrack([mido.MetaMessage("track_name", name=track.name.encode().decode("latin-1"))])
        now = 0
        for tick, _, message in events:
            lines.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(lines)
    data = io.BytesIO()
    file.save(file=data)
    write_bytes(path, data.getvalue(), ScoreError)


# reading


def _load(source: str | Path | bytes | BinaryIO) -> tuple[bytes, str]:
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "MIDI data"
    if not isinstance(source, str | Path):
        return source.read(), str(getattr(source, "name", "MIDI data"))
    path = Path(source)
    if path.is_dir():
        raise ScoreError(f"{path}: this is a folder; give a MIDI file")
    try:
        return path.read_bytes(), str(path)
    except FileNotFoundError as error:
        raise ScoreError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise ScoreError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _tracks(played: Performance, names: list[str]) -> list[Track]:
    order = np.lexsort((played.notes["pitch"], played.notes["start"], played.note_lanes, played.note_tracks))
    owner = np.stack([played.note_tracks[order], played.note_lanes[order]])  # [2, n]
    borders = np.flatnonzero(np.diff(owner, prepend=-1).any(axis=0))
    tracks = []
    for first, notes in zip(borders, np.split(played.notes[order], borders)[1:], strict=True):
        index, lane = owner[:, first].tolist()
        tracks.append(Track(names[index], lane % 16, notes, played.controls[lane], played.key_pressure[lane]))
    return tracks


def _warnings(file: MidiFile, n_unended: int) -> tuple[str, ...]:
    if not n_unended:
        return file.warnings
    notes = "1 note was" if n_unended == 1 else f"{n_unended} notes were"
    return (*file.warnings, f"{notes} never ended; they end where their key is struck again, or with their track")


# parts of a score


def _meters_later(meters: tuple[Meter, ...], seconds: float) -> tuple[Meter, ...]:
    """Those that begin before 0 stay before it: bars are counted from where their signature stands."""
    return tuple(replace(meter, time=meter.time + seconds) for meter in meters)


def _with_tracks(score: Score, tracks: list[Track]) -> Score:
    return replace(
        score, tracks=tuple(tracks), duration=max((float(track.notes["damp"].max()) for track in tracks), default=0.0)
    )


def _from(curve: Curve, start: float) -> Curve:
    later = curve.times > start
    return Curve(curve.times[later], curve.values[later], float(curve.at(start)))


def _shifted(track: Track, seconds: float) -> Track:
    if seconds == 0:
        return track
    notes, pressure = track.notes.copy(), track.key_pressure.copy()
    for name in ("start", "end", "damp", "cut"):
        notes[name] += seconds
    pressure["time"] += seconds
    controls = {name: replace(curve, times=curve.times + seconds) for name, curve in track.controls.items()}
    return replace(track, notes=notes, controls=controls, key_pressure=pressure)


def _transposed(track: Track, semitones: int) -> Track:
    notes, pressure = track.notes.copy(), track.key_pressure.copy()
    pitched = ~notes["is_drum"]
    moved = notes["pitch"] + semitones * pitched.astype(np.int64)
    wrong = moved[(moved < 0) | (moved > 127)]
    if len(wrong):
        raise ScoreError(f"cannot transpose by {semitones}: pitch {wrong[0] - semitones} would become {wrong[0]}")
    notes["pitch"] = moved
    if pitched.any():
        pressure["pitch"] = np.clip(pressure["pitch"] + semitones, 0, 127)
    order = np.lexsort((notes["pitch"], notes["start"]))
    return replace(track, notes=notes[order], key_pressure=pressure)


def _summary(track: Track) -> TrackSummary:
    notes = track.notes
    _, first = np.unique(notes[["program", "is_drum"]], return_index=True)
    programs = dict.fromkeys(program_name(int(n["program"]), bool(n["is_drum"])) for n in notes[np.sort(first)])
    sounding = notes[notes["damp"] > notes["start"]]
    times = np.concatenate([sounding["start"], sounding["damp"]])
    steps = np.repeat([1, -1], len(sounding))
    running = np.cumsum(steps[np.lexsort((steps, times))])  # at one time, ends before starts
    return TrackSummary(
        track.name,
        track.channel,
        tuple(programs),
        bool(notes["is_drum"].any()),
        len(notes),
        int(notes["pitch"].min()),
        int(notes["pitch"].max()),
        max(1, int(running.max(initial=0))),
    )


# writing: events are (tick, rank at that tick, message)

_RELEASE, _CONTROL, _STRIKE, _RELEASE_AT_ONCE = range(4)


def _tick(seconds: float) -> int:
    return round(seconds * _WRITE_TICKS_PER_SECOND)


def _note_messages(track: Track) -> list[tuple[int, int, mido.Message]]:
    channel = track.channel
    events: list[tuple[int, int, mido.Message]] = []
    sound = (0, 0, channel == 9)
    for note in track.notes:
        start, end = _tick(note["start"]), _tick(note["end"])
        bank, program, is_drum = wanted = int(note["bank"]), int(note["program"]), bool(note["is_drum"])
        if wanted != sound or not events:
            if is_drum != sound[2]:
                events.append((start, _CONTROL, _rhythm_part(channel, is_drum)))
            for number, value in ((0, bank >> 7), (32, bank & 127)):
                events.append((start, _CONTROL, _control(channel, number, value)))
            events.append((start, _CONTROL, mido.Message("program_change", channel=channel, program=program)))
            sound = wanted
        pitch, velocity = int(note["pitch"]), int(note["velocity"])
        events.append((start, _STRIKE, mido.Message("note_on", channel=channel, note=pitch, velocity=velocity)))
        rank = _RELEASE if end > start else _RELEASE_AT_ONCE
        events.append((end, rank, mido.Message("note_off", channel=channel, note=pitch, velocity=64)))
    return events


def _control_messages(track: Track) -> list[tuple[int, int, mido.Message]]:
    channel = track.channel
    events = []
    for number, name in CONTROLLERS.items():
        for time, value in _steps(track.controls[name], DEFAULTS[name]):
            level = round(64 + 63 * value) if name == "pan" else round(127 * value)
            events.append((_tick(time), _CONTROL, _control(channel, number, min(127, level))))
    for time, value in _steps(track.controls["pressure"], 0.0):
        message = mido.Message("aftertouch", channel=channel, value=round(127 * value))
        events.append((_tick(time), _CONTROL, message))
    bends = _steps(track.controls["bend"], 0.0)
    if bends:
        widest = min(127, max(2, int(np.ceil(max(abs(value) for _, value in bends)))))
        for number, value in ((101, 0), (100, 0), (6, widest), (38, 0), (101, 127), (100, 127)):
            events.append((0, _CONTROL, _control(channel, number, value)))
        for time, value in bends:
            wheel = min(8191, max(-8192, round(8192 * value / widest)))
            events.append((_tick(time), _CONTROL, mido.Message("pitchwheel", channel=channel, pitch=wheel)))
    for event in track.key_pressure:
        pitch, value = int(event["pitch"]), round(127 * event["value"])
        message = mido.Message("polytouch", channel=channel, note=pitch, value=value)
        events.append((_tick(event["time"]), _CONTROL, message))
    return events


def _steps(curve: Curve, default: float) -> list[tuple[float, float]]:
    """The (time, value) pairs to send to a channel that stands at `default`; what lies before 0 is sent at 0."""
    at_zero = float(curve.at(0.0))
    later = curve.times > 0
    first = [(0.0, at_zero)] if at_zero != default else []
    return first + list(zip(curve.times[later].tolist(), curve.values[later].tolist(), strict=True))


def _control(channel: int, number: int, value: int) -> mido.Message:
    return mido.Message("control_change", channel=channel, control=number, value=value)


def _rhythm_part(channel: int, is_drum: bool) -> mido.Message:
    """Roland's "use for rhythm part"; its blocks are numbered 10, 1 to 9, 11 to 16."""
    block = 0 if channel == 9 else channel + 1 if channel < 9 else channel
    body = (0x40, 0x10 | block, 0x15, int(is_drum))
    return mido.Message("sysex", data=(0x41, 0x10, 0x42, 0x12, *body, -sum(body) & 127))
