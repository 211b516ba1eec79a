"""Whole scores, encoded: every note measured into audio tokens and played back by the engine, without any net.

What a sound bank plays can be taken apart, so it is measured note by note: each note of a track is rendered alone as
the source plays it, analysed, and played at its place by the engine that plays banks, with the track's bends and
faders. What this loses no model over these tokens can win back: it is the ceiling of all of them.

Notes are measured once for each voice, pitch and velocity, and for each length within 9 %; the held part of a note
comes from the longest of its lengths, its release from the nearest. Notes of a recording sound together: they are
measured together, by `datasets.polyphony.measure_notes` (`encoded_sound`).
"""

from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from miao.arrays import Floats, Integers, Reals, Records
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.nets import Written
from miao.bank.voices import (
    MODES,
    N_PITCHES,
    N_PROGRAMS,
    N_VOICES,
    VoiceTable,
    balance_of,
    is_drum_voice,
    note_voice,
    pitch_hz,
)
from miao.datasets.notes import choose_kind, source_of
from miao.datasets.prepare import part_notes
from miao.datasets.soundfont import SAMPLE_RATE, SoundFont
from miao.measuring.align import CONFIDENT, align
from miao.measuring.note import analyse_note
from miao.measuring.part_voices import table_of
from miao.measuring.polyphony import measure_notes
from miao.measuring.replayed import put_right
from miao.measuring.roundtrip import play
from miao.measuring.voice_fit import fit_voice
from miao.midi.score import Score, Track, notes_array
from miao.synth.note import RING_SECONDS

LENGTHS_PER_OCTAVE = 8
LONGEST_SECONDS = 20.0  # of a held note; what sounds on after that is the last chunk
_SILENT = 1e-5  # amplitude below which the sound bank has nothing there
_CHUNK_SECONDS = [tk.CHUNK_STEPS * step for step in tk.STEP_SECONDS]


@dataclass(frozen=True)
class _Note:
    """One note to be measured."""

    program: int  # of drums, the kit
    is_drum: bool
    pitch: int
    velocity: int
    hold_seconds: float

    @property
    def voice(self) -> int:
        return note_voice(self.program, self.pitch, is_drum=self.is_drum)


Takes = dict[tuple[int, int], list[tuple[int, tk.NoteTokens]]]
"""The measured notes of each (voice, pitch): velocity and tokens."""


def encoded_track(font: SoundFont, track: Track) -> Bank:
    """A bank that plays the measured notes of this track instead of predicting them."""
    takes: Takes = defaultdict(list)
    rows: dict[tuple[int, int], _Row] = {}
    for note in notes_to_measure(track):
        place = note.voice, note.pitch
        sound = _rendered(font, note)
        if np.abs(sound).max(initial=0.0) < _SILENT:
            continue  # the preset has no sample there
        if place not in rows:
            rows[place] = _fitted(font, note, sound)
        hold = sound.shape[1] / SAMPLE_RATE if note.is_drum else note.hold_seconds
        table = rows[place].table
        measured = analyse_note(sound, SAMPLE_RATE, float(pitch_hz(note.pitch)), hold, table.partials(0, 0))
        if rows[place].balance is None:
            rows[place] = replace(rows[place], balance=balance_of(measured.balance), is_wide=measured.is_wide)
        takes[place].append((note.velocity, put_right(measured.tokens, sound, table, 0, note.pitch)))

    def decode(kind: int, **inputs: Any) -> Written:
        return _decode(takes, kind, **inputs)

    return Bank("encoded", Path("encoded"), _table(rows), decode, None, 1)


def notes_to_measure(track: Track) -> list[_Note]:
    """The different notes of a track, the longest of each voice, pitch and velocity first."""
    longest: dict[tuple[int, int, int, int], _Note] = {}
    for n in track.notes:
        is_drum = bool(n["is_drum"])
        hold = RING_SECONDS if is_drum else float(np.clip(n["damp"] - n["start"], 0.01, LONGEST_SECONDS))
        note = _Note(int(n["program"]), is_drum, int(n["pitch"]), int(n["velocity"]), hold)
        key = (note.voice, note.pitch, note.velocity, round(LENGTHS_PER_OCTAVE * np.log2(hold)))
        if key not in longest or longest[key].hold_seconds < hold:
            longest[key] = note
    return sorted(longest.values(), key=lambda n: (n.voice, n.pitch, -n.velocity, -n.hold_seconds))


@dataclass(frozen=True)
class _Row:
    """What belongs to a voice at one pitch."""

    table: VoiceTable  # the same at every pitch
    balance: NDArray[np.int8] | None = None  # [C - 1]
    is_wide: bool = False


def _rendered(font: SoundFont, note: _Note) -> Floats:
    tail = 0.0 if note.is_drum else 3.0
    return font.note(note.program, note.pitch, note.velocity, note.hold_seconds, is_drum=note.is_drum,
                     tail_seconds=tail)  # fmt: skip


def _fitted(font: SoundFont, note: _Note, sound: Reals) -> _Row:
    kind = MODES if note.is_drum else _kind(font, note.voice)
    return _Row(fit_voice(sound, SAMPLE_RATE, float(pitch_hz(note.pitch)), kind).table())


@cache
def _kind(font: SoundFont, voice: int) -> int:
    return choose_kind(font, source_of(voice))


