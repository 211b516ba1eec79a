"""A piece of music as the rest of the program knows it: tracks of notes in seconds, with their controllers.

MIDI is read here and nowhere else: file.py takes the bytes apart, repair.py mends what was lost, module.py says what
the events mean (pedals, overlaps, drums, resets: see its docstring), performance.py writes down what it plays, and this
file gives the result its shape. writing.py goes the other way.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, ClassVar

import numpy as np

from miao.errors import ConfigError, ScoreError
from miao.files import path_of
from miao.midi.file import MidiFile, TrackEvents, parse_midi_file, seconds_at
from miao.midi.general_midi import program_name
from miao.midi.notes import KEY_PRESSURE_EVENT, NOTE, Curve, notes_array
from miao.midi.performance import Performance, perform
from miao.midi.repair import cut_at_a_long_pause, end_the_unended, merge
from miao.midi.told import Told

__all__ = [
    "KEY_PRESSURE_EVENT",
    "NOTE",
    "Curve",
    "Meter",
    "Score",
    "Track",
    "TrackSummary",
    "notes_array",
    "read_score",
]

_log = logging.getLogger(__name__)

LARGEST_FILE = 1 << 28  # bytes; a million notes take less than a thirtieth of it
LONGEST_REST_SECONDS = 60.0  # an end of track later than this behind the last sound is no rest, but left over


@dataclass(frozen=True, eq=False)
class Track:
    """The notes of one channel in one track of the file.

    A controller belongs to the channel: tracks that share a channel have the same curves. `controls` always has the
    keys volume, expression, reverb, chorus, modulation, soft, sustain, sostenuto, pressure, brightness, attack,
    decay, release (0 to 1; modulation is more where a file sets its depth higher), pan (-1 left to 1 right) and bend
    (semitones: pitch wheel times its range, channel tuning and master tuning).
    """

    name: str  # "" if the file gives none
    channel: int  # 0 to 15
    notes: np.ndarray  # NOTE [n], n >= 1, sorted by (start, pitch)
    controls: dict[str, Curve]
    key_pressure: np.ndarray  # KEY_PRESSURE_EVENT [m], in time order
    stem: int | None = None  # tracks of one number are one instrument and one stem (MPE members); None: by itself
    port: int = 0  # which of several sound modules the file sends it to


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
    """Tracks that hold notes, and what reading them had to leave out.

    >>> score = read_score("song.mid").between(0.0, 2.0).transposed(12)
    >>> int(score.tracks[0].notes["pitch"].min()) >= 12
    True
    """

    tracks: tuple[Track, ...]
    duration: float  # seconds, when the last note is damped; 0 without notes
    tempi: Curve  # quarter notes per minute
    warnings: tuple[str, ...] = ()  # what was damaged or missing in the file
    ignored: tuple[str, ...] = ()  # what the file asks for and the renderer does not do
    end: float = 0.0  # seconds, where the file ends, with the rest that it closes with; 0: not known
    room: str | None = None  # the reverb type asked for: small, medium or large room, medium or large hall, plate
    meters: tuple[Meter, ...] = ()  # time signatures in time order; none: the file names none
    chorus: str | None = None  # the chorus type asked for, of `effects.CHORUS_TYPES`
    performer: ClassVar[Callable[..., "Score"] | None] = None  # who plays: `miao.expression` stands above and says so

    @property
    def n_notes(self) -> int:
        """Of all tracks."""
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
        later = _with_tracks(self, [_shifted(track, seconds) for track in self.tracks])
        end, meters = self.end + seconds if self.end else 0.0, _meters_later(self.meters, seconds)
        return replace(later, tempi=tempi, end=end, meters=meters)

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
        rest = max(0.0, min(self.end, end) - start)
        tempi, meters = replace(tempi, times=tempi.times - start), _meters_later(self.meters, -start)
        return replace(_with_tracks(self, tracks), tempi=tempi, end=rest, meters=meters)

    def select(self, indices: list[int]) -> "Score":
        """Only the tracks with these indices, in this order. Raises: ScoreError for an index that is not there."""
        wrong = [i for i in indices if not 0 <= i < len(self.tracks)]
        if wrong:
            raise ScoreError(f"there is no track {wrong[0]}; the score has tracks 0 to {len(self.tracks) - 1}")
        return _with_tracks(self, [self.tracks[i] for i in indices])

    def expressed(self, amount: float = 0.0, **how: Any) -> "Score":
        """The score played with expression and in a mood; see `miao.expression.expressed`, whose arguments these are.

        With nothing asked for, this very object. Raises: ConfigError for a setting out of range.
        """
        if Score.performer is None:
            raise ConfigError("nobody is here to play with expression; import miao.expression, or Score from miao")
        return Score.performer(self, amount, **how)


def read_score(source: str | Path | bytes | BinaryIO) -> Score:
    """The score in a Standard MIDI File: a path, the bytes, or an open binary file.

    Types 0, 1 and 2 (the sequences of type 2 are laid one after another), bare or in a RIFF, in ticks per quarter
    note or SMPTE time, under the whole tempo map. Damage is left out, and named in `warnings` and in the log.

    Raises: ScoreError if there is no such file, nothing readable in it, or no note.

    >>> read_score("song.mid").n_notes > 0
    True
    """
    return score_of(*bytes_of(source))


def score_of(data: bytes, name: str) -> Score:
    """`read_score` of bytes, which errors call by a name."""
    file = parse_midi_file(data, name)
    if file.type == 2:
        parts = [([track], track.tempi) for track in file.tracks]
    else:  # one tempo map for all, wherever it stands
        parts = [(list(file.tracks), [tempo for track in file.tracks for tempo in track.tempi])]
    warnings = list(file.warnings)
    for events, _ in parts:
        n_late, limit = cut_at_a_long_pause(events, file.division)
        if n_late:
            late = "1 event" if n_late == 1 else f"{n_late} events"
            was = "was" if n_late == 1 else "were"
            warnings.append(f"{late} behind a pause of more than {limit} {was} left out")
    tracks: list[Track] = []
    tempi: list[tuple[float, float]] = []
    meters: list[Meter] = []
    told, effects = Told(), {"room": "", "chorus": ""}
    offset, n_unended = 0.0, 0
    for part, _ in parts:
        tempo_map = [tempo for track in (part if file.type == 2 else file.tracks) for tempo in track.tempi]
        clock = partial(seconds_at, division=file.division, tempi=tempo_map)
        messages = [track.messages for track in part]
        damaged = [track.is_damaged for track in part]
        mended = end_the_unended(merge(part, clock), messages, damaged)
        played = perform(mended, messages)
        tracks += [_shifted(track, offset) for track in _tracks(played, part)]
        at = clock(np.array([tick for tick, _ in tempo_map], dtype=np.int64))
        tempi += [(offset + time, 60e6 / tempo) for time, (_, tempo) in zip(at, tempo_map, strict=True) if tempo]
        signatures = sorted({meter for track in part for meter in track.meters})
        moments = clock(np.array([meter[0] for meter in signatures], dtype=np.int64))
        meters += [Meter(offset + time, *m[1:]) for time, m in zip(moments.tolist(), signatures, strict=True)]
        told.add(played.told)
        effects |= {kind: name for kind, name in played.effects.items() if name}
        n_unended += mended.n_unended
        offset += played.seconds
    if n_unended:
        notes, end, their = (
            ("1 note was", "it ends", "its") if n_unended == 1 else (f"{n_unended} notes were", "they end", "their")
        )
        warnings.append(f"{notes} never ended; {end} where {their} key is struck again, or with {their} music")
    for warning in warnings:
        _log.warning("%s: %s", name, warning)
    if not tracks:
        raise ScoreError(f"{name}: the file holds no notes" + "".join(f"; {warning}" for warning in warnings))
    tempi.sort(key=lambda tempo: tempo[0])
    duration = max(float(track.notes["damp"].max()) for track in tracks)
    return Score(
        tuple(tracks),
        duration,
        Curve(np.array([t for t, _ in tempi]), np.array([bpm for _, bpm in tempi]), 120.0),
        tuple(warnings),
        (*told.lines(), *_about_the_file(file)),
        offset if duration < offset <= duration + LONGEST_REST_SECONDS else duration,
        effects["room"] or None,
        tuple(meters),
        effects["chorus"] or None,
    )


# reading


def check_score(score: Any) -> None:
    """Raises: ScoreError for what is none."""
    if not isinstance(score, Score):
        raise ScoreError(f"no score, but of type {type(score).__name__}; `read_score` makes one of a MIDI file")


def bytes_of(source: str | Path | bytes | BinaryIO) -> tuple[bytes, str]:
    """What `read_score` reads, read once (a pipe can be read no second time), and what errors call it."""
    if isinstance(source, bytes | bytearray | memoryview):
        return bytes(source), "MIDI data"
    if not isinstance(source, str | Path) and hasattr(source, "read"):
        name = str(getattr(source, "name", "MIDI data"))
        return _whole(source, name), name
    path = path_of(source, ScoreError)
    if path.is_dir():
        raise ScoreError(f"{path}: this is a folder; give a MIDI file")
    try:
        with path.open("rb") as file:
            return _whole(file, str(path)), str(path)
    except FileNotFoundError as error:
        raise ScoreError(f"{path}: there is no such file") from error
    except (OSError, ValueError) as error:
        raise ScoreError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def _whole(file: BinaryIO, name: str) -> bytes:
    """All bytes of a file, unless it is another kind of file, or a device that never ends."""
    data = file.read(LARGEST_FILE + 1)
    if len(data) > LARGEST_FILE:
        raise ScoreError(f"{name}: larger than {LARGEST_FILE >> 20} MB, so no MIDI file")
    return data


def _tracks(played: Performance, events: list[TrackEvents]) -> list[Track]:
    order = np.lexsort((played.notes["pitch"], played.notes["start"], played.note_lanes, played.note_tracks))
    owner = np.stack([played.note_tracks[order], played.note_lanes[order]])  # [2, n]
    borders = np.flatnonzero(np.diff(owner, prepend=-1).any(axis=0))
    tracks = []
    stems: dict[tuple[int, int], int] = {}  # (track, lane of the MPE master) -> its number
    for first, notes in zip(borders, np.split(played.notes[order], borders)[1:], strict=True):
        index, lane = owner[:, first].tolist()
        stem = None
        if lane in played.zones:
            stem = stems.setdefault((index, played.zones[lane]), len(stems))
        controls, pressure = played.controls[lane], played.key_pressure[lane]
        tracks.append(Track(events[index].name, lane % 16, notes, controls, pressure, stem, lane // 16))
    return tracks


def _about_the_file(file: MidiFile) -> list[str]:
    """What of the file itself has no effect."""
    lines = []
    if file.sound_bank:
        lines.append(
            f"the {file.sound_bank} sound bank inside the file: the voices of miao's bank play instead of its sounds"
        )
    if file.has_unknown_text:
        lines.append("names in an unknown text encoding: shown as Latin-1")
    return lines


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
