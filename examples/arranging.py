"""Just enough notation to write a piece down: lines of notes in text, parts with controllers, a MIDI file out.

All times are in quarter notes from the start. Whatever is random (a few milliseconds, a few steps of velocity, as
hands are) comes from a seed, so that a piece is the same file each time it is written.
"""

import random
from dataclasses import dataclass, field
from itertools import pairwise
from math import sin
from pathlib import Path

import mido

TICKS = 960  # of a quarter note
VOLUME, PAN, EXPRESSION, SUSTAIN, REVERB = 7, 10, 11, 64, 91
BEND_RANGE = 2.0  # semitones, General MIDI's own
_STEPS = {"C": 0, "D": 2, "E": 4, "F": 5, "G": 7, "A": 9, "B": 11}


def pitch(name: str) -> int:
    """MIDI number of a note name: C4 is 60, F#5 is 78, Bb3 is 58."""
    letter, accidental, octave = name[0], name[1:-1], name[-1]
    return 12 * (int(octave) + 1) + _STEPS[letter] + accidental.count("#") - accidental.count("b")


@dataclass(frozen=True)
class Note:
    """One note or one chord of a line, times in quarter notes from the line's start."""

    at: float
    length: float
    pitches: tuple[int, ...]


def line(text: str, *, unit: float = 1.0, bar: float = 4.0, transpose: int = 0) -> list[Note]:
    """Notes written as ``A4 B4:1.5 E3+G#3:2 -:1``: a name (names of a chord joined by +, a rest is -) and its length.

    Lengths are in units, 1 if not given; ``unit`` says how many quarter notes that is, ``bar`` how many units there are
    between two ``|``. Raises: ValueError for a bar that is not full.
    """
    notes, at = [], 0.0
    for number, measure in enumerate(text.split("|"), 1):
        filled = 0.0
        for word in measure.split():
            names, _, length = word.partition(":")
            units = float(length or 1)
            if names != "-":
                pitches = tuple(pitch(name) + transpose for name in names.split("+"))
                notes.append(Note(at + filled * unit, units * unit, pitches))
            filled += units
        if abs(filled - bar) > 1e-9:
            raise ValueError(f"bar {number} has {filled} units, not {bar}: {measure.strip()}")
        at += filled * unit
    return notes


@dataclass(eq=False)
class Part:
    """One instrument: its place in the mix and what it has been given to play."""

    name: str
    channel: int  # 0 to 15; 9 is drums
    program: int
    pan: int = 64
    volume: int = 100
    reverb: int = 40
    seed: int = 0
    loose: float = 0.008  # how far from the beat a note may fall, quarter notes
    bar: float = 4.0  # quarter notes from one stress to the next
    events: list[tuple[int, int, mido.Message]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._random = random.Random(f"{self.name} {self.seed}")
        self._add(0, 1, mido.Message("program_change", channel=self.channel, program=self.program))
        for number, value in ((VOLUME, self.volume), (PAN, self.pan), (REVERB, self.reverb)):
            self.control(number, 0, value)

    def _add(self, at: float, rank: int, message: mido.Message) -> None:
        self.events.append((max(round(at * TICKS), 0), rank, message))

    def control(self, number: int, at: float, value: float) -> None:
        """One controller event; ``value`` is cut to 0..127."""
        value = min(max(round(value), 0), 127)
        self._add(at, 1, mido.Message("control_change", channel=self.channel, control=number, value=value))

    def swell(self, *points: tuple[float, float], step: float = 0.25) -> None:
        """Expression (CC 11) in straight lines through (time, value) points."""
        for (start, low), (end, high) in pairwise(points):
            n = max(round((end - start) / step), 1)
            for i in range(n):
                self.control(EXPRESSION, start + (end - start) * i / n, low + (high - low) * i / n)
        self.control(EXPRESSION, *points[-1])

    def bend(self, at: float, semitones: float) -> None:
        """The pitch wheel, -2 to 2 semitones."""
        value = min(max(round(8192 * semitones / BEND_RANGE), -8192), 8191)
        self._add(at, 1, mido.Message("pitchwheel", channel=self.channel, pitch=value))

    def vibrato(self, start: float, end: float, semitones: float = 0.2, cycles: float = 3.4) -> None:
        """The pitch wheel around its middle, growing, ``cycles`` a quarter note; ends in the middle."""
        n = int((end - start) * 24)
        for i in range(n):
            grown = semitones * min(1.0, 2 * i / n)
            self.bend(start + (end - start) * i / n, grown * sin(6.2832 * cycles * (end - start) * i / n))
        self.bend(end, 0)

    def play(self, notes: list[Note], at: float, velocity: float, *, sound: float = 0.94, accent: float = 6) -> None:
        """A line from time ``at`` on. ``sound`` is the share of its length that a note is held (above 1: legato),
        ``accent`` what a stressed note has over one between two quarters, in velocity."""
        for note in notes:
            start = at + note.at + self._random.uniform(-self.loose, self.loose)
            for p in note.pitches:
                stress = accent * (0.5 if note.at % self.bar == 0 else -0.5 if note.at % 1 else 0)
                self.strike(start, note.length * sound, p, velocity + stress)

    def strike(self, at: float, length: float, p: int, velocity: float) -> None:
        """One note, its velocity a little different each time."""
        loud = min(max(round(velocity + self._random.uniform(-4, 4)), 1), 127)
        at = max(at, 0.0)
        self._add(at, 2, mido.Message("note_on", channel=self.channel, note=p, velocity=loud))
        self._add(at + max(length, 0.02), 0, mido.Message("note_off", channel=self.channel, note=p, velocity=64))


def save(path: Path, title: str, parts: list[Part], tempi: list[tuple[float, float]], meter: tuple[int, int]) -> None:
    """Write the parts as a type 1 file; ``tempi`` are (time, quarter notes a minute)."""
    file = mido.MidiFile(type=1, ticks_per_beat=TICKS)
    conductor: list[tuple[int, int, mido.MetaMessage]] = [
        (0, 0, mido.MetaMessage("track_name", name=title)),
        (0, 0, mido.MetaMessage("copyright", text="Arrangement: the miao authors, CC0 1.0")),
        (0, 0, mido.MetaMessage("time_signature", numerator=meter[0], denominator=meter[1])),
    ]
    conductor += [(round(at * TICKS), 1, mido.MetaMessage("set_tempo", tempo=round(6e7 / bpm))) for at, bpm in tempi]
    file.tracks.append(_delta(conductor))
    for part in parts:
        file.tracks.append(_delta([(0, 0, mido.MetaMessage("track_name", name=part.name)), *part.events]))
    file.save(path)


def _delta(events: list) -> mido.MidiTrack:
    lines, now = mido.MidiTrack(), 0
    for tick, _, message in sorted(events, key=lambda event: event[:2]):
        lines.append(message.copy(time=tick - now))
        now = tick
    return lines
