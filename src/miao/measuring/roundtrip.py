"""The round trip of one note: measured into audio tokens and played back by the engine that renders songs.

It is the ceiling of any model over these tokens, so it is measured beside every one of them ("encoded").
"""

from pathlib import Path

import numpy as np

from miao.arrays import AnyArray, Floats, Integers
from miao.bank import tokens as tk
from miao.bank.bank import Bank
from miao.bank.voices import N_PROGRAMS, VoiceTable, is_drum_voice, pitch_hz
from miao.measuring.note import analyse_note
from miao.measuring.voice_fit import fit_voice
from miao.midi.score import Curve, Score, Track, notes_array
from miao.sound import spectrum
from miao.sound.spectrum import SAMPLE_RATE
from miao.synth.settings import PlaySettings
from miao.synth.stems import stream_stems


def one_note_score(voice: int, pitch: int, velocity: int, hold_seconds: float, kit: int = 0) -> Score:
    """A score with one note from time 0, faders open; of a drum voice it is the key of a kit. A learnt voice has no
    program; `play` is told of it, and lets go of any note, so that a kit's drum, which rings on, is asked for by its
    kit."""
    is_drum = is_drum_voice(voice)
    program = voice if voice < N_PROGRAMS else kit
    note = notes_array([(0.0, hold_seconds, hold_seconds, pitch, velocity, program, 0, is_drum)])
    track = Track("note", 9 if is_drum else 0, note, {}, np.zeros(0))
    return Score((track,), hold_seconds, Curve(np.zeros(1), np.full(1, 120.0), 120.0), (), ())


def play(bank: Bank, score: Score, seed: int = 0, voice: int | None = None, seconds: float = np.inf) -> Floats:
    """The whole sound of a one-track score, before faders, [2, S], or its beginning, ``seconds`` and a block at most;
    played by a certain ``voice`` if one is given."""
    voices = None if voice is None else {0: voice}
    blocks, n = [], 0
    for block in stream_stems(bank, score, PlaySettings(seed=seed), voices=voices):
        blocks.append(block.stems[0])
        n += blocks[-1].shape[1]
        if n >= seconds * SAMPLE_RATE:
            break
    return np.concatenate(blocks, axis=1)


def encoded_bank(tokens: tk.NoteTokens, table: VoiceTable) -> Bank:
    """A bank that plays one note's measured tokens instead of predicting them."""

    def decode(kind: int, index: Integers, **_: AnyArray) -> tuple[Floats, Floats]:
        chunks = {tk.ATTACK: tokens.held[:1], tk.SUSTAIN: tokens.held[1:], tk.RELEASE: tokens.release}[kind]
        n = int(index[0])
        chunk = chunks[n] if n < len(chunks) else np.zeros((tk.CHUNK_STEPS, tk.N_CELLS))
        return chunk[None].astype(np.float32), np.ones((1, tk.CHUNK_STEPS, tk.N_CELLS), np.float32)

    return Bank("encoded", Path("encoded"), table, decode, None, 1)


def round_trip_error(sound: Floats, sample_rate: int, pitch: int, hold_seconds: float, kind: int) -> float:
    """Log-mel error (dB) of a note against itself played back, its partial ratios fitted under one kind."""
    hz = float(pitch_hz(pitch))
    table = fit_voice(sound, sample_rate, hz, kind).table()
    tokens = analyse_note(sound, sample_rate, hz, hold_seconds, table.partials(0, pitch)).tokens
    played = play(encoded_bank(tokens, table), one_note_score(0, pitch, 100, hold_seconds))
    return spectrum.log_mel_error(spectrum.log_mel(sound), spectrum.log_mel(played))