def _table(rows: dict[tuple[int, int], _Row]) -> VoiceTable:
    shape = (N_VOICES, N_PITCHES)
    voices = sorted({voice for voice, _ in rows})
    table = VoiceTable(
        np.zeros(N_VOICES, np.int8), np.zeros(shape, np.float32), np.zeros(shape, np.float32),
        np.full(N_VOICES, -1, np.int16), np.zeros((len(voices), N_PITCHES, tk.N_PARTIALS), np.float32),
        np.zeros((*shape, tk.N_CELLS - 1), np.int8), np.zeros(shape, np.uint8), np.zeros(N_VOICES, np.float32),
    )  # fmt: skip
    for (voice, pitch), row in rows.items():
        table.kind[voice] = row.table.kind[0]
        table.mode_row[voice] = voices.index(voice) if table.kind[voice] == MODES else -1
        table.tune_cents[voice, pitch], table.stretch[voice, pitch] = (
            row.table.tune_cents[0, 0], row.table.stretch[0, 0]
        )  # fmt: skip
        table.modes[voices.index(voice), pitch] = row.table.modes[0, 0]
        if row.balance is not None:
            table.balance[voice, pitch] = row.balance
        table.is_wide[voice, pitch] = row.is_wide
    return table


def _decode(
    takes: Takes,
    kind: int,
    voice: Integers,
    pitch: Reals,
    velocity: Reals,
    index: Integers,
    age: Reals,
    **_: Floats,
) -> Written:
    """The chunks that these notes were measured to have, as a bank gives them; silence where there is none."""
    levels = np.zeros((len(voice), tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
    levels[:, :, tk.PITCH_CELL] = tk.CENTS_CENTRE
    for row, place in enumerate(zip(voice.tolist(), np.rint(pitch).astype(int).tolist(), strict=True)):
        found = takes.get(place)
        if not found:
            continue
        wanted = 127 * float(velocity[row])
        nearest = min(abs(v - wanted) for v, _ in found)
        lengths = [tokens for v, tokens in found if abs(v - wanted) <= nearest + 1e-3]
        if kind == tk.RELEASE:
            hold = float(age[row]) - int(index[row]) * _CHUNK_SECONDS[tk.RELEASE]
            chunks = min(lengths, key=lambda tokens: abs(np.log(tokens.hold_seconds / max(hold, 1e-3)))).release
            n = int(index[row])
        else:
            chunks = max(lengths, key=lambda tokens: tokens.hold_seconds).held
            n = 0 if kind == tk.ATTACK else 1 + round((float(age[row]) - tk.ATTACK_SECONDS) / _CHUNK_SECONDS[kind])
            if not is_drum_voice(place[0]):
                n = min(n, len(chunks) - 1)
        if n < len(chunks):
            levels[row] = chunks[n]
    return levels, np.ones_like(levels)


def measured_track(notes: Records) -> Track:
    """The notes of a part (fields start, damp, pitch, voice; in order of their starts) as a track for `measured_bank`.

    Each has its own number for a velocity, which is how the bank knows it.
    """
    made = notes_array(len(notes))
    made["start"], made["pitch"], made["velocity"] = notes["start"], notes["pitch"], np.arange(len(notes))
    made["end"] = made["damp"] = np.maximum(notes["damp"], notes["start"])
    made["is_drum"] = notes["voice"] >= N_PROGRAMS
    made["program"] = np.where(made["is_drum"], 0, notes["voice"])
    return Track("measured", 0, made, {}, np.zeros(0))


def measured_bank(tokens: dict[int, tk.NoteTokens], table: VoiceTable) -> Bank:
    """A bank that plays measured notes, by their numbers in a `measured_track`; what was not measured is silent."""

    def decode(kind: int, velocity: Reals, index: Integers, age: Reals, **_: Any) -> Written:
        levels = np.zeros((len(velocity), tk.CHUNK_STEPS, tk.N_CELLS), np.float32)
        levels[:, :, tk.PITCH_CELL] = tk.CENTS_CENTRE
        numbers = np.rint(127 * velocity).astype(int).tolist()
        for row, number in enumerate(numbers):
            if number not in tokens:
                continue
            held, release = tokens[number].held, tokens[number].release
            chunks = {tk.ATTACK: held[:1], tk.SUSTAIN: held[1:], tk.RELEASE: release}[kind]
            n = int(index[row])
            if kind == tk.SUSTAIN:  # the index does not count on for ever
                n = round((float(age[row]) - tk.ATTACK_SECONDS) / _CHUNK_SECONDS[kind])
            if n < len(chunks):
                levels[row] = chunks[n]
        return levels, np.ones_like(levels)

    return Bank("measured", Path("measured"), table, decode, None, 1)


def encoded_sound(score: Score, samples: Reals, track: int) -> Floats:
    """A recording of one track of a score, its notes measured where they sound together and played back, [2, S].

    Shape: samples [channels, S] at 44.1 kHz. The notes are aligned to the sound first, where that can be trusted.
    """
    notes = part_notes(score, [track])
    place = align(samples, SAMPLE_RATE, notes)
    if place.confidence >= CONFIDENT:
        notes = place.moved(notes)
        is_heard = notes["damp"] > 0  # what is over before the sound begins keeps its place and is not measured
        notes["start"][is_heard] = np.maximum(notes["start"][is_heard], 0)
    measured = measure_notes(samples, SAMPLE_RATE, notes, tuning_cents=place.tuning_cents)
    alone = replace(score, tracks=(measured_track(notes),), duration=float(notes["damp"].max()))
    sound = play(measured_bank(measured.tokens, table_of(measured.fits)), alone)
    n = samples.shape[1]
    return np.pad(sound, ((0, 0), (0, max(n - sound.shape[1], 0))))[:, :n].astype(np.float32)
