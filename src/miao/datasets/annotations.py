"""Scores from what data sets write notes in: tables of times and pitches, pitch curves, and a MIDI file a part.

Times are seconds. Where a data set says nothing of velocities all are VELOCITY.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from miao.arrays import Numbers, Reals, Records
from miao.errors import DataError
from miao.midi.channel import DEFAULTS
from miao.midi.score import KEY_PRESSURE_EVENT, Curve, Score, Track, notes_array, read_score

VELOCITY = 80  # where none is known
A4_HZ, A4 = 440.0, 69
_DRUM_CHANNEL = 9


def as_notes(starts: Numbers, ends: Numbers, pitches: Numbers, program: int, where: Path) -> Records:
    """A score's notes from columns, pitches rounded to the nearest.

    Raises: DataError, which names the file ``where``, if a note has no time or no pitch, or ends before it starts.
    """
    starts, ends, pitches = (np.asarray(column, np.float64) for column in (starts, ends, pitches))
    bad = ~(np.isfinite(starts) & np.isfinite(ends) & np.isfinite(pitches)) | (starts < 0) | (ends < starts)
    bad |= (pitches < -0.5) | (pitches > 127.5)
    if bad.any():
        n = int(np.argmax(bad))
        raise DataError(f"{where}: note {n + 1} is none: {starts[n]:g} to {ends[n]:g} s, pitch {pitches[n]:g}")
    notes = notes_array(len(starts))
    notes["start"], notes["end"], notes["damp"] = starts, ends, ends
    notes["pitch"], notes["velocity"], notes["program"] = np.clip(np.rint(pitches), 0, 127), VELOCITY, program
    return notes


def as_track(name: str, number: int, notes: Records, bend: Curve | None = None) -> Track:
    """Notes as a track, sorted, under controllers as General MIDI has them at power-up, but for the bend (semitones).

    ``number`` counts the tracks of a score; channels follow from it, and only drums get channel 10.
    """
    controls = {key: Curve(np.zeros(0), np.zeros(0), value) for key, value in DEFAULTS.items()}
    if bend is not None:
        controls["bend"] = bend
    order = np.lexsort((notes["pitch"], notes["start"]))
    return Track(name, channel_of(number, bool(notes["is_drum"].any())), notes[order], controls,
                 np.zeros(0, KEY_PRESSURE_EVENT))  # fmt: skip


def channel_of(number: int, is_drum: bool) -> int:
    """The channel of a score's track; more than 15 pitched tracks share some."""
    return _DRUM_CHANNEL if is_drum else (number % 15) + (number % 15 >= _DRUM_CHANNEL)


def as_score(tracks: Sequence[Track], warnings: Sequence[str] = ()) -> Score:
    """Tracks as a score."""
    duration = max((float(track.notes["damp"].max()) for track in tracks), default=0.0)
    return Score(tuple(tracks), duration, Curve(np.zeros(0), np.zeros(0), 120.0), tuple(warnings))


def read_parts(parts: Sequence[tuple[str, Path, int, bool]]) -> Score:
    """A score of one track for each (name, MIDI file, program, is_drum), whatever the files say of programs.

    A file's notes are one track even if they stand in several; its controllers are those of the first of them.
    Raises: ScoreError if a file is missing, damaged or without notes.
    """
    tracks, warnings = [], []
    for number, (name, path, program, is_drum) in enumerate(parts):
        score = read_score(path)
        notes = np.concatenate([track.notes for track in score.tracks])
        notes["program"], notes["bank"], notes["is_drum"] = 0 if is_drum else program, 0, is_drum
        first = score.tracks[0]
        order = np.lexsort((notes["pitch"], notes["start"]))
        channel = channel_of(number, is_drum)
        tracks.append(Track(name or first.name, channel, notes[order], first.controls, first.key_pressure))
        warnings += [f"{path}: {warning}" for warning in score.warnings]
    return as_score(tracks, warnings)


def semitones(hz: Reals | float) -> Reals:
    """MIDI pitch, with fractions, of a frequency; minus infinity for 0 Hz."""
    with np.errstate(divide="ignore"):
        return A4 + 12 * np.log2(np.asarray(hz, np.float64) / A4_HZ)


def bend_by_note(notes: Records, pitches: Numbers) -> Curve:
    """A bend that gives each note, from its start on, the fraction that rounding took from its pitch.

    For parts that play one note at a time.
    """
    order = np.argsort(notes["start"], kind="stable")
    starts, offsets = notes["start"][order], (np.asarray(pitches) - notes["pitch"])[order]
    later = np.append(np.diff(starts) > 0, True)[: len(starts)]  # of several at one time the last
    return Curve(starts[later], offsets[later], 0.0)


def bend_by_frames(notes: Records, bend: Curve, times: Reals, hz: Reals, reach_semitones: float) -> Curve:
    """``bend``, followed within the notes by the pitch that was measured in frames.

    Frames without a pitch (0 Hz), between notes, or further than the reach from the note's pitch (a wrong octave, the
    slide into the next note) leave the bend as it stands. For parts that play one note at a time.
    """
    order = np.argsort(notes["start"], kind="stable")
    ordered = notes[order]
    place = np.searchsorted(ordered["start"], times, side="right") - 1
    note = ordered[np.maximum(place, 0)]
    offset = semitones(hz) - note["pitch"]
    keep = (place >= 0) & (times > note["start"]) & (times < note["end"]) & (np.abs(offset) <= reach_semitones)
    all_times = np.concatenate([bend.times, times[keep]])
    values = np.concatenate([bend.values, offset[keep]])
    order = np.argsort(all_times, kind="stable")
    return Curve(all_times[order], values[order], bend.initial)
