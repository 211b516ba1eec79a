"""What a voice is learnt from: audio tokens of recorded notes and the voice's row of a voice table."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from miao.arrays import AnyArray
from miao.bank import tokens as tk
from miao.bank.voices import HALF_HARMONIC, HARMONIC, MODES, N_PITCHES, VoiceTable, balance_of
from miao.datasets.notes import NoteData
from miao.datasets.samples import Recording, note_hz
from miao.measuring.partials import common_modes, find_modes
from miao.measuring.replayed import measure_note
from miao.measuring.roundtrip import round_trip_error
from miao.measuring.voice_fit import VoiceFit, fit_voice, suited_kind
from miao.sound.spectrum import SAMPLE_RATE

_SILENCE_SECONDS = 0.7  # two release chunks
MOST_CENTS = 15.0  # that a learnt voice lies off the pitch played, so that it is in tune with others


@dataclass(frozen=True)
class VoiceNotes:
    """All that a voice is learnt from. `voice_notes` makes it from recordings of single notes; whatever else measures
    notes (out of music, say) only has to fill it."""

    notes: list[NoteData]
    is_released: list[bool]  # whether the release of each note was heard
    fits: list[VoiceFit]  # of each note
    kind: int  # of partial ratios

    def chosen(self, which: Sequence[int]) -> "VoiceNotes":
        """Only some of the notes."""
        return replace(
            self,
            notes=[self.notes[i] for i in which],
            is_released=[self.is_released[i] for i in which],
            fits=[self.fits[i] for i in which],
        )

    def table(self) -> VoiceTable:
        """The voice table of this one voice.

        Tuning is a straight line over the pitches, at most 15 cents off: single notes that are out of tune are no
        property of a voice. Stretch runs between the pitches measured; modes and balance are those of the nearest one.
        """
        pitches = np.array([note.pitch for note in self.notes])
        measured = np.unique(pitches)
        every = np.arange(N_PITCHES)
        nearest = np.abs(every[:, None] - measured[None, :]).argmin(axis=1)

        def by_pitch(values: AnyArray) -> AnyArray:
            return np.array([np.median(values[pitches == p], axis=0) for p in measured])

        modes = np.zeros(tk.N_PARTIALS)
        if self.kind == MODES:
            modes = np.array([self.fits[int(np.argmax(pitches == p))].modes for p in measured])[nearest]
        table = VoiceFit(self.kind, modes=modes).table()
        if self.kind != MODES:
            cents = by_pitch(np.array([fit.tune_cents for fit in self.fits]))
            slope, start = np.polyfit(measured, cents, 1) if len(measured) > 4 else (0.0, float(np.median(cents)))
            line = np.clip(start + slope * np.clip(every, measured[0], measured[-1]), -MOST_CENTS, MOST_CENTS)
            stretch = np.interp(every, measured, by_pitch(np.array([fit.stretch for fit in self.fits])))
            table = replace(table, tune_cents=line[None].astype(np.float32), stretch=stretch[None].astype(np.float32))
        balance = balance_of(by_pitch(np.array([fit.balance for fit in self.fits]))[nearest])[None]
        is_wide = by_pitch(np.array([fit.is_wide for fit in self.fits]).astype(float))[nearest] > 0.5
        return replace(table, balance=balance, is_wide=is_wide[None].astype(np.uint8))


def choose_kind(recordings: Sequence[Recording]) -> int:
    """Which kind of partial ratios suits a voice, by the round-trip error of three of its notes under each."""
    by_pitch = sorted(recordings, key=lambda r: (r.pitch, -r.velocity))
    chosen = [by_pitch[int(len(by_pitch) * share)] for share in (0.2, 0.5, 0.8)]
    return suited_kind([
        float(np.mean([round_trip_error(r.sound, SAMPLE_RATE, r.pitch, r.hold_seconds, kind) for r in chosen]))
        for kind in (HARMONIC, HALF_HARMONIC, MODES)
    ])  # fmt: skip


def voice_notes(recordings: Sequence[Recording], kind: int) -> VoiceNotes:
    """Recordings measured into audio tokens, each with its own tuning and stretch."""
    common = None
    if kind == MODES:
        common = common_modes([find_modes(r.sound, SAMPLE_RATE, note_hz(r)) for r in recordings[:40]])
    notes, fits = [], []
    for recording in recordings:
        hz = note_hz(recording)
        fit = fit_voice(recording.sound, SAMPLE_RATE, hz, kind, common)
        after = ((0, 0), (0, int(_SILENCE_SECONDS * SAMPLE_RATE)))  # so that the end of a file is not heard as held
        sound = np.pad(recording.sound, after)
        measured = measure_note(sound, recording.pitch, recording.hold_seconds, fit)
        notes.append(NoteData(0, recording.pitch, recording.velocity, measured.tokens))
        fits.append(replace(fit, balance=measured.balance, is_wide=measured.is_wide))
    return VoiceNotes(notes, [r.is_released for r in recordings], fits, kind)
