"""A score as a Standard MIDI File."""

import io
from pathlib import Path

import mido
import numpy as np

from miao.errors import ScoreError
from miao.files import path_of, write_bytes
from miao.midi.channel import CONTROLLERS, DEFAULTS, WIDEST_BEND
from miao.midi.notes import Curve
from miao.midi.score import Score, Track, check_score

_WRITE_TICKS_PER_SECOND = 20_000  # 0.05 ms; and the longest pause a file can hold is then 3.7 hours
_WRITE_DIVISION = _WRITE_TICKS_PER_SECOND // 2  # ticks per quarter note at 120 a minute
_GS_RESET = mido.Message("sysex", data=(0x41, 0x10, 0x42, 0x12, 0x40, 0x00, 0x7F, 0x00, 0x41))


def write_score(score: Score, path: str | Path) -> None:
    """Writes a score as a type 1 file at 120 quarter notes a minute, one track for each of its tracks.

    Times are rounded to 0.05 ms, controllers to MIDI's steps, bend to 1/8192 of the widest bend of the channel.
    What reading derives is not written but follows again: `damp` comes from pedals. Glides, tunings of single keys and
    what drum keys change are not written. Tracks that share a channel and its curves have these written once, with the
    first.

    Raises: ScoreError if the file cannot be written.

    >>> from miao import read_score
    >>> write_score(read_score("song.mid").select([0]), "first track.mid")
    """
    check_score(score)
    path = path_of(path, ScoreError)
    file = mido.MidiFile(type=1, ticks_per_beat=_WRITE_DIVISION)
    # with GS on, drums are where "use for rhythm part" says and nowhere else, whatever the bank
    end = mido.MetaMessage("end_of_track", time=_tick(score.end))
    file.tracks.append(mido.MidiTrack([mido.MetaMessage("set_tempo", tempo=500_000), _GS_RESET, end]))
    written: set[tuple[object, ...]] = set()
    ports = {0}
    for track in score.tracks:
        events = _note_messages(track)
        curves = (
            track.port,
            track.channel,
            *(curve.times.tobytes() + curve.values.tobytes() for curve in track.controls.values()),
        )
        if curves not in written:
            written.add(curves)
            events += _control_messages(track)
        events.sort(key=lambda event: event[:2])
        lines = mido.MidiTrack([mido.MetaMessage("track_name", name=track.name.encode().decode("latin-1"))])
        if track.port:
            lines.append(mido.MetaMessage("midi_port", port=track.port % 256))
            lines += [] if track.port in ports else [_GS_RESET]
            ports.add(track.port)
        now = 0
        for tick, _, message in events:
            lines.append(message.copy(time=tick - now))
            now = tick
        file.tracks.append(lines)
    data = io.BytesIO()
    file.save(file=data)
    write_bytes(path, data.getvalue(), ScoreError)


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
        widest = min(WIDEST_BEND, max(2, int(np.ceil(max(abs(value) for _, value in bends)))))
        for number, value in ((101, 0), (100, 0), (6, widest), (38, 0), (101, 127), (100, 127)):
            events.append((0, _CONTROL, _control(channel, number, value)))
        for time, value in bends:
            wheel = min(8191, max(-8192, round(8192 * value / widest)))
            events.append((_tick(time), _CONTROL, mido.Message("pitchwheel", channel=channel, pitch=wheel)))
    for event in track.key_pressure[~track.key_pressure["is_tuning"]]:
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
