"""A performance as a MIDI file in which bars are still bars: ticks count beats, and the tempo map plays."""

import io
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mido
import numpy as np

from miao.arrays import Doubles
from miao.expression.beats import Pulse
from miao.midi.score import Curve, Score
from miao.midi.writing import write_score

_SECONDS_A_QUARTER = 0.5  # of the score that `write_score` writes: 120 quarter notes a minute
_TEMPI = (60e6 / ((1 << 24) - 1), 60e6)  # quarter notes a minute: three bytes of microseconds a quarter note, and one


def performance_bytes(score: Score) -> bytes:
    """A score as the bytes of a type 1 file whose ticks are beats under its tempo map, with its time signatures.

    A notation program shows the bars of the original, and any synthesizer plays the tempi: times are right to about
    0.1 ms a minute.
    """
    pulse = Pulse.of(_writable(score.tempi))
    in_beats = _moved(score, lambda seconds: pulse.quarters(seconds) * _SECONDS_A_QUARTER)
    with tempfile.TemporaryDirectory() as folder:
        plain = Path(folder) / "performance.mid"
        write_score(in_beats, plain)
        file = mido.MidiFile(plain)
    ticks = file.ticks_per_beat
    head = [(0, message) for message in file.tracks[0] if message.type not in ("set_tempo", "end_of_track")]
    for quarter, per_second in zip(pulse.quarters_at, pulse.per_second, strict=True):
        head.append((max(round(quarter * ticks), 0), mido.MetaMessage("set_tempo", tempo=round(1e6 / per_second))))
    for meter in score.meters:
        at = max(round(float(pulse.quarters(np.array([meter.time]))[0]) * ticks), 0)
        message = mido.MetaMessage("time_signature", numerator=meter.numerator, denominator=meter.denominator)
        head.append((at, message))
    head.sort(key=lambda event: event[0])
    if score.end:
        end = round(float(pulse.quarters(np.array([score.end]))[0]) * ticks)
        head.append((max(end, head[-1][0]), mido.MetaMessage("end_of_track")))
    now, track = 0, mido.MidiTrack()
    for tick, message in head:
        track.append(message.copy(time=tick - now))
        now = tick
    file.tracks[0] = track
    data = io.BytesIO()
    file.save(file=data)
    return data.getvalue()


def _writable(tempi: Curve) -> Curve:
    """Tempi that the format can hold: what is slower or faster is written as more or fewer quarter notes, so that all
    sounds at its time."""
    values = np.where(tempi.values > 0, np.clip(tempi.values, *_TEMPI), tempi.values)
    return Curve(tempi.times, values, float(np.clip(tempi.initial, *_TEMPI)))


def _moved(score: Score, clock: Callable[[Doubles], Doubles]) -> Score:
    """The score in another time: `clock` turns arrays of seconds into others."""

    def curve(old: Curve) -> Curve:
        return Curve(clock(old.times), old.values, old.initial) if len(old.times) else old

    tracks = []
    for track in score.tracks:
        notes, pressure = track.notes.copy(), track.key_pressure.copy()
        for name in ("start", "end", "damp"):
            notes[name] = clock(notes[name])
        pressure["time"] = clock(pressure["time"])
        controls = {name: curve(old) for name, old in track.controls.items()}
        tracks.append(replace(track, notes=notes, controls=controls, key_pressure=pressure))
    return replace(score, tracks=tuple(tracks), end=float(clock(np.array([score.end]))[0]))
